"""AdapterFusion (Pfeiffer et al. 2021) over resident bottleneck slots: its modules, its files, its penalty.

A fusion is query, key and value map per layer; attention over the parts' outputs says, token by token, how much each
counts. The value map starts as the identity and is held near it by a penalty, which is part of the loss here: the
library's own trainer adds its gradient after the step, to the next one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xling.errors import ConfigError, ZooError
from adapters_xling.spec import Fuse, Use

from .native import copy_exactly, read_json, read_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG = "adapter_fusion_config.json"
WEIGHTS = "model_adapter_fusion.safetensors"
PENALTY = 0.01
"""Weight of the squared distance between value maps and identity (the paper's and the library's)."""
_HOLDER = "adapter_fusion_layer"


def attach(encoder: nn.Module, slot: str, route: Fuse, *, dropout: float, warm: Path | None) -> None:
    """Make a fusion at every place where a part has a block, from files where there are some.

    Raises:
        ConfigError: for a part that is more than one slot.
    """
    names = {part.entry for part in route.parts if isinstance(part, Use)}
    if len(names) != len(route.parts):
        raise ConfigError(
            "method 'bottleneck' can Fuse entries that were trained on the bare backbone, each once; one of these "
            "parts is put together from several"
        )
    for layer in _layers(encoder).values():
        if names & set(layer.adapters):
            _add(encoder, layer, slot, dropout=dropout)
    _note(encoder, slot)
    if warm is not None:
        load_into(encoder, slot, warm)


def load(encoder: nn.Module, slot: str, folder: Path) -> None:
    """Add a fusion from its files, at the places they have weights for.

    Raises:
        ZooError: for files that are none, or do not fit this encoder.
    """
    data = read_json(folder / CONFIG)
    wanted = _config().to_dict()
    found = data.get("config")
    if not isinstance(found, dict) or {**found, "dropout_prob": None} != {**wanted, "dropout_prob": None}:
        raise ZooError(f"{folder / CONFIG}: not a fusion with query, key and value; only those are loaded")
    held = {name.split(f".{_HOLDER}.")[0] for name in read_tensors(folder / WEIGHTS)}
    layers = _layers(encoder)
    if strange := sorted(held - set(layers)):
        raise ZooError(f"{folder / WEIGHTS}: {strange[0]!r} is no place of a fusion in this backbone")
    for name in held:
        _add(encoder, layers[name], slot, dropout=0.0)
    _note(encoder, slot)
    load_into(encoder, slot, folder)


def load_into(encoder: nn.Module, slot: str, folder: Path) -> None:
    """Copy a fusion's weights from its files, every one of them."""
    name = str(read_json(folder / CONFIG).get("name"))
    tensors = {
        ".".join(slot if part == name else part for part in key.split(".")): value
        for key, value in read_tensors(folder / WEIGHTS).items()
    }
    copy_exactly(state(encoder, slot), tensors, folder / WEIGHTS)


def save(encoder: Any, slot: str, folder: Path, *, name: str, model_name: str | None) -> None:
    """Write the library's two files."""
    from adapters.configuration.model_adapters_config import build_full_config
    from safetensors.torch import save_file

    full = build_full_config(
        _config(), encoder.config, model_name=model_name, model_class=type(encoder).__name__, name=name
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(full, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    tensors = {
        ".".join(name if part == slot else part for part in key.split(".")): value.detach().cpu().contiguous()
        for key, value in state(encoder, slot).items()
    }
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def state(encoder: nn.Module, slot: str) -> dict[str, Tensor]:
    """Live tensors of a fusion by their names in the encoder; empty for a slot that is none."""
    held = {name: layer for name, layer in _layers(encoder).items() if slot in layer.adapter_fusion_layer}
    return {
        f"{name}.{_HOLDER}.{slot}.{key}": value
        for name, layer in held.items()
        for key, value in layer.adapter_fusion_layer[slot].state_dict(keep_vars=True).items()
    }


def is_fusion(encoder: nn.Module, slot: str) -> bool:
    """Whether a slot is a fusion; asked in every step and at every switch, so nothing is searched."""
    return slot in getattr(encoder, "_xling_fusions", ())


def _note(encoder: Any, slot: str) -> None:
    encoder._xling_fusions = {*getattr(encoder, "_xling_fusions", ()), slot}


def penalty(encoder: nn.Module, slot: str) -> Tensor | None:
    """Squared distance of the value maps from the identity, weighted; None for a slot that is no fusion."""
    import torch

    if not is_fusion(encoder, slot):
        return None
    values = [value for name, value in state(encoder, slot).items() if name.endswith(".value.weight")]
    return PENALTY * sum((value - torch.eye(len(value), device=value.device)).square().sum() for value in values)


def _config() -> Any:
    from adapters.configuration.adapter_fusion_config import DynamicAdapterFusionConfig

    return DynamicAdapterFusionConfig()


def _layers(encoder: nn.Module) -> dict[str, Any]:
    return {name: module for name, module in encoder.named_modules() if hasattr(module, _HOLDER)}


def _add(encoder: nn.Module, layer: Any, slot: str, *, dropout: float) -> None:
    from adapters.methods.modeling import BertFusion

    fusion = BertFusion(_config(), encoder.config.hidden_size, dropout)
    layer.adapter_fusion_layer[slot] = fusion.to(next(encoder.parameters()).device).eval()
