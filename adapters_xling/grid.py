"""Expand an experiment to runs, order them by their parents, run what is missing, collect the scores.

A grid is data (`task_configs/grids/*.yaml`). Everything illegal in it is found while it is expanded, before anything
trains. Each run is trained once however many cells need it; a failed run blocks its descendants and nothing else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from adapters_xling import methods, paths, tasks
from adapters_xling.backbones import FAMILIES, backbone
from adapters_xling.errors import ConfigError, XlingError, unknown
from adapters_xling.methods import Method
from adapters_xling.spec import (
    BackboneId,
    Fresh,
    Frozen,
    Init,
    Name,
    Recipes,
    Route,
    RunSpec,
    Score,
    Slot,
    Stack,
    TaskSpec,
    Use,
    Warm,
    decode,
    key,
    load_recipes,
    read_yaml,
    resolve_recipe,
)
from adapters_xling.zoo import Zoo

NO_INTERMEDIATE = "none"
FRESH, SLOT = Fresh(), Slot()
HEAD_FLOORS: dict[str, dict[str, Any]] = {"head": {}, "vectors": {"layer": 0}}
"""Floors that are trained: a head on the frozen encoder, and a head on its token vectors alone."""


class Target(Frozen, frozen=True):
    """A target task of a grid.

    Attributes:
        task: its name.
        train: task its training rows come from; by default what its task file says.
        split: split to score; by default what its task file says.
        limit: score only the first rows of each language (printed with every table that stands on it).
    """

    task: Name
    train: Name | None = None
    split: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None


class GridSpec(Frozen, frozen=True):
    """One experiment: intermediate tasks × target tasks × methods × transfers × seeds on one backbone.

    Attributes:
        methods: label -> settings; `method` names the family where the label does not.
        intermediate: tasks of phase 2; "none" is the run without one.
        transfer: how a target run uses its intermediate entry: start from it (warm) or stand on it (stack).
        floors: what every table needs beside the methods: majority, head (frozen encoder), vectors (token vectors).
        overrides: differences to the recipe, for every run of the grid.
        languages: evaluation languages; null means all of each task's.
        warning: a sentence that is printed with every table.
    """

    title: str
    backbone: str
    recipe: str
    methods: dict[str, dict[str, Any]]
    intermediate: tuple[str, ...]
    targets: tuple[Target | str, ...]
    transfer: tuple[Literal["warm", "stack"], ...] = ("warm",)
    seeds: tuple[int, ...] = (0,)
    floors: tuple[Literal["majority", "head", "vectors"], ...] = ("majority", "head", "vectors")
    overrides: dict[str, Any] = {}
    languages: tuple[str, ...] | None = None
    warning: str = ""


@dataclass(frozen=True)
class Cell:
    """One thing to score: an entry (or the bare backbone) on a target task."""

    name: str
    target: Target


@dataclass
class Plan:
    """A grid, expanded.

    Attributes:
        runs: key -> run, parents before children.
        cells: what to score once the runs exist.
        floors: targets whose majority prediction is scored.
    """

    grid: GridSpec
    runs: dict[str, RunSpec] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    floors: list[Target] = field(default_factory=list)

    def state(self, zoo: Zoo) -> dict[str, str]:
        """For each run: `have`, `missing`, or `blocked` (trainable only after a missing parent)."""
        states: dict[str, str] = {}
        for name, run in self.runs.items():
            if name in zoo:
                states[name] = "have"
            else:
                states[name] = "blocked" if any(states.get(p) != "have" for p in run.parents) else "missing"
        return states


@dataclass(frozen=True)
class Estimate:
    """How long the missing part of a plan will take; `seconds` is None until something like it was timed here."""

    seconds: float | None
    text: str


@dataclass
class Outcome:
    """What came of running a plan."""

    scores: list[Score]
    trained: list[str]
    failed: dict[str, str]
    seconds: float


def grid_path(name: str) -> Path:
    """Find a grid by name (shipped) or path.

    Raises:
        UnknownName: with the closest shipped grid.
    """
    if name.endswith((".yaml", ".yml")) or os.sep in name:
        if not Path(name).is_file():
            raise ConfigError(f"grid file {name} does not exist")
        return Path(name)
    folder = paths.task_configs_dir() / "grids"
    known = {path.stem: path for path in folder.glob("*.yaml")}
    if name not in known:
        raise unknown("grid", name, known, "task_configs/grids/*.yaml, or give a path that ends in .yaml")
    return known[name]


def load_grid(name: str, *, narrow: dict[str, Sequence[Any]] | None = None) -> GridSpec:
    """Read a grid; `narrow` keeps only the named methods, intermediate tasks, targets, languages or seeds.

    Raises:
        ConfigError: naming file and field.
        UnknownName: when `narrow` asks for something the grid does not have.
    """
    path = grid_path(name)
    grid = decode(GridSpec, read_yaml(path), str(path))
    changes: dict[str, Any] = {}
    for what, wanted in (narrow or {}).items():
        if not wanted:
            continue
        have = getattr(grid, what)
        names = {(item if isinstance(item, str) else getattr(item, "task", item)): item for item in have or wanted}
        for item in wanted:
            if item not in names:
                raise unknown(what.rstrip("s"), str(item), map(str, names), str(path))
        changes[what] = {k: have[k] for k in wanted} if isinstance(have, dict) else tuple(names[w] for w in wanted)
    return msgspec.structs.replace(grid, **changes)


def method_from(label: str, settings: Mapping[str, Any]) -> Method:
    """Build a method from a grid's label and settings; `method` among them names the family where the label does not.

    Raises:
        UnknownName: for a method or setting that does not exist.
    """
    given = dict(settings)
    return methods.resolve(given.pop("method", label), given)


def make_run(
    task: TaskSpec,
    method: Method,
    *,
    backbone: BackboneId,
    recipe: str,
    overrides: Mapping[str, Any] | None = None,
    init: Init = FRESH,
    route: Route = SLOT,
    seed: int = 0,
    data_dir: Path | None = None,
) -> RunSpec:
    """Put together everything that determines an entry, fully resolved.

    Raises:
        ConfigError: when the method cannot start or run that way, or a setting is wrong.
        MissingData: when the task's rows, whose digest is part of the run, are not at hand.
    """
    problem = method.supports(init, route)
    if problem:
        raise ConfigError(f"task {task.name}: {problem}")
    settings = resolve_recipe(
        recipes(), recipe, method=method.name, kind=task.kind, task=task.name, overrides=overrides
    )
    return RunSpec(
        backbone=backbone,
        tasks=(tasks.ref(task, data_dir=data_dir),),
        method=method.spec(),
        recipe=settings,
        init=init,
        route=route,
        seed=seed,
    )


def expand(grid: GridSpec, *, data_dir: Path | None = None, extra_tasks: Path | None = None) -> Plan:
    """Turn a grid into runs and cells, checking everything that can be checked without training.

    Raises:
        XlingError: for an unknown task, method, setting or language, or a combination no method supports.
    """
    from adapters_xling.model import backbone_id  # torch-free until weights are loaded

    row = backbone(grid.backbone)
    identity = backbone_id(grid.backbone)
    plan = Plan(grid)
    targets = [Target(task=t) if isinstance(t, str) else t for t in grid.targets]

    def run_for(task: TaskSpec, method: Method, init: Init, route: Route, seed: int, **more: Any) -> str:
        run = make_run(
            task,
            method,
            backbone=identity,
            recipe=grid.recipe,
            overrides={**grid.overrides, **more},
            init=init,
            route=route,
            seed=seed,
            data_dir=data_dir,
        )
        plan.runs.setdefault(key(run), run)
        return key(run)

    specs = {target: _target(target, grid, extra_tasks) for target in targets}
    for seed in grid.seeds:
        for label, settings in grid.methods.items():
            method = method_from(label, settings)
            method.check(FAMILIES[row.family])
            for intermediate in grid.intermediate:
                parent = None
                if intermediate != NO_INTERMEDIATE:
                    parent = run_for(tasks.get(intermediate, extra=extra_tasks), method, Fresh(), Slot(), seed)
                for target, (_, source) in specs.items():
                    if source is None:
                        plan.cells.append(Cell(parent or grid.backbone, target))
                        continue
                    starts = _starts(parent, grid.transfer)
                    for init, route in starts:
                        if method.supports(init, route) and len(starts) > 1:
                            continue  # what cannot stack is compared through its warm run
                        plan.cells.append(Cell(run_for(source, method, init, route, seed), target))
        for floor, settings in HEAD_FLOORS.items():
            if floor in grid.floors:
                more = {"pooling": "mean"} if settings else {}
                for target, (_, source) in specs.items():
                    if source is not None:
                        method = methods.resolve("head", settings)
                        plan.cells.append(Cell(run_for(source, method, Fresh(), Slot(), seed, **more), target))
    plan.cells = list(dict.fromkeys(plan.cells))
    if "majority" in grid.floors:
        plan.floors = list(specs)
    return plan


def _starts(parent: str | None, transfer: Sequence[str]) -> list[tuple[Init, Route]]:
    """Init and route of a target run for each way of using its parent."""
    if parent is None:
        return [(Fresh(), Slot())]
    ways: dict[str, tuple[Init, Route]] = {
        "warm": (Warm(entry=parent), Slot()),
        "stack": (Fresh(), Stack(parts=(Use(entry=parent), Slot()))),
    }
    return [ways[way] for way in transfer]


def _target(target: Target, grid: GridSpec, extra: Path | None) -> tuple[TaskSpec, TaskSpec | None]:
    """A target's task and the task it trains on (None where the kind needs no training)."""
    task = tasks.get(target.task, extra=extra)
    if grid.languages:
        split = target.split or task.eval_split
        known = task.languages_by_split.get(split, task.languages)
        for code in grid.languages:
            if code not in known:
                raise unknown(f"language of {task.name} ({split})", code, known)
    if not task.train_languages:
        return task, None
    return task, tasks.get(target.train, extra=extra) if target.train else tasks.train_task(task, extra=extra)


# --- running ----------------------------------------------------------------------------------------------------


def execute(
    plan: Plan,
    *,
    zoo: Zoo,
    runs_dir: Path,
    data_dir: Path | None = None,
    extra_tasks: Path | None = None,
    workers: int = 1,
    threads: int = 1,
    device: str | None = None,
    limit: int | None = None,
    on_event: Callable[[str, str, str], Any] = lambda *_: None,
) -> Outcome:
    """Train what is missing and score every cell, several runs at a time.

    Each worker is a process of its own with `threads` torch threads, so results do not depend on how many there are.

    Args:
        plan: what `expand` gave.
        zoo: where entries are kept.
        runs_dir: predictions and scores.
        data_dir: folder of original data files.
        extra_tasks: private task files.
        workers: processes at a time.
        threads: torch threads of each.
        device: `cpu` or `cuda`; None lets accelerate choose.
        limit: score only the first rows of every set.
        on_event: called with (event, name, text); events are `train`, `score`, `have`, `fail`, `blocked`.
    """
    started = time.perf_counter()
    common = _Common(zoo.root, runs_dir, data_dir, extra_tasks, threads, device, limit)
    cells: dict[str, list[Cell]] = {}
    for cell in plan.cells:
        cells.setdefault(cell.name, []).append(cell)
    todo = dict(plan.runs)
    awaited = {parent for run in plan.runs.values() for parent in run.parents}  # first, for others stand on them
    failed: dict[str, str] = {}
    trained: list[str] = []
    scores: dict[str, list[Score]] = {}
    done: set[str] = set()
    jobs: dict[Future[Any], str] = {}
    with _pool(workers) as pool:
        waiting: dict[str, Callable[[], Future[Any]]] = {}
        for name in [n for n in cells if n not in plan.runs]:
            waiting[name] = partial(pool.submit, _job, common, None, plan.grid, cells[name], name)
        for target in plan.floors:
            waiting[f"majority {target.task}"] = partial(pool.submit, _floor, common, plan.grid, target)
        while todo or waiting or jobs:
            for name, run in list(todo.items()):
                broken = [p for p in run.parents if p in failed]
                if broken:
                    failed[name] = f"blocked: its parent {broken[0]} failed"
                    on_event("blocked", name, failed[name])
                    del todo[name]
                elif all(p in done or p not in plan.runs for p in run.parents):
                    waiting[name] = partial(pool.submit, _job, common, run, plan.grid, cells.get(name, []), name)
                    del todo[name]
            while waiting and len(jobs) < workers:
                name = next((n for n in waiting if n in awaited), next(iter(waiting)))
                jobs[waiting.pop(name)()] = name
            if not jobs:
                continue
            finished, _ = wait(jobs, return_when=FIRST_COMPLETED)
            for future in finished:
                name = jobs.pop(future)
                try:
                    was_trained, found, seconds = future.result()
                except Exception as err:
                    failed[name] = f"{type(err).__name__}: {err}" if not isinstance(err, XlingError) else str(err)
                    on_event("fail", name, failed[name])
                    continue
                done.add(name)
                scores[name] = found
                if was_trained:
                    trained.append(name)
                on_event("train" if was_trained else "have", name, f"{seconds:.1f} s")
    order = [*dict.fromkeys([*cells, *plan.runs]), *(f"majority {t.task}" for t in plan.floors)]
    flat = [score for name in order for score in scores.get(name, [])]
    return Outcome(flat, trained, failed, time.perf_counter() - started)


@dataclass(frozen=True)
class _Common:
    """What every job of a grid shares; plain data, so that it can be sent to another process."""

    zoo_root: Path
    runs_dir: Path
    data_dir: Path | None
    extra_tasks: Path | None
    threads: int
    device: str | None
    limit: int | None


class _Here:
    """Stands in for a process pool when there is one worker: jobs run at once, in this process."""

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args))
        except Exception as err:
            future.set_exception(err)
        return future


def _pool(workers: int) -> Any:
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn")) if workers > 1 else _Here()


def _job(
    common: _Common, run: RunSpec | None, grid: GridSpec, cells: Sequence[Cell], name: str
) -> tuple[bool, list[Score], float]:
    """Train one run when it is missing, then score its cells. Runs in a worker process."""
    import torch

    from adapters_xling.evaluation import evaluate
    from adapters_xling.training import train

    torch.set_num_threads(common.threads)
    started = time.perf_counter()
    zoo = Zoo(common.zoo_root)
    missing = run is not None and name not in zoo
    if run is not None and missing:
        train(
            run,
            zoo=zoo,
            data_dir=common.data_dir,
            log_dir=common.runs_dir / "logs",
            device=common.device,
            show_progress=False,
            extra_tasks=common.extra_tasks,
        )
    scores: list[Score] = []
    for cell in cells:
        task = tasks.get(cell.target.task, extra=common.extra_tasks)
        scores += evaluate(
            name,
            task,
            zoo=zoo,
            runs_dir=common.runs_dir,
            languages=grid.languages,
            split=cell.target.split,
            data_dir=common.data_dir,
            limit=common.limit or cell.target.limit,
            device=common.device or "cpu",
        )
    return missing, scores, time.perf_counter() - started


def _floor(common: _Common, grid: GridSpec, target: Target) -> tuple[bool, list[Score], float]:
    from adapters_xling.evaluation import majority

    started = time.perf_counter()
    task, source = _target(target, grid, common.extra_tasks)
    scores = majority(
        task,
        backbone=grid.backbone,
        languages=grid.languages,
        split=target.split,
        data_dir=common.data_dir,
        limit=common.limit or target.limit,
        train_task=source,
    )
    return False, scores, time.perf_counter() - started


def estimate(plan: Plan, *, zoo: Zoo, workers: int) -> Estimate:
    """Predict the time of the runs a plan still lacks from entries trained here before.

    Seconds per optimiser step and example of the most similar entries: same backbone, method and task, else same
    method, else any. Evaluation is not counted apart; the figure is of the order of minutes, not seconds.
    """
    timed: dict[tuple[str, ...], list[float]] = {}
    for entry in zoo.entries():
        run, facts = entry.card.run, entry.card.training
        if facts is None or not facts.steps:
            continue
        cost = facts.seconds / (facts.steps * run.recipe.batch_size * run.recipe.accumulate)
        for similar in _similar(run):
            timed.setdefault(similar, []).append(cost)
    missing = [run for name, run in plan.runs.items() if name not in zoo]
    if not missing:
        return Estimate(0.0, "nothing to train")
    total = 0.0
    for run in missing:
        costs = next((timed[s] for s in _similar(run) if s in timed), None)
        if costs is None:
            return Estimate(None, "no run was timed here yet; the time left is shown once the first run is done")
        rows = run.recipe.max_steps * run.recipe.batch_size * run.recipe.accumulate
        if not rows:
            return Estimate(None, "a recipe that counts epochs is not estimated; time left is shown on the way")
        total += rows * sorted(costs)[len(costs) // 2]
    seconds = total / workers
    return Estimate(seconds, f"about {max(1, round(seconds / 60))} min of training left with {workers} at a time")


def _similar(run: RunSpec) -> tuple[tuple[str, ...], ...]:
    """From most to least alike: what a run's cost per example may be read from."""
    backbone_name, method = run.backbone.name, run.method.name
    return ((backbone_name, method, run.task), (backbone_name, method), (backbone_name,))


def shipped_grids() -> Iterator[tuple[str, str]]:
    """Names and titles of the shipped grids."""
    for path in sorted((paths.task_configs_dir() / "grids").glob("*.yaml")):
        yield path.stem, decode(GridSpec, read_yaml(path), str(path)).title


def recipes() -> Recipes:
    """The shipped recipes."""
    return load_recipes(paths.task_configs_dir() / "recipes.yaml")
