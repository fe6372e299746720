"""How many rows a set has and how long they are, without torch and, for large sets, without reading all of them.

Figures for an estimate: rows that a kind's own checks would turn away are counted, tokens are guessed from characters.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters_xling.errors import XlingError
from adapters_xling.spec import TaskSpec
from adapters_xling.tasks import mini, rows, sources
from adapters_xling.tasks.data import in_split
from adapters_xling.tasks.examples import (
    ChoiceExample,
    Example,
    RetrieveExample,
    SentenceExample,
    SpanExample,
    TagExample,
)
from adapters_xling.tasks.kinds import options
from adapters_xling.tasks.mini.tasks import SIZES

SAMPLE = 200
"""Rows of a set whose lengths are looked at."""
GENERATED = 16
"""The same for generated sets, each row of which has to be made."""
SET_S, ALL_S = 0.03, 0.5
"""Seconds of computing that reading one set, and all sets, may take; beyond, sizes of files stand in."""
CLOCK_ROWS = 16
"""Rows between two looks at the clock, which cost 30 microseconds each where they are calls of a virtual machine."""
CHARACTERS_PER_TOKEN, WIDE_PER_TOKEN = 4.0, 1.6
"""Characters that one piece of XLM-R's vocabulary covers: of scripts with spaces, and of Chinese or Japanese."""
WIDE = "\u2e80"
"""First character of the scripts that are counted as wide."""
_WIDE = re.compile(f"[{WIDE}-{chr(0x10FFFF)}]")


@dataclass(frozen=True)
class Size:
    """What is known of one (task, split, language).

    Attributes:
        rows: rows that have an answer: examples, or queries.
        corpus: sentences that are encoded beside them (retrieval), whatever the limit on rows.
        tokens: mean tokens the encoder reads for one row.
        width: mean tokens of one encoder row, for several choices or windows are read apart.
        windows: what one row gives to train on: windows of a long context, else 1.
        read: False where nothing was read, so that the figures are a guess.
    """

    rows: float
    corpus: float
    tokens: float
    width: float
    windows: float = 1.0
    read: bool = True

    def encoded(self, limit: int | None = None) -> float:
        """Rows the encoder reads when only the first `limit` are scored."""
        return self.corpus + (min(self.rows, limit) if limit else self.rows)


GUESS = Size(2000, 0, 40.0, 40.0, read=False)
"""What is assumed of a set that was not fetched and whose task file says nothing of its size."""
TYPICAL = {
    "sentence": (40.0, 1),
    "choice": (60.0, 4),
    "tag": (30.0, 1),
    "span": (190.0, 1),
    "retrieve": (30.0, 1),
    "mlm": (50.0, 1),
}
"""Kind -> tokens of one encoder row, and rows read for one example, of sets that were not fetched: rounded means of the
original data (MultiNLI 39, HellaSwag 90 and CommonsenseQA 20, UD 25, SQuAD 180)."""


def published(task: TaskSpec, split: str, *, max_length: int) -> Size:
    """Size of a set that is not at hand, from the rows its task file gives and what is typical of its kind.

    >>> from adapters_xling import tasks
    >>> published(tasks.get("hellaswag"), "train", max_length=256)
    Size(rows=39905.0, corpus=0, tokens=240.0, width=60.0, windows=1.0, read=False)
    """
    said = task.rows.get(split)
    tokens, reads = TYPICAL[task.kind]
    width = min(tokens, max_length)
    rows = GUESS.rows if said is None else _number(str(said))
    paired = rows if task.kind == "retrieve" else 0  # as many sentences to find them among, at least
    return Size(rows, paired, width * reads, width, read=False)


def _number(said: str) -> float:
    """Rows that a task file's words stand for: a sum, or the middle of a range.

    >>> _number("10,000 + 9,815 + 3,200"), _number("3,974 (en)"), _number("47–20,436")
    (23015.0, 3974.0, 10241.5)
    """
    numbers = [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", said)]
    if not numbers:
        return GUESS.rows
    return sum(numbers) if "+" in said else sum(numbers) / len(numbers)


class Sizes:
    """Sizes of sets, each looked at once. A set that is not at hand or cannot be read has none.

    Args:
        data_dir: folder of the original files.
        seconds: computing time that all reading together may take.
    """

    def __init__(self, data_dir: Path | None = None, *, seconds: float = ALL_S) -> None:
        self._data_dir, self._left = data_dir, seconds
        self._seen: dict[tuple[str, str, str], _Seen | None] = {}
        self._models: dict[tuple[str, str], tuple[_Seen, int]] = {}
        self._sizes: dict[tuple[str, str, str, int], Size | None] = {}

    def of(self, task: TaskSpec, split: str, language: str, *, max_length: int) -> Size | None:
        """Size of one set, or None when its rows are not at hand.

        Args:
            task: whose rows; `train_on` is not followed.
            split: as in the task's file.
            language: code of the language.
            max_length: tokens at which a row is cut.
        """
        place = (task.name, split, language)
        if place not in self._seen:
            started = time.process_time()
            try:
                self._seen[place] = self._look(task, split, language)
            except (XlingError, OSError):  # the job that needs the rows says what is wrong with them
                self._seen[place] = None
            self._left -= time.process_time() - started
        size = (*place, max_length)
        if size not in self._sizes:
            seen = self._seen[place]
            if seen is _HUB:
                self._sizes[size] = published(task, split, max_length=max_length)
            else:
                self._sizes[size] = None if seen is None else _size(seen, task, max_length)
        return self._sizes[size]

    @property
    def unread(self) -> int:
        """Sets whose size is a guess."""
        return sum(seen is _HUB for seen in self._seen.values())

    def _look(self, task: TaskSpec, split: str, language: str) -> _Seen | None:
        found = sources.find(task, split, language, data_dir=self._data_dir)
        num_bytes = sum(file.stat().st_size for file in found.files)
        model, model_bytes = self._models.get((task.name, split), (None, 0))
        if model is not None and (not num_bytes or self._left <= 0):  # another language of the same set
            share = num_bytes / model_bytes if model_bytes and num_bytes else 1.0
            return model if share == 1.0 else replace(model, rows=model.rows * share, corpus=model.corpus * share)
        generator = dict(found.definition()).get("generator")
        seen: _Seen | None = _HUB
        if generator:
            seen = _generated(task, generator, split, language)
        elif found.files:
            seen = _read(task, split, found, num_bytes)
        if seen is not None:
            self._models.setdefault((task.name, split), (seen, num_bytes))
        return seen


@dataclass(frozen=True)
class _Seen:
    """What reading a set gave: some of its rows, and how many there are."""

    sample: tuple[Example, ...]
    rows: float
    corpus: float


_HUB = _Seen((), GUESS.rows, GUESS.corpus)
"""A set on the hub that was not fetched: nothing was looked at."""


def _generated(task: TaskSpec, generator: str, split: str, language: str) -> _Seen:
    """A made-up set has a known number of rows; the first few of them are made. In retrieval the other language has
    as many."""
    context = rows.Context(task)
    made: list[Example] = []
    for i, row in enumerate(mini.rows(generator, split, language, GENERATED)):
        values = {"side": "query", "matches": (), **row}
        made.append(rows.convert(rows.Raw(generator, i, values), str(i), context))
    paired = any(isinstance(example, RetrieveExample) for example in made)
    return _Seen(tuple(made), SIZES[split], SIZES[split] if paired else 0)


def _read(task: TaskSpec, split: str, found: sources.Found, num_bytes: int) -> _Seen | None:
    """Read rows until the time is over; what was not reached is judged by the bytes of what was."""
    context = rows.Context(task, found.options, False)
    sample: list[Example] = []
    count = corpus = all_rows = seen_bytes = 0
    whole, until = True, 0.0
    last: Mapping[str, Any] = {}
    measure = _json_bytes if found.files[0].suffix.startswith(".json") else _bytes
    for raw in found.read():
        until = until or time.process_time() + SET_S  # a file that is parsed as a whole is there with its first row
        all_rows += 1
        fresh = {name: value for name, value in raw.values.items() if value is not last.get(name)}
        seen_bytes += measure(fresh)
        last = raw.values  # the paragraph that several questions share stands in the file once
        if len(sample) < SAMPLE or found.partition is not None:
            try:
                example = rows.convert(raw, str(all_rows), context)
            except rows.Reject:
                continue
            if not in_split(example.group, split, found.partition):
                continue
            if len(sample) < SAMPLE:
                sample.append(example)
        count += 1
        corpus += raw.values.get("side") == "corpus"
        if all_rows % CLOCK_ROWS == 0 and time.process_time() > until:
            whole = False
            break
    if not sample:
        return None
    number = count if whole else count * max(1.0, num_bytes / max(seen_bytes, 1))
    queries = count - corpus if corpus or isinstance(sample[0], RetrieveExample) else number
    return _Seen(tuple(sample), queries, number - queries)


def _bytes(values: Mapping[str, Any]) -> int:
    """Bytes of a row's cells in its file, separators included; the cells of a sentence are its words and tags."""
    cells = itertools.chain.from_iterable(v if isinstance(v, list) else (v,) for v in values.values())
    return sum(len(str(cell).encode()) + 1 for cell in cells)


def _json_bytes(values: Mapping[str, Any]) -> int:
    """The same where names and quotes stand beside every value."""
    return len(json.dumps(values, ensure_ascii=False, default=str).encode())


def _size(seen: _Seen, task: TaskSpec, max_length: int) -> Size:
    """Lengths of the sample, cut at `max_length`."""
    stride = int(options.resolved(task).get("doc_stride", 0))
    lengths = [_lengths(example, max_length, stride) for example in seen.sample]
    every = list(itertools.chain.from_iterable(lengths))
    windows = len(every) / len(lengths) if isinstance(seen.sample[0], SpanExample) else 1.0
    return Size(seen.rows, seen.corpus, sum(every) / len(lengths), sum(every) / len(every), windows)


def num_tokens(text: str) -> float:
    """Tokens a text will have, from its characters.

    >>> num_tokens("the cat sat."), num_tokens("北京大学在公园")
    (3.0, 4.375)
    """
    wide = 0 if text.isascii() else len(_WIDE.findall(text))
    return (len(text) - wide) / CHARACTERS_PER_TOKEN + wide / WIDE_PER_TOKEN


def _fields(example: Example) -> dict[str, Any]:
    """Fields of an example by name."""
    return {field.name: getattr(example, field.name) for field in dataclasses.fields(example)}


@functools.singledispatch
def _lengths(example: Example, max_length: int, stride: int) -> list[float]:
    """Tokens of each encoder row of an example, special ones included; by default one row of all its text."""
    named = {name: value for name, value in _fields(example).items() if name not in ("id", "group", "label", "side")}
    return [min(max_length, 2 + sum(num_tokens(text) for text in named.values() if isinstance(text, str)))]


@_lengths.register
def _(example: SentenceExample, max_length: int, stride: int) -> list[float]:
    special = 2 if example.second is None else 4
    return [min(max_length, special + num_tokens(example.first) + num_tokens(example.second or ""))]


@_lengths.register
def _(example: ChoiceExample, max_length: int, stride: int) -> list[float]:
    shared = 4 + num_tokens(example.prompt) + num_tokens(example.choice_prefix)
    return [min(max_length, shared + num_tokens(choice)) for choice in example.choices]


@_lengths.register
def _(example: TagExample, max_length: int, stride: int) -> list[float]:
    return [min(max_length, 2 + sum(max(1.0, num_tokens(word)) for word in example.words))]


@_lengths.register
def _(example: SpanExample, max_length: int, stride: int) -> list[float]:
    """A context that does not fit is read in windows, each `stride` tokens after the last (half of one at most)."""
    question = 4 + num_tokens(example.question)
    context, room = num_tokens(example.context), max(max_length - question, 8.0)
    step = stride if 0 < stride < room else room / 2
    num_windows = 1 + math.ceil(max(context - room, 0.0) / step)
    return [question + min(room, context - i * step) for i in range(num_windows)]
