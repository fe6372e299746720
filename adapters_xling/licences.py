"""Licences as data: what a licence asks of those who share what was made from it, and what several ask together.

Task files and cards name licences in words (``CC BY-SA 4.0 (SNLI); MultiNLI mix``). `read` turns the words into rows of
one small table; what it does not know stays unknown. `Terms.combine` is what weights trained on several of them must
respect, taken cautiously: as if weights were an adaptation of the rows they were trained on. Whether the law sees it so
differs by country and is unsettled; nothing here is legal advice.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

NOTICE, ATTRIBUTION, SHARE_ALIKE = "notice", "attribution", "share-alike"
NON_COMMERCIAL, NO_DERIVATIVES, RESTRICTED = "non-commercial", "no-derivatives", "restricted"

WORDS = {
    NOTICE: "keep the copyright and licence notices",
    ATTRIBUTION: "name the authors of the data",
    SHARE_ALIKE: "share under the same licence",
    NON_COMMERCIAL: "no commercial use",
    NO_DERIVATIVES: "nothing made from it may be shared",
    RESTRICTED: "terms of its own that do not allow sharing in general: read them first",
}
"""What each term asks, for people."""


@dataclass(frozen=True, kw_only=True)
class Licence:
    """One licence.

    Attributes:
        name: SPDX identifier; ``LicenseRef-…`` where SPDX has none.
        asks: its terms, keys of `WORDS`.
        hub: identifier that the Hugging Face Hub knows; empty where it has none.
        family: name without the version; a later version of a share-alike licence takes the earlier one's place.
    """

    name: str
    asks: frozenset[str]
    hub: str = ""
    family: str = ""

    @property
    def version(self) -> tuple[int, ...]:
        """Version as numbers; empty for a licence without one."""
        found = re.search(r"(\d+)\.(\d+)", self.name)
        return tuple(map(int, found.groups())) if found else ()


_HUB_CC = {
    "BY": ("2.0", "2.5", "3.0", "4.0"),
    "BY-SA": ("3.0", "4.0"),
    "BY-NC": ("2.0", "3.0", "4.0"),
    "BY-ND": ("4.0",),
    "BY-NC-ND": ("3.0", "4.0"),
    "BY-NC-SA": ("2.0", "3.0", "4.0"),
}
"""Versions of the Creative Commons licences that the hub's list of identifiers holds."""

_CC_TERMS = {"BY": ATTRIBUTION, "SA": SHARE_ALIKE, "NC": NON_COMMERCIAL, "ND": NO_DERIVATIVES}

_NAMED = {
    "CC0-1.0": Licence(name="CC0-1.0", asks=frozenset(), hub="cc0-1.0"),
    "Public-Domain": Licence(name="LicenseRef-Public-Domain", asks=frozenset()),
    "MIT": Licence(name="MIT", asks=frozenset({NOTICE}), hub="mit"),
    "BSD-2-Clause": Licence(name="BSD-2-Clause", asks=frozenset({NOTICE}), hub="bsd-2-clause"),
    "BSD-3-Clause": Licence(name="BSD-3-Clause", asks=frozenset({NOTICE}), hub="bsd-3-clause"),
    "Apache-2.0": Licence(name="Apache-2.0", asks=frozenset({NOTICE}), hub="apache-2.0"),
    "PAWS": Licence(name="LicenseRef-PAWS", asks=frozenset({ATTRIBUTION})),
    "OANC": Licence(name="LicenseRef-OANC", asks=frozenset({ATTRIBUTION})),
    "Quora": Licence(name="LicenseRef-Quora-Terms", asks=frozenset({NON_COMMERCIAL, RESTRICTED})),
    "LDC": Licence(name="LicenseRef-LDC-User-Agreement", asks=frozenset({RESTRICTED})),
    "Shared-Task": Licence(name="LicenseRef-Shared-Task-Research", asks=frozenset({NON_COMMERCIAL, RESTRICTED})),
    "Private": Licence(name="LicenseRef-Private", asks=frozenset({RESTRICTED})),
}

_MULTINLI = ("OANC", "CC-BY-3.0", "CC-BY-SA-3.0")
"""MultiNLI: the open part of the American National Corpus, and fiction partly under Creative Commons 3.0, as the data
set's authors say (Williams et al. 2018)."""

_PHRASES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"public domain", ("Public-Domain",)),
    (r"CC[ -]?0(?:[ -]1\.0)?", ("CC0-1.0",)),
    (r"MIT(?: licen[cs]e)?", ("MIT",)),
    (r"BSD[ -]([23])(?:-Clause)?", ()),
    (r"Apache(?:[ -]Licen[cs]e)?[ ,-]*(?:v|version )?2\.0", ("Apache-2.0",)),
    (r"free for any purpose, attribution to Google", ("PAWS",)),
    (r"OANC and others \(MultiNLI mix\)|MultiNLI mix", _MULTINLI),
    (r"Quora'?s terms of service", ("Quora",)),
    (r"LDC User Agreement(?: \(\w+\))?(?:, not free)?", ("LDC",)),
    (r"shared-task research data", ("Shared-Task",)),
    (r"private", ("Private",)),
)
"""What the words of a task file mean; the first that fits the whole of a part counts. Creative Commons: see `_cc`."""

_CC = r"CC[ -]BY(?P<more>(?:-(?:NC|SA|ND))*)(?:[ -](?P<version>\d\.\d))?(?:[ -](?P<port>[A-Z]{2}))?"
_WHOSE = r"(?:(?:some|passages|(?:[\w-]+ )?text|Wikipedia|Wikinews)\s+)?"
_LESS = r"non\w*|no|not|only|except|unless|without|research|academic|educational|personal|private|internal|evaluation"
_AFTER = rf"(?:\s*\((?![^)]*\b(?:{_LESS}|commercial|use)\b)[\w ,.'-]+\))?"
"""What a licence is of, in brackets; words that could take from it what it allows leave it unread."""


@dataclass(frozen=True)
class Terms:
    """What one or more licences ask together.

    Attributes:
        licences: sorted by name, each once.
        unknown: words that nobody could read as a licence, sorted.

    >>> both = read("CC BY-SA 4.0 (SNLI); CC BY-NC 4.0 (ANLI)")
    >>> both.expression, both.may_share, both.conflicts()[0][:28]
    ('CC-BY-NC-4.0 AND CC-BY-SA-4.0', False, 'CC-BY-SA-4.0 wants what is m')
    """

    licences: tuple[Licence, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def asks(self) -> frozenset[str]:
        """Every term that any of the licences has, keys of `WORDS`."""
        return frozenset().union(*(one.asks for one in self.licences))

    @property
    def expression(self) -> str:
        """The licences as one SPDX expression; unknown words count as ``NOASSERTION``."""
        names = [one.name for one in self.licences] + ["NOASSERTION"] * bool(self.unknown)
        return " AND ".join(names) or "NOASSERTION"

    def conflicts(self) -> list[str]:
        """Pairs of terms that nothing shared can meet at once, in words."""
        found = []
        for one in self.licences:
            if SHARE_ALIKE not in one.asks:
                continue
            for other in self.licences:
                more = other.asks - one.asks - {NOTICE, RESTRICTED}
                if other.family == one.family and SHARE_ALIKE in other.asks:
                    continue
                if more or SHARE_ALIKE in other.asks:
                    why = ", ".join(WORDS[term] for term in sorted(more)) or "the same of its own terms"
                    found.append(f"{one.name} wants what is made from it shared on its own terms; {other.name}: {why}")
        return found

    @property
    def may_share(self) -> bool | None:
        """Whether an adaptation may be shared with everybody on some terms; None where not everything is known."""
        if self.asks & {NO_DERIVATIVES, RESTRICTED} or self.conflicts():
            return False
        return None if self.unknown or not self.licences else True

    @property
    def commercial(self) -> bool | None:
        """Whether commercial use is allowed; None where not everything is known."""
        if NON_COMMERCIAL in self.asks:
            return False
        return None if self.unknown or not self.licences or RESTRICTED in self.asks else True

    def covering(self) -> Licence | None:
        """The one licence whose terms cover those of all others; None where there is none, or not all is known."""
        if not self.may_share:
            return None
        fits = [one for one in self.licences if one.asks - {NOTICE} >= self.asks - {NOTICE}]
        return max(fits, key=lambda one: (len(one.asks), one.version, one.name), default=None)

    def hub_fields(self) -> dict[str, str]:
        """`license` and, where that is ``other``, `license_name` as the Hugging Face Hub's metadata has them."""
        one = self.covering()
        if one is not None and one.hub:
            return {"license": one.hub}
        if not self.licences:
            return {"license": "unknown"}
        return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", self.expression.lower()).strip("-")}

    def lines(self) -> list[str]:
        """What somebody who is about to share must know, a sentence each."""
        said = [f"licences of the data, the backbone and all parents: {self.expression}"]
        said += [f"asked: {WORDS[term]}" for term in WORDS if term in self.asks]
        said += [f"unknown licence: {text!r}; ask its authors" for text in self.unknown]
        said += [f"cannot be met at once: {text}" for text in self.conflicts()]
        one = self.covering()
        if one is not None:
            said.append(f"may be shared under {one.name}")
        elif self.may_share is False:
            said.append("may not be shared with everybody without asking; the recipe and the scores may")
        elif self.may_share is None:
            said.append("whether it may be shared is unknown")
        else:
            said.append("may be shared on all of these terms together")
        return said


def combine(terms: Iterable[Terms]) -> Terms:
    """What several ask together. The order does not matter, and neither does repetition."""
    every = list(terms)
    licences = {one.name: one for part in every for one in part.licences}
    unknown = {text for part in every for text in part.unknown}
    return Terms(tuple(licences[name] for name in sorted(licences)), tuple(sorted(unknown)))


@functools.cache
def read(text: str) -> Terms:
    """What a licence in words asks; parts stand between semicolons or commas.

    Args:
        text: as in a task file's `licence` or in a card; empty and ``unknown`` are unknown.

    >>> read("Apache-2.0; passages CC BY-SA").expression
    'Apache-2.0 AND CC-BY-SA'
    >>> read("see the authors' page").unknown
    ("see the authors' page",)
    """
    text = text.strip()
    if whole := _part(text):
        return whole
    semi = [part.strip() for part in text.split(";") if part.strip()]
    if len(semi) > 1:
        return combine(map(read, semi))
    parts = {part.strip(): _part(part.strip()) for part in text.split(",")}
    if not any(parts.values()):
        return Terms(unknown=(text or "unknown",))
    return combine(found or Terms(unknown=(part,)) for part, found in parts.items())


def _part(text: str) -> Terms | None:
    """One part, read as a whole: a phrase of the table, an SPDX name, or a Creative Commons licence; else None."""
    for pattern, names in _PHRASES:
        if found := re.fullmatch(f"(?:{pattern}){_AFTER}", text, re.IGNORECASE):
            names = names or (f"BSD-{found[1]}-Clause",)
            return combine(Terms((_NAMED.get(name) or _cc_named(name),)) for name in names)
    if found := re.fullmatch(_WHOSE + _CC + _AFTER, text, re.IGNORECASE):
        return Terms((_cc(found["more"] or "", found["version"], found["port"]),))
    named = next((one for one in _NAMED.values() if one.name == text), None)
    return Terms((named,)) if named else None


def _cc_named(name: str) -> Licence:
    found = re.fullmatch(_CC, name)
    assert found is not None, name
    return _cc(found["more"] or "", found["version"], found["port"])


def _cc(more: str, version: str | None, port: str | None) -> Licence:
    """A Creative Commons licence; its parts in the order in which their own names have them."""
    parts = ["BY", *(part for part in ("NC", "ND", "SA") if f"-{part}" in more.upper())]
    family = "-".join(parts)
    name = "-".join(["CC", family, *filter(None, (version, port and port.upper()))])
    known = version in _HUB_CC.get(family, ()) and not port
    return Licence(
        name=name,
        asks=frozenset(_CC_TERMS[part] for part in parts),
        hub=f"cc-{family.lower()}-{version}" if known else "",
        family=f"CC-{family}",
    )
