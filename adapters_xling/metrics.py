"""Scores as pure functions of golds and predictions, each registered beside itself. Nothing here needs torch.

A metric takes aligned sequences and the language they are in, and returns percentages by name. What golds and
predictions hold is what the task's kind puts there: labels, choice indices, tuples of tags, answer texts (gold: a
tuple of alternatives, empty for an unanswerable question), or rankings (gold: the query's id and its matches).
A name may carry an argument after a colon: ``accuracy_f1:duplicate``.
"""

from __future__ import annotations

import hashlib
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import DataError, unknown

Scores = dict[str, float]


@dataclass(frozen=True)
class Metric:
    """A registered metric.

    Attributes:
        main: key of the returned scores that models are selected by and reports show.
        kinds: forms of task whose predictions it can score.
        argument: value of its last parameter (a label name), or None when it takes none.
    """

    name: str
    main: str
    kinds: frozenset[str]
    argument: str | None
    function: Callable[..., Scores]

    def __call__(self, golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
        """Score aligned predictions.

        Raises:
            DataError: when there is nothing to score, lengths differ, or a row has no gold. Never 0 or NaN instead.
        """
        if len(golds) != len(predictions):
            raise DataError(f"metric {self.name!r}: {len(golds)} gold rows but {len(predictions)} predictions")
        if not golds:
            raise DataError(f"metric {self.name!r} ({language}): no rows to score; an empty split has no score")
        for i, gold in enumerate(golds):
            if gold is None:
                raise DataError(f"metric {self.name!r} ({language}): row {i} has no gold; score a labelled split")
        extra = () if self.argument is None else (self.argument,)
        return self.function(golds, predictions, language, *extra)


_METRICS: dict[str, Metric] = {}


def metric(*, main: str, kinds: str, argument: str | None = None) -> Callable[[Callable[..., Scores]], Metric]:
    """Register a function as a metric under its own name; `kinds` is a blank-separated list."""

    def register(function: Callable[..., Scores]) -> Metric:
        name = function.__name__
        _METRICS[name] = Metric(name, main, frozenset(kinds.split()), argument, function)
        return _METRICS[name]

    return register


def names() -> tuple[str, ...]:
    """Every metric."""
    return tuple(_METRICS)


def get(name: str) -> Metric:
    """A metric by name; what follows a colon is its argument.

    Raises:
        UnknownName: for a metric that does not exist, or an argument to one that takes none.

    >>> get("accuracy")(["a", "b"], ["a", "a"], "en")
    {'accuracy': 50.0}
    """
    base, colon, argument = name.partition(":")
    if base not in _METRICS or (colon and (not argument or _METRICS[base].argument is None)):
        raise unknown("metric", name, _METRICS, "adapters_xling/metrics.py")
    found = _METRICS[base]
    return Metric(name, found.main, found.kinds, argument or found.argument, found.function)


def main(name: str) -> str:
    """Key of a metric's scores that models are selected by and reports show."""
    return get(name).main


def kinds(name: str) -> frozenset[str]:
    """Forms of task a metric can score."""
    return get(name).kinds


def argument(name: str) -> str | None:
    """The label a metric singles out, or None."""
    return get(name).argument


def _f1(num_correct: int, num_predicted: int, num_gold: int) -> Scores:
    """Precision, recall and F1 in percent; a precision over nothing is 0."""
    return {
        "precision": 100.0 * num_correct / num_predicted if num_predicted else 0.0,
        "recall": 100.0 * num_correct / num_gold if num_gold else 0.0,
        "f1": 200.0 * num_correct / (num_predicted + num_gold) if num_predicted + num_gold else 0.0,
    }


# --- classes ----------------------------------------------------------------------------------------------------


@metric(main="accuracy", kinds="sentence choice")
def accuracy(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """Share of labels or indices that are right."""
    right = sum(gold == predicted for gold, predicted in zip(golds, predictions, strict=True))
    return {"accuracy": 100.0 * right / len(golds)}


@metric(main="masked_accuracy", kinds="mlm")
def masked_accuracy(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """Share of masked tokens that were guessed, over all texts together; predictions are (guess, gold) pairs.

    Raises:
        DataError: when no token was masked.
    """
    pairs = [pair for prediction in predictions for pair in prediction]
    if not pairs:
        raise DataError(f"metric 'masked_accuracy' ({language}): no token was masked; are all of them unknown?")
    return {"masked_accuracy": 100.0 * sum(guess == gold for guess, gold in pairs) / len(pairs)}


@metric(main="mean", kinds="sentence", argument="1")
def accuracy_f1(golds: Sequence[Any], predictions: Sequence[Any], language: str, positive: str) -> Scores:
    """Accuracy, F1 of the `positive` label and their mean (GLUE's score for QQP). The default positive is ``1``.

    Raises:
        DataError: when the positive label is neither in the golds nor predicted: its F1 does not exist.
    """
    num_gold = sum(gold == positive for gold in golds)
    num_predicted = sum(predicted == positive for predicted in predictions)
    if not num_gold + num_predicted:
        raise DataError(
            f"metric 'accuracy_f1' ({language}): label {positive!r} is neither in the golds nor predicted; name the "
            "positive label after a colon, e.g. accuracy_f1:duplicate"
        )
    both = sum(gold == predicted == positive for gold, predicted in zip(golds, predictions, strict=True))
    f1 = _f1(both, num_predicted, num_gold)["f1"]
    share = accuracy.function(golds, predictions, language)["accuracy"]
    return {"accuracy": share, "f1": f1, "mean": (share + f1) / 2}


# --- tags -------------------------------------------------------------------------------------------------------


def _same_length(name: str, golds: Sequence[Any], predictions: Sequence[Any]) -> None:
    for i, (gold, predicted) in enumerate(zip(golds, predictions, strict=True)):
        if len(gold) != len(predicted):
            raise DataError(f"metric {name!r}: row {i} has {len(gold)} gold tags but {len(predicted)} predicted ones")


@metric(main="accuracy", kinds="tag")
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


def _chunk_f1(name: str, golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    _same_length(name, golds, predictions)
    num_correct = num_predicted = num_gold = 0
    for gold, predicted in zip(golds, predictions, strict=True):
        right, guess = chunks(gold), chunks(predicted)
        num_correct += len(right & guess)
        num_predicted += len(guess)
        num_gold += len(right)
    if not num_gold:
        raise DataError(
            f"metric {name!r} ({language}): the golds of {len(golds)} rows hold no chunk, so F1 is undefined"
        )
    return _f1(num_correct, num_predicted, num_gold)


@metric(main="f1", kinds="tag")
def tag_f1(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """Chunk F1 over tags without prefixes (UDPOS), as XTREME's scorer with seqeval 0.0.12; see `chunks`.

    XTREME's tables call this accuracy; it is a few points lower than `tag_accuracy`.
    """
    return _chunk_f1("tag_f1", golds, predictions, language)


@metric(main="f1", kinds="tag")
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
    return _chunk_f1("span_f1", golds, predictions, language)


# --- answers ----------------------------------------------------------------------------------------------------

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


def _answer_f1(gold: str, predicted: str) -> float:
    """Word overlap of two normalised texts, 0 to 1; two empty texts agree."""
    gold_words, predicted_words = gold.split(), predicted.split()
    if not gold_words or not predicted_words:
        return float(gold_words == predicted_words)
    common = sum((Counter(gold_words) & Counter(predicted_words)).values())
    return 2 * common / (len(gold_words) + len(predicted_words))


def _answers(golds: Sequence[Any], predictions: Sequence[Any], normalize: Callable[[str], str]) -> Scores:
    """Mean over questions of the best score over the alternatives; no alternative means that "" is right."""
    exact = overlap = 0.0
    for gold, predicted in zip(golds, predictions, strict=True):
        alternatives = [answer for answer in map(normalize, gold) if answer] or [""]
        guess = normalize(predicted)
        exact += max(float(answer == guess) for answer in alternatives)
        overlap += max(_answer_f1(answer, guess) for answer in alternatives)
    exact, overlap = 100.0 * exact / len(golds), 100.0 * overlap / len(golds)
    return {"f1": overlap, "exact_match": exact, "mean": (exact + overlap) / 2}


@metric(main="mean", kinds="span")
def squad(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """F1, exact match and their mean (XTREME's task score) with SQuAD's English normaliser in every language.

    XQuAD and TyDiQA are scored so. Unanswerable questions follow SQuAD 2.0: only the empty prediction is right.
    """
    return _answers(golds, predictions, normalize_squad)


@metric(main="mean", kinds="span")
def mlqa(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """F1, exact match and their mean with MLQA's normaliser of the language (en, es, hi, vi, de, ar, zh)."""
    return _answers(golds, predictions, lambda text: normalize_mlqa(text, language))


# --- rankings ---------------------------------------------------------------------------------------------------


def _matches(name: str, gold: Any) -> frozenset[str]:
    query, matches = gold
    if not matches:
        raise DataError(f"metric {name!r}: query {query!r} has no match; mining sets are scored by mining_f1")
    return frozenset(matches)


@metric(main="accuracy", kinds="retrieve")
def retrieval_accuracy(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """Share of queries whose first hit is one of their matches (Tatoeba)."""
    right = 0
    for gold, ranking in zip(golds, predictions, strict=True):
        matches = _matches("retrieval_accuracy", gold)
        right += bool(ranking) and ranking[0][0] in matches
    return {"accuracy": 100.0 * right / len(golds)}


@metric(main="mrr", kinds="retrieve")
def mrr(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """Mean reciprocal rank of the first match among the hits that were kept (`options.top_k`); 0 when none is."""
    total = 0.0
    for gold, ranking in zip(golds, predictions, strict=True):
        matches = _matches("mrr", gold)
        total += next((1 / rank for rank, hit in enumerate(ranking, 1) if hit[0] in matches), 0.0)
    return {"mrr": 100.0 * total / len(golds)}


@metric(main="map20", kinds="retrieve")
def map20(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """Mean average precision at 20 (LAReQA); keep 20 hits with `options.top_k`."""
    total = 0.0
    for gold, ranking in zip(golds, predictions, strict=True):
        matches = _matches("map20", gold)
        seen, precisions = 0, 0.0
        for rank, hit in enumerate(ranking[:20], 1):
            if hit[0] in matches:
                seen += 1
                precisions += seen / rank
        total += precisions / min(20, len(matches))
    return {"map20": 100.0 * total / len(golds)}


def best_threshold(scores: Sequence[float], correct: Sequence[bool], *, num_gold: int) -> tuple[float, float]:
    """Threshold that maximises F1 over scored candidate pairs, and that F1 in percent.

    Candidates are kept when their score is at least the threshold, which lies halfway between the last pair kept and
    the next one (XTREME's rule); when every pair is kept it is the lowest score. Pairs of equal score are kept or
    dropped together. Among equally good thresholds the highest wins; without candidates it is infinite.

    Args:
        scores: score of each candidate pair, in any order.
        correct: whether each pair is gold.
        num_gold: gold pairs there are to find.

    Raises:
        DataError: when there is no gold pair.

    >>> best_threshold([0.9, 0.8, 0.4], [True, True, False], num_gold=2)
    (0.6000000000000001, 100.0)
    """
    if num_gold < 1:
        raise DataError("no gold pair to choose a threshold on: F1 is undefined")
    ranked = sorted(zip(scores, correct, strict=True), key=lambda pair: -pair[0])
    best, threshold, num_correct = 0.0, float("inf"), 0
    for i, (score, right) in enumerate(ranked):
        num_correct += right
        following = ranked[i + 1][0] if i + 1 < len(ranked) else None
        if following == score:
            continue
        f1 = _f1(num_correct, i + 1, num_gold)["f1"]
        if f1 > best:
            best, threshold = f1, score if following is None else (score + following) / 2
    return threshold, best


def _pairs(golds: Sequence[Any], predictions: Sequence[Any]) -> tuple[list[float], list[bool], int]:
    """Scores and correctness of all predicted pairs, and the number of gold pairs; a pair counts once."""
    scores, correct, num_gold = [], [], 0
    for (_, matches), ranking in zip(golds, predictions, strict=True):
        num_gold += len(set(matches))
        for corpus_id, score in {hit[0]: hit[1] for hit in reversed(ranking)}.items():
            scores.append(score)
            correct.append(corpus_id in matches)
    return scores, correct, num_gold


def held_out(query: str) -> bool:
    """Whether a query belongs to the half that mining is scored on; decided by a hash of its id alone."""
    return hashlib.sha256(query.encode()).digest()[0] % 2 == 1


@metric(main="f1", kinds="retrieve")
def mining_f1(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """F1 over mined pairs: the threshold is chosen on one half of the queries and scored on the other.

    BUCC's public data here is one pair of files per language, without a separate development set, so the halves are
    made by a hash of the query's id (`held_out`). The figure covers half of the gold pairs.

    Raises:
        DataError: when one of the halves has no gold pair.
    """
    halves = []
    for side in (False, True):
        rows = [i for i, (query, _) in enumerate(golds) if held_out(query) is side]
        halves.append(_pairs([golds[i] for i in rows], [predictions[i] for i in rows]))
        if not halves[-1][2]:
            raise DataError(
                f"metric 'mining_f1' ({language}): one half of the {len(golds)} queries has no gold pair, so a "
                "threshold cannot be chosen and scored; give more rows, or use mining_oracle_f1 and call it an oracle"
            )
    (scores, correct, num_gold), (test_scores, test_correct, num_test_gold) = halves
    threshold, _ = best_threshold(scores, correct, num_gold=num_gold)
    kept = [right for score, right in zip(test_scores, test_correct, strict=True) if score >= threshold]
    return _f1(sum(kept), len(kept), num_test_gold)


@metric(main="oracle_f1", kinds="retrieve")
def mining_oracle_f1(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """F1 over mined pairs at the best threshold for these very rows: an upper bound, never a result."""
    scores, correct, num_gold = _pairs(golds, predictions)
    return {"oracle_f1": best_threshold(scores, correct, num_gold=num_gold)[1]}
