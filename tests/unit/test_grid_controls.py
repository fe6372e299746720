"""Controls at equal total steps: one per run with a parent, as many steps as both, and no other key moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters_xling import tasks
from adapters_xling.errors import ConfigError
from adapters_xling.grid import expand, load_grid
from adapters_xling.grid.controls import equal_steps, planned_steps
from adapters_xling.spec import Fresh, Mixture, Part, Proportional, Recipe, RunSpec, Slot, TaskRef, key


def grid(**changes: Any) -> Any:
    return msgspec.structs.replace(load_grid("quickstart"), **changes)


def test_each_run_with_a_parent_has_a_fresh_control_with_the_steps_of_both() -> None:
    plan = expand(grid(controls=("equal-steps",), transfer=("warm", "stack")))
    children = [name for name, run in plan.runs.items() if run.parents]
    assert set(plan.controls) == set(children)
    for child, control in plan.controls.items():
        run, other = plan.runs[child], plan.runs[control]
        (parent,) = run.parents
        assert other.recipe.max_steps == run.recipe.max_steps + plan.runs[parent].recipe.max_steps
        assert (other.init, other.route, other.parents) == (Fresh(), Slot(), ())
        assert (other.tasks, other.method, other.seed) == (run.tasks, run.method, run.seed)
        assert any(cell.name == control for cell in plan.cells)
    # warm and stacked children of one parent share their control
    assert len(set(plan.controls.values())) < len(plan.controls)


def test_a_grid_without_controls_has_the_runs_it_had() -> None:
    without, with_them = expand(grid()), expand(grid(controls=("equal-steps",)))
    assert not without.controls
    added = set(with_them.runs) - set(without.runs)
    assert added == set(with_them.controls.values())
    assert set(without.runs) <= set(with_them.runs)


def test_an_unknown_control_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(
        "title: t\nbackbone: xlmr-nano\nrecipe: nano\nmethods: {lora: {}}\nintermediate: [none]\ntargets: [mini-ner]\n"
        "controls: [equal-time]\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError, match=r"equal-time.*controls\[0\]"):
        load_grid(str(path))


RECIPE = Recipe(
    learning_rate=1e-5,
    batch_size=32,
    epochs=3,
    max_steps=0,
    max_length=128,
    accumulate=1,
    warmup=0.1,
    weight_decay=0.0,
    adam_epsilon=1e-8,
    clip_norm=1.0,
    dropout=0.0,
    precision="fp32",
    eval_every_steps=10,
    patience=0,
    dev_examples=0,
    max_train_examples=0,
    pooling="first",
    carry="none",
)


def run(*names: str, mixture: Mixture | None = None, **recipe: Any) -> RunSpec:
    example = next(iter(expand(grid()).runs.values()))
    return msgspec.structs.replace(
        example,
        tasks=tuple(TaskRef(name=name, digest="0") for name in names),
        recipe=msgspec.structs.replace(RECIPE, **recipe),
        mixture=mixture,
    )


def test_epochs_are_rounded_up_to_at_least_the_parents_steps() -> None:
    # COPA: 400 rows, 13 steps an epoch; Social IQa: 33,410 rows, 1,045 steps an epoch, 3 of them
    own, parent = run("copa"), run("siqa")
    assert planned_steps(own, task=tasks.get) == 3 * 13
    assert planned_steps(parent, task=tasks.get) == 3 * 1045
    control = equal_steps(own, [parent], task=tasks.get)
    assert control.recipe.epochs == 3 + 242  # 3,135 / 13 = 241.2
    assert 39 + 3135 <= planned_steps(control, task=tasks.get) < 39 + 3135 + 13


def test_a_cap_on_rows_and_a_mixture_count_as_training_counts_them() -> None:
    assert planned_steps(run("siqa", max_train_examples=320), task=tasks.get) == 3 * 10
    part = Part(**{name: getattr(RECIPE, name) for name in Part.__struct_fields__})
    both = Mixture(sampling=Proportional(cap=1000), parts={"siqa": part, "copa": part}, rates={})
    # capped at 1,000 rows: 32 steps; 400 rows: 13
    assert planned_steps(run("copa", "siqa", mixture=both), task=tasks.get) == 3 * (32 + 13)
    stretched = Mixture(sampling=Proportional(cap=1000), parts={"siqa": part, "copa": part}, rates={"copa": 0.5})
    assert planned_steps(run("copa", "siqa", mixture=stretched), task=tasks.get) == 3 * 32 * 2


def test_epochs_of_a_task_that_does_not_say_its_rows_are_refused_with_a_way_out() -> None:
    with pytest.raises(ConfigError, match=r"mini-ner.*max_steps"):
        equal_steps(run("mini-ner"), [run("siqa")], task=tasks.get)


def test_the_control_of_a_run_is_no_run_that_is_there_already() -> None:
    plan = expand(grid(controls=("equal-steps",)))
    assert not set(plan.controls) & set(plan.controls.values())
    assert all(key(plan.runs[name]) == name for name in plan.controls.values())


def test_rows_of_a_task_with_a_rate_of_its_own_need_not_be_known() -> None:
    """Masked-LM text beside a task stretches the run by its rate, however many lines there are."""
    plan = expand(
        msgspec.structs.replace(
            load_grid("mlm", narrow={"methods": ["lora"], "intermediate": ["none", "mnli-mlm"]}),
            controls=("equal-steps",),
        )
    )
    child = next(name for name in plan.controls if plan.runs[name].task == "udpos")
    (parent,) = plan.runs[child].parents
    assert {ref.name for ref in plan.runs[parent].tasks} > {"wiki-mlm"}
    assert plan.runs[plan.controls[child]].recipe.epochs > plan.runs[child].recipe.epochs
