"""Training on sentence pairs of MultiNLI's lengths: this package against transformers' Trainer over plain libraries.

    python scripts/bench/training.py --method lora

The Trainer trains the plain encoder, plain adapters or plain peft around it (scripts/plain_trainer.py), once as its
example script for XNLI does it by default (rows padded to 128 tokens), once at its best (batches padded to their
longest row, rows grouped by length). In bfloat16 it has a third setting: the best one with the environment variables
that make glibc keep freed memory, which this package sees to by itself. All train the same rows with the same batch
size, steps, precision and settings, without dropout, each in a process of its own; ours sorts rows by length in windows
of 64 batches (`sort_window`), and computes the last layer for the tokens that the head reads. What counts are real
tokens a second, padding not counted, after the first steps. Before that both sides take the same batches from the same
weights, and every loss must agree.
"""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import Row, alternate, finish, options, require_equal, row, training_options, write_encoder, write_task

METHODS = {
    "full": "full",
    "bottleneck": "bottleneck:{reduction_factor: 16}",
    "lora": "lora:{r: 8, alpha: 16, dropout: 0.0}",
}
BARS = {"default": 2.5, "best": 1.05, "best-pages": 1.0}
BASELINES = {
    "default": "transformers' Trainer over {library}, rows padded to 128 tokens",
    "best": "transformers' Trainer over {library}, batches padded to their longest row, rows grouped by length",
    "best-pages": "transformers' Trainer over {library} at its best, MALLOC_MMAP_MAX_ and MALLOC_TRIM_THRESHOLD_ set",
}
PAGES = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
LIBRARIES = {"full": "the plain encoder", "bottleneck": "plain adapters", "lora": "plain peft"}
MAX_LENGTH = 128
AGREE = 1e-5


def ours(side: Any, args: argparse.Namespace) -> float:
    """Real tokens a second of this package's loop, after the first steps."""
    from adapters_xling.model import build
    from adapters_xling.training.checkpoint import Checkpoint
    from adapters_xling.training.data import load_data
    from adapters_xling.training.loop import Loop
    from adapters_xling.training.preparing import join
    from adapters_xling.zoo import Zoo

    zoo = Zoo(side.folder / "none", fallbacks=())
    accelerator, processes, place = join(args.device, (), None)
    model = build(side.run, zoo=zoo, tasks=[side.task], backbone=side.folder, device=place)
    parts = {side.task.name: load_data(side.task, side.recipe, model.tokenizer, data_dir=side.data_dir)}
    loop = Loop(side.run, model, parts, accelerator, processes, Checkpoint(None, side.run), time.perf_counter())
    loop.steps = args.warm_up
    loop.run_to_end(show_progress=False)
    tokens, began = loop.progress.num_tokens, time.perf_counter()
    loop.steps += args.steps
    loop.run_to_end(show_progress=False)
    return (loop.progress.num_tokens - tokens) / (time.perf_counter() - began)


def theirs(side: Any, args: argparse.Namespace, *, best: bool) -> float:
    """Real tokens a second of the Trainer, after the first steps."""
    import compare_trainer
    from plain_trainer import trainer
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        """Notes tokens and time when the first steps are over."""

        tokens = began = 0.0

        def on_step_end(self, args_: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == args.warm_up:
                self.tokens, self.began = loop.num_tokens, time.perf_counter()

    model = side.model()
    rows, _ = compare_trainer.plain_rows(side, model)
    plain = compare_trainer.plain_model(side, model, fresh=False)
    steps = args.warm_up + args.steps
    changes: dict[str, Any] = {"group_by_length": True} if best else {"pad_to": MAX_LENGTH}
    with tempfile.TemporaryDirectory() as folder:
        loop = trainer(
            plain,
            rows,
            model.tokenizer,
            Path(folder),
            **compare_trainer.settings_of(side.recipe, steps),
            seed=side.run.seed,
            use_cpu=args.device == "cpu",
            **changes,
        )
        clock = Clock()
        loop.add_callback(clock)
        loop.train()
        return (loop.num_tokens - clock.tokens) / (time.perf_counter() - clock.began)


def main(given: list[str] | None = None) -> None:
    """Check the losses, take the rounds, give the rows."""
    parser = options(__doc__)
    parser.add_argument("--method", default="lora", choices=sorted(METHODS))
    parser.add_argument("--steps", type=int, default=20, help="timed steps")
    parser.add_argument("--warm-up", type=int, default=4, help="steps before that")
    training_options(parser)
    parser.add_argument("--task", help="real rows of this task (XLING_DATA) instead of made-up ones, e.g. kit-nli")
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(given)
    if args.small:
        args.rounds = 1
        args.steps, args.warm_up, args.batch_size, args.layers, args.hidden, args.train_rows = 2, 1, 4, 2, 64, 48
    import torch

    torch.set_num_threads(args.threads)
    if args.side:
        name, folder = args.side
        print(rate_of(name, args, Path(folder)))
        return
    with tempfile.TemporaryDirectory(prefix="xling-bench-") as place:
        finish(measured(args, Path(place), sys.argv[1:] if given is None else given), args)


def side_with(args: argparse.Namespace, folder: Path, **changes: Any) -> Any:
    """What both sides train: a run on the encoder and the rows in the folder."""
    import compare_trainer

    from adapters_xling import tasks

    data_dir = None if args.task else folder
    task = tasks.with_labels(tasks.get(args.task or "made-up-nli"), data_dir=data_dir)
    asked = argparse.Namespace(backbone=str(folder / "encoder"), recipe="nano", changes=[], data_dir=data_dir)
    steps = args.warm_up + args.steps
    fields = {
        "batch_size": args.batch_size,
        "max_length": MAX_LENGTH,
        "dropout": 0.0,
        "warmup": 0,
        "dev_examples": 1,
        "pooling": "first",
        "sort_window": 0,
        "precision": args.precision,
        "max_steps": steps,
        "eval_every_steps": 10 * steps,
        "max_train_examples": args.train_rows,
    }
    return compare_trainer.side_of(task, METHODS[args.method], asked, seed=0, **{**fields, **changes})


def rate_of(name: str, args: argparse.Namespace, folder: Path) -> float:
    """Real tokens a second of a side, in this process."""
    side = side_with(args, folder)
    return ours(_sorting(side), args) if name == "ours" else theirs(side, args, best=name != "default")


def measured(args: argparse.Namespace, folder: Path, given: list[str]) -> list[Row]:
    """The rows, one for each setting of the Trainer."""
    os.environ["XLING_CACHE"] = str(folder / "cache")
    if not args.task:
        os.environ["XLING_TASKS"] = str(write_task(folder, train=args.train_rows))
    write_encoder(folder / "encoder", layers=args.layers, hidden=args.hidden)
    import compare_trainer

    gate = {"precision": "fp32", "dev_precision": "fp32", "max_steps": 5, "eval_every_steps": 5}
    checked = side_with(args, folder, **gate, max_train_examples=4 * args.batch_size)
    name = f"training/{args.method}{'' if args.precision == 'fp32' else f'-{args.precision}'}"
    difference = compare_trainer.compare_losses(checked)["largest_difference"]
    require_equal(name, difference, AGREE)

    def rate(side: str) -> float:
        command = [sys.executable, __file__, *given, "--side", side, str(folder)]
        environ = {key: value for key, value in os.environ.items() if key not in PAGES}
        own = PAGES if side == "best-pages" else {}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**environ, **own})
        return float(done.stdout.split()[-1])

    bars = {name: bar for name, bar in BARS.items() if name != "best-pages" or args.precision == "bf16"}
    figures = alternate({side: functools.partial(rate, side) for side in ("ours", *bars)}, args.rounds)
    rows = "made-up pairs (premise 20, hypothesis 10 words in the mean)" if not args.task else f"rows of {args.task}"
    note = (
        f"{args.layers} × {args.hidden} encoder, {rows}, batches of {args.batch_size}, {args.steps} steps, "
        f"{args.precision}, {args.device}"
    )
    return [
        row(
            f"{name}/{setting}",
            {"ours": figures["ours"], "theirs": figures[setting]},
            bar=bar,
            equal_within=AGREE,
            difference=difference,
            baseline=BASELINES[setting].format(library=LIBRARIES[args.method]),
            unit="real tokens/s",
            more_is_better=True,
            note=note,
        )
        for setting, bar in bars.items()
    ]


def _sorting(side: Any) -> Any:
    """The same run with its rows sorted by length in windows."""
    import dataclasses

    import msgspec

    recipe = msgspec.structs.replace(side.run.recipe, sort_window=64)
    return dataclasses.replace(side, run=msgspec.structs.replace(side.run, recipe=recipe))


if __name__ == "__main__":
    main()
