"""Planning, local backbones and layer sweeps of a grid, as a person types them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import stdev

import pytest
from test_cli import GRID, SHORT, grid_file, xling

from adapters_xling import paths

Capsys = pytest.CaptureFixture[str]


def test_an_entry_on_a_local_backbone_is_used_from_another_folder(
    capsys: Capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "mine", tmp_path / "elsewhere" / "moved"
    shutil.copytree(paths.shipped_zoo_dir() / "xlmr-nano", here)
    config = json.loads((here / "config.json").read_text(encoding="utf-8"))
    (here / "config.json").write_text(json.dumps({**config, "note": "not the shipped one"}), encoding="utf-8")
    code, out, err = xling("train", "mini-pos", "--method", "lora", "--backbone", str(here), *SHORT, capsys=capsys)
    assert code == 0, err
    key = out.split()[0]
    assert "mine" in key
    there.parent.mkdir()
    here.rename(there)
    predict = ("predict", key, "Anna sleeps .")
    score = ("evaluate", key, "mini-pos", "--languages", "de", "--limit", "5")
    for command in (predict, score):
        monkeypatch.setattr("adapters_xling.model.backbone._seen", {})  # as in a process of its own
        code, _, err = xling(*command, capsys=capsys)
        assert code == 2
        assert "not at hand" in err
        code, _, err = xling(*command, "--backbone", str(tmp_path / "nowhere"), capsys=capsys)
        assert (code, "does not exist" in err) == (2, True)
        code, out, err = xling(*command, "--backbone", str(there), capsys=capsys)
        assert code == 0, err
    code, _, err = xling(*predict, "--backbone", str(paths.shipped_zoo_dir() / "xlmr-nano"), capsys=capsys)
    assert (code, "sha256" in err) == (2, True)  # another backbone is refused


def test_a_plan_and_a_dry_run_say_the_same(capsys: Capsys, tmp_path: Path) -> None:
    grid = grid_file(tmp_path)
    _, plan, _ = xling("plan", grid, "--json", capsys=capsys)
    _, dry, _ = xling("run", grid, "--dry-run", "--json", capsys=capsys)
    first, second = json.loads(plan), json.loads(dry)
    assert first["runs"] == second["runs"]
    assert first["run_memory_bytes"] == second["run_memory_bytes"]
    assert set(first["run_fits"].values()) == {True}
    _, small, _ = xling("plan", grid, "--gpu-memory", "1GiB", "--json", capsys=capsys)
    assert json.loads(small)["device"] == "cuda"
    assert not (tmp_path / "runs").exists()
    code, _, err = xling("plan", grid, "--targets", "mini-pso", capsys=capsys)
    assert (code, "Did you mean 'mini-pos'" in err) == (2, True)


HELD = """
import sys
from pathlib import Path
from adapters_xling.tasks.kinds.vectors import working
with working(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("once", "several"),
    [
        (["--targets", "mini-ner,mini-choice"], ["--targets", "mini-ner", "--targets", "mini-choice"]),
        (["--methods", "full,lora"], ["--methods", "lora, lora", "--methods", "full"]),
        (["--intermediate", "none"], ["--intermediate", "none", "--intermediate", "none"]),
    ],
)
def test_a_list_may_be_given_in_one_option_or_in_several(once: list[str], several: list[str], capsys: Capsys) -> None:
    every, one, two = (
        json.loads(xling("run", "quickstart", "--dry-run", "--json", *how, capsys=capsys)[1])
        for how in ([], once, several)
    )
    assert (one["runs"], one["cells"]) == (two["runs"], two["cells"])
    assert (one["runs"], one["cells"]) != (every["runs"], every["cells"])


def test_each_of_several_lists_of_languages_is_scored(capsys: Capsys) -> None:
    how = ["--languages", "de,tr", "--languages", "sw", "--limit", "3", "--json"]
    code, out, err = xling("layers", "mini-retrieval", "--split", "test", *how, capsys=capsys)
    assert code == 0, err
    assert set(json.loads(out)["values"]) == {"de", "tr", "sw"}


@pytest.mark.parametrize("empty", [["--targets", ""], ["--targets", ",", "--targets", " "]])
def test_a_list_without_anything_does_not_mean_everything(empty: list[str], capsys: Capsys) -> None:
    code, out, err = xling("run", "quickstart", "--dry-run", *empty, capsys=capsys)
    assert (code, out) == (2, "")
    assert "--targets is empty" in err


def test_what_another_process_sweeps_comes_last(capsys: Capsys, tmp_path: Path) -> None:
    grid, runs = grid_file(tmp_path), tmp_path / "runs"
    code, _, err = xling("run", grid, "--targets", "mini-retrieval", "--limit", "5", capsys=capsys)
    assert code == 0, err
    file = "layers-dev-de-first5-mean"
    work = runs / "scores" / "xlmr-nano" / "mini-retrieval" / f"{file}.work"
    held = [sys.executable, "-c", HELD, str(work)]
    with subprocess.Popen(held, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == "held\n"

        def let_go() -> None:
            while not list(runs.glob(f"scores/mini-nli-*/mini-retrieval/{file}.json")):
                time.sleep(0.05)
            child.communicate()

        waiting = threading.Thread(target=let_go, daemon=True)
        waiting.start()
        sweep = ("layers", "mini-retrieval", "--grid", grid, "--languages", "de", "--limit", "5")
        code, out, err = xling(*sweep, capsys=capsys)
        waiting.join(60)
    assert code == 0, err
    at_work, first, second = [line for line in err.splitlines() if "xlmr-nano" in line]
    assert at_work == "xlmr-nano  another process is at work on it: the others first"
    assert first.startswith("[1/2") and "mini-nli-lora" in first
    assert second.startswith("[2/2] xlmr-nano  ")
    lines = out.splitlines()
    assert lines[2].startswith("xlmr-nano (bare)") and lines[3].startswith("mini-nli · lora")  # in the grid's order


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tasks", "--json", "check", "mini-nli"], "--json prints the list of tasks; leave it out before check"),
        (["data", "check", "mini-nli", "--limit", "-1"], "-1 is not in the range x>=0"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(words: list[str], said: str, capsys: Capsys) -> None:
    code, out, err = xling(*words, capsys=capsys)
    assert (code, out) == (2, "") and said in err


def test_seeds_of_one_encoder_are_one_row_with_their_spread(capsys: Capsys, tmp_path: Path) -> None:
    grid = grid_file(tmp_path, GRID + "seeds: [0, 1]\n")
    narrow = ("--targets", "mini-retrieval", "--limit", "5")
    code, _, err = xling("run", grid, *narrow, capsys=capsys)
    assert code == 0, err
    sweep = ("layers", "mini-retrieval", "--grid", grid, "--languages", "de,sw", "--limit", "200")
    code, out, err = xling(*sweep, capsys=capsys)
    assert code == 0, err
    _, _, bare, both = out.splitlines()
    assert bare.startswith("xlmr-nano (bare)") and "±" not in bare
    assert both.startswith("mini-nli · lora · seeds 0†, 1†  ") and "† did not beat guessing" in err
    code, out, _ = xling(*sweep, "--json", capsys=capsys)
    _, *seeds = json.loads(out)["sweeps"]
    lines = [one["means"] for one in seeds]
    assert len(lines) == 2 and lines[0] != lines[1]
    shown = [(float(mean), float(sd)) for mean, sd in re.findall(r"([\d.]+) ±([\d.]+)", both)]
    columns = list(zip(*lines, strict=True))
    means = [sum(column) / 2 for column in columns]
    assert shown == [
        (pytest.approx(mean, abs=0.051), pytest.approx(stdev(column), abs=0.051))
        for mean, column in zip(means, columns, strict=True)
    ]
    assert int(both.split()[-1]) == means.index(max(means))


def test_every_layer_of_what_a_grid_scores_is_swept(capsys: Capsys, tmp_path: Path) -> None:
    grid = grid_file(tmp_path)
    sweep = ("layers", "mini-retrieval", "--grid", grid, "--languages", "de", "--limit", "5")
    code, out, err = xling(*sweep, capsys=capsys)
    assert code == 0, err
    assert "xlmr-nano (bare)" in out
    assert "1 of the grid's entries are not trained yet" in err
    assert re.search(r"^\[1/1\] xlmr-nano  [\d.]+ s$", err, re.M)
    code, out, _ = xling(*sweep, "--json", capsys=capsys)
    [bare] = json.loads(out)["sweeps"]
    assert (bare["name"], len(bare["means"])) == ("xlmr-nano", 5)
    code, _, err = xling("layers", "mini-nli", "--grid", grid, capsys=capsys)
    assert (code, "target of the grid" in err) == (2, True)
    code, _, err = xling("layers", "mini-retrieval", "--grid", grid, "--backbone", "xlmr-nano", capsys=capsys)
    assert (code, "one of --on, --backbone and --grid" in err) == (2, True)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["evaluate", "mini-nli-bottleneck", ","], "TASK is empty"),
        (["zoo", "find", "--max-size", "inf"], "--max-size 'inf': give a number and a unit"),
        (["zoo", "find", "--max-size", ""], "--max-size '': give a number and a unit"),
        (["zoo", "readme", "mini-nli-bottleneck", "--output", ""], "is a folder; name a file in it"),
    ],
)
def test_what_an_unset_variable_leaves_is_an_error(command: list[str], said: str, capsys: Capsys) -> None:
    code, out, err = xling(*command, capsys=capsys)
    assert (code, out) == (2, "")
    assert said in err
