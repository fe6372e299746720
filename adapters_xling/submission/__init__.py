"""What is handed in to a benchmark: build a folder from kept predictions, check it, score it.

`benchmark.get` reads what a benchmark wants (`task_configs/benchmarks/`); `check` and `score` work on folders alone and
load no torch; `build` reads kept predictions and, for retrieval, the tasks' rows; `labels` writes the answers of rows
that are at hand in the same layout.
"""

from __future__ import annotations

from . import benchmark
from .benchmark import Benchmark
from .building import Built, build
from .checking import Problem, check
from .golds import labels
from .scoring import Result, TaskScore, score

__all__ = ["Benchmark", "Built", "Problem", "Result", "TaskScore", "benchmark", "build", "check", "labels", "score"]
