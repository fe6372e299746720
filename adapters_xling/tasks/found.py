"""What looking for the rows of a task gives: a source that is at hand, or why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from adapters_xling.spec import Partition
from adapters_xling.tasks.rows import Raw


class NotAtHand(Exception):
    """A source that cannot serve here; the text says why and, where it can, what to do."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A source that is at hand for one (task, split, language).

    Attributes:
        description: for people and cards.
        read: yields its raw rows; the options are those of its converters.
        identity: digest of what the rows come from.
        definition: what of the task's file determines the rows, plain data to be hashed.
        kind: ``generator``, ``files`` or ``hub``.
        files: paths read.
        locked: False for rows of the hub at no fixed revision, whose identity cannot be known.
        revision: commit of a hub data set.
        num_rows: rows as the lock, or the cache of hub data sets, says; None where only reading would tell.
    """

    kind: Literal["generator", "files", "hub"]
    description: str
    read: Callable[[], Iterator[Raw]]
    identity: Callable[[], str]
    definition: Callable[[], Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    partition: Partition | None = None
    files: tuple[Path, ...] = ()
    locked: bool = True
    revision: str | None = None
    num_rows: int | None = None
