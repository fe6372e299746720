"""`xling zoo` about what entries say of themselves: find, diff, lineage, readme, attest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from adapters_xling import api
from adapters_xling.cli.common import folders, print_json, print_table, settings_from, size
from adapters_xling.errors import ConfigError

_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}


@click.command()
@click.option("--task", help="Trained on this task.")
@click.option("--on", help="Scored on this task; its score is the mean over the languages.")
@click.option("--language", help="Scored, or trained, in this language.")
@click.option("--method", help="Of this method.")
@click.option("--backbone", help="On this backbone.")
@click.option("--min-score", type=float, help="At least this score, in percent: of --on and --language, else dev.")
@click.option("--max-size", metavar="SIZE", help="At most so large, e.g. 500kB or 4MB.")
@click.option("--licence", help="With this SPDX licence among those of its data, backbone and parents.")
@click.option("--commercial", is_flag=True, help="Whose licences are all known and allow commercial use.")
@click.option("--sort", "order", default="key", show_default=True, help="key, score, size or made (newest first).")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@folders
def find(max_size: str | None, as_json: bool, **options: Any) -> None:
    """Find entries by task, language, method, backbone, score, size and licence."""
    from adapters_xling.zoo.finding import Query, asked, search

    settings = settings_from(options)
    query = Query(max_bytes=_bytes(max_size) if max_size else None, **options)
    hits = search(api.open_zoo(settings), query, measured=api.kept_scores(settings))
    if as_json:
        print_json(
            [
                {
                    "key": hit.entry.key,
                    "score": hit.score,
                    "num_scores": hit.num_scores,
                    "num_bytes": hit.entry.card.num_bytes,
                    "licence": hit.terms.expression,
                }
                for hit in hits
            ]
        )
        return
    if not hits:
        click.echo("no entry fits; leave a condition out, or see all: xling zoo list")
        return
    what = "score" if query.on or query.language else "dev"
    rows = [
        (hit.entry.key, hit.entry.card.run.task, hit.score, size(hit.entry.card.num_bytes), asked(hit.terms) or "free")
        for hit in hits
    ]
    print_table(("key", "task", what, "size", "licence asks"), rows)


def _bytes(text: str) -> int:
    number = text.strip().lower().rstrip("bkmg")
    unit = text.strip().lower()[len(number) :] or "b"
    try:
        return int(float(number) * _UNITS[unit])
    except (ValueError, KeyError) as err:
        raise ConfigError(f"--max-size {text!r}: give a number and a unit: B, kB, MB or GB") from err


@click.command()
@click.argument("ours", metavar="A")
@click.argument("theirs", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@folders
def diff(ours: str, theirs: str, as_json: bool, **options: Any) -> None:
    """Show what sets entries A and B apart: run, rows, scores, files, versions and hardware."""
    from adapters_xling.zoo.difference import differences

    settings = settings_from(options)
    zoo = api.open_zoo(settings)
    one, other = (zoo.get(zoo.resolve(name), verify=False) for name in (ours, theirs))
    found = differences(
        one.card, other.card, scores=(api.all_scores(one, settings), api.all_scores(other, settings))
    )
    if as_json:
        print_json([{"part": d.part, "name": d.name, "a": d.ours, "b": d.theirs} for d in found])
        return
    click.echo(f"A  {one.key}\nB  {other.key}")
    for part in dict.fromkeys(d.part for d in found):
        click.secho(part, bold=True)
        for d in found:
            if d.part == part:
                click.echo(f"  {d.name}: {_value(d.ours)} → {_value(d.theirs)}{_change(d.ours, d.theirs, part)}")
    if not found:
        click.echo("the same run, rows, scores and files")


def _value(value: Any) -> str:
    text = "·" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _change(ours: Any, theirs: Any, part: str) -> str:
    numbers = isinstance(ours, (int, float)) and isinstance(theirs, (int, float))
    return f"  ({theirs - ours:+.1f})" if numbers and part == "scores" else ""


@click.command()
@click.argument("entry")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "mermaid", "svg", "json"]),
    default="text",
    show_default=True,
    help="A tree, a graph that GitHub and the Hugging Face Hub draw, a picture, or data.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file.")
@folders
def lineage(entry: str, form: str, output: Path | None, **options: Any) -> None:
    """Show where ENTRY comes from: all its ancestors with rows, recipe, seed, commit, hardware and scores."""
    import json

    from adapters_xling.zoo.lineage import trace

    zoo = api.open_zoo(settings_from(options))
    found = trace(zoo, zoo.resolve(entry))
    if form == "json":
        text = json.dumps(found.plain(), ensure_ascii=False, indent=2)
    else:
        text = {"text": found.tree, "mermaid": found.mermaid, "svg": found.svg}[form]()
    _write(text, output)


@click.command()
@click.argument("entry")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file.")
@folders
def readme(entry: str, output: Path | None, **options: Any) -> None:
    """Render the README.md of ENTRY, with the metadata block that the Hugging Face Hub reads."""
    _write(api.entry_readme(entry, settings_from(options)), output)


@click.command()
@click.argument("entry")
@click.argument("tasks", nargs=-1)
@folders
def attest(entry: str, tasks: tuple[str, ...], **options: Any) -> None:
    """Keep the scores of ENTRY (on TASKS, or on all) with it, sealed, in a file beside its card.

    A card is never changed. Scores are those of `xling evaluate`; each is checked against rows and weights once more.
    """
    found = api.attest_scores(entry, tasks, settings_from(options))
    cells = [one.score for one in found]
    click.echo(f"{len(cells)} scores on {', '.join(sorted({one.task for one in cells}))} are attested")


def _write(text: str, output: Path | None) -> None:
    from adapters_xling.paths import atomic_write

    if output is None:
        click.echo(text)
        return
    atomic_write(output, text if text.endswith("\n") else f"{text}\n")
    click.echo(f"{output} written", err=True)
