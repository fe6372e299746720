"""A user's own table becomes a task file that loads."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters_xling import tasks
from adapters_xling.errors import ConfigError, DataError, MissingData, UnknownName
from adapters_xling.spec import TaskSpec
from adapters_xling.tasks import private


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
    (own / "reviews.yaml").write_text(tasks.draft(path, name="reviews", kind="sentence", language="sw").text)
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
    (tmp_path / "own" / "mine.yaml").write_text(tasks.draft(path, name="mine", kind=kind, language="en").text)
    task = tasks.get("mine", extra=tmp_path / "own")
    kept = [tasks.load(task, s, "en", data_dir=tmp_path, need_gold=False).kept for s in ("train", "dev", "test")]
    assert sum(kept) == 60


@pytest.mark.parametrize("code", ["ha", "no", "nso"])
def test_rows_may_be_in_any_language(tmp_path: Path, code: str) -> None:
    """`no` is Norwegian, not a truth value; Northern Sotho has no code of two letters."""
    path = table(tmp_path, "reviews.csv", REVIEWS)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.yaml").write_text(tasks.draft(path, name="mine", kind="sentence", language=code).text)
    task = tasks.get("mine", extra=tmp_path / "own")
    assert task.languages == (code,) and tasks.load(task, "train", code).kept


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = table(tmp_path, "a.csv", [{"utterance": "a", "intent": "x"}, {"utterance": "b", "intent": "y"}])
    with pytest.raises(DataError, match=r"which column is 'first' .*Found 'utterance', 'intent'.*--columns first="):
        tasks.draft(path, name="a", kind="sentence", language="en")
    text = tasks.draft(
        path, name="a", kind="sentence", columns={"first": "utterance", "label": "intent"}, language="en"
    ).text
    assert "first: utterance" in text
    with pytest.raises(DataError, match=r"no column 'intend' for 'label'; found 'utterance', 'intent'"):
        tasks.draft(path, name="a", kind="sentence", columns={"label": "intend"}, language="en")
    with pytest.raises(UnknownName, match=r"Did you mean 'label'"):
        tasks.draft(path, name="a", kind="sentence", columns={"lable": "intent"}, language="en")


PAIRS = [{"premise": f"p{i}", "claim": f"c{i}", "label": "no" if i % 2 else "yes"} for i in range(60)]


def test_columns_that_are_not_used_are_named(tmp_path: Path) -> None:
    path = table(tmp_path, "a.csv", PAIRS)
    how: dict[str, Any] = {"name": "mine", "kind": "sentence", "language": "en"}
    found = private.draft(path, **how)
    assert found.unused == ("claim",) and found.body["pair"] is False
    assert found.remark == (
        "columns that are not used: claim; fields without one: second, id, group (--columns FIELD=COLUMN)"
    )
    assert '# Columns that are not used: "claim"' in found.text
    named = private.draft(path, **how, columns={"second": "claim"})
    assert not named.unused and not named.remark and named.body["pair"] is True
    choice = table(tmp_path, "b.csv", [{"question": "q", "choice1": "a", "choice2": "b", "label": 0, "x": "y"}])
    assert private.draft(choice, name="b", kind="choice", language="en").unused == ("x",)


def test_rows_of_a_task_about_pairs_have_two_texts(tmp_path: Path) -> None:
    path = table(tmp_path, "a.jsonl", [*PAIRS, {"premise": "alone", "label": "no"}])
    how: dict[str, Any] = {"name": "mine", "kind": "sentence", "language": "en"}
    with pytest.raises(DataError, match=r"which column is 'second' .*Found 'premise', 'claim'.*--columns second="):
        private.draft(path, **how, pair=True)
    with pytest.raises(UnknownName, match=r"field of kind 'sentence' with one text 'second'"):
        private.draft(path, **how, pair=False, columns={"second": "claim"})
    (tmp_path / "own").mkdir()
    draft = private.draft(path, **how, columns={"second": "claim"})
    (tmp_path / "own" / "mine.yaml").write_text(draft.text)
    task = tasks.get("mine", extra=tmp_path / "own")
    dropped = [tasks.load(task, split, "en").dropped for split in ("train", "dev", "test")]
    assert [sum(one.values()) for one in dropped].count(1) >= 1
    (tmp_path / "own" / "mine.yaml").write_text(draft.text.replace("kind: sentence", "kind: choice"))
    with pytest.raises(ConfigError, match="pair: only rows of kind 'sentence'"):
        tasks.get("mine", extra=tmp_path / "own")


def test_rows_to_predict_for_have_as_many_texts_as_the_task(tmp_path: Path) -> None:
    path = table(tmp_path, "a.csv", PAIRS)
    nli = tasks.get("mini-nli")
    with pytest.raises(DataError, match=r"which column is 'second' .*--columns second="):
        private.read_inputs(path, nli)
    assert private.read_inputs(path, nli, columns={"second": "claim"}).examples[0].second == "c0"  # type: ignore[union-attr]
    single = msgspec.structs.replace(nli, pair=False)
    assert private.read_inputs(path, single).examples[0].second is None  # type: ignore[union-attr]
    with pytest.raises(UnknownName, match="with one text 'second'"):
        private.read_inputs(path, single, columns={"second": "claim"})


def test_files_that_cannot_be_a_task_are_refused(tmp_path: Path) -> None:
    def draft(path: Path, kind: str = "sentence", language: str = "en") -> str:
        return tasks.draft(path, name="a", kind=kind, language=language).text

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
    with pytest.raises(DataError, match=r'row 1: column .text. holds {"a": 1}, which is no text'):
        draft(table(tmp_path, "cells.jsonl", [{"text": {"a": 1}, "label": label} for label in "xy"]))
    with pytest.raises(ConfigError, match=r"'label' holds 150 different values .*too many"):
        draft(table(tmp_path, "free.csv", [{"text": "a", "label": f"note {i}"} for i in range(150)]))


def made(folder: Path, path: Path, kind: str) -> tuple[TaskSpec, int, dict[str, int]]:
    """The drafted task as it is read again, rows that it keeps, and others by reason."""
    (folder / "own").mkdir()
    (folder / "own" / "mine.yaml").write_text(tasks.draft(path, name="mine", kind=kind, language="en").text)
    task = tasks.get("mine", extra=folder / "own")
    found = [tasks.load(task, split, "en") for split in ("train", "dev", "test")]
    dropped: Counter[str] = Counter()
    for rows in found:
        dropped.update(rows.dropped)
    return task, sum(rows.kept for rows in found), dict(dropped)


def test_a_label_that_is_null_is_no_label(tmp_path: Path) -> None:
    unlabelled = {"text": "what is this", "label": None, "group": "g0"}
    rows = [{"text": f"t{i}", "label": "no" if i % 2 else "yes", "group": f"g{i}"} for i in range(60)]
    task, kept, dropped = made(tmp_path, table(tmp_path, "a.jsonl", [unlabelled, *rows]), "sentence")
    assert (task.labels, kept, dropped) == (("no", "yes"), 60, {"blank label": 1})


def test_a_tag_that_is_null_is_no_tag(tmp_path: Path) -> None:
    torn = {"words": ["Ada", "came"], "tags": ["B", None], "group": "g0"}
    rows = [{"words": ["Ada", f"came {i}"], "tags": ["B", "O"], "group": f"g{i}"} for i in range(60)]
    task, kept, dropped = made(tmp_path, table(tmp_path, "a.jsonl", [torn, *rows]), "tag")
    assert (task.labels, kept, dropped) == (("B", "O"), 60, {"blank label": 1})


def questions(impossible: Callable[[int], Any] | None = None) -> list[dict[str, Any]]:
    """Questions as a table has them, some with a column that says whether they have an answer."""
    answers = [{"text": "Ada", "answer_start": 0}]
    rows: list[dict[str, Any]] = [
        {"context": f"Ada came {i}.", "question": "Who?", "answers": answers} for i in range(60)
    ]
    return [{**row, "is_impossible": impossible(i)} if impossible else row for i, row in enumerate(rows)]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_answers_may_be_json_in_a_cell(tmp_path: Path, suffix: str) -> None:
    task, kept, _ = made(tmp_path, write_rows(tmp_path, suffix, questions()), "span")
    assert (kept, task.metrics, dict(task.options)) == (60, ("squad",), {})
    (example, *_) = tasks.load(task, "train", "en").examples
    assert example.answers[0].text == "Ada"  # type: ignore[union-attr]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_questions_that_are_said_to_be_impossible_make_a_task_of_such(tmp_path: Path, suffix: str) -> None:
    path = write_rows(tmp_path, suffix, questions(lambda i: str(i % 3 == 0)))
    assert private.draft(path, name="mine", kind="span", language="en").unused == ()
    task, kept, dropped = made(tmp_path, path, "span")
    assert (kept, dropped, task.metrics, dict(task.options)) == (60, {}, ("squad2",), {"impossible": True})
    examples = tasks.load_all(task, "train", ["en"])[0]
    assert {bool(e.answers) for e in examples} == {True, False}  # type: ignore[union-attr]


def test_a_column_that_calls_no_question_impossible_changes_nothing(tmp_path: Path) -> None:
    task, kept, _ = made(tmp_path, write_rows(tmp_path, "csv", questions(lambda _: False)), "span")
    assert (kept, task.metrics, dict(task.options)) == (60, ("squad",), {})


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("span", {"context": "Ada", "question": "Who?", "answers": "Ada"}, "row 2: answers are not in SQuAD's form"),
        ("span", {"context": "Ada", "question": "Who?", "answers": ["Ada"]}, "row 2: answers are not in SQuAD's form"),
        ("span", {"context": "Ada", "question": "Who?", "answers": []}, "none of its 1 rows .*row 2: blank answer"),
        ("choice", {"question": "q", "choice1": "a", "choice2": "b", "label": "b"}, "row 2: unknown label 'b'.*'1'"),
        ("choice", {"question": "q", "choices": "a or b", "label": 0}, "row 2: column 'choices' holds 'a or b'"),
    ],
)  # fmt: skip
def test_rows_that_could_not_be_loaded_are_refused_before_a_task_is_written(
    tmp_path: Path, kind: str, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=rf"in\.csv: {message}"):
        tasks.draft(write_rows(tmp_path, "csv", [row]), name="mine", kind=kind, language="en")


@pytest.mark.parametrize(
    ("name", "kind", "text", "hint"),
    [
        ("a.csv", "sentence", "text;label\na;b\n", "first line holds semicolons and no commas: .* with commas"),
        ("a.csv", "sentence", "text;label\na, b;c\n", "no usable row.*first line holds semicolons and no commas"),
        ("a.csv", "sentence", "text\tlabel\na\tb\n", "first line holds tabs and no commas: .*name the file .tsv"),
        ("a.tsv", "sentence", "text,label\na,b\n", "first line holds commas and no tabs: .*name the file .csv"),
        ("a.txt", "tag", "Ada\tB\ncame\tO\n", "which column is 'words'.*one word and its tag per line .*a.conll"),
        ("a.conll", "tag", "Ada B\ncame O\n", "line 1 is 'Ada B': a tab must separate .*sed "),
    ],
)
def test_a_file_of_another_format_is_told_what_it_seems_to_be(
    tmp_path: Path, name: str, kind: str, text: str, hint: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=hint):
        tasks.draft(tmp_path / name, name="mine", kind=kind, language="en")


@pytest.mark.parametrize(
    ("suffix", "line"),
    [
        (".conll", "{word}\t{tag}"),
        (".bio", "{word}\tNOUN\tx\t{tag}"),
        (".conllu", "1\t{word}\t_\t{tag}\t_\t_\t0\t_\t_\t_"),
    ],
)
def test_words_one_per_line_become_a_task_and_can_be_tagged(tmp_path: Path, suffix: str, line: str) -> None:
    path = tmp_path / f"in{suffix}"
    words = [("Ada", "B"), *((f"came{i}", "O") for i in range(60))]
    sentences = ["\n".join(line.format(word=word, tag=tag) for word, tag in (words[0], other)) for other in words[1:]]
    path.write_text("\n\n".join(sentences) + "\n")
    task, kept, _ = made(tmp_path, path, "tag")
    assert (kept, task.labels) == (60, ("B", "O"))
    found = private.read_inputs(path, tasks.get("mini-ner")).examples
    assert [(e.words, e.tags) for e in found][:1] == [(("Ada", "came0"), None)]  # type: ignore[union-attr]
    if suffix == ".conll":
        path.write_text("Ada\ncame\n")
        (example,) = private.read_inputs(path, tasks.get("mini-ner")).examples
        assert example.words == ("Ada", "came")  # type: ignore[union-attr]


def test_comments_and_marks_of_documents_do_not_say_which_column_the_tag_is_in(tmp_path: Path) -> None:
    """The first line with a tab does: after a bare -DOCSTART- the second column was learnt, a part of speech."""
    path = tmp_path / "in.conll"
    words = "\n\n".join(f"Ada\tPROPN\tx\tB\ncame{i}\tVERB\tx\tO" for i in range(60))
    for head in ("-DOCSTART-\n\n", "# a sentence\n"):
        path.write_text(head + words + "\n")
        assert private._reader(path, "tag") == ("conll", {"tag": 3})
    path.write_text("-DOCSTART-\n\nAda B\n")
    with pytest.raises(DataError, match="line 3 is 'Ada B': a tab must separate"):
        private._reader(path, "tag")


def test_comments_and_marks_of_documents_are_no_words(tmp_path: Path) -> None:
    path = tmp_path / "in.conll"
    words = ("Ada", "B"), ("came", "O"), ("#", "O")  # a word that is a hash stays one
    for comment in ("# sent_id = {}", "# sent_id = {}\tdomain=news", "#\tsent_id\t=\t{}"):
        body = "\n\n".join(
            "\n".join([comment.format(i), *(f"{word}{'' if word == '#' else i}\t{tag}" for word, tag in words)])
            for i in range(60)
        )
        path.write_text(f"-DOCSTART-\tO\n\n{body}\n", encoding="utf-8")
        drafted = private.draft(path, name="own", kind="tag", language="en")
        assert drafted.body["labels"] == ["B", "O"] and "60 rows" in drafted.comment and "torn" not in drafted.comment
    path.write_text("# sent_id = 1\nTom\nananunua\nkofia\n", encoding="utf-8")
    (example,) = private.read_inputs(path, tasks.get("mini-ner")).examples
    assert example.words == ("Tom", "ananunua", "kofia")  # type: ignore[union-attr]


def test_a_cell_without_a_value_is_not_the_text_nan(tmp_path: Path) -> None:
    """`json.dumps` writes pandas' missing cells as NaN, which is no JSON and which Python reads as a number."""
    lines = [f'{{"text": "a{i}", "label": "{"yes" if i % 2 else "no"}"}}' for i in range(60)]
    lines += ['{"text": NaN, "label": "yes"}', '{"text": "b", "label": NaN}']
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    drafted = private.draft(path, name="own", kind="sentence", language="en")
    assert drafted.body["labels"] == ["no", "yes"]
    found = private.read_inputs(path, msgspec.structs.replace(tasks.get("mini-nli"), pair=False))
    assert "nan" not in {str(row.first) for row in found.examples} and sum(found.dropped.values()) == 1  # type: ignore[union-attr]


# --- rows to predict for -----------------------------------------------------------------------------------------


def write_rows(folder: Path, suffix: str, rows: list[dict[str, Any]]) -> Path:
    """The same rows as JSON lines, or as CSV with lists written as JSON."""
    path = folder / f"in.{suffix}"
    if suffix == "jsonl":
        return table(folder, path.name, rows)
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, rows[0].keys())
        writer.writeheader()
        writer.writerows(
            {name: json.dumps(cell) if isinstance(cell, list) else cell for name, cell in row.items()} for row in rows
        )
    return path


SUFFIXES = pytest.mark.parametrize("suffix", ["csv", "jsonl"])


@SUFFIXES
@pytest.mark.parametrize(
    "row",
    [
        {"question": "q", "choices": ["x", "y, z"]},
        {"question": "q", "options": ["x", "y, z"], "label": "none of ours"},
        {"question": "q", "choice2": "y, z", "choice1": "x", "answer": 7},
        {"Premise": "q", "Choice 1": "x", "Choice 2": "y, z"},
    ],
)
def test_choices_to_predict_for_are_one_column_or_numbered_ones(
    tmp_path: Path, suffix: str, row: dict[str, Any]
) -> None:
    (example,) = private.read_inputs(write_rows(tmp_path, suffix, [row]), tasks.get("mini-choice")).examples
    found = example.prompt, example.choices, example.label  # type: ignore[union-attr]
    assert found == ("q", ("x", "y, z"), None)


def test_choices_that_cannot_be_found_or_read_say_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"which column is 'choices' .*or choice1, choice2, …\. Name it with --columns"):
        private.read_inputs(write_rows(tmp_path, "csv", [{"question": "q", "a": "x"}]), tasks.get("mini-choice"))
    with pytest.raises(DataError, match=r"column 'choices' holds 'x or y' instead of a list .*choice1, choice2"):
        private.read_inputs(
            write_rows(tmp_path, "csv", [{"question": "q", "choices": "x or y"}]), tasks.get("mini-choice")
        )


@SUFFIXES
@pytest.mark.parametrize("column", ["words", "tokens", "text", "sentence", "Text"])
def test_a_text_to_tag_is_split_at_blanks(tmp_path: Path, suffix: str, column: str) -> None:
    path = write_rows(tmp_path, suffix, [{column: "Ada  came home .", "tags": "not ours"}])
    (example,) = private.read_inputs(path, tasks.get("mini-ner")).examples
    assert (example.words, example.tags) == (("Ada", "came", "home", "."), None)  # type: ignore[union-attr]


def test_a_list_of_words_stays_as_it_is(tmp_path: Path) -> None:
    path = write_rows(tmp_path, "jsonl", [{"id": 7, "words": ["New York", "."], "tags": ["O"]}, {"words": None}])
    rows = private.read_inputs(path, tasks.get("mini-ner"))
    assert [(e.id, e.words) for e in rows.examples] == [("7", ("New York", "."))]  # type: ignore[union-attr]
    assert rows.dropped == {"no words": 1}


@SUFFIXES
@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("mini-nli", {"premise": "a", "hypothesis": "b", "label": "nobody's label"}),
        ("mini-qa", {"question": "Who?", "context": "Ada came.", "answers": "Ada", "is_impossible": "False"}),
        ("mini-choice", {"question": "q", "choice1": "a", "choice2": "b", "label": "17"}),
        ("mini-pos", {"text": "Ada came", "tags": "A B C", "labels": "X"}),
    ],
)
def test_columns_of_gold_are_not_looked_at(tmp_path: Path, suffix: str, name: str, row: dict[str, Any]) -> None:
    rows = private.read_inputs(write_rows(tmp_path, suffix, [row]), tasks.get(name))
    (example,) = rows.examples
    assert not rows.dropped
    gold = [getattr(example, field, None) for field in ("label", "tags", "answers", "impossible")]
    assert not any(gold)


@SUFFIXES
def test_named_columns_are_taken_and_wrong_ones_refused(tmp_path: Path, suffix: str) -> None:
    path = write_rows(tmp_path, suffix, [{"text": "no", "utterance": "a", "reply": "b"}])
    nli = tasks.get("mini-nli")
    (example,) = private.read_inputs(path, nli, columns={"first": "utterance", "second": "reply"}).examples
    assert (example.first, example.second) == ("a", "b")  # type: ignore[union-attr]
    with pytest.raises(DataError, match="no column 'uterance' for 'first'; found 'text', 'utterance'"):
        private.read_inputs(path, nli, columns={"first": "uterance"})
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match="no rows in"):
        private.read_inputs(tmp_path / "empty.csv", nli)


def test_a_row_that_lacks_a_column_is_named_with_what_the_file_has(tmp_path: Path) -> None:
    path = table(tmp_path, "in.jsonl", [{"premise": "a", "hypothesis": "b", "note": 1}, {"premise": "a"}])
    with pytest.raises(DataError) as caught:
        private.read_inputs(path, tasks.get("mini-nli"))
    assert str(caught.value) == (
        f"{path}: row 2: no column 'hypothesis' for 'second'; this row has 'premise', the file 'premise', "
        "'hypothesis', 'note'. Give every row that column, or name another one with --columns second=<column>"
    )
    path = table(tmp_path, "in.jsonl", [{"question": "q", "choice1": "a", "choice2": "b"}, {"question": "q"}])
    with pytest.raises(DataError, match=r"row 2: no column 'choice1' .*--columns choices="):
        private.read_inputs(path, tasks.get("mini-choice"))


@pytest.mark.parametrize(
    ("name", "row", "shown"),
    [
        ("mini-nli", {"premise": "a", "hypothesis": ["x", "y"]}, r'\["x", "y"\]'),
        ("mini-nli", {"premise": {"a": 1}, "hypothesis": "b"}, '{"a": 1}'),
        ("mini-nli", {"premise": "a", "hypothesis": True}, "true"),
        ("mini-qa", {"question": "Who?", "context": ["Ada came."]}, r'\["Ada came."\]'),
        ("mini-choice", {"question": "q", "choices": ["a", False]}, "false"),
        ("mini-choice", {"question": "q", "choices": {"label": ["A", "B"], "text": ["a", ["b"]]}}, r'\["b"\]'),
        ("mini-choice", {"question": "q", "choice1": "a", "choice2": ["b"]}, r'\["b"\]'),
        ("mini-pos", {"words": ["Ada", ["came"]]}, r'\["came"\]'),
    ],
)
def test_what_is_no_text_is_not_predicted_for(tmp_path: Path, name: str, row: dict[str, Any], shown: str) -> None:
    path = table(tmp_path, "in.jsonl", [row])
    with pytest.raises(DataError, match=rf"{path}: row 1: column '\w+' holds {shown}, which is no text"):
        private.read_inputs(path, tasks.get(name))


def test_numbers_are_predicted_for_as_texts(tmp_path: Path) -> None:
    path = table(tmp_path, "in.jsonl", [{"question": 1, "choices": {"A": "a", "B": 2}}])
    (example,) = private.read_inputs(path, tasks.get("mini-choice")).examples
    assert (example.prompt, example.choices) == ("1", ("a", "2"))  # type: ignore[union-attr]


def test_a_table_with_numbered_choices_or_tags_in_one_text_becomes_a_task(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    rows = {
        "choice": [{"question": f"q{i}", "choice1": "a", "choice2": "b", "label": i % 2} for i in range(60)],
        "tag": [{"text": f"Ada came {i}", "tags": "B O O"} for i in range(60)],
    }
    for kind, given in rows.items():
        path = table(tmp_path, f"{kind}.csv", given)
        (tmp_path / "own" / f"my-{kind}.yaml").write_text(
            tasks.draft(path, name=f"my-{kind}", kind=kind, language="en").text
        )
        task = tasks.get(f"my-{kind}", extra=tmp_path / "own")
        assert sum(tasks.load(task, split, "en").kept for split in ("train", "dev", "test")) == 60
    assert tasks.get("my-tag", extra=tmp_path / "own").labels == ("B", "O")


def test_a_prompt_is_what_the_task_made_of_such_columns_and_not_the_first_of_them(tmp_path: Path) -> None:
    """COPA's rows lost their premise: the prompt was the word "cause"."""
    row = {"premise": "It rained .", "question": "effect", "choice1": "a", "choice2": "b", "idx": 7}
    (example,) = private.read_inputs(table(tmp_path, "copa.jsonl", [row]), tasks.get("xcopa")).examples
    assert (example.prompt, example.choices) == ("It rained . What happened as a result?", ("a", "b"))  # type: ignore[union-attr]
    asked = {"context": "Tom slept .", "question": "Why ?", "choice1": "a", "choice2": "b"}
    path = table(tmp_path, "asked.jsonl", [asked])
    for name in ("kit-cosmosqa", "mini-choice"):
        (example,) = private.read_inputs(path, tasks.get(name)).examples
        assert (example.prompt, example.choices) == ("Tom slept . Why ?", ("a", "b"))  # type: ignore[union-attr]
    given = private.read_inputs(path, tasks.get("mini-choice"), columns={"prompt": "question"})
    assert given.examples[0].prompt == "Why ?"  # type: ignore[union-attr]
    many = table(tmp_path, "many.jsonl", [{**asked, "context": f"Tom slept {i} .", "label": i % 2} for i in range(80)])
    drafted = private.draft(many, name="own", kind="choice", language="en")
    assert drafted.body["sources"][0]["options"]["columns"]["prompt"] == {"join": ["context", "question"]}
    assert not drafted.unused
