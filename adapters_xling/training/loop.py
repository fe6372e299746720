"""The one training loop, for every method, kind and mixture: what differs is asked of the method and the kind.

Order of the data, dropout, masking and initialisation follow from the run's seed alone, so a run trained twice on one
machine with the same number of threads gives the same weights, whether or not it was killed on the way.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup

from adapters_xling import tasks
from adapters_xling.errors import ConfigError, XlingError
from adapters_xling.model import Model, build, resolve_device, save_entry
from adapters_xling.model.core import seed_for
from adapters_xling.spec import Recipe, RunSpec, TaskRef, TaskSpec, key
from adapters_xling.tasks import kinds
from adapters_xling.training.checkpoint import (
    EVERY_S,
    Checkpoint,
    State,
    optimizer_state,
    rng_state,
    set_optimizer_state,
    set_rng_state,
    under,
)
from adapters_xling.training.data import TaskData, load_data
from adapters_xling.training.progress import Progress, TaskProgress, selecting, training_card
from adapters_xling.training.sampling import Batches, pick, shares, total_steps
from adapters_xling.zoo import Entry, Facts, Zoo


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
    checkpoint_dir: Path | None = None,
    checkpoint_s: float = EVERY_S,
    checkpoint_steps: int = 0,
) -> Entry:
    """Train what a run describes and keep it as an entry; an entry that exists already is returned as it is.

    With a folder for checkpoints a run that was killed goes on from its last one, and ends with the very weights and
    losses it would have had (on a CPU with the same number of threads; on a GPU as far as its kernels repeat
    themselves).

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
        checkpoint_dir: folder of checkpoints; none are kept when None.
        checkpoint_s: seconds between two; 0 for none by time.
        checkpoint_steps: steps between two; 0 for none by steps.

    Raises:
        ConfigError: for a run that cannot be trained (unlocked backbone, unsupported route, kind without training).
        DataError: for rows that cannot be read.
        ZooError: when a parent is absent or altered, or the entry cannot be written.
    """
    name = key(run)
    checkpoint = Checkpoint(checkpoint_dir, run, every_s=checkpoint_s, every_steps=checkpoint_steps)
    if name in zoo:
        checkpoint.remove()
        return zoo.get(name)
    _check(run)
    specs = [_task(ref, name, data_dir=data_dir, extra=extra_tasks) for ref in run.tasks]
    place = resolve_device(device)
    accelerator = Accelerator(
        cpu=place.type == "cpu",
        mixed_precision="no",  # the recipe decides, below: one process may train runs of different precision
        log_with=list(trackers) if log_dir else None,
        project_dir=str(log_dir) if log_dir else None,
    )
    started = time.perf_counter()
    set_seed(run.seed)
    model = build(run, zoo=zoo, tasks=specs, device=place, backbone=backbone)
    parts = {
        task.name: load_data(task, run.recipe_for(task.name), model.tokenizer, data_dir=data_dir) for task in specs
    }
    loop = _Loop(run, model, parts, accelerator, checkpoint, started)
    loop.resume()
    if log_dir:
        log_dir.mkdir(parents=True, exist_ok=True)
        # What a killed process logged beyond its last checkpoint is hidden: those steps are taken again.
        accelerator.init_trackers(name, init_kwargs={"tensorboard": {"purge_step": loop.progress.step + 1}})
    loop.run_to_end(show_progress=show_progress)
    progress = loop.progress
    model.load_trainable(progress.state)
    if log_dir:
        accelerator.end_training()
    training = training_card(progress, parts, loop.rates, planned=loop.steps, seconds=loop.seconds(), device=place.type)
    shown = next(iter(selecting(parts).values()))
    with zoo.writing(run) as draft:
        saved = save_entry(model, run, shown.task, draft.folder, next(iter(shown.dev.values())))
        rows = {place: card for part in parts.values() for place, card in part.rows.items()}
        licence = "; ".join(dict.fromkeys(task.licence for task in specs))
        draft.finish(Facts(training=training, data=rows, licence=licence, **saved))
    entry = zoo.get(name)
    checkpoint.remove()
    return entry


def _check(run: RunSpec) -> None:
    """Refuse a run that nothing can be made of.

    Raises:
        ConfigError: for a run whose tasks and mixture disagree, or whose backbone was never read.
    """
    names = [ref.name for ref in run.tasks]
    if run.mixture is None and len(names) != 1:
        raise ConfigError(
            f"run {key(run)}: {len(names)} tasks but no mixture, which says how they share the steps. Make runs with "
            "`xling train TASK TASK … --mix proportional` or `make_run`"
        )
    if run.mixture is not None and (names != sorted(run.mixture.parts) or len(names) < 2):
        raise ConfigError(
            f"run {key(run)}: its mixture is of {', '.join(sorted(run.mixture.parts))}, its tasks are "
            f"{', '.join(names)}; both must be the same two tasks or more, sorted by name"
        )
    if run.backbone.digest is None:
        raise ConfigError(
            f"backbone {run.backbone.name!r} is not locked: its files were never read, so the run can be planned "
            "but not trained. `xling train` and `xling run` download it; without a network, give a copy's folder"
        )


def _task(wanted: TaskRef, name: str, *, data_dir: Path | None, extra: Path | None) -> TaskSpec:
    """The task a run means, as long as it and its rows are what the run was made from."""
    task = tasks.with_labels(tasks.get(wanted.name, extra=extra), data_dir=data_dir)
    found = tasks.ref(task, data_dir=data_dir)
    if found != wanted:
        raise ConfigError(
            f"run {name}: task {task.name!r} or its rows are no longer what the run was made from (digest "
            f"{found.digest[:16]}, the run says {wanted.digest[:16]}): the task file or a data file was changed. "
            "Put it back, or plan the run again"
        )
    return task


class _Loop:
    """Step, evaluate, keep the best, and be able to stop and go on anywhere."""

    def __init__(
        self,
        run: RunSpec,
        model: Model,
        parts: Mapping[str, TaskData],
        accelerator: Accelerator,
        checkpoint: Checkpoint,
        started: float,
    ) -> None:
        self.run, self.model, self.parts = run, model, parts
        self.accelerator, self.checkpoint, self.started = accelerator, checkpoint, started
        sizes = {name: len(part.train) for name, part in parts.items()}
        self.rates, self.steps = shares(run, sizes), total_steps(run, sizes)
        self.batches = {n: Batches(len(p.train), p.recipe.batch_size, seed=run.seed) for n, p in parts.items()}
        self.progress = Progress({name: TaskProgress() for name in parts})
        made = optimiser(model, run.recipe)
        schedule = get_linear_schedule_with_warmup(made, round(run.recipe.warmup * self.steps), self.steps)
        self.optimizer, self.schedule = accelerator.prepare(made, schedule)
        self.trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.before = 0.0
        torch.manual_seed(run.seed)

    def seconds(self) -> float:
        """Time this run took so far, in this process and those before it."""
        return self.before + time.perf_counter() - self.started

    # --- stopping and going on ----------------------------------------------------------------------------------

    def state(self) -> State:
        """Everything that another process needs to go on."""
        self.progress.seconds = self.seconds()
        moments, rng = optimizer_state(self.optimizer), rng_state(self.model.device)
        tensors = {
            **{f"model/{name}": tensor for name, tensor in self.model.trainable_state().items()},
            **{f"best/{name}": tensor for name, tensor in self.progress.state.items()},
            **moments.tensors,
            **rng.tensors,
        }
        plain = {
            "data": self._data(),
            "machine": self._machine(),
            "progress": self.progress.plain(),
            "schedule": self.schedule.state_dict(),
            "optimizer": moments.plain,
            "rng": rng.plain,
        }
        return State(tensors, plain)

    def resume(self) -> None:
        """Go on from the run's checkpoint, when there is a sound one."""
        state = self.checkpoint.read()
        if state is None:
            return
        plain, weights = state.plain, under("model/", state.tensors)
        if plain["data"] != self._data() or set(weights) != set(self.model.trainable_parameters()):
            self.checkpoint.refuse("the rows or the weights it was made from are no longer the same")
            return
        if plain["machine"] != self._machine():
            warnings.warn(
                f"{key(self.run)} goes on from a checkpoint made on {plain['machine']}, here is {self._machine()}: the "
                "result is as good, but not bit for bit that of a run in one go"
            )
        self.progress = Progress.from_plain(plain["progress"], under("best/", state.tensors))
        for name, part in self.progress.tasks.items():
            self.batches[name].drawn = part.drawn
        self.before = self.progress.seconds
        self.model.load_trainable(weights)
        set_optimizer_state(self.optimizer, State(state.tensors, plain["optimizer"]))
        self.schedule.load_state_dict(plain["schedule"])
        set_rng_state(State(state.tensors, plain["rng"]), self.model.device)

    def _data(self) -> dict[str, Any]:
        """What a checkpoint and the rows at hand must agree in."""
        sizes = {name: [len(part.train), part.num_dev] for name, part in self.parts.items()}
        return {"sizes": sizes, "steps": self.steps}

    def _machine(self) -> dict[str, Any]:
        """What bits depend on beside the run."""
        device = self.model.device.type
        return {"torch": torch.__version__, "device": device, "threads": torch.get_num_threads()}

    def _keep_checkpoint(self) -> None:
        """Write one; what was logged up to here reaches the disk first, for the steps are not taken again."""
        for tracker in self.accelerator.trackers:
            flush = getattr(tracker.tracker, "flush", None)
            if flush is not None:
                flush()
        self.checkpoint.write(self.state())

    # --- stepping -----------------------------------------------------------------------------------------------

    def run_to_end(self, *, show_progress: bool) -> None:
        """Take the steps that are left."""
        recipe, progress = self.run.recipe, self.progress
        select = selecting(self.parts)
        bar = tqdm(
            total=self.steps,
            initial=progress.step,
            desc=f"{self.run.task} · {self.run.method.name}",
            unit="step",
            disable=not show_progress,
        )
        begin, tokens = time.perf_counter(), progress.num_tokens
        for step in range(progress.step + 1, self.steps + 1):
            name = pick(self.rates, seed=self.run.seed, step=step)
            loss = self._step(self.parts[name], step)
            progress.step = step
            progress.losses.append((step, loss))
            bar.update()
            if step % 10 == 0 or step == self.steps:
                rate = (progress.num_tokens - tokens) / (time.perf_counter() - begin)
                best = f"{progress.best:.1f}" if progress.curve else "–"
                bar.set_postfix_str(f"loss {loss:.3f} · best dev {best} · {rate:,.0f} tokens/s")
                own = {f"loss/{name}": loss} if len(self.parts) > 1 else {}
                learning_rate = self.schedule.get_last_lr()[0]
                self.accelerator.log({"loss": loss, **own, "learning_rate": learning_rate, "tokens_per_s": rate}, step)
            if step % recipe.eval_every_steps == 0 or step == self.steps:
                self._evaluate(select)
                if recipe.patience and progress.without_gain >= recipe.patience:
                    break
            if step < self.steps and self.checkpoint.due(step):
                self._keep_checkpoint()
        bar.close()

    def _step(self, part: TaskData, step: int) -> float:
        """One optimiser step on batches of one task; returns its loss."""
        task, kind, recipe = part.task, kinds.get(part.task.kind), self.run.recipe
        own, stream = self.progress.tasks[task.name], self.batches[task.name]
        self.model.train()
        total = 0.0
        for _ in range(part.recipe.accumulate):
            draw = seed_for(self.run.seed, f"{task.name} batch {stream.drawn}")
            chosen = next(stream)
            own.drawn = stream.drawn
            rows = kind.redraw([part.train[i] for i in chosen], self.model.tokenizer, task, seed=draw)
            batch = kind.collate(rows, pad_id=self.model.pad_id)
            self.progress.num_tokens += int(batch["attention_mask"].sum())
            self.progress.num_examples += len(chosen)
            batch = {name: tensor.to(self.model.device) for name, tensor in batch.items()}
            with torch.autocast(self.model.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                loss = kind.loss(self.model(batch, task).float(), batch) / part.recipe.accumulate
            if not torch.isfinite(loss):
                raise XlingError(
                    f"{key(self.run)}: the loss became {loss.item()} at step {step} of {self.steps}; lower the "
                    f"learning rate ({recipe.learning_rate:g}), raise the warm-up, or use precision fp32"
                )
            self.accelerator.backward(loss)
            total += loss.item()
        if recipe.clip_norm:
            self.accelerator.clip_grad_norm_(self.trainable, recipe.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        own.steps += 1
        return total

    def _evaluate(self, select: Mapping[str, TaskData]) -> None:
        """Score the dev rows of every task and keep the weights when they are the best so far."""
        with torch.random.fork_rng():  # evaluation must not shift the random numbers training draws
            scores = {name: part.dev_score(self.model) for name, part in self.parts.items()}
        if self.progress.note(scores, select):
            self.progress.state = self.model.trainable_state()
        logged = {f"dev/{name}": score for name, score in scores.items()}
        if len(scores) > 1:
            logged["dev/mean"] = self.progress.curve[-1][1]
        self.accelerator.log(logged, self.progress.step)
