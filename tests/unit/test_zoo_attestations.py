"""Scores measured after publishing: kept beside a card that never changes, refused when not what was sealed."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zoo_samples import a_run, a_score, an_entry, sealed

from adapters_xling import spec
from adapters_xling.errors import ZooError
from adapters_xling.zoo import CARD, Measured, Zoo, attestations
from adapters_xling.zoo.attestations import SCORES, attest

MADE = Measured.now()


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "zoo", fallbacks=())


def test_scores_are_added_and_replaced_while_the_card_stays_to_the_byte(zoo: Zoo) -> None:
    entry = an_entry(zoo)
    card = (entry.folder / CARD).read_bytes()
    assert zoo.scores(entry.key) == ()
    zoo.attest(entry.key, sealed(entry, "sw", "de"))
    zoo.attest(entry.key, sealed(entry, "sw", value=70.0))
    assert {one.score.language: one.score.value for one in zoo.scores(entry.key)} == {"de": 61.5, "sw": 70.0}
    assert (entry.folder / CARD).read_bytes() == card
    assert zoo.verify(entry.key) == []
    assert zoo.get(entry.key).card == entry.card
    assert "/home/ada" not in (entry.folder / SCORES).read_text()


def test_scores_that_are_added_at_once_are_all_there(zoo: Zoo) -> None:
    entry = an_entry(zoo)
    codes = ["ar", "de", "el", "es", "hi", "ru", "sw", "tr", "ur", "zh"]
    with ThreadPoolExecutor(len(codes)) as pool:
        list(pool.map(lambda code: zoo.attest(entry.key, sealed(entry, code)), codes))
    assert [one.score.language for one in zoo.scores(entry.key)] == codes


def test_a_kill_while_scores_are_written_leaves_the_entry_whole(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = an_entry(zoo)
    before = {path.name for path in entry.folder.iterdir()}
    met: list[set[str]] = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (met.append({p.name for p in entry.folder.iterdir()}), real(handle))
    )
    zoo.attest(entry.key, sealed(entry, "sw"))
    assert met and all(names == before for names in met), "a half-written file would be one that no card lists"
    assert not any((zoo.root / ".partial").iterdir())


def test_an_adopted_entry_brings_its_scores(zoo: Zoo, tmp_path: Path) -> None:
    entry = an_entry(zoo)
    zoo.attest(entry.key, sealed(entry, "sw"))
    other = Zoo(tmp_path / "other", fallbacks=())
    other.adopt(entry.folder)
    assert other.scores(entry.key) == zoo.scores(entry.key) != ()
    assert other.verify(entry.key) == []


def test_a_line_of_another_entry_is_refused(zoo: Zoo) -> None:
    ours, theirs = an_entry(zoo), an_entry(zoo, a_run("mini-pos"))
    with pytest.raises(ZooError, match="cannot be attested for entry"):
        attest(ours.card, a_score(theirs.key), identity="i", scoring="s", rows={}, made=MADE)
    with pytest.raises(ZooError, match="belongs to entry"):
        zoo.attest(ours.key, sealed(theirs, "sw"))
    assert not (ours.folder / SCORES).exists()


def test_a_line_is_bound_to_the_weights(zoo: Zoo, tmp_path: Path) -> None:
    entry = an_entry(zoo)
    files = {name: msgspec.structs.replace(one, sha256="0" * 64) for name, one in entry.card.files.items()}
    retrained = msgspec.structs.replace(entry.card, files=files)
    with pytest.raises(ZooError, match="other weights"):
        attestations.parse(attestations.render(sealed(entry, "sw")), retrained, where="x")


def test_read_only_entries_take_no_scores(tmp_path: Path) -> None:
    shipped = Zoo(tmp_path / "shipped", fallbacks=())
    entry = an_entry(shipped)
    zoo = Zoo(tmp_path / "own", fallbacks=(shipped.root,))
    with pytest.raises(ZooError, match="read-only"):
        zoo.attest(entry.key, sealed(entry, "sw"))


def forged(line: dict[str, Any], **changes: Any) -> bytes:
    """A line with a seal that fits, as somebody who knows the form would write it."""
    body = {name: value for name, value in {**line, **changes}.items() if name != "seal"}
    return json.dumps({**body, "seal": spec.digest(body)}).encode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda line: json.dumps({**line, "score": {**line["score"], "value": 99.0}}).encode(), "altered"),
        (lambda line: forged(line, schema=2), "schema 2 is unknown"),
        (lambda line: forged(line, entry="other"), "belongs to entry other"),
        (lambda line: forged(line, weights="f" * 64), "other weights"),
        (lambda line: forged(line, weights="f"), "weights"),
        (lambda line: forged(line, more=1), "more"),
        (lambda line: forged(line, commit="\x1b[2Kforged"), "control characters"),
        (lambda line: forged(line, created="9999"), "created: '9999' is no time"),
        (lambda line: forged(line, score={**line["score"], "value": 261.5}), "261.5 is no percentage"),
        (lambda line: forged(line, score={**line["score"], "key": "x"}), "belongs to entry"),
        (lambda line: json.dumps(line).encode() * 2, "no attested score"),
        (lambda line: json.dumps(line).encode() + b"\n" + json.dumps(line).encode(), "given twice"),
        (lambda line: json.dumps(line).replace("61.5", "NaN").encode(), "NaN"),
        (lambda line: json.dumps(line)[:-20].encode(), "no attested score"),
        (lambda line: b"\xff\xfe", "no attested score"),
        (lambda line: b'{"schema": 1, "schema": 1}', "given twice"),
        (lambda line: b"[" * 100_000, "no attested score"),
        (lambda line: b"null", "no attested score"),
    ],
)
def test_what_was_not_sealed_so_is_refused_with_the_line(zoo: Zoo, change: Any, words: str) -> None:
    entry = an_entry(zoo)
    zoo.attest(entry.key, sealed(entry, "sw"))
    path = entry.folder / SCORES
    path.write_bytes(change(json.loads(path.read_text())))
    (problem,) = zoo.verify(entry.key)
    assert words in problem and f"{SCORES}:" in problem
    with pytest.raises(ZooError):
        zoo.scores(entry.key)
    with pytest.raises(ZooError):
        Zoo(zoo.root.parent / "other", fallbacks=()).adopt(entry.folder)
    before = path.read_bytes()
    with pytest.raises(ZooError):
        zoo.attest(entry.key, sealed(entry, "de"))
    assert path.read_bytes() == before
    assert zoo.get(entry.key).key == entry.key, "the entry itself is sound"


def test_a_link_in_its_place_is_refused(zoo: Zoo, tmp_path: Path) -> None:
    entry = an_entry(zoo)
    zoo.attest(entry.key, sealed(entry, "sw"))
    moved = tmp_path / "elsewhere.jsonl"
    (entry.folder / SCORES).rename(moved)
    (entry.folder / SCORES).symlink_to(moved)
    assert any("symbolic link" in problem for problem in zoo.verify(entry.key))
    with pytest.raises(ZooError, match="symbolic link"):
        zoo.scores(entry.key)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(min_value=0), bit=st.integers(0, 7))
def test_no_flipped_bit_is_believed(tmp_path: Path, place: int, bit: int) -> None:
    zoo = Zoo(tmp_path / "zoo", fallbacks=())
    run = a_run()
    key = spec.key(run)
    entry = zoo.get(key) if key in zoo else an_entry(zoo, run)
    raw = bytearray(attestations.render(sealed(entry, "sw", "de")))
    good = attestations.parse(bytes(raw), entry.card, where="x")
    raw[place % len(raw)] ^= 1 << bit
    try:
        found = attestations.parse(bytes(raw), entry.card, where="x")
    except ZooError:
        return
    assert found == good, "only blanks between values may change"


def test_no_private_path_lies_deep_in_the_facts_of_a_score(zoo: Zoo) -> None:
    entry = an_entry(zoo)
    chosen = {"source": "files /home/ada/secret/dev.tsv", "at": [1, "/home/ada/x"]}
    rows = {"source": "files /home/ada/dev.tsv", "chosen": chosen}
    line = attest(entry.card, a_score(entry.key), identity="1", scoring="1", rows=rows, made=MADE)
    assert line.rows == {"source": "files …/dev.tsv", "chosen": {"source": "files …/dev.tsv", "at": [1, "…/x"]}}


def test_what_is_no_file_in_its_place_is_refused_and_waits_for_nobody(zoo: Zoo) -> None:
    entry = an_entry(zoo)
    os.mkfifo(entry.folder / SCORES)
    with pytest.raises(ZooError, match="is no file"):
        zoo.scores(entry.key)
