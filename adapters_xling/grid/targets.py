"""Targets of a grid: tasks to score, in which languages, and what two of them may differ in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from adapters_xling import tasks
from adapters_xling.errors import ConfigError
from adapters_xling.grid.language_adapters import Swap
from adapters_xling.spec import Frozen, Name, TaskSpec

if TYPE_CHECKING:
    from adapters_xling.grid.spec import GridSpec


class Target(Frozen, frozen=True):
    """A target task of a grid.

    Attributes:
        task: its name.
        train: task its training rows come from; by default what its task file says.
        split: split to score; by default what its task file says.
        limit: score only the first rows of each language (printed with every table that stands on it).
        layer: hidden state that retrieval reads, chosen on development rows (`xling layers`); by default what task,
            method and backbone say.
    """

    task: Name
    train: Name | None = None
    split: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None
    layer: Annotated[int, msgspec.Meta(ge=0)] | None = None

    @property
    def label(self) -> str:
        """What tells it from the grid's other targets.

        >>> Target(task="xnli").label, Target(task="xnli", split="dev").label
        ('xnli', 'xnli (dev)')
        """
        return f"{self.task} ({self.split})" if self.split else self.task

    @property
    def reading(self) -> str:
        """What sets its score files apart from those of the usual layer (`scored.Reading.suffix`)."""
        return "" if self.layer is None else f"-layer{self.layer}"


def target_tasks(target: Target, *, extra: Path | None) -> tuple[TaskSpec, TaskSpec | None]:
    """A target's task and the task it trains on (None where the kind needs no training)."""
    task = tasks.get(target.task, extra=extra)
    if not task.train_languages:
        return task, None
    return task, tasks.train_task(task, override=target.train, extra=extra)


def require_columns(specs: Mapping[Target, tuple[TaskSpec, TaskSpec | None]]) -> None:
    """Refuse targets that a report could not tell apart: it has one column for each split of a task.

    Args:
        specs: target -> its task, and the one it trains on.

    Raises:
        ConfigError: for two targets of one task that differ in anything but the split, or do not even differ in that.
    """
    first: dict[str, Target] = {}
    columns: dict[tuple[str, str], Target] = {}
    for target, (task, _) in specs.items():
        other = first.setdefault(target.task, target)
        unlike = [name for name in ("train", "limit", "layer") if getattr(target, name) != getattr(other, name)]
        found = columns.setdefault((target.task, target.split or task.eval_split), target)
        if not unlike and found is target:
            continue
        said = [f"{name} {_said(getattr(other, name))} and {_said(getattr(target, name))}" for name in unlike]
        raise ConfigError(
            f"targets: {target.task} stands there twice, with "
            f"{', '.join(said) or f'the same split, {target.split or task.eval_split}'}. A report has one column for "
            "each split of a task: valid are several splits of it that have train, limit and layer in common. Put the "
            "other target into a grid of its own; both use the same entries, which are trained once"
        )


def _said(value: str | int | None) -> str:
    return "left out" if value is None else str(value)


def floor_name(target: Target) -> str:
    """Name of the job that scores a target's majority prediction."""
    return f"majority {target.label}"


def languages_of(target: Target, task: TaskSpec, grid: GridSpec, *, swap: Swap = ()) -> tuple[str, ...]:
    """Languages of a target's cells: those of the task in that split, cut to the ones the grid names and, where
    language adapters are swapped, to those that have one."""
    known = task.languages_by_split.get(target.split or task.eval_split, task.languages)
    having = {code for code, _ in swap} if swap else set(known)
    return tuple(code for code in known if code in having and (grid.languages is None or code in grid.languages))
