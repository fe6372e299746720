"""Scores of tags: words, and chunks as conlleval and seqeval 0.0.12 count them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapters_xling.errors import DataError

from .registry import Scores, Units, combined_f1, f1_scores, metric, share


def _same_length(name: str, golds: Sequence[Any], predictions: Sequence[Any]) -> None:
    for i, (gold, predicted) in enumerate(zip(golds, predictions, strict=True)):
        if len(gold) != len(predicted):
            raise DataError(f"metric {name!r}: row {i} has {len(gold)} gold tags but {len(predicted)} predicted ones")


def _right_words(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Units:
    _same_length("tag_accuracy", golds, predictions)
    sentences = [list(zip(*pair, strict=True)) for pair in zip(golds, predictions, strict=True)]
    return {
        "right": [sum(gold == predicted for gold, predicted in words) for words in sentences],
        "words": [len(words) for words in sentences],
    }


@metric(
    main="accuracy",
    kinds="tag",
    units=_right_words,
    combine=lambda sums: {"accuracy": share(sums["right"], sums["words"])},
)
def tag_accuracy(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """Share of words with the right tag."""
    _same_length("tag_accuracy", golds, predictions)
    pairs = [pair for row in zip(golds, predictions, strict=True) for pair in zip(*row, strict=True)]
    if not pairs:
        raise DataError(f"metric 'tag_accuracy' ({language}): no words to score")
    return {"accuracy": 100.0 * sum(gold == predicted for gold, predicted in pairs) / len(pairs)}


def chunks(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Chunks (type, first word, last word) of one sentence by the rules of seqeval 0.0.12.

    A tag's mark is its first character, its type the part after the last hyphen. So tags without prefix are types of
    their own, equal neighbours merge, and tags whose name begins with S (SCONJ, SYM) are single by accident of the
    ``S-`` prefix. Later versions of seqeval strip the first character, which makes CCONJ and SCONJ equal; the figures
    that XTREME publishes follow the rule here.

    >>> sorted(chunks(["NOUN", "NOUN", "SYM", "SYM"]))
    [('NOUN', 0, 1), ('SYM', 2, 2), ('SYM', 3, 3)]
    """
    found: set[tuple[str, int, int]] = set()
    mark, kind, begin = "O", "", 0
    for i, tag in enumerate([*tags, "O"]):
        old_mark, old_kind = mark, kind
        mark, kind = tag[:1] or "O", tag.rpartition("-")[2]
        changed = kind != old_kind
        ends = old_mark in "ES" or (old_mark in "BI" and mark in "BSO") or (old_mark not in "O." and changed)
        starts = mark in "BS" or (mark in "EI" and old_mark in "ESO") or (mark not in "O." and changed)
        if ends:
            found.add((old_kind, begin, i - 1))
        if starts:
            begin = i
    return found


def chunk_f1(golds: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> Scores:
    """Precision, recall and F1 of chunks over whole files, as XTREME's scorer counts them (seqeval 0.0.12).

    Sentences are joined with an O between them, so a sentence that was predicted with too many or too few tags moves
    everything behind it; no chunk at all is F1 0. The registered metrics refuse both instead.

    >>> chunk_f1([["CCONJ"]], [["SCONJ"]])["f1"]
    0.0
    """
    gold, predicted = (chunks([tag for row in rows for tag in (*row, "O")]) for rows in (golds, predictions))
    return f1_scores(len(gold & predicted), len(predicted), len(gold))


def _chunks(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Units:
    """Chunks of each sentence; none runs over its end, so that they add up to those of the file."""
    _same_length("chunks", golds, predictions)
    pairs = [(chunks(gold), chunks(predicted)) for gold, predicted in zip(golds, predictions, strict=True)]
    return {
        "correct": [len(gold & predicted) for gold, predicted in pairs],
        "predicted": [len(predicted) for _, predicted in pairs],
        "gold": [len(gold) for gold, _ in pairs],
    }


def _strict_f1(name: str, golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    _same_length(name, golds, predictions)
    if not any(chunks(gold) for gold in golds):
        raise DataError(
            f"metric {name!r} ({language}): the golds of {len(golds)} rows hold no chunk, so F1 is undefined"
        )
    return chunk_f1(golds, predictions)


@metric(main="f1", kinds="tag", units=_chunks, combine=combined_f1)
def tag_f1(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """Chunk F1 over tags without prefixes (UDPOS), as XTREME's scorer with seqeval 0.0.12; see `chunks`.

    XTREME's tables call this accuracy; it is a few points lower than `tag_accuracy`.
    """
    return _strict_f1("tag_f1", golds, predictions, language)


@metric(main="f1", kinds="tag", units=_chunks, combine=combined_f1)
def span_f1(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """F1 over typed chunks in IOB2 (PAN-X), as conlleval: an I- that follows nothing of its type opens a chunk.

    Raises:
        DataError: for a gold tag that is neither O nor prefixed; such tag sets want `tag_f1`.
    """
    for i, gold in enumerate(golds):
        for tag in gold:
            if tag != "O" and tag[1:2] != "-":
                raise DataError(
                    f"metric 'span_f1': row {i} has tag {tag!r}, not O, B-… or I-…; use tag_f1 or tag_accuracy"
                )
    return _strict_f1("span_f1", golds, predictions, language)
