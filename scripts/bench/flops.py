"""Floating-point operations of an encoder's passes, from its shape alone, over real tokens: what a model needs, however
it is computed.

A map from `i` to `o` numbers costs 2·i·o operations a token forward; backward 2·i·o for the gradient with respect to
its weights where these train, and 2·i·o for that with respect to its input where anything below it trains. Attention
over a row of L tokens costs two products of 2·L²·D in every layer forward (4·L²·D), and backward up to four of the same
size (with respect to values, probabilities, queries and keys), each where it leads to something that trains. So a step
of full fine-tuning comes to three times a forward pass; of a bottleneck in every layer to about two, the lowest layer's
own maps having no backward pass at all; of LoRA likewise, the lowest layer's query, key and value apart.

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
    """

    inputs: int
    outputs: int
    trains: bool
    below: bool

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
        yield from [Map(hidden, hidden, full, below)] * 3
        yield Map(hidden, hidden, full, inner)
        yield Map(hidden, ffn, full, inner)
        yield Map(ffn, hidden, full, inner)
        for _ in range({"full": 0, "bottleneck": 1, "lora": 2}[method]):
            yield Map(hidden, size, True, below)
            yield Map(size, hidden, True, True)


def products(shape: Any, method: str, *, backward: bool) -> int:
    """Products of attention, each of 2·L²·D operations for a row of L tokens, over all layers."""
    lowest = {"full": 4, "bottleneck": 0, "lora": 3}[method]  # LoRA's lowest keys depend on nothing that trains
    return 2 * shape.layers + backward * (lowest + 4 * (shape.layers - 1))


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
    tokens, squares = sum(lengths), sum(length**2 for length in lengths)
    layers = tokens * sum(one.flops(backward=backward) for one in maps(shape, method, size=size))
    attention = 2 * shape.hidden * squares * products(shape, method, backward=backward)
    above = (*[Map(shape.hidden, shape.hidden, True, True)] * 2, Map(shape.hidden, labels, True, True))
    return layers + attention + len(lengths) * sum(one.flops(backward=backward) for one in above)
