"""Sentence retrieval files: aligned lines (Tatoeba) and two pools with a list of gold pairs (BUCC)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters_xling.errors import ConfigError, DataError
from adapters_xling.tasks.rows import Raw

from . import lines, reader

MIN_SORTED = 50
"""So many lines are in alphabetical order only because somebody sorted them."""
_BLANK = "blank text, here or in its translation"


@reader("aligned", options=("from_line",))
def read_aligned(files: Sequence[Path], *, options: Mapping[str, Any], language: str) -> Iterator[Raw]:
    """Read two files of which line n of one translates line n of the other: the queries', then the corpus'.

    Queries in alphabetical order are XTREME's: its download script sorts the English lines so that nobody knows which
    sentence translates which. They get no matches. A pair with a blank side is left out.

    Options:
        from_line: first line that counts, from 1 (lines before it are another split's).

    Raises:
        DataError: where the files differ in length: every later pair would be wrong.
        ConfigError: for a first line that is no number from 1.
    """
    if len(files) != 2:
        raise ConfigError(f"reader 'aligned' wants two files, queries and corpus; the task names {len(files)}")
    query_file, corpus_file = files
    queries, corpus = list(lines(query_file)), list(lines(corpus_file))
    if len(queries) != len(corpus):
        raise DataError(
            f"{query_file} has {len(queries)} lines, {corpus_file} has {len(corpus)}: they are not aligned line by line"
        )
    first = options.get("from_line", 1)
    if isinstance(first, bool) or not isinstance(first, int) or first < 1:
        raise ConfigError(f"reader 'aligned': from_line is {first!r}; give the number of a line, from 1")
    queries, corpus = queries[first - 1 :], corpus[first - 1 :]
    texts = [line for _, line in queries]
    shuffled = len(texts) >= MIN_SORTED and texts == sorted(texts)
    blank = {number for number, line in (*queries, *corpus) if not line.strip()}
    for number, line in queries:
        values: dict[str, Any] = {"id": f"q{number}", "text": line, "side": "query", "group": str(number)}
        values["matches"] = () if shuffled else (f"c{number}",)
        yield Raw(str(query_file), number, values, _BLANK if number in blank else None)
    for number, line in corpus:
        values = {"id": f"c{number}", "text": line, "side": "corpus", "group": str(number)}
        yield Raw(str(corpus_file), number, values, _BLANK if number in blank else None)


@reader("bitext")
def read_bitext(files: Sequence[Path], *, options: Mapping[str, Any], language: str) -> Iterator[Raw]:
    """Read BUCC's three files: query sentences and corpus sentences as ``id TAB sentence``, gold as ``id TAB id``.

    Without the third file nothing is known to match (XTREME's test sets, whose gold its download script removes). The
    two sentences of a gold pair share their group, so that a partition keeps pairs together.

    Raises:
        DataError: for a gold pair whose sentence is in neither pool, or a line that is not two columns.
    """
    if len(files) not in (2, 3):
        raise ConfigError(
            f"reader 'bitext' wants three files, queries, corpus and gold (or two, without gold); the task names "
            f"{len(files)}"
        )
    query_file, corpus_file, *gold_files = files
    queries, corpus = _pool(query_file), _pool(corpus_file)
    matches: dict[str, list[str]] = defaultdict(list)
    groups: dict[str, str] = {}
    for gold_file in gold_files:
        for number, (query, target) in enumerate(_pairs(gold_file), start=1):
            for identifier, pool, file in ((query, queries, query_file), (target, corpus, corpus_file)):
                if identifier not in pool:
                    raise DataError(f"{gold_file}: line {number}: {identifier!r} is not an id of {file}")
            matches[query].append(target)
            groups[target] = groups.setdefault(query, groups.get(target, query))
    for file, pool, side in ((query_file, queries, "query"), (corpus_file, corpus, "corpus")):
        for number, (identifier, line) in enumerate(pool.items(), start=1):
            values: dict[str, Any] = {"id": identifier, "text": line, "side": side}
            values["group"] = groups.get(identifier, identifier)
            if side == "query":
                values["matches"] = tuple(matches.get(identifier, ()))
            yield Raw(str(file), number, values)


def _pool(file: Path) -> dict[str, str]:
    pool: dict[str, str] = {}
    for number, (identifier, sentence) in enumerate(_pairs(file), start=1):
        if identifier in pool:
            raise DataError(f"{file}: line {number}: id {identifier!r} is given twice")
        pool[identifier] = sentence
    return pool


def _pairs(file: Path) -> Iterator[tuple[str, str]]:
    for number, line in lines(file):
        cells = line.split("\t")
        if len(cells) != 2:
            raise DataError(f"{file}: line {number} has {len(cells)} columns instead of 2 (id TAB sentence)")
        yield cells[0], cells[1]
