"""Choosing what an entry stands on, language by language, from a few dev rows, and checking the choice on others.

Choosing the best of several scores makes that score too good. So the rows of a language are divided by the hash of
their group: one half chooses, the other says what the choice is worth beside the first candidate, which is what one
would have taken without choosing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters_xling import inference, tasks
from adapters_xling.errors import ConfigError, DataError
from adapters_xling.evaluation import Opened
from adapters_xling.made_with import max_length_of
from adapters_xling.spec import Route, TaskSpec
from adapters_xling.tasks import kinds
from adapters_xling.zoo import Zoo

LEAST_ROWS = 20
"""Fewest dev rows of a language that are divided; a choice among fewer is noise."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen for one language.

    Attributes:
        language: its code.
        chosen: number of the candidate; the first of equals.
        scores: the main metric of every candidate on the rows that chose, in percent.
        checked: that of the chosen one on the other rows.
        default: that of the first candidate on the other rows.
        num_chosen_on: rows that chose.
        num_checked_on: rows that checked.
    """

    language: str
    chosen: int
    scores: tuple[float, ...]
    checked: float
    default: float
    num_chosen_on: int
    num_checked_on: int


def choose(
    entry: str,
    task: TaskSpec,
    candidates: Sequence[Callable[[str], Route | None]],
    *,
    zoo: Zoo,
    languages: Sequence[str] | None = None,
    split: str = "dev",
    limit: int | None = None,
    data_dir: Path | None = None,
    device: str | None = None,
    backbone: Path | None = None,
    extra_tasks: Path | None = None,
    on_language: Callable[[Choice], Any] | None = None,
) -> list[Choice]:
    """Score every candidate on dev rows of each language and choose the best.

    Args:
        entry: key of the entry whose heads answer.
        task: what is scored.
        candidates: each says what the heads stand on in a language; None is as the entry was trained.
        zoo: where entries are.
        languages: subset of the task's languages.
        split: rows that are looked at; those that are reported elsewhere must not be among them.
        limit: only the first rows of each language, both halves together.
        data_dir: folder of original data files.
        device: where the models run.
        backbone: folder of a local backbone.
        extra_tasks: private folder of task files.
        on_language: called with each choice as it is made.

    Raises:
        ConfigError: for fewer than two candidates, a split that is reported, or a kind that compares a split's rows.
        DataError: for a language with fewer than `LEAST_ROWS` rows.
    """
    if len(candidates) < 2:
        raise ConfigError("a choice needs two candidates or more")
    task = tasks.with_labels(task, data_dir=data_dir)
    kind = kinds.get(task.kind)
    if kind.vectors or not kind.trains:
        raise ConfigError(f"task {task.name!r} compares all rows of a split, so half of them say nothing about it")
    if split == task.eval_split:
        raise ConfigError(
            f"the {split} rows of {task.name!r} are what is reported; choose on another split, such as dev"
        )
    card = zoo.get(entry).card
    if task.head_name not in card.heads:
        raise ConfigError(
            f"entry {entry} has no head for task {task.name!r}; it has: {', '.join(card.heads) or 'none'}"
        )
    max_length = max_length_of(card.run, task, extra_tasks=extra_tasks)
    codes = tasks.check_languages(task, languages, split)
    ways = {code: [candidate(code) for candidate in candidates] for code in codes}
    opened = Opened(zoo=zoo, device=device, backbone=backbone)
    found = []
    for code in codes:
        rows = tasks.load(task, split, code, data_dir=data_dir, limit=limit).examples
        if len(rows) < LEAST_ROWS:
            raise DataError(
                f"task {task.name!r}, {split}, {code}: {len(rows)} rows; a choice needs {LEAST_ROWS} or more"
            )
        halves = _halved(rows)
        scores: list[list[float]] = []
        for half in halves:
            scores.append([])
            for way in ways[code]:
                predictions = inference.predict(opened.model(entry, card, way), task, half, max_length=max_length)
                main = next(iter(inference.score(task, half, predictions, language=code).values()))
                scores[-1].append(main)
        best = max(range(len(candidates)), key=lambda i: (scores[0][i], -i))
        choice = Choice(
            language=code,
            chosen=best,
            scores=tuple(scores[0]),
            checked=scores[1][best],
            default=scores[1][0],
            num_chosen_on=len(halves[0]),
            num_checked_on=len(halves[1]),
        )
        found.append(choice)
        if on_language:
            on_language(choice)
    return found


def _halved(rows: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Rows in two halves of equal size, give or take one; rows of a group stay together, in the first half if they can.

    Raises:
        DataError: when all rows are of one group.
    """

    def place(row: Any) -> tuple[bytes, str]:
        return hashlib.sha256((row.group or row.id).encode()).digest(), row.id

    ordered = sorted(rows, key=place)
    ends = [i for i in range(1, len(ordered)) if not ordered[i].group or ordered[i].group != ordered[i - 1].group]
    if not ends:
        raise DataError("all rows belong to one group; a choice needs two halves that share none")
    middle = next((i for i in ends if i >= len(ordered) // 2), ends[-1])
    return ordered[:middle], ordered[middle:]
