"""Published rows beside the report's own, where task, metric and split are the same; never mixed with them."""

from __future__ import annotations

from collections.abc import Sequence

from adapters_xling.published import MARKS, Figure, PublishedRow, PublishedTable
from adapters_xling.report.cells import Average, Cell, System, Target
from adapters_xling.report.collect import order_languages
from adapters_xling.report.formats import dagger, language_title, number, spread, target_name
from adapters_xling.report.results import Results
from adapters_xling.report.scores import RunInfo
from adapters_xling.report.sheets import ABSENT, Column, Item, Row, Section, Sheet, row_name

NOTE = (
    "The upper rows of each table were published by others, for other models and recipes; they were not rerun here and "
    "are no bar to reach."
)
LEAD = (
    "Means over all languages of a task, the source language among them, as benchmarks have it; so the rows of this "
    "report differ from its zero-shot means. A row that lacks a language has no mean here."
)

_Published = tuple[PublishedRow, tuple[Figure, ...]]


def published_section(results: Results, info: RunInfo) -> Section | None:
    """Put published rows beside the report's own; None when none were asked for.

    Only tasks, metrics and splits that this report has scores of, over all rows and languages, are shown; where there
    are none the section says so.
    """
    table = info.published
    if table is None:
        return None
    rows = [(row, tuple(table.figures(row))) for row in table.rows]
    targets = [target for target in results.targets if target.task in info.all_languages]
    sheets = _sheets(results, info, table, rows, targets)
    nothing = (
        f"No row of {table.title!r} shares a task, metric and split with scores of this report that are over all rows "
        "and languages, so none is shown."
    )
    return Section(
        "published",
        f"Published (other models, {table.split} split)",
        sheets,
        lead=LEAD if sheets else nothing,
        note=NOTE if sheets else "",
        foreign=True,
    )


def _sheets(
    results: Results, info: RunInfo, table: PublishedTable, rows: Sequence[_Published], targets: Sequence[Target]
) -> tuple[Sheet, ...]:
    means = {
        target: {system: _all_languages(results, info, target, system) for system in results.contenders}
        for target in targets
        if any(_find(found, target, "") for _, found in rows)
    }
    means = {target: parts for target, parts in means.items() if any(part.complete for part in parts.values())}
    sheets = []
    if means:
        columns = [
            Column(target_name(results, t) if t in results.headline else f"{t.task} ({t.metric})") for t in means
        ]
        theirs = _theirs(rows, [(target, "") for target in means])
        ours = [
            _ours(results, system, [part if (part := means[t][system]).complete else None for t in means])
            for system in results.contenders
        ]
        sheets.append(_sheet("published-means", table.title, table, columns, theirs, ours))
    for number_, target in enumerate(targets):
        codes = order_languages({f.language for _, found in rows for f in found if f.language and f[:3] == target})
        if codes and any(set(codes) & set(results.row(target, s)) for s in results.contenders):
            columns = [Column(code, title=language_title(code)) for code in codes]
            theirs = _theirs(rows, [(target, code) for code in codes])
            ours = [_ours(results, s, [results.row(target, s).get(code) for code in codes]) for s in results.contenders]
            title = f"{target.task} ({target.metric}), by language"
            sheets.append(_sheet(f"published-{number_}", title, table, columns, theirs, ours))
    return tuple(sheets)


def _find(figures: Sequence[Figure], target: Target, language: str) -> Figure | None:
    return next((f for f in figures if f[:3] == target and f.language == language), None)


def _all_languages(results: Results, info: RunInfo, target: Target, system: System) -> Average:
    return results.mean_over(target, system, info.all_languages[target.task])


def _theirs(rows: Sequence[_Published], places: Sequence[tuple[Target, str]]) -> list[Row]:
    """Rows that have a figure for any of the places."""
    found = []
    for row, figures in rows:
        cells = [_find(figures, target, language) for target, language in places]
        if any(cells):
            name = Item(row.model, small=(row.note,) if row.note else ())
            found.append((name, Item(row.source), *(ABSENT if f is None else _figure(f) for f in cells)))
    return found


def _figure(figure: Figure) -> Item:
    return Item(number(figure.value), figure.value, small=(f"[{figure.mark}]",), title=MARKS[figure.mark])


def _ours(results: Results, system: System, parts: Sequence[Average | Cell | None]) -> Row:
    name = row_name(results, system)
    cells = [
        ABSENT
        if part is None or part.mean is None
        else Item(number(part.mean), part.mean, mark=dagger(part), small=(spread(part).strip(),) if part.sd else ())
        for part in parts
    ]
    return (name, Item(f"this report, {system.backbone}"), *cells)


def _sheet(
    id_: str, title: str, table: PublishedTable, columns: Sequence[Column], theirs: list[Row], ours: list[Row]
) -> Sheet:
    """One table: other people's rows, a line, the report's own rows that have a number in it."""
    head = (Column("model", numeric=False), Column("source", numeric=False), *columns)
    own = tuple(row for row in ours if any(item is not ABSENT for item in row[2:]))
    named = {row[1].text for row in theirs}
    marks = {line.strip("[]") for row in theirs for item in row[2:] for line in item.small}
    legend = [f"[{mark}] {text}" for mark, text in MARKS.items() if mark in marks]
    legend += [f"{name}: {text}" for name, text in table.sources.items() if name in named]
    return Sheet(id_, title, "", head, (tuple(theirs), own), foot=". ".join(legend) + ".", foreign=True)
