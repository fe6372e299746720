"""From a shipped entry to a score, through files: the folder scores what the evaluation said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters_xling import api, tasks
from adapters_xling.errors import MissingData
from adapters_xling.paths import predictions_file, score_file
from adapters_xling.submission.kept import read

BENCHMARK = """
name: two
title: tags and retrieval in two languages
tasks:
  - task: mini-ner
    group: tagging
    format: tags
    metric: chunk_f1
    labels: [O, B-PER, I-PER, B-LOC, I-LOC, B-TIM, I-TIM]
    languages: [sw, zh]
  - {task: mini-retrieval, group: retrieval, format: indices, metric: accuracy, languages: [sw, zh]}
"""
TARGETS = {"mini-ner": "mini-ner-lora", "mini-retrieval": "xlmr-nano"}


def test_a_built_folder_scores_what_evaluate_says(tmp_path: Path) -> None:
    own = tmp_path / "two.yaml"
    own.write_text(BENCHMARK)
    settings = api.Settings(runs=tmp_path / "runs", device="cpu")
    said = {}
    for task, entry in TARGETS.items():
        for score in api.evaluate(entry, task, languages=["sw", "zh"], settings=settings):
            said[task, score.language, score.metric] = score.value
    built = api.build_submission([str(tmp_path / "runs")], tmp_path / "out", benchmark=str(own), settings=settings)
    assert built.num_files == 4
    golds = api.submission_labels(tmp_path / "gold", benchmark=str(own), settings=settings)
    assert api.check_submission(built.folder, benchmark=str(own), labels=golds.folder) == []
    found = api.score_submission(built.folder, golds.folder, benchmark=str(own))
    for task, metric in (("mini-ner", "f1"), ("mini-retrieval", "accuracy")):
        for code in ("sw", "zh"):
            assert found.tasks[task].languages[code][metric] == pytest.approx(said[task, code, metric]), (task, code)
    beside = built.folder.with_name("out.sources.json")
    assert beside.exists()
    api.submission_labels(built.folder, benchmark=str(own), force=True, settings=settings)
    assert not beside.exists(), "it spoke of what was replaced"
    assert found.overall == pytest.approx(sum(task.score for task in found.tasks.values()) / 2)
    assert 50 < found.overall < 100, "a folder that scores 0 or 100 would show nothing"


def test_rows_whose_answers_are_withheld_are_predicted_and_not_scored(tmp_path: Path) -> None:
    settings = api.Settings(runs=tmp_path, device="cpu")
    options = {"languages": ["sw"], "limit": 30, "settings": settings}
    assert api.evaluate("mini-ner-lora", "mini-ner", unscored=True, **options) == []
    (folder,) = (tmp_path / "scores").iterdir()
    file = predictions_file(score_file(folder / "mini-ner", "test", "sw", limit=30, unscored=True))
    kept = file.read_text()
    assert len(kept.splitlines()) == 30
    assert len(api.evaluate("mini-ner-lora", "mini-ner", **options)) == 3, "a scored run computes what is not there"
    assert file.read_text() == kept


def test_predictions_of_every_row_are_handed_in_before_scored_ones_and_full_precision_before_half(
    tmp_path: Path,
) -> None:
    task, folder = tasks.get("mini-ner"), tmp_path / "scores" / "an-entry" / "mini-ner"
    folder.mkdir(parents=True)

    def put(**how: Any) -> None:
        path = score_file(folder, "test", "sw", **how)
        path.write_text(json.dumps({"rows": {"dropped": {}}}), encoding="utf-8")
        predictions_file(path).write_text(json.dumps({"id": path.stem, "value": []}), encoding="utf-8")

    def found() -> tuple[str, list[str]]:
        one = read(folder, task, "test", "sw", data_dir=None)
        return one.values[0][0], one.notes

    with pytest.raises(MissingData, match="xling evaluate an-entry mini-ner --languages sw"):
        found()
    put(precision="bf16")
    assert found() == ("test-sw-bf16", ["predicted in bf16"])
    put()
    assert found() == ("test-sw", [])
    put(unscored=True)
    assert found() == ("test-sw-unscored", [])
