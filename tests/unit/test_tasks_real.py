"""Real rows, where XLING_DATA names them: how many are kept and dropped, and that no split knows what is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters_xling import tasks
from adapters_xling.model import load_tokenizer
from adapters_xling.spec import FileSource
from adapters_xling.tasks import inventory, readers, sources
from adapters_xling.tasks.data import Rows

pytestmark = pytest.mark.realdata


def rows(root: Path, name: str, split: str, language: str = "en") -> Rows:
    task = tasks.get(name)
    if split not in tasks.splits_at_hand(task, language, data_dir=root):
        pytest.skip(f"{name} {split} {language} is not in {root}")
    return tasks.load(task, split, language, data_dir=root)


@pytest.mark.parametrize(
    ("name", "split", "language", "kept"),
    [
        ("xnli", "dev", "en", 2490),
        ("xnli", "dev", "th", 2490),
        ("xquad", "test", "zh", 1190),
        ("panx", "train", "en", 20000),
        ("udpos", "train", "en", 21253),
        ("udpos", "test", "yo", 317),
        ("mlqa", "dev", "de", 512),
        ("tydiqa", "train", "en", 3696),
        ("tatoeba", "test", "sw", 2 * 390),
        ("tatoeba", "test", "zh", 2 * 1000),
        ("bucc2018", "dev", "zh", 8624 + 13589),
        ("xcopa", "test", "qu", 500),
        ("copa", "train", "en", 400),
        ("anli", "dev", "en", 3198),
        ("cosmosqa", "dev", "en", 2985),
        ("commonsenseqa", "dev", "en", 1221),
    ],
)
def test_every_row_of_the_published_counts_is_kept(
    real_data: Path, name: str, split: str, language: str, kept: int
) -> None:
    found = rows(real_data, name, split, language)
    assert (found.kept, found.dropped) == (kept, {})
    assert len({example.id for example in found.examples}) == kept


@pytest.mark.parametrize(
    ("language", "placeholders"), [("en", 0), ("de", 68), ("es", 38), ("fr", 8), ("ja", 20), ("zh", 16)]
)
def test_pawsx_placeholders_are_dropped_and_counted(real_data: Path, language: str, placeholders: int) -> None:
    found = rows(real_data, "pawsx", "dev", language)
    assert (found.kept, sum(found.dropped.values())) == (2000 - placeholders, placeholders)


DIVIDED = [
    name
    for name in tasks.names()
    if tasks.get(name).role == "kit" and tasks.get(name).train_on is None and tasks.get(name).train_languages
]


@pytest.mark.parametrize("name", DIVIDED)
def test_the_divided_sets_share_no_group_between_splits(real_data: Path, name: str) -> None:
    splits = [
        s for s in ("train", "dev", "test") if s in tasks.splits_at_hand(tasks.get(name), "en", data_dir=real_data)
    ]
    if not splits:
        pytest.skip(f"no files of {name} are in {real_data}")
    groups = [{example.group for example in rows(real_data, name, split).examples} for split in splits]
    assert len(splits) >= 2 and all(groups)
    assert sum(map(len, groups)) == len(set().union(*groups))


def test_nli_premises_of_the_splits_and_of_xnli_are_apart(real_data: Path) -> None:
    def premises(name: str, split: str) -> set[str]:
        return {example.first for example in rows(real_data, name, split).examples}  # type: ignore[union-attr]

    learnt = premises("kit-nli", "train") | premises("kit-nli", "dev")
    assert not learnt & premises("kit-nli", "test")
    assert not learnt & premises("xnli", "dev")


def test_no_article_that_is_scored_is_trained_or_selected_on(real_data: Path) -> None:
    def titles(name: str, split: str, language: str = "en") -> set[str]:
        return {example.group for example in rows(real_data, name, split, language).examples}

    scored = titles("kit-xquad", "test")
    assert len(scored) == 12 and scored == titles("kit-xquad", "test", "zh") == titles("kit-lareqa", "test")
    for name in ("kit-squad1", "kit-squad2"):
        train, dev = titles(name, "train"), titles(name, "dev")
        assert not train & dev and not (train | dev) & scored
    assert titles("kit-squad2", "train") <= titles("kit-squad1", "train")
    assert titles("kit-squad2", "dev") <= titles("kit-squad1", "dev")


def test_parallel_pawsx_rows_fall_into_the_same_split_in_every_language(real_data: Path) -> None:
    english = {example.id for example in rows(real_data, "kit-pawsx", "test").examples}
    sentences = [
        {text for example in rows(real_data, "kit-pawsx", split).examples for text in (example.first, example.second)}  # type: ignore[union-attr]
        for split in ("train", "dev", "test")
    ]
    assert sum(map(len, sentences)) == len(set().union(*sentences))
    for language in ("de", "fr", "zh"):
        assert {example.id for example in rows(real_data, "kit-pawsx", "test", language).examples} <= english


def test_bucc_gold_pairs_are_all_found(real_data: Path) -> None:
    found = rows(real_data, "bucc2018", "dev", "zh").examples
    assert sum(len(example.matches) for example in found) == 257  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["kit-nli", "kit-squad1", "kit-squad2", "panx", "udpos"])
def test_a_digest_needs_no_more_than_the_files(real_data: Path, name: str) -> None:
    task = tasks.get(name)
    assert tasks.ref(task, data_dir=real_data) == tasks.ref(task, data_dir=real_data)


# --- every set at once --------------------------------------------------------------------------------------------

FROM_FILES = [spec.name for spec in tasks.all_specs() if any(isinstance(one, FileSource) for one in spec.sources)]
MARK = "intermediate/squad/squad-v1.1-outside-xquad.json"
"""A file that only the folder of real rows made for this project has."""


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer("xlmr-nano")


@pytest.mark.parametrize("name", FROM_FILES)
def test_every_set_that_is_at_hand_goes_through_everything_a_run_does_with_it(
    real_data: Path, tokenizer: Any, name: str
) -> None:
    """Each split in each language: twenty rows of it, of a retrieval task the whole sets of its first language."""
    task = tasks.get(name)
    cells = [
        (split, code)
        for split, code in sources.cells(task)
        if (found := sources.at_hand(task, split, code, data_dir=real_data)) and found.kind == "files"
    ]
    if not cells:
        pytest.skip(f"no files of {name} are in {real_data}")
    if task.kind == "retrieve":
        cells = cells[:1]
    found = [inventory.check_rows(task, *cell, tokenizer, data_dir=real_data, limit=20) for cell in cells]
    assert [(one.split, one.language, one.text) for one in found if one.state != "ok"] == []
    assert all(one.rows for one in found)


def test_every_file_of_the_folder_is_read_by_some_task(real_data: Path) -> None:
    if not (real_data / MARK).is_file():
        pytest.skip(f"{real_data} is not the folder of which every file is known (it has no {MARK})")
    read = {
        file
        for task in tasks.all_specs()
        for split, code in sources.cells(task)
        if (found := sources.at_hand(task, split, code, data_dir=real_data))
        for file in found.files
    }
    there = {
        file for part in ("xtreme", "intermediate", "ud") for file in (real_data / part).rglob("*") if file.is_file()
    }
    assert len(there) > 200
    assert sorted(file.relative_to(real_data).as_posix() for file in there - read) == [
        "ud/de_pud-ud-test.conllu",  # one treebank of several: XTREME joins all of German
        "xtreme/tatoeba/tatoeba.zsm-eng.eng",  # no task of the benchmarks has Tatoeba in Malay
        "xtreme/tatoeba/tatoeba.zsm-eng.zsm",
    ]


def test_a_treebank_with_fused_words_is_read_whole(real_data: Path) -> None:
    file = real_data / "ud" / "de_pud-ud-test.conllu"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    written, parts = (
        list(readers.get("conll").read([file], options={"fused": fused}, language="de")) for fused in (True, False)
    )
    assert len(written) == len(parts) == 1000 and not any(row.reject for row in [*written, *parts])
    fewer = [len(a.values["words"]) <= len(b.values["words"]) for a, b in zip(written, parts, strict=True)]
    assert all(fewer)
    text = next(" ".join(row.values["words"]) for row in written if "zum" in row.values["words"])
    assert " zu dem " not in text
    assert all(len(row.values["words"]) == len(row.values["tags"]) for row in written)
