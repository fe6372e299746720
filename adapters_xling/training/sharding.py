"""Weights, gradients and moments divided among the processes (FSDP2), for encoders too large to train on one device.

Asked for by accelerate's configuration (`distributed_type: FSDP`, `fsdp_version: 2`). The layers are wrapped here and
not by accelerate, which has FSDP on accelerators only: so the path is the same, and tested, on CPUs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from adapters_xling.errors import ConfigError
from adapters_xling.model import Model
from adapters_xling.processes import Processes

UNTRIED = {"ACCELERATE_USE_DEEPSPEED": "DeepSpeed", "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM"}
"""What accelerate's launcher sets for what this loop does not do."""


def wanted() -> bool:
    """Whether accelerate's configuration asks for sharded weights.

    Raises:
        ConfigError: when it asks for something else that divides a model.
    """
    for name, what in UNTRIED.items():
        if _is_on(name):
            raise ConfigError(
                f"{what} is not supported: its engine takes over the optimiser, which every method shares here. To "
                "divide a large encoder among devices use accelerate's FSDP (distributed_type: FSDP, fsdp_version: 2)"
            )
    if not _is_on("ACCELERATE_USE_FSDP"):
        return False
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise ConfigError(
            "FSDP version 1 flattens weights of different rules (frozen, without decay) into one tensor and is not "
            "supported; set fsdp_version: 2 in the configuration, or --fsdp_version 2"
        )
    # Under accelerate's default only process 0 would read the backbone, the others would get empty tensors to be
    # filled later. Here every process reads and checks it, and keeps its part.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    return True


def shard(model: Model, processes: Processes) -> None:
    """Divide a model's weights, layer by layer, and move them to the processes' device.

    A layer's weights are put together when its turn comes and given back after it; those outside the layers
    (embeddings, slots' shared parts, pooler, heads) stay together from the forward to the backward pass.

    Raises:
        ConfigError: for a loss with a term on the weights themselves, which no process has whole outside the layers.
    """
    if model.penalty() is not None:
        raise ConfigError(
            "the loss of this run has a term on its own weights (AdapterFusion keeps its value maps near the identity),"
            " and under FSDP no process has these whole when the loss is made. Train it without FSDP, by one process or"
            " several (accelerate launch --multi_gpu): only the fusion trains, so the encoder has no gradients or"
            " moments to divide. A fusion of LoRAs can be sharded"
        )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(processes.device.type, (processes.count,))
    for layer in model.encoder.get_submodule(model.family.layers):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def give_back(model: Model) -> None:
    """Divide again what an evaluation put together: only a backward pass does so by itself."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


@torch.no_grad()
def whole(tensors: Mapping[str, Tensor], *, keep: bool = True) -> dict[str, Tensor]:
    """Copies of tensors in main memory, sharded ones put together; every process must call this.

    Args:
        tensors: sharded or not.
        keep: False in processes that only help; they get nothing.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        together = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if keep:
            found[name] = together.detach().to("cpu", copy=True)
    return found


@torch.no_grad()
def load(parameters: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Put whole weights into parameters, sharded or not; every process must call this with the same weights."""
    assert set(parameters) == set(state), sorted(set(parameters) ^ set(state))
    for name, parameter in parameters.items():
        parameter.copy_(like(parameter, state[name]))


def like(parameter: Any, value: Tensor) -> Tensor:
    """A whole tensor divided as a parameter is; as it is where the parameter is whole."""
    if not isinstance(parameter, DTensor) or value.ndim != parameter.ndim:
        return value
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)


def _is_on(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("true", "1", "yes")
