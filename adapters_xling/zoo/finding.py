"""Entries by what a person looks for: task, language, method, backbone, score, size, licence."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters_xling.errors import ConfigError, UnknownName, ZooError, unknown
from adapters_xling.licences import WORDS, Terms
from adapters_xling.spec import Score
from adapters_xling.zoo.entry import Entry, tasks
from adapters_xling.zoo.lineage import trace
from adapters_xling.zoo.store import Zoo, ZooWarning

ORDERS = ("key", "score", "size", "made")


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is looked for; everything given must fit.

    Attributes:
        task: a task the entry was trained on.
        on: a task it was scored on.
        language: code of a language it has scores in, or was trained in where no score was asked for.
        method: name of its method.
        backbone: name of its backbone.
        min_score: least score: the mean of its scores that fit `on` and `language`, zero-shot ones where no language is
            asked for, on one split (test where it was scored); its dev score where neither is given.
        max_bytes: largest size of its files.
        licence: SPDX name among those of its data, backbone and parents.
        commercial: True for entries whose licences are all known and allow commercial use.
        order: what to sort by; scores and dates from the highest, sizes from the smallest.
    """

    task: str | None = None
    on: str | None = None
    language: str | None = None
    method: str | None = None
    backbone: str | None = None
    min_score: float | None = None
    max_bytes: int | None = None
    licence: str | None = None
    commercial: bool = False
    order: str = "key"


@dataclass(frozen=True)
class Hit:
    """An entry that fits.

    Attributes:
        entry: the entry.
        score: the mean that was asked for, or its dev score; None where it has none.
        num_scores: scores in that mean; 0 for a dev score.
        terms: what its licences and its ancestors' ask.
    """

    entry: Entry
    score: float | None
    num_scores: int
    terms: Terms


def search(zoo: Zoo, query: Query, *, measured: Sequence[Score] = ()) -> tuple[Hit, ...]:
    """Entries of a zoo that fit a query.

    Args:
        zoo: where to look; cards are read, files are not verified.
        query: what is looked for.
        measured: scores kept elsewhere than with the entries (a runs folder); each counts for the entry it names.

    Raises:
        UnknownName: for an order, or a task, language or licence that no entry has, with the closest.
        ConfigError: for numbers that make no sense.
    """
    if query.order not in ORDERS:
        raise unknown("order", query.order, ORDERS)
    if query.min_score is not None and not 0 <= query.min_score <= 100:
        raise ConfigError(f"a least score of {query.min_score:g} is no percentage; give 0 to 100")
    entries = zoo.entries()
    by_key: dict[str, list[Score]] = {}
    for score in measured:
        by_key.setdefault(score.key, []).append(score)
    scores = {
        entry.key: _cells([*entry.card.scores, *_attested(zoo, entry), *by_key.get(entry.key, ())]) for entry in entries
    }
    check_names(query, entries, scores)
    if query.licence and entries:
        _require_licence(query.licence, zoo, entries)
    hits = []
    for entry in entries:
        if not _fits(entry, query):
            continue
        value, number = _score(entry, scores[entry.key], query)
        if (query.on or query.min_score is not None) and (value is None or value < (query.min_score or 0)):
            continue
        if query.language and not number and (query.on or query.language not in trained_in(entry)):
            continue
        terms = trace(zoo, entry.key).licence()
        if query.licence and query.licence.lower() not in [one.name.lower() for one in terms.licences]:
            continue
        if query.commercial and not terms.commercial:
            continue
        hits.append(Hit(entry, value, number, terms))
    return tuple(sorted(hits, key=lambda hit: _place(hit, query.order)))


def _require_licence(name: str, zoo: Zoo, entries: Sequence[Entry]) -> None:
    """Refuse a licence that no entry has; entries whose lineage cannot be read have none.

    Raises:
        UnknownName: with the closest of those there are.
    """
    known: dict[str, str] = {}
    for entry in entries:
        with contextlib.suppress(ZooError):
            known |= {one.name.lower(): one.name for one in trace(zoo, entry.key).licence().licences}
    if name.lower() not in known:
        raise unknown("licence", name, sorted(known.values()))


def _attested(zoo: Zoo, entry: Entry) -> list[Score]:
    """Attested scores of an entry; a damaged file of them gives a `ZooWarning` and hides no other entry."""
    try:
        return [one.score for one in zoo.scores(entry.key)]
    except ZooError as err:
        warnings.warn(f"left out: {err}", ZooWarning, stacklevel=2)
        return []


def trained_in(entry: Entry) -> frozenset[str]:
    """Languages of an entry's own training rows."""
    places = [place.split("/") for place in entry.card.data]
    return frozenset(parts[2] for parts in places if len(parts) == 3 and parts[1] == "train")


def asked(terms: Terms) -> str:
    """The terms of an entry in a few words, for a table."""
    words = [term for term in WORDS if term in terms.asks and term not in ("notice", "attribution")]
    return ", ".join([*words, *(["unknown"] if terms.unknown else []), *(["conflict"] if terms.conflicts() else [])])


def _cells(scores: Sequence[Score]) -> list[Score]:
    """Each cell once, the last number given for it."""
    return list({(one.task, one.split, one.language, one.metric): one for one in scores}.values())


def check_names(query: Query, entries: Sequence[Entry], scores: Mapping[str, Sequence[Score]]) -> None:
    """Refuse a name that no entry has, for it may be misspelt.

    Args:
        query: what is looked for.
        entries: all there are.
        scores: theirs, by key.

    Raises:
        UnknownName: with the closest.
    """
    every = [score for found in scores.values() for score in found]
    codes = {score.language for score in every} | {code for entry in entries for code in trained_in(entry)}
    for what, given, known in (
        ("task an entry was trained on:", query.task, {name for entry in entries for name in _trained_on(entry)}),
        ("task an entry was scored on:", query.on, {score.task for score in every}),
        ("language of an entry:", query.language, codes),
        ("method of an entry:", query.method, {entry.card.run.method.name for entry in entries}),
        ("backbone of an entry:", query.backbone, {entry.card.run.backbone.name for entry in entries}),
    ):
        if given is None or given in known:
            continue
        if not entries:
            raise UnknownName(f"no entry fits {given!r}, for there is none here yet; train one: xling train TASK")
        if not known:
            raise UnknownName(
                f"no entry here is scored on or in {given!r}, for none is scored yet; score one: xling evaluate ENTRY"
            )
        raise unknown(what, given, known, "the cards of this zoo")


def _trained_on(entry: Entry) -> set[str]:
    """Tasks of an entry, and the name of their mixture."""
    return {entry.card.run.task, *tasks(entry)}


def _fits(entry: Entry, query: Query) -> bool:
    run = entry.card.run
    return (
        (query.task is None or query.task in _trained_on(entry))
        and (query.method is None or query.method == run.method.name)
        and (query.backbone is None or query.backbone == run.backbone.name)
        and (query.max_bytes is None or entry.card.num_bytes <= query.max_bytes)
    )


def _score(entry: Entry, scores: Sequence[Score], query: Query) -> tuple[float | None, int]:
    """Mean over the cells that were asked for, each with the metric that the entry was selected by, or its first where
    it lacks that; else the dev score.

    Of each task one split counts, the test split where it was scored; without a language, zero-shot cells alone where
    there are any.
    """
    training = entry.card.training
    if query.on is None and query.language is None:
        return (training.dev_score if training else None), 0
    fits = [one for one in scores if query.on in (None, one.task) and query.language in (None, one.language)]
    splits: dict[str, str] = {}
    for one in fits:
        if one.split == "test" or one.task not in splits:
            splits[one.task] = one.split
    fits = [one for one in fits if one.split == splits[one.task]]
    if query.language is None:
        fits = [one for one in fits if one.zero_shot] or fits
    values: dict[tuple[str, str], float] = {}
    for one in fits:
        if (one.task, one.language) not in values or (training and one.metric == training.metric):
            values[one.task, one.language] = one.value
    return (sum(values.values()) / len(values) if values else None), len(values)


def _place(hit: Hit, order: str) -> tuple[object, ...]:
    key = hit.entry.key
    if order == "score":
        return (hit.score is None, -(hit.score or 0), key)
    if order == "size":
        return (hit.entry.card.num_bytes, key)
    if order == "made":
        return (tuple(-ord(char) for char in hit.entry.card.provenance.created), key)
    return (key,)
