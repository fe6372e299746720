"""Comparisons as a section of a report, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from adapters_xling.paths import atomic_write
from adapters_xling.report.cells import HARMS, HELPS, System, Target
from adapters_xling.report.comparisons import EQUAL_STEPS, FRESH, FULL, WARM, Comparison, Comparisons, Interval
from adapters_xling.report.effects import tint, whole_scale
from adapters_xling.report.formats import UNCONVERGED, intermediate_name, method_name, number, signed, target_name
from adapters_xling.report.layers import layers_section, read_layers
from adapters_xling.report.results import Marks, Results
from adapters_xling.report.shares import share_section
from adapters_xling.report.sheets import ABSENT, Column, Item, Row, Section, Sheet
from adapters_xling.spec import entry_scored

COMPARISONS_FILE = "comparisons.json"
BETWEEN = "against-{}.json"
"""Comparisons with the same rows of another grid, by its name."""
TITLE = "Does the intermediate task help?"
OTHERWISE = "Which differences are real?"
"""Heading where no row of a report has an intermediate task."""
_TITLES = {
    FRESH: ("Against no intermediate task", "The same method, seeds and rows, the target task alone."),
    EQUAL_STEPS: (
        "Against training longer on the target",
        "The same method, seeds and rows; the run without an intermediate task may take as many steps as the "
        "intermediate and the target training together.",
    ),
    WARM: (
        "Standing on the intermediate entry, against starting from it",
        "The same method, intermediate entry, seeds and rows; the entry stays frozen below a new slot instead of "
        "going on.",
    ),
    FULL: (
        "Against full fine-tuning",
        "The same intermediate step (full fine-tuning's own), target, seeds and rows.",
    ),
}


_MARKS = {"helps": HELPS, "harms": HARMS, "": ""}


def marks_of(folder: Path) -> Marks:
    """Marks of all Δ against no intermediate task: what a grid's comparisons find after correction, and nothing else.

    Raises:
        DataError: for a file of comparisons that holds something else.
    """
    comparisons = Comparisons.read(folder / COMPARISONS_FILE)
    return {
        (Target(one.task, one.metric, one.split), System(*_system(one))): _MARKS[one.verdict]
        for one in (comparisons.comparisons if comparisons else ())
        if one.against == FRESH and one.verdict
    }


def comparison_section(comparisons: Comparisons, results: Results) -> Section | None:
    """A table per kind of control: targets down, methods and intermediate tasks across; None when there is nothing."""
    every = comparisons.comparisons
    if not any(one.mean for one in every):
        return None
    scale = whole_scale(one.mean.value for one in every if one.mean)
    sheets = []
    for against, (name, lead) in _TITLES.items():
        own = [one for one in every if one.against == against]
        if any(one.mean for one in own):
            sheets.append(_sheet(own, results, scale, f"compared-{against}", name, lead))
    title = TITLE if any(one.against == FRESH for one in every) else OTHERWISE
    return Section("compared", title, tuple(sheets), lead=_lead(comparisons), note=_lacking(every))


def _between_section(comparisons: Comparisons, results: Results, name: str, *, other: str) -> Section | None:
    """The same rows on two encoders, zero-shot and on the language trained on; None when there is nothing.

    A comparison of entries that are not those of the results is left out, with a note.
    """
    if not comparisons.comparisons:
        return None
    backbone = comparisons.comparisons[0].against
    title = f"Against the same on {backbone}"
    lacking = _lacking(comparisons.comparisons)
    own = [one for one in comparisons.comparisons if one.mean]
    if not own:
        return Section(name, title, (), note=lacking)
    renew = f"xling report GRID --against {other}"
    if any(one.keys is not None and set(one.keys) != set(_entries(one, results)) for one in own):
        note = f"{BETWEEN.format(other)} compares other entries than those reported here, and is left out. Renew it: "
        return Section(name, title, (), note=f"{note}{renew}.")
    if any(one.keys is None for one in own):
        note = f"{BETWEEN.format(other)} does not say which entries it compares; if any was trained again since, renew"
        lacking = f"{note} it: {renew}. {lacking}".rstrip()
    scale = whole_scale(one.mean.value for one in own if one.mean)
    sheets = [_sheet(own, results, scale, f"{name}-zero-shot", "Zero-shot", "")]
    in_source = [one for one in own if _in_source(one, results)]
    if in_source and not results.source_only:
        shown = [
            msgspec.structs.replace(one, mean=_in_source(one, results), p_holm=None, p_bh=None, source_only=True)
            for one in in_source
        ]
        sheets.append(_sheet(shown, results, scale, f"{name}-source", "On the language trained on", ""))
    lead = f"{own[0].backbone} minus {backbone}: the same method, settings, seeds and rows. {_lead(comparisons)}"
    return Section(name, title, tuple(sheets), lead=lead, note=lacking)


def _entries(one: Comparison, results: Results) -> tuple[str, ...]:
    """Entries that a report has now in the cell that was compared."""
    return results.entries.get((Target(one.task, one.metric, one.split), System(*_system(one))), ())


def _in_source(one: Comparison, results: Results) -> Interval | None:
    """The difference on the language trained on, where that is one."""
    codes = results.sources(Target(one.task, one.metric, one.split))
    return one.languages.get(codes[0]) if len(codes) == 1 else None


def _sheet(own: Sequence[Comparison], results: Results, scale: float, name: str, title: str, lead: str) -> Sheet:
    at = {(one.task, one.metric, one.split, *_system(one)): one for one in own}
    systems = [system for system in results.contenders if any(place[3:] == tuple(system) for place in at)]
    columns = [Column("task", numeric=False)]
    columns += [Column(intermediate_name(results, system), method_name(results, system)) for system in systems]
    rows: list[Row] = []
    for target in results.headline:
        found = [at.get((*target, *system)) for system in systems]
        if any(found):
            rows.append((Item(target_name(results, target)), *(_item(one, scale) for one in found)))
    return Sheet(
        name,
        title,
        lead,
        tuple(columns),
        (tuple(rows),),
        foot=_foot(own),
        is_map=True,
        legend=("diverging", f"−{scale:g} (loss) → +{scale:g} points (gain)"),
    )


def _system(one: Comparison) -> tuple[str, ...]:
    return (one.backbone, one.method, one.settings, one.intermediate, one.init, one.route)


def interval_text(interval: Interval) -> str:
    """The ends of an interval.

    >>> interval_text(Interval(value=2.0, low=-0.34, high=4.1))
    '[−0.3, +4.1]'
    """
    return "no interval" if interval.low is None else f"[{signed(interval.low)}, {signed(interval.high)}]"


def _item(one: Comparison | None, scale: float) -> Item:
    if one is None:
        return ABSENT
    if one.mean is None:
        return Item(ABSENT.text, title=one.missing)
    depth, sign = tint(one.mean.value, scale)
    hole = f"{one.num_languages} of {one.expected} languages" if one.num_languages < one.expected else ""
    source = "source language" if one.source_only else ""
    small = (interval_text(one.mean), source, hole, "" if len(one.seeds) > 1 else "1 seed")
    mark = _MARKS[one.verdict] + (UNCONVERGED if one.not_converged else "")
    return Item(
        signed(one.mean.value),
        one.mean.value,
        mark=mark,
        small=tuple(text for text in small if text),
        title=_in_words(one),
        tint=depth,
        sign=sign,
    )


def _in_words(one: Comparison) -> str:
    parts = [
        f"p {p_text(one.mean.p)}" if one.mean else "",
        f"after Holm {p_text(one.p_holm)}",
        f"BH {p_text(one.p_bh)}",
    ]
    rows = f"{one.num_examples:,} {'ids, each drawn for all languages at once' if one.parallel else 'examples'}"
    left = f"{one.num_left_out:,} rows that only some systems were scored on left out" if one.num_left_out else ""
    doubt = f"did not converge: {', '.join(one.not_converged)}" if one.not_converged else ""
    return "; ".join(text for text in (", ".join(filter(None, parts)), rows, left, doubt) if text)


def p_text(value: float | None) -> str:
    """A p value with as many decimals as matter.

    >>> p_text(0.2), p_text(0.0004), p_text(None)
    ('0.200', '0.0004', '·')
    """
    if value is None:
        return ABSENT.text
    return f"{value:.3f}" if value >= 0.001 else f"{value:.4f}"


def _lead(comparisons: Comparisons) -> str:
    seeds = max(len(one.seeds) for one in comparisons.comparisons)
    noise = {
        "student": "training noise enters by Student's t over the seeds",
        "resample": "seeds are resampled",
        "fixed": "seeds are taken as they are, so that nothing is said about training noise",
    }[comparisons.seeds]
    if seeds == 1:
        noise = "with one seed nothing is said about training noise"
    return (
        "Difference of zero-shot means (of scores on the source language where no other was scored) in points, with "
        "its 95 % interval from a paired bootstrap of "
        f"{comparisons.num_resamples:,} draws of test examples; where rows are translations of each other an example "
        f"is drawn for all languages at once; {noise}."
    )


def _foot(own: Sequence[Comparison]) -> str:
    transfer = all(one.against == FRESH for one in own)
    family = sum(one.p_holm is not None for one in own)
    gains, losses = (sum(one.verdict == verdict for one in own) for verdict in ("helps", "harms"))
    doubtful = sum(bool(one.not_converged) for one in own)
    text = "Nothing is marked as a gain or a loss: no comparison here can be corrected for how many there are."
    if family:
        text = (
            f"{HELPS} a gain and {HARMS} a loss{' (negative transfer)' if transfer else ''} that Holm's correction for "
            f"{family} comparison{'s' * (family != 1)} leaves below 5 %: {gains} and {losses}."
        )
    if doubtful:
        text += (
            f" {UNCONVERGED} a run behind it, or one it started from, did not converge: no evidence about transfer, "
            f"and in no correction ({doubtful})."
        )
    return text


def _lacking(every: Sequence[Comparison]) -> str:
    reasons = list(dict.fromkeys(one.missing for one in every if one.missing))
    if not reasons:
        return ""
    more = f" And {len(reasons) - 1} more such." if len(reasons) > 1 else ""
    return f"{sum(bool(one.missing) for one in every)} of {len(every)} comparisons are missing: {reasons[0]}.{more}"


def sections_of(folder: Path, results: Results, *, swept: Path | None = None) -> tuple[Section, ...]:
    """What a grid's folder adds to its report: its comparisons and its layer sweeps, where there are any.

    Args:
        folder: of the scores.
        results: what is reported; a sweep of any other entry is left out.
        swept: folder of the layer sweeps, where it is another one.

    Raises:
        DataError: for a file of comparisons or sweeps that holds something else.
    """
    comparisons = Comparisons.read(folder / COMPARISONS_FILE)
    between = {path: one for path in sorted(folder.glob(BETWEEN.format("*"))) if (one := Comparisons.read(path))}
    trained = {entry_scored(key) for keys in results.keys.values() for key in keys}
    found = [
        share_section(comparisons.shares, results) if comparisons else None,
        comparison_section(comparisons, results) if comparisons else None,
        *(
            _between_section(one, results, f"between-{number}", other=path.stem.removeprefix("against-"))
            for number, (path, one) in enumerate(between.items())
        ),
        layers_section([one.of(trained) for one in read_layers(swept or folder)], results.facts),
    ]
    return tuple(section for section in found if section)


def write_comparisons(folder: Path, comparisons: Comparisons, *, against: str = "") -> None:
    """Write a grid's comparisons into its folder, as JSON and as CSV; those with another grid under that one's name."""
    file = folder / (BETWEEN.format(against) if against else COMPARISONS_FILE)
    atomic_write(file, comparisons.encode())
    atomic_write(file.with_suffix(".csv"), comparisons_csv(comparisons))


def comparisons_csv(comparisons: Comparisons) -> str:
    """Tidy CSV: a line per comparison and language, and one for the zero-shot mean, at full precision."""
    names = ("task", "metric", "split", "backbone", "method", "settings", "intermediate", "init", "route", "against")
    ends = ("value", "low", "high", "p")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    rest = ("p_holm", "p_bh", "verdict", "seeds", "num_languages", "num_examples", "not_converged", "missing")
    writer.writerow([*names, "language", *ends, *rest])
    for one in comparisons.comparisons:
        head = [getattr(one, name) for name in names]
        seeds, doubts = " ".join(map(str, one.seeds)), " ".join(one.not_converged)
        parts: Mapping[str, Interval | None] = {"zero-shot mean": one.mean, **one.languages}
        for code, part in parts.items():
            first = code == "zero-shot mean"
            values = ["" if part is None or getattr(part, end) is None else getattr(part, end) for end in ends]
            corrected = [_blank(one.p_holm), _blank(one.p_bh), one.verdict] if first else ["", "", ""]
            counts = (one.num_languages, one.num_examples) if first else (1, "")  # examples of the mean alone
            writer.writerow([*head, code, *values, *corrected, seeds, *counts, doubts, one.missing])
    return out.getvalue()


def _blank(value: float | None) -> float | str:
    return "" if value is None else value


def one_line(interval: Interval) -> tuple[str, str, str]:
    """A difference, its interval and its p, for a terminal."""
    return signed(interval.value), interval_text(interval), p_text(interval.p)


def mean_text(scores: Mapping[str, tuple[float, float | None]]) -> str:
    """Mean of languages' scores; of one language with its spread over seeds.

    >>> mean_text({"de": (60.04, 1.2)}), mean_text({"de": (60.0, 1.2), "sw": (50.0, 0.4)})
    ('60.0 ±1.2', '55.0')
    """
    values = list(scores.values())
    sd = values[0][1] if len(values) == 1 else None
    return number(sum(value for value, _ in values) / len(values)) + ("" if sd is None else f" ±{sd:.1f}")
