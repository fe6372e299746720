r"""The report as LaTeX tables to be `\input` into a paper: booktabs rules, ± over seeds, marks, captions, labels.

Wide tables are cut between their bands (tasks, scripts) into several, so that each fits a page.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from adapters_xling.report.beside import published_section
from adapters_xling.report.collect import collect
from adapters_xling.report.costs import cost_section
from adapters_xling.report.effects import effect_section
from adapters_xling.report.formats import target_name
from adapters_xling.report.heat import delta_map, score_map
from adapters_xling.report.prose import HOW_TO_READ, facts_line
from adapters_xling.report.results import Marks
from adapters_xling.report.scores import EntryFacts, RunInfo
from adapters_xling.report.sheets import Item, Row, Section, Sheet
from adapters_xling.report.summary import floors_sheet, summary_sheet
from adapters_xling.spec import Score

TEXT_WIDTH_PT = 440.0
"""Width of a table at most: that of a two-column page, and of one column with narrow margins."""
SIGN_PT, SMALL_SIGN_PT, SPACE_PT = 3.9, 3.3, 3.0
"""Width of a sign in the tables' type, of a sign in the smaller type beside it, and of the space beside a column."""
MOST_FLOATS = 12
"""Tables between two page ends: TeX gives up when too many wait for a place."""
MOST_ROWS = 45
"""Rows of a table; more do not fit a page's height."""

HEAD = r"""% Tables of a report; \input this file into a document that uses the package booktabs.
% Letters beyond Latin and Greek in names or titles need LuaLaTeX or XeLaTeX and a font that has them."""

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    "·": r"$\cdot$",
    "†": r"$^{\dagger}$",
    "*": r"$^{*}$",
    "±": r"$\pm$",
    "−": r"$-$",
    "▼": r"$\downarrow$",
    "+": r"$+$",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "←": r"$\leftarrow$",
    "→": r"$\rightarrow$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
}


def latex(
    scores: Iterable[Score],
    *,
    info: RunInfo,
    facts: Mapping[str, EntryFacts] | None = None,
    sections: Sequence[Section] = (),
    marks: Marks | None = None,
) -> str:
    r"""Render scores as LaTeX tables, one `table` environment each; the same input gives the same text.

    Every caption carries the report's notes, so that no table travels without its warning.

    Args:
        scores: any scores.
        info: title, notes, headline metrics, published rows.
        facts: by entry key.
        sections: more tables, drawn after the effect of the intermediate task.
        marks: of differences that comparisons found.
    """
    results = collect(scores, info=info, facts=facts, marks=marks)
    name = re.sub(r"[^a-z0-9]+", "-", _ascii(info.title).lower()).strip("-")[:40].strip("-") or "report"
    known = "; ".join(f"{label}: {value}" for label, value in facts_line(results, info))
    parts = [HEAD, _comment(f"{info.title}. {known}"), *(_comment(line) for line in HOW_TO_READ)]
    sheets: list[tuple[str, Sheet]] = [(info.title.rstrip("."), summary_sheet(results))]
    for section in (effect_section(results), *sections):
        sheets += _of(section)
    for index, target in enumerate(results.targets):
        heading = target_name(results, target)
        sheets.append((f"{heading}, by language", score_map(results, target, f"target-{index}")))
        deltas = delta_map(results, target, f"target-{index}-delta")
        if deltas is not None:
            sheets.append((f"{heading}, Δ against no intermediate task", deltas))
    floors = floors_sheet(results)
    sheets += [("Floors", floors)] if floors else []
    sheets += [*_of(cost_section(results)), *_of(published_section(results, info))]
    warning = " ".join(info.notes)
    tables = [
        table
        for title, sheet in sheets
        for table in _tables(sheet, title=title, warning=warning, label=f"{name}:{sheet.id}")
    ]
    for at in range(0, len(tables), MOST_FLOATS):
        parts += [*([r"\clearpage"] if at else []), *tables[at : at + MOST_FLOATS]]
    return "\n\n".join(parts) + "\n"


def _of(section: Section | None) -> list[tuple[str, Sheet]]:
    """A section's sheets with headings that stand alone; its own words go into the first caption."""
    if section is None:
        return []
    found = []
    for i, sheet in enumerate(section.sheets):
        words = " ".join(text for text in (section.note, section.lead if not i else "", sheet.lead) if text)
        found.append((f"{section.title}: {sheet.title}", replace(sheet, lead=words)))
    return found


def _tables(sheet: Sheet, *, title: str, warning: str, label: str) -> Iterator[str]:
    """Draw a sheet, cut between columns and rows where a page does not hold it."""
    pieces = [(columns, bodies) for columns in _column_cuts(sheet) for bodies in _row_cuts(sheet.bodies)]
    for number, (columns, bodies) in enumerate(pieces, start=1):
        count = f" ({number} of {len(pieces)})" if len(pieces) > 1 else ""
        short = escape(f"{title}{count}")
        said = [f"{short}.", *(escape(text) for text in (sheet.lead, sheet.foot, warning) if text)]
        suffix = f"-{number}" if len(pieces) > 1 else ""
        yield "\n".join(
            [
                r"\begin{table*}[p]" if len(pieces) > 1 else r"\begin{table*}[t]",
                r"\centering\scriptsize",
                rf"\setlength{{\tabcolsep}}{{{SPACE_PT:g}pt}}",
                *_tabular(sheet, columns, bodies),
                rf"\caption[{{{short}}}]{{{' '.join(said)}}}",
                rf"\label{{tab:{label}{suffix}}}",
                r"\end{table*}",
            ]
        )


def _column_cuts(sheet: Sheet) -> list[list[int]]:
    """Columns of each table: the first in all, bands kept whole unless one alone is too wide."""
    widths = [_width_pt(sheet, i) for i in range(len(sheet.columns))]
    room = TEXT_WIDTH_PT - widths[0]
    groups: list[list[int]] = []
    for i in range(1, len(sheet.columns)):
        together = groups and sheet.bands and sheet.columns[groups[-1][-1]].band == sheet.columns[i].band
        if together and sum(widths[k] for k in groups[-1]) + widths[i] <= room:
            groups[-1].append(i)
        else:
            groups.append([i])
    cuts: list[list[int]] = []
    for group in groups:
        if cuts and sum(widths[k] for k in (*cuts[-1], *group)) <= room:
            cuts[-1] += group
        else:
            cuts.append(list(group))
    return [[0, *cut] for cut in cuts]


def _width_pt(sheet: Sheet, i: int) -> float:
    """About how wide a column is set, in points; its share of the upper heading counts too."""
    column = sheet.columns[i]
    band = len(column.band) / sum(other.band == column.band for other in sheet.columns)
    cells = (len(_said(row[i])) * SIGN_PT + len(" ".join(row[i].small)) * SMALL_SIGN_PT for row in sheet.rows)
    return max([len(column.name) * SIGN_PT, band * SIGN_PT, *cells]) + 2 * SPACE_PT


def _said(item: Item) -> str:
    return item.text + item.mark + (f" <- {item.after}" if item.after else "")


def _row_cuts(bodies: Sequence[Sequence[Row]]) -> list[list[list[Row]]]:
    """Bodies of each table, none with more rows than a page holds."""
    cuts: list[list[list[Row]]] = [[]]
    room = MOST_ROWS
    for body in bodies:
        rest = list(body)
        while rest:
            if not room:
                cuts.append([])
                room = MOST_ROWS
            cuts[-1].append(rest[:room])
            rest, room = rest[room:], max(0, room - len(cuts[-1][-1]))
    return cuts


def _tabular(sheet: Sheet, columns: Sequence[int], bodies: Sequence[Sequence[Row]]) -> Iterator[str]:
    yield rf"\begin{{tabular}}{{{''.join('r' if sheet.columns[i].numeric else 'l' for i in columns)}}}"
    yield r"\toprule"
    if any(sheet.columns[i].band for i in columns):
        yield from _bands(sheet, columns)
    yield " & ".join(escape(sheet.columns[i].name) for i in columns) + r" \\"
    for body in bodies:
        yield r"\midrule"
        for row in body:
            yield " & ".join(_name(row[i]) if i == 0 else _cell(row[i]) for i in columns) + r" \\"
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _bands(sheet: Sheet, columns: Sequence[int]) -> Iterator[str]:
    """Upper headings, each with a rule over its own columns."""
    cells, rules, at = [""], [], 2
    groups: list[list[int]] = []
    for i in columns[1:]:
        if groups and sheet.columns[groups[-1][-1]].band == sheet.columns[i].band:
            groups[-1].append(i)
        else:
            groups.append([i])
    for group in groups:
        band = sheet.columns[group[0]].band
        cells.append(rf"\multicolumn{{{len(group)}}}{{c}}{{{escape(band)}}}")
        if band:
            rules.append(rf"\cmidrule(lr){{{at}-{at + len(group) - 1}}}")
        at += len(group)
    yield " & ".join(cells) + r" \\"
    yield "".join(rules)


def _name(item: Item) -> str:
    text = escape(item.text) + (rf" $\leftarrow$ {escape(item.after)}" if item.after else "")
    return text + (f" ({escape(', '.join(item.small))})" if item.small else "")


def _cell(item: Item) -> str:
    text = escape(item.text + item.mark)
    text = rf"\textbf{{{text}}}" if item.best else text
    small = escape(" ".join(item.small))
    return text + (rf" {{\tiny {small}}}" if small else "")


def escape(text: str) -> str:
    r"""Keep given text from being taken for LaTeX, and say its signs in LaTeX.

    >>> print(escape("50 % of R&D_1 ±0.4"))
    50 \% of R\&D\_1 $\pm$0.4
    """
    return "".join(_SPECIAL.get(sign, sign) for sign in " ".join(text.split()))


def _comment(text: str) -> str:
    return "% " + " ".join(text.split())


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
