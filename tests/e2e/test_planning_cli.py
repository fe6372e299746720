"""Planning, local backbones and layer sweeps of a grid, as a person types them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from test_cli import SHORT, grid_file, xling

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
