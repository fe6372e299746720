"""What every form of file answers to: read, check, score, fill from kept predictions, write."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from adapters_xling import metrics
from adapters_xling.metrics import Scores
from adapters_xling.submission.files import Content, Flaw
from adapters_xling.submission.kept import Kept


@dataclass(frozen=True)
class Format(ABC):
    """A form of file.

    Attributes:
        labels: labels that may stand in it, where it holds labels.
        metric: what it is scored with, one of `scored_with`.
        pattern: regular expression of the ids in rankings; empty allows any.
    """

    labels: tuple[str, ...] = ()
    metric: str = ""
    pattern: str = ""

    name: ClassVar[str]
    suffix: ClassVar[str] = ".tsv"
    scored_with: ClassVar[tuple[str, ...]]
    """Metrics it can be scored with."""
    needs_labels: ClassVar[bool] = False
    needs_every_row: ClassVar[bool] = True
    """Whether a row that was not predicted spoils the file: lines would no longer stand for the same rows."""
    row: ClassVar[str]
    """What one of its rows is, for messages."""

    @abstractmethod
    def read(self, path: Path) -> Content:
        """Read a file of predictions; what cannot be read at all raises.

        Raises:
            BadFile: for bytes or JSON that cannot be read.
        """

    def read_labels(self, path: Path) -> Content:
        """Read a file of labels: by default of the same form as predictions."""
        return self.read(path)

    @abstractmethod
    def compare(self, golds: Any, rows: Any) -> Iterator[Flaw]:
        """What is wrong with predictions beside their labels (counts, ids)."""

    @abstractmethod
    def score(self, golds: Any, rows: Any, language: str) -> Scores:
        """Score predictions as the benchmark does, in percent."""

    @abstractmethod
    def fill(self, kept: Kept) -> Any:
        """Rows of a file from kept predictions.

        Raises:
            DataError: when they cannot be brought into the file's form.
        """

    def fill_labels(self, golds: Kept) -> Any:
        """Rows of a labels file from golds in place of predictions; by default a gold is what should be predicted."""
        return self.fill(golds)

    @abstractmethod
    def write(self, rows: Any) -> str:
        """The text of a file."""

    @property
    def averaged(self) -> tuple[str, ...]:
        """Scores whose means over languages, averaged, are the task's score."""
        return (metrics.main(self.metric),)
