"""Cells of an evaluation: an entry, or a bare backbone, on the rows of one language, and what is kept of it on disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from adapters_xling import inference, keeping, tasks
from adapters_xling.errors import MissingData
from adapters_xling.paths import score_file
from adapters_xling.prefix_cache import OFF, PrefixCache
from adapters_xling.scored import READ_AS_SET, Reading, trained_languages, weights_of
from adapters_xling.spec import Precision, Route, Score, TaskSpec, canonical, digest, entries, outline, scored_as
from adapters_xling.tasks import kinds
from adapters_xling.tasks.examples import Prediction
from adapters_xling.zoo import Card, Measured, Zoo


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An entry, or a bare backbone without a card, as a task sees it; `max_length` is 0 where no recipe says one."""

    name: str
    card: Card | None
    ways: Mapping[str, Route | None]
    labels: Mapping[str, Any]
    weights: Any
    max_length: int
    how: list[Any]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What all cells of an evaluation have in common; fields as `evaluate_all` has them."""

    task: TaskSpec
    split: str
    codes: tuple[str, ...]
    scoring: str
    limit: int | None
    precision: str
    zoo: Zoo
    runs_dir: Path
    extra_tasks: Path | None
    tuned_on: str | None = None
    unscored: bool = False
    skip_missing: bool = False
    reading: Reading = READ_AS_SET
    prefix_cache: PrefixCache = OFF
    compiled: bool = False
    data_dir: Path | None = None
    on_missing: Callable[[str, str], Any] = lambda *_: None
    on_left_out: Callable[[str, dict[str, int]], Any] = lambda *_: None


@dataclass
class Done:
    """What came of the cells so far."""

    on_language: Callable[[str, str, list[Score]], Any]
    on_failure: Callable[[str, Exception], Any]
    scores: dict[str, dict[str, list[Score]]] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)

    def note(self, name: str, language: str, scores: list[Score]) -> None:
        """Take the scores of a cell."""
        self.scores[name][language] = scores
        self.on_language(name, language, scores)

    def fail(self, name: str, err: Exception) -> None:
        """Take an entry out; its first failure counts."""
        if name not in self.failures:
            self.failures[name] = err
            self.on_failure(name, err)


@dataclass
class Set:
    """Rows of a language, with those that something is chosen on for them."""

    language: str
    rows: tasks.Rows
    dev: tasks.Rows | None
    seconds: float


class Loading:
    """Reads the rows of a language once for all entries, and says once what is missing or left out."""

    def __init__(self, asked: Asked, *, keep: bool) -> None:
        self._asked, self._keep = asked, keep and not kinds.get(asked.task.kind).vectors
        self._known: dict[str, Set | None] = {}
        self._said: set[str] = set()
        self._some = False

    def __call__(self, language: str) -> Set | None:
        """The rows of a language; None where they are not at hand and may be missing."""
        if language not in self._known:
            found = self._load(language)
            if found is not None and not self._keep:
                return found
            self._known[language] = found
        return self._known[language]

    def _load(self, language: str) -> Set | None:
        asked, task = self._asked, self._asked.task
        began, where = time.perf_counter(), {"data_dir": asked.data_dir, "limit": asked.limit}
        try:
            rows = tasks.load(task, asked.split, language, need_gold=not asked.unscored, **where)  # type: ignore[arg-type]
            dev = tasks.load(task, asked.tuned_on, language, **where) if asked.tuned_on else None  # type: ignore[arg-type]
        except MissingData as err:
            if not asked.skip_missing or (language == asked.codes[-1] and not self._some):
                raise
            asked.on_missing(language, str(err))
            return None
        self._some = True
        if rows.dropped and language not in self._said:
            asked.on_left_out(language, rows.dropped)
        self._said.add(language)
        return Set(language, rows, dev, time.perf_counter() - began)


class Cell:
    """An entry in a language: its files, and what is in them."""

    def __init__(self, asked: Asked, subject: Subject, found: Set) -> None:
        self.asked, self.subject, self.found = asked, subject, found
        task, language, reading = asked.task, found.language, asked.reading
        self.way = way = subject.ways[language]
        dev = found.dev and found.dev.identity
        parts = [task, asked.split, language, asked.limit, found.rows.identity, dev, subject.weights, subject.how]
        if way is not None:
            standing = [weights_of(one, asked.zoo.get(one).card, None) for one in entries(way)]
            parts += [canonical(way), standing]
        folder = asked.runs_dir / "scores" / scored_as(subject.name, way) / task.name
        self.identity = digest([*parts, "unscored"] if asked.unscored else parts)
        self.path = score_file(
            folder,
            asked.split,
            language,
            limit=asked.limit,
            reading=reading.suffix,
            precision=asked.precision,
            unscored=asked.unscored,
        )
        self.work = inference.Work(folder=self.path.with_suffix(".work"), identity=self.identity, dtype=reading.vectors)

    def kept(self) -> list[Score] | None:
        """Scores that are kept, or made of kept predictions that still stand; None where a model is needed."""
        kept = keeping.read(self.path, self.identity)
        if kept is None:
            return None
        own = (self._is_zero_shot(), self.asked.reading.layer, self.asked.precision)
        flagged = all((score.zero_shot, score.layer, score.precision) == own for score in kept.scores)
        if flagged and keeping.is_current(self.path, kept, self.asked.scoring):
            return kept.scores
        known = keeping.read_predictions(self.path, ids=_predicted_ids(self.found.rows.examples))
        if known is None:
            return None
        labels = self.subject.labels
        said = {field: getattr(score, field) for score in kept.scores[:1] for field in labels} or labels
        return self._keep(known, kept.facts, kept.timing, said)

    def keep(self, predicted: Mapping[str, list[Prediction]], timing: Mapping[str, Any] | None) -> list[Score]:
        """Choose on dev what has to be chosen, score, and write it all down.

        Args:
            predicted: predictions of each split that was read.
            timing: see `keeping.Kept`.
        """
        asked, rows, dev = self.asked, self.found.rows, self.found.dev
        kind = kinds.get(asked.task.kind)
        facts: dict[str, Any] = {"kept": rows.kept, "dropped": rows.dropped, "source": rows.source}
        facts["digest"] = rows.identity
        predictions = predicted[asked.split]
        if dev is not None:
            on = predicted[str(asked.tuned_on)]
            chosen = kind.tune(inference.golds_of(asked.task, dev.examples, on), on)
            facts["chosen"] = {"on": asked.tuned_on, "kept": dev.kept, "source": dev.source, **chosen}
            predictions = kind.apply(chosen, predictions)
        labels = self.subject.labels
        said = labels if self.way is None else {**labels, "route": outline(self.way)}
        return self._keep(predictions, facts, timing, said)

    def _is_zero_shot(self) -> bool:
        """Whether no row of the language trained the head that is scored."""
        asked, card = self.asked, self.subject.card
        trained = trained_languages(card, asked.task, asked.zoo, extra_tasks=asked.extra_tasks)
        return self.found.language not in trained or not kinds.get(asked.task.kind).trains

    def _keep(
        self,
        predictions: list[Prediction],
        facts: Mapping[str, Any],
        timing: Mapping[str, Any] | None,
        said: Mapping[str, Any],
    ) -> list[Score]:
        asked, task, language, subject = self.asked, self.asked.task, self.found.language, self.subject
        kind, card = kinds.get(task.kind), subject.card
        values: dict[str, float] = {}
        outcomes = None
        if not asked.unscored:
            names = kind.metrics_after_tuning(task) if self.found.dev else task.metrics
            values, outcomes = inference.score_each(
                task, self.found.rows.examples, predictions, language=language, metric_names=names
            )
        zero_shot = self._is_zero_shot()
        scores = [
            Score(
                key=scored_as(subject.name, self.way),
                task=task.name,
                language=language,
                metric=metric,
                value=value,
                num_examples=len(predictions),
                split=asked.split,
                zero_shot=zero_shot,
                backbone=card.run.backbone.name if card else Path(subject.name).name,
                layer=asked.reading.layer,
                precision=cast("Precision", asked.precision),
                **said,
            )
            for metric, value in values.items()
        ]
        reader, measured = digest(subject.how), Measured.now()
        weights = card.weights if card else ""
        kept = keeping.Kept(self.identity, asked.scoring, scores, facts, timing, reader, measured, weights)
        keeping.write(self.path, kept, predictions, outcomes)
        shutil.rmtree(self.work.folder, ignore_errors=True)
        return scores


def _predicted_ids(examples: Sequence[Any]) -> list[str]:
    """Ids of the examples that get a prediction: in retrieval the queries."""
    return [example.id for example in examples if getattr(example, "side", "query") == "query"]
