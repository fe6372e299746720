"""How long commands take that need no model, each in a fresh process, against the limit of 0.3 s.

    python scripts/bench/startup.py

Every command must succeed and print the same each time; one run of each comes before those that count.
"""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import ROOT, finish, options, row, seconds

LIMIT_S = 0.3
COMMANDS = (
    ("--help",),
    ("--version",),
    ("tasks",),
    ("zoo", "list"),
    ("train", "--help"),
    ("evaluate", "--help"),
    ("run", "--help"),
    ("report", "--help"),
)


def run(command: tuple[str, ...], runs: Path, said: dict[tuple[str, ...], bytes]) -> None:
    """Run a command and compare what it prints.

    Raises:
        SystemExit: when it fails, or prints something else than before.
    """
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "XLING_RUNS": str(runs)}
    done = subprocess.run([sys.executable, "-m", "adapters_xling", *command], env=environ, capture_output=True)
    if done.returncode or said.setdefault(command, done.stdout) != done.stdout:
        raise SystemExit(f"startup: xling {' '.join(command)} failed or printed something else: {done.stderr[-500:]!r}")


def main(given: list[str] | None = None) -> None:
    """Time every command and give the row of the slowest."""
    args = options(__doc__).parse_args(given)
    commands = COMMANDS[:2] if args.small else COMMANDS
    said: dict[tuple[str, ...], bytes] = {}
    with tempfile.TemporaryDirectory(prefix="xling-bench-") as runs:
        for command in commands:
            run(command, Path(runs), said)
        found = {
            command: [seconds(functools.partial(run, command, Path(runs), said)) for _ in range(args.rounds)]
            for command in commands
        }
    slowest = max(found, key=lambda command: statistics.median(found[command]))
    each = ", ".join(f"{' '.join(command)} {statistics.median(times):.2f}" for command, times in found.items())
    line = row(
        "startup",
        {"ours": found[slowest], "theirs": [LIMIT_S] * args.rounds},
        bar=1.0,
        equal_within=0.0,
        difference=0.0,
        baseline="the limit for commands that need no model",
        note=f"the slowest of (seconds): {each}",
    )
    finish([line], args)


if __name__ == "__main__":
    main()
