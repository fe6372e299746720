"""Batches filled up to shapes that come again give what they give as they are."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_xling import inference, tasks
from adapters_xling.batching import bucket, bucket_width, filled, token_batches
from adapters_xling.methods import resolve
from adapters_xling.model import Model, backbone_id, load_backbone
from adapters_xling.model.shared import Shared
from adapters_xling.prefix_cache import IN_MEMORY, open_store
from adapters_xling.tasks import kinds
from adapters_xling.tasks.examples import Features

CASES = [("mini-nli", pooling) for pooling in ("first", "mean", "pair")] + [
    (name, "first") for name in ("mini-choice", "mini-pos", "mini-qa", "mini-mlm", "mini-retrieval")
]


def model_of(backbone: Path, name: str, pooling: str) -> tuple[Model, Any]:
    task = tasks.with_labels(tasks.get(name))
    model = Model(load_backbone(backbone_id(str(backbone))), resolve("head"), pooling=pooling, seed=3)  # type: ignore[arg-type]
    model.add_head(task)
    return model.eval_mode(), task


@pytest.mark.parametrize(("name", "pooling"), CASES)
@torch.no_grad()
def test_outputs_of_a_filled_batch_are_those_of_the_batch(name: str, pooling: str, backbone_folder: Path) -> None:
    model, task = model_of(backbone_folder, name, pooling)
    kind = kinds.get(task.kind)
    split = "train" if name == "mini-mlm" else "test"
    rows = tasks.load(task, split, "de" if split == "test" else "en", limit=11).examples[:11]
    features = kind.encode(rows, model.tokenizer, task, max_length=64)[:13]
    features = kind.redraw(features, model.tokenizer, task, seed=1)
    batch = kind.collate(features, pad_id=model.pad_id)
    plain = Shared.of(batch, task, [model])
    wide = Shared.of(batch, task, [model], fill=8192)
    shape, other = (one.inputs["input_ids"].shape for one in (plain, wide))
    assert other == (bucket(shape[0]), min(model.max_positions, bucket_width(shape[1])))
    expected = kind.outputs(model(batch, task).float(), batch)
    for shared in (plain, wide):
        found = kind.outputs(shared.logits(model, task).float(), batch)
        assert len(found) == len(expected)
        for one, right in zip(found, expected, strict=True):
            assert one.shape == right.shape
            assert one == pytest.approx(right, abs=1e-5)


def test_a_full_batch_gets_no_further_rows_and_nothing_gets_longer_than_the_encoder_reads() -> None:
    inputs = {"input_ids": torch.ones(17, 61, dtype=torch.long), "attention_mask": torch.ones(17, 61)}
    assert filled(inputs, pad_id=0, tokens=17 * 64, most=512)["input_ids"].shape == (17, 64)
    assert filled(inputs, pad_id=0, tokens=8192, most=512)["input_ids"].shape == (18, 64)
    assert filled(inputs, pad_id=0, tokens=8192, most=62)["input_ids"].shape == (18, 62)
    assert filled(inputs, pad_id=7, tokens=8192, most=512)["input_ids"][0, 61:].tolist() == [7, 7, 7]
    assert filled(inputs, pad_id=7, tokens=8192, most=512)["attention_mask"][17].tolist() == [1] * 61 + [0] * 3


def test_buckets_rise_and_add_an_eighth_at_most() -> None:
    counts = [bucket(n) for n in range(1, 3000)]
    assert counts == sorted(counts)
    assert all(n <= one <= n * 9 / 8 for n, one in enumerate(counts, 1))
    assert len({bucket_width(n) for n in range(1, 513)}) == 40


def test_full_batches_of_a_width_have_as_many_rows() -> None:
    lengths = [random.Random(i).randint(5, 120) for i in range(3000)]
    batches = token_batches(lengths, 1024, repeat=True)
    assert sorted(i for batch in batches for i in batch) == list(range(3000))
    full = [(bucket_width(max(lengths[i] for i in batch)), len(batch)) for batch in batches[:-1]]
    assert full == [(width, 1024 // width) for width, _ in full]


@pytest.mark.parametrize(("precision", "least", "most"), [("fp32", 40, 999), ("bf16", 10, 24)])
def test_in_bfloat16_few_shapes_reach_the_encoder(
    precision: str, least: int, most: int, backbone_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, task = model_of(backbone_folder, "mini-nli", "first")
    shapes: set[tuple[int, ...]] = set()
    plain = Model.encode

    def noting(self: Model, batch: Any, *rest: Any, **how: Any) -> Any:
        shapes.add(tuple(batch["input_ids"].shape))
        return plain(self, batch, *rest, **how)

    monkeypatch.setattr(Model, "encode", noting)
    for split in range(8):  # sets of different sizes and lengths, as languages are
        draw = random.Random(split)
        features = [
            Features(example=i, input_ids=[[0] + [5] * draw.randint(4, 55 + split) + [2]], label=0)
            for i in range(100 + 7 * split)
        ]
        outputs = inference.run_features(model, task, features, tokens_per_batch=512, precision=precision)
        assert len(outputs) == len(features)
    assert least <= len(shapes) <= most


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-5), ("bf16", 2e-2)])
def test_kept_rows_are_computed_in_shapes_that_come_again_in_bfloat16(
    precision: str, bound: float, backbone_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, task = model_of(backbone_folder, "mini-nli", "first")
    counts: set[int] = set()
    plain = Model.encode_now

    def noting(self: Model, batch: Any, *rest: Any, **how: Any) -> Any:
        counts.add(len(batch["input_ids"]))
        return plain(self, batch, *rest, **how)

    draw = random.Random(0)
    rows = [[0] + [draw.randint(4, 60) for _ in range(draw.randint(4, 55))] + [2] for _ in range(500)]
    how: dict[str, Any] = {"tokens_per_batch": 2048, "precision": precision}
    for split in range(4):  # some of the rows are known from sets before
        features = [Features(example=i, input_ids=[draw.choice(rows)], label=0) for i in range(150 + 7 * split)]
        model.keep_prefix(IN_MEMORY)
        with monkeypatch.context() as patch:
            patch.setattr(Model, "encode_now", noting)
            found = inference.run_features(model, task, features, **how)
        model.prefix = None
        for one, right in zip(found, inference.run_features(model, task, features, **how), strict=True):
            assert one == pytest.approx(right, abs=bound)
    assert 0 < open_store(IN_MEMORY).use.share < 1
    full = {2048 // bucket_width(width) for width in range(6, 58)}
    assert all(count in full or count == bucket(count) for count in counts) == (precision == "bf16")


@pytest.mark.parametrize(
    ("precision", "has_kernels", "tokens"), [("fp32", True, 1024), ("bf16", True, 8192), ("bf16", False, 1024)]
)
def test_a_processor_that_multiplies_in_float32_reads_small_batches_and_the_outputs_stay(
    precision: str, has_kernels: bool, tokens: int, backbone_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "in_float32", lambda _, precision: precision == "bf16" and not has_kernels)
    model, task = model_of(backbone_folder, "mini-nli", "first")
    padded: list[int] = []
    plain = Model.encode

    def noting(self: Model, batch: Any, *rest: Any, **how: Any) -> Any:
        padded.append(batch["input_ids"].numel())
        return plain(self, batch, *rest, **how)

    draw = random.Random(0)
    features = [Features(example=i, input_ids=[[0] + [5] * draw.randint(4, 55) + [2]], label=0) for i in range(600)]
    with monkeypatch.context() as patch:
        patch.setattr(Model, "encode", noting)
        found = inference.run_features(model, task, features, precision=precision)
    assert tokens / 2 < max(padded) <= tokens
    at_once = inference.run_features(model, task, features, precision=precision, tokens_per_batch=10**6)
    for one, right in zip(found, at_once, strict=True):
        assert one == pytest.approx(right, abs=1e-5 if precision == "fp32" else 2e-2)
