"""Layer sweep: how well each hidden state retrieves, on rows that may be chosen on.

A sentence is run through the encoder once, and every hidden state's vectors are written to a file of their own; then
the files are searched one after the other. Killed, a sweep goes on with what is there. What the layer finds that
retrieval reads when nothing else is said is an evaluation, and is kept as one.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapters_xling import inference, metrics, tasks
from adapters_xling.errors import ConfigError, DataError, Held, MissingData
from adapters_xling.evaluation import DEFAULT_MAX_LENGTH, cell_as_set, open_model
from adapters_xling.made_with import made_with, scoring_code
from adapters_xling.model import Model, is_backbone
from adapters_xling.paths import atomic_write
from adapters_xling.scored import READ_AS_SET, Reading, weights_of
from adapters_xling.spec import FULL, TaskSpec, digest
from adapters_xling.tasks import cache, kinds
from adapters_xling.tasks.examples import Prediction
from adapters_xling.tasks.kinds.base import Batch
from adapters_xling.tasks.kinds.vectors import VectorFile, working
from adapters_xling.tasks.sources import has_split
from adapters_xling.zoo import Zoo

TO_CHOOSE_ON = "dev"
"""The split on which a layer may be chosen; others can only be looked at."""


@dataclass(frozen=True, kw_only=True)
class LayerSweep:
    """What a sweep found.

    Attributes:
        name: entry or backbone.
        metric: key of the task's first metric.
        values: language -> percent by layer; 0 is the embeddings.
        num_queries: language -> queries scored.
        configured: layer that retrieval reads when nothing else is said.
        num_scored: languages that were scored now; the others were there.
        precision: of the forward passes.
    """

    name: str
    task: str
    split: str
    metric: str
    pooling: str
    values: dict[str, tuple[float, ...]]
    num_queries: dict[str, int]
    configured: int
    num_scored: int = 0
    precision: str = FULL

    @property
    def means(self) -> tuple[float, ...]:
        """Mean over the languages, unweighted, by layer."""
        return tuple(math.fsum(column) / len(column) for column in zip(*self.values.values(), strict=True))

    @property
    def best(self) -> int | None:
        """Layer with the highest mean, the lowest of equals; None on a split that must not be chosen on."""
        return self.means.index(max(self.means)) if self.split == TO_CHOOSE_ON else None


def layers(
    name: str,
    task: TaskSpec,
    *,
    zoo: Zoo,
    runs_dir: Path,
    languages: Sequence[str] | None = None,
    split: str = TO_CHOOSE_ON,
    pooling: str | None = None,
    vectors: str = "float32",
    data_dir: Path | None = None,
    limit: int | None = None,
    device: str | None = None,
    backbone: Path | None = None,
    on_step: Callable[[str, str, int, int], Any] | None = None,
    on_missing: Callable[[str, str], Any] | None = None,
    precision: str = FULL,
    wait: bool = False,
    extra_tasks: Path | None = None,
) -> LayerSweep:
    """Score every hidden state of an entry or a bare backbone on a retrieval task.

    Args:
        name: key of an entry, or name of a backbone.
        task: a retrieval task.
        zoo: where the entry is.
        runs_dir: results go to `<runs_dir>/scores/<name>/<task>/layers-…json`, and are read from there next time; the
            scores of the configured layer go where `evaluate` looks for them.
        languages: subset of the task's; by default all whose rows are at hand.
        split: "dev", or another one to look at only.
        pooling: how a hidden state becomes one vector; by default as retrieval reads it.
        vectors: "float32" or "float16"; a sweep needs the room of all layers at once.
        data_dir: folder of original data files.
        limit: only the first queries; the corpus stays whole.
        device: where the model runs; None chooses.
        backbone: folder of a local backbone, which an entry names without its path.
        on_step: called with language, stage, what is done of it and its total.
        on_missing: called with language and reason where rows are not at hand.
        precision: of the forward passes, "fp32" or "bf16".
        wait: where another process is at work on a language, until it is done; its scores are then taken.
        extra_tasks: private folder of task files.

    Raises:
        Held: when another process is at work on a language, and `wait` is false.
        ConfigError: for a task that is no retrieval, or has no such split.
        MissingData: when no language has rows.
        DataError: where the corpus' gold cannot be scored.
    """
    if not kinds.get(task.kind).vectors:
        raise ConfigError(
            f"task {task.name!r} is of kind {task.kind!r}, whose head reads one layer; layers are swept for retrieval"
        )
    if not has_split(task, split):
        raise ConfigError(
            f"task {task.name!r} has no {split} split to sweep layers on. Choose the layer on another task's dev rows; "
            f"--split {task.eval_split} shows the sweep, but what is chosen on {task.eval_split} rows proves nothing"
        )
    card = None if is_backbone(name) or (backbone is not None and name == backbone.name) else zoo.get(name).card
    model = open_model(name, card, zoo=zoo, device=device, backbone=backbone)
    usual = model.sentences_at(task)
    model.read_sentences_at(pooling=pooling)
    configured, pooling = model.sentences_at(task)
    as_set = (configured, pooling) == usual and vectors == READ_AS_SET.vectors
    max_length = min(DEFAULT_MAX_LENGTH, model.max_positions)
    how = made_with(task, backbone=model.backbone.name, max_length=max_length, precision=precision)
    how += [scoring_code()]
    folder = runs_dir / "scores" / Path(name).name / task.name
    suffix = (f"-first{limit}" if limit else "") + Reading(pooling=pooling, vectors=vectors).suffix
    suffix += f"-{precision}" if precision != FULL else ""
    codes = tasks.check_languages(task, languages, split)
    where: dict[str, Any] = {"zoo": zoo, "runs_dir": runs_dir, "split": split, "limit": limit, "precision": precision}
    where |= {"backbone": backbone, "extra_tasks": extra_tasks}
    values: dict[str, tuple[float, ...]] = {}
    num_queries: dict[str, int] = {}
    num_scored = 0
    for language in codes:
        try:
            rows = tasks.load(task, split, language, data_dir=data_dir, limit=limit)
        except MissingData as err:
            if languages is not None or (language == codes[-1] and not values):
                raise
            if on_missing:
                on_missing(language, str(err))
            continue
        identity = digest([task, split, language, limit, rows.identity, weights_of(name, card, backbone), how, suffix])
        path = folder / f"layers-{split}-{language}{suffix}.json"
        found = _kept(path, identity)
        if found is None:
            work = inference.Work(folder=path.with_suffix(".work"), identity=identity, dtype=vectors)
            on_stage = functools.partial(on_step, language) if on_step else None
            read = _Read(pooling, max_length, precision)
            with working(work.folder, wait=wait):
                found = _kept(path, identity)  # of a process that was at work until now
                if found is None:
                    scores: list[float] = []
                    for predictions in _search_layers(model, task, rows.examples, read, work, on_stage):
                        if as_set and len(scores) == configured:
                            _keep(predictions, name, task, rows, language, **where)
                        values_at = inference.score(
                            task, rows.examples, predictions, language=language, metric_names=task.metrics[:1]
                        )
                        scores.append(values_at[metrics.main(task.metrics[0])])
                    count = sum(getattr(row, "side", "query") == "query" for row in rows.examples)
                    found = {"identity": identity, "scores": scores, "num_queries": count}
                    atomic_write(path, json.dumps(found, indent=1))
                    num_scored += 1
                shutil.rmtree(work.folder, ignore_errors=True)
        values[language], num_queries[language] = tuple(found["scores"]), found["num_queries"]
    return LayerSweep(
        name=name,
        task=task.name,
        split=split,
        metric=metrics.main(task.metrics[0]),
        pooling=pooling,
        values=values,
        num_queries=num_queries,
        configured=configured,
        num_scored=num_scored,
        precision=precision,
    )


@dataclass(frozen=True)
class _Read:
    """How sentences are read: pooling, tokens at most, precision of the forward passes."""

    pooling: str
    max_length: int
    precision: str


def _keep(
    predictions: list[Prediction], name: str, task: TaskSpec, rows: tasks.Rows, language: str, **where: Any
) -> None:
    """Keep what the configured layer finds as the evaluation that it is, unless that is there or being made.

    A metric that cannot be had of these rows keeps no sweep from going on; an evaluation will say so.
    """
    cell = cell_as_set(name, task, rows, language, **where)
    if cell is None or cell.kept() is not None:
        return
    with contextlib.suppress(Held, DataError), working(cell.work.below(where["split"]).folder):
        cell.keep({where["split"]: predictions}, None)


def _search_layers(
    model: Model,
    task: TaskSpec,
    examples: Sequence[Any],
    how: _Read,
    work: inference.Work,
    on_step: inference.OnStep | None,
) -> Iterator[list[Prediction]]:
    """What every layer finds, from one pass over the sentences."""
    kind = kinds.get(task.kind)
    features = cache.features(kind, examples, model.tokenizer, task, max_length=how.max_length)

    def read(batch: Batch) -> Iterator[torch.Tensor]:
        return (
            model.sentence_vectors(hidden, batch["attention_mask"], how.pooling) for hidden in model.all_layers(batch)
        )

    with ExitStack() as stack:
        files = []
        for layer in range(model.num_layers + 1):
            shape = {"rows": len(features), "width": model.hidden_size}
            files.append(
                VectorFile.open(work.folder / f"layer-{layer:02}", identity=work.identity, dtype=work.dtype, **shape)
            )
            stack.callback(files[-1].close)
        inference.write_vectors(model, task, features, files, read, on_step=on_step, precision=how.precision)
        for layer, file in enumerate(files):
            stage = functools.partial(_stage, on_step, f"layer {layer}") if on_step else None
            yield kind.decode_vectors(file, examples, task, device=model.device, on_step=stage)


def _stage(on_step: inference.OnStep, name: str, stage: str, done: int, total: int) -> None:
    on_step(f"{stage} {name}", done, total)


def _kept(path: Path, identity: str) -> dict[str, Any] | None:
    """Scores that an earlier sweep of the very same left."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("identity") == identity else None
