"""Check a folder before it is handed in: every missing, unexpected or malformed file by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .benchmark import Benchmark, Part
from .files import BadFile, Content, Flaw, folder
from .formats import Format


class Problem(NamedTuple):
    """Something wrong with a folder.

    Attributes:
        file: path below the folder.
        line: line it is in, counted from 1, where there is one.
        text: what is wrong.
    """

    file: str
    line: int | None
    text: str


def check(predictions: Path, benchmark: Benchmark, *, labels: Path | None = None) -> list[Problem]:
    """Everything that is wrong with a submission folder, in the order of the benchmark's tasks.

    Args:
        predictions: the folder that would be handed in.
        benchmark: what it should hold.
        labels: folder of the same layout with the answers; then counts and ids are compared, too.

    Raises:
        DataError: when a folder is not there.
    """
    folder(predictions, "submission")
    if labels is not None:
        folder(labels, "labels")
    found = [problem for part in benchmark.tasks for problem in _part(predictions, part, labels)]
    return found + list(_unexpected(predictions, benchmark))


def read(form: Format, path: Path, *, labels: bool = False) -> Content:
    """Read a file of predictions or labels; what cannot be read becomes a fatal flaw."""
    try:
        return form.read_labels(path) if labels else form.read(path)
    except BadFile as err:
        return Content([], [err.flaw])


def flaws(form: Format, path: Path, labels: Path | None = None) -> Iterator[Flaw]:
    """What is wrong with one file, and with it beside its labels."""
    rows = read(form, path)
    yield from rows.flaws
    if labels is None or any(flaw.fatal for flaw in rows.flaws):
        return
    golds = read(form, labels, labels=True)
    if fatal := [flaw for flaw in golds.flaws if flaw.fatal]:
        yield Flaw(f"cannot be compared: the labels {labels}: {fatal[0].sentence}")
        return
    yield from form.compare(golds.rows, rows.rows)


def _part(predictions: Path, part: Part, labels: Path | None) -> Iterator[Problem]:
    if not (predictions / part.task).is_dir():
        codes = ",".join(part.languages)
        suffix = part.contents.suffix
        number = len(part.languages)
        text = f"folder is missing, with its {number} files test-{{{codes}}}{suffix}"
        if (predictions / part.task).exists():
            text = f"is a file; a folder with {number} files test-{{{codes}}}{suffix} is wanted"
        yield Problem(part.task, None, text)
        return
    for code in part.languages:
        name = part.file(code)
        if not (predictions / name).exists():
            yield Problem(name, None, "is missing")
            continue
        gold = labels / name if labels is not None else None
        if gold is not None and not gold.exists():
            yield Problem(name, None, f"cannot be compared: {gold} does not exist")
            gold = None
        for flaw in flaws(part.contents, predictions / name, gold):
            yield Problem(name, flaw.line, flaw.text)


def _unexpected(predictions: Path, benchmark: Benchmark) -> Iterator[Problem]:
    """Files and folders the benchmark does not ask for."""
    parts = {part.task: part for part in benchmark.tasks}
    for path in sorted(predictions.iterdir()):
        part = parts.get(path.name)
        if part is None:
            yield Problem(path.name, None, f"is unexpected{_hint(path.name, list(parts))}; remove or rename it")
            continue
        if not path.is_dir():
            continue
        wanted = [Path(part.file(code)).name for code in part.languages]
        for file in sorted(path.iterdir()):
            if file.name not in wanted:
                text = f"is unexpected{_hint(file.name, wanted)}; remove or rename it"
                yield Problem(f"{path.name}/{file.name}", None, text)


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f" (is {close[0]} meant?)" if close else ""
