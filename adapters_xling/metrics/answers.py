"""Scores of answer texts: SQuAD 1.1 (XQuAD, TyDiQA), SQuAD 2.0 and MLQA, each with the rules of its own script.

The scripts differ in what they make of texts of which normalisation leaves nothing ("una" in Spanish, a lone full
stop). SQuAD 1.1 and MLQA compare such an answer like any other: it is an exact match of another empty text, and has no
word in common with it, so F1 0. SQuAD 2.0 leaves such answers out and counts two empty texts as equal in both scores.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapters_xling.errors import unknown

from .registry import Scores, Units, metric, share

Pairs = list[tuple[float, float]]
"""Exact match and overlap of each question, each 0 to 1."""

_ENGLISH_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)

_ARTICLES: dict[str, re.Pattern[str] | None] = {
    "en": _ENGLISH_ARTICLES,
    "es": re.compile(r"\b(?:un|una|unos|unas|el|la|los|las)\b"),
    "hi": None,
    "vi": re.compile(r"\b(?:của|là|cái|chiếc|những)\b"),
    "de": re.compile(r"\b(?:ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    "ar": re.compile("ال"),
    "zh": None,
}


def normalize_squad(text: str) -> str:
    """Lower-case a text and strip ASCII punctuation, English articles and surplus blanks (SQuAD's rule).

    >>> normalize_squad("The  Norman-French, an era.")
    'normanfrench era'
    """
    return " ".join(_ENGLISH_ARTICLES.sub(" ", text.lower().translate(_ASCII_PUNCTUATION)).split())


def normalize_mlqa(text: str, language: str) -> str:
    """Lower-case a text and strip punctuation of any script, the language's articles and surplus blanks (MLQA's rule).

    Chinese is split into characters. Arabic loses the letters of its article wherever they stand, as in the scorer
    the published figures come from.

    Raises:
        UnknownName: for a language that MLQA does not have.
    """
    if language not in _ARTICLES:
        raise unknown("language of metric 'mlqa'", language, _ARTICLES, "for other languages use the metric squad")
    kept = "".join(
        char for char in text.lower() if char not in string.punctuation and unicodedata.category(char)[0] != "P"
    )
    articles = _ARTICLES[language]
    if articles is not None:
        kept = articles.sub(" ", kept)
    if language == "zh":
        kept = re.sub("([\u4e00-\u9fa5])", r" \1 ", kept)
    return " ".join(kept.split())


def _overlap(gold: str, predicted: str) -> float:
    """Word overlap (F1, 0 to 1) of two normalised texts; 0 when they have no word in common."""
    gold_words, predicted_words = gold.split(), predicted.split()
    common = sum((Counter(gold_words) & Counter(predicted_words)).values())
    return 2 * common / (len(gold_words) + len(predicted_words)) if common else 0.0


def _best(alternatives: Sequence[str], guess: str) -> tuple[float, float]:
    """Exact match and overlap of one normalised answer with the best of the normalised alternatives, each 0 or more.

    A question without alternatives is unanswerable (SQuAD 2.0): only the empty answer is right.
    """
    if not alternatives:
        return float(not guess), float(not guess)
    return max(float(gold == guess) for gold in alternatives), max(_overlap(gold, guess) for gold in alternatives)


def _mean(pairs: Sequence[tuple[float, float]]) -> Scores:
    exact, overlap = (100.0 * sum(pair[i] for pair in pairs) / len(pairs) for i in (0, 1))
    return {"f1": overlap, "exact_match": exact, "mean": (exact + overlap) / 2}


def _answers(golds: Sequence[Any], predictions: Sequence[Any], normalize: Callable[[str], str]) -> Pairs:
    """Both scores of each question; a prediction of None is a question that was left out, which scores 0."""
    return [
        (0.0, 0.0) if guess is None else _best([normalize(answer) for answer in gold], normalize(guess))
        for gold, guess in zip(golds, predictions, strict=True)
    ]


def _squad(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Pairs:
    return _answers(golds, predictions, normalize_squad)


def _mlqa(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Pairs:
    return _answers(golds, predictions, lambda text: normalize_mlqa(text, language))


def _squad2(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Pairs:
    pairs = []
    for gold, guess in zip(golds, predictions, strict=True):
        left = [text for text in map(normalize_squad, gold) if text]
        pairs.append((0.0, 0.0) if guess is None else _best(left, normalize_squad(guess)))
    return pairs


def _units(pairs: Callable[..., Pairs]) -> Callable[..., Units]:
    def units(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Units:
        exact, overlap = zip(*pairs(golds, predictions, language), strict=True)
        return {"exact": list(exact), "overlap": list(overlap)}

    return units


def _squad2_units(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Units:
    """Besides, the same numbers where the question has an answer, so that both parts of the rows can be scored."""
    units = _units(_squad2)(golds, predictions, language)
    answerable = [int(bool(gold)) for gold in golds]
    return units | {
        "answerable": list(answerable),
        **{f"answerable_{n}": [v * a for v, a in zip(units[n], answerable, strict=True)] for n in units},
    }


def _combine(exact: Any, overlap: Any, num: Any) -> dict[str, Any]:
    exact, overlap = share(exact, num), share(overlap, num)
    return {"f1": overlap, "exact_match": exact, "mean": (exact + overlap) / 2}


def _combine_squad(sums: Mapping[str, Any]) -> dict[str, Any]:
    return _combine(sums["exact"], sums["overlap"], sums["num"])


def _combine_squad2(sums: Mapping[str, Any]) -> dict[str, Any]:
    import numpy as np

    exact, overlap, num = (np.asarray(sums[f"answerable{n}"]) for n in ("_exact", "_overlap", ""))
    others = _combine(sums["exact"] - exact, sums["overlap"] - overlap, sums["num"] - num)
    parts = {"has_answer": _combine(exact, overlap, num), "no_answer": others}
    return _combine_squad(sums) | {
        f"{part}_{name}": value for part, own in parts.items() for name, value in own.items() if name != "mean"
    }


@metric(main="mean", kinds="span", units=_units(_squad), combine=_combine_squad)
def squad(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """F1, exact match and their mean (XTREME's task score) by SQuAD 1.1's script, English normaliser in every language.

    XQuAD and TyDiQA are scored so. A prediction of None scores 0, as an unanswered question does there. Of an
    unanswerable question (no alternatives) only the empty prediction is right; sets of such questions want `squad2`.
    """
    return _mean(_squad(golds, predictions, language))


@metric(main="mean", kinds="span", units=_squad2_units, combine=_combine_squad2)
def squad2(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """F1, exact match and their mean by SQuAD 2.0's script, and both over answerable and unanswerable questions alone.

    Alternatives that normalisation empties are left out, and where none is left the empty prediction is right.
    `has_answer_*` and `no_answer_*` are there when there are such questions. A prediction of None scores 0.
    """
    pairs = _squad2(golds, predictions, language)
    scores = _mean(pairs)
    for part, wanted in (("has_answer", True), ("no_answer", False)):
        if some := [pair for pair, gold in zip(pairs, golds, strict=True) if bool(gold) is wanted]:
            scores |= {f"{part}_{name}": value for name, value in _mean(some).items() if name != "mean"}
    return scores


@metric(main="mean", kinds="span", units=_units(_mlqa), combine=_combine_squad)
def mlqa(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """F1, exact match and their mean by MLQA's script and normaliser of the language (en, es, hi, vi, de, ar, zh).

    A prediction of None scores 0, as an unanswered question does there.

    Raises:
        UnknownName: for a language that MLQA does not have.
    """
    return _mean(_mlqa(golds, predictions, language))
