"""How far a run is: steps, scores, what patience counts, the best weights so far, and what the card says of it all."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from adapters_xling.tasks.kinds import options
from adapters_xling.training.data import TaskData
from adapters_xling.zoo import TaskTraining, Training


@dataclass
class TaskProgress:
    """One task's part: batches drawn, steps that were its own, its dev scores."""

    drawn: int = 0
    steps: int = 0
    curve: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class Progress:
    """Everything about a run that changes from step to step, weights and random numbers aside.

    Attributes:
        tasks: each task's part by name.
        step: optimiser steps taken.
        best: best dev score so far, of a mixture the mean over the tasks that select.
        best_step: where it was.
        without_gain: evaluations since then; what patience counts.
        num_examples: training rows seen.
        num_tokens: sub-word tokens seen, without padding.
        seconds: time spent so far, that of killed processes included up to their last checkpoint.
        curve: (step, dev score).
        losses: (step, loss).
        state: the weights of `best_step`.
    """

    tasks: dict[str, TaskProgress]
    step: int = 0
    best: float = -math.inf
    best_step: int = 0
    without_gain: int = 0
    num_examples: int = 0
    num_tokens: int = 0
    seconds: float = 0.0
    curve: list[tuple[int, float]] = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)
    state: dict[str, Tensor] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """All but the weights, as JSON has it."""
        found = dataclasses.asdict(dataclasses.replace(self, state={}))
        del found["state"]
        return found

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], state: dict[str, Tensor]) -> Progress:
        """Put together what `plain` took apart."""
        values = dict(plain)
        tasks = {
            name: TaskProgress(part["drawn"], part["steps"], _pairs(part["curve"]))
            for name, part in values.pop("tasks").items()
        }
        values |= {name: _pairs(values[name]) for name in ("curve", "losses")}
        return cls(tasks, **values, state=state)

    def note(self, scores: Mapping[str, float], select: Mapping[str, TaskData]) -> bool:
        """Take in the dev scores of this step; True when the run was never better, so that its weights are to be kept.

        Args:
            scores: of every task.
            select: the tasks whose mean selects.
        """
        for name, score in scores.items():
            self.tasks[name].curve.append((self.step, score))
        mean = sum(scores[name] for name in select) / len(select)
        self.curve.append((self.step, mean))
        if mean > self.best:
            self.best, self.best_step, self.without_gain = mean, self.step, 0
            return True
        self.without_gain += 1
        return False


def _pairs(values: Any) -> list[tuple[int, float]]:
    return [(step, value) for step, value in values]


def selecting(parts: Mapping[str, TaskData]) -> dict[str, TaskData]:
    """The tasks whose dev scores select the weights: all but companions (MLM), or all where there is nothing else."""
    return {n: part for n, part in parts.items() if part.task.kind not in options.COMPANIONS} or dict(parts)


def training_card(
    progress: Progress,
    parts: Mapping[str, TaskData],
    rates: Mapping[str, float],
    *,
    planned: int,
    seconds: float,
    device: str,
    processes: int = 1,
    prefix_storage: str | None = None,
) -> Training:
    """What the card says about how the training went."""
    by_task = {}
    for name, part in parts.items():
        own = progress.tasks[name]
        score = dict(own.curve)[progress.best_step]
        by_task[name] = TaskTraining(
            rate=rates[name],
            steps=own.steps,
            examples=len(part.train),
            metric=part.metric,
            dev_score=score,
            chance=part.chance,
            converged=not stayed_at_chance(score, part.chance, part.num_dev),
            dev_curve=tuple(own.curve),
        )
    chosen = [by_task[name] for name in selecting(parts)]
    num_rows = sum(len(part.train) for part in parts.values())
    return Training(
        steps=progress.step,
        planned_steps=planned,
        best_step=progress.best_step,
        epochs=progress.num_examples / num_rows,
        seconds=round(seconds, 2),
        tokens=progress.num_tokens,
        examples=num_rows,
        metric=chosen[0].metric if len(by_task) == 1 else "mean",
        dev_score=progress.best,
        chance=sum(one.chance for one in chosen) / len(chosen),
        converged=all(one.converged for one in chosen),
        dev_curve=tuple(progress.curve),
        losses=tuple(progress.losses),
        device=device,
        processes=processes,
        prefix_storage=prefix_storage,
        tasks=by_task if len(by_task) > 1 else {},
    )


def stayed_at_chance(best: float, chance: float, num_examples: int) -> bool:
    """Say whether a dev score cannot be told from what ignoring the input scores.

    The margin is two binomial standard errors of the chance score on that many rows, at least one point.

    Args:
        best: best dev score in percent.
        chance: score of the majority prediction on the same rows, in percent.
        num_examples: dev rows behind both.

    >>> stayed_at_chance(36.0, 34.0, 500), stayed_at_chance(60.0, 34.0, 500)
    (True, False)
    """
    rate = min(max(chance / 100, 0.01), 0.99)
    margin = max(1.0, 200 * math.sqrt(rate * (1 - rate) / max(num_examples, 1)))
    return best <= chance + margin
