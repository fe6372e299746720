"""What an intermediate task changes: a heat map per method, targets down, intermediate tasks across."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import groupby

from adapters_xling.report.cells import Average, Cell, System, Target
from adapters_xling.report.formats import (
    dagger,
    hole,
    method_name,
    signed,
    spread,
    target_name,
    way_name,
)
from adapters_xling.report.results import Results
from adapters_xling.report.sheets import ABSENT, Column, Item, Row, Section, Sheet

LEAST_SCALE = 5
"""Points at which a Δ has the deepest colour when none is larger, so that noise does not look like an effect."""

LEAD = "Zero-shot mean after an intermediate task minus the same method's without one, seeds paired, in points."


def effect_section(results: Results) -> Section | None:
    """Put a heat map per method together; None when nothing was compared."""
    groups = [
        (
            method,
            [system for system in rows if any(_delta(results, t, system).mean is not None for t in results.headline)],
        )
        for method, rows in groupby(results.contenders, key=lambda system: system[:3])
    ]
    groups = [(method, rows) for method, rows in groups if rows]
    if not groups:
        return None
    scale = whole_scale(
        part.mean for _, rows in groups for system in rows for part in _parts(results, system) if part.mean is not None
    )
    sheets = []
    for number, (_, rows) in enumerate(groups):
        several = len({row[4:] for row in rows}) > 1
        rows = sorted(rows, key=way_name)  # the ways stand beside each other, each with its intermediate tasks
        bands = [way_name(row) if several else "" for row in rows]
        columns = (Column("task", numeric=False), *map(Column, (row.intermediate for row in rows), bands))
        body = [
            (
                Item(target_name(results, target)),
                *(effect(_delta(results, target, row), scale, mark=results.mark(target, row)) for row in rows),
            )
            for target in results.headline
        ]
        overall: Row = (Item(results.overall_name), *(effect(results.overall_delta(row), scale) for row in rows))
        sheets.append(
            Sheet(
                f"effect-{number}",
                method_name(results, rows[0]),
                "",
                columns,
                (tuple(body), (overall,)) if len(body) > 1 else (tuple(body),),
                is_map=True,
                legend=("diverging", f"−{scale} (loss) → +{scale} points (gain)"),
            )
        )
    return Section("effects", "Effect of the intermediate task", tuple(sheets), lead=LEAD)


def _delta(results: Results, target: Target, system: System) -> Average:
    return results.delta(target, system)


def _parts(results: Results, system: System) -> list[Average]:
    return [*(results.delta(target, system) for target in results.headline), results.overall_delta(system)]


def whole_scale(deltas: Iterable[float]) -> int:
    """Where the colour of a Δ is deepest: the largest, in whole points, at least `LEAST_SCALE`.

    >>> whole_scale([-7.2, 3.0]), whole_scale([0.4])
    (8, 5)
    """
    return max([LEAST_SCALE, *(math.ceil(abs(value)) for value in deltas)])


def tint(value: float, scale: float) -> tuple[int, str]:
    """Depth in percent and colour of a Δ.

    >>> tint(-4.0, 8), tint(9.0, 8), tint(0.0, 8)
    ((50, 'loss'), (100, 'gain'), (0, 'gain'))
    """
    return round(100 * min(1.0, abs(value) / scale)), "loss" if value < 0 else "gain"


def effect(part: Average | Cell, scale: float, *, mark: str = "") -> Item:
    """A tinted Δ, with its spread over seeds below it."""
    if part.mean is None:
        return ABSENT
    depth, sign = tint(part.mean, scale)
    gap = hole(part) if isinstance(part, Average) else ""
    small = tuple(text.strip() for text in (spread(part), gap) if text)
    return Item(signed(part.mean), part.mean, mark=mark + dagger(part), small=small, tint=depth, sign=sign)
