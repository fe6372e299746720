"""What a training run loads the machine with: the steps of each of its tasks, and the dev evaluations between them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters_xling.grid.cost import Load, training_load
from adapters_xling.grid.sizes import GUESS, Size, Sizes, published
from adapters_xling.spec import Recipe, RunSpec, TaskSpec
from adapters_xling.steps import shares, total_steps
from adapters_xling.tasks.kinds import options


@dataclass(frozen=True)
class Part:
    """The rows of one task of a run.

    Attributes:
        recipe: the run's settings as this task sees them.
        rows: training rows that are used.
        windows: what one of them gives to train on: windows of a long context, else 1.
        tokens: mean tokens of one of these features.
        thin: width of one encoder row over the tokens of a feature: a quarter where four choices are read apart.
        dev: dev rows of one evaluation.
        masked: share of the tokens whose logits over the vocabulary are computed.
    """

    recipe: Recipe
    rows: float
    windows: float
    tokens: float
    thin: float
    dev: float
    masked: float = 0.0

    @property
    def features(self) -> float:
        """Encoded rows to train on."""
        return self.rows * self.windows


def part_of(task: TaskSpec, recipe: Recipe, sizes: Sizes, *, tokens: float | None = None) -> Part:
    """A task's part of a run, from the rows at hand, else from what its task file says of them.

    Args:
        task: the task.
        recipe: as in `Part`.
        sizes: sizes of sets.
        tokens: mean tokens of a feature where that is known from an earlier run.
    """
    train, dev = (_sets(task, split, recipe, sizes) for split in ("train", "dev"))
    rows = sum(size.rows for size in train)
    windows = sum(size.rows * size.windows for size in train) / rows
    mean = sum(size.rows * size.tokens for size in train) / rows / windows
    thin = train[0].width / (train[0].tokens / train[0].windows)
    limit = recipe.max_train_examples
    dev_rows = sum(size.rows for size in dev)
    return Part(
        recipe,
        max(1.0, min(rows, limit) if limit else rows),
        windows,
        tokens or mean,
        thin,
        min(recipe.dev_examples, dev_rows) if recipe.dev_examples else dev_rows,
        masked_share(task),
    )


def masked_share(task: TaskSpec) -> float:
    """Share of a task's tokens that are guessed over the whole vocabulary."""
    return float(options.resolved(task)["mask_rate"]) if task.kind in options.FROM_LM_HEAD else 0.0


def _sets(task: TaskSpec, split: str, recipe: Recipe, sizes: Sizes) -> list[Size]:
    length = recipe.max_length
    found = [sizes.of(task, split, code, max_length=length) for code in task.train_languages]
    known = [size for size in found if size is not None]
    return known or [published(task, split, max_length=length) for _ in task.train_languages] or [GUESS]


def planned_loads(run: RunSpec, parts: Mapping[str, Part]) -> list[Load]:
    """What a run will load the machine with when it takes all its steps, one load per task."""
    sizes = {name: round(part.features) for name, part in parts.items()}
    steps = total_steps(run, sizes)
    return loads(
        list(parts.values()),
        steps=[steps * share for share in shares(run, sizes).values()],
        evaluations=math.ceil(steps / run.recipe.eval_every_steps),
    )


def loads(parts: Sequence[Part], *, steps: Sequence[float], evaluations: int) -> list[Load]:
    """One load per part.

    Args:
        parts: the run's tasks.
        steps: optimiser steps of each.
        evaluations: how often the dev rows of all of them are scored.
    """
    return [
        training_load(
            part.recipe,
            steps=own,
            evaluations=evaluations,
            rows=part.rows,
            features=part.features,
            dev=part.dev,
            tokens=part.tokens,
            width=part.tokens * part.thin,
            masked=part.masked,
            opened=1 / len(parts),
        )
        for part, own in zip(parts, steps, strict=True)
    ]
