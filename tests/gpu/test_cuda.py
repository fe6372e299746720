"""On a CUDA device: the same loop, the same zoo, answers that agree with the CPU's. Run by `make test-gpu`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapters_xling import tasks
from adapters_xling.grid import make_run
from adapters_xling.inference import passes
from adapters_xling.methods import resolve
from adapters_xling.model import Model, backbone_id, bare, open_entry
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


def rows(model: Model) -> dict[str, torch.Tensor]:
    """Rows of very different length."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([3, 60, 7, 7, 31, 1, 12, 12])
    mask = (torch.arange(60)[None] < lengths[:, None]).long()
    ids = torch.randint(5, 1000, mask.shape, generator=generator).where(mask.bool(), torch.tensor(model.pad_id))
    return {"input_ids": ids.cuda(), "attention_mask": mask.cuda()}


def test_in_bfloat16_rows_are_packed_by_themselves_and_give_what_padded_ones_do() -> None:
    from adapters_xling.model.packing import _kernel, packs

    model = bare("xlmr-nano", device="cuda")
    batch, real = rows(model), rows(model)["attention_mask"].bool()
    model.encoder.requires_grad_(True)
    assert not packs(model)  # float32
    found = {}
    for setting in ("auto", "padded"):
        model.set_attention(setting)
        model.zero_grad()
        with passes(model, "bf16"):
            if setting == "auto" and _kernel(model) is None:
                pytest.skip("this device or version has no variable-length attention")
            assert packs(model) == (setting == "auto")
            hidden = model.encode(batch).float()[real]
        hidden.pow(2).mean().backward()
        grads = torch.cat([p.grad.flatten() for p in model.encoder.parameters() if p.grad is not None])
        found[setting] = hidden.detach(), grads
    for one, two in zip(*found.values(), strict=True):
        assert (one - two).norm() <= 0.03 * two.norm()


@torch.no_grad()
def test_in_float32_packed_rows_agree_to_rounding() -> None:
    model = bare("xlmr-nano", device="cuda")
    batch = rows(model)
    padded = model.encode(batch)
    model.set_attention("packed")
    packed = model.encode(batch)
    real = batch["attention_mask"].bool()
    assert torch.allclose(packed[real], padded[real], atol=1e-4)
    assert not packed[~real].any()
