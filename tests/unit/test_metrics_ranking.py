"""Retrieval and mining scores against sums worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters_xling import metrics
from adapters_xling.errors import DataError


def score(name: str, golds: list, predictions: list) -> dict[str, float]:
    return metrics.get(name)(golds, predictions, "de")


def test_retrieval_accuracy_looks_at_the_first_hit_only() -> None:
    golds = [("q1", ("a",)), ("q2", ("b", "c")), ("q3", ("d",)), ("q4", ("e",))]
    hits = [(("a", 0.9),), (("c", 0.9), ("b", 0.8)), (("x", 0.9), ("d", 0.8)), ()]
    assert score("retrieval_accuracy", golds, hits) == {"accuracy": 50.0}


@pytest.mark.parametrize("name", ["retrieval_accuracy", "mrr", "map20"])
def test_a_query_without_match_cannot_be_ranked(name: str) -> None:
    with pytest.raises(DataError, match="'q7' has no match"):
        score(name, [("q7", ())], [(("a", 1.0),)])


def test_mrr_is_the_mean_of_one_over_the_first_right_rank() -> None:
    golds = [("q1", ("a",)), ("q2", ("b",)), ("q3", ("c",))]
    hits = [(("x", 3), ("a", 2)), (("b", 3),), (("x", 3), ("y", 2))]
    assert score("mrr", golds, hits)["mrr"] == pytest.approx(100 * (1 / 2 + 1 + 0) / 3)


def test_map20_divides_by_what_could_be_found_in_twenty() -> None:
    # matches a, b at ranks 1 and 3: (1/1 + 2/3) / 2
    assert score("map20", [("q", ("a", "b"))], [(("a", 3), ("x", 2), ("b", 1))])["map20"] == pytest.approx(250 / 3)
    # 21st rank does not count
    hits = (*((f"x{i}", -i) for i in range(20)), ("a", -99))
    assert score("map20", [("q", ("a",))], [hits])["map20"] == 0.0


def test_map20_finds_a_hit_once_however_often_it_is_listed() -> None:
    # a at rank 1 (again at 2), b at rank 3: (1/1 + 2/3) / 2, never more than 100
    assert score("map20", [("q", ("a", "b"))], [(("a", 3), ("a", 2), ("b", 1))])["map20"] == pytest.approx(250 / 3)
    assert score("map20", [("q", ("a",))], [(("a", 3), ("a", 2))])["map20"] == 100


def test_mrr20_stops_at_twenty_and_mrr_does_not() -> None:
    hits = (*((f"x{i}", -i) for i in range(20)), ("a", -99))
    assert score("mrr", [("q", ("a",))], [hits])["mrr"] == pytest.approx(100 / 21)
    assert score("mrr20", [("q", ("a",))], [hits])["mrr20"] == 0
    assert score("mrr20", [("q", ("a", "x19"))], [hits])["mrr20"] == pytest.approx(5)


def test_pair_f1_counts_what_both_sets_hold() -> None:
    # 2 of 4 predicted, 3 gold: P 1/2, R 2/3, F1 4/7
    found = metrics.pair_f1({(1, 1), (2, 2), (3, 3)}, {(1, 1), (2, 2), (3, 1), (4, 4)})
    assert found == pytest.approx({"precision": 50, "recall": 200 / 3, "f1": 400 / 7})
    assert metrics.pair_f1({(1, 1)}, set())["f1"] == 0


def test_the_best_threshold_lies_halfway_to_the_next_candidate() -> None:
    # right at .9, wrong at .7, right at .5, wrong at .1; two gold pairs.
    # keep 1: F1 2/3; keep 2: 2*1/4; keep 3: 2*2/5 = .8; keep 4: 4/6. Best: three, cut at (.5 + .1) / 2
    threshold, f1 = metrics.best_threshold([0.1, 0.9, 0.5, 0.7], [False, True, True, False], num_gold=2)
    assert threshold == pytest.approx(0.3)
    assert f1 == pytest.approx(80)


def test_the_best_cut_may_be_after_the_last_candidate() -> None:
    assert metrics.best_threshold([0.9, 0.4], [True, True], num_gold=2) == (0.4, 100.0)
    assert metrics.best_threshold([0.9], [True], num_gold=4) == (0.9, pytest.approx(40))


def test_candidates_of_equal_score_are_kept_or_dropped_together() -> None:
    # a cut between the two at .5 would give F1 1, but no threshold can make it
    threshold, f1 = metrics.best_threshold([0.5, 0.5], [True, False], num_gold=1)
    assert threshold == 0.5
    assert f1 == pytest.approx(200 / 3)


def test_without_candidates_nothing_is_kept_and_without_gold_there_is_no_threshold() -> None:
    assert metrics.best_threshold([], [], num_gold=3) == (float("inf"), 0.0)
    assert metrics.best_threshold([0.5], [False], num_gold=3)[0] == float("inf")
    with pytest.raises(DataError, match="no gold pair"):
        metrics.best_threshold([0.5], [False], num_gold=0)


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), max_size=12), st.integers(0, 5))
def test_no_threshold_beats_the_best_one(pairs: list[tuple[int, bool]], missing: int) -> None:
    scores, correct = [float(s) for s, _ in pairs], [c for _, c in pairs]
    num_gold = sum(correct) + missing
    if num_gold == 0:
        return

    def f1_at(threshold: float) -> float:
        kept = [c for s, c in zip(scores, correct, strict=True) if s >= threshold]
        return 200 * sum(kept) / (len(kept) + num_gold)

    threshold, f1 = metrics.best_threshold(scores, correct, num_gold=num_gold)
    assert f1_at(threshold) == pytest.approx(f1)
    assert f1 == pytest.approx(max([0.0, *(f1_at(s) for s in scores)]))


def ids(side: bool, count: int) -> list[str]:
    return [name for name in (f"de-{i}" for i in range(1000)) if metrics.held_out(name) is side][:count]


def test_mining_f1_takes_the_threshold_from_one_half_and_the_score_from_the_other() -> None:
    (d1, d2), (t1, t2, t3) = ids(False, 2), ids(True, 3)
    golds = [(d1, ("a",)), (d2, ()), (t1, ("b",)), (t2, ("c",)), (t3, ())]
    hits = [(("a", 0.9),), (("x", 0.5),), (("b", 0.8),), (("c", 0.6),), (("y", 0.71),)]
    # the first half: right at .9, wrong at .5, threshold .7. The second keeps .8 (right) and .71 (wrong), loses .6:
    # precision 1/2, recall 1/2
    assert score("mining_f1", golds, hits) == pytest.approx({"precision": 50, "recall": 50, "f1": 50})
    # the oracle sees all: .9 right, .8 right, .71 wrong, .6 right, .5 wrong; 3 gold; keep four: 2*3/7
    assert score("mining_oracle_f1", golds, hits)["oracle_f1"] == pytest.approx(600 / 7)


def test_mining_does_not_depend_on_the_order_of_queries() -> None:
    names = ids(False, 10) + ids(True, 10)
    golds = [(name, (f"c{i}",)) for i, name in enumerate(names)]
    hits = [((f"c{i}" if i % 3 else "wrong", 1 / (i % 10 + 1)),) for i in range(len(names))]
    backwards = score("mining_f1", golds[::-1], hits[::-1])
    assert score("mining_f1", golds, hits) == backwards
    assert 0 < backwards["f1"] < 100


def test_a_pair_predicted_twice_counts_once() -> None:
    (d,), (t,) = ids(False, 1), ids(True, 1)
    golds = [(d, ("a",)), (t, ("b",))]
    twice = [(("a", 0.9), ("a", 0.9)), (("b", 0.9), ("b", 0.9))]
    assert score("mining_f1", golds, twice)["f1"] == 100.0


def test_nothing_mined_scores_zero() -> None:
    (d,), (t,) = ids(False, 1), ids(True, 1)
    assert score("mining_f1", [(d, ("a",)), (t, ("b",))], [(), ()])["f1"] == 0.0


def test_mining_needs_gold_in_both_halves() -> None:
    (d,) = ids(False, 1)
    with pytest.raises(DataError, match="mining_oracle_f1"):
        score("mining_f1", [(d, ("a",))], [(("a", 0.9),)])
