"""One entry: train it, score it, let it answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xling import expressions
from adapters_xling.errors import ConfigError, DataError, ZooError
from adapters_xling.spec import Fresh, Init, Route, Slot, Stack, TaskSpec, Use
from adapters_xling.zoo import Entry

from . import compositions
from .settings import Settings, open_zoo, task

if TYPE_CHECKING:
    from adapters_xling.sweep import LayerSweep
    from adapters_xling.tasks.examples import Example, Prediction


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
    """
    from adapters_xling import grid, methods
    from adapters_xling import tasks as catalog
    from adapters_xling.model import backbone_id, family_of
    from adapters_xling.training import train as train_run

    settings = settings or Settings()
    zoo = open_zoo(settings)
    if sum(bool(given) for given in (warm, stack, on)) > 1:
        raise ConfigError("give one of --warm, --stack and --on: a slot starts from something or stands on it")
    init: Init = expressions.parse_init(warm, resolve=zoo.resolve) if warm else Fresh()
    route: Route = expressions.parse_ground(on, resolve=zoo.resolve) if on else Slot()
    if stack:
        route = Stack(parts=(Use(entry=zoo.resolve(stack)), Slot()))
    built = methods.resolve(method, compositions.settings_for(init, method, method_settings, zoo=zoo))
    built.check(family_of(backbone))
    every_s, every_steps = settings.checkpoint_interval
    wanted = [name] if isinstance(name, str) else list(name)
    sources = [catalog.train_task(task(one, settings), extra=settings.tasks) for one in wanted]
    run = grid.make_run(
        sources[0] if len(sources) == 1 else sources,
        built,
        backbone=backbone_id(backbone, download=True),
        recipe=recipe or default_recipe(backbone),
        overrides=overrides,
        init=init,
        route=route,
        seed=seed,
        data_dir=settings.data_dir,
        mix=grid.Mix.parse(mix or "proportional", rates) if mix or rates else None,
        backbone_folder=local_folder(backbone),
    )
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
    )


def layers(
    name: str,
    *,
    on: str | None = None,
    backbone: str = "xlmr-nano",
    languages: Sequence[str] | None = None,
    split: str = "dev",
    pooling: str | None = None,
    vectors: str = "float32",
    limit: int | None = None,
    settings: Settings | None = None,
    on_step: Callable[[str, str, int, int], Any] | None = None,
    on_missing: Callable[[str, str], Any] | None = None,
    precision: str = "fp32",
) -> LayerSweep:
    """Score every hidden state on a retrieval task's dev rows, from one pass over its sentences.

    Args:
        name: a retrieval task.
        on: entry (key or unambiguous beginning of one) whose encoder reads; the bare backbone by default.
        backbone: that backbone.
        languages: subset of the task's languages.
        split: another split than dev can be looked at, not chosen on.
        pooling: "mean", "mean-text" or "first", instead of what retrieval uses.
        vectors: "float32", or "float16" for half the space on disk.
        limit: only the first queries of each language.
        settings: folders and device.
        on_step: called with language, stage, what is done of it and its total.
        on_missing: called with language and reason where rows are not at hand.
        precision: of the forward passes, "fp32" or "bf16".
    """
    from adapters_xling import sweep

    settings = settings or Settings()
    zoo = open_zoo(settings)
    return sweep.layers(
        zoo.resolve(on) if on else backbone,
        task(name, settings),
        zoo=zoo,
        runs_dir=settings.runs_dir,
        languages=languages,
        split=split,
        pooling=pooling,
        vectors=vectors,
        data_dir=settings.data_dir,
        limit=limit,
        device=settings.device,
        on_step=on_step,
        on_missing=on_missing,
        precision=precision,
    )


def predict(
    entry: str,
    examples: Sequence[Any],
    *,
    name: str | None = None,
    settings: Settings | None = None,
    backbone: str | None = None,
    on: str | None = None,
) -> list[Prediction]:
    """Predict with an entry's head.

    Args:
        entry: key, or an unambiguous beginning of one.
        examples: examples, or the texts of each (one or two sentences; prompt and choices; question and context).
        name: task whose head answers; needed only when the entry has several.
        settings: folders and device.
        backbone: folder of the entry's local backbone, where it cannot be found by its name.
        on: what its head stands on, as an expression in which ``slot`` is the entry.

    Raises:
        DataError: for texts the kind cannot use.
        ConfigError: when the entry has several heads and none was named.
    """
    from adapters_xling import inference
    from adapters_xling import tasks as catalog
    from adapters_xling.model import open_entry, resolve_device

    settings = settings or Settings()
    zoo = open_zoo(settings)
    found = zoo.get(zoo.resolve(entry))
    spec = catalog.with_labels(task(name or answering(found), settings), data_dir=settings.data_dir)
    ready = ready_examples(spec, examples)
    route = expressions.parse_route(on, resolve=zoo.resolve, slot=Use(entry=found.key)) if on else None
    device = resolve_device(settings.device)
    model = open_entry(found.key, zoo=zoo, device=device, backbone=named_folder(backbone), route=route)
    return inference.predict(model, spec, ready, max_length=found.card.run.recipe_for(spec.name).max_length)


def predict_requests(
    requests: Sequence[tuple[str, Sequence[str]]],
    *,
    settings: Settings | None = None,
    backbone: str | None = None,
) -> list[Prediction]:
    """Answer texts that go to different entries; those that can share an encoder are answered in common batches.

    Args:
        requests: (entry, texts of one example) in any order.
        settings: folders and device.
        backbone: folder of the entries' local backbone, where it cannot be found by its name.

    Returns:
        A prediction per request, in their order; its id is the request's number.

    Raises:
        DataError: for texts the kind of an entry cannot use.
        ConfigError: for an entry with several heads, or entries that cannot be mixed.
    """
    from adapters_xling import inference, methods
    from adapters_xling import tasks as catalog
    from adapters_xling.model import open_entry, resolve_device

    settings = settings or Settings()
    zoo = open_zoo(settings)
    numbers: dict[str, list[int]] = {}
    for number, (name, _) in enumerate(requests):
        numbers.setdefault(zoo.resolve(name), []).append(number)
    groups: dict[tuple[str, ...], list[inference.Job]] = {}
    for key, mine in numbers.items():
        entry = zoo.get(key)
        run = entry.card.run
        spec = catalog.with_labels(task(answering(entry), settings), data_dir=settings.data_dir)
        examples = ready_examples(spec, [requests[number][1] for number in mine], numbers=mine)
        shares = methods.resolve(run.method).shares_encoder
        group = groups.setdefault((run.method.name, run.backbone.name, "" if shares else key), [])
        model = open_entry(
            key,
            zoo=zoo,
            device=resolve_device(settings.device),
            backbone=named_folder(backbone),
            beside=group[0].model if group else None,
        )
        length = run.recipe_for(spec.name).max_length
        group.append(inference.Job(model=model, task=spec, examples=examples, max_length=length))
    found: dict[str, Prediction] = {}
    for group in groups.values():
        for predictions in inference.predict_together(group):
            found.update({prediction.id: prediction for prediction in predictions})
    return [found[str(number)] for number in range(len(requests))]


def ready_examples(spec: TaskSpec, examples: Sequence[Any], *, numbers: Sequence[int] = ()) -> list[Example]:
    """Examples of a task, from examples or the texts of each; ids are `numbers`, by default counted from 0.

    Raises:
        DataError: for texts the kind cannot use.
    """
    from adapters_xling.tasks import kinds

    kind = kinds.get(spec.kind)
    ready: list[Example] = [
        kind.from_texts([str(text) for text in item], id=str(i)) if isinstance(item, (list, tuple)) else item
        for i, item in zip(numbers or range(len(examples)), examples, strict=True)
    ]
    for item in ready:
        problem = kind.check_example(item, spec, need_gold=False)
        if problem:
            raise DataError(f"row {item.id}: {problem}")
    return ready


def answering(entry: Entry) -> str:
    """The task whose head answers when none is named: the entry's only one beside companions (MLM).

    Raises:
        ConfigError: when the tasks of a mixture have several heads to choose from.
    """
    from adapters_xling.tasks.kinds import options

    heads = {head.task: head for head in entry.card.heads.values() if head.kind not in options.COMPANIONS}
    if len(heads) > 1:
        raise ConfigError(f"entry {entry.key} has heads for {', '.join(heads)}: name one of these tasks (--task)")
    return next(iter(heads), entry.card.run.tasks[0].name)


def local_folder(backbone: str) -> Path | None:
    """The folder of a local backbone; None for one that is known by name."""
    from adapters_xling.backbones import BACKBONES

    return None if backbone in BACKBONES or not Path(backbone).is_dir() else Path(backbone)


def named_folder(backbone: str | None) -> Path | None:
    """The folder a person named as that of an entry's backbone; None for one that is known by name.

    Raises:
        ZooError: for a name that is neither.
    """
    from adapters_xling.backbones import BACKBONES

    if backbone is None or backbone in BACKBONES:
        return None
    folder = Path(backbone).expanduser()
    if not folder.is_dir():
        raise ZooError(
            f"backbone folder {backbone} does not exist: give the folder with config.json, tokenizer.json and "
            "model.safetensors that the entry was trained on"
        )
    return folder
