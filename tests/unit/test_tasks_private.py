"""A user's own table becomes a task file that loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters_xling import tasks
from adapters_xling.errors import ConfigError, DataError, MissingData, UnknownName


def table(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / name
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    else:
        sep = {".csv": ",", ".tsv": "\t"}[path.suffix]
        lines = [sep.join(rows[0]), *(sep.join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


REVIEWS = [{"Text": f"review {i}", "class": "good" if i % 3 else "bad", "stars": i} for i in range(200)]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_a_drafted_task_loads_and_its_splits_share_no_text(tmp_path: Path, suffix: str) -> None:
    path = table(tmp_path, f"reviews.{suffix}", REVIEWS)
    own = tmp_path / "own"
    own.mkdir()
    (own / "reviews.yaml").write_text(tasks.draft_task(path, name="reviews", kind="sentence", language="sw"))
    task = tasks.get("reviews", extra=own)
    assert task.labels == ("bad", "good") and task.languages == task.train_languages == ("sw",)
    found = [tasks.load(task, split, "sw", data_dir=tmp_path) for split in ("train", "dev", "test")]
    texts = [{example.first for example in rows.examples} for rows in found]  # type: ignore[union-attr]
    assert sum(map(len, texts)) == len(set().union(*texts)) == 200
    assert tasks.ref(task, data_dir=tmp_path).name == "reviews"


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("choice", {"question": "q", "choices": ["a", "b"], "label": 1}),
        ("tag", {"tokens": ["Ada", "came"], "ner_tags": ["B", "O"]}),
        ("span", {"context": "Ada came", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]}),
    ],
)
def test_other_kinds_are_drafted_from_json_lines(tmp_path: Path, kind: str, row: dict[str, Any]) -> None:
    path = table(tmp_path, "a.jsonl", [{**row, "id": str(i), "group": str(i)} for i in range(60)])
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.yaml").write_text(tasks.draft_task(path, name="mine", kind=kind, language="en"))
    task = tasks.get("mine", extra=tmp_path / "own")
    kept = [tasks.load(task, s, "en", data_dir=tmp_path, need_gold=False).kept for s in ("train", "dev", "test")]
    assert sum(kept) == 60


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = table(tmp_path, "a.csv", [{"utterance": "a", "intent": "x"}, {"utterance": "b", "intent": "y"}])
    with pytest.raises(DataError, match=r"which column is 'first' .*Found 'utterance', 'intent'.*columns: first="):
        tasks.draft_task(path, name="a", kind="sentence", language="en")
    text = tasks.draft_task(
        path, name="a", kind="sentence", columns={"first": "utterance", "label": "intent"}, language="en"
    )
    assert "first: utterance" in text
    with pytest.raises(DataError, match=r"no column 'intend' for 'label'; found 'utterance', 'intent'"):
        tasks.draft_task(path, name="a", kind="sentence", columns={"label": "intend"}, language="en")
    with pytest.raises(UnknownName, match=r"Did you mean 'label'"):
        tasks.draft_task(path, name="a", kind="sentence", columns={"lable": "intent"}, language="en")


def test_files_that_cannot_be_a_task_are_refused(tmp_path: Path) -> None:
    def draft(path: Path, kind: str = "sentence", language: str = "en") -> str:
        return tasks.draft_task(path, name="a", kind=kind, language=language)

    good = table(tmp_path, "good.csv", REVIEWS)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "latin.csv").write_bytes("text,label\nsch\xf6n,a\n".encode("latin-1"))
    with pytest.raises(MissingData, match="no such file"):
        draft(tmp_path / "none.csv")
    with pytest.raises(DataError, match="no usable row"):
        draft(tmp_path / "empty.csv")
    with pytest.raises(DataError, match="line 2 is not UTF-8"):
        draft(tmp_path / "latin.csv")
    with pytest.raises(UnknownName, match="'retrieve'"):
        draft(good, kind="retrieve")
    with pytest.raises(UnknownName, match="unknown language 'xx'"):
        draft(good, language="xx")
    with pytest.raises(DataError, match=r"holds 1 different label\(s\)"):
        draft(table(tmp_path, "one.csv", [{"text": "a", "label": "x"}]))
    with pytest.raises(ConfigError, match=r"'label' holds 150 different values .*too many"):
        draft(table(tmp_path, "free.csv", [{"text": "a", "label": f"note {i}"} for i in range(150)]))
