"""Control runs of a grid: what a target run is compared with beside the run without an intermediate task."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from adapters_xling.errors import ConfigError
from adapters_xling.spec import Fresh, RunSpec, Slot, TaskSpec
from adapters_xling.steps import total_steps


def equal_steps(run: RunSpec, parents: Sequence[RunSpec], *, task: Callable[[str], TaskSpec]) -> RunSpec:
    """The run from a fresh slot that may take as many optimiser steps as a run and its parents together.

    Without it a gain of an intermediate task cannot be told from a gain of training longer. Where a recipe counts steps
    (`max_steps`) the sum is exact. Where it counts epochs, the parents' steps are computed from the published rows of
    their task files and become whole further epochs of the target, rounded up, so that the control never has fewer; a
    set that is read in windows (long contexts) has a few more steps than its rows say. Steps are those the recipes
    allow: patience may end any of the runs earlier.

    Args:
        run: a run that starts from its parents or stands on them.
        parents: the runs of those entries.
        task: gives the task of a name.

    Raises:
        ConfigError: when a recipe counts epochs and a task file does not say how many training rows there are.
    """
    extra = sum(planned_steps(parent, task=task) for parent in parents)
    recipe = run.recipe
    if recipe.max_steps:
        longer = msgspec.structs.replace(recipe, max_steps=recipe.max_steps + extra)
    else:
        once = msgspec.structs.replace(run, recipe=msgspec.structs.replace(recipe, epochs=1))
        epoch = planned_steps(once, task=task)
        longer = msgspec.structs.replace(recipe, epochs=recipe.epochs + math.ceil(extra / epoch))
    return msgspec.structs.replace(run, recipe=longer, init=Fresh(), route=Slot())


def planned_steps(run: RunSpec, *, task: Callable[[str], TaskSpec]) -> int:
    """Optimiser steps a run may take, from its recipe and the published sizes of its training sets.

    Raises:
        ConfigError: when it counts epochs and a task file does not say how many training rows there are.
    """
    return total_steps(run, {} if run.recipe.max_steps else _sizes(run, task))


def _sizes(run: RunSpec, task: Callable[[str], TaskSpec]) -> dict[str, int]:
    """Training rows of each task of a run, as its task file gives them; 1 of those that do not count, for they have a
    rate of their own beside others that have none (see `total_steps`)."""
    sizes: dict[str, int] = {}
    rates = run.mixture.rates if run.mixture else {}
    for name in (ref.name for ref in run.tasks):
        if name in rates and len(rates) < len(run.tasks):
            sizes[name] = 1
            continue
        spec = task(name)
        rows = spec.rows.get("train")
        if not isinstance(rows, int):
            raise ConfigError(
                f"controls: equal-steps must know how many steps {name!r} trains for, but its recipe counts epochs and "
                f"its task file does not say how many training rows there are. Add `rows: {{train: …}}` to the task "
                "file, or count steps instead (overrides: {max_steps: …} in the grid)"
            )
        rows *= len(spec.train_languages)
        sizes[name] = min(rows, run.recipe_for(name).max_train_examples or rows)
    return sizes
