"""Full disks, killed writers and races: an entry is there completely or not at all."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zoo_samples
from zoo_samples import a_run, an_entry, fill, some_facts

from adapters_xling import paths
from adapters_xling.errors import XlingError, ZooError
from adapters_xling.spec import key
from adapters_xling.zoo import Zoo
from adapters_xling.zoo import staging as module

SAMPLES = str(Path(zoo_samples.__file__))


def start(zoo: Zoo, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, SAMPLES, str(zoo.root), *words], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "zoo", fallbacks=())


def nothing_is_left(zoo: Zoo) -> bool:
    return zoo.keys() == () and not [path for path in zoo.root.rglob("*") if path.name != ".partial"]


# --- full disk --------------------------------------------------------------------------------------------------


class Disk:
    """A disk with room for so many bytes; a write beyond it stores what fits and fails, as a real one does."""

    def __init__(self, room: int) -> None:
        self.room = room

    def open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        disk = self

        def opened(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            stream = real(path, mode, *args, **kwargs)
            if "w" not in mode:
                return stream
            write = stream.write

            class Full(io.IOBase):
                def write(self, data: Any) -> int:
                    fits = min(len(data), disk.room)
                    disk.room -= fits
                    write(data[:fits])
                    if fits < len(data):
                        raise OSError(errno.ENOSPC, "No space left on device", str(path))
                    return fits

                def __getattr__(self, name: str) -> Any:
                    return getattr(stream, name)

                def flush(self) -> None:
                    if not stream.closed:
                        stream.flush()

                def fileno(self) -> int:
                    return stream.fileno()

                def close(self) -> None:
                    stream.close()

            return Full()

        return opened


def test_a_disk_that_fills_at_any_byte_leaves_no_entry_and_says_so(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = an_entry(zoo)
    total = sum(path.stat().st_size for path in entry.folder.rglob("*") if path.is_file())
    card = (entry.folder / "card.json").stat().st_size
    zoo.remove(entry.key)
    real = Path.open
    rooms = sorted({*range(0, total, 151), *range(total - card - 2, total - card + 3), total - 2, total - 1})
    for room in rooms:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", Disk(room).open(real))
            with pytest.raises(ZooError) as caught:
                an_entry(zoo)
        text = str(caught.value)
        assert "disk full" in text and entry.key in text and "bytes" in text and "free" in text, (room, text)
        assert nothing_is_left(zoo), room
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", Disk(total + 64).open(real))
        assert an_entry(zoo).key == entry.key
    assert zoo.verify(entry.key) == []


@pytest.mark.parametrize(("owner", "name"), [(Path, "mkdir"), (os, "fsync"), (Path, "rename"), (Path, "replace")])
def test_a_full_disk_at_any_step_of_publishing_leaves_no_entry(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    real = getattr(owner, name)
    for survive in range(20):
        calls = 0

        def limited(*args: Any, survive: int = survive, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == survive + 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, limited)
            try:
                an_entry(zoo)
            except ZooError as err:
                assert "disk full" in str(err)
                failed = True
            else:
                failed = False
        if not failed:
            assert survive > 0 and zoo.verify(key(a_run())) == []
            return
        assert nothing_is_left(zoo)
    pytest.fail("the step never stopped failing")


def test_an_entry_known_to_be_too_large_is_refused_before_the_work(zoo: Zoo) -> None:
    need = shutil.disk_usage("/").free * 1000
    with pytest.raises(ZooError, match=f"needs {need:,} bytes"):
        with zoo.writing(a_run(), needs_bytes=need):
            raise AssertionError("the block must not start")
    assert nothing_is_left(zoo)


def test_a_full_disk_reported_as_text_by_a_library_is_recognised(zoo: Zoo) -> None:
    with pytest.raises(ZooError, match="disk full"):
        with zoo.writing(a_run()):
            raise RuntimeError('Error: I/O error: No space left on device (os error 28) "x"')
    with pytest.raises(FileNotFoundError):
        with zoo.writing(a_run()) as draft:
            (draft.folder / "absent").read_text()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts a small memory disk")
def test_a_really_full_disk_leaves_no_entry(tmp_path: Path) -> None:
    script = (
        'mount -t tmpfs -o size=256k none "$1" || exit 99\n'
        '"$2" "$3" "$1" save 1000000 2>"$4"; echo "rc $?"\n'
        'find "$1" -type f | wc -l\n'
        '"$2" "$3" "$1" save 1000 && find "$1" -name card.json | wc -l'
    )
    disk, log = tmp_path / "disk", tmp_path / "log"
    disk.mkdir()
    scope = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    words = [*scope, "sh", "-c", script, "sh", str(disk), sys.executable, SAMPLES, str(log)]
    done = subprocess.run(words, capture_output=True, text=True)
    if "rc" not in done.stdout:
        pytest.skip(f"a memory disk cannot be mounted here: {done.stderr.strip()[-100:]}")
    assert done.stdout.split("\n")[:3] == ["rc 1", "0", "1"], done.stdout + done.stderr
    assert "ZooError: disk full while writing entry" in log.read_text()


# --- killed writers ---------------------------------------------------------------------------------------------


def test_a_killed_writer_leaves_only_an_invisible_folder_that_gc_removes(zoo: Zoo) -> None:
    writer = start(zoo, "hang")
    assert writer.stdout is not None
    try:
        partial = Path(writer.stdout.readline().strip())
        assert partial.is_dir() and zoo.keys() == ()
        busy = zoo.gc(dry_run=False)
        assert busy.removed == () and busy.alive == (partial.name,) and partial.is_dir()
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait(10)
        writer.stdout.close()
    assert zoo.keys() == () and zoo.entries() == () and partial.is_dir()
    planned = zoo.gc(dry_run=True)
    assert planned.removed == (partial.name,) and planned.num_bytes > 200 and partial.is_dir()
    done = zoo.gc(dry_run=False)
    assert (done.removed, done.num_bytes) == (planned.removed, planned.num_bytes)
    assert str(done).startswith("1 partial entries") and nothing_is_left(zoo)
    assert zoo.get(an_entry(zoo).key)


def test_a_partial_folder_without_a_lock_is_judged_by_age(zoo: Zoo) -> None:
    folder = zoo.root / ".partial" / f"{key(a_run())}-0123456789ab"
    folder.mkdir(parents=True)
    (folder / "x.json").write_text("{}")
    assert zoo.gc(dry_run=False).alive == (folder.name,)
    old = time.time() - module.STALE_S - 10
    for path in (folder / "x.json", folder):
        os.utime(path, (old, old))
    assert zoo.gc(dry_run=False).removed == (folder.name,) and not folder.exists()


def test_gc_of_a_zoo_that_does_not_exist_finds_nothing(zoo: Zoo) -> None:
    assert zoo.gc(dry_run=False).removed == () and not zoo.root.exists()


# --- races ------------------------------------------------------------------------------------------------------


def test_two_processes_that_race_for_a_key_end_with_one_entry_both_agree_on(zoo: Zoo, tmp_path: Path) -> None:
    for attempt in range(3):
        go = tmp_path / f"go{attempt}"
        writers = [start(zoo, "race", byte, str(go)) for byte in "ab"]
        try:
            for writer in writers:
                assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
            go.touch()
            answers = [writer.communicate(timeout=30)[0].strip() for writer in writers]
        finally:
            for writer in writers:
                writer.kill()
                writer.wait(10)
        assert [writer.returncode for writer in writers] == [0, 0]
        (only,) = zoo.keys()
        assert answers == [zoo.get(only).card.files["heads.safetensors"].sha256] * 2
        assert not list((zoo.root / ".partial").iterdir())
        zoo.remove(only)


def test_the_loser_of_a_race_refuses_a_damaged_winner(zoo: Zoo) -> None:
    with pytest.raises(ZooError, match=r"heads\.safetensors: truncated"):
        with zoo.writing(a_run()) as draft:
            fill(draft)
            draft.finish(some_facts())
            os.truncate(an_entry(zoo).file("heads.safetensors"), 9)
    assert not list((zoo.root / ".partial").iterdir())


# --- atomic files -----------------------------------------------------------------------------------------------


def test_atomic_write_replaces_a_file_completely_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "a.json"
    paths.atomic_write(path, "höher\n")
    assert path.read_bytes() == "höher\n".encode()
    paths.atomic_write(path, b"second")
    real = Path.open
    for room in range(5):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", Disk(room).open(real))
            with pytest.raises(XlingError, match=r"a\.json: cannot be written: No space.*5 bytes needed"):
                paths.atomic_write(path, b"third")
        assert path.read_bytes() == b"second" and list(path.parent.iterdir()) == [path]
