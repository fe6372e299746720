"""Zero-shot evaluation: predict, keep the predictions, score, language by language, resumable.

A language is done when its score file exists; the file is written last, so a killed run repeats at most one language.
Predictions stay on disk: where only the scoring changed, or what became of each example was not kept, they are scored
again without a model.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapters_xling import inference, keeping, methods, metrics, tasks
from adapters_xling.backbones import BACKBONES
from adapters_xling.errors import ConfigError, MissingData, unknown
from adapters_xling.model import Model, backbone_id, bare, is_backbone, open_entry, resolve_device
from adapters_xling.paths import score_file
from adapters_xling.prefix_cache import OFF, PrefixCache
from adapters_xling.spec import Route, Score, TaskSpec, canonical, describe, digest, entries, named, outline, scored_as
from adapters_xling.tasks import kinds
from adapters_xling.tasks.examples import Prediction
from adapters_xling.zoo import Card, Zoo

SCORING = 1
"""Version of the score files."""
DEFAULT_MAX_LENGTH = 512
"""Sub-word tokens of a sentence in retrieval, which no recipe trained (both public code bases use 512)."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Where retrieval reads sentences, over what task, method and backbone say.

    Attributes:
        layer: hidden state, 0 the embeddings; None leaves it to them.
        pooling: "mean", "mean-text" (no special tokens) or "first"; None leaves it to them.
        vectors: "float32", or "float16" to keep vectors in half the space; cosines then differ by about 1e-4.
    """

    layer: int | None = None
    pooling: str | None = None
    vectors: str = "float32"

    @property
    def suffix(self) -> str:
        """What sets its files apart.

        >>> Reading(layer=3, vectors="float16").suffix
        '-layer3-float16'
        """
        parts = (
            f"layer{self.layer}" if self.layer is not None else "",
            self.pooling or "",
            self.vectors if self.vectors != "float32" else "",
        )
        return "".join(f"-{part}" for part in parts if part)


READ_AS_SET = Reading()


def check_languages(task: TaskSpec, languages: Sequence[str] | None, split: str) -> tuple[str, ...]:
    """Languages to evaluate: all of the task's for that split, or the ones asked for when the task has them.

    Raises:
        UnknownName: for a language the task does not have in that split.
    """
    known = task.languages_by_split.get(split, task.languages)
    for code in languages or ():
        if code not in known:
            raise unknown(f"language of {task.name} ({split})", code, known, f"task file of {task.name}")
    return tuple(languages or known)


def labels_of(card: Card | None, task: TaskSpec, *, zoo: Zoo, extra_tasks: Path | None = None) -> dict[str, Any]:
    """What a Score says about where it comes from: method, init, route, intermediate task and seed.

    The intermediate task is the entry's own task when it is evaluated on something it was not trained for (retrieval),
    and a mixture's own tasks whatever it is evaluated on; else the tasks of the entries it started from or stands on.
    """
    if card is None:
        return {"method": "base", "init": "fresh", "route": "base", "intermediate": "none", "seed": 0}
    run = card.run
    trained = {ref.name for ref in run.tasks}
    own = bool(trained & {task.name, tasks.train_task(task, extra=extra_tasks).name}) or task.head_name in card.heads
    if not own or run.mixture:
        source = run.task
    else:
        together = named(run.init) or entries(run.route)
        # a parent that is not here still has its name
        found = (zoo.get(one, verify=False).card.run.task if one in zoo else one for one in together)
        source = "+".join(dict.fromkeys(found)) or "none"
    return {
        "method": methods.resolve(run.method).label,
        "init": outline(run.init),
        "route": outline(run.route),
        "intermediate": source,
        "seed": run.seed,
    }


def evaluate(
    name: str,
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
    on_language: Callable[[str, list[Score]], Any] | None = None,
    on_missing: Callable[[str, str], Any] | None = None,
    skip_missing: bool | None = None,
    backbone: Path | None = None,
    reading: Reading = READ_AS_SET,
    on_step: Callable[[str, str, int, int], Any] | None = None,
    unscored: bool = False,
    on_left_out: Callable[[str, dict[str, int]], Any] | None = None,
    routes: Callable[[str], Route | None] = lambda language: None,
    precision: str = inference.FULL,
    prefix_cache: PrefixCache = OFF,
) -> list[Score]:
    """Score an entry, or a bare backbone, on a task in several languages.

    What must be chosen on another split first (mining's threshold, on dev) is chosen there, from rows of the same
    language, and written beside the scores.

    Args:
        name: key of an entry, or name of a backbone (retrieval needs no training).
        task: what to score it on; its head must be in the entry unless the kind has none.
        zoo: where the entry is.
        runs_dir: predictions and scores go to `<runs_dir>/scores/<name>/<task>/`.
        languages: subset of the task's languages; None means all of them.
        split: split to score; the task's `eval_split` by default.
        data_dir: folder of original data files.
        limit: score only the first rows (the number goes into the file names: such scores never mix with full ones).
        device: where the model runs; None chooses.
        extra_tasks: private folder of task files.
        on_language: called with language and scores as each is done.
        on_missing: called with language and reason where rows are not at hand.
        skip_missing: leave out languages without rows (their cells stay empty) instead of raising, as long as one
            language has some; by default when no languages were named.
        backbone: folder of a local backbone, which an entry names without its path.
        reading: where retrieval reads sentences, over what task, method and backbone say.
        on_step: called with language, stage, what is done of it and its total (progress bars).
        unscored: only keep the predictions, for rows whose answers are withheld (a benchmark's test sets); no scores
            come back.
        on_left_out: called with language and reason -> rows where rows cannot be scored and were left out.
        routes: what the entry's heads stand on in a language, instead of what they were trained on.
        precision: of the forward passes, "fp32" or "bf16"; scores made in the other one are made again.
        prefix_cache: where hidden states of the layers below the entry's own are kept for other entries and other
            evaluations of these rows; scores made with rounded ones (storage "bf16") are other scores, likewise.

    Raises:
        ConfigError: when the entry has no head for the task, or is asked for a layer or pooling nothing reads.
        DataError: for rows that cannot be scored (blank answers, nothing left).
    """
    task = tasks.with_labels(task, data_dir=data_dir)
    split = split or task.eval_split
    codes = check_languages(task, languages, split)
    skip_missing = languages is None if skip_missing is None else skip_missing
    card = None if is_backbone(name) or (backbone is not None and name == backbone.name) else zoo.get(name).card
    if card is not None and kinds.get(task.kind).trains and task.head_name not in card.heads:
        raise ConfigError(
            f"entry {name} has no head for task {task.name!r} (head {task.head_name!r}); it has: "
            f"{', '.join(card.heads) or 'none'}. Train one with `xling train {task.name}`"
        )
    if card is None and kinds.get(task.kind).trains:
        raise ConfigError(
            f"backbone {name!r} has no heads, so it can be scored on retrieval only, not on {task.name!r}"
        )
    if reading != READ_AS_SET and not kinds.get(task.kind).vectors:
        raise ConfigError(f"layer, pooling and vectors are settings of retrieval; task {task.name!r} reads all tokens")
    ways = {language: routes(language) for language in codes}  # every name is looked up before anything is opened
    if card is None and any(ways.values()):
        raise ConfigError(f"backbone {name!r} is no entry, so there is nothing to put on a route; evaluate an entry")
    labels = labels_of(card, task, zoo=zoo, extra_tasks=extra_tasks)
    weights = weights_of(name, card, backbone)
    max_length = 0
    if card and kinds.get(task.kind).trains:
        own = {ref.name for ref in card.run.tasks}
        trained = task.name if task.name in own else tasks.train_task(task, extra=extra_tasks).name
        max_length = card.run.recipe_for(trained).max_length
    read_at = card.run.backbone.name if card else name
    how = [*how_read(task, read_at, max_length), reading.suffix, *in_precision(precision), *in_storage(prefix_cache)]
    scoring = "unscored" if unscored else scoring_code()
    tuned_on = kinds.get(task.kind).tuned_on(task, split)
    opened = Opened(name, card, zoo=zoo, device=device, backbone=backbone, prefix_cache=prefix_cache)
    scores: list[Score] = []
    num_done = 0
    for language in codes:
        started = time.perf_counter()
        try:
            rows = tasks.load(task, split, language, data_dir=data_dir, limit=limit, need_gold=not unscored)
            dev = tasks.load(task, tuned_on, language, data_dir=data_dir, limit=limit) if tuned_on else None
        except MissingData as err:
            if not skip_missing or (language == codes[-1] and not num_done):
                raise
            if on_missing:
                on_missing(language, str(err))
            continue
        num_done += 1
        if on_left_out and rows.dropped:
            on_left_out(language, rows.dropped)
        way = ways[language]
        parts = [task, split, language, limit, rows.identity, dev and dev.identity, weights, how]
        if way is not None:
            parts += [canonical(way), [weights_of(one, zoo.get(one).card, None) for one in entries(way)]]
        folder = runs_dir / "scores" / scored_as(name, way) / task.name
        identity = digest([*parts, "unscored"] if unscored else parts)
        path = score_file(folder, split, language, limit=limit, reading=reading.suffix)
        work = inference.Work(folder=path.with_suffix(".work"), identity=identity, dtype=reading.vectors)
        kept = keeping.read(path, identity)
        if kept is None or not keeping.is_current(path, kept, scoring):
            known = keeping.read_predictions(path, ids=_predicted_ids(rows.examples)) if kept else None
            if kept and known is not None:
                predictions, facts, timing = known, kept.facts, kept.timing
                said = {field: getattr(score, field) for score in kept.scores[:1] for field in labels} or labels
            else:
                said = labels if way is None else {**labels, "route": outline(way)}
                opening = time.perf_counter()
                model = opened.model(way)
                model.read_sentences_at(layer=reading.layer, pooling=reading.pooling)
                max_length = max_length or min(DEFAULT_MAX_LENGTH, model.max_positions)
                started += time.perf_counter() - opening
                predict = functools.partial(
                    inference.predict,
                    model,
                    task,
                    max_length=max_length,
                    on_step=functools.partial(on_step, language) if on_step else None,
                    precision=precision,
                )
                predictions, facts = _predict(predict, task, split, rows, tuned_on, dev, work)
                if model.prefix is not None:
                    model.prefix.store.flush()
                seconds = round(time.perf_counter() - started, 4)
                timing = {"seconds": seconds, "device": model.device.type, "threads": torch.get_num_threads()}
                timing |= {"precision": precision} if in_precision(precision) else {}
            values: dict[str, float] = {}
            outcomes = None
            if not unscored:
                names = kinds.get(task.kind).metrics_after_tuning(task) if dev else task.metrics
                values, outcomes = inference.score_each(
                    task, rows.examples, predictions, language=language, metric_names=names
                )
            found = [
                Score(
                    key=scored_as(name, way),
                    task=task.name,
                    language=language,
                    metric=metric,
                    value=value,
                    num_examples=len(predictions),
                    split=split,
                    zero_shot=language not in trained_languages(card, task) or not kinds.get(task.kind).trains,
                    backbone=card.run.backbone.name if card else Path(name).name,
                    **said,
                )
                for metric, value in values.items()
            ]
            kept = keeping.Kept(identity, scoring, found, facts, timing)
            keeping.write(path, kept, predictions, outcomes)
            shutil.rmtree(work.folder, ignore_errors=True)
        scores += kept.scores
        if on_language:
            on_language(language, kept.scores)
    return scores


def trained_languages(card: Card | None, task: TaskSpec) -> frozenset[str]:
    """Languages of the rows that trained a task's head in an entry; those of the task where its card names none.

    Rows of a mixture's tasks with heads of their own (MLM in many languages) do not count.
    """
    heads = card.heads if card else {}
    others = {head.task for name, head in heads.items() if name != task.head_name}
    places = [place.split("/") for place in (card.data if card else ())]
    found = {part[2] for part in places if len(part) == 3 and part[1] == "train" and part[0] not in others}
    return frozenset(found or task.train_languages)


def weights_of(name: str, card: Card | None, backbone: Path | None) -> Any:
    """What tells an entry's weights, or a bare backbone's, from all others."""
    if card is None:
        return backbone_id(str(backbone or name)).digest
    return {file: one.sha256 for file, one in card.files.items()}


class Opened:
    """Models of one entry over the routes that are asked for, in one encoder where its method allows."""

    def __init__(
        self,
        name: str,
        card: Card | None,
        *,
        zoo: Zoo,
        device: str | None,
        backbone: Path | None,
        prefix_cache: PrefixCache = OFF,
    ) -> None:
        self._name, self._card, self._zoo = name, card, zoo
        self._device, self._backbone = device, backbone
        self._prefix_cache, self._begun = prefix_cache, False
        self._models: dict[str, Model] = {}

    def model(self, route: Route | None) -> Model:
        """The model over a route; None is as it was trained."""
        called = describe(route) if route is not None else ""
        if called not in self._models:
            if self._card is None or route is None:
                made = open_model(self._name, self._card, zoo=self._zoo, device=self._device, backbone=self._backbone)
            else:
                first = next(iter(self._models.values()), None)
                shared = first if first is not None and first.method.shares_encoder else None
                if shared is None:
                    self._models.clear()
                made = open_entry(
                    self._name,
                    zoo=self._zoo,
                    device=resolve_device(self._device),
                    backbone=self._backbone,
                    route=route,
                    beside=shared,
                )
            made.keep_prefix(self._prefix_cache)
            if made.prefix is not None and not self._begun:
                made.prefix.store.begin()
                self._begun = True
            self._models[called] = made
        return self._models[called]


def open_model(name: str, card: Card | None, *, zoo: Zoo, device: str | None, backbone: Path | None) -> Model:
    """The model of an entry, or of a bare backbone where there is no card."""
    place = resolve_device(device)
    if card is None:
        return bare(name, device=place, backbone=backbone)
    return open_entry(name, zoo=zoo, device=place, backbone=backbone)


def _predict(
    predict: Callable[..., list[Prediction]],
    task: TaskSpec,
    split: str,
    rows: tasks.Rows,
    tuned_on: str | None,
    dev: tasks.Rows | None,
    work: inference.Work,
) -> tuple[list[Prediction], dict[str, Any]]:
    """Predictions of a split under what was chosen on `dev` for it, and what the score file says of them."""
    facts: dict[str, Any] = {"kept": rows.kept, "dropped": rows.dropped, "source": rows.source}
    if dev is None:
        return predict(rows.examples, work=work.below(split)), facts
    kind = kinds.get(task.kind)
    found = predict(dev.examples, work=work.below(str(tuned_on)))
    chosen = kind.tune(inference.golds_of(task, dev.examples, found), found)
    facts["chosen"] = {"on": tuned_on, "kept": dev.kept, "source": dev.source, **chosen}
    return kind.apply(chosen, predict(rows.examples, work=work.below(split))), facts


def _predicted_ids(examples: Sequence[Any]) -> list[str]:
    """Ids of the examples that get a prediction: in retrieval the queries."""
    return [example.id for example in examples if getattr(example, "side", "query") == "query"]


def majority(
    task: TaskSpec,
    *,
    backbone: str,
    languages: Sequence[str] | None = None,
    split: str | None = None,
    data_dir: Path | None = None,
    limit: int | None = None,
    train_task: TaskSpec | None = None,
    skip_missing: bool = False,
) -> list[Score]:
    """Score the prediction that ignores the input: the floor under every table."""
    split = split or task.eval_split
    kind = kinds.get(task.kind)
    source = train_task or tasks.train_task(task)
    train = tasks.load_all(source, "train", source.train_languages, data_dir=data_dir)[0] if kind.trains else []
    scores: list[Score] = []
    codes = check_languages(task, languages, split)
    for language in codes:
        try:
            rows = tasks.load(task, split, language, data_dir=data_dir, limit=limit)
        except MissingData:
            if not skip_missing or (language == codes[-1] and not scores):
                raise
            continue
        predictions = kind.majority(train, rows.examples, task)
        for metric, value in inference.score(task, rows.examples, predictions, language=language).items():
            scores.append(
                Score(
                    key=f"majority-{task.name}",
                    task=task.name,
                    language=language,
                    metric=metric,
                    value=value,
                    num_examples=len(predictions),
                    split=split,
                    zero_shot=language not in source.train_languages or not kind.trains,
                    backbone=backbone,
                    method="majority",
                    init="fresh",
                    route="base",
                    intermediate="none",
                    seed=0,
                )
            )
    return scores


def how_read(task: TaskSpec, backbone: str, max_length: int) -> list[Any]:
    """What turns outputs into predictions: the code that predicts, and where a backbone's sentences are read."""
    row = BACKBONES.get(backbone)
    return [SCORING, max_length, row and [row.retrieval_layer, row.retrieval_pooling], _code()]


def in_precision(precision: str) -> list[str]:
    """What a precision other than the usual one adds to the identity of scores."""
    return [] if precision == inference.FULL else [precision]


def in_storage(prefix_cache: PrefixCache) -> list[str]:
    """What rounded hidden states add to the identity of scores."""
    rounded = prefix_cache.is_on and prefix_cache.storage != "fp32"
    return [f"prefix kept in {prefix_cache.storage}"] if rounded else []


@functools.cache
def _code() -> str:
    """Digest of the modules that decide what a prediction is; mining's threshold is chosen by a metric."""
    package = Path(kinds.__file__).parent
    readers = sorted((package.parent / "readers").glob("*.py"))
    mining = Path(metrics.__file__).parent / "mining.py"
    return _digest([*sorted(package.glob("*.py")), *readers, package.parent / "rows.py", mining])


@functools.cache
def scoring_code() -> str:
    """Digest of the modules that decide what a prediction is worth."""
    return _digest(sorted(Path(metrics.__file__).parent.glob("*.py")))


def _digest(files: Sequence[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
