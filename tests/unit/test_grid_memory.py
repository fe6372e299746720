"""Memory of a run: what grows with what, whether it fits, and the pieces in which it does."""

from __future__ import annotations

import msgspec
import pytest

from adapters_xling import grid, methods, recipes
from adapters_xling.backbones import BACKBONES, FAMILIES, Shape
from adapters_xling.errors import ConfigError
from adapters_xling.grid.memory import (
    GIB,
    Batch,
    Footprint,
    device_memory,
    footprint,
    need,
    parse_bytes,
)
from adapters_xling.spec import Recipe

FAMILY = FAMILIES["xlm-roberta"]
LARGE = BACKBONES["xlm-roberta-large"].shape
assert LARGE is not None


def recipe(**changes: object) -> Recipe:
    return recipes.resolve_recipe(grid.recipes(), "paper", method="full", kind="sentence", overrides=changes)


WHOLE = Batch(32, 256)


def of(method: str, batch: Batch = WHOLE, shape: Shape = LARGE, **changes: object) -> Footprint:
    device = str(changes.pop("device", "cuda"))
    return footprint(methods.resolve(method), recipe(**changes), batch, shape, FAMILY, device=device)


def test_full_fine_tuning_holds_every_weight_four_times_and_adapters_once() -> None:
    full, lora, head = of("full"), of("lora"), of("head")
    # weight, gradient and two moments, 4 bytes each
    assert full.weights == 4 * LARGE.num_parameters
    assert full.weights + full.gradients + full.moments == 16 * LARGE.num_parameters
    assert lora.gradients == 4 * 786_432 and lora.moments == 8 * 786_432  # protocol: LoRA r8 on query and value
    assert head.gradients == 0
    assert head.peak < lora.peak < full.peak
    frozen = footprint(
        methods.resolve("full", {"train_embeddings": False}), recipe(), Batch(32, 256), LARGE, FAMILY, device="cuda"
    )
    assert full.gradients - frozen.gradients == 4 * LARGE.vocabulary * LARGE.hidden
    # 32 rows of 256 tokens at 16 vectors of 1024 numbers in each of 24 layers are 12.9 GB
    assert full.activations == pytest.approx(32 * 256 * 24 * 16 * 1024 * 4, rel=0.05)


def test_what_lies_below_the_lowest_trained_layer_keeps_nothing() -> None:
    low = of("bottleneck").activations
    top = footprint(
        methods.resolve("bottleneck", {"leave_out": tuple(range(12))}), recipe(), Batch(32, 256), LARGE, FAMILY
    )
    assert top.activations == pytest.approx(low / 2, rel=0.05)


def test_memory_grows_with_rows_tokens_and_precision() -> None:
    one, two, long = (of("full", Batch(*batch)).activations for batch in ((8, 128), (16, 128), (8, 256)))
    assert two == pytest.approx(2 * one)
    assert 2 * one < long < 2.2 * one  # the attention mask grows with the square
    assert 0.5 < of("full", precision="bf16").activations / of("full").activations < 0.8
    guessed = of("full", Batch(8, 256, guessed=0.15 * 8 * 256)).activations - of("full", Batch(8, 256)).activations
    assert guessed == pytest.approx(3 * 4 * 0.15 * 8 * 256 * 250_002)
    assert of("full", accumulate=4).peak > of("full", accumulate=1).peak  # gradients wait
    assert of("full", device="cpu").fixed == 0


def test_what_does_not_fit_fits_in_pieces_or_says_that_it_cannot() -> None:
    def count(one: Recipe) -> Footprint:
        return footprint(methods.resolve("full"), one, Batch(one.batch_size, 256), LARGE, FAMILY)

    plenty = need("mnli", recipe(), count, 80 * GIB)
    assert (plenty.fits, plenty.smaller) == (True, None)
    tight = need("mnli", recipe(), count, 16 * GIB)
    assert tight.fits is False and tight.smaller is not None
    assert tight.smaller.batch_size * tight.smaller.accumulate == 32
    assert count(tight.smaller).peak <= 16 * GIB
    double = msgspec.structs.replace(
        recipe(), batch_size=2 * tight.smaller.batch_size, accumulate=tight.smaller.accumulate // 2
    )
    assert count(double).peak > 16 * GIB  # the largest pieces that fit
    hopeless = need("mnli", recipe(), count, 8 * GIB)
    assert (hopeless.fits, hopeless.smaller) == (False, None)
    assert need("mnli", recipe(), count, None).fits is None


def test_a_budget_of_tokens_bounds_what_is_read_at_once() -> None:
    def batch(tokens: int, rows: float = 1, length: int = 128) -> Batch:
        return Batch.of(recipe(batch_size=32, tokens_at_once=tokens), rows=rows, tokens=length, masked=0.5)

    assert batch(0) == Batch(32, 128, guessed=0.5 * 32 * 128)
    assert batch(1024) == Batch(8, 128, guessed=0.5 * 8 * 128, in_pieces=True)
    assert batch(64 * 128) == batch(0)  # the batch is smaller
    assert batch(100).rows == 1 and batch(100, rows=4).rows == 4  # never less than an example
    cut, whole = of("full", batch(1024)), of("full", batch(0))
    assert cut.activations < 0.3 * whole.activations and cut.peak < whole.peak
    assert cut.accumulating and not whole.accumulating  # the first pieces' gradients wait


def test_memory_is_read_as_people_write_it() -> None:
    assert [parse_bytes(text) for text in ("24GiB", "80 GB", "512mib")] == [24 * GIB, 80e9, 2**29]
    for wrong in ("24", "GiB", "-1GB", "24 XB", "0GB", ""):
        with pytest.raises(ConfigError, match="24GiB"):
            parse_bytes(wrong)
    assert device_memory("cpu", "24GiB") == ("cuda", 24 * GIB)
    device, own = device_memory("cpu", workers=2)
    _, whole = device_memory("cpu")
    assert device == "cpu" and own is not None and whole == 2 * own
