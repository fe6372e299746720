"""Scores of mined pairs (BUCC): the threshold, and F1 over the pairs it keeps."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from adapters_xling.errors import DataError

from .registry import Scores, Units, combined_f1, f1_scores, metric


def pair_f1(golds: AbstractSet[Any], predictions: AbstractSet[Any]) -> Scores:
    """Precision, recall and F1 of a set of pairs against the gold pairs (XTREME's score for BUCC).

    >>> pair_f1({("de-1", "en-7"), ("de-2", "en-3")}, {("de-1", "en-7")})["f1"]
    66.66666666666667
    """
    return f1_scores(len(golds & predictions), len(predictions), len(golds))


def _counts(golds: Sequence[Any], predictions: Sequence[Any], least: float) -> Units:
    """Pairs of each query whose score is at least `least`, those among them that are gold, and its gold pairs."""
    units: Units = {"correct": [], "predicted": [], "gold": []}
    for (_, matches), ranking in zip(golds, predictions, strict=True):
        gold, kept = set(matches), {name for name, score in _first_scores(ranking).items() if score >= least}
        units["correct"].append(len(kept & gold))
        units["predicted"].append(len(kept))
        units["gold"].append(len(gold))
    return units


def _first_scores(ranking: Sequence[Any]) -> dict[str, float]:
    """Score of each id at its first place in a ranking."""
    return {hit[0]: hit[1] for hit in reversed(ranking)}


def _all_pairs(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Units:
    return _counts(golds, predictions, -math.inf)


@metric(main="f1", kinds="retrieve", units=_all_pairs, combine=combined_f1)
def kept_f1(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """`pair_f1` of mined pairs as they stand, after a threshold that was chosen on other rows; a pair counts once.

    Raises:
        DataError: when there is no gold pair: F1 does not exist.
    """
    gold = {(query, match) for query, matches in golds for match in matches}
    found = {(query, hit[0]) for (query, _), hits in zip(golds, predictions, strict=True) for hit in hits}
    if not gold:
        raise DataError(f"metric 'kept_f1' ({language}): none of the {len(golds)} queries has a gold pair")
    return pair_f1(gold, found)


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
        f1 = f1_scores(num_correct, i + 1, num_gold)["f1"]
        if f1 > best:
            best, threshold = f1, score if following is None else (score + following) / 2
    return threshold, best


def candidates(golds: Sequence[Any], predictions: Sequence[Any]) -> tuple[list[float], list[bool], int]:
    """Scores and correctness of all predicted pairs, and the number of gold pairs; a pair counts once."""
    scores, correct, num_gold = [], [], 0
    for (_, matches), ranking in zip(golds, predictions, strict=True):
        num_gold += len(set(matches))
        for corpus_id, score in _first_scores(ranking).items():
            scores.append(score)
            correct.append(corpus_id in matches)
    return scores, correct, num_gold


def held_out(query: str) -> bool:
    """Whether a query belongs to the half that mining is scored on; decided by a hash of its id alone."""
    return hashlib.sha256(query.encode()).digest()[0] % 2 == 1


def _threshold(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> float:
    """Threshold of `mining_f1`, chosen on the half of the queries that is not scored."""
    by_half: dict[bool, tuple[list[float], list[bool], int]] = {}
    for side in (False, True):
        rows = [i for i, (query, _) in enumerate(golds) if held_out(query) is side]
        by_half[side] = candidates([golds[i] for i in rows], [predictions[i] for i in rows])
        if not by_half[side][2]:
            raise DataError(
                f"metric 'mining_f1' ({language}): one half of the {len(golds)} queries has no gold pair, so a "
                "threshold cannot be chosen and scored; give more rows, or use mining_oracle_f1 and call it an oracle"
            )
    scores, correct, num_gold = by_half[False]
    return best_threshold(scores, correct, num_gold=num_gold)[0]


def _held_out_pairs(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Units:
    """The pairs of the scored half at that threshold; queries of the other half add nothing."""
    counts = _counts(golds, predictions, _threshold(golds, predictions, language))
    scored = [held_out(query) for query, _ in golds]
    return {name: [v * s for v, s in zip(values, scored, strict=True)] for name, values in counts.items()}


@metric(main="f1", kinds="retrieve", units=_held_out_pairs, combine=combined_f1)
def mining_f1(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """F1 over mined pairs: the threshold is chosen on one half of the queries and scored on the other.

    BUCC's public data here is one pair of files per language, without a separate development set, so the halves are
    made by a hash of the query's id (`held_out`). The figure covers half of the gold pairs.

    Raises:
        DataError: when one of the halves has no gold pair.
    """
    units = _held_out_pairs(golds, predictions, language)
    correct, predicted, gold = (int(sum(units[name])) for name in ("correct", "predicted", "gold"))
    return f1_scores(correct, predicted, gold)


def _oracle_pairs(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Units:
    scores, correct, num_gold = candidates(golds, predictions)
    return _counts(golds, predictions, best_threshold(scores, correct, num_gold=num_gold)[0])


def _oracle(sums: Mapping[str, Any]) -> dict[str, Any]:
    return {"oracle_f1": combined_f1(sums)["f1"]}


@metric(main="oracle_f1", kinds="retrieve", units=_oracle_pairs, combine=_oracle)
def mining_oracle_f1(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """F1 over mined pairs at the best threshold for these very rows: an upper bound, never a result."""
    scores, correct, num_gold = candidates(golds, predictions)
    return {"oracle_f1": best_threshold(scores, correct, num_gold=num_gold)[1]}
