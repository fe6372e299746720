"""From scores to cells: seeds aggregated, languages averaged, deltas paired by seed, floors kept apart.

One rule everywhere: what was not scored is absent. It is never a zero, and an average that lacks a part carries the
number of parts it has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

FLOORS: dict[str, str] = {
    "majority": "most frequent training label",
    "head": "frozen backbone, only the head is trained",
    "vectors": "token vectors alone, no layers",
    "random": "randomly initialised encoder, all of it trained",
}
"""Methods that say what a score is worth, in the order they are listed."""

LEXICAL_FLOOR = "vectors"
LEXICAL_MARGIN = 5.0
"""A task whose best method is within this many points of the lexical floor is labelled lexical."""

REFERENCE = "full"
"""Method that every other one is reported against: the largest gain that the same rows and steps can give."""
ZERO = "head"
"""Floor that gains are counted from: the same head on the frozen encoder."""
HELPS, HARMS = "*", "▼"
"""Marks of a Δ that the comparison against no intermediate task finds, after correction for how many there are."""

NO_INTERMEDIATE = "none"
RANDOM = "random"
"""Floor that the scores of a backbone belong to whose weights were only drawn, whatever method trained it."""
BASE = "base"
"""Method of scores of a bare backbone."""
UNTRAINED = (BASE, "majority")
"""Methods whose scores stand on no entry that anybody trained."""


class Target(NamedTuple):
    """A column group: numbers in it are comparable with each other."""

    task: str
    metric: str
    split: str


class System(NamedTuple):
    """A row: everything about a run that is not the target or the seed. `settings` is canonical JSON."""

    backbone: str
    method: str
    settings: str
    intermediate: str
    init: str
    route: str

    @property
    def is_floor(self) -> bool:
        """Whether the row is a floor and not a contender."""
        return self.method in FLOORS

    @property
    def has_intermediate(self) -> bool:
        """Whether an intermediate task came before the target."""
        return self.intermediate != NO_INTERMEDIATE

    @property
    def is_compared(self) -> bool:
        """Whether a Δ is due; where it is not, the place is blank instead of marked as missing."""
        return self.has_intermediate and not self.is_floor


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _sd(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    centre = _mean(values)
    return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (len(values) - 1))


@dataclass(frozen=True)
class Cell:
    """One target, language and row: a value per seed, in points of percent.

    Attributes:
        by_seed: seed -> value; never empty.
        zero_shot: the language was not trained on.
        converged: False when any seed's run, or one that it started from or stands on, did not converge.
        key_by_seed: seed -> key of the entry that was scored; empty for a difference.
    """

    by_seed: Mapping[int, float]
    zero_shot: bool
    converged: bool = True
    key_by_seed: Mapping[int, str] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return _mean(list(self.by_seed.values()))

    @property
    def sd(self) -> float | None:
        """Standard deviation over seeds (n − 1); None for one seed."""
        return _sd(list(self.by_seed.values()))


@dataclass(frozen=True)
class Average:
    """An unweighted mean over cells, or over such means.

    Attributes:
        mean: None when there was nothing to average.
        by_seed: seed -> the same mean within that seed, for seeds that have every part.
        num: cells that went in.
        expected: cells a complete row has.
        converged: False when any cell in it did not converge.
    """

    mean: float | None
    by_seed: Mapping[int, float]
    num: int
    expected: int
    converged: bool = True

    @property
    def sd(self) -> float | None:
        """Standard deviation over seeds (n − 1); None for fewer than two seeds."""
        return _sd(list(self.by_seed.values()))

    @property
    def complete(self) -> bool:
        """Whether no cell is missing."""
        return self.num == self.expected


def average(cells: Sequence[Cell], *, expected: int) -> Average:
    """Average cells of one row over languages, unweighted."""
    if not cells:
        return Average(None, {}, 0, expected)
    shared = set.intersection(*(set(cell.by_seed) for cell in cells))
    return Average(
        mean=_mean([cell.mean for cell in cells]),
        by_seed={seed: _mean([cell.by_seed[seed] for cell in cells]) for seed in sorted(shared)},
        num=len(cells),
        expected=expected,
        converged=all(cell.converged for cell in cells),
    )


def average_tasks(parts: Sequence[Average]) -> Average:
    """Average task averages, unweighted; `num` and `expected` count cells, so that any hole shows."""
    known = [(part.mean, part) for part in parts if part.mean is not None]
    shared = set.intersection(*(set(part.by_seed) for _, part in known)) if known else set()
    return Average(
        mean=_mean([mean for mean, _ in known]) if known else None,
        by_seed={seed: _mean([part.by_seed[seed] for _, part in known]) for seed in sorted(shared)},
        num=sum(part.num for part in parts),
        expected=sum(part.expected for part in parts),
        converged=all(part.converged for _, part in known),
    )
