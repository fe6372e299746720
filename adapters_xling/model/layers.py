"""The encoder's forward pass taken apart: from the tokens, or from one hidden state, to another.

Shapes: N rows, T tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adapters_xling.backbones import Family


def run_layers(
    encoder: Any, family: Family, inputs: Mapping[str, Tensor], *, start: int, hidden: Tensor | None, stop: int
) -> Tensor:
    """Run an encoder's embeddings and layers one after the other.

    Args:
        encoder: the family's bare encoder, with whatever slots are active in it.
        family: where its parts are.
        inputs: of the encoder, (N,T) each.
        start: hidden state to start from.
        hidden: its tensor (N,T,D); None starts from the tokens.
        stop: hidden state to return; 0 is the embeddings' output.

    Returns:
        Hidden state of every token, (N,T,D).
    """
    if hidden is None:
        embedded = {name: tensor for name, tensor in inputs.items() if name != "attention_mask"}
        hidden = encoder.get_submodule(family.embeddings)(**embedded)
    assert hidden is not None
    mask = attention_mask(encoder, inputs["attention_mask"], hidden)
    layers = encoder.get_submodule(family.layers)
    for number in range(start, stop):
        output = layers[number](hidden, mask)  # adapters hooks into the positional arguments
        hidden = output if isinstance(output, Tensor) else output[0]
        assert hidden is not None
    return hidden


def attention_mask(encoder: Any, mask_NT: Tensor, hidden_NTD: Tensor) -> Tensor:
    """The additive mask the layers expect, exactly as the encoder's own forward pass makes it."""
    if encoder.config._attn_implementation == "sdpa":
        from transformers.modeling_attn_mask_utils import _prepare_4d_attention_mask_for_sdpa

        return _prepare_4d_attention_mask_for_sdpa(mask_NT, hidden_NTD.dtype, tgt_len=hidden_NTD.shape[1])
    return encoder.get_extended_attention_mask(mask_NT, tuple(mask_NT.shape))
