"""Operations counted from an encoder's shape against torch's own count, and the GPU benchmark without a GPU."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        for name in ("HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM"):  # which the benchmarks set, for the other tests not
            patch.setenv(name, os.environ.get(name, "1"))
        yield importlib.import_module("gpu")
        for name in ("common", "flops", "gpu"):
            sys.modules.pop(name, None)


def arguments(bench: Any, **changes: Any) -> Any:
    """What the command line gives, without its defaults' size; plain products, whose backward pass repeats nothing."""
    from argparse import Namespace

    fields = {
        "device": "cpu", "layers": 3, "hidden": 64, "vocabulary": 0, "batch_tokens": 64, "steps": 1, "train_rows": 9,
        "dropout": 0.0, "precision": "fp32", "attention": "padded", "kernel": "eager", "compile": False, "small": True,
    }  # fmt: skip
    return Namespace(**{**fields, **changes})


@pytest.mark.parametrize("work", ["full", "bottleneck", "lora", "evaluation"])
@pytest.mark.parametrize("length", [12, 40])
def test_operations_are_those_that_torch_counts(
    work: str, length: int, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "lengths_of", lambda count, **_: [length] * count)  # without padding, which torch counts
    side = bench.Side(arguments(bench, batch_tokens=3 * length), work)
    assert side.batches[0]["input_ids"].shape == (3, length)
    side.model.train(side.trains)
    with FlopCounterMode(display=False) as counted:
        side.step(0)
    assert side.flops[0] == counted.get_total_flops() > 0


def test_padding_is_no_work(bench: Any) -> None:
    side = bench.Side(arguments(bench, batch_tokens=200, train_rows=30), "lora")
    batch = side.batches[0]
    lengths = batch["attention_mask"].sum(1).tolist()
    assert len(set(lengths)) > 1
    assert side.flops[0] == bench.flops(side.shape, "lora", lengths, size=8)
    rectangle = [batch["input_ids"].shape[1]] * len(lengths)
    assert side.flops[0] < bench.flops(side.shape, "lora", rectangle, size=8)


def test_a_full_step_is_three_forward_passes_and_frozen_weights_save_a_third(bench: Any) -> None:
    from adapters_xling.backbones import BACKBONES

    shape, lengths = BACKBONES["xlm-roberta-large"].shape, [45] * 100
    forward = bench.flops(shape, "full", lengths, backward=False)
    assert bench.flops(shape, "full", lengths) == 3 * forward
    for method, size in (("bottleneck", 64), ("lora", 8)):
        assert 1.9 < bench.flops(shape, method, lengths, size=size) / forward < 2.1


def test_it_runs_on_a_processor_and_gives_whole_lines(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    bench.main(["--device", "cpu", "--small", "--profile", "--work", "lora", "--work", "evaluation"])
    torch.set_num_threads(threads)
    told, *lines = (line for line in capsys.readouterr().out.splitlines() if "gaps" in line or line.startswith("{"))
    assert "matrix products" in told
    made = [json.loads(line) for line in lines if line.startswith("{")]
    assert [(one["name"], one["bar"]) for one in made] == [("gpu/lora", 0.5), ("gpu/evaluation", 0.6)]
    for one in made:
        assert 0 < one["difference"] <= one["equal_within"]
        assert one["ratio"] == pytest.approx(one["ours"] / one["theirs"], abs=1e-3)


@pytest.mark.parametrize("work", ["full", "bottleneck", "lora"])
def test_compiled_layers_compute_the_same(work: str, bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    plain = torch.nn.Module.compile

    def traced(self: Any, **how: Any) -> None:  # as the compiler sees it, without its code generation
        compiled.append(self)
        plain(self, **how, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", traced)
    side = bench.Side(arguments(bench, kernel="sdpa", attention="packed", compile=True, batch_tokens=200), work)
    assert len(compiled) == 3 * 3
    assert side.difference() <= bench.AGREE["fp32"]
    side.model.train()
    side.step(0)


def test_without_a_cuda_device_it_says_so(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="there is no CUDA device here"):
        bench.main([])


def test_what_the_docstrings_show(bench: Any) -> None:
    for module in (bench, sys.modules["flops"]):
        found = doctest.testmod(module)
        assert found.attempted > 0
        assert found.failed == 0
