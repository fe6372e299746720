"""Where things lie: what ships with the package, and the folders a user can point elsewhere.

In a checkout the shipped `task_configs/` and `zoo/` stand beside the package; in a wheel they travel inside it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .errors import Held, XlingError

try:
    import fcntl
except ImportError:  # Windows: nothing is held there
    fcntl = None  # type: ignore[assignment]

_PACKAGE = Path(__file__).resolve().parent


def _shipped(name: str) -> Path:
    inside = _PACKAGE / "_shipped" / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def task_configs_dir() -> Path:
    """Folder of the shipped task, recipe and grid YAML files."""
    return _shipped("task_configs")


def shipped_zoo_dir() -> Path:
    """Read-only zoo that travels with the package (the nano backbone and a few nano adapters)."""
    return _shipped("zoo")


def private_tasks_dir() -> Path | None:
    """A user's own folder of task YAML files, from `XLING_TASKS`."""
    value = os.environ.get("XLING_TASKS")
    return Path(value).expanduser() if value else None


def data_dir() -> Path | None:
    """Folder of original data files, from `XLING_DATA`; None when none was named."""
    value = os.environ.get("XLING_DATA")
    return Path(value).expanduser() if value else None


def lock_file() -> Path:
    """The lock of hub data sets: `XLING_LOCK`, or `~/.config/adapters_xling/data.lock.yaml`. It may not exist yet."""
    named = os.environ.get("XLING_LOCK")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config") / "adapters_xling" / "data.lock.yaml"
    return (Path(named) if named else config).expanduser()


def hub_data_cache() -> Path:
    """Where the `datasets` library keeps what it prepared, by its own rules, found without importing it."""
    named = os.environ.get("HF_DATASETS_CACHE")
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return (Path(named) if named else Path(home) / "datasets").expanduser()


def runs_dir() -> Path:
    """Where trained entries, predictions and reports go: `XLING_RUNS`, or `runs` in the current folder."""
    return Path(os.environ.get("XLING_RUNS", "runs")).expanduser()


def score_file(
    folder: Path,
    split: str,
    language: str,
    *,
    limit: int | None = None,
    reading: str = "",
    precision: str = "fp32",
    unscored: bool = False,
) -> Path:
    """Scores of one (task, split, language) in `<runs>/scores/<entry>/<task>`; unlike evaluations have unlike files.

    Args:
        folder: of the entry and task.
        split: of the task.
        language: its code.
        limit: of the first rows only.
        reading: sentences read in another way than the task's (`scored.Reading.suffix`).
        precision: of the forward passes.
        unscored: whether only predictions are kept, those of rows without answers among them.

    >>> score_file(Path("scores/E/xnli"), "test", "sw", limit=200, precision="bf16").name
    'test-sw-first200-bf16.json'
    """
    first = f"-first{limit}" if limit else ""
    rounded = f"-{precision}" if precision != "fp32" else ""
    return folder / f"{split}-{language}{first}{reading}{rounded}{'-unscored' if unscored else ''}.json"


def predictions_file(scores: Path) -> Path:
    """Kept predictions that belong to a score file; they are complete when the score file is there."""
    return scores.with_suffix(".predictions.jsonl")


def outcomes_file(scores: Path) -> Path:
    """What became of each example, beside a score file; see `metrics.Outcomes`."""
    return scores.with_suffix(".outcomes.jsonl")


def cache_dir() -> Path:
    """Cache of tokenised data, safe to delete at any time: `XLING_CACHE`, or `~/.cache/adapters_xling`."""
    return Path(os.environ.get("XLING_CACHE", "~/.cache/adapters_xling")).expanduser()


@contextlib.contextmanager
def hold(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a file as a lock, for this thread of this process alone; the kernel ends the hold however the process ends.

    The file is there as long as it is held. Where a file system knows no locks, nothing is held.

    Args:
        path: the file; its folder is made when absent.
        wait: until whoever holds it is done.

    Raises:
        Held: when another one holds it, and `wait` is false.
    """
    stream = None
    while stream is None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = _held(path, wait=wait)
        except (FileNotFoundError, FileExistsError):  # who held it took its folder away between two steps here
            if path.parent.is_file() or path.parent.is_symlink():
                raise
    with stream:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # gone with its folder, perhaps, and by now another one's file
                if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                    path.unlink()


def is_held(path: Path) -> bool:
    """Whether a file is held as a lock, by whomever: another process, or a thread of this one.

    Where nobody can say, because the file may not be opened or there are no locks, it is not.
    """
    if fcntl is None:
        return False
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _held(path: Path, *, wait: bool) -> IO[bytes] | None:
    """The file, locked; None when it was removed before that: a lock on it would keep nobody out."""
    with contextlib.ExitStack() as opened:
        try:
            stream: IO[bytes] = opened.enter_context(path.open("ab"))
        except PermissionError:
            if not path.exists():
                raise
            stream = opened.enter_context(path.open("rb"))  # another user's: it can be locked all the same
        if fcntl is not None:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as err:
                raise Held(f"{path}: another process holds it; wait until it is done") from err
            except OSError:  # a file system without locks
                pass
            if not os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return None
        opened.pop_all()
    return stream


def atomic_write(path: Path, data: bytes | str) -> None:
    """Write a whole file or nothing: a reader, a kill or a full disk never meets half of it.

    The bytes go to a temporary file in the same folder, reach the disk, and only then take the name. Text is
    written as UTF-8 with the line ends it has. The folder is created when absent.

    Raises:
        XlingError: naming file, reason, bytes needed and bytes free; the old file, if any, is untouched.
    """
    raw = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as err:
        free = "unknown"
        with contextlib.suppress(OSError):
            free = f"{shutil.disk_usage(path.parent).free:,}"
        raise XlingError(
            f"{path}: cannot be written: {err.strerror or err} ({len(raw):,} bytes needed, {free} free); "
            "make room or choose another folder, then repeat"
        ) from err
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
