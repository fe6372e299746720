"""`xling layers`."""

from __future__ import annotations

import contextlib
import functools
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapters_xling import api
from adapters_xling.backbones import BACKBONES
from adapters_xling.cli.common import (
    Bars,
    duration,
    folders,
    listed,
    parts,
    print_json,
    print_table,
    reading,
    settings_from,
)
from adapters_xling.errors import ConfigError, Held, MissingData, unknown

if TYPE_CHECKING:
    from adapters_xling.api import Settings
    from adapters_xling.grid import Plan
    from adapters_xling.sweep import LayerSweep
    from adapters_xling.zoo import Zoo

BAR = 30


@click.command()
@click.argument("task")
@click.option("--on", metavar="ENTRY", help="Entry whose encoder reads the sentences; else the bare backbone.")
@click.option("--backbone", help="Backbone to sweep without an entry, or the folder of its own.  [default: xlmr-nano]")
@click.option("--grid", help="Sweep the bare backbone and every entry of this grid that is scored on TASK.")
@listed("--languages", metavar="CODES", help="Comma-separated codes; all of the task's when left out.")
@click.option("--split", default="dev", show_default=True, help="Another one can be looked at, not chosen on.")
@click.option("--limit", type=click.IntRange(min=1), help="Score only the first queries of each language.")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), help="Of the forward passes; a grid brings its own.")
@listed("--methods", help="With --grid: only these methods (comma-separated).")
@listed("--intermediate", help="With --grid: only these intermediate tasks.")
@click.option("--json", "as_json", is_flag=True, help="Print the sweep as JSON.")
@reading
@folders
def layers(
    task: str,
    on: str | None,
    backbone: str | None,
    grid: str | None,
    languages: str | None,
    split: str,
    limit: int | None,
    precision: str | None,
    methods: str | None,
    intermediate: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Score every layer of an encoder on the dev rows of a retrieval TASK, and say which is best.

    Sentences are run through the encoder once for all layers. Use the layer with `xling evaluate … --layer N`; what
    the configured one finds is kept as that evaluation. What is swept of a whole grid stands in its report too.
    """
    settings = settings_from(options)
    if grid and (on or backbone):
        raise ConfigError("give one of --on, --backbone and --grid, not both: a grid brings entries and backbone")
    if on and backbone in BACKBONES:
        raise ConfigError(
            "give one of --on and --backbone, not both: an entry brings its backbone. Only the folder of one that is "
            "not found by its name may stand beside it"
        )
    narrow = {
        "methods": parts(methods, "--methods"),
        "intermediate": parts(intermediate, "--intermediate"),
    }
    if any(narrow.values()) and not grid:
        raise ConfigError("--methods and --intermediate narrow a grid: give --grid too")
    bars = Bars(show=not as_json)

    said: set[str] = set()

    def absent(language: str, reason: str) -> None:
        if language not in said:  # once, however many entries of a grid are swept
            said.add(language)
            click.secho(f"{language}  no rows at hand: {reason.splitlines()[0]}", fg="yellow", err=True)

    def sweep_of(on: str | None, backbone: str | None, precision: str, *, wait: bool = False) -> LayerSweep:
        return api.layers(
            task,
            on=on,
            backbone=backbone,
            languages=languages,
            split=split,
            limit=limit,
            settings=settings,
            on_step=bars,
            on_missing=absent,
            precision=precision,
            wait=wait,
            **options,
        )

    if grid:
        with contextlib.closing(bars):
            planned = api.plan(grid, narrow=narrow, settings=settings)
            precision = precision or planned.grid.scoring_precision
            every = functools.partial(sweep_of, precision=precision)
            folder = None if limit or languages else api.report_folder(grid, settings=settings)
            _sweep_grid(planned, grid, task, every, settings=settings, as_json=as_json, folder=folder)
        return
    with contextlib.closing(bars):
        sweep = sweep_of(on, backbone, precision or "fp32")
    means, best = sweep.means, sweep.best
    if as_json:
        fields = ("name", "task", "split", "metric", "pooling", "configured", "best", "num_queries", "values", "means")
        print_json({field: getattr(sweep, field) for field in fields})
        return
    marks = {sweep.configured: "configured"} | ({best: "best"} if best is not None else {})
    if best == sweep.configured:
        marks = {best: "best, configured"}
    rows = [
        (
            str(layer),
            *(column[layer] for column in sweep.values.values()),
            mean,
            _bar(mean, max(means)),
            marks.get(layer),
        )
        for layer, mean in enumerate(means)
    ]
    click.echo(f"{sweep.name} on {sweep.task}, {split}: {sweep.metric} by layer, pooling {sweep.pooling}")
    print_table(("layer", *sweep.values, "mean", "", ""), rows)
    if best is None:
        click.secho(
            f"These are {split} rows: look, but do not choose a layer on what you report. Choose on dev rows, of "
            "another task if this one has none.",
            fg="yellow",
        )
    else:
        click.echo(
            f"best on dev: layer {best} ({means[best]:.1f}). Choose on dev, never on test: "
            f"xling evaluate {sweep.name} {sweep.task} --layer {best} --pooling {sweep.pooling}"
            + (f" --precision {sweep.precision}" if sweep.precision != "fp32" else "")
        )


def _ahead(took: Sequence[tuple[float, LayerSweep]]) -> float:
    """Seconds that another sweep will take, from the languages that were scored; 0 while all of them were there."""
    scored = [(seconds, sweep) for seconds, sweep in took if sweep.num_scored]
    languages = sum(sweep.num_scored for _, sweep in scored)
    return sum(seconds for seconds, _ in scored) / languages * len(scored[-1][1].values) if scored else 0.0


def _sweep_grid(
    planned: Plan,
    grid: str,
    task: str,
    sweep_of: Callable[..., LayerSweep],
    *,
    settings: Settings,
    as_json: bool,
    folder: Path | None,
) -> None:
    """Sweep what a grid scores on a task, as far as it is trained, keep it for the grid's report (in `folder`, unless
    only some languages or rows were swept), and print the means by layer side by side.

    What another process is at work on comes last: it is waited for, and what that one found is taken.
    """
    names = list(dict.fromkeys(cell.name for cell in planned.cells if cell.target.task == task))
    if not names:
        known = dict.fromkeys(cell.target.task for cell in planned.cells)
        raise unknown("target of the grid", task, known, grid)
    zoo = api.open_zoo(settings)
    there = [name for name in names if name not in planned.runs or name in zoo]
    if not there:
        raise MissingData(f"none of the {len(names)} entries of grid {grid} is trained: xling run {grid}")
    sweeps: dict[str, LayerSweep] = {}
    took: list[tuple[float, LayerSweep]] = []
    queue, held = deque(there), set[str]()
    while queue:
        name = queue.popleft()
        began = time.perf_counter()
        try:
            on, backbone = (name, None) if name in planned.runs else (None, name)
            sweeps[name] = sweep_of(on, backbone, wait=name in held)
        except Held:
            held.add(name)
            others = "waiting for it" if set(queue) <= held else "the others first"
            click.secho(f"{name}  another process is at work on it: {others}", fg="yellow", err=True)
            queue.append(name)
            continue
        seconds = time.perf_counter() - began
        took.append((seconds, sweeps[name]))
        ahead = _ahead(took) * len(queue)
        left = f", about {duration(ahead)} left" if ahead else ""
        click.echo(f"[{len(sweeps)}/{len(there)}{left}] {name}  {duration(seconds)}", err=True)
    sweeps = {name: sweeps[name] for name in there}
    untrained = [name for name in names if name not in sweeps]
    if folder:
        api.keep_layers(planned, sweeps, folder)
    if as_json:
        found = [{f: getattr(s, f) for f in ("name", "split", "metric", "best", "means")} for s in sweeps.values()]
        print_json({"task": task, "sweeps": found, "untrained": untrained})
        return
    first = next(iter(sweeps.values()))
    click.echo(f"{task}, {first.split}: mean {first.metric} by layer, pooling {first.pooling}")
    rows: dict[tuple[str, ...], list[LayerSweep]] = {}
    for name, sweep in sweeps.items():
        row = api.encoder_row(planned, name) if name in planned.runs else (name,)
        rows.setdefault(row, []).append(sweep)
    columns = ("what was read", *map(str, range(len(first.means))), "best")
    failed = {name for name in sweeps if name in planned.runs and _stayed_at_chance(name, zoo)}
    print_table(columns, [_line(_row_name(row, planned, own, failed), own) for row, own in rows.items()])
    if failed:
        click.secho("† did not beat guessing on its dev rows", fg="yellow", err=True)
    if untrained:
        click.secho(
            f"{len(untrained)} of the grid's entries are not trained yet: xling run {grid}", fg="yellow", err=True
        )


def _stayed_at_chance(name: str, zoo: Zoo) -> bool:
    training = zoo.get(name, verify=False).card.training
    return training is not None and not training.converged


def _row_name(row: Sequence[str], planned: Plan, sweeps: Sequence[LayerSweep], failed: Collection[str]) -> str:
    if len(row) == 1:
        return f"{row[0]} (bare)"
    seeds = [str(planned.runs[sweep.name].seed) + "†" * (sweep.name in failed) for sweep in sweeps]
    method, after = row
    return f"{after} · {method} · seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"


def _line(name: str, sweeps: Sequence[LayerSweep]) -> tuple[Any, ...]:
    """A row's means by layer, with their standard deviation where there are several seeds, and the best layer, where
    one may be chosen."""
    from adapters_xling.report.cells import Cell
    from adapters_xling.report.formats import number, spread

    cells = [Cell(dict(enumerate(column)), zero_shot=True) for column in zip(*(s.means for s in sweeps), strict=True)]
    means = [cell.mean for cell in cells]
    shown = [number(cell.mean) + spread(cell) for cell in cells] if len(sweeps) > 1 else means
    return (name, *shown, "·" if any(s.best is None for s in sweeps) else str(means.index(max(means))))


def _bar(value: float, highest: float) -> str:
    """A bar as long as the share of the highest value."""
    return "█" * round(BAR * value / highest) if highest else ""
