"""What was timed on this machine before: trainings from entries' cards, evaluations from kept scores.

Only what compares is read: the same backbone, type of device and number of threads, and entries that were trained here,
not ones that came with the package or from elsewhere.
"""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import msgspec

from adapters_xling import methods, tasks
from adapters_xling.backbones import Family, Shape
from adapters_xling.errors import XlingError
from adapters_xling.grid.cost import (
    RETRIEVAL_LENGTH,
    Machine,
    Ratios,
    kind_of,
    retrieval_layer,
    scoring_load,
    similar_scoring,
    similar_training,
)
from adapters_xling.grid.loads import Part, loads, part_of
from adapters_xling.grid.sizes import Sizes
from adapters_xling.methods import Method
from adapters_xling.spec import RunSpec, TaskSpec, digest
from adapters_xling.zoo import Card, Zoo, cpu_name

THREADS = 1
"""Torch threads of a grid's jobs; what was timed with more is no measure of them."""
MOST_CARDS = 150
"""Entries whose cards are read, those made last first: a card takes milliseconds, and a plan should print at once."""
MOST_FILES = 2000
"""Score files that are read, those of the entries scored last first."""


class _Timing(msgspec.Struct):
    seconds: float
    device: str
    threads: int = THREADS


class _Row(msgspec.Struct):
    key: str
    task: str
    language: str
    split: str
    backbone: str
    method: str
    num_examples: int


class _Kept(msgspec.Struct):
    """The part of a score file that is wanted here."""

    scores: list[_Row]
    timing: _Timing | None = None


class Timings:
    """Timed work as ratios of measured to modelled seconds, and what else entries tell: tokens of a task, bytes.

    Attributes:
        ratios: see `Ratios`.
        tokens: (digest of the task, max_length) -> mean tokens of one encoded training row, in the backbone's own
            vocabulary.
        counts: trainings and evaluations that were used.

    Args:
        backbone: only what ran on the backbone of this name.
        zoo: where entries are; those of its fallbacks were trained elsewhere.
        runs_dir: folder of the kept scores.
        sizes: sizes of sets.
        machine: the model that times are compared with.
        shape: size of the backbone.
        family: its architecture.
        extra: private folder of task files.
    """

    def __init__(
        self,
        backbone: str,
        *,
        zoo: Zoo,
        runs_dir: Path,
        sizes: Sizes,
        machine: Machine,
        shape: Shape,
        family: Family,
        extra: Path | None = None,
    ) -> None:
        self._backbone, self._sizes, self._machine, self._extra = backbone, sizes, machine, extra
        self._shape, self._family = shape, family
        self.ratios = Ratios()
        self.tokens: dict[tuple[str, int], float] = {}
        self.counts = (0, 0)
        self._entry_bytes: dict[tuple[str, ...], int] = {}
        self._row_bytes: dict[str, float] = {}
        self._tasks: dict[str, TaskSpec | None] = {}
        self._cards = {card.key: card for card in _cards(zoo) if card.run.backbone.name == backbone}
        self._note_trainings()
        self._note_scores(runs_dir / "scores")

    def entry_bytes(self, run: RunSpec) -> int | None:
        """Bytes of an entry of the same method and settings, on the same task where there is one; None without any."""
        same = digest(run.method)
        return self._entry_bytes.get((same, run.task), self._entry_bytes.get((same,)))

    def row_bytes(self, task: TaskSpec, default: float) -> float:
        """Bytes of one kept prediction: of the same task, else of the same kind, else `default`."""
        return self._row_bytes.get(task.name, self._row_bytes.get(f"kind {task.kind}", default))

    def _note_trainings(self) -> None:
        here, used = cpu_name(), 0
        for card in self._cards.values():
            run, facts = card.run, card.training
            same = digest(run.method)
            self._entry_bytes[same, run.task] = card.num_bytes
            self._entry_bytes[same,] = max(card.num_bytes, self._entry_bytes.get((same,), 0))
            if facts is None or not facts.steps or not facts.tokens:
                continue
            seen = facts.epochs * facts.examples if facts.epochs else facts.steps * _batch(run)
            if len(run.tasks) == 1:
                self.tokens[run.tasks[0].digest, run.recipe.max_length] = facts.tokens / seen
            device = facts.device or ("cpu" if card.provenance.gpu is None else None)
            if device != self._machine.device or (device == "cpu" and card.provenance.cpu != here):
                continue
            if device == "cpu" and card.provenance.num_threads != THREADS:
                continue
            method = methods.resolve(run.method)
            found = self._parts(card, facts.tokens / seen)
            if found is None:
                continue
            parts, steps = found
            evaluations = math.ceil(facts.steps / run.recipe.eval_every_steps)
            modelled = sum(
                self._machine.seconds(load, self._shape, self._family, method)
                for load in loads(parts, steps=steps, evaluations=evaluations)
            )
            kinds = {head.kind for head in card.heads.values() if head.task in run.task.split("+")}
            similar = similar_training(self._backbone, method.label, run.task, kind_of(kinds))
            self.ratios.note(similar, facts.seconds, modelled)
            used += 1
        self.counts = (used, 0)

    def _parts(self, card: Card, tokens: float) -> tuple[list[Part], list[float]] | None:
        """What an entry was trained on, by task, and the steps of each; None where a task's file is gone.

        Of a mixture only the tokens of all tasks together are known: they are shared out as the rows at hand say.
        """
        run, facts = card.run, card.training
        assert facts is not None
        parts, steps = [], []
        for ref in run.tasks:
            task = self._task(ref.name)
            if task is None:
                return None
            rows, dev = (
                sum(_used(rows) for place, rows in card.data.items() if place.startswith(f"{ref.name}/{split}/"))
                for split in ("train", "dev")
            )
            part = part_of(task, run.recipe_for(ref.name), self._sizes)
            windows = facts.examples / max(rows, 1) if len(run.tasks) == 1 else part.windows
            parts.append(dataclasses.replace(part, rows=rows, dev=dev, windows=windows))
            own = facts.tasks.get(ref.name)
            steps.append(float(own.steps if own else facts.steps))
        batches = [part.recipe.batch_size * part.recipe.accumulate for part in parts]
        guessed = sum(s * b * part.tokens for s, b, part in zip(steps, batches, parts, strict=True))
        mean = guessed / max(sum(s * b for s, b in zip(steps, batches, strict=True)), 1)
        scale = tokens / mean if mean else 1.0
        return [dataclasses.replace(part, tokens=part.tokens * scale) for part in parts], steps

    def _note_scores(self, folder: Path) -> None:
        used = 0
        decoder = msgspec.json.Decoder(_Kept)
        for path in _score_files(folder):
            try:
                kept = decoder.decode(path.read_bytes())
            except (OSError, msgspec.MsgspecError):
                continue
            if not kept.scores or kept.scores[0].backbone != self._backbone:
                continue
            row, task = kept.scores[0], self._task(kept.scores[0].task)
            if task is None:
                continue
            self._note_bytes(task, path, row.num_examples)
            timing = kept.timing
            if timing is None or timing.device != self._machine.device:
                continue
            if timing.device == "cpu" and timing.threads != THREADS:
                continue
            card = self._cards.get(row.key)
            if card is None and row.key != self._backbone:
                continue  # its method's settings are not at hand
            length = card.run.recipe.max_length if card and task.train_languages else RETRIEVAL_LENGTH
            size = self._sizes.of(task, row.split, row.language, max_length=length)
            if size is None:
                continue
            method: Method | None = methods.resolve(card.run.method) if card else None
            load = scoring_load(
                size, row.num_examples + size.corpus, retrieval_layer(task, self._backbone, self._shape)
            )
            modelled = self._machine.seconds(load, self._shape, self._family, method)
            similar = similar_scoring(self._backbone, row.method, task.name, task.kind, row.language)
            self.ratios.note(similar, timing.seconds, modelled)
            used += 1
        self.counts = (self.counts[0], used)

    def _note_bytes(self, task: TaskSpec, path: Path, num_rows: int) -> None:
        predictions = path.with_suffix(".predictions.jsonl")
        if num_rows and predictions.is_file():
            one = (predictions.stat().st_size + path.stat().st_size) / num_rows
            for name in (task.name, f"kind {task.kind}"):
                self._row_bytes[name] = max(one, self._row_bytes.get(name, 0.0))

    def _task(self, name: str) -> TaskSpec | None:
        """A task by name; None for one whose file is gone."""
        if name not in self._tasks:
            try:
                self._tasks[name] = tasks.get(name, extra=self._extra)
            except XlingError:
                self._tasks[name] = None
        return self._tasks[name]


def _cards(zoo: Zoo) -> list[Card]:
    """Cards of the entries that were made last, at most `MOST_CARDS`; a broken one is the zoo's to report."""
    found = []
    for key in _newest(zoo.root)[:MOST_CARDS]:
        try:
            found.append(zoo.get(key, verify=False).card)
        except XlingError:
            continue
    return found


def _newest(folder: Path) -> list[str]:
    """Names of the folders inside a folder, the one changed last first."""
    try:
        inside = [(entry.stat().st_mtime, entry.name) for entry in os.scandir(folder) if entry.is_dir()]
    except OSError:
        return []
    return [name for _, name in sorted(inside, reverse=True)]


def _batch(run: RunSpec) -> int:
    return run.recipe.batch_size * run.recipe.accumulate


def _used(rows: Any) -> int:
    return rows.kept if rows.used is None else rows.used


def _score_files(folder: Path) -> list[Path]:
    """Score files of the entries that were scored last, at most `MOST_FILES`."""
    found: list[Path] = []
    for name in _newest(folder):
        found += sorted((folder / name).glob("*/*.json"))
        if len(found) >= MOST_FILES:
            break
    return found[:MOST_FILES]
