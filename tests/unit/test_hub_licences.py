"""What somebody who publishes an entry is told of its licences before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
import zoo_samples as samples

from adapters_xling import licences
from adapters_xling.hub import open_hub, plan_push
from adapters_xling.zoo import Zoo, lineage


def test_a_journey_names_the_terms_of_the_whole_lineage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child under a free licence whose parent is non-commercial and share-alike is neither free nor consistent."""
    zoo = Zoo(tmp_path / "zoo")
    parent = samples.an_entry(zoo)
    child = samples.an_entry(zoo, samples.a_run("mini-ner", warm=parent.key))
    texts = {parent.key: "CC BY-NC 4.0; CC BY-SA 4.0", child.key: "Apache-2.0"}
    monkeypatch.setattr(lineage, "licence_of", lambda card: licences.read(texts[card.key]))
    plan = plan_push(zoo, child.key, open_hub(str(tmp_path / "shared")))
    terms = {item.key: item.terms.expression for item in plan.items}
    assert terms[parent.key] == "CC-BY-NC-4.0 AND CC-BY-SA-4.0"
    assert terms[child.key] == "Apache-2.0 AND CC-BY-NC-4.0 AND CC-BY-SA-4.0"
    assert any(child.key in note and "do not fit each other" in note for note in plan.notes)


def test_an_unknown_part_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = Zoo(tmp_path / "zoo")
    entry = samples.an_entry(zoo)
    monkeypatch.setattr(lineage, "licence_of", lambda card: licences.read("whatever the owner says"))
    (note,) = plan_push(zoo, entry.key, open_hub(str(tmp_path / "shared"))).notes
    assert "unknown" in note and "whatever the owner says" in note
