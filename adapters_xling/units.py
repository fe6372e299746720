"""Amounts with a unit, as people write them."""

from __future__ import annotations

import re

from .errors import ConfigError

GIB = 2**30
UNITS = {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KIB": 2**10, "MIB": 2**20, "GIB": GIB, "TIB": 2**40}


def parse_bytes(text: str) -> float:
    """Read an amount of memory.

    Raises:
        ConfigError: for text that is none.

    >>> parse_bytes("24GiB") / 2**30, parse_bytes("80 GB")
    (24.0, 80000000000.0)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*", text)
    if found is None or found[2].upper() not in UNITS or not float(found[1]):
        raise ConfigError(f"memory {text!r}: give a number and a unit, e.g. 24GiB, 80GB or 512MiB")
    return float(found[1]) * UNITS[found[2].upper()]
