"""`xling zoo` about what entries say of themselves: find, diff, lineage, readme, attest, leaks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapters_xling import api
from adapters_xling.cli.common import (
    Bars,
    folders,
    listed,
    print_json,
    print_table,
    require_output,
    settings_from,
    size,
)
from adapters_xling.errors import ConfigError, ZooError
from adapters_xling.zoo.card import KEY

if TYPE_CHECKING:
    from adapters_xling.leaks import Overlap

_LINEAGE = {
    "text": rf"{KEY.pattern}\n",
    "mermaid": r"flowchart TD\n",
    "svg": r"<svg [^>]*Lineage of ",
    "json": r'\{\n  "key": ',
}
"""How a lineage begins, by its form."""
_README = rf"---\n(?s:.*?)\n---\n\n# {KEY.pattern}\n"
_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}


@click.command()
@click.option("--task", help="Trained on this task.")
@click.option("--on", help="Scored on this task; its score is the zero-shot mean.")
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
    query = Query(max_bytes=None if max_size is None else _bytes(max_size), **options)
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
    except (ValueError, KeyError, OverflowError) as err:
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
    found = differences(one.card, other.card, scores=(api.all_scores(one, settings), api.all_scores(other, settings)))
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

    require_output(output, _LINEAGE[form])
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
    require_output(output, _README)
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


@click.command()
@click.argument("entry")
@click.option("--on", multiple=True, metavar="TASK", help="Look at this task's scored rows; all benchmarks by default.")
@listed("--languages", metavar="CODES", help="Comma-separated codes; all when left out.")
@click.option("--examples", is_flag=True, help="Print the first rows found in each task, by way.")
@click.option("--by-language", is_flag=True, help="A line for each language.")
@click.option("--strict", is_flag=True, help="Fail (exit 2) when training rows are known, or unchecked.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@folders
def leaks(
    entry: str,
    on: tuple[str, ...],
    languages: str | None,
    examples: bool,
    by_language: bool,
    strict: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Say which rows of benchmarks ENTRY, or an entry it comes from, has learnt from.

    A row is known by all of its texts, by one long text, by 13 words in a row, by its article, or as the twin of a
    known row in another language. What cannot be read here is named as unchecked.
    """
    import dataclasses

    from adapters_xling.leaks import HOW

    bars = Bars(show=not as_json)
    num_read = 0

    def read(name: str) -> None:
        nonlocal num_read
        num_read += 1
        bars("sets", name.split("/")[0], num_read, num_read)

    found = api.leaks(entry, on=on, languages=languages, settings=settings_from(options), on_set=read)
    bars.close()
    if as_json:
        checked = [{"task": t, "split": s, "language": c, "rows": n} for (t, s, c), n in found.checked.items()]
        body = {"key": found.key, "learnt_from": found.num_rows, "checked": checked, "unchecked": found.unchecked}
        print_json({**body, "overlaps": [dataclasses.asdict(one) for one in found.overlaps]})
    else:
        rows = _by_set(found.overlaps, HOW, by_language=by_language)
        if rows:
            print_table(("set", "languages", "known from", "rows", *HOW), rows)
        shown: dict[tuple[str, str], list[str]] = {}
        for one in found.overlaps if examples else ():
            for sample in one.samples:
                place = f"{one.task}/{one.split}/{one.language} {sample.id}: {sample.how} ({sample.place})"
                shown.setdefault((one.task, sample.how), []).append(f"{place}\n    {sample.text}")
        for texts in shown.values():
            click.echo("\n".join(texts[:3]))
        sets = {(one.task, one.split, one.language) for one in found.overlaps}
        learnt = ", ".join(f"{number:,} {part} rows" for part, number in found.num_rows.items())
        total = sum(found.checked.values())
        click.echo(
            f"{learnt} compared with {total:,} rows of {len(found.checked)} sets; {len(sets)} "
            f"{'set has' if len(sets) == 1 else 'sets have'} known rows"
        )
        for name, why in found.unchecked.items():
            click.secho(f"unchecked: {name}: {why}", fg="yellow", err=True)
    if strict and (known := [one for one in found.overlaps if one.part == "train"]):
        raise ZooError(
            f"entry {found.key} learnt from {sum(one.num_known for one in known)} rows of {len(known)} sets it could "
            "be scored on; see the table, and do not report scores on them as unseen"
        )
    if strict and found.untraced:
        raise ZooError(
            f"entry {found.key} learnt from what could not be checked: {', '.join(found.untraced)}; see why above, and "
            "do not report its scores as those of unseen rows"
        )


def _by_set(overlaps: Sequence[Overlap], how: Sequence[str], *, by_language: bool) -> list[tuple[Any, ...]]:
    """Known rows by task, split and part, over the languages or one by one."""
    groups: dict[tuple[str, str, str], list[Overlap]] = {}
    for one in overlaps:
        groups.setdefault((f"{one.task}/{one.split}", one.language if by_language else "", one.part), []).append(one)
    return [
        (
            name,
            language or len(found),
            part,
            sum(one.num_rows for one in found),
            *(sum(one.known.get(way, 0) for one in found) or None for way in how),
        )
        for (name, language, part), found in groups.items()
    ]


def _write(text: str, output: Path | None) -> None:
    from adapters_xling.paths import atomic_write

    if output is None:
        click.echo(text)
        return
    atomic_write(output, text if text.endswith("\n") else f"{text}\n")
    click.echo(f"{output} written", err=True)
