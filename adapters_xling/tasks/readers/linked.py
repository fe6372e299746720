"""Tables whose rows share texts with one another, so that only whole clusters of rows may be split apart (PAWS-X)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters_xling.errors import ConfigError, DataError
from adapters_xling.tasks.rows import Raw

from . import reader
from .table import read as read_table


@reader("linked", options=("format", "header", "link", "unquote"))
def read(files: Sequence[Path], *, options: Mapping[str, Any], language: str) -> Iterator[Raw]:
    """Read a table and group its rows by the clusters of a second one, row by row.

    The second file is the same table in the language the clusters are taken from (English), so that parallel rows fall
    into the same split in every language: translations of one sentence differ where it occurs twice.

    Options: those of `table`, and
        link: columns whose texts link rows; two rows with a text in common are in one cluster.

    Raises:
        DataError: where the two files differ in length.
    """
    if len(files) != 2:
        raise ConfigError(f"reader 'linked' wants two files, rows and the rows that link them; got {len(files)}")
    rows = list(read_table(files[:1], options=options, language=language))
    linking = list(read_table(files[1:], options=options, language=language))
    if len(rows) != len(linking):
        raise DataError(f"{files[0]} has {len(rows)} rows, {files[1]} has {len(linking)}: they are not parallel")
    groups = clusters(
        [[str(raw.values.get(column, "")).strip() for column in options.get("link", ())] for raw in linking]
    )
    for raw, group in zip(rows, groups, strict=True):
        yield raw if raw.reject else raw._replace(values={**raw.values, "group": f"cluster {group}"})


def clusters(texts: Sequence[Sequence[str]]) -> list[int]:
    """Number the connected components of rows that share a text, each by its first row.

    >>> clusters([["a", "b"], ["c", "d"], ["e", "b"], ["x", "e"]])
    [0, 1, 0, 0]
    """
    parent = list(range(len(texts)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[str, int] = {}
    for row, own in enumerate(texts):
        for text in filter(None, own):
            low, high = sorted((root(first.setdefault(text, row)), root(row)))
            parent[high] = low
    return [root(row) for row in range(len(texts))]
