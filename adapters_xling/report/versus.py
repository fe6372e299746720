"""Any two systems against each other on one task: found by key or by labels, compared example by example."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters_xling import keeping
from adapters_xling.errors import DataError, MissingData, UnknownName, unknown
from adapters_xling.metrics import Outcomes
from adapters_xling.report.cells import UNTRAINED, Target
from adapters_xling.report.collect import order_languages
from adapters_xling.report.compare import Kept, draw, pair
from adapters_xling.report.comparisons import Interval
from adapters_xling.spec import FULL, ON, Frozen, Score
from adapters_xling.statistics import Bootstrap, holm, mean_sd

LABELS = ("method", "intermediate", "init", "route", "backbone", "seed")
"""What a selector may say of an entry; a score carries all of it."""
_SCORED = re.compile(r"[^-]+-[^-]+(?:-first(\d+))?(?:-(bf16))?\.json")
"""Name of a score file that `xling compare` can read: first rows, precision."""
NOISE = ", and its own noise of training, which one seed does not show, is taken to be as large as theirs"
SHORT_HASH = 6
"""Characters of a key's hash that name it."""


class Side(Frozen, frozen=True):
    """One of the two systems.

    Attributes:
        name: as it was asked for.
        keys: of its entries, one per seed.
        scores: language -> mean over the paired seeds, and their standard deviation (None for one).
    """

    name: str
    keys: tuple[str, ...]
    scores: dict[str, tuple[float, float | None]]


class Versus(Frozen, frozen=True):
    """The first system minus the second.

    Attributes:
        task: what both were scored on.
        metric: the score compared.
        split: of the task.
        ours: the first system.
        theirs: the second.
        seeds: paired.
        languages: each by itself.
        p_holm: language -> p after Holm's correction over the languages.
        mean: over the zero-shot languages; None where none was scored.
        zero_shot: languages in `mean`.
        num_examples: examples resampled, each id once where rows are parallel.
        num_left_out: examples that only one of the two was scored on.
        parallel: whether an example was drawn for all languages at once.
        num_resamples: draws.
        notes: what a reader must know beside the numbers.
    """

    task: str
    metric: str
    split: str
    ours: Side
    theirs: Side
    seeds: tuple[int, ...]
    languages: dict[str, Interval]
    p_holm: dict[str, float]
    mean: Interval | None
    zero_shot: tuple[str, ...]
    num_examples: int
    num_left_out: int
    parallel: bool
    num_resamples: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """An entry that was scored on the task: its folder's name, what its scores say of it, and in which languages."""

    key: str
    labels: Mapping[str, str]
    zero_shot: Mapping[str, bool]


def scored_entries(where: Kept, target: Target, languages: Sequence[str]) -> dict[str, Entry]:
    """Every entry that has kept scores of a task and split.

    Raises:
        MissingData: when there is none.
    """
    found: dict[str, Entry] = {}
    runs_dir, limit, precision = where.runs_dir, where.limits.get(target.task), where.precision
    for folder in sorted((runs_dir / "scores").glob(f"*/{target.task}")):
        scores: dict[str, Score] = {}
        for code in languages:
            kept = keeping.read_of(where.path(folder, target, code), where.zoo)
            if kept and kept.scores:
                scores[code] = kept.scores[0]
        if scores:
            first = next(iter(scores.values()))
            labels = {name: str(getattr(first, name)) for name in LABELS}
            zero_shot = {code: score.zero_shot for code, score in scores.items()}
            found[folder.parent.name] = Entry(folder.parent.name, labels, zero_shot)
    if not found:
        rows = (f" of the first {limit} rows" if limit else "") + (f" in {precision}" if precision != FULL else "")
        others = _others([file.name for file in (runs_dir / "scores").glob(f"*/{target.task}/{target.split}-*.json")])
        raise MissingData(
            f"{runs_dir / 'scores'}: no entry has scores{rows} on {target.task}, split {target.split}, in "
            f"{', '.join(languages)}{others}; `xling evaluate ENTRY {target.task}` makes them, --runs names "
            "another runs folder"
        )
    return found


def _others(names: Sequence[str]) -> str:
    """The options that would find scores, of names of score files."""
    options: dict[str, None] = {}
    for name in names:
        if found := _SCORED.fullmatch(name):
            first, rounded = found.groups()
            words = ([f"--limit {first}"] if first else []) + ([f"--precision {rounded}"] if rounded else [])
            options[" ".join(words) or "no --limit and no --precision"] = None
    return f" (there are scores for {'; '.join(sorted(options))})" if options else ""


def select(text: str, entries: Mapping[str, Entry], *, where: str) -> dict[int, Entry]:
    """The entries that a key, several keys, or labels mean, by seed.

    Args:
        text: ``method=lora,intermediate=mini-nli``, or a key (its beginning, or that of its hash), or several keys
            with commas between them.
        entries: what there is to choose from.
        where: for messages: task and split.

    Raises:
        UnknownName: for a key, a label or its value that does not occur, with the closest.
        DataError: when several entries of one seed fit.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if any("=" in part for part in parts):
        chosen = _by_labels(parts, entries, where)
    else:
        chosen = [_by_key(part, entries, where) for part in parts]
    by_seed: dict[int, Entry] = {}
    for entry in chosen:
        other = by_seed.setdefault(int(entry.labels["seed"]), entry)
        if other.key != entry.key:
            unlike = [name for name in LABELS if other.labels[name] != entry.labels[name]]
            how = (
                f"they differ in {', '.join(unlike)}: say which"
                if unlike
                else ("they differ in what labels do not say (settings, recipe, steps): name them by key")
            )
            raise DataError(f"{text!r} means {other.key} and {entry.key}, both of seed {entry.labels['seed']}; {how}")
    unlike = [name for name in LABELS[:-1] if len({entry.labels[name] for entry in by_seed.values()}) > 1]
    if unlike and any("=" in part for part in parts):
        raise DataError(
            f"{text!r} means {', '.join(entry.key for entry in by_seed.values())}, which are no seeds of one system: "
            f"they differ in {', '.join(unlike)}. Say which, or name them by key"
        )
    if not by_seed:
        raise DataError(f"{text!r} names no entry; give a key or labels such as method=lora,intermediate=none")
    return dict(sorted(by_seed.items()))


def _chosen(text: str, entries: Mapping[str, Entry], where: str, kept: Kept, target: Target) -> dict[int, Entry]:
    """`select`, with word of scores that were made with other options."""
    try:
        return select(text, entries, where=where)
    except UnknownName as err:
        if "=" in text:
            raise
        for part in (part.strip() for part in text.split(",")):
            there = [one for one in (kept.runs_dir / "scores").glob("*") if one.name.startswith(part)] if part else []
            files = [file.name for one in there for file in (one / target.task).glob(f"{target.split}-*.json")]
            if not any(key.startswith(part) for key in entries) and (others := _others(files)):
                raise UnknownName(f"{part}: no such scores of it on {where}{others}") from err
        raise


def _by_key(name: str, entries: Mapping[str, Entry], where: str) -> Entry:
    fits = [key for key in entries if key == name] or [key for key in entries if key.startswith(name)]
    if not fits and len(name) >= SHORT_HASH:
        fits = [key for key in entries if key.rpartition("-")[2].startswith(name)]
    shortest = min(fits, key=len, default="")
    if all(key.startswith(shortest + ON) for key in fits if key != shortest):
        fits = fits and [shortest]  # the others are the same entry on other routes
    if len(fits) > 1:
        raise DataError(f"{name!r} is the beginning of {len(fits)} entries scored on {where}: {', '.join(fits)}")
    if not fits:
        raise unknown(f"entry scored on {where}:", name, entries, "or labels: method=…,intermediate=…")
    return entries[fits[0]]


def _by_labels(parts: Sequence[str], entries: Mapping[str, Entry], where: str) -> list[Entry]:
    chosen = list(entries.values())
    for part in parts:
        label, _, value = part.partition("=")
        if label not in LABELS:
            raise unknown("label", label, LABELS, f"{part!r}; keys and labels cannot be mixed")
        known = {entry.labels[label] for entry in entries.values()}
        if value not in known:
            raise unknown(f"{label} of entries scored on {where}:", value, known)
        chosen = [entry for entry in chosen if entry.labels[label] == value]
    if not chosen:
        raise DataError(f"no entry scored on {where} has all of {', '.join(parts)}; scored are: {', '.join(entries)}")
    return chosen


def versus(
    names: tuple[str, str],
    target: Target,
    *,
    kept: Kept,
    languages: Sequence[str],
    bootstrap: Bootstrap,
    only: bool = False,
) -> Versus:
    """Compare two systems on a task, seeds paired.

    A system of one entry whose seed the other does not have is compared with each of the other's seeds.

    Args:
        names: selectors of the two; see `select`.
        target: task, score and split.
        kept: where outcomes are.
        languages: to look in.
        bootstrap: the draws.
        only: raise where one of the languages was not scored for both, instead of leaving it out.

    Raises:
        UnknownName: for a system or score that does not exist, with the closest.
        MissingData: when outcomes were not kept, or the two share no language.
    """
    entries = scored_entries(kept, target, languages)
    where = f"{target.task} ({target.split})"
    chosen = [_chosen(name, entries, where, kept, target) for name in names]
    chosen, notes = _seeds_paired(chosen, names)
    trained = [{entry.key for entry in side.values() if entry.labels["method"] not in UNTRAINED} for side in chosen]
    one_for_all = len(chosen[0]) > 1 and any(len(keys) == 1 for keys in trained)
    shared = [c for c in languages if all(c in entry.zero_shot for side in chosen for entry in side.values())]
    lacking = [code for code in languages if code not in shared]
    if not shared or (only and lacking):
        raise MissingData(f"{names[0]} and {names[1]} were not both scored on {where} in {', '.join(lacking)}")
    if partly := [c for c in lacking if any(c in entry.zero_shot for side in chosen for entry in side.values())]:
        notes.append(f"left out, for only one of the two was scored there: {', '.join(partly)}")
    every = [entry for side in chosen for entry in side.values()]
    zero_shot = [code for code in shared if all(entry.zero_shot[code] for entry in every)]
    if some := [c for c in shared if c not in zero_shot and any(entry.zero_shot[c] for entry in every)]:
        notes.append(f"not in the zero-shot mean, for rows of it trained one of the two: {', '.join(some)}")
    scored, scores = {}, ({}, {})  # type: ignore[var-annotated]
    for code in order_languages(shared, zero_shot):
        sides = {
            i: {seed: kept.outcomes(entry.key, target, code) for seed, entry in side.items()}
            for i, side in enumerate(chosen)
        }
        if target.metric not in (known := sides[0][min(sides[0])].scores()):
            raise unknown(f"score of {where}", target.metric, known)
        read = {entry.key: sides[i][seed] for i, side in enumerate(chosen) for seed, entry in side.items()}
        _require_same_rows(read, target, kept)
        scored[code] = draw(bootstrap, code, target.metric, sides)
        for i in (0, 1):
            scores[i][code] = mean_sd([float(one.scores[0]) for one in scored[code].sides[i].values()])
    found: dict[str, Any] = pair(bootstrap, scored, 0, 1, zero_shot=zero_shot, one_for_all=one_for_all)
    p_values = {code: part.p for code, part in found["languages"].items() if part.p is not None}
    return Versus(
        **target._asdict(),
        ours=Side(name=names[0], keys=tuple(e.key for e in chosen[0].values()), scores=scores[0]),
        theirs=Side(name=names[1], keys=tuple(e.key for e in chosen[1].values()), scores=scores[1]),
        seeds=found["seeds"],
        languages=found["languages"],
        p_holm=dict(zip(p_values, holm(list(p_values.values())), strict=True)),
        mean=found["mean"] if zero_shot else None,
        zero_shot=tuple(code for code in scored if code in zero_shot),
        num_examples=found["num_examples"],
        num_left_out=found["num_left_out"],
        parallel=found["parallel"],
        num_resamples=bootstrap.num_resamples,
        notes=tuple(notes),
    )


def _require_same_rows(outcomes: Mapping[str, Outcomes], target: Target, kept: Kept) -> None:
    """Refuse entries of which some were scored before the rows of a language changed.

    Raises:
        DataError: naming the entries that were not scored on the rows of the one scored last.
    """
    files = {key: kept.file(key, target, one.language) for key, one in outcomes.items()}
    last = max(files, key=lambda key: files[key].stat().st_mtime_ns)
    unlike = {key: name for key, one in outcomes.items() if (name := one.unlike(outcomes[last])) is not None}
    if not unlike:
        return
    limit = kept.limits.get(target.task)
    asked = f"{target.task} --split {target.split}" + (f" --limit {limit}" if limit else "")
    asked += f" --precision {kept.precision}" if kept.precision != FULL else ""
    commands = ", ".join(f"`xling evaluate {key} {asked}`" for key in (*unlike, last))
    raise DataError(
        f"{', '.join(unlike)}: scored on other rows of {target.task} ({target.split}) than {last}, which was scored "
        f"later; in {outcomes[last].language} the gold of example {next(iter(unlike.values()))!r} differs. Score them "
        f"on the rows of now: {commands} (what stands on these is kept)"
    )


def _seeds_paired(
    chosen: Sequence[Mapping[int, Entry]], names: Sequence[str]
) -> tuple[list[dict[int, Entry]], list[str]]:
    """Both systems on the seeds they share, and what is to be said about it.

    Raises:
        DataError: when they share none, and neither is a single entry.
    """
    ours, theirs = chosen
    shared = sorted(set(ours) & set(theirs))
    if shared:
        notes = [
            f"seeds {', '.join(map(str, sorted(set(side) - set(shared))))} of {name} have no partner and are left out"
            for side, name in zip(chosen, names, strict=True)
            if set(side) - set(shared)
        ]
        return [{seed: side[seed] for seed in shared} for side in chosen], notes
    for one, other, name in ((ours, theirs, names[0]), (theirs, ours, names[1])):
        if len(one) == 1:
            (entry,) = one.values()
            spread: dict[int, Entry] = dict.fromkeys(other, entry)
            sides = [spread, dict(other)] if one is ours else [dict(other), spread]
            noise = "" if entry.labels["method"] in UNTRAINED else NOISE
            return sides, [
                f"{name} is one entry, of seed {min(one)}: it is compared with each seed of the other{noise}"
            ]
    raise DataError(
        f"{names[0]} has seeds {', '.join(map(str, ours))}, {names[1]} has {', '.join(map(str, theirs))}: seeds are "
        "compared in pairs, and these share none"
    )
