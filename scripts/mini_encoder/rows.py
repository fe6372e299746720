"""Rows of both objectives, drawn from text that is kept as token ids.

A *unit* is a run of tokens that one vector stands for: a word, a sentence, or one of two sentences read together. Rows
of distillation carry the same units on the student's side, in any language, and on the donor's side, in English.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .text import Parallel
from .vocab import BOS, EOS, PAD

MOST_TOKENS = 120
NO_UNIT = -1
SHARES = {"translation": 0.62, "pair": 0.2, "words": 0.18}
"""Share of the rows of each form: a sentence for its English one, two neighbours together, English word by word."""


class Flat:
    """Many lists of numbers in one array."""

    def __init__(self, lists: Sequence[Sequence[int]]) -> None:
        self.ends = np.cumsum([0, *map(len, lists)])
        self.flat = np.fromiter((n for one in lists for n in one), np.int32, int(self.ends[-1]))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        return self.flat[self.ends[i] : self.ends[i + 1]]


@dataclass
class Text:
    """All training text as token ids.

    Attributes:
        ids: of every (sentence, language), in the order of `sentence`; special tokens left out.
        sentence: number of each row's sentence (R,).
        language: index into `languages` of each row (R,).
        languages: codes.
        first: rows of sentence i are first[i] to first[i + 1].
        sources: of every sentence.
        donor: donor's ids of every sentence's English side.
        words: English rows cut into words: student's ids, word of each, donor's ids, word of each.
        mono: ids of running text by language.
    """

    ids: Flat
    sentence: np.ndarray
    language: np.ndarray
    languages: list[str]
    first: np.ndarray
    sources: np.ndarray
    donor: Flat
    words: tuple[Flat, Flat, Flat, Flat]
    mono: dict[str, Flat]


def encode(
    parallel: Parallel, mono: dict[str, list[str]], tokenizer: Any, donor_tokenizer: Any, *, num_word_rows: int
) -> Text:
    """Token ids of everything; running English text is also cut into words for both tokenizers."""
    languages = parallel.languages
    number = {language: i for i, language in enumerate(languages)}
    order = [(i, language) for i, sentence in enumerate(parallel.sentences) for language in sorted(sentence)]
    lines = [parallel.sentences[i][language] for i, language in order]

    def plain(part: Sequence[str], with_tokenizer: Any) -> list[list[int]]:
        out: list[list[int]] = []
        for at in range(0, len(part), 20_000):
            some = list(part[at : at + 20_000])
            out += with_tokenizer(some, add_special_tokens=False, truncation=True, max_length=MOST_TOKENS)["input_ids"]
        return out

    def by_word(part: Sequence[str], with_tokenizer: Any) -> tuple[list[list[int]], list[list[int]]]:
        ids: list[list[int]] = []
        words: list[list[int]] = []
        for at in range(0, len(part), 20_000):
            found = with_tokenizer(
                [line.split() for line in part[at : at + 20_000]], add_special_tokens=False, is_split_into_words=True
            )
            for i, row in enumerate(found["input_ids"]):
                keep = row[:MOST_TOKENS]
                ids.append(keep)
                words.append([w if w is not None else 0 for w in found.word_ids(i)[: len(keep)]])
        return ids, words

    sentence = np.asarray([i for i, _ in order], np.int32)
    english = [line for line in mono.get("en", []) if line.strip()][: num_word_rows // 2]
    english += [s["en"] for s in parallel.sentences[: num_word_rows - len(english)]]
    ours, our_words = by_word(english, tokenizer)
    theirs, their_words = by_word(english, donor_tokenizer)
    return Text(
        ids=Flat(plain(lines, tokenizer)),
        sentence=sentence,
        language=np.asarray([number[language] for _, language in order], np.int16),
        languages=languages,
        first=np.searchsorted(sentence, np.arange(len(parallel.sentences) + 1)),
        sources=np.asarray(parallel.sources),
        donor=Flat(plain([s["en"] for s in parallel.sentences], donor_tokenizer)),
        words=(Flat(ours), Flat(our_words), Flat(theirs), Flat(their_words)),
        mono={language: Flat(plain(part, tokenizer)) for language, part in mono.items()},
    )


@dataclass
class Side:
    """Padded rows of one model: ids, mask, segment and unit of every token, all (N,T); a unit of -1 is none."""

    ids: np.ndarray
    mask: np.ndarray
    types: np.ndarray
    units: np.ndarray

    def by_length(self, least: int) -> list[Side]:
        """The same rows in parts of like length, each no wider than its longest and of ``least`` tokens or more."""
        lengths = self.mask.sum(1)
        order = np.argsort(lengths, kind="stable")
        parts, at, tokens = [], 0, 0
        for i, row in enumerate(order):
            if tokens >= least and lengths[row] > 1.1 * lengths[order[at]]:
                parts.append(order[at:i])
                at, tokens = i, 0
            tokens += int(lengths[row])
        if parts and tokens < least:
            at -= len(parts[-1])
            parts.pop()
        parts.append(order[at:])
        return [
            Side(*(one[rows, : lengths[rows].max()] for one in (self.ids, self.mask, self.types, self.units)))
            for rows in parts
        ]


@dataclass
class Distillation:
    """A batch: student's and donor's rows, and for each student's unit the donor's; `whole` marks sentences.

    Attributes:
        student: rows in any language.
        donor: the English rows; fewer where several languages share one.
        target: donor's unit of each student's unit (U,).
        whole: units that are sentences (U,): these also have to be told apart from each other.
        donor_units: number of the donor's units.
    """

    student: Side
    donor: Side
    target: np.ndarray
    whole: np.ndarray
    donor_units: int


def pad(rows: Sequence[tuple[list[int], list[int], list[int]]], pad_id: int) -> Side:
    """Rows of (ids, segments, units) to one `Side`."""
    width = max(len(row[0]) for row in rows)
    ids = np.full((len(rows), width), pad_id, np.int64)
    types = np.zeros((len(rows), width), np.int64)
    units = np.full((len(rows), width), NO_UNIT, np.int64)
    for i, (one, segments, parts) in enumerate(rows):
        ids[i, : len(one)], types[i, : len(one)], units[i, : len(one)] = one, segments, parts
    mask = np.zeros((len(rows), width), np.int64)
    for i, row in enumerate(rows):
        mask[i, : len(row[0])] = 1
    return Side(ids, mask, types, units)


class Drawer:
    """Draws batches of about the same number of tokens, rows of like length together, for one thread."""

    def __init__(
        self, text: Text, *, seed: int, thread: int, batch_tokens: int, exponent: float, donor_ids: tuple[int, int, int]
    ) -> None:
        self.text, self.batch_tokens, self.exponent, self.donor_ids = text, batch_tokens, exponent, donor_ids
        self.rng = np.random.default_rng([seed, thread])
        other = np.flatnonzero(text.language != text.languages.index("en"))
        counts = np.bincount(text.language[other], minlength=len(text.languages)).astype(float)
        per_language = np.where(counts > 0, np.maximum(counts, 1) ** exponent, 0.0)
        weight = (per_language / np.maximum(counts, 1))[text.language[other]]
        english = np.flatnonzero(text.language == text.languages.index("en"))
        self.rows = np.concatenate([other, english])
        self.weight = np.concatenate([weight / weight.sum() * 0.92, np.full(len(english), 0.08 / len(english))])
        self.cumulative = np.cumsum(self.weight)
        self.queue: list[np.ndarray] = []

    def state(self) -> dict[str, Any]:
        """Where drawing stands: what a later process needs to go on."""
        return {"rng": self.rng.bit_generator.state, "queue": [*self.queue]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`: the batches to come are those that would have come (older checkpoints hold no queue)."""
        self.rng.bit_generator.state, self.queue = state["rng"], [*state.get("queue", ())]

    def draw(self, number: int) -> np.ndarray:
        """Row numbers, languages by their tempered share."""
        return self.rows[np.searchsorted(self.cumulative, self.rng.random(number) * self.cumulative[-1])]

    def _partner(self, row: int) -> int | None:
        """A row of the next sentence of the same source, mostly in the same language."""
        text = self.text
        following = int(text.sentence[row]) + 1
        if following + 1 >= len(text.first) or text.sources[following] != text.sources[following - 1]:
            return None
        rows = np.arange(text.first[following], text.first[following + 1])
        same = rows[text.language[rows] == text.language[row]]
        return int(same[0] if len(same) and self.rng.random() < 0.7 else self.rng.choice(rows))

    def distillation(self) -> Distillation:
        """The next batch of distillation."""
        if not self.queue:
            self.queue = self._chunk()
        return self._assemble(self.queue.pop())

    def _chunk(self) -> list[np.ndarray]:
        """Plans (form, row, partner) of many rows, by length, cut into batches, in random order."""
        text, number = self.text, 6000
        forms = self.rng.choice(3, size=number, p=list(SHARES.values()))
        rows = self.draw(number)
        partners = np.full(number, -1)
        lengths = text.ids.ends[rows + 1] - text.ids.ends[rows]
        for i in np.flatnonzero(forms == 1):
            partner = self._partner(int(rows[i]))
            if partner is None:
                forms[i] = 0
            else:
                partners[i] = partner
                lengths[i] += len(text.ids[partner]) + 2
        words = np.flatnonzero(forms == 2)
        rows[words] = self.rng.integers(len(text.words[0]), size=len(words))
        lengths[words] = [len(text.words[0][int(i)]) for i in rows[words]]
        order = np.argsort(lengths + self.rng.random(number) * 3, kind="stable")
        batches, at, widest = [], 0, 0
        for i in range(number):
            widest = max(widest, int(lengths[order[i]]) + 2)
            if (i - at + 1) * widest > self.batch_tokens and i > at:
                batches.append(order[at:i])
                at, widest = i, int(lengths[order[i]]) + 2
        batches.append(order[at:])
        plans = np.stack([forms, rows, partners], 1)
        return [plans[batches[i]] for i in self.rng.permutation(len(batches))]

    def _assemble(self, plans: np.ndarray) -> Distillation:
        text, (cls, sep, donor_pad) = self.text, self.donor_ids
        student, donor, target, whole = [], [], [], []
        known: dict[tuple[int, int, int], int] = {}
        units = donor_units = 0
        for form, row, partner in plans:
            form, row, partner = int(form), int(row), int(partner)
            if form == 2:
                ours, our_words, theirs, their_words = (part[row] for part in text.words)
                common = min(int(our_words.max(initial=-1)), int(their_words.max(initial=-1))) + 1
                if not common:
                    continue
                student.append(
                    (
                        [BOS, *ours, EOS],
                        [0] * (len(ours) + 2),
                        [NO_UNIT, *np.where(our_words < common, our_words + units, NO_UNIT), NO_UNIT],
                    )
                )
                donor.append(
                    (
                        [cls, *theirs, sep],
                        [0] * (len(theirs) + 2),
                        [NO_UNIT, *np.where(their_words < common, their_words + donor_units, NO_UNIT), NO_UNIT],
                    )
                )
                target += range(donor_units, donor_units + common)
                whole += [False] * common
                units += common
                donor_units += common
                continue
            a = text.ids[row]
            sentence = int(text.sentence[row])
            if form == 0:
                student.append(([BOS, *a, EOS], [0] * (len(a) + 2), [units] * (len(a) + 2)))
                name = (sentence, -1, 0)
                if name not in known:
                    e = text.donor[sentence]
                    donor.append(([cls, *e, sep], [0] * (len(e) + 2), [donor_units] * (len(e) + 2)))
                    known[name] = donor_units
                    donor_units += 1
                target.append(known[name])
                whole.append(True)
                units += 1
                continue
            b = text.ids[partner]
            other = int(text.sentence[partner])
            student.append(
                (
                    [BOS, *a, EOS, EOS, *b, EOS],
                    [0] * (len(a) + len(b) + 4),
                    [NO_UNIT, *[units] * len(a), NO_UNIT, NO_UNIT, *[units + 1] * len(b), NO_UNIT],
                )
            )
            name = (sentence, other, 1)
            if name not in known:
                e, f = text.donor[sentence], text.donor[other]
                donor.append(
                    (
                        [cls, *e, sep, *f, sep],
                        [0] * (len(e) + 2) + [1] * (len(f) + 1),
                        [NO_UNIT, *[donor_units] * len(e), NO_UNIT, *[donor_units + 1] * len(f), NO_UNIT],
                    )
                )
                known[name] = donor_units
                donor_units += 2
            target += [known[name], known[name] + 1]
            whole += [True, True]
            units += 2
        return Distillation(
            pad(student, PAD), pad(donor, donor_pad), np.asarray(target), np.asarray(whole), donor_units
        )

    def masked(self, *, mask_id: int, size: int) -> tuple[Side, np.ndarray]:
        """Rows for the masked objective and their labels (N,T): translation pairs, and running text.

        Two thirds of the rows are a sentence beside its translation, most of one side hidden; the rest is running text.
        """
        text = self.text
        plans: list[tuple[list[int], list[float]]] = []
        total = 0
        for row in self.draw(400):
            if self.rng.random() < 0.34:
                language = text.languages[int(text.language[row])]
                lines = text.mono.get(language)
                if lines is None or not len(lines):
                    continue
                ids = lines[int(self.rng.integers(len(lines)))]
                plans.append(([BOS, *ids, EOS], [0.0, *[0.15] * len(ids), 0.0]))
            else:
                sentence = int(text.sentence[row])
                rows = np.arange(text.first[sentence], text.first[sentence + 1])
                other = int(self.rng.choice(rows))
                a, b = text.ids[int(row)], text.ids[other]
                x, y = (0.45, 0.08) if self.rng.random() < 0.5 else (0.08, 0.45)
                if other == row:
                    x = y = 0.15
                plans.append(([BOS, *a, EOS, EOS, *b, EOS], [0.0, *[x] * len(a), 0.0, 0.0, *[y] * len(b), 0.0]))
        plans.sort(key=lambda plan: len(plan[0]))
        start = int(self.rng.integers(max(1, len(plans) - 60)))
        rows_in: list[tuple[list[int], list[float]]] = []
        for plan in plans[start:]:
            total = (len(rows_in) + 1) * len(plan[0])
            if total > self.batch_tokens and rows_in:
                break
            rows_in.append(plan)
        side = pad([(ids, [0] * len(ids), [0] * len(ids)) for ids, _ in rows_in], PAD)
        rate = np.zeros(side.ids.shape)
        for i, (_, rates) in enumerate(rows_in):
            rate[i, : len(rates)] = rates
        hide = self.rng.random(rate.shape) < rate
        if not hide.any():
            hide[0, 1] = True
        labels = np.where(hide, side.ids, NO_UNIT)
        dice = self.rng.random(rate.shape)
        side.ids[hide & (dice < 0.8)] = mask_id
        swap = hide & (dice >= 0.8) & (dice < 0.9)
        side.ids[swap] = self.rng.integers(4, size - 1, int(swap.sum()))
        return side, labels


def load_text(folder: Path) -> Text | None:
    """Text encoded by an earlier process; None when there is none."""
    path = folder / "text.npz"
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as found:
        arrays = dict(found)

    def flat(name: str) -> Flat:
        out = Flat([])
        out.ends, out.flat = arrays[f"{name}/ends"], arrays[f"{name}/flat"]
        return out

    return Text(
        ids=flat("ids"),
        sentence=arrays["sentence"],
        language=arrays["language"],
        languages=[str(one) for one in arrays["languages"]],
        first=arrays["first"],
        sources=arrays["sources"],
        donor=flat("donor"),
        words=(flat("words0"), flat("words1"), flat("words2"), flat("words3")),
        mono={
            name.split("/")[1]: flat(name[:-5]) for name in arrays if name.startswith("mono/") and name[-5:] == "/ends"
        },
    )


def save_text(text: Text, folder: Path) -> None:
    """Keep encoded text for the next process."""
    parts = {"ids": text.ids, "donor": text.donor, **{f"words{i}": part for i, part in enumerate(text.words)}}
    parts |= {f"mono/{language}": part for language, part in text.mono.items()}
    arrays: dict[str, Any] = {}
    for name, part in parts.items():
        arrays[f"{name}/ends"], arrays[f"{name}/flat"] = part.ends, part.flat
    for name in ("sentence", "language", "first", "sources"):
        arrays[name] = getattr(text, name)
    arrays["languages"] = np.asarray(text.languages)
    temporary = folder / "tmp-text.npz"
    np.savez(temporary, **arrays)
    temporary.replace(folder / "text.npz")
