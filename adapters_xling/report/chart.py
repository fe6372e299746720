"""Geometry of the cost-quality charts: a cost (log axis) against the overall zero-shot mean.

Everything is computed here, in user units of one SVG; the template only draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adapters_xling.report.cells import FLOORS, System
from adapters_xling.report.costs import kept_bytes
from adapters_xling.report.formats import average_text, intermediate_name, method_name, number, quantity
from adapters_xling.report.results import Results

WIDTH, HEIGHT = 860, 420
LEFT, RIGHT, TOP, BOTTOM = 52, 190, 34, 50
LINE = 15.0
"""Least distance of two labels, from baseline to baseline."""

LABEL = 150
"""Width kept free for a label."""

MOST_LABELS = 12
"""Labels beyond which a group shows only the telling ones; the others have theirs on hovering."""

COLOURS = 6
"""Series colours that the style sheet defines."""

SHAPES = (
    "M-6,0a6,6 0 1,0 12,0a6,6 0 1,0 -12,0z",
    "M-5.5,-5.5h11v11h-11z",
    "M0,-7l7,12.5h-14z",
    "M0,-7.5l7.5,7.5l-7.5,7.5l-7.5,-7.5z",
    "M0,7l7,-12.5h-14z",
)


_Known = tuple[System, float, float]  # row, cost, zero-shot mean


@dataclass(frozen=True)
class Axis:
    """A cost: what it is called, its unit, what hovering says of it, and a row's value."""

    name: str
    unit: str
    words: str
    value: Callable[[Results, System], float | None]


PARAMETERS = Axis("trainable parameters", "", "trainable", lambda results, system: results.cost(system).num_trainable)
BYTES = Axis("bytes kept for all targets, per seed", "B", "kept", kept_bytes)


@dataclass(frozen=True)
class Point:
    """One row of the summary: where it stands, how it looks, what it says; no `label_y` where labels are too many."""

    x: float
    y: float
    label_x: float
    label_y: float | None
    method: str
    label: str
    title: str
    shape: str
    series: int
    filled: bool


@dataclass(frozen=True)
class Join:
    """A line through the points of one method, from lowest to highest."""

    series: int
    path: str


@dataclass(frozen=True)
class Tick:
    """A grid line or a floor: where, and what it is called."""

    at: float
    label: str
    label_at: float


@dataclass(frozen=True)
class Chart:
    """All that the template draws."""

    points: tuple[Point, ...]
    joins: tuple[Join, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    floors: tuple[Tick, ...]
    axis: Axis
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def spread_out(wanted: Sequence[float], *, gap: float) -> list[float]:
    """Move positions apart as little as keeps them `gap` from each other, in the same order.

    >>> spread_out([10, 12, 40], gap=6)
    [8.0, 14.0, 40.0]
    """
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    clusters: list[tuple[float, int]] = []  # (centre, members)
    for i in order:
        clusters.append((float(wanted[i]), 1))
        while len(clusters) > 1:
            (upper, m), (lower, n) = clusters[-2], clusters[-1]
            if lower - upper >= gap * (m + n) / 2:
                break
            # merged: every member pulls towards where it would like the middle to be
            middle = (m * (upper + gap * n / 2) + n * (lower - gap * m / 2)) / (m + n)
            clusters[-2:] = [(middle, m + n)]
    placed = [centre + gap * (k - (num - 1) / 2) for centre, num in clusters for k in range(num)]
    result = [0.0] * len(wanted)
    for i, at in zip(order, placed, strict=True):
        result[i] = at
    return result


def _neighbours(rows: Sequence[_Known], x: Callable[[float], float]) -> list[list[_Known]]:
    """Rows whose labels would run into each other, together; they share one column of labels."""
    groups: list[list[_Known]] = []
    for row in sorted(rows, key=lambda r: (r[1], r[2])):
        if groups and x(row[1]) - x(groups[-1][-1][1]) < LABEL:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _named(group: Sequence[_Known], results: Results) -> list[_Known]:
    """Rows that get a label: all of a small group, of a large one each method's best and its baseline."""
    if len(group) <= MOST_LABELS:
        return list(group)
    best = {method_name(results, row[0]): row for row in sorted(group, key=lambda r: r[2])}
    return [row for row in group if row in best.values() or not row[0].has_intermediate]


def _inside(positions: list[float]) -> list[float]:
    """Shift labels as a whole so that none leaves the plot."""
    if not positions:
        return []
    shift = max(0.0, TOP - min(positions)) or min(0.0, HEIGHT - BOTTOM - max(positions))
    return [at + shift for at in positions]


def cost_quality(results: Results, axis: Axis = PARAMETERS) -> Chart | None:
    """Lay the chart out; None when no contender has both a cost and a score."""
    known: list[_Known] = []
    for system in results.contenders:
        size, mean = axis.value(results, system), results.overall(system).mean
        if size and mean is not None:
            known.append((system, size, mean))
    if not known:
        return None
    floors = [(f, mean) for f in results.floors if (mean := results.overall(f).mean) is not None]
    # The left margin of 0.8 decades holds the floors' names, so that they never meet a point.
    low = math.log10(min(size for _, size, _ in known)) - 0.8
    high = math.log10(max(size for _, size, _ in known)) + 0.15
    values = [mean for *_, mean in known] + [mean for _, mean in floors]
    bottom = (
        max(0.0, math.floor((min(values) - 3) / 10) * 10) if min(values) >= 0 else math.floor(min(values) / 10) * 10.0
    )
    top = max(math.ceil(max(values) / 10) * 10, min(100, math.ceil((max(values) + 3) / 10) * 10))

    def x(size: float) -> float:
        return round(LEFT + (math.log10(size) - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM), 1)

    names = list(dict.fromkeys(method_name(results, system) for system, *_ in known))
    points: list[Point] = []
    for group in _neighbours(known, x):
        label_x = max(x(size) for _, size, _ in group) + 18
        named = _named(group, results)
        labels_y = dict(zip(named, _inside(spread_out([y(row[2]) for row in named], gap=LINE)), strict=True))
        for row in group:
            system, size, mean = row
            num, name = names.index(method_name(results, system)), method_name(results, system)
            label = intermediate_name(results, system)
            words = f"after {label}" if system.has_intermediate else "no intermediate task"
            cost = f"{quantity(size, unit=axis.unit)} {axis.words}"
            title = f"{name}, {words}: {average_text(results.overall(system))}, {cost}"
            shape = SHAPES[num % len(SHAPES)]
            at = (x(size), y(mean), label_x, round(labels_y[row], 1) if row in labels_y else None)
            points.append(Point(*at, name, label, title, shape, num % COLOURS, system.has_intermediate))
    joins = []
    for num, name in enumerate(names):
        own = sorted((p.y, p.x) for p in points if p.method == name)
        joins.append(Join(num % COLOURS, "M" + "L".join(f"{px},{py}" for py, px in own)))
    decades = range(math.ceil(low), math.floor(high) + 1)
    step = 10 if top - bottom > 30 else 5
    floor_labels = spread_out([y(mean) - 5 for _, mean in floors], gap=LINE)
    return Chart(
        points=tuple(points),
        joins=tuple(joins),
        x_ticks=tuple(Tick(x(10**d), quantity(10**d, unit=axis.unit).replace(".0", ""), x(10**d)) for d in decades),
        y_ticks=tuple(Tick(y(v), f"{v:g}", y(v) + 4) for v in range(int(bottom), int(top) + 1, step)),
        floors=tuple(
            Tick(y(mean), f"{floor.method} {number(mean)}", round(at, 1))
            for (floor, mean), at in zip(floors, floor_labels, strict=True)
            if floor.method in FLOORS
        ),
        axis=axis,
    )
