"""`xling layers`."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from adapters_xling import api
from adapters_xling.cli.common import Bars, codes, folders, print_json, print_table, reading, settings_from
from adapters_xling.errors import ConfigError

BAR = 30


@click.command()
@click.argument("task")
@click.option("--on", metavar="ENTRY", help="Entry whose encoder reads the sentences; else the bare backbone.")
@click.option("--backbone", help="Backbone to sweep without an entry.  [default: xlmr-nano]")
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
    if on and backbone:
        raise ConfigError("give --on or --backbone, not both: an entry brings its backbone")
    bars = Bars(show=not as_json)

    def absent(language: str, reason: str) -> None:
        click.secho(f"{language}  no rows at hand: {reason.splitlines()[0]}", fg="yellow", err=True)

    with contextlib.closing(bars):
        sweep = api.layers(
            task,
            on=on,
            backbone=backbone or "xlmr-nano",
            languages=codes(languages),
            split=split,
            limit=limit,
            settings=settings,
            on_step=bars,
            on_missing=absent,
            **options,
        )
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


def _bar(value: float, highest: float) -> str:
    """A bar as long as the share of the highest value."""
    return "█" * round(BAR * value / highest) if highest else ""
