"""Layer sweeps of a grid: kept beside its scores, joined where they come in parts, and a table of its report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from adapters_xling.cli import xling
from adapters_xling.errors import DataError
from adapters_xling.report import (
    Layers,
    RunInfo,
    Swept,
    collect,
    html,
    markdown,
    read_layers,
    sections_of,
    write_layers,
)
from adapters_xling.report.layers import layers_section
from adapters_xling.report.scores import write_scores
from adapters_xling.spec import Score

BARE = Swept("xlmr-mini", "base", "none", 0, 2, {"de": (10.0, 20.0, 30.0), "sw": (0.0, 10.0, 20.0)})


def after(key: str, seed: int, *, intermediate: str = "kit-nli", lift: float = 0.0) -> Swept:
    values = {"de": (10.0, 20.0 + lift, 40.0), "sw": (0.0, 10.0 + lift, 10.0)}
    return Swept(key, "lora", intermediate, seed, 2, values)


def layers(*sweeps: Swept, pooling: str = "mean") -> Layers:
    return Layers("tatoeba", "test", "accuracy", pooling, sweeps)


def test_a_sweep_is_a_table_with_its_difference_to_the_bare_encoder() -> None:
    section = layers_section([layers(BARE, after("a", 0), after("b", 1, lift=4.0))])
    assert section is not None
    (sheet,) = section.sheets
    assert [column.name for column in sheet.columns] == ["encoder", "0", "1", "2 (read)"]
    above, row = sheet.rows
    assert [item.text for item in above] == ["bare encoder", "5.0", "15.0", "25.0"]
    assert (row[0].text, row[0].after, row[0].small) == ("lora", "kit-nli", ("2 seeds",))
    assert [item.plain for item in row[1:]] == ["5.0 0.0", "17.0 +2.0", "25.0 0.0"]
    assert row[2].sign == "gain" and row[2].tint


def test_a_sweep_is_drawn_with_a_panel_a_method_and_one_look_a_task() -> None:
    other = Swept("c", "full", "kit-squad1", 0, 2, {"de": (10.0, 20.0, 24.0), "sw": (0.0, 0.0, 0.0)})
    section = layers_section([layers(BARE, after("a", 0), after("b", 0, intermediate="kit-squad1"), other)])
    assert section is not None
    drawn = section.sheets[0].curves
    assert drawn is not None
    assert [panel.title for panel in drawn.panels] == ["lora", "full"]
    lora, full = drawn.panels
    assert [curve.name for curve in lora.curves] == ["bare encoder", "kit-nli", "kit-squad1"]
    assert [curve.name for curve in full.curves] == ["bare encoder", "kit-squad1"]
    assert (full.curves[1].series, full.curves[1].shape) == (lora.curves[2].series, lora.curves[2].shape)
    assert lora.curves[0].points == full.curves[0].points
    # 15 of a scale from 0 to 30, in the middle of three layers
    middle = lora.curves[0].points[1]
    assert middle.x == (drawn.left + drawn.right) / 2 and middle.y == (drawn.top + drawn.bottom) / 2
    assert middle.title == "bare encoder, layer 1: 15.0"
    assert full.curves[1].points[2].title == "full after kit-squad1, layer 2: 12.0"
    assert drawn.read == drawn.right
    assert [name for _, name in drawn.y_ticks] == ["0", "10", "20", "30"]
    assert [name for _, name in drawn.x_ticks] == ["0", "1", "2"]


def test_nothing_is_drawn_of_the_bare_encoder_alone_or_of_a_single_layer() -> None:
    alone = layers_section([layers(BARE)])
    flat = layers_section([layers(Swept("a", "lora", "kit-nli", 0, 0, {"de": (10.0,)}))])
    assert alone and alone.sheets[0].curves is None
    assert flat and flat.sheets[0].curves is None


def test_parts_of_a_grid_join_and_what_was_read_otherwise_does_not(tmp_path: Path) -> None:
    write_layers(tmp_path, layers(BARE, after("a", 0)))
    write_layers(tmp_path, layers(after("a", 0, lift=1.0), after("b", 0, intermediate="kit-squad1")))
    (found,) = read_layers(tmp_path)
    assert [one.key for one in found.sweeps] == ["xlmr-mini", "a", "b"]
    assert found.sweeps[1].values["de"][1] == 21.0  # the later one
    write_layers(tmp_path, layers(BARE, pooling="first"))
    (found,) = read_layers(tmp_path)
    assert (found.pooling, len(found.sweeps)) == ("first", 1)
    (tmp_path / "layers-x-test.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"layers-x-test\.json"):
        read_layers(tmp_path)


def a_score(key: str, task: str = "tatoeba", *, seed: int = 0, value: float = 10.0) -> Score:
    return Score(
        key=key,
        task=task,
        language="de",
        metric="accuracy",
        value=value,
        num_examples=10,
        split="test",
        zero_shot=True,
        backbone="xlmr-mini",
        method="lora",
        init="fresh",
        route="slot",
        intermediate="none",
        seed=seed,
    )


def test_the_report_of_a_grid_shows_its_sweeps(tmp_path: Path) -> None:
    write_layers(tmp_path, layers(BARE, after("a", 0)))
    results = collect([a_score("a")])
    sections = sections_of(tmp_path, results)
    assert [section.id for section in sections] == ["layers"]
    assert "## Retrieval by layer" in markdown([a_score("a")], info=RunInfo(title="t"), sections=sections)
    page = html([a_score("a")], info=RunInfo(title="t"), sections=sections)
    assert "tatoeba (accuracy, test) by layer, lora; the numbers are in the table" in page
    assert "<title>lora after kit-nli, layer 2: 25.0</title>" in page
    assert "layer 2, which is read" in page


def test_scores_of_several_grids_go_into_one_file_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tmp_path / "runs"
    write_scores(runs / "mini" / "scores.jsonl", [a_score("a"), a_score("b", "panx", seed=1)])
    write_scores(runs / "quickstart" / "scores.jsonl", [a_score("a"), a_score("c", value=12.5)])
    file = tmp_path / "scores.jsonl"
    words = ["report", "mini", "quickstart", "--scores", str(file), "--runs", str(runs)]
    done = CliRunner().invoke(xling, words, catch_exceptions=False)
    assert done.exit_code == 0 and "3 scores" in done.output
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert sorted(row["key"] for row in rows) == ["a", "b", "c"]
    assert set(rows[0]) == set(Score.__struct_fields__)
    first = file.read_bytes()
    CliRunner().invoke(xling, [words[0], "quickstart", "mini", *words[3:]], catch_exceptions=False)
    assert file.read_bytes() == first  # whatever the order of the grids
    refused = CliRunner().invoke(xling, ["report", "mini", "quickstart", "--runs", str(runs)])
    assert refused.exit_code != 0 and "--scores FILE" in str(refused.exception)
    lacking = CliRunner().invoke(xling, ["report", "mini", "real-kit", "--scores", str(file), "--runs", str(runs)])
    assert "xling run real-kit" in str(lacking.exception)
