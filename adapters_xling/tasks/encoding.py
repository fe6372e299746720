"""Examples turned into flat arrays in chunks, several chunks at a time.

Most of the time goes into the tokenizers library, which lets other threads run (84 % of it for sentence pairs under
XLM-R's vocabulary, 61 % for answer spans; LOG.md). So chunks are encoded by as many threads as this process computes
with: nothing has to be sent, started or cleaned up, and a grid's workers keep to their share of the cores. Masked-LM
text and tags, whose time goes into Python, gain less.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from adapters_xling.tasks.examples import Example, Features

Arrays = dict[str, np.ndarray]
"""`tokens` of all rows, `row_tokens` where each row ends, `feature_rows` and `feature_rest` where each feature's rows
and its part of `rest` (JSON bytes) end, `example` the index of each feature's example; ends have a 0 in front."""

BAR_AFTER_S = 3.0
"""Seconds of encoding after which a progress bar says how long it will take."""
_ENDS = ("row_tokens", "feature_rows", "feature_rest")
_PARALLELISM = "TOKENIZERS_PARALLELISM"


def num_threads() -> int:
    """Threads this process computes with: torch's, which launchers and a grid's workers set."""
    torch = sys.modules.get("torch")
    return 1 if torch is None else int(torch.get_num_threads())


def encoded(
    encode: Callable[[Sequence[Example]], list[Features]],
    examples: Sequence[Example],
    *,
    chunk: int,
    name: str,
    threads: int | None = None,
) -> Arrays:
    """Encode examples; the arrays are the same for any number of threads.

    What `encode` raises is raised here, once the chunks on their way have ended; the others are not begun.

    Args:
        encode: encodes a chunk, each example for itself; called by several threads.
        examples: all of them.
        chunk: examples at a time.
        name: of the task, for the progress bar.
        threads: that encode; by default those of this process.
    """
    threads = num_threads() if threads is None else threads
    starts = range(0, len(examples), chunk)

    def part(start: int) -> Arrays:
        return _flat(encode(examples[start : start + chunk]), start)

    with _bar(name, len(examples)) as done, _one_thread_a_call():
        parts = []
        for found in _in_order(part, starts, threads):
            parts.append(found)
            done(min(chunk, len(examples) - chunk * (len(parts) - 1)))
    return _joined(parts)


def _in_order(part: Callable[[int], Arrays], starts: Sequence[int], threads: int) -> Iterator[Arrays]:
    """The parts in the order of their starts.

    The first is made before there are threads: it puts the tokenizer into the state (no truncation, no padding) in
    which calls only read it.
    """
    yield from map(part, starts[:1])
    if threads < 2 or len(starts) < 3:
        yield from map(part, starts[1:])
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="encode")
    try:
        yield from pool.map(part, starts[1:])
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _one_thread_a_call() -> Iterator[None]:
    """Keep the tokenizers library from taking all cores for each call, unless its user has said what it may."""
    if _PARALLELISM in os.environ:
        yield
        return
    os.environ[_PARALLELISM] = "false"
    try:
        yield
    finally:
        os.environ.pop(_PARALLELISM, None)


@contextlib.contextmanager
def _bar(name: str, total: int) -> Iterator[Callable[[int], Any]]:
    """A progress bar on terminals, when it takes long; none in a worker of something that has one of its own."""
    from tqdm import tqdm

    worker = multiprocessing.parent_process() is not None
    with tqdm(
        total=total,
        desc=f"encode {name}",
        unit="row",
        unit_scale=True,
        leave=False,
        delay=BAR_AFTER_S,
        disable=True if worker else None,
    ) as bar:
        yield bar.update


def _flat(features: Sequence[Features], start: int) -> Arrays:
    """Arrays of a chunk whose first example is number `start`."""
    tokens: list[int] = []
    row_tokens, feature_rows, feature_rest, example = [0], [0], [0], []
    rest = bytearray()
    for feature in features:
        for row in feature.input_ids:
            tokens += row
            row_tokens.append(len(tokens))
        feature_rows.append(len(row_tokens) - 1)
        values = [feature.label, feature.meta] + ([] if feature.second is None else [feature.second])
        rest += json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
        feature_rest.append(len(rest))
        example.append(start + feature.example)
    return {
        "tokens": np.array(tokens, dtype="<i4"),
        "row_tokens": np.array(row_tokens, dtype="<i8"),
        "feature_rows": np.array(feature_rows, dtype="<i8"),
        "feature_rest": np.array(feature_rest, dtype="<i8"),
        "example": np.array(example, dtype="<i8"),
        "rest": np.frombuffer(bytes(rest), dtype="u1"),
    }


def _joined(parts: Sequence[Arrays]) -> Arrays:
    """One chunk's arrays behind the other's."""
    parts = parts or [_flat([], 0)]
    found = {}
    for name in parts[0]:
        arrays = [one[name] for one in parts]
        if name in _ENDS:
            ends, base = [arrays[0][:1]], 0
            for array in arrays:
                ends.append(array[1:] + base)
                base += int(array[-1])
            arrays = ends
        found[name] = np.concatenate(arrays)
    return found
