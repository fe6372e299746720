"""What `accelerate launch` starts in `test_together.py`: runs trained by as many processes as it was launched with.

usage: together.py BACKBONE ROOT CASE... [kill=RANK@STEP]
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from loops import mixed_run, run_of, trained

from adapters_xling.errors import XlingError
from adapters_xling.grid import Mix
from adapters_xling.spec import Fuse, RunSpec, Use, key
from adapters_xling.training.loop import Loop
from adapters_xling.zoo import Entry

EXACT: dict[str, Any] = {"max_steps": 6, "eval_every_steps": 2, "dropout": 0.0, "batch_size": 5, "warmup": 0.3}
NAMES = ("mini-nli", "mini-mlm", "mini-pos")


def parts(folder: Path, method: str) -> list[RunSpec]:
    """Two small entries to fuse."""
    return [run_of(folder, task=task, method=method) for task in ("mini-nli", "mini-pos")]


def fused(folder: Path, method: str) -> RunSpec:
    """A run that trains how `parts`, which must be in its zoo, are mixed."""
    route = Fuse(parts=tuple(Use(entry=key(part)) for part in parts(folder, method)))
    return msgspec.structs.replace(run_of(folder, method=method, **EXACT), route=route)


CASES: dict[str, Callable[[Path], RunSpec]] = {
    "fused-lora": lambda folder: fused(folder, "lora"),
    "fused-bottleneck": lambda folder: fused(folder, "bottleneck"),
    "full": lambda folder: run_of(folder, method="full", **EXACT),
    "bottleneck-accumulating": lambda folder: run_of(folder, method="bottleneck", **EXACT | {"accumulate": 4}),
    "lora-odd": lambda folder: run_of(folder, method="lora", **EXACT | {"accumulate": 3, "max_train_examples": 31}),
    "head-qa": lambda folder: run_of(folder, task="mini-qa", method="head", **EXACT),
    "mixture": lambda folder: mixed_run(folder, *NAMES, method="full", mix=Mix(rates={"mini-mlm": 0.4}), **EXACT),
    "mixture-pieces": lambda folder: mixed_run(
        folder, *NAMES, method="full", mix=Mix(rates={"mini-mlm": 0.4}), **EXACT | {"tokens_at_once": 40}
    ),
    "full-dropout": lambda folder: run_of(folder, method="full", **EXACT | {"dropout": 0.1, "accumulate": 2}),
    "too-many": lambda folder: run_of(folder, method="lora", **EXACT | {"batch_size": 1, "accumulate": 3}),
    "diverging": lambda folder: run_of(folder, method="full", **EXACT | {"learning_rate": 1e30}),
}


def run(spec: RunSpec, root: Path) -> Entry:
    """Train with checkpoints at every step and a log."""
    options: dict[str, Any] = {"checkpoint_dir": root / "checkpoints", "checkpoint_s": 0, "checkpoint_steps": 1}
    return trained(spec, root / "zoo", log_dir=root / "logs", **options)


def noting(at: Path, rank: str, kill: tuple[int, ...] = ()) -> Callable[..., Tensor]:
    """A `Loop._loss` that writes down the rows it computes a loss of, and dies where it is told to."""
    losses = Loop._loss

    def loss(self: Loop, task: Any, batch: dict[str, Tensor], weight: float) -> Tensor:
        step = self.progress.step + 1
        if kill == (self.processes.index, step):  # a process dies in the middle of a step
            await_checkpoint(self, step - 1)
            os.kill(os.getpid(), signal.SIGKILL)
        if weight:
            rows = zip(batch["input_ids"].tolist(), batch["attention_mask"].sum(1).tolist(), strict=True)
            with (at / f"rows-{rank}.jsonl").open("a", encoding="utf-8") as stream:
                stream.write(json.dumps([step, [ids[:length] for ids, length in rows]]) + "\n")
        return losses(self, task, batch, weight)

    return loss


def await_checkpoint(loop: Loop, step: int) -> None:
    """Wait until the first process has written a step's checkpoint: another one may be a step ahead of it by then."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        kept = loop.checkpoint.read()
        if kept is not None and kept.plain["progress"]["step"] >= step:
            return
        time.sleep(0.05)


def threads() -> list[str]:
    """Names of this process's threads, those of C++ libraries included."""
    return sorted(path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm"))


def main() -> None:
    torch.set_num_threads(1)
    backbone, root, *names = sys.argv[1:]
    note = Path(root) / f"threads-{os.environ.get('RANK', '0')}.json"
    # registered before any group is joined, so called after it was left
    atexit.register(lambda: note.write_text(json.dumps(threads())))
    kill: tuple[int, ...] = ()
    if names[-1].startswith("kill="):
        kill = tuple(map(int, names.pop().removeprefix("kill=").split("@")))
    rank, losses = os.environ.get("RANK", "0"), Loop._loss
    for name in names:
        at = Path(root) / name
        at.mkdir(parents=True, exist_ok=True)
        Loop._loss = losses  # type: ignore[method-assign]
        Loop._loss = noting(at, rank, kill)  # type: ignore[method-assign]
        try:
            run(CASES[name](Path(backbone)), at)
        except XlingError as err:
            (at / f"error-{rank}.txt").write_text(f"{type(err).__name__}: {err}", encoding="utf-8")
            if kill:
                raise


if __name__ == "__main__":
    main()
