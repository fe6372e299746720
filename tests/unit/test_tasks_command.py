"""`xling tasks`: folders given to the group hold for its commands; `check` takes rows that are really at hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from adapters_xling import model, tasks
from adapters_xling.cli.tasks import tasks as command
from adapters_xling.errors import ConfigError, UnknownName, XlingError
from tests.unit.tiny import tiny_tokenizer

TASK = """
name: mine
kind: sentence
role: private
title: Mine
languages: [en, sw]
labels: ["yes", "no"]
metrics: [accuracy]
sources:
  - type: files
    reader: table
    splits: {train: "train-{language}.tsv", test: "test-{language}.tsv"}
    options: {header: [text, label]}
"""


@pytest.fixture(autouse=True)
def tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "load_tokenizer", lambda name: tiny_tokenizer())
    monkeypatch.delenv("XLING_DATA", raising=False)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A folder with the task, and one with data: train rows in no language, test rows in Swahili."""
    own, data = tmp_path / "own", tmp_path / "data"
    own.mkdir()
    data.mkdir()
    (own / "mine.yaml").write_text(TASK)
    (data / "test-sw.tsv").write_text("".join(f"the cat {i}\t{'yes' if i % 2 else 'no'}\n" for i in range(10)))
    return own, data


def xling(*words: Any) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


@pytest.mark.parametrize("where", ["group", "command", "both"])
def test_folders_given_to_the_group_hold_for_its_commands(folders: tuple[Path, Path], where: str) -> None:
    own, data = folders
    given = ["--tasks", own, "--data-dir", data]
    words = {
        "group": [*given, "check", "mine"],
        "command": ["check", "mine", *given],
        "both": ["--tasks", "/does/not/exist", *given[2:], "check", "mine", "--tasks", own],
    }
    result = xling(*words[where])
    assert result.exception is None, result.output
    assert "mine                 test   ok: 10 rows" in result.output


def test_new_writes_into_the_groups_folder(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text("text,label\na,x\nb,y\n")
    result = xling("--tasks", folders[0], "new", tmp_path / "my.csv", "--name", "other", "--kind", "sentence")
    assert result.exception is None, result.output
    assert "other" in tasks.names(folders[0])


def test_new_says_which_columns_it_does_not_use(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("premise,claim,label\n" + "".join(f"p{i},c{i},{'ab'[i % 2]}\n" for i in range(40)))
    words = ("--tasks", tmp_path / "own", "new", table, "--name", "mine", "--kind", "sentence")
    assert "columns that are not used: claim; fields without one: second, id, group" in xling(*words).output
    assert "not used" not in xling(*words, "--columns", "second=claim", "--force").output


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mini-nli", r"task 'mini-nli' is there already: .*mini-nli\.yaml\. Give another --name"),
        ("My Task", r"'My Task' cannot be a task's name: .*Give another --name, e\.g\. my-task"),
        ("../evil", "cannot be a task's name"),
        ("recipes", "cannot be a task's name"),
        ("mine", "task 'mine' is there already: .*more/mine"),
    ],
)
def test_new_writes_under_a_name_that_can_be_read(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "my.csv").write_text("text,label\na,x\nb,y\n")
    own = tmp_path / "own"
    (own / "more").mkdir(parents=True)
    (own / "more" / "mine.yaml").write_text(TASK)
    before = sorted(tmp_path.rglob("*"))
    result = xling("--tasks", own, "new", tmp_path / "my.csv", "--name", name, "--kind", "sentence", "--force")
    assert isinstance(result.exception, ConfigError) and re.search(words, str(result.exception)), result.exception
    assert sorted(tmp_path.rglob("*")) == before
    absent = xling("--tasks", tmp_path / "no", "new", tmp_path / "my.csv", "--name", "mine", "--kind", "sentence")
    assert absent.exception is None, "what XLING_TASKS or nobody names is no obstacle"


def test_columns_are_named_as_they_are_written(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("00123,no\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(40)))
    words = ("--tasks", tmp_path / "own", "new", table, "--name", "mine", "--kind", "sentence")
    result = xling(*words, "--columns", "first=00123", "--columns", "label=no")
    assert result.exception is None, result.output
    rows = tasks.load(tasks.get("mine", extra=tmp_path / "own"), "train", "en").examples
    assert {row.label for row in rows} == {"a", "b"} and rows[0].first.startswith("text")  # type: ignore[union-attr]
    assert "not of the form name=name" in xling(*words, "--force", "--columns", "label=").output


def test_check_takes_a_language_and_splits_that_are_at_hand(folders: tuple[Path, Path]) -> None:
    own, data = folders
    result = xling("check", "mine", "mnli", "mini-nli", "--rows", 60, "--tasks", own, "--data-dir", data)
    lines = result.output.splitlines()
    assert result.exception is None, result.output
    assert lines[0].startswith("mine                 test   ok: 10 rows")
    assert "(sentence, sw)" in result.output
    assert [line for line in lines if line.startswith("mnli")] == ["mnli                 not at hand"]
    assert len([line for line in lines if line.startswith("mini-nli ")]) == 3
    assert lines[-1] == "2 checked, 1 not at hand"


def test_retrieval_is_checked_on_whole_splits() -> None:
    result = xling("check", "mini-retrieval", "--rows", 10, "--language", "sw")
    assert result.exception is None, result.output
    assert f"test   ok: {len(tasks.load(tasks.get('mini-retrieval'), 'test', 'sw'))} rows" in result.output


def test_check_can_be_asked_for_a_language(folders: tuple[Path, Path]) -> None:
    own, data = folders
    result = xling("check", "mine", "--language", "en", "--tasks", own, "--data-dir", data)
    assert result.output.splitlines() == ["mine                 not at hand in 'en'", "0 checked, 1 not at hand"]
    result = xling("check", "mini-pos", "--language", "sw", "--rows", 60)
    assert result.exception is None and "(tag, sw)" in result.output
    assert isinstance(xling("check", "--language", "xx").exception, UnknownName)


def test_a_check_that_fails_is_counted_and_is_an_error(folders: tuple[Path, Path]) -> None:
    own, data = folders
    (data / "test-sw.tsv").write_text("the cat\tmaybe\n")
    result = xling("check", "mine", "mini-nli", "--rows", 60, "--tasks", own, "--data-dir", data)
    assert "unknown label 'maybe'" in result.output and "2 checked, 0 not at hand" in result.output
    assert isinstance(result.exception, XlingError) and "1 check(s) failed" in str(result.exception)


def test_new_names_the_kinds_it_can_make_and_no_other(tmp_path: Path) -> None:
    help_text = xling("new", "--help").output
    assert "sentence, choice, tag or span" in help_text and "retrieve" not in help_text
