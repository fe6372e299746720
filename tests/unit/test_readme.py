"""What the documentation says of the command line is true of it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from zoo_samples import a_run, an_entry

from adapters_xling import api, expressions, methods
from adapters_xling.api import compositions
from adapters_xling.cli import _COMMANDS, xling
from adapters_xling.cli.common import assignments, parts
from adapters_xling.composition import named
from adapters_xling.languages import LANGUAGES
from adapters_xling.spec import Fresh, Imported, Init, MethodSpec, Route, Slot, Stack, Use, entries
from adapters_xling.zoo import Entry, Zoo

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("submission.md", "statistics.md", "composing.md", "sharing.md", "cards.md", "few-labels.md", "walkthrough.md")
GUIDES = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in PAGES)
LINES = [*README.splitlines(), *(line.removeprefix("$ ") for line in GUIDES.splitlines() if line.startswith("$ "))]
COMMANDS = [shlex.split(line.split("#")[0])[1:] for line in LINES if line.startswith("xling ")]


def parsed(args: list[str]) -> tuple[str, dict[str, Any]]:
    """Name of a command and its parameters."""
    command: click.Command = xling
    context = click.Context(xling)
    while isinstance(command, click.Group) and args and not args[0].startswith("-"):
        found = command.get_command(context, args[0])
        if found is None:
            break
        command, args = found, args[1:]
    return str(command.name), command.make_context("xling", list(args)).params


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_every_command_of_the_readme_and_the_guides_parses(args: list[str]) -> None:
    parsed(args)


# --- names in commands that stand together ------------------------------------------------------------------------

TOLD = {
    "README.md": (),
    "composing.md": (),
    "few-labels.md": ("udpos-lora", "my-sw-bottleneck"),
    "cards.md": ("my-sw-bottleneck",),
    "sharing.md": ("mini-ner-lora-warm", "mini-nli-lora", "mini-squad-lora"),
    "submission.md": (),
    "swahili.md": ("kit-mnli-lora",),
}
"""Page -> entries it takes for granted, beside the shipped ones and those its commands make."""
MADX = {"reduction_factor": 2.0, "inv_adapter": "nice"}
"""Settings of AdapterHub's language adapters."""


def blocks() -> Iterator[Any]:
    """Commands that stand in one block of a page, and so are typed one after the other."""
    for page in TOLD:
        text = (ROOT / page if page == "README.md" else ROOT / "docs" / page).read_text(encoding="utf-8")
        for number, body in enumerate(re.findall(r"^```\w*\n(.*?)^```$", text, re.M | re.S)):
            lines = [line.removeprefix("$ ") for line in body.splitlines()]
            commands = [shlex.split(line.split("  #")[0])[1:] for line in lines if line.startswith("xling ")]
            if commands:
                yield pytest.param(page, commands, id=f"{page}-{number}")


def keep(
    zoo: Zoo, task: str, method: str, settings: dict[str, Any], *, backbone: str, init: Init, route: Route
) -> Entry:
    """An entry under the key, up to its digest, that a command would give it; nothing is trained."""
    run = a_run(task)
    how = MethodSpec(name=method, settings=settings)
    where = msgspec.structs.replace(run.backbone, name=backbone)
    return an_entry(zoo, msgspec.structs.replace(run, backbone=where, method=how, init=init, route=route))


def start(params: dict[str, Any], zoo: Zoo) -> Entry:
    """Do what `xling train` does up to the first row: look names up, and see whether the start fits the run."""
    method, backbone = params["method"], params["backbone"]
    init: Init = expressions.parse_init(params["warm"], resolve=zoo.resolve) if params["warm"] else Fresh()
    route: Route = expressions.parse_ground(params["on"], resolve=zoo.resolve) if params["on"] else Slot()
    if params["stack"]:
        route = Stack(parts=(Use(entry=zoo.resolve(params["stack"])), Slot()))
    given = assignments(params["method_sets"], "--set")
    own = methods.resolve(method, compositions.settings_for(init, method, given, zoo=zoo))
    for name in (*named(init), *entries(route)):
        parent = zoo.get(name).card.run
        assert (parent.method.name, parent.backbone.name) == (method, backbone), f"{name} cannot serve this run"
        if name in named(init):
            there = {**methods.resolve(parent.method).spec().settings, "dropout": None}
            assert there == {**own.spec().settings, "dropout": None}, f"a warm start from {name} needs its settings"
    for task in params["tasks"]:
        api.task(task)
    return keep(zoo, params["tasks"][0], method, dict(own.spec().settings), backbone=backbone, init=init, route=route)


def follow(name: str, params: dict[str, Any], zoo: Zoo) -> None:
    """Look up what a command names, and keep what it would make."""
    if name == "train":
        start(params, zoo)
        return
    if name == "import":
        keep(
            zoo,
            params["task"] or "unknown",
            "bottleneck" if "madx" in params["source"] else "lora",
            dict(methods.resolve("bottleneck", MADX).spec().settings),
            backbone=params["backbone"],
            init=Imported(source=params["source"], digest="0" * 64),
            route=Slot(),
        )
        return
    if name == "merge":
        from adapters_xling.model.kept_merges import merge_run

        an_entry(zoo, merge_run(expressions.parse_merge(params["expression"], resolve=zoo.resolve), zoo=zoo))
        return
    if name == "pull":
        return
    given = [params.get(one) for one in ("entry", "ours", "theirs")] + list(params.get("entries") or ())
    found = [zoo.resolve(one) for one in given if one and not one.isupper() and "=" not in one and not is_hash(one)]
    on = params.get("candidates") or params.get("on") or ()
    if name in ("choose", "evaluate", "predict"):
        asked = parts(params.get("languages"), "--languages") or sorted(LANGUAGES)
        for text in [on] if isinstance(on, str) else on:
            route = compositions.routes_by_language([text], entry=found[0], zoo=zoo, languages=asked)
            for code in parts(params.get("languages"), "--languages") or ["sw"]:
                route(code)
    if name == "adapt":
        parent = zoo.get(found[0]).card.run
        task = params.get("name") or f"{Path(params['rows']).stem}-{params['language']}"
        run = msgspec.structs.replace(a_run(task, warm=found[0]), method=parent.method, backbone=parent.backbone)
        an_entry(zoo, run)


def is_hash(name: str) -> bool:
    """Whether a name is digits of a hash that a reader has others of."""
    return re.fullmatch(r"[0-9a-f]{12}", name) is not None


@pytest.mark.parametrize(("page", "commands"), list(blocks()))
def test_names_in_commands_that_stand_together_mean_one_entry_and_fit(
    page: str, commands: list[list[str]], tmp_path: Path
) -> None:
    zoo = Zoo(tmp_path / "zoo")
    for name in TOLD[page]:
        task, method, *warm = re.split(r"-(lora|bottleneck)", name)
        settings = dict(methods.resolve(method).spec().settings)
        parent = zoo.keys()[0]
        run = a_run(task, warm=parent) if any(warm) else a_run(task)
        an_entry(zoo, msgspec.structs.replace(run, method=MethodSpec(name=method, settings=settings)))
    for args in commands:
        follow(*parsed(args), zoo)


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_has_help_and_stands_in_the_readme_or_a_guide(name: str) -> None:
    command = xling.get_command(click.Context(xling), name)
    assert command is not None
    assert command.help
    assert f"xling {name}" in README + GUIDES or name == "report"


def test_every_make_target_explains_itself() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"\.PHONY: (.*)", makefile)
    assert phony is not None
    for target in phony.group(1).split():
        assert re.search(rf"^{target}:.*## \w", makefile, re.M), target
