"""A worker of this machine ends with the process that started it, however that one ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PARENT = """
import sys
from functools import partial
from adapters_xling.grid.executors.base import Resources
from adapters_xling.grid.executors.local import Local
from tests.unit.test_executors_orphans import work

if __name__ == "__main__":
    Local(1).submit(partial(work, sys.argv[1]), Resources()).result()
"""


def work(folder: str) -> None:
    """A long job that says who computes it, and that cleans up when it is interrupted."""
    try:
        Path(folder, "pid").write_text(str(os.getpid()), encoding="utf-8")
        time.sleep(120)
    finally:
        Path(folder, "clean").touch()


def _is_there(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"


def _wait_for(what: object, seconds: float) -> bool:
    assert callable(what)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.1)
    return bool(what())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for the worker in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "terminated"])
def test_a_worker_cleans_up_and_ends_when_its_parent_is_gone(how: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT, encoding="utf-8")
    root = Path(__file__).parents[2]
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env={**os.environ, "PYTHONPATH": str(root)})
    try:
        pid = tmp_path / "pid"
        assert _wait_for(lambda: pid.is_file() and pid.read_text(encoding="utf-8"), 60)
        worker = int(pid.read_text(encoding="utf-8"))
        assert _is_there(worker)
        parent.send_signal(how)
        parent.wait(20)
        assert _wait_for(lambda: not _is_there(worker), 30)
        assert (tmp_path / "clean").is_file()
    finally:
        parent.kill()
