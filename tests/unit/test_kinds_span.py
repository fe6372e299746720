"""Extractive QA: offsets, windows, labels, decoding, unanswerable questions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters_xling import metrics
from adapters_xling.errors import ConfigError
from adapters_xling.spec import FileSource, TaskSpec
from adapters_xling.tasks import kinds
from adapters_xling.tasks.examples import Answer, Features, SpanExample
from adapters_xling.tasks.kinds.span_decode import best_span, tokenize_contexts
from tests.unit.tiny import tiny_tokenizer

KIND = kinds.get("span")


def spec(**options: object) -> TaskSpec:
    return TaskSpec(
        name="mine",
        kind="span",
        role="private",
        title="a test",
        languages=("en",),
        sources=(FileSource(reader="rows", splits={}),),
        metrics=("squad",),
        options=options,
    )


def example(
    context: str, answer: str | None, question: str = "who ran ?", id_: str = "q1", **more: object
) -> SpanExample:
    answers = () if answer is None else (Answer(answer, context.index(answer)),)
    return SpanExample(id=id_, context=context, question=question, answers=answers, **more)  # type: ignore[arg-type]


def encode(*examples: SpanExample, max_length: int = 64, **options: object) -> list[Features]:
    return KIND.encode(examples, tiny_tokenizer(), spec(**options), max_length=max_length)


def roundtrip(row: SpanExample, *, max_length: int = 64, **options: object) -> str:
    features = encode(row, max_length=max_length, **options)
    task = spec(**options)
    return KIND.decode(KIND.gold_outputs(features, [row], task), features, [row], task)[0].value


# --- rows and task files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (example("the cat sat", "cat"), None),
        (example(" ", None), "context is blank"),
        (example("the cat", "cat", question="\n"), "question is blank"),
        (example("the cat", None), "has no answer"),
        (SpanExample(id="x", context="the cat", question="?", answers=(Answer("", 0),)), "has a blank answer"),
        (
            SpanExample(id="x", context="the cat", question="?", answers=(Answer("cat", 3),)),
            "at character 3 (' ca' is)",
        ),
        (SpanExample(id="x", context="the cat", question="?", answers=(Answer("cat", -3),)), "at character -3"),
        (example("the cat", None, impossible=True), "options.impossible: true"),
        (example("the cat", "cat", impossible=True), "is marked impossible but has answers"),
    ],
)
def test_unusable_rows_are_named(row: SpanExample, reason: str | None) -> None:
    found = KIND.check_example(row, spec(), need_gold=True)
    assert found is reason if reason is None else reason in (found or "")


def test_unanswerable_rows_are_fine_where_the_task_says_so() -> None:
    assert KIND.check_example(example("the cat", None, impossible=True), spec(impossible=True), need_gold=True) is None


def test_options_out_of_range_are_refused() -> None:
    KIND.check_spec(spec(null_threshold=-1))
    with pytest.raises(ConfigError, match=r"options\.doc_stride must be at least 1"):
        KIND.check_spec(spec(doc_stride=0))
    with pytest.raises(ConfigError, match=r"options\.impossible must be bool"):
        KIND.check_spec(spec(impossible="yes"))


def test_a_row_too_short_for_question_and_context_is_refused() -> None:
    with pytest.raises(ConfigError, match="raise max_length"):
        encode(example("the cat", "cat"), max_length=15)


# --- offsets --------------------------------------------------------------------------------------------------


def test_offsets_leave_out_the_blanks_that_the_tokenizer_reports() -> None:
    context = "  the cat  zat "
    tokens = tokenize_contexts(tiny_tokenizer(), [context])[context]
    covered = [context[s:e] for s, e in zip(tokens.starts, tokens.ends, strict=True)]
    assert [text for text in covered if text] == ["the", "cat", "z", "a", "t"]
    assert all(a <= b for a, b in zip(tokens.ends, tokens.ends[1:], strict=False))


@pytest.mark.parametrize(
    "context_answer",
    [
        ("the cat sat", "the"),
        ("the cat sat", "sat"),
        ("the  zat   ran .", "zat"),
        ("Anna gave a red book", "a red book"),
        ("北京 大学 在 公园", "大学 在"),
        ("在公园附近", "公园"),
        ("кот сидел.", "сидел"),
    ],
)
def test_the_gold_answer_comes_back_letter_by_letter(context_answer: tuple[str, str]) -> None:
    context, answer = context_answer
    assert roundtrip(example(context, answer)) == answer


letters = st.sampled_from(["the ", "cat", " ", "zat", ".", " 大学", "在", "公", "\u200d", "½", "\n", "Anna"])


@settings(max_examples=80, deadline=None)
@given(st.lists(letters, min_size=1, max_size=30), st.data())
def test_the_gold_answer_comes_back_or_the_row_says_why_not(parts: list[str], data: st.DataObject) -> None:
    context = "".join(parts)
    start = data.draw(st.integers(0, len(context) - 1))
    answer = context[start : data.draw(st.integers(start + 1, len(context)))]
    row = SpanExample(id="x", context=context, question="who ?", answers=(Answer(answer, start),))
    if KIND.check_example(row, spec(), need_gold=True):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        features = encode(row, max_length=data.draw(st.integers(16, 40)))
    assert all(KIND.check_label(feature, spec()) is None for feature in features)
    (prediction,) = KIND.decode(KIND.gold_outputs(features, [row], spec()), features, [row], spec())
    if "unreachable" not in features[0].meta:
        assert prediction.value == answer.strip()


# --- windows --------------------------------------------------------------------------------------------------


def test_windows_cover_the_context_and_start_one_stride_apart() -> None:
    words = " ".join(["the cat sat on the mat"] * 10)  # 60 tokens
    row = example(words, "cat")
    windows = encode(row, max_length=32, doc_stride=10)  # question 3, special 4: room for 25
    assert [w.meta["first"] for w in windows] == [0, 10, 20, 30, 40]
    assert [w.meta["count"] for w in windows] == [25, 25, 25, 25, 20]
    assert all(len(w.input_ids[0]) <= 32 for w in windows)
    assert windows[0].meta["starts"] is windows[4].meta["starts"]


def test_a_context_that_just_fits_is_one_window() -> None:
    words = " ".join(["cat"] * 25)
    assert len(encode(example(words, "cat"), max_length=32, doc_stride=10)) == 1
    assert len(encode(example(words + " cat", "cat"), max_length=32, doc_stride=10)) == 2


def test_a_stride_that_would_leave_gaps_is_halved_with_a_warning() -> None:
    row = example(" ".join(["the cat sat on the mat"] * 10), "cat")
    with pytest.warns(UserWarning, match="doc_stride 128 does not fit max_length 32"):
        windows = encode(row, max_length=32)
    assert [w.meta["first"] for w in windows][:3] == [0, 12, 24]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode(example("the cat", "cat"), max_length=32)  # one window: no stride is used, nothing to warn of


def test_a_window_without_the_whole_answer_points_to_the_first_token() -> None:
    row = example(" ".join(["the"] * 30 + ["cat", "sat"] + ["the"] * 10), "cat sat")  # 42 tokens, answer 30..31
    windows = encode(row, max_length=32, doc_stride=7)
    # windows of 25 tokens from 0, 7, 14, 21; the context begins after <s>, 3 question tokens, </s></s>: at 6
    assert [w.label for w in windows] == [(0, 0)] + [(6 + 30 - first, 6 + 31 - first) for first in (7, 14, 21)]


def test_a_long_question_keeps_half_of_the_row_at_most() -> None:
    row = example("the cat sat", "cat", question=" ".join(["who"] * 50))
    (window,) = encode(row, max_length=24)
    assert window.meta["position"] == 1 + 10 + 2
    assert window.meta["cut"] == 40
    (window,) = encode(row, max_length=64, max_query_length=5)
    assert window.meta["position"] == 1 + 5 + 2
    assert window.meta["cut"] == 45


@pytest.mark.parametrize(
    ("context", "answer", "options", "reason"),
    [
        ("the cat sat on the mat", "cat sat on", {"max_answer_length": 2}, "longer than options.max_answer_length"),
        (" ".join(["cat"] * 40), " ".join(["cat"] * 29), {"doc_stride": 5}, "does not fit in one window"),
        ("the cats", "cat", {}, None),
        ("the cat", "ca", {}, "does not begin or end where a token does"),
    ],
)
def test_gold_that_no_model_can_give_is_marked(context: str, answer: str, options: dict, reason: str | None) -> None:
    features = encode(example(context, answer), max_length=32, **options)
    marks = {feature.meta.get("unreachable") for feature in features}
    assert len(marks) == 1
    assert marks == {None} if reason is None else reason in marks.pop()


# --- decoding -------------------------------------------------------------------------------------------------


def test_a_span_ends_after_it_starts_and_is_not_too_long() -> None:
    visible = np.ones(4, dtype=bool)
    start, end = np.array([0, 0, 9, 0.0]), np.array([9, 0, 0, 1.0])
    # 2..0 (18) runs backwards; 0..0 scores 9, 2..3 scores 10
    assert best_span(start, end, visible, max_tokens=4, n_best=4)[:2] == (2, 3)  # type: ignore[index]
    start, end = np.array([9, 0, 0, 0.5]), np.array([0, 0, 0, 9.0])
    # 0..3 (18) has four tokens
    assert best_span(start, end, visible, max_tokens=3, n_best=4)[:2] == (3, 3)  # type: ignore[index]


def test_a_span_is_found_even_when_no_pair_of_the_best_borders_is_one() -> None:
    start, end = np.array([0, 1, 2, 9.0]), np.array([9, 1, 0, 0.0])
    found = best_span(start, end, np.ones(4, dtype=bool), max_tokens=4, n_best=1)
    assert found is not None
    assert found.score == 9.0  # 3..3 or 0..0, never 3..0
    assert best_span(start, end, np.zeros(4, dtype=bool), max_tokens=4, n_best=1) is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.booleans()), min_size=1, max_size=9),
    st.integers(1, 5),
)
def test_the_best_span_is_the_best_of_all(rows: list[tuple[int, int, bool]], max_tokens: int) -> None:
    start, end = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows], float)
    visible = np.array([r[2] for r in rows])
    every = [
        start[i] + end[j]
        for i in range(len(rows))
        for j in range(i, min(len(rows), i + max_tokens))
        if visible[i] and visible[j]
    ]
    found = best_span(start, end, visible, max_tokens=max_tokens, n_best=len(rows))
    assert (None if found is None else found.score) == (max(every) if every else None)


def test_the_best_window_wins_and_question_tokens_never_do() -> None:
    row = example(" ".join(["the"] * 30 + ["cat", "sat"] + ["the"] * 10), "cat sat")
    windows = encode(row, max_length=32, doc_stride=7)
    outputs = [np.zeros((len(w.input_ids[0]), 2), np.float32) for w in windows]
    for output in outputs:
        output[1:4] = 99  # the question
    outputs[0][10] = 5  # some "the"
    outputs[2][6 + 30 - 14, 0] = 6
    outputs[2][6 + 31 - 14, 1] = 6
    (prediction,) = KIND.decode(outputs, windows, [row], spec())
    assert prediction.value == "cat sat"
    assert prediction.detail["score"] == 12.0
    assert row.context[prediction.detail["start"] : prediction.detail["end"]] == "cat sat"


@pytest.mark.parametrize(("threshold", "answer"), [(0.0, ""), (1.9, ""), (2.0, "cat"), (5.0, "cat")])
def test_no_answer_wins_when_it_beats_the_span_by_more_than_the_threshold(threshold: float, answer: str) -> None:
    row = example("the cat sat", None, impossible=True)
    task = spec(impossible=True, null_threshold=threshold)
    features = KIND.encode([row], tiny_tokenizer(), task, max_length=32)
    output = np.zeros((len(features[0].input_ids[0]), 2), np.float32)
    output[0] = 3  # null 6
    output[features[0].meta["position"] + 1] = 2  # span 4
    assert KIND.decode([output], features, [row], task)[0].value == answer


def test_one_sure_window_is_enough_to_have_an_answer() -> None:
    row = example(" ".join(["the"] * 40 + ["cat"]), "cat")
    assert len(encode(row, max_length=32, doc_stride=10)) > 1
    assert roundtrip(row, max_length=32, doc_stride=10, impossible=True) == "cat"
    assert (
        roundtrip(example(" ".join(["the"] * 41), None, impossible=True), max_length=32, doc_stride=10, impossible=True)
        == ""
    )


def test_padding_and_length_do_not_reach_loss_or_outputs() -> None:
    rows = [example("the cat", "cat"), example("the cat sat on the mat", "mat", id_="q2")]
    features = encode(*rows)
    batch = KIND.collate(features, pad_id=1)
    logits = torch.zeros(2, batch["input_ids"].shape[1], 2)
    logits[0, len(features[0].input_ids[0]) :] = 50.0
    # uniform over the real tokens of each row
    expected = np.mean([np.log(len(f.input_ids[0])) for f in features])
    assert KIND.loss(logits, batch).item() == pytest.approx(expected, rel=1e-5)
    assert [o.shape for o in KIND.outputs(logits, batch)] == [(len(f.input_ids[0]), 2) for f in features]


def test_rows_without_gold_have_no_label_and_gold_is_what_metrics_want() -> None:
    row = example("the cat", None)
    (features,) = encode(row)
    assert features.label is None
    assert "labels" not in KIND.collate([features], pad_id=1)
    assert KIND.gold(row) is None
    assert KIND.gold(example("the cat", "cat")) == ("cat",)
    unanswerable = KIND.gold(example("the cat", None, impossible=True))
    assert metrics.get("squad")([unanswerable], [""], "en")["mean"] == 100.0


def test_the_floor_is_the_first_word_or_that_there_is_no_answer() -> None:
    asked = [example(" the cat", "cat")]
    assert KIND.majority([], asked, spec())[0].value == "the"
    first, other, none = example("the cat", "the"), example("the cat", "cat"), example("the cat", None, impossible=True)
    assert KIND.majority([first, other, other, none], asked, spec())[0].value == "the"
    assert KIND.majority([first, other, other, none, none], asked, spec())[0].value == ""
