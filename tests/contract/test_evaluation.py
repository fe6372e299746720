"""Evaluation keeps its predictions, resumes by language, and never reuses a score that something else made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters_xling import evaluation, keeping, made_with, tasks
from adapters_xling.errors import ConfigError, MissingData, UnknownName
from adapters_xling.evaluation import evaluate, majority
from adapters_xling.paths import outcomes_file
from adapters_xling.tasks import kinds
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
        monkeypatch.setattr(made_with, "_predicting_code", lambda kind: "another version of the metrics")
    else:
        from dataclasses import replace

        from adapters_xling.backbones import BACKBONES

        monkeypatch.setitem(BACKBONES, "xlmr-nano", replace(BACKBONES["xlmr-nano"], retrieval_layer=0))
    after = score(tmp_path)
    assert path.stat().st_mtime_ns != stamp
    assert (after == before) is (harm != "layer")


# --- what became of each example, and scoring again without a model ----------------------------------------------


def without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was opened")

    monkeypatch.setattr(evaluation, "open_model", refuse)


def test_outcomes_stand_beside_the_scores_and_give_them_again(tmp_path: Path) -> None:
    found = score(tmp_path)
    outcomes = keeping.read_outcomes(kept(tmp_path, "de"))
    assert outcomes is not None
    assert (outcomes.language, outcomes.parallel, len(outcomes.ids)) == ("de", True, 20)
    assert outcomes.scores() == pytest.approx({s.metric: s.value for s in found if s.language == "de"})
    assert outcomes.metric_of("accuracy").name == "retrieval_accuracy"


@pytest.mark.parametrize("change", ["metric", "no outcomes", "harmed outcomes", "outcomes of others"])
def test_predictions_that_stand_are_scored_again_without_a_model(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = score(tmp_path)
    path, outcomes = kept(tmp_path, "de"), kept(tmp_path, "de", "outcomes.jsonl")
    whole, timing = outcomes.read_bytes(), json.loads(path.read_text(encoding="utf-8"))["timing"]
    if change == "metric":
        monkeypatch.setattr(evaluation, "scoring_code", lambda: "another version of the metrics")
    elif change == "no outcomes":
        outcomes.unlink()
    elif change == "harmed outcomes":
        outcomes.write_bytes(whole[:200])
    else:
        outcomes.write_bytes(kept(tmp_path, "sw", "outcomes.jsonl").read_bytes())
    without_a_model(monkeypatch)
    assert score(tmp_path) == before
    again = keeping.read_outcomes(path)
    assert again is not None
    assert again.scores() == pytest.approx({s.metric: s.value for s in before if s.language == "de"})
    # what it took to predict is still what it took
    assert json.loads(path.read_text(encoding="utf-8"))["timing"] == timing


def test_a_change_of_how_vectors_are_searched_leaves_predictions_of_other_kinds_as_they_are() -> None:
    found = {kind: {path.name for path in made_with.predicting_modules(kind)} for kind in kinds.names()}
    assert {"retrieve.py", "search.py", "products.py", "ideal.py", "mining.py"} <= found["retrieve"]
    assert all(not {"search.py", "products.py", "mining.py"} & found[kind] for kind in set(found) - {"retrieve"})
    assert {"span.py", "span_decode.py", "common.py", "base.py", "rows.py"} <= found["span"]
    assert "span_decode.py" not in found["tag"] and all("common.py" in names for names in found.values())


def test_files_from_before_there_were_outcomes_are_scored_again_without_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = score(tmp_path)
    for language in ("de", "sw"):
        kept(tmp_path, language, "outcomes.jsonl").unlink()
        body = json.loads(kept(tmp_path, language).read_text(encoding="utf-8"))
        del body["scoring"]
        kept(tmp_path, language).write_text(json.dumps(body), encoding="utf-8")
    assert keeping.read_outcomes(kept(tmp_path, "de")) is None
    without_a_model(monkeypatch)
    assert score(tmp_path) == before
    assert keeping.read_outcomes(kept(tmp_path, "de")) is not None
    stamp = kept(tmp_path, "de").stat().st_mtime_ns
    assert score(tmp_path) == before  # it is a file of this version now
    assert kept(tmp_path, "de").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("harm", ["a line less", "another id", "no file"])
def test_predictions_that_are_not_whole_are_made_again(harm: str, tmp_path: Path) -> None:
    before = score(tmp_path)
    path = kept(tmp_path, "de", "predictions.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept(tmp_path, "de", "outcomes.jsonl").unlink()
    if harm == "no file":
        path.unlink()
    else:
        changed = [lines[0].replace('"id": "', '"id": "x'), *lines[1:]] if harm == "another id" else lines[:-1]
        path.write_text("".join(changed), encoding="utf-8")
    assert score(tmp_path) == before
    assert path.read_text(encoding="utf-8") == "".join(lines)


def test_predictions_without_gold_have_no_outcomes_and_are_kept(tmp_path: Path) -> None:
    assert score(tmp_path, unscored=True) == []
    file = kept(tmp_path, "de").with_stem("test-de-first20-unscored")
    stamp = file.stat().st_mtime_ns
    assert not outcomes_file(file).exists()
    assert score(tmp_path, unscored=True) == []
    assert file.stat().st_mtime_ns == stamp


def test_what_is_not_the_same_evaluation_puts_nothing_else_away(tmp_path: Path) -> None:
    full = score(tmp_path)
    stamp = kept(tmp_path, "de").stat().st_mtime_ns
    assert score(tmp_path, unscored=True) == []
    score(tmp_path, precision="bf16")
    files = {path.name for path in tmp_path.rglob("test-de-*.json")}
    assert files == {f"test-de-first20{suffix}.json" for suffix in ("", "-bf16", "-unscored")}
    assert score(tmp_path) == full
    assert kept(tmp_path, "de").stat().st_mtime_ns == stamp, "read, and not computed again"


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
