"""Tasks: their YAML files, their rows, and the kinds that give them form. Importing this loads no torch.

The verbs: `names`, `get`, `all_specs`, `train_task` (task files); `with_labels`, `load`, `load_all`, `ref` (rows);
`features` (token ids).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cache import features
    from .catalog import all_specs, check_languages, get, head_of, names, train_task
    from .data import Rows, load, load_all, ref, splits_at_hand
    from .labels import with_labels
    from .private import draft

_VERBS = {
    "names": "catalog",
    "get": "catalog",
    "head_of": "catalog",
    "all_specs": "catalog",
    "train_task": "catalog",
    "check_languages": "catalog",
    "Rows": "data",
    "load": "data",
    "load_all": "data",
    "ref": "data",
    "splits_at_hand": "data",
    "features": "cache",
    "draft": "private",
    "with_labels": "labels",
}

__all__ = [
    "Rows",
    "all_specs",
    "check_languages",
    "draft",
    "features",
    "get",
    "head_of",
    "load",
    "load_all",
    "names",
    "ref",
    "splits_at_hand",
    "train_task",
    "with_labels",
]


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return getattr(importlib.import_module(f"{__name__}.{_VERBS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
