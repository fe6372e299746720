"""Run a plan: train what is missing, several runs at a time, score every cell, keep failures apart.

Each run is trained once however many cells need it. A run that fails blocks its descendants and nothing else; a cell
that cannot be scored blocks nothing; one whose worker dies is tried again and goes on from its checkpoint. What
another process is at work on comes last, so that several that run one grid divide it. Results do not depend on the
executor or the number of workers: each has its own process and threads.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from adapters_xling import tasks
from adapters_xling.errors import Held, XlingError
from adapters_xling.grid.executors import Executor, Here, Resources, WorkerDied
from adapters_xling.grid.plan import Cell, Plan
from adapters_xling.grid.spec import GridSpec
from adapters_xling.grid.targets import Target, floor_name, languages_of, target_tasks
from adapters_xling.paths import hold, is_held
from adapters_xling.prefix_cache import OFF, PrefixCache
from adapters_xling.spec import Route, RunSpec, Score
from adapters_xling.zoo import Zoo

ATTEMPTS = 2
"""How often a job is tried whose worker process died (an out-of-memory kill may have hit the wrong one)."""
TRAINED, SCORED = "another process trains it", "another process scores it"
HELD_S = 2.0
"""Seconds between two looks at what another process is at work on, when nothing else is left."""


@dataclass
class Outcome:
    """What came of running a plan."""

    scores: list[Score]
    trained: list[str]
    failed: dict[str, str]
    seconds: float


@dataclass(frozen=True)
class Result:
    """What one job brought: whether it trained, its scores, and the cells that could not be scored, with reasons."""

    trained: bool
    scores: list[Score]
    errors: dict[str, str]
    seconds: float


@dataclass(frozen=True)
class Common:
    """What every job of a grid shares; plain data, so that it can be sent to another process.

    Attributes:
        zoo_root: where entries are kept.
        runs_dir: predictions and scores.
        data_dir: folder of original data files.
        extra_tasks: private task files.
        threads: torch threads of each job.
        device: `cpu` or `cuda`; None chooses.
        limit: score only the first rows of every set.
        backbone: folder of a local backbone, which runs and entries name without its path.
        checkpoint_s: seconds between two checkpoints of a run; 0 for none by time.
        checkpoint_steps: steps between two; 0 for none by steps.
        prefix_cache: where hidden states of frozen layers are kept, for the runs of a worker or, in a folder, of all.
        attention: whether padding is left out of the layers.
    """

    zoo_root: Path
    runs_dir: Path
    data_dir: Path | None = None
    extra_tasks: Path | None = None
    threads: int = 1
    device: str | None = None
    limit: int | None = None
    backbone: Path | None = None
    checkpoint_s: float = 600.0
    checkpoint_steps: int = 0
    prefix_cache: PrefixCache = OFF
    attention: str = "auto"


@dataclass(frozen=True)
class Postponed:
    """What a job brought that another process began before it: nothing, yet."""


COMMON = Resources()


@dataclass(frozen=True)
class Job:
    """Something to compute, in whatever process.

    Attributes:
        function: picklable; returns a `Result`, or `Postponed`, or raises.
        resources: what it needs for itself.
    """

    function: Callable[[], Result | Postponed]
    resources: Resources = COMMON

    def __call__(self) -> Result | Postponed | str:
        """Compute it; a failure becomes its message, so that only a process that died raises at the executor."""
        try:
            return self.function()
        except Exception as err:
            return _message(err)


def execute(
    plan: Plan,
    common: Common,
    *,
    executor: Executor | None = None,
    on_event: Callable[[str, str, str], Any] = lambda *_: None,
) -> Outcome:
    """Train what is missing and score every cell.

    Args:
        plan: what `expand` gave.
        common: folders and device.
        executor: where; in this process by default. It is shut down at the end, also after an interrupt.
        on_event: called with (event, name, text); events are `train`, `have`, `again`, `fail`, `blocked` and, where
            another process is at work on it, `held`.
    """
    started = time.perf_counter()
    jobs = {
        name: Job(partial(_job, common, plan.runs.get(name), plan.grid, cells, name))
        for name, cells in plan.jobs().items()
    }
    jobs |= {floor_name(t): Job(partial(_floor, common, plan.grid, t), Resources(gpu=False)) for t in plan.floors}
    outcome = Outcome([], [], {}, 0.0)
    found: dict[str, list[Score]] = {}
    zoo = Zoo(common.zoo_root)

    def elsewhere(name: str) -> str:
        if not is_held(file := _work_file(common, name)):
            return ""
        return SCORED if name not in plan.runs or name in zoo else f"{TRAINED} ({file})"

    for name, result in _finished(jobs, plan, executor or Here(), outcome.failed, on_event, elsewhere=elsewhere):
        found[name] = result.scores
        if result.trained:
            outcome.trained.append(name)
        outcome.failed.update(result.errors)
        for cell_name, why in result.errors.items():
            on_event("fail", cell_name, why)
        on_event("train" if result.trained else "have", name, f"{result.seconds:.1f} s")
    outcome.scores += [score for name in jobs for score in found.get(name, [])]
    outcome.seconds = time.perf_counter() - started
    return outcome


def _finished(
    jobs: Mapping[str, Job],
    plan: Plan,
    executor: Executor,
    failed: dict[str, str],
    on_event: Callable[[str, str, str], Any],
    *,
    elsewhere: Callable[[str], str] = lambda _: "",
) -> Iterator[tuple[str, Result]]:
    """Yield (name, result) as jobs end, parents before children; failures go to `failed`, blocked children too.

    Jobs that another process is at work on (`elsewhere` says how, else nothing) come last: what is scored there once
    nothing else can begin, to share its cells; what is trained there once it is no more.
    """
    parents = plan.parents()
    awaited = {parent for names in parents.values() for parent in names}  # first, for others stand on them
    todo, done = dict(jobs), set[str]()
    attempts: dict[str, int] = {}
    told = set[tuple[str, str]]()
    running: dict[Future[Result | Postponed | str], str] = {}
    try:
        while todo or running:
            for name in [n for n in todo if any(p in failed for p in parents.get(n, []))]:
                broken = next(p for p in parents[name] if p in failed)
                failed[name] = f"blocked: its parent {broken} failed"
                on_event("blocked", name, failed[name])
                del todo[name]
            ready = [n for n in todo if all(p in done for p in parents.get(n, []))]
            ready.sort(key=lambda n: n not in awaited)
            held = {n: how for n in ready if (how := elsewhere(n))} if len(running) < executor.slots else {}
            free = [n for n in ready if n not in held] or [n for n, how in held.items() if how == SCORED]
            then = "waiting for it" if not running and not free else "the others first"
            for name in (n for n in held if n not in free and (n, then) not in told):
                told.add((name, then))
                on_event("held", name, f"{held[name]}: {then}")
            for name in free[: executor.slots - len(running)]:
                attempts[name] = attempts.get(name, 0) + 1
                job = todo.pop(name)
                running[executor.submit(job, job.resources)] = name
            if not running:
                if held:
                    time.sleep(HELD_S)
                continue
            ended, _ = wait(running, timeout=HELD_S if held else None, return_when=FIRST_COMPLETED)
            for future in ended:
                name = running.pop(future)
                try:
                    result = future.result()
                except WorkerDied as err:
                    if attempts[name] < ATTEMPTS:
                        todo[name] = jobs[name]
                        on_event("again", name, f"{err}; it goes on from its last checkpoint")
                        continue
                    result = f"{err}, {attempts[name]} times; {executor.advice}"
                if isinstance(result, Postponed):
                    attempts[name] -= 1
                    todo[name] = jobs[name]
                    continue
                if isinstance(result, str):
                    failed[name] = result
                    on_event("fail", name, result)
                    continue
                done.add(name)
                yield name, result
    finally:
        executor.shutdown()


def _message(err: Exception) -> str:
    """What the user reads of a failure."""
    return str(err) if isinstance(err, XlingError) else f"{type(err).__name__}: {err}"


def _work_file(common: Common, name: str) -> Path:
    """Held by whoever is at work on a job: a run by its key, a bare encoder by the name of its folder."""
    return common.runs_dir / "checkpoints" / f".{Path(name).name}.work"


def _job(common: Common, run: RunSpec | None, grid: GridSpec, cells: Sequence[Cell], name: str) -> Result | Postponed:
    """Train one run when it is missing, then score its cells. Runs in a worker process.

    Whoever trains holds the job's file, so that a run is trained once however many processes want it; scoring needs no
    hold, and shows others that they had better begin with something else.
    """
    import torch

    torch.set_num_threads(common.threads)
    started = time.perf_counter()
    zoo = Zoo(common.zoo_root)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold(_work_file(common, name)))
        except Held:
            if run is not None and name not in zoo:
                return Postponed()
        except OSError:  # a folder one may not write to; where everything is there, nothing has to be written
            pass
        missing = run is not None and name not in zoo
        if run is not None and missing:
            _train(common, run, zoo)
        scores, errors = _scores(common, grid, cells, name, zoo)
    return Result(missing, scores, errors, time.perf_counter() - started)


def _train(common: Common, run: RunSpec, zoo: Zoo) -> None:
    from adapters_xling.training import train

    train(
        run,
        zoo=zoo,
        data_dir=common.data_dir,
        log_dir=common.runs_dir / "logs",
        checkpoint_dir=common.runs_dir / "checkpoints",
        checkpoint_s=common.checkpoint_s,
        checkpoint_steps=common.checkpoint_steps,
        device=common.device,
        show_progress=False,
        extra_tasks=common.extra_tasks,
        backbone=common.backbone,
        prefix_cache=common.prefix_cache,
        attention=common.attention,
    )


def _scores(
    common: Common, grid: GridSpec, cells: Sequence[Cell], name: str, zoo: Zoo
) -> tuple[list[Score], dict[str, str]]:
    """Scores of a job's cells, and why cells have none."""
    scores: list[Score] = []
    errors: dict[str, str] = {}
    queue, held = deque(cells), set[Cell]()
    while queue:
        cell = queue.popleft()
        found, failure = _scored(common, grid, cell, zoo)
        if isinstance(failure, Held):
            # Another process is at work on the same vectors: the other cells first, then what that one has found.
            held.add(cell)
            queue.append(cell)
            if held.issuperset(queue):
                time.sleep(HELD_S)
            continue
        scores += found
        if failure is not None:
            errors[f"{name} on {cell.target.label}"] = _message(failure)
    return scores, errors


def _scored(common: Common, grid: GridSpec, cell: Cell, zoo: Zoo) -> tuple[list[Score], Exception | None]:
    """Scores of a cell's languages, and what kept some of them, or all, from being scored."""
    from adapters_xling.evaluation import Reading, evaluate_all

    task = tasks.get(cell.target.task, extra=common.extra_tasks)
    languages = languages_of(cell.target, task, grid, swap=cell.swap)
    if not languages:
        return [], None
    ways = dict(cell.swap)
    failures: list[Exception] = []

    def note(_: str, err: Exception) -> None:
        failures.append(err)

    def way(_: str, language: str) -> Route | None:
        return ways.get(language)

    try:
        found = evaluate_all(
            [cell.name],
            task,
            zoo=zoo,
            runs_dir=common.runs_dir,
            languages=languages,
            skip_missing=True,
            split=cell.target.split,
            data_dir=common.data_dir,
            limit=common.limit or cell.target.limit,
            device=common.device,
            extra_tasks=common.extra_tasks,
            backbone=common.backbone,
            reading=Reading(layer=cell.target.layer),
            precision=grid.scoring_precision,
            prefix_cache=common.prefix_cache,
            attention=common.attention,
            routes=way,
            on_failure=note,
        )
    except Exception as err:
        return [], err
    return found[cell.name], failures[0] if failures else None


def _floor(common: Common, grid: GridSpec, target: Target) -> Result:
    """Score the prediction that ignores the input. Runs in a worker process."""
    from adapters_xling.evaluation import majority

    started = time.perf_counter()
    task, source = target_tasks(target, extra=common.extra_tasks)
    languages = languages_of(target, task, grid)
    scores = (
        majority(
            task,
            backbone=grid.backbone,
            languages=languages,
            skip_missing=True,
            split=target.split,
            data_dir=common.data_dir,
            limit=common.limit or target.limit,
            train_task=source,
        )
        if languages
        else []
    )
    return Result(False, scores, {}, time.perf_counter() - started)
