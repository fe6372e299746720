"""Rows of a run's tasks, read, checked and encoded, and what a dev score over several languages is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapters_xling import inference, metrics, tasks
from adapters_xling.errors import ConfigError
from adapters_xling.model import Model
from adapters_xling.processes import ALONE, Processes
from adapters_xling.spec import Recipe, TaskSpec
from adapters_xling.tasks import cache, kinds, known
from adapters_xling.tasks.examples import Features, Prediction
from adapters_xling.zoo import DataCard, KnownRows


@dataclass
class TaskData:
    """What a run learns from and selects on, for one of its tasks.

    Attributes:
        task: the task whose rows these are.
        recipe: the run's settings as this task sees them.
        train: encoded training rows of all training languages.
        dev: dev examples of each training language that select the best step (the first `dev_examples` in all).
        chance: what ignoring the input scores on the dev rows, in percent.
        rows: for the card: rows kept and dropped with reasons, per split and language.
        hashes: of whole training rows, to be looked for in test sets (`tasks.known`), (N,).
    """

    task: TaskSpec
    recipe: Recipe
    train: Sequence[Features]
    dev: dict[str, list[Any]]
    chance: float
    rows: dict[str, DataCard]
    hashes: np.ndarray

    @property
    def num_dev(self) -> int:
        """Dev examples of all languages."""
        return sum(map(len, self.dev.values()))

    @property
    def metric(self) -> str:
        """Name of the score that selects."""
        return metrics.main(self.task.metrics[0])

    def dev_score(self, model: Model, processes: Processes = ALONE) -> float:
        """Score the dev rows, in percent; several processes share the rows and get the same score."""
        examples = [example for rows in self.dev.values() for example in rows]
        predictions = inference.predict(
            model,
            self.task,
            examples,
            max_length=self.recipe.max_length,
            processes=processes,
            precision=self.recipe.dev_precision,
        )
        return mean_score(self.task, self.dev, predictions)


def load_data(task: TaskSpec, recipe: Recipe, tokenizer: Any, *, data_dir: Path | None) -> TaskData:
    """Read, check and encode the train and dev rows of a task in its training languages.

    Raises:
        DataError: when a split is absent or holds no usable row.
    """
    kind = kinds.get(task.kind)
    if not kind.trains:
        raise ConfigError(f"task {task.name!r} is of kind {task.kind!r}, which has nothing to train")
    cards: dict[str, DataCard] = {}
    examples: dict[str, list[Any]] = {}
    dev: dict[str, list[Any]] = {}
    for split, limit in (("train", recipe.max_train_examples), ("dev", recipe.dev_examples)):
        examples[split], found = tasks.load_all(
            task, split, task.train_languages, data_dir=data_dir, limit=limit or None
        )
        dev = {language: list(rows.examples) for language, rows in found.items() if rows.examples}
        for language, rows in found.items():
            cards[f"{task.name}/{split}/{language}"] = DataCard(
                kept=rows.kept,
                used=len(rows.examples),
                dropped=rows.dropped,
                renamed=rows.renamed,
                samples=rows.samples,
                identity=rows.identity,
                source=rows.source,
                files=rows.files,
            )
    chance = mean_score(task, dev, kind.majority(examples["train"], examples["dev"], task))
    features = cache.features(kind, examples["train"], tokenizer, task, max_length=recipe.max_length)
    return TaskData(task, recipe, features, dev, chance, cards, known.row_hashes(examples["train"]))


def known_test_rows(parts: Mapping[str, TaskData], *, data_dir: Path | None, extra: Path | None) -> KnownRows | None:
    """For the card: test and development rows at hand that a run trained on; None where there are no such sets.

    Args:
        parts: the run's tasks with their rows.
        data_dir: folder of original data files.
        extra: private folder of task files.
    """
    trained_N = np.concatenate([part.hashes for part in parts.values()])
    found = known.known_rows(trained_N, [part.task for part in parts.values()], data_dir=data_dir, extra=extra)
    if not found.checked and not found.unchecked:
        return None
    return KnownRows(num_rows=found.num_rows, checked=found.checked, known=found.known, unchecked=found.unchecked)


def mean_score(task: TaskSpec, dev: dict[str, list[Any]], predictions: Sequence[Prediction]) -> float:
    """The task's main score, each language under its own rules, as the unweighted mean over languages.

    Args:
        task: whose metric counts.
        dev: examples of each language.
        predictions: one per example, in the order of the languages.
    """
    scores, at = [], 0
    for language, rows in dev.items():
        own = predictions[at : at + len(rows)]
        at += len(rows)
        scores.append(next(iter(inference.score(task, rows, own, language=language).values())))
    return sum(scores) / len(scores)
