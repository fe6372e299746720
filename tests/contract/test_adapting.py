"""Going on with few rows of one's own: honest splits, the zero-shot figure beside it, and what is kept of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters_xling import api, tasks
from adapters_xling.api.adapting import BUCKETS, _metric_in, _partition
from adapters_xling.cli import main
from adapters_xling.errors import ConfigError, DataError, MissingData, UnknownName, XlingError
from adapters_xling.paths import predictions_file
from adapters_xling.zoo import ZooWarning

NLI = tasks.get("mini-nli")
ENTRY = "mini-nli-bottleneck"
SHORT = {"epochs": 1.0, "eval_every_steps": 2}


def write_rows(path: Path, language: str, num: int, *, change: Callable[[dict[str, Any]], None] | None = None) -> Path:
    """The first development rows of the made-up world as a person's file."""
    with path.open("w", encoding="utf-8") as stream:
        for example in tasks.load(NLI, "dev", language).examples[:num]:
            row: dict[str, Any] = {"premise": example.first, "hypothesis": example.second, "label": example.label}
            if change:
                change(row)
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> tuple[api.Adapted, api.Settings]:
    folder = tmp_path_factory.mktemp("adapt")
    settings = api.Settings(runs=folder / "runs", device="cpu")
    rows = write_rows(folder / "Mine Rows.jsonl", "sw", 90)
    return api.adapt(ENTRY, rows, language="sw", overrides=SHORT, settings=settings, show_progress=False), settings


def test_both_are_scored_on_the_same_rows_that_neither_trained_nor_chose(
    adapted: tuple[api.Adapted, api.Settings],
) -> None:
    found, settings = adapted
    splits = {split: tasks.load(found.task, split, "sw").examples for split in ("train", "dev", "test")}
    assert dict(found.num_rows) == {split: len(rows) for split, rows in splits.items()}
    assert sum(found.num_rows.values()) == 90 and min(found.num_rows.values()) > 0
    groups = {split: {row.group for row in rows} for split, rows in splits.items()}
    assert not groups["test"] & (groups["train"] | groups["dev"]) and not groups["train"] & groups["dev"]
    parent = next(iter(found.entry.card.parents))
    for key in (found.entry.key, parent):
        file = settings.runs_dir / "scores" / key / found.task.name / "test-sw.json"
        ids = [json.loads(line)["id"] for line in predictions_file(file).read_text(encoding="utf-8").splitlines()]
        assert ids == [row.id for row in splits["test"]]
    assert {one.num_examples for one in (*found.before, *found.after)} == {len(splits["test"])}


def test_the_difference_is_that_of_the_two_scores_with_an_interval(
    adapted: tuple[api.Adapted, api.Settings],
) -> None:
    found, _ = adapted
    difference = found.versus.languages["sw"]
    assert difference.value == pytest.approx(found.after[0].value - found.before[0].value)
    assert difference.low is not None and difference.high is not None
    assert difference.low <= difference.value <= difference.high


def test_both_are_compared_by_name_where_no_language_is_zero_shot(
    adapted: tuple[api.Adapted, api.Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    found, settings = adapted
    words = ["compare", found.entry.key, ENTRY, "--task", found.task.name, "--split", "test"]
    main([*words, "--tasks", str(found.folder), "--runs", str(settings.runs_dir)])
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line.split() for line in lines if line.startswith("sw ")]
    assert row[1:3] == [f"{found.after[0].value:.1f}", f"{found.before[0].value:.1f}"]
    assert not any(line.startswith("zero-shot mean") for line in lines)


def test_what_is_said_of_zero_shot_is_true_of_each(adapted: tuple[api.Adapted, api.Settings]) -> None:
    found, settings = adapted
    assert all(one.zero_shot for one in found.before) and not any(one.zero_shot for one in found.after)
    options: dict[str, Any] = {"languages": ["sw", "de", "en"], "limit": 5, "settings": settings}
    scores = api.evaluate(found.entry.key, "mini-nli", **options)
    assert {one.language: one.zero_shot for one in scores} == {"sw": False, "de": True, "en": False}, "its head read en"
    (kept,) = settings.runs_dir.glob(f"scores/{found.entry.key}/mini-nli/test-en-first5.json")
    kept.write_text(
        kept.read_text(encoding="utf-8").replace('"zero_shot": false', '"zero_shot": true'), encoding="utf-8"
    )
    assert api.evaluate(found.entry.key, "mini-nli", **options) == scores, "a mark of before is put right"


def test_the_new_entry_goes_on_with_method_and_head_and_names_its_rows(
    adapted: tuple[api.Adapted, api.Settings],
) -> None:
    found, settings = adapted
    card = found.entry.card
    parent = api.open_zoo(settings).get(card.parents[0]).card
    assert card.run.method == parent.run.method and card.run.recipe.carry == "head"
    assert set(card.heads) == set(parent.heads)
    place = f"{found.task.name}/train/sw"
    assert card.data[place].used == found.num_rows["train"]
    assert "LicenseRef-Private" in api.entry_licence(found.entry.key, settings).expression


def test_its_scores_can_be_attested_and_shown_in_its_readme(adapted: tuple[api.Adapted, api.Settings]) -> None:
    import dataclasses

    found, settings = adapted
    settings = dataclasses.replace(settings, tasks=found.folder)
    lines = api.attest_scores(found.entry.key, [found.task.name], settings)
    assert {one.score.value for one in lines} == {score.value for score in found.after}
    zoo = api.open_zoo(settings)
    assert zoo.verify(found.entry.key) == []
    # a line says when and with what its score was measured, not when it was attested
    (file,) = (settings.runs_dir / "scores" / found.entry.key / found.task.name).glob("test-sw.json")
    body = json.loads(file.read_text())
    assert {(one.created, one.commit) for one in lines} == {(body["measured"]["created"], body["measured"]["commit"])}
    assert lines[0].packages == body["measured"]["packages"] and "torch" in lines[0].packages
    side = (zoo.get(found.entry.key).folder / "scores.jsonl").read_bytes()
    time.sleep(1.1)  # the next one has another time
    assert api.attest_scores(found.entry.key, [found.task.name], settings) == lines
    assert (zoo.get(found.entry.key).folder / "scores.jsonl").read_bytes() == side
    del body["measured"]  # a file from before it was written down
    file.write_text(json.dumps(body), encoding="utf-8")
    os.utime(file, (0, 0))
    (old, *_) = api.attest_scores(found.entry.key, [found.task.name], settings)
    assert (old.created, old.commit, old.packages) == ("1970-01-01T00:00:00Z", None, {})
    readme = api.entry_readme(found.entry.key, settings)
    assert f"| {found.task.name} | test | sw | {found.num_rows['test']} | {found.after[0].value:.1f} |" in readme
    retrain = api.retraining(found.entry.card, settings)
    assert "--warm" in retrain.arguments and "carry=head" in retrain.arguments


def test_attesting_all_scores_leaves_out_tasks_whose_file_is_not_here(
    adapted: tuple[api.Adapted, api.Settings],
) -> None:
    found, settings = adapted
    said = rf"left out.* not here: {found.task.name};"
    with pytest.warns(UserWarning, match=said), pytest.raises(MissingData, match="no scores on a task whose file is"):
        api.attest_scores(found.entry.key, settings=settings)
    (score,) = api.evaluate(found.entry.key, "mini-nli", languages=["de"], settings=settings)
    with pytest.warns(UserWarning, match=said):
        assert score in [one.score for one in api.attest_scores(found.entry.key, settings=settings)]


def test_doing_it_again_trains_nothing(adapted: tuple[api.Adapted, api.Settings], tmp_path: Path) -> None:
    found, settings = adapted
    rows = write_rows(tmp_path / "Mine Rows.jsonl", "sw", 90)
    with pytest.raises(ConfigError, match="another --name"):  # the same rows, but another file
        api.adapt(ENTRY, rows, language="sw", overrides=SHORT, settings=settings, show_progress=False)
    same = settings.runs_dir.parent / "Mine Rows.jsonl"
    again = api.adapt(ENTRY, same, language="sw", overrides=SHORT, settings=settings, show_progress=False)
    assert again.entry.card == found.entry.card
    # and the adapted one is adapted in its turn, by its own task's file, which lies in the folder of the runs
    more = write_rows(tmp_path / "more.jsonl", "sw", 60)
    further = api.adapt(
        found.entry.key, more, language="sw", overrides=SHORT, settings=settings, show_progress=False, recipe="nano"
    )
    assert further.entry.card.parents == (found.entry.key,)


def test_a_longer_file_leaves_every_row_where_it_was(tmp_path: Path) -> None:
    places: list[dict[str, str]] = []
    for num in (60, 100):
        rows = write_rows(tmp_path / f"{num}.jsonl", "de", num)
        text = tasks.draft(rows, name="mine", kind="sentence", language="de").text
        import yaml

        body = yaml.safe_load(text)
        body["sources"][0]["partition"] = _partition("mine", held_out=0.3, dev_share=0.15)
        folder = tmp_path / f"tasks{num}"
        folder.mkdir()
        (folder / "mine.yaml").write_text(yaml.safe_dump(body), encoding="utf-8")
        spec = tasks.get("mine", extra=folder)
        places.append(
            {row.group: split for split in ("train", "dev", "test") for row in tasks.load(spec, split, "de").examples}
        )
    assert len(places[0]) < len(places[1])
    assert all(places[1][group] == split for group, split in places[0].items())


def test_shares_are_shares_of_the_groups() -> None:
    splits = _partition("x", held_out=0.5, dev_share=0.1)["splits"]
    assert {split: len(buckets) for split, buckets in splits.items()} == {"train": 8, "dev": 2, "test": 10}
    assert sorted(number for buckets in splits.values() for number in buckets) == list(range(BUCKETS))
    smaller = _partition("x", held_out=0.3, dev_share=0.1)["splits"]
    assert set(smaller["test"]) < set(splits["test"]), "rows that were held out stay so as long as can be"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"language": "xx"}, UnknownName, "unknown language"),
        ({"held_out": 0.9, "dev_share": 0.2}, ConfigError, "leave something to train on"),
        ({"held_out": 0.0}, ConfigError, "a twentieth at least"),
        ({"labels": {"neutral": "perhaps"}}, UnknownName, "unknown label of mini-nli 'perhaps'"),
        ({"on": "mini-pos"}, ConfigError, "has no head 'mini-pos'"),
        ({"on": "mini-nil"}, UnknownName, "Did you mean 'mini-nli'"),
        ({"columns": {"first": "premis"}}, DataError, "no column 'premis'"),
        ({"columns": {"frist": "premise"}}, UnknownName, "Did you mean 'first'"),
        ({"name": "mini-nli"}, ConfigError, "task 'mini-nli' is there already"),
        ({"name": "My Rows"}, ConfigError, "Give another --name, e.g. my-rows"),
        ({"name": "../evil"}, ConfigError, "cannot be a task's name"),
        ({"overrides": {"batch_size": 0}}, ConfigError, "batch_size"),
        ({"overrides": {"batch_size": "abc"}}, ConfigError, "batch_size"),
        ({"overrides": {"batch_sise": 8}}, XlingError, "Did you mean 'batch_size'"),
        ({"recipe": "papre"}, UnknownName, "Did you mean 'paper'"),
    ],
)
def test_what_cannot_be_done_is_said(
    tmp_path: Path, options: dict[str, Any], error: type[XlingError], words: str
) -> None:
    rows = write_rows(tmp_path / "mine.jsonl", "sw", 40)
    with pytest.raises(error, match=words):
        api.adapt(ENTRY, rows, **{"language": "sw", **options}, show_progress=False)
    assert not list(tmp_path.rglob("*.yaml"))


def test_labels_that_are_not_the_heads_are_refused_or_translated(tmp_path: Path) -> None:
    swahili = {"entailment": "ndiyo", "neutral": "labda", "contradiction": "hapana"}
    rows = write_rows(tmp_path / "mine.jsonl", "sw", 40, change=lambda row: row.update(label=swahili[row["label"]]))
    with pytest.raises(DataError, match="'hapana', 'labda', 'ndiyo' is none of the head's"):
        api.adapt(ENTRY, rows, language="sw", show_progress=False)
    given = {name: label for label, name in swahili.items()}
    found = api.adapt(ENTRY, rows, language="sw", labels=given, overrides=SHORT, show_progress=False)
    gold = {row.label for row in tasks.load(found.task, "train", "sw").examples}
    assert gold <= set(NLI.labels)


def test_a_head_of_pairs_goes_on_with_pairs_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write_rows(
        tmp_path / "mine.jsonl", "sw", 60, change=lambda row: row.update(claim=row.pop("hypothesis"), note="x")
    )
    settings = api.Settings(runs=tmp_path / "runs", device="cpu")
    with pytest.raises(DataError, match=r"which column is 'second' .*--columns second="):
        api.adapt(ENTRY, rows, language="sw", settings=settings, show_progress=False)
    assert not list(tmp_path.rglob("*.yaml")), "nothing is written for rows that cannot be used"
    words = ["adapt", ENTRY, str(rows), "--language", "sw", "--columns", "second=claim", "--with", "epochs=1"]
    main([*words, "--quiet", "--runs", str(tmp_path / "runs")])
    assert "columns that are not used: note" in capsys.readouterr().err


def test_rows_may_be_in_a_language_that_no_shipped_task_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write_rows(tmp_path / "mine.jsonl", "sw", 60)
    settings = api.Settings(runs=tmp_path / "runs", device="cpu")
    found = api.adapt(ENTRY, rows, language="nso", overrides=SHORT, settings=settings, show_progress=False)
    assert found.task.name == "mine-nso" and found.task.languages == ("nso",)
    assert [one.zero_shot for one in (*found.before, *found.after)] == [True, False]
    assert "nso" in api.entry_readme(found.entry.key, settings)
    words = ["evaluate", found.entry.key, "mine-nso", "--tasks", str(found.folder), "--runs", str(tmp_path / "runs")]
    main([*words, "--on", "nso=base"])
    assert capsys.readouterr().out.startswith("nso  accuracy")


def test_rows_of_one_group_cannot_be_divided(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "mine.jsonl", "sw", 40, change=lambda row: row.update(group="one"))
    with pytest.raises(DataError, match="too few groups"):
        api.adapt(ENTRY, rows, language="sw", show_progress=False)


def test_the_command_shows_both_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write_rows(tmp_path / "mine.jsonl", "sw", 60)
    words = ["adapt", ENTRY, str(rows), "--language", "sw", "--with", "epochs=1", "--quiet"]
    main(words)
    text = capsys.readouterr().out
    assert "before, zero-shot" in text and "after" in text and "95 % interval over the held-out rows" in text
    main([*words, "--json"])
    body = json.loads(capsys.readouterr().out)
    assert body["before_is_zero_shot"] and sum(body["rows"].values()) == 60


def test_the_licence_of_the_rows_is_the_users_word_and_stays_what_it_was(tmp_path: Path) -> None:
    settings = api.Settings(runs=tmp_path / "runs", device="cpu")
    rows = write_rows(tmp_path / "mine.jsonl", "sw", 60)
    how: dict[str, Any] = {"language": "sw", "overrides": SHORT, "settings": settings, "show_progress": False}
    found = api.adapt(ENTRY, rows, licence="CC BY 4.0", **how)
    assert found.task.licence == found.entry.card.licence == "CC BY 4.0"
    assert api.entry_licence(found.entry.key, settings).may_share
    again = api.adapt(ENTRY, rows, **how)
    assert (again.entry.key, again.task.licence) == (found.entry.key, "CC BY 4.0")
    with pytest.raises(ConfigError, match="another licence"):
        api.adapt(ENTRY, rows, licence="Apache-2.0", **how)
    (found.folder / "mine-sw.yaml").unlink()  # as that message advises: but the entry's card is sealed
    with pytest.warns(ZooWarning, match=r"is here already, with licence 'CC BY 4\.0', and .* says 'CC BY-NC 4\.0' now"):
        api.adapt(ENTRY, rows, licence="CC BY-NC 4.0", **how)
    found_rows = found.entry.card.known_rows
    assert found_rows is not None and "mine-sw/test/sw" in found_rows.checked
    assert found_rows.known["mini-nli/dev/sw"] == found.num_rows["train"], "the file was made of that set"


def test_an_entry_of_a_private_task_answers_where_its_file_is_not(
    adapted: tuple[api.Adapted, api.Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, settings = adapted
    texts = [["Peter ni wakili. Emma hamsalimii Robert.", "Peter si wakili."]]
    own = api.Settings(runs=settings.runs_dir, tasks=found.folder, device="cpu")
    (expected,) = api.predict(found.entry.key, texts, settings=own)
    with pytest.raises(UnknownName):
        api.task(found.task.name, settings)
    assert api.predict(found.entry.key, texts, settings=settings) == [expected]
    assert [one.value for one in api.predict_requests([(found.entry.key, texts[0])], settings=settings)] == [
        expected.value
    ]
    like = api.answering_task(found.entry, settings=settings)
    assert (like.name, like.head_name, like.labels) == (found.task.name, "mini-nli", NLI.labels)

    def nothing(name: str, settings: Any) -> Any:
        raise UnknownName(name)

    monkeypatch.setattr("adapters_xling.api.predicting.task", nothing)
    with pytest.warns(UserWarning, match="usual options of kind 'sentence'"):
        assert api.predict(found.entry.key, texts, settings=settings) == [expected]
    with pytest.raises(UnknownName):
        api.predict(found.entry.key, texts, name="no-task-of-it", settings=settings)


def test_answers_in_a_language_that_the_task_s_metric_has_no_rules_for_are_scored_by_squad_s() -> None:
    assert [_metric_in("mlqa", [code]) for code in ("de", "sw")] == ["mlqa", "squad"]
    assert _metric_in("accuracy", ["sw"]) == "accuracy"


def test_an_entry_that_is_adapted_again_holds_out_nothing_that_trained_it(tmp_path: Path) -> None:
    """The rows of before and more, under another file's name: the division goes on, or what it broke is counted."""
    settings = api.Settings(runs=tmp_path / "runs", device="cpu")
    how: dict[str, Any] = {"language": "sw", "overrides": SHORT, "settings": settings, "show_progress": False}
    first = api.adapt(ENTRY, write_rows(tmp_path / "first.jsonl", "sw", 60), **how)
    again = api.adapt(first.entry.key, write_rows(tmp_path / "more.jsonl", "sw", 90), **how)
    used = [
        {(row.first, row.second) for split in ("train", "dev") for row in tasks.load(first.task, split, "sw").examples},
        {(row.first, row.second) for row in tasks.load(again.task, "test", "sw").examples},
    ]
    assert first.task.name != again.task.name and sum(again.num_rows.values()) == 90
    assert not used[0] & used[1] and (first.known, again.known) == (0, 0)
    wider = api.adapt(first.entry.key, tmp_path / "more.jsonl", name="wider", held_out=0.6, **how)
    assert wider.known > 0
    (tmp_path / "first.jsonl").unlink()
    with pytest.warns(UserWarning, match=r"whether rows held out now trained 'first-sw' before is not known"):
        assert api.adapt(first.entry.key, tmp_path / "more.jsonl", name="lost", held_out=0.6, **how).known == 0
