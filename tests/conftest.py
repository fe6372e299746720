"""Rules for every test: no network beyond this machine, one torch thread, private caches, real rows only by name."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job; what tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


class NetworkIsForbiddenError(RuntimeError):
    """A test tried to leave this machine."""


def _is_local(address: Any) -> bool:
    if not isinstance(address, tuple):  # a path: Unix socket
        return True
    host = str(address[0])
    if host in {"localhost", ""}:
        return True
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Any connection beyond loopback raises, in this process, for the whole test run."""
    patch = pytest.MonkeyPatch()
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded(original: Any) -> Any:
        def connect_locally(self: socket.socket, address: Any, *rest: Any) -> Any:
            if not _is_local(address):
                raise NetworkIsForbiddenError(f"a test tried to connect to {address}")
            return original(self, address, *rest)

        return connect_locally

    patch.setattr(socket.socket, "connect", guarded(connect))
    patch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches and runs of a test stay in its own temporary folder."""
    monkeypatch.setenv("XLING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XLING_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("XLING_LOCK", str(tmp_path / "data.lock.yaml"))
    monkeypatch.delenv("XLING_TASKS", raising=False)
    monkeypatch.delenv("XLING_BACKBONES", raising=False)
    if stores := sys.modules.get("adapters_xling.prefix_cache.store"):
        monkeypatch.setattr(stores, "_OPEN", {})  # what runs before it kept in memory, no test shall find


@pytest.fixture
def real_data() -> Path:
    """Folder of real rows; tests that need it are skipped, with the reason, where it is not named."""
    value = os.environ.get("XLING_DATA")
    if not value:
        pytest.skip("XLING_DATA names no folder of original data files")
    return Path(value)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not os.environ.get("XLING_DATA"):
        terminalreporter.write_line(
            "*** real-data tests were skipped: XLING_DATA is not set ***", yellow=True, bold=True
        )
    skipped = terminalreporter.stats.get("skipped", [])
    if any("XLING_XTREME_MOCK" in str(one.longrepr) for one in skipped):
        terminalreporter.write_line(
            "*** XTREME's own mock figures are UNCHECKED: XLING_XTREME_MOCK is not set ***", yellow=True, bold=True
        )
