"""What several kinds share: checks of the task file, building token rows, padding, heads.

Shapes: B examples in the batch, N encoder rows, T tokens, D hidden size, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from adapters_xling import metrics
from adapters_xling.errors import ConfigError, DataError, unknown
from adapters_xling.spec import TaskSpec
from adapters_xling.tasks.examples import Features

from .base import IGNORE, Batch, Kind, pad

GOLD_LOGIT = 10.0
"""Logit a perfect model gives the right class in `gold_outputs`; all others get 0."""

_TOKENIZE_AT_ONCE = 4096
_FIRST, _SECOND = -1, -2

H = TypeVar("H", bound=Hashable)


# --- task files -------------------------------------------------------------------------------------------------


def options_of(kind: Kind, task: TaskSpec) -> dict[str, Any]:
    """Every option of the kind, the task's own values over the defaults."""
    return {**kind.default_options, **task.options}


def check_task_file(kind: Kind, task: TaskSpec, *, needs_labels: bool) -> None:
    """Refuse what every kind refuses: foreign kind, wrong labels, unknown options or metrics.

    Raises:
        ConfigError: naming task, field and what is valid.
        UnknownName: for an option or a metric that does not exist.
    """
    where = f"task {task.name!r}"
    if task.kind != kind.name:
        raise ConfigError(f"{where}: kind is {task.kind!r}, but it was given to the kind {kind.name!r}")
    unread = task.labels_from is not None and not task.labels  # `tasks.with_labels` reads them off the rows
    if needs_labels and len(set(task.labels)) < 2 and not unread:
        raise ConfigError(f"{where}: labels: kind {kind.name!r} needs at least two, got {list(task.labels)}")
    if needs_labels and len(set(task.labels)) != len(task.labels):
        raise ConfigError(f"{where}: labels: {most_frequent(task.labels)!r} is listed twice; each label once")
    if not needs_labels and task.labels:
        raise ConfigError(f"{where}: labels: kind {kind.name!r} has none; remove the field")
    for name, value in task.options.items():
        if name not in kind.default_options:
            raise unknown(f"option of kind {kind.name!r}", name, kind.default_options, f"{where}: options")
        wanted = type(kind.default_options[name])
        if not (type(value) is wanted or (wanted is float and type(value) is int)):
            raise ConfigError(f"{where}: options.{name} must be {wanted.__name__}, got {value!r}")
    if not task.metrics:
        usable = [name for name in metrics.names() if kind.name in metrics.kinds(name)]
        raise ConfigError(f"{where}: metrics: name at least one; kind {kind.name!r} can use {', '.join(usable)}")
    for name in task.metrics:
        if kind.name not in metrics.kinds(name):
            usable = [known for known in metrics.names() if kind.name in metrics.kinds(known)]
            raise ConfigError(
                f"{where}: metrics: {name!r} does not score kind {kind.name!r}; use one of {', '.join(usable)}"
            )
        argument = metrics.argument(name)
        if argument is not None and argument not in task.labels:
            base = name.partition(":")[0]
            raise ConfigError(
                f"{where}: metrics: {name!r} counts label {argument!r} as positive, which is not among "
                f"{list(task.labels)}; write {base}:<label>, e.g. {base}:{task.labels[-1]}"
            )


def check_at_least(task: TaskSpec, options: dict[str, Any], **least: int) -> None:
    """Refuse numeric options below a bound.

    Raises:
        ConfigError: naming task, option and bound.
    """
    for name, bound in least.items():
        if options[name] < bound:
            raise ConfigError(f"task {task.name!r}: options.{name} must be at least {bound}, got {options[name]!r}")


def wrong_type(kind: Kind, example: Any) -> str | None:
    """Say so when an example belongs to another kind."""
    if isinstance(example, kind.example_type):
        return None
    return f"is a {type(example).__name__}; kind {kind.name!r} works on {kind.example_type.__name__}"


def blank(text: str) -> bool:
    """True when nothing is left of a text without white space."""
    return not text.strip()


def most_frequent(values: Iterable[H], order: Sequence[H] = ()) -> H:
    """The most frequent value; among equals the one that comes first in `order`, else the first seen.

    Raises:
        DataError: when there are no values.

    >>> most_frequent("baab", order="ab")
    'a'
    """
    counts = Counter(values)
    if not counts:
        raise DataError("no labelled train row to take the most frequent label from; give the floor a train split")
    ranks = {value: rank for rank, value in enumerate(order)}
    return max(counts, key=lambda value: (counts[value], -ranks.get(value, len(ranks))))


# --- token rows -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Template:
    """Special tokens around one or two segments, read off the tokenizer so that no family is assumed.

    `parts` are the tokens before, (between) and after the segments: ``(<s>,), (</s>, </s>), (</s>,)`` for a pair
    in XLM-R. `marks_second` says whether the tokens from the second segment on are of another type, as BERT's are.
    """

    parts: tuple[tuple[int, ...], ...]
    marks_second: bool = False

    @classmethod
    def of(cls, tokenizer: Any, *, pair: bool) -> Template:
        """The template of a tokenizer for pairs or for single segments."""
        row = (
            tokenizer.build_inputs_with_special_tokens([_FIRST], [_SECOND])
            if pair
            else tokenizer.build_inputs_with_special_tokens([_FIRST])
        )
        parts: list[list[int]] = [[]]
        for token in row:
            if token in (_FIRST, _SECOND):
                parts.append([])
            else:
                parts[-1].append(token)
        who = type(tokenizer).__name__
        assert len(parts) == (3 if pair else 2), f"{who} lost a segment: {row}"
        types = tokenizer.create_token_type_ids_from_sequences([_FIRST], [_SECOND]) if pair else [0]
        if any(types):
            second = row.index(_SECOND)
            assert types == [0] * second + [1] * (len(row) - second), f"{who} has types of its own: {types}"
        return cls(tuple(map(tuple, parts)), any(types))

    @property
    def num_special(self) -> int:
        """Special tokens of one row."""
        return sum(map(len, self.parts))

    def join(self, *segments: Sequence[int]) -> list[int]:
        """Segments with the special tokens around them."""
        row = list(self.parts[0])
        for segment, after in zip(segments, self.parts[1:], strict=True):
            row += [*segment, *after]
        return row

    def second(self, first: Sequence[int]) -> list[int] | None:
        """Where the second segment begins after this first one, for `Features.second`; None where it is not marked."""
        return [sum(map(len, (self.parts[0], first, self.parts[1])))] if self.marks_second else None

    def room(self, max_length: int, *, least: int = 2) -> int:
        """Tokens left for text in a row of `max_length`.

        Raises:
            ConfigError: when fewer than `least` are left.
        """
        room = max_length - self.num_special
        if room < least:
            raise ConfigError(
                f"max_length {max_length} leaves {max(room, 0)} tokens for text beside {self.num_special} special "
                f"ones; at least {least + self.num_special} is needed: raise max_length in the recipe"
            )
        return room


def tokenize(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts without special tokens, uncut; equal texts are tokenised once."""
    known: dict[str, list[int]] = {}
    todo = list(dict.fromkeys(texts))
    for at in range(0, len(todo), _TOKENIZE_AT_ONCE):
        part = todo[at : at + _TOKENIZE_AT_ONCE]
        ids = tokenizer(part, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
        known.update(zip(part, ids, strict=True))
    return [known[text] for text in texts]


def fit_pair(num_first: int, num_second: int, room: int) -> tuple[int, int]:
    """Lengths of two segments after cutting the longer one first until both fit.

    The odd token goes to the longer segment (to the second when they are equally long), as the `tokenizers` library's
    ``longest_first`` does.

    >>> fit_pair(3, 20, 10), fit_pair(20, 20, 11)
    ((3, 7), (5, 6))
    """
    if num_first + num_second <= room:
        return num_first, num_second
    short = min(num_first, num_second, room // 2)
    return (room - short, short) if num_first > num_second else (short, room - short)


def cut(ids: list[int], length: int, *, side: str = "end") -> list[int]:
    """Shorten ids to a length, taking tokens away at the end or at the start."""
    if len(ids) <= length:
        return ids
    return ids[:length] if side == "end" else ids[len(ids) - length :]


# --- tensors ----------------------------------------------------------------------------------------------------


def pad_rows(features: Sequence[Features], pad_id: int) -> Batch:
    """`input_ids` and `attention_mask` (N,T) of all rows of all features, in order.

    With them `token_type_ids` (N,T), 1 from the second segment on, where any feature says where that begins.
    """
    rows = [row for feature in features for row in feature.input_ids]
    batch = {"input_ids": pad(rows, pad_id), "attention_mask": pad([[1] * len(row) for row in rows], 0)}
    if any(feature.second is not None for feature in features):
        firsts = [first for feature in features for first in feature.second or map(len, feature.input_ids)]
        types = [[0] * first + [1] * (len(row) - first) for first, row in zip(firsts, rows, strict=True)]
        batch["token_type_ids"] = pad(types, 0)
    return batch


def class_labels(features: Sequence[Features]) -> Batch:
    """`labels` (B,) of features that hold one class index each; absent when none has gold."""
    if all(feature.label is None for feature in features):
        return {}
    return {"labels": torch.tensor([IGNORE if feature.label is None else feature.label for feature in features])}


def gold_labels(batch: Batch) -> Tensor:
    """Labels of a batch.

    Raises:
        DataError: when its rows have none.
    """
    if "labels" not in batch:
        raise DataError("these rows have no gold labels, so there is no loss to compute; train on a labelled split")
    return batch["labels"]


def to_numpy(values: Tensor) -> np.ndarray:
    """float32 array on the CPU."""
    return values.detach().float().cpu().numpy()


def one_hot(index: int | None, size: int) -> np.ndarray:
    """Logits of somebody who knows the answer (all equal when nobody does)."""
    logits = np.zeros(size, dtype=np.float32)
    if index is not None:
        logits[index] = GOLD_LOGIT
    return logits


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis, in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


# --- heads ------------------------------------------------------------------------------------------------------


def linear(num_in: int, num_out: int) -> nn.Linear:
    """A linear map that starts as BERT's do: normal weights with sd 0.02, zero bias."""
    layer = nn.Linear(num_in, num_out)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


class PooledHead(nn.Module):
    """Dropout, dense, tanh, dropout, linear over one pooled vector: (N,D) -> (N,C).

    Source: the classification and multiple-choice heads of the X-STILTs authors' code (jiant). The pooler in front
    of it is part of the model, because it travels between tasks and this head does not.
    """

    def __init__(self, hidden_size: int, num_out: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.dense = linear(hidden_size, hidden_size)
        self.out = linear(hidden_size, num_out)

    def forward(self, pooled_ND: Tensor) -> Tensor:
        """Map pooled vectors to logits."""
        hidden_ND = torch.tanh(self.dense(self.dropout(pooled_ND)))
        return self.out(self.dropout(hidden_ND))


class TokenHead(nn.Module):
    """Dropout and linear over every token: (N,T,D) -> (N,T,C). Source: jiant's tagging and QA heads."""

    def __init__(self, hidden_size: int, num_out: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out = linear(hidden_size, num_out)

    def forward(self, hidden_NTD: Tensor) -> Tensor:
        """Map token vectors to logits."""
        return self.out(self.dropout(hidden_NTD))
