"""Rows: what is kept, what is turned away and counted, what is refused, and that splits share nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from adapters_xling import hub_files, tasks
from adapters_xling.errors import ConfigError, DataError, MissingData, UnknownName
from adapters_xling.spec import FileSource, HubSource, Partition, TaskSpec, canonical, decode
from adapters_xling.tasks import data, hub_rows, kinds, mini, sources
from adapters_xling.tasks.kinds import options

LABELS = ("entailment", "neutral", "contradiction")


def task(kind: str = "sentence", *, source: dict[str, Any] | None = None, **more: Any) -> TaskSpec:
    own = {
        "type": "files",
        "reader": "table",
        "splits": {"train": "train.tsv", "dev": "dev.tsv", "test": "{language}.tsv"},
    }
    body: dict[str, Any] = {
        "name": "mine",
        "kind": kind,
        "role": "private",
        "title": "Mine",
        "languages": ["en", "de"],
        "metrics": ["accuracy"],
        "sources": [{**own, "options": {"header": ["premise", "hypothesis", "label"]}, **(source or {})}],
    }
    if kind == "sentence":
        body["labels"] = list(LABELS)
    return decode(TaskSpec, {**body, **more}, "test")


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


def nli(rows: int, *, label: str = "") -> str:
    return "".join(f"premise {i // 2}\thypothesis {i}\t{label or LABELS[i % 3]}\n" for i in range(rows))


def test_rows_become_examples_with_ids_that_are_equal_over_parallel_files(tmp_path: Path) -> None:
    put(tmp_path, "en.tsv", "A.\tB.\tneutral\nC.\tD.\tentailment\n")
    put(tmp_path, "de.tsv", "a.\tNS\tneutral\nc.\td.\tentailment\n")
    mine = task(source={"options": {"header": ["premise", "hypothesis", "label"], "drop_texts": ["NS"]}})
    english, german = (tasks.load(mine, "test", code, data_dir=tmp_path) for code in ("en", "de"))
    assert [example.id for example in english.examples] == ["1", "2"]
    assert [example.id for example in german.examples] == ["2"]
    assert (german.kept, german.dropped) == (1, {"placeholder 'NS' instead of a text": 1})
    assert german.samples == (("de.tsv", 1, "placeholder 'NS' instead of a text"),)
    assert german.files == ("de.tsv",)


def test_rejected_rows_are_counted_by_reason_and_the_first_three_are_kept_as_samples(tmp_path: Path) -> None:
    put(tmp_path, "train.tsv", "a\tb\tneutral\n" + "a\t\tneutral\n" * 3 + "a\tb\n" + "a\tb\t-\n" + "c\td\tentailment\n")
    options = {"header": ["premise", "hypothesis", "label"], "drop_labels": ["-"]}
    rows = tasks.load(task(source={"options": options}), "train", "en", data_dir=tmp_path)
    assert rows.kept == len(rows) == 2
    assert rows.dropped == {"blank second": 3, "2 columns instead of 3": 1, "label '-': no gold": 1}
    assert [row for _, row, _ in rows.samples] == [2, 3, 4]


def test_a_limit_keeps_the_first_rows_and_the_counts_stay_those_of_the_file(tmp_path: Path) -> None:
    put(tmp_path, "train.tsv", nli(9))
    rows = tasks.load(task(), "train", "en", data_dir=tmp_path, limit=4)
    assert (len(rows), rows.kept) == (4, 9)


def test_an_undeclared_label_is_an_error_with_file_row_and_the_valid_ones(tmp_path: Path) -> None:
    put(tmp_path, "train.tsv", "a\tb\tneutral\nc\td\tmaybe\n")
    with pytest.raises(DataError, match=r"train\.tsv: row 2: unknown label 'maybe'; .*'entailment', 'neutral'"):
        tasks.load(task(), "train", "en", data_dir=tmp_path)


def test_a_missing_column_is_an_error_with_file_row_found_and_wanted(tmp_path: Path) -> None:
    put(tmp_path, "train.tsv", "premise\thypo\tlabel\na\tb\tneutral\n")
    options = {"columns": {"second": "hypothesis"}}
    mine = task(source={"options": options})
    assert tasks.load(mine, "train", "en", data_dir=tmp_path).examples[0].second is None  # type: ignore[union-attr]
    put(tmp_path, "train.tsv", "text one\thypothesis\tlabel\na\tb\tneutral\n")
    with pytest.raises(DataError, match=r"row 2: no column for 'first': wanted .* found 'text one', 'hypoth"):
        tasks.load(mine, "train", "en", data_dir=tmp_path)


def test_an_empty_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    put(tmp_path, "train.tsv", "")
    with pytest.raises(DataError, match=r"task 'mine', train, en: no rows in files train\.tsv"):
        tasks.load(task(), "train", "en", data_dir=tmp_path)


def test_blanked_labels_are_refused_for_scoring_and_allowed_for_predicting(tmp_path: Path) -> None:
    put(tmp_path, "en.tsv", "a\tb\t\nc\td\t\n")
    with pytest.raises(DataError, match=r"no row .* is usable \(blank label: 2; .*row 1\).*answers blanked"):
        tasks.load(task(), "test", "en", data_dir=tmp_path)
    rows = tasks.load(task(), "test", "en", data_dir=tmp_path, need_gold=False)
    assert [example.label for example in rows.examples] == [None, None]  # type: ignore[union-attr]


def test_gold_is_taken_from_the_next_source_where_the_first_has_none(tmp_path: Path) -> None:
    two = [dict(source) for source in canonical(task())["sources"]] * 2
    two[1] = {**two[1], "splits": {"test": "gold.tsv", "dev": "gold.tsv"}}
    mine = task(sources=two)
    put(tmp_path, "en.tsv", "a\tb\t\nc\td\t\n")
    put(tmp_path, "dev.tsv", "a\tb\t\nc\td\t\n")
    with pytest.raises(DataError, match=r"no row of files en.tsv is usable"):
        tasks.load(mine, "test", "en", data_dir=tmp_path)
    put(tmp_path, "gold.tsv", "a\tb\tneutral\nc\td\tentailment\n")
    rows = tasks.load(mine, "test", "en", data_dir=tmp_path)
    assert (rows.source, rows.kept) == ("files gold.tsv", 2)
    assert tasks.load(mine, "test", "en", data_dir=tmp_path, need_gold=False).source == "files en.tsv"
    with pytest.raises(DataError, match=r"no row of files dev.tsv"):  # the rows that a run's key names, or none
        tasks.load(mine, "dev", "en", data_dir=tmp_path)


def test_gold_that_is_the_same_in_every_row_is_refused(tmp_path: Path) -> None:
    rows = [{"premise": f"p{i}", "choices": ["a", "b"], "label": 0} for i in range(data.MIN_SUSPICIOUS)]
    mine = task("choice", source={"splits": {"test": "a.jsonl"}, "options": {"columns": {"prompt": "premise"}}})
    put(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=r"all 50 rows of files a.jsonl have the label 0"):
        tasks.load(mine, "test", "en", data_dir=tmp_path)
    assert len(tasks.load(mine, "test", "en", data_dir=tmp_path, need_gold=False)) == 50
    rows[0]["label"] = 1
    put(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert tasks.load(mine, "test", "en", data_dir=tmp_path).kept == 50


def test_blanked_answers_are_refused(tmp_path: Path) -> None:
    def file(answers: list[dict[str, Any]]) -> str:
        rows = [{"id": str(i), "question": "Who?", "answers": answers} for i in range(3)]
        return json.dumps({"data": [{"title": "T", "paragraphs": [{"context": "Ada came.", "qas": rows}]}]})

    mine = task("span", source={"reader": "squad", "splits": {"test": "a.json"}, "options": {}}, metrics=["squad"])
    for blank in ([{"text": "", "answer_start": 0}], []):
        put(tmp_path, "a.json", file(blank))
        with pytest.raises(DataError, match="blank answer: 3"):
            tasks.load(mine, "test", "en", data_dir=tmp_path)
    put(tmp_path, "a.json", file([{"text": "Eve", "answer_start": 0}]))
    with pytest.raises(DataError, match=r"no row of files a.json is usable"):
        tasks.load(mine, "test", "en", data_dir=tmp_path)
    put(tmp_path, "a.json", file([{"text": "Ada", "answer_start": 0}]))
    assert tasks.load(mine, "test", "en", data_dir=tmp_path).kept == 3


SPAN: dict[str, Any] = {"source": {"splits": {"test": "a.jsonl"}, "options": {}}, "metrics": ["squad2"]}
ASKED: dict[str, Any] = {"context": "Ada came.", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]}


@pytest.mark.parametrize(
    ("said", "impossible"),
    [
        *((said, True) for said in (True, "TRUE", 1, "1", 1.0)),
        *((said, False) for said in (False, "False", 0, "0", "", None)),
    ],
)
def test_whether_a_question_is_impossible_may_be_said_as_tables_say_it(
    tmp_path: Path, said: Any, impossible: bool
) -> None:
    put(tmp_path, "a.jsonl", json.dumps({**ASKED, "is_impossible": said}))
    mine = task("span", **SPAN, options={"impossible": True})
    (example,) = tasks.load(mine, "test", "en", data_dir=tmp_path).examples
    found = example.impossible, len(example.answers)  # type: ignore[union-attr]
    assert found == ((True, 0) if impossible else (False, 1))


def test_another_word_for_impossible_is_refused_with_what_is_valid(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", json.dumps({**ASKED, "is_impossible": "no"}))
    with pytest.raises(DataError, match=r"a\.jsonl: row 1: .* impossible is 'no'; valid: true, false, 1, 0"):
        tasks.load(task("span", **SPAN), "test", "en", data_dir=tmp_path)
    options = {"values": {"is_impossible": {"no": False, "yes": True}}}
    mapped = task("span", source={"splits": {"test": "a.jsonl"}, "options": options}, metrics=["squad2"])
    assert tasks.load(mapped, "test", "en", data_dir=tmp_path).kept == 1


@pytest.mark.parametrize("answers", ["text", ["text"], "[1", '{"text": "Ada"}', "[" * 100_000])
def test_answers_of_another_form_are_refused_with_what_to_write(tmp_path: Path, answers: Any) -> None:
    put(tmp_path, "a.jsonl", json.dumps({**ASKED, "answers": answers}))
    with pytest.raises(DataError, match=r'row 1: answers are not in SQuAD.*write it as JSON .*"answer_start": 0'):
        tasks.load(task("span", **SPAN), "test", "en", data_dir=tmp_path)


def test_a_tag_or_word_that_is_null_is_a_blank_one(tmp_path: Path) -> None:
    rows = [{"words": ["Ada", "came"], "tags": tags} for tags in (["A", None], [None, None], ["A", "A"])]
    put(tmp_path, "a.jsonl", "\n".join(map(json.dumps, [*rows, {"words": ["Ada", None], "tags": ["A", "A"]}])))
    source = {"splits": {"test": "a.jsonl"}, "options": {}}
    mine = task("tag", source=source, labels=["A", "B"], metrics=["tag_accuracy"])
    found = tasks.load(mine, "test", "en", data_dir=tmp_path)
    assert (found.kept, found.dropped) == (1, {"blank label": 2, "empty word": 1})


def test_ids_that_occur_twice_are_made_unique_and_counted(tmp_path: Path) -> None:
    put(tmp_path, "train.tsv", "id\tpremise\tlabel\nx\ta\tneutral\nx\tb\tentailment\ny\tc\tneutral\nx\td\tneutral\n")
    rows = tasks.load(task(source={"options": {}}), "train", "en", data_dir=tmp_path)
    assert [example.id for example in rows.examples] == ["x", "x#2", "y", "x#3"]
    assert rows.renamed == 2


def test_choices_come_as_columns_lists_or_names_with_texts(tmp_path: Path) -> None:
    shapes: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"question": "q", "a": "x", "b": "y", "label": 1}, {"choices": ["a", "b"]}),
        ({"question": "q", "choices": ["x", "y"], "label": "1"}, {}),
        ({"question": "q", "choices": {"A": "x", "B": "y"}, "label": "B"}, {}),
        ({"question": "q", "choices": {"label": ["A", "B"], "text": ["x", "y"]}, "label": "B"}, {}),
    ]
    for row, columns in shapes:
        put(tmp_path, "a.jsonl", json.dumps(row))
        mine = task("choice", source={"splits": {"dev": "a.jsonl"}, "options": {"columns": columns}})
        example = tasks.load(mine, "dev", "en", data_dir=tmp_path).examples[0]
        assert (example.choices, example.label) == (("x", "y"), 1)  # type: ignore[union-attr]
    put(tmp_path, "a.jsonl", json.dumps({"question": "q", "choices": ["x", "y"], "label": 2}))
    with pytest.raises(DataError, match="row 1: unknown label '2'; the choices are '0', '1'"):
        tasks.load(task("choice", source={"splits": {"dev": "a.jsonl"}, "options": {}}), "dev", "en", data_dir=tmp_path)


def test_columns_are_joined_and_values_replaced_where_the_task_says_so(tmp_path: Path) -> None:
    copa = tasks.get("copa")
    row = {"premise": "It rained.", "choice1": "a", "choice2": "b", "question": "effect", "label": 1, "idx": 7}
    put(tmp_path, "xtreme/xcopa/train-en.jsonl", json.dumps(row))
    example = tasks.load(copa, "train", "en", data_dir=tmp_path).examples[0]
    assert example.prompt == "It rained. What happened as a result?"  # type: ignore[union-attr]
    assert example.id == "7"
    put(tmp_path, "xtreme/xcopa/train-en.jsonl", json.dumps({**row, "question": "why"}))
    with pytest.raises(DataError, match="column 'question' holds 'why', which `values` does not list"):
        tasks.load(copa, "train", "en", data_dir=tmp_path)


# --- the original distributions' formats, on invented rows -------------------------------------------------------

MNLI = {"gold_label": "neutral", "sentence1": 'He said "no.', "sentence2": "He spoke.", "pairID": "1n", "promptID": "1"}


@pytest.mark.parametrize("suffix", ["jsonl", "txt"])
@pytest.mark.parametrize(
    ("name", "stem"), [("mnli", "mnli/multinli_1.0/multinli_1.0_train"), ("snli", "snli/snli_1.0/snli_1.0_train")]
)
def test_the_original_nli_releases_are_read(tmp_path: Path, name: str, stem: str, suffix: str) -> None:
    rows = [MNLI, {**MNLI, "gold_label": "-", "pairID": "2n"}]
    text = "\n".join(map(json.dumps, rows))
    if suffix == "txt":
        text = "\n".join("\t".join(line) for line in ([*MNLI], *([*row.values()] for row in rows)))
    put(tmp_path, f"intermediate/{stem}.{suffix}", text)
    found = tasks.load(tasks.get(name), "train", "en", data_dir=tmp_path)
    assert [(e.id, e.first, e.label) for e in found.examples] == [("1n", 'He said "no.', "neutral")]  # type: ignore[union-attr]
    assert found.dropped == {"label '-': no gold": 1}


def test_the_original_hellaswag_release_is_read(tmp_path: Path) -> None:
    row = {"ind": 4, "ctx_a": "A man sits.", "ctx_b": "then he", "endings": ["a", "b", "c", "d"], "label": 3}
    put(tmp_path, "intermediate/hellaswag/hellaswag_train.jsonl", json.dumps({**row, "source_id": "video~1"}))
    example = tasks.load(tasks.get("hellaswag"), "train", "en", data_dir=tmp_path).examples[0]
    found = example.prompt, example.choice_prefix, example.label, example.group  # type: ignore[union-attr]
    assert found == ("A man sits.", "then he", 3, "video~1")


def test_the_combined_xnli_release_is_read_by_language(tmp_path: Path) -> None:
    lines = ["language\tgold_label\tsentence1\tsentence2\tpairID", "de\tneutral\ta\tb\t1", "sw\tcontradiction\tc\td\t1"]
    put(tmp_path, "xtreme/xnli/XNLI-1.0/xnli.test.tsv", "\n".join(lines))
    rows = tasks.load(tasks.get("xnli"), "test", "sw", data_dir=tmp_path)
    assert [(e.id, e.first, e.label) for e in rows.examples] == [("1", "c", "contradiction")]  # type: ignore[union-attr]


def test_tydiqa_keeps_english_only_from_the_file_that_holds_nine_languages(tmp_path: Path) -> None:
    qas = [
        {"id": f"{name}-1-0", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]}
        for name in ("english", "korean")
    ]
    text = json.dumps({"data": [{"paragraphs": [{"context": "Ada came.", "qas": qas}]}]})
    put(tmp_path, "xtreme/tydiqa/tydiqa-goldp-v1.1-train.json", text)
    rows = tasks.load(tasks.get("tydiqa"), "train", "en", data_dir=tmp_path)
    assert [example.id for example in rows.examples] == ["english-1-0"]


# --- partitions --------------------------------------------------------------------------------------------------

HALVES = {"buckets": 4, "salt": "s", "splits": {"train": [0, 1], "dev": [2], "test": [3]}}


def test_a_partition_divides_all_rows_and_no_group_is_in_two_splits(tmp_path: Path) -> None:
    put(tmp_path, "all.tsv", nli(400))
    mine = task(source={"splits": {"all": "all.tsv"}, "partition": HALVES})
    found = {split: tasks.load(mine, split, "en", data_dir=tmp_path) for split in ("train", "dev", "test")}
    groups = {split: {example.group for example in rows.examples} for split, rows in found.items()}
    assert sum(rows.kept for rows in found.values()) == 400
    assert not groups["train"] & groups["dev"] | groups["train"] & groups["test"] | groups["dev"] & groups["test"]
    assert 140 <= found["train"].kept <= 260


def test_where_a_group_lands_depends_on_the_group_and_the_salt_alone() -> None:
    one, other = (Partition(buckets=1000, splits={}, salt=salt) for salt in ("a", "b"))
    names = [f"group {i}" for i in range(50)]
    assert [data.bucket(name, one) for name in names] != [data.bucket(name, other) for name in names]
    assert (
        data.bucket("Warsaw", Partition(buckets=20, splits={}, salt="squad-articles-32:"))
        == int(__import__("hashlib").sha256(b"squad-articles-32:Warsaw").hexdigest()[:8], 16) % 20
    )


def test_a_split_without_rows_says_so_instead_of_being_empty(tmp_path: Path) -> None:
    put(tmp_path, "all.tsv", nli(2))
    mine = task(source={"splits": {"all": "all.tsv"}, "partition": HALVES})
    outcomes = []
    for split in ("train", "dev", "test"):
        try:
            outcomes.append(tasks.load(mine, split, "en", data_dir=tmp_path).kept)
        except DataError as err:
            assert "none of the 2 rows" in str(err)
            outcomes.append(0)
    assert sorted(outcomes) == [0, 0, 2]


# --- sources -----------------------------------------------------------------------------------------------------


def test_the_first_source_at_hand_is_read(tmp_path: Path) -> None:
    body = {"type": "files", "reader": "table", "options": {"header": ["premise", "label"]}}
    both = [{**body, "splits": {"dev": "first.tsv"}}, {**body, "splits": {"dev": "second.tsv"}}]
    put(tmp_path, "second.tsv", "second\tneutral\n")
    assert tasks.load(task(sources=both), "dev", "en", data_dir=tmp_path).files == ("second.tsv",)
    put(tmp_path, "first.tsv", "first\tneutral\n")
    assert tasks.load(task(sources=both), "dev", "en", data_dir=tmp_path).files == ("first.tsv",)


def test_missing_data_lists_every_place_and_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLING_DATA", raising=False)
    monkeypatch.setattr(hub_files, "why_not", lambda: "huggingface.co cannot be reached")
    with pytest.raises(MissingData) as caught:
        tasks.load(tasks.get("mnli"), "dev", "en")
    text = str(caught.value)
    assert "multinli_1.0_dev_matched.jsonl: no data folder was named" in text
    assert "hub nyu-mll/multi_nli@unlocked" in text and "cannot be reached" in text
    assert "--data-dir or XLING_DATA" in text and "cims.nyu.edu" in text
    put(tmp_path, "xtreme/xnli/dev-sw.tsv", "a\tb\tneutral\n")
    with pytest.raises(MissingData, match=r"test-sw\.tsv: not there(.|\n)*At hand in 'sw': split 'dev'"):
        tasks.load(tasks.get("xnli"), "test", "sw", data_dir=tmp_path)
    assert tasks.splits_at_hand(tasks.get("xnli"), "sw", data_dir=tmp_path) == ("dev",)


def test_a_language_the_split_does_not_have_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"language of task 'udpos' \(dev\) 'yo'"):
        tasks.load(tasks.get("udpos"), "dev", "yo")
    with pytest.raises(UnknownName, match="'jv'"):
        tasks.load(tasks.get("xnli"), "test", "jv")


def test_an_unreachable_hub_is_noticed_in_seconds() -> None:
    hub_files._reachable.cache_clear()
    started = time.monotonic()
    assert not hub_files._reachable("host.invalid", 443)
    assert time.monotonic() - started < 8
    hub_files._reachable.cache_clear()


def test_hub_rows_come_through_the_same_converters(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    features = datasets.Features(
        {
            "premise": datasets.Value("string"),
            "hypothesis": datasets.Value("string"),
            "label": datasets.ClassLabel(names=list(LABELS)),
        }
    )
    table = {"premise": ["a", "b", "c"], "hypothesis": ["d", "e", "f"], "label": [0, 2, -1]}
    asked = []

    def dataset(address: hub_rows.Address) -> datasets.Dataset:
        asked.append(address)
        return datasets.Dataset.from_dict(table, features=features)

    monkeypatch.setattr(hub_rows, "_dataset", dataset)
    monkeypatch.setattr(hub_files, "why_not", lambda: None)
    source = {"type": "hub", "repo": "o/nli", "reader": "table", "splits": {"dev": "validation"}}
    rows = tasks.load(task(sources=[{**source, "config": "{language}"}]), "dev", "de")
    assert [example.label for example in rows.examples] == ["entailment", "contradiction"]  # type: ignore[union-attr]
    assert rows.dropped == {"blank label": 1}
    assert asked == [hub_rows.Address(repo="o/nli", config="de", split="validation", revision=None)]


def test_generated_retrieval_searches_the_english_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"de": [("1", "eins"), ("2", "zwei")], "en": [("2", "two"), ("1", "one"), ("9", "nine")]}

    def rows(name: str, split: str, language: str, num_rows: int | None = None) -> list[dict[str, str]]:
        return [{"id": key, "text": text} for key, text in made[language]]

    monkeypatch.setattr(mini, "rows", rows)
    found = tasks.load(tasks.get("mini-retrieval"), "test", "de")
    queries = {e.id: e.matches for e in found.examples if e.side == "query"}  # type: ignore[union-attr]
    corpus = {e.id: e.text for e in found.examples if e.side == "corpus"}  # type: ignore[union-attr]
    assert {corpus[match] for match in queries["1"]} == {"one"}
    assert len(corpus) == 3
    limited = tasks.load(tasks.get("mini-retrieval"), "test", "de", limit=1)
    assert [e.side for e in limited.examples] == ["query", "corpus", "corpus", "corpus"]  # type: ignore[union-attr]


# --- identity ----------------------------------------------------------------------------------------------------


def test_the_digest_follows_rows_labels_and_options_and_nothing_else(tmp_path: Path) -> None:
    put(tmp_path, "train.tsv", nli(3))
    put(tmp_path, "dev.tsv", nli(3))
    first = tasks.ref(task(), data_dir=tmp_path)
    assert tasks.ref(task(), data_dir=tmp_path) == first and len(first.digest) == 64

    def digest(**more: Any) -> str:
        return tasks.ref(task(**more), data_dir=tmp_path).digest

    assert digest(title="Other", licence="x", languages=["en", "de", "fr"], eval_split="dev") == first.digest
    assert digest(labels=[*LABELS[::-1]]) != first.digest
    assert digest(head="nli") != first.digest
    options = {"header": ["premise", "hypothesis", "label"], "drop_labels": ["-"]}
    assert digest(source={"options": options}) != first.digest
    put(tmp_path, "dev.tsv", nli(4))
    assert digest() != first.digest


def test_where_the_data_folder_lies_is_not_part_of_the_digest(tmp_path: Path) -> None:
    for folder in ("here", "there"):
        put(tmp_path, f"{folder}/train.tsv", nli(3))
        put(tmp_path, f"{folder}/dev.tsv", nli(3))
    assert tasks.ref(task(), data_dir=tmp_path / "here") == tasks.ref(task(), data_dir=tmp_path / "there")


def test_file_digests_are_remembered_until_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("one")
    first = sources.file_digest(file)
    hits = sources._file_digest.cache_info().hits
    assert sources.file_digest(file) == first
    assert sources._file_digest.cache_info().hits == hits + 1
    file.write_text("two")
    os.utime(file, ns=(1, 1))
    assert sources.file_digest(file) != first


def test_a_targets_digest_is_that_of_what_it_trains_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_files, "why_not", lambda: None)
    monkeypatch.delenv("XLING_DATA", raising=False)
    xnli = tasks.get("xnli")

    def digest(task: TaskSpec, **more: Any) -> str:
        return tasks.ref(task, allow_unlocked=True, **more).digest

    assert digest(xnli) == digest(tasks.get("mnli"))
    assert digest(xnli, train_on="snli") == digest(tasks.get("snli")) != digest(xnli)


def test_nothing_is_trained_on_hub_rows_at_no_fixed_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_files, "why_not", lambda: None)
    hub = {"type": "hub", "repo": "o/nli", "reader": "table", "splits": {"train": "train", "test": "test"}}
    with pytest.raises(
        ConfigError, match=r"task 'mine': the train rows in 'en' .*o/nli@unlocked.*Run `xling data lock mine`"
    ):
        tasks.ref(task(sources=[hub]))
    assert tasks.ref(task(sources=[hub]), allow_unlocked=True).name == "mine"
    assert tasks.ref(task(sources=[{**hub, "revision": "0" * 40, "verified": True}])).name == "mine"
    assert not sources.find(task(sources=[hub]), "test", "en").locked  # to be scored, not to be learnt from
    put(tmp_path, "train.tsv", nli(3))
    files = {"type": "files", "reader": "table", "splits": {"train": "train.tsv"}}
    assert tasks.ref(task(sources=[files, hub]), data_dir=tmp_path).name == "mine"


def test_the_digest_holds_every_option_and_the_metric_that_selects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "train.tsv", nli(3))
    put(tmp_path, "dev.tsv", nli(3))

    def digest(kind: str = "span", metrics: tuple[str, ...] = ("squad",), **given: Any) -> str:
        return tasks.ref(task(kind, metrics=metrics, options=given), data_dir=tmp_path).digest

    first = digest()
    assert digest(doc_stride=128) == first
    assert digest(doc_stride=64) != first
    assert digest(metrics=("squad", "mlqa")) == first
    assert digest(metrics=("mlqa", "squad")) != first
    monkeypatch.setitem(options.DEFAULTS["span"], "n_best_size", 3)
    assert digest() != first
    assert digest(n_best_size=20) == first


def test_every_kind_takes_its_defaults_from_where_the_digest_does() -> None:
    assert {name: kinds.get(name).default_options for name in kinds.names()} == options.DEFAULTS


def test_a_digest_needs_no_torch() -> None:
    code = (
        "import sys; from adapters_xling.tasks import get, ref; ref(get('mini-qa')); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- several languages -------------------------------------------------------------------------------------------


def test_parallel_rows_of_several_languages_keep_ids_of_their_own(tmp_path: Path) -> None:
    put(tmp_path, "en.tsv", nli(6))
    put(tmp_path, "de.tsv", nli(6, label="neutral"))
    mine = task()
    examples, rows = tasks.load_all(mine, "test", ("en", "de"), data_dir=tmp_path)
    assert [example.id for example in examples] == [f"{code}:{i}" for code in ("en", "de") for i in range(1, 7)]
    assert len({example.id for example in examples}) == 12
    assert {code: [e.id for e in one.examples] for code, one in rows.items()} == {
        code: [f"{code}:{i}" for i in range(1, 7)] for code in ("en", "de")
    }
    assert (rows["de"].kept, rows["de"].files) == (6, ("de.tsv",))


@pytest.mark.parametrize(("limit", "shares"), [(5, (3, 2)), (4, (2, 2)), (1, (1, 0)), (None, (6, 6)), (99, (6, 6))])
def test_a_limit_is_divided_over_the_languages(tmp_path: Path, limit: int | None, shares: tuple[int, int]) -> None:
    put(tmp_path, "en.tsv", nli(6))
    put(tmp_path, "de.tsv", nli(6))
    examples, rows = tasks.load_all(task(), "test", ("en", "de"), data_dir=tmp_path, limit=limit)
    assert tuple(len(one) for one in rows.values()) == shares
    assert len(examples) == sum(shares)


def test_one_language_is_read_as_always(tmp_path: Path) -> None:
    put(tmp_path, "en.tsv", nli(6))
    examples, rows = tasks.load_all(task(), "test", ("en",), data_dir=tmp_path, limit=4)
    alone = tasks.load(task(), "test", "en", data_dir=tmp_path, limit=4)
    assert rows == {"en": alone} and examples == alone.examples


def test_queries_of_several_languages_still_find_their_matches() -> None:
    examples, _ = tasks.load_all(tasks.get("mini-retrieval"), "test", ("de", "sw"), limit=4)
    corpus = {e.id for e in examples if e.side == "corpus"}  # type: ignore[union-attr]
    queries = [e for e in examples if e.side == "query"]  # type: ignore[union-attr]
    assert len(queries) == 4
    assert all(set(e.matches) <= corpus and e.matches[0][:2] == e.id[:2] for e in queries)  # type: ignore[union-attr]


def test_every_shipped_source_names_its_options_as_its_reader_knows_them() -> None:
    kinds_of_source = {type(source) for one in tasks.all_specs() for source in one.sources}
    assert {FileSource, HubSource} <= kinds_of_source
