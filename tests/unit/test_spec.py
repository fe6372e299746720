"""Identity and strict reading: what a key depends on, and what a broken YAML says."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters_xling import recipes as recipes_module
from adapters_xling import spec, strict
from adapters_xling.errors import ConfigError, UnknownName
from adapters_xling.paths import task_configs_dir

BACKBONE = spec.BackboneId(name="xlmr-nano", repo="xlmr-nano", revision=None, digest="0" * 64)


def recipe(**changes: Any) -> spec.Recipe:
    recipes = recipes_module.load_recipes(task_configs_dir() / "recipes.yaml")
    return recipes_module.resolve_recipe(recipes, "nano", method="lora", kind="tag", overrides=changes)


def run(**changes: Any) -> spec.RunSpec:
    fields: dict[str, Any] = {
        "backbone": BACKBONE,
        "tasks": (spec.TaskRef(name="mini-pos", digest="1" * 64),),
        "method": spec.MethodSpec(name="lora", settings={"r": 8}),
        "recipe": recipe(),
    }
    return spec.RunSpec(**{**fields, **changes})


def test_the_key_of_schema_1_never_changes() -> None:
    """A frozen run whose canonical JSON and digest were written down on the first day: the migration test."""
    fixed = spec.RunSpec(
        backbone=BACKBONE,
        tasks=(spec.TaskRef(name="mini-pos", digest="1" * 64),),
        method=spec.MethodSpec(name="lora", settings={"alpha": 8.0, "r": 8}),
        recipe=spec.Recipe(
            learning_rate=3e-3, batch_size=32, epochs=10, max_steps=200, max_length=128, accumulate=1, warmup=0.1,
            weight_decay=0.01, adam_epsilon=1e-8, clip_norm=1, dropout=0, precision="fp32", eval_every_steps=50,
            patience=0, dev_examples=300, max_train_examples=0, pooling="first", carry="pooler",
        ),
        init=spec.Warm(entry="parent"),
        route=spec.Stack(parts=(spec.Use(entry="parent"), spec.Slot())),
        seed=3,
    )  # fmt: skip
    assert spec.canonical_json(fixed) == (
        '{"algorithm":1,"backbone":{"digest":"' + "0" * 64 + '","name":"xlmr-nano","repo":"xlmr-nano","revision":null},'
        '"init":{"entry":"parent","type":"warm"},"method":{"name":"lora","settings":{"alpha":8,"r":8}},'
        '"recipe":{"accumulate":1,"adam_epsilon":1e-08,"batch_size":32,"carry":"pooler","clip_norm":1,'
        '"dev_examples":300,"dropout":0,"epochs":10,"eval_every_steps":50,"learning_rate":0.003,"max_length":128,'
        '"max_steps":200,"max_train_examples":0,"patience":0,"pooling":"first","precision":"fp32","warmup":0.1,'
        '"weight_decay":0.01},"route":{"parts":[{"entry":"parent","type":"use"},{"type":"slot"}],"type":"stack"},'
        '"schema":1,"seed":3,"tasks":[{"digest":"' + "1" * 64 + '","name":"mini-pos"}]}'
    )
    assert spec.key(fixed) == "mini-pos-lora-warm-xlmr-nano-s3-22e36a00d442805d"


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"init": spec.Warm(entry="x")},
        {"route": spec.Stack(parts=(spec.Use(entry="x"), spec.Slot()))},
        {"method": spec.MethodSpec(name="lora", settings={"r": 4})},
        {"tasks": (spec.TaskRef(name="mini-pos", digest="2" * 64),)},
        {"backbone": msgspec.structs.replace(BACKBONE, digest="3" * 64)},
        {"recipe": recipe(learning_rate=1e-4)},
    ],
)
def test_everything_that_can_change_the_result_changes_the_key(changes: dict[str, Any]) -> None:
    assert spec.key(run(**changes)) != spec.key(run())


def test_a_field_added_later_keeps_old_keys_at_its_old_value(monkeypatch: pytest.MonkeyPatch) -> None:
    before = spec.digest(run())
    monkeypatch.setitem(spec.LATER_FIELDS, ("RunSpec", "seed"), 0)
    assert spec.digest(run()) != before  # seed 0 is left out now …
    assert '"seed"' not in spec.canonical_json(run())
    assert '"seed":1' in spec.canonical_json(run(seed=1))  # … and any other value is not


def test_a_name_that_cannot_be_is_told_in_words() -> None:
    with pytest.raises(ConfigError, match=r"here: a name is of lower-case letters.* \(field `name`\)"):
        spec.decode(spec.TaskSpec, {"name": "My Task"}, "here")


def test_a_run_survives_json() -> None:
    one = run(init=spec.Warm(entry="a"), route=spec.Stack(parts=(spec.Use(entry="a"), spec.Slot())))
    two = spec.decode(spec.RunSpec, msgspec.json.decode(msgspec.json.encode(one)), "test")
    assert two == one
    assert spec.key(two) == spec.key(one)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", "not valid YAML"),
        ("a: 1\na: 2", "given twice"),
        ("a: !!python/object/apply:os.system [ls]", "not valid YAML"),
    ],
)
def test_broken_yaml_names_the_file_and_the_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        spec.read_yaml(path)
    assert "broken.yaml:" in str(caught.value)


def test_yaml_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("a: é".encode("latin-1"))
    with pytest.raises(ConfigError, match="UTF-8"):
        spec.read_yaml(path)


def test_norwegian_is_not_false(tmp_path: Path) -> None:
    path = tmp_path / "codes.yaml"
    path.write_text("languages: [no, on, yes]\nflag: true\n")
    assert spec.read_yaml(path) == {"languages": ["no", "on", "yes"], "flag": True}


def test_numbers_with_an_exponent_are_numbers_and_such_texts_stay_texts(tmp_path: Path) -> None:
    path = tmp_path / "rates.yaml"
    path.write_text("rates: [1e-4, 2E3, -1.5e2, .5e1, 1.0e-8]\ntexts: ['1e5', e5, 1e, 1e5x]\n")
    found = spec.read_yaml(path)
    assert found == {"rates": [1e-4, 2000.0, -150.0, 5.0, 1e-8], "texts": ["1e5", "e5", "1e", "1e5x"]}
    path.write_text(strict.dump_yaml(found))
    assert spec.read_yaml(path) == found


def test_an_unknown_field_is_named_with_its_path_and_the_closest_field() -> None:
    data = {"reader": "tsv", "splits": {}, "type": "hub", "repo": "x", "revison": "abc"}
    with pytest.raises(ConfigError, match=r"x\.yaml: revison is not a field.*Did you mean 'revision'"):
        spec.decode(spec.Source, data, "x.yaml")  # type: ignore[arg-type]


def test_a_wrong_type_names_the_field() -> None:
    with pytest.raises(ConfigError, match="batch_size"):
        recipe(batch_size="many")


def test_a_seed_is_one_that_numpy_takes() -> None:
    plain = spec.canonical(run())
    assert spec.decode(spec.RunSpec, {**plain, "seed": 2**32 - 1}, "run").seed == 2**32 - 1
    for seed in (-1, 2**32):
        with pytest.raises(ConfigError, match="seed"):
            spec.decode(spec.RunSpec, {**plain, "seed": seed}, "run")


def test_an_unknown_recipe_offers_the_closest() -> None:
    recipes = recipes_module.load_recipes(task_configs_dir() / "recipes.yaml")
    with pytest.raises(UnknownName, match="Did you mean 'nano'"):
        recipes_module.resolve_recipe(recipes, "nanno", method="lora", kind="tag")


def test_recipes_that_extend_one_another_in_a_circle_are_refused() -> None:
    recipes = recipes_module.Recipes(recipes={"a": {"extends": "b"}, "b": {"extends": "a"}})
    with pytest.raises(ConfigError, match="a -> b -> a"):
        recipes_module.resolve_recipe(recipes, "a", method="lora", kind="tag")


def test_later_levels_of_a_recipe_win() -> None:
    recipes = recipes_module.load_recipes(task_configs_dir() / "recipes.yaml")
    full = recipes_module.resolve_recipe(recipes, "paper", method="full", kind="span")
    assert (full.learning_rate, full.max_length, full.batch_size) == (1e-5, 384, 16)
    assert recipes_module.resolve_recipe(recipes, "paper", method="lora", kind="span").learning_rate == 1e-4


def test_each_method_has_its_own_rate_in_every_shipped_recipe() -> None:
    """`defaults` of a recipe undo what the one that it extends says of a method."""
    recipes = recipes_module.load_recipes(task_configs_dir() / "recipes.yaml")
    for name in recipes.recipes:
        rates = {
            method: recipes_module.resolve_recipe(recipes, name, method=method, kind="tag").learning_rate
            for method in ("full", "bottleneck", "lora", "head")
        }
        assert all(rates["full"] < rate for method, rate in rates.items() if method != "full"), (name, rates)


@pytest.mark.parametrize(
    ("kind", "task", "rate"),
    [
        ("sentence", "mnli", 3e-5),
        ("sentence", "pawsx", 2e-5),
        ("tag", "udpos", 2e-5),
        ("span", "squad", 3e-5),
        ("choice", "siqa", 3e-5),
        ("choice", "copa", 3e-5),
    ],
)
def test_the_benchmarks_rates_are_those_of_its_scripts(kind: str, task: str, rate: float) -> None:
    recipes = recipes_module.load_recipes(task_configs_dir() / "recipes.yaml")
    rates = {
        method: recipes_module.resolve_recipe(recipes, "xtreme", method=method, kind=kind, task=task).learning_rate
        for method in ("full", "lora")
    }
    assert rates == {"full": rate, "lora": 1e-4}


def test_the_benchmarks_question_answering_keeps_the_last_step_and_warms_up_for_500() -> None:
    """`train_qa` of its scripts: no best checkpoint; lr 3e-5 × step / 500, which TyDiQA's 348 steps never reach."""
    recipes = recipes_module.load_recipes(task_configs_dir() / "recipes.yaml")
    squad, tydiqa = (
        recipes_module.resolve_recipe(recipes, "xtreme", method="full", kind="span", task=task)
        for task in ("squad1", "tydiqa")
    )
    assert squad.eval_every_steps > squad.steps(90_000) and tydiqa.eval_every_steps > tydiqa.steps(4_000)
    assert round(squad.warmup * squad.steps(88_000)) == pytest.approx(500, rel=0.02)
    steps = tydiqa.steps(3_696)
    assert steps == 348 and tydiqa.learning_rate / round(tydiqa.warmup * steps) == pytest.approx(3e-5 / 500, rel=0.02)


def test_parents_are_those_of_init_and_route_once_each() -> None:
    one = run(
        init=spec.Warm(entry="a"), route=spec.Stack(parts=(spec.Use(entry="a"), spec.Use(entry="b"), spec.Slot()))
    )
    assert one.parents == ("a", "b")


def test_a_score_is_written_alike_whatever_process_it_comes_from() -> None:
    labels = {"method": "lora", "init": "fresh", "route": "slot", "intermediate": "none", "seed": 0}
    scored: dict[str, Any] = {"metric": "f1", "value": 50.0, "num_examples": 10, "split": "test", "zero_shot": True}
    one = spec.Score(key="k", task="t", language="de", backbone="b", **labels, **scored)
    given = {**msgspec.json.decode(msgspec.json.encode(one)), "precision": "fp32", "layer": None}
    others = [pickle.loads(pickle.dumps(one)), spec.decode(spec.Score, given, "here")]
    assert {msgspec.json.encode(other) for other in others} == {msgspec.json.encode(one)}
    assert b"precision" not in msgspec.json.encode(one) and spec.canonical(one).keys().isdisjoint(
        {"precision", "layer"}
    )
    rounded = msgspec.structs.replace(one, precision="bf16", layer=3)
    assert spec.decode(spec.Score, msgspec.json.decode(msgspec.json.encode(rounded)), "here") == rounded != one
