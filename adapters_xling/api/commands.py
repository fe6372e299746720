"""The command that trains an entry again, from what its card says."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adapters_xling.errors import ConfigError, UnknownName
from adapters_xling.spec import Fresh, Imported, Recipe, RunSpec, Slot, TaskSpec, Uniform, describe
from adapters_xling.zoo import Card

from .settings import Settings, task


@dataclass(frozen=True)
class Retraining:
    """The command that trains an entry again.

    Attributes:
        arguments: words after `xling`.
        notes: what must be there that a command cannot say.
    """

    arguments: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The command as a person types it."""
        return " ".join(["xling", *map(shlex.quote, self.arguments)])


def retraining(card: Card, settings: Settings | None = None) -> Retraining:
    """The command that trains what a card describes, with every setting that differs from the defaults of now.

    The same rows under the same defaults give the same key.

    Raises:
        ConfigError: for a run that no options of `xling train` describe, and for an adapter that was imported.
    """
    from adapters_xling.backbones import BACKBONES

    run = card.run
    if isinstance(run.init, Imported):
        raise ConfigError(f"how this adapter was trained is not known: it was imported from {run.init.source}")
    if run.made_by == "merging":
        wanted = f"in the zoo must be {', '.join(run.parents)}"
        return Retraining(("zoo", "merge", describe(run.init)), (wanted,))
    arguments = ["train", *(ref.name for ref in run.tasks), *_method(run)]
    specs, private = _tasks(card, settings)
    recipe, overrides = _recipe(run, specs)
    arguments += ["--recipe", recipe]
    arguments += [word for name, value in overrides.items() for word in ("--with", _pair(name, value))]
    arguments += _mixture(run)
    arguments += _composition(run)
    if run.seed:
        arguments += ["--seed", str(run.seed)]
    notes = [f"the task file of {name} must be in the folder that --tasks or XLING_TASKS names" for name in private]
    if run.backbone.name not in BACKBONES:
        notes.append(f"--backbone must name the folder of {run.backbone.name}")
    if run.parents:
        notes.append(f"in the zoo must be {', '.join(run.parents)}")
    if files := sorted({name for rows in card.data.values() for name in rows.files}):
        notes.append(f"below --data-dir or XLING_DATA must be {', '.join(files[:6])}{', …' if len(files) > 6 else ''}")
    return Retraining(tuple(arguments), tuple(notes))


def starting(card: Card) -> str:
    """The command with which a run on some TASK starts from an entry, with the settings that it must share."""
    return Retraining(("train", "TASK", *_method(card.run), "--warm", card.key)).command


def _method(run: RunSpec) -> list[str]:
    """The options that say a run's method, its settings and its backbone."""
    settings = [word for name, value in _method_settings(run).items() for word in ("--set", _pair(name, value))]
    return ["--method", run.method.name, *settings, "--backbone", run.backbone.name]


def _pair(name: str, value: Any) -> str:
    return f"{name}={value}" if isinstance(value, str) else f"{name}={json.dumps(value)}"


def _method_settings(run: RunSpec) -> dict[str, Any]:
    """Settings of a run's method that are not the defaults."""
    from adapters_xling import methods
    from adapters_xling.spec import canonical

    usual = canonical(methods.resolve(run.method.name).spec().settings)
    return {name: value for name, value in canonical(run.method.settings).items() if usual.get(name) != value}


def _tasks(card: Card, settings: Settings | None) -> tuple[list[TaskSpec], list[str]]:
    """The tasks of a run as far as a recipe depends on them, and those no task file describes here."""
    forms = {head.task: head.kind for head in card.heads.values()}
    found, private = [], []
    for ref in card.run.tasks:
        try:
            spec = task(ref.name, settings)
        except UnknownName:
            if ref.name not in forms:
                raise
            spec = TaskSpec(
                name=ref.name,
                kind=forms[ref.name],
                role="private",
                title=ref.name,
                languages=(),
                sources=(),
                metrics=(),
            )
            private.append(ref.name)
        if spec.role == "private" and ref.name not in private:
            private.append(ref.name)
        found.append(spec)
    return found, private


def _recipe(run: RunSpec, specs: Sequence[TaskSpec]) -> tuple[str, dict[str, Any]]:
    """The recipe and the differences to it that give a run's settings, with as few differences as can be."""
    from adapters_xling import grid
    from adapters_xling.grid.mixing import Mix, mixture_of

    from .models import default_recipe

    mix = Mix(run.mixture.sampling, run.mixture.rates) if run.mixture else Mix()
    usual = default_recipe(run.backbone.name)
    best: tuple[str, dict[str, Any]] | None = None
    for name in sorted(grid.recipes().recipes, key=lambda one: (one != usual, one)):

        def resolved(overrides: dict[str, Any], name: str = name) -> Any:
            return mixture_of(specs, mix, grid.recipes(), name, method=run.method.name, overrides=overrides)

        shared, mixture = resolved({})
        overrides = _unlike(run.recipe, shared)
        if run.mixture and mixture:
            for part, wanted in run.mixture.parts.items():
                overrides |= _unlike(wanted, mixture.parts[part])
        if resolved(overrides) == (run.recipe, run.mixture) and (best is None or len(overrides) < len(best[1])):
            best = name, overrides
    if best is None:
        raise ConfigError(
            f"entry of {run.task}: its tasks have settings that no recipe and no --with give, as batches cut to a "
            "grid's rows_at_once; run the grid it came from"
        )
    return best


def _unlike(wanted: Any, found: Any) -> dict[str, Any]:
    names = [name for name in wanted.__struct_fields__ if name in Recipe.__struct_fields__]
    return {name: getattr(wanted, name) for name in names if getattr(wanted, name) != getattr(found, name)}


def _mixture(run: RunSpec) -> list[str]:
    if run.mixture is None:
        return []
    sampling = run.mixture.sampling
    numbers = [f"{getattr(sampling, name):g}" for name in ("temperature",) if hasattr(sampling, name)]
    numbers += [str(getattr(sampling, name)) for name in ("cap",) if hasattr(sampling, name)]
    words = ["--mix", ":".join([str(sampling.__struct_config__.tag), *numbers])]
    if isinstance(sampling, Uniform) and run.mixture.rates and set(run.mixture.rates) == set(run.mixture.parts):
        words = []  # a mixture whose every task has a rate of its own has nothing left to divide
    return words + [word for name, rate in run.mixture.rates.items() for word in ("--rate", f"{name}={rate!r}")]


def _composition(run: RunSpec) -> list[str]:
    """The options that say what a run starts from and stands on.

    Raises:
        ConfigError: for one that does both (an adapted entry that stands on others), which no option says.
    """
    if not isinstance(run.init, Fresh) and not isinstance(run.route, Slot):
        raise ConfigError(
            f"it starts from {describe(run.init)} and stands on {describe(run.route)} at once: `xling adapt` does that "
            "and no option of `xling train`"
        )
    words = [] if isinstance(run.init, Fresh) else ["--warm", describe(run.init)]
    return words if isinstance(run.route, Slot) else [*words, "--on", describe(run.route)]
