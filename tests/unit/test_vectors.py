"""Vectors on disk: what was written is what is read, and what a killed or damaged file keeps is whole and right."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adapters_xling.errors import DataError, UnknownName, XlingError
from adapters_xling.paths import hold
from adapters_xling.tasks.kinds import vectors
from adapters_xling.tasks.kinds.vectors import Subset, VectorFile, unit, working

ROWS, WIDTH, BLOCK = 50, 6, 8


def all_vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)


def opened(folder: Path, *, identity: str = "one", dtype: str = "float32") -> VectorFile:
    return VectorFile.open(folder / "v", rows=ROWS, width=WIDTH, identity=identity, dtype=dtype)


def fill(file: VectorFile, *, upto: int = ROWS) -> None:
    for top in range(file.num_done, upto, BLOCK):
        file.append(all_vectors()[top : min(top + BLOCK, upto)])


@pytest.mark.parametrize(("dtype", "error"), [("float32", 0), ("float16", 1e-3)])
def test_what_was_written_is_read_scaled_to_length_one(dtype: str, error: float, tmp_path: Path) -> None:
    file = opened(tmp_path, dtype=dtype)
    fill(file)
    wanted = unit(all_vectors())
    assert file.shape == (ROWS, WIDTH)
    assert file.read(3, 21).dtype == np.float32
    np.testing.assert_allclose(file.read(3, 21), wanted[3:21], rtol=0, atol=error)
    np.testing.assert_allclose(file.read(45, 99), wanted[45:], rtol=0, atol=error)
    rows = np.array([7, 3, 7, 8, 9, 49, 0])
    np.testing.assert_allclose(file.take(rows), wanted[rows], rtol=0, atol=error)
    part = Subset(file, np.array([2, 5, 6, 40]))
    assert part.shape == (4, WIDTH)
    np.testing.assert_allclose(part.read(1, 4), wanted[[5, 6, 40]], rtol=0, atol=error)
    np.testing.assert_allclose(part.take(np.array([3, 0])), wanted[[40, 2]], rtol=0, atol=error)
    size = 4 if dtype == "float32" else 2
    assert file.path.stat().st_size == ROWS * WIDTH * size


def cut(folder: Path) -> None:
    with (folder / "v.f32").open("r+b") as data:
        data.truncate((2 * BLOCK + 3) * WIDTH * 4)


def flip(folder: Path) -> None:
    with (folder / "v.f32").open("r+b") as data:
        data.seek((BLOCK + 1) * WIDTH * 4)
        byte = data.read(1)
        data.seek(-1, 1)
        data.write(bytes([byte[0] ^ 1]))


def torn_line(folder: Path) -> None:
    journal = folder / "v.journal"
    journal.write_text(journal.read_text()[:-3])


def data_beyond_journal(folder: Path) -> None:
    with (folder / "v.f32").open("ab") as data:
        data.write(b"half a block that was killed")


def no_journal(folder: Path) -> None:
    (folder / "v.journal").unlink()


def nonsense_journal(folder: Path) -> None:
    (folder / "v.journal").write_bytes(b"0 8 \xff\xfe\n")


@pytest.mark.parametrize(
    ("harm", "blocks_left"),
    [(cut, 2), (flip, 1), (torn_line, 3), (data_beyond_journal, 4), (no_journal, 0), (nonsense_journal, 0)],
)
def test_a_harmed_file_keeps_its_whole_blocks_and_is_filled_to_the_same_bytes(
    harm: Callable[[Path], None], blocks_left: int, tmp_path: Path
) -> None:
    whole = opened(tmp_path / "whole")
    fill(whole)
    file = opened(tmp_path)
    fill(file, upto=4 * BLOCK)
    file.close()
    harm(tmp_path)
    again = opened(tmp_path)
    assert again.num_done == blocks_left * BLOCK
    assert again.path.stat().st_size == blocks_left * BLOCK * WIDTH * 4
    fill(again)
    assert again.path.read_bytes() == whole.path.read_bytes()
    assert opened(tmp_path).num_done == ROWS


@pytest.mark.parametrize("change", [{"identity": "two"}, {"dtype": "float16"}])
def test_vectors_of_something_else_are_not_continued(change: dict[str, str], tmp_path: Path) -> None:
    fill(opened(tmp_path), upto=BLOCK)
    assert opened(tmp_path).num_done == BLOCK
    assert opened(tmp_path, **change).num_done == 0


def test_rows_are_dropped_by_whole_blocks(tmp_path: Path) -> None:
    file = opened(tmp_path)
    fill(file)
    file.keep(2 * BLOCK + 5)
    assert file.num_done == opened(tmp_path).num_done == 2 * BLOCK


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_none_is_refused_and_nothing_is_written(bad: float, tmp_path: Path) -> None:
    file = opened(tmp_path)
    block = all_vectors()[:BLOCK]
    block[5, 2] = bad
    with pytest.raises(DataError, match="vector 5 is not finite"):
        file.append(block)
    assert opened(tmp_path).num_done == 0


def test_what_the_disk_cannot_hold_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [VectorFile.open(tmp_path / str(i), rows=ROWS, width=WIDTH, identity="a") for i in range(3)]
    fill(files[0], upto=2 * BLOCK)
    needed = (3 * ROWS - 2 * BLOCK) * WIDTH * 4
    room = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(vectors.shutil, "disk_usage", lambda _: room._replace(free=needed))
    vectors.require_room(files)
    monkeypatch.setattr(vectors.shutil, "disk_usage", lambda _: room._replace(free=needed - 1))
    with pytest.raises(XlingError, match=rf"{needed:,} more bytes, {needed - 1:,} are free.*--vectors float16"):
        vectors.require_room(files)


def test_two_processes_do_not_write_the_same_vectors(tmp_path: Path) -> None:
    with working(tmp_path / "w"):
        with pytest.raises(XlingError, match="another process is at work"):
            with working(tmp_path / "w"):
                raise AssertionError("entered twice")
    with working(tmp_path / "w") as folder:
        assert folder == tmp_path / "w"


def test_a_hold_is_for_one_at_a_time_and_leaves_no_file(tmp_path: Path) -> None:
    counted = tmp_path / "count"
    counted.write_text("0")

    def add() -> None:
        for _ in range(100):
            with hold(tmp_path / "deep" / "lock", wait=True):
                before = int(counted.read_text())
                time.sleep(0.0001)
                counted.write_text(str(before + 1))
                shutil.rmtree(tmp_path / "deep", ignore_errors=True)  # as whoever is done with its folder does

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert counted.read_text() == "800"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["count"]


def test_an_unknown_type_of_vectors_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"unknown type of vectors 'float6'\. Did you mean 'float16'"):
        opened(tmp_path, dtype="float6")
