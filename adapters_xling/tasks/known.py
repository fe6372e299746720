"""Rows of test and development sets that stand among the rows a run trains on: a guard that costs little.

Only whole rows are compared, by the hashes of `overlap` (letters, marks and digits decide), only in the languages the
run trains in, and only sets of its tasks' own kinds, for rows of another kind hold other texts (raw text is compared
with all). Hashes of a set are kept in the cache, so that it is read once. What shares a passage or a sequence of words,
an article or a translation is what `leaks` looks for afterwards.

Shapes: N rows.
"""

from __future__ import annotations

import contextlib
import functools
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adapters_xling import paths, spec
from adapters_xling.errors import XlingError
from adapters_xling.spec import TaskSpec
from adapters_xling.tasks import catalog, data, labels, rows, sources
from adapters_xling.tasks.examples import Example
from adapters_xling.tasks.kinds import options
from adapters_xling.tasks.overlap import row_hash, units

FORMAT = 1
"""Layout and meaning of the kept hashes; raise when either changes."""

BUDGET_S = 5.0
"""Seconds of processor time after which no further set is read that was never hashed on this machine: what is found
shall not depend on what else the machine does."""


_SEEN: dict[str, np.ndarray] = {}
"""Digest of a set -> its hashes, in this process: a grid trains many runs."""


@dataclass(frozen=True)
class Known:
    """What was found.

    Attributes:
        num_rows: training rows that were compared.
        checked: ``task/split/language`` -> rows of that set.
        known: the same -> how many of them are training rows too; only sets that have any.
        unchecked: sets at hand that were not compared: no time was left, or they could not be read.
    """

    num_rows: int
    checked: dict[str, int]
    known: dict[str, int]
    unchecked: tuple[str, ...] = ()


def row_hashes(examples: Sequence[Example]) -> np.ndarray:
    """Hash each whole row, (N,) uint64; a passage that comes with many questions is normalised once."""
    words = functools.lru_cache(maxsize=4096)(units)
    return np.fromiter((row_hash(example, words=words) for example in examples), np.uint64, len(examples))


def known_rows(
    trained_N: np.ndarray,
    trained_on: Sequence[TaskSpec],
    *,
    data_dir: Path | None = None,
    extra: Path | None = None,
    budget_s: float = BUDGET_S,
) -> Known:
    """Look for rows of the test and development sets at hand among training rows. Nothing is fetched.

    The run's own development rows, which choose among its steps, are no benchmark and left out.

    Args:
        trained_N: hashes of all training rows (`row_hashes`).
        trained_on: the run's tasks, which give kinds and languages.
        data_dir: folder of original data files.
        extra: private folder of task files.
        budget_s: seconds of processor time for reading sets whose hashes are not kept yet.
    """
    started, num_rows = time.process_time(), len(trained_N)
    trained_N = np.unique(trained_N)
    own = {(task.name, language) for task in trained_on for language in task.train_languages}
    kinds = {task.kind for task in trained_on}
    checked: dict[str, int] = {}
    known: dict[str, int] = {}
    unchecked: list[str] = []
    for task_name in catalog.names(extra):
        try:
            task = catalog.get(task_name, extra=extra)
        except XlingError:  # somebody's unfinished file, which must not cost a trained entry
            unchecked.append(task_name)
            continue
        if task.kind not in kinds and "mlm" not in kinds:
            continue
        for split, language in _sets(task, {code for _, code in own}):
            if split == "dev" and (task.name, language) in own:
                continue
            if split not in data.splits_at_hand(task, language, data_dir=data_dir):
                continue
            name = f"{task.name}/{split}/{language}"
            try:
                in_time = time.process_time() - started < budget_s
                hashes_N = _hashes_of(task, split, language, data_dir=data_dir, read=in_time)
            except XlingError:
                hashes_N = None
            if hashes_N is None:
                unchecked.append(name)
                continue
            checked[name] = len(hashes_N)
            if found := int(np.isin(hashes_N, trained_N).sum()):
                known[name] = found
    return Known(num_rows, checked, known, tuple(unchecked))


def _sets(task: TaskSpec, languages: set[str]) -> Iterator[tuple[str, str]]:
    """Splits of a task that nothing trains on, the scored one first, in some languages."""
    for split in dict.fromkeys((task.eval_split, *sources.splits(task))):
        if split != "train":
            for language in task.languages_by_split.get(split, task.languages):
                if language in languages:
                    yield split, language


def _hashes_of(task: TaskSpec, split: str, language: str, *, data_dir: Path | None, read: bool) -> np.ndarray | None:
    """Hashes of a set's rows: kept ones, or with `read` those of its rows; None where neither serves."""
    task = labels.with_labels(task, data_dir=data_dir)
    found = sources.find(task, split, language, data_dir=data_dir)
    name = spec.digest(
        {
            "format": FORMAT,
            "rows": [split, language, found.definition(), found.identity()],
            "converters": rows.VERSION,
            "task": [task.name, task.kind, task.labels, options.resolved(task)],
        }
    )
    if name in _SEEN:
        return _SEEN[name]
    file = paths.cache_dir() / "rows" / f"{name}.npy"
    if (kept := _kept(file)) is not None:
        return _SEEN.setdefault(name, kept)
    if not read:
        return None
    hashes_N = row_hashes(data.load(task, split, language, data_dir=data_dir, need_gold=False).examples)
    _keep(file, hashes_N)
    return _SEEN.setdefault(name, hashes_N)


def _kept(file: Path) -> np.ndarray | None:
    """Hashes that were kept, where the file is whole."""
    try:
        hashes_N = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return hashes_N if hashes_N.dtype == np.uint64 and hashes_N.ndim == 1 else None


def _keep(file: Path, hashes_N: np.ndarray) -> None:
    """Keep hashes; a cache that cannot be written costs time, nothing else."""
    buffer = io.BytesIO()
    np.save(buffer, hashes_N, allow_pickle=False)
    with contextlib.suppress(XlingError):
        paths.atomic_write(file, buffer.getvalue())
