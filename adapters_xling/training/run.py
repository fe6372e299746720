"""A run from its description to its entry in the zoo, by one process or several."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate.utils import set_seed

from adapters_xling import tasks
from adapters_xling.errors import XlingError
from adapters_xling.model import Model, build, save_entry
from adapters_xling.prefix_cache import IN_MEMORY, OFF, PrefixCache, session
from adapters_xling.spec import RunSpec, key
from adapters_xling.training import sharding
from adapters_xling.training.checkpoint import EVERY_S, Checkpoint
from adapters_xling.training.data import known_test_rows, load_data
from adapters_xling.training.division import require_divisible
from adapters_xling.training.loop import Loop
from adapters_xling.training.preparing import check, join, task_of
from adapters_xling.training.progress import selecting, training_card
from adapters_xling.zoo import Entry, Facts, Zoo, ZooWarning
from adapters_xling.zoo.origin import state_at_start


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
    prefix_cache: PrefixCache = IN_MEMORY,
    attention: str = "auto",
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
        prefix_cache: where hidden states of the layers that stay frozen are kept between epochs and runs (not with
            weights divided among processes, which compute each layer together).
        attention: whether padding is left out of the layers: "auto", "packed" or "padded" (`Model.attention`); padded
            with weights divided among processes.

    Raises:
        ConfigError: for a run that cannot be trained (unlocked backbone, unsupported route, kind without training).
        DataError: for rows that cannot be read.
        ZooError: when a parent is absent or altered, or the entry cannot be written.
    """
    name = key(run)
    checkpoint = Checkpoint(checkpoint_dir, run, every_s=checkpoint_s, every_steps=checkpoint_steps)
    sharded = sharding.wanted()
    accelerator, processes, place = join(device, trackers, log_dir)
    if processes.first_says(name in zoo):
        processes.on_first(checkpoint.remove)
        return _known_terms(zoo.get(name), extra_tasks)
    check(run)
    state_at_start()  # the code that trains is what is checked out now, whatever is committed until the end
    require_divisible({ref.name: run.recipe_for(ref.name) for ref in run.tasks}, processes)
    sharded = sharded and processes.count > 1
    started = time.perf_counter()
    set_seed(run.seed)

    def made(device: torch.device) -> Model:
        return build(run, zoo=zoo, tasks=specs, device=device, trains_on=place, backbone=backbone)

    specs = [task_of(ref, name, data_dir=data_dir, extra=extra_tasks) for ref in run.tasks]
    model = made(torch.device("cpu") if sharded else place)
    parts = processes.in_turn(
        lambda: {
            task.name: load_data(task, run.recipe_for(task.name), model.tokenizer, data_dir=data_dir) for task in specs
        }
    )
    if sharded:
        sharding.shard(model, processes)
    model.set_attention("padded" if sharded else attention)
    model.keep_prefix(OFF if sharded else prefix_cache)
    loop = Loop(run, model, parts, accelerator, processes, checkpoint, started)
    loop.resume()
    if log_dir:
        log_dir.mkdir(parents=True, exist_ok=True)
        # What a killed process logged beyond its last checkpoint is hidden: those steps are taken again.
        accelerator.init_trackers(name, init_kwargs={"tensorboard": {"purge_step": loop.progress.step + 1}})
    try:
        with session(OFF if model.prefix is None else prefix_cache):
            loop.run_to_end(show_progress=show_progress)
    finally:  # a tracker's thread must not outlive the run, whatever ended it
        for tracker in accelerator.trackers:
            tracker.finish()
    storage = None if model.prefix is None else model.prefix.storage
    model.set_attention("padded")
    model.keep_prefix(OFF)  # what is written of the entry is computed in one go, as others will

    def keep() -> None:
        trained = made(torch.device("cpu")) if sharded else model  # whole again: the probe is what others will compute
        trained.load_trainable(loop.progress.state)
        training = training_card(
            loop.progress,
            parts,
            loop.rates,
            planned=loop.steps,
            seconds=loop.seconds(),
            device=place.type,
            processes=processes.count,
            prefix_storage=storage if storage != "fp32" else None,
        )
        shown = next(iter(selecting(parts).values()))
        with zoo.writing(run) as draft:
            saved = save_entry(trained, run, shown.task, draft.folder, next(iter(shown.dev.values())))
            rows = {place: card for part in parts.values() for place, card in part.rows.items()}
            licence = "; ".join(dict.fromkeys(task.licence for task in specs))
            found = known_test_rows(parts, data_dir=data_dir, extra=extra_tasks)
            draft.finish(Facts(training=training, data=rows, licence=licence, known_rows=found, **saved))

    processes.on_first(keep)
    entry = zoo.get(name)
    processes.on_first(checkpoint.remove)
    return entry


def _known_terms(entry: Entry, extra_tasks: Path | None) -> Entry:
    """An entry that is here already; warns where its task files name another licence now than its sealed card."""
    try:
        specs = [tasks.get(ref.name, extra=extra_tasks) for ref in entry.card.run.tasks]
    except XlingError:
        return entry
    now = "; ".join(dict.fromkeys(task.licence for task in specs))
    if now != entry.card.licence:
        warnings.warn(
            f"entry {entry.key} is here already, with licence {entry.card.licence!r}, and its task file says {now!r} "
            f"now. A card is never changed: for the new terms remove it (xling zoo rm {entry.key}) and train it again",
            ZooWarning,
            stacklevel=3,
        )
    return entry
