"""Do two sets of rows share text? Rows, texts and word sequences compared by 64-bit hashes.

Two texts are the same when their letters, marks and digits are, after NFKC and case folding: blanks, punctuation and
accent encoding do not count. A sequence is `GRAM` words, the length with which Brown et al. (2020) looked for benchmark
rows in training text; in scripts written without blanks a character counts as a unit and `GRAM_UNSPACED` of them make a
sequence.

Hashes of 64 bits: among a million training texts the chance that a given other text is taken for one of them is
1e6 / 2**64, about 5e-14.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from adapters_xling.tasks.examples import Example

GRAM = 13
GRAM_UNSPACED = 26
MIN_CHARACTERS = 24
"""A text that is only part of a row must have so many letters, marks and digits to count: "Who is he?" says nothing."""

_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x323AF),
)
_TEXTS = ("first", "second", "prompt", "choice_prefix", "choices", "words", "context", "question", "text")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class _Table(dict[int, str]):
    """Character -> itself, itself between blanks (scripts without them), or a blank; filled as characters occur."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if unicodedata.category(char)[0] not in "LMN":
            text = " "
        elif any(low <= code <= high for low, high in _UNSPACED):
            text = f" {char} "
        else:
            text = char
        self[code] = text
        return text


_TABLE = _Table()


def units(text: str) -> list[str]:
    """Words of a text as they are compared; single characters in scripts that write no blanks.

    >>> units("Zoë's  ＢＯＯＫ, 第2"), units("नमस्ते दुनिया!")
    (['zoë', 's', 'book', '第', '2'], ['नमस्ते', 'दुनिया'])
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(_TABLE).split()


def texts_of(example: Example) -> list[str]:
    """The texts of an example that a model reads, in order; words that are to be tagged are one text."""
    found: list[str] = []
    for name in _TEXTS:
        value = getattr(example, name, None)
        if isinstance(value, str):
            found.append(value)
        elif value:
            found += [" ".join(value)] if name == "words" else list(value)
    return [text for text in found if text]


class Prints(NamedTuple):
    """Hashes of one example: of the whole row, of each long text, of every sequence, and of its group (0: none)."""

    row: int
    texts: tuple[int, ...]
    grams: np.ndarray
    group: int


class Reader:
    """Makes prints of examples; keeps those of texts that come again, as a passage does with every question."""

    def __init__(self) -> None:
        self._words: dict[str, int] = {}
        self._texts: dict[str, tuple[int, int, np.ndarray]] = {}

    def prints(self, example: Example) -> Prints:
        """The hashes of an example."""
        texts = texts_of(example)
        known = [self._text(text) for text in texts]
        row = _row(value for value, _, _ in known)
        long = tuple(value for value, length, _ in known if length >= MIN_CHARACTERS)
        grams = [found for _, _, found in known if len(found)]
        named = example.group and example.group not in texts
        group = _hash("group:" + "".join(units(example.group))) if named else 0
        return Prints(row, long, np.concatenate(grams) if grams else np.zeros(0, np.uint64), group)

    def _text(self, text: str) -> tuple[int, int, np.ndarray]:
        if (known := self._texts.get(text)) is None:
            words = units(text)
            line = "".join(words)
            known = self._texts[text] = (_hash(line), len(line), self._grams(words))
        return known

    def _grams(self, words: list[str]) -> np.ndarray:
        unspaced = sum(len(word) == 1 and _TABLE[ord(word)] != word for word in words)
        size = GRAM_UNSPACED if 2 * unspaced > len(words) else GRAM
        if len(words) < size:
            return np.zeros(0, np.uint64)
        values_W = np.fromiter((self._word(word) for word in words), np.uint64, len(words))
        num = len(words) - size + 1
        found_G = np.full(num, size, np.uint64)
        with np.errstate(over="ignore"):
            for i in range(size):
                found_G = found_G * _FACTOR + values_W[i : i + num]
        return found_G

    def _word(self, word: str) -> int:
        if (value := self._words.get(word)) is None:
            value = self._words[word] = _hash(word)
        return value


class Index:
    """Prints of many rows, to look others up in.

    Args:
        reader: shared by all sets that are compared.
    """

    def __init__(self, reader: Reader) -> None:
        self.num_rows = 0
        self._reader = reader
        self._rows: dict[int, int] = {}
        self._texts: dict[int, int] = {}
        self._groups: dict[int, int] = {}
        self._grams: list[np.ndarray] = []
        self._sorted: np.ndarray | None = None
        self._places: list[str] = []

    def add(self, examples: Sequence[Example], *, place: str) -> None:
        """Add rows; `place` names them where something is found."""
        number = len(self._places)
        self._places.append(place)
        self._sorted = None
        for example in examples:
            prints = self._reader.prints(example)
            self.num_rows += 1
            self._rows.setdefault(prints.row, number)
            for value in prints.texts:
                self._texts.setdefault(value, number)
            if prints.group:
                self._groups.setdefault(prints.group, number)
            if len(prints.grams):
                self._grams.append(prints.grams)

    def look_up(self, examples: Sequence[Example]) -> Iterator[tuple[str, str] | None]:
        """How each of some rows is known here (`row`, `text`, `sequence`, `group`: the closest) and from where."""
        if self._sorted is None:
            self._sorted = np.unique(np.concatenate(self._grams)) if self._grams else np.zeros(0, np.uint64)
            self._grams = [self._sorted]
        for example in examples:
            prints = self._reader.prints(example)
            if prints.row in self._rows:
                yield "row", self._places[self._rows[prints.row]]
            elif (value := next((one for one in prints.texts if one in self._texts), None)) is not None:
                yield "text", self._places[self._texts[value]]
            elif self._shares(prints.grams):
                yield "sequence", ", ".join(self._places)
            elif prints.group in self._groups:
                yield "group", self._places[self._groups[prints.group]]
            else:
                yield None

    def _shares(self, grams: np.ndarray) -> bool:
        assert self._sorted is not None
        if not len(grams) or not len(self._sorted):
            return False
        at = np.searchsorted(self._sorted, grams)
        at[at == len(self._sorted)] = 0
        return bool((self._sorted[at] == grams).any())


def row_hash(example: Example, *, words: Callable[[str], Sequence[str]] = units) -> int:
    """`Prints.row` of an example, without the rest; `words` may be a `units` that remembers."""
    return _row(_hash("".join(words(text))) for text in texts_of(example))


def _row(texts: Iterable[int]) -> int:
    """Hash of a row from those of its texts; 0 for a row without any."""
    line = "\x1f".join(f"{value:x}" for value in texts)
    return _hash(line) if line else 0


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
