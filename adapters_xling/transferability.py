"""Which intermediate entry will help a target? A cheap score from features, and how good any ranking was in hindsight.

Shapes: N feature rows, D width, C classes, K singular values.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from adapters_xling.errors import DataError
from adapters_xling.spec import Score

ROUNDS = 50
"""Most rounds of the fixed-point iteration of `logme`; it settles in fewer than ten as a rule."""


def logme(features_ND: np.ndarray, labels_N: np.ndarray) -> float:
    """Log evidence per row of a linear model from features to labels, the mean over one-against-all labels.

    LogME of You et al. (2021): the prior's and the noise's precision are those with the largest evidence, so nothing is
    trained and nothing needs held-out rows. Larger is better; values of other rows or labels cannot be compared.

    Args:
        features_ND: one row per example or token.
        labels_N: classes as whole numbers.

    Raises:
        DataError: for fewer than two rows or classes, or numbers that are not finite.
    """
    features = np.asarray(features_ND, np.float64)
    labels = np.asarray(labels_N)
    classes = np.unique(labels)
    if features.ndim != 2 or len(features) != len(labels) or len(features) < 2 or len(classes) < 2:
        raise DataError(
            f"LogME wants two rows and two classes at least, one label per row; got features {features.shape} and "
            f"{len(labels)} labels of {len(classes)} classes"
        )
    if not np.isfinite(features).all():
        raise DataError("LogME wants finite features; an encoder that gives others is broken")
    left_NK, singular_K, _ = np.linalg.svd(features, full_matrices=False)
    fitted = [fit_evidence(left_NK, singular_K, labels == one, features.shape[1]) for one in classes]
    return float(np.mean([evidence for evidence, _, _ in fitted])) / len(labels)


def fit_evidence(
    left_NK: np.ndarray, singular_K: np.ndarray, is_class_N: np.ndarray, width: int
) -> tuple[float, float, float]:
    """Largest log evidence of one one-against-all label, and the precisions of prior and noise that give it.

    Args:
        left_NK: left singular vectors of the features.
        singular_K: singular values.
        is_class_N: the label, 0 and 1 or truth values.
        width: D.
    """
    y_N = is_class_N.astype(np.float64)
    num, squares_K = len(y_N), singular_K**2
    z_K = (left_NK.T @ y_N) ** 2
    rest = max(float(y_N @ y_N - z_K.sum()), 0.0)

    def parts(alpha: float, beta: float) -> tuple[np.ndarray, float, float]:
        """Precision along each direction, squared size of the mean weights, squared error of the fit."""
        precision_K = alpha + beta * squares_K
        weight = float((beta**2 * squares_K * z_K / precision_K**2).sum())
        return precision_K, weight, float(((alpha / precision_K) ** 2 * z_K).sum() + rest)

    alpha = beta = 1.0
    for _ in range(ROUNDS):
        precision_K, weight, error = parts(alpha, beta)
        gamma = float((beta * squares_K / precision_K).sum())
        before = alpha / beta
        alpha = gamma / max(weight, 1e-12)
        beta = (num - gamma) / max(error, 1e-12)
        if abs(alpha / beta - before) <= 1e-3 * before:
            break
    precision_K, weight, error = parts(alpha, beta)
    log_det = float(np.log(precision_K).sum()) + (width - len(squares_K)) * math.log(alpha)
    evidence = num * math.log(beta) + width * math.log(alpha) - num * math.log(2 * math.pi)
    return (evidence - beta * error - alpha * weight - log_det) / 2, alpha, beta


# --- in hindsight -------------------------------------------------------------------------------------------------

STARTS = ("fresh", "warm")
"""How a run of a transfer matrix starts: from nothing, or from one intermediate entry."""


class Target(NamedTuple):
    """What is to profit: a task under a method. Targets of one task share its rows, and so its answer."""

    task: str
    method: str

    def __str__(self) -> str:
        return f"{self.task} {self.method}"


Matrix = Mapping[Target, Mapping[str, float]]
"""Target -> candidate -> number, the larger the better."""


def transfer_matrix(
    scores: Sequence[Score], *, backbone: str | None = None, metrics: Mapping[str, str] | None = None
) -> dict[Target, dict[str, float]]:
    """What each intermediate task came to on each target: the zero-shot mean over languages, then over seeds.

    Candidates are intermediate tasks, ``none`` among them. Runs that
    stand on an entry instead of starting from it, or use several together, are another question and left out. Cells
    that were not scored in all of a target's languages are left out too, for means over other languages cannot be
    compared.

    Args:
        scores: as a grid's `scores.jsonl` has them.
        backbone: only scores on this one; a grid's twin with random weights is another.
        metrics: task -> score that counts; of a task that is not in it, or has no such score, the first in order.

    Of several splits of a task one counts: the test rows, else the first in order.

    Raises:
        DataError: where two entries, or two ways of reading one, are the same candidate on the same target and seed.
    """
    scores = [one for one in scores if backbone in (None, one.backbone)]
    scores = [one for one in scores if one.route == "slot" and one.init in STARTS]
    there = {(one.task, one.metric) for one in scores}
    main = {task: metric for task, metric in (metrics or {}).items() if (task, metric) in there}
    for one in scores:
        main.setdefault(one.task, one.metric)
    splits: dict[str, str] = {}
    for one in scores:
        if one.split == "test" or one.task not in splits:
            splits[one.task] = one.split
    cells: dict[tuple[Target, str], dict[int, dict[str, float]]] = {}
    behind: dict[tuple[Target, str, int, str], Score] = {}
    for one in scores:
        if (one.metric, one.split) != (main[one.task], splits[one.task]):
            continue
        if one.zero_shot and one.method not in ("majority", "base"):
            target = Target(one.task, one.method)
            other = behind.setdefault((target, one.intermediate, one.seed, one.language), one)
            if other != one:
                raise DataError(
                    f"{other.key} and {one.key} are both {one.intermediate} before {target}, seed {one.seed} "
                    f"({one.language}: {other.value:g} and {one.value:g}), and differ in settings, layer or precision: "
                    "which of them is meant cannot be told. Keep the scores of one"
                )
            cells.setdefault((target, one.intermediate), {}).setdefault(one.seed, {})[one.language] = one.value
    wanted: dict[Target, set[str]] = {}
    for (target, _), by_seed in cells.items():
        for found in by_seed.values():
            wanted.setdefault(target, set()).update(found)
    matrix: dict[Target, dict[str, float]] = {}
    for (target, source), by_seed in cells.items():
        means = [math.fsum(found.values()) / len(found) for found in by_seed.values() if set(found) == wanted[target]]
        if means:
            matrix.setdefault(target, {})[source] = math.fsum(means) / len(means)
    return matrix


@dataclass(frozen=True)
class Regret:
    """How a ranking of candidates did on one target.

    Attributes:
        target: which.
        num_candidates: candidates that both the ranking and the matrix have.
        at: k -> points that the best of the first k lacks to the best of all.
        chance: k -> the same, expected of k candidates drawn at random.
        spearman: rank correlation of the ranking with the outcome; None for fewer than three candidates.
        first: what the ranking put first.
        best: what was best; of several that are level one.
        at_first: points that `first` lacks to it.
        num_best: candidates that are level with the best.
    """

    target: Target
    num_candidates: int
    at: Mapping[int, float]
    chance: Mapping[int, float]
    spearman: float | None
    first: str
    best: str
    at_first: float
    num_best: int


def regrets(outcome: Matrix, predicted: Matrix, *, ks: Sequence[int] = (1, 3)) -> list[Regret]:
    """Hold predictions against outcomes, target by target.

    Args:
        outcome: what each candidate came to.
        predicted: a cheap score of each; only candidates in both count.
        ks: how many candidates a user would try.

    Raises:
        DataError: when no target has two candidates in both.
    """
    found = []
    for target in sorted(set(outcome) & set(predicted)):
        names = sorted(set(outcome[target]) & set(predicted[target]))
        if len(names) < 2:
            continue
        true = np.array([outcome[target][name] for name in names])
        cheap = np.array([predicted[target][name] for name in names])
        order = np.argsort(-cheap, kind="stable")
        at = {k: float(true.max() - true[order[:k]].max()) for k in ks}
        chance = {k: _expected(true, min(k, len(names))) for k in ks}
        found.append(
            Regret(
                target,
                len(names),
                at,
                chance,
                _spearman(true, cheap) if len(names) > 2 else None,
                names[order[0]],
                names[int(true.argmax())],
                float(true.max() - true[order[0]]),
                int((true == true.max()).sum()),
            )
        )
    if not found:
        raise DataError(
            "there is no target with two candidates that are both ranked and measured; train targets after at least "
            "two intermediate tasks (none counts as one), and score them"
        )
    return found


def best_elsewhere(outcome: Matrix) -> dict[Target, dict[str, float]]:
    """The ranking of somebody who looks at no features: how much each candidate gained on the targets of other tasks.

    The same task under another method would give the answer away and is left out. Gains are over the mean of a target's
    candidates, so that easy targets do not count more.
    """
    centred = {
        target: {name: value - math.fsum(row.values()) / len(row) for name, value in row.items()}
        for target, row in outcome.items()
    }
    found: dict[Target, dict[str, float]] = {}
    for target, row in outcome.items():
        for name in row:
            others = [own[name] for other, own in centred.items() if other.task != target.task and name in own]
            if others:
                found.setdefault(target, {})[name] = math.fsum(others) / len(others)
    return found


def _expected(true: np.ndarray, k: int) -> float:
    """Mean of what the best of k candidates lacks, over all ways to draw k of them."""
    lacking = [float(true.max() - true[list(chosen)].max()) for chosen in itertools.combinations(range(len(true)), k)]
    return math.fsum(lacking) / len(lacking)


def _spearman(one: np.ndarray, other: np.ndarray) -> float | None:
    """Rank correlation, equal values sharing the mean of their ranks; None where one side is all equal."""
    ranks = [_ranks(values) for values in (one, other)]
    if any(np.ptp(values) == 0 for values in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    order = np.sort(values)
    low, high = np.searchsorted(order, values, "left"), np.searchsorted(order, values, "right")
    return (low + high - 1) / 2
