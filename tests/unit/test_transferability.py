"""LogME is the evidence it claims to be, and a ranking's regret is what a user would have lost by it."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from adapters_xling.errors import DataError
from adapters_xling.judging import judge
from adapters_xling.spec import Score
from adapters_xling.transferability import Target, best_elsewhere, fit_evidence, logme, regrets, transfer_matrix


def log_evidence(features: np.ndarray, y: np.ndarray, alpha: float, beta: float) -> float:
    """Density of y under y ~ N(0, F F'/alpha + I/beta), written down as such."""
    covariance = features @ features.T / alpha + np.eye(len(y)) / beta
    _, log_det = np.linalg.slogdet(covariance)
    return -0.5 * (y @ np.linalg.solve(covariance, y) + log_det + len(y) * math.log(2 * math.pi))


@pytest.mark.parametrize(("num", "width"), [(40, 6), (12, 30)])
def test_logme_is_the_largest_evidence_over_both_precisions(num: int, width: int) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(num, width))
    labels = (features[:, 0] + 0.7 * rng.normal(size=num) > 0).astype(int)
    left, singular, _ = np.linalg.svd(features, full_matrices=False)
    grid = np.exp(np.linspace(-6, 6, 61))
    found = []
    for label in (labels == 0, labels == 1):
        evidence, alpha, beta = fit_evidence(left, singular, label, width)
        assert evidence == pytest.approx(log_evidence(features, label.astype(float), alpha, beta), rel=1e-6)
        found.append(evidence)
        best = max(log_evidence(features, label.astype(float), a, b) for a, b in itertools.product(grid, grid[::2]))
        assert evidence > best - 0.05, "no other precisions explain the labels better"
    assert logme(features, labels) == pytest.approx(np.mean(found) / num)


def test_features_that_know_the_labels_score_higher() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 200)
    noise = rng.normal(size=(200, 16))
    known = noise.copy()
    known[:, :3] += 3 * np.eye(3)[labels]
    half = noise.copy()
    half[:, :3] += np.eye(3)[labels]
    values = [logme(features, labels) for features in (noise, half, known)]
    assert values == sorted(values) and values[2] - values[0] > 0.2


def test_scale_does_not_matter_and_order_neither() -> None:
    rng = np.random.default_rng(2)
    features, labels = rng.normal(size=(60, 5)), rng.integers(0, 2, 60)
    order = rng.permutation(60)
    assert logme(features * 100, labels) == pytest.approx(logme(features, labels), abs=1e-3)
    assert logme(features[order], labels[order]) == pytest.approx(logme(features, labels), abs=1e-9)


@pytest.mark.parametrize(
    ("features", "labels", "words"),
    [
        (np.ones((3, 2)), np.zeros(3), "two classes"),
        (np.ones((1, 2)), np.zeros(1), "two rows"),
        (np.ones((3, 2)), np.arange(2), "one label per row"),
        (np.full((3, 2), np.nan), np.arange(3), "finite"),
    ],
)
def test_what_has_no_evidence_is_refused(features: np.ndarray, labels: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        logme(features, labels)


# --- in hindsight -------------------------------------------------------------------------------------------------

XNLI = Target("xnli", "lora")
OUTCOME = {XNLI: {"a": 60.0, "b": 70.0, "c": 65.0, "none": 50.0}}


def test_regret_is_what_the_first_k_lack() -> None:
    (found,) = regrets(OUTCOME, {XNLI: {"a": 4.0, "c": 3.0, "b": 2.0, "none": 1.0}}, ks=(1, 2, 3, 9))
    assert found.at == {1: 10.0, 2: 5.0, 3: 0.0, 9: 0.0}
    assert (found.first, found.best, found.num_candidates) == ("a", "b", 4)
    assert found.spearman == pytest.approx(0.2)


def test_chance_is_the_mean_over_all_draws() -> None:
    (found,) = regrets(OUTCOME, OUTCOME, ks=(1, 3, 4))
    assert found.at == {1: 0.0, 3: 0.0, 4: 0.0} and found.spearman == pytest.approx(1.0)
    assert found.chance[1] == pytest.approx((10 + 0 + 5 + 20) / 4)
    triples = [max(three) for three in itertools.combinations(OUTCOME[XNLI].values(), 3)]
    assert found.chance[3] == pytest.approx(np.mean([70 - best for best in triples]))
    assert found.chance[4] == 0


def test_only_candidates_that_were_ranked_and_measured_count() -> None:
    (found,) = regrets(OUTCOME, {XNLI: {"a": 1.0, "none": 0.0, "zzz": 9.0}, Target("other", "lora"): {"a": 1.0}})
    assert (found.num_candidates, found.best, found.spearman) == (2, "a", None)
    with pytest.raises(DataError, match="two candidates"):
        regrets(OUTCOME, {XNLI: {"a": 1.0}})


def test_best_elsewhere_never_looks_at_the_target_itself() -> None:
    x, y, z = (Target(name, "lora") for name in "xyz")
    outcome = {x: {"a": 90.0, "b": 10.0}, y: {"a": 40.0, "b": 60.0}, z: {"a": 1.0, "b": 2.0}}
    found = best_elsewhere(outcome)
    assert found[x] == {"a": pytest.approx((-10 - 0.5) / 2), "b": pytest.approx((10 + 0.5) / 2)}
    assert found[y]["a"] > found[y]["b"]


def test_best_elsewhere_looks_at_no_other_method_of_the_same_task() -> None:
    outcome = {
        Target("x", "full"): {"a": 90.0, "b": 70.0},
        Target("x", "lora"): {"a": 60.0, "b": 50.0},
        Target("y", "lora"): {"a": 49.0, "b": 51.0},
    }
    found = {str(one.target): one for one in regrets(outcome, best_elsewhere(outcome), ks=(1,))}
    assert found["x lora"].first == "b" and found["x lora"].at == {1: 10.0}, "`x full` says a, and may not be asked"
    assert found["y lora"].first == "a"


def a_score(**changes: Any) -> Score:
    fields: dict[str, Any] = {
        "key": "k",
        "task": "xnli",
        "language": "sw",
        "metric": "accuracy",
        "value": 50.0,
        "num_examples": 10,
        "split": "dev",
        "zero_shot": True,
        "backbone": "nano",
        "method": "lora",
        "init": "warm",
        "route": "slot",
        "intermediate": "mnli",
        "seed": 0,
    }
    return Score(**{**fields, **changes})


def test_the_matrix_is_zero_shot_means_over_languages_then_seeds() -> None:
    scores = [
        a_score(value=60.0),
        a_score(language="de", value=80.0),
        a_score(seed=1, value=50.0),
        a_score(seed=1, language="de", value=60.0),
        a_score(seed=2, value=99.0),  # German was not scored: no mean to compare
        a_score(language="en", zero_shot=False, value=99.0),
        a_score(metric="f1", value=1.0),
        a_score(intermediate="none", value=40.0),
        a_score(intermediate="none", language="de", value=50.0),
        a_score(method="majority", intermediate="none", value=33.0),
    ]
    assert transfer_matrix(scores) == {XNLI: {"mnli": 62.5, "none": 45.0}}


def test_the_score_that_counts_is_the_tasks_own_and_not_the_first_in_a_sorted_file() -> None:
    scores = [
        a_score(metric=metric, intermediate=before, value=value)
        for metric, before, value in (
            ("exact_match", "mnli", 35.0), ("exact_match", "none", 40.0), ("f1", "mnli", 62.0), ("f1", "none", 60.0)
        )
    ]  # fmt: skip
    for order in (scores, scores[::-1]):
        assert transfer_matrix(order, metrics={"xnli": "f1"}) == {XNLI: {"mnli": 62.0, "none": 60.0}}


def test_one_split_counts_and_two_entries_in_one_cell_are_refused_whatever_their_order() -> None:
    dev, test = a_score(value=10.0), a_score(split="test", value=60.0)
    none = [a_score(split=split, intermediate="none", value=40.0) for split in ("dev", "test")]
    for scores in ([dev, test, *none], [*none, test, dev]):
        assert transfer_matrix(scores) == {XNLI: {"mnli": 60.0, "none": 40.0}}
    other = a_score(key="other-settings", value=70.0)
    for scores in ([dev, other], [other, dev]):
        with pytest.raises(DataError, match=r"are both mnli before xnli lora, seed 0 .*differ in settings"):
            transfer_matrix(scores)
    with pytest.raises(DataError, match="precision"):
        transfer_matrix([dev, a_score(value=11.0, precision="bf16")])


def test_a_ranking_that_names_one_of_several_best_ones_was_right() -> None:
    target = Target("x", "lora")
    (row,) = regrets({target: {"a": 70.0, "b": 70.0, "c": 10.0}}, {target: {"a": 0.0, "b": 2.0, "c": 1.0}}, ks=(1,))
    assert (row.first, row.at_first, row.num_best) == ("b", 0.0, 2)
    judged = judge("x", [row])
    assert judged.hits.value == 100.0 and judged.lucky.value == pytest.approx(200 / 3)
