"""The grids of real encoders, planned over tiny folders of those names; floors, layers, precision, order of batches."""

from __future__ import annotations

import functools
from pathlib import Path

import msgspec
import pytest
import torch
from loops import run_of, trained, weights
from worlds import write_backbone

from adapters_xling import api, grid, inference, spec, tasks, training
from adapters_xling.errors import ConfigError
from adapters_xling.evaluation import Reading, evaluate
from adapters_xling.grid import Target, load_grid
from adapters_xling.paths import score_file
from adapters_xling.zoo import Zoo

SOURCES = 7  # kit-nli, kit-pawsx, kit-udpos, kit-panx, kit-squad1 (XQuAD and MLQA), kit-tydiqa, kit-copa
AFTER = 7  # intermediate steps


@pytest.fixture
def encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of tiny backbones under the names that the grids use."""
    for seed, name in enumerate(("xlmr-mini", "xlmr-mini-random", "xlmr-mini-mlm")):
        write_backbone(tmp_path / "encoders" / name, seed=seed)
    monkeypatch.setenv("XLING_BACKBONES", str(tmp_path / "encoders"))
    monkeypatch.delenv("XLING_DATA", raising=False)
    return tmp_path / "encoders"


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        # A method: 7 sources alone (kit-nli and kit-squad1 are intermediate entries too), 5 other entries, 7 after each
        # of 7; the floors: a head on each source, and the random twin trained on each.
        ("mini-encoder", 3 * (SOURCES + AFTER - 2 + SOURCES * AFTER) + 2 * SOURCES),
        # Three entries (NLI, SQuAD, NER), and two targets after two of them.
        ("mini-encoder-seeds", 3 * 3 * (3 + 2 * 2)),
        ("mini-headline", 3 * 3 * 4 + 2 * 4),
        ("mini-stack", 2 * (4 + 2 * 4 * 2)),
        ("mini-retrieval", 3 * AFTER),
        ("mini-retrieval-seeds", 3 * 3 * 3),
        ("mini-mlm-retrieval", 3 * (AFTER - 1)),
        ("mini-mlm-cosmos", 3 * 3),
    ],
)
def test_a_grid_finds_its_encoder_by_name_and_has_the_runs_it_says(encoders: Path, name: str, runs: int) -> None:
    planned = api.plan(name)
    assert len(planned.runs) == runs
    assert planned.locked and {run.recipe.precision for run in planned.runs.values()} == {"bf16"}
    backbones = {run.backbone.name for run in planned.runs.values()}
    assert backbones == {planned.grid.backbone} | ({"xlmr-mini-random"} if planned.grid.random else set())


def test_the_retrieval_grid_reads_the_entries_of_the_main_one(encoders: Path) -> None:
    main, retrieval, stack = (api.plan(name) for name in ("mini-encoder", "mini-retrieval", "mini-stack"))
    assert set(retrieval.runs) <= set(main.runs)
    first = {name for name, run in api.plan("mini-retrieval-seeds").runs.items() if run.seed == 0}
    assert len(first) == 3 * 3 and first <= set(retrieval.runs)
    seeds = {name: run for name, run in api.plan("mini-encoder-seeds").runs.items() if name not in main.runs}
    assert len(seeds) == 2 * 3 * 7 and all(run.seed > 0 for run in seeds.values())
    warm = {name for name, run in stack.runs.items() if run.route == spec.Slot()}
    assert warm <= set(main.runs) and len(set(stack.runs) - warm) == 2 * 4 * 2


def test_the_random_twin_is_scored_on_every_target_and_refused_where_it_is_none(encoders: Path) -> None:
    narrow = {"targets": ["kit-panx", "tatoeba"], "intermediate": ["none"], "methods": ["lora"]}
    planned = api.plan("mini-encoder", narrow=narrow)
    twins = [cell for cell in planned.cells if "random" in cell.name]
    assert [cell.target.task for cell in twins] == ["kit-panx", "tatoeba"]
    run = planned.runs[twins[0].name]
    assert run.method == spec.MethodSpec("full", {"train_embeddings": True}) and twins[1].name == "xlmr-mini-random"
    own = load_grid("mini-encoder")
    for changes, message in (
        ({"random": None}, "name it as `random`"),
        ({"random": "xlmr-mini"}, "the grid's own backbone"),
        ({"backbone": str(encoders / "xlmr-mini")}, "both backbones by name"),
    ):
        with pytest.raises(ConfigError, match=message):
            grid.expand(msgspec.structs.replace(own, **changes))


def test_floors_are_trained_for_their_own_seeds() -> None:
    planned = api.plan("mini", narrow={"targets": ["mini-ner"], "methods": ["lora"]})
    assert len(planned.runs) == 2 * 3  # two seeds: LoRA, head, vectors
    once = grid.expand(msgspec.structs.replace(planned.grid, floor_seeds=(0,)))
    assert sorted(run.seed for run in once.runs.values() if run.method.name == "head") == [0, 0]


def test_a_target_s_layer_names_its_scores_as_evaluation_does() -> None:
    for layer in (None, 0, 3):
        assert Target(task="tatoeba", layer=layer).reading == Reading(layer=layer).suffix


# --- what two settings of a recipe leave alone, and what they change -----------------------------------------------


def test_the_new_settings_of_a_recipe_change_no_older_key(backbone_folder: Path) -> None:
    run = run_of(backbone_folder)
    assert not {"dev_precision", "sort_window", "tokens_at_once"} & set(spec.canonical(run)["recipe"])
    keys = {
        spec.key(run_of(backbone_folder, **changes))
        for changes in ({}, {"dev_precision": "bf16"}, {"sort_window": 4}, {"tokens_at_once": 512})
    }
    assert len(keys) == 4


def test_sorted_windows_meet_every_row_once_with_less_padding() -> None:
    lengths = torch.randint(3, 90, (203,), generator=torch.Generator().manual_seed(1)).tolist()
    plain, by_length = (training.Batches(203, 8, seed=3, lengths=lengths, window=window) for window in (0, 5))
    epoch = [next(by_length) for _ in range(26)]
    assert sorted(row for batch in epoch for row in batch) == list(range(203))
    again = training.Batches(203, 8, seed=3, lengths=lengths, window=5)
    again.drawn = 7
    assert next(again) == epoch[7]  # a checkpoint goes on in the middle

    def padded(batches: list[list[int]]) -> int:
        return sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)

    assert padded(epoch) < 0.75 * padded([next(plain) for _ in range(26)])
    longest = [max(lengths[row] for row in batch) for batch in epoch]
    assert longest != sorted(longest)  # short batches do not come first


def test_a_run_with_sorted_windows_goes_on_bit_for_bit(backbone_folder: Path, tmp_path: Path) -> None:
    run = run_of(backbone_folder, sort_window=2, dev_precision="bf16")
    one, two = weights(trained(run, tmp_path / "a")), weights(trained(run, tmp_path / "b"))
    assert all(torch.equal(one[name], two[name]) for name in one)


# --- bfloat16 scoring ---------------------------------------------------------------------------------------------


def test_scores_in_bf16_are_near_those_in_fp32_and_never_taken_for_them(backbone_folder: Path, tmp_path: Path) -> None:
    entry = trained(run_of(backbone_folder, method="full", max_steps=8), tmp_path / "zoo")
    task = tasks.get("mini-nli")
    score = functools.partial(
        evaluate,
        entry.key,
        task,
        zoo=Zoo(tmp_path / "zoo", fallbacks=()),
        runs_dir=tmp_path / "runs",
        languages=["en"],
        limit=40,
        device="cpu",
        backbone=backbone_folder,
    )
    folder = tmp_path / "runs" / "scores" / entry.key / "mini-nli"

    def kept(precision: str = "fp32") -> dict[str, object]:
        return msgspec.json.decode(score_file(folder, "test", "en", limit=40, precision=precision).read_bytes())

    plain, first = score(), kept()
    half, second = score(precision="bf16"), kept("bf16")
    assert first["identity"] != second["identity"] and second["timing"]["precision"] == "bf16"  # type: ignore[index]
    assert "precision" not in first["timing"]  # type: ignore[operator]
    assert abs(plain[0].value - half[0].value) <= 10
    assert score() == plain and kept()["identity"] == first["identity"]


def test_forward_passes_are_in_the_precision_asked_for(backbone_folder: Path) -> None:
    from adapters_xling.model import bare

    model = bare(str(backbone_folder), device=torch.device("cpu"))
    batch = {"input_ids": torch.arange(4, 20).reshape(2, 8), "attention_mask": torch.ones(2, 8, dtype=torch.long)}
    with torch.no_grad():
        with inference.passes(model, "fp32"):
            plain = model.encode(batch)
        with inference.passes(model, "bf16"):
            half = model.encode(batch)
    assert torch.equal(plain, model.encode(batch))
    difference = float((plain - half.float()).abs().max())
    assert 0 < difference < 0.05 * float(plain.abs().max())
