"""The lock of hub data sets: which commit each is read at, and how many rows of which content that gave.

Task files are read-only in an installed package, so what `xling data lock` resolved stands in a file of the user's own
(`paths.lock_file`: `XLING_LOCK`, or `data.lock.yaml` in the user's configuration) and is laid over the task files when
rows are looked for. One commit per repository, whatever tasks read it. Rows that differ from the lock are an error.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from adapters_xling import hub_files, paths
from adapters_xling.errors import ConfigError, DataError, XlingError
from adapters_xling.spec import Frozen, HubSource, canonical, decode, read_yaml
from adapters_xling.strict import dump_yaml
from adapters_xling.tasks.rows import Raw

Commit = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{40}$")]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]

_chosen: ContextVar[Path | None] = ContextVar("lock", default=None)


class RowsSeen(Frozen, frozen=True):
    """Number of rows of one split of one configuration, and the sha256 of their content (`Digest`)."""

    rows: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Sha256


class LockedRepo(Frozen, frozen=True):
    """A data set at the commit it was resolved to.

    Attributes:
        revision: the commit.
        resolved: day on which the hub was asked, ISO 8601.
        splits: ``configuration/split`` -> what was read there.
    """

    revision: Commit
    resolved: str
    splits: dict[str, RowsSeen] = {}


class Lock(Frozen, frozen=True):
    """A lock file: repository -> commit and rows."""

    hub: dict[str, LockedRepo] = {}
    schema: Literal[1] = 1


def split_key(config: str | None, split: str) -> str:
    """Name of a split inside a lock.

    >>> split_key("de", "validation"), split_key(None, "train")
    ('de/validation', 'default/train')
    """
    return f"{config or 'default'}/{split}"


@contextlib.contextmanager
def chosen(file: Path | None) -> Iterator[Path]:
    """Use another lock file than the user's own inside a `with`; None changes nothing."""
    token = _chosen.set(file or _chosen.get())
    try:
        yield current()
    finally:
        _chosen.reset(token)


def current() -> Path:
    """The lock file in use; it may not exist yet."""
    return _chosen.get() or paths.lock_file()


def load(file: Path | None = None) -> Lock:
    """Read a lock file (default: the one in use); an empty lock where there is none.

    Raises:
        ConfigError: naming file and field of a file that is not a lock.
    """
    file = file or current()
    try:
        stat = file.stat()
    except FileNotFoundError:
        return Lock()
    except OSError as err:
        raise ConfigError(f"lock file {file}: cannot be read: {err.strerror or err}") from err
    return _load(file, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=16)
def _load(file: Path, mtime_ns: int, num_bytes: int) -> Lock:
    content = read_yaml(file) or {}
    if not isinstance(content, dict):
        raise ConfigError(f"{file} is no lock of hub data sets; `xling data lock` makes one")
    return decode(Lock, content, str(file))


def save(lock: Lock, file: Path) -> None:
    """Write a lock file whole or not at all, sorted, so that a change shows as the lines that changed.

    Raises:
        XlingError: when it cannot be written.
    """
    head = "# Written by `xling data lock`: the commit of each hub data set, and the rows it gave.\n"
    paths.atomic_write(file, head + dump_yaml(canonical(lock), sort_keys=True, width=120))


def check_writable(file: Path) -> None:
    """Find out before hours of reading whether a lock could be written.

    Raises:
        XlingError: naming the folder, where it could not.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent) as trial:
            trial.write(b"lock")
    except OSError as err:
        raise XlingError(
            f"lock file {file}: cannot be written: {err.strerror or err}. Name another with --lock or XLING_LOCK"
        ) from err


def pinned(source: HubSource) -> tuple[str | None, LockedRepo | None]:
    """The commit a source is read at, from its task file or the lock, and what the lock knows of it.

    Raises:
        ConfigError: for a revision that can move (a branch or tag), or when task file and lock name different commits.
    """
    locked = load().hub.get(source.repo)
    given = source.revision
    if given is not None and not hub_files.is_commit(given):
        raise ConfigError(
            f"hub {source.repo}: revision {given!r} is not a full commit (40 hex digits), so it can mean other rows "
            "tomorrow. Leave it out and run `xling data lock`, or write the commit it stands for"
        )
    if given and locked and given != locked.revision:
        raise ConfigError(
            f"hub {source.repo}: the task file says revision {given}, the lock {current()} says {locked.revision}. "
            f"Mend one: take {source.repo} out of the lock, or the revision out of the task file"
        )
    return given or (locked.revision if locked else None), locked


class Digest:
    """Counts rows and digests their content: sha256 over every row's values as JSON with sorted keys, line by line.

    Class numbers count by their names, so that the digest is of what a task sees, whatever the files' format.
    """

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self._rows = 0
        self._encoder = msgspec.json.Encoder(order="sorted")

    def add(self, values: Mapping[str, Any]) -> None:
        """Take one more row into account."""
        self._sha.update(self._encoder.encode(values) + b"\n")
        self._rows += 1

    def seen(self) -> RowsSeen:
        """What was added so far."""
        return RowsSeen(rows=self._rows, sha256=self._sha.hexdigest())


def checked(raws: Iterable[Raw], locked: RowsSeen, place: str) -> Iterator[Raw]:
    """Pass rows on, and compare them with the lock when the last one is through.

    Raises:
        DataError: naming number and content found and locked, where they differ.
    """
    digest = Digest()
    for raw in raws:
        digest.add(raw.values)
        yield raw
    found = digest.seen()
    if found != locked:
        raise DataError(
            f"{place}: {found.rows:,} rows with content sha256:{found.sha256[:12]}, but {current()} has "
            f"{locked.rows:,} rows with sha256:{locked.sha256[:12]}. These are not the rows that were locked: remove "
            "the copy in the cache of `datasets` and read it again, or accept what is there now with "
            "`xling data lock --upgrade`"
        )
