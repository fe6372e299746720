"""The leak guard finds what was planted, says how and where, and calls nothing clean that it could not read."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo_samples import a_run, an_entry

from adapters_xling import tasks
from adapters_xling.cli import main
from adapters_xling.errors import DataError
from adapters_xling.leaks import Overlap, find_leaks
from adapters_xling.spec import Imported
from adapters_xling.tasks.examples import ChoiceExample, SentenceExample, SpanExample, TagExample, TextExample
from adapters_xling.tasks.overlap import GRAM, GRAM_UNSPACED, Index, Reader, texts_of, units
from adapters_xling.zoo import DataCard, Entry, Zoo

WORDS = [f"word{i}" for i in range(500)]


def how(trained: Any, tested: Any) -> str | None:
    index = Index(Reader())
    index.add([trained], place="here")
    (found,) = index.look_up([tested])
    return found and found[0]


def a_text(seed: int, num: int = 30) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=num))


def nli(first: str, second: str, **rest: Any) -> SentenceExample:
    return SentenceExample(id="1", first=first, second=second, **rest)


# --- what counts as the same --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The cat, sat!", "the CAT sat"),
        ("e\u0301tage", "étage"),
        ("Ｆｕｌｌ　ｗｉｄｔｈ １２", "full width 12"),
        ("Straße", "STRASSE"),
        ("谁 是 歌手 ？", "谁是歌手"),
        ("दुनिया।", "दुनिया"),
        ("ﬁne", "fine"),
    ],
)
def test_letters_marks_and_digits_decide(one: str, other: str) -> None:
    assert "".join(units(one)) == "".join(units(other)) != ""


@pytest.mark.parametrize(("one", "other"), [("नमस्ते", "नमसत"), ("12", "13"), ("ab", "ba")])
def test_a_mark_or_digit_more_is_another_text(one: str, other: str) -> None:
    assert "".join(units(one)) != "".join(units(other))


def test_the_closest_way_is_said() -> None:
    long, other = a_text(1), a_text(2)
    assert how(nli(long, "yes it is"), nli(long.upper(), "Yes, it is.")) == "row"
    assert how(nli(long, "yes it is"), nli(long, "no")) == "text"
    assert how(nli(long, "x"), nli(f"{a_text(3)} {' '.join(long.split()[5 : 5 + GRAM])} {other}", "y")) == "sequence"
    assert how(nli(long, "x"), nli(f"{a_text(3)} {' '.join(long.split()[5 : 4 + GRAM])} {other}", "y")) is None
    assert how(nli(long, "yes"), nli(other, "yes")) is None, "a short text is no sign"
    assert how(nli("who is he", "he is"), nli("Who is he?", "He is.")) == "row", "but a whole row is"


def test_in_scripts_without_blanks_characters_are_counted() -> None:
    rng = random.Random(0)
    text = "".join(chr(rng.randrange(0x4E00, 0x9000)) for _ in range(90))
    other = "".join(chr(rng.randrange(0x4E00, 0x9000)) for _ in range(90))
    assert how(nli(text, "x"), nli(other[:40] + text[20 : 20 + GRAM_UNSPACED] + other[40:], "y")) == "sequence"
    assert how(nli(text, "x"), nli(other[:40] + text[20 : 19 + GRAM_UNSPACED] + other[40:], "y")) is None


def test_rows_of_other_kinds_are_compared_by_their_texts() -> None:
    passage = a_text(5, 60)
    span = SpanExample(id="1", context=passage, question="who?", group="Warsaw")
    assert how(TextExample(id="9", text=passage), span) == "text"
    assert how(TagExample(id="9", words=tuple(passage.split())), span) == "text"
    assert how(ChoiceExample(id="9", prompt="which", choices=("short", passage)), span) == "text"
    assert texts_of(span) == [passage, "who?"]


def test_an_article_is_known_by_its_name_and_only_when_it_has_one() -> None:
    one = SpanExample(id="1", context=a_text(1), question="who?", group="Warsaw")
    assert how(one, SpanExample(id="2", context=a_text(2), question="what?", group="warsaw")) == "group"
    assert how(one, SpanExample(id="2", context=a_text(2), question="what?", group="Paris")) is None
    itself = nli(a_text(1), "x", group=a_text(1))  # a group that is the text says nothing of its own
    assert Reader().prints(itself).group == 0


@given(st.lists(st.text(max_size=60), max_size=12), st.text(max_size=60))
def test_a_row_is_found_exactly_when_its_normal_form_is_there(trained: list[str], tested: str) -> None:
    index = Index(Reader())
    index.add([TextExample(id=str(i), text=text) for i, text in enumerate(trained) if text], place="x")
    (found,) = index.look_up([TextExample(id="t", text=tested)]) if tested else (None,)
    same = tested != "" and "".join(units(tested)) in {"".join(units(text)) for text in trained if text}
    assert (found is not None and found[0] == "row") == same


# --- entries ------------------------------------------------------------------------------------------------------


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "runs" / "zoo")


NLI = tasks.get("mini-nli")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A private task whose training rows hold three rows of mini-nli's test set, one of them in Swahili."""
    english = tasks.load(NLI, "test", "en").examples[:2]
    swahili = tasks.load(NLI, "test", "sw").examples[7]
    rows = [(f"{a_text(i)}", f"{a_text(900 + i)}", NLI.labels[i % 3]) for i in range(120)]
    rows += [(e.first.upper(), f" {e.second} ! ", str(e.label)) for e in (*english, swahili)]
    path = tmp_path / "rows.tsv"
    path.write_text("premise\thypothesis\tlabel\n" + "".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    folder = tmp_path / "tasks"
    folder.mkdir()
    text = tasks.draft(path, name="planted", kind="sentence", language="en").text
    # all rows train but a tenth of the groups: the planted ones must be among those that train
    text = text.replace("[0, 1, 2, 3, 4, 5, 6, 7]", "[0, 1, 2, 3, 4, 5, 6, 7, 9]").replace("test: [9]", "test: []")
    (folder / "planted.yaml").write_text(text, encoding="utf-8")
    return folder


def entry_of(zoo: Zoo, folder: Path, **changes: Any) -> Entry:
    spec = tasks.get("planted", extra=folder)
    data = {}
    for split in ("train", "dev"):
        rows = tasks.load(spec, split, "en")
        data[f"planted/{split}/en"] = DataCard(kept=rows.kept, used=len(rows.examples), identity=rows.identity)
    return an_entry(zoo, a_run("planted"), data=data, **changes)


def test_planted_rows_are_found_with_their_twins_in_every_language(zoo: Zoo, folder: Path) -> None:
    entry = entry_of(zoo, folder)
    found = find_leaks(entry.key, zoo=zoo, benchmarks=[NLI, tasks.get("mini-pos")], extra_tasks=folder)
    test = {one.language: one for one in found.overlaps if (one.task, one.split) == ("mini-nli", "test")}
    planted = {tasks.load(NLI, "test", "en").examples[i].id for i in (0, 1)}
    other = tasks.load(NLI, "test", "sw").examples[7].id
    known: dict[str, dict[str, int]] = {}
    for one in found.overlaps:
        if (one.task, one.split) == ("mini-nli", "test"):
            for way, number in one.known.items():
                known.setdefault(one.language, {}).setdefault(way, 0)
                known[one.language][way] += number
    assert known["en"]["row"] == 2 and known["sw"]["row"] == 1
    assert set(known) == set(NLI.languages)
    assert all(sum(ways.values()) == 3 for ways in known.values()), known
    assert test["de"].known.keys() == {"twin"}
    ids = {sample.id for one in test.values() for sample in one.samples}
    assert ids <= planted | {other}
    assert all(sample.place.startswith("planted/") for one in test.values() for sample in one.samples)
    assert not [one for one in found.overlaps if one.task == "mini-pos"]
    assert found.checked["mini-nli", "test", "de"] == len(tasks.load(NLI, "test", "de").examples)


def test_a_language_asked_for_alone_has_the_twins_it_has_among_all(zoo: Zoo, folder: Path) -> None:
    """Twins were looked for among the languages asked for alone, and what leaks was called clean."""
    entry = entry_of(zoo, folder)
    how: dict[str, Any] = {"zoo": zoo, "benchmarks": [NLI], "extra_tasks": folder}
    whole = find_leaks(entry.key, **how)
    for code in ("de", "sw", "en"):
        alone = find_leaks(entry.key, **how, languages=[code])
        assert {place[2] for place in alone.checked} == {code}
        assert [one.known for one in alone.overlaps] == [one.known for one in whole.overlaps if one.language == code]
        assert alone.overlaps


def test_translations_of_the_rows_that_chose_a_step_are_twins(zoo: Zoo) -> None:
    """Of a parallel task whose English dev rows chose the step, 40 of them."""
    rows = tasks.load(NLI, "dev", "en")
    data = {"mini-nli/dev/en": DataCard(kept=rows.kept, used=40, identity=rows.identity)}
    found = find_leaks(an_entry(zoo, a_run("mini-nli"), data=data).key, zoo=zoo, benchmarks=[NLI])
    twins = {one.language: one for one in found.overlaps if one.split == "dev"}
    assert ("mini-nli", "dev", "en") not in found.checked and "en" not in twins
    chose = {row.id for row in rows.examples[:40]}
    for code in ("de", "sw"):
        same = chose & {row.id for row in tasks.load(NLI, "dev", code).examples}
        assert same and sum(twins[code].known.values()) >= len(same) and twins[code].part == "dev"


def test_an_ancestors_rows_count(zoo: Zoo, folder: Path) -> None:
    parent = entry_of(zoo, folder)
    child = an_entry(zoo, a_run("mini-pos", warm=parent.key), data={})
    ours = find_leaks(child.key, zoo=zoo, benchmarks=[NLI], extra_tasks=folder, languages=["en"])
    theirs = find_leaks(parent.key, zoo=zoo, benchmarks=[NLI], extra_tasks=folder, languages=["en"])
    assert ours.overlaps == theirs.overlaps != []
    assert {language for _, _, language in ours.checked} == {"en"}


def test_what_cannot_be_read_is_unchecked_and_not_clean(zoo: Zoo, folder: Path) -> None:
    parent = entry_of(zoo, folder)
    child = an_entry(zoo, a_run("mini-pos", warm=parent.key), data={})
    found = find_leaks(parent.key, zoo=zoo, benchmarks=[tasks.get("xnli")], data_dir=folder, extra_tasks=folder)
    assert "not at hand" in found.unchecked["xnli/test"] and not found.checked
    found = find_leaks(parent.key, zoo=zoo, benchmarks=[NLI], languages=["en"])
    assert "task file is not here" in found.unchecked["planted/train/en"]
    zoo.remove(parent.key, force=True)
    found = find_leaks(child.key, zoo=zoo, benchmarks=[NLI], languages=["en"])
    assert "not in this zoo" in found.unchecked[f"entry {parent.key}"]


def test_nobody_knows_what_an_imported_entry_learnt_from(zoo: Zoo, capsys: pytest.CaptureFixture[str]) -> None:
    run = msgspec.structs.replace(a_run("theirs"), init=Imported(source="hf://someone/lora", digest="d" * 64))
    imported = an_entry(zoo, run, data={}, training=None)
    child = an_entry(zoo, a_run("mini-pos", warm=imported.key), data={})
    for entry in (imported, child):
        found = find_leaks(entry.key, zoo=zoo, benchmarks=[NLI], languages=["en"])
        assert found.overlaps == [] and found.untraced == (f"entry {imported.key}",)
        assert "imported from hf://someone/lora" in found.unchecked[f"entry {imported.key}"]
        words = ["zoo", "leaks", entry.key, "--on", "mini-nli", "--languages", "en"]
        main(words)
        assert f"unchecked: entry {imported.key}" in capsys.readouterr().err
        with pytest.raises(SystemExit) as stop:
            main([*words, "--strict"])
        assert stop.value.code == 2
        assert f"could not be checked: entry {imported.key}" in capsys.readouterr().err
    sound = an_entry(zoo, a_run("mini-ner"), data={})
    main(["zoo", "leaks", sound.key, "--on", "xnli", "--languages", "en", "--strict"])  # no set at hand: not its rows


def test_rows_that_are_not_those_of_the_card_are_refused(zoo: Zoo, folder: Path) -> None:
    entry = entry_of(zoo, folder)
    path = folder.parent / "rows.tsv"
    path.write_text(path.read_text() + "a new row\tat the end\tneutral\n")
    with pytest.raises(DataError, match="put the rows it was trained on back"):
        find_leaks(entry.key, zoo=zoo, benchmarks=[NLI], extra_tasks=folder)


def test_only_the_rows_that_were_used_count(zoo: Zoo, folder: Path) -> None:
    spec = tasks.get("planted", extra=folder)
    rows = tasks.load(spec, "train", "en")
    data = {"planted/train/en": DataCard(kept=rows.kept, used=5, identity=rows.identity)}
    entry = an_entry(zoo, a_run("planted"), data=data)
    found = find_leaks(entry.key, zoo=zoo, benchmarks=[NLI], extra_tasks=folder, languages=["en"])
    assert found.num_rows["train"] == 5 and found.overlaps == []


def test_the_command_fails_when_it_is_told_to(
    zoo: Zoo, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = entry_of(zoo, folder)
    words = ["zoo", "leaks", entry.key, "--on", "mini-nli", "--languages", "en,sw", "--tasks", str(folder)]
    main([*words, "--examples"])
    text = capsys.readouterr().out
    assert "mini-nli/test" in text and "planted/train/en" in text
    with pytest.raises(SystemExit) as stop:
        main([*words, "--strict"])
    assert stop.value.code == 2
    assert "do not report scores on them as unseen" in capsys.readouterr().err


# --- real rows ----------------------------------------------------------------------------------------------------


@pytest.mark.realdata
def test_real_rows_hold_what_is_known_of_them(tmp_path: Path, real_data: Path) -> None:
    """SQuAD's dev articles are XQuAD's, the division by article takes them apart; XNLI's English is not MultiNLI's."""
    zoo = Zoo(tmp_path / "zoo", fallbacks=())

    def overlaps(name: str, *benchmarks: str, languages: tuple[str, ...]) -> dict[tuple[str, str], Overlap]:
        spec = tasks.get(name)
        rows = tasks.load(spec, "train", "en", data_dir=real_data)
        data = {f"{name}/train/en": DataCard(kept=rows.kept, identity=rows.identity)}
        entry = an_entry(zoo, a_run(name), data=data)
        found = find_leaks(
            entry.key,
            zoo=zoo,
            benchmarks=[tasks.get(one) for one in benchmarks],
            data_dir=real_data,
            languages=languages,
        )
        return {(one.task, one.language): one for one in found.overlaps}

    squad = overlaps("kit-squad1", "xquad", "kit-xquad", languages=("en", "de"))
    assert squad["xquad", "en"].known["group"] > 800 and "row" not in squad["xquad", "en"].known
    assert squad["xquad", "de"].known["group"] > 800
    assert set(squad["kit-xquad", "en"].known) == {"sequence"}, "only sentences made by one template"
    assert squad["kit-xquad", "en"].num_known <= 6
    assert overlaps("kit-nli", "xnli", languages=("en",)) == {}
