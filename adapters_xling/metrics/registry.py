"""Metrics by name: what one is, and how a function becomes one.

A metric takes aligned sequences and the language they are in, and returns percentages by name. What golds and
predictions hold is what the task's kind puts there: labels, choice indices, tuples of tags, answer texts (gold: a
tuple of alternatives, empty for an unanswerable question), or rankings (gold: the query's id and its matches).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from adapters_xling.errors import DataError, unknown

Scores = dict[str, float]


@dataclass(frozen=True)
class Metric:
    """A registered metric.

    Attributes:
        main: key of the returned scores that models are selected by and reports show.
        kinds: forms of task whose predictions it can score.
        argument: value of its last parameter (a label name), or None when it takes none.
    """

    name: str
    main: str
    kinds: frozenset[str]
    argument: str | None
    function: Callable[..., Scores]

    def __call__(self, golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
        """Score aligned predictions.

        Raises:
            DataError: when there is nothing to score, lengths differ, or a row has no gold. Never 0 or NaN instead.
        """
        if len(golds) != len(predictions):
            raise DataError(f"metric {self.name!r}: {len(golds)} gold rows but {len(predictions)} predictions")
        if not golds:
            raise DataError(f"metric {self.name!r} ({language}): no rows to score; an empty split has no score")
        for i, gold in enumerate(golds):
            if gold is None:
                raise DataError(f"metric {self.name!r} ({language}): row {i} has no gold; score a labelled split")
        extra = () if self.argument is None else (self.argument,)
        return self.function(golds, predictions, language, *extra)


_METRICS: dict[str, Metric] = {}


def metric(*, main: str, kinds: str, argument: str | None = None) -> Callable[[Callable[..., Scores]], Metric]:
    """Register a function as a metric under its own name; `kinds` is a blank-separated list."""

    def register(function: Callable[..., Scores]) -> Metric:
        name = function.__name__
        _METRICS[name] = Metric(name, main, frozenset(kinds.split()), argument, function)
        return _METRICS[name]

    return register


def names() -> tuple[str, ...]:
    """Every metric."""
    return tuple(_METRICS)


def get(name: str) -> Metric:
    """A metric by name; what follows a colon is its argument.

    Raises:
        UnknownName: for a metric that does not exist, or an argument to one that takes none.

    >>> get("accuracy")(["a", "b"], ["a", "a"], "en")
    {'accuracy': 50.0}
    """
    base, colon, argument = name.partition(":")
    if base not in _METRICS or (colon and (not argument or _METRICS[base].argument is None)):
        raise unknown("metric", name, _METRICS, "adapters_xling/metrics/")
    found = _METRICS[base]
    return Metric(name, found.main, found.kinds, argument or found.argument, found.function)


def main(name: str) -> str:
    """Key of a metric's scores that models are selected by and reports show."""
    return get(name).main


def kinds(name: str) -> frozenset[str]:
    """Forms of task a metric can score."""
    return get(name).kinds


def argument(name: str) -> str | None:
    """The label a metric singles out, or None."""
    return get(name).argument


def f1_scores(num_correct: int, num_predicted: int, num_gold: int) -> Scores:
    """Precision, recall and F1 in percent; each is 0 where its denominator is.

    >>> f1_scores(1, 2, 1)["recall"]
    100.0
    """
    return {
        "precision": 100.0 * num_correct / num_predicted if num_predicted else 0.0,
        "recall": 100.0 * num_correct / num_gold if num_gold else 0.0,
        "f1": 200.0 * num_correct / (num_predicted + num_gold) if num_predicted + num_gold else 0.0,
    }
