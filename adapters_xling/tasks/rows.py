"""Raw rows to examples: one named converter per kind of task, and the reasons for which a row is turned away.

A reader (`tasks/readers/`) knows a file format and yields `Raw` rows; a converter knows what an example of its kind
consists of and picks the columns. So any format serves any kind. What is wrong with one row rejects that row and is
counted; what makes the file a different file than the task describes (a missing column, an undeclared label) is a
`DataError`, because going on would train on something else than what the task says.

Options that every converter understands (`options` of a source):
  columns      field of the example -> column, list of alternatives, or ``{join: [columns]}`` joined by a blank
  values       column -> {raw value: value}, applied before anything else
  labels       raw label -> label of the task; labels that are not listed stand for themselves
  drop_labels  labels that mean "no gold" by the data's own documentation (SNLI's ``-``): dropped and counted
  drop_texts   placeholders for a missing text (PAWS-X's ``NS``): dropped and counted, unless no gold is wanted
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, NamedTuple

from adapters_xling.errors import ConfigError, DataError, unknown
from adapters_xling.spec import TaskSpec
from adapters_xling.tasks.examples import (
    Answer,
    ChoiceExample,
    Example,
    RetrieveExample,
    SentenceExample,
    SpanExample,
    TagExample,
    TextExample,
)

VERSION = 2
"""Raise when the same raw row would become another example: it enters every task's digest."""

OPTIONS = frozenset({"columns", "values", "labels", "drop_labels", "drop_texts"})

UNSEEN = "<unseen>"
"""Label of tags that the rows a tag set was read off do not have (`TaskSpec.labels_from`)."""

BLANK_LABEL = "blank label"
BLANK_ANSWER = "blank answer"


class Reject(Exception):
    """This row cannot be used; the text is the reason that is counted."""


class Raw(NamedTuple):
    """A row as the file gives it.

    `reject` is set where the reader itself could make nothing of it, `options` where rows of several sources are joined
    and each is converted by its own.
    """

    file: str
    row: int
    values: Mapping[str, Any]
    reject: str | None = None
    options: Mapping[str, Any] | None = None

    @property
    def place(self) -> str:
        """File and row, as an error shows them."""
        return f"{self.file}: row {self.row}"


def in_turn(parts: Sequence[Iterator[Raw]]) -> Iterator[Raw]:
    """Rows of several sources, one of each in turn, so that the first so many hold some of each."""
    return (raw for turn in zip_longest(*parts) for raw in turn if raw is not None)


@dataclass(frozen=True)
class Context:
    """What a converter needs beside the row: the task, the source's options, whether gold is required, the language."""

    task: TaskSpec
    options: Mapping[str, Any] = field(default_factory=dict)
    need_gold: bool = True
    language: str = ""

    def get(self, raw: Raw, name: str, default: tuple[str, ...], *, required: bool = True) -> Any:
        """Value of an example's field, through `columns`, or through the usual names of that column.

        Raises:
            DataError: where a required column is missing, with the columns found and wanted.
        """
        wanted = self.options.get("columns", {}).get(name, default)
        if isinstance(wanted, Mapping):
            parts = [self._cell(raw, column) for column in wanted["join"]]
            if all(part is not _ABSENT for part in parts):
                return " ".join(str(part).strip() for part in parts if str(part).strip())
            wanted = wanted["join"]
        else:
            wanted = (wanted,) if isinstance(wanted, str) else tuple(wanted)
            for column in wanted:
                value = self._cell(raw, column)
                if value is not _ABSENT:
                    return value
        if required:
            raise missing_column(raw, name, wanted)
        return None

    def _cell(self, raw: Raw, column: str) -> Any:
        value = raw.values.get(column, _ABSENT)
        table = self.options.get("values", {}).get(column)
        if table is None or value is _ABSENT:
            return value
        if str(value) not in table:
            raise DataError(
                f"{raw.place}: column {column!r} holds {value!r}, which `values` does not list "
                f"(listed: {', '.join(map(repr, table))}). Add it to the task file or mend the row."
            )
        return table[str(value)]

    def text(self, raw: Raw, name: str, default: tuple[str, ...], *, required: bool = True) -> str | None:
        """A text field, stripped of surrounding blanks; placeholders and blank texts reject the row."""
        value = self.get(raw, name, default, required=required)
        if value is None and not required:
            return None
        value = "" if value is None else str(value).strip()
        if self.need_gold and value in self.options.get("drop_texts", ()):
            raise Reject(f"placeholder {value!r} instead of a text")
        if not value and required:
            raise Reject(f"blank {name}")
        return value

    def label(self, raw: Raw, default: tuple[str, ...] = ("label", "gold_label")) -> str | None:
        """The label, mapped and checked against the task's; None where it is blank and gold is not needed.

        Raises:
            DataError: for a label that the task does not know.
        """
        value = self.get(raw, "label", default, required=self.need_gold)
        value = "" if value is None else str(value).strip()
        if value in map(str, self.options.get("drop_labels", ())):
            raise Reject(f"label {value!r}: no gold")
        if not value:
            if self.need_gold:
                raise Reject(BLANK_LABEL)
            return None
        value = str(self.options.get("labels", {}).get(value, value))
        if value not in self.task.labels:
            raise unknown_label(raw, value, self.task)
        return value


_ABSENT: Any = object()


def missing_column(raw: Raw, name: str, wanted: Any) -> DataError:
    """The error for a column that is not there."""
    found = ", ".join(map(repr, raw.values)) or "none"
    return DataError(
        f"{raw.place}: no column for {name!r}: wanted {' or '.join(map(repr, wanted))}, found {found}. "
        f"Name it under options.columns.{name} of the task's source."
    )


def unknown_label(raw: Raw, value: str, task: TaskSpec) -> DataError:
    """The error for a label that the task does not know."""
    return DataError(
        f"{raw.place}: unknown label {value!r}; task {task.name!r} knows {', '.join(map(repr, task.labels))}. "
        "Map it under options.labels, list it under options.drop_labels, or add it to the task's labels."
    )


Converter = Callable[[Raw, str, Context], Example]
_CONVERTERS: dict[str, Converter] = {}


def converter(kind: str) -> Callable[[Converter], Converter]:
    """Register a converter as the one for a kind of task."""

    def register(function: Converter) -> Converter:
        _CONVERTERS[kind] = function
        return function

    return register


def convert(raw: Raw, identifier: str, context: Context) -> Example:
    """Turn a raw row into an example of the task's kind.

    Args:
        raw: the row.
        identifier: its id, unless it brings one in a column ``id``.
        context: task and options.

    Raises:
        Reject: where this row cannot be used.
        DataError: where the file is not what the task says.
    """
    if raw.reject is not None:
        raise Reject(raw.reject)
    if context.task.kind not in _CONVERTERS:
        raise unknown("kind with a row converter", context.task.kind, _CONVERTERS)
    if raw.options is not None:
        context = replace(context, options=raw.options)
    given = context.get(raw, "id", ("id",), required=False)
    return _CONVERTERS[context.task.kind](raw, str(given) if given not in (None, "") else identifier, context)


@converter("sentence")
def _sentence(raw: Raw, identifier: str, context: Context) -> Example:
    first = context.text(raw, "first", ("first", "premise", "sentence1", "sentence", "text")) or ""
    second = context.text(raw, "second", ("second", "hypothesis", "sentence2"), required=False)
    if second == "":
        raise Reject("blank second")
    label = context.label(raw)
    group = context.get(raw, "group", ("group",), required=False)
    return SentenceExample(
        id=identifier, first=first, second=second, label=label, group=str(group if group not in (None, "") else first)
    )


@converter("choice")
def _choice(raw: Raw, identifier: str, context: Context) -> Example:
    prompt = context.text(raw, "prompt", ("prompt", "question")) or ""
    prefix = context.text(raw, "choice_prefix", ("choice_prefix",), required=False) or ""
    names, choices = _choices(raw, context)
    if any(not choice for choice in choices):
        raise Reject("blank choice")
    group = context.get(raw, "group", ("group",), required=False)
    return ChoiceExample(
        id=identifier,
        prompt=prompt,
        choices=choices,
        choice_prefix=prefix,
        label=_choice_label(raw, names, context),
        group=str(group if group not in (None, "") else prompt),
    )


def _choices(raw: Raw, context: Context) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and texts of the choices: several columns, one list (of texts or of {"label": …, "text": …}), {name: text},
    or {"label": […], "text": […]}.
    """
    wanted = context.options.get("columns", {}).get("choices", "choices")
    if not isinstance(wanted, str):
        found: Any = [raw.values.get(column) for column in wanted]
        if None in found:
            raise missing_column(raw, "choices", wanted)
    elif wanted not in raw.values:
        raise missing_column(raw, "choices", (wanted,))
    else:
        found = raw.values[wanted]
    if isinstance(found, str):
        found = _from_json(found)
    names: list[str] = []
    if isinstance(found, (list, tuple)) and found and all(_is_choice(one) for one in found):
        found = {"label": [one["label"] for one in found], "text": [one["text"] for one in found]}
    if isinstance(found, Mapping):
        parallel = set(found) == {"label", "text"}
        names = list(map(str, found["label"] if parallel else found))
        found = found["text"] if parallel else list(found.values())
    if not isinstance(found, (list, tuple)):
        raise DataError(
            f"{raw.place}: column {wanted!r} holds {found!r} instead of a list of choices. In a table write a JSON "
            'list (["yes", "no"]) into the cell, or one column per choice: choice1, choice2, …'
        )
    texts = tuple("" if text is None else str(text).strip() for text in found)
    return tuple(names) or tuple(map(str, range(len(texts)))), texts


def _is_choice(one: Any) -> bool:
    return isinstance(one, Mapping) and set(one) == {"label", "text"}


def _from_json(cell: str) -> Any:
    """What a table's cell holds as JSON; the cell itself where that is none."""
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def _choice_label(raw: Raw, names: tuple[str, ...], context: Context) -> int | None:
    """Index of the right choice, from its name in the data (``B``, ``1``), through `labels` where that maps it."""
    value = context.get(raw, "label", ("label", "answer", "answerKey"), required=context.need_gold)
    value = "" if value is None else str(value).strip()
    if value in map(str, context.options.get("drop_labels", ())):
        raise Reject(f"label {value!r}: no gold")
    if not value:
        if context.need_gold:
            raise Reject(BLANK_LABEL)
        return None
    value = str(context.options.get("labels", {}).get(value, value))
    if value not in names:
        raise DataError(
            f"{raw.place}: unknown label {value!r}; the choices are {', '.join(map(repr, names))}. "
            "Write one of these, or map it under options.labels of the task's source."
        )
    return names.index(value)


@converter("tag")
def _tag(raw: Raw, identifier: str, context: Context) -> Example:
    words = _split(raw, "words", context.get(raw, "words", ("words", "tokens")))
    tags = tags_of(raw, context)
    if not words:
        raise Reject("no words")
    if "" in words:
        raise Reject("empty word")
    group = str(context.get(raw, "group", ("group",), required=False) or " ".join(words))
    if not any(tags):
        if context.need_gold:
            raise Reject(BLANK_LABEL)
        return TagExample(id=identifier, words=words, group=group)
    if len(tags) != len(words):
        raise Reject("not one tag per word")
    known = set(context.task.labels)
    if UNSEEN in known:
        tags = tuple(tag if tag in known or not tag else UNSEEN for tag in tags)
    for tag in tags:
        if not tag:
            raise Reject(BLANK_LABEL)
        if tag not in known:
            raise unknown_label(raw, tag, context.task)
    return TagExample(id=identifier, words=words, tags=tags, group=group)


def tags_of(raw: Raw, context: Context) -> tuple[str, ...]:
    """Tags of a sentence as the task calls them, unchecked; none where they are withheld and gold is not needed."""
    table = context.options.get("labels", {})
    tags = _split(raw, "tags", context.get(raw, "tags", ("tags",), required=context.need_gold))
    return tuple(str(table.get(tag, tag)) for tag in tags)


def _split(raw: Raw, name: str, value: Any) -> tuple[str, ...]:
    """Words or tags: a list of them, or one text in which blanks stand between them."""
    if value is None:
        return ()
    if isinstance(value, str):
        return tuple(value.split())
    if not isinstance(value, (list, tuple)):
        raise DataError(f"{raw.place}: {name} are {value!r} instead of a list, or a text with blanks between them")
    return tuple("" if item is None else str(item) for item in value)


@converter("span")
def _span(raw: Raw, identifier: str, context: Context) -> Example:
    passage = context.get(raw, "context", ("context",))
    question = context.text(raw, "question", ("question",)) or ""
    if not str(passage or "").strip():
        raise Reject("blank context")
    found = context.get(raw, "answers", ("answers",), required=context.need_gold)
    impossible = _impossible(raw, context)
    answers = () if impossible else tuple(_answers(raw, found, need_gold=context.need_gold))
    answerless = context.options.get("empty_is_impossible", False) and not answers
    if context.need_gold and not (answers or impossible or answerless):
        raise Reject(BLANK_ANSWER)
    group = context.get(raw, "group", ("title",), required=False)
    return SpanExample(
        id=identifier,
        context=str(passage),
        question=question,
        answers=answers,
        impossible=impossible or bool(answerless),
        group=str(group if group not in (None, "") else passage),
    )


_TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False, "": False}
"""A truth value as JSON, a table or a spreadsheet writes it, in small letters; a blank one is false."""


def _impossible(raw: Raw, context: Context) -> bool:
    """Whether the row says that its question has no answer."""
    value = context.get(raw, "impossible", ("is_impossible", "impossible"), required=False)
    word = "" if value is None else str(value).strip().lower()
    if word not in _TRUTH:
        raise DataError(
            f"{raw.place}: whether the question is impossible is {value!r}; valid: true, false, 1, 0, or a blank for "
            "false. Write one of these, or map it under options.values of the task's source."
        )
    return _TRUTH[word]


def _answers(raw: Raw, found: Any, *, need_gold: bool) -> Iterator[Answer]:
    """Answers in either layout in use: a list of {text, answer_start}, or {text: […], answer_start: […]}; in a table's
    cell as JSON.

    A blank one is no answer; where gold is needed it shows that answers were withheld.
    """
    found = _from_json(found) if isinstance(found, str) else found
    try:
        if isinstance(found, Mapping):
            found = [{"text": t, "answer_start": s} for t, s in zip(found["text"], found["answer_start"], strict=True)]
        for answer in dict.fromkeys((str(item["text"]), int(item["answer_start"])) for item in found or ()):
            if answer[0].strip():
                yield Answer(*answer)
            elif need_gold:
                raise Reject(BLANK_ANSWER)
    except (KeyError, TypeError, ValueError) as err:
        raise DataError(
            f"{raw.place}: answers are not in SQuAD's form, a list of {{text, answer_start}} ({err!r}). In a table "
            'write it as JSON into the cell: [{"text": "Ada", "answer_start": 0}]'
        ) from err


@converter("retrieve")
def _retrieve(raw: Raw, identifier: str, context: Context) -> Example:
    side = str(raw.values.get("side", ""))
    if side not in ("query", "corpus"):
        raise ConfigError(
            f"task {context.task.name!r}: {raw.file} gives no side (query or corpus); retrieval tasks need a reader "
            "that does: aligned or bitext"
        )
    text = context.text(raw, "text", ("text",)) or ""
    matches = tuple(map(str, raw.values.get("matches", ())))
    group = str(raw.values.get("group") or identifier)
    return RetrieveExample(id=identifier, text=text, side=side, matches=matches, group=group)


@converter("mlm")
def _running_text(raw: Raw, identifier: str, context: Context) -> Example:
    text = context.text(raw, "text", ("text", "sentence", "line")) or ""
    group = context.get(raw, "group", ("group",), required=False)
    return TextExample(id=identifier, text=text, group=str(group if group not in (None, "") else text))
