"""The one training loop, for every method, kind and task: what differs is asked of the method and the kind.

Order of the data, dropout and initialisation follow from the run's seed alone, so a run trained twice on one machine
with the same number of threads gives the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup

from adapters_xling import inference, metrics, tasks
from adapters_xling.errors import ConfigError, XlingError
from adapters_xling.model import Model, build, resolve_device, save_entry
from adapters_xling.spec import Recipe, RunSpec, TaskSpec, key
from adapters_xling.tasks import cache, kinds
from adapters_xling.tasks.examples import Features
from adapters_xling.zoo import DataCard, Entry, Facts, Training, Zoo


@dataclass
class TrainingData:
    """What a run learns from and selects on.

    Attributes:
        task: the task whose rows these are.
        train: encoded training rows.
        dev: dev examples that select the best step (the first `dev_examples` of the recipe).
        dev_language: language whose metric rules apply to the dev rows.
        chance: what ignoring the input scores on the dev rows, in percent.
        rows: for the card: rows kept and dropped with reasons, per split and language.
    """

    task: TaskSpec
    train: Sequence[Features]
    dev: list[Any]
    dev_language: str
    chance: float
    rows: dict[str, DataCard]


@dataclass
class Progress:
    """Best dev score so far, its step and weights, what patience counts, and what the trackers show."""

    best: float = -math.inf
    num_examples: int = 0
    num_tokens: int = 0
    best_step: int = 0
    without_gain: int = 0
    state: dict[str, Tensor] = field(default_factory=dict)
    curve: list[tuple[int, float]] = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)


def load_data(task: TaskSpec, recipe: Recipe, tokenizer: Any, *, data_dir: Path | None) -> TrainingData:
    """Read, check and encode the train and dev rows of a task in its training languages.

    Raises:
        DataError: when a split is absent or holds no usable row.
    """
    kind = kinds.get(task.kind)
    if not kind.trains:
        raise ConfigError(f"task {task.name!r} is of kind {task.kind!r}, which has nothing to train")
    cards: dict[str, DataCard] = {}
    examples: dict[str, list[Any]] = {}
    for split, limit in (("train", recipe.max_train_examples), ("dev", recipe.dev_examples)):
        examples[split], found = tasks.load_all(
            task, split, task.train_languages, data_dir=data_dir, limit=limit or None
        )
        for language, rows in found.items():
            cards[f"{task.name}/{split}/{language}"] = DataCard(
                kept=rows.kept,
                used=len(rows.examples),
                dropped=rows.dropped,
                renamed=rows.renamed,
                samples=rows.samples,
                identity=rows.identity,
                source=rows.source,
                files=rows.files,
            )
    dev = examples["dev"]
    language = task.train_languages[0]
    guess = kind.majority(examples["train"], dev, task)
    chance = next(iter(inference.score(task, dev, guess, language=language).values()))
    features = cache.features(kind, examples["train"], tokenizer, task, max_length=recipe.max_length)
    return TrainingData(task, features, dev, language, chance, cards)


def batches(num_features: int, batch_size: int, *, seed: int) -> Iterator[list[int]]:
    """Endless stream of batches of row indices: each epoch is one permutation, drawn from (seed, epoch).

    The last batch of an epoch may be smaller; no row is seen twice before every row was seen once.
    """
    epoch = 0
    while True:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(num_features, generator=generator).tolist()
        for start in range(0, num_features, batch_size):
            yield order[start : start + batch_size]
        epoch += 1


def total_steps(recipe: Recipe, num_features: int) -> int:
    """Optimiser steps of a run: `max_steps` where given, else epochs over the training rows."""
    return recipe.steps(num_features)


def optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over what trains; no decay on biases and normalisation (every tensor with fewer than two dimensions)."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=recipe.learning_rate, eps=recipe.adam_epsilon
    )


def stayed_at_chance(best: float, chance: float, num_examples: int) -> bool:
    """Say whether a dev score cannot be told from what ignoring the input scores.

    The margin is two binomial standard errors of the chance score on that many rows, at least one point.

    Args:
        best: best dev score in percent.
        chance: score of the majority prediction on the same rows, in percent.
        num_examples: dev rows behind both.

    >>> stayed_at_chance(36.0, 34.0, 500), stayed_at_chance(60.0, 34.0, 500)
    (True, False)
    """
    rate = min(max(chance / 100, 0.01), 0.99)
    margin = max(1.0, 200 * math.sqrt(rate * (1 - rate) / max(num_examples, 1)))
    return best <= chance + margin


def train(
    run: RunSpec,
    *,
    zoo: Zoo,
    data_dir: Path | None = None,
    log_dir: Path | None = None,
    trackers: Sequence[str] = ("tensorboard",),
    device: str | None = None,
    show_progress: bool = True,
    extra_tasks: Path | None = None,
    backbone: Path | None = None,
) -> Entry:
    """Train what a run describes and keep it as an entry; an entry that exists already is returned as it is.

    Args:
        run: everything that determines the result.
        zoo: where parents are found and the entry is written.
        data_dir: folder of original data files (`XLING_DATA` when None).
        log_dir: where trackers write; nothing is tracked when None.
        trackers: names accelerate knows (`tensorboard`, `wandb`, …).
        device: `cpu` or `cuda`; None lets accelerate choose.
        show_progress: draw a progress bar with throughput and time left.
        extra_tasks: private folder of task files.
        backbone: folder of a local backbone, which a run names without its path.

    Raises:
        ConfigError: for a run that cannot be trained (unlocked backbone, unsupported route, kind without training).
        DataError: for rows that cannot be read.
        ZooError: when a parent is absent or altered, or the entry cannot be written.
    """
    name = key(run)
    if name in zoo:
        return zoo.get(name)
    if len(run.tasks) != 1:
        raise ConfigError(f"run {name}: {len(run.tasks)} tasks given; a run trains one task")
    if run.backbone.digest is None:
        raise ConfigError(
            f"backbone {run.backbone.name!r} is not locked: its files were never read, so the run can be planned "
            "but not trained. `xling train` and `xling run` download it; without a network, give a copy's folder"
        )
    task = tasks.with_labels(tasks.get(run.tasks[0].name, extra=extra_tasks), data_dir=data_dir)
    found = tasks.ref(task, data_dir=data_dir)
    if found != run.tasks[0]:
        raise ConfigError(
            f"run {name}: task {task.name!r} or its rows are no longer what the run was made from (digest "
            f"{found.digest[:16]}, the run says {run.tasks[0].digest[:16]}): the task file or a data file was changed. "
            "Put it back, or plan the run again"
        )
    recipe = run.recipe
    place = resolve_device(device)
    accelerator = Accelerator(
        cpu=place.type == "cpu",
        mixed_precision="no",  # the recipe decides, below: one process may train runs of different precision
        log_with=list(trackers) if log_dir else None,
        project_dir=str(log_dir) if log_dir else None,
    )
    if log_dir:
        log_dir.mkdir(parents=True, exist_ok=True)
        accelerator.init_trackers(name)
    started = time.perf_counter()
    set_seed(run.seed)
    model = build(run, zoo=zoo, tasks=[task], device=place, backbone=backbone)
    data = load_data(task, recipe, model.tokenizer, data_dir=data_dir)
    steps = total_steps(recipe, len(data.train))
    optimizer = optimiser(model, recipe)
    schedule = get_linear_schedule_with_warmup(optimizer, round(recipe.warmup * steps), steps)
    optimizer, schedule = accelerator.prepare(optimizer, schedule)
    progress = _loop(run, model, data, steps, accelerator, optimizer, schedule, show_progress)
    model.load_trainable(progress.state)
    seconds = time.perf_counter() - started
    if log_dir:
        accelerator.end_training()
    taken = progress.curve[-1][0]
    training = Training(
        steps=taken,
        planned_steps=steps,
        best_step=progress.best_step,
        epochs=progress.num_examples / len(data.train),
        seconds=round(seconds, 2),
        tokens=progress.num_tokens,
        examples=len(data.train),
        metric=metrics.main(task.metrics[0]),
        dev_score=progress.best,
        chance=data.chance,
        converged=not stayed_at_chance(progress.best, data.chance, len(data.dev)),
        dev_curve=tuple(progress.curve),
        losses=tuple(progress.losses),
        device=place.type,
    )
    with zoo.writing(run) as draft:
        saved = save_entry(model, run, task, draft.folder, data.dev)
        draft.finish(Facts(training=training, data=data.rows, licence=task.licence, **saved))
    return zoo.get(name)


def _loop(
    run: RunSpec,
    model: Model,
    data: TrainingData,
    steps: int,
    accelerator: Accelerator,
    optimizer: Any,
    schedule: Any,
    show_progress: bool,
) -> Progress:
    """Step, evaluate, keep the best."""
    recipe, task = run.recipe, data.task
    kind = kinds.get(task.kind)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    stream = batches(len(data.train), recipe.batch_size, seed=run.seed)
    progress = Progress()
    torch.manual_seed(run.seed)
    bar = tqdm(total=steps, desc=f"{task.name} · {run.method.name}", unit="step", disable=not show_progress)
    started = time.perf_counter()
    for step in range(1, steps + 1):
        model.train()
        step_loss = 0.0
        for _ in range(recipe.accumulate):
            chosen = next(stream)
            batch = kind.collate([data.train[i] for i in chosen], pad_id=model.pad_id)
            progress.num_tokens += int(batch["attention_mask"].sum())
            progress.num_examples += len(chosen)
            batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
            with torch.autocast(model.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                loss = kind.loss(model(batch, task).float(), batch) / recipe.accumulate
            if not torch.isfinite(loss):
                raise XlingError(
                    f"{key(run)}: the loss became {loss.item()} at step {step} of {steps}; lower the learning rate "
                    f"({recipe.learning_rate:g}), raise the warm-up, or use precision fp32"
                )
            accelerator.backward(loss)
            step_loss += loss.item()
        if recipe.clip_norm:
            accelerator.clip_grad_norm_(trainable, recipe.clip_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        progress.losses.append((step, step_loss))
        bar.update()
        if step % 10 == 0 or step == steps:
            rate = progress.num_tokens / (time.perf_counter() - started)
            best = f"{progress.best:.1f}" if progress.curve else "–"
            bar.set_postfix_str(f"loss {step_loss:.3f} · best dev {best} · {rate:,.0f} tokens/s")
            accelerator.log({"loss": step_loss, "learning_rate": schedule.get_last_lr()[0], "tokens_per_s": rate}, step)
        if step % recipe.eval_every_steps == 0 or step == steps:
            _evaluate(model, data, recipe, progress, step)
            accelerator.log({f"dev/{task.name}": progress.curve[-1][1]}, step)
            if recipe.patience and progress.without_gain >= recipe.patience:
                break
    bar.close()
    return progress


def _evaluate(model: Model, data: TrainingData, recipe: Recipe, progress: Progress, step: int) -> None:
    """Score the dev rows and keep the weights when they are the best so far."""
    with torch.random.fork_rng():  # evaluation must not shift the random numbers training draws
        predictions = inference.predict(model, data.task, data.dev, max_length=recipe.max_length)
    dev = next(iter(inference.score(data.task, data.dev, predictions, language=data.dev_language).values()))
    progress.curve.append((step, dev))
    if dev > progress.best:
        progress.best, progress.best_step, progress.without_gain = dev, step, 0
        progress.state = model.trainable_state()
    else:
        progress.without_gain += 1
