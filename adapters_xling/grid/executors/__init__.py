"""Where the jobs of a grid are computed: in this process, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adapters_xling.errors import unknown

from .base import Executor, Resources, WorkerDied
from .local import Here, Local, local
from .ray_cluster import RayCluster, on_ray

__all__ = ["EXECUTORS", "Executor", "Here", "Local", "RayCluster", "Resources", "WorkerDied", "open_executor"]

EXECUTORS: dict[str, Callable[..., Executor]] = {"local": local, "ray": on_ray}


def open_executor(
    name: str = "local",
    *,
    workers: int = 0,
    default_workers: int = 1,
    gpus_per_run: float | None = None,
    device: str | None = None,
    address: str | None = None,
    shared: tuple[Path, ...] = (),
) -> Executor:
    """Open an executor by name.

    Args:
        name: ``local`` or ``ray``.
        workers: jobs at a time; 0 leaves it to the executor.
        default_workers: what that is on this machine when runs do not ask for GPUs.
        gpus_per_run: part of a GPU that each run gets; None leaves it to the executor.
        device: type of device that was asked for, if any.
        address: of a Ray cluster.
        shared: folders every worker must be able to read, the first one to write.

    Raises:
        UnknownName: for another name.
        ConfigError: for resources this machine or cluster does not have, and when Ray is not installed.
        XlingError: when a machine of the cluster does not see what must be shared.
    """
    if name not in EXECUTORS:
        raise unknown("executor", name, EXECUTORS, "xling run --executor")
    return EXECUTORS[name](
        workers=workers,
        default_workers=default_workers,
        gpus_per_run=gpus_per_run,
        device=device,
        address=address,
        shared=shared,
    )
