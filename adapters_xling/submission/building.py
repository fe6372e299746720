"""Build a submission folder from kept predictions: one entry for each task, every file or none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters_xling.errors import DataError, MissingData, XlingError
from adapters_xling.paths import atomic_write
from adapters_xling.spec import TaskSpec

from . import kept
from .benchmark import Benchmark, Part
from .writing import check_target, refuse, sources_of, write


@dataclass(frozen=True, kw_only=True)
class Built:
    """A folder that was written.

    Attributes:
        folder: where it is.
        num_files: files in it.
        entries: task -> entry whose predictions fill it.
        left_out: what was allowed to be missing.
        notes: what was decided on the way (BUCC's thresholds).
    """

    folder: Path
    num_files: int
    entries: dict[str, str]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def build(
    sources: Sequence[str],
    out: Path,
    benchmark: Benchmark,
    *,
    runs_dir: Path,
    use: Mapping[str, str] | None = None,
    data_dir: Path | None = None,
    extra_tasks: Path | None = None,
    allow_missing: bool = False,
    force: bool = False,
) -> Built:
    """Write a submission folder.

    Args:
        sources: runs folders, folders of an entry's scores, or entries of `runs_dir`.
        out: folder to write; it appears whole or not at all.
        benchmark: what to hand in.
        runs_dir: where entries are looked up by name.
        use: task -> entry, for tasks that several entries have predictions of.
        data_dir: folder of the original files, which retrieval tasks need (order of sentences, dev answers).
        extra_tasks: private folder of task files.
        allow_missing: write what is there.
        force: replace a folder that holds a submission.

    Raises:
        DataError: listing everything that is ambiguous, missing or unusable; nothing is written then.
        XlingError: when `out` exists and may not be replaced.
    """
    check_target(out, benchmark, force=force)
    folders = kept.entry_folders(sources, runs_dir)
    if not folders:
        raise MissingData(f"no kept predictions in {', '.join(sources)}: `xling evaluate ENTRY TASK` keeps predictions")
    chosen = {benchmark.part(task).task: kept.named(name, folders, "the sources") for task, name in (use or {}).items()}
    ambiguous: list[str] = []
    gaps: list[str] = []
    entries: dict[str, str] = {}
    notes: list[str] = []
    texts: dict[str, str] = {}
    for part in benchmark.tasks:
        task = spec_of(part, extra_tasks)
        if task is None:
            gaps.append(f"{part.task}: there is no task {part.rows_of} here")
            continue
        found = [folder for folder in folders if kept.predicted(folder, task, task.eval_split, part.languages)]
        found = [chosen[part.task]] if part.task in chosen else found
        if len(found) > 1:
            names = ", ".join(folder.name for folder in found)
            ambiguous.append(f"{part.task}: {len(found)} entries have predictions: {names}; --use {part.task}=ENTRY")
        elif not found:
            gaps.append(f"{part.task}: no entry has predictions: `xling evaluate ENTRY {part.rows_of}`")
        else:
            filled = _fill(part, task, found[0], data_dir, gaps, notes)
            texts |= filled
            if filled:
                entries[part.task] = found[0].name
    wrong = ambiguous if allow_missing else ambiguous + gaps
    if wrong or not texts:
        refuse(benchmark, wrong or gaps, can_leave_out=not ambiguous and bool(texts))
    left_out = tuple(gaps)
    write(texts, out, benchmark)
    _write_sources(sources_of(out), benchmark, entries, texts, left_out, notes)
    return Built(folder=out, num_files=len(texts), entries=entries, left_out=left_out, notes=tuple(notes))


def spec_of(part: Part, extra_tasks: Path | None) -> TaskSpec | None:
    """The task of a part, or None when there is none of that name here."""
    from adapters_xling import tasks

    return tasks.get(part.rows_of, extra=extra_tasks) if part.rows_of in tasks.names(extra_tasks) else None


def _fill(
    part: Part, task: TaskSpec, folder: Path, data_dir: Path | None, gaps: list[str], notes: list[str]
) -> dict[str, str]:
    """Path -> text of a task's files; what cannot be filled goes to `gaps`."""
    texts = {}
    for code in part.languages:
        try:
            found = kept.read(folder / task.name, task, task.eval_split, code, data_dir=data_dir)
            if found.dropped and part.contents.needs_every_row:
                reasons = "; ".join(f"{why}: {number}" for why, number in found.dropped.items())
                raise DataError(
                    f"rows were turned away ({reasons}), so a file would lack them; "
                    f"`xling evaluate {folder.name} {task.name} --unscored` also predicts rows that are not scored"
                )
            texts[part.file(code)] = part.contents.write(part.contents.fill(found))
        except XlingError as err:
            gaps.append(f"{part.file(code)}: {err}")
            continue
        notes += [f"{part.file(code)}: {note}" for note in found.notes]
    return texts


def _write_sources(
    path: Path,
    benchmark: Benchmark,
    entries: Mapping[str, str],
    texts: Mapping[str, str],
    left_out: Sequence[str],
    notes: Sequence[str],
) -> None:
    body: dict[str, Any] = {
        "benchmark": benchmark.name,
        "entries": dict(entries),
        "sha256": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()},
        "left_out": list(left_out),
        "notes": list(notes),
    }
    atomic_write(path, json.dumps(body, ensure_ascii=False, indent=1) + "\n")
