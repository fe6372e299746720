"""Few labels in the target language: an entry goes on with a person's own rows, and is measured on rows held out."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from adapters_xling import languages, made_with, paths
from adapters_xling.errors import ConfigError, DataError, UnknownName, XlingError, unknown
from adapters_xling.recipes import resolve_recipe
from adapters_xling.spec import Partition, Score, TaskSpec, Warm, decode
from adapters_xling.zoo import Entry, Zoo

from .models import default_recipe
from .predicting import answering, require_head
from .reports import compare
from .scoring import evaluate
from .settings import Settings, local_folder, open_zoo, task

if TYPE_CHECKING:
    from adapters_xling.report import Versus

BUCKETS = 20
FEW: dict[str, Any] = {"carry": "head", "max_steps": 0, "epochs": 20.0, "batch_size": 16, "patience": 0}
"""Differences to an entry's usual recipe when it goes on with few rows: its head goes on too, and the length is told in
passes over the rows. The best step is looked for once per pass."""


@dataclasses.dataclass(frozen=True)
class Adapted:
    """What came of going on with a person's rows.

    Attributes:
        entry: the new entry.
        task: the rows as a task of their own.
        folder: where its task file is (`--tasks`).
        num_rows: split -> rows; `test` is what neither trained nor chose a step.
        shared: held-out rows that share a text with rows that trained, by `tasks.overlap`'s rule.
        known: held-out rows that share one with a person's rows that an entry before this one was adapted on: before
            and after are both too high on them.
        before: scores of the entry it started from on the held-out rows.
        after: scores of the new entry on them.
        versus: new minus old, paired by row, with an interval.
        remark: columns of the file that were not used, in words for a person; empty where all were.
    """

    entry: Entry
    task: TaskSpec
    folder: Path
    num_rows: Mapping[str, int]
    shared: int
    known: int
    before: tuple[Score, ...]
    after: tuple[Score, ...]
    versus: Versus
    remark: str


def adapt(
    entry: str,
    rows: Path,
    *,
    language: str,
    on: str | None = None,
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    held_out: float = 0.3,
    dev_share: float = 0.15,
    licence: str | None = None,
    recipe: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
    settings: Settings | None = None,
    show_progress: bool = True,
) -> Adapted:
    """Train an entry further on rows of one's own, and score both it and the result on rows held out of them.

    The rows are divided by a hash of their group (a column `group`, else the first text), so that rows that belong
    together stay together: some train, some choose the best step, some are held out and only scored. The division
    depends on the groups and the name alone, so a longer file leaves every row where it was. Of an entry that was
    adapted before, its division goes on, whatever the name: what trained it is not held out now.

    Args:
        entry: key, or an unambiguous beginning of one; its method, settings, backbone and head are kept.
        rows: table (tsv, csv, jsonl, json) of labelled rows.
        language: ISO 639 code of their language; see `languages.language`.
        on: task of the entry whose head goes on; needed only when it has several.
        name: name of the rows as a task; default: the file's name and the language.
        columns: field -> column, for what cannot be guessed.
        labels: label in the file -> label of the head.
        held_out: share of the groups that is only scored.
        dev_share: share of the groups that chooses the step.
        licence: of the rows, in words that `licences.read` knows, e.g. ``CC BY 4.0``; what the task file says already,
            else ``private``. The new entry's card takes it over.
        recipe: optimisation settings by name; the usual ones of the backbone by default.
        overrides: differences to them and to `FEW`.
        seed: of order and dropout.
        settings: folders and device. The task file goes to its `tasks`, else `XLING_TASKS`, else `<runs>/tasks`.
        show_progress: draw a progress bar.

    Raises:
        ConfigError: for an entry without a head, shares that leave nothing, a recipe that cannot be, or a name that no
            task can have or that another has. No task file is written then, nor after a DataError.
        DataError: for rows that cannot be used, labels the head does not have, or too few groups.
    """
    from adapters_xling import grid, methods, tasks
    from adapters_xling.model import backbone_id
    from adapters_xling.tasks import catalog, private

    settings = settings or Settings()
    zoo = open_zoo(settings)
    parent = zoo.get(zoo.resolve(entry))
    require_head(parent)
    languages.language(language)
    recipe = grid.recipes().require(recipe or default_recipe(parent.card.run.backbone.name))
    folder = settings.tasks or paths.private_tasks_dir() or settings.runs_dir / "tasks"
    known = dataclasses.replace(settings, tasks=folder) if folder.is_dir() else settings  # of an entry adapted before
    base = tasks.with_labels(task(on or answering(parent), known), data_dir=settings.data_dir)
    if base.head_name not in parent.card.heads:
        raise ConfigError(
            f"entry {parent.key} has no head {base.head_name!r} for task {base.name!r}; it has: "
            f"{', '.join(parent.card.heads) or 'none'}"
        )
    name = name or re.sub(r"[^a-z0-9]+", "-", f"{rows.stem}-{language}".lower()).strip("-")
    file = catalog.new_file(name, folder)
    draft = private.draft(rows, name=name, kind=base.kind, columns=columns, language=language, pair=base.pair)
    body = _under_head(draft.body, rows, base, labels=labels or {})
    earlier = _earlier(parent, base, zoo, folder)
    divisions = [partition for one in earlier if (partition := _division(one)) and partition.buckets == BUCKETS]
    salt = divisions[0].salt if divisions else f"{name}:"
    body["sources"][0]["partition"] = _partition(salt, held_out=held_out, dev_share=dev_share)
    there = _described(file, body, licence=licence)
    own = decode(TaskSpec, body, str(file))
    catalog.check(own, where=str(file))
    found = _divided(own, rows)
    run = parent.card.run
    method = methods.resolve(run.method)
    changes = {
        **FEW,
        "pooling": run.recipe.pooling,
        "max_length": made_with.max_length_of(run, base, extra_tasks=folder),
        **(overrides or {}),
    }
    asked = resolve_recipe(grid.recipes(), recipe, method=method.name, kind=own.kind, task=own.name, overrides=changes)
    steps_per_pass = max(1, len(found["train"]) // (asked.batch_size * asked.accumulate))
    built = grid.make_run(
        own,
        method,
        backbone=backbone_id(run.backbone.name, download=True),
        recipe=recipe,
        overrides={"eval_every_steps": steps_per_pass, **changes},
        init=Warm(entry=parent.key),
        route=run.route,
        seed=seed,
        data_dir=settings.data_dir,
        extra_tasks=folder,
        backbone_folder=local_folder(run.backbone.name),
    )
    every_s, every_steps = settings.checkpoint_interval
    if not there:
        _write(file, body, rows)
    settings = dataclasses.replace(settings, tasks=folder)
    from adapters_xling.training import train as train_run

    made = train_run(
        built,
        zoo=zoo,
        data_dir=settings.data_dir,
        log_dir=settings.runs_dir / "logs",
        device=settings.device,
        show_progress=show_progress,
        extra_tasks=folder,
        backbone=local_folder(run.backbone.name),
        checkpoint_dir=settings.checkpoint_dir,
        checkpoint_s=every_s,
        checkpoint_steps=every_steps,
        prefix_cache=settings.prefixes(),
        attention=settings.attention,
    )
    before, after = (
        evaluate(key, name, languages=[language], split="test", settings=settings) for key in (parent.key, made.key)
    )
    versus = compare(made.key, parent.key, name, split="test", languages=[language], settings=settings)
    counts = {split: len(examples) for split, examples in found.items()}
    shared = _shared({split: found[split] for split in ("train", "dev")}, found["test"])
    seen = _shared(_rows_of(earlier), found["test"])
    return Adapted(made, own, folder, counts, shared, seen, tuple(before), tuple(after), versus, draft.remark)


def _under_head(body: dict[str, Any], rows: Path, base: TaskSpec, *, labels: Mapping[str, str]) -> dict[str, Any]:
    """A drafted task file with the options, metrics, labels and head of another task."""
    from adapters_xling.spec import canonical

    if base.labels:
        for given in labels.values():
            if given not in base.labels:
                raise unknown(f"label of {base.name}", given, base.labels, "--label FILE=HEAD")
        strange = [label for label in body.get("labels", ()) if labels.get(label, label) not in base.labels]
        if strange:
            raise DataError(
                f"{rows}: label {', '.join(map(repr, strange[:5]))} is none of the head's: {', '.join(base.labels)}. "
                f"Say what it is with --label '{strange[0]}={base.labels[0]}', or choose its column with --columns"
            )
        body["sources"][0]["options"]["labels"] = dict(labels)
        body["labels"] = list(base.labels)
    return {
        **body,
        "metrics": [_metric_in(name, body["languages"]) for name in base.metrics],
        "head": base.head_name,
        "options": canonical(base.options),
        "title": f"Rows of {rows.name}",
    }


def _metric_in(name: str, codes: Sequence[str]) -> str:
    """The metric, or the one for other languages where its rules are for some alone."""
    from adapters_xling import metrics

    if name == "mlqa":
        try:
            for code in codes:
                metrics.normalize_mlqa("", code)
        except UnknownName:
            return "squad"
    return name


def _division(own: TaskSpec) -> Partition | None:
    """How a task's rows are divided into splits, where they are one file."""
    return getattr(own.sources[0], "partition", None) if len(own.sources) == 1 else None


def _earlier(parent: Entry, base: TaskSpec, zoo: Zoo, folder: Path) -> list[TaskSpec]:
    """Tasks of a person's own rows, divided by group, that an entry and those before it were trained on under the same
    head, the latest first."""
    from adapters_xling import tasks
    from adapters_xling.zoo.lineage import trace

    cards = [card for card in trace(zoo, parent.key).cards.values() if card is not None]
    found: dict[str, TaskSpec] = {}
    for ref in (ref for card in reversed(cards) for ref in card.run.tasks):
        try:
            own = tasks.get(ref.name, extra=folder)
        except XlingError:
            continue  # pulled without its task file: nothing is known of its rows
        if own.role == "private" and own.head_name == base.head_name and _division(own):
            found[own.name] = own
    return list(found.values())


def _rows_of(earlier: Sequence[TaskSpec]) -> dict[str, list[Any]]:
    """Rows that trained or chose, of tasks whose files are still here."""
    from adapters_xling import tasks

    rows: dict[str, list[Any]] = {}
    for own in earlier:
        for split in ("train", "dev"):
            try:
                rows[f"{own.name}/{split}"] = list(tasks.load(own, split, own.languages[0]).examples)
            except DataError as err:
                warnings.warn(f"whether rows held out now trained {own.name!r} before is not known: {err}")
    return rows


def _partition(salt: str, *, held_out: float, dev_share: float) -> dict[str, Any]:
    """Buckets of the splits: the held-out ones first, so that they stay while others change their use."""
    test, dev = (round(share * BUCKETS) if 0 < share < 1 else 0 for share in (held_out, dev_share))
    if test < 1 or dev < 1 or test + dev >= BUCKETS:
        raise ConfigError(
            f"held out {held_out:g}, choosing the step {dev_share:g}: each must be a twentieth at least, and both "
            "together leave something to train on"
        )
    numbers = list(range(BUCKETS))
    splits = {"train": numbers[test + dev :], "dev": numbers[test : test + dev], "test": numbers[:test]}
    return {"buckets": BUCKETS, "splits": splits, "salt": salt}


def _described(target: Path, body: dict[str, Any], *, licence: str | None) -> bool:
    """Whether a task file is there already; what scores and entries were made with is not changed under them. The
    licence becomes the one that was given, else that of the file.

    Raises:
        ConfigError: for a file that says something else.
    """
    there = yaml.safe_load(target.read_text(encoding="utf-8")) if target.exists() else None
    body["licence"] = licence or (there or body)["licence"]
    if there not in (None, body):
        raise ConfigError(
            f"{target} describes other rows, another division or another licence under that name; give another --name, "
            "or remove it"
        )
    return there is not None


def _write(target: Path, body: dict[str, Any], rows: Path) -> None:
    from adapters_xling.tasks import private

    text = f"# Drafted from {rows.name} for going on with few rows; divided by group, see `partition`.\n"
    paths.atomic_write(target, text + private.dumped(body))


def _divided(own: TaskSpec, rows: Path) -> dict[str, list[Any]]:
    """The rows of each split.

    Raises:
        DataError: when a split is empty.
    """
    from adapters_xling import tasks

    found: dict[str, list[Any]] = {}
    for split in ("train", "dev", "test"):
        try:
            found[split] = tasks.load(own, split, own.languages[0]).examples
        except DataError as err:
            raise DataError(
                f"{rows}: too few groups of rows for three splits ({split}: {err}). Give more rows, another column "
                "`group`, or other shares (--held-out, --dev-share)"
            ) from err
    return found


def _shared(rows: Mapping[str, list[Any]], held_out: list[Any]) -> int:
    """Held-out rows that share a text or a sequence with others."""
    from adapters_xling.tasks.overlap import Index, Reader

    index = Index(Reader())
    for place, others in rows.items():
        index.add(others, place=place)
    return sum(one is not None for one in index.look_up(held_out))
