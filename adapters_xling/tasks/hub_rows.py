"""Rows of data sets on the model hub, through `datasets`, which is imported only here and only when needed."""

from __future__ import annotations

import functools
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from adapters_xling.errors import DataError, MissingData
from adapters_xling.tasks.rows import Raw

PROBE_TIMEOUT_S = 4.0


def _offline() -> bool:
    return any(
        os.environ.get(name, "").upper() in ("1", "TRUE", "YES", "ON")
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
    )


def why_not() -> str | None:
    """Why the hub cannot be asked, or None. Takes seconds at most: the hub's own client retries for minutes.

    In offline mode (`HF_HUB_OFFLINE=1`) the local cache answers, so nothing is ruled out here.
    """
    if _offline():
        return None
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return None
    endpoint = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    host, port = endpoint.hostname or "huggingface.co", endpoint.port or (443 if endpoint.scheme == "https" else 80)
    if _reachable(host, port):
        return None
    return f"{host} cannot be reached; with the data set in the local cache, set HF_HUB_OFFLINE=1"


@functools.lru_cache(maxsize=8)
def _reachable(host: str, port: int) -> bool:
    """Whether a connection can be opened. In a thread, because a name look-up obeys no timeout."""
    answer: list[bool] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=PROBE_TIMEOUT_S).close()
            answer.append(True)
        except OSError:
            answer.append(False)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PROBE_TIMEOUT_S + 1)
    return bool(answer and answer[0])


def read(repo: str, *, config: str | None, revision: str | None, split: str, place: str) -> Iterator[Raw]:
    """Yield the rows of a hub data set as raw rows; class numbers become their names, -1 a blank.

    Raises:
        MissingData: when it cannot be had, with the hub's own reason and the way out.
    """
    try:
        import datasets

        data = datasets.load_dataset(repo, config, revision=revision, split=split)
    except ImportError as err:
        raise MissingData(f"{place}: package `datasets` cannot be imported ({err}): pip install datasets") from err
    except Exception as err:  # the client raises dozens of types, from requests, fsspec, pyarrow and its own
        reason = (str(err).strip().splitlines() or ["no reason given"])[0]
        raise MissingData(
            f"{place}: {type(err).__name__}: {reason}. "
            "Check repository, config and revision in the task file, or put the original files under --data-dir."
        ) from err
    names = {column: _names(feature) for column, feature in data.features.items()}
    for number, row in enumerate(data, start=1):
        yield Raw(place, number, {column: _named(value, names[column], place) for column, value in row.items()})


def _names(feature: Any) -> list[str] | None:
    """Names behind a column of class numbers, or of lists of them."""
    inner = getattr(feature, "feature", feature)
    if isinstance(feature, list) and feature:
        inner = feature[0]
    return getattr(inner, "names", None)


def _named(value: Any, names: list[str] | None, place: str) -> Any:
    if names is None:
        return value
    if isinstance(value, list):
        return [_named(item, names, place) for item in value]
    if value is None or value == -1:
        return ""
    if not isinstance(value, int):
        return value
    if not 0 <= value < len(names):
        raise DataError(f"{place}: class number {value} is outside the {len(names)} names of the column")
    return names[value]
