"""Mixtures as people ask for them (`--mix`, a grid's `intermediate`), turned into what a run is hashed with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from adapters_xling.errors import ConfigError, unknown
from adapters_xling.recipes import Recipes, of_task, resolve_recipe
from adapters_xling.spec import Mixture, Part, Proportional, Recipe, Sampling, TaskSpec, Temperature, Uniform
from adapters_xling.tasks.kinds import options

SAMPLINGS = ("proportional", "uniform", "temperature")
_FORMS = "proportional, proportional:<cap>, uniform, temperature:<T>, temperature:<T>:<cap>"


@dataclass(frozen=True)
class Mix:
    """How several tasks are to share the steps of a run.

    Attributes:
        sampling: for the tasks without a rate of their own.
        rates: task -> share of all steps.
    """

    sampling: Sampling = field(default_factory=Proportional)
    rates: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str = "proportional", rates: Mapping[str, Any] | None = None) -> Mix:
        """Read what a person wrote.

        Args:
            text: name of the sampling, with its numbers after colons.
            rates: task -> share of all steps.

        Raises:
            UnknownName: for a sampling that does not exist.
            ConfigError: for numbers that cannot be used.

        >>> Mix.parse("temperature:2").sampling
        Temperature(temperature=2.0, cap=131072)
        """
        name, *given = text.split(":")
        if name not in SAMPLINGS:
            raise unknown("sampling of a mixture", name, SAMPLINGS, f"--mix, or mix of a grid; forms: {_FORMS}")
        wrong = ConfigError(f"mixture {text!r}: a number is missing, too many or out of range; forms: {_FORMS}")
        try:
            numbers = [float(value) for value in given]
        except ValueError as err:
            raise wrong from err
        least = 1 if name == "temperature" else 0
        most = {"proportional": 1, "uniform": 0, "temperature": 2}[name]
        caps = numbers[least:]
        if not least <= len(numbers) <= most or any(cap < 0 or not cap.is_integer() for cap in caps):
            raise wrong
        if least and not (math.isfinite(numbers[0]) and numbers[0] > 0):
            raise wrong
        cap: dict[str, Any] = {"cap": int(caps[0])} if caps else {}
        found: Sampling
        if name == "uniform":
            found = Uniform()
        else:
            found = Temperature(temperature=numbers[0], **cap) if least else Proportional(**cap)
        for task, rate in (rates or {}).items():
            if isinstance(rate, bool) or not isinstance(rate, (int, float)):
                raise ConfigError(f"rate of {task!r}: {rate!r} is no number; give a share of all steps, e.g. 0.5")
        return cls(found, {task: float(rate) for task, rate in (rates or {}).items()})


def mixture_of(
    tasks: Sequence[TaskSpec],
    mix: Mix,
    recipes: Recipes,
    recipe: str,
    *,
    method: str,
    overrides: Mapping[str, Any] | None = None,
    rows_at_once: Mapping[str, int] | None = None,
) -> tuple[Recipe, Mixture | None]:
    """Recipe and mixture of a run; one task has no mixture and the recipe it always had.

    What concerns rows (batch size, lengths, numbers of rows) is each task's own. The rest is shared: it comes from the
    recipe's levels for the method, for the kind where all tasks are of one, for the task where there is but one, and
    from its level `mixture`. Companions (MLM) have no say in it.

    Args:
        tasks: sorted by name.
        mix: how they share the steps.
        recipes: all recipes.
        recipe: name of the one wanted.
        method: name of the training family.
        overrides: a person's differences, for every task.
        rows_at_once: task -> most rows of a batch at once; larger batches are cut into pieces that accumulate.

    Raises:
        ConfigError: for a task given twice, or rates that do not fit.
    """

    def resolved(kind: str, task: str, *, mixture: bool = False) -> Recipe:
        found = resolve_recipe(
            recipes, recipe, method=method, kind=kind, task=task, overrides=overrides, mixture=mixture
        )
        return in_pieces(found, of_task(rows_at_once or {}, task) or found.batch_size)

    if len(tasks) == 1:
        return resolved(tasks[0].kind, tasks[0].name), None
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise ConfigError(f"a mixture holds each task once, got {', '.join(names)}")
    own = {task.name: resolved(task.kind, task.name) for task in tasks}
    fields = Part.__struct_fields__
    parts = {name: Part(**{f: getattr(settings, f) for f in fields}) for name, settings in own.items()}
    leading = [task for task in tasks if task.kind not in options.COMPANIONS] or list(tasks)
    kind = leading[0].kind if len({task.kind for task in leading}) == 1 else ""
    shared = resolved(kind, leading[0].name if len(leading) == 1 else "", mixture=len(leading) > 1)
    shared = msgspec.structs.replace(shared, max_length=max(part.max_length for part in parts.values()))
    # A sampling that has nothing to divide would only give one mixture several keys, and its cap would shorten the
    # epochs of a single task beside masked-LM text, which are those that it has alone.
    sampling = mix.sampling if len(set(names) - set(mix.rates)) > 1 else Uniform()
    return shared, Mixture(sampling=sampling, parts=parts, rates=dict(mix.rates))


def in_pieces(recipe: Recipe, rows: int) -> Recipe:
    """The same effective batch, in the fewest equal pieces of at most so many rows.

    >>> from adapters_xling.grid import recipes
    >>> plain = resolve_recipe(recipes(), "paper-intermediate", method="full", kind="sentence")
    >>> small = in_pieces(plain, 10)
    >>> (plain.batch_size, plain.accumulate), (small.batch_size, small.accumulate)
    ((24, 1), (8, 3))
    """
    size = next(n for n in range(min(rows, recipe.batch_size), 0, -1) if recipe.batch_size % n == 0)
    pieces = recipe.accumulate * recipe.batch_size // size
    return msgspec.structs.replace(recipe, batch_size=size, accumulate=pieces)
