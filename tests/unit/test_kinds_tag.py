"""Tagging: alignment of words and sub-words, splitting of long sentences, decoding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters_xling.errors import ConfigError
from adapters_xling.spec import FileSource, TaskSpec
from adapters_xling.tasks import kinds
from adapters_xling.tasks.examples import Features, TagExample
from adapters_xling.tasks.kinds.base import IGNORE
from tests.unit.tiny import tiny_tokenizer

LABELS = ("DET", "NOUN", "VERB")
TASK = TaskSpec(
    name="mine",
    kind="tag",
    role="private",
    title="a test",
    languages=("en",),
    sources=(FileSource(reader="rows", splits={}),),
    metrics=("tag_f1", "tag_accuracy"),
    labels=LABELS,
)
KIND = kinds.get("tag")


def example(words: str, tags: str | None, id_: str = "t1") -> TagExample:
    return TagExample(id=id_, words=tuple(words.split()), tags=None if tags is None else tuple(tags.split()))


def encode(*examples: TagExample, max_length: int = 32) -> list[Features]:
    return KIND.encode(examples, tiny_tokenizer(), TASK, max_length=max_length)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (example("the cat", "DET NOUN"), None),
        (TagExample(id="x", words=("the", "\u200d"), tags=("DET", "NOUN")), None),
        (example("", ""), "has no words"),
        (TagExample(id="x", words=("the", ""), tags=("DET", "NOUN")), "word 1 is empty"),
        (example("the cat", None), "has no tags"),
        (example("the cat", "DET"), "has 2 words but 1 tags"),
        (example("the cat", "DET N"), r"tag 'N' of word 1 ('cat') is not one of DET, NOUN, VERB"),
    ],
)
def test_unusable_rows_are_named(row: TagExample, reason: str | None) -> None:
    found = KIND.check_example(row, TASK, need_gold=True)
    assert found is reason if reason is None else reason in (found or "")


def test_only_the_first_piece_of_each_word_is_labelled() -> None:
    tokenizer = tiny_tokenizer()
    (features,) = encode(example("the zat ran", "DET NOUN VERB"))
    pieces = tokenizer.convert_ids_to_tokens(features.input_ids[0])
    assert pieces == ["<s>", "▁the", "▁", "z", "a", "t", "▁ran", "</s>"]
    assert features.label == [IGNORE, 0, 1, IGNORE, IGNORE, IGNORE, 2, IGNORE]
    assert features.meta["positions"] == [1, 2, 6]


def test_a_word_that_tokenises_to_nothing_becomes_unknown_and_keeps_its_tag() -> None:
    tokenizer = tiny_tokenizer()
    row = TagExample(id="x", words=("the", "\u200d", "cat"), tags=("DET", "VERB", "NOUN"))
    (features,) = encode(row)
    assert features.input_ids[0][2] == tokenizer.unk_token_id
    assert features.label == [IGNORE, 0, 2, 1, IGNORE]


def test_a_long_sentence_is_split_between_words_and_put_together_again() -> None:
    row = example("the zat ran the cat sat the zat", "DET NOUN VERB DET NOUN VERB DET NOUN")
    windows = encode(row, max_length=8)  # room for 6: the zat ran | the cat sat the | zat
    assert [w.meta["first_word"] for w in windows] == [0, 3, 7]
    assert all(len(w.input_ids[0]) <= 8 for w in windows)
    assert sum(w.meta["cut"] for w in windows) == 0
    outputs = KIND.gold_outputs(windows, [row], TASK)
    order = [2, 0, 1]
    (prediction,) = KIND.decode([outputs[i] for i in order], [windows[i] for i in order], [row], TASK)
    assert prediction.value == row.tags


def test_a_word_longer_than_the_window_becomes_unknown_and_what_was_lost_is_counted() -> None:
    tokenizer = tiny_tokenizer()
    row = example("the zzzzzzzzzz cat", "DET NOUN NOUN")
    (window,) = encode(row, max_length=6)  # room for 4; the word has a blank piece and ten letters
    assert window.input_ids[0][2] == tokenizer.unk_token_id
    assert (len(window.input_ids[0]), window.meta["cut"]) == (5, 11)
    assert window.label == [IGNORE, 0, 1, 1, IGNORE]
    (prediction,) = KIND.decode(KIND.gold_outputs([window], [row], TASK), [window], [row], TASK)
    assert prediction.value == row.tags


def test_a_word_that_just_fills_the_window_keeps_its_pieces() -> None:
    tokenizer = tiny_tokenizer()
    row = example("the zzz cat", "DET NOUN NOUN")  # a blank piece and three letters: 4
    windows = encode(row, max_length=6)
    assert [len(w.input_ids[0]) for w in windows] == [3, 6, 3]
    assert [w.meta["cut"] for w in windows] == [0, 0, 0]
    assert not any(tokenizer.unk_token_id in w.input_ids[0] for w in windows)


word = st.sampled_from(["the", "cat", "zat", "qqqqqqqqqqqq", "\u200d", "北京", "ö"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(word, st.sampled_from(LABELS)), min_size=1, max_size=25), st.integers(4, 20))
def test_every_word_gets_its_tag_back_whatever_the_window(rows: list[tuple[str, str]], max_length: int) -> None:
    row = TagExample(id="x", words=tuple(w for w, _ in rows), tags=tuple(t for _, t in rows))
    windows = encode(row, max_length=max_length)
    assert all(len(w.input_ids[0]) <= max_length for w in windows)
    assert all(KIND.check_label(w, TASK) is None for w in windows)
    (prediction,) = KIND.decode(KIND.gold_outputs(windows, [row], TASK), windows, [row], TASK)
    assert prediction.value == row.tags


def test_the_loss_is_the_mean_over_words_and_blind_to_padding() -> None:
    features = encode(example("the zat", "DET NOUN"), example("the cat sat on", None, "t2"))
    batch = KIND.collate(features, pad_id=1)
    logits = torch.zeros(2, batch["input_ids"].shape[1], 3)
    logits[0, 1, 0] = np.log(2)  # word 0, right: p = 2/4
    logits[0, 2, 0] = np.log(2)  # word 1, wrong: p = 1/4
    logits[1] = 99 * torch.randn(logits[1].shape)
    expected = (np.log(2) + np.log(4)) / 2
    assert KIND.loss(logits, batch).item() == pytest.approx(expected, rel=1e-5)


def test_outputs_hold_one_row_per_word() -> None:
    rows = [example("the zat ran", None), example("cat", None, "t2")]
    features = encode(*rows)
    batch = KIND.collate(features, pad_id=1)
    assert "labels" not in batch
    logits = torch.arange(2 * batch["input_ids"].shape[1] * 3, dtype=torch.float32).reshape(2, -1, 3)
    outputs = KIND.outputs(logits, batch)
    assert [o.shape for o in outputs] == [(3, 3), (1, 3)]
    np.testing.assert_array_equal(outputs[0], logits[0, [1, 2, 6]].numpy())
    assert [len(p.value) for p in KIND.decode(outputs, features, rows, TASK)] == [3, 1]


def test_a_label_that_stands_on_the_wrong_piece_is_found() -> None:
    (features,) = encode(example("the zat", "DET NOUN"))
    features.label[3] = 1
    assert "words begin at" in (KIND.check_label(features, TASK) or "")
    features.label[3] = IGNORE
    features.label[2] = 7
    assert "tag id 7" in (KIND.check_label(features, TASK) or "")


def test_the_floor_is_the_most_frequent_tag_of_train() -> None:
    train = [example("the cat sat", "DET NOUN VERB"), example("cat", "NOUN")]
    assert KIND.majority(train, [example("a b", None)], TASK)[0].value == ("NOUN", "NOUN")


def test_tagging_needs_room_for_text() -> None:
    with pytest.raises(ConfigError, match="max_length 3"):
        encode(example("the", "DET"), max_length=3)
