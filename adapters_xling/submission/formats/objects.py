"""Files that are one JSON object: answers to questions, rankings of queries."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from adapters_xling import metrics
from adapters_xling.metrics import Scores
from adapters_xling.submission.files import BadFile, Content, Flaw, count, listed, read_json
from adapters_xling.submission.kept import Kept

from .base import Format

TOP = 20
"""Hits of a ranking that are scored."""


class ById(Format):
    """One JSON object with a value for every id."""

    suffix = ".json"
    row = "id"

    def _object(self, path: Path) -> tuple[dict[str, Any], list[Flaw]]:
        value, flaws = read_json(path)
        if not isinstance(value, dict):
            raise BadFile(Flaw("is not one JSON object from ids to values", fatal=True))
        return value, flaws

    def compare(self, golds: Any, rows: dict[str, Any]) -> Iterator[Flaw]:
        """See `Format.compare`."""
        wanted = dict(golds)
        if absent := [id_ for id_ in wanted if id_ not in rows]:
            yield Flaw(f"lacks {count(len(absent), 'id')} of {len(wanted):,}, which score 0: {listed(absent)}")
        if strange := [id_ for id_ in rows if id_ not in wanted]:
            yield Flaw(f"has {count(len(strange), 'id')} that the labels do not have: {listed(strange)}")

    def write(self, rows: dict[str, Any]) -> str:
        """See `Format.write`."""
        return json.dumps(rows, ensure_ascii=False, indent=0) + "\n"


class Answers(ById):
    """Question id -> answer; labels are SQuAD's JSON, or question id -> answer or answers."""

    name = "answers"
    scored_with = ("squad", "mlqa")

    def read(self, path: Path) -> Content:
        """See `Format.read`."""
        rows, flaws = self._object(path)
        bad = [id_ for id_, value in rows.items() if not isinstance(value, str)]
        if bad:
            flaws.append(Flaw(f"the answer of {listed(bad)} is not a text", fatal=True))
        return Content({} if bad else rows, flaws)

    def read_labels(self, path: Path) -> Content:
        """See `Format.read_labels`: (question id, its answers), as often as the file has the question."""
        value, flaws = read_json(path)
        if isinstance(value, dict) and "data" not in value:
            pairs = [(id_, [gold] if isinstance(gold, str) else gold) for id_, gold in value.items()]
        else:
            pairs = list(_squad(value["data"] if isinstance(value, dict) else value))
            flaws = []  # keys of SQuAD's objects are no ids
        if bad := [id_ for id_, answers in pairs if not _texts(answers)]:
            return Content([], [Flaw(f"question {listed(bad)} has no gold answer that is a text", fatal=True)])
        if not pairs:
            return Content([], [Flaw("holds no question", fatal=True)])
        if not any(answer.strip() for _, answers in pairs for answer in answers):
            text = "every answer is blank: these are the questions without their answers, as XTREME hands them out"
            return Content([], [Flaw(text, fatal=True)])
        return Content([(id_, tuple(answers)) for id_, answers in pairs], flaws)

    def fill(self, kept: Kept) -> dict[str, str]:
        """See `Format.fill`."""
        return dict(kept.values)

    def fill_labels(self, golds: Kept) -> dict[str, list[str]]:
        """See `Format.fill_labels`: every answer of a question."""
        return {id_: list(answers) for id_, answers in golds.values}

    def score(self, golds: Sequence[tuple[str, tuple[str, ...]]], rows: dict[str, str], language: str) -> Scores:
        """See `Format.score`."""
        answers = [gold for _, gold in golds]
        return metrics.get(self.metric)(answers, [rows.get(id_) for id_, _ in golds], language)

    @property
    def averaged(self) -> tuple[str, ...]:
        """See `Format.averaged`: the benchmarks average the mean exact match and the mean F1."""
        return ("exact_match", "f1")


def _texts(answers: Any) -> bool:
    return isinstance(answers, (list, tuple)) and bool(answers) and all(isinstance(text, str) for text in answers)


def _squad(articles: Any) -> Iterator[tuple[str, list[Any]]]:
    """Question ids and answers of SQuAD's JSON.

    Raises:
        BadFile: when it is not of that form.
    """
    try:
        for article in articles:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    yield str(question["id"]), [answer["text"] for answer in question["answers"]]
    except (KeyError, TypeError) as err:
        text = f"is neither SQuAD's JSON (data, paragraphs, qas, answers) nor ids with their answers ({err!r})"
        raise BadFile(Flaw(text, fatal=True)) from err


class Rankings(ById):
    """Query id -> ids, best first; the first 20 count. Labels list the right ones."""

    name = "rankings"
    scored_with = ("mrr20", "map20")

    def read(self, path: Path) -> Content:
        """See `Format.read`."""
        return self._lists(path, most=TOP)

    def _lists(self, path: Path, most: float) -> Content:
        rows, flaws = self._object(path)
        pattern = re.compile(self.pattern or ".+", re.DOTALL)
        fatal = False
        for query, ids in rows.items():
            if not isinstance(ids, list) or not all(isinstance(id_, str) for id_ in ids):
                flaws.append(Flaw(f"{query!r}: the value is not a list of ids", fatal=True))
                fatal = True
                continue
            if len(ids) > most:
                flaws.append(Flaw(f"{query!r}: {len(ids)} ids; at most {TOP} are allowed, the others do not count"))
            if bad := [id_ for id_ in ids if not pattern.fullmatch(id_)]:
                flaws.append(Flaw(f"{query!r}: {listed(bad)} does not look like an id ({self.pattern or 'a text'})"))
            if twice := [id_ for id_, times in Counter(ids).items() if times > 1]:
                flaws.append(Flaw(f"{query!r}: {listed(twice)} is listed more than once"))
        return Content({} if fatal else rows, flaws)

    def read_labels(self, path: Path) -> Content:
        """See `Format.read_labels`."""
        found = self._lists(path, most=math.inf)
        if bad := [query for query, ids in found.rows.items() if not ids]:
            return Content({}, [Flaw(f"query {listed(bad)} has no right id", fatal=True)])
        if not found.rows and not found.flaws:
            return Content({}, [Flaw("holds no query", fatal=True)])
        return found

    def fill(self, kept: Kept) -> dict[str, list[str]]:
        """See `Format.fill`."""
        return {query: [hit[0] for hit in ranking[:TOP]] for query, ranking in kept.values}

    def fill_labels(self, golds: Kept) -> dict[str, list[str]]:
        """See `Format.fill_labels`."""
        return {query: list(matches) for query, (_, matches) in golds.values}

    def score(self, golds: dict[str, list[str]], rows: dict[str, list[str]], language: str) -> Scores:
        """See `Format.score`. Of several right ids MRR takes the first alone, as the benchmark's code does."""
        single = self.metric == "mrr20"
        matches = [(query, tuple(id_.strip() for id_ in (ids[:1] if single else ids))) for query, ids in golds.items()]
        hits = [[(id_, 0.0) for id_ in rows.get(query, ())[:TOP]] for query in golds]
        return metrics.get(self.metric)(matches, hits, language)
