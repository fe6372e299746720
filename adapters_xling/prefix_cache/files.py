"""Rows of hidden states in files that any number of processes share.

`<folder>/<address>/<random>.rows` holds rows that one process wrote at once; the file gets its name when it is whole,
is never changed and may be deleted at any time. It is a mark, the length and check sum of a header, the header (JSON)
and the rows' bytes one after the other:

    {"format": 1, "address": "…", "dtype": "float32", "width": 768, "rows": [["<name>", tokens, crc32], …]}

Shapes: T tokens of a row, D hidden size.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import struct
import time
import uuid
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapters_xling.errors import ConfigError

from .store import Store

FORMAT = 1
FILE_BYTES = 32 * 2**20
"""Rows are held back until there are so many bytes of them: what a killed process loses."""
LOOK_S = 5.0
"""Seconds after which rows that are not there are looked for in other processes' new files."""
DEAD_S = 3600.0
"""Age of an unfinished file whose writer is taken to be dead."""

_START = struct.Struct("<8sII")
_MARK = b"xlprefix"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


class DamagedError(Exception):
    """A file whose bytes are not what was written."""


@dataclass(frozen=True)
class Place:
    """Where a row lies.

    Attributes:
        file: the file.
        start: its first byte.
        tokens: T.
        crc: check sum of its bytes.
    """

    file: RowFile
    start: int
    tokens: int
    crc: int


@dataclass(frozen=True, eq=False)
class RowFile:
    """A file of rows. It is opened for each row that is read: there are more files than a process may hold open.

    Attributes:
        path: where it lies.
        dtype: of the numbers.
        width: D.
        checked: first bytes of the rows whose check sums were right.
    """

    path: Path
    dtype: torch.dtype
    width: int
    checked: set[int] = field(default_factory=set)

    def row(self, place: Place) -> Tensor:
        """Read a row (T,D); the first time its check sum is compared.

        Raises:
            DamagedError: when they differ.
            OSError: when the file cannot be read.
        """
        size = place.tokens * self.width * self.dtype.itemsize
        raw = np.fromfile(self.path, np.uint8, count=size, offset=place.start)
        if len(raw) < size or place.start not in self.checked:
            if len(raw) < size or zlib.crc32(raw.data) != place.crc:
                raise DamagedError(f"the check sum of the row at byte {place.start} is wrong")
            self.checked.add(place.start)
        return torch.from_numpy(raw).view(self.dtype).view(place.tokens, self.width)


class Files(Store):
    """Rows in a folder. It never holds more than its bound, however many processes write.

    Args:
        folder: made when absent.
        num_bytes: bound of all files together.

    Raises:
        ConfigError: when the folder cannot be made.
    """

    where = "on disk"

    def __init__(self, folder: Path, num_bytes: int) -> None:
        super().__init__(num_bytes)
        self.folder = folder
        self._known: dict[str, dict[bytes, Place]] = {}
        self._seen: set[Path] = set()
        self._looked: dict[str, float] = {}
        self._waiting: dict[str, dict[bytes, Tensor]] = {}
        self._closed = False
        self._left_alone = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise ConfigError(
                f"prefix cache: folder {folder} cannot be made ({err.strerror or err}); name another "
                "(--prefix-cache disk:FOLDER), or give a size to keep it in memory (--prefix-cache 2GiB)"
            ) from err
        for part in folder.glob("*/*.part"):
            with contextlib.suppress(OSError):
                if time.time() - part.stat().st_mtime > DEAD_S:
                    part.unlink()
        self.held = self._size()

    def begin(self) -> None:
        """See `Store.begin`; other processes' new files are looked for, and whether there is room again."""
        super().begin()
        self._looked.clear()
        self._closed = self._left_alone = False

    def get(self, address: str, names: Sequence[bytes]) -> list[Tensor | None]:
        """See `Store.get`."""
        if address not in self._looked:
            self._look(address)
        found = [self._find(address, name) for name in names]
        if any(row is None for row in found) and self._is_time(address):
            self._look(address)
            found = [self._find(address, name) if row is None else row for name, row in zip(names, found, strict=True)]
        self._count(found)
        return found

    def put(self, address: str, rows: Mapping[bytes, Tensor]) -> None:
        """See `Store.put`; rows are written when there are enough for a file."""
        known, waiting = self._known.setdefault(address, {}), self._waiting.setdefault(address, {})
        new = {name: row for name, row in rows.items() if name not in known and name not in waiting}
        if self._closed:
            self.use.refused += len(new)
            return
        waiting.update((name, row.clone()) for name, row in new.items())
        if _bytes_of(waiting.values()) >= FILE_BYTES:
            self._write(address)

    def flush(self) -> None:
        """Write the rows that wait."""
        for address in list(self._waiting):
            self._write(address)

    # --- reading ------------------------------------------------------------------------------------------------

    def _find(self, address: str, name: bytes) -> Tensor | None:
        waiting = self._waiting.get(address, {}).get(name)
        place = self._known.get(address, {}).get(name)
        if waiting is not None or place is None:
            return waiting
        try:
            return place.file.row(place)
        except DamagedError as err:
            self._drop(address, place.file.path, err)
        except FileNotFoundError:
            self._forget(address, place.file.path)
        except OSError as err:
            self._leave(address, place.file.path, err)
        return None

    def _is_time(self, address: str) -> bool:
        return time.monotonic() - self._looked[address] > LOOK_S

    def _look(self, address: str) -> None:
        """Take in the files that are new."""
        self._looked[address] = time.monotonic()
        places = self._known.setdefault(address, {})
        there: list[Path] = []
        with contextlib.suppress(OSError):
            there = sorted((self.folder / address).glob("*.rows"))
        for path in there:
            if path in self._seen:
                continue
            self._seen.add(path)
            try:
                for name, place in _open(path, address).items():
                    places.setdefault(name, place)
            except FileNotFoundError:
                continue
            except DamagedError as err:
                self._drop(address, path, err)
            except OSError as err:
                self._leave(address, path, err)

    def _drop(self, address: str, path: Path, err: DamagedError) -> None:
        """Throw a damaged file away and forget its rows."""
        warnings.warn(f"{path}: damaged file of the prefix cache ({err}); its rows are computed again")
        self._forget(address, path)
        with contextlib.suppress(OSError):
            path.unlink()

    def _leave(self, address: str, path: Path, err: OSError) -> None:
        """Do without a file that cannot be read now, which says nothing of what is in it; others may be reading it."""
        if not self._left_alone:
            warnings.warn(
                f"{path}: file of the prefix cache that cannot be read ({err.strerror or err}); the rows of such files "
                "are computed each time"
            )
        self._left_alone = True
        self._forget(address, path)
        self._seen.discard(path)

    def _forget(self, address: str, path: Path) -> None:
        known = self._known.get(address, {})
        for name in [name for name, place in known.items() if place.file.path == path]:
            del known[name]

    # --- writing ------------------------------------------------------------------------------------------------

    def _size(self) -> int:
        """Bytes of all files, those that are being written included."""
        total = 0
        for path in itertools.chain(self.folder.glob("*/*.rows"), self.folder.glob("*/*.part")):
            with contextlib.suppress(OSError):
                total += path.stat().st_size
        return total

    def _write(self, address: str) -> None:
        """Write the rows of an address that wait, as far as there is room."""
        rows = self._waiting.pop(address, {})
        room = self.num_bytes - self._size()
        raw = _file(address, rows)
        while rows and len(raw) > room:
            # at least the rows whose bytes are too many, for the header shrinks with them
            excess, names = len(raw) - room, list(rows)
            while names and excess > 0:
                excess -= _bytes_of([rows.pop(names.pop())])
                self.use.refused += 1
            self._close(f"it is full ({self.num_bytes:,} bytes)")
            raw = _file(address, rows)
        if rows:
            path = self.folder / address / f"{uuid.uuid4().hex}.rows"
            try:
                self._publish(path, raw)
            except OSError as err:
                self.use.refused += len(rows)
                self._close(str(err))
        self.held = self._size()
        self._look(address)

    def _publish(self, path: Path, raw: bytes) -> None:
        """Write a file under another name, and give it its own where all files together are still within the bound."""
        part = path.with_suffix(".part")
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as handle:
                handle.write(raw)
                handle.flush()
                os.fsync(handle.fileno())
            if self._size() > self.num_bytes:  # others were writing too, and each counts the others
                raise OSError(f"it is full ({self.num_bytes:,} bytes)")
            part.replace(path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def _close(self, why: str) -> None:
        """Take nothing in any more, and say so once."""
        if not self._closed:
            warnings.warn(
                f"prefix cache {self.folder} takes nothing more: {why}. What it does not hold is computed each time; "
                "make room (any of its files may be deleted) or give it more (--prefix-cache 50GiB,disk:FOLDER)"
            )
        self._closed = True


def _bytes_of(rows: Any) -> int:
    return sum(row.numel() * row.element_size() for row in rows)


def _file(address: str, rows: Mapping[bytes, Tensor]) -> bytes:
    """The bytes of a file; empty without rows."""
    if not rows:
        return b""
    payload = [row.contiguous().view(torch.uint8).numpy().tobytes() for row in rows.values()]
    first = next(iter(rows.values()))
    header = {
        "format": FORMAT,
        "address": address,
        "dtype": str(first.dtype).removeprefix("torch."),
        "width": first.shape[1],
        "rows": [
            [name.hex(), len(row), zlib.crc32(raw)] for (name, row), raw in zip(rows.items(), payload, strict=True)
        ],
    }
    head = json.dumps(header, separators=(",", ":")).encode()
    return b"".join((_START.pack(_MARK, len(head), zlib.crc32(head)), head, *payload))


def _open(path: Path, address: str) -> dict[bytes, Place]:
    """Read where the rows of a file lie.

    Raises:
        DamagedError: when mark, header or length are not what was written.
        OSError: when it cannot be read.
    """
    with path.open("rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        start = handle.read(_START.size)
        if len(start) < _START.size:
            raise DamagedError("it is cut off")
        mark, length, crc = _START.unpack(start)
        head = handle.read(length if length <= size else 0)
    if mark != _MARK or zlib.crc32(head) != crc:
        raise DamagedError("its header is not what was written")
    header = json.loads(head)
    if header["format"] != FORMAT or header["address"] != address or header["dtype"] not in _DTYPES:
        raise DamagedError("it is of another form or belongs elsewhere")
    file = RowFile(path, _DTYPES[header["dtype"]], header["width"])
    places: dict[bytes, Place] = {}
    end = _START.size + length
    for name, tokens, check in header["rows"]:
        places[bytes.fromhex(name)] = Place(file, end, tokens, check)
        end += tokens * file.width * file.dtype.itemsize
    if end != size:
        raise DamagedError(f"it has {size:,} bytes where {end:,} were written")
    return places
