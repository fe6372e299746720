"""What became of each example of a scored set, kept beside its scores, so that two systems can be compared on the same
rows without the rows, a model or torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from adapters_xling.errors import DataError
from adapters_xling.spec import digest
from adapters_xling.strict import Frozen

from .registry import Metric, Scores, get

if TYPE_CHECKING:
    import numpy as np


GOLD_CHARACTERS = 4
"""Of the digest of a row's gold that are kept."""


class _Head(Frozen, frozen=True):
    """First line of the file. On every other line stand an id and its numbers, in the order of `columns`.

    `golds` are those of `Outcomes`, joined.
    """

    identity: str
    language: str
    parallel: bool
    num_examples: int
    columns: dict[str, tuple[str, ...]]
    golds: str = ""


@dataclass(frozen=True)
class Outcomes:
    """Units of every metric of one scored (task, split, language).

    Attributes:
        language: its code.
        parallel: whether the same id is the same content in the task's other languages.
        ids: of the examples (retrieval: queries).
        units: metric, as the task names it -> column -> one number per id (N,).
        golds: the beginning of the digest of each row's gold (N,); empty in files from before they were kept.
    """

    language: str
    parallel: bool
    ids: tuple[str, ...]
    units: Mapping[str, Mapping[str, np.ndarray]]
    golds: tuple[str, ...] = ()

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
        import numpy as np

        if len(set(ids)) != len(ids):
            twice = next(name for name in ids if list(ids).count(name) > 1)
            raise DataError(f"id {twice!r} occurs twice among {len(ids)} rows ({language}); each row needs its own")
        units = {}
        for name in metric_names:
            columns = get(name).units(golds, predictions, language)
            units[name] = {column: np.asarray(values, np.float64) for column, values in columns.items()}
        return cls(language, parallel, tuple(ids), units, tuple(digest(gold)[:GOLD_CHARACTERS] for gold in golds))

    def unlike(self, other: Outcomes) -> str | None:
        """Id of the first example of both whose gold is another one in each, so that they were scored on other rows.

        None where there is no such example, or one of the two does not know its golds.
        """
        golds = dict(zip(other.ids, other.golds, strict=False))
        own = zip(self.ids, self.golds, strict=False)
        return next((name for name, gold in own if golds.get(name, gold) != gold), None)

    def metric_of(self, score: str) -> Metric:
        """The metric that gives a score, by the score's name (``f1``, ``accuracy``); the first one that does.

        Raises:
            KeyError: when none does.
        """
        for name in self.units:
            if score in self._scores(name):
                return get(name)
        raise KeyError(score)

    def scores(self) -> Scores:
        """Scores of all metrics from the sums of the units, in percent; what is undefined is left out."""
        found: Scores = {}
        for name in self.units:
            for score, value in self._scores(name).items():
                found.setdefault(score, value)
        return found

    def _scores(self, name: str) -> Scores:
        import numpy as np

        sums = {column: values.sum() for column, values in self.units[name].items()} | {"num": float(len(self.ids))}
        combined = get(name).combine(sums)
        return {score: float(value) for score, value in combined.items() if np.isfinite(value)}

    def encode(self, identity: str) -> bytes:
        """The file's content, JSON lines. `identity` says which score file it belongs to."""
        head = _Head(
            identity=identity,
            language=self.language,
            parallel=self.parallel,
            num_examples=len(self.ids),
            columns={metric: tuple(columns) for metric, columns in self.units.items()},
            golds="".join(self.golds),
        )
        columns = [column.tolist() for own in self.units.values() for column in own.values()]
        rows = ([id_, *map(_plain, values)] for id_, *values in zip(self.ids, *columns, strict=True))
        return msgspec.json.Encoder().encode_lines([head, *rows])


def _plain(value: float) -> float:
    """A whole number without its decimal point; most are 0 and 1."""
    return int(value) if value.is_integer() else value


def decode_outcomes(content: bytes, path: Path) -> tuple[Outcomes, str]:
    """Read what `Outcomes.encode` wrote, and the identity of the score file it belongs to.

    Raises:
        DataError: naming the file, when it is something else, or a line or number is missing.
    """
    import numpy as np

    first, _, rest = content.partition(b"\n")
    try:
        head = msgspec.json.decode(first, type=_Head)
        rows = msgspec.json.Decoder(list[str | float]).decode_lines(rest)
        names = [(metric, column) for metric, columns in head.columns.items() for column in columns]
        if len(rows) != head.num_examples:
            raise ValueError(f"{len(rows)} of {head.num_examples} rows are there")
        golds = tuple(map("".join, zip(*[iter(head.golds)] * GOLD_CHARACTERS, strict=True)))
        if golds and len(golds) != len(rows):
            raise ValueError(f"{len(golds)} golds of {len(rows)} rows are there")
        ids = tuple(str(row[0]) for row in rows)
        values_NC = np.array([row[1:] for row in rows], np.float64).reshape(len(rows), len(names))
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, IndexError) as err:
        raise DataError(f"{path}: these are no outcomes: {err}. Delete the file; evaluating again writes it") from err
    units: dict[str, dict[str, np.ndarray]] = {metric: {} for metric in head.columns}
    for (metric, column), values in zip(names, values_NC.T, strict=True):
        units[metric][column] = values
    return Outcomes(head.language, head.parallel, ids, units, golds), head.identity
