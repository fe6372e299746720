"""What a raw row becomes, one type per kind of task; the only currency between readers and kinds.

`id` is unique within (task, split, language) and equal for parallel rows of different languages. `group` is what a
partition hashes: rows that share it never land in different splits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceExample:
    """One or two sentences and a class. `label` is None for a row that is only to be predicted."""

    id: str
    first: str
    second: str | None = None
    label: str | None = None
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceExample:
    """A prompt, a second prompt part that is glued in front of every choice, the choices, the right one's index."""

    id: str
    prompt: str
    choices: tuple[str, ...]
    choice_prefix: str = ""
    label: int | None = None
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TagExample:
    """Words and one tag per word."""

    id: str
    words: tuple[str, ...]
    tags: tuple[str, ...] | None = None
    group: str = ""


class Answer(NamedTuple):
    """A gold span: its text and the character at which it starts in the context."""

    text: str
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanExample:
    """A question about a context; no answers and `impossible` is SQuAD 2.0's unanswerable question."""

    id: str
    context: str
    question: str
    answers: tuple[Answer, ...] = ()
    impossible: bool = False
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieveExample:
    """One sentence of a retrieval task.

    `side` is "query" or "corpus". `matches` are the ids on the other side that translate it (a query's gold);
    mining tasks (BUCC) have sentences without any.
    """

    id: str
    text: str
    side: str
    matches: tuple[str, ...] = ()
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextExample:
    """A piece of running text; its own words are its gold."""

    id: str
    text: str
    group: str = ""


Example = SentenceExample | ChoiceExample | TagExample | SpanExample | RetrieveExample | TextExample


class Prediction(NamedTuple):
    """What a model says of one example: the value a metric compares with the gold, and details for people.

    `value` is a label (sentence), an index (choice), a tuple of tags (tag), a string (span), a tuple of (corpus id,
    score) pairs (retrieve), or a tuple of (guessed token, gold token) pairs (mlm). `detail` holds probabilities or
    scores, JSON-able.
    """

    id: str
    value: Any
    detail: Mapping[str, Any] = MappingProxyType({})


@dataclass(slots=True)
class Features:
    """One example, or a window of one, as token ids.

    Attributes:
        example: index of the example it came from.
        input_ids: one list of ids per encoder row: one row for most kinds, one per choice for `choice`.
        label: class index, gold choice, tag ids aligned with the tokens (-100 where none), or (start, end) token
            positions for `span`; None when the row has no gold.
        meta: whatever the kind's `decode` needs (word positions, character offsets), JSON-able.
        second: for each row the position where its second segment begins, for backbones that mark that segment's
            tokens (BERT's token types); None for all others and for rows of one segment.
    """

    example: int
    input_ids: list[list[int]]
    label: Any = None
    meta: Any = None
    second: list[int] | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens of the longest row times the number of rows: what the encoder will pay for."""
        return max(map(len, self.input_ids)) * len(self.input_ids)
