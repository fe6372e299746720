"""How long a plan will take on this machine and how much disk it will need, before anything trains; loads no torch.

Training and scoring are counted, of what is still missing; jobs are laid out on the workers as the executor will do it.
"""

from __future__ import annotations

import heapq
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters_xling import keeping, methods, paths, tasks
from adapters_xling.backbones import Shape
from adapters_xling.errors import XlingError
from adapters_xling.grid.cost import (
    RETRIEVAL_LENGTH,
    Load,
    Machine,
    kind_of,
    retrieval_layer,
    scoring_load,
    shape_of,
    similar_scoring,
    similar_training,
)
from adapters_xling.grid.loads import Part, part_of, planned_loads
from adapters_xling.grid.memory import Batch, Footprint, Need, footprint, need
from adapters_xling.grid.plan import Cell, Plan
from adapters_xling.grid.sizes import Size, Sizes, published
from adapters_xling.grid.targets import Target, floor_name, languages_of, target_tasks
from adapters_xling.grid.timings import Timings
from adapters_xling.made_with import made_with, max_length_of
from adapters_xling.methods import Method
from adapters_xling.model import family_of
from adapters_xling.prefix_cache import OFF, PrefixCache
from adapters_xling.spec import Recipe, RunSpec, TaskSpec, digest, scored_as
from adapters_xling.zoo import Zoo

START_S = 8.0
"""Seconds until the workers have loaded their libraries (measured: 8 s between command and first result)."""
KEPT_ROW = 0.25
"""Share of a row's own cost that is left when its score is there already: the row is read and counted, no more."""
CARD_BYTES, LOG_BYTES, PREDICTION_BYTES = 20_000, 15_000, 300
"""Bytes beside the weights of an entry, of its log, and of one kept prediction (measured on the mini grids, rounded up;
retrieval with its ranked lists takes 1,200)."""
SPREAD = {None: 2.0, 0: 1.25, 1: 1.25}
"""Factor within which a figure is believed: modelled alone, or timed on the same task. Else `SPREAD_OTHER`."""
SPREAD_OTHER = 1.5
NEVER_TIMED = -1
"""Rank of what is too small to be timed apart: reading rows, opening a model."""


@dataclass
class Job:
    """What one job will take: a run with its cells, the bare backbone's cells, or a majority floor.

    Attributes:
        label: its method, and the task it is for.
        train_s: seconds of training; 0 when the entry is there.
        score_s: seconds of scoring.
        sets: (task, language) sets it scores that were not scored before.
        timed_s: part of the time that stands on something timed here.
        modelled_s: part of the time that would, but nothing like it was timed.
        spread_s: the time, each part times the factor within which it is believed.
        disk_bytes: what it will write.
        need: memory that its training needs, and whether the device has it; None when nothing is trained.
    """

    label: tuple[str, str]
    train_s: float = 0.0
    score_s: float = 0.0
    sets: int = 0
    timed_s: float = 0.0
    modelled_s: float = 0.0
    spread_s: float = 0.0
    disk_bytes: float = 0.0
    need: Need | None = None

    @property
    def seconds(self) -> float:
        """Time of the whole job."""
        return self.train_s + self.score_s

    def add(self, seconds: float, rank: int | None, *, training: bool = False) -> None:
        """Add a part of the work; `rank` says how similar the timed work is that it stands on (`Ratios.find`), or is
        `NEVER_TIMED`.
        """
        self.train_s += seconds * training
        self.score_s += seconds * (not training)
        self.timed_s += seconds * (rank is not None and rank != NEVER_TIMED)
        self.modelled_s += seconds * (rank is None)
        self.spread_s += seconds * SPREAD.get(rank, SPREAD_OTHER)


@dataclass(frozen=True)
class Estimate:
    """What a plan will take.

    Attributes:
        seconds: wall-clock time with that many workers.
        low_s: the time it should not take less than.
        high_s: the time it should not take more than.
        basis: what the figure stands on: `measured` (on this machine, of the same or similar work), `mixed`, or
            `modelled` (nothing like it was timed here).
        at_most: whether runs may stop early, so that the time is an upper bound.
        jobs: name -> its part.
        workers: jobs at a time.
        device: type of device.
        flops: modelled multiplications and additions per second and worker.
        num_timed: trainings and scorings timed here that the figure stands on.
        disk_bytes: what will be written.
        free_bytes: what is free in the folder of the runs; None where that cannot be told.
        unread: sets on the hub whose size could only be guessed.
        memory: bytes of the device that a run may use; None where that is not known.
        absent: targets none of whose rows are at hand, in the grid's order; they are counted as their task files say.
        partly: other targets -> languages of which no rows are at hand.
    """

    seconds: float
    low_s: float
    high_s: float
    basis: str
    at_most: bool
    jobs: Mapping[str, Job]
    parents: Mapping[str, Sequence[str]]
    workers: int
    device: str
    flops: float
    num_timed: tuple[int, int]
    disk_bytes: int
    free_bytes: int | None
    unread: int = 0
    absent: tuple[str, ...] = ()
    partly: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    memory: float | None = None

    def left(self, done: set[str]) -> float:
        """Seconds that the jobs not in `done` will take, as estimated before anything ran."""
        rest = {name: job.seconds for name, job in self.jobs.items() if name not in done}
        return schedule(rest, self.parents, self.workers)

    def shares(self, which: int) -> dict[str, float]:
        """Share of the working time by method (0) or task (1), largest first."""
        total = sum(job.seconds for job in self.jobs.values()) or 1.0
        found: dict[str, float] = {}
        for job in self.jobs.values():
            found[job.label[which]] = found.get(job.label[which], 0.0) + job.seconds / total
        return dict(sorted(found.items(), key=lambda item: -item[1]))


def schedule(seconds: Mapping[str, float], parents: Mapping[str, Sequence[str]], workers: int) -> float:
    """Seconds until the last job ends when `workers` at a time take the first ready one, as the executor does.

    Of the ready jobs those go first that others stand on. A parent that is not among the jobs is there already.

    >>> schedule({"a": 3, "b": 2, "c": 2, "a child": 3}, {"a child": ["a"]}, workers=2)
    6.0
    """
    waits = {name: sum(parent in seconds for parent in parents.get(name, ())) for name in seconds}
    children: dict[str, list[str]] = {}
    for name in seconds:
        for parent in parents.get(name, ()):
            children.setdefault(parent, []).append(name)
    order = {name: (name not in children, i) for i, name in enumerate(seconds)}
    ready = [(order[name], name) for name in seconds if not waits[name]]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < max(workers, 1):
            _, name = heapq.heappop(ready)
            heapq.heappush(running, (now + seconds[name], name))
        now, ended = heapq.heappop(running)
        for child in children.get(ended, ()):
            waits[child] -= 1
            if not waits[child]:
                heapq.heappush(ready, (order[child], child))
    return now


def require_room(estimate: Estimate, folder: Path) -> None:
    """Refuse to start what the disk cannot hold.

    Raises:
        XlingError: with what is needed, what is free, and how to need less.
    """
    if estimate.free_bytes is not None and estimate.disk_bytes > estimate.free_bytes:
        raise XlingError(
            f"this grid needs about {estimate.disk_bytes / 1e9:.2f} GB in {folder}, where "
            f"{estimate.free_bytes / 1e9:.2f} GB are free; nothing was trained. Make room, choose another folder "
            "(--runs or XLING_RUNS), or narrow the grid: --methods, --targets, --intermediate, --seeds"
        )


def free_bytes(folder: Path) -> int | None:
    """Bytes free where a folder is or will be made; None where the system does not say."""
    there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), None)
    try:
        return shutil.disk_usage(there).free if there else None
    except OSError:
        return None


def estimate(
    plan: Plan,
    *,
    zoo: Zoo,
    runs_dir: Path,
    workers: int,
    device: str = "cpu",
    data_dir: Path | None = None,
    extra_tasks: Path | None = None,
    limit: int | None = None,
    machine: Machine | None = None,
    memory: float | None = None,
    prefix_cache: PrefixCache = OFF,
) -> Estimate:
    """Predict time and disk of what a plan still lacks.

    Args:
        plan: what `expand` gave.
        zoo: entries that are there, whose training was timed.
        runs_dir: scores that are there, each of which was timed.
        workers: jobs at a time.
        device: type of device they run on; times of another type are not used.
        data_dir: folder of original data files.
        extra_tasks: private task files.
        limit: rows scored of every set.
        machine: modelled speed; measured when None.
        memory: bytes of the device that a run may use; None where that is not known.
        prefix_cache: how scoring keeps hidden states of frozen layers, for scores made otherwise are made again.

    Raises:
        XlingError: when the backbone's size cannot be told.
    """
    shape = shape_of(plan.grid.backbone, zoo=zoo)
    machine = machine or Machine.measure(device, shape)
    work = _Work(plan, zoo, runs_dir, Sizes(data_dir), extra_tasks, limit, machine, shape, memory, prefix_cache)
    found = {name: work.job(name, cells) for name, cells in plan.jobs().items()}
    found |= {floor_name(target): work.floor(target) for target in plan.floors}
    parents = plan.parents()
    busy = sum(job.seconds for job in found.values())
    seconds = (schedule({n: job.seconds for n, job in found.items()}, parents, workers) + START_S) if found else 0.0
    spread = sum(job.spread_s for job in found.values()) / busy if busy else 1.0
    timed, modelled = (sum(getattr(job, part) for job in found.values()) for part in ("timed_s", "modelled_s"))
    missing = [run for name, run in plan.runs.items() if found[name].train_s]
    return Estimate(
        seconds=seconds,
        low_s=seconds / spread,
        high_s=seconds * spread,
        basis="measured" if modelled <= 0.05 * timed else "mixed" if timed > 0.05 * modelled else "modelled",
        at_most=any(run.recipe.patience for run in missing),
        jobs=found,
        parents=parents,
        workers=workers,
        device=machine.device,
        flops=machine.flops,
        num_timed=work.timings.counts,
        disk_bytes=round(sum(job.disk_bytes for job in found.values())),
        free_bytes=free_bytes(runs_dir),
        unread=work.sizes.unread,
        memory=memory,
        absent=tuple(dict.fromkeys(target.task for target in work.absent)),
        partly=dict(work.partly),
    )


class _Work:
    """A plan's jobs, each turned into what it loads the machine with."""

    def __init__(
        self,
        plan: Plan,
        zoo: Zoo,
        runs_dir: Path,
        sizes: Sizes,
        extra: Path | None,
        limit: int | None,
        machine: Machine,
        shape: Shape,
        memory: float | None,
        prefix_cache: PrefixCache,
    ) -> None:
        self.memory, self.prefix_cache = memory, prefix_cache
        self.plan, self.zoo, self.runs_dir, self.sizes = plan, zoo, runs_dir, sizes
        self.extra, self.limit, self.machine, self.shape = extra, limit, machine, shape
        self._tasks: dict[str, TaskSpec] = {}
        self._folders: dict[tuple[str, str], Path | None] = {}
        self._sets_s: dict[tuple[Any, ...], tuple[float, int | None]] = {}
        self.absent: dict[Target, None] = {}
        self.partly: dict[str, tuple[str, ...]] = {}
        self.family = family_of(plan.grid.backbone)
        self.backbone = Path(plan.grid.backbone).name
        self.timings = Timings(
            self.backbone,
            zoo=zoo,
            runs_dir=runs_dir,
            sizes=sizes,
            machine=machine,
            shape=shape,
            family=self.family,
            extra=extra,
        )

    def job(self, name: str, cells: Sequence[Cell]) -> Job:
        """A run with its cells; the bare backbone's cells where there is no run of that name."""
        run = self.plan.runs.get(cells[0].name if cells else name)
        method = methods.resolve(run.method) if run else None
        job = Job((method.label if method else "base", run.task if run else cells[0].target.task))
        if run and method and name in self.plan.runs and name not in self.zoo:
            self._train(job, run, method)
        for cell in cells:
            self._score(job, cell, run, method)
        return job

    def floor(self, target: Target) -> Job:
        """A majority floor: rows are read and counted."""
        task, source = target_tasks(target, extra=self.extra)
        sets = [(task, _split(target, task), code) for code in languages_of(target, task, self.plan.grid)]
        found = [self.sizes.of(*one, max_length=RETRIEVAL_LENGTH) for one in sets]
        rows = sum(size.encoded(self.limit or target.limit) for size in found if size)
        rows += sum(size.rows for size in self._sets(source, "train", RETRIEVAL_LENGTH)) if source else 0
        job = Job(("majority", task.name))
        job.add(self._seconds(Load(rows=rows * KEPT_ROW), None), NEVER_TIMED)
        return job

    def _train(self, job: Job, run: RunSpec, method: Method) -> None:
        """Add training: the steps the recipe allows, and the dev evaluations between them."""
        known = {ref.name: self._task(ref.name) for ref in run.tasks}
        kind = kind_of(task.kind for task in known.values())
        ratio, rank = self.timings.ratios.find(similar_training(self.backbone, method.label, run.task, kind))
        parts = {}
        for ref in run.tasks:
            recipe = run.recipe_for(ref.name)
            tokens = self.timings.tokens.get((ref.digest, recipe.max_length))
            parts[ref.name] = part_of(known[ref.name], recipe, self.sizes, tokens=tokens)
        seconds = sum(self._seconds(load, method) for load in planned_loads(run, parts))
        job.add(seconds * ratio, rank, training=True)
        heads = sum((len(task.labels) + 2) * self.shape.hidden for task in known.values())
        heads += 2 * (self.shape.hidden + 1) * self.shape.hidden
        needs = [self._need(known[name], part, method, heads) for name, part in parts.items()]
        job.need = max(needs, key=lambda one: one.footprint.peak)
        num_bytes = self.timings.entry_bytes(run)
        if num_bytes is None:
            num_bytes = 4 * (method.num_saved(self.shape, self.family) + heads)
        job.disk_bytes += num_bytes + CARD_BYTES + LOG_BYTES

    def _need(self, task: TaskSpec, part: Part, method: Method, heads: int) -> Need:
        """Memory of a training step on a task, its rows as long as the recipe lets them be."""

        def count(recipe: Recipe) -> Footprint:
            length = min(recipe.max_length, self.shape.positions - self.family.position_offset)
            batch = Batch.of(recipe, rows=1 / part.thin, tokens=length, outputs=len(task.labels), masked=part.masked)
            return footprint(
                method, recipe, batch, self.shape, self.family, device=self.machine.device, head_parameters=heads
            )

        return need(task.name, part.recipe, count, self.memory)

    def _score(self, job: Job, cell: Cell, run: RunSpec | None, method: Method | None) -> None:
        """Add a cell's sets: in full those not scored yet or scored otherwise, of others only that rows are read."""
        task = self._task(cell.target.task)
        split, limit = _split(cell.target, task), self.limit or cell.target.limit
        length = run.recipe.max_length if run and task.train_languages else RETRIEVAL_LENGTH
        ways = dict(cell.swap)
        sets = job.sets
        codes = languages_of(cell.target, task, self.plan.grid, swap=cell.swap)
        found = {code: self.sizes.of(task, split, code, max_length=length) for code in codes}
        if not any(found.values()):  # what will be there one day: as the task file says
            self.absent[cell.target] = None
            found = dict.fromkeys(codes, published(task, split, max_length=length))
        elif lacking := tuple(code for code, size in found.items() if size is None):
            self.partly[cell.target.label] = lacking
        precision, row_bytes = self.plan.grid.scoring_precision, self.timings.row_bytes(task, PREDICTION_BYTES)
        for code, size in found.items():
            if size is None:
                continue
            folder = self._scores_of(scored_as(cell.name, ways.get(code)), task.name)
            how: dict[str, Any] = {"limit": limit, "reading": cell.target.reading, "precision": precision}
            stands = folder is not None and self._stands(paths.score_file(folder, split, code, **how), cell, run, task)
            if not stands:
                rows = size.encoded(limit)
                job.sets += 1
                job.disk_bytes += (rows - size.corpus) * row_bytes
            place = (task.name, split, code, length, limit, stands, job.label[0], method)
            if place not in self._sets_s:  # many runs of a method are scored on the same sets
                self._sets_s[place] = self._set(size, code, task, job.label[0], method, limit=limit, stands=stands)
            job.add(*self._sets_s[place])
        if job.sets > sets:
            job.add(self._seconds(Load(opened=1), None), NEVER_TIMED)

    def _set(
        self,
        size: Size,
        code: str,
        task: TaskSpec,
        label: str,
        method: Method | None,
        *,
        limit: int | None,
        stands: bool,
    ) -> tuple[float, int | None]:
        """Seconds of one set of rows, as `Job.add` takes them; where its scores stand its rows are only read."""
        rows = size.encoded(limit)
        load = Load(rows=rows * KEPT_ROW)
        if not stands:
            load = scoring_load(size, rows, retrieval_layer(task, self.backbone, self.shape))
        ratio, rank = self.timings.ratios.find(similar_scoring(self.backbone, label, task.name, task.kind, code))
        return self._seconds(load, method) * ratio, rank

    def _scores_of(self, name: str, task: str) -> Path | None:
        """Folder of a system's score files of a task; None where there is none."""
        if (name, task) not in self._folders:
            folder = self.runs_dir / "scores" / name / task
            self._folders[name, task] = folder if folder.is_dir() else None
        return self._folders[name, task]

    def _stands(self, path: Path, cell: Cell, run: RunSpec | None, task: TaskSpec) -> bool:
        """Whether there are scores that were read as the plan reads them; files that do not say how are believed."""
        if (kept := keeping.read(path)) is None:
            return False
        how = made_with(
            task,
            backbone=run.backbone.name if run else cell.name,
            max_length=max_length_of(run, task, extra_tasks=self.extra),
            reading=cell.target.reading,
            precision=self.plan.grid.scoring_precision,
            prefix_cache=self.prefix_cache,
        )
        return kept.reader in ("", digest(how))

    def _task(self, name: str) -> TaskSpec:
        if name not in self._tasks:
            self._tasks[name] = tasks.get(name, extra=self.extra)
        return self._tasks[name]

    def _seconds(self, load: Load, method: Method | None) -> float:
        return self.machine.seconds(load, self.shape, self.family, method)

    def _sets(self, task: TaskSpec, split: str, max_length: int) -> list[Size]:
        found = [self.sizes.of(task, split, code, max_length=max_length) for code in task.train_languages]
        return [size for size in found if size is not None]


def _split(target: Target, task: TaskSpec) -> str:
    return target.split or task.eval_split
