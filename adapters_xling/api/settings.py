"""Where things are and on what they run, and what is there: zoo and tasks."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

from adapters_xling import paths
from adapters_xling.errors import ConfigError, DataError, ZooError
from adapters_xling.prefix_cache import IN_MEMORY, PrefixCache
from adapters_xling.spec import TaskSpec
from adapters_xling.zoo import Zoo


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def has_gpu() -> bool:
    """Whether an NVIDIA device is there and not hidden, found without loading torch."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all") != "" and any(Path("/dev").glob("nvidia[0-9]*"))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where things are and on what they run; the same for every verb. Text is taken for a path where one is meant.

    Attributes:
        runs: trained entries (in `zoo/`), predictions, scores, logs and reports.
        data: folder of original data files.
        tasks: private folder of task files.
        device: `cpu`, `cuda`, or None to choose.
        workers: runs trained at a time; 0 means one per core, or with GPUs asked for as many as these allow.
        executor: where a grid's runs are computed: `local` (this machine) or `ray` (a cluster).
        gpus_per_run: part of a GPU that each run gets, above 0 up to 1; None leaves it to the executor.
        ray_address: of a Ray cluster; a Ray of this machine is started when there is none.
        checkpoint_every: time or steps between two checkpoints of a run (``10m``, ``90s``, ``500steps``), or ``never``.
        prefix_cache: how much of the hidden states of frozen layers is kept, and where: ``2GiB`` (of memory), ``disk``,
            ``50GiB,disk:FOLDER``, or ``off``; None is 2GiB where rows are read again (training, grids) and nothing in
            a single evaluation.
        attention: ``packed`` leaves padding out of every layer, ``padded`` never does, ``auto`` does on a GPU with
            variable-length attention, in bfloat16.
        compile: run encoders through `torch.compile` in `evaluate`, `evaluate_all`, `predict` and `predict_requests`
            (docs/speed.md); nothing else looks at it.
    """

    runs: Path | None = None
    data: Path | None = None
    tasks: Path | None = None
    device: str | None = None
    workers: int = 0
    executor: str = "local"
    gpus_per_run: float | None = None
    ray_address: str | None = None
    checkpoint_every: str = "10m"
    prefix_cache: str | None = None
    attention: str = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("runs", "data", "tasks"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, Path(value).expanduser())

    @property
    def checkpoint_interval(self) -> tuple[float, int]:
        """Seconds and steps between two checkpoints; 0 where that does not count.

        Raises:
            ConfigError: for text that says neither.
        """
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|steps?)", self.checkpoint_every.strip())
        if self.checkpoint_every == "never":
            return 0.0, 0
        if found is None or not float(found[1]) or (found[2].startswith("step") and "." in found[1]):
            raise ConfigError(
                f"checkpoints every {self.checkpoint_every!r}: give a time or a number of steps (90s, 10m, 1h, "
                "500steps), or never"
            )
        if found[2].startswith("step"):
            return 0.0, int(found[1])
        return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]], 0

    def prefixes(self, usual: PrefixCache = IN_MEMORY) -> PrefixCache:
        """Where hidden states of frozen layers are kept: as asked for, else `usual`.

        Raises:
            ConfigError: for text that does not say it.
        """
        return usual if self.prefix_cache is None else PrefixCache.parse(self.prefix_cache)

    @property
    def checkpoint_dir(self) -> Path:
        """Folder of the checkpoints of runs that are not finished."""
        return self.runs_dir / "checkpoints"

    @property
    def runs_dir(self) -> Path:
        """Folder of everything that is produced."""
        return self.runs or paths.runs_dir()

    @property
    def device_type(self) -> str:
        """Type of device that will be used (`cpu`, `cuda`, `mps`), found without loading torch."""
        return self.device.partition(":")[0] if self.device else ("cuda" if has_gpu() else "cpu")

    @property
    def num_workers(self) -> int:
        """Runs trained at a time: as asked for, else one on a GPU, else one per core."""
        return self.workers or (1 if self.device_type == "cuda" else cores())

    @property
    def data_dir(self) -> Path | None:
        """Folder of original data files.

        Raises:
            DataError: when a folder was named that does not exist.
        """
        found = self.data or paths.data_dir()
        if found is not None and not found.is_dir():
            raise DataError(f"data folder {found} does not exist: correct --data-dir or XLING_DATA")
        return found


def open_zoo(settings: Settings | str | Path | None = None) -> Zoo:
    """Open the zoo of trained entries below the runs folder, with the shipped entries behind it.

    Args:
        settings: folders, or the runs folder alone.
    """
    if isinstance(settings, (str, Path)):
        settings = Settings(runs=Path(settings).expanduser())
    return Zoo((settings or Settings()).runs_dir / "zoo")


def codes(languages: str | Sequence[str] | None) -> list[str] | None:
    """Language codes as a list, each once, from one or from text with commas between them; None for all.

    Raises:
        ConfigError: for none at all.

    >>> codes("de, sw, de"), codes(("de", "sw")), codes(None)
    (['de', 'sw'], ['de', 'sw'], None)
    """
    if languages is None:
        return None
    given = languages.split(",") if isinstance(languages, str) else languages
    found = list(dict.fromkeys(code.strip() for code in given if code.strip()))
    if not found:
        raise ConfigError("languages is empty: name one or more, or leave it out for all that the task has")
    return found


def require_limit(limit: int | None) -> None:
    """Refuse a number of first rows that leaves none, or counts from the end.

    Raises:
        ConfigError: saying what is valid.
    """
    if limit is not None and (not isinstance(limit, Integral) or limit < 1):
        raise ConfigError(f"limit is {limit!r}: give a whole number of rows, 1 or more, or leave it out for all")


def local_folder(backbone: str) -> Path | None:
    """The folder of a local backbone; None for one that is known by name."""
    from adapters_xling.backbones import BACKBONES

    return None if backbone in BACKBONES or not Path(backbone).is_dir() else Path(backbone)


def named_folder(backbone: str | None) -> Path | None:
    """The folder a person named as that of an entry's backbone; None for one that is known by name.

    Raises:
        ZooError: for a name that is neither.
    """
    from adapters_xling.backbones import BACKBONES

    if backbone is None or backbone in BACKBONES:
        return None
    folder = Path(backbone).expanduser()
    if not folder.is_dir():
        raise ZooError(
            f"backbone folder {backbone} does not exist: give the folder with config.json, tokenizer.json and "
            "model.safetensors that the entry was trained on"
        )
    return folder


def tasks(settings: Settings | None = None) -> list[TaskSpec]:
    """Every task there is, shipped and private."""
    from adapters_xling import tasks as catalog

    extra = (settings or Settings()).tasks
    return [catalog.get(name, extra=extra) for name in catalog.names(extra=extra)]


def task(name: str, settings: Settings | None = None) -> TaskSpec:
    """One task by name.

    Raises:
        UnknownName: with the closest names.
    """
    from adapters_xling import tasks as catalog

    return catalog.get(name, extra=(settings or Settings()).tasks)
