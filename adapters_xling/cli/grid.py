"""`xling run` and `xling report`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapters_xling import api
from adapters_xling.cli.common import (
    checkpoints,
    duration,
    executors,
    folders,
    packing,
    prefixes,
    print_json,
    settings_from,
)
from adapters_xling.cli.plan import narrowed, narrowing, say, show
from adapters_xling.errors import ConfigError, XlingError

if TYPE_CHECKING:
    from adapters_xling.grid import Estimate


@click.command()
@click.argument("grid")
@click.option("--dry-run", is_flag=True, help="Say what is there, missing or blocked, and train nothing.")
@narrowing
@click.option("--limit", type=click.IntRange(min=1), help="Score only the first rows of every set.")
@click.option("--without-lacking", is_flag=True, help="Leave out runs whose rows are not at hand.")
@click.option("--json", "as_json", is_flag=True, help="Print plan or scores as JSON.")
@executors
@checkpoints
@prefixes
@packing
@folders
def run(grid: str, dry_run: bool, limit: int | None, without_lacking: bool, as_json: bool, **options: Any) -> None:
    """Run GRID (a shipped name or a YAML file): train what is missing, score every cell, write the report.

    What was trained or scored before is used as it is, so running a grid again takes seconds.
    """
    narrow = narrowed(options)
    settings = settings_from(options)
    if dry_run:
        show(grid, narrow, limit=limit, settings=settings, as_json=as_json)
        return
    plan = api.plan(grid, narrow=narrow, settings=settings)
    if not without_lacking:
        api.require_rows(plan)
    if not plan.locked:
        plan = api.plan(grid, narrow=narrow, download=True, settings=settings)
    if without_lacking:
        plan = plan.at_hand()
    states = plan.state(api.open_zoo(settings))
    estimate = api.estimate(plan, limit=limit, settings=settings)
    folder = api.report_folder(grid, narrowed=any(narrow.values()), limit=limit, settings=settings)
    if not as_json:
        click.secho(plan.grid.title, bold=True)
        say(plan, states, estimate)
    if lost := api.replaced(plan, folder):
        click.secho(f"note: {lost}", fg="yellow", err=True)
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


class _Events:
    """Prints a line for each job that ends, with the time left: the estimate's, corrected by the time spent so far."""

    def __init__(self, estimate: Estimate, runs: set[str], *, quiet: bool) -> None:
        self.estimate, self.runs, self.quiet = estimate, runs, quiet
        self.done: set[str] = set()
        self.started = time.perf_counter()

    def __call__(self, what: str, name: str, text: str) -> None:
        if name in self.estimate.jobs and what not in ("again", "held"):
            self.done.add(name)
        if self.quiet:
            return
        count, total = len(self.done & self.runs), len(self.runs)
        left = f", about {duration(self.left(time.perf_counter() - self.started))} left" if count < total else ""
        colour = {"fail": "red", "blocked": "yellow", "again": "yellow", "held": "yellow"}.get(what)
        click.secho(f"[{count}/{total}{left}] {what:<7} {name}  {text}", fg=colour)

    def left(self, spent: float) -> float:
        """Seconds left after so many seconds spent on the jobs that are done."""
        left = self.estimate.left(self.done)
        return left * (spent + STEADY_S) / (max(self.estimate.seconds - left, 0.0) + STEADY_S)


@click.command()
@click.argument("grid")
@click.argument("more", nargs=-1, metavar="[MORE]...")
@click.option(
    "--format",
    "wanted",
    type=click.Choice(["html", "markdown", "latex", "csv", "text"]),
    help="Print this format instead of writing all files.",
)
@click.option("--text", "wanted", flag_value="text", help="The same as --format text.")
@click.option(
    "--against",
    metavar="OTHER",
    help="Compare with the same rows of grid OTHER on another backbone; stays in the report as long as its entries do.",
)
@click.option(
    "--scores",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Join every score of GRID and MORE grids to those in FILE, one a line, instead.",
)
@folders
def report(
    grid: str, more: tuple[str, ...], wanted: str | None, against: str | None, scores: Path | None, **options: Any
) -> None:
    """Render the report of GRID from the scores of its last run; needs no model and no torch.

    GRID, as MORE and OTHER, is a grid, or the folder that a narrowed or limited run of it left its scores in.
    """
    settings = settings_from(options)
    if more and not scores:
        raise ConfigError("several grids have a report each: name one, or join their scores (--scores FILE)")
    if scores:
        if ignored := [name for name, given in (("--format", wanted), ("--against", against)) if given]:
            raise ConfigError(
                f"--scores and {' and '.join(ignored)} do not go together: --scores joins scores in a file, and "
                "neither prints nor compares a report. Give one command for each"
            )
        joined = api.join_scores([grid, *more], scores, settings=settings)
        click.echo(f"{scores}: {joined.total:,} scores, {joined.new:,} new, {joined.changed:,} with another value")
        return
    if against:
        api.compare_grids(grid, against, settings=settings)
    folder = api.finished_folder(grid, settings=settings)
    if wanted:
        click.echo(api.report_text(folder, wanted), nl=False)
    else:
        click.echo(json.dumps({name: str(path) for name, path in api.render_report(folder).items()}, indent=2))
