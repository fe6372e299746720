"""What a step costs beside the passes: padding, which the log tells, and AdamW, whose fused form changes rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from loops import logged, run_of, trained
from tiny import tiny_tokenizer
from torch import nn
from worlds import a_recipe

from adapters_xling import tasks
from adapters_xling.training.data import load_data
from adapters_xling.training.preparing import optimiser
from adapters_xling.training.sampling import Batches


@pytest.mark.parametrize("window", [0, 4])
def test_the_log_says_which_share_of_a_step_is_padding(window: int, backbone_folder: Path, tmp_path: Path) -> None:
    run = run_of(backbone_folder, method="head", max_steps=3, eval_every_steps=3, sort_window=window)
    trained(run, tmp_path / "zoo", log_dir=tmp_path / "logs")
    data = load_data(tasks.get("mini-nli"), run.recipe, tiny_tokenizer(), data_dir=None)
    lengths = [one.num_tokens for one in data.train]
    stream = Batches(len(lengths), run.recipe.batch_size, seed=run.seed, lengths=lengths, window=window)
    rows = [lengths[i] for i in [next(stream) for _ in range(3)][-1]]
    assert logged(tmp_path / "logs")["padding"] == [(3, pytest.approx(1 - sum(rows) / (max(rows) * len(rows))))]


def test_the_fused_step_is_the_plain_one_up_to_rounding() -> None:
    models = [nn.Linear(40, 30), nn.Linear(40, 30)]
    models[1].load_state_dict(models[0].state_dict())
    ours = optimiser(models[0], a_recipe(weight_decay=0.1, learning_rate=0.01))
    assert all(group["fused"] for group in ours.param_groups)
    weight, bias = models[1].weight, models[1].bias
    groups = [{"params": [weight], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0}]
    plain = torch.optim.AdamW(groups, lr=0.01, eps=1e-8, fused=False, foreach=False)
    for step in range(5):
        batch = torch.randn(7, 40, generator=torch.Generator().manual_seed(step))
        for model, one in zip(models, (ours, plain), strict=True):
            model(batch).square().sum().backward()
            one.step()
            one.zero_grad()
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
