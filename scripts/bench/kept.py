"""Training with the output of frozen layers kept (prefix.py), as lines of the benchmarks: against full fine-tuning, and
against the same adapters in all layers.

    python scripts/bench/kept.py --method bottleneck

Before anything is timed, the losses with and without kept rows must agree over two epochs. Timed are whole epochs from
the second on, when every row is there.
"""

from __future__ import annotations

import argparse
import functools

import prefix
import torch
from common import Row, alternate, finish, options, row

BARS = {"full": ("full", 2.5), "all-layers": ("all layers", 1.6)}
"""Line -> contender of prefix.py, and the least ratio that is wanted."""
XLMR_TOKENS = 250_002


def main(given: list[str] | None = None) -> None:
    """Two lines for a method."""
    parser = options(__doc__)
    parser.add_argument("--method", choices=["bottleneck", "lora"], default="bottleneck")
    args = parser.parse_args(given)
    torch.set_num_threads(args.threads)
    how = argparse.Namespace(
        method=args.method,
        reduction=16.0,
        layers=2 if args.small else 12,
        top=1 if args.small else 6,
        hidden=64 if args.small else 384,
        vocabulary=100 if args.small else 8000,
        rows=8 if args.small else 128,
        length=8 if args.small else 64,
        batch=4 if args.small else 16,
        freeze_tokens=True,
        size="4GiB",
        disk=None,
        storage="fp32",
        precision="fp32",
        device="cpu",
        clock="wall",
    )
    everyone = {one.name: one for one in prefix.contenders(how)}
    kept = everyone["top layers, kept"]
    difference = prefix.largest_difference(how, everyone["top layers"], kept)
    timed = {"ours": kept, **{line: everyone[name] for line, (name, _) in BARS.items()}}
    steps, epochs = len(prefix.batches(how, 0)), dict.fromkeys(timed, 2)

    def steps_per_s(line: str) -> float:
        epochs[line] += 1
        return steps / prefix.epoch_of(how, timed[line], epochs[line])[0]

    found = alternate({line: functools.partial(steps_per_s, line) for line in timed}, args.rounds + 1)
    rates = {line: each[1:] for line, each in found.items()}  # the first does not count
    note = (
        f"{how.layers} × {how.hidden} encoder, the upper {how.top} layers adapted, {how.rows} rows of "
        f"{how.length // 2} to {how.length} tokens in batches of {how.batch}, from the second epoch on; "
        f"{how.vocabulary:,} token vectors, which full fine-tuning leaves frozen: with XLM-R's {XLMR_TOKENS:,} in "
        "training it would be slower still"
    )
    baselines = {
        "full": "full fine-tuning of all layers, token vectors frozen",
        "all-layers": f"{args.method} in all layers",
    }
    lines: list[Row] = [
        row(
            f"prefix/{args.method}/{line}",
            {"ours": rates["ours"], "theirs": rates[line]},
            bar=bar,
            equal_within=prefix.AGREE,
            difference=difference,
            baseline=baselines[line],
            unit="steps/s",
            more_is_better=True,
            note=note,
        )
        for line, (_, bar) in BARS.items()
    ]
    finish(lines, args)


if __name__ == "__main__":
    main()
