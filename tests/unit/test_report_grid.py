"""What a grid hands to its report: names of mixtures, published rows, devices, languages that means are over."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from adapters_xling import api
from adapters_xling.api import report_facts
from adapters_xling.errors import ConfigError, UnknownName
from adapters_xling.grid import Common, execute
from adapters_xling.report import collect
from adapters_xling.zoo import provenance

GRID = """
title: A small grid
backbone: xlmr-nano
recipe: nano
methods: {lora: {r: 2}}
intermediate:
  - none
  - mini-nli
  - {name: by-size, tasks: [mini-nli, mini-pos]}
  - {name: evenly, tasks: [mini-nli, mini-pos], mix: uniform}
targets: [mini-ner, {task: mini-choice, limit: 5}, {task: mini-pos, split: dev}]
languages: [de, sw]
"""


def grid(folder: Path, more: str = "") -> str:
    path = folder / "small.yaml"
    path.write_text(GRID + more, encoding="utf-8")
    return str(path)


def test_a_plan_knows_what_the_grid_calls_its_mixtures(tmp_path: Path) -> None:
    plan = api.plan(grid(tmp_path))
    assert sorted(plan.mixtures.values()) == ["by-size", "evenly"]
    for key, name in plan.mixtures.items():
        assert plan.runs[key].task == "mini-nli+mini-pos"
        children = [run for run in plan.runs.values() if key in run.parents]
        assert len(children) == 3, name


def test_a_method_goes_by_what_the_grid_calls_it_whatever_the_grid_leaves_to_its_default(tmp_path: Path) -> None:
    text = GRID.replace("{lora: {r: 2}}", "{lora: {r: 2}, lora-top: {method: lora, r: 2, layers: [3]}}")
    (tmp_path / "small.yaml").write_text(text, encoding="utf-8")
    plan = api.plan(str(tmp_path / "small.yaml"))
    found = {(run.method.name, report_facts.method_label(run.method, plan.grid.methods)) for run in plan.runs.values()}
    assert found == {("lora", "lora"), ("lora", "lora-top"), ("head", "")}  # a floor has no name of the grid's


def test_a_pooler_that_cannot_travel_stays_behind_and_the_report_says_so(tmp_path: Path) -> None:
    text = GRID.replace("xlmr-nano\nrecipe: nano", "xlmr-nano\nrecipe: mini-encoder-short")
    text = text.replace("[mini-ner, {task: mini-choice, limit: 5}", "[mini-paraphrase, mini-ner, mini-choice")
    (tmp_path / "small.yaml").write_text(text, encoding="utf-8")
    plan = api.plan(str(tmp_path / "small.yaml"))
    names = {key: plan.mixtures.get(key, run.task) for key, run in plan.runs.items()}
    alone = {(names[run.parents[0]], run.task) for run in plan.runs.values() if run.recipe.carry == "none"}
    # pairs read four vectors, choices one, and so do mixtures; tags have no pooler
    mixed = {(name, "mini-paraphrase") for name in ("by-size", "evenly")}
    assert alone == {("mini-nli", "mini-choice"), *mixed}
    note = next(note for note in report_facts.notes(plan, None) if "pooler stays behind" in note)
    assert "mini-nli → mini-choice" in note and "by-size → mini-paraphrase" in note and "mini-ner" not in note
    (tmp_path / "small.yaml").write_text(text + "overrides: {carry: pooler}\n", encoding="utf-8")
    assert {run.recipe.carry for run in api.plan(str(tmp_path / "small.yaml")).runs.values()} == {"pooler"}


def test_targets_of_which_the_first_rows_are_scored_are_named_in_one_note(tmp_path: Path) -> None:
    more = grid(tmp_path).replace("small", "two")
    Path(more).write_text(GRID.replace("[mini-ner,", "[{task: mini-ner, limit: 7},"), encoding="utf-8")
    assert [note for note in report_facts.notes(api.plan(more), None) if "first rows" in note] == [
        "Only the first rows of each language were scored: mini-ner 7, mini-choice 5."
    ]


def targets(folder: Path, text: str) -> str:
    path = folder / "small.yaml"
    path.write_text(re.sub(r"targets: .*", f"targets: {text}", GRID), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[mini-retrieval, {task: mini-retrieval, layer: 2}]", "mini-retrieval .* layer left out and 2"),
        ("[{task: mini-pos, limit: 5}, {task: mini-pos, split: dev, limit: 6}]", "mini-pos .* limit 5 and 6"),
        ("[mini-pos, {task: mini-pos, split: test}]", "mini-pos .* with the same split, test"),
    ],
)
def test_targets_that_a_report_cannot_tell_apart_are_refused_before_anything_trains(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"targets: {message}.* a grid of its own"):
        api.plan(targets(tmp_path, text))


@pytest.mark.parametrize("field", ["methods", "intermediate", "targets", "languages", "seeds"])
def test_a_grid_of_nothing_is_refused_with_the_empty_field(field: str, tmp_path: Path) -> None:
    text = "\n".join(line for line in GRID.splitlines() if not line.startswith((f"{field}:", "  - ")))
    text = text.replace("intermediate:", "intermediate: [none]")
    path = tmp_path / "small.yaml"
    path.write_text(f"{text}\n{field}: {'{}' if field == 'methods' else '[]'}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"small\.yaml: {field} is empty"):
        api.plan(str(path))


def test_two_names_of_one_method_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    twice = "{lora: {r: 2}, lora-large: {method: lora, r: 8}, lora-small: {method: lora, r: 2, alpha: 16}}"
    path.write_text(GRID.replace("{lora: {r: 2}}", twice), encoding="utf-8")
    with pytest.raises(ConfigError, match="methods: lora and lora-small are one method with the same settings"):
        api.plan(str(path))
    assert api.plan(str(path), narrow={"methods": ["lora", "lora-large"]}).runs


def test_two_splits_of_a_task_are_two_columns_with_a_floor_each(tmp_path: Path) -> None:
    name = targets(tmp_path, "[mini-ner, {task: mini-pos, split: dev}, {task: mini-pos, split: test}]")
    plan = api.plan(name, narrow={"targets": ["mini-pos"]})
    assert [target.split for target in plan.floors] == ["dev", "test"]
    settings = api.Settings(runs=tmp_path / "runs")
    assert {"majority mini-pos (dev)", "majority mini-pos (test)"} <= set(api.estimate(plan, settings=settings).jobs)
    plan.runs, plan.cells = {}, []
    outcome = execute(plan, Common(zoo_root=tmp_path / "zoo", runs_dir=tmp_path / "runs", limit=5))
    scored = {(score.split, score.language) for score in outcome.scores}
    assert scored == {(split, code) for split in ("dev", "test") for code in ("de", "sw")}
    shown = collect(outcome.scores)
    assert {target.split for target in shown.targets} == {"dev", "test"}
    assert [target.split for target in shown.headline] == ["test"]


def test_published_rows_that_nobody_has_are_refused_before_anything_trains(tmp_path: Path) -> None:
    assert api.plan(grid(tmp_path, "published: xtreme-test\n")).grid.published == "xtreme-test"
    with pytest.raises(UnknownName, match="Did you mean 'xtreme-test'"):
        api.plan(grid(tmp_path, "published: xtreme-tset\n"))


def test_a_published_mean_is_over_all_languages_of_a_task_of_which_every_row_was_scored(tmp_path: Path) -> None:
    found = report_facts.all_languages(api.plan(grid(tmp_path)), None)
    task = api.task("mini-ner")
    assert set(found) == {"mini-ner", "mini-pos"}  # only some rows of the third were scored
    assert found["mini-ner"] == task.languages_by_split.get("test", task.languages)


@pytest.mark.parametrize(
    ("device", "gpu", "threads", "name"),
    [
        ("cpu", None, 1, "Old CPU, 1 thread"),
        ("cpu", "NVIDIA H200 x8", 4, "Old CPU, 4 threads"),  # a GPU that was there and not used
        ("cuda", "NVIDIA H200 x8", 4, "NVIDIA H200"),
        ("cuda", None, 4, "cuda"),
        ("mps", None, 4, "mps"),
    ],
)
def test_a_device_is_named_by_what_the_entry_was_trained_on(
    device: str, gpu: str | None, threads: int, name: str
) -> None:
    origin = msgspec.structs.replace(provenance(), cpu="Old CPU", gpu=gpu, num_threads=threads)
    assert report_facts.device_name(origin, device) == name
