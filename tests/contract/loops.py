"""Whole training runs on a tiny backbone, and what two of them are compared by."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from adapters_xling import tasks, training
from adapters_xling.grid import Mix, make_run
from adapters_xling.methods import resolve
from adapters_xling.model import backbone_id
from adapters_xling.spec import RunSpec
from adapters_xling.zoo import Entry, Zoo

SMALL: dict[str, Any] = {
    "max_steps": 4,
    "eval_every_steps": 2,
    "dev_examples": 12,
    "batch_size": 4,
    "max_train_examples": 32,
    "max_length": 64,
}


def run_of(folder: Path, *, task: str = "mini-nli", method: str = "lora", seed: int = 0, **changes: Any) -> RunSpec:
    settings = {"lora": {"r": 2, "dropout": 0.0}, "bottleneck": {"reduction_factor": 4}}.get(method, {})
    return make_run(
        tasks.get(task),
        resolve(method, settings),
        backbone=backbone_id(str(folder)),
        recipe="nano",
        overrides={**SMALL, **changes},
        seed=seed,
    )


def trained(run: RunSpec, root: Path, **options: Any) -> Entry:
    return training.train(run, zoo=Zoo(root, fallbacks=()), device="cpu", show_progress=False, **options)


def weights(entry: Entry) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in sorted(entry.folder.rglob("*.safetensors")):
        found |= {f"{path.name}/{name.replace(entry.key, '')}": tensor for name, tensor in load_file(path).items()}
    return found


def largest_difference(one: Entry, two: Entry) -> float:
    a, b = weights(one), weights(two)
    assert set(a) == set(b)
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def that_matter(names: Iterable[str]) -> list[str]:
    """Names of tensors, those without influence apart.

    A constant added to all scores of a softmax cancels: the gradient of a key's bias (of attention, and of a fusion's
    attention over its parts) and of the output bias of an answer span or a choice is nothing but rounding, which Adam
    scales up to whole steps.
    """
    cancelled = ("attention.self.key.bias", "mini-qa.out.bias", "mini-choice.out.bias")
    found = [name for name in names if not name.endswith(cancelled)]
    return [name for name in found if not ("adapter_fusion_layer" in name and name.endswith(".key.bias"))]


def relative_difference(one: Entry, two: Entry) -> float:
    """Largest relative difference of a tensor that matters."""
    a, b = weights(one), weights(two)
    assert set(a) == set(b)
    return max(float((a[n] - b[n]).norm() / a[n].norm().clamp(min=1e-30)) for n in that_matter(a))


def absolute_difference(one: Entry, two: Entry) -> float:
    """Largest difference of a weight that matters."""
    a, b = weights(one), weights(two)
    assert set(a) == set(b)
    return max(float((a[n] - b[n]).abs().max()) for n in that_matter(a))


def mixed_run(folder: Path, *names: str, method: str = "lora", mix: Mix | None = None, **changes: Any) -> RunSpec:
    settings = {"lora": {"r": 2}, "bottleneck": {"reduction_factor": 4}}.get(method, {})
    return make_run(
        [tasks.get(name) for name in names],
        resolve(method, settings),
        backbone=backbone_id(str(folder)),
        recipe="nano",
        overrides={**SMALL, **changes},
        mix=mix,
    )


def logged(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What a tracker shows of a run, times apart."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # Files are read in the order of their names, which end in a count without leading zeros: of two that one process
    # began in the same second, the tenth would come before the ninth.
    def order(file: Path) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", file.name)]

    files = sorted(folder.rglob("events.out.tfevents.*"), key=order)
    assert len({file.parent for file in files}) == 1, files
    with tempfile.TemporaryDirectory() as ordered:
        for number, file in enumerate(files):
            shutil.copyfile(file, Path(ordered, f"events.out.tfevents.{number:03}"))
        log = EventAccumulator(ordered)
        log.Reload()
    tags = [tag for tag in log.Tags()["scalars"] if tag != "tokens_per_s"]
    return {tag: [(event.step, event.value) for event in log.Scalars(tag)] for tag in tags}
