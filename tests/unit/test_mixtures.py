"""Mixtures as data: what people write, what is hashed, who gets which steps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters_xling import grid, recipes, spec, tasks
from adapters_xling.errors import ConfigError, UnknownName
from adapters_xling.grid import Mix
from adapters_xling.grid.mixing import mixture_of
from adapters_xling.methods import resolve
from adapters_xling.spec import Fresh, Mixture, Part, Proportional, RunSpec, Temperature, Uniform
from adapters_xling.steps import shares, total_steps
from adapters_xling.training import pick

BACKBONE = spec.BackboneId(name="xlmr-nano", repo="xlmr-nano", revision=None, digest="0" * 64)
PART = Part(batch_size=4, accumulate=2, max_length=64, dev_examples=8, max_train_examples=0)


def run_of(mixture: Mixture, **changes: Any) -> RunSpec:
    settings = recipes.resolve_recipe(grid.recipes(), "nano", method="lora", kind="", overrides=changes, mixture=True)
    return RunSpec(
        backbone=BACKBONE,
        tasks=tuple(spec.TaskRef(name=name, digest="1" * 64) for name in sorted(mixture.parts)),
        method=spec.MethodSpec(name="lora"),
        recipe=settings,
        mixture=mixture,
    )


@pytest.mark.parametrize(
    ("sampling", "sizes", "wanted"),
    [
        (Proportional(cap=0), {"a": 300, "b": 100}, {"a": 0.75, "b": 0.25}),
        (Proportional(cap=100), {"a": 300, "b": 100}, {"a": 0.5, "b": 0.5}),
        (Proportional(), {"a": 392_702, "b": 131_072 // 2}, {"a": 2 / 3, "b": 1 / 3}),
        (Uniform(), {"a": 300, "b": 100}, {"a": 0.5, "b": 0.5}),
        (Temperature(temperature=2, cap=0), {"a": 900, "b": 100}, {"a": 0.75, "b": 0.25}),
        (Temperature(temperature=1), {"a": 300, "b": 100}, {"a": 0.75, "b": 0.25}),
    ],
)
def test_samplings_divide_the_steps_as_they_say(sampling: Any, sizes: dict[str, int], wanted: dict[str, float]) -> None:
    run = run_of(Mixture(sampling=sampling, parts=dict.fromkeys(sizes, PART)))
    assert shares(run, sizes) == pytest.approx(wanted)


def test_a_rate_of_its_own_leaves_the_rest_to_the_sampling() -> None:
    mixture = Mixture(sampling=Proportional(cap=0), parts=dict.fromkeys("abc", PART), rates={"c": 0.5})
    assert shares(run_of(mixture), {"a": 300, "b": 100, "c": 9}) == pytest.approx({"a": 0.375, "b": 0.125, "c": 0.5})


def test_steps_are_drawn_with_their_rates_and_only_from_seed_and_step() -> None:
    rates = {"a": 0.6, "b": 0.3, "c": 0.1}
    drawn = [pick(rates, seed=0, step=step) for step in range(3000)]
    counts = Counter(drawn)
    assert all(abs(counts[name] / 3000 - rate) < 0.03 for name, rate in rates.items())
    assert [pick(rates, seed=0, step=step) for step in range(50, 60)] == drawn[50:60]
    assert [pick(rates, seed=1, step=step) for step in range(3000)] != drawn


def test_an_epoch_of_a_mixture_is_that_of_its_capped_tasks_and_mlm_stretches_it() -> None:
    """The rule of the paper's code: epochs × the sum of ceil(capped rows / effective batch)."""
    parts = {"a": PART, "b": msgspec.structs.replace(PART, batch_size=8)}
    sizes = {"a": 1001, "b": 330}
    capped = run_of(Mixture(sampling=Proportional(cap=500), parts=parts), max_steps=0, epochs=3)
    assert total_steps(capped, sizes) == 3 * (63 + 21)
    beside = Mixture(sampling=Proportional(cap=500), parts={**parts, "mlm": PART}, rates={"mlm": 0.5})
    assert total_steps(run_of(beside, max_steps=0, epochs=3), {**sizes, "mlm": 10**6}) == 2 * 3 * (63 + 21)
    assert total_steps(run_of(beside, max_steps=7), {**sizes, "mlm": 10**6}) == 7


def test_a_task_beside_masked_lm_text_has_the_epochs_that_it_has_alone() -> None:
    """Nothing is sampled there, so the cap of sampling does not shorten them: QQP's three epochs of 363,846 rows."""
    specs = [tasks.get(name) for name in ("qqp", "wiki-mlm")]
    recipe, mixture = mixture_of(
        specs, Mix(rates={"wiki-mlm": 0.5}), grid.recipes(), "paper-intermediate", method="full"
    )
    alone, none = mixture_of(specs[:1], Mix(), grid.recipes(), "paper-intermediate", method="full")
    assert mixture is not None and none is None and mixture.sampling == Uniform()
    run = msgspec.structs.replace(run_of(mixture), recipe=recipe)
    assert total_steps(run, {"qqp": 363_846, "wiki-mlm": 10**7}) == 2 * alone.steps(363_846) == 2 * 45_483


@pytest.mark.parametrize(
    ("text", "sampling"),
    [
        ("proportional", Proportional()),
        ("proportional:500", Proportional(cap=500)),
        ("uniform", Uniform()),
        ("temperature:2", Temperature(temperature=2)),
        ("temperature:1.5:0", Temperature(temperature=1.5, cap=0)),
    ],
)
def test_what_people_write_is_read(text: str, sampling: Any) -> None:
    assert Mix.parse(text).sampling == sampling


@pytest.mark.parametrize(
    "text", ["uniform:3", "temperature", "temperature:0", "temperature:nan", "proportional:1.5", "proportional:-1"]
)
def test_numbers_that_cannot_be_used_are_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ConfigError, match="forms: proportional, proportional:<cap>"):
        Mix.parse(text)


def test_an_unknown_sampling_offers_the_closest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'proportional'"):
        Mix.parse("proportionl")


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ({"a": 0.5, "b": 0.5}, "leave no step to c"),
        ({"a": 0.5, "b": 0.2, "c": 0.2}, "make 0.9, for all tasks together they must make 1"),
        ({"a": 1.5}, "above 0 and below 1"),
        ({"aa": 0.5}, "unknown task with a rate 'aa'"),
    ],
)
def test_rates_that_do_not_fit_are_refused(rates: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Mixture(sampling=Uniform(), parts=dict.fromkeys("abc", PART), rates=rates)


def nano(*names: str, mix: Mix | None = None, **overrides: Any) -> RunSpec:
    specs = [tasks.get(name) for name in names]
    return grid.make_run(specs, resolve("lora"), backbone=BACKBONE_ID, recipe="nano", mix=mix, overrides=overrides)


BACKBONE_ID = spec.BackboneId(name="xlmr-nano", repo="xlmr-nano", revision=None, digest=None)


def test_a_mixture_has_one_key_whatever_the_order_of_its_tasks_and_every_part_of_it_counts() -> None:
    one = nano("mini-pos", "mini-nli")
    assert spec.key(one) == spec.key(nano("mini-nli", "mini-pos"))
    assert one.task == "mini-nli+mini-pos"
    others = [
        nano("mini-pos", "mini-nli", "mini-ner"),
        nano("mini-pos", "mini-nli", mix=Mix.parse("uniform")),
        nano("mini-pos", "mini-nli", mix=Mix.parse("proportional:50")),
        nano("mini-pos", "mini-nli", mix=Mix(rates={"mini-pos": 0.3})),
        nano("mini-pos", "mini-nli", batch_size=7),
    ]
    assert len({spec.key(run) for run in (one, *others)}) == 6
    again = spec.decode(RunSpec, msgspec.json.decode(msgspec.json.encode(one)), "test")
    assert spec.key(again) == spec.key(one)


def test_all_rates_given_make_one_key_whatever_the_sampling() -> None:
    rates = {"mini-nli": 0.25, "mini-pos": 0.75}
    assert len({spec.key(nano(*rates, mix=Mix.parse(text, rates))) for text in ("uniform", "proportional")}) == 1


def test_what_concerns_rows_is_each_tasks_own_and_the_rest_is_shared() -> None:
    run = nano("mini-choice", "mini-nli")
    assert run.mixture is not None
    assert (run.recipe_for("mini-choice").batch_size, run.recipe_for("mini-nli").batch_size) == (16, 32)
    assert run.recipe_for("mini-choice").learning_rate == run.recipe_for("mini-nli").learning_rate
    assert run.recipe.max_steps == 400
    assert run.recipe_for("another").batch_size == run.recipe.batch_size


def test_mlm_beside_one_task_leaves_that_tasks_recipe_as_it_is() -> None:
    alone = grid.make_run(tasks.get("mini-nli"), resolve("lora"), backbone=BACKBONE_ID, recipe="nano")
    beside = nano("mini-nli", "mini-mlm", mix=Mix(rates={"mini-mlm": 0.5}))
    assert beside.recipe == alone.recipe
    assert beside.recipe_for("mini-nli") == alone.recipe
    assert alone.mixture is None
    assert '"mixture"' not in spec.canonical_json(alone)


def test_a_task_twice_or_a_mix_of_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="each task once"):
        nano("mini-nli", "mini-nli")
    with pytest.raises(ConfigError, match="two tasks or more"):
        nano("mini-nli", mix=Mix())


def test_a_grid_may_name_a_mixture_as_intermediate(tmp_path: Path) -> None:
    path = tmp_path / "mixed.yaml"
    path.write_text(
        """
title: mixed
backbone: xlmr-nano
recipe: nano
methods: {lora: {}, full: {}}
intermediate:
  - none
  - mini-nli
  - {name: all, tasks: [mini-pos, mini-nli], mix: "temperature:2"}
  - {name: nli-mlm, tasks: [mini-nli, mini-mlm], rates: {mini-mlm: 0.5}}
targets: [mini-ner]
floors: []
"""
    )
    plan = grid.expand(grid.load_grid(str(path)))
    assert len(plan.runs) == 2 * (1 + 3 * 2)
    mixtures = [run for run in plan.runs.values() if run.mixture]
    assert {run.task for run in mixtures} == {"mini-nli+mini-pos", "mini-mlm+mini-nli"}
    assert all(run.lm_head for run in mixtures if "mini-mlm" in run.task)
    children = [run for run in plan.runs.values() if run.init != Fresh()]
    assert {plan.runs[run.parents[0]].task for run in children} >= {"mini-nli+mini-pos", "mini-mlm+mini-nli"}
    narrowed = grid.load_grid(str(path), narrow={"intermediate": ["all"]})
    assert [getattr(one, "name", one) for one in narrowed.intermediate] == ["all"]


def test_anli_plus_is_three_tasks_on_one_head() -> None:
    specs = [tasks.get(name) for name in ("snli", "mnli", "anli")]
    assert {(one.head_name, one.labels) for one in specs} == {("nli", ("entailment", "neutral", "contradiction"))}
    recipe, mixture = mixture_of(sorted(specs, key=lambda s: s.name), Mix(), grid.recipes(), "paper", method="full")
    assert mixture is not None
    assert mixture.sampling == Proportional(cap=131_072)
    assert recipe.learning_rate == 1e-5
