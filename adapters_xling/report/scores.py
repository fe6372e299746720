"""Scores on disk, one JSON object per line, and the facts about entries that scores do not carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from adapters_xling.errors import DataError, MissingData
from adapters_xling.paths import atomic_write
from adapters_xling.published import PublishedTable
from adapters_xling.spec import Frozen, Score


class EntryFacts(Frozen, frozen=True):
    """What a table says about an entry beside its scores; a field nobody knows stays None and prints `·`.

    Attributes:
        num_trainable: trainable parameters, head included.
        num_bytes: size of the entry's files.
        seconds: training time of this entry alone, without its parents'.
        steps: optimiser steps taken.
        device: what it was trained on, in words.
        on_gpu: whether that was a GPU; None where the card does not say.
        num_devices: devices it was trained on at a time.
        converged: the run's own verdict; None when it gave none.
        dev_score: best dev score, in percent of the task's first metric.
        chance: dev score of guessing, in percent.
        method_settings: settings of the method; two settings of one method become two rows.
        failure: why the run has no scores; empty when it did not fail.
        parents: keys of the entries it starts from or stands on.
        stands_on: those of them that it still needs when it is used.
        mixture: name that the grid gives its intermediate step (a mixture); empty where that goes by its task.
        label: what the grid calls the method with these settings; empty where it has no name for it.
    """

    num_trainable: int | None = None
    num_bytes: int | None = None
    seconds: float | None = None
    converged: bool | None = None
    dev_score: float | None = None
    chance: float | None = None
    method_settings: Mapping[str, Any] = {}
    failure: str = ""
    steps: int | None = None
    device: str = ""
    on_gpu: bool | None = None
    num_devices: int | None = None
    parents: tuple[str, ...] = ()
    stands_on: tuple[str, ...] = ()
    mixture: str = ""
    label: str = ""

    @property
    def device_hours(self) -> float | None:
        """Training time times devices, in hours; None where the card lacks one of them."""
        if self.seconds is None or self.num_devices is None or self.on_gpu is None:
            return None
        return self.seconds * self.num_devices / 3600


class RunInfo(Frozen, frozen=True):
    """What stands at the top of a report.

    Attributes:
        title: heading of the report.
        commit: version of the code that made the scores.
        machine: hardware, in words.
        date: day of the run; given, never taken from the clock, so that a report is a function of its input.
        seconds: wall-clock time of the last run, which may have found everything trained.
        num_trained: entries that the last run trained; None where nobody counted.
        notes: warnings about scale or comparability, printed prominently.
        metrics: task -> metric that stands for it in averages, in the order tasks are listed; a task not named
            here comes after these, with the first metric its scores name.
        zero_shot_languages: task -> languages its zero-shot average needs; by default every language that any
            row of the task was scored in without training on it.
        published: other people's rows, shown in a section of their own.
        random: backbone whose weights were only drawn -> the one that it is the floor of.
        all_languages: task -> languages that a published mean of it is over; tasks whose scores here are not
            comparable with published ones (only some rows were scored) are left out.
        limits: task -> rows that were scored of each language, None for all; None in a report of before it was kept.
        readings: retrieval task -> what sets scores of another layer than the usual one apart; None as in `limits`.
        precision: of the forward passes that scored.
        retrieval: tasks that no mean over tasks counts in, unless there are no others.
        grid: what it is the report of: name of a shipped grid, or path of another's file from the folder of the runs;
            empty in a report of before it was kept, like the next.
        grid_digest: of the grid's text.
        narrowing: field of the grid -> what was kept of it, where not all was.
    """

    title: str
    commit: str = ""
    machine: str = ""
    date: str = ""
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    metrics: Mapping[str, str] = {}
    zero_shot_languages: Mapping[str, tuple[str, ...]] = {}
    num_trained: int | None = None
    published: PublishedTable | None = None
    all_languages: Mapping[str, tuple[str, ...]] = {}
    random: Mapping[str, str] = {}
    limits: Mapping[str, int | None] | None = None
    retrieval: tuple[str, ...] = ()
    readings: Mapping[str, str] | None = None
    precision: str = "fp32"
    grid: str = ""
    grid_digest: str = ""
    narrowing: Mapping[str, tuple[str, ...]] = {}


def read_scores(path: Path) -> list[Score]:
    """Read scores strictly: every line is a whole `Score`, blank lines aside.

    Raises:
        MissingData: when there is no such file.
        DataError: naming file and line; a last line without its line break is said to be half-written.
    """
    try:
        content = path.read_bytes()
    except OSError as err:
        raise MissingData(
            f"{path}: cannot be read: {err.strerror or err}. Scores are written by evaluation; run it, or name its file"
        ) from err
    lines = content.split(b"\n")
    scores = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            scores.append(msgspec.json.decode(line, type=Score))
        except (msgspec.DecodeError, UnicodeDecodeError) as err:
            if number == len(lines):
                raise DataError(
                    f"{path}:{number}: the last line is incomplete ({err}), as when the writing process is killed. "
                    "Delete that line; evaluation will score its cell again"
                ) from err
            raise DataError(f"{path}:{number}: not a score: {err}. Mend or delete the line") from err
    return scores


def write_scores(path: Path, scores: Iterable[Score]) -> None:
    """Write scores, one per line, atomically: readers see the old file or the new one, never half of either."""
    encode = msgspec.json.encode
    atomic_write(path, b"".join(encode(score) + b"\n" for score in scores))


def unconverged(keys: Iterable[str], facts: Mapping[str, EntryFacts]) -> list[str]:
    """Those of some entries, and of the entries they start from or stand on, that did not converge."""
    every = {name for key in keys for name in (key, *(facts[key].parents if key in facts else ()))}
    return sorted(name for name in every if name in facts and facts[name].converged is False)
