"""The HTML report: one file that asks the network for nothing, readable on a desk and on a phone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xling.report.beside import published_section
from adapters_xling.report.cells import Target
from adapters_xling.report.chart import BYTES, PARAMETERS, cost_quality
from adapters_xling.report.collect import collect, order_languages
from adapters_xling.report.costs import cost_section
from adapters_xling.report.effects import effect_section
from adapters_xling.report.formats import language_title, target_name
from adapters_xling.report.heat import delta_map, score_map
from adapters_xling.report.plots import language_plot
from adapters_xling.report.prose import HOW_TO_READ, doubts, facts_line
from adapters_xling.report.results import Marks, Results
from adapters_xling.report.scores import EntryFacts, RunInfo
from adapters_xling.report.sheets import Section
from adapters_xling.report.summary import floors_sheet, highlights, seeds_sheet, summary_sheet
from adapters_xling.spec import Score

if TYPE_CHECKING:
    import jinja2


def html(
    scores: Iterable[Score],
    *,
    info: RunInfo,
    facts: Mapping[str, EntryFacts] | None = None,
    sections: Sequence[Section] = (),
    marks: Marks | None = None,
) -> str:
    """Render scores as one self-contained HTML file; the same input gives the same bytes.

    Everything that comes from data is escaped, and the page's own content policy forbids any load.

    Args:
        scores: any scores.
        info: title, notes, headline metrics, published rows.
        facts: by entry key.
        sections: more tables, drawn after the effect of the intermediate task.
        marks: of differences that comparisons found.
    """
    results = collect(scores, info=info, facts=facts, marks=marks)
    charts = [chart for axis in (PARAMETERS, BYTES) if (chart := cost_quality(results, axis))]
    return _template().render(
        info=info,
        meta=facts_line(results, info),
        how_to_read=HOW_TO_READ,
        overall_name=results.overall_name,
        highlights=highlights(results),
        summary=summary_sheet(results),
        compared=[section for section in (effect_section(results), *sections) if section],
        charts=charts,
        costs=cost_section(results),
        targets=[_target(results, target, index) for index, target in enumerate(results.targets)],
        published=published_section(results, info),
        floors=floors_sheet(results),
        seeds=seeds_sheet(results),
        doubts=doubts(results),
        languages=_languages(results),
    )


@cache
def _template() -> jinja2.Template:
    import jinja2  # not needed by the other outputs

    folder = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=folder, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2")


def _target(results: Results, target: Target, index: int) -> dict[str, Any]:
    """All that is drawn of one target; the plot only of the one that stands for its task."""
    return {
        "id": f"target-{index}",
        "name": target_name(results, target),
        "map": score_map(results, target, f"target-{index}-scores"),
        "deltas": delta_map(results, target, f"target-{index}-deltas"),
        "plot": language_plot(results, target) if target in results.headline else None,
    }


def _languages(results: Results) -> list[dict[str, str]]:
    codes = order_languages(code for codes in results.languages.values() for code in codes)
    return [{"code": code, "title": language_title(code)} for code in codes]
