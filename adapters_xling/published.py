"""Published rows (`task_configs/published.yaml`): other people's figures, each with its source and how sure it is.

They are shown beside a grid's own numbers, never mixed with them and never used as a bar.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec

from . import paths
from .errors import ConfigError, unknown
from .strict import Frozen, Name, decode, read_yaml

Mark = Literal["S", "D", "M-hi", "M-lo"]
MARKS: dict[str, str] = {
    "S": "read in the source named",
    "D": "arithmetic from figures read in the source named",
    "M-hi": "from memory, unverified, rather sure",
    "M-lo": "from memory, unverified, unsure",
}
"""How sure a figure is; printed with it wherever it stands."""

Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]


class Marked(Frozen, frozen=True):
    """A figure that is more or less sure than its row."""

    value: Percent
    mark: Mark


class Figure(NamedTuple):
    """One published number, in percent; `language` is empty for the mean over all languages of the task."""

    task: str
    metric: str
    split: str
    language: str
    value: float
    mark: str


class PublishedRow(Frozen, frozen=True):
    """What one source says of one model.

    Attributes:
        model: its name.
        source: where the figures stand, a name among the table's `sources`.
        mark: how sure the figures are.
        note: what tells rows of one model apart, or must be known to compare it.
        scores: task -> metric -> mean over all languages of the task.
        languages: task -> metric -> language -> figure.
    """

    model: str
    source: str
    mark: Mark
    note: str = ""
    scores: dict[Name, dict[str, Percent | Marked]] = {}
    languages: dict[Name, dict[str, dict[str, Percent | Marked]]] = {}


class PublishedTable(Frozen, frozen=True):
    """A set of published rows on one benchmark and split.

    Attributes:
        title: what the rows are about.
        split: split they are of, as task files name it.
        splits: task -> split, where a task file names it otherwise.
        sources: name -> citation.
        rows: in the order in which they are shown.
    """

    title: str
    split: str
    sources: dict[str, str]
    rows: tuple[PublishedRow, ...]
    splits: dict[Name, str] = {}

    def figures(self, row: PublishedRow) -> Iterator[Figure]:
        """Every figure of a row, with its task, metric, split and mark."""

        def figure(task: str, metric: str, language: str, given: float | Marked) -> Figure:
            value, mark = (given.value, given.mark) if isinstance(given, Marked) else (given, row.mark)
            return Figure(task, metric, self.splits.get(task, self.split), language, value, mark)

        for task, by_metric in row.scores.items():
            for metric, given in by_metric.items():
                yield figure(task, metric, "", given)
        for task, by_language in row.languages.items():
            for metric, figures in by_language.items():
                for code, given in figures.items():
                    yield figure(task, metric, code, given)


def load_published(name: str) -> PublishedTable:
    """Read one set of published rows by name.

    Raises:
        UnknownName: with the closest set.
        ConfigError: naming file and field, or a row whose source nobody cites.
    """
    path = paths.task_configs_dir() / "published.yaml"
    found: Mapping[str, object] = decode(dict[str, object], read_yaml(path), str(path))
    if name not in found:
        raise unknown("set of published rows", name, found, str(path))
    table = decode(PublishedTable, found[name], f"{path}: {name}")
    for row in table.rows:
        if row.source not in table.sources:
            raise ConfigError(
                f"{path}: {name}: row {row.model!r} has the source {row.source!r}, which is none of its sources: "
                f"{', '.join(table.sources)}"
            )
    return table
