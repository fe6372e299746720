"""Files of lines: labels, Tatoeba's indices, XCOPA's JSON lines, tags."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from adapters_xling import metrics
from adapters_xling.errors import DataError
from adapters_xling.metrics import Scores
from adapters_xling.submission.files import Content, Flaw, count, parse_json, read_lines
from adapters_xling.submission.kept import Kept

from .base import Format


def _unknown_label(label: str, labels: Collection[str]) -> str:
    shown = ", ".join(labels)
    close = difflib.get_close_matches(label, labels, n=1, cutoff=0.6)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{label!r} is none of {shown}{hint}" if label else f"is blank; one of {shown} is wanted"


class Lines(Format):
    """One label in every line."""

    name = "labels"
    scored_with = ("accuracy",)
    needs_labels = True
    row = "line"

    def read(self, path: Path) -> Content:
        """See `Format.read`."""
        rows = read_lines(path)
        if not rows:
            return Content([], [Flaw("is empty", fatal=True)])
        known = set(self.labels)
        flaws = [
            Flaw(_unknown_label(row, self.labels), number) for number, row in enumerate(rows, 1) if row not in known
        ]
        return Content(rows, flaws)

    def compare(self, golds: Sequence[str], rows: Sequence[str]) -> Iterator[Flaw]:
        """See `Format.compare`."""
        if len(rows) != len(golds):
            yield Flaw(f"has {count(len(rows), self.row)}, the labels have {len(golds):,}", fatal=True)

    def score(self, golds: Sequence[str], rows: Sequence[str], language: str) -> Scores:
        """See `Format.score`."""
        return metrics.get("accuracy")(golds, rows, language)

    def fill(self, kept: Kept) -> list[str]:
        """See `Format.fill`: labels, or the index of a choice, in the order of the rows."""
        return [str(value) for _, value in kept.values]

    def write(self, rows: Sequence[str]) -> str:
        """See `Format.write`."""
        return "".join(f"{row}\n" for row in rows)


class Indices(Lines):
    """Tatoeba: for each English sentence, in alphabetical order, the 0-based line of the other side's sentence."""

    name = "indices"
    needs_labels = False
    _integer = re.compile(r"0|[1-9][0-9]*")

    def read(self, path: Path) -> Content:
        """See `Format.read`. There are as many sentences on either side, so an index below the number of lines."""
        rows = read_lines(path)
        if not rows:
            return Content([], [Flaw("is empty", fatal=True)])
        flaws = []
        for number, row in enumerate(rows, 1):
            if not self._integer.fullmatch(row):
                hint = " (XTREME's own script writes such arrays)" if re.fullmatch(r"\[\s*\d+\s*\]", row) else ""
                flaws.append(Flaw(f"{row!r} is no index: a whole number from 0 is wanted{hint}", number))
            elif int(row) >= len(rows):
                flaws.append(Flaw(f"index {row} points behind the last of {count(len(rows), 'sentence')}", number))
        return Content(rows, flaws)

    def fill(self, kept: Kept) -> list[str]:
        """See `Format.fill`: the best hit's place in its file, for the queries in alphabetical order.

        The queries are English, and equal ones stay in the order of their file (XTREME's `utils_preprocess.py`).
        """
        queries, corpus = kept.sentences()
        place = {sentence.id: i for i, sentence in enumerate(corpus)}
        best = dict(kept.values)
        if without := [query.id for query in queries if not best[query.id]]:
            raise DataError(
                f"query {without[0]!r} ({len(without)} in all) has no hit; the task must rank all sentences"
            )
        return [str(place[best[query.id][0][0]]) for query in sorted(queries, key=lambda query: query.text)]

    def fill_labels(self, golds: Kept) -> list[str]:
        """See `Format.fill_labels`; of several matches the first."""
        hits = tuple((query, tuple((match, 1.0) for match in matches)) for query, (_, matches) in golds.values)
        return self.fill(dataclasses.replace(golds, values=hits))


class Choices(Lines):
    """XCOPA: JSON lines, each with the index of the right choice as `label`; other fields are not looked at."""

    name = "choices"
    suffix = ".jsonl"

    def read(self, path: Path) -> Content:
        """See `Format.read`."""
        lines = read_lines(path)
        if not lines:
            return Content([], [Flaw("is empty", fatal=True)])
        rows, flaws = [], []
        for number, line in enumerate(lines, 1):
            value, _ = parse_json(line, number)
            if not isinstance(value, dict) or "label" not in value:
                flaws.append(
                    Flaw('has no "label": one object like {"label": 0} per line is wanted', number, fatal=True)
                )
                continue
            label = value["label"]
            rows.append(str(label))
            if isinstance(label, (bool, float)) or str(label) not in self.labels:
                flaws.append(Flaw(_unknown_label(str(label), self.labels), number))
        return Content(rows, flaws)

    def write(self, rows: Sequence[str]) -> str:
        """See `Format.write`."""
        return "".join(json.dumps({"label": int(row)}) + "\n" for row in rows)


class Tags(Format):
    """One tag in every line, a blank line between sentences."""

    name = "tags"
    scored_with = ("chunk_f1",)
    needs_labels = True
    row = "sentence"

    def read(self, path: Path) -> Content:
        """See `Format.read`. Two blank lines in a row are a sentence without words, as the scorer takes them."""
        known = set(self.labels)
        rows: list[list[str]] = []
        sentence: list[str] = []
        flaws = []
        for number, line in enumerate(read_lines(path), 1):
            if line:
                sentence.append(line)
                if line not in known:
                    flaws.append(Flaw(_unknown_tag(line, self.labels), number))
                continue
            if not sentence:
                flaws.append(Flaw("is a blank line where a sentence begins: a sentence without words", number))
            rows.append(sentence)
            sentence = []
        if sentence:
            rows.append(sentence)
        if not any(rows):
            return Content([], [Flaw("is empty", fatal=True)])
        return Content(rows, flaws)

    def compare(self, golds: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> Iterator[Flaw]:
        """See `Format.compare`."""
        if len(rows) != len(golds):
            yield Flaw(f"has {count(len(rows), self.row)}, the labels have {len(golds):,}", fatal=True)
            return
        line = 1
        for gold, row in zip(golds, rows, strict=True):
            if len(gold) != len(row):
                yield Flaw(f"a sentence of {count(len(row), 'tag')} begins here, the labels have {len(gold):,}", line)
            line += len(row) + 1

    def score(self, golds: Sequence[Sequence[str]], rows: Sequence[Sequence[str]], language: str) -> Scores:
        """See `Format.score`."""
        return metrics.chunk_f1(golds, rows)

    def fill(self, kept: Kept) -> list[list[str]]:
        """See `Format.fill`."""
        return [list(tags) for _, tags in kept.values]

    def write(self, rows: Sequence[Sequence[str]]) -> str:
        """See `Format.write`."""
        return "\n".join("".join(f"{tag}\n" for tag in row) for row in rows)

    @property
    def averaged(self) -> tuple[str, ...]:
        """See `Format.averaged`."""
        return ("f1",)


def _unknown_tag(tag: str, labels: Collection[str]) -> str:
    parts = tag.split()
    if len(parts) > 1 and parts[-1] in labels:
        return f"{tag!r} is more than a tag: write the tag alone, without the word"
    return _unknown_label(tag, labels)
