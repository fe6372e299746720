"""Run the benchmarks, each in a process of its own, and keep their lines.

    python scripts/bench/run.py                       # all of them
    python scripts/bench/run.py --only training/lora  # one, or one line of one; every other line stays as it is
    python scripts/bench/run.py --only gpu            # on a machine with a CUDA device; never unasked
    python scripts/bench/run.py --list

Every benchmark checks that both sides compute the same before it times them, and takes the median of rounds in turn.
Lines go to docs/benchmarks.json, the page docs/benchmarks.md is made from them. A benchmark that fails leaves its
lines as they were, and the exit code is 1. Run them on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import ROOT, facts

from adapters_xling.api.settings import has_gpu

HERE = Path(__file__).resolve().parent

BENCHMARKS: dict[str, tuple[str, ...]] = {
    "training/full": ("training.py", "--method", "full"),
    "training/bottleneck": ("training.py", "--method", "bottleneck"),
    "training/lora": ("training.py", "--method", "lora"),
    "pieces/full": ("pieces.py", "--method", "full"),
    "tokenising": ("tokenising.py",),
    "evaluation": ("evaluation.py",),
    "retrieval": ("mining.py",),
    "switching": ("residents.py",),
    "prefix/bottleneck": ("kept.py", "--method", "bottleneck"),
    "prefix/lora": ("kept.py", "--method", "lora"),
    "startup": ("startup.py",),
    "gpu": ("gpu.py",),
}
ASKED_FOR = ("gpu",)
"""Measured only by name: it needs a device that most machines do not have."""

Line = dict[str, Any]


def chosen(only: str | None) -> list[str]:
    """Benchmarks that a name stands for: itself, those it begins, or the one it is a line of.

    Raises:
        SystemExit: for a name of none.
    """
    if only is None:
        return [name for name in BENCHMARKS if name not in ASKED_FOR]
    found = [name for name in BENCHMARKS if _under(name, only) or _under(only, name)]
    if not found:
        raise SystemExit(f"no benchmark is called {only!r}; there are: {', '.join(BENCHMARKS)}, and their lines")
    return found


def _under(name: str, top: str) -> bool:
    return name == top or name.startswith(f"{top}/")


def measure(name: str, *, small: bool, threads: int, rounds: int) -> list[Line]:
    """Lines of a benchmark, from a process of its own.

    Raises:
        subprocess.CalledProcessError: when it failed, or both sides did not compute the same.
    """
    script, *options = BENCHMARKS[name]
    with tempfile.TemporaryDirectory(prefix="xling-bench-") as folder:
        rows = Path(folder) / "rows.json"
        command = [sys.executable, str(HERE / script), *options, "--rows", str(rows), "--threads", str(threads)]
        command += ["--rounds", str(rounds), *(["--small"] if small else [])]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = json.loads(rows.read_text(encoding="utf-8"))
    about = {**facts(threads), "small": small}
    return [{**one, "command": f"make bench ONLY={one['name']}", **about} for one in found]


def merged(old: Sequence[Line], new: Sequence[Line]) -> list[Line]:
    """Lines with new ones in the place of those of the same name, in the order of the benchmarks.

    >>> merged([{"name": "startup", "ratio": 1}, {"name": "switching/lora", "ratio": 2}], [{"name": "startup"}])
    [{'name': 'switching/lora', 'ratio': 2}, {'name': 'startup'}]
    """
    lines = {one["name"]: one for one in (*old, *new)}
    order = list(BENCHMARKS)

    def place(name: str) -> tuple[int, str]:
        return next((i for i, top in enumerate(order) if _under(name, top)), len(order)), name

    return [lines[name] for name in sorted(lines, key=place)]


def read(file: Path) -> list[Line]:
    """Lines of a file; none where there is no file yet."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []


# --- the page -----------------------------------------------------------------------------------------------------


def page(lines: Sequence[Line]) -> str:
    """The lines as a Markdown page."""
    losses = [one for one in lines if one["ratio"] < 1]
    short = [one for one in lines if one["ratio"] < one["bar"] and one not in losses]
    text = [
        "# Benchmarks",
        "",
        "Made by `make bench` (`make bench ONLY=name` measures one line again). The ratio says how many times as good "
        "as the baseline ours is, the bar which ratio is wanted. Outputs of both sides agree within the bound given "
        "before anything is timed; figures are medians of rounds taken in turn.",
        "",
        *_table(lines),
        "",
        "## Losses",
        "",
        *(_told(losses) or ["No line has a ratio below 1."]),
        "",
        "## Below the bar",
        "",
        *(_told(short) or ["No other line is below its bar."]),
        "",
        "## What was compared",
        "",
        *(f"- **{one['name']}**: {one['baseline']}. {one['note']}." for one in lines),
        "",
        "## Where",
        "",
        *_where(lines),
    ]
    return "\n".join(text) + "\n"


def _table(lines: Sequence[Line]) -> list[str]:
    head = [
        "| line | ours | baseline | ratio | bar | equal within | found | rounds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return head + [
        f"| {one['name']}{' (small: no figure)' if one['small'] else ''} | {one['ours']:g} {one['unit']} | "
        f"{one['theirs']:g} {one['unit']} | {one['ratio']:.2f} | {one['bar']:g} | {one['equal_within']:g} | "
        f"{one['difference']:.1g} | {len(one['rounds'])} |"
        for one in lines
    ]


def _told(lines: Sequence[Line]) -> list[str]:
    return [f"- {one['name']}: {one['ratio']:.2f} against {one['baseline']}" for one in lines]


def _where(lines: Sequence[Line]) -> list[str]:
    groups: dict[str, list[str]] = {}
    for one in lines:
        versions = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
        groups.setdefault(f"{one['machine']}; commit {one['commit']}, {one['made']}; {versions}", []).append(
            one["name"]
        )
    return [f"- {', '.join(names)}: {place}" for place, names in groups.items()]


def main(given: Sequence[str] | None = None) -> int:
    """Measure, keep the lines, make the page; 1 when a benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="a benchmark, several by their beginning, or one line")
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes; the figures mean nothing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.json", help="the page stands beside it")
    parser.add_argument("--list", action="store_true", help="only list the benchmarks")
    args = parser.parse_args(given)
    names = chosen(args.only)
    if args.list:
        print("\n".join(names if args.only else BENCHMARKS))
        return 0
    if args.rounds < 3 and not args.small:
        parser.error("--rounds: a median needs three rounds or more")
    failed = []
    for name in ASKED_FOR if args.only is None else ():
        why = f"measure it with --only {name}" if has_gpu() else "there is no GPU here"
        print(f"{name}: left out, {why}", flush=True)
    for name in names:
        print(f"{name} …", flush=True)
        try:
            found = measure(name, small=args.small, threads=args.threads, rounds=args.rounds)
        except subprocess.CalledProcessError as err:
            failed.append(name)
            print(f"{name}: failed (exit code {err.returncode}); its lines stay as they were", file=sys.stderr)
            continue
        if not found:
            print(f"{name}: not measured on this machine; its lines stay as they were", flush=True)
            continue
        if args.only is not None and args.only != name and _under(args.only, name):
            found = [one for one in found if _under(one["name"], args.only)]
        if not found:
            raise SystemExit(f"benchmark {name!r} has no line {args.only!r}")
        lines = merged(read(args.out), found)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(lines, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        args.out.with_suffix(".md").write_text(page(lines), encoding="utf-8")
        for one in found:
            print(f"  {one['name']}: {one['ratio']:.2f} (bar {one['bar']:g})", flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
