"""What a grid asks of whatever computes its jobs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol


class WorkerDied(Exception):
    """The process of a job ended without an answer: killed, out of memory, or its machine went away."""


@dataclass(frozen=True)
class Resources:
    """What one job needs for itself.

    Attributes:
        gpu: whether it computes on a GPU where there are some; how much of one, the executor knows.
    """

    gpu: bool = True


class Executor(Protocol):
    """Computes jobs, each in a process that others' failures do not reach."""

    @property
    def slots(self) -> int:
        """Jobs that may be given to it at a time."""

    @property
    def advice(self) -> str:
        """What a user can do when workers die again and again."""

    def submit(self, job: Callable[[], Any], resources: Resources) -> Future[Any]:
        """Start a job that returns its failure instead of raising it; the future raises `WorkerDied` and nothing else.

        `job` must be picklable: a function of a module with plain data bound to it.
        """

    def shutdown(self) -> None:
        """End everything that still runs, as an interrupt of the user would, and give the resources back."""
