"""Did an entry learn from what it is tested on? Its training rows, and its ancestors', against the rows of benchmarks.

A row of a benchmark is *known* in one of these ways, the closest counts:

- ``row``       every text of it is that of one training row
- ``text``      a long text of it (premise, passage, sentence) is one of a training row's
- ``sequence``  it shares 13 words in a row with a training text (26 characters in scripts without blanks)
- ``group``     it belongs to a group (an article) that training rows belong to
- ``twin``      it is itself new, but a translation of it (the same id in another language of a parallel task) is known

Text that several documents share by right (a quotation, a template) counts too: what is found is to be looked at, not
proof. What cannot be read here is listed as unchecked, never as clean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters_xling import tasks
from adapters_xling.errors import DataError, MissingData, UnknownName
from adapters_xling.spec import Imported, TaskSpec
from adapters_xling.tasks.examples import Example
from adapters_xling.tasks.overlap import Index, Reader, texts_of
from adapters_xling.tasks.sources import splits
from adapters_xling.zoo import Card, Zoo
from adapters_xling.zoo.lineage import trace

HOW = ("row", "text", "sequence", "group", "twin")
NUM_SAMPLES = 3
SAMPLE_CHARACTERS = 100


@dataclass(frozen=True)
class Sample:
    """A row that is known: its id, how, from which training rows, and the beginning of its text."""

    id: str
    how: str
    place: str
    text: str


@dataclass(frozen=True)
class Overlap:
    """How many rows of one benchmark set are known from training rows (`train`) or selection rows (`dev`).

    Attributes:
        task: the benchmark.
        split: its split.
        language: its language.
        part: `train` for rows that changed weights, `dev` for rows that chose among them.
        num_rows: rows of the set.
        known: way of `HOW` -> rows; each row counts once.
        samples: the first few.
    """

    task: str
    split: str
    language: str
    part: str
    num_rows: int
    known: dict[str, int]
    samples: tuple[Sample, ...] = ()

    @property
    def num_known(self) -> int:
        """Rows that are known in any way."""
        return sum(self.known.values())


@dataclass
class Leaks:
    """What was found for an entry.

    Attributes:
        key: the entry.
        overlaps: sets with known rows.
        checked: every (task, split, language) that was looked at, with its number of rows.
        unchecked: what could not be read, and why: training rows first.
        untraced: those of `unchecked` that the entry learnt from; what they hold of the benchmarks is unknown.
        num_rows: training and selection rows that were compared.
    """

    key: str
    overlaps: list[Overlap] = field(default_factory=list)
    checked: dict[tuple[str, str, str], int] = field(default_factory=dict)
    unchecked: dict[str, str] = field(default_factory=dict)
    untraced: tuple[str, ...] = ()
    num_rows: dict[str, int] = field(default_factory=dict)


def find_leaks(
    key: str,
    *,
    zoo: Zoo,
    benchmarks: Sequence[TaskSpec],
    data_dir: Path | None = None,
    extra_tasks: Path | None = None,
    languages: Sequence[str] | None = None,
    on_set: Callable[[str], Any] | None = None,
) -> Leaks:
    """Compare the rows that an entry and its ancestors learnt from with those of benchmarks.

    Args:
        key: the entry.
        zoo: where it and its ancestors are.
        benchmarks: tasks whose splits other than train are looked at; what the entry itself learnt from is left out.
        data_dir: folder of original data files.
        extra_tasks: private folder of task files.
        languages: look only at these.
        on_set: called with the name of each set as it is read.

    Raises:
        DataError: for rows that cannot be read, and training rows that are no longer those the card names.
    """
    reader = Reader()
    leaks = Leaks(key)
    indexes = {"train": Index(reader), "dev": Index(reader)}
    own: set[tuple[str, str, str]] = set()
    lineage = trace(zoo, key)
    for name in lineage.missing:
        leaks.unchecked[f"entry {name}"] = "is not in this zoo, so nobody knows here what it learnt from"
    for card in (card for card in lineage.cards.values() if card is not None):
        if isinstance(card.run.init, Imported):
            leaks.unchecked[f"entry {card.key}"] = (
                f"was imported from {card.run.init.source}, and nobody knows what it learnt from"
            )
        for place, (spec, split, language) in _places(card, extra_tasks, leaks).items():
            if on_set:
                on_set(place)
            examples = _learnt(card, place, spec, split, language, data_dir, leaks)
            own.add((spec.name, split, language))
            indexes[split].add(examples, place=place)
    leaks.untraced = tuple(leaks.unchecked)
    leaks.num_rows = {part: index.num_rows for part, index in indexes.items()}
    for spec in benchmarks:
        sets = _sets(spec, own, languages, data_dir, leaks, on_set)
        for part, index in indexes.items():
            if index.num_rows:
                leaks.overlaps += [
                    one
                    for one in _overlaps(spec, sets, index, part)
                    if (spec.name, one.split, one.language) in leaks.checked
                ]
    return leaks


def _places(card: Card, extra: Path | None, leaks: Leaks) -> dict[str, tuple[TaskSpec, str, str]]:
    """What a card names as train and dev rows, with their tasks."""
    found = {}
    for place in card.data:
        name, _, rest = place.partition("/")
        split, _, language = rest.partition("/")
        if split not in ("train", "dev") or place in leaks.unchecked:
            continue
        try:
            found[place] = (tasks.get(name, extra=extra), split, language)
        except UnknownName:
            leaks.unchecked[place] = "its task file is not here (--tasks)"
    return found


def _learnt(
    card: Card, place: str, spec: TaskSpec, split: str, language: str, data_dir: Path | None, leaks: Leaks
) -> Sequence[Example]:
    """The rows a card names, as many as were used."""
    try:
        rows = tasks.load(spec, split, language, data_dir=data_dir)
    except MissingData as err:
        leaks.unchecked[place] = str(err).splitlines()[0]
        return ()
    wanted = card.data[place]
    if wanted.identity and rows.identity != wanted.identity:
        raise DataError(
            f"entry {card.key} learnt from {place} with identity {wanted.identity[:16]}, the rows here are "
            f"{rows.identity[:16]} ({rows.source}): put the rows it was trained on back"
        )
    return rows.examples if wanted.used is None else rows.examples[: wanted.used]


def _sets(
    spec: TaskSpec,
    own: set[tuple[str, str, str]],
    languages: Sequence[str] | None,
    data_dir: Path | None,
    leaks: Leaks,
    on_set: Callable[[str], Any] | None,
) -> dict[tuple[str, str], list[Example]]:
    """Rows of a benchmark at hand, by split and language. Those that are training rows by their own right, and those in
    languages nobody asked for, are not checked; of a parallel task they are read all the same, for twins."""
    found: dict[tuple[str, str], list[Example]] = {}
    lacking: dict[str, list[str]] = {}
    for split in (spec.eval_split, *(one for one in splits(spec) if one not in ("train", spec.eval_split))):
        for language in spec.languages_by_split.get(split, spec.languages):
            checked = (spec.name, split, language) not in own and (languages is None or language in languages)
            if not checked and not spec.parallel:
                continue
            if on_set:
                on_set(f"{spec.name}/{split}/{language}")
            if split not in tasks.splits_at_hand(spec, language, data_dir=data_dir):  # nothing is fetched for this
                if checked:
                    lacking.setdefault(split, []).append(language)
                continue
            rows = tasks.load(spec, split, language, data_dir=data_dir, need_gold=False)
            found[split, language] = rows.examples
            if checked:
                leaks.checked[spec.name, split, language] = len(rows.examples)
    for split, codes in lacking.items():
        leaks.unchecked[f"{spec.name}/{split}"] = f"not at hand in {len(codes)} languages ({', '.join(codes)})"
    return found


def _overlaps(spec: TaskSpec, sets: dict[tuple[str, str], list[Example]], index: Index, part: str) -> list[Overlap]:
    """What one index knows of a benchmark's sets; twins of a parallel task are found over its languages."""
    known: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
    for name, examples in sets.items():
        found = zip(examples, index.look_up(examples), strict=True)
        known[name] = {example.id: how for example, how in found if how is not None}
    anywhere: dict[tuple[str, str], tuple[str, str]] = {}
    if spec.parallel:
        for (split, language), rows in known.items():
            for row, (how, place) in rows.items():
                anywhere.setdefault((split, row), ("twin", f"{place}, through {language}: {how}"))
    overlaps = []
    for (split, language), examples in sets.items():
        twins = {e.id: anywhere[split, e.id] for e in examples if (split, e.id) in anywhere}
        ways = {**twins, **known[split, language]}
        if not ways:
            continue
        counts = Counter(how for how, _ in ways.values())
        first = [example for example in examples if example.id in ways][:NUM_SAMPLES]
        samples = tuple(Sample(e.id, *ways[e.id], " | ".join(texts_of(e))[:SAMPLE_CHARACTERS]) for e in first)
        ordered = {how: counts[how] for how in HOW if counts[how]}
        overlaps.append(Overlap(spec.name, split, language, part, len(examples), ordered, samples))
    return overlaps
