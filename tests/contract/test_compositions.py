"""Entries put together: every way of composing them against the same thing computed by hand, through real files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from worlds import (
    CASES,
    HIDDEN,
    LAYERS,
    OTHER,
    OWN,
    PARENT,
    hidden_states,
    inputs,
    method_of,
    new_encoder,
    output,
    snapshot,
    train,
    trained_slot,
)

from adapters_xling.errors import ConfigError
from adapters_xling.methods import resolve
from adapters_xling.methods.merging import combine
from adapters_xling.model import fingerprint
from adapters_xling.spec import (
    Arithmetic,
    Average,
    Base,
    Dare,
    Fresh,
    Fuse,
    Merge,
    Merged,
    Route,
    Slot,
    Stack,
    Ties,
    Use,
    WeightAverage,
)

A, B = Use(entry=PARENT), Use(entry=OTHER)
BOTH = ("a", "b")
CLOSE = 1e-6
"""Merged files are float32, which rounds products; what they are compared with is double throughout."""
BESIDE = ("pfeiffer", "pfeiffer-top", "houlsby", "compacter", "lora", "lora-all", "lora-top")
"""Cases whose slots can run side by side."""


def two_slots(case: str, folder: Path, other: str | None = None) -> tuple[Any, Any, list[Path]]:
    """A method, an encoder with two resident slots, and their files."""
    folders = [folder / "a", folder / "b"]
    trained_slot(case, folders[0], seed=1)
    trained_slot(other or case, folders[1], seed=2)
    method, encoder = method_of(case), new_encoder()
    method.load(encoder, PARENT, folders[0])
    method.load(encoder, OTHER, folders[1])
    return method, encoder, folders


def exact(encoder: Any) -> Tensor:
    """The output in double precision: sums in another order then differ by less than `CLOSE`."""
    return output(encoder.double())


def with_updates(*parts: tuple[Path, float]) -> Any:
    """An encoder whose own weights hold LoRA updates times a coefficient, added by hand from the files."""
    import json

    encoder = new_encoder().double()
    for folder, weight in parts:
        config = json.loads((folder / "adapter_config.json").read_text())
        scale = config["lora_alpha"] / (config["r"] ** 0.5 if config["use_rslora"] else config["r"])
        tensors = load_file(folder / "adapter_model.safetensors")
        for name, down in tensors.items():
            if name.endswith("lora_A.weight"):
                target = name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
                up = tensors[name.replace("lora_A", "lora_B")]
                encoder.get_parameter(target).data += weight * scale * (up.double() @ down.double())
    return encoder


# --- LoRA: sum = rank concatenation = merged weights ------------------------------------------------------------------


@pytest.mark.parametrize("other", ["lora", "lora-all"])
def test_a_stack_of_loras_is_their_sum_is_one_of_all_ranks_is_merged_weights(other: str, tmp_path: Path) -> None:
    method, encoder, (a, b) = two_slots("lora", tmp_path, other)
    method.activate(encoder, Stack(parts=(A, B)))
    stacked = exact(encoder)
    assert torch.allclose(stacked, exact(with_updates((a, 1), (b, 1))), atol=CLOSE)
    method.activate(encoder, Stack(parts=(B, A)))
    assert torch.allclose(exact(encoder), stacked, atol=CLOSE)
    if other == "lora":  # one file of the same maps
        both = Arithmetic(entries=BOTH, weights=(1, 1))
        said = method.merge(new_encoder(), both, [a, b], tmp_path / "merged")
        assert said.endswith("exact: rank 8")
        merged = method.merged(both, [method, method])
        assert (merged.r, merged.alpha) == (8, 8.0)
        alone = new_encoder()
        merged.load(alone, PARENT, tmp_path / "merged")
        merged.activate(alone, A)
        assert torch.allclose(exact(alone), stacked, atol=CLOSE)
        assert not torch.allclose(exact(alone), exact(with_updates((a, 1))), atol=1e-3)


@pytest.mark.parametrize(
    ("merge", "weights"),
    [
        (WeightAverage(entries=BOTH, weights=(0.7, 0.3)), (0.7, 0.3)),
        (Arithmetic(entries=BOTH, weights=(1.0, -0.5)), (1.0, -0.5)),
    ],
)
def test_merged_loras_are_the_weighted_sum_of_their_updates(
    merge: Merge, weights: tuple[float, float], tmp_path: Path
) -> None:
    method, _, (a, b) = two_slots("lora", tmp_path)
    method.merge(new_encoder(), merge, [a, b], tmp_path / "merged")
    merged, encoder = method.merged(merge, [method, method]), new_encoder()
    merged.attach(encoder, OWN, tmp_path / "merged", Slot())
    assert torch.allclose(exact(encoder), exact(with_updates((a, weights[0]), (b, weights[1]))), atol=CLOSE)


def test_an_average_of_loras_in_every_pass_is_the_one_of_their_updates(tmp_path: Path) -> None:
    method, encoder, (a, b) = two_slots("lora", tmp_path, "lora-all")
    method.activate(encoder, Average(parts=(A, B), weights=(0.7, 0.3)))
    assert torch.allclose(exact(encoder), exact(with_updates((a, 0.7), (b, 0.3))), atol=CLOSE)
    nested = Average(parts=(Stack(parts=(A, B)), A), weights=(0.5, 0.5))  # 1.0 of a, 0.5 of b
    method.activate(encoder, nested)
    assert torch.allclose(exact(encoder), exact(with_updates((a, 1.0), (b, 0.5))), atol=CLOSE)


@pytest.mark.parametrize("merge", [Ties(entries=BOTH, weights=(1, 2), density=0.5), Dare(entries=BOTH, weights=(1, 1))])
def test_ties_and_dare_are_the_nearest_update_of_that_rank(merge: Merge, tmp_path: Path) -> None:
    method, _, folders = two_slots("lora", tmp_path)
    with pytest.warns(UserWarning, match=r"cut to rank 8, \d+% away .* an average or arithmetic is exact"):
        said = method.merge(new_encoder(), merge, folders, tmp_path / "merged")
    states = [load_file(folder / "adapter_model.safetensors") for folder in folders]
    result = load_file(tmp_path / "merged" / "adapter_model.safetensors")
    lost = whole = 0.0
    for name in (name.removesuffix(".lora_A.weight") for name in result if name.endswith("lora_A.weight")):
        updates = [4.0 * state[f"{name}.lora_B.weight"] @ state[f"{name}.lora_A.weight"] for state in states]
        wanted = combine(merge, updates, name=name)
        found = result[f"{name}.lora_B.weight"] @ result[f"{name}.lora_A.weight"]
        best = torch.linalg.svdvals(wanted.double())[8:].square().sum().sqrt().item()
        assert (wanted - found).norm().item() == pytest.approx(best, rel=1e-3, abs=1e-5)  # Eckart & Young
        lost, whole = lost + float((wanted - found).square().sum()), whole + float(wanted.square().sum())
    assert f"relative error {(lost / whole) ** 0.5:.2g}" in said and lost > 0


# --- the arithmetic of merges -----------------------------------------------------------------------------------------


def test_ties_by_hand() -> None:
    one, two = torch.tensor([4.0, -3.0, 0.1, 2.0]), torch.tensor([2.0, 5.0, 0.2, -1.0])
    # trimmed to half: [4, -3, 0, 0] and [2, 5, 0, 0]; signs elected: +, +; only two agrees in the second place
    found = combine(Ties(entries=BOTH, weights=(1, 1), density=0.5), [one, two], name="w")
    assert torch.equal(found, torch.tensor([3.0, 5.0, 0.0, 0.0]))
    weighted = combine(Ties(entries=BOTH, weights=(3, 1), density=0.5), [one, two], name="w")
    assert torch.allclose(weighted, torch.tensor([(3 * 4 + 2) / 4, -3.0, 0.0, 0.0]))  # -9 outvotes 5


def test_ties_of_copies_is_the_copy_and_dare_keeps_the_mean() -> None:
    torch.manual_seed(0)
    vector = torch.randn(200, 50)
    assert torch.allclose(combine(Ties(entries=BOTH, weights=(1, 1), density=1.0), [vector, vector], name="w"), vector)
    dare = Dare(entries=BOTH, weights=(1.0, 1.0), density=0.25, seed=1)
    dropped = combine(dare, [torch.ones(200, 50), torch.zeros(200, 50)], name="w")
    assert set(dropped.unique().tolist()) == {0.0, 4.0}
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.1)
    assert torch.equal(dropped, combine(dare, [torch.ones(200, 50), torch.zeros(200, 50)], name="w"))
    other = Dare(entries=BOTH, weights=(1.0, 1.0), density=0.25, seed=2)
    assert not torch.equal(dropped, combine(other, [torch.ones(200, 50), torch.zeros(200, 50)], name="w"))


# --- bottleneck -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", BESIDE)
def test_the_average_of_two_copies_is_the_copy(case: str, tmp_path: Path) -> None:
    """The library's own average divides twice, so that this fails there."""
    expected = trained_slot(case, tmp_path)
    method, encoder = method_of(case), new_encoder()
    method.load(encoder, PARENT, tmp_path)
    method.load(encoder, OTHER, tmp_path)
    method.activate(encoder, Average(parts=(A, B), weights=(0.7, 0.3)))
    assert torch.allclose(output(encoder), expected, atol=1e-5)


@pytest.mark.parametrize("case", ["pfeiffer", "houlsby"])
def test_an_average_of_blocks_is_the_mean_of_what_they_add_in_the_first_layer(case: str, tmp_path: Path) -> None:
    """Behind the first place with a block inputs differ, so the first block's output is what can be compared."""
    method, encoder, _ = two_slots(case, tmp_path)
    from adapters.methods.bottleneck import BottleneckLayer

    first = next(m for m in encoder.modules() if isinstance(m, BottleneckLayer) and PARENT in m.adapters)
    seen: list[Tensor] = []
    compose = first.compose
    first.compose = lambda setup, state: (seen.append(compose(setup, state).hidden_states), compose(setup, state))[1]
    for route in (A, B, Average(parts=(A, B), weights=(0.25, 0.75))):
        method.activate(encoder, route)
        output(encoder)
    assert torch.allclose(seen[2], 0.25 * seen[0] + 0.75 * seen[1], atol=1e-6)
    assert not torch.allclose(seen[0], seen[1], atol=1e-3)


def test_a_part_without_a_block_somewhere_adds_nothing_there(tmp_path: Path) -> None:
    method, encoder, _ = two_slots("pfeiffer", tmp_path, "pfeiffer-top")  # blocks in all layers, and in the last alone
    method.activate(encoder, Average(parts=(A, B), weights=(0.5, 0.5)))
    beside = hidden_states(encoder)
    method.activate(encoder, A)
    alone = hidden_states(encoder)
    method.activate(encoder, Base())
    bare = hidden_states(encoder)
    assert torch.equal(beside[0], bare[0])
    half, full = (beside[1] - bare[1]).norm(), (alone[1] - bare[1]).norm()
    assert 0.3 < half / full < 0.7


@pytest.mark.parametrize("case", ["pfeiffer", "pfeiffer-inv", "houlsby", "compacter", "prefix"])
def test_merged_blocks_have_the_weighted_sum_of_the_weights(case: str, tmp_path: Path) -> None:
    method, _, folders = two_slots(case, tmp_path)
    merge = WeightAverage(entries=BOTH, weights=(0.7, 0.3))
    method.merge(new_encoder(), merge, folders, tmp_path / "merged")
    encoder = new_encoder()
    assert method.merged(merge, [method, method]) == method
    method.attach(encoder, OWN, tmp_path / "merged", Slot())
    states = [load_file(folder / "adapter.safetensors") for folder in folders]
    live = {name: tensor for name, tensor in encoder.state_dict().items() if OWN in name.split(".")}
    assert len({t.data_ptr() for t in live.values()}) == len(states[0])
    for name, tensor in states[0].items():
        wanted = 0.7 * tensor + 0.3 * states[1][name]
        own = ".".join(OWN if part == "xling" else part for part in name.split("."))
        assert torch.allclose(live[own], wanted, atol=1e-6)
    assert torch.isfinite(output(encoder)).all()


def test_differences_of_blocks_need_coefficients_that_cancel_the_start() -> None:
    method = method_of("pfeiffer")
    fine = Arithmetic(entries=("a", "b", "c"), weights=(1, 1, -1))
    assert method.supports(fine, Slot()) is None
    reason = method.supports(Arithmetic(entries=BOTH, weights=(1, 1)), Slot())
    assert reason and "they must make 1" in reason and "arithmetic(+a:1, +b:1)" in reason


def test_merged_full_weights_are_backbone_and_task_vectors(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for i, folder in enumerate(folders):
        trained_slot("full", folder, seed=i)
        if i:  # the seed changes nothing in full fine-tuning of the tests: move it elsewhere
            method, encoder = method_of("full"), new_encoder()
            train(encoder, method.attach(encoder, OWN, folders[0], Slot()).parameters, steps=2)
            method.save(encoder, OWN, folder)
    method, start = method_of("full"), new_encoder()
    method.merge(start, Arithmetic(entries=BOTH, weights=(1.0, -0.5)), folders, tmp_path / "merged")
    states = [load_file(folder / "model.safetensors") for folder in folders]
    found = load_file(tmp_path / "merged" / "model.safetensors")
    for name, before in start.state_dict().items():
        wanted = before + (states[0][name] - before) - 0.5 * (states[1][name] - before)
        assert torch.allclose(found[name], wanted, atol=1e-5), name
    encoder = new_encoder()
    method.load(encoder, OWN, tmp_path / "merged")
    assert not torch.allclose(output(encoder), output(start), atol=1e-3)


# --- fusions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["pfeiffer", "houlsby", "compacter", "lora", "lora-top"])
def test_a_fusion_trains_its_mixing_and_nothing_else_and_reopens(case: str, tmp_path: Path) -> None:
    method, encoder, folders = two_slots(case, tmp_path)
    bare = new_encoder()
    before = fingerprint(bare)
    torch.manual_seed(3)
    trainable = method.attach(encoder, OWN, None, Fuse(parts=(A, B)))
    assert trainable.parameters and all(OWN in name.split(".") for name in trainable.parameters)
    assert {n for n, p in encoder.named_parameters() if p.requires_grad} == trainable.parameters
    start, untrained = snapshot(encoder), output(encoder)
    train(encoder, trainable.parameters)
    changed = {n for n, t in encoder.state_dict().items() if not torch.equal(t, start[n])}
    assert changed and all(OWN in name.split(".") for name in changed)
    assert fingerprint(encoder, backbone_name=method.backbone_name) == before
    expected = output(encoder)
    assert not torch.equal(expected, untrained)
    method.save(encoder, OWN, tmp_path / "fusion")
    assert {path.suffix for path in (tmp_path / "fusion").iterdir()} == {".json", ".safetensors"}
    again = new_encoder()
    method.load(again, "s007_", folders[0])
    method.load(again, "s008_", folders[1])
    method.load(again, "s009_", tmp_path / "fusion")
    method.activate(again, Fuse(parts=(Use(entry="s007_"), Use(entry="s008_")), by=Use(entry="s009_")))
    assert torch.equal(output(again), expected)
    method.activate(again, Base())
    assert torch.equal(output(again), output(bare))
    warm = new_encoder()
    method.load(warm, PARENT, folders[0])
    method.load(warm, OTHER, folders[1])
    method.attach(warm, OWN, tmp_path / "fusion", Fuse(parts=(A, B)))
    assert torch.equal(output(warm), expected)


def test_a_fresh_fusion_of_loras_is_their_mean_and_a_trained_one_can_be_merged(tmp_path: Path) -> None:
    method, encoder, (a, b) = two_slots("lora", tmp_path)
    trainable = method.attach(encoder, OWN, None, Fuse(parts=(A, B)))
    assert torch.allclose(exact(encoder), exact(with_updates((a, 0.5), (b, 0.5))), atol=CLOSE)
    with torch.no_grad():
        for name in trainable.parameters:
            encoder.get_parameter(name).copy_(torch.tensor([0.9, -0.2]))
    assert torch.allclose(exact(encoder), exact(with_updates((a, 0.9), (b, -0.2))), atol=CLOSE)


def test_the_penalty_of_a_fusion_is_the_distance_of_its_value_maps_from_the_identity(tmp_path: Path) -> None:
    method, encoder, _ = two_slots("pfeiffer", tmp_path)
    method.attach(encoder, OWN, None, Fuse(parts=(A, B)))
    start = method.penalty(encoder, OWN)
    assert start is not None and start.item() < 1e-6  # the identity, but for a little noise of the library's
    values = [p for n, p in encoder.named_parameters() if OWN in n.split(".") and n.endswith("value.weight")]
    assert len(values) == LAYERS
    with torch.no_grad():
        values[0] += 0.5
    penalty = method.penalty(encoder, OWN)
    assert penalty is not None
    assert penalty.item() == pytest.approx(0.01 * HIDDEN * HIDDEN * 0.25, rel=1e-3)
    penalty.backward()
    assert values[0].grad is not None and values[0].grad.abs().sum() > 0
    assert method.penalty(encoder, PARENT) is None
    lora = method_of("lora")
    encoder = new_encoder()
    lora.attach(encoder, OWN, None, Slot())
    assert lora.penalty(encoder, OWN) is None


def test_the_library_reads_a_fusion_as_its_own(tmp_path: Path) -> None:
    import adapters

    method, encoder, folders = two_slots("pfeiffer", tmp_path)
    torch.manual_seed(3)
    train(encoder, method.attach(encoder, OWN, None, Fuse(parts=(A, B))).parameters)
    expected = output(encoder)
    method.save(encoder, OWN, tmp_path / "fusion", name="one,two")
    plain = new_encoder()
    adapters.init(plain)
    for folder, name in zip(folders, ("one", "two"), strict=True):
        plain.load_adapter(str(folder), load_as=name, use_safetensors=True)
    plain.load_adapter_fusion(str(tmp_path / "fusion"), use_safetensors=True)
    plain.set_active_adapters(adapters.composition.Fuse("one", "two"))
    plain.eval()
    assert torch.allclose(output(plain), expected, atol=1e-5)


# --- rows of one batch through different routes -----------------------------------------------------------------------


@pytest.mark.parametrize("case", ["pfeiffer", "pfeiffer-inv", "houlsby", "compacter", "lora", "lora-all"])
def test_rows_through_different_routes_are_each_what_they_are_alone(case: str, tmp_path: Path) -> None:
    """Tolerance 1e-5: matrix products over fewer rows may sum in another order."""
    method, encoder, _ = two_slots(case, tmp_path)
    routes: list[Route] = [A, Base(), B]
    rows = [(slice(i, i + 1), route) for i, route in enumerate(routes)]
    alone = []
    for i, route in enumerate(routes):
        method.activate(encoder, route)
        alone.append(output(encoder)[i])
    assert not torch.allclose(alone[0], output(encoder)[0], atol=1e-3)
    method.activate(encoder, Base(), rows)
    assert torch.allclose(output(encoder), torch.stack(alone), atol=1e-5)
    method.activate(encoder, A)
    assert torch.equal(output(encoder)[0], alone[0])


@pytest.mark.parametrize("case", ["pfeiffer", "lora"])
def test_rows_may_run_through_compositions(case: str, tmp_path: Path) -> None:
    method, encoder, _ = two_slots(case, tmp_path)
    method.attach(encoder, OWN, None, Fuse(parts=(A, B)))
    routes: list[Route] = [
        Average(parts=(A, B), weights=(0.5, 0.5)),
        Stack(parts=(A, B)),
        Fuse(parts=(A, B), by=Use(entry=OWN)),
    ]
    alone = []
    for i, route in enumerate(routes):
        method.activate(encoder, route)
        alone.append(output(encoder)[i])
    method.activate(encoder, Base(), [(slice(i, i + 1), route) for i, route in enumerate(routes)])
    assert torch.allclose(output(encoder), torch.stack(alone), atol=1e-5)


# --- refusals ---------------------------------------------------------------------------------------------------------

SIDE = Average(parts=(Use(entry="a"), Use(entry="b")), weights=(0.5, 0.5))
REFUSED: list[tuple[str, Any, Route, str]] = [
    ("full", Fresh(), SIDE, "cannot Average"),
    ("full", Fresh(), Fuse(parts=(A, B)), "cannot Fuse"),
    ("head", Fresh(), SIDE, "cannot Average"),
    ("head", WeightAverage(entries=BOTH, weights=(0.5, 0.5)), Slot(), "hold no weights of the encoder"),
    ("parallel", Fresh(), SIDE, "cannot Average architecture 'parallel'"),
    ("prefix", Fresh(), SIDE, "cannot Average architecture 'prefix'"),
    ("prefix", Fresh(), Stack(parts=(SIDE, Slot())), "cannot Average architecture 'prefix'"),
    ("dora", Fresh(), SIDE, "cannot Average"),
    ("dora", WeightAverage(entries=BOTH, weights=(0.5, 0.5)), Slot(), "there is no update to merge"),
    ("dora", Fresh(), Merged(merge=Arithmetic(entries=BOTH, weights=(1, 1))), "there is no update to merge"),
    ("pfeiffer", Ties(entries=BOTH, weights=(1, 1)), Slot(), "which no bottleneck entry keeps"),
    ("pfeiffer", Fresh(), Merged(merge=Dare(entries=BOTH, weights=(1, 1))), "which no bottleneck entry keeps"),
    ("lora", Fresh(), Average(parts=(Use(entry="a"), Slot()), weights=(0.5, 0.5)), "put the slot on top"),
    ("lora", Fresh(), Fuse(parts=(Use(entry="a"), Slot())), "cannot be one of its parts"),
    ("lora", Fresh(), Stack(parts=(Fuse(parts=(A, B)), Slot())), "own slot once only"),
    ("lora", Fresh(), Average(parts=(A, Base()), weights=(0.5, 0.5)), "Base cannot be part of an Average"),
]


@pytest.mark.parametrize(("case", "init", "route", "why"), REFUSED, ids=range(len(REFUSED)))
def test_a_method_says_what_it_cannot_compose(case: str, init: Any, route: Route, why: str) -> None:
    reason = method_of(case).supports(init, route)
    assert reason and why in reason


@pytest.mark.parametrize("case", ["lora", "pfeiffer", "houlsby", "compacter"])
def test_a_slot_on_an_average_is_all_that_trains(case: str, tmp_path: Path) -> None:
    method, encoder, _ = two_slots(case, tmp_path)
    route = Stack(parts=(Average(parts=(A, B), weights=(0.4, 0.6)), Slot()))
    assert method.supports(Fresh(), route) is None
    trainable = method.attach(encoder, OWN, None, route)
    start = snapshot(encoder)
    train(encoder, trainable.parameters)
    changed = {n for n, t in encoder.state_dict().items() if not torch.equal(t, start[n])}
    assert changed and all(OWN in name.split(".") for name in changed)


@pytest.mark.parametrize(
    ("route", "why"),
    [
        (Average(parts=(A, Use(entry="s009_")), weights=(0.5, 0.5)), "s009_.*resident"),
        (Fuse(parts=(A, B), by=Use(entry="s009_")), "s009_.*resident"),
    ],
)
@pytest.mark.parametrize("case", ["lora", "pfeiffer"])
def test_a_route_to_what_is_not_there_is_refused(case: str, route: Route, why: str, tmp_path: Path) -> None:
    method, encoder, _ = two_slots(case, tmp_path)
    with pytest.raises(ConfigError, match=why):
        method.activate(encoder, route)
    with pytest.raises(ConfigError, match=why):
        method.activate(encoder, Base(), [(slice(0, 1), A), (slice(1, 3), route)])


def test_an_invertible_slot_beside_another_and_prefixes_in_a_mixed_batch_are_refused(tmp_path: Path) -> None:
    method, encoder, _ = two_slots("pfeiffer-inv", tmp_path / "inv")
    with pytest.raises(ConfigError, match="first place only"):
        method.activate(encoder, Average(parts=(A, B), weights=(0.5, 0.5)))
    method, encoder, _ = two_slots("prefix", tmp_path / "prefix")
    with pytest.raises(ConfigError, match="cannot mix rows of architecture 'prefix'"):
        method.activate(encoder, Base(), [(slice(0, 1), A), (slice(1, 3), B)])


@pytest.mark.parametrize(
    ("name", "settings", "why"),
    [("lora", {"targets": ("key",)}, "adapt other maps"), ("bottleneck", {"reduction_factor": 8}, "other settings")],
)
def test_entries_that_do_not_fit_are_not_merged(name: str, settings: dict[str, Any], why: str) -> None:
    case = {"lora": "lora", "bottleneck": "pfeiffer"}[name]
    other = resolve(name, {**CASES[case][1], **settings})
    with pytest.raises(ConfigError, match=why):
        method_of(case).merged(WeightAverage(entries=BOTH, weights=(0.5, 0.5)), [method_of(case), other])


@pytest.mark.parametrize(
    ("given", "merged"),
    [
        ({"targets": ("query", "value")}, True),
        ({"layers": tuple(range(LAYERS))}, True),
        ({"layers": (0, 2)}, False),
        ({"targets": "all-linear"}, False),
    ],
    ids=str,
)
def test_loras_of_the_same_maps_are_merged_however_they_are_said(given: dict[str, Any], merged: bool) -> None:
    merge = WeightAverage(entries=BOTH, weights=(0.5, 0.5))
    for pair in ([{}, given], [given, {}]):
        first, other = (resolve("lora", one) for one in pair)
        if merged:
            settings = {**dataclasses.asdict(first), "r": 16, "alpha": 16.0}
            assert first.merged(merge, [first, other]) == resolve("lora", settings)
        else:
            with pytest.raises(ConfigError, match=r"adapt other maps \(.*default targets in all layers"):
                first.merged(merge, [first, other])


def test_switching_touches_no_parameter_and_no_mode(tmp_path: Path) -> None:
    for case in ("lora", "pfeiffer"):
        method, encoder, _ = two_slots(case, tmp_path / case)
        trainable = method.attach(encoder, OWN, None, Stack(parts=(A, Slot())))
        asking = {n for n, p in encoder.named_parameters() if p.requires_grad}
        for route in (A, Base(), Average(parts=(A, B), weights=(0.5, 0.5)), Use(entry=OWN)):
            method.activate(encoder, route)
            assert {n for n, p in encoder.named_parameters() if p.requires_grad} == asking == trainable.parameters
            assert not any(module.training for module in encoder.modules())
    assert inputs()["input_ids"].shape == (3, 9)
