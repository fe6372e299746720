"""Compare this package's training with transformers' Trainer over plain encoders, plain adapters and plain peft.

    python scripts/compare_trainer.py losses
    python scripts/compare_trainer.py scores --seed 0 --seed 1 --seed 2

`losses` gives both the same rows, initial weights (encoder, slot and head), batches in the same order, AdamW settings,
schedule and clipping, without dropout, and compares the loss of every step; it fails above `--bound`. `scores` lets
each side do as it does by itself (its own shuffling, initial weights, rounding of the warm-up, frozen modules with or
without dropout) with the same recipe, and puts held-out scores side by side.

Sentences are encoded by the plain tokenizer for the Trainer; of questions both take the windows that this package cuts
and labels. Both sides are scored by the same code. A finished cell of `scores` is in the JSON file and is not computed
again.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).parent))

import torch
import yaml
from plain_trainer import PlainModel, encoder_with, trainer
from torch import nn

from adapters_xling import inference, methods, tasks
from adapters_xling.errors import ConfigError, XlingError
from adapters_xling.grid import make_run
from adapters_xling.grid.executors.local import end_with_parent
from adapters_xling.inference import token_batches
from adapters_xling.methods.slots import slot_name
from adapters_xling.model import Model, backbone_id, build
from adapters_xling.model.backbone import folder_of
from adapters_xling.paths import atomic_write
from adapters_xling.spec import Recipe, RunSpec, TaskSpec, key
from adapters_xling.tasks import kinds
from adapters_xling.tasks.examples import Example
from adapters_xling.training import train
from adapters_xling.training.data import load_data
from adapters_xling.training.sampling import Batches
from adapters_xling.zoo import Zoo

KINDS = ("sentence", "span")
METHODS = (
    "full:{train_embeddings: false}",
    "bottleneck:{reduction_factor: 2}",
    "lora:{r: 8, alpha: 16, dropout: 0.0, targets: all-linear}",
)
BOUND = 1e-5


@dataclass(frozen=True)
class Side:
    """What both sides of a comparison are made from."""

    run: RunSpec
    task: TaskSpec
    folder: Path
    data_dir: Path | None

    @property
    def recipe(self) -> Recipe:
        """The run's settings."""
        return self.run.recipe_for(self.task.name)

    def model(self) -> Model:
        """This package's model before its first step."""
        return build(
            self.run,
            zoo=Zoo(Path(tempfile.gettempdir()) / "none", fallbacks=()),
            tasks=[self.task],
            backbone=self.folder,
        )


def side_of(task: TaskSpec, method: str, arguments: argparse.Namespace, *, seed: int, **changes: Any) -> Side:
    """The run of a task and a method given as NAME[:SETTINGS].

    Raises:
        ConfigError: for a kind of task that the plain side has no head for, or what it cannot do.
    """
    if task.kind not in KINDS:
        raise ConfigError(f"task {task.name!r} is of kind {task.kind!r}; compared can be {', '.join(KINDS)}")
    name, _, settings = method.partition(":")
    identity = backbone_id(arguments.backbone, download=True)
    run = make_run(
        task,
        methods.resolve(name, yaml.safe_load(settings) if settings else {}),
        backbone=identity,
        recipe=arguments.recipe,
        overrides={**changes, **dict(arguments.changes)},
        seed=seed,
        data_dir=arguments.data_dir,
    )
    if run.recipe.accumulate != 1 or run.recipe.sort_window:
        raise ConfigError("the plain side takes one batch a step and sorts no rows; see --with")
    return Side(run, task, folder_of(identity), arguments.data_dir)


def plain_rows(side: Side, model: Model) -> tuple[list[dict[str, Any]], int]:
    """Training rows for the Trainer, and how many of them the plain tokenizer encodes as this package does."""
    task, tokenizer = side.task, model.tokenizer
    features = load_data(task, side.recipe, tokenizer, data_dir=side.data_dir).train
    if task.kind == "span":
        kind = kinds.get(task.kind)
        rows = []
        for one in features:
            batch = kind.collate([one], pad_id=model.pad_id)
            rows.append({name: tensor[0].tolist() for name, tensor in batch.items()})
        return rows, len(rows)
    limit = side.recipe.max_train_examples or None
    examples, _ = tasks.load_all(task, "train", task.train_languages, data_dir=side.data_dir, limit=limit)
    rows, same = [], 0
    for example, one in zip(examples, features, strict=True):
        texts = [example.first] if example.second is None else [example.first, example.second]
        row = tokenizer(*texts, truncation="longest_first", max_length=side.recipe.max_length)
        same += row["input_ids"] == one.input_ids[0]
        rows.append({**row, "labels": task.labels.index(example.label)})
    return rows, same


def plain_model(side: Side, model: Model, *, fresh: bool, head_std: float | None = None) -> PlainModel:
    """The plain side's model; unless `fresh`, with the weights that this package's model starts from.

    A fresh head is drawn as torch does by default; with `head_std` the same draws at that scale, and no bias.

    Raises:
        XlingError: when other tensors train in it.
    """
    method = methods.resolve(side.run.method)
    task, recipe = side.task, side.recipe
    with tempfile.TemporaryDirectory() as native:
        method.save(model.encoder, slot_name(0), Path(native))
        encoder = encoder_with(
            method.name,
            side.folder,
            Path(native),
            fresh=fresh,
            settings=side.run.method.settings,
            dropout=recipe.dropout,
        )
    num_out = len(task.labels) if task.kind == "sentence" else 2
    pooling = recipe.pooling if task.kind == "sentence" else None
    separator = int(model.tokenizer.sep_token_id)
    plain = PlainModel(encoder, num_out, pooling=pooling, dropout=recipe.dropout, separator=separator)
    if not fresh:
        plain.load_head(model.head_state())
    elif head_std is not None:
        plain.rescale_head(head_std)
    ours = sorted(tuple(p.shape) for p in model.trainable_parameters().values())
    theirs = sorted(tuple(p.shape) for p in plain.parameters() if p.requires_grad)
    if ours != theirs:
        raise XlingError(f"{key(side.run)}: {len(ours)} tensors train here, {len(theirs)} in the plain model")
    return plain


def settings_of(recipe: Recipe, steps: int) -> dict[str, Any]:
    """What the Trainer takes over from a recipe."""
    return {
        "steps": steps,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "weight_decay": recipe.weight_decay,
        "epsilon": recipe.adam_epsilon,
        "clip_norm": recipe.clip_norm,
        "precision": recipe.precision,
    }


# --- the same losses ----------------------------------------------------------------------------------------------


def compare_losses(side: Side) -> dict[str, Any]:
    """Train both sides from the same weights on the same batches; returns the losses of every step and facts."""
    steps = side.recipe.max_steps
    model = side.model()
    rows, same = plain_rows(side, model)
    stream = Batches(len(rows), side.recipe.batch_size, seed=side.run.seed)
    batches = [next(stream) for _ in range(steps)]
    plain = plain_model(side, model, fresh=False)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        entry = train(
            side.run, zoo=Zoo(Path(folder) / "zoo", fallbacks=()), device="cpu", show_progress=False,
            data_dir=side.data_dir, backbone=side.folder,
        )  # fmt: skip
        ours_s = time.process_time() - begun
        loop = trainer(
            plain,
            rows,
            model.tokenizer,
            Path(folder) / "plain",
            **settings_of(side.recipe, steps),
            warmup_steps=round(side.recipe.warmup * steps),
            seed=side.run.seed,
            batches=batches,
            optim="adamw_torch_fused",
        )
        begun = time.process_time()
        loop.train()
        theirs_s = time.process_time() - begun
    assert entry.card.training is not None
    losses = [float(loss) for _, loss in entry.card.training.losses if loss is not None]
    differences = [abs(a - b) for a, b in zip(losses, loop.losses, strict=True)]
    return {
        "task": side.task.name,
        "method": side.run.method.name,
        "steps": steps,
        "smallest_batch": min(map(len, batches)),
        "rows_encoded_alike": f"{same} of {len(rows)}",
        "trained_parameters": sum(p.numel() for p in model.trainable_parameters().values()),
        "losses": losses,
        "trainer_losses": loop.losses,
        "largest_difference": max(differences),
        "processor_s": [round(ours_s, 1), round(theirs_s, 1)],
    }


def losses_table(found: Sequence[dict[str, Any]]) -> str:
    """Markdown of `compare_losses`."""
    lines = [
        "| task | method | steps | rows encoded alike | first loss | last loss | Trainer's last | largest difference |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {one['task']} | {one['method']} | {one['steps']} | {one['rows_encoded_alike']} | {one['losses'][0]:.6f} | "
        f"{one['losses'][-1]:.6f} | {one['trainer_losses'][-1]:.6f} | {one['largest_difference']:.1e} |"
        for one in found
    ]
    return "\n".join(lines) + "\n"


# --- scores side by side ------------------------------------------------------------------------------------------


@torch.no_grad()
def plain_score(plain: nn.Module, model: Model, side: Side, examples: Sequence[Example]) -> float:
    """Main score of a plain model, by this package's decoding and metrics."""
    kind = kinds.get(side.task.kind)
    features = kind.encode(examples, model.tokenizer, side.task, max_length=side.recipe.max_length)
    outputs: list[Any] = [None] * len(features)
    mode = plain.training
    plain.eval()
    for chosen in token_batches([one.num_tokens for one in features], inference.TOKENS_PER_BATCH):
        batch = kind.collate([features[i] for i in chosen], pad_id=model.pad_id)
        batch.pop("labels", None)
        for i, output in zip(chosen, kind.outputs(plain(**batch)["logits"], batch), strict=True):
            outputs[i] = output
    plain.train(mode)
    predictions = kind.decode(outputs, features, examples, side.task)
    return next(iter(inference.score(side.task, examples, predictions, language="en").values()))


def held_out(side: Side, limit: int) -> list[Example]:
    """English rows of the test split, which neither side has seen."""
    return tasks.load_all(side.task, "test", ["en"], data_dir=side.data_dir, limit=limit or None)[0]


def ours_scored(side: Side, folder: Path, limit: int) -> dict[str, Any]:
    """Train with this package and score the entry; the folder becomes its zoo."""
    from adapters_xling.model import open_entry

    zoo = Zoo(folder, fallbacks=())
    entry = train(side.run, zoo=zoo, device="cpu", show_progress=True, data_dir=side.data_dir, backbone=side.folder)
    model = open_entry(entry.key, zoo=zoo, backbone=side.folder)
    rows = held_out(side, limit)
    predictions = inference.predict(model, side.task, rows, max_length=side.recipe.max_length)
    assert entry.card.training is not None
    return {
        "score": next(iter(inference.score(side.task, rows, predictions, language="en").values())),
        "seconds": round(entry.card.training.seconds, 1),
        "parameters": entry.card.num_trainable,
        "rows": len(rows),
    }


def plain_scored(side: Side, folder: Path, limit: int, *, head_std: float | None = None) -> dict[str, Any]:
    """Train with the Trainer in a folder and score its model."""
    from transformers import set_seed

    model = side.model()
    rows, _ = plain_rows(side, model)
    set_seed(side.run.seed)
    plain = plain_model(side, model, fresh=True, head_std=head_std)
    dev = load_data(side.task, side.recipe, model.tokenizer, data_dir=side.data_dir).dev["en"]
    test = held_out(side, limit)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        loop = trainer(
            plain,
            rows,
            model.tokenizer,
            Path(own),
            **settings_of(side.recipe, side.recipe.steps(len(rows))),
            warmup=side.recipe.warmup,
            seed=side.run.seed,
            scorer=lambda one: plain_score(one, model, side, dev),
            eval_every_steps=side.recipe.eval_every_steps,
        )
        begun = time.perf_counter()
        loop.train()
        seconds = time.perf_counter() - begun
    return {
        "score": plain_score(plain, model, side, test),
        "seconds": round(seconds, 1),
        "parameters": sum(p.numel() for p in plain.parameters() if p.requires_grad),
        "rows": len(test),
    }


def alone(work: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    """Do something in a process of its own: accelerate keeps one precision a process, and the two sides' differ."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=end_with_parent) as pool:
        return pool.submit(work, *given).result()


def scores_table(cells: dict[str, dict[str, Any]]) -> str:
    """Markdown of finished cells: a row per task and method, both sides with mean and sd over their seeds."""
    lines = [
        "| task | method | parameters | seeds | adapters_xling | Trainer | difference | seconds a run |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    rows = dict.fromkeys((one["task"], one["method"], one["side"]) for one in cells.values() if one["side"] != "ours")
    for task, method, other in rows:
        own = [one for one in cells.values() if (one["task"], one["method"]) == (task, method)]
        by_side = {who: {one["seed"]: one for one in own if one["side"] == who} for who in ("ours", other)}
        seeds = sorted(set(by_side["ours"]) & set(by_side[other]))
        if not seeds:
            continue
        ours, theirs = ([by_side[who][seed] for seed in seeds] for who in ("ours", other))
        apart = [a["score"] - b["score"] for a, b in zip(ours, theirs, strict=True)]
        times = [statistics.mean(one["seconds"] for one in side) for side in (ours, theirs)]
        name = method + other.removeprefix("trainer")
        scores = [_spread([one["score"] for one in side]) for side in (ours, theirs)]
        lines.append(
            f"| {task} | {name} | {ours[0]['parameters']:,} | {len(seeds)} | {' | '.join(scores)} | "
            f"{_spread(apart, sign='+')} | {times[0]:.0f} / {times[1]:.0f} |"
        )
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float], *, sign: str = "") -> str:
    """Mean, and the standard deviation of a sample where there are several values."""
    mean = f"{statistics.mean(values):{sign}.1f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.1f}"


# --- command ------------------------------------------------------------------------------------------------------


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("losses", "scores"))
    parser.add_argument("--task", action="append", help="kit-mnli and kit-squad1 when left out")
    parser.add_argument("--backbone", default="minilm-l6")
    parser.add_argument("--recipe", default="mini-encoder")
    parser.add_argument(
        "--method", action="append", metavar="NAME[:SETTINGS]", help=f"default: {' and '.join(METHODS)}"
    )
    parser.add_argument("--with", dest="changes", action="append", default=[], metavar="FIELD=VALUE", type=_change)
    parser.add_argument("--seed", action="append", type=int, help="0 when left out")
    parser.add_argument("--steps", type=int, default=20, help="losses: steps that are compared")
    parser.add_argument(
        "--train-rows", type=int, default=13 * 16 + 5, help="losses: rows; by default the steps cross an epoch"
    )
    parser.add_argument("--bound", type=float, default=BOUND, help="losses: largest difference allowed")
    parser.add_argument("--limit", type=int, default=0, help="scores: held-out rows; 0 for all")
    parser.add_argument(
        "--head-std",
        type=float,
        metavar="STD",
        help="scores: the Trainer's side with its head's first weights at this scale (transformers' own heads: 0.02), "
        "beside the runs with torch's default",
    )
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results/trainer"))
    parsed = parser.parse_args(given)
    parsed.task = parsed.task or ["kit-mnli", "kit-squad1"]
    parsed.method, parsed.seed = parsed.method or list(METHODS), parsed.seed or [0]
    return parsed


def _change(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    return name, yaml.safe_load(value)


def main(given: Sequence[str] | None = None) -> int:
    """Compare, print and write; 1 where losses differ by more than the bound."""
    asked = arguments(given)
    asked.out.mkdir(parents=True, exist_ok=True)
    file = asked.out / f"{asked.what}.json"
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for name, method, seed in ((n, m, s) for n in asked.task for m in asked.method for s in asked.seed):
        task = tasks.with_labels(tasks.get(name), data_dir=asked.data_dir)
        if asked.what == "losses":
            changes = {
                "precision": "fp32",
                "dev_precision": "fp32",
                "dropout": 0.0,
                "sort_window": 0,
                "batch_size": 16,
                "max_steps": asked.steps,
                "eval_every_steps": asked.steps,
                "dev_examples": 1,
                "max_train_examples": asked.train_rows,
            }
            side = side_of(task, method, asked, seed=seed, **changes)
            kept[key(side.run)] = compare_losses(side)
            _write(file, kept, losses_table(list(kept.values())))
            print(f"{key(side.run)}: {kept[key(side.run)]['largest_difference']:.2e}", flush=True)
            continue
        side = side_of(task, method, asked, seed=seed, sort_window=0)
        other = "trainer" if asked.head_std is None else f"trainer, head std {asked.head_std:g}"
        for who in ("ours", other):
            cell = f"{key(side.run)}/{who}/{asked.limit}"
            if cell not in kept:
                folder = asked.out / ("zoo" if who == "ours" else "plain")
                folder.mkdir(exist_ok=True)
                work = ours_scored if who == "ours" else functools.partial(plain_scored, head_std=asked.head_std)
                found = alone(work, side, folder.absolute(), asked.limit)
                kept[cell] = {"task": name, "method": side.run.method.name, "seed": seed, "side": who, **found}
                _write(file, kept, scores_table(kept))
            print(f"{cell}: {kept[cell]['score']:.2f} ({kept[cell]['seconds']} s)", flush=True)
    print(losses_table(list(kept.values())) if asked.what == "losses" else scores_table(kept))
    return int(asked.what == "losses" and any(one["largest_difference"] > asked.bound for one in kept.values()))


def _write(file: Path, kept: dict[str, Any], table: str) -> None:
    atomic_write(file, json.dumps(kept, indent=1) + "\n")
    atomic_write(file.with_suffix(".md"), table)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except XlingError as err:
        sys.exit(str(err))
