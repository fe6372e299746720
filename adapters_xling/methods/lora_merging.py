"""Merging LoRA entries, file to file.

A sum of updates c1·s1·B1·A1 + c2·s2·B2·A2 is one update whose rank is the ranks together: the A matrices stand below
each other, the B matrices, times coefficient and scaling, side by side. Nothing is lost. TIES and DARE change single
values of B·A, which has no such form any more: the result is the nearest matrix of that rank, and the card says how
near.

Shapes: I in, O out, R rank.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xling.errors import ConfigError
from adapters_xling.spec import Arithmetic, Merge, WeightAverage, describe

from . import merging
from .native import read_json, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_A, _B = ".lora_A.weight", ".lora_B.weight"
_SAID = 0.05
"""Relative error of a merge from which it is warned of."""


def merge(merge: Merge, folders: Sequence[Path], folder: Path) -> str:
    """Write the merge of entries' native files; says what was computed and how exact it is.

    Raises:
        ConfigError: when they adapt other modules.
        ZooError: for files that cannot be read.
    """
    from safetensors.torch import save_file

    configs = [read_json(one / CONFIG) for one in folders]
    states = [read_tensors(one / WEIGHTS) for one in folders]
    if strange := next((n for state in states for n in state if not n.endswith((_A, _B))), None):
        raise ConfigError(f"{describe(merge)}: one entry holds {strange}, which is no plain update; merge plain LoRAs")
    names = [name.removesuffix(_A) for name in states[0] if name.endswith(_A)]
    if any(set(state) != set(states[0]) for state in states):
        raise ConfigError(f"{describe(merge)}: its entries adapt other modules; merge entries with the same targets")
    rank = sum(int(config["r"]) for config in configs)
    scales = [_scale(config) for config in configs]
    exact = isinstance(merge, (WeightAverage, Arithmetic))
    result: dict[str, Tensor] = {}
    lost, whole = 0.0, 0.0
    for name in names:
        pairs = [
            (state[name + _A].float(), state[name + _B].float() * s) for state, s in zip(states, scales, strict=True)
        ]
        if exact:
            down, up = _behind_each_other(pairs, merge.weights)
        else:
            wanted = merging.combine(merge, [up @ down for down, up in pairs], name=name)
            down, up = _nearest(wanted, rank)
            lost += float((wanted - up @ down).square().sum())
            whole += float(wanted.square().sum())
        result[name + _A], result[name + _B] = down.contiguous(), up.contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    config = {**configs[0], "r": rank, "lora_alpha": rank, "use_rslora": False}
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    save_file(result, folder / WEIGHTS, metadata={"format": "pt"})
    if exact:
        return f"{describe(merge)} of the updates, exact: rank {rank}"
    error = (lost / whole) ** 0.5 if whole else 0.0
    if error >= _SAID:
        warnings.warn(
            f"{describe(merge)}: LoRAs hold it only as cut to rank {rank}, {error:.0%} away from what it is (relative "
            "error of the updates); an average or arithmetic is exact"
        )
    return f"{describe(merge)} of the updates, cut to rank {rank}: relative error {error:.2g}"


def _behind_each_other(pairs: Sequence[tuple[Tensor, Tensor]], weights: Sequence[float]) -> tuple[Tensor, Tensor]:
    import torch

    down_RI = torch.cat([down for down, _ in pairs])
    up_OR = torch.cat([up * weight for (_, up), weight in zip(pairs, weights, strict=True)], dim=1)
    return down_RI, up_OR


def _nearest(wanted_OI: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The nearest matrix of a rank (Eckart & Young), its singular values shared between both sides."""
    import torch

    u, s, v = torch.linalg.svd(wanted_OI.double(), full_matrices=False)
    down, up = torch.zeros(rank, wanted_OI.shape[1]), torch.zeros(wanted_OI.shape[0], rank)
    kept = min(rank, len(s))
    root = s[:kept].sqrt()
    down[:kept], up[:, :kept] = (root[:, None] * v[:kept]).float(), (u[:, :kept] * root).float()
    return down, up


def _scale(config: dict[str, Any]) -> float:
    r = int(config["r"])
    return float(config["lora_alpha"]) / (r**0.5 if config.get("use_rslora") else r)
