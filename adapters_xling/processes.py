"""The processes that train one run together (`accelerate launch`), and what they say to each other.

Every process has the whole list of what is to be done and takes its share of it; sums and gathered results are the same
in all of them. With one process everything here is the identity.
"""

from __future__ import annotations

import atexit
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import distributed

# Its functions' default arguments hold the group there is when it is first imported, which optimisers do in passing. A
# held group outlives `destroy_process_group`, and its threads abort a process that ends while they let go of a tensor.
# So it is imported here, before any group is joined.
if distributed.is_available():
    import torch.distributed.nn.functional

from .errors import SaidElsewhere, XlingError

T = TypeVar("T")

BUCKET_BYTES = 64 * 2**20
"""Gradients that are added up at a time: a larger bucket copies more of them, a smaller one waits more often."""


@dataclass(frozen=True)
class Processes:
    """One process's view of those it trains with.

    Attributes:
        index: number of this process, from 0.
        count: how many there are.
        device: where tensors must be for the processes to exchange them.
    """

    index: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def joined(cls, device: torch.device) -> Processes:
        """The processes of the group this one belongs to; one alone where there is no group."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return ALONE
        atexit.register(_leave)
        return cls(distributed.get_rank(), distributed.get_world_size(), device)

    @property
    def first(self) -> bool:
        """Whether this process writes, tracks and prints."""
        return self.index == 0

    # --- dividing work ------------------------------------------------------------------------------------------

    def share(self, parts: Sequence[T]) -> Sequence[T]:
        """This process's part of a list of things to compute; as long in every process, as sharded weights need it.

        >>> Processes(1, 2).share("abcde"), Processes(1, 2).share("abcd"), Processes(1, 2).share("a")
        (['b', 'd', 'a'], ['b', 'd'], ['a'])
        """
        if self.count == 1 or not parts:
            return parts
        own = list(parts[self.index :: self.count])
        return own if len(own) == math.ceil(len(parts) / self.count) else [*own, parts[0]]

    # --- saying things ------------------------------------------------------------------------------------------

    def everyone(self, value: T) -> list[T]:
        """The value of every process, in their order."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        self._exchange(lambda: distributed.all_gather_object(found, value))
        return found

    def first_says(self, value: T) -> T:
        """The first process's value, in all of them."""
        if self.count == 1:
            return value
        said = [value]
        self._exchange(lambda: distributed.broadcast_object_list(said, src=0, device=self.device))
        return said[0]

    def on_first(self, function: Callable[[], T]) -> T | None:
        """Call a function in the first process, the others waiting; its value there, None elsewhere.

        Raises:
            SaidElsewhere: in the others, when it failed in the first, which raises what the function raised.
        """
        if self.count == 1:
            return function()
        found: T | None = None
        failure: Exception | None = None
        if self.first:
            try:
                found = function()
            except Exception as err:
                failure = err
        why = self.first_says(None if failure is None else f"{type(failure).__name__}: {failure}")
        if failure is not None:
            raise failure
        if why is not None:
            raise SaidElsewhere(f"process 0 failed: {why}")
        return found

    def in_turn(self, function: Callable[[], T]) -> T:
        """Call a function in all processes, the first one before the others, which find what it left on disk."""
        found = self.on_first(function)
        return found if self.first else function()  # type: ignore[return-value]

    # --- adding up ----------------------------------------------------------------------------------------------

    def add_up(self, values: Sequence[float]) -> list[float]:
        """Sums over all processes, in double precision."""
        if self.count == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        self._exchange(lambda: distributed.all_reduce(total))
        return total.tolist()

    def add_up_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by its sum over all processes; which parameters have one must be the same in all.

        One sum per optimiser step, over exactly the gradients there are. A wrapper that sums during the backward pass
        (DistributedDataParallel) would sum once per micro-batch, average where a weighted sum is wanted, and search
        each step for the heads of other tasks, which get no gradient.
        """
        if self.count == 1:
            return
        for bucket in _buckets([p.grad for p in parameters if p.grad is not None]):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            self._exchange(lambda flat=flat: distributed.all_reduce(flat))  # type: ignore[misc]
            for gradient, part in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def _exchange(self, function: Callable[[], Any]) -> None:
        try:
            function()
        except RuntimeError as err:
            raise XlingError(
                f"process {self.index} of {self.count} lost the others: one of them was killed or failed, and has said "
                "why above if it could. Start the same command again; the run goes on from its last checkpoint "
                f"({str(err).splitlines()[0]})"
            ) from err


ALONE = Processes()


def _buckets(tensors: Sequence[torch.Tensor]) -> Iterable[list[torch.Tensor]]:
    """Neighbours of one type that together fill a bucket; a tensor above its size is alone."""
    sizes = itertools.accumulate(tensor.numel() * tensor.element_size() for tensor in tensors)
    marked = [((tensor.dtype, size // BUCKET_BYTES), tensor) for tensor, size in zip(tensors, sizes, strict=True)]
    for _, group in itertools.groupby(marked, key=lambda pair: pair[0]):
        yield [tensor for _, tensor in group]


def _leave() -> None:
    """Leave the group in order, so that the backend does not complain of it."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
