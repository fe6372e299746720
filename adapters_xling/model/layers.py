"""The encoder's forward pass taken apart: from the tokens, or from one hidden state, to another.

Shapes: N rows, T tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adapters_xling.backbones import Family

from .last_layer import of_first_token
from .packing import Packing, packed_inputs


def run_layers(
    encoder: Any,
    family: Family,
    inputs: Mapping[str, Tensor],
    *,
    start: int,
    hidden: Tensor | None,
    stop: int,
    first_token: bool = False,
    packing: Packing | None = None,
) -> Tensor:
    """Run an encoder's embeddings and layers one after the other.

    Args:
        encoder: the family's bare encoder, with whatever slots are active in it.
        family: where its parts are.
        inputs: of the encoder, (N,T) each.
        start: hidden state to start from.
        hidden: its tensor (N,T,D); None starts from the tokens.
        stop: hidden state to return; 0 is the embeddings' output.
        first_token: let the last of these layers compute the first token alone.
        packing: leave the padding out of all layers but that one.

    Returns:
        Hidden state of every token, (N,T,D), or of the first one, (N,1,D).
    """
    real_NT = inputs["attention_mask"]
    if hidden is None:
        embedded = {name: tensor for name, tensor in inputs.items() if name != "attention_mask"}
        if packing is not None:
            embedded = packed_inputs(encoder, family, packing, inputs)
        hidden = encoder.get_submodule(family.embeddings)(**embedded)
    elif packing is not None:
        hidden = packing.pack(hidden)
    assert hidden is not None
    mask = attention_mask(encoder, real_NT, hidden) if packing is None else packing.mask()
    layers = encoder.get_submodule(family.layers)
    alone = first_token and start < stop
    for number in range(start, stop - alone):
        output = layers[number](hidden, mask)  # adapters hooks into the positional arguments
        hidden = output if isinstance(output, Tensor) else output[0]
        assert hidden is not None
    if packing is not None:
        hidden = packing.unpack(hidden)
        mask = attention_mask(encoder, real_NT, hidden) if alone else mask
    return of_first_token(layers[stop - 1], hidden, mask) if alone else hidden


def attention_mask(encoder: Any, mask_NT: Tensor, hidden_NTD: Tensor) -> Tensor:
    """The additive mask the layers expect, exactly as the encoder's own forward pass makes it."""
    if encoder.config._attn_implementation == "sdpa":
        from transformers.modeling_attn_mask_utils import _prepare_4d_attention_mask_for_sdpa

        return _prepare_4d_attention_mask_for_sdpa(mask_NT, hidden_NTD.dtype, tgt_len=hidden_NTD.shape[1])
    return encoder.get_extended_attention_mask(mask_NT, tuple(mask_NT.shape))
