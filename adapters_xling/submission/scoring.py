"""Score a folder of predictions against a folder of labels, with the benchmark's own averaging.

Rules of google-research/xtreme's `evaluate.py`: a task's score is the mean over its languages (questions: the mean of
mean exact match and mean F1), a group's the mean of its tasks, the overall score the mean of all tasks. A task without
a folder is left out, and then there is no overall score; a task that lacks the file of one language is an error.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from adapters_xling.errors import DataError, MissingData

from .benchmark import Benchmark, Part
from .checking import read
from .files import count, folder

_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """Scores of one task, in percent.

    Attributes:
        task: its name.
        group: its group.
        score: what the overall score averages; over the languages that are there.
        averages: metric -> mean over languages.
        languages: language -> metric -> score.
        missing: languages without a file; the task is partial when there are any.
    """

    task: str
    group: str
    score: float
    averages: dict[str, float]
    languages: dict[str, dict[str, float]]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Result:
    """Scores of a submission, in percent.

    Attributes:
        benchmark: its name.
        overall: mean of all task scores; None unless every task is there in full.
        groups: group -> mean of its tasks, for groups whose tasks are all there in full.
        tasks: task -> its scores, for tasks that are there.
        absent: task -> why it was not scored.
        notes: what was scored as the benchmark does although something is wrong with it; `check` says more.
    """

    benchmark: str
    overall: float | None
    groups: dict[str, float]
    tasks: dict[str, TaskScore]
    absent: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def partial(self) -> bool:
        """Whether something that the benchmark averages is missing."""
        return self.overall is None

    def plain(self) -> dict[str, Any]:
        """The result as JSON data."""
        return {**asdict(self), "partial": self.partial}


def score(predictions: Path, labels: Path, benchmark: Benchmark, *, allow_missing: bool = False) -> Result:
    """Score a submission.

    Args:
        predictions: folder `{task}/test-{language}.{tsv|json|jsonl}` of predictions.
        labels: folder of the same layout with the answers; of questions SQuAD's JSON, or id -> answer(s).
        benchmark: tasks, languages and groups.
        allow_missing: score the languages that are there instead of refusing; such tasks enter no group or overall.

    Raises:
        MissingData: when a language of a task has no file (all of them are listed), or no task is there at all.
        DataError: when a folder does not exist, or a file cannot be read or does not fit its labels.
    """
    folder(predictions, "predictions")
    folder(labels, "labels")
    absent = {part.task: why for part in benchmark.tasks if (why := _absence(part, predictions, labels))}
    parts = [part for part in benchmark.tasks if part.task not in absent]
    gaps = {part.task: _gaps(part, predictions, labels) for part in parts}
    if not allow_missing:
        _refuse_gaps(benchmark, gaps, predictions)
    tasks: dict[str, TaskScore] = {}
    notes = list(_strays(predictions, benchmark))
    broken: list[str] = []
    for part in parts:
        there = [code for code in part.languages if code not in gaps[part.task]]
        if not there:
            absent[part.task] = "no language is there in both folders"
            continue
        found = {}
        for code in there:
            try:
                found[code] = _language(part, code, predictions, labels, notes)
            except DataError as err:
                broken.append(str(err))
        if len(found) == len(there):
            tasks[part.task] = _averaged(part, found, tuple(gaps[part.task]))
    if broken:
        raise DataError(_list(f"{count(len(broken), 'file')} of {predictions} cannot be scored", broken))
    if not tasks:
        why = "\n  ".join(f"{task}: {reason}" for task, reason in absent.items())
        raise MissingData(f"{predictions}: nothing of {benchmark.name} can be scored:\n  {why}")
    full = {name: task.score for name, task in tasks.items() if not task.missing}
    groups = {
        name: sum(full[task] for task in members) / len(members)
        for name, members in benchmark.groups.items()
        if all(task in full for task in members)
    }
    overall = sum(full.values()) / len(full) if len(full) == len(benchmark.tasks) else None
    return Result(benchmark=benchmark.name, overall=overall, groups=groups, tasks=tasks, absent=absent, notes=notes)


def _absence(part: Part, predictions: Path, labels: Path) -> str | None:
    """Why a task cannot be scored at all: the benchmark leaves out what has no folder on either side."""
    without = [
        name for name, root in (("predictions", predictions), ("labels", labels)) if not (root / part.task).is_dir()
    ]
    return f"no folder {part.task} among the {' and the '.join(without)}" if without else None


def _gaps(part: Part, predictions: Path, labels: Path) -> dict[str, list[Path]]:
    """Language -> files that are missing."""
    found = {}
    for code in part.languages:
        if missing := [path for path in (predictions / part.file(code), labels / part.file(code)) if not path.exists()]:
            found[code] = missing
    return found


def _refuse_gaps(benchmark: Benchmark, gaps: dict[str, dict[str, list[Path]]], predictions: Path) -> None:
    missing = [str(path) for codes in gaps.values() for paths in codes.values() for path in paths]
    if missing:
        head = (
            f"{benchmark.name} scores a task in all of its languages; {count(len(missing), 'file')} missing "
            "(--allow-missing scores what is there, without an overall score)"
        )
        raise MissingData(_list(head, missing))


def _list(head: str, lines: list[str]) -> str:
    shown = "".join(f"\n  {line}" for line in lines[:_SHOWN])
    return f"{head}:{shown}" + (f"\n  … and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else "")


def _language(part: Part, code: str, predictions: Path, labels: Path, notes: list[str]) -> dict[str, float]:
    """Scores of one file.

    Raises:
        DataError: naming file, place and reason where there is nothing the benchmark could score.
    """
    form, name = part.contents, part.file(code)
    rows, golds = read(form, predictions / name), read(form, labels / name, labels=True)
    wrong = list(rows.flaws)
    for path, content in ((labels / name, golds), (predictions / name, rows)):
        if fatal := next((flaw for flaw in content.flaws if flaw.fatal), None):
            raise DataError(f"{path}: {fatal.sentence}")
    for flaw in form.compare(golds.rows, rows.rows):
        if flaw.fatal:
            raise DataError(f"{predictions / name}: {flaw.sentence}")
        wrong.append(flaw)
    if golds.flaws:
        notes.append(f"labels {name}: {golds.flaws[0].sentence}{_more(len(golds.flaws))}")
    if wrong:
        notes.append(f"{name}: {wrong[0].sentence}{_more(len(wrong))}")
    return form.score(golds.rows, rows.rows, code)


def _more(number: int) -> str:
    return f" (and {number - 1:,} more)" if number > 1 else ""


def _averaged(part: Part, found: dict[str, dict[str, float]], missing: tuple[str, ...]) -> TaskScore:
    names = next(iter(found.values()))
    averages = {name: sum(scores[name] for scores in found.values()) / len(found) for name in names}
    main = part.contents.averaged
    return TaskScore(
        task=part.task,
        group=part.group,
        score=sum(averages[name] for name in main) / len(main),
        averages=averages,
        languages=found,
        missing=missing,
    )


def _strays(predictions: Path, benchmark: Benchmark) -> list[str]:
    """Folders that look like tasks and are none: a misspelt one would silently be left out."""
    known = [part.task for part in benchmark.tasks]
    notes = []
    for path in sorted(predictions.iterdir()):
        if path.is_dir() and path.name not in known:
            close = difflib.get_close_matches(path.name, known, n=1, cutoff=0.6)
            hint = f"; is {close[0]} meant?" if close else ""
            notes.append(f"folder {path.name} is no task of {benchmark.name} and was left out{hint}")
    return notes
