"""The last layer where only the first token's output is read: its other outputs are not computed.

A pooled head reads `<s>` alone. The last layer's keys and values come from all tokens, but queries, the attention's
output map and the feed-forward block are needed for one token a row: 10/12 of the layer's products in an encoder whose
feed-forward block is four times as wide.

Shapes: N rows, T tokens, D hidden size.
"""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor, nn


def can_be_split(block: nn.Module) -> bool:
    """Whether a layer may be run by its parts: not where its weights are gathered when it is called as a whole."""
    fsdp = sys.modules.get("torch.distributed.fsdp")  # slow to import; where it is not, nothing is divided by it
    if fsdp is not None and isinstance(block, fsdp.FSDPModule):
        return False
    return all(hasattr(block, part) for part in ("attention", "feed_forward_chunk"))


def of_first_token(block: Any, hidden_NTD: Tensor, mask: Tensor | None) -> Tensor:
    """What a layer of the BERT or RoBERTa family gives for the first token of each row, (N,1,D).

    The first token attends to all: the family's own cross-attention with the whole row as the other sequence, and
    whatever slots are in the layer's parts.

    Args:
        block: the layer.
        hidden_NTD: its input.
        mask: what all tokens' attention gets, (N,1,T,T) or (N,1,1,T); None where no token is padding.
    """
    own = None if mask is None else mask[:, :, :1]
    first_N1D = hidden_NTD[:, :1].contiguous()  # else torch sums a product otherwise where a weight is in training
    attended = block.attention(first_N1D, own, encoder_hidden_states=hidden_NTD)[0]
    output: Tensor = block.feed_forward_chunk(attended)
    return output
