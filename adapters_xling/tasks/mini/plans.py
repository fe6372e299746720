"""Language-independent plans of task rows: the records from which labels follow.

A plan is drawn once per task, split and number; ``tasks`` renders it in any language. Rows are therefore parallel, and
a label can be checked from the facts without reading a sentence.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import combinations, islice
from typing import NamedTuple

from .grammar import LANGUAGES, PEOPLE, Fact, gender, statement
from .world import (
    _PEOPLE,
    _THINGS,
    _TIMES,
    KINDS,
    TIMED,
    WEIGHTS,
    askable,
    draw,
    edit,
    edits,
    feasible,
    rivals,
    rng_for,
    same_predicate,
    scene,
    split_of,
)


class Plan(NamedTuple):
    """What a row says.

    ``facts`` is the text (premise, context, sentence1); ``target`` the fact that a hypothesis, second sentence or
    question is about; ``part`` what is asked for; ``options`` the choices; ``styles`` one rendering style per fact,
    the last for the target or the choices.
    """

    facts: tuple[Fact, ...]
    target: Fact | None = None
    label: str | int = ""
    part: str = ""
    options: tuple[Fact, ...] = ()
    styles: tuple[int, ...] = ()
    joined: bool = False

    @property
    def about(self) -> Fact:
        """The target of a plan that has one."""
        assert self.target is not None
        return self.target


def _styles(rng: random.Random, number: int) -> tuple[int, ...]:
    return tuple(rng.randrange(4) for _ in range(number))


def _labels(rng: random.Random, labels: tuple[str, ...]) -> Iterator[str]:
    """Endless labels, balanced in every block."""
    while True:
        block = list(labels)
        rng.shuffle(block)
        yield from block


def _nli(rng: random.Random, split: str) -> Iterator[Plan]:
    """Polarity and kind of the hypothesis are drawn before the label is used, so neither sentence alone tells it."""
    for label in _labels(rng, ("entailment", "neutral", "contradiction")):
        while True:
            kind = rng.choices(KINDS, WEIGHTS)[0]
            target = draw(rng, split, kind, time=0.25)._replace(neg=False)
            target = target._replace(place="") if kind == "act" else target
            others = rivals(target)
            negative = rng.random() < (1 / 3 if others else 1 / 2)
            target = target._replace(neg=negative)
            basis: Fact | None
            if label == "entailment":
                basis = target
            elif label == "contradiction":
                replace = others and not negative and rng.random() < 0.5
                basis = rng.choice(others) if replace else target._replace(neg=not negative)
            else:
                basis = _neutral(rng, split, target)
                if basis is None:
                    continue
            second: Fact | None = draw(rng, split, time=0.25, neg=0.35)
            if label == "neutral" and basis.subj != target.subj and rng.random() < 0.3:
                other = draw(rng, split, rng.choice([k for k in KINDS if k != kind]), time=0.25, neg=0.35)
                other = other._replace(subj=target.subj) if target.subj in PEOPLE and other.subj in PEOPLE else other
                second = other if other.subj != other.rec else None
            if second is None or not _apart(second, basis, target, split, label):
                continue
            second = second._replace(place="") if second.kind == "act" else second
            facts = [basis, second]
            rng.shuffle(facts)
            yield Plan(tuple(facts), target, label, styles=_styles(rng, 3))
            break


def _neutral(rng: random.Random, split: str, target: Fact) -> Fact | None:
    """A fact that shares a subject or a predicate with the target and leaves it open."""
    negative = 1 / 3 if rivals(target._replace(neg=False)) else 1 / 2
    if rng.random() < 0.5:
        options = [f for f in edits(target._replace(neg=False), split) if f.subj != target.subj]
        return rng.choice(options)._replace(neg=rng.random() < negative) if options else None
    kinds = ["look", "at"] if target.subj not in PEOPLE else [k for k in KINDS if k != "look"]
    kinds = [k for k in kinds if k != target.kind and feasible(k, target.subj, split)]
    if not kinds or target.subj in _THINGS:
        return None
    fact = draw(rng, split, rng.choice(kinds), subj=target.subj, time=0.25)
    fact = fact._replace(neg=rng.random() < (1 / 3 if rivals(fact) else 1 / 2))
    return fact._replace(place="") if fact.kind == "act" else fact


def _apart(second: Fact, basis: Fact, target: Fact, split: str, label: str) -> bool:
    """True when the second fact neither repeats nor decides the hypothesis."""
    if split_of(second) != split or second.subj == basis.subj:
        return False
    if second.subj == target.subj and (label != "neutral" or second.kind == target.kind):
        return False
    return not same_predicate(second, target) and not same_predicate(second, basis)


def _paraphrase(rng: random.Random, split: str) -> Iterator[Plan]:
    """Same or changed fact in another order and with other synonyms; changes are one word or a role swap."""
    for label in _labels(rng, ("0", "1")):
        while True:
            kind = rng.choices(TIMED, (4, 5, 5, 2, 2, 2, 1))[0]
            fact = draw(rng, split, kind, time=1.0)
            other: Fact | None = fact
            if label == "0":
                if rng.random() < 0.15:
                    other = fact._replace(time=rng.choice([t for t in _TIMES if t != fact.time]))
                else:
                    other = edit(rng, fact, split)
            if other is not None:
                style = rng.randrange(4)
                yield Plan((fact,), other, label, styles=(style, 3 - style))
                break


def _question(rng: random.Random, split: str, sizes: tuple[int, ...]) -> tuple[list[Fact], Fact, str]:
    """A scene and a question that exactly one of its facts answers."""
    while True:
        facts = scene(rng, split, rng.choice(sizes), time=0.5)
        ready = [f for f in facts if askable(f)]
        if ready:
            target = rng.choice(ready)
            part = rng.choice(askable(target))
            if sum(answers(f, target, part) for f in facts) == 1:
                return facts, target, part


def answers(fact: Fact, target: Fact, part: str) -> bool:
    """True when ``fact`` answers the question for ``part`` of ``target``."""
    shown = {"subj", "pred", "obj", "rec"} | ({"place"} if target.kind in ("at", "live", "go", "trip") else set())
    same = all(getattr(fact, p) == getattr(target, p) for p in shown - {part})
    return fact.kind == target.kind and same and bool(getattr(fact, part)) and not fact.neg


_OF_PEOPLE = ("act", "meet", "give", "at", "live", "go", "trip", "job", "mood")


def _choice(rng: random.Random, split: str) -> Iterator[Plan]:
    """A text about three people and four sentences, of which one is so.

    The wrong ones say of one person what the text says of another. Every word of every choice, or its synonym, stands
    in the text, in every language in that very form: neither a choice alone nor its words' being in the text tells
    the answer.
    """
    while True:
        facts = _exchangeable(rng, split)
        if facts is None:
            continue
        wrong = [f._replace(subj=g.subj) for f in facts for g in facts if f is not g]
        wrong = [f for f in wrong if split_of(f) == split]
        if len(wrong) < 3 or {f.subj for f in facts} & {f.rec for f in facts}:
            continue
        if any(same_predicate(f, g) for f, g in combinations(facts, 2)):
            continue
        text = [f._replace(time=rng.choice(_TIMES)) if f.kind in TIMED and rng.random() < 0.3 else f for f in facts]
        rng.shuffle(text)
        target = rng.choice(facts)
        options = [target, *rng.sample(wrong, 3)]
        rng.shuffle(options)
        styles = (*_styles(rng, 3), rng.choice((0, 2)))
        plan = Plan(tuple(text), target, options.index(target), options=tuple(options), styles=styles)
        if all(_stands_in_text(plan, language) for language in LANGUAGES):
            yield plan


def _exchangeable(rng: random.Random, split: str) -> list[Fact] | None:
    """Facts about three people of which at least two could be said of another one of the three in this split.

    Found by walking from one to the next: what the split lets be said of a person is given to another one.
    """
    first = rng.choice(_PEOPLE)
    people = [p for p in _PEOPLE if gender(p) == gender(first)]  # agreement in gender would tell who is meant
    facts = [_about(rng, split, first)]
    giver = first
    for _ in range(2):
        fact = _about(rng, split, giver)
        taken = {f.subj for f in facts} | {fact.rec}
        takers = [p for p in people if p not in taken and split_of(fact.having("subj", p)) == split]
        if not takers:
            return None
        giver = rng.choice(takers)
        facts.append(fact.having("subj", giver))
    return facts


def _about(rng: random.Random, split: str, subj: str) -> Fact:
    """A plain fact about somebody."""
    kinds = [k for k in _OF_PEOPLE if feasible(k, subj, split)]
    fact = draw(rng, split, rng.choice(kinds), subj=subj, time=0.0)
    return fact._replace(place="") if fact.kind == "act" else fact


def _stands_in_text(plan: Plan, language: str) -> bool:
    """True when every word of every choice is a word of the text, synonyms aside."""

    def words_of(facts: tuple[Fact, ...]) -> set[str]:
        made = (statement(f, language, style, upper=False) for f in facts for style in (0, 2))
        return {token.word for tokens in made for token in tokens}

    return words_of(plan.options) <= words_of(plan.facts)


def _qa(rng: random.Random, split: str) -> Iterator[Plan]:
    while True:
        facts, target, part = _question(rng, split, (3, 3, 3, 4, 5))
        yield Plan(tuple(facts), target, part=part, styles=_styles(rng, len(facts) + 1))


def _tagging(rng: random.Random, split: str) -> Iterator[Plan]:
    """One statement, two joined ones, or a question."""
    while True:
        facts = scene(rng, split, 1 if rng.random() < 0.7 else 2, time=0.5, neg=0.15)
        part = ""
        if len(facts) == 1 and askable(facts[0]) and rng.random() < 0.2:
            part = rng.choice(askable(facts[0]))
        yield Plan(tuple(facts), part=part, styles=_styles(rng, 2), joined=len(facts) == 2)


def _easy(rng: random.Random, split: str) -> Iterator[Plan]:
    while True:
        yield Plan((draw(rng, split),), styles=(0,))


def _hard(rng: random.Random, split: str) -> Iterator[Plan]:
    """Groups of four facts, each a one-word change or role swap of another one of its group."""
    while True:
        group = [draw(rng, split)]
        for _ in range(20):
            new = edit(rng, rng.choice(group), split)
            if new is not None and new not in group and len(group) < 4:
                group.append(new)
        if len(group) == 4:
            for fact in group:
                yield Plan((fact,), styles=(0,))


def _mlm(rng: random.Random, split: str) -> Iterator[Plan]:
    while True:
        yield Plan((draw(rng, split, neg=0.2),), styles=(rng.randrange(4),))


PLANNERS: dict[str, Callable[[random.Random, str], Iterator[Plan]]] = {
    "mini-nli": _nli,
    "mini-paraphrase": _paraphrase,
    "mini-choice": _choice,
    "mini-pos": _tagging,
    "mini-ner": _tagging,
    "mini-qa": _qa,
    "mini-retrieval": _easy,
    "mini-retrieval-hard": _hard,
    "mini-mlm": _mlm,
}


def _distinct(plans: Iterator[Plan], group: int) -> Iterator[Plan]:
    """Drops plans (or whole groups) that repeat earlier content."""
    seen: set[object] = set()
    while True:
        block = list(islice(plans, group))
        keys = [(p.facts, p.target, p.part, p.options) for p in block]
        if not any(k in seen for k in keys) and len(set(keys)) == len(keys):
            seen.update(keys)
            yield from block


@lru_cache(maxsize=64)
def _stream(task: str, split: str) -> tuple[list[Plan], Iterator[Plan]]:
    stream = _distinct(PLANNERS[task](rng_for(task, split), split), 4 if task == "mini-retrieval-hard" else 1)
    return [], stream


def plans(task: str, split: str, number: int) -> list[Plan]:
    """The first ``number`` plans of a task and split; a longer list starts with the shorter one."""
    made, stream = _stream(task, split)
    while len(made) < number:
        made.append(next(stream))
    return made[:number]
