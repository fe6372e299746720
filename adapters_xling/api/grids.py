"""Grids: plan, estimate, run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adapters_xling import paths, published
from adapters_xling.errors import MissingData

from .settings import Settings, local_folder, open_zoo, require_limit

if TYPE_CHECKING:
    from adapters_xling.grid import Estimate, Outcome, Plan


def plan(
    name: str,
    *,
    narrow: Mapping[str, Sequence[Any]] | None = None,
    download: bool = False,
    settings: Settings | None = None,
) -> Plan:
    """Expand a grid without training anything; `download` fetches a hub backbone, which training needs."""
    from adapters_xling import grid

    settings = settings or Settings()
    spec = grid.load_grid(name, narrow=dict(narrow or {}))
    if spec.published:
        published.load_published(spec.published)  # a name that is wrong is said now and not after the training
    planned = grid.expand(spec, data_dir=settings.data_dir, extra_tasks=settings.tasks, download=download)
    planned.origin = grid.Origin.of(name, narrow or {})
    return planned


def require_rows(planned: Plan) -> None:
    """Refuse a plan with runs that cannot be trained here, before anything is downloaded or trained.

    Raises:
        MissingData: naming each task whose training rows are not at hand, and what to do.
    """
    if planned.lacking:
        reasons = "\n".join(planned.lacking.values())
        raise MissingData(
            f"{reasons}\nNothing was trained. To run the rest of the grid add --without-lacking, or leave these tasks "
            "out: --intermediate, --targets"
        )


def estimate(
    planned: Plan, *, limit: int | None = None, gpu_memory: str | None = None, settings: Settings | None = None
) -> Estimate:
    """What a plan still lacks will take here: time of training and scoring, disk, and memory of each run.

    Stands on what was timed on this machine, else on the encoder's size and the machine's speed. Loads no torch.

    Args:
        planned: what `plan` gave.
        limit: score only the first rows of every set.
        gpu_memory: memory of the GPU to plan for, e.g. ``24GiB``; by default that of the visible one, and of this
            machine divided by the workers where runs train on its processor.
        settings: folders, device and workers.

    Raises:
        ConfigError: for memory that is no number with a unit, or a limit below 1.
    """
    from adapters_xling import grid

    settings = settings or Settings()
    require_limit(limit)
    device, memory = grid.device_memory(settings.device_type, gpu_memory, workers=settings.num_workers)
    return grid.estimate(
        planned,
        zoo=open_zoo(settings),
        runs_dir=settings.runs_dir,
        workers=settings.num_workers if device == settings.device_type else 1,
        device=device,
        memory=memory,
        data_dir=settings.data_dir,
        extra_tasks=settings.tasks,
        limit=limit,
        prefix_cache=settings.prefixes(),
    )


def run(
    planned: Plan,
    *,
    limit: int | None = None,
    settings: Settings | None = None,
    expected: Estimate | None = None,
    on_event: Callable[[str, str, str], Any] = lambda *_: None,
) -> Outcome:
    """Train what a plan still lacks and score all its cells.

    Args:
        planned: what `plan` gave.
        limit: score only the first rows of every set.
        settings: folders, device and workers.
        expected: what `estimate` said of this plan; computed here when it is not given.
        on_event: see `grid.execute`.

    Raises:
        MissingData: when training rows of a run are not at hand.
        XlingError: before anything trains, when the disk cannot hold what will be written.
    """
    from adapters_xling import grid

    settings = settings or Settings()
    require_limit(limit)
    require_rows(planned)
    grid.require_room(expected or estimate(planned, limit=limit, settings=settings), settings.runs_dir)
    runs, backbone = settings.runs_dir.absolute(), local_folder(planned.grid.backbone)
    data, private = settings.data_dir, settings.tasks or paths.private_tasks_dir()
    common = grid.Common(
        zoo_root=runs / "zoo",
        runs_dir=runs,
        data_dir=data and data.absolute(),
        extra_tasks=settings.tasks and settings.tasks.absolute(),
        device=settings.device,
        limit=limit,
        backbone=backbone and backbone.absolute(),
        checkpoint_s=settings.checkpoint_interval[0],
        checkpoint_steps=settings.checkpoint_interval[1],
        prefix_cache=settings.prefixes().divided(settings.num_workers),
        attention=settings.attention,
    )
    executor = grid.open_executor(
        settings.executor,
        workers=settings.workers,
        default_workers=settings.num_workers,
        gpus_per_run=settings.gpus_per_run,
        device=settings.device,
        address=settings.ray_address,
        shared=tuple(folder.absolute() for folder in (runs, data, private, backbone) if folder),
    )
    return grid.execute(planned, common, executor=executor, on_event=on_event)
