"""Metrics by name: what one is, and how a function becomes one.

A metric takes aligned sequences and the language they are in, and returns percentages by name. What golds and
predictions hold is what the task's kind puts there: labels, choice indices, tuples of tags, answer texts (gold: a
tuple of alternatives, empty for an unanswerable question), or rankings (gold: the query's id and its matches).

Every metric can also be taken apart: `units` gives what each example adds to a few sums (was it right; chunks found,
predicted and in the gold), and `combine` makes the scores from the sums. Resampling examples is then a weighted sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adapters_xling.errors import DataError, unknown

Scores = dict[str, float]

Units = dict[str, list[float]]
"""Column -> one number per example. That every example is one example (`num`) is understood."""

Combine = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Sums of all columns and of `num`, each a number or an array of any shape -> scores in percent of the same shape; NaN
where the metric is undefined."""


@dataclass(frozen=True)
class Metric:
    """A registered metric.

    Attributes:
        main: key of the returned scores that models are selected by and reports show.
        kinds: forms of task whose predictions it can score.
        argument: value of its last parameter (a label name), or None when it takes none.
        function: the scores of aligned golds and predictions.
        parts: the units of aligned golds and predictions; `units` asks for them.
        combine: scores from sums of units, equal to what `function` gives.
    """

    name: str
    main: str
    kinds: frozenset[str]
    argument: str | None
    function: Callable[..., Scores]
    parts: Callable[..., Units]
    combine: Combine

    def __call__(self, golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
        """Score aligned predictions.

        Raises:
            DataError: when there is nothing to score, lengths differ, or a row has no gold. Never 0 or NaN instead.
        """
        self._check(golds, predictions, language)
        return self.function(golds, predictions, language, *self._extra)

    def units(self, golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Units:
        """What each example adds to the sums that `combine` makes the scores from.

        Where a metric chooses something from the rows themselves (mining's threshold), the units are those under what
        was chosen from all of them.

        Raises:
            DataError: as when the metric is called.
        """
        self._check(golds, predictions, language)
        return self.parts(golds, predictions, language, *self._extra)

    @property
    def _extra(self) -> tuple[str, ...]:
        return () if self.argument is None else (self.argument,)

    def _check(self, golds: Sequence[Any], predictions: Sequence[Any], language: str) -> None:
        if len(golds) != len(predictions):
            raise DataError(f"metric {self.name!r}: {len(golds)} gold rows but {len(predictions)} predictions")
        if not golds:
            raise DataError(f"metric {self.name!r} ({language}): no rows to score; an empty split has no score")
        for i, gold in enumerate(golds):
            if gold is None:
                raise DataError(f"metric {self.name!r} ({language}): row {i} has no gold; score a labelled split")


_METRICS: dict[str, Metric] = {}


def metric(
    *, main: str, kinds: str, units: Callable[..., Units], combine: Combine, argument: str | None = None
) -> Callable[[Callable[..., Scores]], Metric]:
    """Register a function as a metric under its own name; `kinds` is a blank-separated list."""

    def register(function: Callable[..., Scores]) -> Metric:
        name = function.__name__
        _METRICS[name] = Metric(name, main, frozenset(kinds.split()), argument, function, units, combine)
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
    return replace(found, name=name, argument=argument or found.argument)


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


def share(part: Any, whole: Any) -> Any:
    """A percentage of sums; NaN where there is nothing to take a share of.

    >>> float(share(1, 4))
    25.0
    """
    import numpy as np

    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return 100.0 * np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def means(**columns: str) -> Combine:
    """The combination of a metric whose scores are means over examples: score name -> column."""
    return lambda sums: {name: share(sums[column], sums["num"]) for name, column in columns.items()}


def combined_f1(sums: Mapping[str, Any]) -> dict[str, Any]:
    """`f1_scores` of the columns `correct`, `predicted` and `gold`, as the combination of metrics that want gold: NaN
    where there is none.
    """
    import numpy as np

    some = np.asarray(sums["gold"]) > 0
    precision = np.nan_to_num(share(sums["correct"], sums["predicted"]))
    f1 = share(2 * np.asarray(sums["correct"]), np.asarray(sums["predicted"]) + np.asarray(sums["gold"]))
    scores = {"precision": precision, "recall": share(sums["correct"], sums["gold"]), "f1": f1}
    return {name: np.where(some, value, np.nan) for name, value in scores.items()}
