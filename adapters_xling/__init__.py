"""Intermediate-task training for zero-shot cross-lingual transfer: full fine-tuning, adapters and LoRA side by side.

The verbs below are loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0.dev0"
_VERBS = (
    "Settings",
    "build_submission",
    "check_submission",
    "evaluate",
    "evaluate_all",
    "open_zoo",
    "plan",
    "predict",
    "pull",
    "push",
    "run",
    "score_submission",
    "submission_labels",
    "task",
    "train",
)
__all__ = [
    "Settings",
    "__version__",
    "build_submission",
    "check_submission",
    "evaluate",
    "evaluate_all",
    "open_zoo",
    "plan",
    "predict",
    "pull",
    "push",
    "run",
    "score_submission",
    "submission_labels",
    "task",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        from adapters_xling import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
