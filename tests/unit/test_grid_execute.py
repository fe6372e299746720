"""The executor: a killed worker costs one retry, a failure blocks descendants only, and order follows parents."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adapters_xling.errors import XlingError
from adapters_xling.grid.execute import Result, _finished
from adapters_xling.grid.plan import Plan


def works(log: str, name: str) -> Result:
    with Path(log).open("a", encoding="utf-8") as stream:
        stream.write(f"{name}\n")
    return Result(True, [], {}, 0.0)


def dies_once(log: str, name: str) -> Result:
    marker = Path(f"{log}.{name}")
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return works(log, name)


def always_dies(log: str, name: str) -> Result:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def refuses(log: str, name: str) -> Result:
    raise XlingError("planned refusal")


def plan_of(parents: dict[str, tuple[str, ...]]) -> Any:
    runs: dict[str, Any] = {name: SimpleNamespace(parents=above) for name, above in parents.items()}
    return Plan(None, runs)  # type: ignore[arg-type]


def run(
    jobs: dict[str, Any], parents: dict[str, tuple[str, ...]], workers: int, log: Path
) -> tuple[list[str], dict[str, str], list[str]]:
    failed: dict[str, str] = {}
    events: list[str] = []
    bound = {name: partial(job, str(log), name) for name, job in jobs.items()}
    found = _finished(bound, plan_of(parents), workers, failed, lambda what, name, _: events.append(f"{what} {name}"))
    return [name for name, _ in found], failed, events


@pytest.mark.parametrize("workers", [1, 2])
def test_parents_come_first_and_a_failure_blocks_only_its_descendants(workers: int, tmp_path: Path) -> None:
    parents = {"child": ("parent",), "parent": (), "orphan": ("broken",), "grandchild": ("orphan",), "broken": ()}
    jobs = {name: refuses if name == "broken" else works for name in parents}
    done, failed, events = run(jobs, parents, workers, tmp_path / "log")
    assert done.index("parent") < done.index("child")
    assert set(done) == {"parent", "child"}
    assert failed["broken"] == "planned refusal"
    assert failed["orphan"] == "blocked: its parent broken failed"
    assert failed["grandchild"] == "blocked: its parent orphan failed"
    assert sorted(events) == ["blocked grandchild", "blocked orphan", "fail broken"]


def test_a_killed_worker_costs_one_retry_and_no_other_job(tmp_path: Path) -> None:
    jobs = {"a": works, "b": dies_once, "c": works, "d": works}
    done, failed, _ = run(jobs, {}, 2, tmp_path / "log")
    assert set(done) == {"a", "b", "c", "d"}
    assert not failed


def test_a_job_that_kills_its_worker_every_time_is_given_up_with_advice(tmp_path: Path) -> None:
    done, failed, _ = run({"a": always_dies, "b": works, "c": works}, {}, 2, tmp_path / "log")
    assert "a" in failed
    assert "fewer --workers" in failed["a"]
    assert set(done) | set(failed) == {"a", "b", "c"}
    assert "c" in done
