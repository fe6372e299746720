"""The heat maps of one target: scores by language, and what an intermediate task changes in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adapters_xling.report.cells import Cell, System, Target
from adapters_xling.report.effects import tint, whole_scale
from adapters_xling.report.formats import MISSING, dagger, language_title, number, script, signed
from adapters_xling.report.results import Results
from adapters_xling.report.sheets import (
    Column,
    Item,
    Row,
    Sheet,
    delta_item,
    language_column,
    mean_item,
    row_name,
)


def score_map(results: Results, target: Target, id_: str) -> Sheet:
    """Every row of a target by language, tinted from guessing to 100."""
    codes = results.languages[target]
    bodies = []
    for systems in (results.contenders, results.floors):
        body = []
        for system in systems:
            row = results.row(target, system)
            if row:
                cells = [_heat(row.get(code), code, results.floor_value(target, code)) for code in codes]
                body.append(_map_row(results, system, mean_item(results.zero_shot_mean(target, system)), cells))
        bodies.append(tuple(body))
    lead = f"{target.metric} on {target.split}, in percent, by language."
    ramp = ("heat", "majority or chance → 100")
    return _sheet(results, target, Sheet(id_, "By language", lead, (), (), legend=ramp, is_map=True), bodies)


def delta_map(results: Results, target: Target, id_: str) -> Sheet | None:
    """Differences to the row without an intermediate task by language; None when nothing was compared."""
    codes = results.languages[target]
    rows = [(system, row) for system in results.contenders if (row := results.delta_row(target, system))]
    if not rows:
        return None
    scale = whole_scale(cell.mean for _, row in rows for cell in row.values())
    body = [
        _map_row(
            results,
            system,
            delta_item(results.delta(target, system), system, mark=results.mark(target, system)),
            [_diverging(row.get(code), code, scale) for code in codes],
        )
        for system, row in rows
    ]
    ramp = ("diverging", f"−{scale} (loss) → +{scale} points (gain)")
    title = "Δ against no intermediate task"
    lead = "Same method, seeds paired."
    return _sheet(results, target, Sheet(id_, title, lead, (), (), legend=ramp, is_map=True), [tuple(body)])


def _sheet(results: Results, target: Target, words: Sheet, bodies: Sequence[Sequence[Row]]) -> Sheet:
    """A map with its columns; the one for what stands behind the means is left out where nothing does."""
    sources = results.sources(target)
    behind = any(row[2].text for body in bodies for row in body)
    columns = (
        Column("method", numeric=False),
        Column(results.mean_name),
        *([Column("seeds", numeric=False)] if behind else []),
        *(language_column(code, "source" if code in sources else script(code)) for code in results.languages[target]),
    )
    shown = tuple(tuple(row if behind else (*row[:2], *row[3:]) for row in body) for body in bodies)
    return replace(words, columns=columns, bodies=shown)


def _map_row(results: Results, system: System, mean: Item, cells: list[Item]) -> Row:
    """A row of a heat map: what stands below the mean elsewhere has a column of its own, so that rows stay low."""
    return (row_name(results, system), replace(mean, small=()), Item(" ".join(mean.small)), *cells)


def _heat(cell: Cell | None, code: str, floor: float) -> Item:
    if cell is None:
        return Item(MISSING, title=f"{language_title(code)}: not scored")
    share = (cell.mean - floor) / (100 - floor) if floor < 100 else 0.0
    seeds = ", ".join(f"{number(value)} (seed {seed})" for seed, value in cell.by_seed.items())
    title = f"{language_title(code)}: {seeds}; colour starts at {number(floor)}"
    depth = round(100 * min(1.0, max(0.0, share)))
    return Item(number(cell.mean), cell.mean, mark=dagger(cell), title=title, tint=depth, sign="heat")


def _diverging(cell: Cell | None, code: str, scale: int) -> Item:
    if cell is None:
        return Item(MISSING, title=f"{language_title(code)}: no pair")
    seeds = ", ".join(f"{signed(value)} (seed {seed})" for seed, value in cell.by_seed.items())
    depth, sign = tint(cell.mean, scale)
    title = f"{language_title(code)}: {seeds}"
    return Item(signed(cell.mean), cell.mean, mark=dagger(cell), title=title, tint=depth, sign=sign)
