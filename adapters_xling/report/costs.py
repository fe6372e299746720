"""What entries cost: parameters, bytes, steps and device-hours, per method and per cell, from the cards alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from adapters_xling.report.cells import System
from adapters_xling.report.formats import MISSING, method_name, quantity, target_name
from adapters_xling.report.results import Results
from adapters_xling.report.scores import EntryFacts
from adapters_xling.report.sheets import ABSENT, Column, Item, Row, Section, Sheet, row_name

NOTHING = EntryFacts()

PER_METHOD = (
    Column("method", numeric=False),
    Column("entries", title="trained entries, those of intermediate tasks among them"),
    Column("trained parameters", "per entry"),
    Column("size", "per entry"),
    Column("size", "all entries"),
    Column("of the largest", "all entries", title="size of all entries, in percent of the largest method's"),
    Column("steps", "all entries"),
    Column("device-hours", "all entries"),
    Column("device", "all entries", numeric=False),
)
PER_CELL = (
    Column("method", numeric=False),
    Column("task", numeric=False),
    Column("entries"),
    Column("trained parameters", "per entry"),
    Column("size", "per entry"),
    Column("steps", "per entry"),
    Column("device-hours", "per entry"),
    Column("with its parents", "per entry", title="device-hours of the entry and of every entry it comes from"),
)
LEAD = (
    "From the entries' cards. A device-hour is an hour of training on one device (one process where that is a "
    "processor), evaluation not counted."
)


def cost_section(results: Results) -> Section | None:
    """Put costs per method and per cell together; None when no card says anything."""
    if not any(fact.num_bytes or fact.seconds for fact in results.facts.values()):
        return None
    sheets = (
        Sheet("cost-methods", "Per method", "", PER_METHOD, _methods(results)),
        Sheet("cost-cells", "Per cell", "", PER_CELL, _cells(results), folded=True),
    )
    return Section("costs", "Cost", sheets, lead=LEAD)


def with_parents(keys: Iterable[str], results: Results) -> tuple[str, ...]:
    """Entries and all entries they come from, each once."""
    return _closure(keys, results, lambda fact: fact.parents)


def in_use(keys: Iterable[str], results: Results) -> tuple[str, ...]:
    """Entries and all entries that must be there when they are used, each once."""
    return _closure(keys, results, lambda fact: fact.stands_on)


def _closure(keys: Iterable[str], results: Results, more: Callable[[EntryFacts], Sequence[str]]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    todo = list(keys)
    while todo:
        name = todo.pop(0)
        if name not in found:
            found[name] = None
            todo += more(results.facts.get(name, NOTHING))
    return tuple(found)


def kept_bytes(results: Results, system: System) -> float | None:
    """Bytes on disk of all that a row needs for all its targets, per seed; None where a card lacks its size."""
    own = [key for (_, other), keys in results.entries.items() if other == system for key in keys]
    sizes = [results.facts.get(key, NOTHING).num_bytes for key in in_use(dict.fromkeys(own), results)]
    seeds = {seed for (_, other, _), cell in results.cells.items() if other == system for seed in cell.by_seed}
    if not sizes or None in sizes:
        return None
    return math.fsum(size for size in sizes if size is not None) / len(seeds)


def hours_text(hours: float, *, on_gpu: bool) -> str:
    """Device-hours with two significant digits, and the kind of device.

    >>> hours_text(0.00875, on_gpu=False), hours_text(2.5, on_gpu=True), hours_text(1000, on_gpu=True)
    ('0.0088 CPU-h', '2.5 GPU-h', '1,000 GPU-h')
    """
    text = f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"
    return f"{text} {'GPU' if on_gpu else 'CPU'}-h"


def _methods(results: Results) -> tuple[tuple[Row, ...], ...]:
    bodies = []
    found: dict[tuple[str, str, str], tuple[str, ...]] = {}
    for systems in (results.contenders, results.floors):
        for method, rows in groupby(systems, key=lambda system: (system.backbone, system.method, system.settings)):
            mine = set(rows)
            keys = [key for (_, system), names in results.entries.items() if system in mine for key in names]
            found[method] = with_parents(dict.fromkeys(keys), results)
    largest = max((_sum(_facts(keys, results), _bytes)[0] or 0 for keys in found.values()), default=0)
    for systems in (results.contenders, results.floors):
        body = []
        for method, rows in groupby(systems, key=lambda system: (system.backbone, system.method, system.settings)):
            facts = _facts(found[method], results)
            if facts:
                body.append(_method_row(Item(method_name(results, next(rows))), facts, largest))
        bodies.append(tuple(body))
    return tuple(bodies)


def _method_row(name: Item, facts: Sequence[EntryFacts], largest: float) -> Row:
    total, hole = _sum(facts, _bytes)
    share = Item(f"{100 * total / largest:.3g} %", 100 * total / largest) if total and largest else ABSENT
    devices = sorted({fact.device for fact in facts if fact.device})
    steps, missing = _sum(facts, lambda fact: fact.steps)
    return (
        name,
        Item(f"{len(facts)}", len(facts)),
        _range(facts, lambda fact: fact.num_trainable),
        _range(facts, _bytes, unit="B"),
        ABSENT if total is None else Item(quantity(total, unit="B"), total, small=hole),
        share,
        ABSENT if steps is None else Item(f"{steps:,.0f}", steps, small=missing),
        _hours(facts),
        Item(", ".join(devices) or MISSING),
    )


def _cells(results: Results) -> tuple[tuple[Row, ...], ...]:
    bodies = []
    for systems in (results.contenders, results.floors):
        body = []
        for system in systems:
            for target in results.headline:
                keys = results.entries.get((target, system), ())
                if not keys:
                    continue
                facts = _facts(keys, results)
                body.append(
                    (
                        row_name(results, system),
                        Item(target_name(results, target)),
                        Item(f"{len(keys)}", len(keys)),
                        _range(facts, lambda fact: fact.num_trainable),
                        _range(facts, _bytes, unit="B"),
                        _range(facts, lambda fact: fact.steps),
                        _hours(facts, share=len(keys)),
                        _hours(_facts(with_parents(keys, results), results), share=len(keys)),
                    )
                )
        bodies.append(tuple(body))
    return tuple(bodies)


def _facts(keys: Iterable[str], results: Results) -> list[EntryFacts]:
    return [results.facts.get(key, NOTHING) for key in keys]


def _bytes(fact: EntryFacts) -> float | None:
    return fact.num_bytes


def _sum(
    facts: Sequence[EntryFacts], value: Callable[[EntryFacts], float | None]
) -> tuple[float | None, tuple[str, ...]]:
    """Sum of what is known, and how many entries that is where it is not all; None when no entry says."""
    known = [found for fact in facts if (found := value(fact)) is not None]
    hole = () if len(known) == len(facts) else (f"({len(known)}/{len(facts)})",)
    return (math.fsum(known), hole) if known else (None, ())


def _range(facts: Sequence[EntryFacts], value: Callable[[EntryFacts], float | None], *, unit: str = "") -> Item:
    """Smallest and largest, once where they print alike."""
    known = [found for fact in facts if (found := value(fact)) is not None]
    if not known:
        return ABSENT
    low, high = quantity(min(known), unit=unit), quantity(max(known), unit=unit)
    hole = () if len(known) == len(facts) else (f"({len(known)}/{len(facts)})",)
    return Item(low if low == high else f"{low}–{high}", max(known), small=hole)


def _hours(facts: Sequence[EntryFacts], *, share: int = 1) -> Item:
    """Device-hours, those of GPUs and those of processors apart, divided by `share`."""
    parts, total = [], 0.0
    for on_gpu in (True, False):
        known = [hours for fact in facts if fact.on_gpu is on_gpu and (hours := fact.device_hours) is not None]
        if known:
            parts.append(hours_text(math.fsum(known) / share, on_gpu=on_gpu))
            total += math.fsum(known) / share
    num = sum(fact.device_hours is not None for fact in facts)
    hole = () if num == len(facts) else (f"({num}/{len(facts)})",)
    return Item(" + ".join(parts), total, small=hole) if parts else ABSENT
