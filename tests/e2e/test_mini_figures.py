"""The nano backbone can do what is said of it: zero-shot bars on the mini tasks, every method, two seeds. Slow."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from adapters_xling.cli import main

BARS = {"mini-pos": ("accuracy", 75), "mini-ner": ("f1", 70), "mini-choice": ("accuracy", 50)}
METHODS = ("full", "bottleneck", "lora")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_zero_shot_bars_on_the_mini_tasks(tmp_path: Path) -> None:
    main(["run", "mini", "--targets", "mini-pos,mini-ner,mini-choice,mini-retrieval"])
    lines = (tmp_path / "runs" / "mini-narrowed" / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    scores = [json.loads(line) for line in lines]

    def mean(task: str, metric: str, method: str, seed: int) -> float:
        found = [
            s["value"]
            for s in scores
            if (s["task"], s["metric"], s["method"], s["seed"], s["zero_shot"]) == (task, metric, method, seed, True)
        ]
        assert len(found) == 7
        return statistics.fmean(found)

    for task, (metric, bar) in BARS.items():
        for method in METHODS:
            assert statistics.fmean(mean(task, metric, method, seed) for seed in (0, 1)) >= bar, (task, method)
    assert mean("mini-retrieval", "accuracy", "base", 0) >= 90
