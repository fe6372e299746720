"""CCGbank's AUTO files (LDC2005T13): one derivation per sentence, of which the leaves hold words and categories."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters_xling.errors import DataError
from adapters_xling.tasks.rows import Raw

from . import lines, reader

_LEAF = re.compile(r"<L (\S+) \S+ \S+ (\S+) \S+>")
_ID = re.compile(r"ID=(\S+)")


@reader("ccgbank")
def read(files: Sequence[Path], *, options: Mapping[str, Any], language: str) -> Iterator[Raw]:
    """Read the words and lexical categories of every sentence.

    A sentence is a line ``ID=wsj_0001.1 …`` and a line with its derivation, whose leaves are ``<L category tag tag word
    predicate-argument-category>`` (CCGbank manual, section D.2). Words keep the treebank's spelling (``-LRB-``). A
    sentence without derivation, or with a leaf of another form, is rejected; a row's number is that of its line.

    Raises:
        DataError: for a line that is neither an id nor a derivation: another kind of file.
    """
    for file in files:
        waiting: tuple[int, str] | None = None
        for number, line in lines(file):
            if not line.strip():
                continue
            found = _ID.match(line)
            if found:
                if waiting:
                    yield _empty(file, *waiting)
                waiting = number, found.group(1)
            elif waiting and line.startswith("("):
                yield _sentence(file, waiting[0], waiting[1], line)
                waiting = None
            else:
                raise DataError(
                    f"{file}: line {number} is neither a sentence's id (ID=…) nor the derivation that follows one; "
                    "give the files below data/AUTO of CCGbank"
                )
        if waiting:
            yield _empty(file, *waiting)


def _empty(file: Path, number: int, identifier: str) -> Raw:
    return Raw(str(file), number, {"id": identifier}, "no derivation follows the id")


def _sentence(file: Path, number: int, identifier: str, derivation: str) -> Raw:
    leaves = _LEAF.findall(derivation)
    group = identifier.partition(".")[0]
    values = {"id": identifier, "group": group, "words": [w for _, w in leaves], "tags": [c for c, _ in leaves]}
    whole = len(leaves) == derivation.count("(<L ")
    return Raw(str(file), number, values, None if whole else "a leaf that is not <L category tag tag word category>")
