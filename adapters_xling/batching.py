"""Shapes of batches: what is cut into batches of similar length, and how many different shapes that gives.

With bfloat16 products on a processor, oneDNN keeps what it prepared for every shape it ever multiplied, so that a
process that meets a new shape with every batch grows by gigabytes. Batches are then filled up to a few widths and
numbers of rows, which come again.

Shapes: N encoder rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

LEAST_WIDTH_STEP = 4
"""Tokens between two widths where rows are short."""


def bucket(count: int, *, least: int = 1) -> int:
    """The next of a few counts: eight of them between a power of two and the next, so at most an eighth is added.

    Args:
        count: tokens or rows.
        least: smallest step between two of them.

    >>> [bucket(n) for n in (1, 7, 8, 9, 17, 100)]
    [1, 7, 8, 9, 18, 104]
    >>> [bucket(n, least=4) for n in (1, 7, 33, 100, 500)]
    [4, 8, 36, 104, 512]
    """
    step = max(least, 1 << max(0, (count - 1).bit_length() - 4))
    return -(-count // step) * step


def bucket_width(width: int) -> int:
    """The width that rows of so many tokens are filled up to."""
    return bucket(width, least=LEAST_WIDTH_STEP)


def token_batches(
    lengths: Sequence[int], tokens: int, *, repeat: bool = False, rows: Sequence[int] | None = None
) -> list[list[int]]:
    """Group positions into batches of similar length, none wider than `tokens` padded tokens unless alone.

    Args:
        lengths: cost of each item in tokens (rows times width); its width alone where `rows` is given.
        tokens: budget of a batch.
        repeat: count lengths as `bucket_width` gives them, so that all full batches of a width have as many items.
        rows: encoder rows of each item, for items that differ in them; one each by default.

    >>> token_batches([5, 1, 4, 1], tokens=8)
    [[0], [2, 1], [3]]
    >>> token_batches([5, 5, 4, 4], tokens=20, rows=[2, 2, 3, 2])
    [[0, 1], [2, 3]]
    """
    counted = [bucket_width(length) for length in lengths] if repeat else lengths
    order = sorted(range(len(lengths)), key=lambda i: (-counted[i], i))
    batches: list[list[int]] = []
    width = high = 0
    for i in order:
        own = 1 if rows is None else rows[i]
        if not batches or width * (high + own) > tokens:
            batches.append([])
            width, high = counted[i], 0
        batches[-1].append(i)
        high += own
    return batches


def filled_shape(rows: int, width: int, *, tokens: int, most: int) -> tuple[int, int]:
    """Rows and width that `filled` gives a batch of these.

    Args:
        rows: N.
        width: T.
        tokens: budget of a batch.
        most: tokens the encoder can read.

    >>> filled_shape(17, 61, tokens=8192, most=512), filled_shape(17, 61, tokens=17 * 64, most=512)
    ((18, 64), (17, 64))
    """
    wide = max(width, min(bucket_width(width), most))
    return min(bucket(rows), max(rows, tokens // wide)), wide


def filled(inputs: Mapping[str, Tensor], *, pad_id: int, tokens: int, most: int) -> dict[str, Tensor]:
    """Tensors (N,T) of the encoder at a width and a number of rows that come again.

    Further columns are padding, which the mask hides; further rows repeat the last one, and whoever reads the output
    leaves both out. A batch that is as full as its width allows gets no further rows.

    Args:
        inputs: `input_ids`, `attention_mask` and perhaps `token_type_ids`.
        pad_id: token id that fills a row up.
        tokens: budget of a batch.
        most: tokens the encoder can read.
    """
    rows, width = inputs["input_ids"].shape
    high, wide = filled_shape(rows, width, tokens=tokens, most=most)
    found = {}
    for name, rows_NT in inputs.items():
        value = pad_id if name == "input_ids" else 0
        wider = torch.nn.functional.pad(rows_NT, (0, wide - width), value=value)
        found[name] = torch.cat([wider, wider[-1:].expand(high - rows, wide)]) if high > rows else wider
    return found
