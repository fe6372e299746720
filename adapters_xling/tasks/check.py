"""Check a task of one's own from rows to score before anything is trained on it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from adapters_xling import metrics
from adapters_xling.errors import DataError
from adapters_xling.spec import TaskSpec

from . import kinds
from .examples import Example, Features, Prediction
from .kinds.base import Batch, Kind, TokenOutput

HIDDEN_SIZE = 16
BATCH_SIZE = 8
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What `check_task` saw.

    Attributes:
        num_features: windows or rows the examples became.
        num_tokens: tokens of all encoder rows.
        longest: tokens of the longest encoder row.
        num_truncated: examples that lost tokens.
        unreachable: reason -> examples whose gold a perfect model could not give exactly; left out of `scores`.
        scores: metric -> score of the gold answers, 100 by construction of the check.
        majority: metric -> score of the floor that looks at nothing, on the same rows.
    """

    task: str
    kind: str
    language: str
    num_examples: int
    num_features: int
    num_tokens: int
    longest: int
    num_truncated: int
    unreachable: dict[str, int]
    scores: dict[str, float]
    majority: dict[str, float]

    def __str__(self) -> str:
        lines = [
            f"{self.task} ({self.kind}, {self.language}): {self.num_examples} examples, {self.num_features} features, "
            f"{self.num_tokens} tokens, longest row {self.longest}, {self.num_truncated} examples truncated"
        ]
        lines += [f"  unreachable: {count} × {reason}" for reason, count in self.unreachable.items()]
        lines += [f"  {name}: gold {self.scores[name]:.1f}, floor {self.majority[name]:.1f}" for name in self.scores]
        return "\n".join(lines)


def check_task(
    task: TaskSpec, examples: Sequence[Example], tokenizer: Any, *, language: str = "en", max_length: int = 128
) -> CheckReport:
    """Push labelled rows through everything a run would do with them, and score the gold answers.

    Checks, in this order: the task file, every example, the encoding (lengths, ids, labels, meta), the batch, the head
    and the loss on random hidden states (finite, with a gradient), and that decoding the gold scores 100 in every
    metric.

    Args:
        task: the task.
        examples: labelled rows of one split and language; some dozens are enough. Retrieval wants whole splits.
        tokenizer: a fast tokenizer.
        language: what the rows are in; some metrics depend on it.
        max_length: tokens of a row, as the recipe will say.

    Raises:
        ConfigError: for a task file, or a `max_length`, that its kind cannot serve.
        DataError: naming the example's id and the reason, for everything else that is wrong.
    """
    kind = kinds.get(task.kind)
    kind.check_spec(task)
    _check_examples(kind, task, examples)
    features = kind.encode(examples, tokenizer, task, max_length=max_length)
    _check_features(kind, task, examples, features, num_ids=len(tokenizer), max_length=max_length)
    for at in range(0, len(features), BATCH_SIZE):
        part = features[at : at + BATCH_SIZE]
        batch = kind.collate(part, pad_id=tokenizer.pad_token_id)
        _check_batch(kind, task, part, batch, examples, num_ids=len(tokenizer))
    lossy = kind.unreachable(features, examples, task)
    excused = {examples[i].id for i in lossy}
    decoded = kind.decode(kind.gold_outputs(features, examples, task), features, examples, task)
    golds, predictions = _aligned(kind, task, examples, decoded, excused)
    _, floor = _aligned(kind, task, examples, kind.majority(examples, examples, task), excused)
    lengths = [len(row) for feature in features for row in feature.input_ids]
    return CheckReport(
        task=task.name,
        kind=task.kind,
        language=language,
        num_examples=len(examples),
        num_features=len(features),
        num_tokens=sum(lengths),
        longest=max(lengths),
        num_truncated=len({feature.example for feature in features if (feature.meta or {}).get("cut")}),
        unreachable=dict(Counter(lossy.values())),
        scores=_score_gold(task, golds, predictions, language),
        majority={name: _score(task, name, golds, floor, language) for name in task.metrics},
    )


def _check_examples(kind: Kind, task: TaskSpec, examples: Sequence[Example]) -> None:
    """Refuse rows the kind cannot use and ids that are not unique."""
    if not examples:
        raise DataError(f"task {task.name!r}: there are no examples to check")
    repeated = [id_ for id_, count in Counter(example.id for example in examples).items() if count > 1]
    if repeated:
        raise DataError(f"task {task.name!r}: example id {repeated[0]!r} is given twice; ids are unique in a split")
    reasons = [(row.id, reason) for row in examples if (reason := kind.check_example(row, task, need_gold=True))]
    if reasons:
        shown = "".join(f"\n  example {id_!r}: {reason}" for id_, reason in reasons[:_SHOWN])
        more = f"\n  … and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        raise DataError(
            f"task {task.name!r}: {len(reasons)} of {len(examples)} examples cannot be used:{shown}{more}\n"
            "Mend the rows, or drop them in the reader with the reason counted."
        )


def _check_features(
    kind: Kind,
    task: TaskSpec,
    examples: Sequence[Example],
    features: Sequence[Features],
    *,
    num_ids: int,
    max_length: int,
) -> None:
    """Refuse encodings a model could not read, or that lost an example."""
    for feature in features:
        if type(feature.example) is not int or not 0 <= feature.example < len(examples):
            raise DataError(f"task {task.name!r}: features point to example {feature.example!r}, which does not exist")
        if reason := _malformed(kind, task, feature, num_ids=num_ids, max_length=max_length):
            raise DataError(f"task {task.name!r}: example {examples[feature.example].id!r}: {reason}")
    missing = set(range(len(examples))) - {feature.example for feature in features}
    if missing:
        raise DataError(f"task {task.name!r}: example {examples[min(missing)].id!r} was encoded to nothing")


def _malformed(kind: Kind, task: TaskSpec, feature: Features, *, num_ids: int, max_length: int) -> str | None:
    if not feature.input_ids or not all(feature.input_ids):
        return "has an encoder row without tokens"
    for row in feature.input_ids:
        if len(row) > max_length:
            return f"was encoded to {len(row)} tokens, more than max_length {max_length}"
        bad = [token for token in row if type(token) is not int or not 0 <= token < num_ids]
        if bad:
            return f"token id {bad[0]!r} is not an index into the {num_ids} known tokens"
    if feature.second is not None:
        lengths = [len(row) for row in feature.input_ids]
        if len(feature.second) != len(lengths) or not all(
            type(at) is int and 0 < at < length for at, length in zip(feature.second, lengths, strict=True)
        ):
            return f"second segments begin at {feature.second!r} in rows of {lengths} tokens"
    try:
        json.dumps(feature.meta)
    except (TypeError, ValueError) as err:
        return f"meta cannot be written as JSON: {err}"
    if feature.label is None:
        return "lost its gold in encoding" if kind.trains else None
    return kind.check_label(feature, task)


def _check_batch(
    kind: Kind,
    task: TaskSpec,
    features: Sequence[Features],
    batch: Batch,
    examples: Sequence[Example],
    *,
    num_ids: int,
) -> None:
    """Run the head and the loss on random hidden states."""
    who = f"task {task.name!r}: examples {examples[features[0].example].id!r} to {examples[features[-1].example].id!r}"
    num_rows = sum(len(feature.input_ids) for feature in features)
    width = max(len(row) for feature in features for row in feature.input_ids)
    marked = ["token_type_ids"] if any(feature.second is not None for feature in features) else []
    for name in ("input_ids", "attention_mask", *marked):
        if name not in batch or tuple(batch[name].shape) != (num_rows, width):
            raise DataError(f"{who}: batch[{name!r}] must have shape {(num_rows, width)}")
    generator = torch.Generator().manual_seed(0)
    shape = (num_rows, HIDDEN_SIZE) if kind.pooled else (num_rows, width, HIDDEN_SIZE)
    hidden = torch.randn(shape, generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = kind.make_head(task, hidden_size=HIDDEN_SIZE, dropout=0.0)
    if head is None:
        logits = hidden
    else:
        kind.fit_head(head, num_tokens=num_ids, norm_epsilon=1e-5)
        tokens = TokenOutput(torch.randn((num_ids, HIDDEN_SIZE), generator=generator), lambda vectors: vectors)
        logits = kind.shape_logits(kind.apply_head(head, hidden, batch, tokens), batch)
        loss = kind.loss(logits, batch)
        if loss.dim() != 0 or not torch.isfinite(loss):
            raise DataError(f"{who}: the loss must be one finite number, got {loss.tolist()!r}")
        loss.backward()
        gradients = [parameter.grad for parameter in head.parameters()]
        if not any(grad is not None and bool(grad.abs().sum() > 0) for grad in gradients):
            raise DataError(f"{who}: no gradient reaches the head; does each of these rows have gold?")
    outputs = kind.outputs(logits, batch)
    if len(outputs) != len(features):
        raise DataError(f"{who}: {len(outputs)} outputs for {len(features)} features")


def _aligned(
    kind: Kind, task: TaskSpec, examples: Sequence[Example], predictions: Sequence[Prediction], excused: set[str]
) -> tuple[list[tuple[str, Any]], list[Prediction]]:
    """(id, gold) and prediction of everything that was predicted, without what is excused."""
    by_id = {example.id: example for example in examples}
    for prediction in predictions:
        if prediction.id not in by_id:
            raise DataError(f"task {task.name!r}: a prediction names example {prediction.id!r}, which does not exist")
    kept = [prediction for prediction in predictions if prediction.id not in excused]
    if not kept:
        raise DataError(f"task {task.name!r}: none of the {len(examples)} examples has gold that a model could give")
    return [(prediction.id, kind.gold(by_id[prediction.id])) for prediction in kept], kept


def _score(
    task: TaskSpec, name: str, golds: Sequence[tuple[str, Any]], predictions: Sequence[Prediction], language: str
) -> float:
    try:
        scores = metrics.get(name)([gold for _, gold in golds], [found.value for found in predictions], language)
    except DataError as err:
        raise DataError(f"task {task.name!r}: {err} — checking {len(golds)} rows; more rows may be needed") from err
    return scores[metrics.main(name)]


def _score_gold(
    task: TaskSpec, golds: Sequence[tuple[str, Any]], predictions: Sequence[Prediction], language: str
) -> dict[str, float]:
    """Scores of the decoded gold; refuses anything but 100 and names an example that is to blame.

    Only where the decoded text is a gold answer to the letter may a metric's own rule give it less.
    """
    scores = {}
    for name in task.metrics:
        scores[name] = _score(task, name, golds, predictions, language)
        if round(scores[name], 6) == 100:
            continue
        by_rule = False
        for (id_, gold), found in zip(golds, predictions, strict=True):
            try:
                alone = metrics.get(name)([gold], [found.value], language)[metrics.main(name)]
            except DataError:
                continue
            if round(alone, 6) == 100:
                continue
            if isinstance(found.value, str) and isinstance(gold, tuple) and found.value in gold:
                by_rule = True  # MLQA's script gives "una", of which normalising leaves nothing, an F1 of 0
                continue
            raise DataError(
                f"task {task.name!r}: example {id_!r}: encoding its gold {gold!r} and decoding it again gives "
                f"{found.value!r}, which scores {alone:.1f} in {name!r} instead of 100"
            )
        if not by_rule:
            raise DataError(
                f"task {task.name!r}: the gold of {len(golds)} rows scores {scores[name]:.2f} in {name!r}, not 100"
            )
    return scores
