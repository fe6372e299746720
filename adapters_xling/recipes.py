"""Named optimisation settings (`task_configs/recipes.yaml`) and how those of one run are put together from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from .errors import ConfigError, unknown
from .spec import Frozen, KindName, Recipe
from .strict import decode, read_yaml

LEVELS = ("extends", "source", "defaults", "methods", "kinds", "methods_kinds", "tasks", "methods_tasks", "mixture")
"""What a recipe may hold, in the order in which it applies."""


class Recipes(Frozen, frozen=True):
    """`recipes.yaml`: named recipes, each a set of differences; see `resolve_recipe`."""

    recipes: dict[str, dict[str, Any]]

    def require(self, name: str) -> str:
        """The name of a recipe again.

        Raises:
            UnknownName: for a recipe nobody wrote.
        """
        if name not in self.recipes:
            raise unknown("recipe", name, self.recipes, "task_configs/recipes.yaml")
        return name


def load_recipes(path: Path) -> Recipes:
    """Read a recipes file (`task_configs/recipes.yaml`)."""
    return decode(Recipes, {"recipes": read_yaml(path)}, str(path))


def resolve_recipe(
    recipes: Recipes,
    name: str,
    *,
    method: str,
    kind: str,
    task: str = "",
    overrides: Mapping[str, Any] | None = None,
    mixture: bool = False,
) -> Recipe:
    """Resolve every optimisation setting of a run.

    A named recipe may say `extends: other`; within one, `defaults`, then `methods.<method>`, `kinds.<kind>`,
    `methods_kinds.<method>.<kind>`, `tasks.<task>` and `methods_tasks.<method>.<task>` apply in this order, then
    `mixture` when asked for, and `overrides` last. Each level holds differences only. All levels of a recipe apply
    after all of the one that it extends: its `defaults` undo what that one says of a method.

    Args:
        recipes: all of them.
        name: which one.
        method: name of the training family.
        kind: form of the task; empty for a mixture of several forms.
        task: its name; empty for a mixture of several tasks.
        overrides: a person's own differences.
        mixture: whether the settings are those that all tasks of a mixture share.

    Raises:
        UnknownName: for a recipe nobody wrote.
        ConfigError: for a setting that does not exist or has the wrong type.
    """
    chain = [recipes.require(name)]
    while parent := recipes.recipes[chain[-1]].get("extends"):
        if parent in chain:
            raise ConfigError(
                f"task_configs/recipes.yaml: recipe {name!r} extends itself: {' -> '.join([*chain, parent])}"
            )
        if parent not in recipes.recipes:
            raise unknown("recipe", parent, recipes.recipes, f"task_configs/recipes.yaml: {chain[-1]}.extends")
        chain.append(parent)
    values: dict[str, Any] = {}
    for link in reversed(chain):
        body = recipes.recipes[link]
        if extra := set(body) - set(LEVELS):
            raise unknown("level", sorted(extra)[0], LEVELS, f"task_configs/recipes.yaml: {link}")
        for kind_given in body.get("kinds", {}):
            if kind_given not in get_args(KindName):
                raise unknown("kind", kind_given, get_args(KindName), f"task_configs/recipes.yaml: {link}.kinds")
        for level in (
            body.get("defaults"),
            body.get("methods", {}).get(method),
            body.get("kinds", {}).get(kind),
            body.get("methods_kinds", {}).get(method, {}).get(kind),
            of_task(body.get("tasks", {}), task),
            of_task(body.get("methods_tasks", {}).get(method, {}), task),
            body.get("mixture") if mixture else None,
        ):
            values.update(level or {})
    values.update(overrides or {})
    endless = [field for field, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
    if endless:
        raise ConfigError(f"recipe {name!r} for {method}/{kind}: {endless[0]} is {values[endless[0]]}; give a number")
    return decode(Recipe, values, f"recipe {name!r} for {method}/{kind or 'mixture'}")


def of_task(levels: Mapping[str, Any], task: str) -> Any:
    """What is said of a task, None where nothing is; of one in one language (`mnli-translated.de`) the task's."""
    return levels.get(task, levels.get(task.rpartition(".")[0]))
