"""Model = encoder + heads + the entries it stands on: the one place where methods, tasks and zoo meet.

Names are resolved on first use: `backbone_id` must stay cheap, because every key needs it and no key needs torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .backbone import (
    LoadedBackbone,
    backbone_id,
    backbones_dir,
    family_of,
    fingerprint,
    is_backbone,
    load_backbone,
    load_tokenizer,
)
from .lm_head import lm_head_digest

if TYPE_CHECKING:
    from .building import bare, build, open_entry
    from .core import Model, task_of_head
    from .device import resolve_device
    from .kept_merges import keep_merge, merge_run
    from .saving import check_probe, probe, save_entry

__all__ = [
    "LoadedBackbone",
    "Model",
    "backbone_id",
    "backbones_dir",
    "bare",
    "build",
    "check_probe",
    "family_of",
    "fingerprint",
    "is_backbone",
    "keep_merge",
    "lm_head_digest",
    "load_backbone",
    "load_tokenizer",
    "merge_run",
    "open_entry",
    "probe",
    "resolve_device",
    "save_entry",
    "task_of_head",
]

_LAZY = {
    "Model": "core",
    "bare": "building",
    "build": "building",
    "check_probe": "saving",
    "keep_merge": "kept_merges",
    "merge_run": "kept_merges",
    "open_entry": "building",
    "probe": "saving",
    "resolve_device": "device",
    "save_entry": "saving",
    "task_of_head": "core",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value
