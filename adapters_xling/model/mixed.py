"""One encoder pass over rows that belong to different entries: each row through its own route, to its own head.

Shapes: N encoder rows of a segment, T tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapters_xling.errors import ConfigError
from adapters_xling.spec import Route, TaskSpec
from adapters_xling.tasks import kinds
from adapters_xling.tasks.kinds.base import Batch

from .core import ENCODER_INPUTS, Model


@dataclass(frozen=True)
class Segment:
    """Rows of one entry in a mixed batch.

    Attributes:
        model: the entry, opened beside the others of the batch.
        task: whose head reads them.
        batch: as the kind's `collate` made it, on the model's device.
    """

    model: Model
    task: TaskSpec
    batch: Batch


def forward_mixed(segments: Sequence[Segment]) -> list[Tensor]:
    """Logits of each segment, from one pass of the encoder they share.

    They are what each entry gives alone, up to rounding: a product over other rows may be summed in another order.

    Raises:
        ConfigError: for entries in different encoders, for heads that read different hidden states, for a segment
            without a head, and for what its method cannot run side by side (prefixes).
    """
    first = segments[0].model
    if any(one.model.encoder is not first.encoder or one.model.turns is None for one in segments):
        raise ConfigError("a mixed batch needs entries in one encoder: open each beside the first (open_entry)")
    layers = {one.model.layer_for(one.task) for one in segments}
    if len(layers) > 1:
        found = ", ".join("the last" if layer is None else str(layer) for layer in sorted(layers, key=str))
        raise ConfigError(f"a mixed batch is read at one hidden state; these tasks read {found}. Run them apart")
    width = max(one.batch["input_ids"].shape[1] for one in segments)
    named = [name for name in ENCODER_INPUTS if any(name in one.batch for one in segments)]
    inputs = {name: torch.cat([_widened(one.batch, name, width, first.pad_id) for one in segments]) for name in named}
    rows: list[tuple[slice, Route]] = []
    start = 0
    for one in segments:
        assert one.model.route is not None
        end = start + len(one.batch["input_ids"])
        rows.append((slice(start, end), one.model.route))
        start = end
    first_token = all(one.model.reads_first_token(one.task) for one in segments)
    hidden_NTD = first.encode_rows(inputs, rows, layer=layers.pop(), first_token=first_token)
    outputs = []
    assert first.turns is not None
    for one, (part, _) in zip(segments, rows, strict=True):
        first.turns.take(one.model)  # a head that goes back to the token vectors undoes its own blocks
        own = hidden_NTD[part, : one.batch["input_ids"].shape[1]]
        kind = kinds.get(one.task.kind)
        outputs.append(kind.shape_logits(one.model.read(own, one.batch, one.task), one.batch))
    return outputs


def _widened(batch: Batch, name: str, width: int, pad_id: int) -> Tensor:
    """One input of the encoder, as wide as the widest segment; what a segment does not have is 0 (one text alone)."""
    ids_NT = batch["input_ids"]
    rows_NT = batch[name] if name in batch else torch.zeros_like(ids_NT)
    value = pad_id if name == "input_ids" else 0
    return torch.nn.functional.pad(rows_NT, (0, width - ids_NT.shape[1]), value=value)
