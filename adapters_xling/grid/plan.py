"""A grid expanded to runs and cells; everything illegal is found before anything trains."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from adapters_xling import methods, tasks
from adapters_xling.errors import ConfigError, UnknownName, unknown
from adapters_xling.grid.controls import equal_steps
from adapters_xling.grid.language_adapters import Swap, language_runs, require_labels
from adapters_xling.grid.mixing import Mix
from adapters_xling.grid.runs import Refs, make_run, method_from, unlike_poolers
from adapters_xling.grid.spec import GridSpec, Intermediate, grid_path
from adapters_xling.grid.targets import Target, languages_of, require_columns, target_tasks
from adapters_xling.methods import Method
from adapters_xling.spec import (
    BackboneId,
    Fresh,
    Init,
    Merge,
    Route,
    RunSpec,
    Slot,
    Stack,
    TaskSpec,
    Use,
    Warm,
    digest,
    entries,
    key,
)
from adapters_xling.zoo import Zoo

NO_INTERMEDIATE = "none"
SWAPPED = "on the adapters of its languages"
HEAD_FLOORS: dict[str, dict[str, Any]] = {"head": {}, "vectors": {"layer": 0}}
"""Floors that are trained: a head on the frozen encoder, and a head on its token vectors alone."""


@dataclass(frozen=True)
class Cell:
    """One thing to score: an entry (or the bare backbone) on a target task.

    Attributes:
        name: key of the entry, or name of the backbone.
        target: what to score it on.
        swap: what its heads stand on in each language, which then are the only ones scored; empty for what they were
            trained on.
    """

    name: str
    target: Target
    swap: Swap = ()

    @property
    def job(self) -> str:
        """Name of the job that scores it: that of its run, or one of its own that waits for all it stands on."""
        return f"{self.name} {SWAPPED}" if self.swap else self.name

    @property
    def stands_on(self) -> tuple[str, ...]:
        """Entries that must be there before it can be scored, itself included."""
        return tuple(dict.fromkeys([self.name, *(one for _, route in self.swap for one in entries(route))]))


@dataclass(frozen=True)
class Origin:
    """Where a plan comes from.

    Attributes:
        path: the grid's file, absolute.
        digest: of its text.
        narrowing: field of the grid -> what was kept of it, where not all was.
    """

    path: Path
    digest: str
    narrowing: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, name: str, narrow: Mapping[str, Sequence[Any]]) -> Origin:
        """That of a grid by name or path, narrowed as `load_grid` does it."""
        path = grid_path(name)
        kept = {what: tuple(map(str, wanted)) for what, wanted in narrow.items() if wanted}
        return cls(path.resolve(), digest(path.read_text(encoding="utf-8")), kept)


@dataclass
class Plan:
    """A grid, expanded.

    Attributes:
        runs: key -> run, parents before children.
        cells: what to score once the runs exist.
        floors: targets whose majority prediction is scored.
        controls: run -> its control at equal total steps. Controls are in `runs` and `cells` too, but in no table of
            methods: they are there to be compared with.
        mixtures: key of an intermediate run that the grid gives a name -> that name.
        without_pooler: run -> its parent, whose pooler it leaves behind because it reads rows another way.
        lacking: name of a task -> why its training rows are not at hand. Runs of it, and what stands on them, cannot
            be trained, and their keys change once the rows are there.
        locked: False for a backbone that is not here: keys change once it is.
        left_out: tasks whose runs were left out of the plan because their rows are not at hand (`at_hand`).
        origin: where it comes from; None for a plan that was made of no file.
    """

    grid: GridSpec
    runs: dict[str, RunSpec] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    floors: list[Target] = field(default_factory=list)
    controls: dict[str, str] = field(default_factory=dict)
    mixtures: dict[str, str] = field(default_factory=dict)
    without_pooler: dict[str, str] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)
    locked: bool = True
    left_out: tuple[str, ...] = ()
    origin: Origin | None = None

    def jobs(self) -> dict[str, list[Cell]]:
        """Cells by what they score, in the order in which it is begun: what needs no run first, parents before
        children. Majority floors come after all of these.
        """
        bare = [cell.name for cell in self.cells if cell.name not in self.runs]
        swapped = [cell.job for cell in self.cells if cell.swap]
        cells: dict[str, list[Cell]] = {name: [] for name in (*bare, *self.runs, *swapped)}
        for cell in self.cells:
            cells[cell.job].append(cell)
        return cells

    def parents(self) -> dict[str, list[str]]:
        """For each job the runs of this plan that must be there before it."""
        found = {name: [p for p in run.parents if p in self.runs] for name, run in self.runs.items()}
        for cell in self.cells:
            if cell.swap:
                own = found.setdefault(cell.job, [])
                own += [name for name in cell.stands_on if name in self.runs and name not in own]
        return found

    def state(self, zoo: Zoo) -> dict[str, str]:
        """For each run: `have`, `missing`, `blocked` (trainable only after a missing parent), or `lacking` (not
        trainable here: rows of it, or of what it stands on, are not at hand)."""
        states: dict[str, str] = {}
        lacking = self._without_rows()
        for name, run in self.runs.items():
            if name in zoo:
                states[name] = "have"
            elif name in lacking:
                states[name] = "lacking"
            else:
                states[name] = "blocked" if any(states.get(p) != "have" for p in run.parents) else "missing"
        return states

    def at_hand(self) -> Plan:
        """The plan without the runs whose rows, or whose parents' rows, are not at hand, and without their cells."""
        gone = self._without_rows()
        runs = {name: run for name, run in self.runs.items() if name not in gone}
        cells = [cell for cell in self.cells if not gone & set(cell.stands_on)]
        trained = {cell.target for cell in cells}
        floors = [target for target in self.floors if target in trained]
        mixtures = {name: called for name, called in self.mixtures.items() if name in runs}
        return Plan(
            self.grid,
            runs,
            cells,
            floors,
            controls={name: one for name, one in self.controls.items() if name in runs and one in runs},
            mixtures=mixtures,
            without_pooler={name: one for name, one in self.without_pooler.items() if name in runs},
            locked=self.locked,
            left_out=tuple(self.lacking),
            origin=self.origin,
        )

    def _without_rows(self) -> set[str]:
        gone: set[str] = set()
        for name, run in self.runs.items():  # parents come before children
            if gone & set(run.parents) or any(task.name in self.lacking for task in run.tasks):
                gone.add(name)
        return gone


def expand(
    grid: GridSpec, *, data_dir: Path | None = None, extra_tasks: Path | None = None, download: bool = False
) -> Plan:
    """Turn a grid into runs and cells, checking everything that can be checked without training.

    What is not here yet may be planned with: rows (see `Plan.lacking`), and a hub backbone, which `download` fetches.

    Raises:
        XlingError: for an unknown task, method, setting or language, a combination no method supports, or two targets
            or methods that a report cannot tell apart.
    """
    from adapters_xling.model import backbone_id, family_of  # torch-free until weights are loaded

    family = family_of(grid.backbone)
    identity = backbone_id(grid.backbone, download=download)
    refs = Refs(data_dir, extra=extra_tasks)
    plan = Plan(grid, lacking=refs.lacking, locked=identity.digest is not None)
    targets = [Target(task=t) if isinstance(t, str) else t for t in grid.targets]

    local = Path(grid.backbone) if Path(grid.backbone).is_dir() else None

    def run_for(
        task: TaskSpec | Sequence[TaskSpec],
        method: Method,
        init: Init,
        route: Route,
        seed: int,
        *,
        mix: Mix | None = None,
        recipe: str | None = None,
        encoder: BackboneId = identity,
        **more: Any,
    ) -> str:
        run = make_run(
            task,
            method,
            backbone=encoder,
            recipe=recipe or grid.recipe,
            overrides={**grid.overrides, **more},
            rows_at_once=grid.rows_at_once,
            init=init,
            route=route,
            seed=seed,
            data_dir=data_dir,
            mix=mix,
            backbone_folder=local,
            refs=refs,
        )
        unlike = [one for one in run.parents if unlike_poolers(run, plan.runs[one], extra=extra_tasks)]
        if unlike and "carry" not in grid.overrides:
            run = msgspec.structs.replace(run, recipe=msgspec.structs.replace(run.recipe, carry="none"))
            plan.without_pooler[key(run)] = unlike[0]
        name = key(run)
        plan.runs.setdefault(name, run)
        return name

    specs = {target: target_tasks(target, extra=extra_tasks) for target in targets}
    require_columns(specs)
    served = {code for target, (task, _) in specs.items() for code in languages_of(target, task, grid)}
    for code in grid.languages or ():
        if code not in served:
            raise unknown(
                "language of this grid's targets", code, served | {c for t, _ in specs.values() for c in t.languages}
            )
    for name in grid.rows_at_once:
        try:
            tasks.get(name, extra=extra_tasks)
        except UnknownName as err:
            raise UnknownName(f"rows_at_once: {err}") from None
    for task, source in specs.values():
        if source is not None and task.name in grid.rows_at_once and task.name != source.name:
            raise ConfigError(
                f"rows_at_once: target {task.name!r} trains on the rows of {source.name!r}; give the number under that "
                "name"
            )
    if grid.language_adapters:
        require_labels(grid.language_adapters, grid.methods)
    resolved = {label: method_from(label, settings) for label, settings in grid.methods.items()}
    for label, method in resolved.items():
        if (same := next(other for other in resolved if resolved[other] == method)) != label:
            raise ConfigError(
                f"methods: {same} and {label} are one method with the same settings, and so have the same runs; give "
                "one of them other settings, or leave it out"
            )
    for seed in grid.seeds:
        for label, settings in grid.methods.items():
            method = resolved[label]
            method.check(family)
            parents: dict[str, str] = {}
            called: dict[str, str] = {}
            for intermediate in grid.intermediate:
                parent = None
                if intermediate != NO_INTERMEDIATE:
                    step = intermediate if isinstance(intermediate, Intermediate) else _alone(intermediate)
                    mixed = [tasks.get(name, extra=extra_tasks) for name in step.tasks]
                    if len(mixed) < 2 and (step.rates or step.mix != "proportional"):
                        raise ConfigError(
                            f"intermediate: step {step.name!r} has one task, {', '.join(step.tasks) or 'none'}, and "
                            "says how several share the steps; name the others under `tasks`, or leave `mix` and "
                            "`rates` out"
                        )
                    mix = Mix.parse(step.mix, step.rates) if len(mixed) > 1 else None
                    recipe = step.recipe or grid.intermediate_recipe
                    parent = run_for(mixed, method, Fresh(), Slot(), seed, mix=mix, recipe=recipe)
                    if parents.setdefault(step.name, parent) != parent:
                        raise ConfigError(
                            f"intermediate: two steps are called {step.name!r}, so no table could tell them apart; "
                            "give one of them another name"
                        )
                    if called.setdefault(parent, step.name) != step.name:
                        raise ConfigError(
                            f"intermediate: {called[parent]!r} and {step.name!r} are the same run, so every table "
                            "would show it under one of the names; leave one out"
                        )
                    if isinstance(intermediate, Intermediate):
                        plan.mixtures.setdefault(parent, step.name)
                for target, (_, source) in specs.items():
                    if source is None:
                        plan.cells.append(Cell(parent or grid.backbone, target))
                        continue
                    starts = _starts(parent, grid.transfer)
                    for init, route in starts:
                        if method.supports(init, route) and len(starts) > 1:
                            continue  # what cannot stack is compared through its warm run
                        name = run_for(source, method, init, route, seed)
                        plan.cells.append(Cell(name, target))
                        if parent and "equal-steps" in grid.controls:
                            control = equal_steps(
                                plan.runs[name], [plan.runs[parent]], task=lambda one: tasks.get(one, extra=extra_tasks)
                            )
                            plan.controls[name] = key(control)
                            plan.runs.setdefault(key(control), control)
                            plan.cells.append(Cell(key(control), target))
            for composed in grid.compositions:
                init, route = composed.way(parents)
                if reason := method.supports(init, route):
                    warnings.warn(f"left out of the grid: {reason}", stacklevel=2)
                    continue
                own = method if not isinstance(init, Merge) else method.merged(init, [method] * len(init.entries))
                for target, (_, source) in specs.items():
                    if source is not None:
                        plan.cells.append(Cell(run_for(source, own, init, route, seed), target))
            if grid.language_adapters:
                made = language_runs(
                    grid.language_adapters,
                    label,
                    settings,
                    run_for=run_for,
                    sources=[source for _, source in specs.values() if source is not None],
                    seed=seed,
                    only=grid.languages and {*grid.languages} & served,
                    extra=extra_tasks,
                )
                for target, (_, source) in specs.items():
                    if source is not None and source.name in made:
                        name, swap = made[source.name]
                        plan.cells += [Cell(name, target), Cell(name, target, swap)]
    for seed in grid.seeds if grid.floor_seeds is None else grid.floor_seeds:
        for floor, settings in HEAD_FLOORS.items():
            if floor in grid.floors:
                more: dict[str, Any] = {"pooling": "mean"} if settings else {}
                for target, (_, source) in specs.items():
                    if source is not None:
                        method = methods.resolve("head", settings)
                        plan.cells.append(Cell(run_for(source, method, Fresh(), Slot(), seed, **more), target))
        if twin := _twin(grid, identity):
            for target, (_, source) in specs.items():
                name = twin.name
                if source is not None:
                    name = run_for(source, methods.resolve("full"), Fresh(), Slot(), seed, encoder=twin)
                plan.cells.append(Cell(name, target))
    plan.cells = list(dict.fromkeys(plan.cells))
    if "majority" in grid.floors:
        plan.floors = list(specs)
    return plan


def _twin(grid: GridSpec, identity: BackboneId) -> BackboneId | None:
    """Identity of the encoder of the floor `random`; None where the grid does not want that floor.

    Raises:
        ConfigError: when the grid does not name one, names its own backbone, or goes by a path, which stands for one
            folder alone.
    """
    from adapters_xling.model import backbone_id

    if "random" not in grid.floors:
        return None
    if grid.random is None:
        raise ConfigError(
            "floors: random wants a backbone with weights that were only drawn: name it as `random` in the grid, or "
            "leave the floor out"
        )
    twin = backbone_id(grid.random)
    if twin.digest is not None and twin.digest == identity.digest:
        raise ConfigError(f"random: {grid.random!r} is the grid's own backbone; name one whose weights were only drawn")
    if Path(grid.backbone).is_dir() or Path(grid.random).is_dir():
        raise ConfigError(
            "floors: random wants both backbones by name: put their folders into the one XLING_BACKBONES names"
        )
    return twin


def _alone(task: str) -> Intermediate:
    """One task as an intermediate step."""
    return Intermediate(name=task, tasks=(task,))


def _starts(parent: str | None, transfer: Sequence[str]) -> list[tuple[Init, Route]]:
    """Init and route of a target run for each way of using its parent."""
    if parent is None:
        return [(Fresh(), Slot())]
    ways: dict[str, tuple[Init, Route]] = {
        "warm": (Warm(entry=parent), Slot()),
        "stack": (Fresh(), Stack(parts=(Use(entry=parent), Slot()))),
    }
    return [ways[way] for way in transfer]
