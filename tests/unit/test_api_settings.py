"""What a person may say about checkpoints, and which head answers when none is named."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, get_args

import pytest
from click import Context

from adapters_xling import api
from adapters_xling.cli import xling
from adapters_xling.cli.common import settings_from
from adapters_xling.errors import ConfigError
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
