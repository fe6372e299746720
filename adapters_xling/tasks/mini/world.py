"""Which facts exist, how they are split, and how scenes are drawn.

Splits hold out combinations of words: who does what with what (not when) is hashed into train, dev or test, so no such
combination of a test scene occurs in a train scene or in the pretraining text, in any language. Facts between two
people are hashed without regard to their direction, so that a role swap stays in its split.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache

from . import render_beyond, render_europe  # noqa: F401  (registers the languages)
from .grammar import (
    ACTS,
    ANIMALS,
    CITIES,
    GIVINGS,
    JOBS,
    LOOKS,
    MEETINGS,
    MOODS,
    PEOPLE,
    PLACES,
    THINGS,
    TIMES,
    Fact,
    Token,
    question,
    statement,
)
from .lexicon import EXCLUSIVE

VERSION = 2
"""Of the rows: another number for every change of what a task's rows say."""
SALT = 1
"""Of the split: another number deals the combinations of words anew, and a backbone that has read the text must too."""
SPLITS = ("train", "dev", "test")
KINDS = ("act", "meet", "give", "at", "live", "go", "trip", "job", "mood", "look")
WEIGHTS = (5, 3, 3, 3, 2, 2, 2, 2, 2, 2)
TIMED = ("act", "meet", "give", "at", "go", "trip", "mood")
_PEOPLE, _CITIES, _PLACES, _TIMES = tuple(PEOPLE), tuple(CITIES), tuple(PLACES), tuple(TIMES)
_THINGS, _ANIMALS = tuple(THINGS), tuple(ANIMALS)
_PREDICATES = {
    "act": tuple(ACTS),
    "meet": tuple(MEETINGS),
    "give": tuple(GIVINGS),
    "job": tuple(JOBS),
    "mood": tuple(MOODS),
    "look": tuple(LOOKS),
}


@lru_cache(maxsize=200_000)
def _bucket(key: str) -> str:
    number = int.from_bytes(hashlib.sha256(f"mini {SALT} {key}".encode()).digest()[:4], "big") % 10
    return "train" if number < 8 else "dev" if number == 8 else "test"


def core(fact: Fact) -> str:
    """The combination that decides the split: everything but time, polarity, the place of an act and who is first."""
    people = sorted((fact.subj, fact.rec)) if fact.rec else [fact.subj]
    place = "" if fact.kind == "act" else fact.place
    return "/".join((fact.kind, *people, fact.pred, fact.obj, place))


def split_of(fact: Fact) -> str:
    """train, dev or test."""
    return _bucket(core(fact))


def rng_for(*names: object) -> random.Random:
    """A generator seeded by names alone, the same in every process."""
    text = " ".join(map(str, ("mini", SALT, *names)))
    return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


def draw(rng: random.Random, split: str, kind: str = "", subj: str = "", time: float = 0.35, neg: float = 0.0) -> Fact:
    """A random fact of a split; ``time`` and ``neg`` are probabilities."""
    while True:
        k = kind or rng.choices(KINDS, WEIGHTS)[0]
        if k == "look":
            who = subj or rng.choice(_THINGS + _ANIMALS)
        elif k == "at":
            who = subj or (rng.choice(_PEOPLE) if rng.random() < 0.8 else rng.choice(_ANIMALS))
        else:
            who = subj or rng.choice(_PEOPLE)
        rec = ""
        if k in ("meet", "give"):
            rec = rng.choice([p for p in _PEOPLE if p != who])
        place = ""
        if k in ("at", "go") or (k == "act" and rng.random() < 0.35):
            place = rng.choice(_PLACES)
        elif k in ("live", "trip"):
            place = rng.choice(_CITIES)
        fact = Fact(
            kind=k,
            subj=who,
            pred=rng.choice(_PREDICATES[k]) if k in _PREDICATES else "",
            obj=rng.choice(_THINGS) if k in ("act", "give") else "",
            rec=rec,
            place=place,
            time=rng.choice(_TIMES) if k in TIMED and rng.random() < time else "",
            neg=rng.random() < neg,
        )
        if split_of(fact) == split:
            return fact._replace(place="") if fact.neg and k == "act" else fact


@cache
def feasible(kind: str, subj: str, split: str) -> bool:
    """True when the split has any fact of this kind about this subject (``draw`` would search for ever without one)."""
    if kind in ("act", "meet", "give"):
        return True
    if kind in ("at", "go", "live", "trip"):
        places = _PLACES if kind in ("at", "go") else _CITIES
        return any(split_of(Fact(kind, subj, place=place)) == split for place in places)
    return any(split_of(Fact(kind, subj, pred)) == split for pred in _PREDICATES[kind])


def scene(
    rng: random.Random, split: str, size: int, kinds: Sequence[str] = (), time: float = 0.35, neg: float = 0.0
) -> list[Fact]:
    """``size`` facts about different subjects; no two of them share kind, predicate and object or place."""
    facts: list[Fact] = []
    while len(facts) < size:
        fact = draw(rng, split, rng.choice(kinds) if kinds else "", time=time, neg=neg)
        if all(fact.subj != f.subj and not same_predicate(fact, f) for f in facts):
            facts.append(fact)
    return facts


def same_predicate(a: Fact, b: Fact) -> bool:
    """True when the two facts say the same of their subjects, circumstances aside."""
    place = a.place == b.place or a.kind == "act"
    return (a.kind, a.pred, a.obj, a.rec) == (b.kind, b.pred, b.obj, b.rec) and place


def rivals(fact: Fact) -> list[Fact]:
    """Facts of the same split that cannot hold together with ``fact``."""
    if fact.kind in ("at", "live"):
        values = _PLACES if fact.kind == "at" else _CITIES
        others = [fact._replace(place=v) for v in values if v != fact.place]
    elif fact.kind == "job":
        others = [fact._replace(pred=v) for v in _PREDICATES["job"] if v != fact.pred]
    else:
        groups = EXCLUSIVE.get(fact.kind, ())
        others = [fact._replace(pred=v) for g in groups if fact.pred in g for v in g if v != fact.pred]
    return [f for f in others if split_of(f) == split_of(fact)]


def askable(fact: Fact) -> list[str]:
    """Parts of a fact that a question can ask for and a name, noun or time word answers."""
    if fact.neg or fact.kind == "look":
        return []
    parts = [part for part in ("obj", "rec", "place", "time") if getattr(fact, part)]
    return (["subj"] if fact.subj in PEOPLE else []) + parts


def edits(fact: Fact, split: str) -> list[Fact]:
    """Facts of the split that differ from ``fact`` in one word."""
    if fact.kind in ("look", "at") and fact.subj not in PEOPLE:
        subjects = _ANIMALS if fact.subj in _ANIMALS else _THINGS
    else:
        subjects = _PEOPLE
    values = {
        "subj": subjects,
        "pred": _PREDICATES.get(fact.kind, ()),
        "obj": _THINGS,
        "rec": _PEOPLE,
        "place": _CITIES if fact.kind in ("live", "trip") else _PLACES,
    }
    out = []
    for part, options in values.items():
        old = getattr(fact, part)
        if old:
            changed = [fact.having(part, v) for v in options if v != old]
            out += [f for f in changed if f.subj != f.rec and split_of(f) == split]
    return out


def edit(rng: random.Random, fact: Fact, split: str) -> Fact | None:
    """The same fact with one word changed (a role swap where two people occur, half of the time)."""
    if fact.rec and rng.random() < 0.5:
        return fact._replace(subj=fact.rec, rec=fact.subj)
    options = edits(fact, split)
    return rng.choice(options) if options else None


def sentences(language: str, seed: int = 0) -> Iterator[list[Token]]:
    """Endless pretraining sentences (statements and questions) of the train split."""
    rng = rng_for("text", language, seed)
    while True:
        fact = draw(rng, "train", neg=0.2)
        parts = askable(fact)
        if parts and rng.random() < 0.25:
            yield question(fact, rng.choice(parts), language, rng.randrange(4))
        else:
            yield statement(fact, language, rng.randrange(4))


def all_facts() -> Iterator[Fact]:
    """Facts that show every word of the lexicon in every form the grammar can ask for."""
    for who in ("peter", "anna"):
        for kind, predicates in _PREDICATES.items():
            if kind == "look":
                continue
            for pred in predicates:
                for neg in (False, True):
                    obj = "book" if kind in ("act", "give") else ""
                    yield Fact(kind, who, pred, obj, "tom" if kind in ("meet", "give") else "", neg=neg)
        for kind, places in (("at", _PLACES), ("go", _PLACES), ("live", _CITIES), ("trip", _CITIES)):
            for place in places:
                for neg in (False, True):
                    yield Fact(kind, who, place=place, neg=neg)
    for person in _PEOPLE:
        other = "tom" if person != "tom" else "anna"
        yield Fact("act", person, "buy", "book", place="market", time="monday")
        for pred in _PREDICATES["meet"]:
            yield Fact("meet", other, pred, rec=person)
        yield Fact("give", other, "give", "book", person)
    for time in _TIMES:
        yield Fact("at", "anna", place="garden", time=time)
    for thing in _THINGS:
        yield Fact("act", "anna", "buy", thing)
    for subject in _THINGS + _ANIMALS:
        for pred in _PREDICATES["look"]:
            yield Fact("look", subject, pred)
            yield Fact("look", subject, pred, neg=True)
    for animal in _ANIMALS:
        yield Fact("at", animal, place="garden", time="monday")


@cache
def surface_words(language: str) -> tuple[str, ...]:
    """Every written word of a language, marks included, sorted."""
    from .grammar import finish

    found: set[str] = set()
    for fact in all_facts():
        for style in range(4):
            tokens = statement(fact, language, style)
            found.update(t.word for t in tokens)
            found.update(t.word for t in statement(fact, language, style, upper=False))
            for part in askable(fact):
                asked = question(fact, part, language, style)
                found.update(t.word for t in asked)
        for token in statement(fact, language, 0, upper=False):
            found.update(t.word for t in finish([token], language, ""))
    found.update(t.word for t in _joined(language))
    return tuple(sorted(found))


def _joined(language: str) -> list[Token]:
    from .grammar import both

    return both(Fact("live", "anna", place="paris"), Fact("live", "tom", place="rome"), language)
