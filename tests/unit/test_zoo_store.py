"""The zoo: what is listed is complete, what is got is verified, what is damaged is named."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import msgspec
import pytest
from zoo_samples import a_run, an_entry, fill, reseal, some_facts, tensors

from adapters_xling.cli import main
from adapters_xling.errors import UnknownName, ZooError
from adapters_xling.spec import BackboneId, WeightAverage, key
from adapters_xling.zoo import Entry, Zoo, ZooWarning, file_digest, files, safetensors_problem
from adapters_xling.zoo.lineage import trace


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "zoo", fallbacks=())


def message(zoo: Zoo, entry: Entry) -> str:
    """The refusal of a damaged entry; `verify` must see it too."""
    assert zoo.verify(entry.key)
    with pytest.raises(ZooError) as caught:
        zoo.get(entry.key)
    text = str(caught.value)
    assert entry.key in text and f"xling zoo rm {entry.key}" in text
    return text


# --- writing ----------------------------------------------------------------------------------------------------


def test_an_entry_is_invisible_while_written_and_complete_when_seen(zoo: Zoo) -> None:
    assert zoo.keys() == () and zoo.entries() == ()
    with zoo.writing(a_run()) as draft:
        fill(draft)
        draft.finish(some_facts())
        assert zoo.keys() == () and draft.key not in zoo and draft.entry is None
    entry = zoo.get(draft.key)
    assert draft.entry == entry and zoo.keys() == (key(a_run()),) and draft.key in zoo
    assert set(entry.card.files) == {"adapter/model.safetensors", "adapter_config.json", "heads.safetensors"}
    assert entry.file("heads.safetensors").read_bytes() == tensors(3)
    assert zoo.verify(draft.key) == [] and not list((zoo.root / ".partial").iterdir())
    with pytest.raises(UnknownName, match="heads"):
        entry.file("head.safetensors")


def test_an_exception_in_the_block_leaves_nothing(zoo: Zoo) -> None:
    for error in (RuntimeError("boom"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            with zoo.writing(a_run()) as draft:
                fill(draft)
                draft.finish(some_facts())
                raise error
        assert zoo.keys() == () and not list((zoo.root / ".partial").iterdir())


def test_leaving_without_finish_is_an_error_and_leaves_nothing(zoo: Zoo) -> None:
    with pytest.raises(ZooError, match="without finish"):
        with zoo.writing(a_run()) as draft:
            fill(draft)
    assert zoo.keys() == () and not list((zoo.root / ".partial").iterdir())


def test_finish_may_be_called_only_once_and_an_empty_entry_is_refused(zoo: Zoo) -> None:
    with pytest.raises(ZooError, match="twice"):
        with zoo.writing(a_run()) as draft:
            draft.finish(some_facts())
            draft.finish(some_facts())
    with pytest.raises(ZooError, match="no file was written"):
        with zoo.writing(a_run()) as draft:
            draft.finish(some_facts())
    assert zoo.keys() == ()


def test_an_unlocked_backbone_may_be_planned_but_not_written(zoo: Zoo) -> None:
    import msgspec

    unlocked = BackboneId(name="xlmr-nano", repo="x", revision=None, digest=None)
    with pytest.raises(ZooError, match="not locked"):
        with zoo.writing(msgspec.structs.replace(a_run(), backbone=unlocked)):
            raise AssertionError("the block must not start")


def test_an_existing_entry_is_never_overwritten(zoo: Zoo) -> None:
    first = an_entry(zoo)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in first.folder.rglob("*") if path.is_file()}
    with zoo.writing(a_run()) as draft:
        fill(draft, byte=b"\1")
        draft.finish(some_facts(notes="second"))
    assert draft.entry == first
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before}
    assert not list((zoo.root / ".partial").iterdir())


def test_a_damaged_holder_of_the_key_is_named_before_work_is_lost(zoo: Zoo) -> None:
    entry = an_entry(zoo)
    entry.file("heads.safetensors").unlink()
    with pytest.raises(ZooError, match=r"heads\.safetensors: missing.*xling zoo rm"):
        with zoo.writing(a_run()):
            raise AssertionError("the block must not start")
    zoo.remove(entry.key)
    assert zoo.get(an_entry(zoo).key)


@pytest.mark.parametrize(
    "name", ["model.bin", "model.pt", "model.pth", "x.pkl", "x.ckpt", "x.PT", "x.npy", "run.py", "x"]
)
def test_other_endings_are_refused_at_writing_and_at_reading(zoo: Zoo, name: str) -> None:
    with pytest.raises(ZooError, match=name.replace(".", r"\.")):
        with zoo.writing(a_run()) as draft:
            fill(draft)
            (draft.folder / name).write_bytes(b"data")
            draft.finish(some_facts())
    assert zoo.keys() == ()
    entry = an_entry(zoo)
    (entry.folder / name).write_bytes(b"data")
    text = message(zoo, entry)
    assert f"{name}: not in the card" in text and ("pickle" in text or "not allowed" in text)


@pytest.mark.parametrize("disguise", ["x.safetensors", "x.json", "x.model"])
def test_a_pickle_or_archive_under_an_allowed_name_is_refused(zoo: Zoo, tmp_path: Path, disguise: str) -> None:
    import pickle

    (tmp_path / "p").write_bytes(pickle.dumps({"w": [1.0]}))
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("data.pkl", b"x" * 100)
    for kind in ("p", "z"):
        with pytest.raises(ZooError, match=r"x\..*: holds a (pickle|zip)"):
            with zoo.writing(a_run()) as draft:
                shutil.copy(tmp_path / kind, draft.folder / disguise)
                draft.finish(some_facts())
    assert zoo.keys() == ()


def test_a_safetensors_header_that_begins_like_a_pickle_is_no_pickle(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    note = next(n for n in range(1000) if int.from_bytes(tensors(note="n" * n)[:8], "little") == 0x0280)
    path.write_bytes(tensors(note="n" * note))
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert files.refuse(path) is None


def test_symbolic_links_are_refused_at_writing_and_at_reading(zoo: Zoo, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("x")
    with pytest.raises(ZooError, match="symbolic link"):
        with zoo.writing(a_run()) as draft:
            fill(draft)
            (draft.folder / "a.txt").symlink_to(tmp_path / "secret.txt")
            draft.finish(some_facts())
    entry = an_entry(zoo)
    weights = entry.file("heads.safetensors")
    shutil.move(weights, tmp_path / "same.safetensors")
    weights.symlink_to(tmp_path / "same.safetensors")
    assert "heads.safetensors: is a symbolic link" in message(zoo, entry)


# --- safetensors ------------------------------------------------------------------------------------------------


def test_what_the_safetensors_library_writes_is_sound(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    arrays = {"a": np.ones((3, 5), np.float32), "b": np.zeros((0, 4), np.int64), "c": np.ones(7, np.bool_)}
    save_file({**arrays, "d": np.float16(3)[None]}, tmp_path / "x.safetensors", metadata={"k": "v"})
    save_file({}, tmp_path / "empty.safetensors")
    assert safetensors_problem(tmp_path / "x.safetensors") is None
    assert safetensors_problem(tmp_path / "empty.safetensors") is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x08",
        tensors()[:-1],
        tensors() + b"\0",
        b"\xff" * 8 + tensors()[8:],
        b"\x02" + b"\0" * 7 + b"[]",
        tensors().replace(b'"F32"', b'"F99"'),
        tensors().replace(b"[2]", b"[3]"),
        tensors().replace(b"[0, 8]", b"[4, 8]"),
        tensors().replace(b"[0, 8]", b"[8, 0]"),
        tensors().replace(b"[2]", b"-12"),
        tensors().replace(b"[0, 8]", b'"0, 8"'),
    ],
)
def test_a_safetensors_file_that_contradicts_itself_is_found_without_torch(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw)
    assert safetensors_problem(path)


def test_tensors_that_overlap_or_leave_a_gap_are_found(tmp_path: Path) -> None:
    def two(first: list[int], second: list[int]) -> str | None:
        spans = {"a": first, "b": second}
        head = {k: {"dtype": "U8", "shape": [v[1] - v[0]], "data_offsets": v} for k, v in spans.items()}
        raw = json.dumps(head).encode()
        path = tmp_path / "x.safetensors"
        path.write_bytes(len(raw).to_bytes(8, "little") + raw + b"\0" * second[1])
        return safetensors_problem(path)

    assert two([0, 4], [4, 8]) is None
    assert "'b' begins at byte 2, expected 4" in (two([0, 4], [2, 8]) or "")
    assert "'b' begins at byte 6, expected 4" in (two([0, 4], [6, 8]) or "")


# --- verifying --------------------------------------------------------------------------------------------------


def test_a_missing_file_is_named(zoo: Zoo) -> None:
    entry = an_entry(zoo)
    entry.file("adapter/model.safetensors").unlink()
    assert "adapter/model.safetensors: missing, expected" in message(zoo, entry)


def test_a_truncated_file_is_named_with_expected_and_found(zoo: Zoo) -> None:
    entry = an_entry(zoo)
    path = entry.file("heads.safetensors")
    size = path.stat().st_size
    os.truncate(path, size - 1)
    assert f"heads.safetensors: truncated: expected {size:,} bytes, found {size - 1:,}" in message(zoo, entry)


def test_one_altered_bit_is_named_even_right_after_a_verified_read(zoo: Zoo) -> None:
    entry = an_entry(zoo)
    zoo.get(entry.key)
    path = entry.file("heads.safetensors")
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=times)
    text = message(zoo, entry)
    assert "heads.safetensors: altered: sha256 expected" in text and file_digest(path) in text


def test_digests_of_settled_files_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.txt"
    path.write_text("a")
    monkeypatch.setattr(files, "_SETTLED_NS", -(10**18))
    first = file_digest(path)
    with monkeypatch.context() as patch:
        patch.setattr(files.hashlib, "sha256", lambda: pytest.fail("hashed again"))
        assert file_digest(path) == first
    path.write_text("bb")
    assert file_digest(path) != first


def test_an_extra_file_is_named(zoo: Zoo) -> None:
    entry = an_entry(zoo)
    (entry.folder / "adapter" / "other.json").write_text("{}")
    assert "adapter/other.json: not in the card" in message(zoo, entry)


def test_an_altered_missing_or_linked_card_is_named(zoo: Zoo, tmp_path: Path) -> None:
    entry = an_entry(zoo)
    card = entry.folder / "card.json"
    raw = card.read_bytes()
    card.write_bytes(raw.replace(b"81.25", b"91.25"))
    assert "card.json: altered after it was written" in message(zoo, entry)
    card.unlink()
    assert "card.json: the card cannot be read" in message(zoo, entry)
    assert entry.key not in zoo and zoo.keys() == () and zoo.resolve(entry.key) == entry.key
    (tmp_path / "elsewhere.json").write_bytes(raw)
    card.symlink_to(tmp_path / "elsewhere.json")
    assert "symbolic link" in message(zoo, entry)


def test_a_forged_path_in_the_card_is_never_followed(zoo: Zoo, tmp_path: Path) -> None:
    entry = an_entry(zoo)
    (tmp_path / "passwd.txt").write_text("secret")
    plain = json.loads((entry.folder / "card.json").read_text())
    plain["files"]["../../passwd.txt"] = {"sha256": file_digest(tmp_path / "passwd.txt"), "num_bytes": 6}
    (entry.folder / "card.json").write_bytes(reseal(plain))
    assert "leaves the entry" in message(zoo, entry)


def test_a_folder_under_another_entrys_name_is_refused(zoo: Zoo) -> None:
    entry = an_entry(zoo)
    other = key(a_run(seed=1))
    shutil.copytree(entry.folder, zoo.root / other)
    with pytest.raises(ZooError, match=f"{entry.key}.*{other}"):
        zoo.get(other)


def test_one_unreadable_card_does_not_hide_the_other_entries(zoo: Zoo) -> None:
    good, bad = an_entry(zoo), an_entry(zoo, a_run(seed=1))
    (bad.folder / "card.json").write_text("{}")
    with pytest.warns(ZooWarning, match=bad.key):
        assert zoo.entries() == (good,)


def test_an_entry_that_stands_on_an_absent_one_is_refused_but_one_that_only_started_from_it_is_not(zoo: Zoo) -> None:
    parent = an_entry(zoo)
    started = an_entry(zoo, a_run("mini-qa", warm=parent.key))
    standing = an_entry(zoo, a_run("mini-qa", under=parent.key))
    zoo.remove(parent.key, force=True)
    assert zoo.get(started.key) == started
    assert (zoo.verify(started.key), zoo.gone(started.key)) == ([], (parent.key,))
    assert zoo.verify(standing.key) == [f"runs on top of {parent.key}, which is not in zoo {zoo.root}"]
    assert zoo.gone(standing.key) == ()
    with pytest.raises(ZooError, match=f"runs on top of {parent.key}.*pull or train"):
        zoo.get(standing.key)


def test_the_command_calls_an_entry_sound_whose_start_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo = Zoo(tmp_path / "zoo", fallbacks=())
    parent = an_entry(zoo)
    started = an_entry(zoo, a_run("mini-qa", warm=parent.key))
    merge = WeightAverage(entries=(parent.key, started.key), weights=(0.5, 0.5))
    merged = an_entry(zoo, msgspec.structs.replace(a_run(), init=merge), training=None)
    standing = an_entry(zoo, a_run("mini-ner", under=parent.key))
    zoo.remove(parent.key, force=True)
    for entry in (started, merged):
        main(["zoo", "verify", entry.key, "--runs", str(tmp_path)])
        said = capsys.readouterr().out
        assert said.startswith("ok ") and f"note: {parent.key}, which it started from, is not in this zoo" in said
    with pytest.raises(SystemExit):
        main(["zoo", "verify", standing.key, "--runs", str(tmp_path)])
    said = capsys.readouterr()
    assert said.out.startswith("BROKEN ") and f"runs on top of {parent.key}" in said.out and "note:" not in said.out
    assert "pull or train what one runs on top of" in said.err


# --- names, families, removal -----------------------------------------------------------------------------------


def test_resolve_takes_the_key_its_slug_a_prefix_or_its_hash(zoo: Zoo) -> None:
    nli, longer = an_entry(zoo).key, an_entry(zoo, a_run(method="lora-plus")).key
    qa0, qa1 = an_entry(zoo, a_run("mini-qa")).key, an_entry(zoo, a_run("mini-qa", seed=1)).key
    qa10 = an_entry(zoo, a_run("mini-qa", seed=10)).key
    assert zoo.resolve(nli) == nli and zoo.resolve("mini-qa-lora-fresh-xlmr-nano-s10") == qa10
    assert zoo.resolve("mini-nli-lora-fresh-xlmr-nano") == nli
    assert zoo.resolve("mini-nli-lora-plus") == longer
    assert zoo.resolve(zoo.get(nli)) == nli
    with pytest.raises(ZooError, match=r"an entry is named by text, its key or the beginning of one; got \['a'\]"):
        zoo.resolve(["a"])  # type: ignore[arg-type]
    assert zoo.resolve("mini-qa-lora-fresh-xlmr-nano-s1") == qa1
    assert zoo.resolve(qa0[-16:-4]) == qa0
    with pytest.raises(ZooError, match=f"3 entries.*{qa0}, {qa1}, {qa10}"):
        zoo.resolve("mini-qa")
    with pytest.raises(UnknownName, match=f"Did you mean .*{nli}"):
        zoo.resolve("mini-nlo-lora-fresh-xlmr-nano-s0-0000000000000000")
    for nothing in ("", "..", "/", "mini_nli"):
        with pytest.raises((UnknownName, ZooError)):
            zoo.resolve(nothing)


def test_find_combines_filters(zoo: Zoo) -> None:
    nli = an_entry(zoo)
    warm = an_entry(zoo, a_run("mini-qa", warm=nli.key))
    grandchild = an_entry(zoo, a_run("mini-tag", warm=warm.key))
    full = an_entry(zoo, a_run("mini-qa", method="full", seed=3))
    keys = {name: {entry.key for entry in zoo.find(**{name: value})} for name, value in FILTERS.items()}
    assert keys["task"] == {warm.key, full.key}
    assert keys["method"] == keys["seed"] == {full.key}
    assert keys["backbone"] == set(zoo.keys())
    assert keys["intermediate"] == {warm.key, grandchild.key}
    assert zoo.find(parent=nli.key) == (warm,) == zoo.find(parent="mini-nli")
    assert zoo.find(task="mini-qa", method="lora", intermediate="mini-nli", seed=0) == (warm,)
    assert zoo.find(task="none") == ()
    with pytest.raises(TypeError):
        zoo.find(taks="mini-qa")  # type: ignore[call-arg]


FILTERS = {"task": "mini-qa", "method": "full", "seed": 3, "backbone": "xlmr-nano", "intermediate": "mini-nli"}


def test_lineage_and_children_follow_both_init_and_route(zoo: Zoo) -> None:
    a = an_entry(zoo).key
    b = an_entry(zoo, a_run("mini-qa", warm=a)).key
    c = an_entry(zoo, a_run("mini-tag", warm=b, under=a)).key
    assert zoo.lineage(c) == (a, b, c) and zoo.lineage(a) == (a,)
    assert set(zoo.children(a)) == {b, c} and zoo.children(c) == ()


def test_an_entry_with_descendants_is_not_removed_unless_forced(zoo: Zoo) -> None:
    parent = an_entry(zoo)
    child = an_entry(zoo, a_run("mini-qa", warm=parent.key))
    with pytest.raises(ZooError, match=child.key):
        zoo.remove(parent.key)
    assert zoo.get(parent.key)
    zoo.remove(child.key)
    zoo.remove(parent.key)
    assert zoo.keys() == () and not list((zoo.root / ".partial").iterdir())
    with pytest.raises(UnknownName):
        zoo.remove(parent.key)


def test_an_entry_whose_descendants_cannot_be_read_is_not_removed(zoo: Zoo) -> None:
    """A card of a newer version was skipped, and its parent removed from under it."""
    parent = an_entry(zoo)
    child = an_entry(zoo, a_run("mini-qa", under=parent.key))
    file = child.folder / "card.json"
    card = json.loads(file.read_bytes())
    file.write_bytes(reseal({**card, "schema": 99}))
    with pytest.raises(ZooError, match=rf"1 descending from it: {child.key}"):
        zoo.remove(parent.key)
    with pytest.raises(ZooError, match=r"newer adapters_xling.*upgrade it") as newer:
        zoo.get(child.key)
    assert "Remove it" not in str(newer.value)
    file.write_bytes(b"{")
    with pytest.raises(ZooError, match=rf"the cards of {child.key} cannot be read"):
        zoo.remove(parent.key)
    assert zoo.get(parent.key)
    zoo.remove(parent.key, force=True)


def test_a_parent_that_was_trained_again_is_not_the_one_an_entry_was_made_from(
    zoo: Zoo, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its key is the same, its weights are not; for an adapter that only started from it nothing else could tell."""
    parent = an_entry(zoo)
    warm = an_entry(zoo, a_run("mini-qa", warm=parent.key))
    above = an_entry(zoo, a_run("mini-pos", under=parent.key))
    assert warm.card.parent_weights == above.card.parent_weights == {parent.key: parent.card.weights}
    assert parent.card.parent_weights is None and b"parent_weights" not in (parent.folder / "card.json").read_bytes()
    assert zoo.verify(above.key) == [] and zoo.replaced(warm.card) == ()
    zoo.remove(parent.key, force=True)
    assert zoo.replaced(warm.card) == (), "of one that is not here nothing is said"
    with zoo.writing(a_run()) as draft:
        fill(draft, byte=b"\1")
        draft.finish(some_facts())
    assert zoo.replaced(warm.card) == (parent.key,) and zoo.verify(warm.key) == []
    assert zoo.verify(above.key) == [
        f"runs on top of {parent.key}, which has other weights than it was made on: it was trained again since"
    ]
    found = trace(zoo, warm.key)
    assert found.replaced == (parent.key,) and f"{parent.key}  (trained again since" in found.tree()
    main(["zoo", "verify", warm.key, "--runs", str(zoo.root.parent)])
    assert f"note: {parent.key}, which it started from, was trained again since" in capsys.readouterr().out


def test_fallback_entries_are_seen_but_never_removed_or_shadowed(zoo: Zoo, tmp_path: Path) -> None:
    shipped = an_entry(zoo)
    mine = Zoo(tmp_path / "mine", fallbacks=(zoo.root,))
    child = an_entry(mine, a_run("mini-qa", warm=shipped.key))
    assert mine.get(shipped.key) == shipped and set(mine.keys()) == {shipped.key, child.key}
    assert mine.lineage(child.key) == (shipped.key, child.key)
    with pytest.raises(ZooError, match="read-only"):
        mine.remove(shipped.key, force=True)
    assert an_entry(mine).folder == shipped.folder and not (mine.root / shipped.key).exists()


def test_backbones_and_other_folders_are_no_entries(zoo: Zoo, tmp_path: Path) -> None:
    entry = an_entry(zoo)
    backbone = zoo.root / "xlmr-nano"
    backbone.mkdir()
    for name in ("config.json", "tokenizer.json", "training.json"):
        (backbone / name).write_text("{}")
    with pytest.raises(UnknownName, match="backbone folder"):
        zoo.backbone_folder("xlmr-nano")
    (backbone / "model.safetensors").write_bytes(tensors())
    (zoo.root / "notes.md").write_text("x")
    (zoo.root / key(a_run(seed=9))).mkdir()
    assert zoo.keys() == (entry.key,)
    assert zoo.backbone_folder("xlmr-nano") == backbone
    assert Zoo(tmp_path / "none", fallbacks=(zoo.root,)).backbone_folder("xlmr-nano") == backbone
    for bad in ("xlmr-nan", "..", "../zoo/xlmr-nano", entry.key):
        with pytest.raises(UnknownName):
            zoo.backbone_folder(bad)


@pytest.mark.parametrize("name", ["..", "", "/etc", "a/b", ".partial", "x" * 5000, "a\0b"])
def test_names_that_are_no_keys_never_reach_the_disk(zoo: Zoo, name: str) -> None:
    an_entry(zoo)
    assert name not in zoo
    for act in (zoo.get, zoo.verify, zoo.remove, zoo.lineage):
        with pytest.raises(UnknownName):
            act(name)


def test_a_file_in_place_of_the_zoo_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "zoo").write_text("x")
    with pytest.raises(ZooError, match="is a file"):
        Zoo(tmp_path / "zoo", fallbacks=()).keys()
    with pytest.raises(ZooError, match=r"cannot be written|is a file"):
        an_entry(Zoo(tmp_path / "zoo" / "below", fallbacks=()))


def test_adopting_takes_a_verified_copy_or_nothing(zoo: Zoo, tmp_path: Path) -> None:
    entry = an_entry(zoo)
    mine = Zoo(tmp_path / "mine", fallbacks=())
    adopted = mine.adopt(entry.folder)
    assert adopted.card == entry.card and mine.verify(entry.key) == [] and adopted.folder.parent == mine.root
    theirs = an_entry(Zoo(tmp_path / "theirs", fallbacks=()), notes="trained elsewhere")
    with pytest.raises(ZooError, match=r"here already .* with other content"):
        mine.adopt(theirs.folder)
    assert mine.get(entry.key).card == entry.card
    os.truncate(entry.file("heads.safetensors"), 5)
    other = Zoo(tmp_path / "other", fallbacks=())
    with pytest.raises(ZooError, match="nothing was taken"):
        other.adopt(entry.folder)
    assert other.keys() == ()


def test_the_zoo_imports_neither_torch_nor_transformers() -> None:
    import subprocess
    import sys

    code = "import sys, adapters_xling.zoo; print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
