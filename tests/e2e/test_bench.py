"""The benchmarks at their smallest: both sides agree, every line is whole, and one line is measured without the others.

Nothing here looks at a figure: on a busy machine, and at this size, it means nothing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "scripts" / "bench"
FIELDS = {
    "name", "ratio", "bar", "equal_within", "difference", "baseline", "unit", "ours", "theirs", "rounds", "note",
    "command", "machine", "commit", "versions", "made", "small",
}  # fmt: skip
LINES = {
    "training/lora": ["training/lora/best", "training/lora/default"],
    "pieces/full": [f"pieces/full/{name}" for name in ("128", "sorted", "sorted-128")],
    "tokenising": ["tokenising/library-threads", "tokenising/one-thread"],
    "evaluation": ["evaluation/loop", "evaluation/processes"],
    "retrieval": ["retrieval/memory", "retrieval/time"],
    "switching": [
        "switching/bottleneck/library", "switching/bottleneck/limit", "switching/compile/bottleneck",
        "switching/compile/lora", "switching/lora/library", "switching/lora/limit",
    ],
    "prefix/bottleneck": ["prefix/bottleneck/all-layers", "prefix/bottleneck/full"],
    "prefix/lora": ["prefix/lora/all-layers", "prefix/lora/full"],
    "startup": ["startup"],
}  # fmt: skip


@pytest.fixture(scope="module")
def script() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        for name in ("HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM"):  # which the benchmarks set, for the other tests not
            patch.setenv(name, os.environ.get(name, "1"))
        spec = importlib.util.spec_from_file_location("bench_run", BENCH / "run.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
        sys.modules.pop("common", None)


def run(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / "run.py"), "--small", "--rounds", "1", "--out", str(out), *options]
    environ = {**os.environ, "PYTHONPATH": str(BENCH.parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environ, capture_output=True, text=True)


@pytest.mark.parametrize("name", [name for name in LINES if name != "startup"])
def test_a_benchmark_checks_that_both_sides_agree_and_gives_whole_lines(name: str, tmp_path: Path) -> None:
    if name == "tokenising" and len(os.sched_getaffinity(0)) < 2:
        pytest.skip("compares two threads with one, and this process has one core")
    out = tmp_path / "benchmarks.json"
    done = run(out, "--only", name)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = json.loads(out.read_text(encoding="utf-8"))
    assert [line["name"] for line in lines] == LINES[name]
    for line in lines:
        assert set(line) == FIELDS
        assert 0 <= line["difference"] <= line["equal_within"] <= 1e-3
        assert line["ratio"] > 0
        assert line["rounds"]
        assert all(len(pair) == 2 and min(pair) > 0 for pair in line["rounds"])
        assert line["command"] == f"make bench ONLY={line['name']}"
        assert line["small"] is True
    page = out.with_suffix(".md").read_text(encoding="utf-8")
    assert all(f"| {line['name']} (small: no figure) |" in page for line in lines)


def test_measuring_one_line_again_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    out = tmp_path / "benchmarks.json"
    assert run(out, "--only", "startup").returncode == 0
    (first,) = json.loads(out.read_text(encoding="utf-8"))
    others = [
        {**first, "name": name, "ratio": 0.5, "note": "kept"} for name in ("evaluation/loop", "training/full/best")
    ]
    out.write_text(json.dumps([{**first, "note": "old"}, *others]), encoding="utf-8")
    assert run(out, "--only", "startup").returncode == 0
    lines = json.loads(out.read_text(encoding="utf-8"))
    assert [line["name"] for line in lines] == ["training/full/best", "evaluation/loop", "startup"]
    assert [line["note"] for line in lines[:2]] == ["kept", "kept"]
    assert lines[2]["note"] != "old"


def test_the_page_has_a_section_of_losses(script: Any) -> None:
    line = {
        "baseline": "something", "unit": "s", "ours": 2.0, "theirs": 1.0, "equal_within": 1e-5, "difference": 0.0,
        "rounds": [[2.0, 1.0]] * 3, "note": "n", "machine": "m", "commit": "c", "made": "d", "versions": {},
        "small": False, "bar": 2.0,
    }  # fmt: skip
    lines = [
        {**line, "name": n, "ratio": r, "bar": b} for n, r, b in (("a", 0.5, 2.0), ("b", 1.5, 2.0), ("c", 3.0, 2.0))
    ]
    losses, below = script.page(lines).split("## Losses")[1].split("## What was compared")[0].split("## Below the bar")
    assert "- a: 0.50 against something" in losses
    assert "- b" not in losses
    assert "- b: 1.50" in below
    assert "- a" not in below and "- c" not in below
    assert "No line has a ratio below 1." in script.page(lines[2:])


def test_names_that_are_no_benchmark_are_refused_with_those_there_are(script: Any) -> None:
    assert script.chosen("training") == ["training/full", "training/bottleneck", "training/lora"]
    assert script.chosen("training/lora/best") == ["training/lora"]
    with pytest.raises(SystemExit, match="no benchmark is called 'train'; there are: training/full"):
        script.chosen("train")


def test_what_needs_a_gpu_is_measured_when_it_is_asked_for(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.chosen("gpu") == ["gpu"]
    assert "gpu" not in script.chosen(None)
    monkeypatch.setattr(script, "measure", lambda name, **_: [])
    monkeypatch.setattr(script, "chosen", lambda _: [])
    for there, why in ((False, "there is no GPU here"), (True, "measure it with --only gpu")):
        monkeypatch.setattr(script, "has_gpu", lambda there=there: there)
        assert script.main(["--out", str(tmp_path / "lines.json")]) == 0
        assert f"gpu: left out, {why}" in capsys.readouterr().out


def test_sides_that_differ_are_not_timed(script: Any) -> None:
    common = sys.modules["common"]
    with pytest.raises(SystemExit, match=r"both sides differ by 0\.1, allowed is 1e-05"):
        common.row("x", {}, bar=1, equal_within=1e-5, difference=0.1, baseline="b")
    with pytest.raises(SystemExit, match="differ by nan"):
        common.require_equal("x", float("nan"), 1e-5)


def test_a_benchmark_that_cannot_be_measured_here_leaves_its_lines_and_says_so(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "benchmarks.json"
    out.write_text('[{"name": "tokenising/one-thread"}]', encoding="utf-8")
    monkeypatch.setattr(script, "measure", lambda *_, **__: [])
    assert script.main(["--only", "tokenising/one-thread", "--out", str(out)]) == 0
    assert json.loads(out.read_text(encoding="utf-8")) == [{"name": "tokenising/one-thread"}]
    assert "tokenising: not measured on this machine" in capsys.readouterr().out


def test_a_benchmark_that_fails_leaves_its_lines_and_says_so(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "benchmarks.json"
    out.write_text('[{"name": "startup"}]', encoding="utf-8")

    def broken(*_: Any, **__: Any) -> Any:
        raise subprocess.CalledProcessError(3, ["x"])

    monkeypatch.setattr(script, "measure", broken)
    assert script.main(["--only", "startup", "--out", str(out)]) == 1
    assert json.loads(out.read_text(encoding="utf-8")) == [{"name": "startup"}]
    assert "startup: failed (exit code 3)" in capsys.readouterr().err
