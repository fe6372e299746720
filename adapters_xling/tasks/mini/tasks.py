"""Rows of the mini tasks in any language, rendered from plans."""

from __future__ import annotations

from typing import Any

from .grammar import LANGUAGES, TAGS, Token, both, join, question, statement
from .plans import PLANNERS, Plan, plans
from .world import SPLITS

Row = dict[str, Any]
TASKS = tuple(PLANNERS)
SIZES = {"train": 4000, "dev": 500, "test": 400}
NER_TYPES = ("PER", "LOC", "TIM")
_LABELS = {
    "mini-nli": ["entailment", "neutral", "contradiction"],
    "mini-paraphrase": ["0", "1"],
}
_TAGS = {
    "mini-pos": list(TAGS),
    "mini-ner": ["O", *(f"{p}-{t}" for t in NER_TYPES for p in "BI")],
}


def labels(task: str) -> list[str]:
    """The labels of a classification task, in the order of their numbers."""
    return list(_LABELS[task])


def tags(task: str) -> list[str]:
    """The tags of a tagging task, in the order of their numbers."""
    return list(_TAGS[task])


def _story(plan: Plan, language: str) -> list[Token]:
    """All facts of a plan as sentences."""
    return [t for fact, style in zip(plan.facts, plan.styles, strict=False) for t in statement(fact, language, style)]


def _nli(plan: Plan, language: str) -> Row:
    hypothesis = statement(plan.about, language, plan.styles[-1])
    return {"premise": join(_story(plan, language)), "hypothesis": join(hypothesis), "label": plan.label}


def _paraphrase(plan: Plan, language: str) -> Row:
    second = statement(plan.about, language, plan.styles[1])
    return {"sentence1": join(_story(plan, language)), "sentence2": join(second), "label": plan.label}


def _choice(plan: Plan, language: str) -> Row:
    choices = [join(statement(option, language, plan.styles[-1])) for option in plan.options]
    return {"prompt": join(_story(plan, language)), "choices": choices, "label": plan.label}


def _qa(plan: Plan, language: str) -> Row:
    context, start, text = "", -1, ""
    for fact, style in zip(plan.facts, plan.styles, strict=False):
        tokens = statement(fact, language, style)
        context += " " if context else ""
        if fact == plan.target:
            at = [i for i, t in enumerate(tokens) if t.slot == plan.part]
            text = join(tokens[at[0] : at[-1] + 1])
            start = len(context) + len(join(tokens[: at[-1] + 1])) - len(text)
        context += join(tokens)
    asked = question(plan.about, plan.part, language, plan.styles[-1])
    return {
        "title": "mini world",
        "context": context,
        "question": join(asked),
        "answers": [{"text": text, "answer_start": start}],
    }


def _tokens(plan: Plan, language: str) -> list[Token]:
    if plan.part:
        return question(plan.facts[0], plan.part, language, plan.styles[0])
    if plan.joined:
        first, second = plan.facts
        return both(first, second, language, *plan.styles)
    return statement(plan.facts[0], language, plan.styles[0])


def _pos(plan: Plan, language: str) -> Row:
    tokens = _tokens(plan, language)
    return {"words": [t.word for t in tokens], "tags": [t.tag for t in tokens]}


def entity(token: Token) -> str:
    """Entity type of a token: names of people, words for places and times; "" for none."""
    if token.slot in ("subj", "rec"):
        return "PER" if token.tag == "PROPN" else ""
    return {"place": "LOC", "time": "TIM"}.get(token.slot, "")


def _ner(plan: Plan, language: str) -> Row:
    tokens = _tokens(plan, language)
    out, last = [], ("", "")
    for token in tokens:
        kind = entity(token)
        inside = kind and last == (kind, token.slot)
        out.append(f"{'I' if inside else 'B'}-{kind}" if kind else "O")
        last = (kind, token.slot)
    return {"words": [t.word for t in tokens], "tags": out}


def _text(plan: Plan, language: str) -> Row:
    return {"text": join(_story(plan, language))}


_RENDERERS = {
    "mini-nli": _nli,
    "mini-paraphrase": _paraphrase,
    "mini-choice": _choice,
    "mini-pos": _pos,
    "mini-ner": _ner,
    "mini-qa": _qa,
    "mini-retrieval": _text,
    "mini-retrieval-hard": _text,
    "mini-mlm": _text,
}


def rows(task: str, split: str, language: str, num_rows: int | None = None) -> list[Row]:
    """The first ``num_rows`` rows (default: 4000 train, 500 dev, 400 test) of a task in a language.

    The same names give the same rows in every process; the same ``id`` is the same scene in every language.

    Raises:
        ValueError: for a task, split or language that the mini world does not have.
    """
    for name, value, known in (("task", task, TASKS), ("split", split, SPLITS), ("language", language, LANGUAGES)):
        if value not in known:
            raise ValueError(f"unknown mini {name} {value!r}; known: {', '.join(known)}")
    number = SIZES[split] if num_rows is None else num_rows
    render = _RENDERERS[task]
    made = plans(task, split, number)
    return [{"id": f"{task}-{split}-{i:05d}", **render(plan, language)} for i, plan in enumerate(made)]
