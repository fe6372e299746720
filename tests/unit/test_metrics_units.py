"""Every metric can be taken apart: the sums of what each example adds give the score again."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters_xling import metrics
from adapters_xling.errors import DataError
from adapters_xling.metrics import Outcomes, decode_outcomes

WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "a", ".", "una", "El", "die", "北京", "mat"]), max_size=4)
TEXT = WORDS.map(" ".join)
LABEL = st.sampled_from(["0", "1"])
IDS = [f"c{i}" for i in range(8)]
RANKING = st.lists(st.tuples(st.sampled_from(IDS), st.integers(-4, 4).map(float)), max_size=30).map(
    lambda hits: tuple(sorted(hits, key=lambda hit: -hit[1]))
)
MATCHES = st.lists(st.sampled_from(IDS), max_size=3, unique=True).map(tuple)


def tags(names: list[str]) -> st.SearchStrategy[Any]:
    """Gold and predicted tags of one sentence, equally many."""
    pair = st.tuples(st.sampled_from(names), st.sampled_from(names))
    return st.lists(pair, max_size=6).map(lambda pairs: tuple(zip(*pairs, strict=True)) or ((), ()))


ROWS: dict[str, st.SearchStrategy[Any]] = {
    "accuracy": st.tuples(LABEL, LABEL),
    "accuracy_f1": st.tuples(LABEL, LABEL),
    "masked_accuracy": st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=5).map(lambda p: ("", p)),
    "tag_accuracy": tags(["NOUN", "SYM", "SCONJ"]),
    "tag_f1": tags(["NOUN", "SYM", "SCONJ", "CCONJ"]),
    "span_f1": tags(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]),
    "squad": st.tuples(st.lists(TEXT, max_size=3), st.none() | TEXT),
    "squad2": st.tuples(st.lists(TEXT, max_size=3), st.none() | TEXT),
    "mlqa": st.tuples(st.lists(TEXT, max_size=3), st.none() | TEXT),
    "retrieval_accuracy": st.tuples(MATCHES.filter(bool), RANKING),
    "mrr": st.tuples(MATCHES.filter(bool), RANKING),
    "mrr20": st.tuples(MATCHES.filter(bool), RANKING),
    "map20": st.tuples(MATCHES.filter(bool), RANKING),
    "kept_f1": st.tuples(MATCHES, RANKING),
    "mining_f1": st.tuples(MATCHES, RANKING),
    "mining_oracle_f1": st.tuples(MATCHES, RANKING),
}
"""What one row of each metric may be: (gold, prediction)."""


def aligned(name: str, rows: list[Any]) -> tuple[list[Any], list[Any]]:
    """Golds and predictions; a ranking's gold carries the query's id."""
    golds, predictions = [gold for gold, _ in rows], [predicted for _, predicted in rows]
    if "retrieve" in metrics.kinds(name):
        golds = [(f"q{i}", gold) for i, gold in enumerate(golds)]
    return golds, predictions


def test_every_metric_is_among_those_taken_apart() -> None:
    assert set(ROWS) == set(metrics.names())


@pytest.mark.parametrize("name", metrics.names())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_sums_of_the_units_give_the_score(name: str, data: st.DataObject) -> None:
    language = data.draw(st.sampled_from(["en", "es", "zh", "de"]))
    golds, predictions = aligned(name, data.draw(st.lists(ROWS[name], min_size=1, max_size=12)))
    metric = metrics.get(name)
    try:
        wanted = metric(golds, predictions, language)
    except DataError:  # undefined on these rows: combining must say so too, where it can be asked
        return
    ids = [str(i) for i in range(len(golds))]
    found = Outcomes.of([name], ids, golds, predictions, language=language)
    assert found.scores() == pytest.approx(wanted, abs=1e-9)
    assert found.metric_of(metric.main) == metric


@pytest.mark.parametrize("name", [n for n in metrics.names() if not n.startswith("mining")])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_row_that_is_drawn_twice_weighs_two(name: str, data: st.DataObject) -> None:
    """Weighted sums are what a bootstrap computes; scoring the repeated rows is what it means."""
    rows = data.draw(st.lists(ROWS[name], min_size=1, max_size=8))
    weights = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    drawn = list(itertools.chain.from_iterable([row] * times for row, times in zip(rows, weights, strict=True)))
    metric = metrics.get(name)
    try:
        wanted = metric(*aligned(name, drawn), "en")
        units = metric.units(*aligned(name, rows), "en")
    except DataError:
        return
    sums = {column: np.dot(weights, values) for column, values in units.items()} | {"num": sum(weights)}
    found = {score: float(value) for score, value in metric.combine(sums).items() if np.isfinite(value)}
    assert found == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("name", metrics.names())
def test_sums_may_be_arrays_of_any_shape(name: str) -> None:
    metric = metrics.get(name)
    golds, predictions = {
        "sentence": (["1", "0"], ["1", "1"]),
        "tag": ([("B-PER", "O"), ("B-LOC",)], [("B-PER", "O"), ("O",)]),
        "span": ([("a cat",), ()], ["cat", "dog"]),
        "mlm": ([(5, 6)], [((5, 5), (6, 7))]),
        "retrieve": (
            [(f"q{i}", (f"c{i}",)) for i in range(20)],
            [((f"c{i}", 1.0),) if i % 2 else (("x", 0.5),) for i in range(20)],
        ),
    }[min(metrics.kinds(name) - {"choice"})]
    units = metric.units(golds, predictions, "en")
    sums = {column: np.full((3, 2), sum(values)) for column, values in units.items()} | {
        "num": np.full((3, 2), len(golds))
    }
    for score, value in metric.combine(sums).items():
        assert value.shape == (3, 2)
        one = metric(golds, predictions, "en").get(score)
        assert np.isnan(value).all() if one is None else np.allclose(value, one)


def test_without_any_gold_pair_or_chunk_a_resample_has_no_score() -> None:
    for name in ("span_f1", "tag_f1", "kept_f1", "mining_f1", "mining_oracle_f1"):
        scores = metrics.get(name).combine({"correct": 0, "predicted": 3, "gold": 0, "num": 5})
        assert all(np.isnan(value) for value in scores.values())


# --- the file ---------------------------------------------------------------------------------------------------


def sample() -> Outcomes:
    golds, predictions = [("a cat",), ("the mat",), ("x",)], ["cat sat", "mat", None]
    return Outcomes.of(["squad", "mlqa"], ["1", "2", "ü"], golds, predictions, language="de", parallel=True)


def test_outcomes_survive_the_file_and_keep_fractions_exactly() -> None:
    back, identity = decode_outcomes(sample().encode("abc"), Path("x"))
    assert identity == "abc"
    assert (back.ids, back.language, back.parallel) == (("1", "2", "ü"), "de", True)
    assert back.units["squad"]["overlap"].tolist() == sample().units["squad"]["overlap"].tolist() == [2 / 3, 1.0, 0.0]
    assert back.scores() == sample().scores()
    assert back.golds == sample().golds and len(set(back.golds)) == 3


def test_a_score_that_no_metric_gives_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        sample().metric_of("accuracy")
    assert sample().metric_of("f1").name == "squad"  # as in a score file, the first one stands


@pytest.mark.parametrize("harm", ["half", "line", "number", "text", "golds", "empty"])
def test_a_file_that_is_cut_or_does_not_add_up_is_refused(harm: str, tmp_path: Path) -> None:
    lines = sample().encode("abc").splitlines(keepends=True)
    harmed = {
        "half": b"".join(lines)[:-9],
        "line": b"".join(lines[:-1]),
        "number": b"".join([*lines[:-1], b'["\xc3\xbc",0,0,0]\n']),
        "text": b"".join([*lines[:-1], b'["\xc3\xbc",0,0,0,"a"]\n']),
        "golds": re.sub(rb'("golds":")....', rb"\1", b"".join(lines)),
        "empty": b"",
    }[harm]
    with pytest.raises(DataError, match=r"x\.jsonl: these are no outcomes.*evaluating again"):
        decode_outcomes(harmed, tmp_path / "x.jsonl")


def test_an_id_that_occurs_twice_is_refused() -> None:
    with pytest.raises(DataError, match="id 'b' occurs twice among 3 rows"):
        Outcomes.of(["accuracy"], ["a", "b", "b"], ["1"] * 3, ["1"] * 3, language="de")
