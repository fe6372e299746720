"""`xling data`: what is at hand, locking hub data sets, checking real rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapters_xling import data as verbs
from adapters_xling.cli.common import folders, print_json, print_table, settings_from, size
from adapters_xling.errors import MissingData, XlingError

if TYPE_CHECKING:
    from adapters_xling.tasks.inventory import Cell, Checked

LOCK = click.option(
    "--lock",
    "lock_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Lock file of hub data sets (XLING_LOCK; default ~/.config/adapters_xling/data.lock.yaml).",
)


@click.group()
def data() -> None:
    """Show what data is at hand, pin hub data sets to a revision, check real rows."""


@data.command()
@click.argument("names", nargs=-1, metavar="[TASK]...")
@click.option("--each", is_flag=True, help="One line per language, not per split.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON, one object per language.")
@LOCK
@folders
def status(names: tuple[str, ...], each: bool, as_json: bool, lock_file: Path | None, **options: Any) -> None:
    """Show where the rows of each TASK are (all when none is named): here, on the hub, or missing.

    Reads no rows and asks no network. `rows` is what the lock, or the cache of a hub data set, says.
    """
    settings = settings_from(options)
    cells, lock_in_use = verbs.status(names, lock_file=lock_file, settings=settings)
    if as_json:
        folder = str(settings.data_dir) if settings.data_dir else None
        print_json({"data_dir": folder, "lock": str(lock_in_use), "cells": [asdict(cell) for cell in cells]})
        return
    if each:
        rows = [
            (c.task, c.split, c.language, c.state, c.source, c.rows, _bytes(c.num_bytes), _yes(c.locked)) for c in cells
        ]
        print_table(("task", "split", "language", "state", "source", "rows", "size", "locked"), rows)
    else:
        columns = ("task", "split", "source", "here", "of", "not here", "rows", "size", "locked")
        print_table(columns, [_summary(group) for group in _groups(cells)])
    counts = {state: sum(cell.state == state for cell in cells) for state in ("here", "hub", "missing")}
    click.echo(f"{counts['here']} here, {counts['hub']} to be fetched from the hub, {counts['missing']} missing")
    click.echo(f"data folder: {settings.data_dir or 'none named (--data-dir, XLING_DATA)'}")
    click.echo(f"lock: {lock_in_use}{'' if lock_in_use.is_file() else ' (not there; `xling data lock` makes it)'}")


def _groups(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells by task and split, in their order."""
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.task, cell.split), []).append(cell)
    return list(found.values())


def _summary(group: list[Cell]) -> tuple[Any, ...]:
    """One line for a task's split: how many languages are here, which are not, rows and size of what is known."""
    here = [cell for cell in group if cell.state == "here"]
    absent = [cell.language for cell in group if cell.state != "here"]
    kinds = dict.fromkeys(cell.kind or "missing" for cell in group)
    known = [cell.rows for cell in group if cell.rows is not None]
    rows = sum(known) if len(known) == len(group) else None
    hub = [bool(cell.locked) for cell in group if cell.locked is not None]
    locked = None if not hub else all(hub)
    num_bytes = sum(cell.num_bytes or 0 for cell in here) or None
    return (
        group[0].task,
        group[0].split,
        ", ".join(kinds),
        len(here),
        len(group),
        " ".join(absent) if len(absent) <= 8 else f"{' '.join(absent[:8])} +{len(absent) - 8}",
        rows,
        _bytes(num_bytes),
        _yes(locked),
    )


def _bytes(num_bytes: int | None) -> str | None:
    return None if num_bytes is None else size(num_bytes)


def _yes(value: bool | None) -> str | None:
    return None if value is None else "yes" if value else "no"


@data.command()
@click.argument("names", nargs=-1, metavar="[TASK]...")
@click.option("--upgrade", is_flag=True, help="Resolve again what is locked already.")
@LOCK
@folders
def lock(names: tuple[str, ...], upgrade: bool, lock_file: Path | None, **options: Any) -> None:
    """Pin the hub data sets of each TASK (all when none is named) to the revision the hub has now.

    Reads every split and language the tasks use, and writes revision, number of rows and a digest of their content to
    the lock file. From then on rows are read at that revision, and rows that differ are an error.
    """
    outcome = verbs.lock(
        names,
        upgrade=upgrade,
        lock_file=lock_file,
        settings=settings_from(options),
        on_event=lambda repo, text: click.echo(f"{repo:<36} {text}"),
    )
    for repo in outcome.kept:
        click.echo(f"{repo:<36} already locked")
    done, failed = len(outcome.locked), outcome.failed
    click.echo(f"{done} locked, {len(outcome.kept)} were locked before, {len(failed)} failed: {outcome.file}")
    if failed:
        lines = "".join(f"\n  {repo}: {reason}" for repo, reason in failed.items())
        raise XlingError(f"{len(failed)} of {done + len(failed)} data sets were not locked:{lines}")


@data.command()
@click.argument("names", nargs=-1, metavar="[TASK]...")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="Rows of each set; 0: all. Retrieval: always all.",
)
@click.option("--language", "languages", multiple=True, help="Only this language; may be given several times.")
@click.option("--download", is_flag=True, help="Fetch from the hub what is not at hand.")
@LOCK
@folders
def check(
    names: tuple[str, ...],
    limit: int,
    languages: tuple[str, ...],
    download: bool,
    lock_file: Path | None,
    **options: Any,
) -> None:
    """Push real rows of each TASK (all when none is named), per split and language, through what a run does with them.

    Reading, encoding, batches, loss, decoding, scoring: every gold answer must score 100. Ends with exit code 2 when
    any set fails, or when none was at hand.
    """
    head: str | None = f"{'task':<20} {'split':<16} {'language':<8} {'rows':>7} {'dropped':>7}  result"
    done: list[Checked] = []
    for one in verbs.check(
        names,
        limit=limit or None,
        languages=languages,
        download=download,
        lock_file=lock_file,
        settings=settings_from(options),
    ):
        done.append(one)
        if one.state != "absent":
            if head:  # not above an error
                click.secho(head, bold=True)
                head = None
            ok = "ok" + (f"; {one.remarks}" if one.remarks else "")
            shown = ok if one.state == "ok" else one.text.splitlines()[0]
            line = f"{one.task:<20} {one.split:<16} {one.language:<8} {one.rows:>7} {sum(one.dropped.values()):>7}  "
            click.echo(line + (shown if one.state == "ok" else click.style(shown, fg="red")))
    states = [one.state for one in done]
    num_ok, num_failed = states.count("ok"), states.count("failed")
    click.echo(f"{num_ok + num_failed} checked, {num_failed} failed, {states.count('absent')} not at hand")
    if num_failed:
        raise XlingError(f"{num_failed} check(s) failed; the lines above say which rows and why")
    if not num_ok:
        raise MissingData(
            "no rows of these tasks are at hand, so nothing was checked. Name the folder of the original files with "
            "--data-dir or XLING_DATA, or fetch hub data sets with --download; `xling data status` shows what is where"
        )
