"""Scores as pure functions of golds and predictions, each registered beside itself. Nothing here needs torch.

One module per family: `classes` (labels), `tags`, `answers`, `rankings`, `mining`; `registry` finds them by name. A
name may carry an argument after a colon: ``accuracy_f1:duplicate``.
"""

from __future__ import annotations

from .answers import mlqa, normalize_mlqa, normalize_squad, squad, squad2
from .classes import accuracy, accuracy_f1, masked_accuracy
from .mining import best_threshold, candidates, held_out, kept_f1, mining_f1, mining_oracle_f1, pair_f1
from .outcomes import Outcomes, decode_outcomes
from .rankings import map20, mrr, mrr20, retrieval_accuracy
from .registry import Metric, Scores, Units, argument, get, kinds, main, metric, names
from .tags import chunk_f1, chunks, span_f1, tag_accuracy, tag_f1

__all__ = [
    "Metric",
    "Outcomes",
    "Scores",
    "Units",
    "accuracy",
    "accuracy_f1",
    "argument",
    "best_threshold",
    "candidates",
    "chunk_f1",
    "chunks",
    "decode_outcomes",
    "get",
    "held_out",
    "kept_f1",
    "kinds",
    "main",
    "map20",
    "masked_accuracy",
    "metric",
    "mining_f1",
    "mining_oracle_f1",
    "mlqa",
    "mrr",
    "mrr20",
    "names",
    "normalize_mlqa",
    "normalize_squad",
    "pair_f1",
    "retrieval_accuracy",
    "span_f1",
    "squad",
    "squad2",
    "tag_accuracy",
    "tag_f1",
]
