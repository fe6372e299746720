"""Scores of rankings: the first hit (Tatoeba), the first right hit (Mewsli-X), all right hits (LAReQA).

A gold is the query's id and the ids that match it; a prediction is the hits, best first, as (id, score).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapters_xling.errors import DataError

from .registry import Scores, metric

TOP = 20
"""Hits that XTREME-R looks at."""


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


def _reciprocal_rank(golds: Sequence[Any], predictions: Sequence[Any], name: str, top: int | None) -> float:
    total = 0.0
    for gold, ranking in zip(golds, predictions, strict=True):
        matches = _matches(name, gold)
        total += next((1 / rank for rank, hit in enumerate(ranking[:top], 1) if hit[0] in matches), 0.0)
    return 100.0 * total / len(golds)


@metric(main="mrr", kinds="retrieve")
def mrr(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """Mean reciprocal rank of the first match among the hits that were kept (`options.top_k`); 0 when none is."""
    return {"mrr": _reciprocal_rank(golds, predictions, "mrr", None)}


@metric(main="mrr20", kinds="retrieve")
def mrr20(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """Mean reciprocal rank of the first match among the first 20 hits: what XTREME-R's code computes for Mewsli-X.

    Mewsli-X has one right entity per mention, for which this is mean average precision at 20, as the paper calls it.
    """
    return {"mrr20": _reciprocal_rank(golds, predictions, "mrr20", TOP)}


@metric(main="map20", kinds="retrieve")
def map20(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """Mean average precision at 20 (LAReQA), of all there is to find among 20; keep 20 hits with `options.top_k`.

    A hit that stands in a ranking twice is right at its first place only.
    """
    total = 0.0
    for gold, ranking in zip(golds, predictions, strict=True):
        matches = _matches("map20", gold)
        found: set[str] = set()
        precisions = 0.0
        for rank, hit in enumerate(ranking[:TOP], 1):
            if hit[0] in matches and hit[0] not in found:
                found.add(hit[0])
                precisions += len(found) / rank
        total += precisions / min(TOP, len(matches))
    return {"map20": 100.0 * total / len(golds)}
