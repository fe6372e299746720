"""What the documentation says of the command line is true of it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from adapters_xling.cli import _COMMANDS, xling

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("submission.md", "statistics.md", "composing.md", "sharing.md", "cards.md", "few-labels.md", "walkthrough.md")
GUIDES = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in PAGES)
LINES = [*README.splitlines(), *(line.removeprefix("$ ") for line in GUIDES.splitlines() if line.startswith("$ "))]
COMMANDS = [shlex.split(line.split("#")[0])[1:] for line in LINES if line.startswith("xling ")]


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_every_command_of_the_readme_and_the_guides_parses(args: list[str]) -> None:
    command: click.Command = xling
    context = click.Context(xling)
    while isinstance(command, click.Group) and args and not args[0].startswith("-"):
        found = command.get_command(context, args[0])
        if found is None:
            break
        command, args = found, args[1:]
    command.make_context("xling", list(args))


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
