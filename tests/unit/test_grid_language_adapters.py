"""Language adapters in a grid: what is trained, what each row stands on, and who waits for whom."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters_xling import grid
from adapters_xling.cli import main
from adapters_xling.errors import UnknownName, XlingError
from adapters_xling.grid.language_adapters import LanguageAdapters
from adapters_xling.spec import Alone, Slot, Stack, Use, entry_scored, scored_as
from adapters_xling.zoo import Zoo

SMALL = """
title: Small
backbone: xlmr-nano
recipe: nano
methods: {bottleneck: {reduction_factor: 2}}
intermediate: [none]
targets: [mini-ner]
language_adapters:
  task: mini-mlm
  languages: [sw]
  methods: {bottleneck: {inv_adapter: nice}}
overrides: {max_steps: 4, eval_every_steps: 2, dev_examples: 20}
languages: [en, de, sw]
floors: []
"""


def expanded(name: str = "madx", **changes: Any) -> grid.Plan:
    return grid.expand(msgspec.structs.replace(grid.load_grid(name), seeds=(0,), floors=(), **changes))


def test_each_target_stands_alone_on_english_and_on_the_language_at_hand() -> None:
    plan = expanded()
    texts = {run.task: name for name, run in plan.runs.items() if run.task.startswith("mini-mlm")}
    assert set(texts) == {f"mini-mlm.{code}" for code in ("en", "de", "es", "ru", "hi", "tr", "zh", "sw")}
    assert {plan.runs[name].method.settings["inv_adapter"] for name in texts.values()} == {"nice"}
    assert {plan.runs[name].recipe.max_steps for name in texts.values()} == {600}
    for target in ("mini-ner", "mini-pos", "mini-nli", "mini-qa"):
        alone, english, swapped = (cell for cell in plan.cells if cell.target.task == target)
        assert plan.runs[alone.name].route == Slot() and not alone.swap
        assert plan.runs[english.name].route == Stack(parts=(Use(entry=texts["mini-mlm.en"]), Slot()))
        assert plan.runs[english.name].method.settings["inv_adapter"] == "none"
        assert plan.runs[english.name].recipe == plan.runs[alone.name].recipe
        assert swapped.name == english.name and not english.swap
        assert dict(swapped.swap) == {
            task.removeprefix("mini-mlm."): Stack(parts=(Use(entry=adapter), Alone(entry=english.name)))
            for task, adapter in texts.items()
        }
        parents = plan.parents()
        assert parents[english.name] == [texts["mini-mlm.en"]]
        assert set(parents[swapped.job]) == {english.name, *texts.values()}
        assert plan.jobs()[swapped.job] == [swapped] and plan.jobs()[english.name] == [english]


def test_only_languages_that_are_scored_get_an_adapter_and_the_source_always() -> None:
    plan = expanded(languages=("sw", "de"))
    assert {run.task for run in plan.runs.values() if "mlm" in run.task} == {
        "mini-mlm.en",
        "mini-mlm.de",
        "mini-mlm.sw",
    }


def test_a_method_that_cannot_stand_on_others_is_left_out_with_a_warning_and_lora_stays() -> None:
    methods = {"full": {"train_embeddings": False}, "lora": {"r": 4}}
    wanted = LanguageAdapters(task="mini-mlm", languages=("sw",))
    with pytest.warns(UserWarning, match="left out of the grid for full: method 'full' cannot Stack"):
        plan = expanded(methods=methods, language_adapters=wanted)
    assert {run.method.name for run in plan.runs.values() if "mlm" in run.task} == {"lora"}
    assert sum(bool(cell.swap) for cell in plan.cells) == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"languages": ("xx",)}, "xx"),
        ({"task": "mini-mml"}, "Did you mean"),
        ({"methods": {"botleneck": {}}}, "Did you mean 'bottleneck'"),
        ({"methods": {"bottleneck": {"inv": "nice"}}}, "inv"),
        ({"overrides": {"max_step": 3}}, "Did you mean 'max_steps'"),
        ({"recipe": "nan"}, "Did you mean 'nano'"),
    ],
)
def test_a_mistake_is_found_before_anything_trains(change: dict[str, Any], words: str) -> None:
    wanted = msgspec.structs.replace(grid.load_grid("madx").language_adapters, **change)
    with pytest.raises(XlingError, match=words):
        expanded(language_adapters=wanted)
    with pytest.raises(XlingError, match="empty"):
        LanguageAdapters(task="mini-mlm", languages=())


def test_a_method_that_is_narrowed_away_takes_its_language_adapters_settings_along(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(
        SMALL.replace("{bottleneck: {reduction_factor: 2}}", "{bottleneck: {reduction_factor: 2}, lora: {}}")
    )
    found = grid.load_grid(str(path), narrow={"methods": ["lora"]})
    assert found.language_adapters and found.language_adapters.methods == {}
    path.write_text(path.read_text().replace("{bottleneck: {inv", "{botleneck: {inv"))
    with pytest.raises(UnknownName, match="Did you mean 'bottleneck'"):
        grid.load_grid(str(path), narrow={"methods": ["lora"]})


def test_what_lacks_a_language_adapter_is_left_out_where_rows_are_not_at_hand(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plan = grid.expand(grid.load_grid("kit-madx"), data_dir=tmp_path)
    assert {"kit-mlm.en", "kit-mlm.sw", "udpos", "panx"} <= set(plan.lacking)
    assert plan.at_hand().cells == []
    small = expanded()
    small.lacking["mini-mlm.sw"] = "not here"
    left = small.at_hand()
    assert not any(cell.swap for cell in left.cells) and len(left.cells) == 8
    assert set(left.jobs()) == set(left.runs), "no job waits for what is not there"


def test_what_scores_are_kept_under_leads_back_to_the_entry() -> None:
    route = Stack(parts=(Use(entry="a"), Alone(entry="b-s0-0123")))
    assert scored_as("b-s0-0123", None) == entry_scored("b-s0-0123") == "b-s0-0123"
    assert entry_scored(scored_as("b-s0-0123", route)) == "b-s0-0123" != scored_as("b-s0-0123", route)
    with pytest.raises(UnknownName):
        Zoo(Path("/nowhere"), fallbacks=()).get(scored_as("b-s0-0123", route))


def test_one_command_trains_swaps_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(SMALL, encoding="utf-8")
    args = [str(file), "--runs", str(tmp_path / "runs"), "--limit", "20"]
    main(["run", *args, "--workers", "1"])
    assert "trained 4, reused 0, failed 0" in capsys.readouterr().out
    folder = tmp_path / "runs" / "small-first20"
    scores = [json.loads(line) for line in (folder / "scores.jsonl").read_text(encoding="utf-8").splitlines()]
    rows: dict[str, dict[str, float]] = {}
    for one in scores:
        if one["metric"] == "f1":
            rows.setdefault(f"{one['intermediate']} {one['route']}", {})[one["language"]] = one["value"]
    assert {row: set(found) for row, found in rows.items()} == {
        "none slot": {"en", "de", "sw"},
        "mini-mlm.en stack": {"en", "de", "sw"},
        "mini-mlm.en stack(alone)": {"en", "sw"},  # German has no adapter to swap in
    }
    assert rows["mini-mlm.en stack"]["en"] == rows["mini-mlm.en stack(alone)"]["en"]
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "stack(alone)" in text
    main(["run", *args, "--workers", "1"])
    assert "trained 0, reused 4, failed 0" in capsys.readouterr().out
    main(["plan", *args])
    assert "0 sets of rows to score" in capsys.readouterr().out
