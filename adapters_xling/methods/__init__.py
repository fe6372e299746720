"""Training families by name. Importing this package loads no deep-learning library."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from adapters_xling.errors import ConfigError, unknown
from adapters_xling.spec import MethodSpec
from adapters_xling.strict import convert

from .base import Method, Trainable

_METHODS = {
    "full": "full:Full",
    "head": "head:Head",
    "bottleneck": "bottleneck:Bottleneck",
    "lora": "lora:Lora",
}

__all__ = ["Method", "Trainable", "method_class", "method_names", "require", "resolve"]


def method_names() -> tuple[str, ...]:
    """Every training family."""
    return tuple(_METHODS)


def require(name: str) -> None:
    """Refuse a name that is no method's; loads nothing.

    Raises:
        UnknownName: with the closest names.
    """
    if name not in _METHODS:
        raise unknown("method", name, _METHODS, "adapters_xling/methods/")


def method_class(name: str) -> type[Method]:
    """The class behind a method's name.

    Raises:
        UnknownName: with the closest names.
    """
    require(name)
    module, _, attribute = _METHODS[name].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)


def resolve(spec: MethodSpec | str, settings: Mapping[str, Any] | None = None) -> Method:
    """Build a method from its name and settings, strictly.

    Args:
        spec: a method's name, or name and settings as data.
        settings: differences from the defaults.

    Raises:
        UnknownName: for a method or a setting that does not exist.
        ConfigError: for a value of the wrong type.
    """
    import dataclasses

    import msgspec

    name = spec if isinstance(spec, str) else spec.name
    values = {**({} if isinstance(spec, str) else spec.settings), **(settings or {})}
    cls = method_class(name)
    known = {field.name for field in dataclasses.fields(cls)}
    for given in values:
        if given not in known:
            raise unknown(f"setting of method {name!r}", given, known)
    try:
        return convert(values, cls)
    except msgspec.ValidationError as err:
        raise ConfigError(f"method {name!r}: {err}") from err
