"""`xling zoo advise`: which entry a target should start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from adapters_xling import api
from adapters_xling.cli.common import folders, print_json, print_table, settings_from
from adapters_xling.errors import ConfigError

SURE = 0.95
"""Share of draws in which a candidate must be first to be called the clear first."""


@click.command()
@click.option("--target", help="Task that is to profit.")
@click.option("--among", multiple=True, metavar="ENTRY", help="Only these entries.")
@click.option("--method", help="Only entries of this method.")
@click.option("--backbone", default="xlmr-nano", show_default=True, help="Only entries on this backbone.")
@click.option("--probe", "probe_steps", type=click.IntRange(min=0), default=0, metavar="STEPS", help="Train so far.")
@click.option(
    "--rows", "max_rows", type=click.IntRange(min=20), default=1000, show_default=True, help="Most rows read."
)
@click.option(
    "--judge",
    type=click.Path(path_type=Path),
    metavar="SCORES",
    help="Instead: how good such advice was on a grid that was run (its folder, or its scores.jsonl).",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@folders
def advise(target: str | None, judge: Path | None, as_json: bool, **options: Any) -> None:
    """Rank the entries at hand as a start for --target, by cheap scores, and say how sure the order is.

    By features (LogME) unless --probe asks for a few steps of training. What entries that already start from a
    candidate scored on the target stands beside it.
    """
    import dataclasses

    settings = settings_from(options)
    if (target is None) == (judge is None):
        raise ConfigError("give --target TASK to be advised, or --judge SCORES to see how good advice was")
    if judge is not None:
        chosen = {name: options[name] for name in ("backbone", "probe_steps", "max_rows")}
        found = api.judge_advice(judge, settings=settings, on_target=_say, **chosen)
        if as_json:
            print_json({way: [dataclasses.asdict(one) for one in rows] for way, rows in found.items()})
            return
        for way, rows in found.items():
            click.secho(way, bold=True)
            lines: list[tuple[Any, ...]] = [
                (
                    one.target,
                    one.num_candidates,
                    one.first,
                    one.best,
                    *one.at.values(),
                    *one.chance.values(),
                    one.spearman,
                )
                for one in rows
            ]
            means = [_mean([line[i] for line in lines]) for i in (4, 5, 6, 7, 8)]
            lines.append(("mean", None, "", "", *means))
            columns = ("target", "of", "advised", "best", "regret@1", "regret@3", "chance@1", "chance@3", "rho")
            print_table(columns, [(*line[:8], None if line[8] is None else f"{line[8]:.2f}") for line in lines])
        return
    advices = api.advise(str(target), settings=settings, on_candidate=_say, **options)
    if as_json:
        print_json([dataclasses.asdict(one) for one in advices])
        return
    by = "probe" if options["probe_steps"] else "logme"
    table = [
        (
            one.candidate,
            one.task or "(bare backbone)",
            f"{one.values['logme']:.4f}",
            one.values.get("probe"),
            f"{100 * (one.first or 0):.0f} %",
            f"{one.values['measured']:.1f} ({one.num_measured})" if one.num_measured else "·",
        )
        for one in advices
    ]
    print_table(("start from", "task", "logme", "probe", "first in", "measured"), table)
    first = advices[0]
    if (first.first or 0) >= SURE:
        click.echo(f"first by {by}, and clearly so on these rows: {first.candidate}")
    else:
        rivals = [one.candidate for one in advices if (one.first or 0) >= 1 - SURE]
        click.echo(
            f"by {by} these cannot be told apart on these rows: {', '.join(rivals)}; try each, or give more --rows"
        )
    click.echo("a cheap score is a guess: --judge shows how good such guesses were on a grid you ran")


def _say(name: str) -> None:
    click.echo(f"looking at {name}", err=True)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
