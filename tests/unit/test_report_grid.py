"""What a grid hands to its report: names of mixtures, published rows, devices, languages that means are over."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from zoo_samples import an_entry

from adapters_xling import api
from adapters_xling.api import report_facts
from adapters_xling.cli import main
from adapters_xling.errors import ConfigError, MissingData, UnknownName
from adapters_xling.grid import Common, Outcome, Plan, execute
from adapters_xling.report import collect
from adapters_xling.spec import Score
from adapters_xling.zoo import Zoo, provenance

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


def test_a_run_from_a_mixture_and_another_entry_goes_by_both_names(tmp_path: Path) -> None:
    """Two of them with the mixture in it were one row, which a report refuses after everything is trained."""
    text = GRID + "compositions: [{warm: 'average(by-size, mini-nli)'}, {warm: 'average(by-size, evenly)'}]\n"
    (tmp_path / "both.yaml").write_text(text, encoding="utf-8")
    plan = api.plan(str(tmp_path / "both.yaml"))
    names = set()
    for key, run in plan.runs.items():
        card: Any = SimpleNamespace(parents=run.parents)
        names.add(report_facts._mixture(key, card, plan))
    assert names == {"", "by-size", "evenly", "by-size+mini-nli", "by-size+evenly"}


def test_two_intermediate_steps_of_one_name_are_refused(tmp_path: Path) -> None:
    text = GRID.replace("name: evenly", "name: by-size")
    (tmp_path / "same.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="intermediate: two steps are called 'by-size'"):
        api.plan(str(tmp_path / "same.yaml"))


def test_an_entry_whose_card_is_damaged_leaves_the_others_their_report(tmp_path: Path) -> None:
    zoo = Zoo(tmp_path / "zoo", fallbacks=())
    plan = api.plan(grid(tmp_path))
    entry = an_entry(zoo)
    (entry.folder / "card.json").write_text('{"half": ', encoding="utf-8")
    failure = report_facts.facts_known(zoo, entry.key, plan).failure
    assert failure and "card.json" in failure


def test_a_target_that_was_scored_in_some_languages_only_says_so(tmp_path: Path) -> None:
    plan = api.plan(grid(tmp_path))
    scores = [a_score("k")]
    (task,) = {score.task for score in scores}
    assert task == "mini-ner" and {score.language for score in scores} == {"de"}
    assert list(report_facts.incomplete(plan, scores, None)) == [
        "mini-ner is not scored in sw: means are over the other language."
    ]
    other = msgspec.structs.replace(scores[0], language="sw")
    assert list(report_facts.incomplete(plan, [*scores, other], None)) == []
    assert list(report_facts.incomplete(plan, [], None)) == []


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


# --- whose report a folder holds ----------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`xling run` of a grid in a project's folder, with scores that nobody trained for; gives what goes to stderr."""
    for folder in ("", "other"):
        (tmp_path / "project" / folder).mkdir(exist_ok=True)
        grid(tmp_path / "project" / folder)
    (tmp_path / "project" / "other" / "small.yaml").write_text(GRID.replace("small grid", "grid of others"))
    monkeypatch.chdir(tmp_path / "project")

    def outcome(planned: Plan, **_: Any) -> Outcome:
        return Outcome([a_score(key) for key in list(planned.runs)[:1]], [], {}, 1.0)

    monkeypatch.setattr(api, "run", outcome)

    def typed(*words: str) -> str:
        main(["run", *words, "--runs", "runs", "--json"])
        return capsys.readouterr().err

    return typed


def a_score(key: str) -> Score:
    labels = {"method": "lora", "init": "fresh", "route": "slot", "intermediate": "none", "seed": 0}
    scored: dict[str, Any] = {"metric": "f1", "value": 50.0, "num_examples": 10, "split": "test", "zero_shot": True}
    return Score(key=key, task="mini-ner", language="de", backbone="xlmr-nano", **labels, **scored)


def test_the_report_of_a_grid_is_not_taken_for_that_of_another_of_its_file_name(
    run: Callable[..., str], tmp_path: Path
) -> None:
    settings = api.Settings(runs=Path("runs"))
    assert "replaced" not in run("small.yaml") + run("small.yaml")
    assert "note: the report of small.yaml in runs/small is replaced" in run("other/small.yaml")
    assert api.finished_folder("other/small.yaml", settings=settings) == Path("runs/small")
    for asked in (api.finished_folder, api.judge_advice):
        with pytest.raises(MissingData, match=r"runs/small holds .* was of other/small\.yaml\. Run small\.yaml again"):
            asked("small.yaml", settings=settings)
    assert api.finished_folder("runs/small", settings=settings) == Path("runs/small")
    # its owner may edit it, or move it, with the runs or alone
    Path("other/small.yaml").write_text(GRID.replace("small grid", "grid, edited"), encoding="utf-8")
    assert api.finished_folder("other/small.yaml", settings=settings) == Path("runs/small")
    assert "replaced" not in run("other/small.yaml")
    moved = tmp_path / "moved"
    Path("other").rename("others")
    Path("runs").rename(moved)
    assert api.finished_folder("others/small.yaml", settings=api.Settings(runs=moved)) == moved / "small"


def test_the_report_of_a_shipped_grid_is_not_that_of_a_file_of_its_name(run: Callable[..., str]) -> None:
    Path("small.yaml").rename("quickstart.yaml")
    run("quickstart.yaml")
    with pytest.raises(MissingData, match=r"the last run there was of quickstart\.yaml"):
        api.finished_folder("quickstart", settings=api.Settings(runs=Path("runs")))
    assert "the report of quickstart.yaml in runs/quickstart" in run("quickstart")
    with pytest.raises(MissingData, match="the last run there was of the shipped grid quickstart"):
        api.finished_folder("quickstart.yaml", settings=api.Settings(runs=Path("runs")))


def test_another_part_of_a_grid_takes_the_place_of_the_first_aloud(run: Callable[..., str]) -> None:
    assert "replaced" not in run("small.yaml", "--languages", "de") + run("small.yaml", "--languages", "de")
    assert "the report of --languages de in runs/small-narrowed is replaced" in run("small.yaml", "--languages", "sw")
    assert "replaced" not in run("small.yaml")


def test_a_report_from_before_it_said_whose_it_is_is_taken_as_it_is(run: Callable[..., str]) -> None:
    run("small.yaml")
    file = Path("runs/small/info.json")
    body = json.loads(file.read_text(encoding="utf-8"))
    for field in ("grid", "grid_digest", "narrowing"):
        del body["info"][field]
    file.write_text(json.dumps(body), encoding="utf-8")
    assert api.finished_folder("other/small.yaml", settings=api.Settings(runs=Path("runs"))) == Path("runs/small")
    assert "replaced" not in run("other/small.yaml")


def test_a_folder_is_judged_by_the_grid_it_is_of_and_not_by_a_shipped_one_of_its_name(run: Callable[..., str]) -> None:
    from adapters_xling.api.advice import _judged

    settings, folder = api.Settings(runs=Path("runs")), Path("runs/mini-encoder")
    Path("small.yaml").rename("mini-encoder.yaml")
    run("mini-encoder.yaml")
    assert _judged(folder, settings) == (folder / "scores.jsonl", {})
    own = GRID.replace("[mini-ner, {task", "[{task: mini-ner, train: mini-ner}, {task")
    assert own != GRID
    Path("mini-encoder.yaml").write_text(own, encoding="utf-8")
    assert _judged(folder, settings) == (folder / "scores.jsonl", {"mini-ner": "mini-ner"})
    Path("mini-encoder.yaml").unlink()
    assert _judged(folder, settings) == (folder / "scores.jsonl", {})
