"""From a run to an entry and back: every method, every init and route it supports, through a real zoo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from worlds import (
    CASES,
    HIDDEN,
    LAYERS,
    NLI,
    NLI_ROWS,
    STACKING,
    TAGS,
    TOPIC,
    a_batch,
    a_run,
    fit,
    inputs,
    logits,
    publish,
    train_entry,
    write_backbone,
)

from adapters_xling import hub_files
from adapters_xling.backbones import BUILT
from adapters_xling.errors import ConfigError, UnknownName, ZooError
from adapters_xling.methods.slots import slots
from adapters_xling.model import (
    Model,
    backbone_id,
    bare,
    build,
    check_probe,
    family_of,
    fingerprint,
    is_backbone,
    load_backbone,
    open_entry,
    probe,
    resolve_device,
    save_entry,
)
from adapters_xling.model import backbone as backbone_module
from adapters_xling.model.core import pair_features
from adapters_xling.spec import (
    Arithmetic,
    Average,
    Base,
    Fresh,
    Fuse,
    Merged,
    Route,
    RunSpec,
    Slot,
    Stack,
    TaskSpec,
    Use,
    Warm,
    WeightAverage,
    key,
)
from adapters_xling.tasks import kinds
from adapters_xling.zoo import Facts, HeadCard, Zoo

every_method = pytest.mark.parametrize("case", CASES)
one_of_each = pytest.mark.parametrize("case", ["full", "head", "pfeiffer", "lora"])


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "zoo", fallbacks=())


def above(*names: str) -> Stack:
    return Stack(parts=(*(Use(entry=name) for name in names), Slot()))


# --- the life of an entry -----------------------------------------------------------------------------------------


@every_method
def test_an_entry_reopens_to_the_same_logits_bit_for_bit(case: str, backbone_folder: Path, zoo: Zoo) -> None:
    run = a_run(case, backbone_folder)
    entry, expected = train_entry(run, zoo)
    again = open_entry(entry.key, zoo=zoo)
    assert torch.equal(logits(again, NLI), expected)
    assert not again.trainable_parameters()
    assert entry.card.probe is not None and len(entry.card.probe.outputs) == 4
    assert entry.card.heads == {"tiny-nli": HeadCard(kind="sentence", labels=NLI.labels, task="tiny-nli")}
    assert set(entry.card.files) >= {"heads.safetensors"}


@every_method
def test_a_warm_run_starts_where_its_parent_stopped(case: str, backbone_folder: Path, zoo: Zoo) -> None:
    parent, expected = train_entry(a_run(case, backbone_folder), zoo)
    run = a_run(case, backbone_folder, init=Warm(entry=parent.key), seed=5, carry="head")
    model = build(run, zoo=zoo, tasks=[NLI])
    assert torch.equal(logits(model, NLI), expected)
    assert model.trainable_parameters()


@pytest.mark.parametrize("case", STACKING)
def test_a_run_on_top_of_a_parent_on_top_of_a_parent(case: str, backbone_folder: Path, zoo: Zoo) -> None:
    """Grandparent and parent come along by themselves, with their own settings."""
    ground = "lora-all" if CASES[case][0] == "lora" else "houlsby"
    first, first_logits = train_entry(a_run(ground, backbone_folder), zoo)
    second, second_logits = train_entry(a_run(case, backbone_folder, route=above(first.key), seed=1), zoo)
    run = a_run(case, backbone_folder, task=TOPIC, route=above(second.key), seed=2)
    model = build(run, zoo=zoo, tasks=[TOPIC])
    asking = set(model.trainable_parameters())
    assert all("s000_" in name.split(".") or name.startswith(("pooler", "heads")) for name in asking)
    third = publish(model, run, zoo, TOPIC)
    reopened = open_entry(third.key, zoo=zoo)
    assert torch.equal(logits(reopened, TOPIC), logits(model, TOPIC))
    assert torch.equal(logits(open_entry(second.key, zoo=zoo), NLI), second_logits)
    assert torch.equal(logits(open_entry(first.key, zoo=zoo), NLI), first_logits)
    assert not (third.folder / "encoder" / "nothing").exists()
    assert sum(path.stat().st_size for path in third.folder.rglob("*.safetensors")) < 200_000


def test_a_fresh_lora_on_a_parent_leaves_the_encoder_as_the_parent_has_it(backbone_folder: Path, zoo: Zoo) -> None:
    parent, _ = train_entry(a_run("lora", backbone_folder), zoo)
    model = build(a_run("lora", backbone_folder, route=above(parent.key)), zoo=zoo, tasks=[NLI])
    with torch.no_grad():
        assert torch.equal(model.encode(inputs()), open_entry(parent.key, zoo=zoo).encode(inputs()))


def test_evaluation_may_take_another_route(backbone_folder: Path, zoo: Zoo) -> None:
    parent, _ = train_entry(a_run("lora", backbone_folder), zoo)
    child, expected = train_entry(a_run("lora", backbone_folder, route=above(parent.key), seed=1), zoo)
    as_trained = Stack(parts=(Use(entry=parent.key), Slot()))
    with torch.no_grad():
        base = open_entry(child.key, zoo=zoo, route=Base()).encode(inputs())
        assert torch.equal(base, bare(str(backbone_folder)).encode(inputs()))
        with pytest.raises(ConfigError, match="twice"):
            open_entry(child.key, zoo=zoo, route=as_trained)  # the entry already brings its parent
        assert torch.equal(logits(open_entry(child.key, zoo=zoo, route=Slot()), NLI), expected)


@every_method
def test_training_leaves_the_backbone_of_an_adapter_alone(case: str, backbone_folder: Path, zoo: Zoo) -> None:
    model = build(a_run(case, backbone_folder), zoo=zoo, tasks=[NLI])
    before = model.backbone_fingerprint
    assert fingerprint(model.encoder, backbone_name=model.method.backbone_name) == before
    fit(model, NLI)
    untouched = fingerprint(model.encoder, backbone_name=model.method.backbone_name) == before
    assert untouched is model.method.shares_encoder


@one_of_each
def test_the_best_weights_can_be_kept_and_put_back(case: str, backbone_folder: Path, zoo: Zoo) -> None:
    model = build(a_run(case, backbone_folder), zoo=zoo, tasks=[NLI])
    fit(model, NLI)
    best, kept = logits(model, NLI), model.trainable_state()
    fit(model, NLI)
    assert not torch.equal(logits(model, NLI), best)
    model.load_trainable(kept)
    assert torch.equal(logits(model, NLI), best)


# --- heads --------------------------------------------------------------------------------------------------------


def test_heads_start_the_same_under_every_method_and_differ_by_seed(backbone_folder: Path, zoo: Zoo) -> None:
    states = {
        (case, seed): build(a_run(case, backbone_folder, seed=seed), zoo=zoo, tasks=[NLI]).head_state()
        for case in ("full", "head", "houlsby", "lora")
        for seed in (0, 1)
    }
    reference = states["full", 0]
    assert set(reference) >= {"pooler.dense.weight", "pooler.dense.bias"}
    for case in ("head", "houlsby", "lora"):
        assert all(torch.equal(states[case, 0][name], tensor) for name, tensor in reference.items())
    assert not torch.equal(states["full", 1]["pooler.dense.weight"], reference["pooler.dense.weight"])
    weight = reference["pooler.dense.weight"]
    assert weight.std().item() == pytest.approx((3 * HIDDEN) ** -0.5, rel=0.1)


@pytest.mark.parametrize(
    ("carry", "task", "pooler", "head"),
    [
        ("none", NLI, False, False),
        ("pooler", NLI, True, False),
        ("head", NLI, True, True),
        ("head", TOPIC, True, False),
    ],
)
@pytest.mark.parametrize("way", ["warm", "stack"])
def test_what_travels_from_a_parent_is_what_the_recipe_says(
    carry: str, task: TaskSpec, pooler: bool, head: bool, way: str, backbone_folder: Path, zoo: Zoo
) -> None:
    parent, _ = train_entry(a_run("lora", backbone_folder), zoo)
    there = load_file(parent.folder / "heads.safetensors")
    how: dict[str, Any] = {"init": Warm(entry=parent.key)} if way == "warm" else {"route": above(parent.key)}
    run = a_run("lora", backbone_folder, task=task, carry=carry, seed=3, **how)
    here = build(run, zoo=zoo, tasks=[task]).head_state()
    assert torch.equal(here["pooler.dense.weight"], there["pooler.dense.weight"]) is pooler
    own = [name for name in here if name.startswith("heads.") and name.endswith("weight")]
    assert own and all((name in there and torch.equal(here[name], there[name])) is head for name in own)


def test_what_a_run_on_several_starts_from_does_not_hang_on_who_is_named_last(backbone_folder: Path, zoo: Zoo) -> None:
    first, _ = train_entry(a_run("lora", backbone_folder), zoo)
    second, _ = train_entry(a_run("lora", backbone_folder, seed=1), zoo)
    tags, _ = train_entry(a_run("lora", backbone_folder, task=TAGS, seed=2), zoo, TAGS)
    one, two = (load_file(entry.folder / "heads.safetensors")["pooler.dense.weight"] for entry in (first, second))

    def pooler(on: Route) -> Tensor:
        route = on if isinstance(on, Fuse) else Stack(parts=(on, Slot()))
        run = a_run("lora", backbone_folder, route=route, seed=3, carry="pooler")
        return build(run, zoo=zoo, tasks=[NLI]).head_state()["pooler.dense.weight"]

    use = [Use(entry=entry.key) for entry in (first, second, tags)]
    both = (first.key, second.key)
    for weights in ((0.75, 0.25), (0.25, 0.75)):
        expected = weights[0] * one + weights[1] * two
        for on in (
            Average(parts=(use[0], use[1]), weights=weights),
            Average(parts=(use[1], use[0]), weights=weights[::-1]),
        ):
            assert torch.allclose(pooler(on), expected, atol=1e-6)
        merged = pooler(Merged(merge=WeightAverage(entries=both, weights=weights)))
        assert torch.allclose(merged, expected, atol=1e-6)
    assert torch.equal(pooler(Merged(merge=Arithmetic(entries=both, weights=(1.0, -0.5)))), one)
    assert torch.equal(pooler(Fuse(parts=(use[2], use[1], use[0]))), two)  # the first that has one


def test_a_token_head_has_no_pooler_and_reopens(backbone_folder: Path, zoo: Zoo) -> None:
    entry, expected = train_entry(a_run("lora", backbone_folder, task=TAGS), zoo, TAGS)
    assert not [name for name in load_file(entry.folder / "heads.safetensors") if name.startswith("pooler")]
    assert torch.equal(logits(open_entry(entry.key, zoo=zoo), TAGS), expected)


def test_a_task_without_its_head_or_with_other_labels_is_refused(backbone_folder: Path, zoo: Zoo) -> None:
    entry, _ = train_entry(a_run("head", backbone_folder), zoo)
    model = open_entry(entry.key, zoo=zoo)
    with pytest.raises(ConfigError, match="this model has: tiny-nli"):
        model(a_batch(model, TOPIC), TOPIC)
    swapped = msgspec.structs.replace(NLI, labels=("no", "yes", "maybe"))
    with pytest.raises(ConfigError, match="trained on task 'tiny-nli' as sentence with labels"):
        model(a_batch(model, NLI), swapped)


def test_a_head_with_a_dot_in_its_name_travels(backbone_folder: Path, zoo: Zoo) -> None:
    task = msgspec.structs.replace(NLI, head="nli.v2")
    entry, expected = train_entry(a_run("head", backbone_folder), zoo, task)
    assert torch.equal(logits(open_entry(entry.key, zoo=zoo), task), expected)


@pytest.mark.parametrize("layer", [0, 1, LAYERS])
def test_the_head_method_reads_the_layer_it_names(layer: int, backbone_folder: Path, zoo: Zoo) -> None:
    run = a_run("head", backbone_folder)
    run = msgspec.structs.replace(run, method=msgspec.structs.replace(run.method, settings={"layer": layer}))
    model = build(run, zoo=zoo, tasks=[NLI])
    with torch.no_grad():
        states = model.encoder(**inputs(), output_hidden_states=True).hidden_states
        assert torch.equal(model.encode(inputs()), states[layer])
    entry = publish(model, run, zoo, NLI)
    assert torch.equal(logits(open_entry(entry.key, zoo=zoo), NLI), logits(model, NLI))


def test_a_layer_the_encoder_lacks_is_refused(backbone_folder: Path, zoo: Zoo) -> None:
    run = a_run("head", backbone_folder)
    run = msgspec.structs.replace(run, method=msgspec.structs.replace(run.method, settings={"layer": LAYERS + 1}))
    with pytest.raises(ConfigError, match=f"layer is {LAYERS + 1}"):
        build(run, zoo=zoo, tasks=[NLI])


# --- forward ------------------------------------------------------------------------------------------------------


@every_method
def test_encoding_in_two_parts_is_encoding_in_one_bit_for_bit(case: str, backbone_folder: Path, zoo: Zoo) -> None:
    model = build(a_run(case, backbone_folder), zoo=zoo, tasks=[NLI])
    fit(model, NLI)
    with torch.no_grad():
        whole = model.encode(inputs())
        for start in range(LAYERS + 1):
            hidden = model.encode(inputs(), layer=start)
            assert torch.equal(model.encode(inputs(), start, hidden), whole)
        fixed = model.method.lowest_layer(LAYERS) - 1  # the highest hidden state that training leaves as it is
        if fixed >= 0:
            below = bare(str(backbone_folder)).encode(inputs(), layer=fixed)
            assert torch.equal(model.encode(inputs(), fixed, below), whole)


def test_an_impossible_start_is_refused(backbone_folder: Path) -> None:
    model = bare(str(backbone_folder))
    for start, layer in ((1, None), (0, LAYERS + 1), (2, 1)):
        with pytest.raises(ConfigError, match="hidden states 0 to 3"):
            model.encode(inputs(), start, None, layer=layer)


def test_padding_does_not_change_a_row(backbone_folder: Path) -> None:
    model = bare(str(backbone_folder))
    whole = inputs()
    with torch.no_grad():
        padded = model.encode(whole)[1, :6]
        alone = model.encode({name: tensor[1:2, :6] for name, tensor in whole.items()})[0]
    assert torch.allclose(padded, alone, atol=1e-5)


def test_retrieval_on_a_bare_backbone_is_the_mean_of_its_layer(backbone_folder: Path) -> None:
    task = TaskSpec(
        name="tiny-pairs", kind="retrieve", role="private", title="", languages=("en",), sources=(), metrics=()
    )
    model = bare(str(backbone_folder))
    layer = model.row.retrieval_layer
    assert 0 < layer < LAYERS
    with torch.no_grad():
        vectors = model(inputs(), task)
        states = model.encoder(**inputs(), output_hidden_states=True).hidden_states[layer]
    mask = inputs()["attention_mask"].bool()
    by_hand = torch.stack([states[i][mask[i]].mean(0) for i in range(len(mask))])
    assert vectors.shape == (3, HIDDEN)
    assert torch.allclose(vectors, by_hand, atol=1e-6)


def test_pooling_is_the_first_token_or_the_mean(backbone_folder: Path, zoo: Zoo) -> None:
    runs = [a_run("head", backbone_folder, pooling=pooling) for pooling in ("first", "mean")]
    first, mean = (logits(build(run, zoo=zoo, tasks=[NLI]), NLI) for run in runs)
    assert not torch.allclose(first, mean)


def test_a_pair_is_read_as_two_means_their_difference_and_product() -> None:
    """Special tokens and padding are in neither mean; a row of one segment is compared with itself."""
    sep, hidden = 2, torch.randn(2, 9, 3)
    ids = torch.tensor([[0, 5, 6, sep, sep, 7, sep, 1, 1], [0, 5, 6, 8, sep, 1, 1, 1, 1]])
    mask = torch.tensor([[1] * 7 + [0] * 2, [1] * 5 + [0] * 4])
    pair, single = pair_features(hidden, mask, ids, separator=sep)
    a, b = hidden[0, 1:3].mean(0), hidden[0, 5]
    assert torch.allclose(pair, torch.cat([a, b, (a - b).abs(), a * b]), atol=1e-6)
    c = hidden[1, 1:4].mean(0)
    assert torch.allclose(single, torch.cat([c, c, torch.zeros(3), c * c]), atol=1e-6)


@one_of_each
def test_pairs_train_are_kept_and_come_back(case: str, backbone_folder: Path, zoo: Zoo) -> None:
    entry, before = train_entry(a_run(case, backbone_folder, pooling="pair"), zoo)
    model = open_entry(entry.key, zoo=zoo)
    assert model.pooler is not None and model.pooler.dense.in_features == 4 * HIDDEN
    assert torch.equal(logits(model, NLI), before)


def test_a_pooler_of_another_reading_does_not_travel(backbone_folder: Path, zoo: Zoo) -> None:
    parent, _ = train_entry(a_run("lora", backbone_folder, pooling="pair"), zoo)
    child = a_run("lora", backbone_folder, init=Warm(entry=parent.key), pooling="mean", carry="pooler")
    with pytest.raises(ConfigError, match="reads pooling 'pair', this run 'mean'"):
        build(child, zoo=zoo, tasks=[NLI])
    build(
        a_run("lora", backbone_folder, init=Warm(entry=parent.key), pooling="mean", carry="none"), zoo=zoo, tasks=[NLI]
    )


@one_of_each
def test_only_what_learns_is_in_train_mode(case: str, backbone_folder: Path, zoo: Zoo) -> None:
    model = build(a_run(case, backbone_folder), zoo=zoo, tasks=[NLI])
    assert not any(module.training for module in model.modules())
    model.train()
    inside = {id(m) for part in model.trainable.modules for m in part.modules()}
    for module in model.encoder.modules():
        assert module.training is (id(module) in inside)
    assert all(m.training for m in model.heads.modules())
    assert model.pooler is not None and model.pooler.training
    model.eval()
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("case", ["full", "full-frozen-tokens"])
def test_the_recipes_dropout_is_that_of_a_backbone_that_trains(case: str, backbone_folder: Path, zoo: Zoo) -> None:
    """Attention's included; the tiny backbone's own configuration says 0.1."""

    def losses(dropout: float) -> list[float]:
        model = build(a_run(case, backbone_folder, dropout=dropout), zoo=zoo, tasks=[NLI]).train()
        batch, found = a_batch(model, NLI), []
        for seed in (0, 1):
            torch.manual_seed(seed)
            found.append(kinds.get(NLI.kind).loss(model(batch, NLI), batch).item())
        return found

    assert len(set(losses(0.0))) == 1
    assert len(set(losses(0.5))) == 2
    model = build(a_run(case, backbone_folder, dropout=0.25), zoo=zoo, tasks=[NLI])
    rates = [m.p for m in model.encoder.modules() if isinstance(m, torch.nn.Dropout)]
    rates += [m.dropout_prob for m in model.encoder.modules() if hasattr(m, "dropout_prob")]
    assert len(rates) > 3 * LAYERS and set(rates) == {0.25}


def test_the_recipes_dropout_leaves_a_slots_own_alone(backbone_folder: Path, zoo: Zoo) -> None:
    model = build(a_run("lora", backbone_folder, dropout=0.0), zoo=zoo, tasks=[NLI])
    inside = [m for part in model.trainable.modules for m in part.modules() if isinstance(m, torch.nn.Dropout)]
    assert inside and {m.p for m in inside} == {0.1}


def test_rows_longer_than_the_encoder_reads_are_refused(backbone_folder: Path, zoo: Zoo) -> None:
    limit = bare(str(backbone_folder)).max_positions
    assert build(a_run("head", backbone_folder, max_length=limit), zoo=zoo, tasks=[NLI])
    with pytest.raises(ConfigError, match=rf"recipe\.max_length is {limit + 1}, .*'tiny'.*--with max_length={limit}"):
        build(a_run("head", backbone_folder, max_length=limit + 1), zoo=zoo, tasks=[NLI])


# --- what must not be mixed up ------------------------------------------------------------------------------------


def test_entries_of_two_methods_do_not_share_an_encoder(backbone_folder: Path, zoo: Zoo) -> None:
    parent, _ = train_entry(a_run("pfeiffer", backbone_folder), zoo)
    for how in ({"route": above(parent.key)}, {"init": Warm(entry=parent.key)}):
        with pytest.raises(ConfigError, match=r"made by method 'bottleneck', this run's is 'lora'.*rewrite the same"):
            build(a_run("lora", backbone_folder, **how), zoo=zoo, tasks=[NLI])  # type: ignore[arg-type]


def test_full_says_how_to_start_from_an_entry_instead_of_stacking(backbone_folder: Path, zoo: Zoo) -> None:
    with pytest.raises(ConfigError, match=r"method 'full' cannot Stack: .* To start from some-entry use Warm"):
        build(a_run("full", backbone_folder, route=above("some-entry")), zoo=zoo, tasks=[NLI])


@pytest.mark.parametrize("route", [Base(), Use(entry="some-entry")])
def test_a_route_without_the_own_slot_cannot_be_trained(route: Any, backbone_folder: Path, zoo: Zoo) -> None:
    with pytest.raises(ConfigError, match="own slot must be in it"):
        build(a_run("lora", backbone_folder, route=route), zoo=zoo, tasks=[NLI])


def test_the_own_slot_goes_on_top(backbone_folder: Path, zoo: Zoo) -> None:
    parent, _ = train_entry(a_run("lora", backbone_folder), zoo)
    route = Stack(parts=(Slot(), Use(entry=parent.key)))
    with pytest.raises(ConfigError, match="at its top"):
        build(a_run("lora", backbone_folder, route=route), zoo=zoo, tasks=[NLI])


def test_a_warm_start_without_the_parents_ground_is_refused(backbone_folder: Path, zoo: Zoo) -> None:
    ground, _ = train_entry(a_run("lora", backbone_folder), zoo)
    child, expected = train_entry(a_run("lora", backbone_folder, route=above(ground.key), seed=1), zoo)
    with pytest.raises(ConfigError, match=f"was trained as stack\\({ground.key}, slot\\)"):
        build(a_run("lora", backbone_folder, init=Warm(entry=child.key)), zoo=zoo, tasks=[NLI])
    run = a_run("lora", backbone_folder, init=Warm(entry=child.key), route=above(ground.key), carry="head")
    assert torch.equal(logits(build(run, zoo=zoo, tasks=[NLI]), NLI), expected)


def test_two_entries_on_the_same_ground_are_not_stacked_silently(backbone_folder: Path, zoo: Zoo) -> None:
    ground, _ = train_entry(a_run("lora", backbone_folder), zoo)
    one, two = (
        train_entry(a_run("lora", backbone_folder, route=above(ground.key), seed=seed), zoo)[0] for seed in (1, 2)
    )
    with pytest.raises(ConfigError, match="twice"):
        build(a_run("lora", backbone_folder, route=above(one.key, two.key)), zoo=zoo, tasks=[NLI])


def test_a_run_needs_its_own_tasks(backbone_folder: Path, zoo: Zoo) -> None:
    with pytest.raises(ConfigError, match="is about tiny-nli; it was given the tasks tiny-topic"):
        build(a_run("head", backbone_folder), zoo=zoo, tasks=[TOPIC])


def test_an_entry_meets_only_the_backbone_it_was_trained_on(
    tmp_path: Path, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XLING_BACKBONES", raising=False)
    folder = write_backbone(tmp_path / "mine")
    entry, expected = train_entry(a_run("lora", folder), zoo)
    child = a_run("lora", folder, route=above(entry.key))
    moved = tmp_path / "moved"
    shutil.move(folder, moved)
    with pytest.raises(ZooError, match=r"'mine'.*`backbone`, or set XLING_BACKBONES \(now: not set\)"):
        open_entry(entry.key, zoo=zoo)
    for place in (str(moved), moved):
        assert torch.equal(logits(open_entry(entry.key, zoo=zoo, backbone=place), NLI), expected)
    assert build(child, zoo=zoo, tasks=[NLI], backbone=moved).backbone == child.backbone
    shutil.rmtree(moved)
    write_backbone(folder, seed=1)
    with pytest.raises(ZooError, match=f"entry {entry.key}: .*pull that backbone or retrain"):
        open_entry(entry.key, zoo=zoo, backbone=folder)
    monkeypatch.setenv("XLING_BACKBONES", str(tmp_path))
    with pytest.raises(ZooError, match="pull that backbone or retrain"):
        open_entry(entry.key, zoo=zoo)
    with pytest.raises(ZooError, match="pull that backbone or retrain"):
        build(child, zoo=zoo, tasks=[NLI])
    other = a_run("lora", folder, route=above(entry.key))
    with pytest.raises(ZooError, match=f"entry {entry.key} was trained on .*this run uses .*pull that backbone"):
        build(other, zoo=zoo, tasks=[NLI])


def republish(run: RunSpec, model: Model, zoo: Zoo, **changes: Any) -> str:
    """Publish an entry whose card says something that is not so, with digests in order."""
    with zoo.writing(run) as draft:
        facts = save_entry(model, run, NLI, draft.folder, NLI_ROWS)
        draft.finish(Facts(training=None, **{**facts, **changes}))
    return key(run)


@one_of_each
def test_a_probe_that_fails_keeps_the_entry_out(case: str, backbone_folder: Path, zoo: Zoo) -> None:
    run = a_run(case, backbone_folder)
    model = build(run, zoo=zoo, tasks=[NLI])
    found = probe(model, NLI, NLI_ROWS, max_length=32)
    assert found is not None
    check_probe(model, found)
    wrong = msgspec.structs.replace(found, outputs=[[v + 0.01 for v in row] for row in found.outputs])
    name = republish(run, model, zoo, probe=wrong)
    with pytest.raises(ZooError, match=f"entry {name}: the probe fails: outputs differ by up to 0.01"):
        open_entry(name, zoo=zoo)
    with pytest.raises(ZooError, match="the probe fails"):
        build(a_run(case, backbone_folder, init=Warm(entry=name)), zoo=zoo, tasks=[NLI])


def test_a_probe_notices_weights_of_another_entry(backbone_folder: Path, zoo: Zoo) -> None:
    one, two = (train_entry(a_run("lora", backbone_folder, seed=seed), zoo)[0] for seed in (0, 1))
    model = open_entry(one.key, zoo=zoo)
    assert two.card.probe is not None
    with pytest.raises(ZooError, match="the probe fails"):
        check_probe(model, two.card.probe)


def test_a_probe_of_another_form_or_task_is_refused(backbone_folder: Path, zoo: Zoo) -> None:
    model = build(a_run("head", backbone_folder), zoo=zoo, tasks=[NLI])
    found = probe(model, NLI, NLI_ROWS, max_length=32)
    assert found is not None
    short = msgspec.structs.replace(found, outputs=[row[:-1] for row in found.outputs])
    with pytest.raises(ZooError, match="probe fails"):
        check_probe(model, short)
    with pytest.raises(ZooError, match="'tiny-topic'"):
        check_probe(model, msgspec.structs.replace(found, task="tiny-topic"))


def test_a_card_with_another_fingerprint_is_refused(backbone_folder: Path, zoo: Zoo) -> None:
    run = a_run("lora", backbone_folder)
    name = republish(run, build(run, zoo=zoo, tasks=[NLI]), zoo, backbone_fingerprint="0" * 64)
    with pytest.raises(ZooError, match="trained on backbone tensors 0000000000000000"):
        open_entry(name, zoo=zoo)


def test_a_card_that_names_heads_the_file_lacks_is_refused(backbone_folder: Path, zoo: Zoo) -> None:
    run = a_run("lora", backbone_folder)
    heads = {"tiny-nli": HeadCard(kind="sentence", labels=("a", "b"), task="tiny-nli")}
    name = republish(run, build(run, zoo=zoo, tasks=[NLI]), zoo, heads=heads)
    with pytest.raises(ZooError, match="does not hold the heads its card describes"):
        open_entry(name, zoo=zoo)


# --- backbones ----------------------------------------------------------------------------------------------------


def test_a_backbone_is_identified_by_its_bytes(tmp_path: Path) -> None:
    one = backbone_id(str(write_backbone(tmp_path / "one")))
    two = backbone_id(str(write_backbone(tmp_path / "two", seed=1)))
    assert one.digest and two.digest and one.digest != two.digest
    assert load_backbone(one).id == one


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_every_file_of_a_backbone_counts(file: str, backbone_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(backbone_folder, folder)
    plain = backbone_id(str(folder))
    assert plain == backbone_id(str(backbone_folder))
    with (folder / file).open("ab") as stream:
        stream.write(b" ")
    assert backbone_id(str(folder)).digest != plain.digest


def test_where_a_local_backbone_lies_is_no_part_of_what_it_is(
    backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(backbone_folder, tmp_path / "private" / "tiny")
    monkeypatch.chdir(tmp_path / "private")
    typed = ["tiny", "./tiny", "../private/tiny/", str(tmp_path / "private" / "tiny"), str(backbone_folder)]
    runs = [a_run("lora", Path(name)) for name in typed]
    runs += [msgspec.structs.replace(runs[0], backbone=backbone_id(name)) for name in typed]
    assert len({key(run) for run in runs}) == 1
    assert (runs[0].backbone.name, runs[0].backbone.repo) == ("tiny", "local")
    monkeypatch.chdir(tmp_path / "private" / "tiny")
    assert backbone_id(".") == runs[0].backbone


@pytest.mark.parametrize("case", ["full", "pfeiffer", "lora"])
def test_an_entry_holds_no_path_of_its_backbone(case: str, backbone_folder: Path, zoo: Zoo) -> None:
    entry, _ = train_entry(a_run(case, backbone_folder), zoo)
    for path in entry.folder.rglob("*"):
        assert not path.is_file() or str(backbone_folder.parent).encode() not in path.read_bytes(), path


@pytest.mark.parametrize("way", ["argument", "zoo", "variable", "process"])
def test_the_folder_of_a_local_backbone_is_found_again(
    way: str, tmp_path: Path, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XLING_BACKBONES", raising=False)
    folder = write_backbone(tmp_path / "first" / "mine", seed=3)
    entry, expected = train_entry(a_run("lora", folder), zoo)
    child = a_run("lora", folder, route=above(entry.key))
    place: Path | None = None
    if way != "process":
        monkeypatch.setattr(backbone_module, "_seen", {})
        with pytest.raises(ZooError, match="XLING_BACKBONES"):
            open_entry(entry.key, zoo=zoo)
    if way == "argument":
        place = folder
    elif way == "zoo":
        shutil.copytree(folder, zoo.root / "mine")
    elif way == "variable":
        monkeypatch.setenv("XLING_BACKBONES", str(folder.parent))
        assert is_backbone("mine") and family_of("mine").name == "xlm-roberta"
        assert backbone_id("mine") == child.backbone
    assert torch.equal(logits(open_entry(entry.key, zoo=zoo, backbone=place), NLI), expected)
    assert build(child, zoo=zoo, tasks=[NLI], backbone=place).backbone == child.backbone
    assert bare(child.backbone, zoo=zoo, backbone=place).backbone == child.backbone
    assert load_backbone(child.backbone, zoo=zoo, backbone=place).row.name == "mine"


def test_a_card_cannot_name_a_folder_by_path(tmp_path: Path, zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLING_BACKBONES", str(tmp_path / "own"))
    identity = backbone_id(str(write_backbone(tmp_path / "mine")))
    monkeypatch.setattr(backbone_module, "_seen", {})
    for name in (str(tmp_path / "mine"), "../mine"):
        with pytest.raises(ZooError, match="not at hand"):
            load_backbone(msgspec.structs.replace(identity, name=name), zoo=zoo)


def test_identifying_a_backbone_imports_no_deep_learning_library(backbone_folder: Path) -> None:
    code = (
        "import sys; from adapters_xling.model import backbone_id; "
        f"backbone_id({str(backbone_folder)!r}); backbone_id('xlm-roberta-base'); "
        "print(sorted({'torch', 'transformers', 'adapters', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_hub_backbone_that_is_not_here_can_be_planned_with_but_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    planned = backbone_id("xlm-roberta-base")
    assert planned.repo == "FacebookAI/xlm-roberta-base" and planned.digest is None
    with pytest.raises(ZooError, match="not in the local cache and cannot be downloaded"):
        load_backbone("xlm-roberta-base")


COMMIT = "c0ffee" * 6 + "c0ff"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone_folder: Path) -> list[tuple[str, str | None]]:
    """A hub that serves the tiny backbone as XLM-R base into an empty cache; the list says what was asked for."""
    import huggingface_hub
    import huggingface_hub.constants

    cache = tmp_path / "hub" / "models--FacebookAI--xlm-roberta-base"
    asked: list[tuple[str, str | None]] = []

    def serve(repo: str, file: str, *, revision: str | None = None, **_: Any) -> str:
        assert repo == "FacebookAI/xlm-roberta-base"
        asked.append((file, revision))
        target = cache / "snapshots" / COMMIT / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(backbone_folder / file, target)
        (cache / "refs").mkdir(exist_ok=True)
        (cache / "refs" / "main").write_text(COMMIT)
        return str(target)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache.parent))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", serve)
    files = ("config.json", "tokenizer.json", "model.safetensors")
    listing = hub_files.Listing(commit=COMMIT, files=files)
    monkeypatch.setattr(hub_files, "listing", lambda repo, revision, kind: listing)
    return asked


def test_a_hub_backbone_is_downloaded_on_request_and_then_trained(
    hub: list[tuple[str, str | None]], backbone_folder: Path, zoo: Zoo
) -> None:
    assert backbone_id("xlm-roberta-base").digest is None and not hub
    locked = backbone_id("xlm-roberta-base", download=True)
    assert locked.repo == "FacebookAI/xlm-roberta-base" and locked.revision == COMMIT
    assert locked.digest == backbone_id(str(backbone_folder)).digest
    assert hub == [("config.json", "main"), ("tokenizer.json", COMMIT), ("model.safetensors", COMMIT)]
    run = msgspec.structs.replace(a_run("lora", backbone_folder), backbone=locked)
    entry, expected = train_entry(run, zoo)
    assert torch.equal(logits(open_entry(entry.key, zoo=zoo), NLI), expected)
    assert torch.equal(logits(open_entry(entry.key, zoo=zoo, backbone=backbone_folder), NLI), expected)
    assert backbone_id("xlm-roberta-base", download=True) == backbone_id("xlm-roberta-base") == locked
    assert len(hub) == 3
    assert load_backbone(locked).row.retrieval_layer == 7


def test_a_download_without_network_fails_at_once_and_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    def wait(*_: Any, **__: Any) -> None:
        raise AssertionError("asked the client, which tries again for minutes")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub_files, "why_not", lambda: "huggingface.co cannot be reached")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", wait)
    monkeypatch.setattr(huggingface_hub, "HfApi", wait)
    with pytest.raises(
        ZooError, match=r"cannot be downloaded: huggingface\.co .*config\.json, tokenizer\.json, model\.safetensors"
    ):
        backbone_id("xlm-roberta-base", download=True)


def test_an_encoder_that_is_built_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLING_BACKBONES", raising=False)
    for name, objective in BUILT.items():
        with pytest.raises(ZooError, match=rf"{objective} --out FOLDER/{name}, .* XLING_BACKBONES"):
            backbone_id(name)


def test_an_unknown_or_incomplete_backbone_says_what_is_valid(tmp_path: Path, backbone_folder: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'xlmr-nano'"):
        backbone_id("xlmr-nanno")
    half = tmp_path / "half"
    shutil.copytree(backbone_folder, half)
    (half / "tokenizer.json").unlink()
    with pytest.raises(ZooError, match=r"no tokenizer\.json"):
        load_backbone(str(half))


def test_a_backbone_of_another_architecture_or_with_lost_weights_is_refused(
    tmp_path: Path, backbone_folder: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(backbone_folder, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    with pytest.raises(UnknownName, match="unknown family 'llama'"):
        load_backbone(str(other))
    lost = tmp_path / "lost"
    shutil.copytree(backbone_folder, lost)
    tensors = load_file(lost / "model.safetensors")
    tensors.pop("encoder.layer.1.output.dense.weight")
    save_file(tensors, lost / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ZooError, match=r"1 weights are missing.*encoder\.layer\.1\.output\.dense\.weight"):
        load_backbone(str(lost))


def test_weights_of_a_language_model_checkpoint_are_taken_without_its_head(
    tmp_path: Path, backbone_folder: Path
) -> None:
    """Hub checkpoints hold an LM head and prefix the encoder's names; the encoder's tensors are the same."""
    plain = load_backbone(str(backbone_folder))
    folder = tmp_path / "lm"
    shutil.copytree(backbone_folder, folder)
    tensors = {f"roberta.{name}": t for name, t in load_file(folder / "model.safetensors").items()}
    tensors["lm_head.bias"] = torch.zeros(5)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_backbone(str(folder)).fingerprint == plain.fingerprint


def test_the_fingerprint_sees_every_bit(backbone_folder: Path) -> None:
    loaded = load_backbone(str(backbone_folder))
    weight = loaded.encoder.get_parameter("encoder.layer.2.output.LayerNorm.bias")
    with torch.no_grad():
        weight[3] = torch.nextafter(weight[3], torch.tensor(1.0))
    assert fingerprint(loaded.encoder) != loaded.fingerprint


@one_of_each
def test_initial_weights_follow_from_the_seed_alone(case: str, backbone_folder: Path, zoo: Zoo) -> None:
    run = a_run(case, backbone_folder)
    torch.manual_seed(1)
    one = build(run, zoo=zoo, tasks=[NLI]).trainable_state()
    before = torch.random.get_rng_state()
    two = build(run, zoo=zoo, tasks=[NLI]).trainable_state()
    assert all(torch.equal(one[name], two[name]) for name in one)
    torch.manual_seed(1)
    torch.rand(7)
    assert isinstance(run.init, Fresh) and before.shape == torch.random.get_rng_state().shape


def test_threads_make_the_models_that_one_thread_makes(backbone_folder: Path, zoo: Zoo) -> None:
    """The answers of what they open, and the initial weights of what they build."""
    runs = {case: a_run(case, backbone_folder) for case in ("full", "pfeiffer", "lora")}
    expected = {case: train_entry(run, zoo) for case, run in runs.items()}
    fresh = a_run("lora", backbone_folder, seed=9)
    heads = build(fresh, zoo=zoo, tasks=[NLI]).head_state()
    start = threading.Barrier(4)

    def make(case: str | None) -> bool:
        start.wait()
        if case is not None:
            entry, answers = expected[case]
            return all(torch.equal(logits(open_entry(entry.key, zoo=zoo), NLI), answers) for _ in range(2))
        made = build(fresh, zoo=zoo, tasks=[NLI]).head_state()
        return all(torch.equal(made[name], tensor) for name, tensor in heads.items())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(make, [*runs, None])) == [True] * 4


def test_slots_of_an_open_entry_have_names_of_one_width(backbone_folder: Path, zoo: Zoo) -> None:
    ground, _ = train_entry(a_run("lora", backbone_folder), zoo)
    child, _ = train_entry(a_run("lora", backbone_folder, route=above(ground.key), seed=1), zoo)
    model = open_entry(child.key, zoo=zoo)
    names = sorted(model.encoder.peft_config)
    assert len(names) == 2 and len({len(name) for name in names}) == 1
    assert slots(above(*names[:1]), names[1]) == tuple(names)


def test_writing_an_entry_contacts_nobody(backbone_folder: Path, zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    """peft would look the backbone up on the hub when it saves; its own saver must not be the one that runs."""
    import huggingface_hub

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("asked the hub")

    monkeypatch.setattr(huggingface_hub, "file_exists", refuse)
    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", refuse)
    run = a_run("lora", backbone_folder)
    model = build(run, zoo=zoo, tasks=[NLI])
    model.backbone = msgspec.structs.replace(model.backbone, repo="FacebookAI/xlm-roberta-base")
    assert publish(model, run, zoo, NLI).card.num_trainable > 0
    assert os.environ.get("HF_HUB_OFFLINE") is None


# --- devices ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_cuda", [0, 2])
def test_a_device_is_the_one_named_or_the_best_there_is(num_cuda: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num_cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device(None) == torch.device("cuda" if num_cuda else "cpu")
    assert resolve_device("cpu") == torch.device("cpu")
    for name in ("cuda", "cuda:1"):
        if num_cuda:
            assert resolve_device(name) == torch.device(name)
        else:
            with pytest.raises(ConfigError, match=f"device '{name}' is not available here. Valid: cpu, or none"):
                resolve_device(name)
    for name in ("cuda:2", "gpu", "cuda:x", ""):
        with pytest.raises(ConfigError, match=r"is not available here\. Valid: cpu"):
            resolve_device(name)
