"""Word-per-line files: two columns (PAN-X, UDPOS as XTREME writes them) and CoNLL-U (Universal Dependencies)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from adapters_xling.tasks.rows import Raw

from . import lines, reader

_ID, _HEAD = 0, 6
_RANGE = re.compile(r"\d+-\d+")
_WITHHELD = "_"
_DOCUMENT = "-DOCSTART-"
_COMMENTS = ("sent_id", "text", "newdoc", "newpar")
"""What comments of CoNLL-U begin with."""
_JOINER = "\u200c"

_PRECEDENCE = {
    "es": "VERB AUX PRON ADP DET",
    "fr": "VERB AUX PRON NOUN ADJ ADV ADP DET PART SCONJ CONJ",
    "it": "VERB AUX ADV PRON ADP DET INTJ",
}
_PRECEDENCE_ELSEWHERE = "VERB NOUN PROPN PRON ADJ NUM ADV INTJ AUX ADP DET PART CCONJ SCONJ X PUNCT"
"""Which part of a written word lends it its tag when several stand equally high in the tree: ud-conversion-tools, which
XTREME calls with the language's code."""


class Token(NamedTuple):
    """A line of a sentence: its id and head as written (CoNLL-U), word and tag."""

    id: str
    word: str
    tag: str
    head: str = ""


@reader("conll", options=("word", "tag", "conllu", "fused", "strip_language"))
def read(files: Sequence[Path], *, options: Mapping[str, Any], language: str) -> Iterator[Raw]:
    """Read sentences of one word per line, separated by blank lines.

    A row's number is that of its sentence. A line with too few columns rejects its sentence; a sentence in which every
    line lacks just the tag has none (XTREME's test files). Lines that begin with ``#`` and a blank, and ``-DOCSTART-``,
    are no words.

    Options:
        word: column of the word, counted from 0 (CoNLL-U: 1).
        tag: column of the tag, counted from 0 (CoNLL-U: 3); -1 is the last.
        conllu: skip comment lines, empty nodes (``1.1``) and multi-word tokens (``1-2``), whose parts are the words;
            default: by suffix.
        fused: of a CoNLL-U file, take multi-word tokens as they are written (``zum``) instead of their parts, and
            prepare sentences as XTREME does; see `fuse` and `as_xtreme`.
        strip_language: take the ``xx:`` of the WikiANN release off every word.
    """
    for file in files:
        conllu = bool(options.get("conllu", file.suffix == ".conllu"))
        word_column, tag_column = options.get("word", int(conllu)), options.get("tag", 3 if conllu else 1)
        fused = conllu and bool(options.get("fused"))
        least = max(word_column, tag_column, _HEAD if fused else 0) + 1
        prefix = f"{language}:" if options.get("strip_language") else ""
        tokens: list[Token] = []
        number, broken, tagless = 0, "", 0
        for _, line in chain(lines(file), ((0, ""),)):
            if not line.strip():
                if tokens or broken or tagless:
                    number += 1
                    yield _row(file, number, tokens, broken, tagless, language if fused else None)
                tokens, broken, tagless = [], "", 0
                continue
            cells = line.split("\t")
            if line.startswith("#") if conllu else _says_nothing(cells):
                continue
            if conllu and not cells[_ID].isdecimal() and not (fused and _RANGE.fullmatch(cells[_ID])):
                continue
            if len(cells) < least:
                if not conllu and len(cells) == tag_column == word_column + 1:
                    tagless += 1
                    tokens.append(Token("", cells[word_column].removeprefix(prefix), ""))
                else:
                    broken = f"a line of {len(cells)} columns instead of {least}"
                continue
            word, tag = cells[word_column].removeprefix(prefix), cells[tag_column]
            tokens.append(Token(cells[_ID], word, tag, cells[_HEAD]) if fused else Token("", word, tag))


def _says_nothing(cells: Sequence[str]) -> bool:
    """Whether a line is a comment or the mark of a document; a word ``#`` with its tag is none."""
    commented = cells[0] == "#" and cells[1:2] and cells[1] in _COMMENTS  # whose blanks somebody made tabs
    return cells[0].startswith("# ") or cells[0] == _DOCUMENT or bool(commented)


def _row(file: Path, number: int, tokens: list[Token], broken: str, tagless: int, fused: str | None) -> Raw:
    """One sentence; `fused` is the language its written words are put together for, or None."""
    if 0 < tagless < len(tokens):  # a tag is missing here and there: the sentence is torn
        tokens = [token for token in tokens if token.tag]
        broken = broken or "a line without its last column, the tag"
    reason: str | None = broken or None
    if fused is not None and reason is None:
        tokens, reason = as_xtreme(fuse(tokens, fused))
    tags = [] if tagless and reason is None else [token.tag for token in tokens]
    return Raw(str(file), number, {"words": [token.word for token in tokens], "tags": tags}, reason)


def fuse(tokens: Sequence[Token], language: str) -> list[Token]:
    """Put multi-word tokens in the place of their parts: ``zu dem`` (``1-2 zum``) becomes ``zum``.

    The written word gets the tag of the part nearest to the root; of several equally near the one whose tag comes first
    in the language's order. Source: ud-conversion-tools, with the flags of XTREME's download script.
    """
    ranges = {token.id.partition("-")[0]: token for token in tokens if "-" in token.id}
    words = {token.id: token for token in tokens if "-" not in token.id}
    result: list[Token] = []
    until = 0
    for token in words.values():
        if int(token.id) <= until:
            continue
        whole = ranges.get(token.id)
        if whole is None:
            result.append(token)
            continue
        until = int(whole.id.partition("-")[2])
        parts = [words[str(i)] for i in range(int(token.id), until + 1) if str(i) in words]
        result.append(_head_of(parts, words, language)._replace(word=whole.word))
    return result


def _head_of(parts: Sequence[Token], words: Mapping[str, Token], language: str) -> Token:
    order = _PRECEDENCE.get(language, _PRECEDENCE_ELSEWHERE).split()
    depths = [_depth(part, words) for part in parts]
    highest = [part for part, depth in zip(parts, depths, strict=True) if depth == min(depths)]
    return min(highest, key=lambda part: order.index(part.tag) if part.tag in order else len(order))


def _depth(token: Token, words: Mapping[str, Token]) -> int:
    """Words between a word and the root of its sentence; a circle ends where it closes."""
    seen = {token.id}
    while token.head in words and token.head not in seen:
        token = words[token.head]
        seen.add(token.id)
    return len(seen) - 1


def as_xtreme(tokens: Sequence[Token]) -> tuple[list[Token], str | None]:
    """Prepare a sentence as XTREME does: blanks and zero-width non-joiners leave words; a sentence whose words are all,
    or all but one, withheld (``_``) is turned away, with the reason.
    """
    withheld = sum(token.word == _WITHHELD for token in tokens)
    cleaned = [token._replace(word=token.word.replace(_JOINER, "").replace(" ", "")) for token in tokens]
    return cleaned, "words are withheld (_)" if withheld and withheld >= len(tokens) - 1 else None
