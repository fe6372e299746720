"""Training steps computed in pieces of similar length (`tokens_at_once`) against whole batches, rows sorted and not.

    python scripts/bench/pieces.py --budgets 512,1024,2048

Made-up sentence pairs of MultiNLI's lengths. Every setting trains from the same weights; those that keep the order of
the rows take the same steps, and their losses must agree before anything is timed. What counts are real tokens a
second, padding not counted. With one thread on a CPU seconds are those of the processor, so that other processes
change the figure less.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import Row, alternate, finish, options, row, training_options, write_encoder, write_task

AGREE = {"fp32": 1e-5, "bf16": 0.05}
BAR = 1.0
WINDOW = 64
METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "bottleneck": {"reduction_factor": 16},
    "lora": {"r": 8, "alpha": 16, "dropout": 0.0},
}


class Side:
    """One setting: a loop of its own over the model it shares with the others, whose weights it starts from anew."""

    def __init__(self, run: Any, task: Any, folder: Path, args: argparse.Namespace) -> None:
        from accelerate import Accelerator

        from adapters_xling.model import build
        from adapters_xling.processes import ALONE
        from adapters_xling.training.checkpoint import Checkpoint
        from adapters_xling.training.data import load_data
        from adapters_xling.training.loop import Loop
        from adapters_xling.zoo import Zoo

        zoo = Zoo(folder / "none", fallbacks=())
        model = build(run, zoo=zoo, tasks=[task], backbone=folder, device=args.device)
        parts = {task.name: load_data(task, run.recipe, model.tokenizer, data_dir=folder)}
        accelerator = Accelerator(cpu=args.device == "cpu")
        self.loop = Loop(run, model, parts, accelerator, ALONE, Checkpoint(None, run), time.perf_counter())
        self.loop.steps = 0
        self.args = args
        self.paddings: list[float] = []

    def take(self, steps: int) -> list[float]:
        """Take so many more steps; their losses."""
        before = len(self.loop.progress.losses)
        for _ in range(steps):
            self.loop.steps += 1
            self.loop.run_to_end(show_progress=False)
            self.paddings.append(self.loop.padding)
        return [loss for _, loss in self.loop.progress.losses[before:]]

    def rate(self) -> float:
        """Real tokens a second of the next steps."""
        clock = time.process_time if self.args.threads == 1 and self.args.device == "cpu" else time.perf_counter
        tokens, began = self.loop.progress.num_tokens, clock()
        self.take(self.args.steps)
        return (self.loop.progress.num_tokens - tokens) / (clock() - began)


def settings(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, int]]]:
    """Name and changes of the recipe of each setting; whole batches come first."""
    budgets = [int(text) for text in args.budgets.split(",")]
    yield "theirs", {}
    for budget in budgets:
        yield str(budget), {"tokens_at_once": budget}
    yield "sorted", {"sort_window": WINDOW}
    yield f"sorted-{args.both}", {"sort_window": WINDOW, "tokens_at_once": args.both}


def measured(args: argparse.Namespace, folder: Path) -> list[Row]:
    """A row for each setting but whole batches."""
    os.environ["XLING_CACHE"] = str(folder / "cache")
    os.environ["XLING_TASKS"] = str(write_task(folder, train=args.train_rows))
    from adapters_xling import tasks
    from adapters_xling.grid import make_run
    from adapters_xling.methods import resolve
    from adapters_xling.model import backbone_id

    write_encoder(folder, layers=args.layers, hidden=args.hidden)
    task = tasks.get("made-up-nli")
    shared = {
        "max_steps": 10_000,
        "eval_every_steps": 100_000,
        "batch_size": args.batch_size,
        "dropout": 0.0,
        "max_length": 128,
        "precision": args.precision,
        "max_train_examples": args.train_rows,
    }
    sides = {}
    for name, changes in settings(args):
        run = make_run(
            task,
            resolve(args.method, METHODS[args.method]),
            backbone=backbone_id(str(folder)),
            recipe="paper",
            overrides={**shared, **changes},
            seed=0,
            data_dir=folder,
        )
        sides[name] = Side(run, task, folder, args)
    losses = {name: side.take(args.warm_up) for name, side in sides.items()}
    differences = {
        name: max(abs(a - b) for a, b in zip(found, losses["theirs"], strict=True))
        for name, found in losses.items()
        if not name.startswith("sorted")
    }
    differences |= {  # other rows a step: pieces of sorted batches are compared with sorted batches
        name: max(abs(a - b) for a, b in zip(losses[name], losses["sorted"], strict=True))
        for name in losses
        if name.startswith("sorted")
    }
    figures = alternate({name: side.rate for name, side in sides.items()}, args.rounds)
    suffix = "" if args.precision == "fp32" else f"-{args.precision}"
    rows = []
    for name in list(sides)[1:]:
        padding = {one: sum(sides[one].paddings) / len(sides[one].paddings) for one in (name, "theirs")}
        note = (
            f"{args.layers} × {args.hidden} encoder, {args.method}, made-up pairs (premise 20, hypothesis 10 words in "
            f"the mean), batches of {args.batch_size}, {args.rounds * args.steps} steps, {args.precision}, "
            f"{args.device}; padding {padding[name]:.1%}, of whole batches {padding['theirs']:.1%}"
        )
        rows.append(
            row(
                f"pieces/{args.method}{suffix}/{name}",
                {"ours": figures[name], "theirs": figures["theirs"]},
                bar=BAR,
                equal_within=AGREE[args.precision],
                difference=differences[name],
                baseline="this package, whole batches padded to their longest row",
                unit="real tokens/s",
                more_is_better=True,
                note=note,
            )
        )
    return rows


def main(given: list[str] | None = None) -> None:
    """Check the losses, take the rounds, give the rows."""
    parser = options(__doc__)
    parser.add_argument("--method", default="full", choices=sorted(METHODS))
    parser.add_argument("--budgets", default="512,1024,2048", help="padded tokens of a piece, with commas")
    parser.add_argument("--both", type=int, default=1024, help="budget that is tried on sorted rows")
    parser.add_argument("--steps", type=int, default=8, help="timed steps of a round")
    parser.add_argument("--warm-up", type=int, default=3, help="steps before that, whose losses are compared")
    training_options(parser)
    args = parser.parse_args(given)
    if args.small:
        args.rounds, args.steps, args.warm_up = 1, 1, 1
        args.batch_size, args.layers, args.hidden, args.train_rows, args.budgets, args.both = 8, 2, 64, 48, "128", 128
    import torch

    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory(prefix="xling-bench-") as place:
        finish(measured(args, Path(place)), args)


if __name__ == "__main__":
    main()
