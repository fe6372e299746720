"""Pieces of a batch: what goes through the encoder at once, and what its mean loss counts for in the batch's.

A batch is divided among processes by rows (`division`), and each process's part into pieces of similar length
(`tokens_at_once` of a recipe), which hold less padding than the whole. Losses are means over labels, so that every
piece counts as much as its share of the batch's labels; the sum over all pieces is the loss of the whole batch, and
adds its gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from adapters_xling.batching import token_batches
from adapters_xling.tasks.examples import Features
from adapters_xling.tasks.kinds.base import Batch
from adapters_xling.training.division import Division, num_labels

Collate = Callable[[Sequence[Features]], Batch]


class Piece(NamedTuple):
    """Rows that are computed together.

    Attributes:
        batch: as the kind's `collate` made it.
        weight: what its mean loss counts for in the batch's; those of all pieces and processes add up to 1.
        counts: False for rows that are computed for nothing, because there must be a pass.
    """

    batch: Batch
    weight: float = 1.0
    counts: bool = True


def pieces_of(
    rows: Sequence[Features], division: Division, collate: Collate, *, tokens: int, repeat: bool = False
) -> list[Piece]:
    """This process's pieces of a batch, longest rows first; at least one, if need be of a row for nothing.

    Args:
        rows: the whole batch.
        division: this process's part of it.
        collate: makes tensors of rows.
        tokens: most tokens of a piece, padding counted, unless it is one row; 0 for all rows at once.
        repeat: count widths as `batching.filled` gives them.
    """
    if tokens and division.parts > 1:  # rows of similar length go to different processes
        rows = sorted(rows, key=lambda one: -one.num_tokens)
    mine = division.own(rows)
    if not mine:
        return [spare(rows, collate)]
    batches = [collate(part) for part in in_order(mine, tokens, repeat=repeat)]
    if division.parts == 1 and len(batches) == 1:
        return [Piece(batches[0])]
    labels = [num_labels(batch) for batch in batches]
    num_all = sum(labels) if division.parts == 1 else num_labels(collate(rows))
    if not num_all and division.parts == 1:
        return [Piece(collate(rows))]  # nothing to share out by: what becomes of it is the kind's affair
    return [Piece(batch, own / num_all if num_all else 0.0) for batch, own in zip(batches, labels, strict=True)]


def spare(rows: Sequence[Features], collate: Collate) -> Piece:
    """A row that is computed for nothing, where a process has fewer pieces than those it shares weights with."""
    return Piece(collate(rows[:1]), 0.0, counts=False)


def in_order(rows: Sequence[Features], tokens: int, *, repeat: bool = False) -> list[Sequence[Features]]:
    """Rows cut into pieces of similar length; all of them as they are at 0 tokens."""
    if not tokens:
        return [rows]
    widths = [max(map(len, one.input_ids)) for one in rows]
    heights = [len(one.input_ids) for one in rows]
    return [[rows[i] for i in part] for part in token_batches(widths, tokens, rows=heights, repeat=repeat)]
