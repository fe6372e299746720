"""What the benchmarks share: how a figure is taken, what is written down with it, and made-up rows and encoders.

A benchmark is a script that checks that both sides compute the same, takes rounds in turn, and gives rows
(`finish`). It runs by itself, or as a process of run.py, which keeps the rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the libraries ask the hub about folders too, and wait for an answer

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "transformers", "adapters", "peft", "accelerate", "numpy", "faiss-cpu")
XNLI = ("en", "de", "fr", "es", "el", "bg", "ru", "tr", "ar", "vi", "th", "zh", "hi", "sw", "ur")

PREMISE, HYPOTHESIS = (20.0, 0.6), (10.0, 0.4)
"""Mean words of both sentences of a made-up pair, and the spread of their logarithm: log-normal, as in MultiNLI, whose
premises are about twice as long as its hypotheses and far more uneven."""

TASK = """name: made-up-nli
kind: sentence
role: private
title: Made-up sentence pairs
languages: [{languages}]
labels: [contradiction, entailment, neutral]
metrics: [accuracy]
sources:
  - type: files
    reader: table
    splits: {{train: "train-{{language}}.tsv", dev: "dev-{{language}}.tsv", test: "test-{{language}}.tsv"}}
    options: {{columns: {{first: first, second: second, label: label}}}}
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A line of docs/benchmarks.json.

    Attributes:
        name: unique; benchmark first, with slashes.
        ratio: how many times as good as the baseline ours is; below 1 is a loss.
        bar: least ratio that is wanted.
        equal_within: largest difference of outputs that the check before the timing allows.
        difference: what it found.
        baseline: what ours is compared with, in words.
        unit: of the two figures.
        ours: median over the rounds.
        theirs: likewise.
        rounds: (ours, theirs) of each round, taken in turn.
        note: sizes, and what is extrapolated.
    """

    name: str
    ratio: float
    bar: float
    equal_within: float
    difference: float
    baseline: str
    unit: str
    ours: float
    theirs: float
    rounds: Sequence[tuple[float, float]]
    note: str = ""


def row(
    name: str,
    sides: Mapping[str, Sequence[float]],
    *,
    bar: float,
    equal_within: float,
    difference: float,
    baseline: str,
    unit: str = "s",
    more_is_better: bool = False,
    note: str = "",
) -> Row:
    """A line from the figures of both sides, `ours` and `theirs`.

    Raises:
        SystemExit: when their outputs differ by more than is allowed; then no time is worth anything.
    """
    require_equal(name, difference, equal_within)
    ours, theirs = (statistics.median(sides[side]) for side in ("ours", "theirs"))
    return Row(
        name=name,
        ratio=round(ours / theirs if more_is_better else theirs / ours, 3),
        bar=bar,
        equal_within=equal_within,
        difference=difference,
        baseline=baseline,
        unit=unit,
        ours=_short(ours),
        theirs=_short(theirs),
        rounds=[(_short(a), _short(b)) for a, b in zip(sides["ours"], sides["theirs"], strict=True)],
        note=note,
    )


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def require_equal(name: str, difference: float, bound: float) -> None:
    """End where both sides do not compute the same.

    Raises:
        SystemExit: naming the benchmark and the difference.
    """
    if not difference <= bound:
        raise SystemExit(f"{name}: both sides differ by {difference:.3g}, allowed is {bound:g}; nothing was timed")


def alternate(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Figures of each side, the sides in turn, every second round the other way round."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(sides[name]())
    return found


def seconds(function: Callable[[], Any]) -> float:
    """What a call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def options(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the options every benchmark has."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes; the figures mean nothing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=Path, help="JSON file for the rows, beside printing them")
    return parser


def training_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of benchmarks that train a random encoder."""
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--train-rows", type=int, default=4096)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--device", default="cpu", help="cpu or cuda")


def finish(rows: Sequence[Row], args: argparse.Namespace) -> None:
    """Print rows, and write them where that was asked for."""
    made = [dataclasses.asdict(one) for one in rows]
    for one in made:
        print(json.dumps(one))
    if args.rows:
        args.rows.write_text(json.dumps(made), encoding="utf-8")


def facts(threads: int) -> dict[str, Any]:
    """What a figure depends on beside the code: machine, versions, commit."""
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "machine": f"{processor()}, {os.cpu_count()} cores, {threads} threads used",
        "commit": git.stdout.strip() or "unknown",
        "versions": versions,
        "made": time.strftime("%Y-%m-%d"),
    }


def processor() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.is_file() else []
    return names[0].partition(":")[2].strip() if names else platform.processor()


# --- made-up rows and encoders ------------------------------------------------------------------------------------


def write_task(folder: Path, *, train: int = 0, test: int = 0, languages: Sequence[str] = ("en",)) -> Path:
    """Write a task of sentence pairs of MultiNLI's lengths, its words from the mini tasks; returns the task's folder.

    Args:
        folder: gets the rows, which is then the data folder.
        train: rows of the English train split.
        test: rows of each language's test split.
        languages: codes; the words are English in all of them.
    """
    from adapters_xling import tasks

    mini = tasks.load(tasks.get("mini-nli"), "train", "en", limit=2000).examples
    words = sorted({word for one in mini for word in f"{one.first} {one.second}".split()})  # type: ignore[union-attr]
    for split, count, codes in (("train", train, ("en",)), ("dev", 8, ("en",)), ("test", test, languages)):
        for code in codes if count else ():
            draw = random.Random(f"{split} {code}")
            lines = ["first\tsecond\tlabel"]
            for _ in range(count):
                pair = [" ".join(draw.choices(words, k=_length(draw, *size))) for size in (PREMISE, HYPOTHESIS)]
                lines.append("\t".join([*pair, draw.choice(["contradiction", "entailment", "neutral"])]))
            (folder / f"{split}-{code}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "tasks").mkdir(exist_ok=True)
    text = TASK.format(languages=", ".join(languages))
    (folder / "tasks" / "made-up-nli.yaml").write_text(text, encoding="utf-8")
    return folder / "tasks"


def _length(draw: random.Random, mean: float, spread: float) -> int:
    """Words of a sentence: log-normal with this mean."""
    from math import log

    return max(1, round(draw.lognormvariate(log(mean) - spread**2 / 2, spread)))


def write_encoder(folder: Path, *, layers: int, hidden: int) -> Path:
    """Write an encoder with random weights, XLM-R's architecture and the shipped tokenizer."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    from adapters_xling.model import load_tokenizer

    tokenizer = load_tokenizer("xlmr-nano")
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=max(1, hidden // 64),
        intermediate_size=4 * hidden,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
