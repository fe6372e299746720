"""`xling adapt`: go on from an entry with one's own rows in the target language."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from adapters_xling import api
from adapters_xling.cli.common import (
    assignments,
    checkpoints,
    folders,
    packing,
    plain_assignments,
    prefixes,
    print_json,
    print_table,
    settings_from,
)
from adapters_xling.spec import SEEDS


@click.command()
@click.argument("entry")
@click.argument("rows", type=click.Path(path_type=Path))
@click.option("--language", required=True, metavar="CODE", help="Language of the rows: its ISO 639 code.")
@click.option("--on", metavar="TASK", help="Task whose head goes on, when the entry has several.")
@click.option("--name", help="Name of the rows as a task (default: the file's name and the language).")
@click.option("--columns", multiple=True, metavar="FIELD=COLUMN", help="Where a field of the task stands in the file.")
@click.option("--label", "labels", multiple=True, metavar="FILE=HEAD", help="What a label of the file means.")
@click.option("--held-out", type=float, default=0.3, show_default=True, help="Share that is only scored.")
@click.option("--dev-share", type=float, default=0.15, show_default=True, help="Share that chooses the best step.")
@click.option("--licence", help="Of the rows, e.g. 'CC BY 4.0'; 'private' until you say otherwise.")
@click.option("--recipe", help="Optimisation settings by name (task_configs/recipes.yaml).")
@click.option("--with", "overrides", multiple=True, metavar="NAME=VALUE", help="A difference to the recipe.")
@click.option("--seed", type=click.IntRange(min=0, max=SEEDS - 1), default=0, show_default=True)
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@checkpoints
@prefixes
@packing
@folders
def adapt(
    entry: str,
    rows: Path,
    columns: tuple[str, ...],
    labels: tuple[str, ...],
    overrides: tuple[str, ...],
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train ENTRY further on ROWS, a table of your own labelled rows, and score both on rows held out of it.

    Rows that share a group (a column `group`, else the first text) stay together. Beside the new entry's score stands
    that of ENTRY, zero-shot, on the same held-out rows, and the difference with a 95 % interval.
    """
    settings = settings_from(options)
    found = api.adapt(
        entry,
        rows,
        columns=plain_assignments(columns, "--columns") or None,
        labels=plain_assignments(labels, "--label"),
        overrides=assignments(overrides, "--with"),
        settings=settings,
        show_progress=not quiet and not as_json,
        **options,
    )
    language, metric = found.task.languages[0], found.versus.metric
    difference = found.versus.languages[language]
    zero_shot = found.before[0].zero_shot
    if as_json:
        print_json(
            {
                "key": found.entry.key,
                "task": found.task.name,
                "tasks_folder": str(found.folder),
                "rows": dict(found.num_rows),
                "shared_with_training": found.shared,
                "shared_with_earlier": found.known,
                "remark": found.remark,
                "metric": metric,
                "before": {score.metric: score.value for score in found.before},
                "before_is_zero_shot": zero_shot,
                "after": {score.metric: score.value for score in found.after},
                "difference": {"value": difference.value, "low": difference.low, "high": difference.high},
            }
        )
        return
    counts = found.num_rows
    click.echo(found.entry.key)
    click.echo(
        f"  {sum(counts.values())} rows in {language}: {counts['train']} trained, {counts['dev']} chose the step, "
        f"{counts['test']} held out"
    )
    if found.remark:
        click.secho(f"  {found.remark}", fg="yellow", err=True)
    if found.shared:
        click.secho(
            f"  {found.shared} held-out rows share a text with rows that trained: a column `group` keeps such rows "
            "together",
            fg="yellow",
            err=True,
        )
    if found.known:
        click.secho(
            f"  {found.known} held-out rows share a text with rows that {entry} was adapted on before: on them before "
            "and after are both too high",
            fg="yellow",
            err=True,
        )
    name = "before, zero-shot" if zero_shot else "before"
    print_table(
        ("on the held-out rows", *(score.metric for score in found.after)),
        [
            (name, *(score.value for score in found.before)),
            ("after", *(score.value for score in found.after)),
        ],
    )
    ends = f" [{difference.low:+.1f}, {difference.high:+.1f}]" if difference.low is not None else ""
    click.echo(f"  {metric}: {difference.value:+.1f}{ends} points, 95 % interval over the held-out rows, one seed")
    if difference.low is None or difference.high is None or difference.low <= 0 <= difference.high:
        click.echo("  the interval holds 0: so few held-out rows do not tell the two apart")
    click.echo(f"  the rows are task {found.task.name} (--tasks {found.folder})")
