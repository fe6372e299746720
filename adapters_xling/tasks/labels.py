"""Tags that stand in no task file, because a licence forbids it: they are read off the rows of a split."""

from __future__ import annotations

from pathlib import Path

import msgspec

from adapters_xling import spec
from adapters_xling.errors import DataError
from adapters_xling.spec import TaskSpec
from adapters_xling.tasks import rows, sources

_KNOWN: dict[str, tuple[str, ...]] = {}
"""Digest of rows and options -> their tags, so that a process reads them once."""


def with_labels(task: TaskSpec, *, data_dir: Path | None = None) -> TaskSpec:
    """The task with its labels: as its file lists them, or the tags of the split that `labels_from` names.

    Tags are sorted, so the same rows give the same head. The last label, `rows.UNSEEN`, stands for every tag that
    other splits have and this one has not; nothing is ever trained to give it.

    Args:
        task: the task.
        data_dir: folder of the original files; default `XLING_DATA`.

    Raises:
        MissingData: when that split is not at hand.
        DataError: when its rows hold fewer than two tags.
    """
    if task.labels_from is None or task.labels:
        return task
    tags = {
        tag for language in task.train_languages for tag in _tags(task, task.labels_from, language, data_dir=data_dir)
    }
    return msgspec.structs.replace(task, labels=(*sorted(tags), rows.UNSEEN))


def _tags(task: TaskSpec, split: str, language: str, *, data_dir: Path | None) -> tuple[str, ...]:
    found = sources.find(task, split, language, data_dir=data_dir)
    key = spec.digest([found.identity(), found.definition()])
    if key not in _KNOWN:
        context = rows.Context(task, found.options, language=language)
        tags = {tag for raw in found.read() if raw.reject is None for tag in rows.tags_of(raw, context)}
        if len(tags - {""}) < 2:
            raise DataError(
                f"task {task.name!r}: the {split} rows of {found.description} hold {len(tags - {''})} different tags; "
                "its labels are read off them, and a task needs at least two"
            )
        _KNOWN[key] = tuple(sorted(tags - {""}))
    return _KNOWN[key]
