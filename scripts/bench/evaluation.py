"""Nine adapters in fifteen languages: all at once here, a loop over plain adapters, and a process for each cell.

    python scripts/bench/evaluation.py

The loop is what one writes with the library: one encoder, for each adapter its file, for each language its rows in
their order, batches of 32 padded to their longest row. A process per cell loads all of that for one adapter and one
language; a few cells are measured and the rest is extrapolated. Ours is everything that `xling evaluate` does: it
checks every file and probe, and writes predictions, outcomes and scores. Probabilities must agree first.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import XNLI, Row, alternate, finish, options, row, seconds, write_encoder, write_task

AGREE = 1e-5
BATCH_SIZE = 32
MAX_LENGTH = 128


def make_entries(folder: Path, count: int) -> list[str]:
    """Write bottleneck entries with random weights into a zoo; returns their keys."""
    import torch

    from adapters_xling import tasks
    from adapters_xling.grid import make_run
    from adapters_xling.methods import resolve
    from adapters_xling.model import backbone_id, build, save_entry
    from adapters_xling.zoo import Facts, Zoo

    zoo, task = Zoo(folder / "zoo", fallbacks=()), tasks.get("made-up-nli")
    rows = tasks.load(task, "dev", "en", data_dir=folder).examples
    keys = []
    for seed in range(count):
        run = make_run(
            task,
            resolve("bottleneck", {"reduction_factor": 16}),
            backbone=backbone_id(str(folder / "encoder")),
            recipe="nano",
            overrides={"max_length": MAX_LENGTH, "pooling": "first"},
            seed=seed,
            data_dir=folder,
        )
        model = build(run, zoo=zoo, tasks=[task])
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.trainable_parameters().items():
            if name.startswith("encoder."):  # as made, a slot hardly changes what comes out
                parameter.data.normal_(0.0, 0.05, generator=generator)
        with zoo.writing(run) as draft:
            draft.finish(Facts(training=None, **save_entry(model, run, task, draft.folder, rows)))
        assert draft.entry is not None
        keys.append(draft.entry.key)
    return keys


# --- the library alone --------------------------------------------------------------------------------------------


class Plain:
    """An encoder with one adapter at a time, as the library's own documentation uses it."""

    def __init__(self, folder: Path, key: str) -> None:
        import adapters
        import torch
        from plain_trainer import PlainModel
        from safetensors.torch import load_file
        from transformers import AutoModel, AutoTokenizer

        torch.set_grad_enabled(False)
        self.folder = folder
        self.tokenizer = AutoTokenizer.from_pretrained(str(folder / "encoder"))
        encoder: Any = AutoModel.from_pretrained(folder / "encoder", add_pooling_layer=False)
        adapters.init(encoder)
        self.model = PlainModel(encoder, 3, pooling="first", dropout=0.0).eval()
        self._read, self._name = load_file, ""
        self.use(key)

    def use(self, key: str) -> None:
        """Load an adapter with its head in place of the one before."""
        entry, encoder = self.folder / "zoo" / key, self.model.encoder
        if self._name:
            encoder.delete_adapter(self._name)
        self._name = encoder.load_adapter(str(entry / "encoder"), use_safetensors=True)
        encoder.set_active_adapters(self._name)
        self.model.load_head(self._read(entry / "heads.safetensors"))
        self.model.eval()

    def language(self, code: str) -> list[list[float]]:
        """Probabilities of a language's rows."""
        with (self.folder / f"test-{code}.tsv").open(encoding="utf-8") as stream:
            pairs = [(line["first"], line["second"]) for line in csv.DictReader(stream, delimiter="\t")]
        found: list[list[float]] = []
        for top in range(0, len(pairs), BATCH_SIZE):
            firsts, seconds_ = zip(*pairs[top : top + BATCH_SIZE], strict=True)
            batch = self.tokenizer(
                list(firsts), list(seconds_), truncation=True, max_length=MAX_LENGTH, padding=True, return_tensors="pt"
            )
            found += self.model(batch["input_ids"], batch["attention_mask"])["logits"].softmax(-1).tolist()
        return found


def loop(folder: Path, keys: list[str], codes: tuple[str, ...]) -> dict[tuple[str, str], list[list[float]]]:
    """All cells in this process, the encoder loaded once."""
    plain, found = Plain(folder, keys[0]), {}
    for key in keys:
        plain.use(key)
        for code in codes:
            found[key, code] = plain.language(code)
    return found


def cell(folder: Path, key: str, code: str) -> None:
    """One cell, in a process that does nothing else."""
    print(json.dumps(Plain(folder, key).language(code)[:1]))


# --- this package -------------------------------------------------------------------------------------------------


def ours(folder: Path, keys: list[str], codes: tuple[str, ...]) -> Path:
    """Everything `evaluate_all` does, from nothing; returns the folder of the predictions."""
    from adapters_xling import tasks
    from adapters_xling.evaluation import evaluate_all
    from adapters_xling.zoo import Zoo

    for name in ("runs", "cache"):
        shutil.rmtree(folder / name, ignore_errors=True)
    found = evaluate_all(
        keys,
        tasks.get("made-up-nli"),
        zoo=Zoo(folder / "zoo", fallbacks=()),
        runs_dir=folder / "runs",
        languages=codes,
        data_dir=folder,
        device="cpu",
        backbone=folder / "encoder",
    )
    assert all(len(scores) == len(codes) for scores in found.values()), {k: len(v) for k, v in found.items()}
    return folder / "runs" / "scores"


def difference(folder: Path, keys: list[str], codes: tuple[str, ...]) -> float:
    """Largest difference of a probability between both."""
    theirs, kept, worst = loop(folder, keys, codes), ours(folder, keys, codes), 0.0
    for (key, code), rows in theirs.items():
        lines = (kept / key / "made-up-nli" / f"test-{code}.predictions.jsonl").read_text(encoding="utf-8").splitlines()
        if len(lines) != len(rows):
            raise SystemExit(f"evaluation: {len(lines)} predictions for {len(rows)} rows of {code}")
        for line, row_ in zip(lines, rows, strict=True):
            own = json.loads(line)["probabilities"].values()
            worst = max(worst, *(abs(a - b) for a, b in zip(own, row_, strict=True)))
    return worst


def main(given: list[str] | None = None) -> None:
    """Check, take the rounds, give the rows."""
    parser = options(__doc__)
    parser.add_argument("--adapters", type=int, default=9)
    parser.add_argument("--languages", type=int, default=15)
    parser.add_argument("--test-rows", type=int, default=60, help="of each language")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--cells", type=int, default=3, help="cells that get a process of their own")
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(given)
    import torch

    torch.set_num_threads(args.threads)
    if args.cell:
        cell(Path(args.cell[0]), args.cell[1], args.cell[2])
        return
    if args.small:
        args.rounds = 1
        args.adapters, args.languages, args.test_rows, args.layers, args.hidden, args.cells = 2, 3, 24, 2, 64, 1
    with tempfile.TemporaryDirectory(prefix="xling-bench-") as place:
        finish(measured(args, Path(place)), args)


def measured(args: argparse.Namespace, folder: Path) -> list[Row]:
    """The rows, one for each baseline."""
    codes = XNLI[: args.languages]
    os.environ["XLING_CACHE"] = str(folder / "cache")
    os.environ["XLING_TASKS"] = str(write_task(folder, train=8, test=args.test_rows, languages=codes))
    write_encoder(folder / "encoder", layers=args.layers, hidden=args.hidden)
    keys = make_entries(folder, args.adapters)
    apart = difference(folder, keys, codes)
    cells = len(keys) * len(codes)

    def process_per_cell() -> float:
        took = 0.0
        for i in range(args.cells):
            asked = [str(folder), keys[i % len(keys)], codes[i % len(codes)]]
            command = [sys.executable, __file__, "--threads", str(args.threads), "--cell", *asked]
            took += seconds(functools.partial(subprocess.run, command, check=True, stdout=subprocess.DEVNULL))
        return took / args.cells * cells

    figures = alternate(
        {
            "ours": lambda: seconds(lambda: ours(folder, keys, codes)),
            "loop": lambda: seconds(lambda: loop(folder, keys, codes)),
            "processes": process_per_cell,
        },
        args.rounds,
    )
    note = (
        f"{len(keys)} bottleneck adapters × {len(codes)} languages × {args.test_rows} made-up pairs (premise 20, "
        f"hypothesis 10 words in the mean), {args.layers} × {args.hidden} encoder, fp32, cpu"
    )
    with_all = {"equal_within": AGREE, "difference": apart}
    return [
        row(
            "evaluation/loop",
            {"ours": figures["ours"], "theirs": figures["loop"]},
            bar=1.5,
            baseline="a loop over plain adapters in one process: one adapter and one language at a time",
            note=note,
            **with_all,
        ),
        row(
            "evaluation/processes",
            {"ours": figures["ours"], "theirs": figures["processes"]},
            bar=5.0,
            baseline="a process for each adapter and language, over plain adapters",
            note=f"{note}; {args.cells} of {cells} processes measured in each round, the rest extrapolated",
            **with_all,
        ),
    ]


if __name__ == "__main__":
    main()
