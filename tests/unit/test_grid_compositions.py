"""Compositions in a grid: which runs they become, which method is left out of which, and what a mistake says."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import msgspec
import pytest

from adapters_xling import grid
from adapters_xling.errors import ConfigError, UnknownName
from adapters_xling.evaluation import labels_of
from adapters_xling.grid.spec import Composed, Intermediate
from adapters_xling.spec import Fresh, RunSpec, Slot, Warm, named, outline
from adapters_xling.zoo import Zoo


def expanded(**changes: Any) -> tuple[grid.Plan, list[str]]:
    spec = msgspec.structs.replace(grid.load_grid("compositions"), **changes)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plan = grid.expand(spec)
    return plan, [str(warning.message) for warning in caught]


def composed(plan: grid.Plan) -> list[RunSpec]:
    return [run for run in plan.runs.values() if len(run.parents) == 2]


def test_the_shipped_grid_has_every_composition_for_every_method_that_can() -> None:
    plan, left_out = expanded()
    found = Counter((run.method.name, outline(run.init), outline(run.route)) for run in composed(plan))
    both = 2  # targets
    assert found == {
        ("full", "average", "slot"): both,
        ("full", "arithmetic 1 1", "slot"): both,
        ("full", "ties", "slot"): both,
        ("bottleneck", "average", "slot"): both,
        ("bottleneck", "fresh", "stack(average)"): both,
        ("bottleneck", "fresh", "stack"): both,
        ("bottleneck", "fresh", "fuse"): both,
        ("lora", "average", "slot"): both,
        ("lora", "arithmetic 1 1", "slot"): both,
        ("lora", "ties", "slot"): both,
        ("lora", "fresh", "stack(average)"): both,
        ("lora", "fresh", "stack"): both,
        ("lora", "fresh", "fuse"): both,
    }
    assert len(left_out) == 5  # full: three routes; bottleneck: sums that do not make 1, and ties
    assert sum("method 'full' cannot" in one for one in left_out) == 3
    keys = list(plan.runs)
    for run in composed(plan):
        assert all(
            keys.index(parent) < keys.index(next(k for k, r in plan.runs.items() if r is run)) for parent in run.parents
        )
        assert {plan.runs[parent].task for parent in run.parents} == {"mini-nli", "mini-pos"}
        assert {plan.runs[parent].method.name for parent in run.parents} == {run.method.name}
        if run.method.name == "lora":
            assert run.method.settings["r"] == (16 if named(run.init) else 8)


def test_a_grid_without_compositions_is_what_it_was() -> None:
    plan, left_out = expanded(compositions=())
    assert not composed(plan) and not left_out
    more, _ = expanded()
    assert set(plan.runs) < set(more.runs)


def test_tables_tell_compositions_apart_and_name_both_tasks(tmp_path: Any) -> None:
    plan, _ = expanded()

    class Card:
        def __init__(self, run: RunSpec) -> None:
            self.run, self.heads = run, {"mini-ner": None}

    class Known:
        def __contains__(self, key: object) -> bool:
            return True

        def get(self, key: str, *, verify: bool) -> Any:
            entry = type("Entry", (), {})()
            entry.card = Card(plan.runs[key])
            return entry

    from adapters_xling import tasks

    zoo: Zoo = Known()  # type: ignore[assignment]
    ner = tasks.get("mini-ner")
    rows = [
        tuple(labels_of(Card(run), ner, zoo=zoo).values())  # type: ignore[arg-type]
        for run in plan.runs.values()
        if run.task == "mini-ner"
    ]
    assert len(set(rows)) == len(rows)
    together = {row for row in rows if "+" in str(row)}
    assert len(together) == 13 and all("mini-nli+mini-pos" in row for row in together)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"warm": "average(mini-nli, mini-pso)"}, "Did you mean 'mini-pos'"),
        ({"warm": "fuse(mini-nli, mini-pos)"}, "is a route"),
        ({"on": "fuse(mini-nli)"}, "two entries or more"),
        ({}, "either"),
        ({"warm": "mini-nli", "on": "mini-nli"}, "either"),
    ],
)
def test_a_composition_that_means_nothing_is_refused(change: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        expanded(compositions=(Composed(**change),))


def test_one_entry_may_be_named_alone() -> None:
    assert Composed(warm="a").way({"a": "key"}) == (Warm(entry="key"), Slot())
    assert Composed(on="base").way({}) == (Fresh(), Slot())


def test_a_grid_that_is_narrowed_leaves_out_compositions_of_what_is_gone() -> None:
    with pytest.warns(UserWarning, match="left out with the intermediate tasks that they name: average"):
        spec = grid.load_grid("compositions", narrow={"intermediate": ["mini-nli"]})
    assert spec.compositions == () and grid.expand(spec).runs
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = grid.load_grid("compositions", narrow={"intermediate": ["none", "mini-nli", "mini-pos"]})
    assert whole.compositions == grid.load_grid("compositions").compositions != ()


def test_rows_at_once_of_a_task_that_nobody_knows_are_refused() -> None:
    with pytest.raises(UnknownName, match=r"rows_at_once: unknown task 'mini-nerr'\. Did you mean 'mini-ner'"):
        expanded(rows_at_once={"mini-nerr": 4})
    expanded(rows_at_once={"mini-ner": 4})


def test_rows_at_once_hold_for_a_task_in_one_language_and_not_under_a_name_that_trains_nothing() -> None:
    mlm = Intermediate(name="mlm-de", tasks=("mini-mlm.de",))
    plan, _ = expanded(compositions=(), intermediate=("none", mlm), rows_at_once={"mini-mlm": 4, "mini-ner": 8})
    usual, _ = expanded(compositions=(), intermediate=("none", mlm))
    for task, rows in (("mini-mlm.de", 4), ("mini-ner", 8)):
        found, whole = (
            {(one.recipe.batch_size, one.recipe.accumulate) for one in p.runs.values() if one.task == task}
            for p in (plan, usual)
        )
        assert found == {(rows, size * pieces // rows) for size, pieces in whole}
    with pytest.raises(ConfigError, match=r"rows_at_once: target 'xnli' trains on the rows of 'mnli'"):
        expanded(compositions=(), targets=("xnli",), rows_at_once={"xnli": 4})


def test_an_intermediate_step_of_one_task_has_nothing_to_share_and_no_second_name() -> None:
    for given in ({"rates": {"mini-mlm": 0.5}}, {"mix": "uniform"}):
        alone = Intermediate(name="nli-mlm", tasks=("mini-nli",), **given)
        with pytest.raises(ConfigError, match="'nli-mlm' has one task, mini-nli, and says how several share"):
            expanded(compositions=(), intermediate=("none", alone))
    same = Intermediate(name="same", tasks=("mini-nli",))
    with pytest.raises(ConfigError, match="'mini-nli' and 'same' are the same run"):
        expanded(compositions=(), intermediate=("none", "mini-nli", same))
    renamed, _ = expanded(compositions=(), intermediate=("none", same))
    assert set(renamed.mixtures.values()) == {"same"}


def test_runs_that_start_their_pooler_from_several_entries_are_told_from_those_made_under_the_old_rule() -> None:
    plan, _ = expanded()
    for run in composed(plan):
        side_by_side = outline(run.route) in ("stack(average)", "fuse")
        pooled = run.task == "mini-choice"
        assert run.algorithm == (2 if side_by_side and pooled else 1), (run.task, outline(run.init), outline(run.route))
    assert {run.algorithm for run in plan.runs.values() if len(run.parents) < 2} == {1}
    plan, _ = expanded(overrides={"carry": "none"})
    assert {run.algorithm for run in plan.runs.values()} == {1}
