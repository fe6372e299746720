"""Products in bfloat16 where the processor has no instructions for them: the same numbers, and none the slow way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from slow_products import Slow
from torch import Tensor
from transformers import XLMRobertaConfig, XLMRobertaModel

from adapters_xling import precision
from adapters_xling.precision import products, rounded

CPU = torch.device("cpu")


@pytest.fixture(params=[True, False], ids=["with instructions", "without"])
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    monkeypatch.setattr(precision, "has_bfloat16_kernels", lambda: request.param)
    yield request.param


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16_kernels", lambda: False)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


MADE: dict[str, tuple[Callable[..., Tensor], list[Tensor]]] = {
    "mm": (torch.mm, [numbers(5, 7), numbers(7, 3, seed=1)]),
    "addmm": (torch.addmm, [numbers(3), numbers(5, 7), numbers(7, 3, seed=1)]),
    "bmm": (torch.bmm, [numbers(2, 5, 7), numbers(2, 7, 3, seed=1)]),
    "baddbmm": (torch.baddbmm, [numbers(2, 5, 3), numbers(2, 5, 7), numbers(2, 7, 3, seed=1)]),
    "linear": (F.linear, [numbers(2, 5, 7), numbers(3, 7, seed=1), numbers(3, seed=2)]),
    "attention": (F.scaled_dot_product_attention, [numbers(2, 2, 5, 8, seed=i) for i in range(3)]),
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.usefixtures("without")
def test_a_product_is_that_of_the_rounded_numbers_rounded_and_so_are_its_gradients(name: str) -> None:
    function, given = MADE[name]
    halves = [one.bfloat16().requires_grad_() for one in given]
    wholes = [one.bfloat16().float().requires_grad_() for one in given]
    with Slow() as seen, products(CPU, "bf16"):
        out = function(*halves)
        out.backward(torch.ones_like(out))
    assert seen.num_products > 1 and not seen.slow
    wanted = function(*wholes)
    wanted.backward(torch.ones_like(wanted))
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, wanted.bfloat16())
    for half, whole in zip(halves, wholes, strict=True):
        assert half.grad is not None and whole.grad is not None and half.grad.dtype == torch.bfloat16
        # attention's backward pass reads its own output, which is rounded by then
        assert torch.allclose(half.grad.float(), whole.grad, atol=0.02 if name == "attention" else 1e-6, rtol=0.01)


@pytest.mark.usefixtures("without")
def test_other_numbers_are_multiplied_as_they_are() -> None:
    a, b = numbers(5, 7), numbers(7, 3, seed=1)
    with products(CPU, "bf16"):
        assert torch.equal(a @ b, a @ b) and (a @ b).dtype == torch.float32
        assert (a.double() @ b.double()).dtype == torch.float64
        assert (a.bfloat16() + 1).dtype == torch.bfloat16


def test_nothing_is_changed_where_it_is_not_needed(instructions: bool) -> None:
    a, b = numbers(5, 7).bfloat16(), numbers(7, 3, seed=1).bfloat16()
    for how in ("fp32", "bf16"):
        with Slow() as seen, products(CPU, how):
            a @ b
        assert len(seen.slow) == (how == "fp32" or instructions)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.usefixtures("without")
def test_an_encoder_computes_what_it_does_with_instructions_up_to_rounding(attention: str) -> None:
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=40,
    )  # fmt: skip
    config._attn_implementation = attention
    model = XLMRobertaModel(config, add_pooling_layer=False)
    ids = torch.randint(5, 50, (3, 9))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    found = {}
    for name, how, context in (
        ("exact", "fp32", rounded(CPU, "fp32")),
        ("torch", "fp32", torch.autocast("cpu", torch.bfloat16)),
        ("ours", "bf16", rounded(CPU, "bf16")),
    ):
        model.zero_grad()
        with Slow() as seen:
            with context:
                out = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            with products(CPU, how):
                (out * numbers(*out.shape)).sum().backward()
        weight = model.encoder.layer[0].intermediate.dense.weight.grad
        assert weight is not None
        found[name] = (out.detach(), weight.clone())
        assert seen.num_products > 20 and bool(seen.slow) == (name == "torch")
    for exact, torchs, ours in zip(*found.values(), strict=True):
        off = (torchs - exact).norm()
        assert 0 < (ours - exact).norm() < 1.5 * off
        assert (ours - torchs).norm() < 1.5 * off


def test_what_cannot_be_compiled_is_refused_before_anything_is_opened(instructions: bool, tmp_path: Path) -> None:
    from adapters_xling import api
    from adapters_xling.errors import ConfigError
    from adapters_xling.evaluation import Opened

    for compiled, how in ((True, "fp32"), (False, "bf16"), (True, "bf16")):
        opened = Opened(zoo=api.open_zoo(tmp_path), device="cpu", backbone=None, compiled=compiled)
        if compiled and how == "bf16" and not instructions:
            with pytest.raises(ConfigError, match=r"no instructions for precision bf16.*Leave out --prec"):
                opened.require_products(how)
        else:
            opened.require_products(how)
