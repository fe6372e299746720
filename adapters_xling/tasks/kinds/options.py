"""Settings of every kind (`TaskSpec.options`) with their defaults.

They stand apart from the kinds because a run is hashed with them, and hashing a run imports no torch.
"""

from __future__ import annotations

from typing import Any

from adapters_xling.spec import TaskSpec

DEFAULTS: dict[str, dict[str, Any]] = {
    "sentence": {},
    "choice": {"truncate": "start"},
    "tag": {},
    "span": {
        "doc_stride": 128,
        "max_query_length": 64,
        "n_best_size": 20,
        "max_answer_length": 30,
        "null_threshold": 0.0,
        "impossible": False,
    },
    "retrieve": {"mode": "nearest", "top_k": 1, "neighbours": 4, "layer": -1, "pooling": ""},
    "mlm": {"mask_rate": 0.15, "masked": 0.8, "replaced": 0.1},
}

COMPANIONS = frozenset({"mlm"})
"""Kinds whose tasks are there to help others: beside another task they neither select its weights nor its recipe."""

FROM_LM_HEAD = frozenset({"mlm"})
"""Kinds whose fresh head takes the backbone's pretrained masked-LM head."""

POOLED = frozenset({"sentence", "choice", "retrieve"})
"""Kinds that read one pooled vector per row (through the shared pooler), and not all tokens."""

LATER: dict[tuple[str, str], Any] = {("retrieve", "layer"): -1, ("retrieve", "pooling"): ""}
"""(kind, option) -> value that reproduces the behaviour before the option existed; left out of what is hashed at that
value, as `spec.LATER_FIELDS` is. Entries are never removed."""


def resolved(task: TaskSpec) -> dict[str, Any]:
    """Every option of a task's kind, the task's own values over the defaults, as a run is hashed with them."""
    full = {**DEFAULTS[task.kind], **task.options}
    return {
        name: value for name, value in full.items() if (task.kind, name) not in LATER or value != LATER[task.kind, name]
    }
