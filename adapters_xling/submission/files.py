"""Files of a submission as text, lines and JSON, and what can be wrong with them.

A `Flaw` is something a benchmark's scorer would stumble over or silently count as wrong. `fatal` flaws leave nothing
to be scored; the others are scored as the benchmark scores them, and named.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from adapters_xling.errors import DataError


class Flaw(NamedTuple):
    """What is wrong, and in which line (counted from 1) where there is one."""

    text: str
    line: int | None = None
    fatal: bool = False

    @property
    def sentence(self) -> str:
        """Place and text in one."""
        return f"line {self.line}: {self.text}" if self.line else self.text


class Content(NamedTuple):
    """What a file says, and the flaws found in reading it; after a fatal flaw `rows` is empty."""

    rows: Any
    flaws: list[Flaw]


class BadFile(Exception):
    """A file that cannot be read; the flaw says why."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw.sentence)
        self.flaw = flaw


def read_text(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        BadFile: when it cannot be read, is not UTF-8, or begins with a byte order mark.
    """
    try:
        raw = path.read_bytes()
    except OSError as err:
        raise BadFile(Flaw(f"cannot be read: {err.strerror or err}", fatal=True)) from err
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as err:
        line = raw[: err.start].count(b"\n") + 1
        text = f"is not UTF-8 (byte 0x{raw[err.start]:02x}); convert it: iconv -f <its encoding> -t utf-8"
        raise BadFile(Flaw(text, line, fatal=True)) from err
    if text.startswith("\ufeff"):
        raise BadFile(Flaw("begins with a byte order mark; save it as UTF-8 without one", 1, fatal=True))
    return text


def read_lines(path: Path) -> list[str]:
    """The lines of a file, stripped as the benchmarks' scorers strip them; lines end at line feeds only.

    Raises:
        BadFile: as `read_text`.
    """
    text = read_text(path)
    return [line.strip() for line in text.removesuffix("\n").split("\n")] if text else []


def read_json(path: Path) -> tuple[Any, list[Flaw]]:
    """The JSON value of a file, and a flaw for every key that one object gives twice (the last one counts).

    Raises:
        BadFile: as `read_text`, and with line and column where the text is not JSON.
    """
    return parse_json(read_text(path))


def parse_json(text: str, line: int = 1) -> tuple[Any, list[Flaw]]:
    """As `read_json`, for a text that begins in a line of a file."""
    flaws: list[Flaw] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) < len(pairs):
            twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
            flaws.extend(Flaw(f"id {key!r} is given more than once; the last one counts") for key in twice)
        return found

    try:
        return json.loads(text, object_pairs_hook=unique), flaws
    except json.JSONDecodeError as err:
        place = line + err.lineno - 1
        raise BadFile(Flaw(f"is not JSON: {err.msg} at column {err.colno}", place, fatal=True)) from err
    except RecursionError as err:
        raise BadFile(Flaw("is not JSON that can be read: brackets are nested too deep", line, fatal=True)) from err


def count(number: int, noun: str) -> str:
    """A number of things, in the right form.

    >>> count(1, "line"), count(2, "line")
    ('1 line', '2 lines')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def folder(path: Path, what: str) -> Path:
    """A folder that is there.

    Raises:
        DataError: when it is not, or is a file.
    """
    if not path.exists():
        raise DataError(f"{what} folder {path} does not exist: correct the path")
    if not path.is_dir():
        raise DataError(f"{path} is a file; {what} is a folder with one folder per task")
    return path
