"""Geometry of curves over layers: a panel per method, a line per intermediate task, the bare encoder in grey.

Across, positions are percent of a panel's width; down they are pixels, as in `plots`. All panels share one scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from adapters_xling.report.chart import COLOURS, SHAPES
from adapters_xling.report.formats import number
from adapters_xling.report.plots import scale

LEFT, RIGHT = 10.0, 97.0
"""Percent of a panel's width where the layers begin and end."""
TOP, HEIGHT, BOTTOM = 10, 260, 30
"""Pixels above the plot, of a whole panel, and below the plot."""
BARE = "bare encoder"


@dataclass(frozen=True)
class CurvePoint:
    """One layer of one line."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Curve:
    """One line; `series` is None for the bare encoder, which has no marks."""

    name: str
    series: int | None
    shape: str
    points: tuple[CurvePoint, ...]

    @property
    def pieces(self) -> Iterator[tuple[CurvePoint, CurvePoint]]:
        """Neighbouring points."""
        return zip(self.points, self.points[1:], strict=False)


@dataclass(frozen=True)
class Panel:
    """The lines of one method, the bare encoder's first."""

    title: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Curves:
    """All that the template draws of one task; `layer` is the one that retrieval reads, `read` where it stands."""

    title: str
    panels: tuple[Panel, ...]
    legend: tuple[Curve, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    layer: int
    read: float
    left: float = LEFT
    right: float = RIGHT
    top: int = TOP
    height: int = HEIGHT
    bottom: int = HEIGHT - BOTTOM


def curves(
    title: str, lines: Mapping[tuple[str, str], Sequence[float]], *, base: Sequence[float] | None, read: int
) -> Curves | None:
    """Lay out lines over layers.

    Args:
        title: what the figure is of, in words.
        lines: (method, intermediate task) -> percent by layer, all of one length.
        base: the bare encoder's, in the same way.
        read: layer that stands out.

    Returns:
        None where there are no lines, or a single layer.
    """
    known = [*lines.values(), *([base] if base else [])]
    if not lines or len(known[0]) < 2:
        return None
    last = len(known[0]) - 1
    low, high, step = scale(min(map(min, known)), max(map(max, known)))
    names = list(dict.fromkeys(intermediate for _, intermediate in lines))

    def x(layer: int) -> float:
        return round(LEFT + layer / last * (RIGHT - LEFT), 2)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    def curve(name: str, words: str, line: Sequence[float], series: int | None) -> Curve:
        points = [CurvePoint(x(i), y(v), f"{words}, layer {i}: {number(v)}") for i, v in enumerate(line)]
        if series is None:
            return Curve(name, None, "", tuple(points))
        return Curve(name, series % COLOURS, SHAPES[series % len(SHAPES)], tuple(points))

    bare = (curve(BARE, BARE, base, None),) if base else ()
    panels = []
    for method in dict.fromkeys(name for name, _ in lines):
        own = [
            curve(after, f"{method} after {after}", line, names.index(after))
            for (name, after), line in lines.items()
            if name == method
        ]
        panels.append(Panel(method, (*bare, *own)))
    seen = {one.name: one for panel in panels for one in panel.curves}
    return Curves(
        title=title,
        panels=tuple(panels),
        legend=(*bare, *(seen[name] for name in names)),
        x_ticks=tuple((x(layer), str(layer)) for layer in range(0, last + 1, max(1, round(last / 12)))),
        y_ticks=tuple((y(at), f"{at:g}") for at in range(low, high + 1, step)),
        layer=read,
        read=x(read),
    )
