"""The frozen prefix changes no result, is shared by all that computes the same, and by nothing that does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from loops import SMALL, largest_difference, trained, weights
from test_resume import require_equal, run, stopped
from tiny_families import write_family
from torch import Tensor
from worlds import HIDDEN, LAYERS, NLI, STACKING, a_run, method_of, publish, train_entry, write_backbone

from adapters_xling import tasks
from adapters_xling.evaluation import evaluate
from adapters_xling.grid import make_run
from adapters_xling.methods import Method, resolve
from adapters_xling.model import Model, backbone_id, bare, build, open_entry
from adapters_xling.model.prefix import address, frozen_layers
from adapters_xling.prefix_cache import IN_MEMORY, OFF, PrefixCache, open_store, store
from adapters_xling.spec import Fuse, RunSpec, Slot, Stack, Use, Warm
from adapters_xling.tasks import kinds
from adapters_xling.zoo import Zoo

TOP: dict[str, int] = {"pfeiffer-top": 2, "lora-top": 2, "head": LAYERS}
"""Methods that leave layers as they are, and how many."""
EVERYWHERE = ("full", "full-frozen-tokens", "pfeiffer", "pfeiffer-inv", "compacter", "prefix", "lora", "lora-all")
LENGTHS = (3, 9, 16, 17, 31, 32, 33, 40)
ROUNDING = 1e-5


def row(length: int) -> list[int]:
    generator = torch.Generator().manual_seed(length)
    return [0, *torch.randint(4, 60, (length - 2,), generator=generator).tolist(), 2]


def batch_of(lengths: Sequence[int], *, width: int = 0) -> dict[str, Tensor]:
    """Rows of these lengths, each the same wherever it stands; three labels in turn."""
    width = max(width, *lengths)
    ids_NT = torch.ones(len(lengths), width, dtype=torch.long)
    mask_NT = torch.zeros_like(ids_NT)
    for i, length in enumerate(lengths):
        ids_NT[i, :length], mask_NT[i, :length] = torch.tensor(row(length)), 1
    labels_N = torch.arange(len(lengths)) % 3
    return {"input_ids": ids_NT, "attention_mask": mask_NT, "labels": labels_N}


def model_of(case: str, backbone: Path, folder: Path, setting: PrefixCache = OFF, **options: Any) -> Model:
    made = build(a_run(case, backbone, **options), zoo=Zoo(folder / "zoo", fallbacks=()), tasks=[NLI])
    made.keep_prefix(setting)
    return made


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a fresh process, whose memory holds nothing."""
    monkeypatch.setattr(store, "_OPEN", {})


def kept_rows(setting: PrefixCache = IN_MEMORY) -> dict[Any, Tensor]:
    return {key: row for key, (row, _) in open_store(setting)._rows.items()}  # type: ignore[attr-defined]


# --- one model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", TOP)
def test_the_bits_of_a_row_do_not_depend_on_the_rows_beside_it(
    case: str, backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for batches in ([LENGTHS], [LENGTHS[::-1]], [[length] for length in LENGTHS], [LENGTHS[:3], LENGTHS]):
        forget(monkeypatch)
        model = model_of(case, backbone_folder, tmp_path, IN_MEMORY)
        for lengths in batches:
            model.encode(batch_of(lengths))
        found.append(kept_rows())
    assert all(set(one) == set(found[0]) for one in found)
    assert len(found[0]) == len(LENGTHS)
    assert all(torch.equal(one[name], kept) for one in found for name, kept in found[0].items())


@pytest.mark.parametrize("case", TOP)
def test_losses_and_gradients_are_the_same_bits_in_batches_of_the_same_width(
    case: str, backbone_folder: Path, tmp_path: Path
) -> None:
    found = []
    for setting in (OFF, IN_MEMORY):
        model = model_of(case, backbone_folder, tmp_path, setting)
        model.train()
        for _ in range(2):  # computed, and kept
            torch.manual_seed(0)
            batch = batch_of(LENGTHS, width=48)
            loss = kinds.get("sentence").loss(model(batch, NLI), batch)
            model.zero_grad()
            loss.backward()
            grads = {name: p.grad.clone() for name, p in model.trainable_parameters().items() if p.grad is not None}
            found.append((loss.detach(), grads))
    for loss, grads in found[1:]:
        assert torch.equal(loss, found[0][0])
        assert set(grads) == set(found[0][1])
        assert all(torch.equal(grad, found[0][1][name]) for name, grad in grads.items())
    use = open_store(IN_MEMORY).use
    assert (use.asked, use.found) == (16, 8)


@pytest.mark.parametrize("case", TOP)
@pytest.mark.parametrize("width", [40, 41, 47, 48])
def test_in_batches_of_any_width_hidden_states_differ_by_rounding_at_most(
    case: str, width: int, backbone_folder: Path, tmp_path: Path
) -> None:
    batch = batch_of(LENGTHS, width=width)
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        plain = model_of(case, backbone_folder, tmp_path).encode(batch)
        model = model_of(case, backbone_folder, tmp_path, IN_MEMORY)
        for _ in range(2):
            assert (model.encode(batch) - plain)[real].abs().max() <= ROUNDING


@pytest.mark.parametrize("setting", [OFF, IN_MEMORY])
@pytest.mark.parametrize("case", TOP)
def test_no_graph_is_built_below_what_trains(
    case: str, setting: PrefixCache, backbone_folder: Path, tmp_path: Path
) -> None:
    model = model_of(case, backbone_folder, tmp_path, setting)
    asking: list[bool] = []
    blocks = model.encoder.get_submodule(model.family.layers)
    ends = [block.output for block in blocks]  # a layer that computes the first token alone is run by its parts
    for module in (model.encoder.get_submodule(model.family.embeddings), *ends):
        module.register_forward_hook(
            lambda _, __, out: asking.append((out if isinstance(out, Tensor) else out[0]).requires_grad)
        )
    model.train()
    loss = model(batch_of(LENGTHS), NLI).sum()
    frozen = TOP[case]
    assert asking == [False] * (1 + frozen) + [True] * (LAYERS - frozen)
    asking.clear()
    model(batch_of(LENGTHS), NLI).sum()
    assert len(asking) == (1 + LAYERS if setting is OFF else LAYERS - frozen)  # what is kept is not computed again
    loss.backward()
    below = ("embeddings.", *(f"{model.family.layers}.{i}." for i in range(frozen)))
    assert all(p.grad is None for name, p in model.encoder.named_parameters() if name.startswith(below))


@pytest.mark.parametrize("case", EVERYWHERE)
def test_nothing_is_kept_where_everything_trains(case: str, backbone_folder: Path, tmp_path: Path) -> None:
    assert model_of(case, backbone_folder, tmp_path, IN_MEMORY).prefix is None


def test_a_head_on_token_vectors_keeps_nothing(backbone_folder: Path, tmp_path: Path) -> None:
    spec = msgspec.structs.replace(a_run("head", backbone_folder), method=resolve("head", {"layer": 0}).spec())
    model = build(spec, zoo=Zoo(tmp_path, fallbacks=()), tasks=[NLI])
    model.keep_prefix(IN_MEMORY)
    model.encode(batch_of(LENGTHS))
    assert open_store(IN_MEMORY).use.asked == 0


def test_rows_that_are_not_on_the_left_are_computed(backbone_folder: Path, tmp_path: Path) -> None:
    model = model_of("head", backbone_folder, tmp_path, IN_MEMORY)
    batch = batch_of(LENGTHS)
    batch["attention_mask"] = batch["attention_mask"].flip(1)
    model.encode(batch)
    assert open_store(IN_MEMORY).use.asked == 0


def test_the_longest_row_fits_a_backbone_whose_positions_are_no_multiple(tmp_path: Path) -> None:
    folder = write_family("bert", tmp_path / "bert")  # it has no position beyond its last
    model = model_of("head", folder, tmp_path, IN_MEMORY)
    length = model.max_positions - 1
    assert length % 16
    batch = batch_of([length - 20, length])
    batch["input_ids"] %= 40
    plain = model.encode_now(batch)
    assert (model.encode(batch) - plain)[batch["attention_mask"].bool()].abs().max() <= ROUNDING


def test_a_second_segments_marks_are_part_of_a_row(tmp_path: Path) -> None:
    model = model_of("head", write_family("bert", tmp_path / "bert"), tmp_path, IN_MEMORY)
    batch = batch_of([9, 12], width=16)
    batch["input_ids"] %= 40
    outputs = []
    for types in (None, torch.zeros_like(batch["input_ids"]), (batch["attention_mask"].cumsum(1) > 5).long()):
        given = batch if types is None else {**batch, "token_type_ids": types}
        outputs.append(model.encode(given))
        assert torch.equal(outputs[-1][1, :12], model.encode_now(given)[1, :12])
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    use = open_store(IN_MEMORY).use
    assert (use.asked, use.found) == (6, 2)


# --- what a kept row belongs to ---------------------------------------------------------------------------------


def address_of(model: Model, layer: int = 2, **changes: str) -> str:
    return address(model, layer, **{"precision": "float32", "storage": "fp32", **changes})


def test_an_address_changes_with_everything_that_a_hidden_state_depends_on(
    backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of("lora-top", backbone_folder, tmp_path)
    own = address_of(model)
    other = write_backbone(tmp_path / "other", seed=1)
    different = [
        address_of(model, layer=1),
        address_of(model, precision="bfloat16"),
        address_of(model, storage="bf16"),
        address_of(model_of("lora-top", other, tmp_path)),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 64)
        different.append(address_of(model))
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "0.4")
        different.append(address_of(model))
    assert address_of(model) == own
    model.encoder.config._attn_implementation = "eager"
    different.append(address_of(model))
    assert len({own, *different}) == 8


def test_methods_seeds_and_settings_above_share_an_address(backbone_folder: Path, tmp_path: Path) -> None:
    zoo = Zoo(tmp_path / "zoo", fallbacks=())
    parent, _ = train_entry(a_run("lora-top", backbone_folder), zoo)
    same = [
        bare(str(backbone_folder)),
        model_of("head", backbone_folder, tmp_path),
        model_of("pfeiffer-top", backbone_folder, tmp_path, seed=3, learning_rate=0.5),
        model_of("lora-top", backbone_folder, tmp_path, init=Warm(entry=parent.key)),
        model_of("lora-top", backbone_folder, tmp_path, route=Stack(parts=(Use(entry=parent.key), Slot()))),
        open_entry(parent.key, zoo=zoo),
    ]
    assert len({address_of(model) for model in same}) == 1


@pytest.mark.parametrize("case", [name for name in STACKING if not name.endswith("-top")])
def test_slots_below_are_part_of_an_address_and_of_what_is_kept(
    case: str, backbone_folder: Path, tmp_path: Path
) -> None:
    zoo = Zoo(tmp_path / "zoo", fallbacks=())
    top = "lora-top" if case.startswith("lora") else "pfeiffer-top"
    parents = [train_entry(a_run(case, backbone_folder, seed=seed), zoo)[0] for seed in (1, 2)]
    found = {address_of(bare(str(backbone_folder)))}
    for parent in parents:
        route = Stack(parts=(Use(entry=parent.key), Slot()))
        model = model_of(top, backbone_folder, tmp_path, IN_MEMORY, route=route)
        found |= {address_of(model), address_of(model_of(top, backbone_folder, tmp_path, route=route, seed=5))}
        plain = model.encode_now(batch_of(LENGTHS, width=48))
        for _ in range(2):
            hidden = model.encode(batch_of(LENGTHS, width=48))
            real = batch_of(LENGTHS, width=48)["attention_mask"].bool()
            assert torch.equal(hidden[real], plain[real])
    assert len(found) == 3
    assert open_store(IN_MEMORY).use.found == 2 * len(LENGTHS)


@pytest.mark.parametrize("case", ["pfeiffer", "lora"])
def test_a_fusion_trains_as_low_as_its_parts_reach(case: str, backbone_folder: Path, tmp_path: Path) -> None:
    zoo = Zoo(tmp_path / "zoo", fallbacks=())
    parts = [train_entry(a_run(case, backbone_folder, seed=seed), zoo)[0].key for seed in (1, 2)]
    fused = Fuse(parts=tuple(Use(entry=part) for part in parts))
    model = model_of(f"{'lora' if case == 'lora' else 'pfeiffer'}-top", backbone_folder, tmp_path, route=fused)
    assert model.method.lowest_layer(LAYERS) == LAYERS
    assert frozen_layers(model) == 0


def test_a_changed_slot_below_is_another(backbone_folder: Path, tmp_path: Path) -> None:
    zoo = Zoo(tmp_path / "zoo", fallbacks=())
    made = build(a_run("lora", backbone_folder), zoo=zoo, tasks=[NLI])
    parent = publish(made, a_run("lora", backbone_folder), zoo, NLI)
    route = Stack(parts=(Use(entry=parent.key), Slot()))
    before = model_of("lora-top", backbone_folder, tmp_path, route=route)
    after = model_of("lora-top", backbone_folder, tmp_path, route=route)
    name, parameter = next(
        (n, p) for n, p in after.encoder.named_parameters() if "s001_" in n and n.startswith("encoder.layer.0.")
    )
    parameter.data[0, 0] += 1e-6
    assert address_of(before) != address_of(after), name


# --- whole runs -------------------------------------------------------------------------------------------------


def loop_run(case: str, backbone: Path, *, task: str = "mini-nli", seed: int = 0, **changes: Any) -> RunSpec:
    """Three epochs of two batches, the dev rows scored three times."""
    settings: dict[str, Any] = {**SMALL, "max_train_examples": 8, "max_steps": 6, "dropout": 0.1, **changes}
    return make_run(
        tasks.get(task),
        _method(case),
        backbone=backbone_id(str(backbone)),
        recipe="nano",
        overrides=settings,
        seed=seed,
    )


def _method(case: str) -> Method:
    method = method_of(case)
    return dataclasses.replace(method, dropout=0.2) if case != "head" else method  # type: ignore[call-arg]


def facts(entry: Any) -> tuple[list[float], tuple[Any, ...]]:
    training = entry.card.training
    return [loss for _, loss in training.losses], training.dev_curve


@pytest.mark.parametrize("max_length", [16, 64])
@pytest.mark.parametrize("case", TOP)
def test_a_run_is_the_same_with_and_without(case: str, max_length: int, backbone_folder: Path, tmp_path: Path) -> None:
    """At 16 tokens every batch has one width; at 64 each epoch brings other widths."""
    spec = loop_run(case, backbone_folder, max_length=max_length)
    without = trained(spec, tmp_path / "without", prefix_cache=OFF)
    entry = trained(spec, tmp_path / "with")
    losses, curve = facts(without)
    assert facts(entry)[0] == pytest.approx(losses, abs=ROUNDING)
    assert facts(entry)[1] == curve
    assert largest_difference(entry, without) <= ROUNDING
    if max_length == 16:
        assert facts(entry)[0] == losses
        assert largest_difference(entry, without) == 0.0
    assert entry.key == without.key
    assert entry.card.training is not None
    assert entry.card.training.prefix_storage is None
    use = open_store(IN_MEMORY).use
    assert (use.asked, use.found) == (6 * 4 + 3 * 12, 2 * (8 + 12))  # each row is computed once


@pytest.mark.parametrize("task", ["mini-choice", "mini-pos", "mini-qa"])
def test_every_kind_trains_the_same(task: str, backbone_folder: Path, tmp_path: Path) -> None:
    spec = loop_run("lora-top", backbone_folder, task=task)
    without, entry = (trained(spec, tmp_path / name, prefix_cache=c) for name, c in (("a", OFF), ("b", IN_MEMORY)))
    assert facts(entry)[0] == pytest.approx(facts(without)[0], abs=ROUNDING)
    assert facts(entry)[1] == facts(without)[1]
    assert open_store(IN_MEMORY).use.found > 0


def test_rows_that_are_masked_anew_are_not_kept(backbone_folder: Path, tmp_path: Path) -> None:
    spec = loop_run("head", backbone_folder, task="mini-mlm")
    without, entry = (trained(spec, tmp_path / name, prefix_cache=c) for name, c in (("a", OFF), ("b", IN_MEMORY)))
    assert facts(entry)[0] == facts(without)[0]
    use = open_store(IN_MEMORY).use
    assert use.asked == 3 * len(kept_rows())  # the dev rows alone
    assert use.found == 2 * len(kept_rows())


@pytest.mark.parametrize("case", TOP)
def test_however_much_is_kept_and_wherever_a_run_ends_with_the_same_bits(
    case: str, backbone_folder: Path, tmp_path: Path
) -> None:
    spec = loop_run(case, backbone_folder)
    whole = trained(spec, tmp_path / "whole")
    little = PrefixCache(num_bytes=12 * 20 * HIDDEN * 4)
    on_disk = PrefixCache(folder=tmp_path / "rows")
    trained(loop_run(case, backbone_folder, seed=1), tmp_path / "other seed", prefix_cache=on_disk)
    for name, setting in (("little", little), ("disk", on_disk)):
        assert largest_difference(trained(spec, tmp_path / name, prefix_cache=setting), whole) == 0.0
    assert open_store(little).use.refused > 0
    assert 0 < open_store(little).use.share < open_store(on_disk).use.share


@pytest.mark.parametrize("case", TOP)
def test_a_run_that_was_stopped_ends_with_the_same_bits(
    case: str, backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = loop_run(case, backbone_folder, max_steps=9)
    whole = run(spec, tmp_path / "whole")
    for step in (4, 8):
        forget(monkeypatch)
        stopped(spec, tmp_path / "parts", step, monkeypatch)
    forget(monkeypatch)
    require_equal(whole, run(spec, tmp_path / "parts"), tmp_path / "whole", tmp_path / "parts")


def test_going_on_with_another_setting_is_said(
    backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = loop_run("lora-top", backbone_folder)
    stopped(spec, tmp_path, 3, monkeypatch)
    options: dict[str, Any] = {"checkpoint_dir": tmp_path / "checkpoints", "checkpoint_s": 0, "checkpoint_steps": 1}
    with pytest.warns(UserWarning, match="not bit for bit"):
        trained(spec, tmp_path / "zoo", prefix_cache=OFF, log_dir=tmp_path / "logs", **options)


def test_rounded_rows_change_a_little_and_the_card_says_so(backbone_folder: Path, tmp_path: Path) -> None:
    spec = loop_run("pfeiffer-top", backbone_folder)
    exact = trained(spec, tmp_path / "exact")
    rounded = trained(spec, tmp_path / "rounded", prefix_cache=PrefixCache(storage="bf16"))
    assert rounded.card.training is not None
    assert rounded.card.training.prefix_storage == "bf16"
    assert 0 < largest_difference(exact, rounded) < 1e-1
    assert facts(rounded)[0] == pytest.approx(facts(exact)[0], abs=1e-2)
    assert open_store(PrefixCache(storage="bf16")).held < open_store(IN_MEMORY).held
    assert all(tensor.dtype == torch.float32 for tensor in weights(rounded).values())


# --- evaluation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", TOP)
def test_scores_are_the_same_and_other_entries_find_the_rows(
    case: str, backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = Zoo(tmp_path / "zoo", fallbacks=())
    keys = [trained(loop_run(case, backbone_folder, seed=seed), zoo.root).key for seed in (0, 1)]
    setting = PrefixCache(folder=tmp_path / "rows")

    def predictions(key: str, folder: str, prefix_cache: PrefixCache) -> list[str]:
        forget(monkeypatch)  # another process, which finds the rows on disk
        options: dict[str, Any] = {
            "languages": ["de", "sw"],
            "limit": 20,
            "device": "cpu",
            "prefix_cache": prefix_cache,
        }
        evaluate(key, tasks.get("mini-nli"), zoo=zoo, runs_dir=tmp_path / folder, **options)
        files = sorted((tmp_path / folder / "scores" / key).rglob("*.predictions.jsonl"))
        return [file.read_text(encoding="utf-8") for file in files]

    for key, share in zip(keys, (0.0, 1.0), strict=True):
        without = predictions(key, "without", OFF)
        assert len(without) == 2
        assert _close(predictions(key, "with", setting), without)
        assert open_store(setting).use.share == share


def _close(found: list[str], expected: list[str]) -> bool:
    """The same predictions, with the same probabilities up to rounding."""
    for one, two in zip(found, expected, strict=True):
        for a, b in zip(one.splitlines(), two.splitlines(), strict=True):
            x, y = msgspec.json.decode(a), msgspec.json.decode(b)
            if x.pop("probabilities") != pytest.approx(y.pop("probabilities"), abs=ROUNDING) or x != y:
                return False
    return True


def test_scores_of_rounded_rows_are_other_scores(backbone_folder: Path, tmp_path: Path) -> None:
    zoo = Zoo(tmp_path / "zoo", fallbacks=())
    key = trained(loop_run("head", backbone_folder), zoo.root).key
    stamps = []
    for setting in (OFF, IN_MEMORY, PrefixCache(storage="bf16"), OFF):
        evaluate(
            key,
            tasks.get("mini-nli"),
            zoo=zoo,
            runs_dir=tmp_path,
            languages=["de"],
            limit=20,
            device="cpu",
            prefix_cache=setting,
        )
        stamps.append(next((tmp_path / "scores").rglob("test-de-first20.json")).stat().st_mtime_ns)
    assert stamps[0] == stamps[1] < stamps[2] < stamps[3]
