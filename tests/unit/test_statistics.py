"""The bootstrap against sums by hand and simulated data whose truth is known; corrections against their definitions."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters_xling import metrics, statistics
from adapters_xling.errors import ConfigError, DataError, UnknownName
from adapters_xling.statistics import Bootstrap, Drawn, Sample, benjamini_hochberg, holm, mean_sd, resamples_for

NUM_IDS, LANGUAGES, DATASETS = 120, 6, 300


def percent(sums: Any) -> Any:
    return 100 * sums["right"] / sums["num"]


def sample(values_SN: Any, ids: tuple[str, ...] | None = None) -> Sample:
    values_SN = np.atleast_2d(np.asarray(values_SN, np.float64))
    return Sample(ids or tuple(map(str, range(values_SN.shape[1]))), {"right": values_SN}, percent)


def drawn(bootstrap: Bootstrap, one: Sample, scope: str = "") -> Drawn:
    return Drawn(one.scores, bootstrap.draws(one, scope=scope))


# --- draws ------------------------------------------------------------------------------------------------------


def test_weights_are_poisson_and_of_an_id_alone() -> None:
    bootstrap = Bootstrap(num_resamples=5000)
    weights = bootstrap._weights_of(tuple(map(str, range(100))), "").astype(float)
    assert weights.mean() == pytest.approx(1, abs=0.01)
    assert weights.var() == pytest.approx(1, abs=0.02)
    assert np.abs(np.corrcoef(weights)[~np.eye(100, dtype=bool)]).max() < 0.08
    # another order and other company do not move them; a scope, another seed do
    assert (bootstrap._weights_of(("7", "x"), "")[0] == weights[7]).all()
    assert (bootstrap._weights_of(("7",), "de")[0] != weights[7]).any()
    assert (Bootstrap(num_resamples=5000, seed=1)._weights_of(("7",), "")[0] != weights[7]).any()


@pytest.mark.parametrize("name", ["span_f1", "accuracy_f1", "squad"])
def test_a_draw_is_the_metric_on_the_rows_it_drew(name: str) -> None:
    rng = np.random.default_rng(0)
    golds, predictions = {
        "span_f1": [[tuple(rng.choice(["O", "B-A", "I-A"], 4)) for _ in range(30)] for _ in range(2)],
        "accuracy_f1": [list(rng.choice(["0", "1"], 30)) for _ in range(2)],
        "squad": [[(" ".join(rng.choice(["b", "c", "d"], 2)),) for _ in range(30)], list(rng.choice(["b", "c d"], 30))],
    }[name]
    metric, bootstrap = metrics.get(name), Bootstrap(num_resamples=100)
    units = {column: np.array([values]) for column, values in metric.units(golds, predictions, "en").items()}
    one = Sample(tuple(map(str, range(30))), units, lambda sums: metric.combine(sums)[metric.main])
    assert one.scores[0] == pytest.approx(metric(golds, predictions, "en")[metric.main])
    draws, weights = bootstrap.draws(one), bootstrap._weights_of(one.ids, "")
    for b in range(0, 100, 7):
        rows = list(itertools.chain.from_iterable([i] * int(weights[i, b]) for i in range(30)))
        wanted = metric([golds[i] for i in rows], [predictions[i] for i in rows], "en")[metric.main]
        assert draws[0, b] == pytest.approx(wanted, abs=1e-4)


def test_a_set_whose_weights_have_no_room_is_drawn_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    one = sample(rng.integers(0, 2, (2, 103)))
    wanted = Bootstrap(num_resamples=700).draws(one)
    monkeypatch.setattr(statistics, "MOST_BYTES", 10 * 700)
    parts = Bootstrap(num_resamples=700)
    assert np.allclose(parts.draws(one), wanted, atol=1e-5)
    assert parts._weights is not None and parts._weights[1].shape == (3, 700)


def test_the_same_draws_every_time_and_others_with_another_seed() -> None:
    one, other = sample([[1, 0, 1, 1, 0, 1]]), sample([[1, 0, 0, 1, 0, 0]])

    def found(seed: int) -> Any:
        bootstrap = Bootstrap(num_resamples=500, seed=seed)
        return bootstrap.difference([drawn(bootstrap, one)], [drawn(bootstrap, other)])

    assert found(0) == found(0) != found(1)
    assert found(0).value == pytest.approx(100 / 3)


def test_equal_systems_differ_by_nothing() -> None:
    bootstrap, one = Bootstrap(num_resamples=200), sample([[1, 0, 1], [0, 0, 1]])
    found = bootstrap.difference([drawn(bootstrap, one)], [drawn(bootstrap, one)])
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_swapping_the_systems_turns_the_sign() -> None:
    rng = np.random.default_rng(3)
    one, other = sample(rng.random(80) < 0.7), sample(rng.random(80) < 0.6)
    bootstrap = Bootstrap(num_resamples=2000)
    there = bootstrap.difference([drawn(bootstrap, one)], [drawn(bootstrap, other)])
    back = bootstrap.difference([drawn(bootstrap, other)], [drawn(bootstrap, one)])
    assert (back.value, back.low, back.high, back.p) == pytest.approx((-there.value, -there.high, -there.low, there.p))


def test_a_score_that_most_draws_cannot_give_has_no_interval() -> None:
    metric = metrics.get("span_f1")
    units = metric.units([("B-A",), ("O",), ("O",)], [("B-A",), ("O",), ("B-A",)], "en")
    one = Sample(("a", "b", "c"), {n: np.array([v]) for n, v in units.items()}, lambda sums: metric.combine(sums)["f1"])
    bootstrap = Bootstrap(num_resamples=1000)  # the only gold is drawn in 63 of 100
    found = bootstrap.difference([drawn(bootstrap, one)], [drawn(bootstrap, one)])
    assert (found.low, found.high, found.p) == (None, None, None)
    assert found.value == 0


def test_what_cannot_be_compared_is_refused() -> None:
    bootstrap = Bootstrap(num_resamples=100)
    one, two = drawn(bootstrap, sample([[1, 0]])), drawn(bootstrap, sample([[1, 0], [0, 1]]))
    with pytest.raises(DataError, match="seeds are compared in pairs, got 1 and 2"):
        bootstrap.difference([one], [two])
    with pytest.raises(DataError, match="the same sets of both systems, got 0 and 0"):
        bootstrap.difference([], [])
    with pytest.raises(ConfigError, match="100 or more"):
        Bootstrap(num_resamples=10)
    with pytest.raises(UnknownName, match="'student'"):
        Bootstrap(seeds="studnet")  # type: ignore[arg-type]


def test_fifteen_languages_of_xnlis_size_and_three_seeds_take_seconds() -> None:
    rng = np.random.default_rng(0)
    ids = tuple(map(str, range(5010)))
    started = time.process_time()
    bootstrap = Bootstrap(num_resamples=2000)
    systems = [[drawn(bootstrap, sample(rng.random((3, 5010)) < 0.7, ids)) for _ in range(15)] for _ in range(2)]
    found = bootstrap.difference(*systems)
    assert time.process_time() - started < 15  # 1.3 s where this was written
    assert found.low is not None and found.high is not None and found.low < found.value < found.high


# --- simulated data whose truth is known -----------------------------------------------------------------------


def simulated(seed: int, *, shared: float, noise: float, by_seed: float = 0.0, num_seeds: int = 1) -> np.ndarray:
    """Differences between two systems per language, seed and id (L,S,N) around 0: a part that an id has in every
    language, one of its own, and one of the training run.
    """
    rng = np.random.default_rng(seed)
    of_id = shared * rng.standard_normal((1, 1, NUM_IDS))
    of_run = by_seed * rng.standard_normal((1, num_seeds, 1))
    return of_id + of_run + noise * rng.standard_normal((LANGUAGES, num_seeds, NUM_IDS))


def findings(make: Callable[[int], np.ndarray], *, parallel: bool = True, **options: Any) -> list[Any]:
    """What the bootstrap says of many simulated data sets."""
    bootstrap = Bootstrap(num_resamples=500, **options)
    found = []
    for seed in range(DATASETS):
        values_LSN = make(seed)
        zero = sample(np.zeros(values_LSN.shape[1:]))
        ours = [drawn(bootstrap, sample(v), "" if parallel else str(i)) for i, v in enumerate(values_LSN)]
        theirs = [Drawn(zero.scores, np.zeros((len(zero.scores), 500)))] * LANGUAGES
        found.append(bootstrap.difference(ours, theirs))
    return found


def coverage(found: list[Any]) -> float:
    return float(np.mean([one.low <= 0 <= one.high for one in found]))


def test_the_interval_covers_where_rows_of_an_id_rise_together_and_an_independent_one_does_not() -> None:
    joint = findings(lambda seed: simulated(seed, shared=1.0, noise=0.5))
    assert 0.91 <= coverage(joint) <= 0.98
    # under the null every p is equally likely (Kolmogorov-Smirnov, 1 %)
    p = np.sort([one.p for one in joint])
    steps = np.arange(DATASETS + 1) / DATASETS
    assert max(np.abs(p - steps[1:]).max(), np.abs(p - steps[:-1]).max()) < 1.63 / DATASETS**0.5
    apart = findings(lambda seed: simulated(seed, shared=1.0, noise=0.5), parallel=False)
    assert coverage(apart) < 0.75
    assert np.mean([one.p < 0.05 for one in apart]) > 0.25


def test_where_ids_share_nothing_both_ways_cover() -> None:
    for parallel in (True, False):
        assert 0.91 <= coverage(findings(lambda s: simulated(s, shared=0.0, noise=1.0), parallel=parallel)) <= 0.98


def test_with_three_seeds_a_t_draw_covers_training_noise_and_drawing_seeds_does_not() -> None:
    def make(seed: int) -> np.ndarray:
        return simulated(seed, shared=0.3, noise=0.3, by_seed=1.0, num_seeds=3)

    assert 0.92 <= coverage(findings(make, seeds="student")) <= 0.98
    assert coverage(findings(make, seeds="resample")) < 0.85
    assert coverage(findings(make, seeds="fixed")) < 0.3


def test_several_seeds_never_cover_less_than_they_should() -> None:
    for seeds, noise in ((3, 1.0), (5, 1.0), (5, 0.2)):
        found = findings(lambda s: simulated(s, shared=0.5, noise=noise, by_seed=0.05, num_seeds=seeds))  # noqa: B023
        assert coverage(found) >= 0.91  # 0.95 less three standard errors of 300 data sets


# --- many comparisons -------------------------------------------------------------------------------------------

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(P_VALUES, st.sampled_from([0.01, 0.05, 0.3]))
def test_holm_rejects_step_by_step_from_the_smallest(p_values: list[float], level: float) -> None:
    rejected = set()
    for step, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[i] * (len(p_values) - step) > level:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(holm(p_values)) if p <= level} == rejected


@given(P_VALUES, st.sampled_from([0.01, 0.05, 0.3]))
def test_benjamini_hochberg_rejects_all_up_to_the_last_below_its_line(p_values: list[float], level: float) -> None:
    ordered, num = sorted(p_values), len(p_values)
    below = [rank for rank, p in enumerate(ordered, 1) if p * (num / rank) <= level]
    rejected = {i for i, p in enumerate(p_values) if below and p <= ordered[below[-1] - 1]}
    assert {i for i, p in enumerate(benjamini_hochberg(p_values)) if p <= level} == rejected


def test_both_agree_with_published_steps() -> None:
    # Benjamini and Hochberg 1995, section 3.1: 15 p values; Holm (as Bonferroni) rejects 3, theirs 4
    p_values = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262]
    p_values += [0.5719, 0.6528, 0.7590, 1.0]
    assert sum(p <= 0.05 for p in holm(p_values)) == 3
    assert sum(p <= 0.05 for p in benjamini_hochberg(p_values)) == 4


def test_no_comparison_needs_no_correction() -> None:
    assert holm([]) == benjamini_hochberg([]) == []
    assert holm([0.04]) == benjamini_hochberg([0.04]) == [0.04]


@pytest.mark.parametrize("num", [1, 81, 243, 1000])
def test_the_smallest_p_can_survive_the_correction(num: int) -> None:
    smallest = 2 / (resamples_for(num) + 1)
    assert holm([smallest] + [1.0] * (num - 1))[0] < 0.05


def test_mean_and_sd_by_hand() -> None:
    assert mean_sd([5.0]) == (5.0, None)
    assert mean_sd([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))


# --- shares -------------------------------------------------------------------------------------------------------


def test_a_share_is_of_the_mean_gains_and_its_interval_holds_the_true_one() -> None:
    """Seeds that are good for one system are good for the other, as with a shared order of rows."""
    rng = np.random.default_rng(5)
    num_held, num_sets = 0, 100
    for dataset in range(num_sets):
        bootstrap = Bootstrap(num_resamples=300, seed=dataset)
        ease_N, lucky_S1 = rng.random(NUM_IDS), rng.normal(0, 0.05, (3, 1))
        rates = {"zero": 0.3, "ours": 0.6, "full": 0.7}  # the true share is 75 %
        sides = {}
        for name, rate in rates.items():
            seeds_S1 = lucky_S1 * (name != "zero")
            right_SN = ease_N < np.clip(rate + seeds_S1 + rng.normal(0, 0.02, (3, 1)) * (name != "zero"), 0, 1)
            sides[name] = [drawn(bootstrap, sample(right_SN.astype(float)))]
        value, low, high = bootstrap.share(sides["ours"], sides["full"], sides["zero"])
        gains = [float((sides[n][0].scores - sides["zero"][0].scores).mean()) for n in ("ours", "full")]
        assert value == pytest.approx(100 * gains[0] / gains[1])
        assert low is not None and high is not None and low <= value <= high
        num_held += low <= 75 <= high
    assert num_held >= 0.9 * num_sets


def test_a_share_of_itself_is_all_of_it_and_of_nothing_has_no_interval() -> None:
    bootstrap = Bootstrap(num_resamples=200)
    zero, full = ([drawn(bootstrap, sample([[float(i % n == 0) for i in range(60)]] * 2))] for n in (5, 2))
    assert bootstrap.share(full, full, zero) == (100.0, pytest.approx(100.0), pytest.approx(100.0))
    _, low, high = bootstrap.share(full, zero, zero)
    assert (low, high) == (None, None)
