"""Every reader on invented rows: what it yields, and what it says of a file that is not what it should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters_xling.errors import ConfigError, DataError, UnknownName
from adapters_xling.tasks import readers
from adapters_xling.tasks.readers.linked import clusters
from adapters_xling.tasks.rows import Raw


def read(name: str, *files: Path, language: str = "en", **options: Any) -> list[Raw]:
    return list(readers.get(name).read(files, options=options, language=language))


def write(path: Path, text: str, *, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_tab_files_keep_quotes_and_odd_line_separators_inside_their_cells(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tsv", 'he said "no\tand\u2028 left\u0085 early\n"\t\'\n')
    rows = read("table", file, header=["a", "b"])
    assert [row.values for row in rows] == [
        {"a": 'he said "no', "b": "and\u2028 left\u0085 early"},
        {"a": '"', "b": "'"},
    ]
    assert [row.row for row in rows] == [1, 2]


def test_a_header_line_names_columns_and_a_byte_order_mark_is_not_part_of_the_first(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "\ufeffone\ttwo\r\n1\t2\r\n")
    assert read("table", file)[0].values == {"one": "1", "two": "2"}


def test_a_torn_row_is_rejected_with_its_number(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tsv", "1\t2\n3\n4\t5\t6\n")
    assert [row.reject for row in read("table", file, header=["a", "b"])] == [
        None,
        "1 columns instead of 2",
        "3 columns instead of 2",
    ]


def test_blank_names_may_stand_twice_in_a_header_and_names_in_a_task_file(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "text,,, \na,b,c,d\n")
    assert read("table", file)[0].values["text"] == "a"
    assert read("table", file, header=["a", "_", "_", "b"])[0].values["a"] == "text"


def test_comma_files_follow_csv_quoting(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", 'id,text\n1,"a, ""b""\nc"\n2,d\n')
    assert [row.values["text"] for row in read("table", file)] == ['a, "b"\nc', "d"]


@pytest.mark.parametrize(
    ("name", "suffix", "text", "options"),
    [
        ("table", ".tsv", "a\tb\n\xe4\tc\n", {}),
        ("table", ".csv", "a,b\n\xe4,c\n", {}),
        ("table", ".jsonl", '{"a": "b"}\n{"a": "\xe4"}\n', {}),
        ("table", ".json", '[{"a": "b"},\n{"a": "\xe4"}]', {}),
        ("conll", ".tsv", "word\tO\n\xe4\tO\n", {}),
        ("squad", ".json", '{"data":\n ["\xe4"]}', {}),
    ],
)
def test_bytes_that_are_not_utf8_are_refused_by_file_and_line(
    tmp_path: Path, name: str, suffix: str, text: str, options: dict[str, Any]
) -> None:
    file = write(tmp_path / f"latin{suffix}", text, encoding="latin-1")
    with pytest.raises(DataError, match=rf"latin\{suffix}: line 2 is not UTF-8.*0xe4.*iconv"):
        read(name, file, **options)


def test_json_lines_and_json_lists_are_rows_and_broken_ones_are_refused_by_line(tmp_path: Path) -> None:
    assert read("table", write(tmp_path / "a.jsonl", '{"a": 1}\n\n{"a": 2}\n'))[1] == Raw(
        str(tmp_path / "a.jsonl"), 3, {"a": 2}
    )
    nested = write(tmp_path / "a.json", json.dumps({"dev": [{"a": 1}], "test": [{"a": 2}], "name": "x"}))
    assert [row.values["a"] for row in read("table", nested, at=["dev", "test"])] == [1, 2]
    with pytest.raises(DataError, match=r"line 2 is not valid JSON"):
        read("table", write(tmp_path / "b.jsonl", '{"a": 1}\n{"a": \n'))
    with pytest.raises(DataError, match=r"line 1 is not a JSON object"):
        read("table", write(tmp_path / "c.jsonl", "[1]\n"))
    with pytest.raises(DataError, match=r"no key 'train' .*found 'dev', 'test', 'name'"):
        read("table", nested, at=["train"])
    with pytest.raises(DataError, match=r"holds no list of rows"):
        read("table", nested, at=["name"])


def test_where_passes_over_rows_of_other_languages(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tsv", "language\ttext\nde\tja\nsw\tndiyo\n")
    assert [row.values["text"] for row in read("table", file, language="sw", where={"language": "{language}"})] == [
        "ndiyo"
    ]
    with pytest.raises(DataError, match=r"row 2: no column 'lang' .*found 'language', 'text'"):
        read("table", file, where={"lang": "{language}"})


def test_a_format_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"options.format is None; valid: tsv, csv, jsonl, json.*\.txt.*'conll'"):
        read("table", write(tmp_path / "a.xlsx", ""))


def test_word_per_line_files_are_sentences(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tsv", "A\tO\nB\tB-PER\n\n\nC\tO\nD\n\nE\tO")
    rows = read("conll", file)
    assert [row.values["words"] for row in rows] == [["A", "B"], ["C"], ["E"]]
    assert rows[0].values["tags"] == ["O", "B-PER"]
    assert [row.reject for row in rows] == [None, "a line without its last column, the tag", None]


def test_conllu_skips_comments_multiword_tokens_and_empty_nodes(tmp_path: Path) -> None:
    lines = [
        "# text = zum Haus",
        "1-2\tzum\t_\t_",
        "1\tzu\tzu\tADP",
        "2\tdem\tder\tDET",
        "2.1\tx\tx\tX",
        "3\tHaus\t_\tNOUN",
    ]
    row = read("conll", write(tmp_path / "a.conllu", "\n".join(lines) + "\n\n"))[0]
    assert row.values == {"words": ["zu", "dem", "Haus"], "tags": ["ADP", "DET", "NOUN"]}


def test_the_wikiann_language_prefix_comes_off(tmp_path: Path) -> None:
    file = write(tmp_path / "a", "de:Bonn\tB-LOC\nde::\tO\n")
    assert read("conll", file, language="de", strip_language=True)[0].values["words"] == ["Bonn", ":"]


def squad(**question: Any) -> str:
    row = {"id": "english-1", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}], **question}
    return json.dumps({"data": [{"title": "T", "paragraphs": [{"context": "Ada came.", "qas": [row]}]}]})


def test_squad_files_are_flat_questions(tmp_path: Path) -> None:
    row = read("squad", write(tmp_path / "a.json", squad()))[0]
    assert (row.values["title"], row.values["context"], row.values["question"]) == ("T", "Ada came.", "Who?")
    assert read("squad", tmp_path / "a.json", id_prefix="korean-") == []
    with pytest.raises(DataError, match=r"after 0 questions: not SQuAD's layout"):
        read("squad", write(tmp_path / "b.json", '{"data": [{"paragraphs": [{"qas": [{"id": "1"}]}]}]}'))


def test_aligned_lines_become_queries_and_their_corpus(tmp_path: Path) -> None:
    english, other = write(tmp_path / "a.eng", "one\ntwo\n"), write(tmp_path / "a.deu", "eins\nzwei\n")
    rows = read("aligned", english, other)
    assert [row.values["side"] for row in rows] == ["query", "query", "corpus", "corpus"]
    assert rows[1].values["matches"] == (rows[3].values["id"],)
    torn = [row.reject for row in read("aligned", english, write(tmp_path / "torn", "eins\n \n"))]
    assert torn == [None, "blank text, here or in its translation"] * 2
    with pytest.raises(DataError, match=r"has 2 lines, .* has 1: they are not aligned"):
        read("aligned", english, write(tmp_path / "short", "eins\n"))
    with pytest.raises(ConfigError, match="wants two files"):
        read("aligned", english)


def test_aligned_lines_may_begin_further_down(tmp_path: Path) -> None:
    english = write(tmp_path / "en", "one\ntwo\nthree\n")
    other = write(tmp_path / "de", "eins\nzwei\ndrei\n")
    rows = read("aligned", english, other, from_line=2)
    assert [row.values["id"] for row in rows] == ["q2", "q3", "c2", "c3"]  # ids stay line numbers
    for wrong in (0, True, "2"):
        with pytest.raises(ConfigError, match="from_line"):
            read("aligned", english, other, from_line=wrong)


def test_bitext_pools_carry_their_gold_pairs_and_keep_them_in_one_group(tmp_path: Path) -> None:
    queries = write(tmp_path / "de", "de-1\teins\nde-2\tetwas\n")
    corpus = write(tmp_path / "en", "en-1\tone\nen-2\tother\n")
    gold = write(tmp_path / "gold", "de-1\ten-1\n")
    rows = {row.values["id"]: row.values for row in read("bitext", queries, corpus, gold)}
    assert rows["de-1"]["matches"] == ("en-1",) and rows["de-2"]["matches"] == ()
    assert rows["de-1"]["group"] == rows["en-1"]["group"] != rows["de-2"]["group"]
    with pytest.raises(DataError, match="line 1: 'en-9' is not an id of"):
        read("bitext", queries, corpus, write(tmp_path / "gold2", "de-1\ten-9\n"))
    with pytest.raises(DataError, match="line 2: id 'de-1' is given twice"):
        read("bitext", write(tmp_path / "twice", "de-1\ta\nde-1\tb\n"), corpus, gold)
    with pytest.raises(DataError, match="line 1 has 1 columns instead of 2"):
        read("bitext", write(tmp_path / "one", "de-1 a\n"), corpus, gold)


def test_linked_rows_share_a_group_along_chains_of_shared_sentences(tmp_path: Path) -> None:
    english = write(tmp_path / "en.tsv", "a\tb\t1\nc\td\t0\nb\te\t1\n")
    german = write(tmp_path / "de.tsv", "A\tB\t1\nC\tD\t0\nX\tE\t1\n")
    options = {"header": ["s", "t", "label"], "link": ["s", "t"]}
    groups = [row.values["group"] for row in read("linked", german, english, **options)]
    assert groups[0] == groups[2] != groups[1]
    with pytest.raises(DataError, match=r"has 3 rows, .* has 1: they are not parallel"):
        read("linked", german, write(tmp_path / "one.tsv", "a\tb\t1\n"), **options)


def test_clusters_follow_long_chains() -> None:
    assert clusters([[str(i), str(i + 1)] for i in range(50)]) == [0] * 50
    assert clusters([["a"], ["b"], ["c", "a"], ["b", "c"]]) == [0] * 4


def test_readers_and_their_options_are_checked_by_name() -> None:
    with pytest.raises(UnknownName, match=r"unknown reader 'squda'. Did you mean 'squad'"):
        readers.get("squda")
    with pytest.raises(UnknownName, match=r"here$"):
        readers.check("squad", {"header": []}, where="here")
    readers.check("squad", {"columns": {}, "id_prefix": "x"}, where="here")
