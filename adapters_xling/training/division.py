"""How the processes of a run divide the rows of one optimiser step, so that their sum is what one process computes.

A step is `accumulate` batches of `batch_size` rows, whatever computes them: the recipe's effective batch is part of the
run, the number of processes is not. Whole batches are dealt out first; what is then still too few for all is split by
rows. Losses are means over labels, so a part of a batch counts as much as its share of the batch's labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from torch import Tensor

from adapters_xling.errors import ConfigError
from adapters_xling.processes import Processes
from adapters_xling.spec import Recipe
from adapters_xling.tasks.kinds.base import IGNORE, Batch

T = TypeVar("T")


class Division(NamedTuple):
    """One process's part of every step.

    Attributes:
        groups: batches computed at the same time; batch i of a step is for group i % groups.
        group: this process's group.
        parts: processes that share one batch.
        part: this process's place among them.
    """

    groups: int = 1
    group: int = 0
    parts: int = 1
    part: int = 0

    @classmethod
    def of(cls, processes: Processes, accumulate: int) -> Division:
        """The division of a step of so many batches.

        >>> Division.of(Processes(1, 4), 8)
        Division(groups=4, group=1, parts=1, part=0)
        >>> Division.of(Processes(5, 8), 4), Division.of(Processes(1, 2), 3)
        (Division(groups=4, group=1, parts=2, part=1), Division(groups=1, group=0, parts=2, part=1))
        """
        groups = math.gcd(accumulate, processes.count)
        return cls(groups, processes.index % groups, processes.count // groups, processes.index // groups)

    def computes(self, batch: int) -> bool:
        """Whether this process has a part in batch number so of a step."""
        return batch % self.groups == self.group

    def own(self, rows: Sequence[T]) -> Sequence[T]:
        """This process's rows of a batch; empty when there are fewer rows than parts."""
        return rows if self.parts == 1 else rows[self.part :: self.parts]


def require_divisible(recipes: Mapping[str, Recipe], processes: Processes) -> None:
    """Refuse more processes than a step has rows for.

    Args:
        recipes: of each task.
        processes: of the run.

    Raises:
        ConfigError: naming the numbers of processes that are possible.
    """

    def fits(count: int) -> bool:
        return all(count // math.gcd(one.accumulate, count) <= one.batch_size for one in recipes.values())

    if fits(processes.count):
        return
    name, least = min(recipes.items(), key=lambda item: item[1].batch_size * item[1].accumulate)
    rows = least.batch_size * least.accumulate
    valid = ", ".join(str(count) for count in range(1, rows + 1) if fits(count))
    raise ConfigError(
        f"{processes.count} processes cannot share a step of {name!r}: it is {least.accumulate} batches of "
        f"{least.batch_size} rows, and one batch is split into at most {least.batch_size} parts. Possible numbers of "
        f"processes here: {valid}"
    )


def num_labels(batch: Batch) -> int:
    """Labels that a batch's loss is the mean of, which is how every kind defines its loss."""
    labels: Tensor = batch["labels"]
    return int((labels != IGNORE).sum())
