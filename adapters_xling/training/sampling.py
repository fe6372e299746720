"""What comes next: the rows of a batch, the task of a step, the number of steps.

All of it follows from the run's seed and a count (batches drawn, steps taken), so a count is all a checkpoint has to
keep of a sampler.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping

import torch

from adapters_xling.model.core import seed_for
from adapters_xling.spec import RunSpec


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


def shares(run: RunSpec, sizes: Mapping[str, int]) -> dict[str, float]:
    """Share of the steps of each task: its own rate where it has one, else what the sampling makes of the rest.

    Args:
        run: whose mixture it is; a run of one task gives that task every step.
        sizes: training rows of each task, in the run's order.
    """
    if run.mixture is None:
        return dict.fromkeys(sizes, 1.0)
    rates, sampling = run.mixture.rates, run.mixture.sampling
    weights = {name: sampling.weight(size) for name, size in sizes.items() if name not in rates}
    left, total = 1 - math.fsum(rates.values()), math.fsum(weights.values())
    return {name: rates[name] if name in rates else left * weights[name] / total for name in sizes}


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


def total_steps(run: RunSpec, sizes: Mapping[str, int]) -> int:
    """Optimiser steps of a run: `max_steps` where given, else epochs over the rows of all tasks together.

    Each task counts with its capped rows (the rule of the paper's code). Tasks with a rate of their own do not count
    but stretch the run: where half of the steps are MLM's, the others get as many as they would have had alone.
    """
    recipe = run.recipe
    if recipe.max_steps:
        return recipe.max_steps
    rates = run.mixture.rates if run.mixture else {}
    counting = [name for name in sizes if name not in rates] or list(sizes)
    num_steps = 0
    for name in counting:
        own = run.recipe_for(name)
        rows = run.mixture.sampling.counted(sizes[name]) if run.mixture else sizes[name]
        num_steps += math.ceil(rows / (own.batch_size * own.accumulate))
    share = 1 - math.fsum(rates.values()) if len(counting) < len(sizes) else 1.0
    return max(1, math.ceil(recipe.epochs * num_steps / share))
