"""Sentence and choice tasks: token rows, truncation, heads, decoding."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters_xling import inference
from adapters_xling.errors import ConfigError, DataError, UnknownName
from adapters_xling.spec import FileSource, TaskSpec
from adapters_xling.tasks import kinds
from adapters_xling.tasks.examples import ChoiceExample, Prediction, SentenceExample
from adapters_xling.tasks.kinds.common import fit_pair
from tests.unit.tiny import tiny_tokenizer


def spec(kind: str, **fields: object) -> TaskSpec:
    values: dict = {
        "name": "mine",
        "kind": kind,
        "role": "private",
        "title": "a test",
        "languages": ("en",),
        "sources": (FileSource(reader="rows", splits={}),),
        "metrics": ("accuracy",),
    }
    return TaskSpec(**{**values, **fields})


NLI = spec("sentence", labels=("yes", "no", "maybe"))
CHOICE = spec("choice")


def sentence(first: str = "the cat", second: str | None = "the dog", label: str | None = "no") -> SentenceExample:
    return SentenceExample(id="s1", first=first, second=second, label=label)


def choice(*choices: str, prompt: str = "the cat", label: int | None = 0, prefix: str = "") -> ChoiceExample:
    return ChoiceExample(id="c1", prompt=prompt, choices=choices, label=label, choice_prefix=prefix)


# --- lookup and task files ------------------------------------------------------------------------------------


def test_the_first_of_two_metrics_keeps_its_scores_and_selects_models() -> None:
    task = spec("sentence", labels=("yes", "no"), metrics=("accuracy_f1:yes", "accuracy_f1:no"))
    rows = [
        SentenceExample(id=str(i), first="a", second=None, label=label) for i, label in enumerate(("yes", "no", "no"))
    ]
    predicted = [Prediction(row.id, "no") for row in rows]
    found, outcomes = inference.score_each(task, rows, predicted, language="en")
    assert found == pytest.approx({"mean": 100 / 3, "accuracy": 200 / 3, "f1": 0.0})
    assert next(iter(found)) == "mean" and outcomes.scores() == pytest.approx(found)
    assert outcomes.metric_of("f1").name == "accuracy_f1:yes"


def test_a_kind_is_one_instance_and_an_unknown_one_is_refused() -> None:
    assert kinds.get("span") is kinds.get("span")
    assert {kinds.get(name).name for name in kinds.names()} == set(kinds.names())
    with pytest.raises(UnknownName, match="'sentence'"):
        kinds.get("sentense")


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"labels": ()}, ConfigError, "needs at least two"),
        ({"labels": ("a", "b", "a")}, ConfigError, "'a' is listed twice"),
        ({"metrics": ()}, ConfigError, "name at least one"),
        ({"metrics": ("span_f1",)}, ConfigError, "does not score kind 'sentence'"),
        ({"metrics": ("acuracy",)}, UnknownName, "Did you mean 'accuracy'"),
        ({"metrics": ("accuracy_f1",)}, ConfigError, "accuracy_f1:maybe"),
        ({"options": {"stride": 3}}, UnknownName, "'stride'"),
    ],
)
def test_a_task_file_that_cannot_work_is_refused(fields: dict, error: type[Exception], message: str) -> None:
    kind = kinds.get("sentence")
    kind.check_spec(NLI)
    with pytest.raises(error, match=message):
        kind.check_spec(spec("sentence", **{"labels": NLI.labels, **fields}))


def test_choice_refuses_labels_and_a_truncation_side_nobody_knows() -> None:
    with pytest.raises(ConfigError, match="remove the field"):
        kinds.get("choice").check_spec(spec("choice", labels=("0", "1")))
    with pytest.raises(ConfigError, match="'start' or 'end', got 'left'"):
        kinds.get("choice").check_spec(spec("choice", options={"truncate": "left"}))
    with pytest.raises(ConfigError, match="must be str"):
        kinds.get("choice").check_spec(spec("choice", options={"truncate": 1}))


# --- sentence -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        (sentence(), None),
        (sentence(second=None), None),
        (sentence(first=" \u3000"), "first sentence is blank"),
        (sentence(second=""), "second sentence is blank"),
        (sentence(label=None), "has no label"),
        (sentence(label="neutral"), "label 'neutral' is not one of yes, no, maybe"),
        (choice("a", "b"), "is a ChoiceExample"),
    ],
)
def test_unusable_sentence_rows_are_named(example: object, reason: str | None) -> None:
    found = kinds.get("sentence").check_example(example, NLI, need_gold=True)
    assert found is reason if reason is None else reason in (found or "")


def test_a_row_to_predict_needs_no_label() -> None:
    assert kinds.get("sentence").check_example(sentence(label=None), NLI, need_gold=False) is None


VOCABULARY = ["the", "cat", "sat", "on", "mat", "dog", "ran", "zebra", "qqq"]
words = st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=30).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(words, words, st.integers(6, 40))
def test_pairs_are_cut_as_the_tokenizer_itself_would(first: str, second: str, max_length: int) -> None:
    tokenizer = tiny_tokenizer()
    (features,) = kinds.get("sentence").encode([sentence(first, second)], tokenizer, NLI, max_length=max_length)
    theirs = tokenizer(first, second, truncation="longest_first", max_length=max_length)["input_ids"]
    assert features.input_ids == [theirs]
    whole = tokenizer(first, second)["input_ids"]
    assert features.meta["cut"] == len(whole) - len(theirs)


@settings(max_examples=30, deadline=None)
@given(words, st.integers(4, 40))
def test_single_sentences_are_cut_as_the_tokenizer_itself_would(first: str, max_length: int) -> None:
    tokenizer = tiny_tokenizer()
    example = sentence(first, None)
    (features,) = kinds.get("sentence").encode([example], tokenizer, NLI, max_length=max(max_length, 6))
    theirs = tokenizer(first, truncation=True, max_length=max(max_length, 6))["input_ids"]
    assert features.input_ids == [theirs]


@given(st.integers(0, 50), st.integers(0, 50), st.integers(2, 60))
def test_the_room_is_used_up_whenever_something_is_cut(first: int, second: int, room: int) -> None:
    kept_first, kept_second = fit_pair(first, second, room)
    assert 0 <= kept_first <= first
    assert 0 <= kept_second <= second
    assert kept_first + kept_second == min(room, first + second)


def test_a_max_length_without_room_for_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="raise max_length"):
        kinds.get("sentence").encode([sentence()], tiny_tokenizer(), NLI, max_length=5)


def test_sentences_are_decoded_in_order_with_probabilities() -> None:
    kind = kinds.get("sentence")
    examples = [sentence(label="no"), SentenceExample(id="s2", first="cat", label="maybe")]
    features = kind.encode(examples, tiny_tokenizer(), NLI, max_length=16)
    # windows may come back in any order (length buckets): the example index decides
    logits = [np.array([0, 0, np.log(2)], np.float32), np.array([0, np.log(6), 0], np.float32)]
    predictions = kind.decode(logits, features[::-1], examples, NLI)
    assert [(p.id, p.value) for p in predictions] == [("s1", "no"), ("s2", "maybe")]
    assert predictions[0].detail["probabilities"]["no"] == pytest.approx(6 / 8)
    assert predictions[1].detail["probabilities"]["maybe"] == pytest.approx(2 / 4)


def test_a_batch_without_gold_has_no_labels_and_no_loss() -> None:
    kind = kinds.get("sentence")
    features = kind.encode([sentence(label=None)], tiny_tokenizer(), NLI, max_length=16)
    batch = kind.collate(features, pad_id=1)
    assert "labels" not in batch
    with pytest.raises(DataError, match="no gold labels"):
        kind.loss(torch.zeros(1, 3), batch)


def test_rows_without_gold_add_nothing_to_the_loss_of_a_mixed_batch() -> None:
    kind = kinds.get("sentence")
    features = kind.encode([sentence(), sentence(label=None)], tiny_tokenizer(), NLI, max_length=16)
    logits = torch.tensor([[0.0, 1.0, 0.0], [5.0, -5.0, 0.0]])
    alone = kind.loss(logits[:1], kind.collate(features[:1], pad_id=1))
    # -log(e / (e + 2))
    assert alone.item() == pytest.approx(-np.log(np.e / (np.e + 2)), rel=1e-5)
    assert kind.loss(logits, kind.collate(features, pad_id=1)).item() == pytest.approx(alone.item())


def test_the_floor_takes_the_most_frequent_train_label_and_breaks_ties_by_label_order() -> None:
    kind = kinds.get("sentence")
    train = [sentence(label=label) for label in ("maybe", "no", "maybe", "no", "yes")]
    assert [p.value for p in kind.majority(train, [sentence(), sentence()], NLI)] == ["no", "no"]
    with pytest.raises(DataError, match="train split"):
        kind.majority([sentence(label=None)], [sentence()], NLI)


# --- choice ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        (choice("a", "b", label=1), None),
        (choice("a", label=0), "has 1 choices"),
        (choice("a", " "), "choice 1 is blank"),
        (choice("a", "b", prompt=""), "prompt is blank"),
        (choice("a", "b", label=2), "label 2 is not the index"),
        (choice("a", "b", label=-1), "label -1 is not the index"),
        (choice("a", "b", label=True), "label True is not the index"),
        (choice("a", "b", label=None), "has no label"),
    ],
)
def test_unusable_choice_rows_are_named(example: object, reason: str | None) -> None:
    found = kinds.get("choice").check_example(example, CHOICE, need_gold=True)
    assert found is reason if reason is None else reason in (found or "")


def test_the_second_prompt_part_is_glued_in_front_of_every_choice() -> None:
    tokenizer = tiny_tokenizer()
    example = choice("ran", "sat on the mat", prefix="the dog")
    (features,) = kinds.get("choice").encode([example], tokenizer, CHOICE, max_length=32)
    assert features.input_ids == [
        tokenizer("the cat", "the dog ran")["input_ids"],
        tokenizer("the cat", "the dog sat on the mat")["input_ids"],
    ]
    assert features.num_tokens == 2 * len(features.input_ids[1])


@pytest.mark.parametrize(("side", "kept"), [("start", "on the mat"), ("end", "the cat sat")])
def test_a_long_prompt_loses_tokens_at_the_side_the_task_says(side: str, kept: str) -> None:
    tokenizer = tiny_tokenizer()
    task = spec("choice", options={"truncate": side})
    example = choice("yes", "no", prompt="the cat sat on the mat")
    (features,) = kinds.get("choice").encode([example], tokenizer, task, max_length=8)  # 4 special tokens
    assert features.input_ids == [tokenizer(kept, "yes")["input_ids"], tokenizer(kept, "no")["input_ids"]]
    assert features.meta["cut"] == 6


def test_examples_with_different_numbers_of_choices_share_a_batch() -> None:
    kind = kinds.get("choice")
    examples = [choice("the cat", "dog", label=1), choice("a", "red", "book", label=2)]
    features = kind.encode(examples, tiny_tokenizer(), CHOICE, max_length=16)
    batch = kind.collate(features, pad_id=1)
    assert batch["input_ids"].shape[0] == 5
    assert batch["choice_mask"].tolist() == [[True, True, False], [True, True, True]]
    scores = torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0]], requires_grad=True)
    logits = kind.shape_logits(scores, batch)
    assert logits[0, :2].tolist() == [1.0, 2.0]
    assert logits[1].tolist() == [3.0, 4.0, 5.0]
    # -log softmax of the gold among the choices that exist: (1, 2) -> 1; (3, 4, 5) -> 2
    expected = (np.log(1 + np.exp(-1)) + np.log(1 + np.exp(-1) + np.exp(-2))) / 2
    loss = kind.loss(logits, batch)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert torch.isfinite(scores.grad).all()
    outputs = kind.outputs(logits, batch)
    assert [len(row) for row in outputs] == [2, 3]
    predictions = kind.decode(outputs, features, examples, CHOICE)
    assert [p.value for p in predictions] == [1, 2]
    assert sum(predictions[0].detail["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_the_heads_drop_out_in_training_only_and_start_near_zero() -> None:
    head = kinds.get("sentence").make_head(NLI, hidden_size=16, dropout=0.5)
    assert head is not None
    pooled = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    head.train()
    torch.manual_seed(0)
    assert not torch.equal(head(pooled), head(pooled))
    head.eval()
    assert torch.equal(head(pooled), head(pooled))
    assert head(pooled).shape == (4, 3)
    assert head(pooled).abs().max() < 0.5


def test_looking_up_names_of_kinds_loads_no_torch() -> None:
    code = "import sys; from adapters_xling.tasks import kinds; kinds.names(); print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
