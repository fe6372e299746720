"""Sizes of sets: counted where reading is quick, judged by the bytes where it is not, never a reason to fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from adapters_xling import tasks
from adapters_xling.errors import MissingData
from adapters_xling.grid import sizes
from adapters_xling.grid.sizes import GUESS, Size, Sizes
from adapters_xling.spec import HubSource, TaskSpec, decode
from adapters_xling.tasks import sources

HEADER = ["premise", "hypothesis", "label"]


def task(reader: str = "table", suffix: str = "tsv", kind: str = "sentence", **source: Any) -> TaskSpec:
    splits = {"test": f"{{language}}.{suffix}"}
    return decode(
        TaskSpec,
        {
            "name": "mine",
            "kind": kind,
            "role": "private",
            "title": "Mine",
            "languages": ["en", "de", "sw"],
            "metrics": ["accuracy"],
            "labels": ["yes", "no"] if kind == "sentence" else [],
            "sources": [{"type": "files", "reader": reader, "splits": splits, **source}],
        },
        "test",
    )


def rows(number: int) -> str:
    return "".join(f"{'word ' * 8}end\t{'word ' * 3}end\tyes\n" for _ in range(number))


def test_small_files_are_counted_and_their_length_is_that_of_their_text(tmp_path: Path) -> None:
    (tmp_path / "en.tsv").write_text(rows(321), encoding="utf-8")
    (tmp_path / "de.tsv").write_text(rows(77) + "torn line\n", encoding="utf-8")
    mine, found = task(options={"header": HEADER}), Sizes(tmp_path)
    english = found.of(mine, "test", "en", max_length=128)
    assert english is not None
    assert (english.rows, english.corpus, english.read) == (321, 0, True)
    assert english.tokens == english.width == pytest.approx(4 + 43 / 4 + 18 / 4)
    german = found.of(mine, "test", "de", max_length=128)
    assert german is not None
    assert german.rows == 77
    assert found.of(mine, "test", "sw", max_length=128) is None  # not at hand
    short = found.of(mine, "test", "en", max_length=8)
    assert short is not None
    assert short.tokens == 8
    assert (english.encoded(), english.encoded(10), found.unread) == (321, 10, 0)


@pytest.mark.parametrize(("repo", "kept"), [("me/My-Set", "me___my_set"), ("xnli", "xnli")])
def test_without_network_a_set_on_the_hub_counts_only_where_it_was_fetched_once(
    repo: str, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    hub = HubSource(repo=repo, reader="table", config="{language}", splits={"test": "test"})
    mine = structs.replace(task(), sources=(hub,))
    for other in (f"{kept}_other/de", f"{kept}/sw"):
        put = tmp_path / other / "0.0.0" / "abc" / "dataset_info.json"
        put.parent.mkdir(parents=True)
        put.write_text("{}", encoding="utf-8")
    found = Sizes(tmp_path)
    assert found.of(mine, "test", "de", max_length=128) is None and found.unread == 0
    assert found.of(mine, "test", "sw", max_length=128) is not None and found.unread == 1
    with pytest.raises(MissingData, match="HF_HUB_OFFLINE is set"):
        sources.find(mine, "test", "de")


@pytest.mark.parametrize("form", ["tsv", "squad"])
def test_what_takes_too_long_to_read_is_judged_by_its_bytes(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(10**9))
    monkeypatch.setattr(sizes.time, "process_time", lambda: next(clock) * sizes.SET_S / 300)
    if form == "tsv":
        mine = task(options={"header": HEADER})
        for code, number in (("en", 5000), ("de", 2500)):
            (tmp_path / f"{code}.tsv").write_text(rows(number), encoding="utf-8")
    else:
        mine = task("squad", "json", "span")
        for code, number in (("en", 1250), ("de", 625)):
            paragraphs = [
                {
                    "context": "word " * 60 + str(i),
                    "qas": [
                        {"id": f"{i}.{j}", "question": "which word?", "answers": [{"text": "word", "answer_start": 0}]}
                        for j in range(4)
                    ],
                }
                for i in range(number)
            ]
            (tmp_path / f"{code}.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}), encoding="utf-8")
    found = Sizes(tmp_path, seconds=sizes.SET_S)
    english = found.of(mine, "test", "en", max_length=128)
    assert english is not None
    assert english.rows == pytest.approx(5000, rel=0.15)
    german = found.of(mine, "test", "de", max_length=128)  # no time is left: by the size of its file
    assert german is not None
    assert german.rows == pytest.approx(english.rows / 2, rel=0.05)


def test_a_broken_file_has_no_size_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "en.json").write_text("{", encoding="utf-8")
    assert Sizes(tmp_path).of(task("squad", "json", "span"), "test", "en", max_length=128) is None


def test_long_contexts_are_read_in_windows_and_train_once_for_each(tmp_path: Path) -> None:
    paragraph = {"context": "word " * 400, "qas": [{"id": "1", "question": "which word?", "answers": []}]}
    (tmp_path / "en.json").write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}), encoding="utf-8")
    long = Sizes(tmp_path).of(task("squad", "json", "span"), "test", "en", max_length=128)
    whole = Sizes(tmp_path).of(task("squad", "json", "span"), "test", "en", max_length=1024)
    assert long is not None and whole is not None
    assert whole.windows == 1
    assert long.windows > 500 / 128
    assert long.tokens == pytest.approx(long.windows * long.width)
    assert long.width <= 128


def test_generated_sets_have_their_known_size_in_every_language() -> None:
    found = Sizes()
    choice = found.of(tasks.get("mini-choice"), "test", "sw", max_length=128)
    retrieval = found.of(tasks.get("mini-retrieval"), "test", "hi", max_length=512)
    assert choice is not None and retrieval is not None
    assert (choice.rows, choice.corpus) == (400, 0)
    assert choice.tokens == pytest.approx(4 * choice.width)  # four choices, each beside the prompt
    assert (retrieval.rows, retrieval.corpus, retrieval.encoded(50)) == (400, 400, 450)
    again = found.of(tasks.get("mini-choice"), "test", "de", max_length=128)
    assert again == Size(400, 0, choice.tokens, choice.width)


def test_a_set_on_the_hub_is_guessed_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    from adapters_xling import hub_files

    monkeypatch.setattr(hub_files, "why_not", lambda: "")
    source = {"type": "hub", "repo": "some/where", "reader": "table", "splits": {"test": "test"}}
    mine = decode(
        TaskSpec,
        {
            "name": "far",
            "kind": "sentence",
            "role": "private",
            "title": "Far",
            "languages": ["en"],
            "metrics": ["accuracy"],
            "labels": ["yes", "no"],
            "sources": [source],
        },
        "test",
    )
    found = Sizes()
    assert found.of(mine, "test", "en", max_length=128) == GUESS
    assert found.unread == 1
