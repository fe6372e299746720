"""Layer sweeps of a grid: kept beside its scores, joined where they come in parts, and a table of its report."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters_xling import api, paths
from adapters_xling.cli import xling
from adapters_xling.cli.layers import _ahead
from adapters_xling.errors import ConfigError, DataError, MissingData
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
from adapters_xling.report.info import encode_info
from adapters_xling.report.layers import layers_section
from adapters_xling.report.scores import EntryFacts, read_scores, write_scores
from adapters_xling.spec import Score
from adapters_xling.sweep import LayerSweep

BARE = Swept("xlmr-mini", "base", "none", 0, 2, {"de": (10.0, 20.0, 30.0), "sw": (0.0, 10.0, 20.0)})


def after(key: str, seed: int, *, intermediate: str = "kit-nli", lift: float = 0.0) -> Swept:
    values = {"de": (10.0, 20.0 + lift, 40.0), "sw": (0.0, 10.0 + lift, 10.0)}
    return Swept(key, "lora", intermediate, seed, 2, values)


def layers(*sweeps: Swept, pooling: str = "mean", precision: str = "bf16") -> Layers:
    return Layers("tatoeba", "test", "accuracy", pooling, sweeps, precision)


def test_a_sweep_is_a_table_with_its_difference_to_the_bare_encoder() -> None:
    section = layers_section([layers(BARE, after("a", 0), after("b", 1, lift=4.0))])
    assert section is not None
    (sheet,) = section.sheets
    assert [column.name for column in sheet.columns] == ["encoder", "0", "1", "2 (read)"]
    above, row = sheet.rows
    assert [item.text for item in above] == ["bare encoder", "5.0", "15.0", "25.0"]
    assert (row[0].text, row[0].after, row[0].small) == ("lora", "kit-nli", ("2 seeds",))
    assert [item.plain for item in row[1:]] == ["5.0 ±0.0 0.0", "17.0 ±2.8 +2.0", "25.0 ±0.0 0.0"]
    assert row[2].sort == 17.0
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


def test_means_and_differences_are_over_the_languages_that_all_encoders_have() -> None:
    part = Swept("a", "lora", "kit-nli", 0, 2, {"de": BARE.values["de"]})
    section = layers_section([layers(BARE, part)])
    assert section is not None
    (sheet,) = section.sheets
    above, row = sheet.rows
    assert [item.text for item in above[1:]] == ["10.0", "20.0", "30.0"]
    assert [item.plain for item in row[1:]] == ["10.0 0.0", "20.0 0.0", "30.0 0.0"]
    assert sheet.lead.startswith("1 language, pooling mean, bf16. Left out, ") and ": sw. To have all" in sheet.lead
    assert sheet.curves is not None
    bare, drawn = sheet.curves.panels[0].curves
    assert [(point.x, point.y) for point in bare.points] == [(point.x, point.y) for point in drawn.points]


def test_encoders_without_a_common_language_have_no_table_and_the_report_says_so() -> None:
    section = layers_section([layers(BARE, Swept("a", "lora", "kit-nli", 0, 2, {"fr": (1.0, 2.0, 3.0)}))])
    assert section is not None and not section.sheets
    for render in (markdown, html):
        text = render([a_score("a")], info=RunInfo(title="t"), sections=[section])
        assert "none in common: tatoeba (test, pooling mean, bf16). To have all" in text.replace("\\", "")


def test_what_was_read_in_another_precision_is_a_table_of_its_own(tmp_path: Path) -> None:
    old = layers(BARE, after("a", 0), precision="")  # from before the precision was kept
    write_layers(tmp_path, old)
    assert read_layers(tmp_path) == [old]
    write_layers(tmp_path, layers(BARE, after("a", 0, lift=5.0), precision="fp32"), usual="bf16")
    path = write_layers(tmp_path, layers(after("b", 1)), usual="bf16")  # as the grid scores, so that it joins
    assert path.name == "layers-tatoeba-test.json"
    write_layers(tmp_path, layers(after("c", 1), precision="fp32"), usual="bf16")
    half, full = sorted(read_layers(tmp_path), key=lambda one: one.precision)
    assert ([one.key for one in half.sweeps], [one.key for one in full.sweeps]) == (
        ["xlmr-mini", "a", "b"],
        ["xlmr-mini", "a", "c"],
    )
    section = layers_section(read_layers(tmp_path))
    assert section is not None
    assert {sheet.title for sheet in section.sheets} == {
        "tatoeba (accuracy, test, pooling mean, bf16)",
        "tatoeba (accuracy, test, pooling mean, fp32)",
    }
    assert len({sheet.id for sheet in section.sheets}) == 2
    assert "pooling mean, fp32" in html([a_score("a")], info=RunInfo(title="t"), sections=[section])


def test_parts_of_a_grid_join_and_what_was_read_otherwise_does_not(tmp_path: Path) -> None:
    write_layers(tmp_path, layers(BARE, after("a", 0)))
    write_layers(tmp_path, layers(after("a", 0, lift=1.0), after("b", 0, intermediate="kit-squad1")))
    (found,) = read_layers(tmp_path)
    assert [one.key for one in found.sweeps] == ["xlmr-mini", "a", "b"]
    assert found.sweeps[1].values["de"][1] == 21.0  # the later one
    write_layers(tmp_path, layers(BARE, pooling="first"))
    assert [(found.pooling, len(found.sweeps)) for found in read_layers(tmp_path)] == [("first", 1), ("mean", 3)]
    (tmp_path / "layers-x-test.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"layers-x-test\.json"):
        read_layers(tmp_path)


def test_parts_that_join_at_the_same_time_are_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(path: Path, data: bytes) -> None:
        time.sleep(0.05)
        paths.atomic_write(path, data)

    monkeypatch.setattr("adapters_xling.report.layers.atomic_write", slowly)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda key: write_layers(tmp_path, layers(after(key, 0))), "abcdef"))
    (found,) = read_layers(tmp_path)
    assert sorted(one.key for one in found.sweeps) == list("abcdef")
    assert [path.name for path in tmp_path.iterdir()] == ["layers-tatoeba-test.json"]


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


def test_a_narrowed_report_shows_the_sweeps_of_its_own_entries(tmp_path: Path) -> None:
    write_layers(tmp_path / "mini", layers(BARE, after("a", 0), after("b", 0, intermediate="kit-squad1")))
    folder = tmp_path / "mini-narrowed"
    write_scores(folder / "scores.jsonl", [a_score("b")])
    (folder / "info.json").write_bytes(encode_info(RunInfo(title="t"), {}))
    done = CliRunner().invoke(xling, ["report", str(folder), "--format", "markdown"], catch_exceptions=False)
    _, _, found = done.output.partition("## Retrieval by layer")
    assert "bare encoder" in found and "lora after kit-squad1" in found and "kit-nli" not in found


def join(*words: str, file: Path, runs: Path) -> Result:
    return CliRunner().invoke(xling, ["report", *words, "--scores", str(file), "--runs", str(runs)])


def test_scores_of_several_grids_go_into_one_file_each_once(tmp_path: Path) -> None:
    runs, file = tmp_path / "runs", tmp_path / "scores.jsonl"
    write_scores(runs / "mini" / "scores.jsonl", [a_score("a"), a_score("b", "panx", seed=1)])
    write_scores(runs / "quickstart" / "scores.jsonl", [a_score("a"), a_score("c", value=12.5)])
    done = join("mini", "quickstart", file=file, runs=runs)
    assert done.exit_code == 0 and "3 scores, 3 new, 0 with another value" in done.output
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert sorted(row["key"] for row in rows) == ["a", "b", "c"]
    assert set(rows[0]) == set(Score.__struct_fields__) - {"layer", "precision"}, "which are as usual, and left out"
    first = file.read_bytes()
    again = join("quickstart", "mini", file=file, runs=runs)
    assert file.read_bytes() == first and "3 scores, 0 new, 0 with" in again.output  # whatever the order of the grids
    refused = CliRunner().invoke(xling, ["report", "mini", "quickstart", "--runs", str(runs)])
    assert refused.exit_code != 0 and "--scores FILE" in str(refused.exception)
    assert "xling run real-kit" in str(join("mini", "real-kit", file=file, runs=runs).exception)
    assert file.read_bytes() == first


def test_another_layer_and_another_precision_are_cells_of_their_own(tmp_path: Path) -> None:
    """They took each other's place, or were called a contradiction that running both again would end."""
    runs, file = tmp_path / "runs", tmp_path / "scores.jsonl"
    plain = a_score("xlmr-nano")
    others = {"read-lower": {"layer": 1}, "rounded": {"precision": "bf16"}}
    write_scores(runs / "plain" / "scores.jsonl", [plain])
    for name, how in others.items():
        write_scores(runs / name / "scores.jsonl", [msgspec.structs.replace(plain, value=20.0, **how)])
    folders = [str(runs / name) for name in ("plain", *others)]
    done = join(*folders, file=file, runs=runs)
    assert "3 scores, 3 new, 0 with another value" in done.output
    assert {(one.layer, one.precision, one.value) for one in read_scores(file)} == {
        (None, "fp32", plain.value),
        (1, "fp32", 20.0),
        (None, "bf16", 20.0),
    }
    first = file.read_bytes()
    for folder in folders:  # one after the other as well
        assert "0 new, 0 with another value" in join(folder, file=file, runs=runs).output
    assert file.read_bytes() == first


def test_reports_that_join_one_file_at_the_same_time_are_all_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(path: Path, data: bytes) -> None:
        time.sleep(0.05)
        paths.atomic_write(path, data)

    folders = [tmp_path / key for key in "abcdef"]
    for folder in folders:
        write_scores(folder / "scores.jsonl", [a_score(folder.name)])
    monkeypatch.setattr("adapters_xling.report.scores.atomic_write", slowly)
    file = tmp_path / "all" / "scores.jsonl"
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda folder: api.join_scores([str(folder)], file), folders))
    assert [one.key for one in read_scores(file)] == list("abcdef")
    assert [path.name for path in file.parent.iterdir()] == ["scores.jsonl"]


def test_a_folder_of_a_narrowed_run_is_joined_and_not_the_grid_of_its_name(tmp_path: Path) -> None:
    runs, file = tmp_path / "runs", tmp_path / "scores.jsonl"
    write_scores(runs / "mini" / "scores.jsonl", [a_score("whole")])
    write_scores(tmp_path / "elsewhere" / "mini" / "scores.jsonl", [a_score("part")])
    assert "1 scores, 1 new" in join(str(tmp_path / "elsewhere" / "mini"), file=file, runs=runs).output
    assert [one.key for one in read_scores(file)] == ["part"]
    empty = tmp_path / "elsewhere" / "empty"
    empty.mkdir()
    refused = join(str(empty), file=file, runs=runs)
    assert isinstance(refused.exception, MissingData) and "the folder that a run of one left" in str(refused.exception)


@pytest.mark.parametrize("more", [["--format", "csv"], ["--text"], ["--against", "mini"]])
def test_what_joining_scores_would_not_do_is_refused(more: list[str], tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    write_scores(tmp_path / "mini" / "scores.jsonl", [a_score("a")])
    refused = join("mini", *more, file=file, runs=tmp_path)
    named = "--format" if more[0] == "--text" else more[0]
    assert isinstance(refused.exception, ConfigError) and f"--scores and {named} do not go" in str(refused.exception)
    assert not file.exists()


def test_what_a_file_of_scores_has_stays_and_a_cell_that_was_scored_anew_is_replaced(tmp_path: Path) -> None:
    runs, file = tmp_path / "runs", tmp_path / "scores.jsonl"
    lost, fewer = a_score("lost"), msgspec.structs.replace(a_score("b"), num_examples=5)
    write_scores(file, [lost, fewer, a_score("b", value=11.0)])
    write_scores(runs / "mini" / "scores.jsonl", [a_score("b", value=12.0), a_score("c")])
    assert "4 scores, 1 new, 1 with another value" in join("mini", file=file, runs=runs).output
    assert sorted((one.key, one.num_examples, one.value) for one in read_scores(file)) == [
        ("b", 5, 10.0), ("b", 10, 12.0), ("c", 10, 10.0), ("lost", 10, 10.0),
    ]  # fmt: skip


def test_two_values_of_one_cell_and_a_file_of_something_else_are_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    runs, file = tmp_path / "runs", tmp_path / "scores.jsonl"
    write_scores(runs / "mini" / "scores.jsonl", [a_score("a")])
    write_scores(runs / "quickstart" / "scores.jsonl", [a_score("a", value=12.5)])
    refused = join("mini", "quickstart", file=file, runs=runs)
    assert refused.exit_code and "a has accuracy 12.5 on tatoeba (de), in another grid 10.0" in str(refused.exception)
    assert not file.exists()
    file.write_text("my notes\n", encoding="utf-8")
    refused = join("mini", file=file, runs=runs)
    assert isinstance(refused.exception, DataError) and "scores.jsonl:1" in str(refused.exception)
    assert file.read_text(encoding="utf-8") == "my notes\n"


def test_the_time_ahead_follows_from_the_languages_that_were_scored_and_not_from_those_that_were_there() -> None:
    def swept(num_scored: int) -> LayerSweep:
        values = dict.fromkeys(("de", "sw", "th", "zh"), (1.0, 2.0))
        return LayerSweep(
            name="a",
            task="tatoeba",
            split="test",
            metric="accuracy",
            pooling="mean",
            values=values,
            num_queries=dict.fromkeys(values, 5),
            configured=1,
            num_scored=num_scored,
        )

    assert _ahead([(0.5, swept(0))]) == 0.0
    assert _ahead([(0.5, swept(0)), (6.0, swept(1))]) == 24.0
    assert _ahead([(6.0, swept(1)), (2.0, swept(0)), (14.0, swept(4))]) == 16.0


def test_a_score_whose_label_was_mended_replaces_what_a_file_has_of_it(tmp_path: Path) -> None:
    runs, file = tmp_path / "runs", tmp_path / "scores.jsonl"
    write_scores(file, [msgspec.structs.replace(a_score("a"), zero_shot=False)])
    write_scores(runs / "mini" / "scores.jsonl", [msgspec.structs.replace(a_score("a"), zero_shot=True)])
    assert "1 scores, 0 new, 1 with another value" in join("mini", file=file, runs=runs).output
    assert [one.zero_shot for one in read_scores(file)] == [True]


def test_what_rests_on_a_run_that_did_not_converge_is_marked() -> None:
    facts = {"b": EntryFacts(converged=False)}
    section = layers_section([layers(BARE, after("a", 0), after("b", 1, lift=4.0))], facts)
    other = layers_section([layers(BARE, after("a", 0), after("c", 1, lift=4.0))], facts)
    assert section is not None and other is not None
    assert [item.plain for item in section.sheets[0].rows[1][1:]] == [
        "5.0 ±0.0† 0.0",
        "17.0 ±2.8† +2.0",
        "25.0 ±0.0† 0.0",
    ]
    assert "†" not in "".join(item.plain for item in other.sheets[0].rows[1])
