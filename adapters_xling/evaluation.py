"""Zero-shot evaluation: predict, keep the predictions, score, language by language, resumable.

Entries that can share an encoder are resident in one, and languages whose rows are few are read together. A language of
an entry is done when its score file exists; the file is written last, so a killed run repeats what it read together.
Predictions stay on disk: where only the scoring changed, or what became of each example was not kept, they are scored
again without a model.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from adapters_xling import inference, matrix, methods, tasks
from adapters_xling.cells import Asked, Cell, Done, Loading, Set, Subject
from adapters_xling.errors import ConfigError, DataError, XlingError
from adapters_xling.made_with import made_with, max_length_of, scoring_code
from adapters_xling.model import Model, bare, is_backbone, open_entry, resolve_device
from adapters_xling.model.freed_pages import keep_freed_pages
from adapters_xling.model.shared import num_unchanged
from adapters_xling.precision import in_float32
from adapters_xling.prefix_cache import OFF, PrefixCache
from adapters_xling.scored import READ_AS_SET, labels_of, weights_of
from adapters_xling.scored import Reading as Reading
from adapters_xling.scored import majority as majority
from adapters_xling.spec import FULL, Route, Score, TaskSpec, describe
from adapters_xling.tasks import kinds
from adapters_xling.zoo import Card, Zoo

if TYPE_CHECKING:
    from adapters_xling.prefix_cache import Store

ROWS_AT_ONCE = 16384
"""Rows times entries that are read together, and what a killed run loses at most, unless one language has more."""
DEFAULT_MAX_LENGTH = 512
"""Sub-word tokens of a sentence in retrieval, which no recipe trained (both public code bases use 512)."""


def evaluate(
    name: str,
    task: TaskSpec,
    *,
    routes: Callable[[str], Route | None] = lambda language: None,
    on_language: Callable[[str, list[Score]], Any] | None = None,
    **options: Any,
) -> list[Score]:
    """Score an entry, or a bare backbone, on a task in several languages: `evaluate_all` of one.

    Args:
        name: key of an entry, or name of a backbone (retrieval needs no training).
        task: what to score it on; its head must be in the entry unless the kind has none.
        routes: what the entry's heads stand on in a language, instead of what they were trained on.
        on_language: called with language and scores as each is done.
        options: those of `evaluate_all`.

    Returns:
        Scores in the order of the languages.

    Raises:
        ConfigError: when the entry has no head for the task, or is asked for a layer or pooling nothing reads.
        DataError: for rows that cannot be scored (blank answers, nothing left).
    """
    each = None if on_language is None else lambda name, language, scores: on_language(language, scores)
    return evaluate_all([name], task, routes=lambda name, language: routes(language), on_language=each, **options)[name]


def evaluate_all(
    names: Sequence[str],
    task: TaskSpec,
    *,
    zoo: Zoo,
    runs_dir: Path,
    languages: Sequence[str] | None = None,
    split: str | None = None,
    data_dir: Path | None = None,
    limit: int | None = None,
    device: str | None = None,
    extra_tasks: Path | None = None,
    on_language: Callable[[str, str, list[Score]], Any] | None = None,
    on_failure: Callable[[str, Exception], Any] | None = None,
    on_missing: Callable[[str, str], Any] | None = None,
    skip_missing: bool | None = None,
    backbone: Path | None = None,
    reading: Reading = READ_AS_SET,
    on_step: Callable[[str, str, int, int], Any] | None = None,
    unscored: bool = False,
    on_left_out: Callable[[str, dict[str, int]], Any] | None = None,
    routes: Callable[[str, str], Route | None] = lambda name, language: None,
    precision: str = FULL,
    prefix_cache: PrefixCache = OFF,
    attention: str = "auto",
    compiled: bool = False,
    opened: Opened | None = None,
) -> dict[str, list[Score]]:
    """Score entries, or bare backbones, on a task in several languages, those that can share an encoder together.

    What must be chosen on another split first (mining's threshold, on dev) is chosen there, from rows of the same
    language, and written beside the scores. Scores are those of an entry evaluated alone, up to rounding.

    Args:
        names: keys of entries, or names of backbones (retrieval needs no training).
        task: what to score them on; its head must be in an entry unless the kind has none.
        zoo: where the entries are.
        runs_dir: predictions and scores go to `<runs_dir>/scores/<name>/<task>/`.
        languages: subset of the task's languages; None means all of them.
        split: split to score; the task's `eval_split` by default.
        data_dir: folder of original data files.
        limit: score only the first rows (the number goes into the file names: such scores never mix with full ones).
        device: where the models run; None chooses.
        extra_tasks: private folder of task files.
        on_language: called with entry, language and scores as each is done.
        on_failure: called with an entry that could not be scored and why; the others go on either way. Without it the
            first failure is raised when the others are done.
        on_missing: called with language and reason where rows are not at hand.
        skip_missing: leave out languages without rows (their cells stay empty) instead of raising, as long as one
            language has some; by default when no languages were named.
        backbone: folder of a local backbone, which an entry names without its path.
        reading: where retrieval reads sentences, over what task, method and backbone say.
        on_step: called with languages, stage, what is done of it and its total (progress bars).
        unscored: only keep the predictions, for rows whose answers are withheld (a benchmark's test sets); no scores
            come back.
        on_left_out: called with language and reason -> rows where rows cannot be scored and were left out.
        routes: what an entry's heads stand on in a language, instead of what they were trained on.
        precision: of the forward passes, "fp32" or "bf16"; scores made in the other one are made again.
        prefix_cache: where hidden states of the layers below the entries' own are kept for other entries and other
            evaluations of these rows; scores made with rounded ones (storage "bf16") are other scores, likewise.
        attention: whether padding is left out of the layers: "auto", "packed" or "padded" (`Model.attention`).
        compiled: run the encoder through `torch.compile`; with "bf16", where that rounds otherwise, such scores are
            other scores. Processors without bfloat16 instructions cannot do both.
        opened: entries that are resident already, which those of this task join; `device`, `backbone`, `prefix_cache`,
            `attention` and `compiled` are its own.

    Returns:
        Scores of each entry in the order of the languages; of one that failed, those it got.

    Raises:
        ConfigError: when an entry has no head for the task, or is asked for a layer or pooling nothing reads.
        DataError: for rows that cannot be scored (blank answers, nothing left).
    """
    task = tasks.with_labels(task, data_dir=data_dir)
    kind, split = kinds.get(task.kind), split or task.eval_split
    how: dict[str, Any] = {"prefix_cache": prefix_cache, "attention": attention, "compiled": compiled}
    opened = opened or Opened(zoo=zoo, device=device, backbone=backbone, **how)
    opened.require_products(precision)
    asked = Asked(
        task=task,
        split=split,
        codes=tasks.check_languages(task, languages, split),
        tuned_on=kind.tuned_on(task, split),
        scoring="unscored" if unscored else scoring_code(),
        limit=limit,
        unscored=unscored,
        skip_missing=languages is None if skip_missing is None else skip_missing,
        reading=reading,
        precision=precision,
        prefix_cache=opened.prefix_cache,
        compiled=opened.compiled,
        zoo=zoo,
        runs_dir=runs_dir,
        data_dir=data_dir,
        extra_tasks=extra_tasks,
        on_missing=on_missing or (lambda *_: None),
        on_left_out=on_left_out or (lambda *_: None),
    )
    done = Done(on_language or (lambda *_: None), on_failure or (lambda *_: None))
    groups: dict[tuple[str, ...], list[Subject]] = {}
    for name in dict.fromkeys(names):
        done.scores[name] = {}
        try:
            subject = _subject(asked, name, routes, backbone)
        except XlingError as err:
            done.fail(name, err)
            continue
        groups.setdefault(Opened.place(name, subject.card), []).append(subject)
    load = Loading(asked, keep=len(groups) > 1)
    for group in groups.values():
        _evaluate_group(asked, group, load, opened, done, on_step)
    if done.failures and on_failure is None:
        raise next(iter(done.failures.values()))
    return {name: [one for code in asked.codes for one in by.get(code, ())] for name, by in done.scores.items()}


def cell_as_set(
    name: str,
    task: TaskSpec,
    rows: tasks.Rows,
    language: str,
    *,
    zoo: Zoo,
    runs_dir: Path,
    split: str,
    limit: int | None,
    precision: str,
    backbone: Path | None,
    extra_tasks: Path | None,
) -> Cell | None:
    """Where `evaluate` keeps the scores of a retrieval set that is read as task, method and backbone say, for whoever
    has its vectors already; None where something must be chosen on another split first. Args are `evaluate`'s.
    """
    if kinds.get(task.kind).tuned_on(task, split) is not None:
        return None
    asked = Asked(
        task=task,
        split=split,
        codes=(language,),
        scoring=scoring_code(),
        limit=limit,
        precision=precision,
        zoo=zoo,
        runs_dir=runs_dir,
        extra_tasks=extra_tasks,
    )
    return Cell(asked, _subject(asked, name, lambda *_: None, backbone), Set(language, rows, None, 0.0))


def _subject(asked: Asked, name: str, routes: Callable[[str, str], Route | None], backbone: Path | None) -> Subject:
    """Look at an entry's card and refuse what cannot be scored; nothing is opened."""
    task, zoo = asked.task, asked.zoo
    kind = kinds.get(task.kind)
    card = None if is_backbone(name) or (backbone is not None and name == backbone.name) else zoo.get(name).card
    if card is not None and kind.trains and task.head_name not in card.heads:
        raise ConfigError(
            f"entry {name} has no head for task {task.name!r} (head {task.head_name!r}); it has: "
            f"{', '.join(card.heads) or 'none'}. Train one with `xling train {task.name}`"
        )
    if card is None and kind.trains:
        raise ConfigError(
            f"backbone {name!r} has no heads, so it can be scored on retrieval only, not on {task.name!r}"
        )
    if asked.reading != READ_AS_SET and not kind.vectors:
        raise ConfigError(f"layer, pooling and vectors are settings of retrieval; task {task.name!r} reads all tokens")
    ways = {code: routes(name, code) for code in asked.codes}  # every name is looked up before anything is opened
    if card is None and any(ways.values()):
        raise ConfigError(f"backbone {name!r} is no entry, so there is nothing to put on a route; evaluate an entry")
    max_length = max_length_of(card.run if card else None, task, extra_tasks=asked.extra_tasks)
    return Subject(
        name=name,
        card=card,
        ways=ways,
        labels=labels_of(card, task, zoo=zoo, extra_tasks=asked.extra_tasks),
        weights=weights_of(name, card, backbone),
        max_length=max_length,
        how=made_with(
            task,
            backbone=card.run.backbone.name if card else name,
            max_length=max_length,
            reading=asked.reading.suffix,
            precision=asked.precision,
            prefix_cache=asked.prefix_cache,
            compiled=asked.compiled,
        ),
    )


def _evaluate_group(
    asked: Asked,
    subjects: Sequence[Subject],
    load: Loading,
    opened: Opened,
    done: Done,
    on_step: Callable[[str, str, int, int], Any] | None,
) -> None:
    """Score entries that share an encoder; languages with the same entries to score are read together."""
    waiting: list[tuple[Cell, ...]] = []
    same: list[Any] = []
    unreadable: list[DataError] = []

    def flush() -> None:
        if waiting:
            stage = (
                functools.partial(on_step, ",".join(cells[0].found.language for cells in waiting)) if on_step else None
            )
            _evaluate_cells(asked, list(waiting), opened, done, stage)
            waiting.clear()

    for language in asked.codes:
        try:
            found = load(language)
        except DataError as err:  # the other languages are scored all the same
            unreadable.append(err)
            continue
        if found is None:
            continue
        lacking = []
        for subject in subjects:
            if subject.name in done.failures:
                continue
            try:
                cell = Cell(asked, subject, found)
                scores = cell.kept()
            except Exception as err:
                done.fail(subject.name, err)
                continue
            if scores is None:
                lacking.append(cell)
            else:
                done.note(subject.name, language, scores)
        if not lacking:
            continue
        wanted = [(cell.subject.name, cell.way) for cell in lacking]
        if wanted != same:
            flush()
        same = wanted
        waiting.append(tuple(lacking))
        rows = sum(len(cells) * len(cells[0].found.rows.examples) for cells in waiting)
        if kinds.get(asked.task.kind).vectors or rows >= ROWS_AT_ONCE:
            flush()
    flush()
    for subject in subjects if unreadable else ():
        done.fail(subject.name, unreadable[0])


def _evaluate_cells(
    asked: Asked,
    waiting: Sequence[tuple[Cell, ...]],
    opened: Opened,
    done: Done,
    on_step: inference.OnStep | None,
) -> None:
    """Compute cells, one tuple per language with the same entries in each, and keep them."""
    by_length: dict[int, list[tuple[int, Model]]] = {}
    for i, cell in enumerate(waiting[0]):
        subject = cell.subject
        if subject.name in done.failures:
            continue
        try:
            model = opened.model(subject.name, subject.card, cell.way)
            model.read_sentences_at(layer=asked.reading.layer, pooling=asked.reading.pooling)
        except Exception as err:
            done.fail(subject.name, err)
            continue
        by_length.setdefault(subject.max_length, []).append((i, model))
    splits = [*([str(asked.tuned_on)] if waiting[0][0].found.dev else []), asked.split]
    sets = [
        (cells[0].found.rows if split == asked.split else cells[0].found.dev).examples  # type: ignore[union-attr]
        for cells in waiting
        for split in splits
    ]
    for max_length, members in by_length.items():
        models = [model for _, model in members]
        first = models[0]
        unchanged = [
            opened.unchanged(waiting[0][i].subject.name, waiting[0][i].subject.card, waiting[0][i].way, first)
            for i, _ in members
        ]
        readers = matrix.Readers(
            models=models,
            unchanged=min(unchanged),
            max_length=max_length or min(DEFAULT_MAX_LENGTH, first.max_positions),
            precision=asked.precision,
        )
        works = [[cells[i].work.below(split) for cells in waiting for split in splits] for i, _ in members]
        with opened.writing():
            answers = matrix.predict_sets(readers, asked.task, sets, works=works, on_step=on_step)
        timing: dict[str, Any] = {"device": first.device.type, "threads": torch.get_num_threads()}
        timing |= {"precision": asked.precision} if asked.precision != FULL else {}
        timing |= {"compiled": True} if asked.compiled else {}
        for (i, _), answer in zip(members, answers, strict=True):
            name = waiting[0][i].subject.name
            if answer.failure is not None:
                done.fail(name, answer.failure)
                continue
            for number, cells in enumerate(waiting):
                own = slice(number * len(splits), (number + 1) * len(splits))
                seconds = cells[0].found.seconds / len(cells) + sum(answer.seconds[own])
                predicted = dict(zip(splits, answer.predictions[own], strict=True))
                try:
                    scores = cells[i].keep(predicted, {"seconds": round(seconds, 4), **timing})
                except Exception as err:
                    done.fail(name, err)
                    break
                done.note(name, cells[0].found.language, scores)


class Opened:
    """Entries that are open, over the routes that are asked for: in one encoder where their method allows, and of the
    others one at a time.

    Attributes:
        prefix_cache: where hidden states of the layers below the entries' own are kept.
        attention: of every model, as `Model.attention` has it.
        compiled: whether encoders run through `torch.compile`.
    """

    def __init__(
        self,
        *,
        zoo: Zoo,
        device: str | None,
        backbone: Path | None,
        prefix_cache: PrefixCache = OFF,
        attention: str = "auto",
        compiled: bool = False,
    ) -> None:
        self._zoo, self._device, self._backbone = zoo, device, backbone
        self.prefix_cache, self.attention, self.compiled = prefix_cache, attention, compiled
        self._store: Store | None = None  # in use from the first model on that has something to keep
        self._models: dict[tuple[str, ...], dict[tuple[str, str], Model]] = {}

    def require_products(self, precision: str) -> None:
        """Refuse to compile what this processor would multiply in PyTorch's own, slow bfloat16 kernels.

        Raises:
            ConfigError: saying which of the two to leave out.
        """
        if self.compiled and in_float32(resolve_device(self._device), precision):
            raise ConfigError(
                f"this processor has no instructions for precision {precision}: such products are float32 ones here "
                "(as fast, same scores up to rounding), which cannot be compiled. Leave out --precision or --compile"
            )

    @staticmethod
    def place(name: str, card: Card | None) -> tuple[str, ...]:
        """What entries must have in common to be in one encoder: the method and the backbone."""
        if card is None or not methods.resolve(card.run.method).shares_encoder:
            return ("", name)
        return (card.run.method.name, card.run.backbone.name, str(card.run.backbone.digest))

    def model(self, name: str, card: Card | None, route: Route | None = None) -> Model:
        """The model of an entry over a route; None is as it was trained."""
        place, called = self.place(name, card), (name, describe(route) if route is not None else "")
        found = self._models.get(place, {})
        if called not in found:
            if not place[0]:  # its weights are the encoder's, and one such encoder at a time is enough
                self._models = {other: models for other, models in self._models.items() if other[0]}
                found = {}
            beside = next(iter(found.values()), None)
            made = open_model(
                name, card, zoo=self._zoo, device=self._device, backbone=self._backbone, route=route, beside=beside
            )
            made.set_attention(self.attention)
            if self.compiled:
                made.compile_passes(beside)
            made.keep_prefix(self.prefix_cache)
            if made.prefix is not None and self._store is None:
                self._store = made.prefix.store
                self._store.begin()
            found[called] = made
            self._models[place] = found
        return found[called]

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Passes of the models; at their end, even a sudden one, what they keep of hidden states is written."""
        try:
            yield
        finally:
            if self._store is not None:
                self._store.flush()

    def unchanged(self, name: str, card: Card | None, route: Route | None, model: Model) -> int:
        """Highest hidden state up to which an entry computes what its bare backbone does; see `model.shared`."""
        return (
            model.num_layers if card is None else num_unchanged(name, route, zoo=self._zoo, num_layers=model.num_layers)
        )


def open_model(
    name: str,
    card: Card | None,
    *,
    zoo: Zoo,
    device: str | None,
    backbone: Path | None,
    route: Route | None = None,
    beside: Model | None = None,
) -> Model:
    """The model of an entry, or of a bare backbone where there is no card; see `model.open_entry`."""
    place = resolve_device(device)
    if place.type == "cpu":
        keep_freed_pages()
    if card is None:
        return bare(name, device=place, backbone=backbone)
    return open_entry(name, zoo=zoo, device=place, backbone=backbone, route=route, beside=beside)
