"""On a CUDA device: the same loop, the same zoo, answers that agree with the CPU's. Run by `make test-gpu`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapters_xling import tasks
from adapters_xling.grid import make_run
from adapters_xling.methods import resolve
from adapters_xling.model import backbone_id, open_entry
from adapters_xling.training import train
from adapters_xling.zoo import Zoo

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible")]


@pytest.mark.parametrize("method", ["full", "bottleneck", "lora", "head"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_entry_trained_on_the_gpu_answers_its_probe_on_the_cpu(method: str, precision: str, tmp_path: Path) -> None:
    run = make_run(
        tasks.get("mini-pos"),
        resolve(method),
        backbone=backbone_id("xlmr-nano"),
        recipe="nano",
        overrides={"max_steps": 20, "eval_every_steps": 10, "dev_examples": 50, "precision": precision},
    )
    zoo = Zoo(tmp_path)
    entry = train(run, zoo=zoo, device="cuda", show_progress=False)
    assert entry.card.training is not None
    losses = [loss for _, loss in entry.card.training.losses if loss is not None]
    assert losses[-1] < losses[0]
    open_entry(entry.key, zoo=zoo, device="cpu")  # checks fingerprint and probe
