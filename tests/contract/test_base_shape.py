"""XLM-R base with random weights, its real shape and vocabulary: every kind trains under every method.

Needs 1.2 GB of disk, 7 GB of memory and minutes; `-s` shows the memory of each step beside what was computed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_xling import grid, methods, tasks
from adapters_xling.backbones import BACKBONES, FAMILIES
from adapters_xling.evaluation import evaluate
from adapters_xling.grid.memory import Batch, footprint
from adapters_xling.model import backbone_id, build
from adapters_xling.spec import RunSpec
from adapters_xling.tasks import kinds
from adapters_xling.training.loop import optimiser
from adapters_xling.zoo import Zoo

DATA = os.environ.get("XLING_DATA", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.realdata,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not DATA, reason="XLING_DATA is not set: XLM-R's vocabulary is not at hand"),
]
SHAPE = BACKBONES["xlm-roberta-base"].shape
assert SHAPE is not None
ROWS, STEPS = 4, 3
KINDS = {
    "sentence": "mini-nli",
    "choice": "mini-choice",
    "tag": "mini-pos",
    "span": "mini-qa",
    "mlm": "mini-mlm",
}
METHODS = {"full": 2e-5, "bottleneck": 1e-4, "lora": 1e-4}
"""Learning rates at which a repeated batch is learnt within a few steps."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from transformers import XLMRobertaConfig, XLMRobertaModel, XLMRobertaTokenizerFast

    folder = tmp_path_factory.mktemp("backbones") / "random-base"
    tokenizer = XLMRobertaTokenizerFast(vocab_file=str(Path(DATA) / "xlmr-vocab" / "sentencepiece.bpe.model"))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=SHAPE.vocabulary,
        hidden_size=SHAPE.hidden,
        num_hidden_layers=SHAPE.layers,
        num_attention_heads=12,
        intermediate_size=SHAPE.ffn,
        max_position_embeddings=SHAPE.positions,
        type_vocab_size=1,
    )
    encoder = XLMRobertaModel(config, add_pooling_layer=False)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == SHAPE.num_parameters
    encoder.save_pretrained(folder)
    del encoder
    yield folder
    shutil.rmtree(folder)


def run_of(base: Path, kind: str, method: str) -> RunSpec:
    return grid.make_run(
        tasks.get(KINDS[kind]),
        methods.resolve(method),
        backbone=backbone_id(str(base)),
        recipe="paper",
        overrides={"learning_rate": METHODS[method], "dropout": 0.0, "max_length": 64, "batch_size": ROWS},
        backbone_folder=base,
    )


def give_back() -> None:
    """Return to the system what earlier tests freed; it would be used again and hide what this one needs."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # the C library of most Linux systems
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def resident_bytes() -> int:
    """Bytes of main memory this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_repeated_batch_is_learnt(kind: str, method: str, base: Path, tmp_path: Path) -> None:
    run, task = run_of(base, kind, method), tasks.get(KINDS[kind])
    model = build(run, zoo=Zoo(tmp_path / "zoo"), tasks=[task], backbone=base)
    assert len(model.tokenizer) == SHAPE.vocabulary
    own = kinds.get(task.kind)
    examples = tasks.load(task, "train", "en", limit=ROWS).examples
    rows = own.encode(examples, model.tokenizer, task, max_length=run.recipe.max_length)
    batch: dict[str, Any] = own.collate(rows, pad_id=model.pad_id)
    made = optimiser(model, run.recipe)
    model.train()
    give_back()
    losses, before = [], resident_bytes()
    most = before
    for _ in range(STEPS + 1):
        loss = own.loss(model(batch, task).float(), batch)
        most = max(most, resident_bytes())
        losses.append(loss.item())
        loss.backward()
        most = max(most, resident_bytes())
        made.step()
        most = max(most, resident_bytes())
        made.zero_grad()
    ids = batch["input_ids"]
    width = ids.shape[-1]
    guessed = float((batch["labels"] != -100).sum()) if kind == "mlm" else 0.0
    sized = Batch(ids.numel() / width, width, len(task.labels), guessed)
    need = footprint(methods.resolve(method), run.recipe, sized, SHAPE, FAMILIES["xlm-roberta"], device="cpu")
    computed = need.peak - need.weights
    print(  # noqa: T201 - what this test is run for
        f"\n{kind}, {method}: loss {' '.join(f'{loss:.3f}' for loss in losses)}; memory above the weights "
        f"{(most - before) / 1e6:,.0f} MB, computed {computed / 1e6:,.0f} MB"
    )
    assert all(map(torch.isfinite, map(torch.tensor, losses)))
    assert losses[-1] < losses[0]
    if (
        method == "full"
    ):  # enough to rise above what the allocator keeps back; what an update makes for a moment is gone
        assert 0.8 < (need.moments + need.gradients) / (most - before) < 1.1


@pytest.mark.filterwarnings("ignore")
def test_retrieval_reads_it(base: Path, tmp_path: Path) -> None:
    task = tasks.get("mini-retrieval")
    scores = evaluate(
        base.name, task, zoo=Zoo(tmp_path / "zoo"), runs_dir=tmp_path, languages=["de"], limit=4, backbone=base
    )
    assert {score.language for score in scores} == {"de"}
    assert all(0 <= score.value <= 100 for score in scores)
