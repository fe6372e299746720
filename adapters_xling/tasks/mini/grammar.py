"""Rendering of the mini world's facts as sentences and questions in eight languages.

A fact is a language-independent record; each language has one function that lays its parts out in the order, with the
articles, cases, agreement and negation of that language. Chinese is written with spaces between words, so that every
word task has the same shape in all languages.

Tags follow Universal POS where languages agree; where treebanks differ, one rule holds for all languages here (negation
words are PART, copulas AUX, names of days NOUN), because the tasks measure transfer, not annotation practice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from . import lexicon

LANGUAGES = lexicon.LANGUAGES
TAGS = ("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "NOUN", "PART", "PRON", "PROPN", "PUNCT", "VERB")


class Fact(NamedTuple):
    """One thing that is so in a scene; empty strings stand for absent parts.

    Kinds: act (subj pred obj), meet (subj pred rec), give (subj pred obj rec), at (subj place), live (subj place=city),
    go (subj place), trip (subj place=city), job (subj pred), mood (subj pred), look (subj pred).
    """

    kind: str
    subj: str
    pred: str = ""
    obj: str = ""
    rec: str = ""
    place: str = ""
    time: str = ""
    neg: bool = False

    def having(self, part: str, value: str) -> Fact:
        """The same fact with another value in one part."""
        return self._replace(**{part: value})  # type: ignore[arg-type]


class Token(NamedTuple):
    """A written word, its tag, and the part of the fact that it names ("" for function words)."""

    word: str
    tag: str
    slot: str = ""


def _rows(table: str) -> dict[str, list[str]]:
    """Splits a lexicon table into {concept: cells}."""
    lines = [line.split("|", 1) for line in table.strip().splitlines()]
    out = {}
    for key, rest in lines:
        # "word|TAG" marks inside cells have no space before the bar, column borders do
        out[key.strip()] = [cell.strip() for cell in (" " + rest + " ").split(" | ")]
    return out


def _forms(cell: str, sep: str = ",") -> list[list[str]]:
    """Cell -> alternatives -> forms."""
    return [[form.strip() for form in alternative.split(sep)] for alternative in cell.split(";")]


PEOPLE = _rows(lexicon.PEOPLE)
CITIES = _rows(lexicon.CITIES)
PLACES = _rows(lexicon.PLACES)
TIMES = _rows(lexicon.TIMES)
THINGS = _rows(lexicon.THINGS)
ANIMALS = _rows(lexicon.ANIMALS)
NOUNS = {**THINGS, **ANIMALS}
LOOKS = _rows(lexicon.LOOKS)
JOBS = _rows(lexicon.JOBS)
MOODS = _rows(lexicon.MOODS)
ACTS = _rows(lexicon.ACTS)
MEETINGS = _rows(lexicon.MEETINGS)
GIVINGS = _rows(lexicon.GIVINGS)
_COLUMN = {language: i for i, language in enumerate(LANGUAGES)}


def words(text: str, tag: str, slot: str = "") -> list[Token]:
    """ "satın|ADV alıyor" -> tokens; words without a mark get ``tag``; ``slot`` goes to unmarked words only."""
    return list(_words(text, tag, slot))


@lru_cache(maxsize=50_000)
def _words(text: str, tag: str, slot: str) -> tuple[Token, ...]:
    out = []
    for word in text.split():
        form, bar, own = word.partition("|")
        out.append(Token(form, own if bar else tag, "" if bar else slot))
    return tuple(out)


def forms(table: dict[str, list[str]], concept: str, language: str, variant: int = 0) -> list[str]:
    """The listed forms of a concept; ``variant`` picks a synonym where there is one."""
    alternatives = _forms(table[concept][_COLUMN[language]])
    return alternatives[variant % len(alternatives)]


def verb_cell(
    table: dict[str, list[str]], concept: str, language: str, variant: int = 0
) -> tuple[list[str], list[str]]:
    """Verb forms and the governed parts listed after colons."""
    alternatives = table[concept][_COLUMN[language]].split(";")
    head, *extra = (part.strip() for part in alternatives[variant % len(alternatives)].split(":"))
    return [form.strip() for form in head.split(",")], extra


def is_person(concept: str) -> bool:
    """True for names of people, False for animals and things."""
    return concept in PEOPLE


def gender(concept: str) -> int:
    """0 for men, 1 for women: the order in which forms are listed."""
    return 1 if PEOPLE[concept][0] == "f" else 0


def name(person: str, language: str, case: int = 0, slot: str = "subj") -> list[Token]:
    """A person's name; ``case`` 0 nominative, 1 accusative, 2 dative (marked in ru and tr only)."""
    cells = PEOPLE[person]
    if language == "ru":
        text = cells[2].split(",")[case]
    elif language == "tr" and case:
        text = cells[4].split(",")[case - 1]
    else:
        text = {"hi": cells[3], "zh": cells[5]}.get(language, cells[1])
    return words(text, "PROPN", slot)


def time_phrase(fact: Fact, language: str, ask: str) -> list[Token]:
    """The time of a fact with its adposition, or nothing."""
    if not fact.time or ask == "time":
        return []
    before, core, after = ([*TIMES[fact.time][_COLUMN[language]].split(","), "", ""])[:3]
    last = "NOUN" if language == "tr" else "ADP"
    head = []
    for word in before.split():
        tag = "DET" if word in {"the", "der", "el", "la"} else "NOUN" if word == "wakati" else "ADP"
        head.append(Token(word, tag))
    tag = "ADV" if fact.time == "today" else "NOUN"
    return head + words(core, tag, "time") + words(after, last)


def finish(tokens: Iterable[Token], language: str, mark: str = ".", upper: bool = True) -> list[Token]:
    """Capitalises the first word and adds the closing mark of the language ("" for none)."""
    out = list(tokens)
    if upper and out:
        first = out[0].word
        head = "İ" if language == "tr" and first[0] == "i" else first[0].upper()
        out[0] = out[0]._replace(word=head + first[1:])
    if mark == "?" and language == "es":
        out.insert(0, Token("¿", "PUNCT"))
    mark = {("hi", "."): "।", ("zh", "."): "。", ("zh", "?"): "？"}.get((language, mark), mark)
    return out + ([Token(mark, "PUNCT")] if mark else [])


def join(tokens: Iterable[Token]) -> str:
    """Writes tokens as running text: marks attach to their word."""
    text, glue = "", True
    for token in tokens:
        if token.tag == "PUNCT" and token.word != "—" and token.word != "¿":
            glue = True
        text += token.word if glue else " " + token.word
        glue = token.word == "¿"
    return text


_RENDER: dict[str, Callable[[Fact, int, str], list[Token]]] = {}


def statement(fact: Fact, language: str, style: int = 0, upper: bool = True, mark: str = ".") -> list[Token]:
    """The fact as a sentence. ``style`` bit 0 fronts the time, bit 1 takes synonyms."""
    return finish(_RENDER[language](fact, style, ""), language, mark, upper)


def question(fact: Fact, ask: str, language: str, style: int = 0) -> list[Token]:
    """A question for the part ``ask`` (subj, obj, rec, place, time); other circumstances are left out."""
    core = fact._replace(time=fact.time if ask == "time" else "", neg=False)
    if fact.kind in ("act", "meet", "give") and ask != "place":
        core = core._replace(place="")
    return finish(_RENDER[language](core, style & 2, ask), language, "?")


def both(first: Fact, second: Fact, language: str, style: int = 0, style2: int = 0) -> list[Token]:
    """Two facts as one sentence joined by "and"."""
    link = {"en": "and", "de": "und", "es": "y", "ru": "и", "hi": "और", "tr": "ve", "zh": "而且", "sw": "na"}[language]
    head = finish(_RENDER[language](first, style, ""), language, "")
    return finish([*head, Token(link, "CCONJ"), *_RENDER[language](second, style2, "")], language)


def register(
    language: str,
) -> Callable[[Callable[[Fact, int, str], list[Token]]], Callable[[Fact, int, str], list[Token]]]:
    """Decorator: the function lays out facts in ``language``."""

    def keep(function: Callable[[Fact, int, str], list[Token]]) -> Callable[[Fact, int, str], list[Token]]:
        _RENDER[language] = function
        return function

    return keep
