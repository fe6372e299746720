"""`xling submission`: build, check and score the folder that is handed in to a benchmark."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from adapters_xling import api
from adapters_xling.cli.common import folders, plain_assignments, print_json, print_table, settings_from

_SHOWN = 5
"""Problems of one file in the table."""
_NOTES = 8
PATH = click.Path(path_type=Path)
BENCHMARK = click.option("--benchmark", default="xtreme", show_default=True, help="xtreme, xtreme-r, mini, or a file.")


@click.group()
def submission() -> None:
    """Build, check and score the folder that is handed in to XTREME or XTREME-R."""


@submission.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("--out", type=PATH, required=True, help="Folder to write; it appears whole or not at all.")
@BENCHMARK
@click.option("--use", multiple=True, metavar="TASK=ENTRY", help="Entry for a task that several have predicted.")
@click.option("--allow-missing", is_flag=True, help="Write what is there.")
@click.option("--force", is_flag=True, help="Replace a submission that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@folders
def build(
    sources: tuple[str, ...],
    out: Path,
    benchmark: str,
    use: tuple[str, ...],
    allow_missing: bool,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Write the folder from the predictions that `xling evaluate` and `xling run` kept.

    SOURCES are runs folders, folders of one entry below their `scores`, or entries by name.
    """
    built = api.build_submission(
        sources,
        out,
        benchmark=benchmark,
        use=plain_assignments(use, "--use"),
        allow_missing=allow_missing,
        force=force,
        settings=settings_from(options),
    )
    if as_json:
        left_out, notes = list(built.left_out), list(built.notes)
        found = {"folder": str(built.folder), "files": built.num_files, "entries": built.entries}
        print_json({**found, "left_out": left_out, "notes": notes})
        return
    print_table(("task", "entry"), list(built.entries.items()))
    for note in built.notes:
        click.echo(note)
    for gap in built.left_out:
        click.secho(f"left out: {gap}", fg="yellow", err=True)
    click.echo(f"{built.num_files} files written to {built.folder}")


@submission.command()
@click.option("--out", type=PATH, required=True, help="Folder to write; it appears whole or not at all.")
@BENCHMARK
@click.option("--allow-missing", is_flag=True, help="Write what is there.")
@click.option("--force", is_flag=True, help="Replace a folder of labels that is there.")
@folders
def labels(out: Path, benchmark: str, allow_missing: bool, force: bool, **options: Any) -> None:
    """Write the labels folder that `score` wants, from rows whose answers are on this machine."""
    settings = settings_from(options)
    built = api.submission_labels(out, benchmark=benchmark, allow_missing=allow_missing, force=force, settings=settings)
    for gap in built.left_out:
        click.secho(f"left out: {gap}", fg="yellow", err=True)
    click.echo(f"{built.num_files} files written to {built.folder}")


@submission.command()
@click.argument("folder", type=PATH)
@BENCHMARK
@click.option("--labels", type=PATH, help="Folder of the same layout with the answers; counts and ids are compared.")
@click.option("--json", "as_json", is_flag=True, help="Print every problem as JSON.")
def check(folder: Path, benchmark: str, labels: Path | None, as_json: bool) -> None:
    """Name everything that is missing, unexpected or malformed in FOLDER; exit code 1 when there is anything."""
    problems = api.check_submission(folder, benchmark=benchmark, labels=labels)
    if as_json:
        print_json({"folder": str(folder), "benchmark": benchmark, "problems": [p._asdict() for p in problems]})
    elif problems:
        print_table(("file", "line", "problem"), _shortened(problems))
        files = len({problem.file for problem in problems})
        click.echo(f"{folder}: {len(problems)} problem(s) with {files} file(s)")
    else:
        click.echo(f"{folder} is a whole {benchmark} submission")
    if problems:
        sys.exit(1)


def _shortened(problems: list[Any]) -> list[tuple[str, str, str]]:
    """Rows of the table: of each file the first few problems, and how many more."""
    rows, seen = [], dict.fromkeys((problem.file for problem in problems), 0)
    for problem in problems:
        seen[problem.file] += 1
        if seen[problem.file] <= _SHOWN:
            rows.append((problem.file, str(problem.line or ""), problem.text))
        elif seen[problem.file] == _SHOWN + 1:
            more = sum(other.file == problem.file for other in problems) - _SHOWN
            rows.append((problem.file, "…", f"and {more:,} more (--json prints all)"))
    return rows


@submission.command()
@click.argument("predictions", type=PATH)
@click.argument("labels", type=PATH)
@BENCHMARK
@click.option("--allow-missing", is_flag=True, help="Score the languages that are there; no overall score then.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def score(predictions: Path, labels: Path, benchmark: str, allow_missing: bool, as_json: bool) -> None:
    """Score the folder PREDICTIONS against LABELS, a folder of the same layout, as the benchmark's scorer does.

    Scores are percentages: per language, per task, per group and overall.
    """
    result = api.score_submission(predictions, labels, benchmark=benchmark, allow_missing=allow_missing)
    if as_json:
        print_json(result.plain())
        return
    for task in result.tasks.values():
        codes = ", ".join(f"{code} {_values(scores)}" for code, scores in task.languages.items())
        click.echo(f"{task.task}: {codes}")
    click.echo()
    rows: list[tuple[str, ...]] = []
    for task in result.tasks.values():
        there = len(task.languages)
        languages = f"{there} of {there + len(task.missing)}, partial" if task.missing else str(there)
        means = " ".join(f"{name} {value:.2f}" for name, value in task.averages.items() if name != "mean")
        rows.append((task.task, task.group, languages, f"{task.score:.2f}", means))
    rows += [(name, "", "", f"{value:.2f}", "group") for name, value in result.groups.items()]
    rows.append((result.benchmark, "", "", "·" if result.overall is None else f"{result.overall:.2f}", "overall"))
    print_table(("task", "group", "languages", "score", "means over languages"), rows)
    for task_name, why in result.absent.items():
        click.secho(f"not scored: {task_name}: {why}", fg="yellow", err=True)
    for note in result.notes[:_NOTES]:
        click.secho(f"note: {note}", fg="yellow", err=True)
    if len(result.notes) > _NOTES:
        more = len(result.notes) - _NOTES
        click.secho(f"note: and {more} more; xling submission check --labels names all", fg="yellow", err=True)
    if result.partial:
        click.secho("partial: an overall score needs every task in every language", fg="yellow", err=True)


def _values(scores: dict[str, float]) -> str:
    """What a language scored: F1 and exact match of questions, F1 of chunks and pairs, else the only score."""
    names: list[str] = [name for name in ("f1", "exact_match") if name in scores] or list(scores)
    return "/".join(f"{scores[name]:.1f}" for name in names)
