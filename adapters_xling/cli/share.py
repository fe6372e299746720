"""`xling push` and `xling pull`: entries given to others and taken from them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import click

from adapters_xling import api
from adapters_xling.cli.common import Bars, folders, print_json, print_table, settings_from, size
from adapters_xling.hub import Journey, open_hub

_dry_run = click.option("--dry-run", is_flag=True, help="Only list what would travel, with size and licence.")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print what travelled as JSON.")


@click.command()
@click.argument("entries", nargs=-1, required=True, metavar="ENTRY...")
@click.argument("where", metavar="WHERE")
@click.option("--private/--public", default=None, help="For a repository that is made by this; private when left out.")
@_dry_run
@_as_json
@folders
def push(
    entries: tuple[str, ...], where: str, private: bool | None, dry_run: bool, as_json: bool, **options: Any
) -> None:
    """Publish entries, with the parents that are not there yet.

    WHERE is hf://owner/repository, a folder, or s3://bucket/folder. On the model hub each ENTRY is one commit,
    elsewhere its card is written last: nobody ever sees half of one, and a push that was cut goes on where it was.
    """
    settings = settings_from(options)
    plans = [api.push(entry, where, private=private, dry_run=True, settings=settings) for entry in entries]
    if not as_json:  # size and licence are said before anything leaves this machine
        _list(plans, "would push" if dry_run else "to push")
    if dry_run:
        _say(plans, "would push", as_json=as_json)
        return
    done: list[Journey] = []
    try:
        for entry in entries:
            with _progress() as bars:
                done.append(api.push(entry, where, private=private, settings=settings, on_step=bars))
    finally:  # what was published is said, whatever became of the rest
        if done:
            _say(done, "pushed", as_json=as_json)
        kept = dict.fromkeys(item.key for one in done for item in one.items)
        if kept and len(done) < len(entries):
            rest = [name for name in entries[len(done) :] if name not in kept]
            click.echo(f"published: {', '.join(kept)}; not finished: {', '.join(rest) or 'nothing'}", err=True)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="[NAME]... WHERE")
@_dry_run
@_as_json
@folders
def pull(names: tuple[str, ...], dry_run: bool, as_json: bool, **options: Any) -> None:
    """Fetch entries, with their parents, into your zoo.

    WHERE is hf://owner/repository, with @branch, @tag or @commit behind it if need be, a folder, s3://bucket/folder or
    https://host/folder. Without a NAME the one entry that the place is about is fetched. Everything is read at one
    commit, and verified to the byte before it can be seen in your zoo.
    """
    *entries, where = names
    settings, found = settings_from(options), []
    wanted: list[str | None] = [*dict.fromkeys(entries)] or [None]
    place = open_hub(where)  # once, so that all of them are of one commit
    try:
        for entry in wanted:
            with _progress() as bars:
                found.append(api.pull(entry, place, dry_run=dry_run, settings=settings, on_step=bars))
    finally:  # what was taken is said, whatever became of the rest
        if found and not as_json:
            _list(found, "would pull" if dry_run else "pulled")
        if found:
            _say(found, "would pull" if dry_run else "pulled", as_json=as_json)


@contextlib.contextmanager
def _progress() -> Iterator[Bars]:
    """A bar for a person; the model hub's client draws bars of its own too, and is told to be silent for nobody."""
    if not sys.stderr.isatty():
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
    bars = Bars(show=True)
    try:
        yield bars
    finally:
        bars.close()


def _list(journeys: list[Journey], verb: str) -> None:
    """Print each entry with size and licence, and what there is to say about it."""
    rows = {
        item.key: (
            item.key,
            item.reason,
            size(item.card.num_bytes),
            item.terms.expression,
            ("there already" if item.there else verb) + (f", {len(item.side.new)} scores" if item.side.new else ""),
        )
        for journey in reversed(journeys)
        for item in journey.items
    }
    print_table(("entry", "why", "size", "licence", "state"), list(rows.values()))
    for note in dict.fromkeys(note for journey in journeys for note in journey.notes):
        click.echo(f"note: {note}", err=True)


def _say(journeys: list[Journey], verb: str, *, as_json: bool) -> None:
    """Print how much travelled, or would, and where to."""
    if as_json:
        print_json([_plain(journey) for journey in journeys])
        return
    last = journeys[-1]
    num_bytes = {item.key: item.card.num_bytes for one in journeys for item in one.items if not item.there}
    num_scores: dict[str, int] = {}
    for item in (item for one in journeys for item in one.items):
        num_scores[item.key] = max(len(item.side.new), num_scores.get(item.key, 0))
    total = sum(num_scores.values())
    scores = f" and {total} attested scores" if total else ""
    at = f" at {last.revision}" if last.revision else ""
    click.echo(f"{verb} {size(sum(num_bytes.values()))}{scores}: {last.where}{at}")
    if last.page:
        click.echo(last.page)


def _plain(journey: Journey) -> dict[str, Any]:
    return {
        "where": journey.where,
        "revision": journey.revision,
        "page": journey.page,
        "notes": list(journey.notes),
        "entries": [
            {
                "key": item.key,
                "reason": item.reason,
                "num_bytes": item.card.num_bytes,
                "licence": item.terms.expression,
                "there": item.there,
                "scores": len(item.side.new),
            }
            for item in journey.items
        ],
    }
