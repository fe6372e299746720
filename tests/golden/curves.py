"""Five-step loss curves of every kind and method on a tiny random backbone: what refactoring must not move."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from adapters_xling import tasks
from adapters_xling.grid import make_run
from adapters_xling.methods import resolve
from adapters_xling.model import backbone_id
from adapters_xling.training import train
from adapters_xling.zoo import Zoo

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
from worlds import write_backbone

STEPS = 5
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "sentence": ("mini-nli", "lora", {}),
    "choice": ("mini-choice", "lora", {}),
    "tag": ("mini-pos", "lora", {}),
    "span": ("mini-qa", "lora", {}),
    "tag-full": ("mini-pos", "full", {}),
    "tag-head": ("mini-pos", "head", {}),
    "tag-bottleneck": ("mini-pos", "bottleneck", {"reduction_factor": 4}),
    "mlm": ("mini-mlm", "full", {}),
    "mixture": ("mini-nli+mini-mlm+mini-pos", "lora", {}),
}
"""Name -> task (several joined by ``+``), method, its settings."""


def curve(case: str, folder: Path) -> list[float]:
    """Train a case for five steps and return its losses."""
    names, method, settings = CASES[case]
    torch.set_num_threads(1)
    backbone = write_backbone(folder / "backbone")
    specs = [tasks.get(name) for name in names.split("+")]
    run = make_run(
        specs[0] if len(specs) == 1 else specs,
        resolve(method, settings),
        backbone=backbone_id(str(backbone)),
        recipe="nano",
        overrides={"max_steps": STEPS, "eval_every_steps": STEPS, "dev_examples": 8, "batch_size": 8, "dropout": 0.1},
        seed=1,
    )
    entry = train(run, zoo=Zoo(folder / "zoo", fallbacks=()), device="cpu", show_progress=False)
    assert entry.card.training is not None
    return [float(loss) for _, loss in entry.card.training.losses if loss is not None]
