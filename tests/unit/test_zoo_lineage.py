"""Lineage, README, search and difference: what cards of an entry and its ancestors say, and nothing they do not."""

from __future__ import annotations

import json
import warnings
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import msgspec
import pytest
import yaml
from zoo_samples import a_run, a_score, an_entry, an_imported, sealed, some_facts, tensors

from adapters_xling.cli import main
from adapters_xling.errors import ConfigError, UnknownName
from adapters_xling.hub import open_hub, origin, pull, push
from adapters_xling.spec import BackboneId
from adapters_xling.zoo import Entry, HeadCard, Measured, Zoo, ZooWarning
from adapters_xling.zoo.attestations import attest
from adapters_xling.zoo.difference import differences
from adapters_xling.zoo.finding import Query, search
from adapters_xling.zoo.lineage import alone, facts, trace
from adapters_xling.zoo.readme import metadata, render_readme


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "runs" / "zoo", fallbacks=())


def a_family(zoo: Zoo) -> tuple[Entry, Entry, Entry]:
    """A grandparent, a parent that starts from it, and a child that starts from the first and stands on the second."""
    first = an_entry(zoo, licence="CC BY-SA 4.0")
    second = an_entry(zoo, a_run("mini-pos", warm=first.key), licence="Apache-2.0")
    third = an_entry(zoo, a_run("mini-ner", warm=first.key, under=second.key), licence="MIT")
    return first, second, third


def test_a_lineage_names_every_ancestor_once_after_its_parents(zoo: Zoo) -> None:
    first, second, third = a_family(zoo)
    found = trace(zoo, third.key)
    assert list(found.cards) == [first.key, second.key, third.key]
    assert {(e.child, e.parent): e.role for e in found.edges} == {
        (second.key, first.key): "starts from",
        (third.key, first.key): "starts from",
        (third.key, second.key): "stands on",
    }
    assert found.licence().hub_fields() == {"license": "cc-by-sa-4.0"}, "the parents' rows count"
    assert found.missing == ()


def test_an_ancestor_that_is_not_here_is_named_and_its_licence_unknown(zoo: Zoo) -> None:
    first, second, _ = a_family(zoo)
    zoo.remove(first.key, force=True)
    found = trace(zoo, second.key)
    assert found.missing == (first.key,)
    assert found.licence().may_share is None
    assert "not in this zoo" in found.tree() and "stroke-dasharray" in found.svg()
    assert alone(second.card).missing == (first.key,)


def test_the_tree_says_what_each_was_made_of(zoo: Zoo) -> None:
    first, second, third = a_family(zoo)
    lines = trace(zoo, third.key).tree().splitlines()
    assert lines[0] == third.key
    assert any(line.startswith(f"├─ starts from {first.key}") for line in lines)
    assert any(line.startswith(f"└─ stands on {second.key}") for line in lines)
    assert lines[-1].endswith(f"starts from {first.key}  (above)")
    text = "\n".join(lines)
    assert text.count("rows mini-nli/train/en: 80, 1 dropped") == 3
    assert "20 steps (best 10)" in text and "dev accuracy 81.2 (chance 33.3)" in text
    assert (third.card.provenance.commit or "unknown")[:12] in text


def test_the_picture_is_sound_xml_with_every_entry_inside_its_frame(zoo: Zoo) -> None:
    _, _, third = a_family(zoo)
    root = ElementTree.fromstring(trace(zoo, third.key).svg())
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    boxes = [node.attrib for node in root if node.tag.endswith("rect")]
    assert len(boxes) == 3
    spans = [tuple(float(box[name]) for name in ("x", "y", "width", "height")) for box in boxes]
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in spans)
    assert len({y for _, y, _, _ in spans}) == 3, "each stands below its parents"
    assert not any(node.tag.endswith("script") for node in root.iter())


def test_a_card_cannot_break_out_of_the_graph(zoo: Zoo) -> None:
    entry = an_entry(zoo)
    found = trace(zoo, entry.key)
    from adapters_xling.zoo import lineage

    text = lineage._mermaid('x"] --> n9["<script>#1\n')
    assert not set(text) & set('"<>#\n')
    assert found.mermaid().count("[") == 1


def test_the_hubs_own_client_reads_the_readme(zoo: Zoo) -> None:
    from huggingface_hub import ModelCard

    _, _, third = a_family(zoo)
    scores = [a_score(third.key, code, value) for code, value in (("en", 90.126), ("sw", 61.5))]
    text = render_readme(third.card, lineage=trace(zoo, third.key), scores=scores, retrain="xling train mini-ner")
    card = ModelCard(text)  # raises where the block is no valid metadata
    assert card.data.license == "cc-by-sa-4.0"
    assert card.data.language == ["en", "sw"]
    assert card.data.library_name == "adapters_xling", "its files are none of a library's"
    assert card.data.metrics == ["accuracy"]
    results = {one.dataset_config: one for one in ModelCard(text).data.eval_results}
    assert {code: one.metric_value for code, one in results.items()} == {"en": 90.13, "sw": 61.5}
    assert results["sw"].dataset_type == "mini-nli" and results["sw"].dataset_split == "test"
    assert results["sw"].task_type == "text-classification"
    assert "| mini-nli | test | sw | 300 | 61.5 | zero-shot |" in text
    assert "```\nxling train mini-ner\n```" in text
    assert all(one.sha256 in text for one in third.card.files.values())


@pytest.mark.parametrize(
    ("file", "library", "relation"),
    [
        ("encoder/adapter_model.safetensors", "peft", "adapter"),
        ("encoder/adapter.safetensors", "adapter-transformers", "adapter"),
        ("encoder/model.safetensors", "transformers", "finetune"),
    ],
)
def test_the_metadata_name_the_library_that_reads_the_files(zoo: Zoo, file: str, library: str, relation: str) -> None:
    import msgspec

    hub = BackboneId(name="xlm-roberta-base", repo="FacebookAI/xlm-roberta-base", revision="e" * 40, digest="a" * 64)
    data = {"xnli/train/en": {"kept": 5, "source": "hub facebook/xnli@0123 (en, train)"}}
    with zoo.writing(msgspec.structs.replace(a_run(), backbone=hub)) as draft:
        (draft.folder / "encoder").mkdir()
        (draft.folder / file).write_bytes(tensors())
        draft.finish(some_facts(data=data, heads={"x": HeadCard(kind="tag", labels=("O",), task="mini-nli")}))
    assert draft.entry is not None
    block = metadata(draft.entry.card, alone(draft.entry.card), ())
    assert (block["library_name"], block["base_model_relation"]) == (library, relation)
    assert block["base_model"] == "FacebookAI/xlm-roberta-base"
    assert block["datasets"] == ["facebook/xnli"]
    assert block["pipeline_tag"] == "token-classification"
    assert "model-index" not in block, "nothing was scored"


def test_a_readme_of_a_card_alone_claims_no_licence_for_its_parents(zoo: Zoo) -> None:
    _, second, _ = a_family(zoo)
    block = yaml.safe_load(render_readme(second.card).split("---")[1])
    assert block["license"] == "other", "the parent's licence is not known here"


def test_what_was_imported_is_said_to_be_and_nothing_it_has_not(zoo: Zoo, capsys: pytest.CaptureFixture[str]) -> None:
    entry = an_imported(zoo)
    child = an_entry(zoo, a_run("mini-pos", warm=entry.key))
    main(["zoo", "readme", entry.key])
    text = capsys.readouterr().out
    assert "made elsewhere (task: `unlisted`) and imported from hf://somebody/their-lora@0123 by adapters_xling" in text
    assert entry.card.notes in text and "it has no head" in text and "there is no probe" in text
    assert "xling train TASK --method lora --set r=4 --set alpha=8 --set 'targets=" in text
    for untrue in ("xling predict", "head included", "backbone and probe", "seed 0", "0 rows", "parameters train"):
        assert untrue not in text
    assert f"--warm {entry.key}" in render_readme(entry.card), "also where no command is given"
    tree, graph = trace(zoo, child.key).tree(), trace(zoo, child.key).mermaid()
    for drawn in (tree, graph):
        assert "seed unknown" in drawn and "seed 0" in drawn, "the child's own is known"
        assert "mported from hf://somebody/their-lora@0123" in drawn
    main(["zoo", "show", entry.key])
    shown = capsys.readouterr().out
    assert entry.card.notes in shown
    assert "no command: how this adapter was trained is not known: it was imported from hf://somebody" in shown


def test_entries_are_found_by_what_they_are_and_score(zoo: Zoo) -> None:
    first, second, third = a_family(zoo)
    zoo.attest(first.key, sealed(first, "sw", "de", value=50.0))
    zoo.attest(second.key, sealed(second, "sw", value=70.0))
    kept = [a_score(third.key, "sw", 10.0)]

    def keys(**query: object) -> list[str]:
        return [hit.entry.key for hit in search(zoo, Query(**query), measured=kept)]  # type: ignore[arg-type]

    everything = sorted([first.key, second.key, third.key])
    assert keys() == everything
    assert keys(task="mini-pos") == [second.key]
    assert keys(on="mini-nli", order="score") == [second.key, first.key, third.key]
    assert keys(on="mini-nli", language="de") == [first.key]
    assert keys(language="sw", min_score=40) == sorted([first.key, second.key])
    assert keys(language="en") == everything, "trained in it"
    assert keys(min_score=81) == everything and keys(min_score=82) == []
    assert keys(max_bytes=1) == [] and keys(max_bytes=10**6, order="size") == everything
    assert keys(licence="cc-by-sa-4.0") == everything and keys(licence="MIT") == [third.key]
    assert keys(commercial=True) == everything
    an_entry(zoo, a_run("mini-choice"), licence="CC BY-NC 4.0")
    assert keys(commercial=True) == everything
    hit = next(hit for hit in search(zoo, Query(on="mini-nli")) if hit.entry.key == first.key)
    assert (hit.score, hit.num_scores) == (50.0, 2)
    more = [a_score(first.key, "en", 99.0), a_score(first.key, "de", 1.0, split="dev")]
    hit = next(hit for hit in search(zoo, Query(on="mini-nli"), measured=more) if hit.entry.key == first.key)
    assert (hit.score, hit.num_scores) == (50.0, 2), "neither the language it was trained in nor another split"
    other = [a_score(first.key, code, 99.0, metric="a_metric") for code in ("sw", "de")]
    zoo.attest(
        first.key, [attest(first.card, one, identity="1", scoring="1", rows={}, made=Measured.now()) for one in other]
    )
    hit = next(hit for hit in search(zoo, Query(on="mini-nli")) if hit.entry.key == first.key)
    assert (hit.score, hit.num_scores) == (50.0, 2), "the metric it was selected by, not the first of the alphabet"
    mine = [a_score(first.key, "sw", 20.0)]
    hit = next(hit for hit in search(zoo, Query(on="mini-nli"), measured=mine) if hit.entry.key == first.key)
    assert hit.score == 35.0, "what was measured here goes before what somebody attested"


def test_damaged_scores_of_one_entry_hide_no_other(zoo: Zoo) -> None:
    first, second, _ = a_family(zoo)
    zoo.attest(second.key, sealed(second, "sw", value=70.0))
    (first.folder / "scores.jsonl").write_bytes(b"{}\n")
    with pytest.warns(ZooWarning, match=r"left out: .*scores\.jsonl"):
        assert [hit.entry.key for hit in search(zoo, Query(on="mini-nli"))] == [second.key]


def test_show_says_whose_scores_are_beside_the_card(zoo: Zoo, capsys: pytest.CaptureFixture[str]) -> None:
    first, _, _ = a_family(zoo)
    show = ["zoo", "show", first.key, "--runs", str(zoo.root.parent)]
    main(show)
    assert "attested" not in capsys.readouterr().out
    zoo.attest(first.key, sealed(first, "sw", "de", created="2026-02-01T00:00:00Z"))
    shared = str(zoo.root.parent / "shared")
    push(zoo, first.key, open_hub(shared))
    main(show)
    assert "2 scores, the last of 2026-02-01T00:00:00Z" in capsys.readouterr().out
    away = Zoo(zoo.root.parent / "away" / "zoo", fallbacks=())
    pull(away, first.key, open_hub(shared))
    main(["zoo", "show", first.key, "--runs", str(away.root.parent)])
    assert f"2026-02-01T00:00:00Z; pulled from {shared}" in capsys.readouterr().out
    away.attest(first.key, sealed(first, "sw", value=33.0, created="2026-03-01T00:00:00Z"))  # measured by oneself
    main(["zoo", "show", first.key, "--runs", str(away.root.parent)])
    assert f"2026-03-01T00:00:00Z; pulled: 1 of them from {shared}" in capsys.readouterr().out


def test_scores_from_elsewhere_are_not_shown_as_if_they_were_measured_here(
    zoo: Zoo, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _, _ = a_family(zoo)
    first_place, second_place = (str(zoo.root.parent / name) for name in ("first place", "second::place"))
    push(zoo, first.key, open_hub(first_place))
    stranger, reader = (Zoo(zoo.root.parent / name / "zoo", fallbacks=()) for name in ("stranger", "reader"))
    for there in (stranger, reader):
        pull(there, first.key, open_hub(first_place))
    stranger.attest(first.key, sealed(first, "sw", value=99.9, created="2026-02-01T00:00:00Z"))
    push(stranger, first.key, open_hub(second_place))
    assert (zoo.root.parent / "second::place" / first.key / "card.json").is_file()
    assert not (zoo.root.parent / "second").exists()
    for there in (reader, zoo):  # who pulled the entry from another place, and who made it
        pull(there, first.key, open_hub(second_place))
        main(["zoo", "show", first.key, "--runs", str(there.root.parent)])
        assert f"1 scores, the last of 2026-02-01T00:00:00Z; pulled from {second_place}" in capsys.readouterr().out
        assert origin(there, first) == (None if there is zoo else first_place)


def test_a_folder_that_is_called_like_the_entry_may_hold_it(zoo: Zoo) -> None:
    first, _, _ = a_family(zoo)
    place = open_hub(str(zoo.root.parent / first.key))
    push(zoo, first.key, place)
    away = Zoo(zoo.root.parent / "away" / "zoo", fallbacks=())
    pull(away, first.key, place)
    assert away.get(first.key).card == first.card


def test_notes_of_a_card_cannot_forge_a_line_of_its_lineage(zoo: Zoo) -> None:
    card = msgspec.structs.replace(a_family(zoo)[0].card, notes="nice\n└─ starts from another\n\n")
    assert facts(card)[-2:] == ["note: nice", "note: └─ starts from another"]


def test_a_search_for_what_no_entry_has_is_an_error_with_the_closest(zoo: Zoo) -> None:
    a_family(zoo)
    for query, words in (
        (Query(task="mini-nil"), "Did you mean 'mini-nli'"),
        (Query(on="xnli"), "scored on"),
        (Query(language="fr"), "language of an entry"),
        (Query(method="loar"), "Did you mean 'lora'"),
        (Query(backbone="x"), "xlmr-nano"),
        (Query(order="scoer"), "Did you mean 'score'"),
    ):
        with pytest.raises(UnknownName, match=words):
            search(zoo, query)
    with pytest.raises(ConfigError, match="no percentage"):
        search(zoo, Query(min_score=101))


def test_a_readme_gives_no_lines_that_would_leave_out_what_an_entry_stands_on(zoo: Zoo) -> None:
    below = an_entry(zoo)
    above = an_entry(zoo, a_run("mini-ner", under=below.key))
    alone, text = (
        render_readme(msgspec.structs.replace(one.card, files={"encoder/adapter_model.safetensors": file}))
        for one in (below, above)
        for file in list(one.card.files.values())[:1]
    )
    assert "The encoder alone, without adapters_xling" in alone and "library_name: peft\n" in alone
    assert "The encoder alone" not in text and "library_name: peft\n" not in text and "xling predict" in text


def test_a_search_where_nothing_is_or_nothing_is_scored_says_that_and_not_that_a_name_is_wrong(zoo: Zoo) -> None:
    for query in (Query(task="mini-nli"), Query(on="mini-nli"), Query(method="lora")):
        with pytest.raises(UnknownName, match=r"^no entry fits .* there is none here yet; train one: xling train TASK"):
            search(zoo, query)
    an_entry(zoo)
    with pytest.raises(
        UnknownName,
        match=r"^no entry here is scored on or in 'mini-nli', for none is scored yet.*: xling evaluate ENTRY",
    ):
        search(zoo, Query(on="mini-nli"))


def test_a_damaged_card_hides_no_other_entry_from_a_search(zoo: Zoo) -> None:
    _, second, _ = a_family(zoo)
    alone = an_entry(zoo, a_run("mini-pos", seed=3), licence="MIT")
    (second.folder / "card.json").write_bytes(b"{")
    for query in (Query(task="mini-pos"), Query(licence="MIT", task="mini-pos")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ZooWarning)
            assert [hit.entry.key for hit in search(zoo, query)] == [alone.key]


def test_a_parent_whose_card_cannot_be_read_is_as_good_as_not_here(zoo: Zoo) -> None:
    parent = an_entry(zoo)
    child = an_entry(zoo, a_run("mini-qa", warm=parent.key))
    (parent.folder / "card.json").write_bytes(b"{")
    with pytest.warns(ZooWarning, match=rf"nothing is known of an ancestor of {child.key}"):
        found = trace(zoo, child.key)
    assert found.missing == (parent.key,) and f"entry {parent.key}" in found.licence().unknown
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZooWarning)
        assert [hit.entry.key for hit in search(zoo, Query(task="mini-qa"))] == [child.key]


def test_a_list_refuses_what_no_entry_has_as_a_search_does(zoo: Zoo, capsys: pytest.CaptureFixture[str]) -> None:
    a_family(zoo)
    runs = ["--runs", str(zoo.root.parent)]
    for command in ("list", "find"):
        for option, name, close in (("--method", "lorra", "lora"), ("--task", "mini-nil", "mini-nli")):
            with pytest.raises(SystemExit) as stop:
                main(["zoo", command, option, name, *runs])
            assert stop.value.code == 2 and f"Did you mean '{close}'" in capsys.readouterr().err
    main(["zoo", "list", "--method", "lora", "--task", "mini-choice", *runs])
    assert "mini-choice-lora" in capsys.readouterr().out


def test_scores_of_a_misspelt_task_are_not_passed_over(zoo: Zoo, capsys: pytest.CaptureFixture[str]) -> None:
    first, _, _ = a_family(zoo)
    folder = zoo.root.parent / "scores" / first.key / "mini-ner"
    folder.mkdir(parents=True)
    (folder / "test-sw.json").write_text("{}")
    with pytest.raises(SystemExit) as stop:
        main(["zoo", "attest", first.key, "mini-ner", "mini-nly", "--runs", str(zoo.root.parent)])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "was scored on: 'mini-nly'. Did you mean 'mini-ner'?" in error
    assert zoo.scores(first.key) == ()


def test_differences_say_what_changed_and_nothing_else(zoo: Zoo) -> None:
    first, second, _ = a_family(zoo)
    assert differences(first.card, first.card) == ()
    other = an_entry(zoo, a_run(seed=4), licence="CC BY-SA 4.0")
    found = {(d.part, d.name): (d.ours, d.theirs) for d in differences(first.card, other.card)}
    assert found.pop(("run", "seed")) == (0, 4)
    assert all(part == "made" for part, _ in found), "only the time it was made"
    scores = ([a_score(first.key, value=60.0)], [a_score(second.key, value=62.5)])
    found = {(d.part, d.name): (d.ours, d.theirs) for d in differences(first.card, second.card, scores=scores)}
    assert found["run", "tasks[0].name"] == ("mini-nli", "mini-pos")
    assert found["run", "init.entry"] == (None, first.key)
    assert found["scores", "mini-nli test sw accuracy"] == (60.0, 62.5)
    assert found["result", "licence"] == ("CC BY-SA 4.0", "Apache-2.0")


def test_the_commands_print_what_the_functions_find(
    zoo: Zoo, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first, second, third = a_family(zoo)

    def out(*args: str) -> str:
        main(["zoo", *args])
        return capsys.readouterr().out

    assert third.key in out("lineage", third.key)
    assert out("lineage", third.key, "--format", "mermaid").startswith("flowchart TD")
    assert json.loads(out("lineage", third.key, "--format", "json"))["key"] == third.key
    picture = tmp_path / "l.svg"
    out("lineage", third.key, "--format", "svg", "--output", str(picture))
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")
    assert "seed" not in out("diff", first.key, second.key).split("rows")[0]
    assert json.loads(out("find", "--task", "mini-pos", "--method", "lora", "--json"))[0]["key"] == second.key
    assert "no entry fits" in out("find", "--max-size", "1B")
    assert second.key in out("find", "--licence", "cc-by-sa-4.0", "--task", "mini-pos"), "its parent's"
    with pytest.raises(SystemExit):
        main(["zoo", "find", "--licence", "CC-BY-SA"])
    assert "unknown licence 'CC-BY-SA'. Did you mean 'CC-BY-SA-4.0'?" in capsys.readouterr().err
    assert out("readme", third.key).startswith("---\n")
    for wrong in ("4 elephants", "kB", ""):
        with pytest.raises(SystemExit):
            main(["zoo", "find", "--max-size", wrong]) if wrong else main(["zoo", "find", "--min-score", "200"])


def test_a_file_that_holds_something_else_is_not_replaced(
    zoo: Zoo, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first, _, third = a_family(zoo)
    theirs = tmp_path / "rows.jsonl"
    theirs.write_text('{"text": "one"}\n')
    own = tmp_path / "made"
    commands = [*(["lineage", "--format", form] for form in ("text", "mermaid", "svg", "json")), ["readme"]]
    for command in commands:
        with pytest.raises(SystemExit):
            main(["zoo", *command, first.key, "--output", str(theirs)])
        assert "holds something else than this command writes" in capsys.readouterr().err
        own.write_text("")
        for entry in (first, third):  # what it wrote itself it replaces
            main(["zoo", *command, entry.key, "--output", str(own)])
            assert entry.key in own.read_text(encoding="utf-8")
    assert theirs.read_text() == '{"text": "one"}\n'
