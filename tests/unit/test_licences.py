"""Licences: words are read as what they ask, several together ask all of it, and what is unknown stays unknown."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters_xling import licences, tasks
from adapters_xling.backbones import BACKBONES
from adapters_xling.licences import NON_COMMERCIAL, RESTRICTED, SHARE_ALIKE, Terms, combine, read

SPECS = tasks.all_specs()
TEXTS = sorted({spec.licence for spec in SPECS} | {"", "see the authors", "CC BY-ND 4.0", "CC BY-NC-SA 3.0", "private"})


@pytest.mark.parametrize(
    ("text", "expression", "hub", "may_share", "commercial"),
    [
        ("MIT", "MIT", "mit", True, True),
        ("CC BY-NC 4.0", "CC-BY-NC-4.0", "cc-by-nc-4.0", True, False),
        ("CC BY-SA 4.0 (SNLI)", "CC-BY-SA-4.0", "cc-by-sa-4.0", True, True),
        ("CC-BY-SA-3.0", "CC-BY-SA-3.0", "cc-by-sa-3.0", True, True),
        ("CC BY-SA-NC 4.0", "CC-BY-NC-SA-4.0", "cc-by-nc-sa-4.0", True, False),
        ("CC BY 2.0 FR", "CC-BY-2.0-FR", "other", True, True),
        ("Wikipedia text CC BY-SA", "CC-BY-SA", "other", True, True),
        ("CC0 1.0", "CC0-1.0", "cc0-1.0", True, True),
        ("Apache License, Version 2.0", "Apache-2.0", "apache-2.0", True, True),
        ("CC BY-ND 4.0", "CC-BY-ND-4.0", "other", False, True),
        ("LDC User Agreement (LDC2005T13), not free", "LicenseRef-LDC-User-Agreement", "other", False, None),
        ("Quora's terms of service", "LicenseRef-Quora-Terms", "other", False, False),
        ("per treebank, some CC BY-NC-SA", "CC-BY-NC-SA AND NOASSERTION", "other", None, False),
        ("ask Anna", "NOASSERTION", "unknown", None, None),
        ("", "NOASSERTION", "unknown", None, None),
        ("CC BY 4.0; BSD-2-Clause (English)", "BSD-2-Clause AND CC-BY-4.0", "cc-by-4.0", True, True),
        ("MIT (research only)", "NOASSERTION", "unknown", None, None),
        ("CC BY 4.0 (non-commercial)", "NOASSERTION", "unknown", None, None),
        ("CC BY 4.0 (noncommercial)", "NOASSERTION", "unknown", None, None),
        ("MIT (academic use)", "NOASSERTION", "unknown", None, None),
        ("CC BY-SA 4.0 (without commercial rights)", "NOASSERTION", "unknown", None, None),
        ("apache-2.0", "Apache-2.0", "apache-2.0", True, True),
        ("cc-by-sa-4.0", "CC-BY-SA-4.0", "cc-by-sa-4.0", True, True),
        ("CC BY 4.0 unless said otherwise", "NOASSERTION", "unknown", None, None),
    ],
)
def test_words_are_read(text: str, expression: str, hub: str, may_share: bool | None, commercial: bool | None) -> None:
    terms = read(text)
    assert (terms.expression, terms.hub_fields()["license"]) == (expression, hub)
    assert (terms.may_share, terms.commercial) == (may_share, commercial)


def test_the_licence_of_every_shipped_task_is_known_or_said_to_be_unknown() -> None:
    unknown = {spec.name: read(spec.licence).unknown for spec in SPECS if read(spec.licence).unknown}
    translated = {spec.name for spec in SPECS if "translator" in spec.licence}
    treebanks = {spec.name for spec in SPECS if "treebank" in spec.licence}
    assert set(unknown) == translated | treebanks
    assert all(not read(row.licence).unknown for row in BACKBONES.values())


def test_what_is_trained_on_xnli_or_anli_is_not_for_commerce() -> None:
    for name in ("xnli", "anli", "anli-plus", "kit-nli"):
        spec = tasks.get(name)
        assert read(spec.licence).commercial is False, name
    assert read(tasks.get("mnli").licence).commercial is True


def test_the_strictest_licence_covers_the_others_where_one_does() -> None:
    both = combine([read("MIT"), read("CC BY 4.0"), read("CC BY-SA 3.0"), read("CC BY-SA 4.0")])
    assert both.hub_fields() == {"license": "cc-by-sa-4.0"}
    assert both.lines()[-1] == "may be shared under CC-BY-SA-4.0"


def test_share_alike_and_non_commercial_of_different_licences_cannot_be_met_at_once() -> None:
    both = combine([read("CC BY-SA 4.0"), read("CC BY-NC 4.0")])
    assert both.may_share is False
    assert len(both.conflicts()) == 1
    assert both.hub_fields() == {"license": "other", "license_name": "cc-by-nc-4.0-and-cc-by-sa-4.0"}
    assert any(line.startswith("may not be shared") for line in both.lines())
    apart = combine([read("CC BY-SA 4.0"), read("CC BY-NC-SA 4.0")])
    assert apart.may_share is False, "two share-alike licences of different families"


def test_unknown_is_never_taken_for_free() -> None:
    part = combine([read("MIT"), read("who knows")])
    assert (part.may_share, part.commercial, part.covering()) == (None, None, None)
    assert part.hub_fields()["license"] == "other"
    assert "whether it may be shared is unknown" in part.lines()


@given(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_combining_is_a_union(texts: list[str], random: object) -> None:
    parts = [read(text) for text in texts]
    whole = combine(parts)
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert combine(shuffled) == whole == combine([whole, whole, *parts])
    assert whole.asks == frozenset().union(*(part.asks for part in parts))
    if any(part.unknown for part in parts):
        assert whole.may_share is not True
    if any(part.may_share is False for part in parts):
        assert whole.may_share is False
    one = whole.covering()
    if one is not None:
        assert {NON_COMMERCIAL, SHARE_ALIKE} & whole.asks <= one.asks
        assert RESTRICTED not in whole.asks


def test_each_licence_has_one_form_however_it_is_written() -> None:
    for a, b in itertools.pairwise(["CC BY-SA 4.0", "CC-BY-SA-4.0", "cc by-sa 4.0 (text)"]):
        assert read(a) == read(b)
    assert read("MIT; MIT") == read("MIT") != Terms()
    assert licences.combine([]).may_share is None
