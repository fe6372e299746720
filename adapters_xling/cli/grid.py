"""`xling run` and `xling report`."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from adapters_xling import api
from adapters_xling.cli.common import (
    checkpoints,
    duration,
    executors,
    folders,
    print_json,
    print_table,
    settings_from,
    size,
)
from adapters_xling.errors import MissingData, XlingError

if TYPE_CHECKING:
    from adapters_xling.grid import Estimate


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
@click.option("--json", "as_json", is_flag=True, help="Print plan or scores as JSON.")
@executors
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
    estimate = api.estimate(plan, limit=limit, settings=settings)
    if dry_run:
        if as_json:
            print_json(_as_json(states, len(plan.cells), estimate))
            return
        jobs = estimate.jobs
        rows = [(state, duration(jobs[name].seconds), name) for name, state in states.items()]
        print_table(("state", "time", "run"), rows)
        _say(states, len(plan.cells), estimate)
        return
    folder = api.report_folder(grid, narrowed=any(narrow.values()), limit=limit, settings=settings)
    if not as_json:
        click.secho(plan.grid.title, bold=True)
        _say(states, len(plan.cells), estimate)
    events = _Events(estimate, set(states), quiet=as_json)
    outcome = api.run(plan, limit=limit, settings=settings, expected=estimate, on_event=events)
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


STEADY_S = 30.0
"""Estimated and spent time are compared as if both had this much in common, so that the first jobs tell little."""
LONG_S = 3600
"""From so many seconds on the plan says how to do with less."""


class _Events:
    """Prints a line for each job that ends, with the time left: the estimate's, corrected by the time spent so far."""

    def __init__(self, estimate: Estimate, runs: set[str], *, quiet: bool) -> None:
        self.estimate, self.runs, self.quiet = estimate, runs, quiet
        self.done: set[str] = set()
        self.started = time.perf_counter()

    def __call__(self, what: str, name: str, text: str) -> None:
        if name in self.estimate.jobs and what != "again":
            self.done.add(name)
        if self.quiet:
            return
        count, total = len(self.done & self.runs), len(self.runs)
        left = f", about {duration(self.left(time.perf_counter() - self.started))} left" if count < total else ""
        colour = {"fail": "red", "blocked": "yellow", "again": "yellow"}.get(what)
        click.secho(f"[{count}/{total}{left}] {what:<7} {name}  {text}", fg=colour)

    def left(self, spent: float) -> float:
        """Seconds left after so many seconds spent on the jobs that are done."""
        left = self.estimate.left(self.done)
        return left * (spent + STEADY_S) / (max(self.estimate.seconds - left, 0.0) + STEADY_S)


def _as_json(states: dict[str, str], cells: int, estimate: Estimate) -> dict[str, Any]:
    return {
        "runs": states,
        "cells": cells,
        "estimate_s": round(estimate.seconds, 1),
        "estimate_range_s": [round(estimate.low_s, 1), round(estimate.high_s, 1)],
        "estimate_basis": estimate.basis,
        "disk_bytes": estimate.disk_bytes,
        "free_bytes": estimate.free_bytes,
        "run_seconds": {name: round(estimate.jobs[name].seconds, 1) for name in states},
    }


def _say(states: dict[str, str], cells: int, estimate: Estimate) -> None:
    """What is there, how long the rest takes and what that stands on, and the disk."""
    counts = {state: list(states.values()).count(state) for state in ("have", "missing", "blocked")}
    sets = sum(job.sets for job in estimate.jobs.values())
    click.echo(
        f"{len(states)} runs: {counts['have']} there, {counts['missing']} to train, {counts['blocked']} after their "
        f"parents; {cells} cells, {sets} sets of rows to score"
    )
    for line in _time_lines(estimate):
        click.echo(line)
    free = f"{size(estimate.free_bytes)} free" if estimate.free_bytes is not None else "free space unknown"
    click.echo(f"disk: about {size(estimate.disk_bytes)} to write, {free}")


def _time_lines(estimate: Estimate) -> list[str]:
    jobs = estimate.jobs.values()
    if not any(job.train_s or job.sets for job in jobs):
        return [f"time: about {duration(estimate.seconds)}; nothing to train or score, only rows to read and a report"]
    train, score = sum(job.train_s for job in jobs), sum(job.score_s for job in jobs)
    bound = "at most " if estimate.at_most else ""
    lines = [
        f"time: {bound}about {duration(estimate.seconds)} ({duration(estimate.low_s)} to {duration(estimate.high_s)}) "
        f"with {estimate.workers} at a time: {duration(train)} of training, {duration(score)} of scoring",
        f"  {_basis(estimate)}",
    ]
    if estimate.at_most:
        lines.append("  runs may stop before their last step (patience)")
    if estimate.unread:
        lines.append(f"  the size of {estimate.unread} sets that were not fetched yet is a guess")
    if estimate.seconds > LONG_S:
        shares = [f"{name} {share:.0%}" for which in (0, 1) for name, share in list(estimate.shares(which).items())[:2]]
        lines.append(f"  most of it: {', '.join(shares)}")
        lines.append("  to narrow: --methods, --targets, --intermediate, --languages, --limit, --seeds")
    return lines


def _basis(estimate: Estimate) -> str:
    """What the figure stands on, in words."""
    trained, scored = estimate.num_timed
    timed = f"{trained} runs and {scored} scored sets timed on this machine"
    if estimate.basis == "measured":
        return f"from {timed}"
    where = (
        f"{estimate.flops / 1e9:.0f} GFLOP/s a core, measured now; for a machine that does nothing else"
        if estimate.device == "cpu"
        else f"{estimate.flops / 1e12:.0f} TFLOP/s, assumed for {estimate.device}"
    )
    if estimate.basis == "mixed":
        return f"partly from {timed}, the rest rough: from the encoder's size and {where}"
    return f"rough, for nothing like it was timed here: from the encoder's size and {where}"


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
