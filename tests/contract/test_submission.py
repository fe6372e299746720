"""From a shipped entry to a score, through files: the folder scores what the evaluation said."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters_xling import api
from adapters_xling.paths import predictions_file, score_file

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
    assert found.overall == pytest.approx(sum(task.score for task in found.tasks.values()) / 2)
    assert 50 < found.overall < 100, "a folder that scores 0 or 100 would show nothing"


def test_rows_whose_answers_are_withheld_are_predicted_and_not_scored(tmp_path: Path) -> None:
    settings = api.Settings(runs=tmp_path, device="cpu")
    options = {"languages": ["sw"], "limit": 30, "settings": settings}
    assert api.evaluate("mini-ner-lora", "mini-ner", unscored=True, **options) == []
    (folder,) = (tmp_path / "scores").iterdir()
    file = predictions_file(score_file(folder / "mini-ner", "test", "sw", limit=30))
    kept = file.read_text()
    assert len(kept.splitlines()) == 30
    assert len(api.evaluate("mini-ner-lora", "mini-ner", **options)) == 3, "a scored run computes what is not there"
    assert file.read_text() == kept
