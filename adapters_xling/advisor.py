"""Which entry should a target start from? Entries at hand, ranked by what costs little to find out.

- ``logme``     log evidence of a linear model from an entry's features to the target's labels (`transferability.logme`)
- ``probe``     dev score of the target after a few steps that start from the entry, with the entry's own method
- ``measured``  what entries that started from it, or stand on it, scored on the target, where there are any

How sure the order is comes from drawing the target's rows anew: the share of draws in which each candidate is first. It
says nothing about other seeds of an entry, nor whether a cheap score foretells the real one: that is what
`transferability.regrets` is for.

Shapes: N rows, T tokens, D width.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapters_xling import evaluation, inference, keeping, metrics, tasks
from adapters_xling.errors import ConfigError
from adapters_xling.metrics import Metric
from adapters_xling.model import Model
from adapters_xling.paths import score_file
from adapters_xling.spec import FULL, RunSpec, Score, TaskSpec
from adapters_xling.statistics import Bootstrap, Sample
from adapters_xling.tasks import kinds
from adapters_xling.tasks.examples import Features
from adapters_xling.transferability import logme
from adapters_xling.zoo import Entry, Zoo

NONE = "none"
"""The candidate that is no entry: the bare backbone, and a fresh slot."""

MAX_ROWS = 1000
TOKENS_PER_ROW = 8
"""Tokens of a row that count where every token has a label, so that long rows do not outvote short ones."""

DRAWS = 100


@dataclass
class Advice:
    """What is known of one candidate.

    Attributes:
        candidate: key of the entry, or `NONE`.
        task: what it was trained on.
        method: its method; empty for `NONE`.
        values: ``logme``, ``probe`` and ``measured``, as far as they were found.
        first: share of draws of the target's rows in which it is first by the score the order goes by.
        num_measured: entries behind ``measured``.
    """

    candidate: str
    task: str
    method: str
    values: dict[str, float] = field(default_factory=dict)
    first: float | None = None
    num_measured: int = 0


def candidates(
    zoo: Zoo,
    target: TaskSpec,
    *,
    backbone: str,
    method: str | None = None,
    train: str | None = None,
    extra_tasks: Path | None = None,
) -> list[Entry]:
    """Entries a target could start from: same backbone, trained, started fresh, and not on the target's own rows, which
    are those of the task `train` where it is given. `extra_tasks` is a private folder of task files."""
    source = tasks.train_task(target, override=train, extra=extra_tasks)
    avoid = {target.name, source.name}
    found = []
    for entry in zoo.entries():
        run = entry.card.run
        if run.backbone.name != backbone or entry.card.training is None or run.parents:
            continue
        if avoid & {ref.name for ref in run.tasks}:
            continue
        if method in (None, run.method.name) and run.method.name != "head":
            found.append(entry)
    return found


def advise(
    target: TaskSpec,
    found: Sequence[Entry],
    *,
    zoo: Zoo,
    backbone: str,
    data_dir: Path | None = None,
    device: str | None = None,
    extra_tasks: Path | None = None,
    kept: Sequence[Score] = (),
    probe: Callable[[Entry | None], RunSpec] | None = None,
    max_rows: int = MAX_ROWS,
    train: str | None = None,
    on_candidate: Callable[[str], Any] | None = None,
) -> list[Advice]:
    """Rank entries for a target, best first; `NONE` is among them.

    The order goes by ``probe`` where it was asked for, else by ``logme``; ``measured`` is shown beside it, for it is of
    some candidates only, as a rule.

    Args:
        target: the task that is to profit.
        found: the candidates.
        zoo: where they are.
        backbone: the encoder they share.
        data_dir: folder of original data files.
        device: where models run.
        extra_tasks: private folder of task files.
        kept: scores that evaluation kept, for ``measured``.
        probe: makes the short run of a candidate; None for no probing.
        max_rows: most training rows of the target to look at.
        train: task whose rows the target learns from, over what its file says.
        on_candidate: called with each candidate's name before its turn.

    Raises:
        ConfigError: for a target that nothing is trained for.
    """
    source = tasks.with_labels(tasks.train_task(target, override=train, extra=extra_tasks), data_dir=data_dir)
    if not kinds.get(source.kind).trains:
        raise ConfigError(
            f"task {target.name!r} trains nothing, so there is nothing to start from an entry; score the entries on "
            f"it: xling evaluate ENTRY {target.name}"
        )
    rows, _ = tasks.load_all(source, "train", source.train_languages, data_dir=data_dir, limit=max_rows)
    advices: list[Advice] = []
    draws: dict[str, list[np.ndarray]] = {"logme": [], "probe": []}
    with tempfile.TemporaryDirectory(prefix="xling-advise-") as folder:
        scratch = Zoo(Path(folder) / "zoo", fallbacks=(zoo.root, *zoo.fallbacks))
        for entry in [None, *found]:
            card = entry.card if entry else None
            advice = Advice(entry.key, card.run.task, card.run.method.name) if entry and card else Advice(NONE, "", "")
            if on_candidate:
                on_candidate(advice.candidate)
            model = evaluation.open_model(entry.key if entry else backbone, card, zoo=zoo, device=device, backbone=None)
            features = _features(model, source, rows)
            advice.values["logme"] = logme(*_stacked(features, range(len(features))))
            draws["logme"].append(_resampled(features))
            if probe:
                value, drawn = _probed(probe(entry), source, scratch, Path(folder), data_dir, device)
                advice.values["probe"] = value
                draws["probe"].append(drawn)
            measured = _measured(zoo, entry, target, kept)
            if measured:
                advice.values["measured"], advice.num_measured = float(np.mean(measured)), len(measured)
            advices.append(advice)
    by = "probe" if probe else "logme"
    drawn_CB = np.stack(draws[by])
    drawn_CB = drawn_CB[:, np.isfinite(drawn_CB).all(axis=0)]  # draws without a class say nothing of anybody
    if drawn_CB.shape[1]:
        firsts_B = np.argmax(drawn_CB, axis=0)
        for i, advice in enumerate(advices):
            advice.first = float((firsts_B == i).mean())
    return sorted(advices, key=lambda one: (-one.values[by], one.candidate))


# --- features -----------------------------------------------------------------------------------------------------

_Rows = tuple[np.ndarray, np.ndarray]
"""Feature rows (n,D) of one example and their classes (n,)."""


@torch.no_grad()
def _features(model: Model, task: TaskSpec, rows: Sequence[Any]) -> list[_Rows]:
    """Labelled feature rows of each example: of its pooled rows, or of the tokens that carry its gold."""
    kind = kinds.get(task.kind)
    encoded = kind.encode(list(rows), model.tokenizer, task, max_length=min(256, model.max_positions))
    encoded = [one for one in encoded if one.label is not None]
    found: list[_Rows | None] = [None] * len(encoded)
    model.eval()
    at_once = inference.tokens_at_once(model, FULL)
    for indices in inference.token_batches([one.num_tokens for one in encoded], at_once):
        batch = kind.collate([encoded[i] for i in indices], pad_id=model.pad_id)
        batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
        hidden_NTD = model.encode(batch).float().cpu().numpy()
        top = 0
        for i in indices:
            num = len(encoded[i].input_ids)
            found[i] = _labelled(encoded[i], hidden_NTD[top : top + num], seed=i)
            top += num
    return [one for one in found if one is not None]


def _labelled(feature: Features, hidden_RTD: np.ndarray, *, seed: int) -> _Rows:
    """Rows and classes of one example, by the form of its gold: a class, the right one of several rows, the ends of a
    span, or a class per token."""
    label, lengths = feature.label, [len(row) for row in feature.input_ids]
    if isinstance(label, int):
        pooled_RD = np.stack([row[:length].mean(axis=0) for row, length in zip(hidden_RTD, lengths, strict=True)])
        classes = np.array([label]) if len(lengths) == 1 else (np.arange(len(lengths)) == label).astype(int)
        return pooled_RD, classes
    picks = np.random.default_rng(seed)
    if isinstance(label, tuple):
        ends = {int(label[0]): 1, int(label[1]): 2}
        others = [t for t in range(lengths[0]) if t not in ends]
        chosen = list(ends) + list(picks.choice(others, min(len(others), TOKENS_PER_ROW), replace=False))
        return hidden_RTD[0, chosen], np.array([ends.get(int(t), 0) for t in chosen])
    tagged = [t for t, one in enumerate(label) if one >= 0]
    chosen = list(picks.choice(tagged, min(len(tagged), TOKENS_PER_ROW), replace=False)) if tagged else []
    return hidden_RTD[0, chosen], np.array([label[t] for t in chosen], int)


def _stacked(features: Sequence[_Rows], chosen: Sequence[int] | np.ndarray) -> _Rows:
    return np.concatenate([features[i][0] for i in chosen]), np.concatenate([features[i][1] for i in chosen])


def _resampled(features: Sequence[_Rows]) -> np.ndarray:
    """LogME of rows drawn with replacement, the same draws for every candidate, (B,); NaN where one class was drawn."""
    generator = np.random.default_rng(0)
    num = len(features)
    drawn = [_stacked(features, generator.integers(0, num, num)) for _ in range(DRAWS)]
    return np.array([logme(*one) if len(np.unique(one[1])) > 1 else math.nan for one in drawn])


# --- probing ------------------------------------------------------------------------------------------------------


def _probed(
    run: RunSpec, source: TaskSpec, scratch: Zoo, folder: Path, data_dir: Path | None, device: str | None
) -> tuple[float, np.ndarray]:
    """Dev score after a few steps, and the same under draws of the dev rows, (B,)."""
    from adapters_xling.training import train

    made = train(run, zoo=scratch, data_dir=data_dir, device=device, show_progress=False)
    limit = made.card.run.recipe.dev_examples or None
    scores = evaluation.evaluate(
        made.key,
        source,
        zoo=scratch,
        runs_dir=folder,
        languages=source.train_languages,
        split="dev",
        data_dir=data_dir,
        limit=limit,
        device=device,
    )
    bootstrap = Bootstrap(num_resamples=DRAWS, seeds="fixed")
    drawn = []
    for language in source.train_languages:
        path = score_file(folder / "scores" / made.key / source.name, "dev", language, limit=limit)
        outcomes = keeping.read_outcomes(path)
        assert outcomes is not None
        metric = outcomes.metric_of(scores[0].metric)
        units = {name: column[None] for name, column in outcomes.units[metric.name].items()}
        sample = Sample(outcomes.ids, units, _one_of(metric, scores[0].metric))
        drawn.append(bootstrap.draws(sample, scope=language)[0])
    main = [one.value for one in scores if one.metric == scores[0].metric]
    return float(np.mean(main)), np.mean(drawn, axis=0)


def _one_of(metric: Metric, name: str) -> Callable[[Any], Any]:
    """One of the scores of a metric, from sums."""
    return lambda sums: metric.combine(sums)[name]


# --- what was measured --------------------------------------------------------------------------------------------


def _measured(zoo: Zoo, entry: Entry | None, target: TaskSpec, kept: Sequence[Score]) -> list[float]:
    """Zero-shot means on the target's scored rows of the entries that start from a candidate or stand on it."""
    if entry is None:
        return []
    children = set(zoo.children(entry.key))
    what = (target.name, target.eval_split, metrics.main(target.metrics[0]))
    by_key: dict[str, dict[str, float]] = {}
    for one in kept:
        if one.key in children and (one.task, one.split, one.metric) == what and one.zero_shot:
            by_key.setdefault(one.key, {}).setdefault(one.language, one.value)
    return [float(np.mean(list(values.values()))) for values in by_key.values()]
