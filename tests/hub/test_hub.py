"""The real clients against a hub on this machine. In a process of its own: they read `HF_ENDPOINT` when imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.timeout(900)  # each is a whole file of tests
@pytest.mark.parametrize("name", ["inside_datasets.py", "inside_shipped.py", "inside_models.py", "inside_zoo.py"])
def test_the_real_clients_over_loopback(name: str, tmp_path: Path) -> None:
    env = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    for given in (
        "HF_HUB_OFFLINE",
        "HF_DATASETS_OFFLINE",
        "HF_DATASETS_CACHE",
        "HF_HUB_CACHE",
        "HF_TOKEN",
        "XLING_DATA",
    ):
        env.pop(given, None)
    env |= {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-m", "pytest", str(HERE / name), "-q", "-x", "-o", "addopts=", "-p", "no:cacheprovider"]
    command += ["-p", "no:xdist", "--basetemp", str(tmp_path / "inside")]
    done = subprocess.run(command, env=env, cwd=HERE.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
