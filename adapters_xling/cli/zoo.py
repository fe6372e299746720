"""`xling zoo`: list, show, verify, remove, clean up; what cards say is in `cards`."""

from __future__ import annotations

from typing import Any

import click

from adapters_xling import api
from adapters_xling.cli import advise, cards
from adapters_xling.cli.common import duration, folders, print_json, print_table, settings_from, size
from adapters_xling.errors import ConfigError, UnknownName, ZooError
from adapters_xling.spec import Score, canonical, describe
from adapters_xling.zoo import Card


@click.group()
def zoo() -> None:
    """List, find, show, compare, verify and remove trained entries."""


for command in (cards.find, cards.diff, cards.lineage, cards.readme, cards.attest, cards.leaks, advise.advise):
    zoo.add_command(command)


@zoo.command("list")
@click.option("--task", help="Only entries trained on this task.")
@click.option("--method", help="Only entries of this method.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@folders
def list_(task: str | None, method: str | None, as_json: bool, **options: Any) -> None:
    """List the entries: what was trained, how, from what, with what dev score."""
    from adapters_xling.zoo.finding import Query, check_names

    found = api.open_zoo(settings_from(options))
    if everything := found.entries():
        check_names(Query(task=task, method=method), everything, {})
    entries = list(found.find(task=task, method=method))
    if as_json:
        print_json([{"key": e.key, "folder": str(e.folder), **canonical(e.card.run)} for e in entries])
        return
    if not entries:
        click.echo(f"no such entries in {found.root}; train one: xling train TASK")
        return
    rows = [
        (
            e.key,
            e.card.run.task,
            e.card.run.method.name,
            len(e.card.parents),
            e.card.training.dev_score if e.card.training else None,
            size(e.card.num_bytes),
        )
        for e in entries
    ]
    print_table(("key", "task", "method", "parents", "dev", "size"), rows)


@zoo.command()
@click.argument("entry")
@click.option("--json", "as_json", is_flag=True, help="Print the card as JSON.")
@folders
def show(entry: str, as_json: bool, **options: Any) -> None:
    """Show an entry's card: where it comes from, what it scored, what it needs."""
    settings = settings_from(options)
    found = api.open_zoo(settings)
    item = found.get(found.resolve(entry))
    card, run = item.card, item.card.run
    if as_json:
        print_json(canonical(card))
        return
    click.secho(item.key, bold=True)
    origin = card.provenance
    given = ", ".join(f"{name}={value}" for name, value in run.method.settings.items() if value is not None)
    lines = [
        ("task", run.task),
        ("method", f"{run.method.name} ({given})"),
        ("backbone", f"{run.backbone.name}, weights sha256 {str(run.backbone.digest)[:16]}…"),
        ("init, route", f"{run.init.__struct_config__.tag}, {describe(run.route)}"),
        ("parents", "\n".join(card.parents) or "none"),
        ("children", "\n".join(found.children(item.key)) or "none"),
        ("parameters", f"{card.num_trainable:,} trainable of {card.num_parameters:,}"),
        ("size", size(card.num_bytes)),
        ("licence", "\n".join(api.entry_licence(item.key, settings).lines())),
        ("test rows", _known(card)),
        ("scores", _scores(api.all_scores(item, settings)) or "none yet: xling evaluate"),
        ("made", f"{origin.created}, commit {origin.commit or 'unknown'}{' (with changes)' if origin.dirty else ''}"),
        ("by", origin.command),
        ("retrain", _retrain(card, settings)),
        ("folder", str(item.folder)),
    ]
    if (facts := card.training) is not None:
        lines[6:6] = [
            ("dev", f"{facts.metric} {facts.dev_score:.1f} (ignoring the input {facts.chance:.1f})"),
            ("converged", "yes" if facts.converged else "no: it stayed at chance"),
            ("trained", f"{facts.steps} steps, best {facts.best_step}, {duration(facts.seconds)}"),
        ]
    if whose := api.attested(item, settings):
        lines.insert([name for name, _ in lines].index("scores") + 1, ("attested", whose))
    if card.notes:
        lines.insert([name for name, _ in lines].index("made"), ("notes", card.notes))
    for name, value in lines:
        first, *rest = str(value).splitlines() or [""]
        click.echo(f"  {name:<12} {first}")
        for line in rest:
            click.echo(f"  {'':<12} {line}")


def _known(card: Card) -> str:
    """Whether the entry learnt from rows of test sets, as far as anybody looked."""
    closer = f"look closer: xling zoo leaks {card.key}"
    if card.known_rows is None:
        return f"nobody looked for them among the training rows; {closer}"
    return f"{card.known_rows.said()}\n({closer})"


def _scores(scores: list[Score]) -> str:
    """Scores of an entry, a line per task, split and metric: its languages in order."""
    lines: dict[tuple[str, str, str], list[str]] = {}
    for one in scores:
        lines.setdefault((one.task, one.split, one.metric), []).append(f"{one.language} {one.value:.1f}")
    return "\n".join(f"{task} {split} {metric}: {', '.join(found)}" for (task, split, metric), found in lines.items())


def _retrain(card: Card, settings: api.Settings) -> str:
    """The command that trains an entry again, with what it needs; the reason where there is none."""
    try:
        found = api.retraining(card, settings)
    except (ConfigError, UnknownName) as err:
        return f"no command: {err}"
    return "\n".join([found.command, *(f"({note})" for note in found.notes)])


@zoo.command()
@click.argument("entry", required=False)
@click.option("--all", "everything", is_flag=True, help="Every entry.")
@folders
def verify(entry: str | None, everything: bool, **options: Any) -> None:
    """Recompute every digest of an entry (or of all, --all) and name what does not fit its card."""
    found = api.open_zoo(settings_from(options))
    if bool(entry) == everything:
        raise ZooError("give an ENTRY, or --all")
    names = list(found.keys()) if everything else [found.resolve(str(entry))]
    broken = 0
    for name in names:
        problems = found.verify(name)
        broken += bool(problems)
        click.echo(f"{'BROKEN' if problems else 'ok':<7} {name}")
        for problem in problems:
            click.echo(f"        {problem}")
        for parent in () if problems else found.gone(name):
            click.echo(f"        note: {parent}, which it started from, is not in this zoo; it works without it")
        for parent in () if problems else found.replaced(found.get(name, verify=False).card):
            click.echo(
                f"        note: {parent}, which it started from, was trained again since and has other weights now"
            )
    if broken:
        raise ZooError(
            f"{broken} of {len(names)} entries cannot be used: pull or train what one runs on top of; one that is not "
            "what its card says remove (xling zoo rm), and pull it again or retrain"
        )


@zoo.command()
@click.argument("entry")
@click.option("--force", is_flag=True, help="Even when other entries descend from it.")
@folders
def rm(entry: str, force: bool, **options: Any) -> None:
    """Remove an entry; refused while others descend from it."""
    found = api.open_zoo(settings_from(options))
    name = found.resolve(entry)
    found.remove(name, force=force)
    click.echo(f"removed {name}")


@zoo.command()
@click.argument("expression")
@click.option("--backbone", metavar="DIR", help="Folder of the entries' own backbone, where it is not found by name.")
@folders
def merge(expression: str, backbone: str | None, **options: Any) -> None:
    """Merge entries and keep the result as one: 'average(a:0.7, b:0.3)', 'arithmetic(+a:1, -b:0.5)', 'ties(a, b)'."""
    entry = api.merge(expression, settings=settings_from(options), backbone=backbone)
    click.echo(entry.key)
    click.echo(f"  {entry.card.notes}")
    click.echo(f"  {size(entry.card.num_bytes)} on disk: {entry.folder}")


@zoo.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@folders
def gc(dry_run: bool, **options: Any) -> None:
    """Remove what killed writers left behind."""
    found = api.open_zoo(settings_from(options))
    gone = found.gc(dry_run=dry_run)
    click.echo(
        f"{'would free' if dry_run else 'freed'} {size(gone.num_bytes)} in {len(gone.removed)} unfinished folders"
    )
