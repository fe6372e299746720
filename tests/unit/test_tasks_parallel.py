"""Rows that a task file calls parallel are so: one id, one content. Rows that are merely numbered alike are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters_xling import tasks
from adapters_xling.errors import MissingData
from adapters_xling.spec import digest

MINI = [spec.name for spec in tasks.all_specs() if spec.role == "mini"]
REAL = [
    ("xnli", "dev"),
    ("pawsx", "dev"),
    ("xcopa", "test"),
    ("xquad", "test"),
    ("mlqa", "dev"),
    ("kit-lareqa", "test"),
]


def golds(name: str, split: str, language: str, data_dir: Path | None = None, limit: int | None = 40) -> dict[str, Any]:
    """Of each row, by id, what does not depend on the language: label, matches, or the number of answers."""
    found = {}
    for row in tasks.load(tasks.get(name), split, language, data_dir=data_dir, limit=limit).examples:
        if getattr(row, "side", "query") == "query":
            gold = getattr(row, "label", None)
            found[row.id] = gold if gold is not None else len(getattr(row, "answers", getattr(row, "matches", ())))
    return found


@pytest.mark.parametrize("name", MINI)
def test_a_mini_scene_has_one_id_in_every_language(name: str) -> None:
    spec = tasks.get(name)
    assert spec.parallel
    first, *others = [golds(name, "test", language) for language in spec.languages[:3]]
    assert all(other == first for other in others)


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "split"), REAL)
def test_real_rows_of_one_id_have_one_gold_wherever_they_are(name: str, split: str, real_data: Path) -> None:
    spec = tasks.get(name)
    assert spec.parallel
    by_language = []
    for language in spec.languages_by_split.get(split, spec.languages):
        try:
            by_language.append(golds(name, split, language, real_data, None))
        except MissingData:
            continue
    assert len(by_language) > 3
    for one in by_language[1:]:
        shared = set(one) & set(by_language[0])
        assert len(shared) > 100
        assert all(one[name] == by_language[0][name] for name in shared)


@pytest.mark.parametrize(
    "name", ["tatoeba", "tatoeba-xr", "bucc2018", "tydiqa", "panx", "udpos", "mewslix", "kit-tydiqa"]
)
def test_rows_that_are_merely_numbered_alike_are_not_called_parallel(name: str) -> None:
    assert not tasks.get(name).parallel


def test_the_word_changes_no_digest() -> None:
    spec = tasks.get("xnli")
    assert digest(spec) == digest(msgspec.structs.replace(spec, parallel=False))
