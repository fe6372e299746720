"""Plain-text outputs: Markdown for pages and issues, tidy CSV for other programs, a table for the terminal."""

from __future__ import annotations

import csv as csv_writer
import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from adapters_xling.report.beside import published_section
from adapters_xling.report.cells import FLOORS, HARMS, HELPS, Average, System, Target
from adapters_xling.report.collect import collect
from adapters_xling.report.costs import cost_section
from adapters_xling.report.effects import effect_section
from adapters_xling.report.formats import (
    MISSING,
    average_text,
    dagger,
    delta_text,
    duration,
    hole,
    intermediate_name,
    method_name,
    number,
    quantity,
    signed,
    source_name,
    target_name,
)
from adapters_xling.report.prose import HOW_TO_READ, doubts, facts_line, lexical_lines
from adapters_xling.report.results import Marks, Results
from adapters_xling.report.scores import EntryFacts, RunInfo
from adapters_xling.report.sheets import Section, escape_markdown, markdown_lines
from adapters_xling.report.summary import means_of
from adapters_xling.spec import Score, canonical_json

_Facts = Mapping[str, EntryFacts]


# --- Markdown ---------------------------------------------------------------------------------------------------


def markdown(
    scores: Iterable[Score],
    *,
    info: RunInfo,
    facts: _Facts | None = None,
    sections: Sequence[Section] = (),
    marks: Marks | None = None,
) -> str:
    """Render scores as one Markdown document of pipe tables; `sections` come after the intermediate task's effect."""
    results = collect(scores, info=info, facts=facts, marks=marks)
    parts = [
        f"# {escape_markdown(info.title)}",
        " · ".join(f"{k}: {escape_markdown(v)}" for k, v in facts_line(results, info)),
    ]
    parts += [f"> **Note:** {escape_markdown(note)}" for note in info.notes]
    heading = "Scores on the language trained on" if results.source_only else "Zero-shot means"
    parts += [f"## {heading}", _summary(results)]
    for target in results.targets:
        parts += [
            f"## {escape_markdown(target_name(results, target))}",
            f"Metric: {target.metric}, split: {target.split}.",
        ]
        parts.append(_languages(results, target))
        deltas = _deltas(results, target)
        if deltas:
            parts += ["Δ against no intermediate task, seeds paired:", deltas]
    for section in (effect_section(results), *sections, cost_section(results)):
        parts += markdown_lines(section) if section else []
    if results.floors:
        parts += ["## Floors", _floors(results)]
    published = published_section(results, info)
    parts += markdown_lines(published) if published else []
    parts += [
        "## Convergence",
        "\n".join(f"- {escape_markdown(line)}" for line in doubts(results)) or "Every run converged.",
    ]
    parts += ["## How to read this", "\n".join(f"- {line}" for line in HOW_TO_READ)]
    return "\n\n".join(parts) + "\n"


def _pipes(head: Sequence[str], rows: Iterable[Sequence[str]], *, labels: int) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * labels + " ---: |" * (len(head) - labels)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _names(results: Results, system: System) -> list[str]:
    return [escape_markdown(method_name(results, system)), escape_markdown(intermediate_name(results, system))]


def _summary(results: Results) -> str:
    head = ["method", "intermediate", results.overall_name, "Δ"]
    for target in results.headline:
        sources = () if results.source_only else results.sources(target)
        head += [escape_markdown(target_name(results, target)), *([source_name(sources)] if sources else []), "Δ"]
    head += ["trainable", "size", "training"]
    rows = []
    for system in results.systems:
        row = [
            *_names(results, system),
            average_text(results.overall(system)),
            _delta(results.overall_delta(system), system),
        ]
        for target in results.headline:
            row.append(average_text(results.zero_shot_mean(target, system)))
            beside = results.sources(target) and not results.source_only
            row += [average_text(results.source_mean(target, system))] if beside else []
            row.append(_delta(results.delta(target, system), system, results.mark(target, system)))
        cost = results.cost(system)
        row += [quantity(cost.num_trainable), quantity(cost.num_bytes, unit="B"), duration(cost.seconds)]
        rows.append(row)
    return _pipes(head, rows, labels=2)


def _delta(part: Average, system: System, mark: str = "") -> str:
    if not system.is_compared:
        return ""
    return delta_text(part, mark=mark).replace("*", "\\*")


def _compared(results: Results, target: Target, system: System) -> tuple[Average, System, str]:
    return results.delta(target, system), system, results.mark(target, system)


def _languages(results: Results, target: Target) -> str:
    codes = results.languages[target]
    rows = []
    for system in results.systems:
        row = results.row(target, system)
        if row:
            cells = [number(row[c].mean) + dagger(row[c]) if c in row else MISSING for c in codes]
            rows.append([*_names(results, system), average_text(results.zero_shot_mean(target, system)), *cells])
    return _pipes(["method", "intermediate", results.mean_name, *codes], rows, labels=2)


def _deltas(results: Results, target: Target) -> str:
    codes = results.languages[target]
    rows = []
    for system in results.contenders:
        row = results.delta_row(target, system)
        if row:
            cells = [signed(row[c].mean) + dagger(row[c]) if c in row else MISSING for c in codes]
            rows.append([*_names(results, system), _delta(*_compared(results, target, system)), *cells])
    return _pipes(["method", "intermediate", results.mean_name, *codes], rows, labels=2) if rows else ""


def _floors(results: Results) -> str:
    head = [
        "task",
        *(escape_markdown(method_name(results, floor)) for floor in results.floors),
        "best over vectors",
        "",
    ]
    rows = []
    for target, (name, lead, lexical) in zip(results.headline, lexical_lines(results), strict=True):
        values = [average_text(results.zero_shot_mean(target, floor)) for floor in results.floors]
        rows.append([escape_markdown(name), *values, escape_markdown(lead), "lexical" if lexical else ""])
    shown = {floor.method for floor in results.floors}
    legend = "; ".join(f"{name}: {text}" for name, text in FLOORS.items() if name in shown)
    return _pipes(head, rows, labels=1) + f"\n\n{means_of(results)}. {legend}."


# --- CSV --------------------------------------------------------------------------------------------------------


_NOT_PLAIN = ("method_settings", "parents", "stands_on")
"""Facts that are not one value: settings go last, as JSON; the others are in the cards."""


def csv(scores: Iterable[Score], *, facts: _Facts | None = None) -> str:
    """Render scores as tidy CSV: a line per score, at full precision, with its entry's facts; sorted, no repeats."""
    facts = facts or {}
    score_fields = list(Score.__struct_fields__)
    fact_fields = [name for name in EntryFacts.__struct_fields__ if name not in _NOT_PLAIN]
    out = io.StringIO()
    writer = csv_writer.writer(out, lineterminator="\n")
    writer.writerow([*score_fields, *fact_fields, "method_settings"])
    order = (
        "task",
        "metric",
        "split",
        "backbone",
        "method",
        "intermediate",
        "init",
        "route",
        "language",
        "seed",
        "key",
    )
    unique = {msgspec.json.encode(score): score for score in scores}
    for score in sorted(unique.values(), key=lambda s: [getattr(s, name) for name in order]):
        fact = facts.get(score.key, EntryFacts())
        settings = canonical_json(fact.method_settings) if fact.method_settings else ""
        values = [getattr(score, name) for name in score_fields] + [getattr(fact, name) for name in fact_fields]
        writer.writerow([*("" if value is None else value for value in values), settings])
    return out.getvalue()


# --- terminal ---------------------------------------------------------------------------------------------------


def text_table(
    scores: Iterable[Score],
    *,
    info: RunInfo | None = None,
    facts: _Facts | None = None,
    width: int = 100,
    marks: Marks | None = None,
) -> str:
    """Render the summary for a terminal; tasks that do not fit beside each other go below.

    Args:
        scores: any scores.
        info: headline metrics and order of tasks; its notes are printed below.
        facts: by entry key.
        width: columns to fit in; a single task is never broken, however narrow.
        marks: of differences that comparisons found.
    """
    info = info or RunInfo(title="")
    results = collect(scores, info=info, facts=facts, marks=marks)
    labels = [
        method_name(results, s) + (f" ← {intermediate_name(results, s)}" if s.has_intermediate else "")
        for s in results.systems
    ]
    groups = [(results.overall_name, _group([results.overall(s) for s in results.systems], results, None))]
    groups += [
        (target_name(results, t), _group([results.zero_shot_mean(t, s) for s in results.systems], results, t))
        for t in results.headline
    ]
    foot = [*(f"Note: {note}" for note in info.notes), _legend(results)]
    return _blocks(labels, groups, width) + "\n\n" + "\n".join(textwrap.fill(line, width) for line in foot)


def _group(means: Sequence[Average], results: Results, target: Target | None) -> list[list[str]]:
    """Columns of one task, headings first: zero-shot mean, source, Δ; a column without a number is left out."""
    columns = [_column(results.mean_name, [number(a.mean) for a in means], [dagger(a) + hole(a) for a in means])]
    if target and results.sources(target) and not results.source_only:
        sources = [results.source_mean(target, s) for s in results.systems]
        name = source_name(results.sources(target))
        columns.append(_column(name, [number(a.mean) for a in sources], [dagger(a) + hole(a) for a in sources]))
    deltas = [results.delta(target, s) if target else results.overall_delta(s) for s in results.systems]
    if any(delta.mean is not None for delta in deltas):
        due = zip(deltas, results.systems, strict=True)
        texts = [signed(delta.mean) if system.is_compared else "" for delta, system in due]
        found = [results.mark(target, system) if target else "" for system in results.systems]
        tails = [mark + dagger(delta) + hole(delta) for mark, delta in zip(found, deltas, strict=True)]
        columns.append(_column("Δ", texts, tails))
    return columns


def _column(head: str, texts: Sequence[str], tails: Sequence[str]) -> list[str]:
    """Numbers below each other, whatever hangs behind them; the heading ends where the numbers end."""
    room = max(map(len, tails))
    digits = max(len(text) for text in texts)
    cells = [text.rjust(digits) + tail.ljust(room) for text, tail in zip(texts, tails, strict=True)]
    return [head.rjust(digits) + " " * max(0, min(room, digits + room - len(head))), *cells]


def _blocks(labels: Sequence[str], groups: Sequence[tuple[str, list[list[str]]]], width: int) -> str:
    first = max(map(len, labels))
    blocks: list[list[str]] = []
    for name, columns in groups:
        widths = [max(map(len, column)) for column in columns]
        widths[-1] += max(0, len(name) - sum(widths) - 2 * (len(widths) - 1))
        cells = [
            "  ".join(text.rjust(w) for text, w in zip(row, widths, strict=True)) for row in zip(*columns, strict=True)
        ]
        block = [name.center(len(cells[0])), *cells]
        if not blocks or len(blocks[-1][0]) + 3 + len(block[0]) > width:
            blocks.append([label.ljust(first) for label in ("", "", *labels)])
        blocks[-1] = [left + "   " + right for left, right in zip(blocks[-1], block, strict=True)]
    return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks)


def _legend(results: Results) -> str:
    num = len(results.seeds)
    text = f"{num} seed{'s' * (num != 1)}. {MISSING} not scored, (6/7) incomplete average, † not converged"
    return text + (f", {HELPS} gain, {HARMS} loss (paired bootstrap, Holm, 5%)." if results.marks else ".")
