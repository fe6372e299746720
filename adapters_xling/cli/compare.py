"""`xling compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from adapters_xling import api
from adapters_xling.cli.common import folders, listed, print_json, print_table, settings_from

if TYPE_CHECKING:
    from adapters_xling.report import Interval, Versus


@click.command()
@click.argument("ours", metavar="A")
@click.argument("theirs", metavar="B")
@click.option("--task", "name", required=True, help="Task on which both were scored.")
@click.option("--metric", help="One of the task's scores; the one models are selected by when left out.")
@click.option("--split", help="Split that was scored; the task's own when left out.")
@listed("--languages", help="Only these languages.")
@click.option("--limit", type=click.IntRange(min=1), help="Compare what was scored of so many first rows.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="Of the passes that were scored.",
)
@click.option("--resamples", type=click.IntRange(min=100), help="Draws of the bootstrap (default 10000).")
@click.option(
    "--seeds",
    type=click.Choice(["student", "resample", "fixed"]),
    default="student",
    show_default=True,
    help="How training noise enters: a t draw over seeds, seeds resampled, or not at all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@folders
def compare(ours: str, theirs: str, name: str, languages: str | None, as_json: bool, **options: Any) -> None:
    """Compare systems A and B on a task: A minus B, by language and over the zero-shot languages.

    A and B are keys of entries (several with commas, one per seed) or labels that their scores carry, such as
    method=lora,intermediate=mini-nli. Both must have been scored (`xling evaluate`, `xling run`); needs no model.
    """
    settings = settings_from(options)
    found = api.compare(ours, theirs, name, languages=languages, settings=settings, **options)
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(found))
        return
    _print(found)


def _print(found: Versus) -> None:
    from adapters_xling.report.compared import mean_text, one_line, p_text

    click.secho(f"{found.task}, {found.metric}, {found.split}: A − B in points", bold=True)
    for letter, side in (("A", found.ours), ("B", found.theirs)):
        click.echo(f"{letter}  {side.name}  ({', '.join(dict.fromkeys(side.keys))})")

    def row(label: str, part: Interval, scores: list[dict[str, Any]], p_holm: str) -> tuple[str, ...]:
        difference, interval, p = one_line(part)
        return (label, *(mean_text(score) for score in scores), difference, interval, p, p_holm)

    both = [found.ours.scores, found.theirs.scores]
    rows = [
        row(code, part, [{code: scores[code]} for scores in both], p_text(found.p_holm.get(code)))
        for code, part in found.languages.items()
    ]
    if found.mean:
        averaged = [{code: scores[code] for code in found.zero_shot} for scores in both]
        rows.append(row("zero-shot mean", found.mean, averaged, ""))
    print_table(("language", "A", "B", "Δ", "95 % interval", "p", "p (Holm)"), rows)
    for line in _foot(found):
        click.echo(line)


def _foot(found: Versus) -> list[str]:
    seeds = f"seeds {', '.join(map(str, found.seeds))}" if len(found.seeds) > 1 else f"one seed ({found.seeds[0]})"
    ids = "ids, each drawn for all languages at once" if found.parallel else "examples, drawn language by language"
    lines = [f"{seeds}; {found.num_examples:,} {ids}; {found.num_resamples:,} draws; Holm over the languages"]
    if len(found.seeds) == 1:
        lines.append("one seed: the intervals say nothing about training noise")
    if found.num_left_out:
        lines.append(f"{found.num_left_out:,} rows that only one of the two was scored on are left out")
    return [*lines, *found.notes]
