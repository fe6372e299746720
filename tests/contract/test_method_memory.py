"""What a method says autograd keeps of every token is what autograd keeps."""

from __future__ import annotations

import pytest
import torch
from worlds import CASES, method_of

from adapters_xling import grid, recipes
from adapters_xling.backbones import FAMILIES, Shape
from adapters_xling.grid.memory import Batch, footprint
from adapters_xling.spec import Fresh, Slot

ROWS, TOKENS, VOCABULARY = 8, 24, 300
SHAPE = Shape(layers=6, hidden=64, ffn=256, vocabulary=VOCABULARY, positions=64, heads=4)
LOWEST, HIGHEST = 0.9, 1.25
"""Computed over measured. What an adapter's lowest layer does not keep is counted roughly."""
ROUGH = {"compacter": 0.6, "prefix": 0.75}
"""Compacter builds its matrices from factors in every pass, prefix tuning its prefix from a network: neither is
counted, and both matter at this width only.
"""
NOT_COUNTED = ("head", "pfeiffer-inv", "dora")
"""Nothing is kept; an invertible block once, behind the embeddings; DoRA's copies of whole matrices."""


def encoder() -> torch.nn.Module:
    from transformers import XLMRobertaConfig, XLMRobertaModel

    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=VOCABULARY,
        hidden_size=SHAPE.hidden,
        num_hidden_layers=SHAPE.layers,
        num_attention_heads=SHAPE.heads,
        intermediate_size=SHAPE.ffn,
        max_position_embeddings=SHAPE.positions,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return XLMRobertaModel(config, add_pooling_layer=False)


def kept_bytes(model: torch.nn.Module, *, half: bool) -> int:
    """Bytes of the tensors that a forward pass keeps for the backward pass, parameters apart."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    mask = torch.ones(ROWS, TOKENS, dtype=torch.long)
    mask[0, TOKENS // 2 :] = 0
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            hidden = model(input_ids=torch.randint(4, VOCABULARY, (ROWS, TOKENS)), attention_mask=mask)
        loss = hidden.last_hidden_state.float().mean()
    del loss
    return sum(kept.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("case", [case for case in CASES if case not in NOT_COUNTED])
def test_what_autograd_keeps_is_what_the_method_says(case: str, precision: str) -> None:
    method = method_of(case)
    model = encoder()
    trainable = method.attach(model, "s000_", None, Slot())
    assert method.supports(Fresh(), Slot()) is None
    for module in trainable.modules:
        module.train()
    recipe = recipes.resolve_recipe(
        grid.recipes(), "paper", method="full", kind="tag", overrides={"dropout": 0.0, "precision": precision}
    )
    computed = footprint(method, recipe, Batch(ROWS, TOKENS), SHAPE, FAMILIES["xlm-roberta"], device="cpu").activations
    measured = kept_bytes(model, half=precision == "bf16")
    ratio = computed / measured
    assert ROUGH.get(case, LOWEST) < ratio < HIGHEST, f"computed {computed:,.0f}, measured {measured:,}: {ratio:.3f}"
