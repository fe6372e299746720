"""`xling zoo advise`: which entry a target should start from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from adapters_xling import api
from adapters_xling.cli.common import folders, print_json, print_table, require_output, settings_from
from adapters_xling.errors import ConfigError

_TITLE = "Where should a target start? Advice judged on "
_JUDGED = {".md": f"# {re.escape(_TITLE)}", ".json": r'\{\n  "ways": '}
"""How a judgement begins, by the ending of its file."""

SURE = 0.95
"""Share of draws in which a candidate must be first to be called the clear first."""


@click.command()
@click.option("--target", help="Task that is to profit.")
@click.option("--among", multiple=True, metavar="ENTRY", help="Only these entries.")
@click.option("--method", help="Only entries of this method.")
@click.option("--backbone", help="Only entries on this backbone: xlmr-nano, with --judge the grid's, when left out.")
@click.option("--probe", "probe_steps", type=click.IntRange(min=0), default=0, metavar="STEPS", help="Train so far.")
@click.option(
    "--rows", "max_rows", type=click.IntRange(min=20), default=1000, show_default=True, help="Most rows read."
)
@click.option(
    "--judge",
    metavar="GRID",
    help="Instead: how good such advice was on a grid that was run (its name, its folder, or its scores.jsonl).",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With --judge: also write the tables, as markdown (.md) or JSON (.json).",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@folders
def advise(target: str | None, judge: str | None, output: Path | None, as_json: bool, **options: Any) -> None:
    """Rank the entries at hand as a start for --target, by cheap scores, and say how sure the order is.

    By features (LogME) unless --probe asks for a few steps of training. What entries that already start from a
    candidate scored on the target stands beside it.
    """
    import dataclasses

    settings = settings_from(options)
    if (target is None) == (judge is None):
        raise ConfigError("give --target TASK to be advised, or --judge GRID to see how good advice was")
    if output is not None and (judge is None or output.suffix not in (".md", ".json")):
        raise ConfigError(f"--output {output}: is of --judge, and ends in .md or .json")
    if judge is not None:
        require_output(output, _JUDGED[output.suffix] if output else "")
        chosen = {name: options[name] for name in ("backbone", "probe_steps", "max_rows")}
        _judge(judge, output, as_json=as_json, settings=settings, **chosen)
        return
    options["backbone"] = options["backbone"] or "xlmr-nano"
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


def _judge(scores: str, output: Path | None, *, as_json: bool, settings: api.Settings, **chosen: Any) -> None:
    """Print, and write, how good advice was on a grid."""
    from adapters_xling import judging, paths

    skipped: dict[str, str] = {}

    def skip(name: str, why: str) -> None:
        skipped[name] = why
        click.secho(f"{name} is not judged: {why}", fg="yellow", err=True)

    found = api.judge_advice(scores, settings=settings, on_target=_say, on_skipped=skip, **chosen)
    judged = [judging.judge(way, rows) for way, rows in found.items()]
    plain = {one.way: one.plain() for one in judged}
    if output is not None:
        title = _TITLE + (Path(scores).stem or scores)
        page = judging.markdown(judged, title=title, skipped=skipped)
        body = json.dumps({"ways": plain, "skipped": skipped}, ensure_ascii=False, indent=2) + "\n"
        paths.atomic_write(output, page if output.suffix == ".md" else body)
        click.echo(f"{output} written", err=True)
    if as_json:
        print_json(plain)
        return
    columns = ("target", "of", "advised", "best", "regret@1", "regret@3", "chance@1", "chance@3", "rho")
    for one in judged:
        click.secho(one.way, bold=True)
        lines = [
            (
                str(row.target),
                row.num_candidates,
                row.first,
                row.best,
                *row.at.values(),
                *row.chance.values(),
                row.spearman,
            )
            for row in one.rows
        ]
        print_table(columns, [(*line[:8], None if line[8] is None else f"{line[8]:.2f}") for line in lines])
        means = ", ".join(
            f"regret@{k} {one.regret[k]}, blind draw {one.chance[k]}, saved {one.saved[k]}" for k in one.regret
        )
        click.echo(f"  mean over {len(lines)} targets of {one.num_tasks} tasks: {means}")
        click.echo(f"  first is best on {one.hits} % of them, a blind draw on {one.lucky} %")
    if any(one.hits.low is None for one in judged):
        click.echo(f"no intervals: there are fewer than {judging.LEAST_TASKS} tasks")
    else:
        click.echo("in brackets: 95 % intervals, tasks drawn anew")


def _say(name: str) -> None:
    click.echo(f"looking at {name}", err=True)
