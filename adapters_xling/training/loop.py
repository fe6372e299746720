"""The one training loop, for every method, kind and mixture: what differs is asked of the method and the kind.

Order of the data, dropout, masking and initialisation follow from the run's seed alone, so a run trained twice on one
machine with the same number of threads gives the same weights, whether or not it was killed on the way.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup

from adapters_xling.batching import filled_shape
from adapters_xling.errors import XlingError
from adapters_xling.inference import passes
from adapters_xling.model import Model
from adapters_xling.model.core import seed_for
from adapters_xling.model.packing import packs
from adapters_xling.model.shared import Shared
from adapters_xling.precision import products
from adapters_xling.processes import Processes
from adapters_xling.spec import FULL, RunSpec, TaskSpec, key
from adapters_xling.steps import shares, total_steps
from adapters_xling.tasks import kinds
from adapters_xling.tasks.kinds.base import Batch
from adapters_xling.training import sharding
from adapters_xling.training.checkpoint import (
    Checkpoint,
    State,
    optimizer_state,
    rng_state,
    set_optimizer_state,
    set_rng_state,
    under,
)
from adapters_xling.training.data import TaskData
from adapters_xling.training.division import Division
from adapters_xling.training.pieces import Piece, pieces_of, spare
from adapters_xling.training.preparing import optimiser
from adapters_xling.training.progress import Progress, TaskProgress, selecting
from adapters_xling.training.sampling import Batches, pick


class Loop:
    """Step, evaluate, keep the best, and be able to stop and go on anywhere."""

    def __init__(
        self,
        run: RunSpec,
        model: Model,
        parts: Mapping[str, TaskData],
        accelerator: Accelerator,
        processes: Processes,
        checkpoint: Checkpoint,
        started: float,
    ) -> None:
        self.run, self.model, self.parts = run, model, parts
        self.accelerator, self.processes = accelerator, processes
        self.checkpoint, self.started = checkpoint, started
        sizes = {name: len(part.train) for name, part in parts.items()}
        self.rates, self.steps = shares(run, sizes), total_steps(run, sizes)
        self.batches = {name: _stream(part, run) for name, part in parts.items()}
        self.progress = Progress({name: TaskProgress() for name in parts})
        self.divisions = {name: Division.of(processes, part.recipe.accumulate) for name, part in parts.items()}
        self.optimizer = optimiser(model, run.recipe)
        warmup = round(run.recipe.warmup * self.steps)
        self.schedule = get_linear_schedule_with_warmup(self.optimizer, warmup, self.steps)
        self.trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.sharded = any(isinstance(parameter, DTensor) for parameter in self.trainable)
        # products in bfloat16 are given shapes that come again (`batching`), as in inference
        self.fill = run.recipe.tokens_at_once if run.recipe.precision != FULL and not self.sharded else 0
        self.before, self.padding = 0.0, 0.0
        self._seed(step=0)

    def seconds(self) -> float:
        """Time this run took so far, in this process and those before it."""
        return self.before + time.perf_counter() - self.started

    def _seed(self, *, step: int) -> None:
        """Let dropout draw other numbers in every process; the first one's are those of a run of one process."""
        own, index = self.run.seed, self.processes.index
        torch.manual_seed(own if not index else seed_for(own, f"process {index} from step {step}"))

    # --- stopping and going on ----------------------------------------------------------------------------------

    def state(self) -> State:
        """Everything that other processes need to go on; every process must call this, the first one's is whole."""
        self.progress.seconds = self.seconds()
        keep = self.processes.first
        moments = optimizer_state(self.optimizer)
        rng, *others = self.processes.everyone(rng_state(self.model.device))
        tensors = {
            **{f"model/{n}": t for n, t in sharding.whole(self.model.trainable_parameters(), keep=keep).items()},
            **{f"best/{name}": tensor for name, tensor in self.progress.state.items()},
            **sharding.whole(moments.tensors, keep=keep),
            **rng.tensors,
            **{f"rng/{i}/{n}": t for i, one in enumerate(others, 1) for n, t in under("rng/", one.tensors).items()},
        }
        plain = {
            "data": self._data(),
            "machine": self._machine(),
            "progress": self.progress.plain(),
            "schedule": self.schedule.state_dict(),
            "optimizer": moments.plain,
            "rng": rng.plain,
            **({"other_rngs": [one.plain for one in others]} if others else {}),
        }
        return State(tensors, plain)

    def resume(self) -> None:
        """Go on from the run's checkpoint, when there is a sound one."""
        state = self.checkpoint.read_together(self.processes)
        if state is None:
            return
        plain, weights = state.plain, under("model/", state.tensors)
        if plain["data"] != self._data() or set(weights) != set(self.model.trainable_parameters()):
            if self.processes.first:
                self.checkpoint.refuse("the rows or the weights it was made from are no longer the same")
            return
        if plain["machine"] != self._machine() and self.processes.first:
            warnings.warn(
                f"{key(self.run)} goes on from a checkpoint made on {plain['machine']}, here is {self._machine()}: the "
                "result is as good, but not bit for bit that of a run in one go"
            )
        best = under("best/", state.tensors) if self.processes.first else {}
        self.progress = Progress.from_plain(plain["progress"], best)
        for name, part in self.progress.tasks.items():
            self.batches[name].drawn = part.drawn
        self.before = self.progress.seconds
        sharding.load(self.model.trainable_parameters(), weights)
        set_optimizer_state(self.optimizer, State(state.tensors, plain["optimizer"]), divide=sharding.like)
        self.schedule.load_state_dict(plain["schedule"])
        rngs = [State(state.tensors, plain["rng"])]
        for i, other in enumerate(plain.get("other_rngs", []), 1):
            rngs.append(State({f"rng/{n}": t for n, t in under(f"rng/{i}/", state.tensors).items()}, other))
        if self.processes.index < len(rngs):
            set_rng_state(rngs[self.processes.index], self.model.device)
        else:
            self._seed(step=self.progress.step)

    def _data(self) -> dict[str, Any]:
        """What a checkpoint and the rows at hand must agree in."""
        sizes = {name: [len(part.train), part.num_dev] for name, part in self.parts.items()}
        return {"sizes": sizes, "steps": self.steps}

    def _machine(self) -> dict[str, Any]:
        """What bits depend on beside the run."""
        facts = {"torch": torch.__version__, "device": self.model.device.type, "threads": torch.get_num_threads()}
        if self.model.prefix is not None:
            facts["prefix"] = self.model.prefix.storage
        with passes(self.model, self.run.recipe.precision):
            if packs(self.model):
                facts["attention"] = "packed"
        several = self.processes.count > 1
        return {**facts, **({"processes": self.processes.count, "sharded": self.sharded} if several else {})}

    def _keep_checkpoint(self) -> None:
        """Write one; what was logged up to here reaches the disk first, for the steps are not taken again."""
        for tracker in self.accelerator.trackers:
            flush = getattr(tracker.tracker, "flush", None)
            if flush is not None:
                flush()
        state = self.state()
        if self.processes.first:
            self.checkpoint.write(state)

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
            disable=not (show_progress and self.processes.first),
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
                bar.set_postfix_str(f"loss {loss:.3f} · best dev {best} · {rate:,.0f} tokens/s{self._kept()}")
                own = {f"loss/{name}": loss} if len(self.parts) > 1 else {}
                learning_rate = self.schedule.get_last_lr()[0]
                speed = {"tokens_per_s": rate, "padding": self.padding}
                self.accelerator.log({"loss": loss, **own, "learning_rate": learning_rate, **speed}, step)
            if step % recipe.eval_every_steps == 0 or step == self.steps:
                self._evaluate(select)
                if recipe.patience and progress.without_gain >= recipe.patience:
                    break
            if step < self.steps and self.processes.first_says(self.checkpoint.due(step)):
                self._keep_checkpoint()
        bar.close()

    def _step(self, part: TaskData, step: int) -> float:
        """One optimiser step on batches of one task; returns its loss."""
        task, recipe, division = part.task, self.run.recipe, self.divisions[part.task.name]
        own, stream = self.progress.tasks[task.name], self.batches[task.name]
        self.model.train()
        total, num_tokens, num_places = 0.0, 0.0, 0.0
        for number in range(part.recipe.accumulate):
            draw = seed_for(self.run.seed, f"{task.name} batch {stream.drawn}")
            chosen = next(stream)
            own.drawn = stream.drawn
            self.progress.num_examples += len(chosen)
            if not division.computes(number):
                continue
            pieces, recurs = self._pieces(part, chosen, division, seed=draw)
            prefix = self.model.prefix
            for batch, weight, counts in pieces:
                num_tokens += int(batch["attention_mask"].sum()) if counts else 0
                num_places += self._places(batch) if counts else 0
                with contextlib.nullcontext() if prefix is None or recurs else prefix.paused():
                    loss = self._loss(task, batch, weight) / part.recipe.accumulate
                # sharded gradients come as means over the processes, where a sum is wanted
                with products(self.model.device, recipe.precision):
                    (loss * self.processes.count if self.sharded else loss).backward()
                total += loss.item()
        total, num_tokens, num_places = self.processes.add_up((total, num_tokens, num_places))
        self.progress.num_tokens += int(num_tokens)
        self.padding = 1 - num_tokens / max(1.0, num_places)  # share of the step's places that hold no token
        if not math.isfinite(total):
            raise XlingError(
                f"{key(self.run)}: the loss became {total} at step {step} of {self.steps}; lower the "
                f"learning rate ({recipe.learning_rate:g}), raise the warm-up, or use precision fp32"
            )
        if not self.sharded:
            self.processes.add_up_gradients(self.trainable)
        if recipe.clip_norm:
            nn.utils.clip_grad_norm_(self.trainable, recipe.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        own.steps += 1
        return total

    def _kept(self) -> str:
        """How many of the rows did not have to be read by the frozen layers."""
        return "" if self.model.prefix is None else f" · prefix {self.model.prefix.store.use.share:.0%}"

    def _pieces(
        self, part: TaskData, chosen: Sequence[int], division: Division, *, seed: int
    ) -> tuple[list[Piece], bool]:
        """This process's pieces of a batch, and whether the next epoch draws the same rows (masking makes new ones).

        Sharded weights are put together by all processes, so all of them take as many passes.
        """
        kind, tokens = kinds.get(part.task.kind), self.run.recipe.tokens_at_once
        collate = functools.partial(kind.collate, pad_id=self.model.pad_id)
        drawn = [part.train[i] for i in chosen]
        rows = kind.redraw(drawn, self.model.tokenizer, part.task, seed=seed)
        pieces = pieces_of(rows, division, collate, tokens=tokens, repeat=self.fill > 0)
        if self.sharded and tokens:
            most = max(self.processes.everyone(len(pieces)))
            pieces += [spare(rows, collate)] * (most - len(pieces))
        return pieces, rows is drawn

    def _places(self, batch: Batch) -> int:
        """Tokens that go through the encoder for a batch, padding counted."""
        rows, width = batch["attention_mask"].shape
        if not self.fill:
            return rows * width
        return math.prod(filled_shape(rows, width, tokens=self.fill, most=self.model.max_positions))

    def _loss(self, task: TaskSpec, batch: Batch, weight: float) -> Tensor:
        """Mean loss of a batch times its weight; at 0 no loss is asked for, which without labels has no value."""
        kind, device = kinds.get(task.kind), self.model.device
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        with passes(self.model, self.run.recipe.precision):
            if self.fill:
                logits = Shared.of(batch, task, [self.model], fill=self.fill).logits(self.model, task).float()
            else:
                logits = self.model(batch, task).float()
            if not weight:
                return logits.sum() * 0.0
            loss = kind.loss(logits, batch)
            if (penalty := self.model.penalty()) is not None:
                loss = loss + penalty
        return loss if weight == 1.0 else loss * weight

    def _evaluate(self, select: Mapping[str, TaskData]) -> None:
        """Score the dev rows of every task and keep the weights when they are the best so far.

        Raises:
            XlingError: for weights that are not finite, which no loss has shown where the last step made them.
        """
        bad = sum(not bool(torch.isfinite(one.detach()).all()) for one in self.trainable)
        if self.processes.add_up((float(bad),))[0]:
            raise XlingError(
                f"{key(self.run)}: weights are not finite after step {self.progress.step} of {self.steps}; lower the "
                f"learning rate ({self.run.recipe.learning_rate:g}), raise the warm-up, or use precision fp32"
            )
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # evaluation must not shift the random numbers training draws
            scores = {name: part.dev_score(self.model, self.processes) for name, part in self.parts.items()}
        sharding.give_back(self.model)
        if self.progress.note(scores, select):
            self.progress.state = sharding.whole(self.model.trainable_parameters(), keep=self.processes.first)
        logged = {f"dev/{name}": score for name, score in scores.items()}
        if len(scores) > 1:
            logged["dev/mean"] = self.progress.curve[-1][1]
        self.accelerator.log(logged, self.progress.step)


def _stream(part: TaskData, run: RunSpec) -> Batches:
    """Batches of a task's rows in the order that the run's seed and recipe say."""
    window = run.recipe.sort_window
    lengths = [one.num_tokens for one in part.train] if window else ()
    return Batches(len(part.train), part.recipe.batch_size, seed=run.seed, lengths=lengths, window=window)
