"""`xling evaluate`."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from adapters_xling import api
from adapters_xling.cli.common import (
    Bars,
    compiling,
    folders,
    listed,
    packing,
    parts,
    prefixes,
    print_json,
    reading,
    say_compiled,
    say_prefix,
    settings_from,
)
from adapters_xling.errors import XlingError
from adapters_xling.spec import entry_scored


@click.command()
@click.argument("entries", nargs=-1, required=True, metavar="ENTRY...")
@click.argument("task", metavar="TASK[,TASK]")
@listed("--languages", metavar="CODES", help="Comma-separated codes; all of the task's when left out.")
@click.option("--split", help="Split to score; the task's own choice when left out.")
@click.option("--limit", type=click.IntRange(min=1), help="Score only the first rows of each language.")
@click.option("--unscored", is_flag=True, help="Only keep the predictions: for test sets whose answers are withheld.")
@click.option("--backbone", metavar="DIR", help="Folder of the entries' own backbone, where it is not found by name.")
@click.option("--on", multiple=True, metavar="[CODES=]EXPR", help="What its heads stand on; 'slot' is ENTRY itself.")
@click.option("--layer", type=click.IntRange(min=0), help="Retrieval: hidden state to read, over the configured one.")
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True, help="Of the forward passes."
)
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
@reading
@compiling
@prefixes
@packing
@folders
def evaluate(
    entries: tuple[str, ...],
    task: str,
    languages: str | None,
    split: str | None,
    limit: int | None,
    unscored: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Score each ENTRY on TASK, language by language. Finished languages are kept and not computed again.

    ENTRY is a key, the unambiguous beginning of one, or a backbone's name for tasks that need no training. Several
    entries of one method share an encoder and every batch of rows, which is much faster than one after the other; one
    that fails takes no other along. TASK may be several names with commas between them.

    --on puts the heads on something else, e.g. 'average(slot:0.7, OTHER:0.3)', 'stack(mlm-{language}, alone(slot))',
    'sw=OTHER'.
    """
    settings = settings_from(options)
    bars = Bars(show=not as_json)
    names = parts(task, "TASK")
    entries = tuple(dict.fromkeys(entries))
    several = len(entries) > 1 or len(names) > 1

    def title(entry: str, name: str) -> str:
        return " · ".join([*([entry] if len(entries) > 1 else []), *([name] if len(names) > 1 else [])])

    def show(entry: str, name: str, language: str, scores: list[Any]) -> None:
        bars.close()
        head = f"{title(entry, name)}  {language}" if several else language
        if unscored:
            click.echo(f"{head}  predicted", err=as_json)
        elif not as_json:
            values = " · ".join(f"{score.metric} {score.value:.1f}" for score in scores)
            shot = "zero-shot" if scores[0].zero_shot else "trained on"
            click.echo(f"{head}  {values}  ({scores[0].num_examples} rows, {shot})")

    def failed(entry: str, name: str, err: Exception) -> None:
        bars.close()
        failures.append(f"{entry} on {name}")
        text = str(err) if isinstance(err, XlingError) else f"{type(err).__name__}: {err}"
        click.secho(f"{title(entry, name)}  not scored: {text}", fg="red", err=True)

    def absent(language: str, reason: str) -> None:
        click.secho(f"{language}  no rows at hand: {reason.splitlines()[0]}", fg="yellow", err=True)

    def left_out(language: str, reasons: dict[str, int]) -> None:
        bars.close()
        named = "; ".join(f"{reason} ({count})" for reason, count in reasons.items())
        click.secho(f"{language}  rows left out: {named}", fg="yellow", err=True)

    failures: list[str] = []
    with contextlib.closing(bars):
        scores = api.evaluate_all(
            entries,
            names,
            languages=languages,
            split=split,
            limit=limit,
            settings=settings,
            on_language=show,
            on_failure=failed if several else None,
            on_missing=absent,
            on_left_out=left_out,
            on_step=bars,
            unscored=unscored,
            **options,
        )
    if as_json:
        print_json([{name: getattr(score, name) for name in score.__struct_fields__} for score in scores])
    elif unscored:
        click.echo(f"predictions are kept in {settings.runs_dir / 'scores'}; `xling submission build` reads them")
    else:
        _means(scores, several=several)
        say_prefix()
    say_compiled(settings)
    if failures:
        raise XlingError(f"not scored: {'; '.join(failures)}. What is done is kept: the same command does the rest")


def _means(scores: list[Any], *, several: bool) -> None:
    """Print the zero-shot mean of each entry on each task."""
    mains: dict[tuple[str, str], str] = {}
    values: dict[tuple[str, str], list[float]] = {}
    for score in scores:
        pair = (entry_scored(score.key), score.task) if several else ("", "")
        if mains.setdefault(pair, score.metric) == score.metric and score.zero_shot:
            values.setdefault(pair, []).append(score.value)
    for pair, own in values.items():
        if len(own) > 1:
            of = f"{' on '.join(pair)}: " if several else ""
            mean = sum(own) / len(own)
            click.echo(f"{of}zero-shot mean over {len(own)} languages: {mains[pair]} {mean:.1f}")
