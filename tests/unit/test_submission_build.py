"""From kept predictions to a folder: each value in its place, one entry per task, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from adapters_xling import submission
from adapters_xling.cli import xling
from adapters_xling.errors import DataError, MissingData, UnknownName, XlingError
from adapters_xling.paths import predictions_file, score_file
from adapters_xling.submission import Benchmark, Built, benchmark
from adapters_xling.tasks import catalog, sources

NLI = "my-nli-lora-fresh-xlmr-nano-s1-0123456789abcdef"
TAGS = "my-tags-full-fresh-xlmr-nano-s1-fedcba9876543210"

TASK = """
name: {name}
kind: {kind}
role: private
title: t
languages: [de, sw]
{more}
"""
NOWHERE = "\nsources: [{type: files, reader: table, splits: {test: none.tsv, dev: none.tsv}}]"
MORE = {
    "my-nli": ("sentence", 'labels: ["yes", "no"]\nmetrics: [accuracy]' + NOWHERE),
    "my-choice": ("choice", "metrics: [accuracy]" + NOWHERE),
    "my-tags": ("tag", "labels: [O, B-PER, I-PER]\nmetrics: [span_f1]" + NOWHERE),
    "my-answers": ("span", "metrics: [squad]\neval_split: dev" + NOWHERE),
    "my-ranking": ("retrieve", "metrics: [mrr20]" + NOWHERE),
    "my-pool": (
        "retrieve",
        "metrics: [retrieval_accuracy]\nsources:\n  - {type: files, reader: aligned, splits: "
        '{test: ["{language}.en", "{language}.xx"]}}',
    ),
    "my-mine": (
        "retrieve",
        "metrics: [mining_f1]\noptions: {mode: mine}\nsources:\n  - {type: files, reader: bitext, splits: "
        '{dev: ["{language}.dev.xx", "{language}.dev.en", "{language}.dev.gold"]}}',
    ),
}
BENCHMARK = """
name: own
title: one task of every form
tasks:
  - {task: my-nli, group: a, format: labels, metric: accuracy, labels: ["yes", "no"], languages: [de, sw]}
  - {task: my-choice, group: a, format: choices, metric: accuracy, labels: ["0", "1"], languages: [de, sw]}
  - {task: my-tags, group: a, format: tags, metric: chunk_f1, labels: [O, B-PER, I-PER], languages: [de, sw]}
  - {task: my-answers, group: b, format: answers, metric: squad, languages: [de, sw]}
  - {task: my-ranking, group: b, format: rankings, metric: mrr20, languages: [de, sw]}
  - {task: my-pool, group: b, format: indices, metric: accuracy, languages: [de, sw]}
  - {task: my-mine, group: b, format: pairs, metric: pair_f1, languages: [de, sw]}
"""
ENGLISH = ["pears", "Zebras", "apples", "apples", "bees"]
"""In alphabetical order, capitals first: Zebras, apples (3rd), apples (4th), bees, pears."""


class World:
    """Tasks, data, and predictions that two entries kept."""

    def __init__(self, root: Path) -> None:
        self.root, self.runs, self.data, self.tasks = root, root / "runs", root / "data", root / "tasks"
        self.data.mkdir()
        self.tasks.mkdir()
        for name, (kind, more) in MORE.items():
            (self.tasks / f"{name}.yaml").write_text(TASK.format(name=name, kind=kind, more=more))
        (root / "own.yaml").write_text(BENCHMARK)
        for code in ("de", "sw"):
            (self.data / f"{code}.en").write_text("".join(f"{text}\n" for text in ENGLISH))
            (self.data / f"{code}.xx").write_text("".join(f"sentence {n}\n" for n in range(5)))
            (self.data / f"{code}.dev.xx").write_text("".join(f"{code}-{n}\tx{n}\n" for n in range(4)))
            (self.data / f"{code}.dev.en").write_text("".join(f"en-{n}\ty{n}\n" for n in range(4)))
            (self.data / f"{code}.dev.gold").write_text("".join(f"{code}-{n}\ten-{n}\n" for n in range(2)))

    @property
    def benchmark(self) -> Benchmark:
        return benchmark.get(str(self.root / "own.yaml"))

    def keep(
        self,
        entry: str,
        task: str,
        code: str,
        values: Sequence[Any],
        split: str = "test",
        *,
        unscored: bool = False,
        **facts: Any,
    ) -> Path:
        """Write predictions as `xling evaluate` keeps them; values without ids get q1, q2, …"""
        scores = score_file(self.runs / "scores" / entry / task, split, code, unscored=unscored)
        scores.parent.mkdir(parents=True, exist_ok=True)
        rows = values.items() if isinstance(values, dict) else [(f"q{n}", v) for n, v in enumerate(values, 1)]
        lines = (json.dumps({"id": id_, "value": value, "score": 0.5}, ensure_ascii=False) for id_, value in rows)
        predictions_file(scores).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        facts = {"kept": len(values), "dropped": {}, "source": "s", **facts}
        scores.write_text(json.dumps({"identity": "i", "rows": facts, "scores": []}))
        return scores

    def keep_all(self) -> None:
        for code in ("de", "sw"):
            self.keep(NLI, "my-nli", code, ["yes", "no", "yes"])
            self.keep(NLI, "my-choice", code, [1, 0])
            self.keep(TAGS, "my-tags", code, [["O", "B-PER"], ["I-PER"]])
            self.keep(NLI, "my-answers", code, {"a": "two\u2028lines", "b": ""}, split="dev")
            self.keep(NLI, "my-ranking", code, {"m": [[f"Q{n}", 1 / n] for n in range(1, 26)]})
            # every English sentence finds the sentence after its own
            self.keep(NLI, "my-pool", code, [[[f"c{1 + n % 5}", 0.9], [f"c{n}", 0.1]] for n in range(1, 6)])
            # right at .9 and .7, wrong at .5 and .1: the best threshold is .6
            dev = {f"{code}-{n}": [[f"en-{n}", score]] for n, score in enumerate((0.9, 0.7, 0.5, 0.1))}
            self.keep(NLI, "my-mine", code, dev, split="dev")
            test = {
                f"{code}-7": [["en-8", 0.65]],
                f"{code}-6": [["en-6", 0.55]],
                f"{code}-5": [],
                f"{code}-4": [["en-4", 0.6]],
            }
            self.keep(NLI, "my-mine", code, test)

    def build(self, *sources: Any, **options: Any) -> Built:
        out = options.pop("out", self.root / "out")
        places = {"runs_dir": self.runs, "data_dir": self.data, "extra_tasks": self.tasks}
        named = [str(source) for source in sources] or [str(self.runs)]
        return submission.build(named, out, self.benchmark, **places, **options)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.keep_all()
    return made


def texts(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_every_form_of_file_holds_what_was_predicted(world: World) -> None:
    built = world.build()
    found = texts(built.folder)
    assert built.num_files == len(found) == 14
    assert found["my-nli/test-sw.tsv"] == "yes\nno\nyes\n"
    assert found["my-choice/test-sw.jsonl"] == '{"label": 1}\n{"label": 0}\n'
    assert found["my-tags/test-sw.tsv"] == "O\nB-PER\n\nI-PER\n"
    assert json.loads(found["my-answers/test-sw.json"]) == {"a": "two\u2028lines", "b": ""}
    assert json.loads(found["my-ranking/test-sw.json"]) == {"m": [f"Q{n}" for n in range(1, 21)]}
    # line n found line n + 1, so 0-based index n, the last one line 1: Zebras 2, apples 3 and 4, bees 5, pears 1
    assert found["my-pool/test-sw.tsv"] == "2\n3\n4\n0\n1\n"
    assert found["my-mine/test-sw.tsv"] == "sw-7\ten-8\nsw-4\ten-4\n"
    assert built.entries == {name: TAGS if name == "my-tags" else NLI for name in MORE}
    assert "my-mine/test-sw.tsv: threshold 0.6000 from dev-sw.predictions.jsonl (dev F1 100.0)" in built.notes
    assert submission.check(built.folder, world.benchmark) == []


def test_what_filled_the_folder_is_written_beside_it(world: World) -> None:
    built = world.build()
    beside = json.loads((world.root / "out.sources.json").read_text())
    assert beside["entries"] == built.entries
    assert set(beside["sha256"]) == set(texts(built.folder))
    assert sorted(path.name for path in world.root.iterdir()) == [
        "data", "out", "out.sources.json", "own.yaml", "runs", "tasks",
    ]  # fmt: skip


@pytest.mark.parametrize("named", ["scores folder", "key", "beginning", "hash"])
def test_sources_may_be_entries(named: str, world: World) -> None:
    source = {
        "scores folder": str(world.runs / "scores" / NLI),
        "key": NLI,
        "beginning": "my-nli-lora",
        "hash": "0123456789",
    }[named]
    built = world.build(source, "my-tags", out=world.root / "both")
    assert built.num_files == 14
    with pytest.raises(DataError, match="my-tags: no entry has predictions"):
        world.build(source)


def test_two_entries_for_one_task_are_listed_and_one_can_be_chosen(world: World) -> None:
    world.keep(TAGS, "my-nli", "de", ["no", "no", "no"])
    world.keep(TAGS, "my-nli", "sw", ["no", "no", "no"])
    with pytest.raises(DataError, match="nothing was written") as caught:
        world.build(allow_missing=True)
    for part in ("my-nli: 2 entries have predictions", NLI, TAGS, "--use my-nli=ENTRY"):
        assert part in str(caught.value)
    built = world.build(use={"my-nli": "my-tags"})
    assert built.entries["my-nli"] == TAGS
    assert texts(built.folder)["my-nli/test-de.tsv"] == "no\nno\nno\n"
    with pytest.raises(UnknownName, match="'my-nli'"):
        world.build(use={"my-nly": "my-tags"}, force=True)
    with pytest.raises(MissingData, match="There are"):
        world.build(use={"my-nli": "other"}, force=True)


def test_everything_that_is_missing_is_listed_and_nothing_is_written(world: World) -> None:
    score_file(world.runs / "scores" / NLI / "my-nli", "test", "sw").unlink()  # killed before the score file
    kept = score_file(world.runs / "scores" / NLI / "my-choice", "test", "de")
    predictions_file(kept).rename(kept.with_name("test-de-first20.predictions.jsonl"))
    kept.rename(kept.with_name("test-de-first20.json"))
    world.keep(TAGS, "my-tags", "de", [["O"]], dropped={"empty word": 2})
    with pytest.raises(DataError, match="3 things stand in the way") as caught:
        world.build()
    for part in (
        f"my-nli/test-sw.tsv: no predictions of my-nli, test, sw: `xling evaluate {NLI} my-nli --languages sw`",
        "my-choice/test-de.jsonl: no predictions of my-choice, test, de (only of its first rows: test-de-first20.json)",
        "my-tags/test-de.tsv: rows were turned away (empty word: 2)",
        "--allow-missing writes what is there",
    ):
        assert part in str(caught.value)
    assert not (world.root / "out").exists()
    built = world.build(allow_missing=True)
    assert built.num_files == 11
    assert len(built.left_out) == 3


def test_mining_needs_the_dev_predictions_for_its_threshold(world: World) -> None:
    score_file(world.runs / "scores" / NLI / "my-mine", "dev", "de").unlink()
    with pytest.raises(DataError, match=r"xling evaluate .* my-mine --languages de --split dev"):
        world.build()


def test_sentences_that_are_not_those_predicted_are_refused(world: World) -> None:
    for side in ("en", "xx"):
        with (world.data / f"de.{side}").open("a") as file:
            file.write("one more\n")
    with pytest.raises(DataError, match=r"my-pool/test-de\.tsv: .*not those that were predicted"):
        world.build()


def test_a_label_the_benchmark_does_not_know_is_refused(world: World) -> None:
    world.keep(NLI, "my-nli", "de", ["yes", "maybe", "no"])
    with pytest.raises(DataError, match=r"my-nli/test-de\.tsv: line 2: 'maybe' is none of yes, no"):
        world.build()
    assert not list(world.root.glob("*out*"))
    assert not list(world.root.glob(".out*"))


def test_a_broken_prediction_file_is_named(world: World) -> None:
    path = predictions_file(score_file(world.runs / "scores" / NLI / "my-nli", "test", "de"))
    path.write_text(path.read_text()[:-9])
    with pytest.raises(DataError, match=r"test-de\.predictions\.jsonl: line 3 is no prediction"):
        world.build()


def test_nothing_is_replaced_without_force_and_nothing_foreign_ever(world: World) -> None:
    built = world.build()
    before = texts(built.folder)
    world.keep(NLI, "my-nli", "de", ["no", "no", "no"])
    with pytest.raises(XlingError, match="--force"):
        world.build()
    assert texts(built.folder) == before
    world.build(force=True)
    assert texts(built.folder)["my-nli/test-de.tsv"] == "no\nno\nno\n"
    (built.folder / "thesis.tex").write_text("years of work")
    with pytest.raises(XlingError, match=r"holds 'thesis\.tex'"):
        world.build(force=True)
    assert (built.folder / "thesis.tex").read_text() == "years of work"
    file = world.root / "file"
    file.write_text("x")
    with pytest.raises(XlingError, match="is a file"):
        world.build(out=file, force=True)


def test_a_folder_without_predictions_and_an_unknown_entry_say_where_they_come_from(world: World) -> None:
    with pytest.raises(MissingData, match="neither a runs folder"):
        world.build(world.data)
    with pytest.raises(MissingData, match="There are: my-nli-lora"):
        world.build("my-nly")
    with pytest.raises(DataError, match="means 2 entries"):
        world.build("my-")


def test_the_command_builds_and_refuses(world: World) -> None:
    words = ["submission", "build", str(world.runs), "--out", str(world.root / "cli"), "--benchmark"]
    places = ["--tasks", str(world.tasks), "--data-dir", str(world.data), "--runs", str(world.runs)]
    result = CliRunner().invoke(xling, [*words, str(world.root / "own.yaml"), *places])
    assert result.exit_code == 0, result.output
    assert "14 files written to" in result.output
    again = CliRunner().invoke(xling, [*words, str(world.root / "own.yaml"), *places])
    assert "--force" in str(again.exception)
    result = CliRunner().invoke(xling, [*words, "xtreme", "--force", *places])
    assert isinstance(result.exception, XlingError)
    words[4] = str(world.root / "other")
    result = CliRunner().invoke(xling, [*words, "xtreme", *places])
    assert "xnli: no entry has predictions: `xling evaluate ENTRY xnli`" in str(result.exception)
    assert "162 files" in str(result.exception)


def test_predictions_of_other_rows_than_those_at_hand_are_not_handed_in(world: World) -> None:
    def handed_in() -> list[str]:
        built = world.build(out=world.root / f"out-{len(list(world.root.iterdir()))}")
        return texts(built.folder)["my-nli/test-de.tsv"].split()

    (world.data / "none.tsv").write_text("a\tyes\n", encoding="utf-8")
    task = catalog.get("my-nli", extra=world.tasks)
    (here,) = (found.identity() for found in sources.every(task, "test", "de", data_dir=world.data))
    world.keep(NLI, "my-nli", "de", ["no"] * 3, unscored=True, digest="of other rows")
    with pytest.raises(DataError, match=r"predicted for other rows of my-nli, test, de than .* `xling evaluate"):
        world.keep(NLI, "my-nli", "de", ["no"] * 3, digest="of other rows, too")
        handed_in()
    world.keep(NLI, "my-nli", "de", ["yes"] * 3)  # an older file, which does not say
    assert handed_in() == ["yes"] * 3
    world.keep(NLI, "my-nli", "de", ["no", "yes", "yes"], digest=here)
    assert handed_in() == ["no", "yes", "yes"]
    (world.data / "none.tsv").unlink()  # nothing tells which are right: the newest
    assert handed_in() == ["no", "yes", "yes"]
