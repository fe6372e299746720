"""From examples to predictions and scores with a model at hand: what training's dev selection, evaluation, probes and
`xling predict` all use, so that there is one way to read a model's output.

Shapes: N encoder rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapters_xling import metrics
from adapters_xling.model import Model
from adapters_xling.spec import TaskSpec
from adapters_xling.tasks import cache, kinds
from adapters_xling.tasks.examples import Example, Features, Prediction

TOKENS_PER_BATCH = 8192
"""Padded tokens of one evaluation batch. It cannot change a result beyond rounding, so it is no setting of a run."""


def token_batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Group positions into batches of similar length, none wider than `tokens` padded tokens unless alone.

    Args:
        lengths: cost of each item in tokens (rows times width).
        tokens: budget of a batch.

    >>> token_batches([5, 1, 4, 1], tokens=8)
    [[0], [2, 1], [3]]
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    width = 0
    for i in order:
        if not batches or width * (len(batches[-1]) + 1) > tokens:
            batches.append([])
            width = lengths[i]
        batches[-1].append(i)
    return batches


@torch.no_grad()
def run_features(
    model: Model,
    task: TaskSpec,
    features: Sequence[Features],
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    on_batch: Callable[[int], Any] | None = None,
) -> list[np.ndarray]:
    """Run a model over features, batched by length, and give one output array per features in their own order.

    Args:
        model: in whatever mode; it is put in eval mode and left there.
        task: the task whose head reads the encoder.
        features: encoded rows.
        tokens_per_batch: padded tokens of a batch.
        on_batch: called with the number of features just done (progress bars).
    """
    kind = kinds.get(task.kind)
    model.eval()
    results: list[np.ndarray | None] = [None] * len(features)
    for batch_indices in token_batches([f.num_tokens for f in features], tokens_per_batch):
        batch = kind.collate([features[i] for i in batch_indices], pad_id=model.pad_id)
        batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
        logits = model(batch, task)
        for i, output in zip(batch_indices, kind.outputs(logits.float(), batch), strict=True):
            results[i] = output
        if on_batch:
            on_batch(len(batch_indices))
    return [result for result in results if result is not None]


def predict(
    model: Model,
    task: TaskSpec,
    examples: Sequence[Example],
    *,
    max_length: int,
    cache_dir: Path | None = None,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    on_batch: Callable[[int], Any] | None = None,
) -> list[Prediction]:
    """Predict one value per example (retrieval: per query), in the order of the examples."""
    kind = kinds.get(task.kind)
    features = cache.features(kind, examples, model.tokenizer, task, max_length=max_length, cache_dir=cache_dir)
    outputs = run_features(model, task, features, tokens_per_batch=tokens_per_batch, on_batch=on_batch)
    return kind.decode(outputs, features, examples, task)


def score(
    task: TaskSpec, examples: Sequence[Example], predictions: Sequence[Prediction], *, language: str
) -> dict[str, float]:
    """Score predictions with every metric of the task, in percent; the task's main metric comes first."""
    kind = kinds.get(task.kind)
    by_id = {example.id: example for example in examples if getattr(example, "side", "query") == "query"}
    golds = [kind.gold(by_id[prediction.id]) for prediction in predictions]
    values = [prediction.value for prediction in predictions]
    scores: dict[str, float] = {}
    for name in task.metrics:
        scores.update(metrics.get(name)(golds, values, language))
    main = metrics.main(task.metrics[0])
    return {main: scores[main], **scores}
