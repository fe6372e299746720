"""scripts/tune.py: every configuration is kept, none is trained twice, and only English dev rows are read."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from worlds import write_backbone

from adapters_xling.errors import ConfigError
from adapters_xling.spec import Recipe

SCRIPT = Path(__file__).parents[2] / "scripts" / "tune.py"
SMALL = (
    "--vary max_steps=2 --vary dev_examples=12 --vary batch_size=4 --vary max_train_examples=32 --vary max_length=64"
)


@pytest.fixture
def tune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    write_backbone(tmp_path / "encoders" / "tiny")
    monkeypatch.setenv("XLING_BACKBONES", str(tmp_path / "encoders"))
    found = importlib.util.spec_from_file_location("tune", SCRIPT)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_every_configuration_is_kept_and_none_is_trained_twice(
    tune: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["mini-nli", "--backbone", "tiny", "--recipe", "nano", "--workers", "1", "--out", str(tmp_path / "out")]
    words += SMALL.split()
    tune.main([*words, "--method", "lora:{r: 2}", "--vary", "learning_rate=1e-3,1e-2"])
    said = capsys.readouterr().out
    assert "2 configurations, 0 there already" in said and said.count("train  ") == 2
    tune.main([*words, "--method", "lora:{r: 2}", "--method", "head", "--vary", "learning_rate=1e-3", "--seed", "1"])
    tune.main([*words, "--method", "lora:{r: 2}", "--vary", "learning_rate=1e-3,1e-2"])
    said = capsys.readouterr().out
    assert "2 configurations, 2 there already" in said and said.count("have   ") == 2
    rows = [json.loads(line) for line in (tmp_path / "out" / "tried.jsonl").read_text().splitlines()]
    assert len(rows) == len({row["key"] for row in rows}) == 4
    assert {(row["method"], row["seed"]) for row in rows} == {("lora", 0), ("lora", 1), ("head", 1)}
    assert all(set(row["recipe"]) == set(Recipe.__struct_fields__) and 0 <= row["dev"] <= 100 for row in rows)
    table = (tmp_path / "out" / "tried.md").read_text()
    assert all(row["key"] in table for row in rows)
    assert table.count("## mini-nli, tiny, ") == 2 and "3 tried; accuracy on dev rows" in table
    first = [line for line in table.split("## mini-nli, tiny, lora")[1].splitlines() if line.startswith("| ")][2]
    assert first.startswith(f"| {max(row['dev'] for row in rows if row['method'] == 'lora'):.1f} |")
    assert not list((tmp_path / "runs").glob("scores/*"))  # nothing was scored


def test_a_field_that_no_recipe_has_is_refused(tune: ModuleType) -> None:
    with pytest.raises(ConfigError, match="learning_rate, batch_size"):
        list(tune.combinations(["lr=1e-3"]))
    with pytest.raises(ConfigError, match="once"):
        list(tune.combinations(["epochs=1", "epochs=2"]))
    assert list(tune.combinations(["learning_rate=1e-3,0.01", "pooling=first"])) == [
        {"learning_rate": 0.001, "pooling": "first"},
        {"learning_rate": 0.01, "pooling": "first"},
    ]
