"""What a score is of: how rows are read, the languages a task has, where an entry comes from, and the floor under every
table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters_xling import inference, methods, tasks
from adapters_xling.errors import MissingData
from adapters_xling.model import backbone_id
from adapters_xling.spec import RunSpec, Score, TaskSpec, entries, named, outline
from adapters_xling.tasks import kinds
from adapters_xling.zoo import Card, Zoo


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Where retrieval reads sentences, over what task, method and backbone say.

    Attributes:
        layer: hidden state, 0 the embeddings; None leaves it to them.
        pooling: "mean", "mean-text" (no special tokens) or "first"; None leaves it to them.
        vectors: "float32", or "float16" to keep vectors in half the space; cosines then differ by about 1e-4.
    """

    layer: int | None = None
    pooling: str | None = None
    vectors: str = "float32"

    @property
    def suffix(self) -> str:
        """What sets its files apart.

        >>> Reading(layer=3, vectors="float16").suffix
        '-layer3-float16'
        """
        parts = (
            f"layer{self.layer}" if self.layer is not None else "",
            self.pooling or "",
            self.vectors if self.vectors != "float32" else "",
        )
        return "".join(f"-{part}" for part in parts if part)


READ_AS_SET = Reading()


def labels_of(card: Card | None, task: TaskSpec, *, zoo: Zoo, extra_tasks: Path | None = None) -> dict[str, Any]:
    """What a Score says about where it comes from: method, init, route, intermediate task and seed.

    The intermediate task is the entry's own task when it is evaluated on something it was not trained for (retrieval),
    and a mixture's own tasks whatever it is evaluated on; else the tasks of the entries it started from or stands on.
    """
    if card is None:
        return {"method": "base", "init": "fresh", "route": "base", "intermediate": "none", "seed": 0}
    run = card.run
    trained = {ref.name for ref in run.tasks}
    own = bool(trained & {task.name, tasks.train_task(task, extra=extra_tasks).name}) or task.head_name in card.heads
    if not own or run.mixture:
        source = run.task
    else:
        together = named(run.init) or entries(run.route)
        # a parent that is not here still has its name
        found = (zoo.get(one, verify=False).card.run.task if one in zoo else one for one in together)
        source = "+".join(dict.fromkeys(found)) or "none"
    return {
        "method": methods.resolve(run.method).label,
        "init": outline(run.init),
        "route": outline(run.route),
        "intermediate": source,
        "seed": run.seed,
    }


def trained_languages(
    card: Card | None, task: TaskSpec, zoo: Zoo, *, extra_tasks: Path | None = None
) -> frozenset[str]:
    """Languages of the rows that trained a task's head in an entry, and in those it was carried over or merged from.

    Those of the task where a card names none, or where an entry that the head comes from is not in the zoo. Rows of a
    mixture's tasks with heads of their own (MLM in many languages) do not count.
    """
    if card is None:
        return frozenset(task.train_languages)
    others = _under_other_heads(card, task, extra_tasks)
    places = [place.split("/") for place in card.data]
    found = {part[2] for part in places if len(part) == 3 and part[1] == "train" and part[0] not in others}
    if not found:
        found = set(task.train_languages) if card.run.made_by == "training" else set()
    own = card.heads.get(task.head_name)
    for name in head_parents(card.run):
        parent = zoo.get(name, verify=False).card if name in zoo else None
        there = parent.heads.get(task.head_name) if parent else None
        if parent is None:
            found |= set(task.train_languages)
        elif own and there and (there.kind, there.labels) == (own.kind, own.labels):
            found |= trained_languages(parent, task, zoo, extra_tasks=extra_tasks)
    return frozenset(found or task.train_languages)


def _under_other_heads(card: Card, task: TaskSpec, extra_tasks: Path | None) -> set[str]:
    """Tasks of an entry that trained other heads than a task's: those its heads name, which is the first of each, and
    the rest by their task files, where these are here.
    """
    others = {name: head.task for name, head in card.heads.items() if name != task.head_name}
    names = {ref.name for ref in card.run.tasks}
    return {*others.values(), *(name for name in names if tasks.head_of(name, extra=extra_tasks) in others)}


def head_parents(run: RunSpec) -> tuple[str, ...]:
    """Entries whose head, where it is like the run's, the run went on with: all of a merge, else the nearest."""
    if run.made_by == "training" and run.recipe.carry != "head":
        return ()
    return named(run.init) or entries(run.route)[-1:]


def weights_of(name: str, card: Card | None, backbone: Path | None) -> Any:
    """What tells an entry's weights, or a bare backbone's, from all others."""
    if card is None:
        return backbone_id(str(backbone or name)).digest
    return {file: one.sha256 for file, one in card.files.items()}


def majority(
    task: TaskSpec,
    *,
    backbone: str,
    languages: Sequence[str] | None = None,
    split: str | None = None,
    data_dir: Path | None = None,
    limit: int | None = None,
    train_task: TaskSpec | None = None,
    skip_missing: bool = False,
) -> list[Score]:
    """Score the prediction that ignores the input: the floor under every table."""
    split = split or task.eval_split
    kind = kinds.get(task.kind)
    source = train_task or tasks.train_task(task)
    train = tasks.load_all(source, "train", source.train_languages, data_dir=data_dir)[0] if kind.trains else []
    scores: list[Score] = []
    codes = tasks.check_languages(task, languages, split)
    for language in codes:
        try:
            rows = tasks.load(task, split, language, data_dir=data_dir, limit=limit)
        except MissingData:
            if not skip_missing or (language == codes[-1] and not scores):
                raise
            continue
        predictions = kind.majority(train, rows.examples, task)
        for metric, value in inference.score(task, rows.examples, predictions, language=language).items():
            scores.append(
                Score(
                    key=f"majority-{task.name}",
                    task=task.name,
                    language=language,
                    metric=metric,
                    value=value,
                    num_examples=len(predictions),
                    split=split,
                    zero_shot=language not in source.train_languages or not kind.trains,
                    backbone=backbone,
                    method="majority",
                    init="fresh",
                    route="base",
                    intermediate="none",
                    seed=0,
                )
            )
    return scores
