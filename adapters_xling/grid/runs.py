"""Runs put together from a task, a method, a recipe and the rest, and tasks whose rows are not at hand yet."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters_xling import methods, paths, spec, tasks
from adapters_xling.errors import ConfigError, MissingData
from adapters_xling.grid.mixing import Mix, mixture_of
from adapters_xling.methods import Method
from adapters_xling.recipes import Recipes, load_recipes
from adapters_xling.spec import (
    ALGORITHM,
    ALGORITHM_ON_SEVERAL,
    SEEDS,
    BackboneId,
    Fresh,
    Init,
    Recipe,
    Route,
    RunSpec,
    Slot,
    TaskRef,
    TaskSpec,
    highest,
)
from adapters_xling.tasks.kinds import options

FRESH, SLOT = Fresh(), Slot()


def method_from(label: str, settings: Mapping[str, Any]) -> Method:
    """Build a method from a grid's label and settings; `method` among them names the family where the label does not.

    Raises:
        UnknownName: for a method or setting that does not exist.
    """
    given = dict(settings)
    return methods.resolve(given.pop("method", label), given)


def make_run(
    task: TaskSpec | Sequence[TaskSpec],
    method: Method,
    *,
    backbone: BackboneId,
    recipe: str,
    overrides: Mapping[str, Any] | None = None,
    rows_at_once: Mapping[str, int] | None = None,
    init: Init = FRESH,
    route: Route = SLOT,
    seed: int = 0,
    data_dir: Path | None = None,
    extra_tasks: Path | None = None,
    mix: Mix | None = None,
    backbone_folder: Path | None = None,
    refs: Callable[[TaskSpec], TaskRef] | None = None,
) -> RunSpec:
    """Put together everything that determines an entry, fully resolved.

    Args:
        task: what is trained; several tasks make a mixture, in no order.
        method: training family with its settings.
        backbone: the frozen encoder's identity.
        recipe: name of the optimisation settings.
        overrides: differences to them, for every task.
        rows_at_once: task -> most rows of a batch at once; larger batches are cut into pieces that accumulate.
        init: how the slot starts.
        route: what the slot stands on.
        seed: of initialisation, order and dropout.
        data_dir: folder of original data files.
        extra_tasks: private folder of task files.
        mix: how several tasks share the steps; in proportion to their rows by default.
        backbone_folder: folder of a local backbone.
        refs: says what a task is in a run; by default the digest of its rows, which then must be at hand.

    Raises:
        ConfigError: when the method cannot start or run that way, or a setting is wrong.
        MissingData: when the task's rows, whose digest is part of the run, are not at hand.
    """
    from adapters_xling.model import lm_head_digest  # torch-free

    if type(seed) is not int or not 0 <= seed < SEEDS:
        raise ConfigError(f"seed is {seed!r}; valid is a whole number from 0 to {SEEDS - 1}")
    specs = [task] if isinstance(task, TaskSpec) else sorted(task, key=lambda one: one.name)
    problem = method.supports(init, route)
    if problem:
        raise ConfigError(f"task {'+'.join(one.name for one in specs)}: {problem}")
    if mix is not None and len(specs) < 2:
        raise ConfigError(f"task {specs[0].name}: a mixture needs two tasks or more; leave --mix and --rate out")
    settings, mixture = mixture_of(
        specs,
        mix or Mix(),
        recipes(),
        recipe,
        method=method.name,
        overrides=overrides,
        rows_at_once=rows_at_once,
    )
    ref = refs or functools.partial(tasks.ref, data_dir=data_dir, extra=extra_tasks)
    masked = any(one.kind in options.FROM_LM_HEAD for one in specs)
    return RunSpec(
        backbone=backbone,
        tasks=tuple(ref(one) for one in specs),
        method=method.spec(),
        recipe=settings,
        init=init,
        route=route,
        seed=seed,
        algorithm=_algorithm(specs, settings, init, route),
        mixture=mixture,
        lm_head=lm_head_digest(backbone, backbone=backbone_folder) if masked else None,
    )


def _algorithm(specs: Sequence[TaskSpec], recipe: Recipe, init: Init, route: Route) -> int:
    """Version of what training means for a run."""
    nearest = highest(route) if isinstance(init, Fresh) else ()
    several = not isinstance(nearest, tuple) or len(nearest) > 1
    pooled = any(one.kind in options.POOLED for one in specs)
    carried = recipe.carry == "head" or (recipe.carry == "pooler" and pooled)
    return ALGORITHM_ON_SEVERAL if several and carried else ALGORITHM


class Refs:
    """What tasks are in runs that are only planned: by their rows where these are at hand, else by name.

    A run of a task whose rows are not at hand has a key of its own, which changes once they are.

    Attributes:
        lacking: name of a task -> why its rows are not at hand, and what to do.

    Args:
        data_dir: folder of original data files.
        extra: private folder of task files.
    """

    def __init__(self, data_dir: Path | None, *, extra: Path | None = None) -> None:
        self.lacking: dict[str, str] = {}
        self._ref = functools.partial(tasks.ref, data_dir=data_dir, extra=extra)
        self._known: dict[str, TaskRef] = {}

    def __call__(self, task: TaskSpec) -> TaskRef:
        """The task as a run holds it; each task is looked up once."""
        if task.name not in self._known:
            self._known[task.name] = self._find(task)
        return self._known[task.name]

    def _find(self, task: TaskSpec) -> TaskRef:
        try:
            return self._ref(task)
        except MissingData as err:
            self.lacking[task.name] = str(err)
            return TaskRef(name=task.name, digest=spec.digest(["lacking", task.name]))
        except ConfigError as err:
            found = self._ref(task, allow_unlocked=True)  # another mistake shows again
            self.lacking[task.name] = str(err)
            return found


def recipes() -> Recipes:
    """The shipped recipes."""
    file = paths.task_configs_dir() / "recipes.yaml"
    return _recipes(file, file.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _recipes(file: Path, mtime_ns: int) -> Recipes:
    return load_recipes(file)


def unlike_poolers(run: RunSpec, parent: RunSpec, *, extra: Path | None = None) -> bool:
    """Whether a run and its parent both have a pooler, and the parent's cannot travel, for it reads rows another way.

    Of pairs it may read four vectors (pooling `pair`), of everything else one.
    """
    if (run.recipe.pooling == "pair") == (parent.recipe.pooling == "pair"):
        return False
    return all(
        any(tasks.get(ref.name, extra=extra).kind in options.POOLED for ref in one.tasks) for one in (run, parent)
    )
