"""One batch read by several entries in one encoder: what is the same for all of them is computed once.

Shapes: N encoder rows, T tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from adapters_xling.batching import filled
from adapters_xling.composition import entries
from adapters_xling.methods import resolve
from adapters_xling.spec import Route, TaskSpec
from adapters_xling.tasks.kinds.base import Batch
from adapters_xling.zoo import Zoo

from .core import ENCODER_INPUTS, Model


def num_unchanged(name: str, route: Route | None, *, zoo: Zoo, num_layers: int) -> int:
    """Highest hidden state up to which an entry computes what the bare backbone does; -1 for none.

    What it stands on counts, and so does what it is run over instead of that.

    Args:
        name: key of the entry.
        route: over entries, instead of the one it was trained on.
        zoo: where entries are.
        num_layers: of the encoder.
    """
    waiting = [name, *(entries(route) if route is not None else ())]
    seen: set[str] = set()
    lowest = num_layers + 1
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            run = zoo.get(one, verify=False).card.run
            lowest = min(lowest, resolve(run.method).lowest_layer(num_layers))
            waiting += entries(run.route)
    return lowest - 1


@dataclass(frozen=True)
class Shared:
    """A batch on its way to several entries.

    Attributes:
        batch: as the kind's `collate` made it, on the models' device.
        inputs: of the encoder: the batch's own, or filled up to a shape that comes again.
        start: hidden state that all entries go on from.
        hidden: its tensor (N,T,D); None where each starts from the tokens.
    """

    batch: Batch
    inputs: Mapping[str, Tensor]
    start: int = 0
    hidden: Tensor | None = None

    @classmethod
    def of(cls, batch: Batch, task: TaskSpec, models: Sequence[Model], *, unchanged: int = 0, fill: int = 0) -> Shared:
        """Make a batch ready, and run the layers below every entry.

        Args:
            batch: on the models' device.
            task: whose heads read it.
            models: opened beside each other.
            unchanged: hidden state up to which all of them compute the same; below 1 nothing is shared.
            fill: tokens of a batch, to fill it up to a shape that comes again; 0 leaves it as it is.
        """
        first = models[0]
        inputs = {name: batch[name] for name in ENCODER_INPUTS if name in batch}
        if fill:
            inputs = filled(inputs, pad_id=first.pad_id, tokens=fill, most=first.max_positions)
        stops = [first.num_layers if (layer := one.layer_for(task)) is None else layer for one in models]
        start = min(unchanged, *stops)
        if len(models) == 1 or start < 1:
            return cls(batch, inputs)
        return cls(batch, inputs, start, first.encode(inputs, layer=start))

    def logits(self, model: Model, task: TaskSpec) -> Tensor:
        """What `Model.forward` gives for the batch, up to rounding. Raises as it does."""
        logits: Tensor = model(self.batch, task, inputs=self.inputs, start_layer=self.start, hidden=self.hidden)
        return logits
