"""The mini world: a small closed world with languages and tasks whose labels hold by construction.

Pure Python and the standard library. Rows of a task are parallel: the same ``id`` is the same scene in every language.
"""

from __future__ import annotations

from collections.abc import Iterator

from .grammar import LANGUAGES, join
from .tasks import TASKS, labels, rows, tags
from .world import SPLITS, VERSION, sentences, surface_words

__all__ = ["LANGUAGES", "SPLITS", "TASKS", "VERSION", "labels", "rows", "tags", "text", "vocabulary"]


def vocabulary(language: str) -> list[str]:
    """All written words of a language, punctuation marks included."""
    return list(surface_words(language))


def text(language: str, seed: int = 0) -> Iterator[str]:
    """Endless sentences of the train split (mini-mlm)."""
    for tokens in sentences(language, seed):
        yield join(tokens)
