"""Does the intermediate task help? Each cell after an intermediate task against the same method without one, on the
same rows and seeds, from what was kept of each example.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from adapters_xling import keeping
from adapters_xling.errors import DataError, MissingData
from adapters_xling.metrics import Outcomes
from adapters_xling.paths import score_file
from adapters_xling.report.cells import REFERENCE, ZERO, System, Target
from adapters_xling.report.comparisons import (
    EQUAL_STEPS,
    FRESH,
    FULL,
    WARM,
    Comparison,
    Comparisons,
    Interval,
    Share,
    corrected,
)
from adapters_xling.report.results import Results
from adapters_xling.report.scores import unconverged
from adapters_xling.report.shares import shares_of
from adapters_xling.statistics import Bootstrap, Drawn, Sample, resamples_for
from adapters_xling.zoo import Zoo

AGAINST = (FRESH, WARM, FULL)
"""Controls that are rows of the report themselves."""


@dataclass(frozen=True)
class Kept:
    """Where outcomes are found: `<runs>/scores/<entry>/<task>/<split>-<language>…`.

    Attributes:
        runs_dir: folder of everything produced.
        limits: task -> rows that were scored of each language, where not all were.
        readings: retrieval task -> what sets scores of another layer than the usual one apart.
        precision: of the forward passes.
        zoo: where given, scores of an entry in it must be of the weights that it has now.
    """

    runs_dir: Path
    limits: Mapping[str, int | None] = field(default_factory=dict)
    readings: Mapping[str, str] = field(default_factory=dict)
    precision: str = "fp32"
    zoo: Zoo | None = None

    def path(self, folder: Path, target: Target, language: str) -> Path:
        """The score file in an entry's folder of the target's task."""
        return score_file(
            folder,
            target.split,
            language,
            limit=self.limits.get(target.task),
            reading=self.readings.get(target.task, ""),
            precision=self.precision,
        )

    def file(self, key: str, target: Target, language: str) -> Path:
        """The score file of an entry."""
        return self.path(self.runs_dir / "scores" / Path(key).name / target.task, target, language)

    def outcomes(self, key: str, target: Target, language: str) -> Outcomes:
        """What became of each example.

        Raises:
            MissingData: when that was not kept, with what to do.
        """
        path = self.file(key, target, language)
        found = keeping.read_outcomes(path)
        if found is None:
            what = "has scores but no outcomes per example" if path.is_file() else "does not exist"
            raise MissingData(
                f"{path} {what}; run the grid, or `xling evaluate {Path(key).name} {target.task}`, again: predictions "
                "that are there are scored again without a model"
            )
        return found


@dataclass
class Scored:
    """Systems on one set of one target, drawn: side -> seed -> that seed's score and draws.

    Attributes:
        sides: what was scored.
        ids: examples that all of them were scored on.
        num_left_out: examples that only some were scored on.
        parallel: whether an id is the same content in all languages.
    """

    sides: dict[Any, dict[int, Drawn]]
    ids: tuple[str, ...]
    num_left_out: int
    parallel: bool


def draw(bootstrap: Bootstrap, language: str, metric: str, sides: Mapping[Any, Mapping[int, Outcomes]]) -> Scored:
    """Resample what several systems did with one language's examples, on those that all were scored on.

    Raises:
        DataError: when they have no example in common.
    """
    every = [outcomes for by_seed in sides.values() for outcomes in by_seed.values()]
    common = set.intersection(*(set(one.ids) for one in every))
    ids = tuple(name for name in every[0].ids if name in common)
    if not ids:
        raise DataError(f"{language}: the systems were not scored on the same examples; they have no id in common")
    parallel = all(one.parallel for one in every)
    drawn = {}
    for side, by_seed in sides.items():
        measured = next(iter(by_seed.values())).metric_of(metric)
        columns = [_columns(outcomes, measured.name, ids) for outcomes in by_seed.values()]
        units = {name: np.stack([column[name] for column in columns]) for name in columns[0]}
        sample = Sample(ids, units, _combining(measured.combine, metric))
        draws_SB = bootstrap.draws(sample, scope="" if parallel else language)
        drawn[side] = {seed: Drawn(sample.scores[i : i + 1], draws_SB[i : i + 1]) for i, seed in enumerate(by_seed)}
    return Scored(drawn, ids, len(set.union(*(set(one.ids) for one in every))) - len(ids), parallel)


def _columns(outcomes: Outcomes, metric: str, ids: Sequence[str]) -> Mapping[str, np.ndarray]:
    units = outcomes.units[metric]
    if outcomes.ids == tuple(ids):
        return units
    place = {name: i for i, name in enumerate(outcomes.ids)}
    rows = [place[name] for name in ids]
    return {name: column[rows] for name, column in units.items()}


def _combining(combine: Callable[[Mapping[str, Any]], dict[str, Any]], score: str) -> Callable[[Any], Any]:
    return lambda sums: combine(sums)[score]


def pair(
    bootstrap: Bootstrap,
    scored: Mapping[str, Scored],
    ours: Any,
    theirs: Any,
    *,
    zero_shot: Sequence[str],
    trained_on: Collection[str] = (),
    one_for_all: bool = False,
) -> dict[str, Any]:
    """Compare two sides over the languages and seeds that both have.

    Args:
        bootstrap: the draws.
        scored: language -> what the sides did there.
        ours: a side.
        theirs: the other.
        zero_shot: languages that the mean wants; none where nothing but languages trained on was scored.
        trained_on: those of them that rows of trained one of these two, which no zero-shot mean may count.
        one_for_all: see `Bootstrap.difference`.

    Returns:
        The fields of a `Comparison` that say what came out.
    """
    both = [code for code, one in scored.items() if ours in one.sides and theirs in one.sides]
    seeds = sorted(set.intersection(*(set(scored[c].sides[s]) for c in both for s in (ours, theirs)))) if both else []
    if not seeds:
        return {"missing": "no seed was scored on both sides" if both else "no language was scored on both sides"}

    def difference(codes: Sequence[str]) -> Interval:
        ends = [[_seeds(scored[code].sides[side], seeds) for code in codes] for side in (ours, theirs)]
        found = bootstrap.difference(*ends, one_for_all=one_for_all)
        return Interval(value=found.value, low=found.low, high=found.high, p=found.p)

    averaged = [code for code in both if code in zero_shot and code not in trained_on] if zero_shot else both
    parallel = all(scored[code].parallel for code in both)
    ids = [scored[code].ids for code in averaged or both]
    return {
        "seeds": tuple(seeds),
        "mean": difference(averaged) if averaged else None,
        "languages": {code: difference([code]) for code in both},
        "num_languages": len(averaged),
        "expected": len(zero_shot or both),
        "source_only": not zero_shot,
        "num_examples": len(set().union(*ids)) if parallel else sum(map(len, ids)),
        "num_left_out": sum(scored[code].num_left_out for code in averaged or both),
        "parallel": parallel,
    }


def _seeds(by_seed: Mapping[int, Drawn], seeds: Sequence[int]) -> Drawn:
    chosen = [by_seed[seed] for seed in seeds]
    return Drawn(np.concatenate([one.scores for one in chosen]), np.concatenate([one.draws for one in chosen]))


def compare(
    results: Results, kept: Kept, *, bootstrap: Bootstrap | None = None, controls: Mapping[str, str] | None = None
) -> Comparisons:
    """Compare every cell with what it is to be told from: `comparisons.FRESH` and the other controls.

    Args:
        results: cells of a report; of each task the target that stands for it is compared.
        kept: where the outcomes are.
        bootstrap: the draws; by default as many as the number of comparisons wants.
        controls: entry -> its control at equal total steps.
    """
    if bootstrap is None:
        num = max(len([pair for pair in _pairs(results) if pair[1] == against]) for against in AGAINST)
        bootstrap = Bootstrap(num_resamples=resamples_for(num * len(results.headline)))
    found: list[Comparison] = []
    shares: list[Share] = []
    for target in results.headline:
        sides, pairs = _sides(results, target, controls or {})
        lacking: dict[Any, str] = {}
        scored = {code: _scored(bootstrap, kept, target, code, sides, lacking) for code in results.languages[target]}
        known = {code: one for code, one in scored.items() if one is not None}
        for system, against, ours, theirs in pairs:
            lacks = lacking.get(ours) or lacking.get(theirs)
            wanted = results.zero_shot[target]
            own = {code for side in (ours, theirs) for code in results.trained_on(target, side[1], wanted)}
            outcome = (
                {"missing": lacks} if lacks else pair(bootstrap, known, ours, theirs, zero_shot=wanted, trained_on=own)
            )
            keys = {key for side in (ours, theirs) for by_seed in sides[side].values() for key in by_seed.values()}
            found.append(
                Comparison(
                    **target._asdict(),
                    **system._asdict(),
                    against=against,
                    not_converged=tuple(unconverged(keys, results.facts)),
                    **outcome,
                )
            )
        plain = {
            code: {side[1]: by_seed for side, by_seed in one.sides.items() if side[0] == FRESH}
            for code, one in known.items()
        }
        shares += shares_of(bootstrap, results, target, plain)
    return Comparisons(
        num_resamples=bootstrap.num_resamples,
        seeds=bootstrap.seeds,
        comparisons=tuple(corrected(found)),
        shares=tuple(shares),
    )


_Sides = dict[Any, dict[str, dict[int, str]]]
"""Side -> language -> seed -> key of the entry that was scored."""


def _sides(
    results: Results, target: Target, controls: Mapping[str, str]
) -> tuple[_Sides, list[tuple[System, str, Any, Any]]]:
    """What is to be scored on a target, and what is to be compared: (row, against what, one side, the other)."""
    sides: _Sides = {
        (FRESH, system): {code: dict(cell.key_by_seed) for code, cell in cells.items()}
        for system in results.systems
        if (cells := results.row(target, system)) and _is_drawn(system)
    }
    pairs = [
        (system, against, (FRESH, system), (FRESH, other))
        for system, against, other in _pairs(results)
        if (FRESH, system) in sides and (FRESH, other) in sides and sides[FRESH, system] != sides[FRESH, other]
    ]
    for system in results.contenders:
        longer = {
            code: {seed: controls[key] for seed, key in by_seed.items() if key in controls}
            for code, by_seed in sides.get((FRESH, system), {}).items()
        }
        if any(longer.values()):
            sides[EQUAL_STEPS, system] = longer
            pairs.append((system, EQUAL_STEPS, (FRESH, system), (EQUAL_STEPS, system)))
    return sides, pairs


def _is_drawn(system: System) -> bool:
    """Whether what became of each example is wanted of a row: contenders, and the floor that gains are counted from."""
    return not system.is_floor or system.method == ZERO


def _pairs(results: Results) -> list[tuple[System, str, System]]:
    """Rows, what each is to be told from, and the row that this is."""
    found: list[tuple[System, str, System]] = []
    for system in results.contenders:
        if (base := results.baseline(system)) is not None:
            found.append((system, FRESH, base))
        started = system._replace(init="warm", route="slot")
        if system.has_intermediate and system != started and started in results.systems:
            found.append((system, WARM, started))
        full = [one for one in results.contenders if one.method == REFERENCE and one.backbone == system.backbone]
        full = [one for one in full if one.intermediate == system.intermediate]
        if system.method != REFERENCE and full:
            found.append((system, FULL, full[0]))
    return found


def _scored(
    bootstrap: Bootstrap, kept: Kept, target: Target, language: str, sides: _Sides, lacking: dict[Any, str]
) -> Scored | None:
    """All sides on one language, drawn; see `outcomes_of`."""
    found = on_same_rows(outcomes_of(kept, target, language, sides, lacking), target, lacking)
    return draw(bootstrap, language, target.metric, found) if found else None


def outcomes_of(
    kept: Kept, target: Target, language: str, sides: _Sides, lacking: dict[Any, str]
) -> dict[Any, dict[int, Outcomes]]:
    """What became of each example of all sides; a side that lacks it is noted with the reason, and left out."""
    found: dict[Any, dict[int, Outcomes]] = {}
    for side, by_language in sides.items():
        try:
            read = {seed: kept.outcomes(key, target, language) for seed, key in by_language.get(language, {}).items()}
        except MissingData as err:
            lacking.setdefault(side, str(err))
            continue
        if read:
            found[side] = read
    return found


def on_same_rows(
    found: Mapping[Any, dict[int, Outcomes]], target: Target, lacking: dict[Any, str]
) -> dict[Any, dict[int, Outcomes]]:
    """Sides that were scored on the same rows as the first; others are noted with the reason, and left out."""
    kept: dict[Any, dict[int, Outcomes]] = {}
    for side, by_seed in found.items():
        first = next(iter(next(iter(kept.values()), by_seed).values()))
        unlike = next((name for one in by_seed.values() if (name := one.unlike(first)) is not None), None)
        if unlike is None:
            kept[side] = by_seed
            continue
        why = (
            f"the two were scored on other rows of {target.task} ({target.split}): in {first.language} the gold of "
            f"example {unlike!r} differs; run the grid, or both grids, again (what stands on the rows of now is kept)"
        )
        lacking.setdefault(side, why)
    return kept
