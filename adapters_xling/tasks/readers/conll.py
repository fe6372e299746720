"""Word-per-line files: two columns (PAN-X, UDPOS as XTREME writes them) and CoNLL-U (Universal Dependencies)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from adapters_xling.tasks.rows import Raw

from . import lines, reader


@reader("conll", options=("word", "tag", "conllu", "strip_language"))
def read(files: Sequence[Path], *, options: Mapping[str, Any], language: str) -> Iterator[Raw]:
    """Read sentences of one word per line, separated by blank lines.

    A row's number is that of its sentence. A line with too few columns rejects its sentence.

    Options:
        word: column of the word, counted from 0 (CoNLL-U: 1).
        tag: column of the tag, counted from 0 (CoNLL-U: 3); -1 is the last.
        conllu: skip comment lines, multi-word token lines (``1-2``) and empty nodes (``1.1``); default: by suffix.
        strip_language: take the ``xx:`` of the WikiANN release off every word.
    """
    for file in files:
        conllu = bool(options.get("conllu", file.suffix == ".conllu"))
        word_column, tag_column = options.get("word", int(conllu)), options.get("tag", 3 if conllu else 1)
        prefix = f"{language}:" if options.get("strip_language") else ""
        words: list[str] = []
        tags: list[str] = []
        number, broken = 0, ""
        for _, line in chain(lines(file), ((0, ""),)):
            if not line.strip():
                if words or broken:
                    number += 1
                    yield Raw(str(file), number, {"words": words, "tags": tags}, broken or None)
                words, tags, broken = [], [], ""
                continue
            if conllu and line.startswith("#"):
                continue
            cells = line.split("\t")
            if conllu and not cells[0].isdigit():
                continue
            if len(cells) <= max(word_column, tag_column):
                broken = f"a line of {len(cells)} columns instead of {max(word_column, tag_column) + 1}"
                continue
            words.append(cells[word_column].removeprefix(prefix))
            tags.append(cells[tag_column])
