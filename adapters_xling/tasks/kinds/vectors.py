"""Sentence vectors: in memory, or in a file that a killed run continues and a search reads in blocks.

Shapes: N vectors, D vector size.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from adapters_xling.errors import DataError, Held, XlingError, unknown
from adapters_xling.paths import atomic_write, hold

FORMAT = 1
"""Layout of the files; raise when it changes."""
DTYPES = {"float32": "<f4", "float16": "<f2"}


class Vectors(Protocol):
    """What is searched: N vectors that are read a block at a time."""

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        ...

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows from `start` to before `stop`, float32."""
        ...

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The rows with these indices, in this order, float32."""
        ...


class InMemory:
    """Vectors of an array."""

    def __init__(self, array_ND: np.ndarray) -> None:
        self.array_ND = np.asarray(array_ND, dtype=np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        num, width = self.array_ND.shape
        return num, width

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows from `start` to before `stop`."""
        return self.array_ND[start:stop]

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The rows with these indices."""
        return self.array_ND[rows]


class Subset:
    """Some rows of other vectors, by ascending index."""

    def __init__(self, whole: Vectors, rows: np.ndarray) -> None:
        self.whole, self.rows = whole, np.asarray(rows, dtype=np.int64)
        assert (np.diff(self.rows) > 0).all(), "rows of a subset ascend"

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return len(self.rows), self.whole.shape[1]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows from `start` to before `stop`; what lies between them in the whole is read along."""
        wanted = self.rows[start:stop]
        if not len(wanted):
            return self.whole.read(0, 0)
        first, end = int(wanted[0]), int(wanted[-1]) + 1
        block = self.whole.read(first, end)
        return block if end - first == len(wanted) else block[wanted - first]

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The rows with these indices."""
        return self.whole.take(self.rows[rows])


def as_vectors(vectors: Vectors | np.ndarray) -> Vectors:
    """An array as something to search; what already is comes back as it is."""
    return InMemory(vectors) if isinstance(vectors, np.ndarray) else vectors


def unit(vectors_ND: np.ndarray) -> np.ndarray:
    """Scale rows to length 1 in float32; a zero vector stays zero."""
    vectors_ND = np.asarray(vectors_ND, dtype=np.float32)
    return vectors_ND / np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12)


class _Header(msgspec.Struct):
    identity: str
    rows: int
    width: int
    dtype: str
    format: int = FORMAT


class VectorFile:
    """(N,D) unit vectors in one raw file, appended block by block; never wholly in memory.

    Three files: `<name>.f32` or `.f16` with the numbers, row by row, little-endian; `<name>.json` with shape and
    identity; `<name>.journal` with one line (first row, end, CRC-32) per block that reached the disk. Opening an
    unfinished file keeps every whole block whose check sum is right, and drops what comes after.
    """

    def __init__(self, path: Path, header: _Header, blocks: list[tuple[int, int, int]]) -> None:
        self.path, self._header, self._blocks = path, header, blocks
        self._dtype = np.dtype(DTYPES[header.dtype])
        self._row_bytes = header.width * self._dtype.itemsize
        self._journal = path.with_suffix(".journal")
        self._file = path.open("r+b", buffering=0)

    @classmethod
    def open(cls, stem: Path, *, rows: int, width: int, identity: str, dtype: str = "float32") -> VectorFile:
        """Open a file to fill or to search, continuing what an earlier run left of the same content.

        Args:
            stem: path of the files without suffix; the folder is made.
            rows: vectors there will be.
            width: size of each.
            identity: digest of everything that determines the vectors; a file of another identity is begun again.
            dtype: "float32", or "float16" for half the space and cosines that differ by about 1e-4.

        Raises:
            UnknownName: for another dtype.
        """
        if dtype not in DTYPES:
            raise unknown("type of vectors", dtype, DTYPES)
        header = _Header(identity=identity, rows=rows, width=width, dtype=dtype)
        path = stem.with_suffix(".f32" if dtype == "float32" else ".f16")
        facts, journal = path.with_suffix(".json"), path.with_suffix(".journal")
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks: list[tuple[int, int, int]] = []
        row_bytes = width * np.dtype(DTYPES[dtype]).itemsize
        if facts.is_file() and facts.read_bytes() == msgspec.json.encode(header) and path.is_file():
            blocks = list(_intact(path, journal, row_bytes=row_bytes, rows=rows))
        else:
            journal.unlink(missing_ok=True)
            path.write_bytes(b"")
            atomic_write(facts, msgspec.json.encode(header))
        file = cls(path, header, blocks)
        file._cut(blocks)
        return file

    # --- filling --------------------------------------------------------------------------------------------------

    @property
    def num_done(self) -> int:
        """Rows that are there."""
        return self._blocks[-1][1] if self._blocks else 0

    @property
    def num_bytes_missing(self) -> int:
        """Space that the rows still to come will take."""
        return (self._header.rows - self.num_done) * self._row_bytes

    def append(self, vectors_ND: np.ndarray) -> None:
        """Scale the next rows to length 1 and write them; when this returns they have reached the disk.

        Raises:
            DataError: for vectors with a number that is not finite.
            XlingError: when they cannot be written.
        """
        bad = ~np.isfinite(vectors_ND).all(axis=1)
        if bad.any():
            raise DataError(
                f"vector {self.num_done + int(bad.argmax())} is not finite: the model gave NaN or infinity for this "
                "sentence. Run it in fp32, or look for damaged weights (xling zoo verify)"
            )
        raw = unit(vectors_ND).astype(self._dtype).tobytes()
        start = self.num_done
        end = start + len(vectors_ND)
        assert end <= self._header.rows and vectors_ND.shape[1] == self._header.width, (end, vectors_ND.shape)
        try:
            self._file.seek(start * self._row_bytes)
            _write(self._file, raw)
            os.fsync(self._file.fileno())
            crc = zlib.crc32(raw)
            with self._journal.open("a", encoding="ascii") as journal:
                journal.write(_line(start, end, crc))
                journal.flush()
                os.fsync(journal.fileno())
        except OSError as err:
            raise XlingError(
                f"{self.path}: cannot be written ({err.strerror or err}); make room and repeat, the {start:,} vectors "
                "before are kept"
            ) from err
        self._blocks.append((start, end, crc))

    def keep(self, rows: int) -> None:
        """Drop every block that reaches beyond the first `rows` rows."""
        blocks = [block for block in self._blocks if block[1] <= rows]
        if len(blocks) < len(self._blocks):
            self._cut(blocks)

    def _cut(self, blocks: Sequence[tuple[int, int, int]]) -> None:
        """Make data and journal hold these blocks and nothing else."""
        self._blocks = list(blocks)
        atomic_write(self._journal, "".join(_line(*block) for block in blocks))
        self._file.truncate(self.num_done * self._row_bytes)

    # --- reading --------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """(rows that are there, D)."""
        return self.num_done, self._header.width

    @property
    def shape_wanted(self) -> tuple[int, int]:
        """(rows there will be, D)."""
        return self._header.rows, self._header.width

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows from `start` to before `stop`, float32; read, not mapped, so that memory holds this block alone."""
        stop = min(stop, self.num_done)
        out = np.empty((max(0, stop - start), self._header.width), dtype=self._dtype)
        self._fill(out, start)
        return out.astype(np.float32, copy=False)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The rows with these indices, float32; each is read once however often it is wanted."""
        wanted, places = np.unique(rows, return_inverse=True)
        out = np.empty((len(wanted), self._header.width), dtype=self._dtype)
        # neighbours are read together: a file read costs as much as many rows
        breaks = (np.flatnonzero(np.diff(wanted) != 1) + 1).tolist()
        for first, last in itertools.pairwise([0, *breaks, len(wanted)]):
            self._fill(out[first:last], int(wanted[first]) if last else 0)
        return out.astype(np.float32, copy=False)[places.reshape(-1)]

    def _fill(self, out: np.ndarray, row: int) -> None:
        if not out.size:
            return
        view, at = out.data.cast("B"), row * self._row_bytes
        while len(view):
            got = os.preadv(self._file.fileno(), [view], at)
            if not got:
                raise XlingError(f"{self.path}: ends at byte {at}; it was cut while it was read. Repeat the command")
            view, at = view[got:], at + got

    def close(self) -> None:
        """Give the file back; it stays on disk."""
        self._file.close()


def require_room(files: Sequence[VectorFile]) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        XlingError: with bytes needed and free, and what to do.
    """
    needed, folder = sum(file.num_bytes_missing for file in files), files[0].path.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        rows, width = files[0].shape_wanted
        raise XlingError(
            f"{folder}: {len(files)} × {rows:,} vectors of {width} numbers need {needed:,} more bytes, {free:,} are "
            "free; make room, name another folder of runs (--runs, XLING_RUNS), or keep them in half the space "
            "(--vectors float16)"
        )


@contextlib.contextmanager
def working(folder: Path, *, wait: bool = False) -> Iterator[Path]:
    """Hold a folder of vector files for this process alone; the hold ends with the process, however it ends.

    Args:
        folder: made when absent.
        wait: until whoever holds it is done.

    Raises:
        Held: when another process holds it, and `wait` is false.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold(folder / "lock", wait=wait))
        except Held as err:
            raise Held(
                f"{folder}: another process is at work on the same vectors; wait until it is done, or name another "
                "folder of runs (--runs, XLING_RUNS)"
            ) from err
        yield folder


def _line(start: int, end: int, crc: int) -> str:
    return f"{start} {end} {crc:08x}\n"


def _intact(path: Path, journal: Path, *, row_bytes: int, rows: int) -> Iterator[tuple[int, int, int]]:
    """Blocks of a file, from the first on, as long as each follows the one before and has its check sum."""
    try:
        lines = journal.read_text(encoding="ascii").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError):
        return
    done = 0
    with path.open("rb") as file:
        for line in lines:
            cells = line.split()
            try:
                start, end, crc = int(cells[0]), int(cells[1]), int(cells[2], 16)
            except (ValueError, IndexError):
                return
            if not line.endswith("\n") or start != done or not start < end <= rows:
                return
            raw = file.read((end - start) * row_bytes)
            if len(raw) != (end - start) * row_bytes or zlib.crc32(raw) != crc:
                return
            yield start, end, crc
            done = end


def _write(file: Any, raw: bytes) -> None:
    """Write all of it; an unbuffered file may take less at a time."""
    view = memoryview(raw)
    while view:
        view = view[file.write(view) :]
