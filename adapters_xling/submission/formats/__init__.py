"""What the files of a submission hold, one class per form: how to read, check, score and write them.

Everything about contents follows google-research/xtreme's `evaluate.py` (XTREME-R: `third_party/utils_mewslix.py`,
`run_xcopa.py`): lines are stripped and compared as text, a question or mention that was left out scores 0, what is
more than 20 hits is cut, a pair given twice counts once.
"""

from __future__ import annotations

from adapters_xling.errors import unknown

from .base import Format
from .lines import Choices, Indices, Lines, Tags
from .objects import Answers, Rankings
from .pairs import Pairs

_FORMATS: dict[str, type[Format]] = {
    form.name: form for form in (Lines, Indices, Choices, Tags, Pairs, Answers, Rankings)
}

__all__ = ["Format", "get"]


def get(name: str, *, where: str = "") -> type[Format]:
    """A format by name.

    Raises:
        UnknownName: with the closest names.
    """
    if name not in _FORMATS:
        raise unknown("format", name, _FORMATS, where or "adapters_xling/submission/formats/")
    return _FORMATS[name]
