"""A prompt and several continuations, one of them right: HellaSwag, Cosmos QA, CommonsenseQA, XCOPA.

Shapes: B examples, K choices (the most in the batch), N rows (the sum of all choices), T tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from adapters_xling.errors import ConfigError, DataError
from adapters_xling.spec import TaskSpec
from adapters_xling.tasks.examples import ChoiceExample, Example, Features, Prediction

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
    one_hot,
    options_of,
    pad_rows,
    softmax,
    to_numpy,
    tokenize,
    wrong_type,
)
from .options import DEFAULTS


class Choice(Kind):
    """Multiple choice: every choice is encoded with the prompt and scored alone, the best score wins.

    Rows are ``<s> prompt </s></s> choice_prefix choice </s>``. A row that is too long loses tokens of its longer part
    first, at the start by default: the end of a story says more about what follows (jiant, the paper's code).
    """

    name = "choice"
    texts = "a prompt and at least two choices"
    example_type = ChoiceExample
    default_options: ClassVar[dict[str, Any]] = DEFAULTS["choice"]

    def check_spec(self, task: TaskSpec) -> None:
        """See `Kind.check_spec`."""
        check_task_file(self, task, needs_labels=False)
        if (side := options_of(self, task)["truncate"]) not in ("start", "end"):
            raise ConfigError(f"task {task.name!r}: options.truncate must be 'start' or 'end', got {side!r}")

    def check_example(self, example: Any, task: TaskSpec, *, need_gold: bool) -> str | None:
        """See `Kind.check_example`."""
        if reason := wrong_type(self, example):
            return reason
        if blank(example.prompt):
            return "prompt is blank"
        if len(example.choices) < 2:
            return f"has {len(example.choices)} choices; at least two are needed"
        for i, choice in enumerate(example.choices):
            if blank(choice):
                return f"choice {i} is blank"
        if example.label is None:
            return "has no label" if need_gold else None
        if type(example.label) is not int or not 0 <= example.label < len(example.choices):
            return f"label {example.label!r} is not the index of one of its {len(example.choices)} choices"
        return None

    def from_texts(self, texts: Sequence[str], *, id: str) -> ChoiceExample:
        """Make an example without gold: a prompt and at least two choices."""
        if not (len(texts) >= 3):
            raise DataError(f"{len(texts)} texts given; this kind of task takes {self.texts}")
        return ChoiceExample(id=id, prompt=texts[0], choices=tuple(texts[1:]))

    def encode(self, examples: Sequence[Example], tokenizer: Any, task: TaskSpec, *, max_length: int) -> list[Features]:
        """See `Kind.encode`; one feature per example, one row per choice."""
        rows: Sequence[ChoiceExample] = examples  # type: ignore[assignment]
        side = options_of(self, task)["truncate"]
        pair = Template.of(tokenizer, pair=True)
        room = pair.room(max_length)
        prompts = tokenize(tokenizer, [row.prompt for row in rows])
        texts = [f"{row.choice_prefix} {choice}".strip() for row in rows for choice in row.choices]
        choices = iter(tokenize(tokenizer, texts))
        features = []
        for i, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
            input_ids, seconds, lost = [], [], 0
            for choice in [next(choices) for _ in row.choices]:
                num_prompt, num_choice = fit_pair(len(prompt), len(choice), room)
                shown = cut(prompt, num_prompt, side=side)
                input_ids.append(pair.join(shown, cut(choice, num_choice, side=side)))
                seconds += pair.second(shown) or []
                lost += len(prompt) + len(choice) - num_prompt - num_choice
            features.append(Features(i, input_ids, row.label, {"cut": lost}, seconds or None))
        return features

    def check_label(self, features: Features, task: TaskSpec) -> str | None:
        """See `Kind.check_label`."""
        if type(features.label) is not int or not 0 <= features.label < len(features.input_ids):
            return f"gold choice {features.label!r} is not an index below {len(features.input_ids)}"
        return None

    def collate(self, features: Sequence[Features], *, pad_id: int) -> Batch:
        """See `Kind.collate`; `choice_mask` (B,K) says which choices exist."""
        num_choices = [len(feature.input_ids) for feature in features]
        mask_BK = torch.arange(max(num_choices))[None, :] < torch.tensor(num_choices)[:, None]
        return {**pad_rows(features, pad_id), "choice_mask": mask_BK, **class_labels(features)}

    def make_head(self, task: TaskSpec, *, hidden_size: int, dropout: float) -> nn.Module:
        """See `Kind.make_head`: (N,D) -> (N,1)."""
        return PooledHead(hidden_size, 1, dropout)

    def shape_logits(self, head_output: Tensor, batch: Batch) -> Tensor:
        """Gather the scores (N,1) of one example in one row (B,K); choices that do not exist get the lowest score."""
        mask_BK = batch["choice_mask"]
        scores_N = head_output[:, 0].float()
        empty_BK = torch.full(mask_BK.shape, torch.finfo(scores_N.dtype).min, device=scores_N.device)
        return empty_BK.masked_scatter(mask_BK, scores_N)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross entropy over the choices of each example."""
        return functional.cross_entropy(logits, gold_labels(batch), ignore_index=IGNORE)

    def outputs(self, logits: Tensor, batch: Batch) -> list[np.ndarray]:
        """One score per existing choice."""
        counts = batch["choice_mask"].sum(dim=1).tolist()
        return [row_K[:count] for row_K, count in zip(to_numpy(logits), counts, strict=True)]

    def decode(
        self,
        outputs: Sequence[np.ndarray],
        features: Sequence[Features],
        examples: Sequence[Example],
        task: TaskSpec,
    ) -> list[Prediction]:
        """Index of the best choice; `detail["probabilities"]` has one per choice."""
        by_example = {feature.example: scores for feature, scores in zip(features, outputs, strict=True)}
        return [
            Prediction(
                example.id,
                int(by_example[i].argmax()),
                {"probabilities": [round(float(p), 6) for p in softmax(by_example[i])]},
            )
            for i, example in enumerate(examples)
        ]

    def gold_outputs(
        self, features: Sequence[Features], examples: Sequence[Example], task: TaskSpec
    ) -> list[np.ndarray]:
        """See `Kind.gold_outputs`."""
        return [one_hot(feature.label, len(feature.input_ids)) for feature in features]

    def gold(self, example: Any) -> int | None:
        """Index of the right choice."""
        return example.label

    def majority(self, train: Sequence[Example], examples: Sequence[Example], task: TaskSpec) -> list[Prediction]:
        """Always the first choice."""
        return [Prediction(example.id, 0) for example in examples]
