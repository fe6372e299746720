"""Rows that cannot be scored: the evaluation counts and says them, and a benchmark's labels hold them all the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from adapters_xling import api, hub_files
from adapters_xling.cli import xling
from adapters_xling.errors import XlingError
from adapters_xling.paths import score_file

TASK = """
name: pairs
kind: retrieve
role: private
title: Sentences of which some are placeholders
languages: [de, sw]
train_languages: []
metrics: [retrieval_accuracy]
sources:
  - type: files
    reader: aligned
    splits: {test: ["{language}.en", "{language}.xx"]}
    options: {drop_texts: [NS]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "pairs.yaml").write_text(TASK)
    words = ["the cat sat", "a dog ran", "we eat bread", "rain falls"]
    for code, texts in (("de", [*words[:3], "NS"]), ("sw", words)):
        (tmp_path / f"{code}.en").write_text("".join(f"{text}\n" for text in texts))
        (tmp_path / f"{code}.xx").write_text("".join(f"{text}\n" for text in words))
    return tmp_path


def settings(folder: Path) -> api.Settings:
    return api.Settings(runs=folder / "runs", data=folder, tasks=folder / "tasks", device="cpu")


def test_rows_left_out_are_reported_with_reasons_and_stand_beside_the_score(folder: Path) -> None:
    heard: dict[str, dict[str, int]] = {}
    for _ in range(2):  # the second time from what was kept
        heard.clear()
        scores = api.evaluate("xlmr-nano", "pairs", settings=settings(folder), on_left_out=heard.__setitem__)
        assert heard == {"de": {"placeholder 'NS' instead of a text": 1}}
        assert {score.language: score.num_examples for score in scores} == {"de": 3, "sw": 4}
    kept = score_file(folder / "runs" / "scores" / "xlmr-nano" / "pairs", "test", "de")
    assert json.loads(kept.read_text())["rows"]["dropped"] == {"placeholder 'NS' instead of a text": 1}


def test_the_command_says_it_where_it_prints_the_score(folder: Path) -> None:
    places = ["--tasks", folder / "tasks", "--data-dir", folder, "--runs", folder / "runs", "--device", "cpu"]
    done = CliRunner().invoke(xling, ["evaluate", "xlmr-nano", "pairs", *map(str, places)])
    assert done.exit_code == 0, done.output
    assert "de  rows left out: placeholder 'NS' instead of a text (1)" in done.stderr
    assert "sw  " not in done.stderr


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_files, "why_not", lambda: "no hub in this test")


def test_the_labels_of_pawsx_hold_placeholders_because_the_benchmark_scores_them(tmp_path: Path) -> None:
    rows = "id\tsentence1\tsentence2\tlabel\n1\tNS\tb\t0\n2\tc\td\t1\n3\te\tNS\t1\n"
    for code in ("de", "en", "es", "fr", "ja", "ko", "zh"):
        file = tmp_path / "xtreme" / "pawsx" / "x-final" / code / "test_2k.tsv"
        file.parent.mkdir(parents=True)
        file.write_text(rows if code == "de" else rows.replace("NS", "x"))
    given = api.Settings(runs=tmp_path / "runs", data=tmp_path)
    api.submission_labels(tmp_path / "gold", allow_missing=True, settings=given)
    assert (tmp_path / "gold" / "pawsx" / "test-de.tsv").read_text() == "0\n1\n1\n"
    assert len(list((tmp_path / "gold" / "pawsx").iterdir())) == 7


def test_labels_are_not_made_from_rows_without_answers(tmp_path: Path) -> None:
    file = tmp_path / "xtreme" / "pawsx" / "x-final" / "de" / "test_2k.tsv"
    file.parent.mkdir(parents=True)
    file.write_text("id\tsentence1\tsentence2\tlabel\n1\tNS\tb\t\n2\tc\td\t1\n")
    with pytest.raises(XlingError, match=r"pawsx/test-de\.tsv: rows were turned away \(without answer: 1\)"):
        api.submission_labels(tmp_path / "gold", settings=api.Settings(runs=tmp_path / "runs", data=tmp_path))


def test_without_a_data_folder_the_way_out_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLING_DATA", raising=False)
    with pytest.raises(XlingError) as caught:
        api.submission_labels(tmp_path / "gold", settings=api.Settings(runs=tmp_path / "runs"))
    lines = str(caught.value).splitlines()
    assert lines[-1] == "Name the folder of the original files with --data-dir or XLING_DATA"
    assert sum("--data-dir" in line for line in lines) == 1 and not any("Tried" in line for line in lines)


def test_the_longer_lists_of_xtreme_r_fill_its_folders(tmp_path: Path) -> None:
    (tmp_path / "xtreme" / "tatoeba").mkdir(parents=True)
    for side in ("eng", "ukr"):
        (tmp_path / "xtreme" / "tatoeba" / f"tatoeba.ukr-eng.{side}").write_text("b\na\n")
    built = api.submission_labels(
        tmp_path / "gold", benchmark="xtreme-r", allow_missing=True, settings=api.Settings(data=tmp_path)
    )
    assert built.num_files == 1
    assert (tmp_path / "gold" / "tatoeba" / "test-uk.tsv").read_text() == "1\n0\n"
