"""What a kept prediction was made with, apart from rows and weights: code, precision, where sentences were read.

It is a part of what identifies a score (`keeping.Kept`), and tells, without a model or torch, which kept scores an
evaluation would make again.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters_xling import metrics, tasks
from adapters_xling.backbones import BACKBONES
from adapters_xling.prefix_cache import OFF, PrefixCache
from adapters_xling.spec import FULL, RunSpec, TaskSpec
from adapters_xling.tasks import kinds

SCORING = 1
"""Version of the score files."""
RETRIEVAL = "retrieve"
"""The kind whose predictions are mined from vectors, and which no recipe trains."""


def made_with(
    task: TaskSpec,
    *,
    backbone: str,
    max_length: int,
    reading: str = "",
    precision: str = FULL,
    prefix_cache: PrefixCache = OFF,
    compiled: bool = False,
) -> list[Any]:
    """What turns rows and weights into predictions, as a part of their identity.

    Args:
        task: what is predicted.
        backbone: name of the encoder, whose row says where sentences are read.
        max_length: see `max_length_of`.
        reading: `scored.Reading.suffix`.
        precision: of the forward passes.
        prefix_cache: how hidden states of frozen layers are kept; rounded ones make other predictions.
        compiled: whether the encoder is compiled; in full precision that is rounding, and so no part of this.
    """
    row = BACKBONES.get(backbone)
    rounded = prefix_cache.is_on and prefix_cache.storage != FULL
    return [
        *(SCORING, max_length, row and [row.retrieval_layer, row.retrieval_pooling], _predicting_code(task.kind)),
        reading,
        *([precision] if precision != FULL else []),
        *([f"prefix kept in {prefix_cache.storage}"] if rounded else []),
        *(["compiled"] if compiled and precision != FULL else []),
    ]


def max_length_of(run: RunSpec | None, task: TaskSpec, *, extra_tasks: Path | None = None) -> int:
    """Sub-word tokens of a row where a run's recipe says so, that of the task which trained the head; else 0.

    In a mixture that is the task itself, the one it trains on, or the first that shares its head.
    """
    if run is None or task.kind == RETRIEVAL:
        return 0
    own = [ref.name for ref in run.tasks]
    trained = task.name if task.name in own else tasks.train_task(task, extra=extra_tasks).name
    if run.mixture and trained not in own:
        trained = next((name for name in own if tasks.head_of(name, extra=extra_tasks) == task.head_name), trained)
    return run.recipe_for(trained).max_length


def predicting_modules(kind: str) -> list[Path]:
    """Modules that decide what a prediction of a kind of task is: its own and those it imports beside it, what reads
    and makes its rows, and for retrieval mining, whose threshold is chosen by a metric.
    """
    package = Path(kinds.__file__).parent
    found, ahead = set[Path](), [package / f"{kinds.module(kind)}.py"]
    while ahead:
        module = ahead.pop()
        if module in found:
            continue
        found.add(module)
        imports = (node for node in ast.walk(ast.parse(module.read_text("utf-8"))) if isinstance(node, ast.ImportFrom))
        beside = (node for node in imports if node.level == 1)
        names = (name for node in beside for name in ([node.module] if node.module else [a.name for a in node.names]))
        ahead += [package / f"{name}.py" for name in names]
    readers = (package.parent / "readers").glob("*.py")
    mining = [Path(metrics.__file__).parent / "mining.py"] if kind == RETRIEVAL else []
    return [*sorted(found), *sorted(readers), package.parent / "rows.py", *mining]


@functools.cache
def _predicting_code(kind: str) -> str:
    """Digest of `predicting_modules`: what was predicted before one of them changed is predicted again."""
    return _digest(predicting_modules(kind))


@functools.cache
def scoring_code() -> str:
    """Digest of the modules that decide what a prediction is worth."""
    return _digest(sorted(Path(metrics.__file__).parent.glob("*.py")))


def _digest(files: Sequence[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
