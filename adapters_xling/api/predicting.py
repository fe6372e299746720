"""Entries that answer: one, or several in common batches."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from adapters_xling import expressions
from adapters_xling.errors import ConfigError, DataError, UnknownName
from adapters_xling.hub_files import shown
from adapters_xling.spec import Imported, TaskSpec, Use, entries
from adapters_xling.zoo import Entry, Zoo

from .commands import starting
from .settings import Settings, named_folder, open_zoo, task

if TYPE_CHECKING:
    from adapters_xling.model import Model
    from adapters_xling.tasks.examples import Example, Prediction


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
        examples: examples, or the texts of each as a tuple (one or two sentences; prompt and choices; question and
            context).
        name: task whose head answers; needed only when the entry has several.
        settings: folders and device.
        backbone: folder of the entry's local backbone, where it cannot be found by its name.
        on: what its head stands on, as an expression in which ``slot`` is the entry.

    Raises:
        DataError: for texts the kind cannot use.
        ConfigError: when the entry has several heads and none was named.
    """
    settings = settings or Settings()
    zoo = open_zoo(settings)
    found = zoo.get(zoo.resolve(entry))
    spec = answering_task(found, name, settings=settings)
    route = expressions.parse_route(on, resolve=zoo.resolve, slot=Use(entry=found.key)) if on else None
    ready = ready_examples(spec, examples)
    from adapters_xling import inference  # once the names are right: it loads torch
    from adapters_xling.made_with import max_length_of
    from adapters_xling.model import open_entry, resolve_device

    device = resolve_device(settings.device)
    model = open_entry(found.key, zoo=zoo, device=device, backbone=named_folder(backbone), route=route)
    model.set_attention(settings.attention)
    if settings.compile:
        model.compile_passes()
    cut: list[str] = []
    length = max_length_of(found.card.run, spec, extra_tasks=settings.tasks)
    predictions = inference.predict(model, spec, ready, max_length=length, on_cut=cut.extend)
    _say_cut(cut, len(ready), f"the {length} tokens that {found.key} reads")
    return predictions


def predict_requests(
    requests: Sequence[tuple[str, Sequence[str]] | tuple[str, Sequence[str], str | None]],
    *,
    settings: Settings | None = None,
    backbone: str | None = None,
) -> list[Prediction]:
    """Answer texts that go to different entries; those whose rows can be mixed are answered in common batches.

    Args:
        requests: (entry, texts of one example) in any order; of an entry with several heads also the task that answers.
        settings: folders and device.
        backbone: folder of the entries' local backbone, where it cannot be found by its name.

    Returns:
        A prediction per request, in their order; its id is the request's number.

    Raises:
        DataError: for texts the kind of an entry cannot use.
        ConfigError: for an entry with several heads, of which none was named.
    """
    settings = settings or Settings()
    zoo = open_zoo(settings)
    numbers: dict[tuple[str, str | None], list[int]] = {}
    for number, (name, _, *named) in enumerate(requests):
        numbers.setdefault((zoo.resolve(name), named[0] if named else None), []).append(number)
    from adapters_xling import inference, methods  # once the names are right: they load torch
    from adapters_xling.made_with import max_length_of
    from adapters_xling.model import open_entry, resolve_device

    firsts: dict[tuple[str, ...], Model] = {}
    groups: dict[tuple[str, ...], list[inference.Job]] = {}
    found: dict[str, Prediction] = {}
    cut: list[str] = []

    def answer(jobs: Sequence[inference.Job]) -> None:
        for predictions in inference.predict_together(jobs, on_cut=cut.extend):
            found.update({prediction.id: prediction for prediction in predictions})

    for (key, head), mine in numbers.items():
        entry = zoo.get(key)
        run = entry.card.run
        spec = answering_task(entry, head, settings=settings)
        examples = ready_examples(spec, [requests[number][1] for number in mine], numbers=mine)
        shares = methods.resolve(run.method).shares_encoder
        place = (run.method.name, run.backbone.name, str(run.backbone.digest))
        first = firsts.get(place) if shares else None
        model = open_entry(
            key,
            zoo=zoo,
            device=resolve_device(settings.device),
            backbone=named_folder(backbone),
            beside=first,
        )
        model.set_attention(settings.attention)
        if settings.compile:
            model.compile_passes(first)
        length = max_length_of(run, spec, extra_tasks=settings.tasks)
        job = inference.Job(model=model, task=spec, examples=examples, max_length=length)
        if not shares:  # an encoder of its own, which need not stay
            answer([job])
            continue
        firsts.setdefault(place, model)
        batches = str(model.layer_for(spec)) if _mixes(key, zoo) else f"{key} {spec.name}"
        groups.setdefault((*place, batches), []).append(job)
    for group in groups.values():
        answer(group)
    _say_cut(sorted(cut, key=int), len(requests), "what their entries read")
    return [found[str(number)] for number in range(len(requests))]


def _say_cut(cut: Sequence[str], total: int, room: str) -> None:
    """Warn of examples that the encoder did not see whole."""
    if cut:
        warnings.warn(
            f"{len(cut)} of {total} examples {'are' if len(cut) > 1 else 'is'} longer than {room} and "
            f"{'were' if len(cut) > 1 else 'was'} cut: {shown(cut)}. Give shorter texts, or train with more (--with "
            "max_length=…)",
            stacklevel=3,
        )


def _mixes(key: str, zoo: Zoo) -> bool:
    """Whether rows of an entry may be in one batch with another's: neither it nor what it runs on top of forbids it."""
    from adapters_xling import methods

    run = zoo.get(key, verify=False).card.run
    return methods.resolve(run.method).mixes_rows and all(_mixes(below, zoo) for below in entries(run.route))


def ready_examples(spec: TaskSpec, examples: Sequence[Any], *, numbers: Sequence[int] = ()) -> list[Example]:
    """Examples of a task, from examples or the texts of each; ids are `numbers`, by default counted from 0.

    Raises:
        DataError: for texts the kind cannot use.
    """
    from adapters_xling.tasks import kinds

    kind = kinds.get(spec.kind)
    given: list[Any] = [examples] if isinstance(examples, str) or not isinstance(examples, Iterable) else list(examples)
    ready: list[Example] = []
    for i, item in zip(numbers or range(len(given)), given, strict=True):
        if isinstance(item, (list, tuple)) and all(isinstance(text, str) for text in item):
            ready.append(kind.from_texts(item, id=str(i)))
        elif isinstance(item, (list, tuple)) or not hasattr(item, "id"):
            raise DataError(
                f"row {i} is {item!r:.100}: give the texts of each example as a tuple; this kind of task takes "
                f"{kind.texts}"
            )
        else:
            ready.append(item)
    for item in ready:
        problem = kind.check_example(item, spec, need_gold=False)
        if problem:
            raise DataError(f"row {item.id}: {problem}")
    return ready


def require_head(entry: Entry) -> None:
    """Refuse an entry without any head, such as one that was imported.

    Raises:
        ConfigError: with the command that trains one.
    """
    if not entry.card.heads:
        imported = isinstance(entry.card.run.init, Imported)
        raise ConfigError(
            f"entry {entry.key} {'was imported and ' if imported else ''}has no head, so it answers nothing: start "
            f"from it ({starting(entry.card)}), or stand on it (--stack)"
        )


def answering(entry: Entry) -> str:
    """The task whose head answers when none is named: the entry's only one beside companions (MLM).

    Raises:
        ConfigError: when the entry has no head, or the tasks of a mixture have several to choose from.
    """
    require_head(entry)
    from adapters_xling.tasks.kinds import options

    heads = {head.task: head for head in entry.card.heads.values() if head.kind not in options.COMPANIONS}
    if len(heads) > 1:
        raise ConfigError(
            f"entry {entry.key} has heads for {', '.join(heads)}: name one of these tasks (--task), in a line of "
            "--requests as `task`"
        )
    return next(iter(heads), entry.card.run.tasks[0].name)


def answering_task(entry: Entry, name: str | None = None, *, settings: Settings | None = None) -> TaskSpec:
    """The task whose head answers, with its labels; of somebody's own task whose file is not here what the card says.

    An entry that was pulled brings its head, labels in order included, but not the file of a private task. Its options
    (how long texts are cut, …) are then those of the task that gave the head its name, where that is here, else the
    kind's own, which a warning says.

    Args:
        entry: the entry.
        name: task whose head answers; needed only when the entry has several.
        settings: folders.

    Raises:
        UnknownName: for a task that neither a file nor a head of the entry knows.
        ConfigError: when the entry has no head, or several and none was named.
    """
    from adapters_xling import tasks as catalog

    settings = settings or Settings()
    require_head(entry)
    wanted = name or answering(entry)
    try:
        return catalog.with_labels(task(wanted, settings), data_dir=settings.data_dir)
    except UnknownName:
        heads = {card.task: (head, card) for head, card in entry.card.heads.items()}
        if wanted not in heads:
            raise
    head, card = heads[wanted]
    try:
        like = task(head, settings)
    except UnknownName:
        like = None
    if like is not None and (like.kind, like.labels) == (card.kind, card.labels):
        return msgspec.structs.replace(like, name=wanted, head=head)
    from adapters_xling.model import task_of_head

    warnings.warn(
        f"the file of task {wanted!r} is not here (--tasks, XLING_TASKS): {entry.key} answers with the usual options "
        f"of kind {card.kind!r}; if it was trained with others, ask its authors for the file",
        stacklevel=2,
    )
    return task_of_head(head, card)
