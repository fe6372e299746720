"""Jobs on a Ray cluster, or on a Ray of this machine: GPUs per run as resources, one worker process per job."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import secrets
import socket
import sys
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any

from adapters_xling.errors import ConfigError, XlingError
from adapters_xling.zoo.origin import COMMAND, command

from .base import Executor, Resources, WorkerDied

LOCAL = "local"
"""The address that means: start one here."""
ANSWER_S = 120
"""Seconds a machine of the cluster has for its first answer."""
REACH_S = 10
"""Seconds the address of a cluster has to accept a connection."""
STOP_S = 10
"""Seconds interrupted jobs have to clean up."""
SENT = ("XLING_", "HF_")
"""Beginnings of environment variables that workers get from here."""
SECRET = ("HF_TOKEN", "HF_TOKEN_PATH")


def on_ray(
    *,
    workers: int,
    gpus_per_run: float | None,
    device: str | None,
    address: str | None,
    shared: tuple[Path, ...],
    **_: Any,
) -> Executor:
    """Connect to a cluster (or start a Ray of this machine) and check that it can compute a grid.

    Raises:
        ConfigError: when Ray is not installed or the cluster has not what runs ask for.
        XlingError: when there is no cluster, or a machine of it does not see the shared folders.
    """
    address = address or os.environ.get("RAY_ADDRESS") or LOCAL
    ray = _library(address)
    if device not in (None, "cpu", "cuda"):
        raise ConfigError(f"--device {device}: on Ray a run gets its own GPU; give --device cuda, cpu or nothing")
    own = not ray.is_initialized()
    if own:
        _connect(ray, address)
    try:
        there = ray.cluster_resources()
        num_gpus, num_cpus = there.get("GPU", 0.0), there.get("CPU", 0.0)
        if gpus_per_run is None:
            gpus_per_run = 1.0 if num_gpus and device != "cpu" else 0.0
        if gpus_per_run > num_gpus or (device == "cuda" and not gpus_per_run):
            raise ConfigError(
                f"the Ray cluster has {num_gpus:g} GPUs, each run asks for {gpus_per_run or 1:g}; give another "
                "--gpus-per-run, --device cpu, or an --ray-address with GPUs"
            )
        possible = int(num_gpus / gpus_per_run + 1e-9) if gpus_per_run else int(num_cpus)
        cluster = RayCluster(ray, slots=workers or max(possible, 1), gpus_per_run=gpus_per_run, own=own)
        cluster.check(shared)
    except BaseException:
        if own:
            ray.shutdown()
        raise
    return cluster


class RayCluster:
    """Jobs as Ray tasks. Ray is told not to repeat them: who repeats a run is the grid, from its checkpoint."""

    advice = "give each run more (--gpus-per-run), or run fewer at a time (--workers)"

    def __init__(self, ray: Any, *, slots: int, gpus_per_run: float, own: bool) -> None:
        self._ray, self.slots, self._gpus, self._own = ray, slots, gpus_per_run, own
        self._running: dict[Future[Any], Any] = {}
        self._task = ray.remote(max_retries=0, max_calls=1)(_in_worker)

    def submit(self, job: Callable[[], Any], resources: Resources) -> Future[Any]:
        """Hand a job to the cluster, which starts it when there is room."""
        num_gpus = self._gpus if resources.gpu else 0
        options = {"num_cpus": 1, "num_gpus": num_gpus, "name": "xling-job"}
        reference = self._task.options(**options).remote(_environment(), [self._ray.put(job)])
        answer: Future[Any] = Future()
        inner = reference.future()
        self._running[inner] = reference

        def ended(done: Future[Any]) -> None:
            self._running.pop(inner, None)
            try:
                answer.set_result(done.result())
            except self._ray.exceptions.RayTaskError as err:  # before the job began: it returns its own failures
                answer.set_result(f"the worker could not begin: {str(err.cause or err).strip().splitlines()[-1]}")
            except BaseException as err:
                answer.set_exception(WorkerDied(f"its Ray worker died ({str(err).strip().splitlines()[0]})"))

        inner.add_done_callback(ended)
        return answer

    def shutdown(self) -> None:
        """Interrupt what runs, and end Ray if it was started here."""
        left = dict(self._running)
        for force in (False, True):
            for inner, reference in left.items():
                if not inner.done():
                    with contextlib.suppress(Exception):
                        self._ray.cancel(reference, force=force)
            if not wait_for(left, timeout=STOP_S).not_done:
                break
        if self._own:
            self._ray.shutdown()

    def check(self, shared: Sequence[Path]) -> None:
        """Refuse a cluster with a machine that runs another version or does not see the folders.

        Args:
            shared: absolute folders; the first one must be writable from everywhere.

        Raises:
            XlingError: naming machine, folder and what to do.
        """
        if not shared:
            return
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        mark = f".xling-{uuid.uuid4().hex[:12]}"
        task = self._ray.remote(num_cpus=0, max_retries=0)(_look)
        shared[0].mkdir(parents=True, exist_ok=True)
        (shared[0] / mark).write_text(mark, encoding="utf-8")
        try:
            for node in self._ray.nodes():
                if not node["Alive"] or not node["Resources"].get("CPU"):
                    continue
                strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                name, answer = node.get("NodeManagerHostname", node["NodeID"]), f"{mark}-{node['NodeID'][:12]}"
                look = task.options(scheduling_strategy=strategy)
                given = (_version(), [str(folder) for folder in shared], mark, answer)
                try:
                    problem = self._ray.get(look.remote(_environment(), given), timeout=ANSWER_S)
                except self._ray.exceptions.RayError as err:
                    problem = f"it gave no answer ({str(err).strip().splitlines()[-1]}); adapters_xling must be there"
                if problem is None and not (shared[0] / answer).is_file():
                    problem = f"what it writes to {shared[0]} does not arrive here"
                if problem is not None:
                    raise XlingError(
                        f"machine {name} of the Ray cluster cannot take part: {problem}. Every machine needs the same "
                        "version of adapters_xling, and runs, data and local backbone in folders that all share under "
                        "the same path (--runs, --data-dir)"
                    )
        finally:
            for file in shared[0].glob(f"{mark}*"):
                with contextlib.suppress(OSError):
                    file.unlink()


def _library(address: str) -> Any:
    """Ray, set up by what it reads when it is imported."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is reported to anybody
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 leaves a run the time that nobody else wants
    if address == LOCAL and "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
        # It listens to the network; it shall obey this process alone.
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    try:
        import ray
    except ImportError as err:
        raise ConfigError(
            "--executor ray needs Ray, which is not installed: pip install 'adapters_xling[ray]', or use "
            "--executor local"
        ) from err
    return ray


def _connect(ray: Any, address: str) -> None:
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": True}
    try:
        if address == LOCAL:
            ray.init(address=LOCAL, include_dashboard=False, **quiet)
        else:
            host, _, port = address.rpartition(":")
            if host and "/" not in host and port.isdigit():  # Ray itself would try for more than a minute
                socket.create_connection((host, int(port)), timeout=REACH_S).close()
            ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as err:
        where = "Ray could not be started here" if address == LOCAL else f"there is no Ray cluster at {address}"
        raise XlingError(
            f"{where}: {str(err).strip().splitlines()[0]}. Give its address with --ray-address host:port (or "
            "RAY_ADDRESS), start one with `ray start --head`, or use --executor local"
        ) from err


def _environment() -> dict[str, str]:
    """What workers must know of this process's environment; a relative path means nothing elsewhere."""
    sent = {name: value for name, value in os.environ.items() if name.startswith(SENT) and name not in SECRET}
    paths = {name for name in sent if name.startswith("XLING_")} | (set(sent) & {"HF_HOME", "HF_DATASETS_CACHE"})
    sent |= {name: str(Path(sent[name]).expanduser().absolute()) for name in paths - {COMMAND}}
    return {COMMAND: command(sys.argv), **sent}


def _version() -> str:
    return importlib.metadata.version("adapters_xling")


def _in_worker(environment: dict[str, str], jobs: list[Any]) -> Any:
    """Take over the environment, and only then get the job, which loads what may read it. Runs in a worker."""
    import ray

    os.environ.update(environment)
    return ray.get(jobs[0])()


def _look(environment: dict[str, str], given: tuple[str, list[str], str, str]) -> str | None:
    """What keeps this machine from taking part; None when nothing does. Runs in a worker."""
    os.environ.update(environment)
    version, folders, mark, answer = given
    if version != _version():
        return f"it has adapters_xling {_version()}, here is {version}"
    for folder in folders:
        if not Path(folder).is_dir():
            return f"it has no folder {folder}"
    if not (Path(folders[0]) / mark).is_file():
        return f"its folder {folders[0]} is another one than here"
    try:
        (Path(folders[0]) / answer).write_text(mark, encoding="utf-8")
    except OSError as err:
        return f"it cannot write to {folders[0]} ({err.strerror or err})"
    return None
