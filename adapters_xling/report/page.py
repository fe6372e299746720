"""The HTML report: one file that asks the network for nothing, readable on a desk and on a phone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xling.report.cells import FLOORS, Average, Cell, System, Target
from adapters_xling.report.chart import cost_quality
from adapters_xling.report.collect import collect, order_languages
from adapters_xling.report.formats import (
    MISSING,
    dagger,
    delta_text,
    duration,
    hole,
    intermediate_name,
    language_title,
    method_name,
    number,
    quantity,
    script,
    signed,
    source_name,
    spread,
    target_name,
)
from adapters_xling.report.prose import HOW_TO_READ, doubts, facts_line, lexical_lines
from adapters_xling.report.results import Results
from adapters_xling.report.scores import EntryFacts, RunInfo
from adapters_xling.spec import Score

if TYPE_CHECKING:
    import jinja2

_Row = dict[str, Any]


def html(scores: Iterable[Score], *, info: RunInfo, facts: Mapping[str, EntryFacts] | None = None) -> str:
    """Render scores as one self-contained HTML file; the same input gives the same bytes.

    Everything that comes from data is escaped, and the page's own content policy forbids any load.
    """
    results = collect(scores, info=info, facts=facts)
    return _template().render(
        info=info,
        meta=facts_line(results, info),
        how_to_read=HOW_TO_READ,
        num_seeds=len(results.seeds),
        highlights=_highlights(results),
        summary=_summary(results),
        chart=cost_quality(results),
        targets=[_target(results, target, index) for index, target in enumerate(results.targets)],
        floors=_floors(results),
        seeds=_seeds(results),
        doubts=doubts(results),
        languages=_languages(results),
        missing=MISSING,
    )


@cache
def _template() -> jinja2.Template:
    import jinja2  # not needed by the other outputs

    folder = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=folder, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2")


def _label(results: Results, system: System) -> _Row:
    inter = intermediate_name(results, system)
    way = f"backbone {system.backbone}, init {system.init}, route {system.route}"
    if system.settings != "{}":
        way += f", settings {system.settings}"
    return {
        "method": method_name(results, system),
        "inter": inter if system.has_intermediate else "",
        "title": FLOORS.get(system.method) if system.is_floor else way,
    }


def _plain(
    text: str, sort: float | None, *, mark: str = "", small: Sequence[str] = (), first: bool = False, best: bool = False
) -> _Row:
    """A table cell: the text, marks hanging beside it, lines below it, what to sort by, how it is set off."""
    return {"text": text, "sort": sort, "mark": mark, "small": small, "first": first, "best": best}


def _value(part: Average, *, first: bool = False, best: bool = False) -> _Row:
    small = [text.strip() for text in (spread(part), hole(part)) if text]
    return _plain(number(part.mean), part.mean, mark=dagger(part), small=small, first=first, best=best)


def _delta(part: Average, system: System, *, one_seed: str = "1 seed") -> _Row:
    if part.mean is None:
        return _plain(MISSING if system.is_compared else "", None)
    star = "*" if part.beyond_seed_noise else ""
    small = [one_seed if len(part.by_seed) == 1 else spread(part).strip(), hole(part).strip()]
    return _plain(signed(part.mean), part.mean, mark=star + dagger(part), small=[text for text in small if text])


def _best(parts: Iterable[Average]) -> Average | None:
    """The highest mean among complete ones: an average that lacks its hard languages must not win."""
    known = [part for part in parts if part.mean is not None and part.complete]
    return max(known, key=lambda part: part.mean or 0.0, default=None)


# --- summary ----------------------------------------------------------------------------------------------------


def _summary(results: Results) -> _Row:
    groups = [{"name": "all tasks", "title": "unweighted mean of the tasks", "columns": ["zero-shot", "Δ"]}]
    for target in results.headline:
        source = [source_name(results.sources(target))] if results.sources(target) else []
        title = f"{target.metric} on {target.split}"
        groups.append({"name": target_name(results, target), "title": title, "columns": ["zero-shot", *source, "Δ"]})
    best = [_best(results.zero_shot_mean(t, s) for s in results.contenders) for t in results.headline]
    best_overall = _best(results.overall(s) for s in results.contenders)
    one_seed = "1 seed" if len(results.seeds) > 1 else ""  # with one seed throughout, the heading says so
    bodies = []
    for systems in (results.contenders, results.floors):
        rows = []
        for system in systems:
            overall, cost = results.overall(system), results.cost(system)
            cells = [
                _value(overall, first=True, best=overall == best_overall),
                _delta(results.overall_delta(system), system, one_seed=one_seed),
            ]
            for target, top in zip(results.headline, best, strict=True):
                mean = results.zero_shot_mean(target, system)
                cells.append(_value(mean, first=True, best=mean == top))
                if results.sources(target):
                    cells.append(_value(results.source_mean(target, system)))
                cells.append(_delta(results.delta(target, system), system, one_seed=one_seed))
            cells += [
                _plain(quantity(cost.num_trainable), cost.num_trainable, first=True),
                _plain(quantity(cost.num_bytes, unit="B"), cost.num_bytes),
                _plain(duration(cost.seconds), cost.seconds),
            ]
            rows.append({"label": _label(results, system), "cells": cells})
        bodies.append(rows)
    return {"groups": groups, "bodies": bodies}


def _highlights(results: Results) -> list[_Row]:
    """A few numbers said in words; each is in the tables too."""
    found = []
    best = _best(results.overall(s) for s in results.contenders)
    if best is not None:
        system = next(s for s in results.contenders if results.overall(s) == best)
        after = f" after {intermediate_name(results, system)}" if system.has_intermediate else ", no intermediate task"
        text = f"highest zero-shot mean over all tasks: {method_name(results, system)}{after}"
        found.append({"value": number(best.mean), "text": text})
    deltas = [(part, s) for s in results.contenders if (part := results.overall_delta(s)).mean is not None]
    if deltas:
        low, high = (pick(part.mean or 0.0 for part, _ in deltas) for pick in (min, max))
        value = signed(low) if signed(low) == signed(high) else f"{signed(low)} to {signed(high)}"
        text = f"Δ from an intermediate task, over {len(deltas)} row{'s' * (len(deltas) != 1)}, mean of all tasks"
        found.append({"value": value, "text": text})
    lexical = [name for name, _, is_lexical in lexical_lines(results) if is_lexical]
    if any(results.lexical_gap(target) for target in results.headline):
        text = f"tasks that token vectors nearly reach{': ' + ', '.join(lexical) if lexical else ''}"
        found.append({"value": f"{len(lexical)} of {len(results.headline)}", "text": text})
    return found


# --- heat maps --------------------------------------------------------------------------------------------------


def _delta_scale(results: Results, target: Target) -> int:
    """Where the colour of a Δ is deepest: the target's largest, in whole points, at least 5."""
    rows = (results.delta_row(target, system) for system in results.contenders)
    return max([5, *(math.ceil(abs(cell.mean)) for row in rows for cell in row.values())])


def _target(results: Results, target: Target, index: int) -> _Row:
    codes = results.languages[target]
    rest = [code for code in codes if code not in results.sources(target)]
    bands = [{"name": name, "num": len(list(own))} for name, own in groupby(rest, key=script)]
    bodies = []
    for systems in (results.contenders, results.floors):
        rows = []
        for system in systems:
            row = results.row(target, system)
            if row:
                cells = [_heat(row.get(code), code, results.floor_value(target, code)) for code in codes]
                rows.append(_map_row(results, system, _value(results.zero_shot_mean(target, system)), cells))
        bodies.append(rows)
    scale = _delta_scale(results, target)
    deltas = []
    for system in results.contenders:
        row = results.delta_row(target, system)
        if row:
            cells = [_diverging(row.get(code), code, scale) for code in codes]
            deltas.append(_map_row(results, system, _delta(results.delta(target, system), system), cells))
    return {
        "id": f"target-{index}",
        "name": target_name(results, target),
        "metric": target.metric,
        "split": target.split,
        "sources": [_code(code) for code in results.sources(target)],
        "bands": bands,
        "codes": [_code(code) for code in rest],
        "bodies": bodies,
        "deltas": deltas,
        "scale": scale,
    }


def _map_row(results: Results, system: System, mean: _Row, cells: list[_Row]) -> _Row:
    """A row of a heat map: what stands below the mean elsewhere has a column of its own, so that rows stay low."""
    small = " ".join(mean["small"])
    return {"label": _label(results, system), "mean": {**mean, "small": ()}, "mean_small": small, "cells": cells}


def _code(code: str) -> _Row:
    return {"code": code, "title": language_title(code)}


def _heat(cell: Cell | None, code: str, floor: float) -> _Row:
    if cell is None:
        return _no_cell(f"{language_title(code)}: not scored")
    share = (cell.mean - floor) / (100 - floor) if floor < 100 else 0.0
    seeds = ", ".join(f"{number(value)} (seed {seed})" for seed, value in cell.by_seed.items())
    return {
        "text": number(cell.mean),
        "mark": dagger(cell),
        "title": f"{language_title(code)}: {seeds}; colour starts at {number(floor)}",
        "sort": cell.mean,
        "tint": round(100 * min(1.0, max(0.0, share))),
        "sign": "heat",
    }


def _no_cell(title: str) -> _Row:
    return {"text": MISSING, "mark": "", "title": title, "sort": None, "tint": None, "sign": ""}


def _diverging(cell: Cell | None, code: str, scale: int) -> _Row:
    if cell is None:
        return _no_cell(f"{language_title(code)}: no pair")
    seeds = ", ".join(f"{signed(value)} (seed {seed})" for seed, value in cell.by_seed.items())
    return {
        "text": signed(cell.mean),
        "mark": dagger(cell),
        "title": f"{language_title(code)}: {seeds}",
        "sort": cell.mean,
        "tint": round(100 * min(1.0, abs(cell.mean) / scale)),
        "sign": "gain" if cell.mean > 0 else "loss",
    }


# --- the rest ---------------------------------------------------------------------------------------------------


def _floors(results: Results) -> _Row:
    rows = []
    for target, (name, lead, lexical) in zip(results.headline, lexical_lines(results), strict=True):
        values = [_value(results.zero_shot_mean(target, floor)) for floor in results.floors]
        rows.append({"name": name, "cells": values, "lead": lead, "lexical": lexical})
    heads = [_label(results, floor) for floor in results.floors]
    return {"heads": heads, "rows": rows}


def _seeds(results: Results) -> _Row:
    """Zero-shot means by seed, and the deltas between them."""
    rows = []
    for target in results.headline:
        for system in results.contenders:
            mean = results.zero_shot_mean(target, system)
            if mean.mean is not None:
                rows.append(
                    {
                        "target": target_name(results, target),
                        "label": _label(results, system),
                        "cells": [_plain(number(v), v) for v in map(mean.by_seed.get, results.seeds)],
                        "sd": _plain(number(mean.sd), mean.sd),
                        "delta": delta_text(results.delta(target, system)) if system.is_compared else "",
                        "delta_sort": results.delta(target, system).mean,
                    }
                )
    return {"seeds": results.seeds, "rows": rows}


def _languages(results: Results) -> list[_Row]:
    return [_code(code) for code in order_languages(c for codes in results.languages.values() for c in codes)]
