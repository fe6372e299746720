"""Readers by name, one per file format: files in, raw rows out. What a row means is the converters' business.

A reader registers itself with `@reader(name, …)`; it gets files and options and yields `Raw` rows in file order.
Every reader decodes UTF-8 strictly and splits lines at line feeds only: texts in these data sets contain U+2028,
U+0085 and quotes, on which `str.splitlines` and csv dialects silently break rows apart or glue them together.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from adapters_xling.errors import DataError, unknown
from adapters_xling.tasks.rows import OPTIONS, Raw

_MODULES = ("table", "linked", "conll", "ccgbank", "squad", "answers", "bitext", "mentions", "plain")


class Read(Protocol):
    """Signature of a reader."""

    def __call__(self, files: Sequence[Path], *, options: Mapping[str, Any], language: str) -> Iterator[Raw]:
        """Yield the raw rows of `files`; `language` is the code of the language they are read for."""


class Reader(NamedTuple):
    """A registered reader: its function and the options it knows beside the converters'."""

    read: Read
    options: frozenset[str]


_READERS: dict[str, Reader] = {}


def reader(name: str, *, options: Sequence[str] = ()) -> Callable[[Read], Read]:
    """Register a function as the reader of a file format."""

    def register(function: Read) -> Read:
        _READERS[name] = Reader(function, frozenset(options) | OPTIONS)
        return function

    return register


def _load() -> dict[str, Reader]:
    for module in _MODULES:
        importlib.import_module(f"{__name__}.{module}")
    return _READERS


def names() -> tuple[str, ...]:
    """Every reader."""
    return tuple(sorted(_load()))


def get(name: str, *, where: str = "") -> Reader:
    """The reader of a name.

    Raises:
        UnknownName: with the closest names.
    """
    known = _load()
    if name not in known:
        raise unknown("reader", name, known, where or "adapters_xling/tasks/readers/")
    return known[name]


def check(name: str, options: Mapping[str, Any], *, where: str) -> None:
    """Refuse a reader, or an option of it, that does not exist.

    Raises:
        UnknownName: naming file, reader and the closest valid name.
    """
    known = get(name, where=where).options
    for option in options:
        if option not in known:
            raise unknown(f"option of reader {name!r}", option, known, where)


def lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield (1-based line number, line without its line end) of a UTF-8 file; a byte order mark is left out.

    Raises:
        DataError: naming file and line where the bytes are not UTF-8, the file where it is another thing than text or
            cannot be read.
    """
    try:
        with file.open("rb") as handle:
            for number, line in enumerate(handle, start=1):
                if number == 1:
                    _refuse_other(file, line)
                yield number, _decoded(file, number, line).removesuffix("\n").removesuffix("\r")
    except OSError as err:
        raise DataError(f"{file}: cannot be read: {err.strerror or err}") from err


def _decoded(file: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as err:
        raise DataError(
            f"{file}: line {number} is not UTF-8 (byte {err.start} of the line is 0x{line[err.start]:02x}). "
            "Convert the file: iconv -f <its encoding> -t utf-8"
        ) from err


_OTHERS = {
    b"\x1f\x8b": "is packed with gzip; unpack it: gunzip",
    b"PK\x03\x04": "is a zip archive; unpack it: unzip",
    b"BZh": "is packed with bzip2; unpack it: bunzip2",
    b"\xfd7zXZ": "is packed with xz; unpack it: unxz",
    b"version https://git-lfs": "is Git LFS's note of a file, not the file; fetch it: git lfs pull",
    b"\xff\xfe": "is UTF-16; convert it: iconv -f utf-16 -t utf-8",
    b"\xfe\xff": "is UTF-16; convert it: iconv -f utf-16 -t utf-8",
}
"""First bytes of what people put in the place of a text file -> what it is and what to do."""


def _refuse_other(file: Path, line: bytes) -> None:
    for first, what in _OTHERS.items():
        if line.startswith(first):
            raise DataError(f"{file} {what}")


def text(file: Path) -> str:
    """The whole of a UTF-8 file.

    Raises:
        DataError: naming file and line where the bytes are not UTF-8.
    """
    return "\n".join(line for _, line in lines(file))
