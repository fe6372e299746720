"""Shapes of inference batches: what is cut into batches of similar length, and how many different shapes that gives.

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


def token_batches(lengths: Sequence[int], tokens: int, *, repeat: bool = False) -> list[list[int]]:
    """Group positions into batches of similar length, none wider than `tokens` padded tokens unless alone.

    Args:
        lengths: cost of each item in tokens (rows times width).
        tokens: budget of a batch.
        repeat: count lengths as `bucket_width` gives them, so that all full batches of a width have as many items.

    >>> token_batches([5, 1, 4, 1], tokens=8)
    [[0], [2, 1], [3]]
    """
    counted = [bucket_width(length) for length in lengths] if repeat else lengths
    order = sorted(range(len(lengths)), key=lambda i: (-counted[i], i))
    batches: list[list[int]] = []
    width = 0
    for i in order:
        if not batches or width * (len(batches[-1]) + 1) > tokens:
            batches.append([])
            width = counted[i]
        batches[-1].append(i)
    return batches


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
    wide = max(width, min(bucket_width(width), most))
    high = min(bucket(rows), max(rows, tokens // wide))
    found = {}
    for name, rows_NT in inputs.items():
        value = pad_id if name == "input_ids" else 0
        wider = torch.nn.functional.pad(rows_NT, (0, wide - width), value=value)
        found[name] = torch.cat([wider, wider[-1:].expand(high - rows, wide)]) if high > rows else wider
    return found
