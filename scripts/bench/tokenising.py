"""Encoding made-up sentence pairs by several threads against one, and against the tokenizers library's own threads.

    python scripts/bench/tokenising.py --pairs 50000

The arrays, which are the bytes of the cache's file, must be the same before anything is timed. Nothing is measured
where this process may use one core only.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import Row, alternate, finish, options, row, seconds, write_task

THREADS = 2
BASELINES = {
    "one-thread": "the same, one thread",
    "library-threads": "chunks one after the other, each by the tokenizers library's own threads",
}
BAR = 1.0
VARIABLE = "TOKENIZERS_PARALLELISM"


def measured(args: argparse.Namespace, folder: Path) -> list[Row]:
    """A row for each way that is not ours."""
    os.environ["XLING_TASKS"] = str(write_task(folder, train=args.pairs))
    from adapters_xling import tasks
    from adapters_xling.model import load_tokenizer
    from adapters_xling.tasks import cache, encoding, kinds

    task = tasks.get("made-up-nli")
    examples = tasks.load(task, "train", "en", data_dir=folder).examples
    encode = functools.partial(
        kinds.get(task.kind).encode, tokenizer=load_tokenizer("xlmr-nano"), task=task, max_length=128
    )

    def arrays(threads: int, *, library: bool = False) -> dict[str, Any]:
        os.environ[VARIABLE] = str(library).lower()
        return encoding.encoded(encode, examples, chunk=cache.CHUNK, name=task.name, threads=threads)

    expected, found = arrays(1), arrays(THREADS)
    same = all(expected[name].tobytes() == found[name].tobytes() for name in expected) and list(expected) == list(found)
    figures = alternate(
        {
            "ours": lambda: seconds(lambda: arrays(THREADS)),
            "one-thread": lambda: seconds(lambda: arrays(1)),
            "library-threads": lambda: seconds(lambda: arrays(1, library=True)),
        },
        args.rounds,
    )
    return [
        row(
            f"tokenising/{name}",
            {"ours": figures["ours"], "theirs": figures[name]},
            bar=BAR,
            equal_within=0,
            difference=0.0 if same else float("inf"),
            baseline=baseline,
            note=f"{args.pairs:,} made-up pairs, {THREADS} threads, the shipped vocabulary of 16,000",
        )
        for name, baseline in BASELINES.items()
    ]


def main(given: list[str] | None = None) -> None:
    """Compare the arrays, take the rounds, give the rows."""
    parser = options(__doc__)
    parser.add_argument("--pairs", type=int, default=50_000)
    args = parser.parse_args(given)
    if args.small:
        args.rounds, args.pairs = 1, 6500
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < THREADS:
        print(f"not measured: {cores} core for {THREADS} threads", file=sys.stderr)
        finish([], args)
        return
    with tempfile.TemporaryDirectory(prefix="xling-bench-") as place:
        finish(measured(args, Path(place)), args)


if __name__ == "__main__":
    main()
