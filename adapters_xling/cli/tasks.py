"""`xling tasks`: list, show, check, and make one from your own file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from adapters_xling import api
from adapters_xling.cli.common import folders, plain_assignments, print_json, print_table, settings_from
from adapters_xling.errors import ConfigError, XlingError
from adapters_xling.spec import TaskSpec


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the page docs/tasks.md.")
@folders
@click.pass_context
def tasks(ctx: click.Context, as_json: bool, as_markdown: bool, **options: Any) -> None:
    """List the tasks, check them, or make one from your own file."""
    if ctx.invoked_subcommand is not None:
        if as_json or as_markdown:
            option = "--json" if as_json else "--markdown"
            raise ConfigError(f"{option} prints the list of tasks; leave it out before {ctx.invoked_subcommand}")
        given = {name: value for name, value in options.items() if value is not None}
        ctx.default_map = {ctx.invoked_subcommand: given}  # what the command itself is not told, it takes from here
        return
    found = api.tasks(settings_from(options))
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(found))
        return
    from adapters_xling.tasks import page

    if as_markdown:
        click.echo(page.markdown(found), nl=False)
        return
    rows = [
        (t.name, t.kind, t.role, len(t.languages), page.sizes(t), t.metrics[0], t.train_on or "", t.licence)
        for t in sorted(found, key=lambda t: (t.role, t.name))
    ]
    print_table(("task", "kind", "role", "languages", "rows", "metric", "trained on", "licence"), rows)


@tasks.command()
@click.argument("names", nargs=-1)
@click.option("--rows", default=200, show_default=True, help="Rows of each split (retrieval: all).")
@click.option("--language", help="Language to check; the first that is at hand when left out.")
@folders
def check(names: tuple[str, ...], rows: int, language: str | None, **options: Any) -> None:
    """Push rows of each task through reading, encoding, loss and decoding; every gold answer must score 100.

    All tasks are checked when no NAMES are given; tasks whose rows are not on this machine are named, not failed.
    """
    from adapters_xling import languages
    from adapters_xling.model import load_tokenizer
    from adapters_xling.tasks import inventory

    settings = settings_from(options)
    data_dir = settings.data_dir
    if language:
        languages.language(language)
    tokenizer = load_tokenizer("xlmr-nano")
    checked = failed = absent = 0
    for spec in [api.task(name, settings) for name in names] or api.tasks(settings):
        code, splits = _at_hand(spec, language, data_dir)
        if not splits:
            absent += 1
            click.echo(f"{spec.name:<20} not at hand{f' in {language!r}' if language else ''}")
            continue
        checked += 1
        for split in splits:
            one = inventory.check_rows(spec, split, code, tokenizer, data_dir=data_dir, limit=rows)
            if one.state == "failed":
                failed += 1
                click.secho(f"{spec.name:<20} {split:<6} {one.text}", fg="red")
                continue
            remarks = f" ({one.remarks})" if one.remarks else ""
            click.echo(f"{spec.name:<20} {split:<6} ok: {one.rows} rows{remarks}; {one.text}")
    click.echo(f"{checked} checked, {absent} not at hand")
    if failed:
        raise XlingError(f"{failed} check(s) failed; the lines above say which rows and why")


def _at_hand(spec: TaskSpec, language: str | None, data_dir: Path | None) -> tuple[str, tuple[str, ...]]:
    """A language with rows on this machine, the wanted one if any, and the splits it has; no splits when there is
    none.
    """
    from adapters_xling import tasks as catalog

    for code in (language,) if language else dict.fromkeys(spec.train_languages + spec.languages):
        splits = catalog.splits_at_hand(spec, code, data_dir=data_dir)
        if splits:
            return code, splits
    return "", ()


@tasks.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the new task.")
@click.option("--kind", required=True, help="sentence, choice, tag or span.")
@click.option("--columns", multiple=True, metavar="FIELD=COLUMN", help="Where a field of the task stands in the file.")
@click.option("--language", default="en", show_default=True, help="Language of the rows: its ISO 639 code.")
@click.option("--force", is_flag=True, help="Replace a task file of that name.")
@folders
def new(
    source: Path, name: str, kind: str, columns: tuple[str, ...], language: str, force: bool, **options: Any
) -> None:
    """Make a task file for your own CSV, TSV or JSONL file SOURCE; to tag also for one word per line (.conll).

    The file goes to the folder named by --tasks (default: ./tasks); train, dev and test rows are split off by hash.
    """
    from adapters_xling.paths import atomic_write
    from adapters_xling.tasks import catalog, private

    settings = settings_from(options)
    folder = settings.tasks or Path("tasks")
    target = catalog.new_file(name, folder)
    if target.exists() and not force:
        raise XlingError(f"{target} exists; give --force to replace it, or another --name")
    wanted = plain_assignments(columns, "--columns")
    draft = private.draft(source, name=name, kind=kind, columns=wanted or None, language=language)
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(target, draft.text)
    if draft.remark:
        click.secho(draft.remark, fg="yellow", err=True)
    click.echo(f"{target} written. Next: xling tasks check {name} --tasks {folder}")
