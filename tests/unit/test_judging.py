"""What is said of advice in hindsight: means, intervals over tasks, and a page that says what it cannot say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from adapters_xling.judging import DRAWS, LEAST_TASKS, judge, markdown
from adapters_xling.transferability import Regret, Target, regrets

METHODS = ("full", "lora")


def matrix(tasks: int, *, seed: int = 0) -> dict[Target, dict[str, float]]:
    """Outcomes of five candidates on some tasks by two methods that agree."""
    rng = np.random.default_rng(seed)
    found = {}
    for i in range(tasks):
        row = {name: float(value) for name, value in zip("abcde", rng.uniform(40, 60, 5), strict=True)}
        found |= {Target(f"task{i}", method): row for method in METHODS}
    return found


def test_the_means_are_those_of_the_targets() -> None:
    outcome = matrix(6)
    rows = regrets(outcome, matrix(6, seed=1))
    found = judge("logme", rows)
    for k in (1, 3):
        assert found.regret[k].value == pytest.approx(np.mean([row.at[k] for row in rows]))
        assert found.chance[k].value == pytest.approx(np.mean([row.chance[k] for row in rows]))
        assert found.saved[k].value == pytest.approx(found.chance[k].value - found.regret[k].value)
    assert (found.num_tasks, len(found.rows), found.lucky.value) == (6, 12, pytest.approx(20.0))
    assert found.hits.value == pytest.approx(100 * np.mean([row.first == row.best for row in rows]))


def test_a_ranking_that_knows_everything_has_no_regret_and_one_that_knows_the_reverse_has_the_most() -> None:
    outcome = matrix(8)
    oracle = judge("oracle", regrets(outcome, outcome))
    assert {k: str(one) for k, one in oracle.regret.items()} == {1: "0.0 [0.0, 0.0]", 3: "0.0 [0.0, 0.0]"}
    assert oracle.hits.value == 100 and oracle.saved[1].low is not None and oracle.saved[1].low > 0
    reverse = {target: {name: -value for name, value in row.items()} for target, row in outcome.items()}
    worst = judge("reverse", regrets(outcome, reverse))
    assert worst.saved[1].high is not None and worst.saved[1].high < 0 and worst.hits.value == 0


def test_targets_of_one_task_count_together() -> None:
    rows = regrets(matrix(6), matrix(6, seed=1))
    one = [row for row in rows if row.target.method == "lora"]
    both, alone = judge("x", rows).regret[1], judge("x", one).regret[1]
    assert (both.low, both.high) == pytest.approx((alone.low, alone.high)), "a copy of each target is no evidence"
    means = np.array([row.at[1] for row in one])
    draws = np.random.default_rng(1).choice(means, (DRAWS, len(means))).mean(axis=1)
    assert (alone.low, alone.high) == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.2)


def test_a_few_tasks_have_no_interval_and_the_page_says_so() -> None:
    few = judge("logme", regrets(matrix(LEAST_TASKS - 1), matrix(LEAST_TASKS - 1, seed=1)))
    assert few.regret[1].low is few.saved[3].high is None and "[" not in str(few.regret[1])
    page = markdown([few], title="Judged", skipped={"kit-panx lora": "no rows"})
    assert f"No interval where there are fewer than {LEAST_TASKS} tasks." in page and "In brackets" not in page
    assert "- kit-panx lora: no rows" in page


def test_the_page_is_tables_of_one_width_and_json_has_the_same_numbers() -> None:
    judged = [judge(way, regrets(matrix(6), matrix(6, seed=seed))) for way, seed in (("logme", 1), ("probe", 2))]
    page = markdown(judged, title="Judged")
    for block in page.split("\n\n"):
        lines = block.splitlines()
        if lines[0].startswith("|"):
            assert len({line.count("|") for line in lines}) == 1 and len(lines) > 2
    assert page.startswith("# Judged\n") and page.count("## Ranked by") == 2
    assert f"| logme | 12 | 6 | {judged[0].regret[1]} |" in page
    plain = json.loads(json.dumps(judged[0].plain()))
    assert plain["regret"]["1"]["value"] == judged[0].regret[1].value and len(plain["rows"]) == 12
    assert plain["rows"][0]["target"] == "task0 full"


def test_one_candidate_more_than_k_is_enough() -> None:
    row = Regret(Target("t", "lora"), 2, {1: 5.0, 3: 0.0}, {1: 2.5, 3: 0.0}, None, "a", "b", 5.0, 1)
    assert "| t lora | 2 | a | b | 5.0 | 0.0 | 2.5 | 0.0 | · |" in markdown([judge("x", [row])], title="t")
