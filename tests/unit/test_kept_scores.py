"""Kept scores belong to weights, not to a key: an entry that was trained again has the same key."""

from __future__ import annotations

from pathlib import Path

import pytest
from zoo_samples import a_run, a_score, fill, some_facts

from adapters_xling import api, keeping
from adapters_xling.errors import MissingData
from adapters_xling.zoo import Entry, Zoo


def trained(zoo: Zoo, byte: bytes) -> Entry:
    with zoo.writing(a_run()) as draft:
        fill(draft, byte=byte)
        draft.finish(some_facts())
    assert draft.entry is not None
    return draft.entry


def keep(runs: Path, entry: Entry, *, weights: str) -> None:
    kept = keeping.Kept("made", "by hand", [a_score(entry.key)], {}, None, weights=weights)
    keeping.write(runs / "scores" / entry.key / "mini-nli" / "test-sw.json", kept, [], None)


def test_scores_of_weights_that_are_gone_are_nobodys(tmp_path: Path) -> None:
    settings, zoo = api.Settings(runs=tmp_path), Zoo(tmp_path / "zoo")
    first = trained(zoo, b"\0")
    keep(tmp_path, first, weights=first.card.weights)
    assert [one.value for one in api.all_scores(first, settings)] == [61.5]
    assert [one.key for one in api.kept_scores(settings)] == [first.key]
    zoo.remove(first.key)
    assert [one.key for one in api.kept_scores(settings)] == [first.key], "of an entry that is not here"
    second = trained(zoo, b"\1")
    assert second.key == first.key
    with pytest.warns(UserWarning, match=rf"of other weights than {first.key} has now .*: xling evaluate {first.key}"):
        assert api.all_scores(second, settings) == []
    with pytest.warns(UserWarning, match="of other weights"):
        assert api.kept_scores(settings) == []
    with pytest.warns(UserWarning, match="of other weights"), pytest.raises(MissingData, match="no entry has scores"):
        api.compare(first.key, first.key, "mini-nli", settings=settings)


def test_scores_from_before_weights_were_kept_still_count(tmp_path: Path) -> None:
    entry = trained(Zoo(tmp_path / "zoo"), b"\0")
    keep(tmp_path, entry, weights="")
    assert [one.value for one in api.all_scores(entry, api.Settings(runs=tmp_path))] == [61.5]
