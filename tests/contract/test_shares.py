"""The parts of a batch, each with its weight, have the gradient of the batch, for every kind and number of parts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from loops import run_of
from torch import Tensor

from adapters_xling import tasks
from adapters_xling.model import Model, build
from adapters_xling.processes import Processes
from adapters_xling.tasks import kinds
from adapters_xling.training.data import load_data
from adapters_xling.training.division import Division, num_labels
from adapters_xling.zoo import Zoo


def gradient(model: Model) -> Tensor:
    found = [p.grad.flatten() for p in model.trainable_parameters().values() if p.grad is not None]
    model.zero_grad()
    return torch.cat(found)


@pytest.mark.filterwarnings("ignore:.*brings no masked-LM head")
@pytest.mark.parametrize("count", [2, 3, 8])
@pytest.mark.parametrize("name", ["mini-nli", "mini-choice", "mini-pos", "mini-qa", "mini-mlm"])
def test_the_parts_of_a_batch_make_the_whole(name: str, count: int, backbone_folder: Path, tmp_path: Path) -> None:
    task, run = tasks.get(name), run_of(backbone_folder, task=name, method="full", dropout=0.0)
    model = build(run, zoo=Zoo(tmp_path, fallbacks=()), tasks=[task], backbone=backbone_folder).double().train()
    part, kind = load_data(task, run.recipe, model.tokenizer, data_dir=None), kinds.get(task.kind)
    rows = kind.redraw([part.train[i] for i in range(7)], model.tokenizer, task, seed=3)
    whole = kind.collate(rows, pad_id=model.pad_id)
    kind.loss(model(whole, task), whole).backward()
    expected = gradient(model)
    assert expected.norm() > 0
    num_empty = 0
    for index in range(count):
        mine = Division.of(Processes(index, count), 1).own(rows)
        num_empty += not mine
        if not mine:
            continue
        batch = kind.collate(mine, pad_id=model.pad_id)
        if weight := num_labels(batch) / num_labels(whole):
            (kind.loss(model(batch, task), batch) * weight).backward()
    assert num_empty == max(0, count - len(rows))
    assert float((gradient(model) - expected).norm() / expected.norm()) < 1e-6  # some kinds' losses are in float32
