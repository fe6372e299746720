"""The executor: a killed worker costs one retry, a failure blocks descendants only, and order follows parents."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adapters_xling.errors import ConfigError, DataError, Held, UnknownName, XlingError
from adapters_xling.grid.execute import Common, Job, Postponed, Result, _finished, _job
from adapters_xling.grid.executors import Executor, Here, Local, open_executor
from adapters_xling.grid.executors.local import _on_gpus, gpus
from adapters_xling.grid.plan import Cell, Plan
from adapters_xling.grid.targets import Target
from adapters_xling.paths import hold, is_held

execution = sys.modules["adapters_xling.grid.execute"]


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


def sleeps(log: str, name: str) -> Result:
    works(log, f"{name}:{os.getpid()}")
    try:
        time.sleep(60)
    finally:
        works(log, f"{name} cleaned up")
    raise AssertionError


def sees(log: str, name: str) -> Result:
    return works(log, f"{name} on {os.environ.get('CUDA_VISIBLE_DEVICES')}")


def plan_of(parents: dict[str, tuple[str, ...]]) -> Any:
    runs: dict[str, Any] = {name: SimpleNamespace(parents=above) for name, above in parents.items()}
    return Plan(None, runs)  # type: ignore[arg-type]


def run(
    jobs: dict[str, Any], parents: dict[str, tuple[str, ...]], executor: Executor, log: Path
) -> tuple[list[str], dict[str, str], list[str]]:
    failed: dict[str, str] = {}
    events: list[str] = []
    bound = {name: Job(partial(job, str(log), name)) for name, job in jobs.items()}
    on_event = lambda what, name, _: events.append(f"{what} {name}")  # noqa: E731
    found = _finished(bound, plan_of(parents), executor, failed, on_event)
    return [name for name, _ in found], failed, events


@pytest.mark.parametrize("workers", [1, 2])
def test_parents_come_first_and_a_failure_blocks_only_its_descendants(workers: int, tmp_path: Path) -> None:
    parents = {"child": ("parent",), "parent": (), "orphan": ("broken",), "grandchild": ("orphan",), "broken": ()}
    jobs = {name: refuses if name == "broken" else works for name in parents}
    done, failed, events = run(jobs, parents, open_executor(workers=workers), tmp_path / "log")
    assert done.index("parent") < done.index("child")
    assert set(done) == {"parent", "child"}
    assert failed["broken"] == "planned refusal"
    assert failed["orphan"] == "blocked: its parent broken failed"
    assert failed["grandchild"] == "blocked: its parent orphan failed"
    assert sorted(events) == ["blocked grandchild", "blocked orphan", "fail broken"]


def test_a_killed_worker_costs_one_retry_and_no_other_job(tmp_path: Path) -> None:
    jobs = {"a": works, "b": dies_once, "c": works, "d": works}
    done, failed, events = run(jobs, {}, Local(2), tmp_path / "log")
    assert set(done) == {"a", "b", "c", "d"}
    assert not failed
    assert events == ["again b"]
    assert sorted((tmp_path / "log").read_text(encoding="utf-8").split()) == ["a", "b", "c", "d"]  # none twice


def test_a_job_that_kills_its_worker_every_time_is_given_up_with_advice_and_alone(tmp_path: Path) -> None:
    done, failed, events = run({"a": always_dies, "b": works, "c": dies_once}, {}, Local(2), tmp_path / "log")
    assert set(done) == {"b", "c"}
    assert list(failed) == ["a"]
    assert failed["a"] == "its worker process was killed (out of memory?), 2 times; try fewer --workers"
    assert sorted(events) == ["again a", "again c", "fail a"]


INTERRUPTED = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
import test_grid_execute as t
if __name__ == "__main__":
    t.run({{"a": t.sleeps, "b": t.sleeps}}, {{}}, t.Local(2), Path(sys.argv[1]))
"""


@pytest.mark.parametrize("whole_group", [True, False], ids=["terminal", "parent-alone"])
def test_an_interrupt_reaches_the_workers_once_and_they_clean_up(whole_group: bool, tmp_path: Path) -> None:
    script, log = tmp_path / "script.py", tmp_path / "log"
    script.write_text(INTERRUPTED.format(folder=str(Path(__file__).parent)), encoding="utf-8")
    process = subprocess.Popen([sys.executable, str(script), str(log)], start_new_session=True, stderr=subprocess.PIPE)
    until = time.monotonic() + 120
    while not (log.exists() and len(log.read_text(encoding="utf-8").split()) == 2):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.05)
    workers = [int(line.partition(":")[2]) for line in log.read_text(encoding="utf-8").split()]
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in said
    text = log.read_text(encoding="utf-8")
    assert "a cleaned up" in text
    assert "b cleaned up" in text
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_each_worker_sees_the_gpu_it_was_given(tmp_path: Path) -> None:
    jobs = {f"job{i}": sees for i in range(3)}
    executor = _on_gpus(2, 1.0, ["4", "7"])
    run(jobs, {}, executor, tmp_path / "log")
    seen = {line.rpartition(" ")[2] for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines()}
    assert seen == {"4", "7"}


def test_gpus_are_counted_and_shared_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 3")
    assert gpus() == ["2", "3"]
    assert _on_gpus(0, 0.5, gpus())._gpus == ["2", "2", "3", "3"]
    assert _on_gpus(0, 0.4, ["0"]).slots == 2
    with pytest.raises(ConfigError, match=r"5 --workers .*: this machine shows 2 GPUs, so at most 4"):
        open_executor(workers=5, gpus_per_run=0.5)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ConfigError, match="shows 0 GPUs"):
        open_executor(gpus_per_run=1.0)


def test_what_an_executor_does_not_know_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"unknown executor 'rai'. Did you mean 'ray'"):
        open_executor("rai")
    with pytest.raises(ConfigError, match=r"--ray-address .* is of --executor ray"):
        open_executor(address="here:6379")
    with pytest.raises(ConfigError, match="give one"):
        open_executor(gpus_per_run=1.0, device="cpu")


def test_one_worker_is_this_process(tmp_path: Path) -> None:
    assert isinstance(open_executor(default_workers=1), Here)
    assert isinstance(open_executor(default_workers=2), Local)


def test_without_ray_one_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'adapters_xling\[ray\]'"):
        open_executor("ray")


def test_runs_of_a_grid_are_trained_with_the_attention_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr("adapters_xling.training.train", lambda run, **how: told.update(how))
    run: Any = SimpleNamespace()
    grid: Any = SimpleNamespace()
    _job(Common(zoo_root=tmp_path / "zoo", runs_dir=tmp_path, attention="packed"), run, grid, [], "a")
    assert told["attention"] == "packed"


def test_cells_that_another_process_is_at_work_on_come_last_and_what_it_found_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    naps: list[float] = []

    def scored(_: Any, __: Any, cell: Cell, ___: Any) -> tuple[list[Any], Exception | None]:
        looked.append(cell.target.task)
        if cell.target.task == "mini-retrieval" and looked.count("mini-retrieval") < 3:
            return [], Held("another process is at work")
        return [f"score of {cell.target.task}"], DataError(
            "sw is not UTF-8"
        ) if cell.target.task == "mini-ner" else None

    monkeypatch.setattr(execution, "_scored", scored)
    monkeypatch.setattr(execution.time, "sleep", naps.append)
    cells = [Cell("xlmr-nano", Target(task=name)) for name in ("mini-retrieval", "mini-ner", "mini-pos")]
    grid: Any = SimpleNamespace()
    found = _job(Common(zoo_root=tmp_path / "zoo", runs_dir=tmp_path), None, grid, cells, "xlmr-nano")
    assert looked == ["mini-retrieval", "mini-ner", "mini-pos", "mini-retrieval", "mini-retrieval"]
    assert naps == [execution.HELD_S], "only once nothing else was left"
    assert found.scores == [f"score of {name}" for name in ("mini-ner", "mini-pos", "mini-retrieval")]
    assert found.errors == {"xlmr-nano on mini-ner": "sw is not UTF-8"}, "with the scores of the other languages kept"


def test_what_another_process_is_at_work_on_comes_last_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    naps: list[float] = []
    events: list[str] = []
    monkeypatch.setattr(execution.time, "sleep", naps.append)
    jobs = {name: Job(partial(works, str(tmp_path / "log"), name)) for name in ("a", "child", "b", "c")}
    found = _finished(
        jobs,
        plan_of({"a": (), "child": ("a",), "b": (), "c": ()}),
        Here(),
        {},
        lambda *event: events.append(" ".join(event)),
        elsewhere=lambda name: execution.TRAINED if name == "a" and len(naps) < 2 else "",
    )
    for name, _ in found:
        done.append(name)
    assert done == ["b", "c", "a", "child"]
    assert naps == [execution.HELD_S] * 2, "only once nothing else was left"
    assert events == [f"held a another process trains it: {then}" for then in ("the others first", "waiting for it")]


def test_what_another_process_scores_is_begun_once_nothing_else_can_and_its_children_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution.time, "sleep", lambda _: pytest.fail("there was something to do"))
    jobs = {name: Job(partial(works, str(tmp_path / "log"), name)) for name in ("a", "child", "b")}
    events: list[str] = []
    found = _finished(
        jobs,
        plan_of({"a": (), "child": ("a",), "b": ()}),
        Here(),
        {},
        lambda *event: events.append(" ".join(event)),
        elsewhere=lambda name: execution.SCORED if name == "a" else "",
    )
    assert [name for name, _ in found] == ["b", "a", "child"]
    assert events == ["held a another process scores it: the others first"]


def test_a_job_that_another_process_began_first_is_put_off_and_costs_no_attempt(tmp_path: Path) -> None:
    tries = 0

    def late(log: str, name: str) -> Result | Postponed:
        nonlocal tries
        tries += 1
        return Postponed() if tries <= execution.ATTEMPTS else works(log, name)

    done, failed, events = run({"a": late, "b": works}, {}, Here(), tmp_path / "log")
    assert (sorted(done), failed, events, tries) == (["a", "b"], {}, [], execution.ATTEMPTS + 1)


def test_only_who_holds_a_job_trains_it_and_scores_need_no_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Any] = []
    zoo = set[str]()
    monkeypatch.setattr("adapters_xling.training.train", lambda run, **_: trained.append(run))
    monkeypatch.setattr(execution, "Zoo", lambda _: zoo)
    monkeypatch.setattr(execution, "_scored", lambda *_: (["a score"], None))
    cell = Cell("a", Target(task="mini-pos"))
    arguments: Any = (Common(zoo_root=tmp_path / "zoo", runs_dir=tmp_path), "the run", SimpleNamespace(), [cell], "a")
    file = tmp_path / "checkpoints" / ".a.work"
    with hold(file):
        assert is_held(file)
        assert isinstance(_job(*arguments), Postponed) and not trained
        zoo.add("a")
        found = _job(*arguments)
        assert isinstance(found, Result) and (found.trained, found.scores) == (False, ["a score"])
    assert not is_held(file)
    zoo.clear()
    found = _job(*arguments)
    assert isinstance(found, Result) and found.trained and trained == ["the run"]


def test_what_is_all_there_needs_no_place_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> Any:
        raise PermissionError(path)

    monkeypatch.setattr(execution, "hold", refused)
    monkeypatch.setattr(execution, "Zoo", lambda _: {"a"})
    monkeypatch.setattr(execution, "_scored", lambda *_: (["a score"], None))
    cell = Cell("a", Target(task="mini-pos"))
    arguments: Any = (Common(zoo_root=tmp_path / "zoo", runs_dir=tmp_path), "the run", SimpleNamespace(), [cell], "a")
    found = _job(*arguments)
    assert isinstance(found, Result) and (found.trained, found.scores) == (False, ["a score"])


def test_the_file_of_a_bare_encoder_in_a_folder_lies_with_the_others(tmp_path: Path) -> None:
    common = Common(zoo_root=tmp_path / "zoo", runs_dir=tmp_path)
    for backbone in ("enc", "./enc", "../enc", "/home/me/enc"):
        assert execution._work_file(common, backbone) == tmp_path / "checkpoints" / ".enc.work"


def test_two_that_run_one_grid_divide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They trained in the same order, so that one waited for the other before every run."""
    zoo, trained = set[str](), list[str]()

    def train(run: str, **_: Any) -> None:
        time.sleep(0.2)
        trained.append(run)
        zoo.add(run)

    monkeypatch.setattr("adapters_xling.training.train", train)
    monkeypatch.setattr(execution, "Zoo", lambda _: zoo)
    common = Common(zoo_root=tmp_path / "zoo", runs_dir=tmp_path)
    plan: Any = SimpleNamespace(
        jobs=lambda: dict.fromkeys("abcdef", ()),
        runs={name: name for name in "abcdef"},
        parents=dict,
        floors=(),
        grid=None,
    )
    with ThreadPoolExecutor(2) as pool:
        both = [one.result() for one in [pool.submit(execution.execute, plan, common) for _ in range(2)]]
    assert sorted(trained) == list("abcdef")
    assert sorted(name for one in both for name in one.trained) == list("abcdef")
    assert min(len(one.trained) for one in both) >= 2, [one.trained for one in both]
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_run_that_two_grids_want_at_once_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo, trained = set[str](), list[str]()

    def train(run: Any, **_: Any) -> None:
        trained.append(run)
        time.sleep(0.3)
        zoo.add("a")

    monkeypatch.setattr("adapters_xling.training.train", train)
    monkeypatch.setattr(execution, "Zoo", lambda _: zoo)
    monkeypatch.setattr(execution, "HELD_S", 0.02)
    common = Common(zoo_root=tmp_path / "zoo", runs_dir=tmp_path)
    plan: Any = SimpleNamespace(jobs=lambda: {"a": ()}, runs={"a": "a"}, parents=dict, floors=(), grid=None)
    with ThreadPoolExecutor(2) as pool:
        found = [one.result() for one in [pool.submit(execution.execute, plan, common) for _ in range(2)]]
    assert len(trained) == 1 and sorted(one.trained for one in found) == [[], ["a"]]
    assert list((tmp_path / "checkpoints").iterdir()) == []
