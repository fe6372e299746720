"""What comes next: the rows of a batch, the task of a step (how many steps there are: `steps`).

All of it follows from the run's seed and a count (batches drawn, steps taken), so a count is all a checkpoint has to
keep of a sampler.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping

import torch

from adapters_xling.model.core import seed_for


class Batches(Iterator[list[int]]):
    """Endless stream of batches of row indices: each epoch is one permutation, drawn from (seed, epoch).

    The last batch of an epoch may be smaller; no row is seen twice before every row was seen once.

    Attributes:
        drawn: batches drawn so far; setting it goes to that place of the stream.
    """

    def __init__(self, num_features: int, batch_size: int, *, seed: int) -> None:
        self.num_features, self.batch_size, self.seed = num_features, batch_size, seed
        self.drawn = 0
        self._epoch, self._order = -1, list[int]()

    def __next__(self) -> list[int]:
        epoch, at = divmod(self.drawn, math.ceil(self.num_features / self.batch_size))
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._epoch, self._order = epoch, torch.randperm(self.num_features, generator=generator).tolist()
        self.drawn += 1
        return self._order[at * self.batch_size : (at + 1) * self.batch_size]


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
