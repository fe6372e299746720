"""What stands before the first step: refusing what cannot be trained, finding the tasks, joining the processes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import nn
from torch.distributed.tensor import DTensor

from adapters_xling import tasks
from adapters_xling.errors import ConfigError
from adapters_xling.model import resolve_device
from adapters_xling.model.freed_pages import keep_freed_pages
from adapters_xling.processes import Processes
from adapters_xling.spec import Recipe, RunSpec, TaskRef, TaskSpec, key

_PATIENCE = timedelta(hours=6)
"""How long processes wait for each other: one reads and tokenises the rows for all, which takes longer than the ten
minutes that are usual between GPUs. A process that ends is noticed at once by whoever launched it."""


def join(
    device: str | None, trackers: Sequence[str], log_dir: Path | None
) -> tuple[Accelerator, Processes, torch.device]:
    """Join the processes this one was launched with, if any, and find the device of this one.

    Returns:
        accelerate's view (trackers), ours, and the device.

    Raises:
        ConfigError: for a device that is not here, or one number of a device for several processes.
    """
    place = resolve_device(device)
    if place.type == "cpu":
        keep_freed_pages()
    accelerator = Accelerator(
        cpu=place.type == "cpu",
        mixed_precision="no",  # the recipe decides: one process may train runs of different precision
        log_with=list(trackers) if log_dir else None,
        project_dir=str(log_dir) if log_dir else None,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
    )
    processes = Processes.joined(accelerator.device)
    if processes.count == 1:
        _say_if_alone()
        return accelerator, processes, place
    if place.index is not None:
        raise ConfigError(
            f"--device {device} is one device, but {processes.count} processes train together; give --device "
            f"{place.type}, each takes its own"
        )
    return accelerator, processes, accelerator.device


def _say_if_alone() -> None:
    """Warn where accelerate was asked for several processes and started one, as it does on CPUs without MPI."""
    environ = os.environ
    asked = "MASTER_ADDR" in environ and environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    if asked and "LOCAL_RANK" not in environ:
        warnings.warn(
            "accelerate launch --cpu starts one process, whatever --num_processes says, so this one trains alone (the "
            "result is the same). For several on CPUs: accelerate launch --multi_gpu --num_processes N … --device cpu"
        )


def optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over what trains; no decay on biases and normalisation (every tensor with fewer than two dimensions).

    The fused form takes a step in one pass over the weights, on a CPU seven times as fast (LOG.md), which counts where
    a whole encoder trains. Sharded weights keep the plain form.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(p.device.type in ("cpu", "cuda") and not isinstance(p, DTensor) for p in trainable)
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=recipe.learning_rate,
        eps=recipe.adam_epsilon,
        fused=fused or None,
    )


def check(run: RunSpec) -> None:
    """Refuse a run that nothing can be made of.

    Raises:
        ConfigError: for a run whose tasks and mixture disagree, or whose backbone was never read.
    """
    names = [ref.name for ref in run.tasks]
    if run.mixture is None and len(names) != 1:
        raise ConfigError(
            f"run {key(run)}: {len(names)} tasks but no mixture, which says how they share the steps. Make runs with "
            "`xling train TASK TASK … --mix proportional` or `make_run`"
        )
    if run.mixture is not None and (names != sorted(run.mixture.parts) or len(names) < 2):
        raise ConfigError(
            f"run {key(run)}: its mixture is of {', '.join(sorted(run.mixture.parts))}, its tasks are "
            f"{', '.join(names)}; both must be the same two tasks or more, sorted by name"
        )
    if run.backbone.digest is None:
        raise ConfigError(
            f"backbone {run.backbone.name!r} is not locked: its files were never read, so the run can be planned "
            "but not trained. `xling train` and `xling run` download it; without a network, give a copy's folder"
        )


def task_of(wanted: TaskRef, name: str, *, data_dir: Path | None, extra: Path | None) -> TaskSpec:
    """The task a run means, as long as it and its rows are what the run was made from."""
    task = tasks.with_labels(tasks.get(wanted.name, extra=extra), data_dir=data_dir)
    found = tasks.ref(task, data_dir=data_dir, extra=extra)
    if found != wanted:
        raise ConfigError(
            f"run {name}: task {task.name!r} or its rows are no longer what the run was made from (digest "
            f"{found.digest[:16]}, the run says {wanted.digest[:16]}): the task file or a data file was changed. "
            "Put it back, or plan the run again"
        )
    return task
