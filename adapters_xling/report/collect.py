"""Sort scores into cells, rows and columns, refusing whatever would mix two things in one cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapters_xling.errors import DataError
from adapters_xling.languages import LANGUAGES
from adapters_xling.report.cells import BASE, FLOORS, NO_INTERMEDIATE, RANDOM, UNTRAINED, Cell, System, Target
from adapters_xling.report.results import Marks, Results
from adapters_xling.report.scores import EntryFacts, RunInfo, unconverged
from adapters_xling.spec import Score, canonical_json

_Place = tuple[Target, System, str]


def collect(
    scores: Iterable[Score],
    *,
    info: RunInfo | None = None,
    facts: Mapping[str, EntryFacts] | None = None,
    marks: Marks | None = None,
) -> Results:
    """Aggregate scores over seeds and order everything for display.

    The order does not depend on the order of the lines (parallel runs write them in any), save that a task's first
    metric in the file stands for it where `info.metrics` says nothing.

    Args:
        scores: any scores; a line given twice counts once.
        info: headline metrics, order of tasks, languages expected.
        facts: by entry key; entries without scores may be in it (failed runs).
        marks: of differences that comparisons found (`compared.marks_of`).

    Raises:
        DataError: when two entries give the same cell and seed, or there is nothing to report.
    """
    info = info or RunInfo(title="")
    facts = facts or {}
    found: dict[_Place, dict[int, Score]] = {}
    for score in scores:
        place = (
            Target(score.task, score.metric, score.split),
            _system(score, info, facts),
            score.language,
        )
        other = found.setdefault(place, {}).setdefault(score.seed, score)
        if other != score:
            raise DataError(_clash(other, score))
    if not found:
        raise DataError("no scores to report: run an evaluation first, or check which file was read")
    keys: dict[System, set[str]] = {}
    for (_, system, _), by_seed in found.items():
        keys.setdefault(system, set()).update(score.key for score in by_seed.values())
    found = _shared_rows(found)
    for (_, system, _), by_seed in found.items():
        if system not in keys:
            keys[system] = {score.key for score in by_seed.values()}
    keys = {system: names for system, names in keys.items() if any(system == other for _, other, _ in found)}
    cells = {
        place: Cell(
            by_seed={seed: by_seed[seed].value for seed in sorted(by_seed)},
            zero_shot=all(score.zero_shot for score in by_seed.values()),
            converged=not unconverged((score.key for score in by_seed.values()), facts),
            key_by_seed={seed: by_seed[seed].key for seed in sorted(by_seed)},
        )
        for place, by_seed in found.items()
    }
    targets, headline = _targets(list(found), info)
    zero_shot = {target: _zero_shot(target, cells, info) for target in targets}
    return Results(
        targets=targets,
        headline=headline,
        systems=_systems(keys, facts),
        cells=cells,
        keys={system: tuple(sorted(names)) for system, names in keys.items()},
        entries=_entries(found),
        facts=facts,
        languages={
            target: order_languages(
                {code for where, _, code in cells if where == target} | set(zero_shot[target]), zero_shot[target]
            )
            for target in targets
        },
        zero_shot=zero_shot,
        retrieval=frozenset(info.retrieval),
        chance=_chance(found, facts, headline),
        marks=marks or {},
    )


def _system(score: Score, info: RunInfo, facts: Mapping[str, EntryFacts]) -> System:
    """The row that a score belongs to; a backbone with random weights is a floor of the one it is the twin of."""
    if score.backbone in info.random:
        return System(info.random[score.backbone], RANDOM, "{}", NO_INTERMEDIATE, "fresh", "slot")
    return System(
        score.backbone,
        score.method,
        canonical_json(facts[score.key].method_settings) if score.key in facts else "{}",
        (facts[score.key].mixture if score.key in facts else "") or score.intermediate,
        score.init,
        score.route,
    )


def _entries(found: Mapping[_Place, Mapping[int, Score]]) -> dict[tuple[Target, System], tuple[str, ...]]:
    """Which trained entries stand behind a row's cells of a target; none where nothing was trained for them."""
    keys: dict[tuple[Target, System], dict[str, None]] = {}
    for (target, system, _), by_seed in sorted(found.items()):
        trained = [by_seed[seed] for seed in sorted(by_seed) if by_seed[seed].method not in UNTRAINED]
        keys.setdefault((target, system), {}).update(dict.fromkeys(score.key for score in trained))
    return {place: tuple(names) for place, names in keys.items()}


def _shared_rows(found: dict[_Place, dict[int, Score]]) -> dict[_Place, dict[int, Score]]:
    """Give what was scored without training for its target (retrieval) to the rows that it belongs to.

    The bare backbone is every method's row without an intermediate task, in every seed, also where nothing else is in
    that row; an intermediate entry scored as it is belongs to each row that starts from it or stands on it. Where there
    is no method and no such row, it keeps its own.
    """
    seeds: dict[System, set[int]] = {}
    for (_, system, _), by_seed in found.items():
        seeds.setdefault(system, set()).update(by_seed)
    shared: dict[_Place, dict[int, Score]] = {}
    for (target, system, language), by_seed in found.items():
        if system.method == BASE:
            score, hosts = next(iter(by_seed.values())), dict[System, set[int]]()
            for other, known in seeds.items():
                if other.backbone == system.backbone and not other.is_floor and other.method != BASE:
                    host = System(*other[:3], NO_INTERMEDIATE, "fresh", "slot") if other.has_intermediate else other
                    hosts.setdefault(host, set()).update(seeds.get(host, known))
            given = {host: dict.fromkeys(sorted(known), score) for host, known in hosts.items()}
        elif system.has_intermediate and (system.init, system.route) == ("fresh", "slot"):
            given = {other: by_seed for other in seeds if other != system and other[:4] == system[:4]}
        else:
            given = {}
        for host, scores in (given or {system: by_seed}).items():
            shared.setdefault((target, host, language), {}).update(scores)
    return shared


def _clash(one: Score, two: Score) -> str:
    cell = f"{one.task}/{one.language}/{one.metric} ({one.split}), {one.method}, seed {one.seed}"
    if one.key == two.key:
        return (
            f"two different scores for {cell}: {one.value:g} and {two.value:g}, both from entry {one.key}. "
            "Delete the line that is out of date"
        )
    return (
        f"entries {one.key} and {two.key} both fill the cell {cell}; they differ in something a table does not show "
        "(recipe, data). Report them separately, or give their `method_settings` as facts if those differ"
    )


def order_languages(codes: Iterable[str], zero_shot: Iterable[str] = ()) -> tuple[str, ...]:
    """Order languages for a table: those trained on first, then by script (Latin first), family and code."""
    unseen = set(zero_shot)

    def place(code: str) -> tuple[Any, ...]:
        known = LANGUAGES.get(code)
        if known is None:
            return (code in unseen, 2, "", "", code)
        return (code in unseen, int(known.script != "Latn"), known.script, known.family, code)

    return tuple(sorted(set(codes), key=place))


def _targets(places: Sequence[_Place], info: RunInfo) -> tuple[tuple[Target, ...], tuple[Target, ...]]:
    """Every target in order, and the one of each task that stands for it (test before any other split)."""
    seen = list(dict.fromkeys(target for target, _, _ in places))
    tasks = [task for task in info.metrics if any(t.task == task for t in seen)]
    tasks += sorted({target.task for target in seen} - set(tasks))
    ordered, headline = [], []
    for task in tasks:
        own = [target for target in seen if target.task == task]
        wanted = info.metrics.get(task)
        if wanted is not None and all(target.metric != wanted for target in own):
            known = ", ".join(sorted({target.metric for target in own}))
            raise DataError(f"no score of {task} has the metric {wanted!r} that should stand for it; scored: {known}")
        first = wanted or own[0].metric
        own.sort(key=lambda t: (t.metric != first, t.metric, t.split != "test", t.split))
        ordered += own
        headline.append(own[0])
    return tuple(ordered), tuple(headline)


def _zero_shot(target: Target, cells: Mapping[_Place, Cell], info: RunInfo) -> tuple[str, ...]:
    seen = {code for (where, _, code), cell in cells.items() if where == target and cell.zero_shot}
    return order_languages(info.zero_shot_languages.get(target.task, seen))


def _systems(keys: Mapping[System, Iterable[str]], facts: Mapping[str, EntryFacts]) -> tuple[System, ...]:
    """Contenders by size, the largest method first, each from no intermediate task on; then the floors."""
    size: dict[str, int] = {}
    for system, names in keys.items():
        known = [facts[name].num_trainable or 0 for name in names if name in facts]
        size[system.method] = max([size.get(system.method, 0), *known])
    floors = list(FLOORS)

    def place(system: System) -> tuple[Any, ...]:
        rank = floors.index(system.method) if system.is_floor else -1
        without = system.intermediate != NO_INTERMEDIATE
        return (rank, system.backbone, -size[system.method], system.method, system.settings, without, *system[3:])

    return tuple(sorted(keys, key=place))


def _chance(
    found: Mapping[_Place, Mapping[int, Score]], facts: Mapping[str, EntryFacts], headline: Sequence[Target]
) -> dict[Target, float]:
    """Chance levels belong to the metric that models are selected by, so only headline targets have one."""
    levels: dict[Target, float] = {}
    for (target, _, _), by_seed in found.items():
        for score in by_seed.values():
            chance = facts[score.key].chance if score.key in facts else None
            if chance is not None and target in headline:
                levels[target] = max(chance, levels.get(target, chance))
    return levels
