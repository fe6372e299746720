"""How several tasks share the steps of a run, as data that is hashed with it."""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

from .errors import ConfigError, unknown
from .strict import Count, Frozen, Positive


class Proportional(Frozen, frozen=True, tag="proportional"):
    """Steps in proportion to the tasks' rows, each task's counted up to `cap` (0: all of them).

    The paper's sampling, with a cap of 2**17 as T5's mixtures have it.
    """

    cap: Annotated[int, msgspec.Meta(ge=0)] = 131_072

    def counted(self, num_rows: int) -> int:
        """Rows of a task that count for how long an epoch is."""
        return min(num_rows, self.cap) if self.cap else num_rows

    def weight(self, num_rows: int) -> float:
        """How often a task of so many rows is drawn, in relation to the others."""
        return self.counted(num_rows)


class Uniform(Frozen, frozen=True, tag="uniform"):
    """As many steps for every task."""

    def counted(self, num_rows: int) -> int:
        """Rows of a task that count for how long an epoch is: all of them."""
        return num_rows

    def weight(self, num_rows: int) -> float:
        """How often a task of so many rows is drawn, in relation to the others: no more and no less."""
        return 1.0


class Temperature(Frozen, frozen=True, tag="temperature"):
    """Steps in proportion to the capped number of rows to the power of 1 / `temperature`: 1 is proportional, more is
    nearer to uniform."""

    temperature: Positive
    cap: Annotated[int, msgspec.Meta(ge=0)] = 131_072

    def counted(self, num_rows: int) -> int:
        """Rows of a task that count for how long an epoch is."""
        return min(num_rows, self.cap) if self.cap else num_rows

    def weight(self, num_rows: int) -> float:
        """How often a task of so many rows is drawn, in relation to the others."""
        return float(self.counted(num_rows) ** (1 / self.temperature))


Sampling = Proportional | Uniform | Temperature


class Part(Frozen, frozen=True):
    """What the recipe says for the rows of one task of a mixture; fields as in `Recipe`."""

    batch_size: Count
    accumulate: Count
    max_length: Annotated[int, msgspec.Meta(ge=8)]
    dev_examples: Annotated[int, msgspec.Meta(ge=0)]
    max_train_examples: Annotated[int, msgspec.Meta(ge=0)]


class Mixture(Frozen, frozen=True):
    """How several tasks share the steps of a run; every step belongs to one task.

    Attributes:
        sampling: divides the steps between the tasks that have no rate of their own.
        parts: each task of the run by name, with its batch size and lengths.
        rates: task -> share of all steps, for tasks with a rate of their own (MLM beside an English task). Given for
            all tasks they must make 1, for some of them less.

    Raises:
        ConfigError: for rates of other tasks or that leave nothing to the rest.
    """

    sampling: Sampling
    parts: dict[str, Part]
    rates: dict[str, float] = {}

    def __post_init__(self) -> None:
        for name, rate in self.rates.items():
            if name not in self.parts:
                raise ConfigError(str(unknown("task with a rate", name, self.parts, "the tasks of the mixture")))
            if not 0 < rate < 1:
                raise ConfigError(
                    f"mixture: the rate of {name!r} is {rate:g}; give a share of all steps, above 0 and below 1"
                )
        total, rest = math.fsum(self.rates.values()), set(self.parts) - set(self.rates)
        if rest and total >= 1:
            raise ConfigError(
                f"mixture: rates of {', '.join(self.rates)} make {total:g} and leave no step to "
                f"{', '.join(sorted(rest))}; their sum must stay below 1"
            )
        if self.rates and not rest and abs(total - 1) > 1e-6:
            raise ConfigError(f"mixture: the rates make {total:g}, for all tasks together they must make 1")
