"""The walkthrough is true: its commands run in their order and print what the page shows."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from adapters_xling.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "walkthrough.md"
LEFT_OUT = "…"
POINTS = 12.0
"""How far a score may be from the page's on another processor, whose kernels round otherwise."""


class Step(NamedTuple):
    """A command with what the page shows of its output, or some Python."""

    command: str
    shown: list[str]
    is_python: bool = False


def steps(text: str) -> Iterator[Step]:
    for language, body in re.findall(r"^```(console|python)\n(.*?)^```$", text, re.M | re.S):
        if language == "python":
            yield Step(body, [], is_python=True)
            continue
        for part in re.split(r"^\$ ", body, flags=re.M)[1:]:
            command, *shown = part.splitlines()
            yield Step(command, shown)


def run(command: str) -> list[str]:
    """Lines that a command prints, both streams as a terminal shows them."""
    name, *args = shlex.split(command)
    assert name == "xling"
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            main(args)
        except SystemExit as stop:
            assert not stop.code, f"{command}\n{text.getvalue()}"
    return [line.rstrip() for line in text.getvalue().splitlines()]


def same(shown: str, line: str) -> bool:
    """Whether a line is what the page shows: `…` is anything, numbers with a fraction are about the same."""
    number = r"[-+]?\d+\.\d+"
    parts = re.split(f"({number}|{LEFT_OUT})", shown)
    pattern = "".join(
        ".*" if one == LEFT_OUT else f"({number})" if re.fullmatch(number, one) else re.escape(one) for one in parts
    )
    found = re.fullmatch(pattern, line)
    wanted = [float(one) for one in parts if re.fullmatch(number, one)]
    return found is not None and all(abs(a - float(b)) <= POINTS for a, b in zip(wanted, found.groups(), strict=True))


def differs(shown: list[str], lines: list[str]) -> str | None:
    """The first line of the page that the output does not have where the page has it; a `…` line skips any number."""
    rest, skipping = list(lines), False
    for one in shown:
        if one == LEFT_OUT:
            skipping = True
            continue
        while skipping and rest and not same(one, rest[0]):
            rest.pop(0)
        if not rest or not same(one, rest.pop(0)):
            return one
        skipping = False
    return f"(the page ends before: {rest[0]})" if rest and not skipping else None


@pytest.mark.timeout(900)
def test_every_command_prints_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("XLING_RUNS", "XLING_DATA"):  # as for a person who has set nothing
        monkeypatch.delenv(name, raising=False)
    done = list(steps(PAGE.read_text(encoding="utf-8")))
    assert len(done) > 15
    for step in done:
        if step.is_python:
            exec(compile(step.command, str(PAGE), "exec"), {})
            continue
        lines = run(step.command)
        wrong = differs(step.shown, lines)
        assert wrong is None, f"$ {step.command}\nthe page: {wrong}\nit printed:\n" + "\n".join(lines)
    assert any(step.shown for step in done)


@pytest.mark.parametrize(
    ("shown", "lines"),
    [
        (["sw  accuracy 80.8"], ["sw  accuracy 60.8"]),
        (["sw  accuracy 80.8"], ["de  accuracy 80.8"]),
        (["one"], []),
        (["one"], ["one", "two"]),
        (["one", "three"], ["one", "two", "three"]),
        ([LEFT_OUT, "three"], ["one", "two"]),
        (["key-04c4…"], ["key-14c4ac"]),
    ],
)
def test_a_page_that_is_not_true_is_noticed(shown: list[str], lines: list[str]) -> None:
    assert differs(shown, lines) is not None


def test_what_is_left_out_may_be_anything() -> None:
    assert differs(["one", LEFT_OUT, "sw 80.8 …", LEFT_OUT], ["one", "two", "three", "sw 79.1 (400 rows)", "x"]) is None
