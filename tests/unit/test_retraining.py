"""The command that a card prints trains the same entry again: run through the command line, it gives the same key."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import msgspec
import pytest
from zoo_samples import an_entry, an_imported

from adapters_xling import api, grid, methods, spec, tasks
from adapters_xling.cli import main
from adapters_xling.errors import ConfigError
from adapters_xling.grid.mixing import Mix
from adapters_xling.model import backbone_id
from adapters_xling.spec import RunSpec, Slot, Stack, Use, Warm
from adapters_xling.zoo import HeadCard, Zoo

NLI = HeadCard(kind="sentence", labels=("yes", "maybe", "no"), task="mini-nli")


class Caught(Exception):
    """The run that the command line was about to train."""


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "runs" / "zoo")


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command and give the run it would train; training itself is tested elsewhere."""

    def catch(run: RunSpec, **_: Any) -> None:
        raise Caught(run)

    monkeypatch.setattr("adapters_xling.training.train", catch)

    def command(line: str) -> RunSpec:
        words = shlex.split(line)
        assert words[:2] == ["xling", "train"]
        with pytest.raises(Caught) as found:
            main(words[1:])
        return found.value.args[0]

    return command


def a_run(names: str = "mini-nli", method: str = "lora", settings: Any = None, **changes: Any) -> RunSpec:
    specs = [tasks.get(name) for name in names.split()]
    given = {"recipe": "nano", "backbone": backbone_id("xlmr-nano"), **changes}
    return grid.make_run(specs[0] if len(specs) == 1 else specs, methods.resolve(method, settings), **given)


@pytest.mark.parametrize(
    ("names", "method", "settings", "changes"),
    [
        ("mini-nli", "lora", {}, {}),
        ("mini-nli", "lora", {"r": 4, "alpha": 8.5, "targets": "all-linear", "layers": (0, 2)}, {"seed": 11}),
        ("mini-pos", "bottleneck", {"reduction_factor": 2, "leave_out": (1,)}, {"seed": 3}),
        ("mini-ner", "full", {"train_embeddings": False}, {"overrides": {"learning_rate": 1e-5, "carry": "none"}}),
        ("mini-choice", "head", {}, {"recipe": "paper", "overrides": {"max_length": 96, "precision": "bf16"}}),
        ("mini-qa", "lora", {}, {"recipe": "xtreme"}),
        ("mini-nli mini-pos", "lora", {}, {}),
        ("mini-nli mini-pos mini-ner", "full", {}, {"mix": Mix.parse("temperature:2.5:500"), "seed": 2}),
        ("mini-nli mini-pos", "lora", {}, {"mix": Mix.parse("proportional:100", {"mini-pos": 0.25})}),
        ("mini-nli mini-mlm", "bottleneck", {}, {"mix": Mix.parse("proportional", {"mini-mlm": 1 / 3})}),
        ("mini-nli mini-pos", "lora", {}, {"mix": Mix.parse("uniform", {"mini-pos": 0.25, "mini-nli": 0.75})}),
    ],
)
def test_the_printed_command_gives_the_same_key(
    zoo: Zoo, caught: Any, names: str, method: str, settings: Any, changes: dict[str, Any]
) -> None:
    run = a_run(names, method, settings, **changes)
    entry = an_entry(zoo, run)
    again = caught(api.retraining(entry.card).command)
    assert spec.key(again) == entry.key
    assert spec.digest(again) == entry.card.digest


def test_parents_are_named(zoo: Zoo, caught: Any) -> None:
    parent = an_entry(zoo, a_run())
    warm = an_entry(zoo, a_run("mini-pos", init=Warm(entry=parent.key)))
    stack = an_entry(zoo, a_run("mini-ner", route=Stack(parts=(Use(entry=parent.key), Slot()))))
    for entry in (warm, stack):
        found = api.retraining(entry.card)
        assert spec.key(caught(found.command)) == entry.key
        assert f"in the zoo must be {parent.key}" in found.notes


def test_shipped_entries_are_trained_again_by_what_their_cards_print(caught: Any, tmp_path: Path) -> None:
    shipped = Zoo(tmp_path).entries()
    assert len(shipped) >= 4
    for entry in shipped:
        assert spec.key(caught(api.retraining(entry.card).command)) == entry.key


def test_a_private_task_is_named_and_trained_again_with_its_folder(zoo: Zoo, caught: Any, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n" + "".join(f"row number {i},{'ab'[i % 2]}\n" for i in range(60)))
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "mine.yaml").write_text(
        tasks.draft(rows, name="mine", kind="sentence", language="sw").text, encoding="utf-8"
    )
    own = tasks.get("mine", extra=folder)
    run = grid.make_run(own, methods.resolve("lora"), recipe="nano", backbone=backbone_id("xlmr-nano"), seed=1)
    entry = an_entry(zoo, run, heads={"mine": HeadCard(kind="sentence", labels=("a", "b"), task="mine")})
    found = api.retraining(entry.card)  # nothing here knows the folder
    assert any("mine" in note and "--tasks" in note for note in found.notes)
    assert spec.key(caught(f"{found.command} --tasks {folder}")) == entry.key


def test_an_entry_without_a_head_is_refused_with_the_command_that_starts_from_it(
    zoo: Zoo, caught: Any, tmp_path: Path
) -> None:
    entry = an_imported(zoo, "unlisted")
    settings = api.Settings(runs=zoo.root.parent)
    for answer in (
        lambda: api.predict(entry.key, [("a", "b")], settings=settings),
        lambda: api.predict(entry.key, [("a", "b")], name="mini-nli", settings=settings),
        lambda: api.adapt(entry.key, tmp_path / "rows.csv", language="sw", settings=settings),
    ):
        with pytest.raises(ConfigError, match=r"was imported and has no head.*from it \(xling train TASK") as error:
            answer()
    line = str(error.value).partition("(")[2].partition(")")[0]
    run = caught(line.replace("TASK", "mini-nli"))
    assert run.init == Warm(entry=entry.key)
    assert methods.resolve(run.method) == methods.resolve(entry.card.run.method)


def test_what_options_cannot_say_is_refused_and_not_approximated(zoo: Zoo) -> None:
    run = a_run("mini-nli mini-pos", rows_at_once={"mini-pos": 8})
    with pytest.raises(ConfigError, match="rows_at_once"):
        api.retraining(an_entry(zoo, run).card)


def test_a_start_from_one_entry_above_another_has_no_command(zoo: Zoo) -> None:
    """`xling adapt` makes such runs of entries that stand on others; `xling train` refuses the options together."""
    below, start = an_entry(zoo, a_run(seed=6)), an_entry(zoo, a_run(seed=7))
    route = Stack(parts=(Use(entry=below.key), Slot()))
    run = msgspec.structs.replace(a_run(seed=8), init=Warm(entry=start.key), route=route)
    with pytest.raises(ConfigError, match=r"starts from .* and stands on .* at once"):
        api.retraining(an_entry(zoo, run).card)


def test_show_prints_it(zoo: Zoo, capsys: pytest.CaptureFixture[str], caught: Any) -> None:
    entry = an_entry(zoo, a_run(seed=5), data={}, heads={"mini-nli": NLI})
    main(["zoo", "show", entry.key])
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if line.strip().startswith("retrain"))
    assert spec.key(caught(line.split(maxsplit=1)[1])) == entry.key
    assert "may be shared under Apache-2.0" in text
