"""Compacter's maps as the matrices they stand for: for compiled passes, which cannot trace how the library makes them.

Shapes: I and O width of a map's input and output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def matrices(encoder: Any, slot: str) -> dict[str, Tensor]:
    """Weight (O,I) and bias (O,) of every Kronecker map of a slot, by the names they have after `replace`."""
    import torch
    from adapters.composition import Stack
    from adapters.context import ForwardContext

    found, setup = {}, encoder.adapters_config.active_setup
    encoder.adapters_config.active_setup = Stack(slot)  # for the weights that a slot's maps share
    try:
        with torch.no_grad(), ForwardContext(encoder, input_ids=torch.zeros(1, 1, dtype=torch.long)):
            for name, layer in _maps(encoder, (slot,)).items():
                unit_II = torch.eye(layer.in_features, dtype=layer.b.dtype, device=layer.b.device)
                found[f"{name}.weight"] = (layer(unit_II) - layer.b).T.contiguous()
                found[f"{name}.bias"] = layer.b.detach()
    finally:
        encoder.adapters_config.active_setup = setup
    return found


def replace(encoder: nn.Module, slots: tuple[str, ...]) -> None:
    """Put plain linear maps without weights where slots have Kronecker maps."""
    from torch import nn

    for name, layer in _maps(encoder, slots).items():
        encoder.set_submodule(name, nn.Linear(layer.in_features, layer.out_features, device="meta"))


def _maps(encoder: nn.Module, slots: tuple[str, ...]) -> dict[str, Any]:
    from adapters.methods.modeling import PHMLayer

    return {
        name: module
        for name, module in encoder.named_modules()
        if isinstance(module, PHMLayer) and set(slots) & set(name.split("."))
    }
