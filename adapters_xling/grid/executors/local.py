"""Jobs in this process, one after the other, or in processes of this machine, each of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from adapters_xling.errors import ConfigError

from .base import Executor, Resources, WorkerDied

GRACE_S = 10.0
"""Seconds a worker has to clean up when its parent was killed."""


def local(
    *, workers: int, default_workers: int, gpus_per_run: float | None, device: str | None, address: str | None, **_: Any
) -> Executor:
    """Open the executor of this machine.

    Raises:
        ConfigError: for more GPUs than are here, and for settings of a cluster.
    """
    if address is not None:
        raise ConfigError(f"--ray-address {address} is of --executor ray; the local executor uses this machine only")
    if gpus_per_run is None:
        count = workers or default_workers
        return Here() if count == 1 else Local(count)
    if device is not None and device != "cuda":
        raise ConfigError(f"--gpus-per-run says which GPU each run gets, --device {device} says another; give one")
    return _on_gpus(workers, gpus_per_run, gpus())


def _on_gpus(workers: int, gpus_per_run: float, here: Sequence[str]) -> Local:
    runs_per_gpu = int(1 / gpus_per_run + 1e-9)
    possible = runs_per_gpu * len(here)
    if not possible or workers > possible:
        wanted = f"{workers} --workers with --gpus-per-run {gpus_per_run:g}" if workers else "--gpus-per-run"
        raise ConfigError(
            f"{wanted}: this machine shows {len(here)} GPUs, so at most {possible} runs at a time. Leave the option "
            "out to compute on the CPU, or ask for less"
        )
    places = [gpu for gpu in here for _ in range(runs_per_gpu)]
    return Local(workers or possible, gpus=places)


def gpus() -> list[str]:
    """The NVIDIA devices of this machine as CUDA_VISIBLE_DEVICES names them, those hidden left out; loads no torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    found = (path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    return sorted(found, key=int)


class Here:
    """One job at a time in this process: nothing to start, and nothing to fall back to when it is killed."""

    slots = 1
    advice = ""

    def submit(self, job: Callable[[], Any], resources: Resources) -> Future[Any]:
        """Compute at once."""
        future: Future[Any] = Future()
        future.set_result(job())
        return future

    def shutdown(self) -> None:
        """Nothing to end."""


class Local:
    """Processes of this machine, each in a pool of its own, so that one that is killed takes no other along.

    Args:
        slots: how many.
        gpus: what each may see as its only GPU (CUDA_VISIBLE_DEVICES); by default all see all.
    """

    advice = "try fewer --workers"

    def __init__(self, slots: int, *, gpus: Sequence[str] = ()) -> None:
        self.slots = slots
        self._gpus: list[str | None] = [*gpus] or [None] * slots
        self._pools: dict[int, ProcessPoolExecutor] = {}
        self._busy: set[int] = set()

    def submit(self, job: Callable[[], Any], resources: Resources) -> Future[Any]:
        """Start a job in a free process."""
        slot = next(i for i in range(self.slots) if i not in self._busy)
        self._busy.add(slot)
        if slot not in self._pools:
            self._pools[slot] = ProcessPoolExecutor(
                1, mp_context=get_context("spawn"), initializer=_begin, initargs=(self._gpus[slot],)
            )
        answer: Future[Any] = Future()

        def ended(done: Future[Any]) -> None:
            try:
                found = done.result()
            except BrokenProcessPool:
                self._pools.pop(slot).shutdown(wait=False)
                self._busy.discard(slot)
                answer.set_exception(WorkerDied("its worker process was killed (out of memory?)"))
            except (CancelledError, BaseException) as err:  # an interrupt, which the user gave to all
                self._busy.discard(slot)
                answer.set_exception(err)
            else:
                self._busy.discard(slot)
                answer.set_result(found)

        try:
            self._pools[slot].submit(job).add_done_callback(ended)
        except BrokenProcessPool:  # it died while it had nothing to do
            del self._pools[slot]
            self._busy.discard(slot)
            return self.submit(job, resources)
        return answer

    def shutdown(self) -> None:
        """Interrupt what runs and wait until it has cleaned up behind itself."""
        for slot, pool in list(self._pools.items()):
            if slot in self._busy:
                for process in list((getattr(pool, "_processes", None) or {}).values()):
                    with contextlib.suppress(OSError):
                        process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)
        self._pools.clear()


def _begin(gpu: str | None) -> None:
    """Make a fresh worker see its GPU, and be interrupted by its parent alone: a terminal would interrupt it twice."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end_with_parent()


def end_with_parent() -> None:
    """Let a worker end when its parent has: who kills `xling run` does not want its workers to train on unseen."""
    threading.Thread(target=_follow, name="end with the parent", daemon=True).start()


def _follow() -> None:
    parent = parent_process()
    if parent is None:
        return
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)  # interrupts the job, which cleans up behind itself
    time.sleep(GRACE_S)
    os._exit(1)
