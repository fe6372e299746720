"""Kept hidden states: what comes back is what was put there, within the bound, whoever else writes, or nothing."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import time
import warnings
from pathlib import Path

import pytest
import torch

from adapters_xling.errors import ConfigError
from adapters_xling.prefix_cache import IN_MEMORY, OFF, PrefixCache, files, open_store, session
from adapters_xling.prefix_cache.files import Files
from adapters_xling.prefix_cache.store import Memory, Store

WIDTH = 8
ROW = 5 * WIDTH * 4
"""Bytes of a row as these tests make them."""
KINDS = ("memory", "files")


def rows(*names: str, dtype: torch.dtype = torch.float32, tokens: int = 5) -> dict[bytes, torch.Tensor]:
    found = {}
    for name in names:
        generator = torch.Generator().manual_seed(int.from_bytes(name.encode(), "big"))
        found[name.encode()] = torch.randn(tokens, WIDTH, generator=generator).to(dtype)
    return found


def store_of(kind: str, folder: Path, num_bytes: int = 10**6) -> Store:
    return Memory(num_bytes) if kind == "memory" else Files(folder, num_bytes)


def numbers(count: int) -> list[str]:
    return [f"{i:03}" for i in range(count)]


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# --- settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("off", OFF),
        ("2GiB", IN_MEMORY),
        ("disk:/a/b", PrefixCache(folder=Path("/a/b"))),
        ("50 GB, disk:/a, bf16", PrefixCache(num_bytes=50 * 10**9, folder=Path("/a"), storage="bf16")),
        ("bf16", PrefixCache(storage="bf16")),
    ],
)
def test_settings_are_read_in_any_order(text: str, expected: PrefixCache) -> None:
    assert PrefixCache.parse(text) == expected
    assert PrefixCache.parse(",".join(reversed(text.split(",")))) == expected


def test_a_folder_is_the_same_for_workers_elsewhere() -> None:
    assert PrefixCache.parse("disk:rows").folder == Path.cwd() / "rows"


def test_disk_alone_is_the_folder_of_caches(tmp_path: Path) -> None:
    assert PrefixCache.parse("disk").folder == tmp_path / "cache" / "prefix"


@pytest.mark.parametrize(
    "text", ["", "2", "0GiB", "of", "disk:", "off,bf16", "fp16", "-1GiB", "1GiB,2GiB", "disk,disk:/a"]
)
def test_other_settings_are_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ConfigError, match="forms: off, 2GiB, disk"):
        PrefixCache.parse(text)


def test_workers_divide_memory_and_share_a_folder() -> None:
    assert IN_MEMORY.divided(4).num_bytes * 4 == IN_MEMORY.num_bytes
    on_disk = PrefixCache(folder=Path("a"))
    assert on_disk.divided(4) == on_disk
    assert not OFF.divided(4).is_on


# --- every store ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_come_back_bit_for_bit_under_their_own_address_and_name(
    kind: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    store, kept = store_of(kind, tmp_path), rows("a", "b", dtype=dtype)
    assert store.get("one", [b"a"]) == [None]
    store.put("one", kept)
    for _ in range(2):  # while it waits to be written, and from the file
        found = store.get("one", [b"b", b"c", b"a"])
        assert torch.equal(found[0], kept[b"b"])
        assert torch.equal(found[2], kept[b"a"])
        assert found[0].dtype == dtype
        assert found[1] is None
        store.flush()
    assert store.get("two", [b"a"]) == [None]
    assert (store.use.asked, store.use.found, store.use.refused) == (8, 4, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_does_not_follow_the_batch_it_came_from(kind: str, tmp_path: Path) -> None:
    store, batch = store_of(kind, tmp_path), torch.ones(2, 5, WIDTH)
    store.put("one", {b"a": batch[0], b"b": batch[1]})
    batch.zero_()
    store.flush()
    assert all(torch.equal(row, torch.ones(5, WIDTH)) for row in store.get("one", [b"a", b"b"]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_store_takes_nothing_more_and_keeps_what_it_has(kind: str, tmp_path: Path) -> None:
    bound = 3 * ROW + 250  # a header takes some of it
    store = store_of(kind, tmp_path, bound)
    store.begin()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for name in numbers(6):
            store.put("one", rows(name))
        store.flush()
        store.put("one", rows("999"))
        store.flush()
    found = [row is not None for row in store.get("one", [name.encode() for name in numbers(6)])]
    assert 0 < sum(found) < 6
    assert found == sorted(found, reverse=True)
    assert store.held <= bound
    assert store.use.refused == 7 - sum(found)
    if kind == "files":
        assert bytes_in(tmp_path) <= bound
        assert len(said) == 1
        assert "takes nothing more: it is full" in str(said[0].message)
        assert "--prefix-cache 50GiB" in str(said[0].message)


def test_in_memory_what_the_last_runs_did_not_use_makes_room() -> None:
    store = Memory(3 * ROW)
    store.begin()
    store.put("one", rows("a", "b", "c"))
    store.begin()
    store.get("one", [b"b"])
    store.put("one", rows("d"))
    assert store.get("one", [b"d"]) == [None]
    store.begin()
    store.put("one", rows("e", "f", "g"))
    kept = [row is not None for row in store.get("one", [b"a", b"b", b"c", b"e", b"f", b"g"])]
    assert kept == [False, True, False, True, True, False]
    assert store.held == 3 * ROW


def test_one_process_has_one_store_per_setting_and_writes_at_the_end_of_a_run(tmp_path: Path) -> None:
    setting = PrefixCache(folder=tmp_path / "rows")
    with pytest.raises(RuntimeError, match="killed"), session(setting):
        open_store(setting).put("one", rows("a"))
        raise RuntimeError("killed")
    assert open_store(setting) is open_store(PrefixCache(folder=tmp_path / "rows"))
    assert Files(tmp_path / "rows", 10**6).get("one", [b"a"]) != [None]
    assert open_store(IN_MEMORY) is not open_store(setting)


# --- files ------------------------------------------------------------------------------------------------------


def filled(folder: Path) -> Path:
    store = Files(folder, 10**6)
    store.put("one", rows(*numbers(4)))
    store.flush()
    return next(folder.glob("one/*.rows"))


@pytest.mark.parametrize("harm", ["row", "header", "mark", "short", "empty", "moved"])
def test_damage_is_said_and_the_rows_are_computed_again(harm: str, tmp_path: Path) -> None:
    path = filled(tmp_path)
    raw = bytearray(path.read_bytes())
    address = "one"
    if harm == "moved":
        address = "two"
        (tmp_path / address).mkdir()
        path = path.rename(tmp_path / address / path.name)
    else:
        at = {"row": len(raw) - 3, "header": 30, "mark": 0, "short": 0, "empty": 0}[harm]
        raw[at] ^= 1
        path.write_bytes({"short": raw[:-7], "empty": b""}.get(harm, bytes(raw)))
    store = Files(tmp_path, 10**6)
    with pytest.warns(UserWarning, match="damaged file of the prefix cache .*computed again"):
        found = store.get(address, [name.encode() for name in numbers(4)])
    assert found[3] is None
    assert not path.exists()
    store.put(address, rows(*numbers(4)))
    store.flush()
    again = Files(tmp_path, 10**6).get(address, [b"003"])[0]
    assert again is not None
    assert torch.equal(again, rows("003")[b"003"])


def test_a_file_that_somebody_deletes_costs_nothing(tmp_path: Path) -> None:
    store = Files(tmp_path, 10**6)
    filled(tmp_path).unlink()
    assert store.get("one", [b"000"]) == [None]
    path = filled(tmp_path)
    store = Files(tmp_path, 10**6)
    assert store.get("one", [b"000"]) != [None]
    path.unlink()
    assert store.get("one", [b"001"]) == [None]  # known, and gone


def test_a_process_that_may_open_nothing_more_leaves_every_file_where_it_is(tmp_path: Path) -> None:
    names = numbers(40)
    for name in names:
        store = Files(tmp_path, 10**6)
        store.put("one", rows(name))
        store.flush()
    limits, held = resource.getrlimit(resource.RLIMIT_NOFILE), contextlib.ExitStack()
    store = Files(tmp_path, 10**6)
    with held:
        held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
        assert None not in store.get("one", [name.encode() for name in names])  # read, and not one of them held open
        with contextlib.suppress(OSError):
            while True:
                held.enter_context(Path(os.devnull).open())  # noqa: SIM115
        with pytest.warns(UserWarning, match="cannot be read .*Too many open files") as said:
            assert store.get("one", [b"001", b"002"]) == [None, None]
    assert len(said) == 1
    assert len(list(tmp_path.glob("one/*.rows"))) == len(names)
    store.begin()
    assert None not in store.get("one", [name.encode() for name in names])


def test_a_file_of_somebody_elses_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    store = Files(tmp_path, 10**6)
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="cannot be read .*Permission denied"):
        patch.setattr(Path, "open", refused)
        assert store.get("one", [b"001"]) == [None]
    assert path.exists()
    store.begin()
    assert store.get("one", [b"001"]) != [None]


def test_a_full_disk_is_said_once_and_nothing_is_left_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    store = Files(tmp_path, 10**6)
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="takes nothing more: .*No space left") as said:
        patch.setattr(files.os, "fsync", full)
        for name in numbers(3):
            store.put("one", rows(name))
            store.flush()
    assert len(said) == 1
    assert bytes_in(tmp_path) == 0
    assert store.use.refused == 3
    store.begin()
    store.put("one", rows("a"))
    store.flush()
    assert store.get("one", [b"a"]) != [None]


def test_a_folder_that_cannot_be_made_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be made .*disk:FOLDER"):
        Files(tmp_path / "file" / "rows", 100)


def test_rows_of_other_processes_are_found_while_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOOK_S", 0.0)
    store = Files(tmp_path, 10**6)
    assert store.get("one", [b"000"]) == [None]
    filled(tmp_path)
    assert store.get("one", [b"000"]) != [None]


def write(folder: Path, worker: int, num_bytes: int) -> None:
    """What one of several writers does."""
    warnings.simplefilter("ignore")
    store = Files(folder, num_bytes)
    for name in numbers(40):
        store.put("one", rows(name, f"{worker}-{name}"))
        store.flush()


@pytest.mark.parametrize("bound", [10**6, 40 * ROW])
def test_several_writers_keep_the_bound_and_every_row_whole(bound: int, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=write, args=(tmp_path, i, bound)) for i in range(3)]
    for one in workers:
        one.start()
    while any(one.is_alive() for one in workers):
        # a file being written that the check will refuse may stand beside the others for a moment
        finished = sum(path.stat().st_size for path in tmp_path.rglob("*.rows"))
        assert finished <= bound
        time.sleep(0.01)
    assert [one.exitcode for one in workers] == [0, 0, 0]
    assert bytes_in(tmp_path) <= bound
    assert not list(tmp_path.rglob("*.part"))
    store = Files(tmp_path, bound)
    names = [*numbers(40), *(f"{i}-{name}" for i in range(3) for name in numbers(40))]
    found = store.get("one", [name.encode() for name in names])
    for name, row in zip(names, found, strict=True):
        assert row is None or torch.equal(row, rows(name)[name.encode()])
    assert sum(row is not None for row in found) > (100 if bound == 10**6 else 5)


def hang(folder: Path) -> None:
    """Be killed between the last byte and the name."""
    store = Files(folder, 10**6)
    store.put("one", rows("a"))
    store.flush()
    files.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    store.put("one", rows("b"))
    store.flush()


def test_a_killed_writer_leaves_nothing_that_is_read_and_its_rest_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = multiprocessing.get_context("fork").Process(target=hang, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(list(tmp_path.rglob("*.part"))) == 1
    found = Files(tmp_path, 10**6).get("one", [b"a", b"b"])
    assert [row is not None for row in found] == [True, False]
    assert len(list(tmp_path.rglob("*.part"))) == 1  # its writer might be alive
    monkeypatch.setattr(files, "DEAD_S", -1.0)
    Files(tmp_path, 10**6)
    assert not list(tmp_path.rglob("*.part"))
