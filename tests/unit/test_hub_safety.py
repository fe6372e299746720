"""What somebody may put into a shared zoo to harm its users: refused, with the spot, and nothing is kept.

Two kinds of attack: bytes that are broken at random, and entries that are made with care: every digest and seal fits,
one thing is wrong.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from zoo_samples import a_run, a_score, an_entry, reseal, tensors

from adapters_xling import spec
from adapters_xling.errors import HubError, XlingError
from adapters_xling.hub import open_hub, pull
from adapters_xling.zoo import Zoo
from adapters_xling.zoo.card_file import MAX_CARD_BYTES

MANY = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)


@functools.cache
def sound() -> tuple[str, dict[str, bytes]]:
    """Key and files of a sound entry."""
    with tempfile.TemporaryDirectory() as folder:
        entry = an_entry(Zoo(Path(folder), fallbacks=()))
        found = {p.relative_to(entry.folder).as_posix(): p.read_bytes() for p in entry.folder.rglob("*") if p.is_file()}
        return entry.key, found


def plain() -> dict[str, Any]:
    return json.loads(sound()[1]["card.json"])


def described(files: dict[str, bytes], **changes: Any) -> dict[str, bytes]:
    """Files with a card that fits them in every digest, as somebody who knows the format would make it."""
    card = copy.deepcopy(plain())
    card["files"] = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "num_bytes": len(data)}
        for name, data in files.items()
        if name != "card.json"
    }
    card.update(changes)
    return {**files, "card.json": reseal(card)}


def refused(files: dict[str, bytes], *, key: str | None = None, extra: Callable[[Path], None] | None = None) -> str:
    """Pull these files from a folder: the message; nothing of them is in the zoo, and nothing lies beside it."""
    root = Path(tempfile.mkdtemp(prefix="xling-unsafe-"))
    try:
        folder = root / "shared" / (key or sound()[0])
        for name, data in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if extra is not None:
            extra(folder)
        before = {path for path in root.rglob("*") if "zoo" not in path.relative_to(root).parts}
        zoo = Zoo(root / "zoo", fallbacks=())
        with pytest.raises(XlingError) as caught:
            pull(zoo, folder.name, open_hub(str(root / "shared")))
        assert zoo.keys() == ()
        assert {path for path in root.rglob("*") if "zoo" not in path.relative_to(root).parts} == before
        left = [p for p in (root / "zoo").rglob("*") if p.name != ".partial"] if (root / "zoo").exists() else []
        assert not left, left
        return str(caught.value)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def names(message: str, *spots: str) -> None:
    assert any(spot in message for spot in spots), message


# --- broken at random ----------------------------------------------------------------------------------------------


@MANY
@given(st.data())
def test_a_card_with_any_byte_changed_is_refused(data: st.DataObject) -> None:
    files = dict(sound()[1])
    raw = bytearray(files["card.json"])
    at = data.draw(st.integers(0, len(raw) - 1))
    new = data.draw(st.integers(0, 255).filter(lambda byte: byte != raw[at]))
    raw[at] = new
    try:
        if json.loads(bytes(raw)) == plain():
            return  # a blank between two fields, say: the same card
    except ValueError:
        pass
    files["card.json"] = bytes(raw)
    names(refused(files), "card.json", sound()[0])


@MANY
@given(st.binary(max_size=400) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")))
@example(b"")
@example(b"[" * 100_000)
@example(b'{"a":' * 50_000)
@example(b"\xff\xfe{}")
@example(b"null")
@example(b"NaN")
@example(b"\x80\x04\x95")
def test_a_card_of_any_bytes_is_refused(raw: bytes) -> None:
    names(refused({**sound()[1], "card.json": raw}), "card.json", "unknown entry")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a card, outermost first."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        found += places(inner, (*path, name))
    return found


@MANY
@given(st.data())
def test_a_resealed_card_with_another_value_where_it_decides_something_is_refused(data: st.DataObject) -> None:
    """Free text and facts may differ (they prove nothing); whatever decides what is loaded may not."""
    card = plain()
    frozen = [p for p in places(card) if p[0] in ("schema", "key", "digest", "run", "parents", "files")]
    place = data.draw(st.sampled_from(frozen))
    value = data.draw(JSON)
    inner = card
    for step in place[:-1]:
        inner = inner[step]
    if inner[place[-1]] == value and type(inner[place[-1]]) is type(value):
        return
    inner[place[-1]] = value
    try:
        raw = reseal(card)
    except (ValueError, TypeError, UnicodeEncodeError):
        return
    names(refused({**sound()[1], "card.json": raw}), "card.json", sound()[0])


FREE = (("data",), ("provenance", "packages"), ("heads",), ("probe", "inputs"))
"""Mappings with names of the writer's choice. Heads and probes are checked when an entry is opened."""


@MANY
@given(st.data())
def test_a_resealed_card_that_lacks_or_doubles_a_field_is_refused(data: st.DataObject) -> None:
    card = plain()
    place = data.draw(st.sampled_from([p for p in places(card) if isinstance(p[-1], str)]))
    inner = card
    for step in place[:-1]:
        inner = inner[step]
    if data.draw(st.booleans()):
        name = f'"{place[-1]}":'
        raw = reseal(card).replace(name.encode(), f"{name} null, {name}".encode(), 1)
        names(refused({**sound()[1], "card.json": raw}), "given twice", "card.json")
        return
    if any(place[: len(free)] == free for free in FREE) and len(place) > 1:
        return
    inner["stranger"] = inner.pop(place[-1])
    names(refused({**sound()[1], "card.json": reseal(card)}), "card.json", sound()[0])


@MANY
@given(st.data())
def test_a_file_with_any_byte_changed_cut_or_added_is_refused(data: st.DataObject) -> None:
    files = dict(sound()[1])
    name = data.draw(st.sampled_from(sorted(set(files) - {"card.json"})))
    raw = bytearray(files[name])
    how = data.draw(st.sampled_from(["change", "cut", "add"]))
    if how == "change":
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] ^= data.draw(st.integers(1, 255))
    elif how == "cut":
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    else:
        raw += data.draw(st.binary(min_size=1, max_size=50))
    files[name] = bytes(raw)
    names(refused(files), name)


@MANY
@given(
    st.text(min_size=1, max_size=40)
    | st.lists(st.sampled_from(["..", ".", "", "a", "~", "C:", "\\", "a\\b", "card.json", " ", "a."]), min_size=1).map(
        "/".join
    )
)
@example("../../../etc/passwd")
@example("/etc/passwd")
@example("..\\..\\x.json")
@example("C:\\x.json")
@example("a/../../x.json")
@example("CARD.JSON")
@example("card.json/x.json")
@example(".git/config.json")
@example("x.json ")
@example("x.py")
@example("modeling.py")
@example("pytorch_model.bin")
@example("weights.pt")
@example("weights.zip")
@example("a\x00.json")
@example("a\n.json")
@example("Heads.safetensors")
@example("a/b/c/d/e/f/g.json")
@example("nul\u202egnp.json")
@example("x" * 300 + ".json")
def test_a_file_name_that_leaves_the_entry_or_may_not_be_in_it_is_refused(name: str) -> None:
    card = plain()
    card["files"][name] = {"sha256": hashlib.sha256(b"{}").hexdigest(), "num_bytes": 2}
    try:
        raw = reseal(card)
    except UnicodeEncodeError:
        return
    names(refused({**sound()[1], "card.json": raw}), "card.json", sound()[0], "files")


@MANY
@given(st.text(max_size=120))
@example("../x")
@example("..")
@example("")
@example("mini-nli-lora-fresh-xlmr-nano-s0-0123456789abcdeg")
@example("/etc")
def test_any_name_asked_for_is_an_error_of_ours(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shared = Path(folder, "shared")
        shared.mkdir()
        with pytest.raises(XlingError):
            pull(Zoo(Path(folder, "zoo"), fallbacks=()), name, open_hub(str(shared)))


# --- made with care ------------------------------------------------------------------------------------------------


def header(text: str, body: bytes = b"") -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw + body


WEIGHTS: dict[str, bytes] = {
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n(S'true'\ntR.",
    "a zip archive": b"PK\x03\x04" + b"\0" * 60,
    "a compressed archive": b"\x1f\x8b" + b"\0" * 60,
    "nothing": b"",
    "a header longer than the file": struct.pack("<Q", 2**40) + b"{}",
    "a header of the largest number": struct.pack("<Q", 2**64 - 1) + b"{}",
    "a header that is no JSON": header("{nope"),
    "a header that is a list": header("[]"),
    "a header nested beyond reason": header('{"a":' * 20_000),
    "a header that is not UTF-8": struct.pack("<Q", 4) + b"\xff\xfe{}",
    "a tensor named twice": header(
        '{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b"\0" * 4,
    ),
    "offsets beyond the file": header('{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', b"\0" * 4),
    "offsets that overlap": header(
        '{"v":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b"\0" * 4,
    ),
    "negative offsets": header('{"w":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}', b"\0" * 4),
    "a shape that overflows": header(
        '{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}', b"\0" * 4
    ),
    "an unknown type": header('{"w":{"dtype":"OBJECT","shape":[1],"data_offsets":[0,4]}}', b"\0" * 4),
    "a boolean shape": header('{"w":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}', b"\0" * 4),
    "bytes nobody describes": header('{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"\0" * 9),
}


@pytest.mark.parametrize("what", WEIGHTS)
def test_weights_that_are_none_are_refused_though_their_digest_fits(what: str) -> None:
    files = {**sound()[1], "heads.safetensors": WEIGHTS[what]}
    names(refused(described(files)), "heads.safetensors")


def test_sound_files_that_were_described_anew_are_taken() -> None:
    """The counterpart of all the above: `described` itself makes nothing unsound."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in described({**sound()[1], "heads.safetensors": tensors(3, b"\1")}).items():
            path = Path(folder, "shared", sound()[0], name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        zoo = Zoo(Path(folder, "zoo"), fallbacks=())
        pull(zoo, sound()[0], open_hub(f"{folder}/shared"))
        assert zoo.verify(sound()[0]) == []


@pytest.mark.parametrize("name", ["run.py", "x.bin", "adapter/model.pt", "a.npy", "b.zip", "c.tar.gz", "d", "e.so"])
def test_code_pickles_and_archives_are_refused_listed_or_not(name: str) -> None:
    names(refused(described({**sound()[1], name: b"import os"})), name)
    names(refused({**sound()[1], name: b"import os"}), name)


def test_an_oversized_card_and_an_oversized_file_are_refused_before_they_are_read() -> None:
    names(refused({**sound()[1], "card.json": b" " * (MAX_CARD_BYTES + 1)}), "that is no card")
    card = plain()
    card["files"]["heads.safetensors"]["num_bytes"] = 10**15
    names(refused({**sound()[1], "card.json": reseal(card)}), "heads.safetensors", "the card says")

    def sparse(folder: Path) -> None:
        with (folder / "heads.safetensors").open("r+b") as stream:
            stream.truncate(2**34)

    names(refused(sound()[1], extra=sparse), "heads.safetensors: 17,179,869,184 bytes")


def test_a_file_that_the_disk_cannot_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type(usage)(usage.total, usage.total, 10))
    names(refused(sound()[1]), "disk full")


@pytest.mark.parametrize("what", ["file", "card", "folder", "entry", "fifo"])
def test_links_and_special_files_are_refused(what: str) -> None:
    def put(folder: Path) -> None:
        outside = folder.parent.parent / "outside"
        if what == "fifo":
            os.mkfifo(folder / "pipe.json")
            return
        name = {"file": "heads.safetensors", "card": "card.json", "folder": "adapter", "entry": ""}[what]
        (folder / name).rename(outside)
        (folder / name).symlink_to(outside)

    if what == "fifo":
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root, "shared", sound()[0])
            for name, data in sound()[1].items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
            put(folder)
            with pytest.raises(HubError, match=r"pipe\.json: not in the card"):
                pull(Zoo(Path(root, "zoo"), fallbacks=()), folder.name, open_hub(f"{root}/shared"))
        return
    names(refused(sound()[1], extra=put), "is a symbolic link")


def test_the_card_of_one_entry_under_the_key_of_another_is_refused() -> None:
    other = spec.key(a_run(seed=9))
    names(refused(sound()[1], key=other), f"it is the card of '{sound()[0]}'")


def test_a_newer_card_is_not_guessed_at() -> None:
    card = plain()
    card["schema"] = 99
    names(refused({**sound()[1], "card.json": reseal(card)}), "upgrade it")


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("training", {"dev_score": 1e9}, "training: dev_score is 1e+09; a percentage lies between 0 and 100"),
        ("training", {"chance": -1.0}, "training: chance is -1; a percentage"),
        ("training", {"dev_curve": [[10, 81.25], [20, 180.0]]}, "training: dev_score at step 20 is 180; a percentage"),
        ("probe", {"tolerance": 0.5}, "a tolerance of 0.5 proves nothing; at most 0.0225 is taken"),
    ],
)
def test_a_card_that_claims_what_no_entry_can_have_is_refused(part: str, change: dict[str, Any], said: str) -> None:
    names(refused(described(sound()[1], **{part: {**plain()[part], **change}})), said)


def test_a_card_whose_scores_are_no_percentages_is_refused() -> None:
    score = msgspec.to_builtins(a_score(sound()[0], "sw", 100.5))
    names(refused(described(sound()[1], scores=[score])), "score on mini-nli (sw) is 100.5; a percentage lies between")


@pytest.mark.parametrize("field", ["notes", "licence"])
def test_a_card_that_would_write_over_what_a_terminal_shows_is_refused(field: str) -> None:
    text = "free\x1b[1A\x1b[2Klicence  Apache-2.0"
    message = refused(described(sound()[1], **{field: text}))
    names(message, "control characters")
    assert "\x1b" not in message
