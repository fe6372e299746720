"""Writing what a run made, and the probe that proves later that it still computes the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapters_xling.errors import ZooError
from adapters_xling.methods.slots import slot_name
from adapters_xling.spec import RunSpec, TaskSpec, key
from adapters_xling.tasks import kinds
from adapters_xling.tasks.examples import Example, Features
from adapters_xling.tasks.kinds.common import pad_rows
from adapters_xling.zoo import HeadCard, Probe

from .core import Model, task_of_head

ENCODER = "encoder"
"""Folder of an entry with the method's native files."""
HEADS = "heads.safetensors"
"""File of an entry with pooler and heads."""
PROBE_EXAMPLES = 4
PROBE_VALUES = 64
"""Numbers kept per probe input; a longer output is cut, which still meets every layer of the encoder."""
PROBE_TOLERANCE = 2e-4
"""Largest difference between machines that rounding explains, for outputs up to 1; larger outputs scale it."""


def save_entry(model: Model, run: RunSpec, task: TaskSpec, folder: Path, examples: Sequence[Example]) -> dict[str, Any]:
    """Write an entry's weights and return what its card must say about them.

    Args:
        model: as `build` made it, trained.
        run: what it is.
        task: the task of the probe.
        folder: the draft's folder; gets `encoder/` (native files) and `heads.safetensors`.
        examples: rows of which the first few become the probe.

    Returns:
        Keyword arguments of `zoo.Facts`: heads, probe, numbers of parameters, fingerprint and licence of the backbone.
    """
    facts = save_weights(model, run, folder)
    return {**facts, "probe": probe(model, task, examples, max_length=run.recipe_for(task.name).max_length)}


def save_weights(model: Model, run: RunSpec, folder: Path) -> dict[str, Any]:
    """Write an entry's weights; returns what `save_entry` does, without the probe."""
    from safetensors.torch import save_file

    model.eval_mode()
    native = folder / ENCODER
    model.method.save(model.encoder, slot_name(0), native, name=key(run).replace(".", "-"), backbone=model.backbone)
    if model.head_cards:
        state = {name: t.detach().cpu().contiguous() for name, t in model.head_state().items()}
        save_file(state, folder / HEADS, metadata={"format": "pt"})
    trainable = sum(p.numel() for p in model.trainable_parameters().values())
    return {
        "heads": dict(model.head_cards),
        "backbone_fingerprint": model.backbone_fingerprint,
        "backbone_licence": model.backbone_licence,
        "num_trainable": trainable,
        "num_parameters": sum(p.numel() for p in model.parameters()),
    }


def probe(model: Model, task: TaskSpec, examples: Sequence[Example], *, max_length: int) -> Probe | None:
    """Record what a model answers to a few examples; None without examples.

    Token ids are kept, not texts: what is to be proven is the weights.
    """
    kind = kinds.get(task.kind)
    features = kind.encode(list(examples[:PROBE_EXAMPLES]), model.tokenizer, task, max_length=max_length)
    inputs: list[dict[str, Any]] = [
        {"input_ids": one.input_ids} if one.second is None else {"input_ids": one.input_ids, "second": one.second}
        for one in features[:PROBE_EXAMPLES]
    ]
    if not inputs:
        return None
    return probe_of(model, task, inputs)


def probe_of(model: Model, task: TaskSpec, inputs: Sequence[dict[str, Any]]) -> Probe:
    """Record what a model answers to inputs that are encoded already."""
    outputs = _answers(model, task, inputs)
    largest = max(abs(value) for row in outputs for value in row)
    return Probe(
        task=task.name,
        inputs=tuple(inputs),
        outputs=outputs,
        tolerance=PROBE_TOLERANCE * max(1.0, largest),
    )


def check_probe(model: Model, expected: Probe) -> None:
    """Refuse a model that does not answer an entry's probe as the entry did when it was made.

    Raises:
        ZooError: with the largest difference, or when the outputs have another form.
    """
    task = _probe_task(model.head_cards, expected)
    if problem := _unusable(expected, vocabulary=len(model.tokens().vectors), longest=model.max_positions):
        raise ZooError(f"the probe cannot be run: {problem}; the card contradicts itself: pull the entry again")
    found = _answers(model, task, list(expected.inputs))
    same_form = [len(row) for row in found] == [len(row) for row in expected.outputs]
    worst = (
        max(
            (float(np.abs(np.subtract(a, b)).max(initial=0.0)) for a, b in zip(found, expected.outputs, strict=True)),
            default=0.0,
        )
        if same_form
        else float("inf")
    )
    if not worst <= expected.tolerance:
        raise ZooError(
            f"the probe fails: outputs differ by up to {worst:.3g}, {expected.tolerance:.3g} is allowed. What was "
            "loaded does not compute what was trained: pull entry and backbone again, and compare the package versions "
            "in the card (xling zoo show) with those installed"
        )


def _unusable(expected: Probe, *, vocabulary: int, longest: int) -> str | None:
    """Why inputs or outputs of a probe are none, or None: a card may come from anybody."""
    for i, one in enumerate(expected.inputs):
        rows = one.get("input_ids")
        if not {"input_ids"} <= set(one) <= {"input_ids", "second"} or not isinstance(rows, list) or not rows:
            return f"inputs[{i}] is not rows of input_ids (and where their second segments begin) and nothing else"
        for row in rows:
            if not isinstance(row, list) or not 0 < len(row) <= longest:
                return f"inputs[{i}].input_ids holds a row that is not 1 to {longest} token ids"
            if any(type(token) is not int or not 0 <= token < vocabulary for token in row):
                return f"inputs[{i}].input_ids holds something that is no token id below {vocabulary}"
        second = one.get("second", [0] * len(rows))
        if not isinstance(second, list) or len(second) != len(rows):
            return f"inputs[{i}].second is not one number per row"
        if any(type(at) is not int or not 0 <= at <= len(row) for at, row in zip(second, rows, strict=True)):
            return f"inputs[{i}].second holds something that is no place in its row"
    for i, output in enumerate(expected.outputs):
        if not isinstance(output, list) or any(isinstance(value, list) for value in output):
            return f"outputs[{i}] is not a list of numbers"
    return None


def _probe_task(heads: dict[str, HeadCard], expected: Probe) -> TaskSpec:
    """The task a probe was made with, as far as the forward pass needs it: head, kind and labels."""
    for name, card in heads.items():
        if card.task == expected.task:
            return task_of_head(name, card)
    raise ZooError(
        f"the probe is about task {expected.task!r}, the heads are for {[card.task for card in heads.values()]}; "
        "the card contradicts itself: pull the entry again"
    )


@torch.no_grad()
def _answers(model: Model, task: TaskSpec, inputs: Sequence[dict[str, Any]]) -> list[list[float]]:
    """Outputs of one input after the other (unpadded, so that no kernel choice depends on the neighbours)."""
    mode = model.training
    model.eval()
    answers = []
    for one in inputs:
        rows = [[int(token) for token in row] for row in one["input_ids"]]
        second = [int(position) for position in one["second"]] if "second" in one else None
        batch = pad_rows([Features(example=0, input_ids=rows, second=second)], model.pad_id)
        batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
        values = model.head_output(batch, task).float().flatten()[:PROBE_VALUES]
        answers.append([float(value) for value in values])
    model.train(mode)
    return answers
