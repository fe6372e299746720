"""One or two sentences and a class: NLI, paraphrase, sentiment.

Shapes: B examples (= N rows), T tokens, D hidden size, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from adapters_xling.errors import DataError
from adapters_xling.spec import TaskSpec
from adapters_xling.tasks.examples import Example, Features, Prediction, SentenceExample

from .base import IGNORE, Batch, Kind
from .common import (
    PooledHead,
    Template,
    blank,
    check_task_file,
    class_labels,
    cut,
    fit_pair,
    gold_labels,
    most_frequent,
    one_hot,
    pad_rows,
    softmax,
    to_numpy,
    tokenize,
    wrong_type,
)


class Sentence(Kind):
    """Classification of a sentence or a pair, encoded as ``<s> A </s></s> B </s>`` (or as the backbone's own
    pairs are).

    A pair that is too long loses tokens at the end of its longer half; `meta["cut"]` counts them.
    """

    name = "sentence"
    texts = "one sentence, or two"
    example_type = SentenceExample

    def check_spec(self, task: TaskSpec) -> None:
        """See `Kind.check_spec`."""
        check_task_file(self, task, needs_labels=True)

    def check_example(self, example: Any, task: TaskSpec, *, need_gold: bool) -> str | None:
        """See `Kind.check_example`."""
        if reason := wrong_type(self, example):
            return reason
        if blank(example.first):
            return "first sentence is blank"
        if example.second is not None and blank(example.second):
            return "second sentence is blank"
        if task.pair and example.second is None:
            return f"has one text, task {task.name!r} is about two: give the second as well"
        if task.pair is False and example.second is not None:
            return f"has two texts, task {task.name!r} is about one: leave the second out"
        if example.label is None:
            return "has no label" if need_gold else None
        if example.label not in task.labels:
            return f"label {example.label!r} is not one of {', '.join(task.labels)}"
        return None

    def from_texts(self, texts: Sequence[str], *, id: str) -> SentenceExample:
        """Make an example without gold: one sentence, or two."""
        if not (1 <= len(texts) <= 2):
            raise DataError(f"{len(texts)} texts given; this kind of task takes {self.texts}")
        return SentenceExample(id=id, first=texts[0], second=texts[1] if len(texts) == 2 else None)

    def encode(self, examples: Sequence[Example], tokenizer: Any, task: TaskSpec, *, max_length: int) -> list[Features]:
        """See `Kind.encode`; one feature with one row per example."""
        rows: Sequence[SentenceExample] = examples  # type: ignore[assignment]
        single, pair = Template.of(tokenizer, pair=False), Template.of(tokenizer, pair=True)
        index = {label: i for i, label in enumerate(task.labels)}
        firsts = tokenize(tokenizer, [row.first for row in rows])
        seconds = tokenize(tokenizer, [row.second or "" for row in rows])
        features = []
        for i, (row, first, second) in enumerate(zip(rows, firsts, seconds, strict=True)):
            if row.second is None:
                segments = [cut(first, single.room(max_length))]
                ids, start = single.join(*segments), None
            else:
                num_first, num_second = fit_pair(len(first), len(second), pair.room(max_length))
                segments = [cut(first, num_first), cut(second, num_second)]
                ids, start = pair.join(*segments), pair.second(segments[0])
            lost = len(first) + (len(second) if row.second is not None else 0) - sum(map(len, segments))
            label = None if row.label is None else index[row.label]
            features.append(Features(example=i, input_ids=[ids], label=label, meta={"cut": lost}, second=start))
        return features

    def check_label(self, features: Features, task: TaskSpec) -> str | None:
        """See `Kind.check_label`."""
        if type(features.label) is not int or not 0 <= features.label < len(task.labels):
            return f"class {features.label!r} is not an index below {len(task.labels)}"
        return None

    def collate(self, features: Sequence[Features], *, pad_id: int) -> Batch:
        """See `Kind.collate`."""
        return {**pad_rows(features, pad_id), **class_labels(features)}

    def make_head(self, task: TaskSpec, *, hidden_size: int, dropout: float) -> nn.Module:
        """See `Kind.make_head`: (N,D) -> (N,C)."""
        return PooledHead(hidden_size, len(task.labels), dropout)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross entropy over the classes."""
        return functional.cross_entropy(logits.float(), gold_labels(batch), ignore_index=IGNORE)

    def outputs(self, logits: Tensor, batch: Batch) -> list[np.ndarray]:
        """Logits (C,) of every example."""
        return list(to_numpy(logits))

    def decode(
        self,
        outputs: Sequence[np.ndarray],
        features: Sequence[Features],
        examples: Sequence[Example],
        task: TaskSpec,
    ) -> list[Prediction]:
        """The most probable label; `detail["probabilities"]` holds one per label."""
        by_example = {feature.example: logits for feature, logits in zip(features, outputs, strict=True)}
        predictions = []
        for i, example in enumerate(examples):
            logits_C = by_example[i]
            shares = {label: round(float(p), 6) for label, p in zip(task.labels, softmax(logits_C), strict=True)}
            label = task.labels[int(logits_C.argmax())]
            predictions.append(Prediction(example.id, label, {"probabilities": shares}))
        return predictions

    def gold_outputs(
        self, features: Sequence[Features], examples: Sequence[Example], task: TaskSpec
    ) -> list[np.ndarray]:
        """See `Kind.gold_outputs`."""
        return [one_hot(feature.label, len(task.labels)) for feature in features]

    def gold(self, example: Any) -> str | None:
        """The label."""
        return example.label

    def majority(self, train: Sequence[Example], examples: Sequence[Example], task: TaskSpec) -> list[Prediction]:
        """The most frequent label of `train`; among equals the first of `task.labels`."""
        label = most_frequent((self.gold(row) for row in train if self.gold(row) is not None), task.labels)
        return [Prediction(example.id, label) for example in examples]
