"""Tables as data: what a section of a report says, once, for every output that can draw a table.

A part of the report that is a table (costs, effects, published rows, comparisons) makes a `Sheet`; the HTML page,
Markdown and LaTeX each draw any sheet, so a new section is written once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from adapters_xling.report.cells import FLOORS, Average, System
from adapters_xling.report.formats import (
    MISSING,
    dagger,
    hole,
    intermediate_name,
    language_title,
    method_name,
    number,
    signed,
    spread,
)
from adapters_xling.report.results import Results

if TYPE_CHECKING:
    from adapters_xling.report.curves import Curves


class Column(NamedTuple):
    """A column: its heading, the heading above it and its neighbours of the same `band`, and what hovering says."""

    name: str
    band: str = ""
    numeric: bool = True
    title: str = ""


@dataclass(frozen=True)
class Item:
    """What stands in a table's cell.

    Attributes:
        text: the number or words; MISSING for what is absent.
        sort: what a numeric column sorts by; None sorts last, whichever way.
        mark: signs that hang beside the text, so that decimals stay below each other.
        small: lines below it.
        title: what hovering says.
        after: of a row's name, the intermediate task.
        tint: how deep its colour is, in percent; None for none.
        sign: which colour: ``heat``, ``gain`` or ``loss``.
        best: whether it is set off as the best of its column.
    """

    text: str
    sort: float | None = None
    mark: str = ""
    small: tuple[str, ...] = ()
    title: str = ""
    after: str = ""
    tint: int | None = None
    sign: str = ""
    best: bool = False

    @property
    def plain(self) -> str:
        """Everything but what hovering says, in one line."""
        return " ".join([self.text + self.mark, *self.small])


ABSENT = Item(MISSING)
BLANK = Item("")
Row = tuple[Item, ...]


def row_name(results: Results, system: System) -> Item:
    """First item of a row: method and intermediate task, with what the names leave out on hovering."""
    way = f"backbone {system.backbone}, init {system.init}, route {system.route}"
    if system.settings != "{}":
        way += f", settings {system.settings}"
    return Item(
        method_name(results, system),
        after=intermediate_name(results, system) if system.has_intermediate else "",
        title=FLOORS[system.method] if system.is_floor else way,
    )


def mean_item(part: Average, *, best: Average | None = None) -> Item:
    """An average with its spread and its holes below it, set off when it is the best one."""
    small = tuple(text.strip() for text in (spread(part), hole(part)) if text)
    return Item(
        number(part.mean), part.mean, mark=dagger(part), small=small, best=part.mean is not None and part == best
    )


def delta_item(part: Average, system: System, *, mark: str = "", one_seed: str = "1 seed") -> Item:
    """A Δ with its spread below it; blank where none is due. `mark` is what the comparisons found (`Results.mark`)."""
    if part.mean is None:
        return ABSENT if system.is_compared else BLANK
    small = (one_seed if len(part.by_seed) == 1 else spread(part).strip(), hole(part).strip())
    return Item(signed(part.mean), part.mean, mark=mark + dagger(part), small=tuple(text for text in small if text))


def best_of(parts: Iterable[Average]) -> Average | None:
    """The highest mean among complete ones: an average that lacks its hard languages must not win. One of runs that did
    not converge wins only where all are.
    """
    complete = [part for part in parts if part.mean is not None and part.complete]
    known = [part for part in complete if part.converged] or complete
    return max(known, key=lambda part: part.mean or 0.0, default=None)


def language_column(code: str, band: str) -> Column:
    """A column of one language, named in full on hovering."""
    return Column(code, band, title=language_title(code))


@dataclass(frozen=True)
class Sheet:
    """A table with its heading and the sentences around it.

    Attributes:
        id: name of its place in the page and of its label in LaTeX.
        title: heading.
        lead: sentence above the table; with `legend`, a colour ramp stands behind it.
        columns: the first is the rows' names.
        bodies: groups of rows with a line between them; each row has an item per column.
        foot: sentence below the table.
        legend: ramp (``heat`` or ``diverging``) and what its ends mean.
        foreign: figures in it are other people's, and look it.
        folded: closed on the page until it is asked for.
        is_map: cells are small, centred and tinted.
        curves: the same numbers drawn as lines, above the table on the page.
    """

    id: str
    title: str
    lead: str
    columns: tuple[Column, ...]
    bodies: tuple[tuple[Row, ...], ...]
    foot: str = ""
    legend: tuple[str, str] | None = None
    foreign: bool = False
    folded: bool = False
    is_map: bool = False
    curves: Curves | None = None

    def __post_init__(self) -> None:
        for row in self.rows:
            assert len(row) == len(self.columns), (self.id, len(row), len(self.columns))

    @property
    def rows(self) -> tuple[Row, ...]:
        """Rows of all bodies."""
        return tuple(row for body in self.bodies for row in body)

    @property
    def bands(self) -> list[tuple[str, int]]:
        """Upper headings over the columns behind the first: name and number of columns; empty when there are none."""
        found = [(name, len(list(own))) for name, own in groupby(self.columns[1:], key=lambda column: column.band)]
        return found if any(name for name, _ in found) else []

    @property
    def starts(self) -> tuple[bool, ...]:
        """For each column whether a new band begins with it."""
        named = bool(self.bands)
        return tuple(
            named and i > 0 and (i == 1 or self.columns[i - 1].band != column.band)
            for i, column in enumerate(self.columns)
        )


@dataclass(frozen=True)
class Section:
    """Sheets that belong together under one heading; `note` is printed as a warning above them."""

    id: str
    title: str
    sheets: tuple[Sheet, ...]
    lead: str = ""
    note: str = ""
    foreign: bool = False


def escape_markdown(text: str) -> str:
    """Keep given text from opening a table cell, a tag or a line of its own."""
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())


def markdown_lines(section: Section) -> Iterator[str]:
    """Draw a section as Markdown blocks."""
    yield f"## {escape_markdown(section.title)}"
    if section.note:
        yield f"> **Note:** {escape_markdown(section.note)}"
    if section.lead:
        yield escape_markdown(section.lead)
    for sheet in section.sheets:
        if len(section.sheets) > 1:
            yield f"### {escape_markdown(sheet.title)}"
        if sheet.lead:
            yield escape_markdown(sheet.lead)
        yield markdown_table(sheet)
        if sheet.foot:
            yield escape_markdown(sheet.foot)


def markdown_table(sheet: Sheet) -> str:
    """Draw a sheet as a pipe table; an upper heading goes before the lower ones."""
    head = [f"{c.band}: {c.name}" if c.band and c.name else c.band or c.name for c in sheet.columns]
    lines = [_pipes([escape_markdown(name) for name in head])]
    lines.append("|" + "".join(f" {'---:' if column.numeric else '---'} |" for column in sheet.columns))
    lines += [_pipes([_markdown_cell(item) for item in row]) for row in sheet.rows]
    return "\n".join(lines)


def _markdown_cell(item: Item) -> str:
    after = f" after {item.after}" if item.after else ""
    return escape_markdown(item.plain + after)


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
