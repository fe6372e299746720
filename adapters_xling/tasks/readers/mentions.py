"""Mewsli-X: mentions of entities in news articles, and the descriptions of a million entities to search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters_xling.errors import ConfigError, DataError
from adapters_xling.tasks.rows import Raw

from . import reader
from .table import read as read_table


@reader("mentions")
def read(files: Sequence[Path], *, options: Mapping[str, Any], language: str) -> Iterator[Raw]:
    """Read two JSON-lines files of Mewsli-X: mentions in articles, and the entities that are searched.

    A query is ``mention: sentence with { mention } marked``; a candidate is the entity's description. Both follow the
    baseline of XTREME-R (utils_mewslix.py). Articles in other languages are passed over. A mention across the border of
    sentences is rejected, and so is one of an article whose text was not filled in (the release leaves it empty; the
    authors' get-mewsli-x.sh fills it in).

    Raises:
        DataError: for a line of another layout.
    """
    if len(files) != 2:
        raise ConfigError(f"reader 'mentions' wants two files, mentions and entities; the task names {len(files)}")
    for raw in read_table(files[:1], options={"format": "jsonl"}, language=language):
        try:
            if raw.values["context"]["language"] == language:
                yield from _queries(raw)
        except (KeyError, TypeError, AttributeError) as err:
            raise DataError(f"{raw.place}: not Mewsli-X's layout (context, mentions): {err!r}") from err
    for raw in read_table(files[1:], options={"format": "jsonl"}, language=language):
        try:
            entity = str(raw.values["entity_id"])
            text = str(raw.values["description"])
            spans = raw.values["sentence_spans"]
            described = _one_line(" ".join(text[span["start"] : span["end"]] for span in spans))
        except (KeyError, TypeError) as err:
            raise DataError(
                f"{raw.place}: not Mewsli-X's layout (entity_id, description, sentence_spans): {err!r}"
            ) from err
        yield raw._replace(values={"id": entity, "text": described, "side": "corpus", "group": entity})


def _queries(raw: Raw) -> Iterator[Raw]:
    """The mentions of one article, each a row of its own."""
    context = raw.values["context"]
    text = str(context["text"])
    for mention in raw.values["mentions"]:
        start, end = mention["mention_span"]["start"], mention["mention_span"]["end"]
        entity = str(mention.get("entity_id") or "")
        values: dict[str, Any] = {"id": str(mention["example_id"]), "side": "query"}
        values |= {"group": str(context["document_id"]), "matches": (entity,) if entity else ()}
        sentence = next((s for s in context["sentence_spans"] if s["start"] <= start and end <= s["end"]), None)
        if not text.strip():
            yield raw._replace(values=values, reject="the article's text is not filled in (run get-mewsli-x.sh)")
        elif text[start:end] != mention["mention_span"]["text"]:
            yield raw._replace(values=values, reject="the mention is not in the text where its span says")
        elif sentence is None:
            yield raw._replace(values=values, reject="the mention lies in no single sentence")
        else:
            left, right = text[sentence["start"] : start], text[end : sentence["end"]]
            name = text[start:end]
            yield raw._replace(values={**values, "text": _one_line(f"{name}: {left} {{ {name} }} {right}")})


def _one_line(text: str) -> str:
    """A text on one line; two blanks become one, once."""
    return " ".join(text.splitlines()).replace("  ", " ").strip()
