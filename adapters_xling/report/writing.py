"""All files of a report in one folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from adapters_xling.paths import atomic_write
from adapters_xling.report.page import html
from adapters_xling.report.scores import EntryFacts, RunInfo
from adapters_xling.report.tables import csv, markdown
from adapters_xling.spec import Score


def write(
    scores: Iterable[Score], out_dir: Path, *, info: RunInfo, facts: Mapping[str, EntryFacts] | None = None
) -> dict[str, Path]:
    """Write `report.html`, `report.md` and `scores.csv`, each atomically, after all three could be rendered.

    Returns:
        Paths by ``"html"``, ``"markdown"`` and ``"csv"``.

    Raises:
        DataError: when the scores cannot be put in one table; nothing is written then.
    """
    scores = list(scores)
    contents = {
        "html": ("report.html", html(scores, info=info, facts=facts)),
        "markdown": ("report.md", markdown(scores, info=info, facts=facts)),
        "csv": ("scores.csv", csv(scores, facts=facts)),
    }
    paths = {}
    for kind, (name, content) in contents.items():
        paths[kind] = out_dir / name
        atomic_write(paths[kind], content.encode())
    return paths
