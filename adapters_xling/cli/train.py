"""`xling train`, `xling predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from adapters_xling import api
from adapters_xling.cli import speaks
from adapters_xling.cli.common import (
    assignments,
    checkpoints,
    compiling,
    duration,
    folders,
    packing,
    plain_assignments,
    prefixes,
    print_json,
    print_table,
    require_output,
    say_compiled,
    say_prefix,
    settings_from,
    size,
)
from adapters_xling.errors import DataError
from adapters_xling.spec import SEEDS, canonical

PREDICTION = r'\{"id": [^\n]*"prediction": '
"""How a file of predictions begins."""


@click.command()
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@click.option("--mix", help="How several tasks share the steps: proportional[:CAP], uniform, temperature:T[:CAP].")
@click.option("--rate", "rates", multiple=True, metavar="TASK=SHARE", help="A task's own share of all steps, e.g. 0.5.")
@click.option("--method", default="bottleneck", show_default=True, help="full, bottleneck, lora or head.")
@click.option("--set", "method_sets", multiple=True, metavar="NAME=VALUE", help="A setting of the method, e.g. r=4.")
@click.option("--backbone", default="xlmr-nano", show_default=True, help="Frozen pretrained encoder.")
@click.option("--recipe", help="Optimisation settings by name (task_configs/recipes.yaml).")
@click.option("--with", "overrides", multiple=True, metavar="NAME=VALUE", help="A difference to the recipe.")
@click.option("--warm", metavar="EXPR", help="Start the slot from this entry, or a merge: 'average(a:0.7, b:0.3)'.")
@click.option("--stack", metavar="ENTRY", help="Stand on this entry; it stays frozen.")
@click.option(
    "--on", metavar="EXPR", help="Stand on a composition: 'average(a, b)', 'stack(a, b)'; 'fuse(a, b)' trains."
)
@click.option("--seed", type=click.IntRange(min=0, max=SEEDS - 1), default=0, show_default=True)
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@checkpoints
@prefixes
@packing
@folders
def train(
    tasks: tuple[str, ...], method: str, backbone: str, seed: int, quiet: bool, as_json: bool, **options: Any
) -> None:
    """Train TASK, or a mixture of several, with one method and keep it in the zoo.

    An entry that exists is not trained again; a run that was killed goes on from its last checkpoint.
    """
    settings = settings_from(options)
    entry = api.train(
        tasks,
        method=method,
        method_settings=assignments(options["method_sets"], "--set"),
        backbone=backbone,
        recipe=options["recipe"],
        overrides=assignments(options["overrides"], "--with"),
        warm=options["warm"],
        stack=options["stack"],
        on=options["on"],
        seed=seed,
        mix=options["mix"],
        rates=assignments(options["rates"], "--rate"),
        settings=settings,
        show_progress=not quiet and not as_json,
    )
    if not speaks():
        return
    card = entry.card
    if as_json:
        print_json({"key": entry.key, "folder": str(entry.folder), "training": canonical(card.training)})
        return
    facts = card.training
    assert facts is not None
    click.echo(entry.key)
    click.echo(
        f"  dev {facts.metric} {facts.dev_score:.1f} (ignoring the input: {facts.chance:.1f}), best at step "
        f"{facts.best_step} of {facts.steps}, {duration(facts.seconds)}"
    )
    for name, own in facts.tasks.items():
        click.echo(
            f"  {name}: {own.metric} {own.dev_score:.1f} (ignoring the input: {own.chance:.1f}), {own.steps} steps"
        )
    click.echo(f"  {card.num_trainable:,} trainable parameters, {size(card.num_bytes)} on disk: {entry.folder}")
    say_prefix()
    if card.known_rows is not None and card.known_rows.known:
        click.secho(
            f"  note: {card.known_rows.said()}. Scores on those sets are not of unseen rows alone (look closer: xling "
            f"zoo leaks {entry.key})",
            fg="yellow",
            err=True,
        )
    if not facts.converged:
        click.secho(
            "  warning: this run stayed at chance. Try another learning rate (--with learning_rate=…), more steps "
            "(--with max_steps=…), or a warm start.",
            fg="yellow",
            err=True,
        )


@click.command()
@click.argument("entry", required=False)
@click.argument("texts", nargs=-1)
@click.option(
    "--requests",
    type=click.Path(path_type=Path),
    help='JSONL of {"entry": …, "texts": […]} (and "task": … where an entry has several): many entries.',
)
@click.option(
    "--on", metavar="EXPR", help="What its head stands on, e.g. 'average(slot, OTHER)'; 'slot' is ENTRY itself."
)
@click.option("--task", help="Task whose head answers, when the entry has several.")
@click.option("--input", "source", type=click.Path(path_type=Path), help="CSV, TSV or JSONL file of rows.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="JSONL file of predictions (standard output else).",
)
@click.option("--backbone", metavar="DIR", help="Folder of the entry's own backbone, where it is not found by name.")
@click.option("--columns", multiple=True, metavar="FIELD=COLUMN", help="Where a field of the task stands in the file.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@packing
@compiling
@folders
def predict(
    entry: str | None,
    texts: tuple[str, ...],
    task: str | None,
    source: Path | None,
    output: Path | None,
    columns: tuple[str, ...],
    backbone: str | None,
    on: str | None,
    requests: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Predict with ENTRY.

    TEXTS are one example: one or two sentences; a prompt and its choices; a sentence to tag; a question and its
    context. With --input, every row of a file is predicted, probabilities included. With --requests, every line of a
    file names its entry; entries of one method answer in common batches.
    """
    settings = settings_from(options)
    require_output(output, PREDICTION, source, requests)
    if requests is not None:
        if entry or source or task or columns or on:
            raise DataError("--requests FILE names entries and texts line by line; give nothing else but --output")
        wanted = read_requests(requests)
        _write(api.predict_requests(wanted, settings=settings, backbone=backbone), output)
        say_compiled(settings)
        return
    if entry is None:
        raise DataError("name the ENTRY that predicts, or give --requests FILE")
    if bool(texts) == bool(source):
        raise DataError("give either the texts of one example, or --input FILE")
    if source is None:
        examples: Any = [list(texts)]
    else:
        from adapters_xling.tasks import private

        zoo = api.open_zoo(settings)
        spec = api.answering_task(zoo.get(zoo.resolve(entry), verify=False), task, settings=settings)
        rows = private.read_inputs(source, spec, columns=plain_assignments(columns, "--columns"))
        examples = rows.examples
        for file, number, reason in rows.samples:
            click.secho(f"left out: {file}, row {number}: {reason}", fg="yellow", err=True)
        if rows.dropped:
            click.secho(f"{sum(rows.dropped.values())} rows left out: {rows.dropped}", fg="yellow", err=True)
    found = api.predict(entry, examples, name=task, settings=settings, backbone=backbone, on=on)
    if output is not None or source is not None or as_json:
        _write(found, output)
    else:
        _show(list(texts), found[0])
    say_compiled(settings)


def read_requests(path: Path) -> list[tuple[str, list[str], str | None]]:
    """Read which entry is asked about which texts, and which of its heads answers where that is said.

    Raises:
        DataError: naming the line that is no request.
    """
    found = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # strings may hold what `splitlines` takes for an end
    except (OSError, UnicodeDecodeError) as err:
        raise DataError(f"{path}: cannot be read: {err}") from err
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            body = json.loads(line)
        except ValueError as err:
            raise DataError(f"{path}, line {number}: not JSON: {err}") from err
        fits = isinstance(body, dict) and set(body) - {"task"} == {"entry", "texts"} and isinstance(body["entry"], str)
        fits = fits and isinstance(body.get("task"), str | None) and isinstance(body["texts"], list)
        if not fits or not all(isinstance(text, str) for text in body["texts"]):
            raise DataError(
                f'{path}, line {number}: expected {{"entry": "name", "texts": ["…"]}}, "task": "name" beside it where '
                "the entry has several, and nothing else"
            )
        found.append((body["entry"], body["texts"], body.get("task")))
    if not found:
        raise DataError(f"{path}: holds no request")
    return found


def _write(found: list[Any], output: Path | None) -> None:
    """Predictions as lines of JSON, into a file or on standard output."""
    lines = [json.dumps({"id": p.id, "prediction": p.value, **dict(p.detail)}, ensure_ascii=False) for p in found]
    if output is None:
        for line in lines:
            click.echo(line)
        return
    from adapters_xling.paths import atomic_write

    atomic_write(output, "".join(line + "\n" for line in lines))
    click.echo(f"{len(lines)} predictions written to {output}")


def _show(texts: list[str], prediction: Any) -> None:
    """Print one prediction for a person."""
    value, detail = prediction.value, dict(prediction.detail)
    shares = detail.pop("probabilities", None)
    if isinstance(value, tuple) and shares is not None:
        print_table(("word", "tag", "%"), list(zip(texts[0].split(), value, [100 * s for s in shares], strict=True)))
        return
    if isinstance(value, int):  # a choice: show its text
        shares, value = dict(zip(texts[1:], shares, strict=True)), texts[1 + value]
    click.secho(str(value), bold=True)
    for label, share in sorted((shares or {}).items(), key=lambda item: -item[1]):
        click.echo(f"  {label:<15} {share:6.1%}  {'█' * round(30 * share)}")
    for name, other in detail.items():
        click.echo(f"  {name}: {other}")
