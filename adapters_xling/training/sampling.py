"""What comes next: the rows of a batch, the task of a step (how many steps there are: `steps`).

All of it follows from the run's seed and a count (batches drawn, steps taken), so a count is all a checkpoint has to
keep of a sampler.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence

import torch

from adapters_xling.model.core import seed_for


class Batches(Iterator[list[int]]):
    """Endless stream of batches of row indices: each epoch is one permutation, drawn from (seed, epoch).

    One batch of an epoch may be smaller (the last where rows are not sorted); no row is seen twice before every row was
    seen once.

    Args:
        num_features: rows there are.
        batch_size: rows of a batch.
        seed: of the order.
        lengths: tokens of each row, for rows that are to be sorted.
        window: batches whose rows are sorted by length together; the batches cut from them come in any order. 0 sorts
            nothing.

    Attributes:
        drawn: batches drawn so far; setting it goes to that place of the stream.
    """

    def __init__(
        self, num_features: int, batch_size: int, *, seed: int, lengths: Sequence[int] = (), window: int = 0
    ) -> None:
        self.num_features, self.batch_size, self.seed = num_features, batch_size, seed
        self.lengths, self.window = lengths, window
        self.drawn = 0
        self._epoch, self._batches = -1, list[list[int]]()

    def __next__(self) -> list[int]:
        epoch, at = divmod(self.drawn, math.ceil(self.num_features / self.batch_size))
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            order = torch.randperm(self.num_features, generator=generator).tolist()
            self._epoch, self._batches = epoch, self._cut(order, generator)
        self.drawn += 1
        return self._batches[at]

    def _cut(self, order: list[int], generator: torch.Generator) -> list[list[int]]:
        """An epoch's rows as batches."""
        if self.window:
            rows = self.window * self.batch_size
            parts = (order[top : top + rows] for top in range(0, len(order), rows))
            order = [row for part in parts for row in sorted(part, key=lambda row: self.lengths[row])]
        batches = [order[top : top + self.batch_size] for top in range(0, len(order), self.batch_size)]
        if self.window:
            batches = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
        return batches


def pick(rates: Mapping[str, float], *, seed: int, step: int) -> str:
    """Task of a step, drawn with the given rates from (seed, step).

    >>> pick({"a": 1.0}, seed=0, step=1)
    'a'
    """
    draw = random.Random(seed_for(seed, f"task of step {step}")).random()
    reached = 0.0
    for name, rate in rates.items():
        reached += rate
        if draw < reached:
            return name
    return list(rates)[-1]  # the rates may add up to a hair below 1
