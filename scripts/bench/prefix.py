"""Training steps per second when the hidden states of frozen layers are kept, beside what one would run otherwise.

    PYTHONPATH=. python scripts/bench/prefix.py                                  # XLM-R base's shape (about 8 GB)
    PYTHONPATH=. python scripts/bench/prefix.py --hidden 256 --layers 6 --vocabulary 5000 --rows 64 --length 32
    PYTHONPATH=. python scripts/bench/prefix.py --device cuda --precision bf16 --disk /tmp/rows --size 20GiB

Contenders: full fine-tuning, adapters in all layers, adapters in the top layers alone with every layer computed, and
the same with the output of the frozen layers kept. All take the same batches of random rows, of lengths between half
and all of `--length`, in an order that changes from epoch to epoch. Weights are random, dropout is 0.1 in the head (and
in full fine-tuning everywhere).

Before anything is timed, the last two must agree: losses over two epochs from the same start (within 1e-5 in float32,
stored as computed; else the difference is only given). The figures are of whole epochs from the second on, one of each
contender in turn, `--rounds` times, and their median counts. On a machine that has other work `--clock cpu` counts
computing time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from adapters_xling.backbones import BACKBONES, FAMILIES
from adapters_xling.inference import passes
from adapters_xling.methods import resolve
from adapters_xling.methods.slots import slot_name
from adapters_xling.model import LoadedBackbone, Model
from adapters_xling.prefix_cache import OFF, PrefixCache, open_store
from adapters_xling.spec import BackboneId, Slot, TaskSpec
from adapters_xling.tasks import kinds
from adapters_xling.units import parse_bytes

AGREE = 1e-5
TASK = TaskSpec(
    name="random",
    kind="sentence",
    role="private",
    title="random",
    languages=("en",),
    sources=(),
    metrics=("accuracy",),
    labels=("a", "b", "c"),
)


@dataclass
class Contender:
    """A model in training.

    Attributes:
        name: what it is called in the output.
        model: it.
        optimizer: over what trains.
        setting: what is kept of its frozen layers.
    """

    name: str
    model: Model
    optimizer: torch.optim.Optimizer
    setting: PrefixCache = OFF


def model_of(args: argparse.Namespace, method: str, settings: dict[str, Any]) -> Model:
    """A random encoder of the shape asked for, a method and a head."""
    from transformers import XLMRobertaConfig, XLMRobertaModel

    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=args.vocabulary,
        hidden_size=args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=max(1, args.hidden // 64),
        intermediate_size=4 * args.hidden,
        max_position_embeddings=514,
        type_vocab_size=1,
    )
    encoder = XLMRobertaModel(config, add_pooling_layer=False).eval()
    name = BackboneId(name="random", repo="random", revision=None, digest="0" * 64)
    tokenizer = SimpleNamespace(pad_token_id=1, sep_token_id=2)
    row, family = BACKBONES["xlm-roberta-base"], FAMILIES["xlm-roberta"]
    loaded = LoadedBackbone(encoder, tokenizer, name, family, row, "random", Path())
    model = Model(loaded, resolve(method, settings), dropout=0.1)
    model.trainable = model.method.attach(encoder, slot_name(0), None, Slot())
    model.set_dropout()
    model.add_head(TASK)
    return model.to(args.device)


def contenders(args: argparse.Namespace) -> list[Contender]:
    """The four, the last two on one model."""
    size = {"reduction_factor": args.reduction} if args.method == "bottleneck" else {"dropout": 0.0}
    frozen = tuple(range(args.layers - args.top))
    adapted = tuple(range(args.layers - args.top, args.layers))
    top = {"leave_out": frozen} if args.method == "bottleneck" else {"layers": adapted}
    setting = PrefixCache(num_bytes=int(parse_bytes(args.size)), folder=args.disk, storage=args.storage)
    found = []
    for name, method, settings in (
        ("full", "full", {"train_embeddings": not args.freeze_tokens}),
        ("all layers", args.method, size),
        ("top layers", args.method, {**size, **top}),
    ):
        model = model_of(args, method, settings)
        optimizer = torch.optim.AdamW(list(model.trainable_parameters().values()), lr=1e-4)
        found.append(Contender(name, model, optimizer))
    last = found[-1]
    return [*found, Contender("top layers, kept", last.model, last.optimizer, setting)]


def batches(args: argparse.Namespace, epoch: int) -> list[dict[str, Tensor]]:
    """The rows of an epoch, the same in each, in the epoch's own order."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(args.length // 2, args.length + 1, (args.rows,), generator=generator).tolist()
    rows = [torch.randint(4, args.vocabulary, (length,), generator=generator) for length in lengths]
    order = torch.randperm(args.rows, generator=torch.Generator().manual_seed(epoch)).tolist()
    found = []
    for top in range(0, args.rows, args.batch):
        chosen = order[top : top + args.batch]
        ids_NT = torch.ones(len(chosen), max(lengths[i] for i in chosen), dtype=torch.long)
        mask_NT = torch.zeros_like(ids_NT)
        for row, i in enumerate(chosen):
            ids_NT[row, : lengths[i]], mask_NT[row, : lengths[i]] = rows[i], 1
        found.append({"input_ids": ids_NT, "attention_mask": mask_NT, "labels": torch.tensor(chosen) % 3})
    return found


def epoch_of(args: argparse.Namespace, one: Contender, epoch: int) -> tuple[float, list[float]]:
    """Train an epoch; its seconds and losses."""
    kind, model, losses = kinds.get(TASK.kind), one.model, []
    if (model.prefix is not None) is not one.setting.is_on:
        model.keep_prefix(one.setting)
    parameters = list(model.trainable_parameters().values())
    torch.manual_seed(epoch)
    model.train()
    given = batches(args, epoch)
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    started = clock()
    for cpu in given:
        batch = {name: tensor.to(args.device) for name, tensor in cpu.items()}
        with passes(model, args.precision):
            loss = kind.loss(model(batch, TASK).float(), batch)
        loss.backward()
        losses.append(loss.item())
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        one.optimizer.step()
        one.optimizer.zero_grad()
    if args.device == "cuda":
        torch.cuda.synchronize()
    return clock() - started, losses


def largest_difference(args: argparse.Namespace, plain: Contender, kept: Contender) -> float:
    """Largest difference of a loss over two epochs from the same start, which is put back."""
    start, found = plain.model.trainable_state(), []
    for one in (plain, kept):
        one.model.load_trainable(start)
        one.optimizer.state.clear()
        found.append([loss for epoch in (1, 2) for loss in epoch_of(args, one, epoch)[1]])
    plain.model.load_trainable(start)
    plain.optimizer.state.clear()
    return max(abs(a - b) for a, b in zip(*found, strict=True))


def machine(args: argparse.Namespace) -> dict[str, Any]:
    """What a figure is worth little without."""
    import transformers

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        name = next((line.partition(":")[2].strip() for line in cpuinfo.open() if line.startswith("model name")), name)
    return {
        "processor": name,
        "gpu": torch.cuda.get_device_name() if args.device == "cuda" else None,
        "threads": torch.get_num_threads(),
        "load_at_end": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def main() -> None:
    """Check, measure, and print one line of JSON per comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=["bottleneck", "lora"], default="bottleneck")
    parser.add_argument("--reduction", type=float, default=16.0, help="reduction factor of bottlenecks")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--top", type=int, help="layers that are adapted (default: the upper half)")
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--vocabulary", type=int, default=250002)
    parser.add_argument("--freeze-tokens", action="store_true", help="full fine-tuning leaves the token vectors alone")
    parser.add_argument("--rows", type=int, default=128, help="rows of an epoch")
    parser.add_argument("--length", type=int, default=64, help="tokens of the longest row")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", default="4GiB", help="what may be kept")
    parser.add_argument("--disk", type=Path, help="keep it in files of this folder; left out: in memory")
    parser.add_argument("--storage", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file of all figures")
    args = parser.parse_args()
    args.top = args.layers // 2 if args.top is None else args.top
    torch.set_num_threads(args.threads)
    everyone = contenders(args)
    kept = everyone[-1]
    difference = largest_difference(args, everyone[-2], kept)
    if args.storage == "fp32" and args.precision == "fp32" and not difference <= AGREE:
        raise SystemExit(f"losses with and without kept rows differ by {difference:.3g}; {AGREE:g} is allowed")
    steps = len(batches(args, 0))
    rates: dict[str, list[float]] = {one.name: [] for one in everyone}
    for epoch in range(3, 4 + args.rounds):
        for one in everyone:
            seconds, _ = epoch_of(args, one, epoch)
            if epoch > 3:  # the first does not count
                rates[one.name].append(steps / seconds)
    median = {name: statistics.median(each) for name, each in rates.items()}
    store = open_store(kept.setting)
    shared = {
        "equal_within": difference,
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine(args),
    }
    found = []
    for name in median:
        if name != kept.name:
            row = {
                "name": f"{kept.name}, against {name}",
                "ratio": round(median[kept.name] / median[name], 3),
                **shared,
            }
            found.append(row)
            print(json.dumps(row), flush=True)
    figures = {
        "steps_per_s": {name: [round(rate, 4) for rate in each] for name, each in rates.items()},
        "median_steps_per_s": {name: round(rate, 4) for name, rate in median.items()},
        "kept_mb": round(store.held / 1e6, 1),
        "kept_share": round(store.use.share, 4),
    }
    print(json.dumps(figures))
    if args.out:
        args.out.write_text(json.dumps({"comparisons": found, **figures}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
