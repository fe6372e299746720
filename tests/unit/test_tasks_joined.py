"""Rows of several tasks as one set (ANLI+): from whatever source each of them has at hand, in turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters_xling import tasks
from adapters_xling.errors import ConfigError, MissingData, UnknownName
from adapters_xling.spec import HubSource, TaskSource
from adapters_xling.tasks import inventory


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


def parts(root: Path, *, split: str = "dev") -> None:
    """SNLI as a table, MultiNLI as JSON lines (train: as XTREME keeps it), ANLI: not the files that anli-plus names."""
    put(root, f"intermediate/snli/snli_1.0/snli_1.0_{split}.txt", "gold_label\tsentence1\tsentence2\tpairID\n"
        "neutral\ts one\ts two\ts1\n-\ta\tb\ts2\nentailment\ts five\ts six\ts3\n")  # fmt: skip
    if split == "train":
        put(root, "xtreme/xnli/train-en.tsv", "m one\tm two\tcontradictory\n")
    else:
        row = {"sentence1": "m one", "sentence2": "m two", "gold_label": "contradiction", "pairID": "m1"}
        put(root, "intermediate/mnli/multinli_1.0/multinli_1.0_dev_matched.jsonl", json.dumps(row))
    for number in "123":
        row = {"uid": f"a{number}", "context": "c", "hypothesis": f"h{number}", "label": "n"}
        put(root, f"intermediate/anli/R{number}/{split}.jsonl", json.dumps(row))


def test_rows_are_taken_in_turn_and_each_is_read_by_its_own_options(tmp_path: Path) -> None:
    parts(tmp_path)
    found = tasks.load(tasks.get("anli-plus"), "dev", "en", data_dir=tmp_path)
    assert [(e.id, e.first, e.label) for e in found.examples] == [  # type: ignore[union-attr]
        ("s1", "s one", "neutral"),
        ("m1", "m one", "contradiction"),
        ("a1", "c", "neutral"),
        ("a2", "c", "neutral"),
        ("s3", "s five", "entailment"),
        ("a3", "c", "neutral"),
    ]
    assert found.dropped == {"label '-': no gold": 1}
    assert len(found.files) == 5


def test_the_task_s_own_files_come_first_and_the_other_formats_are_another_set(tmp_path: Path) -> None:
    parts(tmp_path)
    parts(tmp_path, split="train")
    task = tasks.get("anli-plus")
    joined = tasks.ref(task, data_dir=tmp_path)
    assert joined == tasks.ref(task, data_dir=tmp_path)
    put(tmp_path, "intermediate/snli/snli_1.0/snli_1.0_train.txt", "gold_label\tsentence1\tsentence2\nneutral\tx\ty\n")
    assert tasks.ref(task, data_dir=tmp_path) != joined  # bytes of any part count
    row = {"sentence1": "own", "sentence2": "b", "gold_label": "neutral", "pairID": "own"}
    put(tmp_path, "intermediate/snli/snli_1.0/snli_1.0_dev.jsonl", json.dumps(row))
    found = tasks.load(task, "dev", "en", data_dir=tmp_path)
    assert found.examples[0].id == "own"
    assert found.source.startswith("files intermediate/snli/snli_1.0/snli_1.0_dev.jsonl, ")


def test_one_part_that_is_missing_keeps_the_set_from_serving_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    parts(tmp_path)
    (tmp_path / "intermediate/anli/R2/dev.jsonl").unlink()
    task = tasks.get("anli-plus")
    assert "dev" not in tasks.splits_at_hand(task, "en", data_dir=tmp_path)
    with pytest.raises(MissingData) as caught:
        tasks.load(task, "dev", "en", data_dir=tmp_path)
    assert "tasks snli, mnli, anli" in str(caught.value) or "facebook/anli" in str(caught.value)
    (cell,) = [cell for cell in inventory.status(task, data_dir=tmp_path) if cell.split == "dev"]
    assert (cell.state, cell.locked) == ("hub", False)
    assert all(repo in cell.source for repo in ("stanfordnlp/snli", "nyu-mll/multi_nli", "facebook/anli"))


OWN = """
name: own
kind: sentence
role: private
title: Own
languages: [en]
labels: [entailment, neutral, contradiction]
metrics: [accuracy]
sources:
  - type: tasks
    tasks: {tasks}
"""


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ("[snli, mnlu]", UnknownName, r"unknown task 'mnlu'\. Did you mean 'mnli'.*own\.yaml: sources\[0\]\.tasks"),
        ("[snli, qqp]", ConfigError, "'qqp' is of kind 'sentence' with labels .*only equal ones can be joined"),
        ("[snli, anli-plus]", ConfigError, "'anli-plus' is joined or divided itself"),
        ("[snli, kit-nli]", ConfigError, "'kit-nli' is joined or divided itself"),
        ("[snli, snli]", ConfigError, "lists 'snli' twice"),
    ],
)
def test_what_cannot_be_joined_is_refused(tmp_path: Path, names: str, error: Any, message: str) -> None:
    put(tmp_path, "own.yaml", OWN.format(tasks=names))
    with pytest.raises(error, match=message):
        tasks.get("own", extra=tmp_path)


def test_every_task_of_the_benchmarks_comes_from_the_hub_or_says_where_else() -> None:
    for task in tasks.all_specs():
        if task.role in ("intermediate", "target", "training"):
            hub = any(isinstance(source, HubSource | TaskSource) for source in task.sources)
            assert hub or task.access, f"{task.name}: no hub source and no word on where to get it"
            if not hub:
                assert "http" in task.access + task.homepage
