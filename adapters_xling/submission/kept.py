"""Predictions that an evaluation kept, read back for a submission."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xling.errors import DataError, MissingData
from adapters_xling.paths import predictions_file, score_file
from adapters_xling.spec import FULL, TaskSpec

if TYPE_CHECKING:
    from adapters_xling.tasks.examples import RetrieveExample

PRECISIONS = (FULL, "bf16")
"""Of the forward passes whose predictions are handed in, the preferred one first."""
SHORT_KEY = 6
"""Characters of a key's hash that name it."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Kept predictions of one entry on one (task, split, language).

    Attributes:
        folder: `<runs>/scores/<entry>/<task>`.
        task: the task.
        split: the split that was predicted.
        language: its language.
        values: (id, predicted value) in the order of the rows.
        dropped: reason -> rows that were turned away, and so have no prediction.
        path: file of the predictions; the folder where there is none.
        precision: of the forward passes.
        data_dir: folder of the original files, for what predictions alone do not say (texts, answers of the dev split).
        notes: what was decided in filling the file.
    """

    folder: Path
    task: TaskSpec
    split: str
    language: str
    values: tuple[tuple[str, Any], ...]
    dropped: dict[str, int]
    path: Path = Path()
    precision: str = FULL
    data_dir: Path | None = None
    notes: list[str] = field(default_factory=list)

    def of_split(self, split: str) -> Kept:
        """What the same entry predicted on another split, in the same precision.

        Raises:
            MissingData: when it was not predicted.
        """
        return read(self.folder, self.task, split, self.language, data_dir=self.data_dir, precisions=[self.precision])

    def sentences(self) -> tuple[list[RetrieveExample], list[RetrieveExample]]:
        """Queries and corpus of a retrieval task, in the order of their files, as they are at hand now.

        Raises:
            MissingData: when they are not at hand.
            DataError: when they are not the sentences that were predicted.
        """
        from adapters_xling import tasks

        rows: Sequence[Any] = tasks.load(
            self.task, self.split, self.language, data_dir=self.data_dir, need_gold=False
        ).examples
        queries = [row for row in rows if row.side == "query"]
        corpus = [row for row in rows if row.side == "corpus"]
        known = {row.id for row in corpus}
        hits = {hit[0] for _, ranking in self.values for hit in ranking}
        if {id_ for id_, _ in self.values} != {row.id for row in queries} or not hits <= known:
            raise DataError(
                f"{self.path}: the sentences at hand are not those that were predicted; run "
                f"`{how(self.folder, self.task, self.split, self.language, self.precision)}` again, or name the same "
                "--data-dir"
            )
        return queries, corpus


def entry_folders(sources: Sequence[str], runs_dir: Path) -> list[Path]:
    """Folders `scores/<entry>` of what was named.

    Args:
        sources: runs folders, folders of one entry's scores, or entries of `runs_dir` (a key, the beginning of one, or
            of its hash).
        runs_dir: runs folder in which entries are looked up.

    Raises:
        MissingData: for a folder without kept predictions, or an entry without any.
        DataError: when a name fits several entries.
    """
    found: list[Path] = []
    for source in sources:
        path = Path(source)
        if (path / "scores").is_dir():
            here = _subfolders(path / "scores")
        elif path.is_dir() and path.parent.name == "scores":
            here = [path]
        elif path.is_dir():
            raise MissingData(
                f"{path} holds no kept predictions: it is neither a runs folder (with a folder scores) nor one of the "
                "folders in its scores. `xling evaluate ENTRY TASK` keeps predictions"
            )
        else:
            here = [named(source, _subfolders(runs_dir / "scores"), str(runs_dir / "scores"))]
        found += [folder for folder in here if folder.resolve() not in {other.resolve() for other in found}]
    return found


def _subfolders(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir()) if path.is_dir() else []


def named(name: str, folders: Sequence[Path], where: str) -> Path:
    """The folder an entry's name means: the name itself, its beginning, or that of its hash.

    Raises:
        MissingData: when there is none, with those that are there.
        DataError: when several fit.
    """
    fits = [path for path in folders if path.name == name] or [path for path in folders if path.name.startswith(name)]
    if not fits and len(name) >= SHORT_KEY:
        fits = [path for path in folders if path.name.rpartition("-")[2].startswith(name)]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise DataError(f"{name!r} means {len(fits)} entries of {where}: {', '.join(p.name for p in fits)}")
    known = ", ".join(path.name for path in folders) or "none"
    raise MissingData(
        f"{name!r} is no folder, and no entry with kept predictions in {where}. There are: {known}. "
        "`xling evaluate ENTRY TASK` keeps predictions; --runs names another runs folder"
    )


def predicted(folder: Path, task: TaskSpec, split: str, languages: Sequence[str]) -> bool:
    """Whether an entry's folder has predictions on the task in any of the languages."""
    return any(True for code in languages for _ in _whole(folder / task.name, split, code, PRECISIONS))


def read(
    folder: Path,
    task: TaskSpec,
    split: str,
    language: str,
    *,
    data_dir: Path | None,
    precisions: Sequence[str] = PRECISIONS,
) -> Kept:
    """Read kept predictions of a whole split in one language.

    Args:
        folder: `<runs>/scores/<entry>/<task>`.
        task: the task.
        split: its split.
        language: its language.
        data_dir: folder of the original files.
        precisions: of the forward passes, the one that is preferred first. In each, predictions that were kept without
            scores go before those that were scored, for they leave no row out. Those of other rows than are at hand now
            (where they are) are not taken; older files do not say which rows theirs are.

    Raises:
        MissingData: when there are none, or only those of the first rows.
        DataError: for a file that does not hold predictions, or when all are of other rows than those at hand.
    """
    whole = list(_whole(folder, split, language, precisions))
    precision, done = _of_these_rows(whole, task, split, language, data_dir) or (precisions[0], Path())
    path = predictions_file(done) if whole else Path()
    command = how(folder, task, split, language, precision)
    if not whole:
        some = sorted(folder.glob(f"{split}-{language}-first*.json"))
        only = f" (only of its first rows: {some[0].name})" if some else ""
        raise MissingData(f"no predictions of {task.name}, {split}, {language}{only}: `{command}`")
    values = []
    for number, line in enumerate(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"), 1):
        try:
            row = json.loads(line)
            values.append((str(row["id"]), row["value"]))
        except (ValueError, TypeError, KeyError) as err:
            raise DataError(f"{path}: line {number} is no prediction ({err!r}): `{command}` again") from err
    try:
        dropped = dict(json.loads(done.read_text(encoding="utf-8"))["rows"]["dropped"])
    except (ValueError, TypeError, KeyError) as err:
        raise DataError(f"{done}: not a score file ({err!r}): `{command}` again") from err
    return Kept(
        folder=folder,
        task=task,
        split=split,
        language=language,
        values=tuple(values),
        dropped=dropped,
        path=path,
        precision=precision,
        data_dir=data_dir,
        notes=[f"predicted in {precision}"] if precision != FULL else [],
    )


def how(folder: Path, task: TaskSpec, split: str, language: str, precision: str = FULL) -> str:
    """The command that makes the predictions."""
    split = "" if split == task.eval_split else f" --split {split}"
    rounded = "" if precision == FULL else f" --precision {precision}"
    return f"xling evaluate {folder.parent.name} {task.name} --languages {language}{split}{rounded}"


def _whole(folder: Path, split: str, language: str, precisions: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Precision and score file of each that is whole (both files are there), the preferred one first."""
    for precision in precisions:
        for unscored in (True, False):
            done = score_file(folder, split, language, precision=precision, unscored=unscored)
            if done.is_file() and predictions_file(done).is_file():
                yield precision, done


def _of_these_rows(
    whole: Sequence[tuple[str, Path]], task: TaskSpec, split: str, language: str, data_dir: Path | None
) -> tuple[str, Path] | None:
    """The first that was made of the rows at hand, or, where these are not, of those that the newest one was made of.

    Raises:
        DataError: when all were made of other rows.
    """
    from adapters_xling.tasks import sources

    if not whole:
        return None
    said = {done: _digest(done) for _, done in whole}
    here = {found.identity() for found in sources.every(task, split, language, data_dir=data_dir, ask=False)}
    if not here:
        here = {said[max(said, key=lambda done: done.stat().st_mtime_ns)]}
    fits = [one for one in whole if said[one[1]] in here] or [one for one in whole if not said[one[1]]]
    if not fits:
        precision, done = whole[0]
        raise DataError(
            f"{done}: predicted for other rows of {task.name}, {split}, {language} than those at hand now; run "
            f"`{how(done.parent, task, split, language, precision)}` again, or name the same --data-dir"
        )
    return fits[0]


def _digest(done: Path) -> str:
    """Digest of the rows that a score file's predictions are of; empty where it does not say."""
    try:
        return str(json.loads(done.read_text(encoding="utf-8"))["rows"].get("digest", ""))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return ""
