"""How many steps a run takes and which share of them each of its tasks gets, from the numbers of rows alone.

Training and the estimate before it count by the same rule; the second may not load torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from .spec import RunSpec


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
