"""Batches for the nano pretraining: mini scenes made on the fly, real lines read once, rows for the start vectors."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adapters_xling.tasks import mini
from adapters_xling.tasks.mini import grammar, world

from . import vocab
from .corpus import HOLDOUT, REAL_TOKENS, RealText


class Row(NamedTuple):
    """Token ids with special tokens, where the second side begins, and the masking rate of each side."""

    ids: np.ndarray
    split: int
    rates: tuple[float, float]


def bucketed(rows: list[Row], tokens: int, rng: random.Random) -> list[list[Row]]:
    """Rows of similar length in batches of at most ``tokens`` tokens, padding counted, in random order."""
    batches: list[list[Row]] = [[]]
    for row in sorted(rows, key=lambda r: len(r.ids)):
        if batches[-1] and (len(batches[-1]) + 1) * len(row.ids) > tokens:
            batches.append([])
        batches[-1].append(row)
    rng.shuffle(batches)
    return batches


class Source:
    """Draws batches; its state can be saved and restored."""

    def __init__(self, tokenizer: Any, real_dir: Path | None, held: set[bytes] | None, work: Path, args: Any) -> None:
        self.tokenizer = tokenizer
        self.args = args
        self.rng = random.Random(args.seed)
        self.masks = np.random.default_rng(args.seed)
        self.waiting: dict[str, list[list[Row]]] = {"mini": [], "real": []}
        self.real_dir = real_dir
        real = RealText()
        if real_dir is not None:
            stored = work / f"lines-{args.lines_per_language}.npz"
            real = RealText.read(real_dir, held or set(), stored, self.encode, args.lines_per_language, args.seed)
            print(
                f"real text: {sum(map(len, real.mono.values()))} lines, {len(real.aligned)} aligned groups, "
                f"{real.dropped} lines equal to evaluation rows dropped",
                flush=True,
            )
        self.mono, self.aligned, self.dropped = real.mono, real.aligned, real.dropped

    def shard(self, number: int) -> Source:
        """The same text, drawn from with random numbers of its own: one for each thread."""
        new = copy.copy(self)
        new.rng = random.Random(f"{self.args.seed} {number}")
        new.masks = np.random.default_rng([self.args.seed, number])
        new.waiting = {"mini": [], "real": []}
        return new

    def state(self) -> dict[str, Any]:
        """What ``restore`` needs."""
        return {"rng": self.rng.getstate(), "masks": self.masks.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Sets the random state; batches waiting in memory are drawn anew."""
        self.rng.setstate(state["rng"])
        self.masks.bit_generator.state = state["masks"]

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Ids without special tokens."""
        return [e.ids for e in self.tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)]

    # -- drawing ---------------------------------------------------------------------------------------------------

    def batch(self) -> tuple[str, list[Row]]:
        """A batch of rows of similar length and its kind.

        A real batch has two thirds of the tokens: its guesses are among all pieces, so that it takes as long.
        """
        kind = "real" if self.mono and self.rng.random() < self.args.real_fraction else "mini"
        if not self.waiting[kind]:
            tokens = self.args.batch_tokens if kind == "mini" else self.args.batch_tokens * 2 // 3
            rows = [self.real_row() for _ in range(150)] if kind == "real" else self.mini_rows(750)
            self.waiting[kind] = bucketed(rows, tokens, self.rng)
        return kind, self.waiting[kind].pop()

    def row(
        self, first: list[int] | np.ndarray, second: list[int] | np.ndarray | None, rates: tuple[float, float]
    ) -> Row:
        """<s> first </s></s> second </s>, or one sentence."""
        first, second = first[:REAL_TOKENS], second if second is None else second[:REAL_TOKENS]
        if second is None:
            ids = [vocab.BOS, *first, vocab.EOS]
            return Row(np.asarray(ids), len(ids), rates)
        ids = [vocab.BOS, *first, vocab.EOS, vocab.EOS, *second, vocab.EOS]
        return Row(np.asarray(ids), len(first) + 2, rates)

    def real_row(self) -> Row:
        """One line of any language, or two translations."""
        rng = self.rng
        if rng.random() < 0.5 or not self.aligned:
            lines = self.mono[rng.choice(list(self.mono))]
            return self.row(lines[rng.randrange(len(lines))], None, (0.18, 0.18))
        first, second = self.real_pair()
        rates = (0.5, 0.08) if rng.random() < 0.5 else (0.08, 0.5)
        return self.row(first, second, rates)

    def real_pair(self) -> tuple[np.ndarray, np.ndarray]:
        """Two translations of one line outside the held-out numbers."""
        rng = self.rng
        groups = list(self.aligned)
        while True:
            group = rng.choice(("ntrex", "tico19", "bible", "tatoeba", "tatoeba"))
            if group == "tatoeba":
                group = rng.choice([g for g in groups if g.startswith("tatoeba")])
            table = self.aligned[group]
            a, b = rng.sample(sorted(table), 2)
            if rng.random() < 0.5 and "en" in table and b != "en":
                a = "en"
            top = min(len(table[a]), len(table[b]), HOLDOUT.get(group, 10**9))
            if a == b or top == 0:
                continue
            i = rng.randrange(top)
            if len(table[a][i]) and len(table[b][i]):
                return table[a][i], table[b][i]

    def text(self, facts: list[world.Fact], language: str) -> str:
        """Facts as running text in random styles; sometimes with separate punctuation, as word tasks have it."""
        rng = self.rng
        tokens: list[grammar.Token] = []
        i = 0
        while i < len(facts):
            if i + 1 < len(facts) and rng.random() < 0.1:
                tokens += grammar.both(facts[i], facts[i + 1], language, rng.randrange(4), rng.randrange(4))
                i += 2
                continue
            tokens += grammar.statement(facts[i], language, rng.randrange(4))
            i += 1
        return " ".join(t.word for t in tokens) if rng.random() < 0.25 else self._join(tokens)

    @staticmethod
    def _join(tokens: list[grammar.Token]) -> str:
        text = grammar.join(tokens)
        return text.replace(".", ". ").replace("।", "। ").replace("。", "。 ").strip()

    def mini_rows(self, number: int) -> list[Row]:
        """Pairs of translations or paraphrases, scenes with one of their facts, with a question and its answer."""
        rng = self.rng
        plans: list[tuple[str, str | None, tuple[float, float]]] = []
        for _ in range(number):
            one = rng.choice(mini.LANGUAGES)
            two = one if rng.random() < 0.4 else rng.choice(mini.LANGUAGES)
            kind = rng.random()
            if kind < 0.15:
                facts = world.scene(rng, "train", rng.randint(1, 3), neg=0.2)
                if rng.random() < 0.3:
                    parts = world.askable(facts[0])
                    if parts:
                        asked = grammar.question(facts[0], rng.choice(parts), one, rng.randrange(4))
                        plans.append((grammar.join(asked), None, (0.3, 0.3)))
                        continue
                plans.append((self.text(facts, one), None, (0.25, 0.25)))
            elif kind < 0.5:
                facts = world.scene(rng, "train", rng.choice((1, 1, 2)), neg=0.2)
                other = facts[:]
                rng.shuffle(other)
                rates = (0.6, 0.08) if rng.random() < 0.5 else (0.08, 0.6)
                plans.append((self.text(facts, one), self.text(other, two), rates))
            elif kind < 0.7:
                facts = world.scene(rng, "train", rng.randint(2, 3), neg=0.25)
                fact = rng.choice(facts)
                plans.append((self.text(facts, one), self.text([fact], two), (0.05, 0.6)))
            else:
                facts = world.scene(rng, "train", rng.randint(2, 4), time=0.5)
                ready = [f for f in facts if world.askable(f)]
                if not ready:
                    continue
                fact = rng.choice(ready)
                part = rng.choice(world.askable(fact))
                asked = grammar.join(grammar.question(fact, part, one, rng.randrange(4)))
                story = self.text(facts, two)
                form = rng.random()
                if form < 0.35:
                    plans.append((asked, story, (0.5, 0.06) if rng.random() < 0.6 else (0.06, 0.4)))
                elif form < 0.7:
                    answer = [
                        t.word for t in grammar.statement(fact, one, rng.randrange(4), upper=False) if t.slot == part
                    ]
                    story = self.text(facts, two)
                    plans.append((story + " " + asked, " ".join(answer), (0.04, 1.0)))
                else:
                    plans.append((story + " " + asked, self.text([fact], one), (0.05, 0.6)))
        firsts = self.encode([p[0] for p in plans])
        seconds = self.encode([p[1] or "" for p in plans])
        rows = [self.row(a, b if p[1] else None, p[2]) for a, b, p in zip(firsts, seconds, plans, strict=False)]
        while len(rows) < number:
            rows.append(rows[rng.randrange(len(rows))])
        return rows

    def pairs(self, number: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Translation pairs for the contrastive term; mini pairs come with minimal edits of each other."""
        rng = self.rng
        if self.aligned and rng.random() < self.args.real_fraction:
            out = []
            for _ in range(number // 2):
                a, b = self.real_pair()
                out.append((self._wrap(a[:48]), self._wrap(b[:48])))
            return out
        texts: list[str] = []
        while len(texts) < 2 * number:
            one, two = rng.sample(mini.LANGUAGES, 2)
            fact = world.draw(rng, "train", neg=0.15)
            group = [fact]
            if rng.random() < 0.35:
                changed = world.edit(rng, fact, "train")
                group += [changed] if changed else []
            for f in group:
                for language in (one, two):
                    texts.append(grammar.join(grammar.statement(f, language, rng.randrange(4))))
        ids = self.encode(texts[: 2 * number])
        return [(self._wrap(ids[i]), self._wrap(ids[i + 1])) for i in range(0, 2 * number, 2)]

    @staticmethod
    def _wrap(ids: Any) -> np.ndarray:
        return np.asarray([vocab.BOS, *ids, vocab.EOS])

    def mini_pieces(self) -> list[int]:
        """Ids of every piece that a mini sentence can contain, sorted."""
        words = [w for language in mini.LANGUAGES for w in mini.vocabulary(language)]
        marks = [".", "?", "¿", "।", "。", "？", "—"]
        glued = [f"a{m}" for m in marks] + [f"¿{w}" for w in mini.vocabulary("es")]
        return sorted({i for ids in self.encode(words + glued) for i in ids} - {vocab.UNK})

    # -- start vectors ---------------------------------------------------------------------------------------------

    def columns(self) -> list[list[np.ndarray]]:
        """One entry per sentence number: the ids of all its translations."""
        rng = random.Random(self.args.seed + 1)
        out: list[list[np.ndarray]] = []
        texts, shape = [], []
        for _ in range(9000):
            facts = world.scene(rng, "train", rng.choice((1, 1, 2)), neg=0.15, time=0.4)
            for language in mini.LANGUAGES:
                tokens = [t for f in facts for t in grammar.statement(f, language, rng.randrange(4))]
                parts = world.askable(facts[0])
                if parts and rng.random() < 0.2:
                    tokens += grammar.question(facts[0], parts[0], language)
                texts.append(" ".join(t.word for t in tokens))
            shape.append(len(mini.LANGUAGES))
        ids = self.encode(texts)
        at = 0
        for n in shape:
            out.append([np.asarray(x) for x in ids[at : at + n]])
            at += n
        for group, table in self.aligned.items():
            top = min(max(len(t) for t in table.values()), HOLDOUT.get(group, 10**9))
            for i in range(top):
                column = [t[i] for t in table.values() if i < len(t) and len(t[i])]
                if len(column) > 1:
                    out.append(column)
        return out
