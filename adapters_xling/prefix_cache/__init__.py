"""Hidden states of frozen layers, kept for rows that are read again: in memory, or on disk for other processes too.

What is kept is found by its content: an address says everything that determines the hidden states of any row (weights,
layer, precision, …), a name everything about one row. So nothing kept is ever wrong, only absent. `model.prefix` makes
both; here rows are only kept and found. Reading a setting loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .setting import IN_MEMORY, OFF, PrefixCache

if TYPE_CHECKING:
    from .store import Store, Use, open_store, session, uses

__all__ = ["IN_MEMORY", "OFF", "PrefixCache", "Store", "Use", "open_store", "session", "uses"]


def __getattr__(name: str) -> Any:
    if name not in ("Store", "Use", "open_store", "session", "uses"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import store

    return getattr(store, name)
