"""Several entries over several sets of rows (entries × languages): each batch is made once and read by every entry.

The entries are in one encoder, whose layers below all of them run once per batch. Above, each entry has a pass of its
own over the same rows: a batch that mixed entries would send every row through the encoder as often as there are
entries all the same, and full batches gain nothing from being longer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from adapters_xling.inference import (
    FULL,
    OnStep,
    Work,
    passes,
    predict_vectors,
    ready,
    token_batches,
    tokens_at_once,
)
from adapters_xling.model import Model
from adapters_xling.spec import TaskSpec
from adapters_xling.tasks import cache, kinds
from adapters_xling.tasks.examples import Example, Features, Prediction


@dataclass(frozen=True, kw_only=True)
class Readers:
    """Entries that read the same token rows in one encoder.

    Attributes:
        models: opened beside each other, or one alone; put in eval mode and left there.
        unchanged: hidden state up to which all of them compute the same (`model.shared.num_unchanged`).
        max_length: tokens of a row.
        precision: of the forward passes, "fp32" or "bf16".
    """

    models: Sequence[Model]
    unchanged: int = 0
    max_length: int
    precision: str = FULL


@dataclass
class Answers:
    """What one entry says of all sets.

    Attributes:
        predictions: of each set, in the order of its examples; empty where it failed.
        seconds: what each set took: its own passes and its part of what was done for all, by tokens.
        failure: why there is nothing.
    """

    predictions: list[list[Prediction]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failure: Exception | None = None


def predict_sets(
    readers: Readers,
    task: TaskSpec,
    sets: Sequence[Sequence[Example]],
    *,
    works: Sequence[Sequence[Work]] = (),
    tokens_per_batch: int | None = None,
    on_step: OnStep | None = None,
) -> list[Answers]:
    """Predict with every entry for every set; rows of all sets are batched by length together.

    An entry that fails has its reason in its answers, and the others go on.

    Args:
        readers: the entries.
        task: what to predict.
        sets: the rows, such as a split in several languages; kinds with vectors read them one after the other.
        works: for kinds with vectors, where those of each entry (and in it of each set) lie.
        tokens_per_batch: padded tokens of a batch; by default `inference.tokens_at_once`.
        on_step: progress over the rows of all sets, and of searches.
    """
    kind = kinds.get(task.kind)
    tokens_per_batch = tokens_per_batch or tokens_at_once(readers.models[0], readers.precision)
    began = time.perf_counter()
    encoded = [
        cache.features(kind, rows, readers.models[0].tokenizer, task, max_length=readers.max_length) for rows in sets
    ]
    if kind.vectors:
        return _with_vectors(readers, task, sets, encoded, works, tokens_per_batch, on_step, began)
    features = [list(one) for one in encoded]
    places = [(s, i) for s, rows in enumerate(features) for i in range(len(rows))]
    lengths = [features[s][i].num_tokens for s, i in places]
    found = [Answers() for _ in readers.models]
    outputs: list[dict[tuple[int, int], np.ndarray]] = [{} for _ in readers.models]
    own = [0.0] * len(found)  # seconds of passes
    done = 0
    for chosen in token_batches(lengths, tokens_per_batch, repeat=readers.precision != FULL):
        rows = [places[one] for one in chosen]
        batch = [features[s][i] for s, i in rows]
        for number, arrays, seconds in _read(readers, task, batch, found, tokens_per_batch):
            outputs[number].update(zip(rows, arrays, strict=True))
            own[number] += seconds
        done += len(rows)
        if on_step:
            on_step("encode", done, len(places))
        if all(one.failure for one in found):
            break
    tokens = [sum(one.num_tokens for one in rows) for rows in features]
    common = (time.perf_counter() - began - sum(own)) / len(found)
    for number, answers in enumerate(found):
        if answers.failure is None:
            _decode(answers, task, sets, features, outputs[number])
            answers.seconds = [(own[number] + common) * part / max(1, sum(tokens)) for part in tokens]
    return found


@torch.no_grad()
def _read(
    readers: Readers, task: TaskSpec, batch: Sequence[Features], found: Sequence[Answers], tokens: int
) -> list[tuple[int, list[np.ndarray], float]]:
    """Outputs of a batch by each entry that has not failed, as (number, arrays, seconds)."""
    kind = kinds.get(task.kind)
    going = [number for number, one in enumerate(found) if one.failure is None]
    models = [readers.models[number].eval() for number in going]
    how: dict[str, Any] = {"tokens_per_batch": tokens, "precision": readers.precision}
    outputs = []
    try:
        shared = ready(models, task, batch, unchanged=readers.unchanged, **how)
    except Exception as err:
        for number in going:
            found[number].failure = err
        return []
    for number, model in zip(going, models, strict=True):
        began = time.perf_counter()
        try:
            with passes(model, readers.precision):
                logits = shared.logits(model, task)
            arrays = kind.outputs(logits.float(), shared.batch)
        except Exception as err:
            found[number].failure = err
            continue
        outputs.append((number, arrays, time.perf_counter() - began))
    return outputs


def _decode(
    answers: Answers,
    task: TaskSpec,
    sets: Sequence[Sequence[Example]],
    features: Sequence[Sequence[Features]],
    outputs: dict[tuple[int, int], np.ndarray],
) -> None:
    kind = kinds.get(task.kind)
    try:
        answers.predictions = [
            kind.decode([outputs[s, i] for i in range(len(rows))], rows, sets[s], task)
            for s, rows in enumerate(features)
        ]
    except Exception as err:
        answers.failure = err


def _with_vectors(
    readers: Readers,
    task: TaskSpec,
    sets: Sequence[Sequence[Example]],
    encoded: Sequence[Sequence[Features]],
    works: Sequence[Sequence[Work]],
    tokens: int,
    on_step: OnStep | None,
    began: float,
) -> list[Answers]:
    """Kinds with vectors: a pass for all entries over each set; where that fails, one for each that can do without."""
    found = [Answers() for _ in readers.models]

    def answer(numbers: Sequence[int], s: int) -> None:
        nonlocal began
        predicted = predict_vectors(
            [readers.models[number] for number in numbers],
            task,
            encoded[s],
            sets[s],
            [works[number][s] for number in numbers],
            unchanged=readers.unchanged,
            tokens_per_batch=tokens,
            on_step=on_step,
            precision=readers.precision,
        )
        now = time.perf_counter()
        for number, predictions in zip(numbers, predicted, strict=True):
            found[number].predictions.append(predictions)
            found[number].seconds.append((now - began) / len(numbers))
        began = now

    for s in range(len(sets)):
        going = [number for number, one in enumerate(found) if one.failure is None]
        if not going:
            break
        try:
            answer(going, s)
            continue
        except Exception as err:
            if len(going) == 1:
                found[going[0]] = Answers(failure=err)
                continue
        for number in going:
            try:
                answer([number], s)
            except Exception as err:
                found[number] = Answers(failure=err)
    return found
