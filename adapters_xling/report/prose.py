"""The sentences of a report: what its scores rest on, how to read it, which runs are in doubt."""

from __future__ import annotations

import math

from adapters_xling.report.cells import HARMS, HELPS, LEXICAL_FLOOR, LEXICAL_MARGIN
from adapters_xling.report.formats import (
    MISSING,
    UNCONVERGED,
    duration,
    intermediate_name,
    method_name,
    number,
    signed,
    target_name,
)
from adapters_xling.report.results import Results
from adapters_xling.report.scores import RunInfo

HOW_TO_READ = (
    "Every number is a percentage of the metric named with the task. Zero-shot is the unweighted mean over the "
    "languages that were not trained on; the source language stands beside it and is never part of it. A mean over "
    "tasks leaves retrieval out where anything else was scored.",
    "Δ is the difference to the same method without an intermediate task, taken within each seed and then averaged. "
    "A row with an intermediate task had more steps in total, those of that task; Δ does not correct for them.",
    f"± is the standard deviation over seeds. {HELPS} marks a gain and {HARMS} a loss, and means one thing wherever a "
    "Δ is printed: the paired bootstrap over test examples and seeds finds the difference at the 5% level after Holm's "
    "correction for all comparisons of the same kind in this report. A Δ without a mark is not shown to be none. With "
    "one seed nothing is said about training noise.",
    f"{MISSING} means not scored, never zero. (6/7) means that the average has six of its seven cells. "
    f"{UNCONVERGED} marks numbers of which a run, or one that it started from or stands on, did not converge.",
    "Floors say what a score is worth: guessing the majority, training only a head, using token vectors alone, or "
    "training an encoder whose weights were only drawn. "
    f"Lexical marks a task whose best method is within {LEXICAL_MARGIN:g} points of token vectors: "
    "shared vocabulary may explain its score.",
)


def facts_line(results: Results, info: RunInfo) -> list[tuple[str, str]]:
    """What stands under the title: label and value, only what is known."""
    seeds = results.seeds
    backbones = sorted({system.backbone for system in results.systems})
    pairs = [
        ("backbone", ", ".join(backbones)),
        ("seeds", f"{len(seeds)} ({', '.join(map(str, seeds))})" if seeds else MISSING),
        ("cells", f"{len(results.cells):,}"),
        ("date", info.date),
        ("machine", info.machine),
        ("commit", info.commit),
        ("training time", _training_time(results)),
        ("last run", _last_run(info)),
    ]
    return [(label, value) for label, value in pairs if value]


def _training_time(results: Results) -> str:
    """Time in which the entries were trained, whenever that was, from their cards."""
    known = [fact.seconds for fact in results.facts.values() if fact.seconds is not None]
    if not known:
        return ""
    silent = sum(fact.seconds is None and not fact.failure for fact in results.facts.values())
    count = f"{len(known)} entr{'ies' if len(known) != 1 else 'y'}" + (f", {silent} do not say" if silent else "")
    return f"{duration(math.fsum(known))} ({count})"


def _last_run(info: RunInfo) -> str:
    """Wall-clock time of the run that wrote the scores, said as such: it may have found everything trained."""
    if info.seconds is None:
        return ""
    trained = "" if info.num_trained is None else f", {info.num_trained or 'nothing'} trained"
    return f"{duration(info.seconds)} wall-clock{trained}"


def doubts(results: Results) -> list[str]:
    """One sentence per entry whose numbers are in doubt or absent, and one on what nobody stated."""
    used = sorted({key for keys in results.keys.values() for key in keys})
    floors = {key for system in results.floors for key in results.keys[system]}
    lines = []
    for key in sorted({*used, *results.facts}):
        fact = results.facts.get(key)
        if fact is None:
            continue
        reasons = []
        if fact.failure:
            reasons.append(f"failed: {fact.failure}")
        if fact.converged is False:
            reasons.append("did not converge")
        if fact.dev_score is not None and fact.chance is not None and key not in floors:
            levels = f"{number(fact.dev_score)} on dev against {number(fact.chance)} by chance"
            if fact.converged is False:
                reasons.append(levels)
            elif fact.dev_score <= fact.chance:
                reasons.append(f"no better than chance: {levels}")
        if reasons:
            lines.append(f"{key}: {'; '.join(reasons)}")
    silent = sum(
        1 for key in used if key not in floors and (key not in results.facts or results.facts[key].converged is None)
    )
    if silent:
        lines.append(f"{silent} of {len(set(used) - floors)} entries do not say whether they converged")
    return lines


def lexical_lines(results: Results) -> list[tuple[str, str, bool]]:
    """Per headline task: its name, the best method's lead over token vectors in words, and whether it is lexical."""
    lines = []
    for target in results.headline:
        found = results.lexical_gap(target)
        if found is None:
            lines.append((target_name(results, target), f"no {LEXICAL_FLOOR} floor to compare with", False))
            continue
        system, gap = found
        who = method_name(results, system)
        if system.has_intermediate:
            who += f" after {intermediate_name(results, system)}"
        lines.append((target_name(results, target), f"{signed(gap)} ({who})", gap < LEXICAL_MARGIN))
    return lines
