"""Parallel text for the transplant: sentences with one number in all their languages, evaluation rows left out.

A data folder holds ``pretrain.tar.xz`` and ``parallel-more.tar.xz``; `nano.corpus` unpacks them and knows the rule by
which a line equals an evaluation row. The last lines of NTREX-128 and TICO-19 are held out by line number in every
language: retrieval layers are chosen there.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nano.corpus import HOLDOUT, key

MOST_CHARACTERS = 600


@dataclass
class Parallel:
    """Sentences in several languages.

    Attributes:
        sentences: one dictionary language -> line per sentence number; always with ``en`` and another language.
        sources: where each sentence comes from: ntrex, tico19, bible or tatoeba.
        held: held-out sentences by source.
        dropped: lines left out because they equal an evaluation row.
        read: lines read.
    """

    sentences: list[dict[str, str]] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    held: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    dropped: int = 0
    read: int = 0

    @property
    def languages(self) -> list[str]:
        """All languages, sorted."""
        return sorted({language for sentence in self.sentences for language in sentence})


def digest(line: str) -> bytes:
    """What `nano.corpus.evaluation_keys` keeps of a line."""
    return hashlib.blake2b(key(line).encode(), digest_size=8).digest()


def read_parallel(folder: Path, held: set[bytes]) -> Parallel:
    """Read all parallel text below ``folder``; a line whose digest is in ``held`` is dropped and counted."""
    found = Parallel()

    def keep(line: str) -> bool:
        found.read += 1
        equal = bool(key(line)) and digest(line) in held
        found.dropped += equal
        return bool(line.strip()) and not equal

    for source in ("ntrex", "tico19", "bible"):
        base = folder / "bible" if source == "bible" else folder / "parallel" / source
        columns = {path.stem: path.read_text(encoding="utf-8").split("\n") for path in sorted(base.glob("*.txt"))}
        last = HOLDOUT.get(source, len(columns["en"]))
        for number in range(len(columns["en"])):
            row = {
                language: lines[number][:MOST_CHARACTERS]
                for language, lines in columns.items()
                if number < len(lines) and keep(lines[number])
            }
            if "en" not in row or len(row) < 2:
                continue
            if number < last:
                found.sentences.append(row)
                found.sources.append(source)
            else:
                found.held.setdefault(source, []).append(row)
    pairs: dict[str, dict[str, str]] = {}
    for path in sorted((folder / "tatoeba").glob("*.tsv")):
        for line in path.read_text(encoding="utf-8").split("\n"):
            english, _, other = line.partition("\t")
            other = other.split("\t")[0]
            if keep(english) and keep(other):
                pairs.setdefault(english, {"en": english})[path.stem] = other[:MOST_CHARACTERS]
    found.sentences += pairs.values()
    found.sources += ["tatoeba"] * len(pairs)
    return found


def monolingual(folder: Path, held: set[bytes], *, per_language: int, seed: int) -> dict[str, list[str]]:
    """At most ``per_language`` lines of running text of each language, evaluation rows left out."""
    rng = random.Random(seed)
    lines_of = {}
    for path in sorted((folder / "mono").glob("*.txt")):
        lines = [line for line in path.read_text(encoding="utf-8").split("\n") if len(line) > 8]
        chosen = rng.sample(lines, min(len(lines), per_language))
        lines_of[path.stem] = [line[:MOST_CHARACTERS] for line in chosen if digest(line) not in held]
    return lines_of


def vocabulary_text(parallel: Parallel, mono: dict[str, list[str]], *, per_language: int, seed: int) -> Iterator[str]:
    """Lines to learn pieces from: about the same number of each language, repeated where a language has few."""
    rng = random.Random(seed)
    for language in sorted({*parallel.languages, *mono}):
        lines = mono.get(language, [])[: per_language // 2]
        twins = [s[language] for s in parallel.sentences if language in s]
        lines = lines + rng.sample(twins, min(len(twins), per_language - len(lines)))
        yield from lines
        if len(lines) < per_language:
            yield from rng.choices(lines, k=min(len(lines), per_language - len(lines)))
