"""How numbers and names are printed: one decimal, a true minus sign, `·` for what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterable

from adapters_xling.languages import LANGUAGES
from adapters_xling.report.cells import Average, Cell, System, Target
from adapters_xling.report.results import Results

MISSING = "·"
UNCONVERGED = "†"

SCRIPTS = {
    "Arab": "Arabic",
    "Armn": "Armenian",
    "Avst": "Avestan",
    "Beng": "Bengali",
    "Cans": "Canadian syllabics",
    "Cyrl": "Cyrillic",
    "Deva": "Devanagari",
    "Ethi": "Ethiopic",
    "Geor": "Georgian",
    "Grek": "Greek",
    "Gujr": "Gujarati",
    "Guru": "Gurmukhi",
    "Hans": "Han",
    "Hebr": "Hebrew",
    "Jpan": "Japanese",
    "Khmr": "Khmer",
    "Knda": "Kannada",
    "Kore": "Korean",
    "Laoo": "Lao",
    "Latn": "Latin",
    "Mlym": "Malayalam",
    "Mymr": "Burmese",
    "Orya": "Odia",
    "Sinh": "Sinhala",
    "Taml": "Tamil",
    "Telu": "Telugu",
    "Thaa": "Thaana",
    "Thai": "Thai",
    "Tibt": "Tibetan",
    "Yiii": "Yi",
}
"""ISO 15924 code -> name of the script."""


def number(value: float | None) -> str:
    """One decimal.

    >>> number(54.06), number(None), number(-0.04)
    ('54.1', '·', '0.0')
    """
    if value is None:
        return MISSING
    text = f"{value:.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", "−")


def signed(value: float | None) -> str:
    """One decimal with its sign.

    >>> signed(2.06), signed(-0.3), signed(0.01)
    ('+2.1', '−0.3', '0.0')
    """
    text = number(value)
    return "+" + text if value is not None and text[0] != "−" and text != "0.0" else text


def hole(average: Average) -> str:
    """How many of the expected cells went in, where that is not all: ``" (6/7)"``."""
    return "" if average.complete or average.mean is None else f" ({average.num}/{average.expected})"


def dagger(part: Average | Cell) -> str:
    """Mark of a number that rests on a run that did not converge."""
    return "" if part.converged else UNCONVERGED


def spread(part: Average | Cell) -> str:
    """Standard deviation over seeds: ``" ±0.4"``; empty for one seed."""
    return "" if part.sd is None else f" ±{part.sd:.1f}"


def average_text(part: Average) -> str:
    """An average with spread, holes and marks.

    >>> average_text(Average(54.06, {0: 54.0, 1: 54.12}, 6, 7))
    '54.1 ±0.1 (6/7)'
    """
    if part.mean is None:
        return MISSING
    return number(part.mean) + dagger(part) + spread(part) + hole(part)


def delta_text(part: Average, *, mark: str = "") -> str:
    """A delta with what the comparisons found of it, and its spread when several seeds were paired.

    >>> delta_text(Average(2.06, {0: 2.06}, 7, 7))
    '+2.1 (1 seed)'
    """
    if part.mean is None:
        return MISSING
    seeds = " (1 seed)" if len(part.by_seed) == 1 else spread(part)
    return signed(part.mean) + mark + dagger(part) + seeds + hole(part)


def quantity(value: float | None, *, unit: str = "", step: int = 1000) -> str:
    """A count or size with a decimal prefix.

    >>> quantity(1_190_000), quantity(950), quantity(4_800_000, unit="B")
    ('1.2M', '950', '4.8 MB')
    """
    if value is None:
        return MISSING
    gap = " " if unit else ""
    for prefix in ("", "k", "M", "G"):
        if value < 999.5 or prefix == "G":
            break
        value /= step
    digits = f"{value:.0f}" if not prefix or value >= 99.95 else f"{value:.1f}"
    return f"{digits}{gap}{prefix}{unit}"


def duration(seconds: float | None) -> str:
    """A time a person can grasp.

    >>> duration(7.26), duration(125), duration(7260)
    ('7.3 s', '2 min 5 s', '2 h 1 min')
    """
    if seconds is None:
        return MISSING
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def script(code: str) -> str:
    """Name of a language's script; ``other`` for a language this package does not list."""
    known = LANGUAGES.get(code)
    return SCRIPTS.get(known.script, known.script) if known else "other"


def language_title(code: str) -> str:
    """Full name, script and family, for hovering and legends."""
    known = LANGUAGES.get(code)
    if known is None:
        return code
    family = known.family.replace("IE:", "Indo-European, ")
    return f"{known.name} · {script(code)} script · {family}"


def source_name(codes: Iterable[str]) -> str:
    """Heading of the trained-on languages' column."""
    return "+".join(codes) or "source"


def target_name(results: Results, target: Target) -> str:
    """A target as a heading: metric and split only where the task alone does not tell."""
    same = [other for other in results.targets if other.task == target.task]
    parts = []
    if len({other.metric for other in same}) > 1:
        parts.append(target.metric)
    if len({other.split for other in results.targets}) > 1:
        parts.append(target.split)
    return target.task + (f" ({', '.join(parts)})" if parts else "")


def method_name(results: Results, system: System) -> str:
    """A row's method, with settings and backbone only where they tell rows apart.

    Rows of one method with other settings go by what their grid calls them, else by the settings in which they differ.
    """
    same = [other for other in results.systems if other.method == system.method]
    name = system.method
    if len({other.settings for other in same}) > 1 and (label := _label(results, system)):
        name = label
    elif len({other.settings for other in same}) > 1:
        every = [json.loads(other.settings) for other in same]
        own = json.loads(system.settings)
        fields = sorted({field for settings in every for field in settings})
        unlike = [f for f in fields if any(settings.get(f) != own.get(f) for settings in every)]
        shown = ", ".join(f"{field}={own[field]}" if field in own else f"usual {field}" for field in unlike if own)
        name += f" ({shown or 'settings unknown'})"
    if len({other.backbone for other in results.systems}) > 1:
        name += f" @ {system.backbone}"
    return name


def _label(results: Results, system: System) -> str:
    """What the grid calls the method of a row, where all its entries agree; else nothing."""
    facts = [results.facts[name] for name in results.keys.get(system, ()) if name in results.facts]
    found = {fact.label for fact in facts if fact.label}
    return found.pop() if len(found) == 1 else ""


def intermediate_name(results: Results, system: System) -> str:
    """A row's intermediate task, with init and route where the same task came in by several ways."""
    ways = {other[4:] for other in results.systems if other[:4] == system[:4]}
    return system.intermediate + (f" ({way_name(system)})" if len(ways) > 1 else "")


def way_name(system: System) -> str:
    """How a row uses its intermediate entry: by its init and route, what is usual left out (``warm``, ``stack``)."""
    unusual = [name for name, usual in ((system.init, "fresh"), (system.route, "slot")) if name != usual]
    return ", ".join(unusual) or system.init
