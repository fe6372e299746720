"""The rows of two reports that differ in their backbone alone, compared example by example and seed by seed."""

from __future__ import annotations

import warnings
from typing import Any

from adapters_xling.errors import DataError
from adapters_xling.metrics import Outcomes
from adapters_xling.report.compare import Kept, draw, on_same_rows, outcomes_of, pair
from adapters_xling.report.comparisons import FRESH, Comparison, Comparisons, corrected
from adapters_xling.report.results import Results
from adapters_xling.report.scores import unconverged
from adapters_xling.statistics import Bootstrap, resamples_for


def between(
    ours: tuple[Results, Kept], theirs: tuple[Results, Kept], *, bootstrap: Bootstrap | None = None
) -> Comparisons:
    """Compare the rows of two reports that differ in their backbone alone, example by example and seed by seed.

    Args:
        ours: cells of a report, and where its outcomes are.
        theirs: the other one's.
        bootstrap: the draws; by default as many as the number of comparisons wants.

    Raises:
        DataError: when no row of the one has a counterpart in the other.
    """
    mine, other = ours[0], theirs[0]
    if ours[1].precision != theirs[1].precision:
        warnings.warn(
            f"one of the two grids was scored in {ours[1].precision}, the other in {theirs[1].precision} "
            "(`scoring_precision`): their difference has the rounding in it too"
        )
    pairs = [
        (system, found)
        for system in mine.contenders
        for found in other.contenders
        if system[1:] == found[1:] and system.backbone != found.backbone
    ]
    shared = [target for target in mine.headline if target in other.headline]
    if not pairs or not shared:
        raise DataError(
            "the two grids have no row and target in common that differ in the backbone alone: the same methods with "
            "the same settings, intermediate tasks and targets are wanted in both"
        )
    bootstrap = bootstrap or Bootstrap(num_resamples=resamples_for(len(pairs) * len(shared)))
    found: list[Comparison] = []
    for target in shared:
        codes = [code for code in mine.languages[target] if code in other.languages[target]]
        lacking: dict[Any, str] = {}
        known = {}
        for code in codes:
            sides: dict[Any, dict[int, Outcomes]] = {}
            for results, kept in (ours, theirs):
                rows = {
                    (FRESH, system): {code: dict(cell.key_by_seed)}
                    for system in results.contenders
                    if (cell := results.row(target, system).get(code)) is not None
                }
                sides |= outcomes_of(kept, target, code, rows, lacking)
            if sides := on_same_rows(sides, target, lacking):
                known[code] = draw(bootstrap, code, target.metric, sides)
        for system, counterpart in pairs:
            one, two = (FRESH, system), (FRESH, counterpart)
            lacks = lacking.get(one) or lacking.get(two)
            zero_shot = [code for code in mine.zero_shot[target] if code in other.zero_shot[target]]
            own = {*mine.trained_on(target, system, zero_shot), *other.trained_on(target, counterpart, zero_shot)}
            outcome = (
                {"missing": lacks} if lacks else pair(bootstrap, known, one, two, zero_shot=zero_shot, trained_on=own)
            )
            keys = [
                key
                for results, row in ((mine, system), (other, counterpart))
                for key in results.entries.get((target, row), ())
            ]
            doubtful = unconverged(keys, {**mine.facts, **other.facts})
            found.append(
                Comparison(
                    **target._asdict(),
                    **system._asdict(),
                    against=counterpart.backbone,
                    not_converged=tuple(doubtful),
                    keys=mine.entries.get((target, system), ()),
                    **outcome,
                )
            )
    return Comparisons(
        num_resamples=bootstrap.num_resamples, seeds=bootstrap.seeds, comparisons=tuple(corrected(found))
    )
