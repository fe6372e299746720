"""Switching between resident entries (switching.py), as lines of the benchmarks: against the limit of 0.1 ms a switch,
against the libraries' own switches, and how many graphs `torch.compile` makes of twelve entries (graphs.py).

    python scripts/bench/residents.py
"""

from __future__ import annotations

import argparse

import graphs
import switching
import torch
from common import Row, finish, options, row

LIMIT_MS = 0.1
ENTRIES = 12


def main(given: list[str] | None = None) -> None:
    """Three lines for each method."""
    args = options(__doc__).parse_args(given)
    torch.set_num_threads(args.threads)
    how = argparse.Namespace(
        rounds=max(args.rounds, 1 if args.small else 5),
        switches=200 if args.small else 2000,
        rows=0,
        layers=2 if args.small else 12,
        hidden=64 if args.small else 768,
        vocabulary=100 if args.small else 250002,
    )
    count = 3 if args.small else 100
    lines: list[Row] = []
    for name, measure in (("bottleneck", switching.bottleneck), ("lora", switching.lora)):
        found = measure(how, [count])[-1]
        library = {"bottleneck": "adapters' set_active_adapters", "lora": "peft's set_adapter"}[name]
        for line, theirs, bar, baseline in (
            ("limit", [LIMIT_MS] * how.rounds, 1.0, "the limit for a switch"),
            ("library", found["library_ms_each"], 1.0, library),
        ):
            lines.append(
                row(
                    f"switching/{name}/{line}",
                    {"ours": found["ours_ms_each"], "theirs": theirs},
                    bar=bar,
                    equal_within=switching.AGREE,
                    difference=found["max_difference"],
                    baseline=baseline,
                    unit="ms",
                    note=f"{count} residents, {how.layers} × {how.hidden} encoder",
                )
            )
        counted = graphs.count(name, 3 if args.small else ENTRIES)
        stopped = counted["library_compiled_at_the_usual_limit"]
        lines.append(
            row(
                f"switching/compile/{name}",
                {side: [counted[side]] * how.rounds for side in ("ours", "theirs")},
                bar=float(counted["entries"]),
                equal_within=switching.AGREE,
                difference=counted["max_difference"],
                baseline=f"torch.compile of the encoder and {library}",
                unit="graphs",
                note=(
                    f"{counted['entries']} entries in turn, {graphs.LAYERS} × {graphs.HIDDEN} encoder; counted, not "
                    f"timed. Torch's limit on graphs was raised for the baseline: at the usual one {stopped} entries "
                    "ran compiled, the others uncompiled, which a line of the log says"
                ),
            )
        )
    finish(lines, args)


if __name__ == "__main__":
    main()
