"""The forms of task by name. Importing this package loads no deep-learning library."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING

from adapters_xling.errors import unknown

if TYPE_CHECKING:
    from .base import Kind

_KINDS = {
    "sentence": "sentence:Sentence",
    "choice": "choice:Choice",
    "tag": "tag:Tag",
    "span": "span:Span",
    "retrieve": "retrieve:Retrieve",
    "mlm": "mlm:MaskedText",
}

__all__ = ["get", "module", "names"]


def names() -> tuple[str, ...]:
    """Every form of task.

    >>> "span" in names()
    True
    """
    return tuple(_KINDS)


def module(name: str) -> str:
    """Name of the module of a kind, which is not imported.

    Raises:
        UnknownName: with the closest names.

    >>> module("span")
    'span'
    """
    if name not in _KINDS:
        raise unknown("kind", name, _KINDS, "adapters_xling/tasks/kinds/")
    return _KINDS[name].partition(":")[0]


@functools.cache
def get(name: str) -> Kind:
    """The kind behind a name, one instance per process; its module is imported on first use.

    Raises:
        UnknownName: with the closest names.
    """
    found = importlib.import_module(f"{__name__}.{module(name)}")
    return getattr(found, _KINDS[name].partition(":")[2])()
