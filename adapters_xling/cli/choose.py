"""`xling choose`: what an entry stands on in each language, chosen on dev rows and checked on others."""

from __future__ import annotations

from typing import Any

import click

from adapters_xling import api
from adapters_xling.cli.common import folders, listed, print_json, print_table, settings_from


@click.command()
@click.argument("entry")
@click.argument("task")
@click.argument("candidates", nargs=-1, required=True, metavar="EXPR...")
@listed("--languages", metavar="CODES", help="Comma-separated codes; all of the task's when left out.")
@click.option("--split", default="dev", show_default=True, help="Rows to choose and check on.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first rows of each language, both halves together.")
@click.option("--backbone", metavar="DIR", help="Folder of the entry's own backbone, where it is not found by name.")
@click.option("--json", "as_json", is_flag=True, help="Print the choices as JSON.")
@folders
def choose(entry: str, task: str, candidates: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Choose for each language what ENTRY's heads stand on, from several EXPR, on half of the dev rows of TASK.

    The other half says what the choice is worth beside the first EXPR. 'slot' is ENTRY as it was trained.
    """
    languages, split, limit = options.pop("languages"), options.pop("split"), options.pop("limit")
    backbone = options.pop("backbone")
    found = api.choose(
        entry,
        task,
        candidates,
        languages=languages,
        split=split,
        limit=limit,
        settings=settings_from(options),
        backbone=backbone,
    )
    if as_json:
        print_json([{name: getattr(one, name) for name in one.__dataclass_fields__} for one in found])
        return
    rows = [(one.language, candidates[one.chosen], max(one.scores), one.checked, one.default) for one in found]
    print_table(("language", "chosen", "there", "checked", "first"), rows)
    gain = sum(one.checked - one.default for one in found) / len(found)
    click.echo(f"mean gain over {candidates[0]!r} on rows that did not choose: {gain:+.1f} over {len(found)} languages")
    by_way: dict[str, list[str]] = {}
    for one in found:
        if candidates[one.chosen].strip() != "slot":  # without a composition the entry is as it was trained
            by_way.setdefault(candidates[one.chosen], []).append(one.language)
    ways = "".join(f" --on '{','.join(chosen)}={text}'" for text, chosen in by_way.items())
    only = f" --languages {','.join(one.language for one in found)}" if languages else ""
    click.echo(f"xling evaluate {entry} {task}{only}{ways}")
