"""What became of each example of a scored set, kept beside its scores, so that two systems can be compared on the same
rows without the rows, a model or torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from adapters_xling.errors import DataError
from adapters_xling.strict import Frozen

from .registry import Metric, Scores, get


class _File(Frozen, frozen=True):
    """The file. `units` holds, per metric, columns with one number per id, in the order of `ids`."""

    identity: str
    language: str
    parallel: bool
    ids: tuple[str, ...]
    units: dict[str, dict[str, tuple[float, ...]]]


@dataclass(frozen=True)
class Outcomes:
    """Units of every metric of one scored (task, split, language).

    Attributes:
        language: its code.
        parallel: whether the same id is the same content in the task's other languages.
        ids: of the examples (retrieval: queries).
        units: metric, as the task names it -> column -> one number per id (N,).
    """

    language: str
    parallel: bool
    ids: tuple[str, ...]
    units: Mapping[str, Mapping[str, np.ndarray]]

    @classmethod
    def of(
        cls,
        metric_names: Sequence[str],
        ids: Sequence[str],
        golds: Sequence[Any],
        predictions: Sequence[Any],
        *,
        language: str,
        parallel: bool = False,
    ) -> Outcomes:
        """Take aligned golds and predictions apart.

        Raises:
            DataError: when an id occurs twice, or a metric cannot score the rows.
        """
        if len(set(ids)) != len(ids):
            twice = next(name for name in ids if list(ids).count(name) > 1)
            raise DataError(f"id {twice!r} occurs twice among {len(ids)} rows ({language}); each row needs its own")
        units = {}
        for name in metric_names:
            columns = get(name).units(golds, predictions, language)
            units[name] = {column: np.asarray(values, np.float64) for column, values in columns.items()}
        return cls(language, parallel, tuple(ids), units)

    def metric_of(self, score: str) -> Metric:
        """The metric that gives a score, by the score's name (``f1``, ``accuracy``); the last one that does.

        Raises:
            KeyError: when none does.
        """
        for name in reversed(self.units):
            if score in self._scores(name):
                return get(name)
        raise KeyError(score)

    def scores(self) -> Scores:
        """Scores of all metrics from the sums of the units, in percent; what is undefined is left out."""
        found: Scores = {}
        for name in self.units:
            found.update(self._scores(name))
        return found

    def _scores(self, name: str) -> Scores:
        sums = {column: values.sum() for column, values in self.units[name].items()} | {"num": float(len(self.ids))}
        combined = get(name).combine(sums)
        return {score: float(value) for score, value in combined.items() if np.isfinite(value)}

    def encode(self, identity: str) -> bytes:
        """The file's content. `identity` says which score file it belongs to."""
        units = {
            metric: {name: tuple(map(_plain, column.tolist())) for name, column in columns.items()}
            for metric, columns in self.units.items()
        }
        return (
            msgspec.json.encode(
                _File(identity=identity, language=self.language, parallel=self.parallel, ids=self.ids, units=units)
            )
            + b"\n"
        )


def _plain(value: float) -> float:
    """A whole number without its decimal point; most are 0 and 1."""
    return int(value) if value.is_integer() else value


def decode_outcomes(content: bytes, path: Path) -> tuple[Outcomes, str]:
    """Read what `Outcomes.encode` wrote, and the identity of the score file it belongs to.

    Raises:
        DataError: naming the file, when it is something else or its columns are not as long as its ids.
    """
    try:
        found = msgspec.json.decode(content, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise DataError(f"{path}: these are no outcomes: {err}. Delete the file; evaluating again writes it") from err
    units = {
        metric: {name: np.asarray(column, np.float64) for name, column in columns.items()}
        for metric, columns in found.units.items()
    }
    wrong = [n for columns in units.values() for n, column in columns.items() if len(column) != len(found.ids)]
    if wrong:
        raise DataError(
            f"{path}: column {wrong[0]!r} does not have one number for each of {len(found.ids)} ids. Delete the file; "
            "evaluating again writes it"
        )
    return Outcomes(found.language, found.parallel, found.ids, units), found.identity
