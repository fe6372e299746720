"""Rows of hidden states by address and name, in memory; in files: `files`.

Shapes: T tokens of a row, D hidden size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from .setting import PrefixCache

KEPT_RUNS = 2
"""Runs and evaluations, this one included, whose rows stay in memory: in a grid they take turns."""


@dataclass
class Use:
    """What a store was good for since `Store.begin`.

    Attributes:
        asked: rows that were asked for.
        found: rows of these that were there.
        refused: rows that found no room.
    """

    asked: int = 0
    found: int = 0
    refused: int = 0

    @property
    def share(self) -> float:
        """Part of the rows that was there."""
        return self.found / self.asked if self.asked else 0.0


class Store(ABC):
    """Keeps rows up to a number of bytes and refuses the rest.

    Attributes:
        num_bytes: the bound.
        held: bytes that are kept.
        use: what it was good for.
    """

    where = ""

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes, self.held, self.use = num_bytes, 0, Use()

    def begin(self) -> None:
        """Start a run or an evaluation: counting starts anew."""
        self.use = Use()

    @abstractmethod
    def get(self, address: str, names: Sequence[bytes]) -> list[Tensor | None]:
        """Rows (T,D) by name, None for each that is not there. They are the store's own: not to be written to."""

    @abstractmethod
    def put(self, address: str, rows: Mapping[bytes, Tensor]) -> None:
        """Keep rows (T,D) in main memory's tensors, as far as there is room."""

    def flush(self) -> None:  # noqa: B027 - memory has nothing to do
        """Write what is still to be written."""

    def text(self) -> str:
        """What a person reads of it.

        >>> store = Memory(1000)
        >>> store.use = Use(asked=8, found=6)
        >>> store.text()
        'prefix cache: 75 % of 8 rows, 0.0 MB in memory'
        """
        more = f", {self.use.refused:,} rows had no room" if self.use.refused else ""
        return (
            f"prefix cache: {self.use.share:.0%} of {self.use.asked:,} rows, {self.held / 1e6:,.1f} MB "
            f"{self.where}{more}"
        ).replace("%", " %")

    def _count(self, found: Sequence[Tensor | None]) -> None:
        self.use.asked += len(found)
        self.use.found += sum(row is not None for row in found)


class Memory(Store):
    """Rows in this process's memory.

    Once it is full nothing more is taken in: of rows that come round once an epoch, throwing out the oldest would throw
    out each before it is asked for again. Only what was not used for the last few runs and evaluations makes room.
    """

    where = "in memory"

    def __init__(self, num_bytes: int) -> None:
        super().__init__(num_bytes)
        self._rows: OrderedDict[tuple[str, bytes], tuple[Tensor, int]] = OrderedDict()  # least recently used first
        self._run = 0

    def begin(self) -> None:
        """See `Store.begin`; what is kept stays, and may now make room."""
        super().begin()
        self._run += 1

    def get(self, address: str, names: Sequence[bytes]) -> list[Tensor | None]:
        """See `Store.get`."""
        found: list[Tensor | None] = []
        for name in names:
            kept = self._rows.get((address, name))
            if kept is not None:
                self._rows[address, name] = kept[0], self._run
                self._rows.move_to_end((address, name))
            found.append(None if kept is None else kept[0])
        self._count(found)
        return found

    def put(self, address: str, rows: Mapping[bytes, Tensor]) -> None:
        """See `Store.put`."""
        for name, row in rows.items():
            if (address, name) in self._rows:
                continue
            size = row.numel() * row.element_size()
            self._make_room(size)
            if self.held + size > self.num_bytes:
                self.use.refused += 1
                continue
            self._rows[address, name] = row.clone(), self._run  # a slice would keep its whole batch alive
            self.held += size

    def _make_room(self, size: int) -> None:
        while self._rows and self.held + size > self.num_bytes:
            key, (row, run) = next(iter(self._rows.items()))
            if run > self._run - KEPT_RUNS:
                return
            del self._rows[key]
            self.held -= row.numel() * row.element_size()


_OPEN: dict[PrefixCache, Store] = {}


def open_store(setting: PrefixCache) -> Store:
    """The store of a setting, one per process: runs that follow each other find what those before them left.

    Raises:
        ConfigError: when its folder cannot be made.
    """
    if setting not in _OPEN:
        from .files import Files

        _OPEN[setting] = (
            Memory(setting.num_bytes) if setting.folder is None else Files(setting.folder, setting.num_bytes)
        )
    return _OPEN[setting]


def uses() -> str:
    """What a person reads of the stores in use."""
    return "; ".join(store.text() for store in _OPEN.values() if store.use.asked)


@contextmanager
def session(setting: PrefixCache) -> Iterator[None]:
    """A run or an evaluation that uses a setting's store, if any; at its end, even a sudden one, all is written."""
    if not setting.is_on:
        yield
        return
    store = open_store(setting)
    store.begin()
    try:
        yield
    finally:
        store.flush()
