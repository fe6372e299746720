"""What a person may say about folders, checkpoints, languages, rows and texts, and which head answers by default."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from click import Context

from adapters_xling import api
from adapters_xling.cli import xling
from adapters_xling.cli.common import settings_from
from adapters_xling.errors import ConfigError, DataError, MissingData
from adapters_xling.prefix_cache import IN_MEMORY, OFF, PrefixCache
from adapters_xling.spec import Attention
from adapters_xling.zoo import HeadCard


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("10m", (600.0, 0)),
        ("90s", (90.0, 0)),
        ("1.5h", (5400.0, 0)),
        ("500steps", (0.0, 500)),
        ("1 step", (0.0, 1)),
        ("never", (0.0, 0)),
    ],
)
def test_intervals_are_times_or_steps(text: str, interval: tuple[float, int]) -> None:
    assert api.Settings(checkpoint_every=text).checkpoint_interval == interval


@pytest.mark.parametrize("text", ["", "10", "0s", "0steps", "1.5steps", "10 minutes", "-5s", "often"])
def test_other_intervals_are_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ConfigError, match="90s, 10m, 1h, 500steps"):
        _ = api.Settings(checkpoint_every=text).checkpoint_interval


def test_the_prefix_cache_is_what_was_asked_for_else_what_is_usual() -> None:
    assert api.Settings().prefixes() == IN_MEMORY
    assert api.Settings().prefixes(OFF) == OFF
    assert api.Settings(prefix_cache="1GiB").prefixes(OFF) == PrefixCache(num_bytes=2**30)
    with pytest.raises(ConfigError, match="'lots' is no size, disk or bf16"):
        api.Settings(prefix_cache="lots").prefixes()


@pytest.mark.parametrize("command", ["train", "evaluate", "run", "adapt"])
def test_commands_take_how_rows_lie_in_a_batch(command: str) -> None:
    option = next(one for one in xling.get_command(Context(xling), command).params if one.name == "attention")
    assert tuple(option.type.choices) == get_args(Attention)
    assert settings_from({"attention": "packed"}).attention == "packed"
    assert settings_from({"attention": None}).attention == "auto"


def entry(**kinds: str) -> Any:
    heads = {name: HeadCard(kind=kind, labels=(), task=name) for name, kind in kinds.items()}  # type: ignore[arg-type]
    run = SimpleNamespace(tasks=[SimpleNamespace(name="first")])
    return SimpleNamespace(key="k", card=SimpleNamespace(heads=heads, run=run))


def test_the_only_head_answers_and_among_several_one_must_be_named() -> None:
    assert api.answering(entry(qa="span", texts="mlm")) == "qa"
    assert api.answering(entry(texts="mlm")) == "first"
    with pytest.raises(ConfigError, match="has heads for nli, pos"):
        api.answering(entry(nli="sentence", pos="tag", texts="mlm"))


NLI = "mini-nli-bottleneck"


def test_folders_may_be_text(tmp_path: Path) -> None:
    settings = api.Settings(runs=str(tmp_path), data=str(tmp_path), tasks="~/tasks")  # type: ignore[arg-type]
    assert (settings.runs, settings.data, settings.tasks) == (tmp_path, tmp_path, Path.home() / "tasks")
    zoos = [api.open_zoo(where) for where in (settings, str(tmp_path), tmp_path)]
    assert {zoo.root for zoo in zoos} == {tmp_path / "zoo"}


@pytest.mark.parametrize(
    "given",
    [
        "Tom buys a hat.",
        ["Tom buys a hat."],
        {"first": "a", "second": "b"},
        [{"first": "a", "second": "b"}],
        [("Tom buys a hat.", None)],
        None,
        [None],
    ],
    ids=str,
)
def test_examples_are_tuples_of_texts(given: Any) -> None:
    with pytest.raises(DataError, match=r"row 0 is .*: give the texts of each example as a tuple.*takes one sentence"):
        api.predict(NLI, given)


def test_a_route_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"an expression is text, such as 'stack\(NAME, slot\)'; got \['slot'\]"):
        api.predict(NLI, [("a", "b")], settings=api.Settings(runs=tmp_path), on=["slot"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limit": -3}, "limit is -3: give a whole number of rows, 1 or more"),
        ({"limit": "8"}, "limit is '8': give a whole number"),
        ({"limit": 0}, "limit is 0"),
        ({"languages": []}, "languages is empty"),
        ({"languages": " ,"}, "languages is empty"),
    ],
    ids=str,
)
def test_no_rows_and_no_languages_are_refused(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    settings = api.Settings(runs=tmp_path)
    planned: Any = None  # looked at after the limit
    verbs = [
        lambda: api.evaluate(NLI, "mini-nli", settings=settings, **options),
        lambda: api.choose(NLI, "mini-nli", ["slot", "base"], settings=settings, **options),
        lambda: api.layers("mini-retrieval", settings=settings, **options),
        lambda: (
            api.compare("a", "b", "mini-nli", settings=settings, **options)
            if "languages" in options
            else api.run(planned, settings=settings, **options)
        ),
    ]
    for verb in verbs:
        with pytest.raises(ConfigError, match=words):
            verb()
    assert not list(tmp_path.iterdir()), "nothing was scored"


def test_one_language_and_one_composition_may_be_text(tmp_path: Path) -> None:
    settings = api.Settings(runs=tmp_path)
    scores = api.evaluate(NLI, "mini-nli", languages="sw,de", on="slot", limit=2, settings=settings)
    assert [score.language for score in scores] == ["sw", "de"]
    with pytest.raises(MissingData, match=r"no entry has scores .* in sw;"):
        api.compare("a", "b", "mini-nli", languages="sw", settings=api.Settings(runs=tmp_path / "none"))


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, "a"])
def test_seeds_that_cannot_be_are_refused(seed: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"seed is {seed!r}; valid is a whole number from 0 to 4294967295"):
        api.train("mini-nli", seed=seed, settings=api.Settings(runs=tmp_path))


def test_training_on_no_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="no task to train on"):
        api.train([])


@pytest.mark.parametrize("command", ["train", "adapt"])
def test_commands_know_the_largest_seed(command: str) -> None:
    option = next(one for one in xling.get_command(Context(xling), command).params if one.name == "seed")
    assert (option.type.min, option.type.max) == (0, 2**32 - 1)
