"""A backbone without a row of its own says its licence in the README of its folder, as on the hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from worlds import a_run, train_entry, write_backbone

from adapters_xling.zoo import Entry, Zoo
from adapters_xling.zoo.lineage import licence_of, trace

BLOCK = "---\nlicense: {}\nlanguage: [sw]\n---\n# Mine\n"


def entry_on(folder: Path, text: str | None, zoo: Zoo) -> Entry:
    write_backbone(folder)
    if text is not None:
        (folder / "README.md").write_text(text, encoding="utf-8")
    return train_entry(a_run("lora", folder), zoo)[0]


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "zoo", fallbacks=())


def test_what_a_folder_says_of_its_licence_stands_on_the_card_and_counts_for_the_whole(
    tmp_path: Path, zoo: Zoo
) -> None:
    entry = entry_on(tmp_path / "mine", BLOCK.format("cc-by-nc-4.0"), zoo)
    assert entry.card.backbone_licence == "cc-by-nc-4.0"
    assert json.loads((entry.folder / "card.json").read_text(encoding="utf-8"))["backbone_licence"] == "cc-by-nc-4.0"
    terms = licence_of(entry.card)
    assert "CC-BY-NC-4.0" in [one.name for one in terms.licences]
    assert not any("backbone" in text for text in terms.unknown)
    child, _ = train_entry(a_run("lora", tmp_path / "mine", seed=1), zoo)
    assert "CC-BY-NC-4.0" in trace(zoo, child.key).licence().expression


SILENT = {
    "no README": None,
    "no block": "# Mine\n",
    "broken YAML": "---\nlicense: [\n---\n",
    "a list": "---\n- a\n---\n",
    "several": "---\nlicense: [mit, gpl]\n---\n",
    "other fields": "---\nx: 1\n---\n",
}


@pytest.mark.parametrize("text", SILENT.values(), ids=SILENT)
def test_a_folder_that_says_nothing_readable_leaves_the_licence_unknown(
    text: str | None, tmp_path: Path, zoo: Zoo
) -> None:
    entry = entry_on(tmp_path / "mine", text, zoo)
    assert entry.card.backbone_licence is None
    assert "backbone_licence" not in json.loads((entry.folder / "card.json").read_text(encoding="utf-8"))
    assert "backbone mine" in licence_of(entry.card).unknown


def test_words_that_are_no_licence_stay_unknown_words(tmp_path: Path, zoo: Zoo) -> None:
    entry = entry_on(tmp_path / "mine", BLOCK.format("ask-me-first"), zoo)
    assert "ask-me-first" in licence_of(entry.card).unknown
