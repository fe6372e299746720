"""Evaluation keeps its predictions, resumes by language, and never reuses a score that something else made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters_xling import evaluation, tasks
from adapters_xling.errors import ConfigError, MissingData, UnknownName
from adapters_xling.evaluation import evaluate, majority
from adapters_xling.zoo import Zoo


def score(folder: Path, **options: object) -> list[evaluation.Score]:
    fields = {"languages": ["de", "sw"], "limit": 20, "device": "cpu", **options}
    return evaluate("xlmr-nano", tasks.get("mini-retrieval"), zoo=Zoo(folder / "zoo"), runs_dir=folder, **fields)  # type: ignore[arg-type]


def kept(folder: Path, language: str, suffix: str = "json") -> Path:
    return folder / "scores" / "xlmr-nano" / "mini-retrieval" / f"test-{language}-first20.{suffix}"


def test_every_prediction_is_kept_and_gives_the_score_again(tmp_path: Path) -> None:
    found = score(tmp_path)
    lines = kept(tmp_path, "de", "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 20
    first = {row["id"]: row["value"][0][0] for row in map(json.loads, lines)}
    right = sum(value == f"en:{name}" for name, value in first.items())
    accuracy = next(s for s in found if (s.language, s.metric) == ("de", "accuracy"))
    assert accuracy.value == pytest.approx(100 * right / 20)
    assert accuracy.num_examples == 20
    assert accuracy.zero_shot
    assert accuracy.method == "base"


def test_a_finished_language_is_read_and_an_unfinished_one_is_computed(tmp_path: Path) -> None:
    before = score(tmp_path, languages=["de"])
    stamp = kept(tmp_path, "de").stat().st_mtime_ns
    done: list[str] = []
    after = score(tmp_path, on_language=lambda language, _: done.append(language))
    assert done == ["de", "sw"]
    assert after[: len(before)] == before
    assert kept(tmp_path, "de").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("harm", ["half", "code", "layer"])
def test_a_score_made_by_something_else_is_computed_again(
    harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = score(tmp_path)
    path = kept(tmp_path, "de")
    stamp = path.stat().st_mtime_ns
    if harm == "half":
        path.write_text(path.read_text(encoding="utf-8")[:100], encoding="utf-8")
    elif harm == "code":
        monkeypatch.setattr(evaluation, "_code", lambda: "another version of the metrics")
    else:
        from dataclasses import replace

        from adapters_xling.backbones import BACKBONES

        monkeypatch.setitem(BACKBONES, "xlmr-nano", replace(BACKBONES["xlmr-nano"], retrieval_layer=0))
    after = score(tmp_path)
    assert path.stat().st_mtime_ns != stamp
    assert (after == before) is (harm != "layer")


TASK = """
name: two-words
kind: sentence
role: private
title: Two words
languages: [de, fr]
labels: [bad, good]
metrics: [accuracy]
sources:
  - type: files
    reader: table
    splits: {train: "train-{language}.csv", dev: "train-{language}.csv", test: "test-{language}.csv"}
    options: {columns: {first: text, label: label}}
"""


def two_words(folder: Path) -> Path:
    (folder / "tasks").mkdir()
    (folder / "tasks" / "two-words.yaml").write_text(TASK, encoding="utf-8")
    (folder / "train-en.csv").write_text("text,label\na b,good\nc d,bad\ne f,good\n", encoding="utf-8")
    (folder / "test-de.csv").write_text("text,label\ng h,good\ni j,bad\nk l,bad\nm n,bad\n", encoding="utf-8")
    return folder / "tasks"


def test_the_majority_floor_by_hand_and_a_language_without_rows(tmp_path: Path) -> None:
    task = tasks.get("two-words", extra=two_words(tmp_path))
    scores = majority(task, backbone="b", data_dir=tmp_path, train_task=task, skip_missing=True)
    assert [(s.language, s.value, s.num_examples) for s in scores] == [("de", 25.0, 4)]  # "good" is right once in four
    with pytest.raises(MissingData, match=r"test-fr\.csv"):
        majority(task, backbone="b", data_dir=tmp_path, train_task=task, languages=["fr"])


def test_what_cannot_be_scored_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Known"):
        score(tmp_path, languages=["xx"])
    with pytest.raises(ConfigError, match="has no heads"):
        evaluate("xlmr-nano", tasks.get("mini-pos"), zoo=Zoo(tmp_path), runs_dir=tmp_path)
