"""Geometry of the plots by language: a row per language, a mark per method, floors as grey lines.

Across, positions are percent of the drawing's width, so that it fits a desk and a phone with the same size of text;
down they are pixels. The template only draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from adapters_xling.languages import LANGUAGES
from adapters_xling.report.cells import System, Target
from adapters_xling.report.chart import COLOURS, SHAPES
from adapters_xling.report.formats import dagger, intermediate_name, method_name, number, spread, target_name
from adapters_xling.report.results import Results

LEFT, RIGHT = 24.0, 95.0
"""Percent of the width where the scale begins and ends; the languages' names stand left of it."""
TOP, ROW, BOTTOM = 14, 22, 30
"""Pixels above the first row, per row, and below the last."""
DASHES = ("", "7 4", "2 4")
"""Dash patterns of the floors, in their order."""


@dataclass(frozen=True)
class PlotMark:
    """One method in one language."""

    x: float
    series: int
    shape: str
    title: str


@dataclass(frozen=True)
class PlotRow:
    """One language: its code and name, where its line is, and its marks."""

    code: str
    name: str
    y: int
    source: bool
    marks: tuple[PlotMark, ...]


@dataclass(frozen=True)
class PlotFloor:
    """A floor: its name, dash pattern, and pieces (x, y, x, y) from language to language."""

    name: str
    dashes: str
    pieces: tuple[tuple[float, int, float, int], ...]


@dataclass(frozen=True)
class PlotLegend:
    """What a mark stands for."""

    series: int
    shape: str
    method: str
    after: str


@dataclass(frozen=True)
class LanguagePlot:
    """All that the template draws of one target."""

    title: str
    rows: tuple[PlotRow, ...]
    floors: tuple[PlotFloor, ...]
    legend: tuple[PlotLegend, ...]
    ticks: tuple[tuple[float, str], ...]
    height: int
    left: float = LEFT
    right: float = RIGHT
    top: int = TOP


def best_rows(results: Results, target: Target) -> list[System]:
    """For each method the row with the highest zero-shot mean, complete ones first; methods in the report's order."""
    best: dict[tuple[str, ...], tuple[tuple[bool, float], System]] = {}
    for system in results.contenders:
        mean = results.zero_shot_mean(target, system)
        if mean.mean is not None:
            rank = (mean.complete, mean.mean)
            if system[:3] not in best or rank > best[system[:3]][0]:
                best[system[:3]] = (rank, system)
    return [system for _, system in best.values()]


def language_plot(results: Results, target: Target) -> LanguagePlot | None:
    """Lay out the plot of a target, languages by their best mark; None when no method has a zero-shot score."""
    systems = best_rows(results, target)
    if not systems or not results.zero_shot[target]:
        return None
    rows = {system: results.row(target, system) for system in systems}
    codes = {code for row in rows.values() for code in row}
    ranked = sorted(codes, key=lambda code: (-max(row[code].mean for row in rows.values() if code in row), code))
    floors = [(floor, results.row(target, floor)) for floor in results.floors]
    values = [cell.mean for row in (*rows.values(), *(row for _, row in floors)) for cell in row.values()]
    low, high, step = scale(min(values), max(values))

    def x(value: float) -> float:
        return round(LEFT + (value - low) / (high - low) * (RIGHT - LEFT), 2)

    y = {code: TOP + ROW * i + ROW // 2 for i, code in enumerate(ranked)}
    methods = list(dict.fromkeys(system[:3] for system in results.contenders))
    looks = {system: methods.index(system[:3]) for system in systems}
    names = {system: method_name(results, system) for system in systems}
    return LanguagePlot(
        title=target_name(results, target),
        rows=tuple(
            PlotRow(
                code,
                LANGUAGES[code].name if code in LANGUAGES else "",
                y[code],
                code in results.sources(target),
                tuple(
                    PlotMark(
                        x(cell.mean),
                        looks[system] % COLOURS,
                        SHAPES[looks[system] % len(SHAPES)],
                        f"{code}, {names[system]}: {number(cell.mean)}{dagger(cell)}{spread(cell)}",
                    )
                    for system in systems
                    if (cell := rows[system].get(code)) is not None
                ),
            )
            for code in ranked
        ),
        floors=tuple(
            PlotFloor(method_name(results, floor), DASHES[i % len(DASHES)], pieces)
            for i, (floor, row) in enumerate(floors)
            if (pieces := _pieces([(x(row[code].mean), y[code]) for code in ranked if code in row]))
        ),
        legend=tuple(
            PlotLegend(
                looks[system] % COLOURS,
                SHAPES[looks[system] % len(SHAPES)],
                names[system],
                intermediate_name(results, system) if system.has_intermediate else "",
            )
            for system in systems
        ),
        ticks=tuple((x(at), f"{at:g}") for at in range(low, high + 1, step)),
        height=TOP + ROW * len(ranked) + BOTTOM,
    )


def scale(lowest: float, highest: float) -> tuple[int, int, int]:
    """First and last tick in whole tens around the values, and the distance of ticks.

    >>> scale(2.0, 97.0), scale(71.0, 78.0)
    ((0, 100, 20), (70, 80, 5))
    """
    low, high = math.floor(lowest / 10) * 10, math.ceil(highest / 10) * 10
    high = max(high, low + 10)
    step = 20 if high - low > 60 else (10 if high - low > 20 else 5)
    return low - low % step, high + -high % step, step


def _pieces(points: Sequence[tuple[float, int]]) -> tuple[tuple[float, int, float, int], ...]:
    """A step down each row at its value, joined to the next row's."""
    half = ROW // 2
    pieces = []
    for i, (x, y) in enumerate(points):
        pieces.append((x, y - half, x, y + half))
        if i + 1 < len(points):
            pieces.append((x, y + half, points[i + 1][0], points[i + 1][1] - half))
    return tuple(pieces)
