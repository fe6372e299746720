"""Mining sentence pairs (retrieval.py) as lines of the benchmarks: against all vectors in memory and exact neighbours
from FAISS, or numpy where it is not installed, which is how XTREME's scripts mine.

    python scripts/bench/mining.py

Both mine the same vectors, in processes of their own, and must find the same pairs but for what rounding decides. What
is mined from a subset is compared with a dense computation in float64 first.
"""

from __future__ import annotations

import functools
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import retrieval
from common import alternate, finish, options, row

APART = 1e-3
"""Share of pairs that rounding may decide otherwise: where two sentences are equally near in float32."""


def main(given: list[str] | None = None) -> None:
    """A line for time and one for memory."""
    parser = options(__doc__)
    parser.add_argument("--sentences", type=int, default=100_000, help="on either side")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--device", default="cpu", help="where this package searches: cpu or cuda")
    args = parser.parse_args(given)
    if args.small:
        args.sentences, args.width, args.rounds = 600, 32, 1
    size = (args.sentences, args.width)
    peaks: dict[str, list[float]] = {"ours": [], "theirs": []}
    with tempfile.TemporaryDirectory(prefix="xling-bench-") as place:
        folder = Path(place)
        retrieval.make(folder, *size)
        retrieval.child(args, folder, "check", *size, min(2000, args.sentences))

        def side(name: str, *call: Any) -> float:
            found = retrieval.child(args, folder, *call)
            peaks[name].append(found["peak_bytes"] / 1e6)
            return found["seconds"]

        figures = alternate(
            {
                "ours": functools.partial(side, "ours", "one", *size, args.sentences, args.device),
                "theirs": functools.partial(side, "theirs", "in_memory", *size, args.threads),
            },
            args.rounds,
        )
        ours, theirs = (
            set(map(tuple, np.load(folder / f"pairs-{name}.npy").T.tolist())) for name in ("one", "in_memory")
        )
    apart = len(ours ^ theirs) / max(1, len(ours | theirs))
    by = "FAISS" if importlib.util.find_spec("faiss") else "numpy (FAISS is not installed)"
    note = f"{args.sentences:,} × {args.sentences:,} sentences, width {args.width}, both directions; searching alone"
    both = {"equal_within": APART, "difference": apart, "note": note}
    baseline = f"all vectors in memory, exact neighbours from {by}, margins candidate by candidate"
    finish(
        [
            row("retrieval/time", figures, bar=2.0, baseline=baseline, **both),
            row("retrieval/memory", peaks, bar=1.0, baseline=baseline, unit="MB at the peak", **both),
        ],
        args,
    )


if __name__ == "__main__":
    main()
