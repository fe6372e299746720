"""How much of full fine-tuning's gain each adapter keeps, beside what it costs.

A gain is counted from the floor `ZERO`, the same head on the frozen encoder: what training the encoder adds. The share
is printed only where the interval of full fine-tuning's own gain excludes 0, for elsewhere it is a ratio of noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from adapters_xling.report.cells import REFERENCE, ZERO, System, Target
from adapters_xling.report.comparisons import Interval, Share
from adapters_xling.report.formats import UNCONVERGED, duration, method_name, number, quantity, signed, target_name
from adapters_xling.report.results import Results
from adapters_xling.report.scores import unconverged
from adapters_xling.report.sheets import ABSENT, Column, Item, Row, Section, Sheet
from adapters_xling.statistics import Bootstrap, Drawn

ZERO_SHOT = "zero-shot"


def shares_of(
    bootstrap: Bootstrap, results: Results, target: Target, drawn: Mapping[str, Mapping[Any, Mapping[int, Drawn]]]
) -> Iterator[Share]:
    """Shares of every row without an intermediate task, on the source languages and over the zero-shot ones.

    Args:
        bootstrap: the draws.
        results: cells of the report.
        target: what was scored.
        drawn: language -> row -> seed -> its score and draws.
    """
    groups = {"+".join(results.sources(target)): results.sources(target), ZERO_SHOT: results.zero_shot[target]}
    for system in results.contenders:
        full, zero = _partner(results, system, REFERENCE), _partner(results, system, ZERO)
        if system.method == REFERENCE or system.has_intermediate or full is None or zero is None:
            continue
        for over, codes in groups.items():
            rows = [drawn[code] for code in codes if code in drawn]
            sides = [row for row in rows if all(one in row for one in (system, full, zero))]
            if not codes or len(sides) < len(codes):
                continue
            seeds = sorted(set.intersection(*(set(row[one]) for row in sides for one in (system, full))))
            if not seeds:
                continue
            ours, theirs = ([_of(row[one], seeds) for row in sides] for one in (system, full))
            floor = [_floor(row[zero], seeds) for row in sides]
            gain, own = bootstrap.difference(theirs, floor), bootstrap.difference(ours, floor)
            keys = [key for one in (system, full) for key in results.entries.get((target, one), ())]
            doubtful = unconverged(keys, results.facts)
            share = bootstrap.share(ours, theirs, floor) if is_gain(gain) and not doubtful else None
            yield Share(
                **target._asdict(),
                backbone=system.backbone,
                method=system.method,
                settings=system.settings,
                over=over,
                seeds=tuple(seeds),
                num_floor_seeds=min(len(row[zero]) for row in sides),
                full=_interval(gain),
                ours=_interval(own),
                share=share and Interval(value=share[0], low=share[1], high=share[2]),
                not_converged=tuple(doubtful),
            )


def _partner(results: Results, system: System, method: str) -> System | None:
    """The row of another method without an intermediate task, on the same backbone."""
    same = [
        s for s in results.systems if (s.backbone, s.method) == (system.backbone, method) and not s.has_intermediate
    ]
    return same[0] if same else None


def _of(by_seed: Mapping[int, Drawn], seeds: Sequence[int]) -> Drawn:
    chosen = [by_seed[seed] for seed in seeds]
    return Drawn(np.concatenate([one.scores for one in chosen]), np.concatenate([one.draws for one in chosen]))


def _floor(by_seed: Mapping[int, Drawn], seeds: Sequence[int]) -> Drawn:
    """A floor's score for each seed; where it has fewer seeds, its first one's stands for those it lacks."""
    first = by_seed[min(by_seed)]
    return _of({seed: by_seed.get(seed, first) for seed in seeds}, seeds)


def is_gain(one: Any) -> bool:
    """Whether a difference's interval lies above 0."""
    return one.low is not None and one.low > 0


def _interval(found: Any) -> Interval:
    return Interval(value=found.value, low=found.low, high=found.high, p=found.p)


def share_section(shares: Sequence[Share], results: Results) -> Section | None:
    """A table per group of languages: tasks down, methods across, with what an entry of each costs."""
    names = list(dict.fromkeys(one.over for one in shares))
    sheets = tuple(_sheet([one for one in shares if one.over == over], over, results) for over in names)
    if not sheets:
        return None
    single = any(one.num_floor_seeds < len(one.seeds) for one in shares)
    lead = (
        "Gain: score minus that of the same head on the frozen encoder, trained on the target alone. Share: an "
        "adapter's gain in percent of full fine-tuning's, with its 95 % interval from the same paired bootstrap; given "
        "only where the interval of full fine-tuning's gain lies above 0 and the runs of both converged."
    )
    lead += " The frozen floor has fewer seeds than the methods, and its own noise is left out." if single else ""
    return Section("shares", "What adapters keep of full fine-tuning's gain", sheets, lead=lead)


def _sheet(own: Sequence[Share], over: str, results: Results) -> Sheet:
    systems = [s for s in results.contenders if any(_row(one) == s[:3] for one in own) and not s.has_intermediate]
    bodies: list[Row] = []
    for target in results.headline:
        found = {_row(one): one for one in own if (one.task, one.metric, one.split) == target}
        if not found:
            continue
        first = next(iter(found.values()))
        items = [Item(target_name(results, target)), _gain(first.full)]
        for system in systems:
            one = found.get(system[:3])
            items += [_gain(one.ours), _share(one)] if one else [ABSENT, ABSENT]
        bodies.append(tuple(items))
    columns = [Column("task", numeric=False), Column("gain", _costly(results, REFERENCE, own[0].backbone))]
    for system in systems:
        band = f"{method_name(results, system)}{_cost(results, system)}"
        columns += [Column("gain", band), Column("share", band)]
    title = "On the language trained on" if over != ZERO_SHOT else "Zero-shot"
    return Sheet(f"shares-{over}", title, "", tuple(columns), (tuple(bodies),), foot=_foot(own))


def _row(one: Share) -> tuple[str, str, str]:
    return (one.backbone, one.method, one.settings)


def _costly(results: Results, method: str, backbone: str) -> str:
    row = next((s for s in results.contenders if (s.backbone, s.method) == (backbone, method)), None)
    return f"{method_name(results, row)}{_cost(results, row)}" if row else method


def _cost(results: Results, system: System) -> str:
    cost = results.cost(system)
    parts = (quantity(cost.num_trainable), quantity(cost.num_bytes, unit="B"), duration(cost.seconds))
    return f" ({', '.join(parts)})"


def _gain(interval: Interval) -> Item:
    small = () if interval.low is None else (f"[{signed(interval.low)}, {signed(interval.high)}]",)
    return Item(signed(interval.value), interval.value, small=small)


def _share(one: Share) -> Item:
    if one.not_converged:
        return Item(UNCONVERGED, title=f"not converged: {', '.join(one.not_converged)}")
    if one.share is None:
        return Item(ABSENT.text, title="the interval of full fine-tuning's gain does not lie above 0")
    small = (f"[{number(one.share.low)}, {number(one.share.high)}]",)
    return Item(f"{number(one.share.value)} %", one.share.value, small=small)


def _foot(own: Sequence[Share]) -> str:
    without = sum(one.share is None for one in own)
    text = "Behind a method's name: trained parameters, size on disk and training time of an entry."
    return text + (f" {without} of {len(own)} shares are not given." if without else "")
