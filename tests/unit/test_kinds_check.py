"""`check_task`: what it accepts, and that each fault is named with the example that has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from adapters_xling.errors import ConfigError, DataError
from adapters_xling.spec import FileSource, TaskSpec
from adapters_xling.tasks import kinds
from adapters_xling.tasks.check import check_task
from adapters_xling.tasks.examples import (
    Answer,
    ChoiceExample,
    Example,
    RetrieveExample,
    SentenceExample,
    SpanExample,
    TagExample,
    TextExample,
)
from tests.unit.tiny import tiny_tokenizer

CONTEXT = "Anna gave a red book to Ben in Paris on Monday , but Carl did not see it ."


def spec(kind: str, *metrics: str, **fields: Any) -> TaskSpec:
    return TaskSpec(
        name="mine",
        kind=kind,  # type: ignore[arg-type]
        role="private",
        title="a test",
        languages=("en",),
        sources=(FileSource(reader="rows", splits={}),),
        metrics=metrics,
        **fields,
    )


def span(id_: str, answer: str, context: str = CONTEXT) -> SpanExample:
    answers = (Answer(answer, context.index(answer)),)
    return SpanExample(id=id_, context=context, question="what did Ben see ?", answers=answers)


def sentences(count: int = 20) -> list[Example]:
    return [
        SentenceExample(id=f"s{i}", first="the cat sat", second="the dog ran", label="yes" if i % 4 else "no")
        for i in range(count)
    ]


TASKS: dict[str, tuple[TaskSpec, list[Example]]] = {
    "sentence": (spec("sentence", "accuracy", "accuracy_f1:yes", labels=("yes", "no")), sentences()),
    "choice": (
        spec("choice", "accuracy"),
        [
            ChoiceExample(id=f"c{i}", prompt="the cat", choices=("sat", "ran", "no")[: 2 + i % 2], label=i % 2)
            for i in range(9)
        ],
    ),
    "tag": (
        spec("tag", "span_f1", "tag_accuracy", labels=("O", "B-PER", "I-PER")),
        [TagExample(id=f"t{i}", words=("Anna", "Ben", "ran") * 9, tags=("B-PER", "I-PER", "O") * 9) for i in range(5)],
    ),
    "span": (spec("span", "squad", "mlqa"), [span("a", "a red book"), span("b", "Paris"), span("c", "Carl")]),
    "retrieve": (
        spec("retrieve", "retrieval_accuracy"),
        [RetrieveExample(id=f"q{i}", text=f"cat {i}", side="query", matches=(f"c{i}",)) for i in range(9)]
        + [RetrieveExample(id=f"c{i}", text=f"Hund {i}", side="corpus") for i in range(9)],
    ),
    "mlm": (spec("mlm", "masked_accuracy"), [TextExample(id=f"m{i}", text=CONTEXT) for i in range(9)]),
}


@pytest.mark.parametrize("name", kinds.names())
@pytest.mark.parametrize("max_length", [24, 128])
@pytest.mark.filterwarnings("ignore:.*doc_stride")
def test_good_rows_of_every_kind_pass_and_their_gold_scores_a_hundred(name: str, max_length: int) -> None:
    task, rows = TASKS[name]
    report = check_task(task, rows, tiny_tokenizer(), max_length=max_length)
    assert report.scores == dict.fromkeys(task.metrics, 100.0)
    assert report.num_examples == len(rows)
    assert report.num_features >= len(rows)
    assert report.longest <= max_length
    assert report.unreachable == {}
    assert report.majority.keys() == report.scores.keys()
    assert f"mine ({name}, en)" in str(report)


def test_a_gold_answer_that_the_metrics_own_rule_marks_down_is_no_fault_of_the_rows() -> None:
    # of "a" the English normaliser leaves nothing: exact match 1, no word in common, so F1 0 and a mean of 50
    rows: list[Example] = [span("a", "a", "a red book is here ."), span("b", "Paris")]
    report = check_task(spec("span", "squad"), rows, tiny_tokenizer())
    assert report.scores == {"squad": 75.0}


def test_the_floor_of_the_report_is_the_majority_on_the_same_rows() -> None:
    task, rows = TASKS["sentence"]
    report = check_task(task, rows, tiny_tokenizer())
    assert report.majority["accuracy"] == pytest.approx(75)  # "no" at every fourth row


def test_windows_and_truncation_are_counted() -> None:
    task, rows = TASKS["tag"]
    assert check_task(task, rows, tiny_tokenizer(), max_length=12).num_features == 5 * 3
    task, rows = TASKS["sentence"]
    assert check_task(task, rows, tiny_tokenizer(), max_length=8).num_truncated == len(rows)
    assert check_task(task, rows, tiny_tokenizer(), max_length=64).num_truncated == 0


def test_gold_that_cannot_be_reached_is_reported_and_left_out_of_the_scores() -> None:
    task = spec("span", "squad", options={"max_answer_length": 3})
    rows = [span("a", "a red book to Ben"), span("b", "Paris"), span("c", "ed boo")]
    report = check_task(task, rows, tiny_tokenizer(), max_length=64)
    assert report.scores == {"squad": 100.0}
    assert sum(report.unreachable.values()) == 2
    assert len(report.unreachable) == 2
    assert "unreachable: 1 ×" in str(report)
    with pytest.raises(DataError, match="none of the 1 examples"):
        check_task(task, rows[:1], tiny_tokenizer(), max_length=64)


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("sentence", SentenceExample(id="bad1", first="", label="yes"), "example 'bad1': first sentence is blank"),
        ("choice", ChoiceExample(id="bad2", prompt="a", choices=("b", "c"), label=4), "example 'bad2': label 4"),
        ("tag", TagExample(id="bad3", words=("a", "b"), tags=("O",)), "example 'bad3': has 2 words but 1 tags"),
        (
            "span",
            SpanExample(id="bad4", context="a cat", question="?", answers=(Answer("", 0),)),
            "example 'bad4': has a blank answer",
        ),
        ("retrieve", RetrieveExample(id="bad5", text="a", side="query"), "example 'bad5': is a query without a match"),
        ("sentence", TagExample(id="bad6", words=("a",), tags=("O",)), "example 'bad6': is a TagExample"),
    ],
)
def test_a_bad_row_is_named_with_its_reason(name: str, bad: Example, message: str) -> None:
    task, rows = TASKS[name]
    with pytest.raises(DataError, match=message):
        check_task(task, [*rows, bad], tiny_tokenizer())


def test_many_bad_rows_are_counted_and_the_first_are_shown() -> None:
    task, rows = TASKS["sentence"]
    bad: list[Example] = [SentenceExample(id=f"bad{i}", first="cat", label="neutral") for i in range(9)]
    with pytest.raises(DataError, match=r"9 of 29 examples cannot be used(.|\n)*bad0(.|\n)*bad4(.|\n)*and 4 more"):
        check_task(task, [*rows, *bad], tiny_tokenizer())


def test_ids_given_twice_no_rows_and_a_bad_task_file_are_refused() -> None:
    task, rows = TASKS["sentence"]
    with pytest.raises(DataError, match="'s0' is given twice"):
        check_task(task, [*rows, rows[0]], tiny_tokenizer())
    with pytest.raises(DataError, match="no examples to check"):
        check_task(task, [], tiny_tokenizer())
    with pytest.raises(ConfigError, match="needs at least two"):
        check_task(spec("sentence", "accuracy", labels=("yes",)), rows, tiny_tokenizer())


def test_a_metric_that_these_rows_cannot_feed_says_so() -> None:
    task = spec("tag", "span_f1", labels=("O", "B-PER"))
    rows: list[Example] = [TagExample(id="t", words=("a", "b"), tags=("O", "O"))]
    with pytest.raises(DataError, match=r"no chunk.*more rows may be needed"):
        check_task(task, rows, tiny_tokenizer())


# --- faults in a kind itself: what somebody who writes a new one would meet -------------------------------------


def too_long(features: list) -> None:
    features[3].input_ids[0] += [5] * 200


def unknown_token(features: list) -> None:
    features[3].input_ids[0][1] = 10**6


def bad_label(features: list) -> None:
    features[3].label = 2


def lost_label(features: list) -> None:
    features[3].label = None


def lost_example(features: list) -> None:
    del features[3]


def not_json(features: list) -> None:
    features[3].meta = {"x": {1, 2}}


def wrong_class(features: list) -> None:
    features[3].label = 1 - features[3].label


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (too_long, "example 's3': was encoded to 2.. tokens, more than max_length 128"),
        (unknown_token, "example 's3': token id 1000000"),
        (bad_label, "example 's3': class 2 is not an index below 2"),
        (lost_label, "example 's3': lost its gold"),
        (lost_example, "example 's3' was encoded to nothing"),
        (not_json, "example 's3': meta cannot be written as JSON"),
        (wrong_class, "example 's3': encoding its gold 'yes' and decoding it again gives 'no'"),
    ],
)
def test_a_fault_in_encoding_is_found(
    fault: Callable[[list], None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, rows = TASKS["sentence"]
    kind = kinds.get("sentence")
    encode = kind.encode

    def faulty(*args: Any, **kwargs: Any) -> list:
        features = encode(*args, **kwargs)
        fault(features)
        return features

    monkeypatch.setattr(kind, "encode", faulty)
    with pytest.raises(DataError, match=message):
        check_task(task, rows, tiny_tokenizer())


def test_a_loss_that_is_not_finite_or_has_no_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    task, rows = TASKS["sentence"]
    kind = kinds.get("sentence")
    loss = kind.loss
    monkeypatch.setattr(kind, "loss", lambda logits, batch: loss(logits, batch) * float("nan"))
    with pytest.raises(DataError, match="'s0' to 's7': the loss must be one finite number"):
        check_task(task, rows, tiny_tokenizer())
    monkeypatch.setattr(kind, "loss", lambda logits, batch: loss(logits, batch) * 0)
    with pytest.raises(DataError, match="no gradient reaches the head"):
        check_task(task, rows, tiny_tokenizer())


def test_checking_leaves_the_global_random_state_alone() -> None:
    import torch

    task, rows = TASKS["sentence"]
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    check_task(task, rows, tiny_tokenizer())
    assert torch.equal(torch.rand(3), expected)
