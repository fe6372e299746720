"""From examples to predictions and scores with a model at hand: what training's dev selection, evaluation, probes and
`xling predict` all use, so that there is one way to read a model's output.

Shapes: N encoder rows, T tokens.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapters_xling import metrics
from adapters_xling.batching import token_batches
from adapters_xling.errors import ConfigError, DataError
from adapters_xling.model import Model
from adapters_xling.model.mixed import Segment, forward_mixed
from adapters_xling.model.shared import Shared
from adapters_xling.precision import in_float32, rounded
from adapters_xling.processes import ALONE, Processes
from adapters_xling.spec import FULL, TaskSpec
from adapters_xling.tasks import cache, kinds
from adapters_xling.tasks.examples import Example, Features, Prediction
from adapters_xling.tasks.kinds.base import Batch
from adapters_xling.tasks.kinds.vectors import VectorFile, require_room, working

TOKENS_PER_BATCH = 8192
"""Padded tokens of one evaluation batch. It cannot change a result beyond rounding, so it is no setting of a run."""
CPU_TOKENS_PER_BATCH = 1024
"""The same where a processor multiplies in float32: its caches hold what lies between two products of so many tokens
and not of more, and less of it is padding."""

BYTES_PER_BLOCK = 64 * 2**20
"""Vectors held back until they are written together. What a killed run loses."""
MAX_BLOCK_ROWS = 4096

OnStep = Callable[[str, int, int], Any]
"""Called with the name of a stage, what is done of it, and its total."""

OnCut = Callable[[Sequence[str]], Any]
"""Called with the ids of examples whose texts were longer than what is read."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Where the vectors of a split lie while it is scored, so that a killed run continues.

    Attributes:
        folder: a folder of their own; whoever made it removes it.
        identity: digest of all that determines them: rows, weights, layer, pooling.
        dtype: "float32" or "float16".
    """

    folder: Path
    identity: str
    dtype: str = "float32"

    def below(self, part: str) -> Work:
        """A part of the work with a folder of its own."""
        return replace(self, folder=self.folder / part)


def tokens_at_once(model: Model, precision: str) -> int:
    """Padded tokens of one evaluation batch of a model, where it is and in that precision."""
    float32 = precision == FULL or in_float32(model.device, precision)
    return CPU_TOKENS_PER_BATCH if model.device.type == "cpu" and float32 else TOKENS_PER_BATCH


def passes(model: Model, precision: str) -> AbstractContextManager[None]:
    """Context of forward passes: "fp32", or "bf16" products as in training with that precision.

    On processors with bfloat16 instructions the latter is about three times as fast; scores then differ by what
    rounding does (docs/planning.md). On others it takes as long as "fp32".
    """
    return rounded(model.device, precision)


def ready(
    models: Sequence[Model],
    task: TaskSpec,
    features: Sequence[Features],
    *,
    tokens_per_batch: int,
    precision: str,
    unchanged: int = 0,
) -> Shared:
    """Collate features once for the entries that read them; with bfloat16 products in a shape that comes again.

    Args:
        models: one, or several in one encoder.
        task: whose heads read the encoder.
        features: of one batch.
        tokens_per_batch: padded tokens of a full batch.
        precision: of the forward passes.
        unchanged: hidden state up to which all models compute the same; it is computed here.
    """
    batch = kinds.get(task.kind).collate(features, pad_id=models[0].pad_id)
    batch = {name: tensor.to(models[0].device) for name, tensor in batch.items()}
    fill = tokens_per_batch if precision != FULL else 0
    with passes(models[0], precision):
        return Shared.of(batch, task, models, unchanged=unchanged, fill=fill)


@torch.no_grad()
def run_features(
    model: Model,
    task: TaskSpec,
    features: Sequence[Features],
    *,
    tokens_per_batch: int | None = None,
    on_batch: Callable[[int], Any] | None = None,
    processes: Processes = ALONE,
    precision: str = FULL,
) -> list[np.ndarray]:
    """Run a model over features, batched by length, and give one output array per features in their own order.

    Args:
        model: in whatever mode; it is put in eval mode and left there.
        task: the task whose head reads the encoder.
        features: encoded rows.
        tokens_per_batch: padded tokens of a batch; by default `tokens_at_once`.
        on_batch: called with the number of features just done (progress bars).
        processes: share the batches, which are the same for any number of processes, so that the outputs are too.
        precision: of the forward passes, "fp32" or "bf16".
    """
    kind = kinds.get(task.kind)
    model.eval()
    results: list[np.ndarray | None] = [None] * len(features)
    tokens_per_batch = tokens_per_batch or tokens_at_once(model, precision)
    how: dict[str, Any] = {"tokens_per_batch": tokens_per_batch, "precision": precision}
    lengths = [f.num_tokens for f in features]
    for batch_indices in processes.share(token_batches(lengths, tokens_per_batch, repeat=precision != FULL)):
        shared = ready([model], task, [features[i] for i in batch_indices], **how)
        with passes(model, precision):
            logits = shared.logits(model, task)
        for i, output in zip(batch_indices, kind.outputs(logits.float(), shared.batch), strict=True):
            results[i] = output
        if on_batch:
            on_batch(len(batch_indices))
    if processes.count > 1:
        for found in processes.everyone({i: result for i, result in enumerate(results) if result is not None}):
            for i, result in found.items():
                results[i] = result
    return [result for result in results if result is not None]


@torch.no_grad()
def write_vectors(
    model: Model,
    task: TaskSpec,
    features: Sequence[Features],
    files: Sequence[VectorFile],
    read: Callable[[Batch], Iterable[torch.Tensor]],
    *,
    tokens_per_batch: int | None = None,
    on_step: OnStep | None = None,
    precision: str = FULL,
) -> None:
    """Run a model over features and append their vectors to files, going on behind what the files hold.

    Rows are written in order, in blocks that start at the same rows whether a run was killed or not, so what is
    continued is what one run would have written.

    Args:
        model: put in eval mode and left there.
        task: of a kind with `vectors`.
        features: one per vector.
        files: filled side by side (one per layer); all are cut back to what every one of them holds.
        read: what the encoder's inputs give for each file, (N,D); there may be more rows than features.
        tokens_per_batch: padded tokens of a batch; by default `tokens_at_once`.
        on_step: called after each batch, and once at the start with what is already there.
        precision: of the forward passes, "fp32" or "bf16".

    Raises:
        DataError: for a vector that is not finite.
        XlingError: when the disk has no room, or a file cannot be written.
    """
    tokens_per_batch = tokens_per_batch or tokens_at_once(model, precision)
    how: dict[str, Any] = {"tokens_per_batch": tokens_per_batch, "precision": precision}
    model.eval()
    size = max(1, min(MAX_BLOCK_ROWS, BYTES_PER_BLOCK // (4 * model.hidden_size * len(files))))
    done = min(file.num_done for file in files)
    done -= done % size if done < len(features) else 0
    while True:  # only whole blocks are dropped, and blocks of a run over other files may be of another size
        for file in files:
            file.keep(done)
        if (least := min(file.num_done for file in files)) == done:
            break
        done = least
    assert all(file.num_done == done for file in files)
    require_room(files)
    if on_step:
        on_step("encode", done, len(features))
    for top in range(done, len(features), size):
        part = features[top : top + size]
        blocks = [np.empty((len(part), model.hidden_size), np.float32) for _ in files]
        lengths = [one.num_tokens for one in part]
        for indices in token_batches(lengths, tokens_per_batch, repeat=precision != FULL):
            shared = ready([model], task, [part[i] for i in indices], **how)
            with passes(model, precision):
                for block, vectors in zip(blocks, read(dict(shared.inputs)), strict=True):
                    block[indices] = vectors[: len(indices)].float().cpu().numpy()
            done += len(indices)
            if on_step:
                on_step("encode", done, len(features))
        for file, block in zip(files, blocks, strict=True):
            try:
                file.append(block)
            except DataError as err:
                raise DataError(f"task {task.name!r}, sentences {top} to {top + len(part) - 1}: {err}") from err


def predict(
    model: Model,
    task: TaskSpec,
    examples: Sequence[Example],
    *,
    max_length: int,
    cache_dir: Path | None = None,
    tokens_per_batch: int | None = None,
    on_step: OnStep | None = None,
    work: Work | None = None,
    processes: Processes = ALONE,
    precision: str = FULL,
    on_cut: OnCut | None = None,
) -> list[Prediction]:
    """Predict one value per example (retrieval: per query), in the order of the examples.

    Args:
        model: put in eval mode and left there.
        task: what to predict.
        examples: a whole split, for kinds that compare its rows.
        max_length: tokens of a row.
        cache_dir: folder of tokenised rows.
        tokens_per_batch: padded tokens of a batch; by default `tokens_at_once`.
        on_step: progress of encoding and, for kinds with vectors, of the search.
        work: where vectors are kept, to go on from after a kill; a folder that does not outlive this call by default.
        processes: share the rows, where the kind has no vectors.
        precision: of the forward passes, "fp32" or "bf16".
        on_cut: told which examples were too long, where any was.
    """
    kind = kinds.get(task.kind)
    features = cache.features(kind, examples, model.tokenizer, task, max_length=max_length, cache_dir=cache_dir)
    _tell_cut(features, examples, on_cut)
    if not kind.vectors:
        done = 0

        def on_batch(count: int) -> None:
            nonlocal done
            done += count
            if on_step:
                on_step("encode", done, len(features))

        outputs = run_features(
            model,
            task,
            features,
            tokens_per_batch=tokens_per_batch,
            on_batch=on_batch,
            processes=processes,
            precision=precision,
        )
        return kind.decode(outputs, features, examples, task)
    how: dict[str, Any] = {"tokens_per_batch": tokens_per_batch, "on_step": on_step, "precision": precision}
    with ExitStack() as stack:
        if work is None:
            work = Work(folder=Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xling-"))), identity="")
        return predict_vectors([model], task, features, examples, [work], **how)[0]


def _tell_cut(features: Sequence[Features], examples: Sequence[Example], on_cut: OnCut | None) -> None:
    numbers = dict.fromkeys(one.example for one in features if isinstance(one.meta, dict) and one.meta.get("cut"))
    if on_cut and numbers:
        on_cut([examples[number].id for number in numbers])


def predict_vectors(
    models: Sequence[Model],
    task: TaskSpec,
    features: Sequence[Features],
    examples: Sequence[Example],
    works: Sequence[Work],
    *,
    unchanged: int = 0,
    tokens_per_batch: int | None = None,
    on_step: OnStep | None = None,
    precision: str = FULL,
) -> list[list[Prediction]]:
    """Predictions of each model for a kind with vectors, from one pass over the features.

    Args:
        models: one, or several in one encoder; put in eval mode and left there.
        task: what to predict.
        features: of the examples.
        examples: a whole split.
        works: where each model's vectors are kept.
        unchanged: hidden state up to which all models compute the same.
        tokens_per_batch: padded tokens of a batch; by default `tokens_at_once`.
        on_step: progress of encoding and of each search.
        precision: of the forward passes.
    """
    kind = kinds.get(task.kind)

    def read(inputs: Batch) -> Iterable[torch.Tensor]:
        shared = Shared.of(inputs, task, models, unchanged=unchanged)
        return (shared.logits(model, task) for model in models)

    for model in models:
        model.eval()
    with ExitStack() as stack:
        files = []
        for model, work in zip(models, works, strict=True):
            folder = stack.enter_context(working(work.folder))
            shape = {"rows": len(features), "width": model.hidden_size}
            files.append(VectorFile.open(folder / "vectors", identity=work.identity, dtype=work.dtype, **shape))
            stack.callback(files[-1].close)
        how: dict[str, Any] = {"tokens_per_batch": tokens_per_batch, "on_step": on_step, "precision": precision}
        write_vectors(models[0], task, features, files, read, **how)
        return [
            kind.decode_vectors(file, examples, task, device=model.device, on_step=on_step)
            for model, file in zip(models, files, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class Job:
    """Examples that one of several resident entries is asked about; fields as `predict` has them."""

    model: Model
    task: TaskSpec
    examples: Sequence[Example]
    max_length: int


@torch.no_grad()
def predict_together(
    jobs: Sequence[Job], *, tokens_per_batch: int | None = None, on_cut: OnCut | None = None
) -> list[list[Prediction]]:
    """Predict for several entries in one encoder: every batch takes rows of all of them, each to its own head.

    Args:
        jobs: models opened beside each other, put in eval mode and left there; one alone may be of any method.
        tokens_per_batch: padded tokens of a batch; by default `tokens_at_once`.
        on_cut: told for each job which examples were too long, where any was.

    Returns:
        Predictions of each job in the order of its examples, equal to `predict`'s up to rounding.

    Raises:
        ConfigError: for what cannot be mixed, see `model.mixed`; also for kinds that compare the rows of a split.
    """
    if len(jobs) == 1:
        (job,) = jobs
        how: dict[str, Any] = {"max_length": job.max_length, "tokens_per_batch": tokens_per_batch, "on_cut": on_cut}
        return [predict(job.model, job.task, job.examples, **how)]
    encoded: list[list[Features]] = []
    for job in jobs:
        kind = kinds.get(job.task.kind)
        if kind.vectors:
            raise ConfigError(f"task {job.task.name!r} compares all rows of a split, so its rows cannot be mixed")
        job.model.eval()
        encoded.append(list(kind.encode(list(job.examples), job.model.tokenizer, job.task, max_length=job.max_length)))
        _tell_cut(encoded[-1], job.examples, on_cut)
    places = [(j, i) for j, features in enumerate(encoded) for i in range(len(features))]
    outputs: dict[tuple[int, int], np.ndarray] = {}
    tokens = tokens_per_batch or tokens_at_once(jobs[0].model, FULL)
    for chosen in token_batches([encoded[j][i].num_tokens for j, i in places], tokens):
        batch_places: dict[int, list[int]] = {}
        for j, i in (places[one] for one in chosen):
            batch_places.setdefault(j, []).append(i)
        segments = []
        for j, rows in batch_places.items():
            model, task = jobs[j].model, jobs[j].task
            batch = kinds.get(task.kind).collate([encoded[j][i] for i in rows], pad_id=model.pad_id)
            segments.append(Segment(model, task, {name: tensor.to(model.device) for name, tensor in batch.items()}))
        for (j, rows), segment, logits in zip(batch_places.items(), segments, forward_mixed(segments), strict=True):
            found = kinds.get(segment.task.kind).outputs(logits.float(), segment.batch)
            outputs.update({(j, i): output for i, output in zip(rows, found, strict=True)})
    return [
        kinds.get(job.task.kind).decode(
            [outputs[j, i] for i in range(len(encoded[j]))], encoded[j], list(job.examples), job.task
        )
        for j, job in enumerate(jobs)
    ]


def golds_of(task: TaskSpec, examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[Any]:
    """The gold of each prediction."""
    kind = kinds.get(task.kind)
    by_id = {example.id: example for example in examples if getattr(example, "side", "query") == "query"}
    return [kind.gold(by_id[prediction.id]) for prediction in predictions]


def score(
    task: TaskSpec,
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    *,
    language: str,
    metric_names: Sequence[str] | None = None,
) -> dict[str, float]:
    """Score predictions with metrics (by default all of the task's), in percent; the task's main metric comes first.

    Of two scores of one name the first metric's is kept.
    """
    golds = golds_of(task, examples, predictions)
    values = [prediction.value for prediction in predictions]
    scores: dict[str, float] = {}
    for name in metric_names or task.metrics:
        for given, value in metrics.get(name)(golds, values, language).items():
            scores.setdefault(given, value)
    main = metrics.main(task.metrics[0])
    return {main: scores[main], **scores}


def score_each(
    task: TaskSpec,
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    *,
    language: str,
    metric_names: Sequence[str] | None = None,
) -> tuple[dict[str, float], metrics.Outcomes]:
    """`score`, and what became of each example under the same metrics."""
    outcomes = metrics.Outcomes.of(
        metric_names or task.metrics,
        [prediction.id for prediction in predictions],
        golds_of(task, examples, predictions),
        [prediction.value for prediction in predictions],
        language=language,
        parallel=task.parallel,
    )
    return score(task, examples, predictions, language=language, metric_names=metric_names), outcomes
