"""Retrieval of the sentence that answers a question, in any language (LAReQA, from the files of XQuAD-R)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from adapters_xling.errors import ConfigError, DataError
from adapters_xling.tasks.rows import BLANK_ANSWER, Raw

from . import reader
from .table import parse


class _Question(NamedTuple):
    id: str
    text: str
    title: str
    answer: str
    """The sentence that holds it; blank where `reject` says why there is none."""
    reject: str | None


@reader("sentence_answers")
def read(files: Sequence[Path], *, options: Mapping[str, Any], language: str) -> Iterator[Raw]:
    """Read questions of one language and the sentences of several: SQuAD's JSON with ``sentence_breaks``.

    The first file holds the questions, the others the pool that is searched. Every sentence of the pool is a candidate
    (id ``<file>_<paragraph>_<sentence>``); the gold of a question is every sentence, in any language, that holds the
    answer of the question of the same id. Where a paragraph repeats that sentence, each copy counts. Source: XTREME's
    utils_lareqa.py; the paragraph that its encoder reads beside a sentence is left out.

    Raises:
        DataError: for another layout, or sentence breaks outside of their paragraph.
    """
    if len(files) < 2:
        raise ConfigError(
            "reader 'sentence_answers' wants a file of questions and one or more to search; the task names "
            f"{len(files)}"
        )
    matches: dict[str, list[str]] = defaultdict(list)
    candidates: list[Raw] = []
    for file in files[1:]:
        for identifier, sentence, title in _sentences(file, matches):
            candidate = {"id": identifier, "text": sentence, "side": "corpus", "group": title}
            candidates.append(Raw(str(file), len(candidates) + 1, candidate))
    seen: set[str] = set()
    for number, question in enumerate(_questions(files[0]), start=1):
        values: dict[str, Any] = {"id": question.id, "text": question.text, "side": "query", "group": question.title}
        values["matches"] = tuple(matches.get(question.id, ()))
        if question.id in seen:
            raise DataError(f"{files[0]}: question {number}: id {question.id!r} is given twice")
        seen.add(question.id)
        yield Raw(str(files[0]), number, values, question.reject)
    yield from candidates


def _sentences(file: Path, matches: dict[str, list[str]]) -> Iterator[tuple[str, str, str]]:
    """Id, text and article of every sentence; adds to `matches` which of them answer which question."""
    for number, (title, paragraph) in enumerate(_paragraphs(file), start=1):
        texts = _split(paragraph, f"{file}: paragraph {number}")
        ids = [f"{file.stem}_{number}_{i}" for i in range(len(texts))]
        for question in _asked(paragraph, title, texts):
            if question.reject is None:
                matches[question.id] += [ids[i] for i, text in enumerate(texts) if text == question.answer]
        yield from zip(ids, texts, [title] * len(ids), strict=True)


def _questions(file: Path) -> Iterator[_Question]:
    for number, (title, paragraph) in enumerate(_paragraphs(file), start=1):
        yield from _asked(paragraph, title, _split(paragraph, f"{file}: paragraph {number}"))


def _paragraphs(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    data = parse(file)
    number = 0
    try:
        for article in data["data"]:
            for paragraph in article["paragraphs"]:
                number += 1
                breaks = [(int(start), int(end)) for start, end in paragraph["sentence_breaks"]]
                [(q["id"], q["question"], int(q["answers"][0]["answer_start"])) for q in paragraph["qas"]]
                yield str(article.get("title", "")), {**paragraph, "sentence_breaks": breaks}
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as err:
        raise DataError(
            f"{file}: paragraph {number}: not XQuAD-R's layout data > paragraphs > (context, sentence_breaks, qas with "
            f"one answer each): {err!r}"
        ) from err


def _split(paragraph: Mapping[str, Any], place: str) -> list[str]:
    context = str(paragraph["context"])
    for start, end in paragraph["sentence_breaks"]:
        if not 0 <= start < end <= len(context):
            raise DataError(f"{place}: sentence break {start}..{end} is outside of its {len(context)} characters")
    return [context[start:end] for start, end in paragraph["sentence_breaks"]]


def _asked(paragraph: Mapping[str, Any], title: str, texts: Sequence[str]) -> Iterator[_Question]:
    for question in paragraph["qas"]:
        answer = question["answers"][0]
        spans = zip(texts, paragraph["sentence_breaks"], strict=True)
        holder = next((text for text, (start, end) in spans if start <= int(answer["answer_start"]) < end), None)
        reject = None if holder is not None else "its answer begins in no sentence"
        if not str(answer.get("text", "")).strip():
            reject = BLANK_ANSWER  # blanked to "" at 0, every first sentence would be right
        yield _Question(str(question["id"]), str(question["question"]), title, holder or "", reject)
