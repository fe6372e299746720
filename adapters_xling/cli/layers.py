"""`xling layers`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from adapters_xling import api
from adapters_xling.cli.common import Bars, codes, folders, print_json, print_table, reading, settings_from
from adapters_xling.errors import ConfigError, MissingData, unknown

if TYPE_CHECKING:
    from adapters_xling.api import Settings
    from adapters_xling.sweep import LayerSweep

BAR = 30


@click.command()
@click.argument("task")
@click.option("--on", metavar="ENTRY", help="Entry whose encoder reads the sentences; else the bare backbone.")
@click.option("--backbone", help="Backbone to sweep without an entry.  [default: xlmr-nano]")
@click.option("--grid", help="Sweep the bare backbone and every entry of this grid that is scored on TASK.")
@click.option("--languages", metavar="CODES", help="Comma-separated codes; all of the task's when left out.")
@click.option("--split", default="dev", show_default=True, help="Another one can be looked at, not chosen on.")
@click.option("--limit", type=click.IntRange(min=1), help="Score only the first queries of each language.")
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
    as_json: bool,
    **options: Any,
) -> None:
    """Score every layer of an encoder on the dev rows of a retrieval TASK, and say which is best.

    Sentences are run through the encoder once for all layers. Use the layer with `xling evaluate … --layer N`.
    """
    settings = settings_from(options)
    if sum(map(bool, (on, backbone, grid))) > 1:
        raise ConfigError("give one of --on, --backbone and --grid, not both: an entry and a grid bring their backbone")
    bars = Bars(show=not as_json)

    def absent(language: str, reason: str) -> None:
        click.secho(f"{language}  no rows at hand: {reason.splitlines()[0]}", fg="yellow", err=True)

    def sweep_of(on: str | None, backbone: str) -> LayerSweep:
        return api.layers(
            task,
            on=on,
            backbone=backbone,
            languages=codes(languages),
            split=split,
            limit=limit,
            settings=settings,
            on_step=bars,
            on_missing=absent,
            **options,
        )

    if grid:
        with contextlib.closing(bars):
            _sweep_grid(grid, task, sweep_of, settings=settings, as_json=as_json)
        return
    with contextlib.closing(bars):
        sweep = sweep_of(on, backbone or "xlmr-nano")
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
        )


def _sweep_grid(
    grid: str,
    task: str,
    sweep_of: Callable[[str | None, str], LayerSweep],
    *,
    settings: Settings,
    as_json: bool,
) -> None:
    """Sweep what a grid scores on a task, as far as it is trained, and print the means by layer side by side."""
    planned = api.plan(grid, settings=settings)
    names = list(dict.fromkeys(cell.name for cell in planned.cells if cell.target.task == task))
    if not names:
        known = dict.fromkeys(cell.target.task for cell in planned.cells)
        raise unknown("target of the grid", task, known, grid)
    zoo = api.open_zoo(settings)
    there = [name for name in names if name not in planned.runs or name in zoo]
    if not there:
        raise MissingData(f"none of the {len(names)} entries of grid {grid} is trained: xling run {grid}")
    sweeps = {name: sweep_of(name if name in planned.runs else None, planned.grid.backbone) for name in there}
    untrained = [name for name in names if name not in sweeps]
    if as_json:
        found = [{f: getattr(s, f) for f in ("name", "split", "metric", "best", "means")} for s in sweeps.values()]
        print_json({"task": task, "sweeps": found, "untrained": untrained})
        return
    first = next(iter(sweeps.values()))
    click.echo(f"{task}, {first.split}: mean {first.metric} by layer, pooling {first.pooling}")
    columns = ("what was read", *(str(layer) for layer in range(len(first.means))), "best")
    rows = []
    for name, sweep in sweeps.items():
        run = planned.runs.get(name)
        what = f"{run.task} · {run.method.name} · seed {run.seed}" if run else f"{name} (bare)"
        rows.append((what, *sweep.means, "·" if sweep.best is None else str(sweep.best)))
    print_table(columns, rows)
    if untrained:
        click.secho(
            f"{len(untrained)} of the grid's entries are not trained yet: xling run {grid}", fg="yellow", err=True
        )


def _bar(value: float, highest: float) -> str:
    """A bar as long as the share of the highest value."""
    return "█" * round(BAR * value / highest) if highest else ""
