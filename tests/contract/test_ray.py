"""A grid on Ray gives what it gives on this machine, bit for bit, also when a worker is killed on the way."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from adapters_xling.errors import ConfigError, XlingError
from adapters_xling.grid.execute import Job, Result
from adapters_xling.grid.executors import Resources, WorkerDied, open_executor
from adapters_xling.grid.executors.ray_cluster import _environment

HERE = importlib.util.find_spec("ray") is not None  # not imported: it reads its settings then
pytestmark = [
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not HERE, reason="Ray is not installed: pip install 'adapters_xling[ray]'"),
]

GRID = """
title: A small grid
backbone: xlmr-nano
recipe: nano
overrides: {max_steps: 60, eval_every_steps: 30, dev_examples: 40, batch_size: 8}
methods: {lora: {r: 2}, bottleneck: {}}
intermediate: [none, mini-nli]
targets: [mini-pos]
languages: [de]
"""


@pytest.fixture
def here_is_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers import what this test imports."""
    path = f"{Path(__file__).parents[2]}{os.pathsep}{Path(__file__).parent}"
    monkeypatch.setenv("PYTHONPATH", path)


@pytest.fixture
def cluster(tmp_path: Path, here_is_a_package: None) -> Iterator[Any]:
    found = open_executor("ray", workers=2, shared=(tmp_path / "runs",))
    yield found
    found.shutdown()


def value_of(name: str) -> Result:
    return Result(True, [], {}, float(os.environ.get(name, -1)))


def dies(marker: str) -> Result:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def refuses() -> Result:
    raise XlingError("planned refusal")


def test_jobs_answer_refuse_and_die_apart_from_each_other(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLING_TEST_VALUE", "7")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert "HF_TOKEN" not in _environment()
    died = cluster.submit(Job(partial(dies, "x")), Resources())
    refused = cluster.submit(Job(refuses), Resources(gpu=False))
    threads = cluster.submit(Job(partial(value_of, "OMP_NUM_THREADS")), Resources())
    assert refused.result(120) == "planned refusal"
    assert threads.result(120).seconds == 1
    with pytest.raises(WorkerDied, match="its Ray worker died"):
        died.result(120)


@pytest.mark.slow
def test_nobody_else_can_give_orders_to_a_ray_that_was_started_here(cluster: Any) -> None:
    address = cluster._ray.get_runtime_context().gcs_address
    stranger = f"import ray; ray.init(address={address!r}); print('let in')"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", stranger]
    done = subprocess.run(command, env=environ, capture_output=True, timeout=200)
    assert done.returncode != 0
    assert b"let in" not in done.stdout
    assert b"Unauthenticated" in done.stderr


@pytest.mark.slow
def test_a_cluster_that_lacks_what_runs_need_is_refused(tmp_path: Path, here_is_a_package: None) -> None:
    with pytest.raises(ConfigError, match=r"has 0 GPUs, each run asks for 0.5"):
        open_executor("ray", gpus_per_run=0.5)
    with pytest.raises(XlingError, match=r"machine .* cannot take part: it has no folder .*nowhere"):
        open_executor("ray", shared=(tmp_path / "runs", tmp_path / "nowhere"))
    assert list((tmp_path / "runs").iterdir()) == []
    with pytest.raises(XlingError, match=r"there is no Ray cluster at 127.0.0.1:1"):
        open_executor("ray", address="127.0.0.1:1")


def start(runs: Path, grid: Path, *options: str) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    given = ["--limit", "5", "--workers", "2", "--checkpoint-every", "10steps", "--runs", str(runs), *options]
    command = [sys.executable, "-m", "adapters_xling", "run", str(grid), *given]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def workers_of(driver: int) -> dict[int, str]:
    """Ray's worker processes below a process."""
    import psutil

    found = psutil.Process(driver).children(recursive=True)
    return {p.pid: p.name() for p in found if p.name().startswith("ray::xling-job")}


def files(runs: Path) -> dict[str, bytes]:
    """Weights of every entry and the grid's scores."""
    found = {str(path.relative_to(runs)): path.read_bytes() for path in runs.glob("zoo/*/**/*.safetensors")}
    return found | {"scores": (runs / "small-first5" / "scores.jsonl").read_bytes()}


@pytest.mark.slow
def test_a_grid_on_ray_is_that_of_this_machine_bit_for_bit_with_a_worker_killed(tmp_path: Path) -> None:
    grid = tmp_path / "small.yaml"
    grid.write_text(GRID, encoding="utf-8")
    local = start(tmp_path / "local", grid)
    said, _ = local.communicate(timeout=700)
    assert local.returncode == 0, said.decode()
    ray = start(tmp_path / "ray", grid, "--executor", "ray")
    victim = 0
    while not victim:
        assert ray.poll() is None, ray.communicate()[0].decode()
        if list((tmp_path / "ray" / "checkpoints").glob("*.safetensors")):
            victim = next(iter(workers_of(ray.pid)), 0)
        time.sleep(0.05)
    os.kill(victim, signal.SIGKILL)
    said, _ = ray.communicate(timeout=700)
    assert ray.returncode == 0, said.decode()
    assert "again" in said.decode()
    assert "it goes on from its last checkpoint" in said.decode()
    ours, theirs = files(tmp_path / "local"), files(tmp_path / "ray")
    assert len(ours) > 6
    assert ours == theirs
    assert not list((tmp_path / "ray" / "checkpoints").glob("*.safetensors"))


@pytest.mark.slow
def test_an_interrupt_ends_a_grid_on_ray_and_its_workers(tmp_path: Path) -> None:
    grid = tmp_path / "small.yaml"
    grid.write_text(GRID, encoding="utf-8")
    ray = start(tmp_path / "ray", grid, "--executor", "ray")
    while not list((tmp_path / "ray" / "checkpoints").glob("*.safetensors")):
        assert ray.poll() is None, ray.communicate()[0].decode()
        time.sleep(0.05)
    workers = workers_of(ray.pid)
    assert workers
    ray.send_signal(signal.SIGINT)
    said, _ = ray.communicate(timeout=120)
    assert ray.returncode == 130, said.decode()
    assert "interrupted; everything that was finished is kept" in said.decode()
    import psutil

    _, left = psutil.wait_procs([psutil.Process(pid) for pid in workers if psutil.pid_exists(pid)], timeout=30)
    assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]
    assert not list((tmp_path / "ray" / "zoo").glob(".partial/*"))
