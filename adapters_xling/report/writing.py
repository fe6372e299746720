"""All files of a report in one folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from adapters_xling.errors import unknown
from adapters_xling.paths import atomic_write
from adapters_xling.report.latex import latex
from adapters_xling.report.page import html
from adapters_xling.report.results import Marks
from adapters_xling.report.scores import EntryFacts, RunInfo
from adapters_xling.report.sheets import Section
from adapters_xling.report.tables import csv, markdown, text_table
from adapters_xling.spec import Score

FILES = {"html": "report.html", "markdown": "report.md", "latex": "report.tex", "csv": "scores.csv"}
"""Format -> name of its file."""
FORMATS = (*FILES, "text")
"""Every format there is; `text` is for a terminal and has no file."""


def render(
    format: str,
    scores: Iterable[Score],
    *,
    info: RunInfo,
    facts: Mapping[str, EntryFacts] | None = None,
    sections: Sequence[Section] = (),
    marks: Marks | None = None,
) -> str:
    """Render a report in one format.

    Raises:
        UnknownName: for a format that does not exist.
        DataError: when the scores cannot be put in one table.
    """
    if format == "html":
        return html(scores, info=info, facts=facts, sections=sections, marks=marks)
    if format == "markdown":
        return markdown(scores, info=info, facts=facts, sections=sections, marks=marks)
    if format == "latex":
        return latex(scores, info=info, facts=facts, sections=sections, marks=marks)
    if format == "csv":
        return csv(scores, facts=facts)
    if format == "text":
        return text_table(scores, info=info, facts=facts, marks=marks) + "\n"
    raise unknown("format", format, FORMATS)


def write(
    scores: Iterable[Score],
    out_dir: Path,
    *,
    info: RunInfo,
    facts: Mapping[str, EntryFacts] | None = None,
    sections: Sequence[Section] = (),
    marks: Marks | None = None,
) -> dict[str, Path]:
    """Write every file of a report (`FILES`), each atomically, after all of them could be rendered.

    Returns:
        Paths by format.

    Raises:
        DataError: when the scores cannot be put in one table; nothing is written then.
    """
    scores = list(scores)
    contents = {name: render(name, scores, info=info, facts=facts, sections=sections, marks=marks) for name in FILES}
    paths = {name: out_dir / FILES[name] for name in FILES}
    for name, content in contents.items():
        atomic_write(paths[name], content.encode())
    return paths
