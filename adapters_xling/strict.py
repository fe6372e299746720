"""Typed data that is read strictly: its base class, YAML and JSON whose keys are unique, plain data turned into it."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import msgspec
import yaml

from .errors import ConfigError, unknown

Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,95}")
NAME_IN_WORDS = "a name is of lower-case letters, digits, dots, dashes and underscores, with a letter or digit first"
Name = Annotated[str, msgspec.Meta(pattern=f"^{NAME.pattern}$")]


class Frozen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all spec data: immutable, compared by value, strict about fields."""


S = TypeVar("S")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_UNKNOWN_FIELD = re.compile(r"unknown field `([^`]+)`(?: - at `\$?([^`]*)`)?")


class _UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml: ten times as fast
    """YAML in which a key given twice is an error instead of a silent override."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(child, deep=True) for child, _ in node.value]
    twice = next((k for i, k in enumerate(keys) if k in keys[:i]), None)
    if twice is not None:
        raise yaml.constructor.ConstructorError(None, None, f"key {twice!r} is given twice", node.start_mark)
    return {k: loader.construct_object(child, deep=True) for k, (_, child) in zip(keys, node.value, strict=True)}


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
# Language codes: `no` must not turn into False.
_UniqueKeys.yaml_implicit_resolvers = {
    first: [(tag, exp) for tag, exp in rules if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# `1e-4` is a number, as in YAML 1.2; version 1.1 wants a point before the e and a sign after it.
_EXPONENT = re.compile(r"^[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")


class _Dumper(yaml.SafeDumper):
    """YAML that `read_yaml` reads back: a text like `1e5` has quotation marks."""


for _class in (_UniqueKeys, _Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


def read_yaml(path: Path) -> Any:
    """Read one YAML file of plain data.

    Raises:
        ConfigError: with file, line and reason when it cannot be parsed or decoded.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigError(f"{place}: not valid YAML: {getattr(err, 'problem', None) or err}") from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path}: not UTF-8 (byte {err.start}): save the file as UTF-8") from err
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read: {err.strerror or err}") from err


def dump_yaml(body: Any, **style: Any) -> str:
    """Plain data as YAML that `read_yaml` reads back; `style` is PyYAML's."""
    return str(yaml.dump(body, Dumper=_Dumper, allow_unicode=True, **style))


def parse_json(raw: bytes) -> Any:
    """Read JSON whose keys are unique and whose numbers are finite.

    Raises:
        ValueError: for anything else, bytes that are not UTF-8 and nesting beyond reason included.

    >>> parse_json(b'{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ...
    ValueError: key 'a' is given twice
    """
    try:
        return json.loads(raw.decode(), object_pairs_hook=unique_keys, parse_constant=_no_constant)
    except UnicodeDecodeError as err:
        raise ValueError(f"not UTF-8 (byte {err.start})") from err
    except RecursionError as err:
        raise ValueError("nested too deeply") from err


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object of its pairs, for `json.loads`; ValueError for a key that is given twice: `json` takes the last."""
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise ValueError(f"key {name!r} is given twice")
        result[name] = value
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def control_character(value: Any) -> str | None:
    """The first text inside plain data that holds a control character beside tab and line end; None without any.

    A terminal obeys such characters: printed, they can hide or forge what else stands there.

    >>> control_character({"notes": ["plain", "\\x1b[2K forged"]})
    '\\x1b[2K forged'
    """
    if isinstance(value, str):
        return value if _CONTROL.search(value) else None
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple)):
        return next((found for one in value if (found := control_character(one)) is not None), None)
    return None


_conversion = threading.RLock()


def convert(data: Any, cls: type[S]) -> S:
    """`msgspec.convert` by one thread at a time: while it works out a class that it meets first, another thread would
    read what is half done, and crash (msgspec 0.22)."""
    with _conversion:
        return msgspec.convert(data, cls)


def decode(cls: type[S], data: Any, where: str) -> S:
    """Turn plain data into spec data, strictly.

    Args:
        cls: the class wanted.
        data: what YAML or JSON gave.
        where: file (and place in it) for the error message.

    Raises:
        ConfigError: naming file and field, with the closest valid field.
    """
    try:
        return convert(data, cls)
    except msgspec.ValidationError as err:
        found = _UNKNOWN_FIELD.search(str(err))
        if found:
            name, path = found.group(1), (found.group(2) or "").strip(".")
            place = f"{where}: {path + '.' if path else ''}{name}"
            raise ConfigError(f"{place} is not a field. {unknown('field', name, _fields_anywhere(cls))}") from err
        plain = str(err).replace(f"Expected `str` matching regex '^{NAME.pattern}$'", NAME_IN_WORDS)
        text = re.sub(r" - at `\$\.?([^`]*)`", r" (field `\1`)", plain)
        raise ConfigError(f"{where}: {text}") from err


def _fields_anywhere(cls: Any, seen: frozenset[Any] = frozenset()) -> set[str]:
    """Field names of a spec class and of every spec class inside it."""
    if cls in seen:
        return set()
    if isinstance(cls, type) and issubclass(cls, msgspec.Struct):
        names: set[str] = set()
        for field in msgspec.structs.fields(cls):
            names |= {field.name} | _fields_anywhere(field.type, seen | {cls})
        return names
    return set().union(*(_fields_anywhere(arg, seen) for arg in get_args(cls))) if get_args(cls) else set()
