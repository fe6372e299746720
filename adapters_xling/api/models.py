"""One entry: train it, score it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adapters_xling import expressions
from adapters_xling.errors import ConfigError
from adapters_xling.spec import Fresh, Init, Route, Slot, Stack, Use
from adapters_xling.zoo import Entry

from . import compositions
from .settings import Settings, codes, local_folder, named_folder, open_zoo, require_limit, task

if TYPE_CHECKING:
    from adapters_xling.sweep import LayerSweep


def default_recipe(backbone: str) -> str:
    """Recipe used when none is named: the paper's, unless one was made for that backbone (`xlmr-nano`: `nano`)."""
    from adapters_xling import grid

    own = backbone.rsplit("-", 1)[-1]
    return own if own in grid.recipes().recipes else "paper"


def train(
    name: str | Sequence[str],
    *,
    method: str = "bottleneck",
    method_settings: Mapping[str, Any] | None = None,
    backbone: str = "xlmr-nano",
    recipe: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    warm: str | None = None,
    stack: str | None = None,
    on: str | None = None,
    seed: int = 0,
    mix: str | None = None,
    rates: Mapping[str, float] | None = None,
    settings: Settings | None = None,
    show_progress: bool = True,
) -> Entry:
    """Train one task, or a mixture of tasks, with one method and keep it in the zoo.

    A run that was killed goes on from its last checkpoint when it is asked for again.

    Args:
        name: task or tasks; a target that has no training rows of its own trains on its source (XNLI on MNLI).
        method: training family.
        method_settings: differences from the method's default settings.
        backbone: name of the frozen encoder.
        recipe: optimisation settings by name.
        overrides: differences to the recipe.
        warm: what to start from: an entry (key or unambiguous beginning of one), or a merge of several, such as
            ``average(a:0.7, b:0.3)``. A merge brings the method's settings along (the rank of merged LoRAs).
        stack: entry to stand on; it stays frozen below the new slot.
        on: what to stand on, as an expression: ``average(a, b)``, ``stack(a, b)``, or ``fuse(a, b)``, which is trained
            itself. The run's own slot goes on top where ``slot`` does not say otherwise.
        seed: seed of initialisation, order and dropout.
        mix: how the tasks of a mixture share the steps: ``proportional`` to their rows (the default), ``uniform`` or
            ``temperature:2``; the first and last with a cap on the rows after a further colon.
        rates: task -> share of all steps, for tasks with a rate of their own (MLM beside an English task).
        settings: folders and device.
        show_progress: draw a progress bar.

    Raises:
        ConfigError: for no task, a method that cannot start or run that way, or a setting or seed that is not valid.
        MissingData: when the rows of a task are not at hand.
    """
    from adapters_xling import grid, methods
    from adapters_xling import tasks as catalog
    from adapters_xling.model import backbone_id, family_of

    settings = settings or Settings()
    zoo = open_zoo(settings)
    methods.require(method)  # all names before the first deep-learning library is loaded
    family = family_of(backbone)
    recipe = grid.recipes().require(recipe or default_recipe(backbone))
    wanted = [name] if isinstance(name, str) else list(name)
    if not wanted:
        raise ConfigError("no task to train on: name one, or several for a mixture")
    sources = [catalog.train_task(task(one, settings), extra=settings.tasks) for one in wanted]
    if sum(bool(given) for given in (warm, stack, on)) > 1:
        raise ConfigError("give one of --warm, --stack and --on: a slot starts from something or stands on it")
    init: Init = expressions.parse_init(warm, resolve=zoo.resolve) if warm else Fresh()
    route: Route = expressions.parse_ground(on, resolve=zoo.resolve) if on else Slot()
    if stack:
        route = Stack(parts=(Use(entry=zoo.resolve(stack)), Slot()))
    built = methods.resolve(method, compositions.settings_for(init, method, method_settings, zoo=zoo))
    built.check(family)
    every_s, every_steps = settings.checkpoint_interval
    run = grid.make_run(
        sources[0] if len(sources) == 1 else sources,
        built,
        backbone=backbone_id(backbone, download=True),
        recipe=recipe,
        overrides=overrides,
        init=init,
        route=route,
        seed=seed,
        data_dir=settings.data_dir,
        extra_tasks=settings.tasks,
        mix=grid.Mix.parse(mix or "proportional", rates) if mix or rates else None,
        backbone_folder=local_folder(backbone),
    )
    from adapters_xling.training import train as train_run

    return train_run(
        run,
        zoo=zoo,
        data_dir=settings.data_dir,
        log_dir=settings.runs_dir / "logs",
        device=settings.device,
        show_progress=show_progress,
        extra_tasks=settings.tasks,
        backbone=local_folder(backbone),
        checkpoint_dir=settings.checkpoint_dir,
        checkpoint_s=every_s,
        checkpoint_steps=every_steps,
        prefix_cache=settings.prefixes(),
        attention=settings.attention,
    )


def prefix_use() -> str:
    """What kept hidden states were good for in this process's last training or evaluation; empty if there were none."""
    from adapters_xling.prefix_cache import uses

    return uses()


def compile_use() -> str:
    """What `torch.compile` compiled in this process, and in what time; empty if it was not asked for."""
    from adapters_xling.model.compiled import use

    return use()


def layers(
    name: str,
    *,
    on: str | None = None,
    backbone: str | None = None,
    languages: str | Sequence[str] | None = None,
    split: str = "dev",
    pooling: str | None = None,
    vectors: str = "float32",
    limit: int | None = None,
    settings: Settings | None = None,
    on_step: Callable[[str, str, int, int], Any] | None = None,
    on_missing: Callable[[str, str], Any] | None = None,
    precision: str = "fp32",
    wait: bool = False,
) -> LayerSweep:
    """Score every hidden state on a retrieval task's dev rows, from one pass over its sentences.

    Args:
        name: a retrieval task.
        on: entry (key or unambiguous beginning of one) whose encoder reads; the bare backbone by default.
        backbone: that backbone, `xlmr-nano` by default; with an entry, the folder of its own, where it cannot be found
            by its name.
        languages: subset of the task's languages; codes, or text with commas between them.
        split: another split than dev can be looked at, not chosen on.
        pooling: "mean", "mean-text" or "first", instead of what retrieval uses.
        vectors: "float32", or "float16" for half the space on disk.
        limit: only the first queries of each language.
        settings: folders and device.
        on_step: called with language, stage, what is done of it and its total.
        on_missing: called with language and reason where rows are not at hand.
        precision: of the forward passes, "fp32" or "bf16".
        wait: where another process is at work on a language, until it is done.

    Raises:
        Held: when another process is at work on a language, and `wait` is false.
        ConfigError: for no language, or a limit below 1.
    """
    settings = settings or Settings()
    languages = codes(languages)
    require_limit(limit)
    zoo = open_zoo(settings)
    spec, reader = task(name, settings), zoo.resolve(on) if on else backbone or "xlmr-nano"
    from adapters_xling import sweep  # once the names are right: it loads torch

    return sweep.layers(
        reader,
        spec,
        zoo=zoo,
        runs_dir=settings.runs_dir,
        languages=languages,
        split=split,
        pooling=pooling,
        vectors=vectors,
        data_dir=settings.data_dir,
        limit=limit,
        device=settings.device,
        backbone=named_folder(backbone) if on else None,
        on_step=on_step,
        on_missing=on_missing,
        precision=precision,
        wait=wait,
        extra_tasks=settings.tasks,
    )
