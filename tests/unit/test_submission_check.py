"""The checker names every file that is missing, unexpected or malformed, with line and reason; so does the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from adapters_xling.cli import xling
from adapters_xling.errors import DataError, MissingData, UnknownName
from adapters_xling.submission import Problem, benchmark, check
from tests.unit import submissions as made


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole submission to XTREME-R, and its labels. Nothing writes into it."""
    root = tmp_path_factory.mktemp("whole")
    made.write(root, "xtreme-r")
    predictions = root / "predictions"
    for path in (predictions / "xquad").iterdir():  # the mock leaves questions and mentions out on purpose
        path.write_text(json.dumps({f"q{n}": "x" for n in range(4)}))
    for task in ("mlqa", "tydiqa"):
        for path in (predictions / task).iterdir():
            path.write_text(json.dumps({f"q{n}": "x" for n in range(4)}))
    for path in (predictions / "mewslix").iterdir():
        path.write_text(json.dumps({f"m{n}": [f"Q{n}"] for n in (1, 2, 3)}))
    return root


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of the predictions, to be spoilt."""
    return Path(shutil.copytree(whole / "predictions", tmp_path / "predictions"))


def problems(folder: Path, labels: Path | None = None, name: str = "xtreme-r") -> list[Problem]:
    return check(folder, benchmark.get(name), labels=labels)


def test_a_whole_submission_has_no_problem(whole: Path) -> None:
    assert problems(whole / "predictions") == []
    assert problems(whole / "predictions", whole / "labels") == []


def test_every_missing_and_unexpected_file_is_named(folder: Path) -> None:
    (folder / "xnli" / "test-sw.tsv").rename(folder / "xnli" / "test-swa.tsv")
    (folder / "tydiqa" / "test-te.json").rename(folder / "tydiqa" / "test-te.tsv")
    (folder / "panx").rename(folder / "pan-x")
    (folder / ".DS_Store").write_text("x")
    found = problems(folder)
    assert [problem.file for problem in found] == [
        "xnli/test-sw.tsv",
        "panx",
        "tydiqa/test-te.json",
        ".DS_Store",
        "pan-x",
        "tydiqa/test-te.tsv",
        "xnli/test-swa.tsv",
    ]
    texts = {problem.file: problem.text for problem in found}
    assert texts["xnli/test-sw.tsv"] == "is missing"
    assert texts["panx"].startswith("folder is missing, with its 48 files test-{af,ar,az,")
    assert texts["pan-x"] == "is unexpected (is panx meant?); remove or rename it"
    assert "test-te.json meant?" in texts["tydiqa/test-te.tsv"]


def test_an_empty_folder_lacks_every_task(tmp_path: Path) -> None:
    found = problems(tmp_path, name="xtreme")
    assert [problem.file for problem in found] == [part.task for part in benchmark.get("xtreme").tasks]


BAD = {
    "unknown label": ("xnli/test-sw.tsv", "entailment\nentailement\n", 2, "did you mean 'entailment'?"),
    "blank label": ("xnli/test-sw.tsv", "entailment\n\nneutral\n", 2, "is blank; one of entailment, neutral"),
    "another task's label": ("xnli/test-sw.tsv", "1\n", 1, "'1' is none of entailment, neutral, contradiction"),
    "byte order mark": ("xnli/test-sw.tsv", "\ufeffneutral\n", 1, "byte order mark"),
    "empty file": ("xnli/test-sw.tsv", "", None, "is empty"),
    "bytes of another encoding": ("xnli/test-sw.tsv", b"neutral\nneut\xe9\n", 2, "is not UTF-8 (byte 0xe9)"),
    "unknown tag": ("udpos/test-yo.tsv", "NOUN\n\nNOUN\nPROPNOUN\n", 4, "did you mean 'PROPN'?"),
    "word beside the tag": ("udpos/test-yo.tsv", "dog\tNOUN\n", 1, "write the tag alone, without the word"),
    "two blank lines": ("panx/test-yo.tsv", "O\n\n\nO\n", 3, "a sentence without words"),
    "tags of a task without prefix": ("panx/test-yo.tsv", "PER\n", 1, "'PER' is none of O, B-PER"),
    "array instead of an integer": ("tatoeba/test-de.tsv", "0\n[1]\n2\n", 2, "XTREME's own script writes such arrays"),
    "float": ("tatoeba/test-de.tsv", "0\n1.0\n2\n", 2, "'1.0' is no index"),
    "negative": ("tatoeba/test-de.tsv", "0\n-1\n2\n", 2, "'-1' is no index"),
    "leading zero": ("tatoeba/test-de.tsv", "0\n01\n2\n", 2, "'01' is no index"),
    "counted from 1": ("tatoeba/test-de.tsv", "1\n2\n3\n", 3, "index 3 points behind the last of 3 sentences"),
    "half a JSON file": ("xquad/test-ro.json", '{"a": "b",\n "c', 2, "is not JSON: Unterminated string starting at"),
    "a list": ("xquad/test-ro.json", "[1]", None, "is not one JSON object"),
    "an id twice": ("xquad/test-ro.json", '{"a": "b", "a": "c"}', None, "id 'a' is given more than once"),
    "an answer that is a number": (
        "xquad/test-ro.json",
        '{"a": 3, "b": null}',
        None,
        "answer of 'a', 'b' is not a text",
    ),
    "21 entities": (
        "mewslix/test-uk.json",
        json.dumps({"m": [f"Q{n}" for n in range(1, 22)]}),
        None,
        "'m': 21 ids; at most 20 are allowed",
    ),
    "an entity twice": ("mewslix/test-uk.json", '{"m": ["Q5", "Q5"]}', None, "'m': 'Q5' is listed more than once"),
    "a title for an entity": ("mewslix/test-uk.json", '{"m": ["Kyiv"]}', None, "'Kyiv' does not look like an id"),
    "one entity, no list": ("mewslix/test-uk.json", '{"m": "Q5"}', None, "'m': the value is not a list of ids"),
    "a choice without label": ("xcopa/test-sw.jsonl", '{"label": 0}\n{"idx": 1}\n', 2, 'has no "label"'),
    "a choice of three": ("xcopa/test-sw.jsonl", '{"label": 2}\n', 1, "'2' is none of 0, 1"),
    "a choice that is true": ("xcopa/test-sw.jsonl", '{"label": true}\n', 1, "'True' is none of 0, 1"),
    "a plain label": ("xcopa/test-sw.jsonl", "0\n", 1, 'has no "label"'),
    "a broken line": ("xcopa/test-sw.jsonl", '{"label": 0}\n{"label": \n', 2, "is not JSON: Expecting value at column"),
}


@pytest.mark.parametrize(("file", "text", "line", "wanted"), BAD.values(), ids=BAD)
def test_a_malformed_file_is_named_with_line_and_reason(
    folder: Path, file: str, text: str | bytes, line: int | None, wanted: str
) -> None:
    (folder / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    found = problems(folder)
    assert {problem.file for problem in found} == {file}
    assert wanted in found[0].text
    assert found[0].line == line


@pytest.mark.parametrize(
    ("text", "line", "wanted"),
    [
        ("de-1 en-1\n", 1, "is not two ids with a tab between them"),
        ("de-1\ten-1\n\n", 2, "'' is not two ids"),
        ("de-1\ten-1\nde-1\ten-1\n", 2, "is given more than once"),
        ("en-1\tde-1\n", 1, "has the English id first"),
    ],
)
def test_mined_pairs_are_two_ids_each(text: str, line: int, wanted: str, tmp_path: Path) -> None:
    made.write(tmp_path)
    (tmp_path / "predictions" / "bucc2018" / "test-fr.tsv").write_text(text)
    (found,) = [p for p in problems(tmp_path / "predictions", name="xtreme") if p.file == "bucc2018/test-fr.tsv"]
    assert found.line == line
    assert wanted in found.text


@pytest.mark.parametrize(
    ("file", "text", "wanted"),
    [
        ("xnli/test-sw.tsv", "neutral\n" * 9, "has 9 lines, the labels have 10"),
        ("udpos/test-yo.tsv", "NOUN\n", "has 1 sentence, the labels have 2"),
        ("panx/test-yo.tsv", "O\n" * 9 + "\n" + "O\n" * 4, "a sentence of 4 tags begins here, the labels have 3"),
        ("xquad/test-ro.json", '{"q0": "", "q1": "", "q2": "", "q9": ""}', "lacks 1 id of 4, which score 0: 'q3'"),
        (
            "xquad/test-ro.json",
            '{"q0":"","q1":"","q2":"","q3":"","q9":""}',
            "has 1 id that the labels do not have: 'q9'",
        ),
    ],
)
def test_labels_show_what_a_file_alone_does_not(folder: Path, whole: Path, file: str, text: str, wanted: str) -> None:
    (folder / file).write_text(text)
    assert problems(folder) == []
    found = problems(folder, whole / "labels")
    assert {problem.file for problem in found} == {file}
    assert any(wanted in problem.text for problem in found)


def test_a_file_in_place_of_a_folder_and_the_other_way_round(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "mlqa")
    (folder / "mlqa").write_text("x")
    (folder / "xnli" / "test-sw.tsv").unlink()
    (folder / "xnli" / "test-sw.tsv").mkdir()
    texts = {problem.file: problem.text for problem in problems(folder)}
    assert texts["mlqa"].startswith("is a file; a folder with 7 files")
    assert "cannot be read" in texts["xnli/test-sw.tsv"]
    with pytest.raises(DataError, match="does not exist"):
        problems(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is a file"):
        problems(folder / "mlqa")


# --- the command ------------------------------------------------------------------------------------------------


def run(*words: Any) -> Result:
    return CliRunner().invoke(xling, ["submission", *map(str, words)])


def test_check_prints_a_table_and_ends_with_1(folder: Path, whole: Path) -> None:
    assert run("check", folder, "--benchmark", "xtreme-r", "--labels", whole / "labels").exit_code == 0
    (folder / "xnli" / "test-sw.tsv").write_text("yes\n" * 10)
    (folder / "mlqa" / "test-hi.json").unlink()
    result = run("check", folder, "--benchmark", "xtreme-r")
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0].split() == ["file", "line", "problem"]
    assert [line.split()[0] for line in lines[1:-1]] == ["xnli/test-sw.tsv"] * 6 + ["mlqa/test-hi.json"]
    assert "and 5 more (--json prints all)" in lines[6]
    assert lines[-1] == f"{folder}: 11 problem(s) with 2 file(s)"


def test_check_prints_json(folder: Path) -> None:
    (folder / "xnli" / "test-sw.tsv").write_text("yes\n" * 10)
    result = run("check", folder, "--benchmark", "xtreme-r", "--json")
    assert result.exit_code == 1
    found = json.loads(result.output)["problems"]
    assert [(problem["file"], problem["line"]) for problem in found] == [("xnli/test-sw.tsv", n) for n in range(1, 11)]


def test_score_prints_every_level(tmp_path: Path) -> None:
    wanted = made.write(tmp_path)
    result = run("score", tmp_path / "predictions", tmp_path / "labels")
    assert result.exit_code == 0, result.output
    table = {line.split()[0]: line.split() for line in result.output.splitlines() if line and ":" not in line}
    by_task = {task: made.task_score(languages) for task, languages in wanted.items()}
    for task, value in by_task.items():
        assert table[task][1:4] == [
            next(group for group, members in made.GROUPS["xtreme"].items() if task in members),
            str(len(wanted[task])),
            f"{value:.2f}",
        ]
    qa = made.mean([by_task[task] for task in ("xquad", "mlqa", "tydiqa")])
    assert table["qa"] == ["qa", f"{qa:.2f}", "group"]
    assert table["xtreme"] == ["xtreme", f"{made.mean(list(by_task.values())):.2f}", "overall"]
    assert "xnli: ar 10.0, bg 20.0, de 30.0" in result.output
    assert "xquad: ar 12.5/0.0, de 37.5/25.0" in result.output  # F1/EM


def test_score_prints_json_and_says_what_is_partial(tmp_path: Path) -> None:
    wanted = made.write(tmp_path)
    (tmp_path / "predictions" / "xnli" / "test-ar.tsv").unlink()
    words = ("score", tmp_path / "predictions", tmp_path / "labels", "--allow-missing")
    found = json.loads(CliRunner().invoke(xling, ["submission", *map(str, words), "--json"]).stdout)
    assert (found["overall"], found["partial"]) == (None, True)
    assert found["tasks"]["xnli"]["missing"] == ["ar"]
    assert found["tasks"]["xnli"]["languages"]["zh"] == wanted["xnli"]["zh"]
    text = run(*words).output
    assert "14 of 15, partial" in text
    assert "partial: an overall score needs every task in every language" in text
    overall = next(line for line in text.splitlines() if line.startswith("xtreme "))
    assert overall.split() == ["xtreme", "·", "overall"]


@pytest.mark.parametrize("verb", ["score", "check", "labels", "build"])
def test_a_misspelt_benchmark_names_the_closest(verb: str, tmp_path: Path) -> None:
    words = {
        "score": (tmp_path, tmp_path),
        "check": (tmp_path,),
        "labels": ("--out", tmp_path / "new"),
        "build": (tmp_path, "--out", tmp_path / "new"),
    }
    result = run(verb, *words[verb], "--benchmark", "xtrem")
    assert isinstance(result.exception, UnknownName)
    assert "Did you mean 'xtreme'" in str(result.exception)


def test_missing_folders_unreadable_files_and_unknown_commands(tmp_path: Path) -> None:
    result = run("score", tmp_path / "none", tmp_path)
    assert isinstance(result.exception, DataError)
    assert f"predictions folder {tmp_path / 'none'} does not exist" in str(result.exception)
    made.write(tmp_path)
    result = run("score", tmp_path / "predictions", tmp_path / "label")
    assert "labels folder" in str(result.exception)
    path = tmp_path / "labels" / "xnli" / "test-ar.tsv"
    path.unlink()
    path.mkdir()
    result = run("score", tmp_path / "predictions", tmp_path / "labels")
    assert isinstance(result.exception, DataError)
    assert f"{path}: cannot be read: Is a directory" in str(result.exception)
    shutil.rmtree(path)
    result = run("score", tmp_path / "predictions", tmp_path / "labels")
    assert isinstance(result.exception, MissingData)
    assert str(path) in str(result.exception)
    assert run("scores").exit_code == 2


def test_help_lists_the_commands() -> None:
    command = xling.get_command(click.Context(xling), "submission")
    assert isinstance(command, click.Group)
    assert set(command.commands) == {"build", "check", "labels", "score"}
