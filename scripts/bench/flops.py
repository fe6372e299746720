"""Floating-point operations of an encoder's passes, from its shape alone, over real tokens: what a model needs, however
it is computed.

A map from `i` to `o` numbers costs 2·i·o operations a token forward; backward 2·i·o for the gradient with respect to
its weights where these train, and 2·i·o for that with respect to its input where anything below it trains. Attention
over a row of L tokens costs two products of 2·L²·D in every layer forward (4·L²·D), and backward up to four of the same
size (with respect to values, probabilities, queries and keys), each where it leads to something that trains. So a step
of full fine-tuning comes to three times a forward pass; of a bottleneck in every layer to about two, the lowest layer's
own maps having no backward pass at all; of LoRA likewise, the lowest layer's query, key and value apart. The head reads
the first token, so the last layer needs keys and values of all tokens and everything else of one a row, which attends
at 2·L·D a product.

Not counted: looking tokens up, normalisation, activations, softmax, the optimiser, what a kernel computes a second time
in its backward pass, and everything done for padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

METHODS = ("full", "bottleneck", "lora")


@dataclass(frozen=True)
class Map:
    """A linear map of every token.

    Attributes:
        inputs: width of what it reads.
        outputs: of what it gives.
        trains: whether its weights do.
        below: whether anything does that its input depends on.
        alone: whether only the first token of a row goes through it.
    """

    inputs: int
    outputs: int
    trains: bool
    below: bool
    alone: bool = False

    def flops(self, *, backward: bool) -> int:
        """Operations a token, with or without a backward pass."""
        return 2 * self.inputs * self.outputs * (1 + backward * (self.trains + self.below))


def maps(shape: Any, method: str, *, size: int) -> Iterator[Map]:
    """Linear maps of the encoder's layers, and those a method adds.

    Args:
        shape: `backbones.Shape` of the encoder.
        method: full; bottleneck (one block behind each layer); or lora (on query and value).
        size: width of a block, or rank of an update.
    """
    hidden, ffn, full = shape.hidden, shape.ffn, method == "full"
    for layer in range(shape.layers):
        below = full or layer > 0
        inner = below or method == "lora"  # behind the attention of the lowest layer, whose updates train
        last = layer == shape.layers - 1
        yield Map(hidden, hidden, full, below, last)
        yield from [Map(hidden, hidden, full, below)] * 2
        yield Map(hidden, hidden, full, inner, last)
        yield Map(hidden, ffn, full, inner, last)
        yield Map(ffn, hidden, full, inner, last)
        for alone in {"full": (), "bottleneck": (last,), "lora": (last, False)}[method]:
            yield Map(hidden, size, True, below, alone)
            yield Map(size, hidden, True, True, alone)


def products(shape: Any, method: str, layer: int, *, backward: bool) -> int:
    """Products of a layer's attention: queries with keys and probabilities with values, and their gradients."""
    lowest = {"full": 4, "bottleneck": 0, "lora": 3}[method]  # LoRA's lowest keys depend on nothing that trains
    return 2 + backward * (4 if layer else lowest)


def flops(
    shape: Any, method: str, lengths: Sequence[int], *, size: int = 0, labels: int = 3, backward: bool = True
) -> int:
    """Operations of a batch of rows, with the pooler and the two maps of a head of `labels` outputs behind it.

    Args:
        shape: `backbones.Shape` of the encoder.
        method: one of `METHODS`.
        lengths: real tokens of each row.
        size: width of a bottleneck, or rank of LoRA.
        labels: outputs of the head.
        backward: with the backward pass, or the forward pass alone.

    >>> from adapters_xling.backbones import Shape
    >>> one = Shape(layers=1, hidden=2, ffn=8, vocabulary=9, positions=9)
    >>> flops(one, "full", [1], labels=3, backward=False)
    132
    >>> 2 * (16 + 32) + 4 * 2 + 2 * (4 + 4 + 6)  # maps, attention, head
    132
    """
    rows, tokens, squares = len(lengths), sum(lengths), sum(length**2 for length in lengths)
    layers = sum(
        (rows if one.alone else tokens) * one.flops(backward=backward) for one in maps(shape, method, size=size)
    )
    pairs = [*[squares] * (shape.layers - 1), tokens]  # of a query and a key, layer by layer
    attention = sum(
        2 * shape.hidden * count * products(shape, method, layer, backward=backward)
        for layer, count in enumerate(pairs)
    )
    above = (*[Map(shape.hidden, shape.hidden, True, True)] * 2, Map(shape.hidden, labels, True, True))
    return layers + attention + rows * sum(one.flops(backward=backward) for one in above)
