"""Partial entries: written aside under a lock, published in one rename, swept up when their writer died."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from adapters_xling.errors import ZooError
from adapters_xling.zoo.files import folder_bytes

try:
    import fcntl
except ImportError:  # Windows: no locks there, so partial folders are judged by age alone.
    fcntl = None  # type: ignore[assignment]

PARTIAL = ".partial"
STALE_S = 24 * 3600
"""A partial folder whose writer cannot be asked (no lock) counts as dead after this long without a change."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """What `gc` found below `.partial`: folders of dead writers, and of those still at work."""

    removed: tuple[str, ...]
    alive: tuple[str, ...]
    num_bytes: int
    dry_run: bool

    def __str__(self) -> str:
        names = "".join(f"\n  {name}" for name in self.removed)
        return f"{len(self.removed)} partial entries, {self.num_bytes:,} bytes ({len(self.alive)} in use kept){names}"


@contextlib.contextmanager
def staging(root: Path, key: str, *, needs_bytes: int = 0) -> Iterator[Path]:
    """Give a fresh folder below `root/.partial` that is gone when the block ends, unless it was renamed away.

    Args:
        root: the zoo.
        key: entry the folder is for.
        needs_bytes: size the entry is known to need; refused at once when the disk has less.

    Raises:
        ZooError: when the folder cannot be made, or the disk is full at any write inside the block.
    """
    folder = root / PARTIAL / f"{key}-{uuid.uuid4().hex[:12]}"
    lock_path = folder.with_name(f"{folder.name}.lock")
    lock: IO[bytes] | None = None
    try:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = _lock(lock_path)
            folder.mkdir()
        except OSError as err:
            if full_disk(err):
                raise
            raise ZooError(
                f"zoo {root}: cannot be written: {err.strerror or err}; choose a folder you may write to (XLING_RUNS)"
            ) from err
        if needs_bytes and needs_bytes > shutil.disk_usage(folder).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield folder
    except BaseException as err:
        if full_disk(err):
            raise _no_room(root, key, folder, needs_bytes) from err
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            lock_path.unlink(missing_ok=True)
        if lock is not None:
            lock.close()


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder while a file in it is read and written anew, so that two who add to it both count.

    Where the file system knows no locks, nothing is held.
    """
    handle = None
    if fcntl is not None:
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def publish(folder: Path, target: Path) -> bool:
    """Make a complete folder visible under its final name, durably; False when somebody else was faster."""
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync(Path(parent) / name)
        _sync(Path(parent))
    try:
        folder.rename(target)
    except OSError as err:
        if err.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES, errno.EPERM) and target.is_dir():
            return False
        raise
    with contextlib.suppress(OSError):  # the entry is visible and complete: to report a failure now would be a lie
        _sync(target.parent)
    return True


def sweep(root: Path, *, dry_run: bool, stale_s: float = STALE_S) -> Garbage:
    """Remove partial folders whose writer is dead: its lock is free, or there is none and nothing changed for long.

    Returns:
        What was (or with `dry_run` would be) removed, the bytes of it, and what is still being written.
    """
    removed: list[str] = []
    alive: list[str] = []
    num_bytes = 0
    aside = root / PARTIAL
    names = {path.name.removesuffix(".lock") for path in aside.iterdir()} if aside.is_dir() else set()
    for name in sorted(names):
        folder, lock_path = aside / name, aside / f"{name}.lock"
        with contextlib.ExitStack() as held:
            if fcntl is not None and lock_path.exists():
                stream = _try_lock(lock_path)
                if stream is None:
                    alive.append(name)
                    continue
                held.enter_context(stream)
            elif time.time() - _last_change(folder) < stale_s:
                alive.append(name)
                continue
            num_bytes += folder_bytes(folder)
            removed.append(name)
            if not dry_run:
                shutil.rmtree(folder, ignore_errors=True)
                if not folder.exists():
                    lock_path.unlink(missing_ok=True)
    return Garbage(removed=tuple(removed), alive=tuple(alive), num_bytes=num_bytes, dry_run=dry_run)


def full_disk(err: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that the disk or the quota is full.

    Libraries written in Rust report it as text only ("No space left on device (os error 28)").
    """
    seen = 0
    while err is not None and seen < 20:
        if isinstance(err, OSError) and err.errno in _FULL:
            return True
        if re.search(r"No space left on device|Disk quota exceeded|\(os error (?:28|122)\)", str(err)):
            return True
        err, seen = err.__cause__ or err.__context__, seen + 1
    return False


def _no_room(root: Path, key: str, folder: Path, needs_bytes: int) -> ZooError:
    written = folder_bytes(folder)
    try:
        free = f"{shutil.disk_usage(root).free:,}"
    except OSError:
        free = "an unknown number of"
    need = f"{needs_bytes:,}" if needs_bytes > written else f"more than {written:,}"
    return ZooError(
        f"disk full while writing entry {key} to {root}: it needs {need} bytes, {written:,} were written and {free} "
        "were free beside them. Nothing of it is left; make room (xling zoo gc removes leftovers of killed runs), "
        "then repeat"
    )


def _lock(path: Path) -> IO[bytes] | None:
    """Hold a lock the kernel releases however this process ends; None where the file system knows no locks."""
    if fcntl is None:
        return None
    stream = path.open("wb")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        path.unlink(missing_ok=True)
        return None
    return stream


def _try_lock(path: Path) -> IO[bytes] | None:
    """The lock of a dead writer, or None while its writer lives (or has just finished)."""
    try:
        stream = path.open("rb")
    except OSError:
        return None
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        return None
    return stream


def _last_change(folder: Path) -> float:
    """Newest modification time below a folder, in seconds since 1970; now, when it is being removed."""
    try:
        paths = [folder, *folder.rglob("*")] if folder.is_dir() else [folder]
        return max(path.lstat().st_mtime for path in paths)
    except OSError:
        return time.time()


def _sync(path: Path) -> None:
    if os.name == "nt":  # neither folders nor read-only handles can be flushed there
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
