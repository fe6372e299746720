"""Where tokens lie in a context, and the best span among the windows of one question.

Shapes: W tokens of the context inside one window.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple
from unicodedata import category

import numpy as np

_TOKENIZE_AT_ONCE = 256
_METASPACE = "▁"


class Tokens(NamedTuple):
    """A tokenised context: ids, and the characters [start, end) of each token without blanks around it.

    A token that covers no visible character has start == end; it is never the border of an answer.
    """

    ids: list[int]
    starts: list[int]
    ends: list[int]


class Candidate(NamedTuple):
    """A span of tokens (first, last) inside the context part of a window, and its start + end logit."""

    first: int
    last: int
    score: float


def tokenize_contexts(tokenizer: Any, contexts: Sequence[str]) -> dict[str, Tokens]:
    """Tokenise contexts with character positions; equal contexts share one result.

    XLM-R's pieces carry the blank in front of a word, and its tokenizer reports that blank as part of the token (or
    gives a lone ``▁`` the character that follows), so both are mended here. So are the marks (accents, vowel signs)
    that an uncased BERT drops: they belong to the token whose letter they stand on, or answers would lose them.
    """
    result: dict[str, Tokens] = {}
    todo = list(dict.fromkeys(contexts))
    for at in range(0, len(todo), _TOKENIZE_AT_ONCE):
        part = todo[at : at + _TOKENIZE_AT_ONCE]
        encoded = tokenizer(
            part,
            add_special_tokens=False,
            return_attention_mask=False,
            return_offsets_mapping=True,
            verbose=False,
        )
        for i, context in enumerate(part):
            starts, ends = [], []
            offsets = encoded["offset_mapping"][i]
            borders = [*(begin for begin, _ in offsets[1:]), len(context)][: len(offsets)]
            for piece, (begin, stop), border in zip(encoded.tokens(i), offsets, borders, strict=True):
                start, end = begin, stop
                while begin < end < border and category(context[end])[0] == "M":
                    end += 1
                while start < end and context[start].isspace():
                    start += 1
                while end > start and context[end - 1].isspace():
                    end -= 1
                starts.append(start)
                ends.append(start if piece == _METASPACE else end)
            result[context] = Tokens(encoded["input_ids"][i], starts, ends)
    return result


def locate(tokens: Tokens, start: int, end: int) -> tuple[int, int] | None:
    """First and last visible token that touch the characters [start, end), or None when no token does.

    >>> locate(Tokens([7, 8, 9], [0, 4, 8], [3, 7, 11]), 4, 11)
    (1, 2)
    """
    first = bisect_right(tokens.ends, start)
    last = bisect_left(tokens.starts, end) - 1
    while first <= last and tokens.starts[first] == tokens.ends[first]:
        first += 1
    while first <= last and tokens.starts[last] == tokens.ends[last]:
        last -= 1
    return (first, last) if first <= last else None


def best_span(
    start_W: np.ndarray, end_W: np.ndarray, visible_W: np.ndarray, *, max_tokens: int, n_best: int
) -> Candidate | None:
    """The span with the highest start + end logit: borders visible, first <= last, at most `max_tokens` long.

    Only the `n_best` best starts and ends are combined, as the SQuAD scripts do; when none of these pairs is a span,
    all are tried, so that a window with a visible token always has a candidate.
    """
    usable = np.flatnonzero(visible_W)
    if not len(usable):
        return None
    for limit in (n_best, len(usable)):
        firsts = usable[np.argsort(-start_W[usable], kind="stable")[:limit]]
        lasts = usable[np.argsort(-end_W[usable], kind="stable")[:limit]]
        length = lasts[None, :] - firsts[:, None] + 1
        score = np.where(
            (length >= 1) & (length <= max_tokens), start_W[firsts][:, None] + end_W[lasts][None, :], -np.inf
        )
        i, j = np.unravel_index(int(score.argmax()), score.shape)
        if score[i, j] > -np.inf:
            return Candidate(int(firsts[i]), int(lasts[j]), float(score[i, j]))
    return None
