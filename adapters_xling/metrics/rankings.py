"""Scores of rankings: the first hit (Tatoeba), the first right hit (Mewsli-X), all right hits (LAReQA).

A gold is the query's id and the ids that match it; a prediction is the hits, best first, as (id, score).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from adapters_xling.errors import DataError

from .registry import Scores, Units, means, metric

TOP = 20
"""Hits that XTREME-R looks at."""


def _matches(name: str, gold: Any) -> frozenset[str]:
    query, matches = gold
    if not matches:
        raise DataError(f"metric {name!r}: query {query!r} has no match; mining sets are scored by mining_f1")
    return frozenset(matches)


def _right(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Units:
    right = []
    for gold, ranking in zip(golds, predictions, strict=True):
        matches = _matches("retrieval_accuracy", gold)
        right.append(int(bool(ranking) and ranking[0][0] in matches))
    return {"right": list(right)}


@metric(main="accuracy", kinds="retrieve", units=_right, combine=means(accuracy="right"))
def retrieval_accuracy(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """Share of queries whose first hit is one of their matches (Tatoeba)."""
    return {"accuracy": 100.0 * sum(_right(golds, predictions, language)["right"]) / len(golds)}


def _reciprocal_ranks(name: str, top: int | None) -> Callable[..., Units]:
    """Units of a metric: one over the rank of the first match among the first `top` hits, 0 without one."""

    def units(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Units:
        ranks = []
        for gold, ranking in zip(golds, predictions, strict=True):
            matches = _matches(name, gold)
            ranks.append(next((1 / rank for rank, hit in enumerate(ranking[:top], 1) if hit[0] in matches), 0.0))
        return {"reciprocal_rank": ranks}

    return units


_mrr, _mrr20 = _reciprocal_ranks("mrr", None), _reciprocal_ranks("mrr20", TOP)


@metric(main="mrr", kinds="retrieve", units=_mrr, combine=means(mrr="reciprocal_rank"))
def mrr(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """Mean reciprocal rank of the first match among the hits that were kept (`options.top_k`); 0 when none is."""
    return {"mrr": 100.0 * sum(_mrr(golds, predictions, language)["reciprocal_rank"]) / len(golds)}


@metric(main="mrr20", kinds="retrieve", units=_mrr20, combine=means(mrr20="reciprocal_rank"))
def mrr20(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """Mean reciprocal rank of the first match among the first 20 hits: what XTREME-R's code computes for Mewsli-X.

    Mewsli-X has one right entity per mention, for which this is mean average precision at 20, as the paper calls it.
    """
    return {"mrr20": 100.0 * sum(_mrr20(golds, predictions, language)["reciprocal_rank"]) / len(golds)}


def _average_precision(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Units:
    values = []
    for gold, ranking in zip(golds, predictions, strict=True):
        matches = _matches("map20", gold)
        found: set[str] = set()
        precisions = 0.0
        for rank, hit in enumerate(ranking[:TOP], 1):
            if hit[0] in matches and hit[0] not in found:
                found.add(hit[0])
                precisions += len(found) / rank
        values.append(precisions / min(TOP, len(matches)))
    return {"average_precision": values}


@metric(main="map20", kinds="retrieve", units=_average_precision, combine=means(map20="average_precision"))
def map20(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """Mean average precision at 20 (LAReQA), of all there is to find among 20; keep 20 hits with `options.top_k`.

    A hit that stands in a ranking twice is right at its first place only.
    """
    return {"map20": 100.0 * sum(_average_precision(golds, predictions, language)["average_precision"]) / len(golds)}
