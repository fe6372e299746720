"""Language adapters in a grid (MAD-X): trained on raw text, put under a task adapter, swapped at test time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from adapters_xling import tasks
from adapters_xling.errors import ConfigError, unknown
from adapters_xling.grid.runs import method_from
from adapters_xling.spec import Alone, Fresh, Frozen, Name, Route, Slot, Stack, TaskSpec, Use


class LanguageAdapters(Frozen, frozen=True):
    """What a grid trains for each language, and what its task runs stand on.

    Each target is trained once on the adapter of the `source` language and scored twice: on that adapter in every
    language, and on the adapter of the language at hand. The run that stands on nothing is the grid's own, without an
    intermediate task.

    Attributes:
        task: raw text; ``<task>.<code>`` is that of one language.
        languages: those with an adapter; `source` is among them or comes on top.
        source: language of the training rows.
        methods: label of one of the grid's methods -> differences of its language adapters from its settings.
        recipe: optimisation settings by name; null means the grid's.
        overrides: differences to them, over the grid's own.
    """

    task: Name
    languages: tuple[str, ...]
    source: str = "en"
    methods: dict[str, dict[str, Any]] = {}
    recipe: str | None = None
    overrides: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if not self.languages:
            raise ConfigError("language_adapters.languages is empty; name the languages that get an adapter")


Swap = tuple[tuple[str, Route], ...]
"""Language -> what the heads of an entry stand on in it."""


def language_runs(
    wanted: LanguageAdapters,
    label: str,
    settings: Mapping[str, Any],
    *,
    run_for: Callable[..., str],
    sources: Iterable[TaskSpec],
    seed: int,
    only: Iterable[str] | None = None,
    extra: Path | None = None,
) -> dict[str, tuple[str, Swap]]:
    """Plan one method's language adapters, and on that of the source language a run for each task.

    Args:
        wanted: what the grid says.
        label: of the method.
        settings: those of the grid.
        run_for: adds a run to the plan and gives its key: (task, method, init, route, seed, recipe=, …).
        sources: what the targets are trained on.
        seed: of all these runs.
        only: languages that are scored; an adapter of another one is left out.
        extra: private folder of task files.

    Returns:
        Name of a task -> key of its run, and what that stands on in each language. Empty, with a warning, for a method
        that cannot stand on another entry.

    Raises:
        UnknownName: for a language that the raw text does not have.
    """
    method = method_from(label, settings)
    below = method_from(label, {**settings, **wanted.methods.get(label, {})})
    if reason := method.supports(Fresh(), Stack(parts=(Use(entry=wanted.task), Slot()))):
        warnings.warn(f"language adapters are left out of the grid for {label}: {reason}", stacklevel=3)
        return {}
    scored = set(wanted.languages if only is None else only)
    codes = [code for code in wanted.languages if code in scored and code != wanted.source]
    adapters = {
        code: run_for(
            tasks.get(f"{wanted.task}.{code}", extra=extra),
            below,
            Fresh(),
            Slot(),
            seed,
            recipe=wanted.recipe,
            **wanted.overrides,
        )
        for code in (wanted.source, *codes)
    }
    found: dict[str, tuple[str, Swap]] = {}
    for source in sources:
        stands_on = Stack(parts=(Use(entry=adapters[wanted.source]), Slot()))
        name = run_for(source, method, Fresh(), stands_on, seed)
        swap = tuple((code, Stack(parts=(Use(entry=adapter), Alone(entry=name)))) for code, adapter in adapters.items())
        found[source.name] = name, swap
    return found


def require_labels(wanted: LanguageAdapters, labels: Iterable[str]) -> None:
    """Refuse settings for a method that the grid does not have.

    Raises:
        UnknownName: with the closest.
    """
    known = list(labels)
    for label in wanted.methods:
        if label not in known:
            raise unknown("method of language_adapters", label, known)
