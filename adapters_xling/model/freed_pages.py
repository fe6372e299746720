"""Memory that a computation on the processor frees is kept for the next step.

A training step allocates and frees the same large tensors again and again. glibc takes blocks of that size from the
system and gives them back, so that every step touches new pages, and the kernel clears each of them first. Kept, they
are there: the process stays as large as its largest step was.
"""

from __future__ import annotations

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Numbers of glibc's options (malloc.h)."""

MOST = 2**31 - 1
"""Largest value of an option, which is a C int."""

OWN_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "LD_PRELOAD")
"""Environment variables by which a user has chosen an allocator or set one; then nothing is changed."""


def keep_freed_pages() -> bool:
    """Tell the C library to keep freed memory in the process, from now on.

    Returns:
        Whether it does: not where the C library is another one than glibc, nor where the environment sets an
        allocator (`OWN_SETTINGS`, `GLIBC_TUNABLES` for malloc).
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in OWN_SETTINGS):
        return False
    if "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, MOST))
