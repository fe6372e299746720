"""SQuAD's nested JSON: articles, paragraphs, questions. SQuAD 1.1 and 2.0, XQuAD, MLQA and TyDiQA-GoldP share it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters_xling.errors import DataError
from adapters_xling.languages import fill
from adapters_xling.tasks.rows import Raw

from . import reader
from .table import parse


@reader("squad", options=("empty_is_impossible", "id_prefix"))
def read(files: Sequence[Path], *, options: Mapping[str, Any], language: str) -> Iterator[Raw]:
    """Read questions with their paragraph; a row's number counts questions.

    Options:
        id_prefix: only questions whose id starts with it (TyDiQA keeps nine languages in one file: ``{name}-``).
        empty_is_impossible: a question without answers has none, as in SQuAD 2.0 rows without that field.
    """
    prefix = fill(str(options.get("id_prefix", "")), language)
    for file in files:
        data = parse(file)
        number = 0
        try:
            for article in data["data"]:
                for paragraph in article["paragraphs"]:
                    for question in paragraph["qas"]:
                        values = {**question, "context": paragraph["context"], "title": article.get("title", "")}
                        number += 1
                        if not str(question.get("id", "")).startswith(prefix):
                            continue
                        yield Raw(str(file), number, values)
        except (KeyError, TypeError, AttributeError) as err:
            raise DataError(
                f"{file}: after {number} questions: not SQuAD's layout data > paragraphs > (context, qas): {err!r}"
            ) from err
