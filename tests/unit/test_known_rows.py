"""What stands in a test set and is trained on is said on the card, cheaply, and nothing is called clean unread."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from zoo_samples import a_run, an_entry

from adapters_xling import api, tasks
from adapters_xling.cli import main
from adapters_xling.errors import ZooError
from adapters_xling.tasks import known
from adapters_xling.tasks.examples import ChoiceExample, SentenceExample, SpanExample, TagExample, TextExample
from adapters_xling.tasks.overlap import Index, Reader, row_hash
from adapters_xling.zoo import KnownRows, Zoo, card_file, render_readme
from adapters_xling.zoo.lineage import facts

POS = tasks.get("mini-pos")
SHORT = {"max_steps": 2, "eval_every_steps": 2, "dev_examples": 20}


@pytest.fixture(autouse=True)
def only_what_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "_SEEN", {})
    monkeypatch.delenv("XLING_DATA", raising=False)


def rows(task: str, split: str) -> list[tasks.data.Example]:
    return tasks.load(tasks.get(task), split, "en").examples


def test_a_row_has_the_hash_that_the_thorough_search_gives_it() -> None:
    reader = Reader()
    for example in (
        SentenceExample(id="1", first="Who is he?", second="HE is."),
        ChoiceExample(id="1", prompt="which", choices=("one", "two")),
        SpanExample(id="1", context="A long passage.", question="what?", group="Warsaw"),
        TagExample(id="1", words=("谁", "是", "歌手")),
        TextExample(id="1", text="e\u0301tage"),
    ):
        assert row_hash(example) == reader.prints(example).row != 0
        assert known.row_hashes([example, example]).tolist() == [row_hash(example)] * 2


def test_it_counts_what_the_thorough_search_calls_rows_and_nothing_of_the_runs_own_dev_set() -> None:
    trained = rows("mini-pos", "train")
    found = known.known_rows(known.row_hashes(trained), [POS])
    index = Index(Reader())
    index.add(trained, place="here")
    expected = {}
    for name in found.checked:
        task, split, _ = name.split("/")
        tested = rows(task, split)
        assert found.checked[name] == len(tested)
        expected[name] = sum(how is not None and how[0] == "row" for how in index.look_up(tested))
    assert set(found.checked) == {"mini-pos/test/en", "mini-ner/test/en", "mini-ner/dev/en"}
    assert found.known == {name: number for name, number in expected.items() if number} != {}
    assert (found.num_rows, found.unchecked) == (len(trained), ())


def test_somebodys_unfinished_task_file_is_not_looked_at_and_costs_nothing(tmp_path: Path) -> None:
    """It is asked for when a run is trained and has nothing to do with that file."""
    (tmp_path / "draft.yaml").write_text("name: draft\nkind: tag\nlanguages: [en]\n", encoding="utf-8")
    trained = known.row_hashes(rows("mini-pos", "train"))
    found, plain = known.known_rows(trained, [POS], extra=tmp_path), known.known_rows(trained, [POS])
    assert "draft" in found.unchecked and found.checked == plain.checked and found.known == plain.known


def test_a_planted_test_row_is_found_and_other_kinds_are_left_alone_but_by_raw_text() -> None:
    tested = rows("mini-nli", "test")[:3]
    nli = tasks.get("mini-nli")
    enough = 600.0  # seconds; what too few of them do is another test's
    found = known.known_rows(known.row_hashes(tested), [nli], budget_s=enough)
    assert found.known["mini-nli/test/en"] == 3
    assert {name.split("/")[0] for name in found.checked} == {"mini-nli", "mini-paraphrase"}
    sentence = TextExample(id="1", text=" ".join(rows("mini-pos", "test")[0].words))  # type: ignore[union-attr]
    mlm = msgspec.structs.replace(tasks.get("mini-mlm"), train_languages=("en",))
    assert known.known_rows(known.row_hashes([sentence]), [mlm], budget_s=enough).known["mini-pos/test/en"] >= 1


def test_without_time_nothing_is_read_and_nothing_called_clean(tmp_path: Path) -> None:
    hashes = known.row_hashes(rows("mini-pos", "test")[:1])
    late = known.known_rows(hashes, [POS], budget_s=0)
    assert late.checked == late.known == {}
    assert set(late.unchecked) == {"mini-pos/test/en", "mini-ner/test/en", "mini-ner/dev/en"}
    first = known.known_rows(hashes, [POS])
    files = sorted((tmp_path / "cache" / "rows").iterdir())
    assert len(files) == 3
    known._SEEN.clear()
    assert known.known_rows(hashes, [POS], budget_s=0) == first, "kept hashes need no time"
    known._SEEN.clear()
    for file in files:
        file.write_bytes(file.read_bytes()[:-3])
    assert known.known_rows(hashes, [POS]) == first, "a damaged file is made again"
    known._SEEN.clear()
    np.save(files[0], np.array([{}], object), allow_pickle=True)
    assert len(known.known_rows(hashes, [POS], budget_s=0).unchecked) == 1, "nothing pickled is read"


def test_a_card_says_it_and_an_old_one_stays_what_it_was(tmp_path: Path) -> None:
    zoo = Zoo(tmp_path / "zoo", fallbacks=())
    found = KnownRows(num_rows=80, checked={"mini-nli/test/en": 400}, known={"mini-nli/test/en": 3})
    old = an_entry(zoo)
    new = an_entry(zoo, a_run(seed=1), known_rows=found)
    assert "known_rows" not in json.loads((old.folder / "card.json").read_text())
    assert card_file.read(old.folder).known_rows is None
    assert card_file.read(new.folder).known_rows == found
    assert zoo.verify(new.key) == []
    assert not any("test rows" in line for line in facts(old.card))
    assert found.said() == (
        "3 of 400 rows of 1 test or development set are among the 80 training rows: 3 of 400 in mini-nli/test/en"
    )
    assert found.said() in render_readme(new.card)
    plain = json.loads((new.folder / "card.json").read_text())
    plain["known_rows"]["known"]["mini-nli/test/en"] = 401
    with pytest.raises(ZooError, match="401 rows of 'mini-nli/test/en', of which 400 were checked"):
        card_file.parse(json.dumps(plain).encode(), "card.json")


def test_where_nothing_was_found_it_says_what_was_looked_at() -> None:
    clean = KnownRows(num_rows=80, checked={"a/test/en": 400, "b/dev/en": 1000}, unchecked=("c/test/en",))
    assert clean.said() == (
        "none of 1,400 rows of 2 test or development sets is among the 80 training rows; 1 set at hand unchecked"
    )
    many = {f"t{i}/test/en": 10 for i in range(9)}
    said = KnownRows(num_rows=80, checked=many, known=many).said()
    assert said.endswith("10 of 10 in t3/test/en and some in 5 more sets")


def test_training_looks_and_the_commands_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = api.Settings(runs=tmp_path / "runs", device="cpu")
    entry = api.train("mini-pos", overrides=SHORT, settings=settings, show_progress=False)
    found = entry.card.known_rows
    assert found is not None
    trained = rows("mini-pos", "train")
    assert found.known == known.known_rows(known.row_hashes(trained), [POS]).known != {}
    main(["zoo", "show", entry.key, "--runs", str(tmp_path / "runs")])
    text = capsys.readouterr().out
    assert found.said() in text and f"xling zoo leaks {entry.key}" in text
    main(["train", "mini-pos", *(f"--with={k}={v}" for k, v in SHORT.items()), "--runs", str(tmp_path / "runs")])
    assert "Scores on those sets are not of unseen rows alone" in capsys.readouterr().err
