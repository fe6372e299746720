"""`xling run` and `xling report`."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from adapters_xling import api
from adapters_xling.cli.common import checkpoints, duration, folders, print_json, print_table, settings_from
from adapters_xling.errors import MissingData, XlingError


def _codes(value: str | None) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()] if value else []


def _numbers(value: str | None) -> list[int]:
    try:
        return [int(code) for code in _codes(value)]
    except ValueError as err:
        raise click.BadParameter(f"{value!r} is not a list of whole numbers", param_hint="--seeds") from err


@click.command()
@click.argument("grid")
@click.option("--dry-run", is_flag=True, help="Say what is there, missing or blocked, and train nothing.")
@click.option("--methods", help="Only these methods (comma-separated).")
@click.option("--intermediate", help="Only these intermediate tasks.")
@click.option("--targets", help="Only these targets.")
@click.option("--languages", help="Only these languages.")
@click.option("--seeds", help="Only these seeds.")
@click.option("--limit", type=click.IntRange(min=1), help="Score only the first rows of every set.")
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Runs at a time; one per core when left out.")
@click.option("--json", "as_json", is_flag=True, help="Print plan or scores as JSON.")
@checkpoints
@folders
def run(grid: str, dry_run: bool, limit: int | None, as_json: bool, **options: Any) -> None:
    """Run GRID (a shipped name or a YAML file): train what is missing, score every cell, write the report.

    What was trained or scored before is used as it is, so running a grid again takes seconds.
    """
    narrow: dict[str, Any] = {
        name: _codes(options.pop(name)) for name in ("methods", "intermediate", "targets", "languages")
    }
    narrow["seeds"] = _numbers(options.pop("seeds"))
    settings = settings_from(options)
    plan = api.plan(grid, narrow=narrow, download=not dry_run, settings=settings)
    states = plan.state(api.open_zoo(settings))
    estimate = api.estimate(plan, settings=settings)
    if dry_run:
        if as_json:
            print_json({"runs": states, "cells": len(plan.cells), "estimate_s": estimate.seconds})
            return
        print_table(("state", "run"), [(state, name) for name, state in states.items()])
        _say(states, len(plan.cells), estimate)
        return
    folder = api.report_folder(grid, narrowed=any(narrow.values()), limit=limit, settings=settings)
    if not as_json:
        click.secho(plan.grid.title, bold=True)
        _say(states, len(plan.cells), estimate)
    outcome = api.run(plan, limit=limit, settings=settings, on_event=_Events(len(states), set(states), quiet=as_json))
    if outcome.scores:
        paths = api.write_report(plan, outcome, folder, limit=limit, settings=settings)
        if as_json:
            print_json([{n: getattr(score, n) for n in score.__struct_fields__} for score in outcome.scores])
        else:
            click.echo(api.summary(folder))
            reused = len(states) - len(outcome.trained) - len(set(outcome.failed) & set(states))
            click.echo(
                f"trained {len(outcome.trained)}, reused {reused}, failed {len(outcome.failed)}, "
                f"in {duration(outcome.seconds)}"
            )
            click.echo(f"report: {paths['html']}")
    if outcome.failed:
        lines = "\n".join(f"  {name}: {why}" for name, why in outcome.failed.items())
        raise XlingError(f"{len(outcome.failed)} of the grid's runs and cells failed; all others are kept:\n{lines}")


class _Events:
    """Prints a line for each job that ends, with an estimate of the time left."""

    def __init__(self, total: int, runs: set[str], *, quiet: bool) -> None:
        self.total, self.runs, self.quiet = total, runs, quiet
        self.started, self.count = time.perf_counter(), 0

    def __call__(self, what: str, name: str, text: str) -> None:
        self.count += name in self.runs
        if self.quiet:
            return
        spent = time.perf_counter() - self.started
        left = ""
        if 0 < self.count < self.total:
            left = f", about {duration(spent / self.count * (self.total - self.count))} left"
        colour = {"fail": "red", "blocked": "yellow"}.get(what)
        click.secho(f"[{self.count}/{self.total}{left}] {what:<7} {name}  {text}", fg=colour)


def _say(states: dict[str, str], cells: int, estimate: Any) -> None:
    counts = {state: list(states.values()).count(state) for state in ("have", "missing", "blocked")}
    click.echo(
        f"{len(states)} runs: {counts['have']} there, {counts['missing']} to train, {counts['blocked']} after their "
        f"parents; {cells} cells to score"
    )
    click.echo(estimate.text)


@click.command()
@click.argument("grid")
@click.option("--text", "as_text", is_flag=True, help="Print the table instead of the paths.")
@folders
def report(grid: str, as_text: bool, **options: Any) -> None:
    """Render the report of GRID from the scores of its last run; needs no model and no torch."""
    settings = settings_from(options)
    folder = api.report_folder(grid, settings=settings)
    if not (folder / "scores.jsonl").is_file():
        raise MissingData(f"{folder / 'scores.jsonl'} does not exist: run the grid first (xling run {grid})")
    paths = api.render_report(folder)
    if as_text:
        click.echo(api.summary(folder))
    else:
        click.echo(json.dumps({name: str(path) for name, path in paths.items()}, indent=2))
