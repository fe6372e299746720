"""Freed memory stays in the process where the C library is glibc and nobody chose otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from adapters_xling.model import freed_pages
from adapters_xling.model.freed_pages import keep_freed_pages

SCRIPT = """
import sys
from pathlib import Path
import torch
from adapters_xling.model.freed_pages import keep_freed_pages

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

print(keep_freed_pages() if sys.argv[1] == "keep" else False)
before = resident()
block = torch.ones(32 * 2**20)  # 128 MiB
print(resident() - before)
del block
print(resident() - before)
"""

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


@needs_glibc
@pytest.mark.parametrize("keep", ["keep", "leave"])
def test_a_freed_tensor_leaves_its_pages_only_when_asked_to(keep: str) -> None:
    environ = {name: value for name, value in os.environ.items() if name not in freed_pages.OWN_SETTINGS}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, keep], env=environ, check=True, stdout=subprocess.PIPE, text=True
    )
    says, held, left = done.stdout.split()
    assert says == str(keep == "keep")
    assert float(held) > 120
    assert (float(left) > 120) is (keep == "keep")


@pytest.mark.parametrize("name", [*freed_pages.OWN_SETTINGS, "GLIBC_TUNABLES"])
def test_what_a_user_set_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: pytest.fail("the C library was called"))
    monkeypatch.setenv(name, "glibc.malloc.trim_threshold=128" if name == "GLIBC_TUNABLES" else "1")
    assert not keep_freed_pages()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: pytest.fail("the C library was called"))
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_pages()
