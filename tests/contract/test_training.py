"""The loop keeps its promises: order, accumulation, selection, patience, guard, determinism, failures."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from loops import SMALL, largest_difference, logged, run_of, trained, weights
from slow_products import Slow

from adapters_xling import inference, precision, training
from adapters_xling.errors import ConfigError, XlingError
from adapters_xling.spec import Warm
from adapters_xling.zoo import Zoo


def test_an_epoch_meets_every_row_once_and_epochs_differ() -> None:
    stream = training.Batches(10, 4, seed=3)
    epochs = [[next(stream) for _ in range(3)] for _ in range(2)]
    for epoch in epochs:
        assert [len(batch) for batch in epoch] == [4, 4, 2]
        assert sorted(i for batch in epoch for i in batch) == list(range(10))
    assert epochs[0] != epochs[1]
    again = training.Batches(10, 4, seed=3)
    assert [next(again) for _ in range(3)] == epochs[0]


@pytest.mark.parametrize("method", ["full", "bottleneck", "lora", "head"])
def test_the_same_run_gives_the_same_bits_and_another_seed_does_not(
    method: str, backbone_folder: Path, tmp_path: Path
) -> None:
    run = run_of(backbone_folder, method=method, dropout=0.1)
    one, two = trained(run, tmp_path / "a"), trained(run, tmp_path / "b")
    assert largest_difference(one, two) == 0.0
    other = trained(run_of(backbone_folder, method=method, dropout=0.1, seed=1), tmp_path / "a")
    assert largest_difference(one, other) > 0.0


def test_accumulating_two_batches_equals_one_of_twice_the_size(backbone_folder: Path, tmp_path: Path) -> None:
    """Without dropout and for a loss that is a mean over examples; the rest is the order of additions."""
    one = trained(run_of(backbone_folder, dropout=0.0, batch_size=8), tmp_path)
    two = trained(run_of(backbone_folder, dropout=0.0, batch_size=4, accumulate=2), tmp_path)
    assert one.key != two.key
    assert largest_difference(one, two) < 1e-5
    assert one.card.training is not None
    assert two.card.training is not None
    assert one.card.training.tokens == two.card.training.tokens


def planned_scores(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """Make the dev scores what a test says; the first call is the majority's."""
    left = iter([0.0, *values])
    monkeypatch.setattr(inference, "score", lambda *_, **__: {"accuracy": next(left)})


def test_the_best_dev_step_is_kept_not_the_last(
    backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(backbone_folder, max_steps=6)
    short = trained(run, tmp_path / "whole")
    planned_scores(monkeypatch, [50.0, 70.0, 60.0])
    best = trained(run, tmp_path / "best")
    assert best.card.training is not None
    assert (best.card.training.best_step, best.card.training.dev_score) == (4, 70.0)
    assert best.card.training.dev_curve == ((2, 50.0), (4, 70.0), (6, 60.0))
    planned_scores(monkeypatch, [50.0, 40.0, 60.0])
    last = trained(run, tmp_path / "last")
    assert largest_difference(best, last) > 0.0
    assert short.key == best.key


def test_patience_stops_a_run_that_no_longer_gains(
    backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned_scores(monkeypatch, [50.0, 49.0, 50.0, 90.0, 90.0])
    entry = trained(run_of(backbone_folder, max_steps=10, patience=2), tmp_path)
    assert entry.card.training is not None
    assert (entry.card.training.steps, entry.card.training.planned_steps) == (6, 10)
    assert entry.card.training.best_step == 2


def test_a_run_that_learnt_nothing_is_marked(backbone_folder: Path, tmp_path: Path) -> None:
    entry = trained(run_of(backbone_folder, learning_rate=1e-12), tmp_path)
    assert entry.card.training is not None
    assert entry.card.training.converged is False


def test_a_loss_that_is_not_a_number_says_so_and_leaves_no_entry(
    backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapters_xling.tasks import kinds

    monkeypatch.setattr(type(kinds.get("sentence")), "loss", lambda self, logits, batch: logits.sum() * float("nan"))
    with pytest.raises(XlingError, match=r"became nan at step 1 of 4; lower the learning rate"):
        trained(run_of(backbone_folder), tmp_path)
    assert Zoo(tmp_path, fallbacks=()).keys() == ()


def test_weights_that_the_last_step_spoilt_are_not_kept(
    backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, steps = torch.optim.AdamW.step, itertools.count(1)

    def step(self: Any, *args: Any, **how: Any) -> Any:
        if next(steps) == 4:
            next(p for group in self.param_groups for p in group["params"] if p.grad is not None).grad.fill_(math.nan)
        return plain(self, *args, **how)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(XlingError, match=r"weights are not finite after step 4 of 4; lower the learning rate"):
        trained(run_of(backbone_folder), tmp_path)
    assert Zoo(tmp_path, fallbacks=()).keys() == ()


def test_bf16_trains(backbone_folder: Path, tmp_path: Path) -> None:
    entry = trained(run_of(backbone_folder, precision="bf16"), tmp_path)
    assert all(tensor.dtype == torch.float32 for tensor in weights(entry).values())
    assert largest_difference(entry, trained(run_of(backbone_folder), tmp_path)) > 0.0


@pytest.mark.parametrize("method", ["full", "lora"])
def test_no_product_of_bf16_training_takes_the_slow_way_where_there_are_no_instructions(
    method: str, backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither forward, nor backward, nor when dev rows are read; and what is trained is the same up to rounding."""
    spec = run_of(backbone_folder, method=method, precision="bf16", dev_precision="bf16", dropout=0.0)
    found = {}
    for has in (True, False):
        monkeypatch.setattr(precision, "has_bfloat16_kernels", lambda has=has: has)
        with Slow() as seen:
            found[has] = trained(spec, tmp_path / str(has))
        assert bool(seen.slow) == has and seen.num_products > 100
    whole = trained(run_of(backbone_folder, method=method, dropout=0.0), tmp_path / "whole")
    assert largest_difference(found[True], found[False]) <= 2 * largest_difference(found[True], whole)


def test_the_tracker_gets_losses_and_dev_scores(backbone_folder: Path, tmp_path: Path) -> None:
    trained(run_of(backbone_folder), tmp_path / "zoo", log_dir=tmp_path / "logs")
    assert {"loss", "learning_rate", "dev/mini-nli"} <= set(logged(tmp_path / "logs"))


def test_an_unlocked_backbone_may_be_planned_but_not_trained(backbone_folder: Path, tmp_path: Path) -> None:
    run = run_of(backbone_folder)
    unlocked = msgspec.structs.replace(run, backbone=msgspec.structs.replace(run.backbone, digest=None))
    with pytest.raises(ConfigError, match="not locked"):
        trained(unlocked, tmp_path)


def test_a_warm_start_on_the_same_task_begins_where_its_parent_ended(backbone_folder: Path, tmp_path: Path) -> None:
    zoo = Zoo(tmp_path, fallbacks=())
    parent = trained(run_of(backbone_folder, learning_rate=1e-2, max_steps=20), tmp_path)
    still = run_of(backbone_folder, learning_rate=1e-12, carry="head")
    child = training.train(
        msgspec.structs.replace(still, init=Warm(entry=parent.key)), zoo=zoo, device="cpu", show_progress=False
    )
    assert parent.card.training is not None
    assert child.card.training is not None
    assert child.card.training.dev_score == parent.card.training.dev_score
    assert largest_difference(parent, child) < 1e-6


def test_the_card_says_which_rows_were_read(backbone_folder: Path, tmp_path: Path) -> None:
    card = trained(run_of(backbone_folder), tmp_path).card
    assert card.data["mini-nli/train/en"].used == SMALL["max_train_examples"]
    assert card.data["mini-nli/dev/en"].used == SMALL["dev_examples"]
    assert card.data["mini-nli/train/en"].kept > SMALL["max_train_examples"]
