"""Running text: a line, one text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters_xling.tasks.rows import Raw

from . import lines, reader


@reader("plain")
def read(files: Sequence[Path], *, options: Mapping[str, Any], language: str) -> Iterator[Raw]:
    """Read every line as one text; blank lines only separate and are passed over.

    The line's number is a column too (`number`): in parallel files it is the group of a sentence and its translations.
    """
    for file in files:
        for number, line in lines(file):
            if line.strip():
                yield Raw(str(file), number, {"text": line, "number": number})
