"""Compiled passes: one graph for any number of entries, the outputs of uncompiled ones, and no silent way out.

Graphs are counted with torch's `eager` backend, which traces and guards as any other and generates no code; two tests
use the product's own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._inductor.config
from tiny import tiny_encoder, tiny_tokenizer
from torch import Tensor
from worlds import NLI, ROWS, SLOTTED, a_batch, a_run, method_of, train_entry

from adapters_xling import api
from adapters_xling.errors import ConfigError
from adapters_xling.inference import Job, predict_together
from adapters_xling.methods import Method, resolve
from adapters_xling.methods.slots import family_of, slot_name
from adapters_xling.model import compiled, open_entry
from adapters_xling.model.compiled import Compiled
from adapters_xling.spec import Average, Base, Route, Slot, Stack, Use
from adapters_xling.zoo import Zoo

CLOSE = 1e-5
"""Largest difference from uncompiled passes, in float32."""
MANY = 20
LAYERS = 2


@pytest.fixture(autouse=True)
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """No graph of another test, and the quick backend."""
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    monkeypatch.setattr(compiled, "_GRAPHS", {})
    yield compiled._GRAPHS


def count(graphs: dict[str, Any]) -> int:
    return sum(graph.num_compiled for graph in graphs.values())


def new_encoder() -> Any:
    return tiny_encoder(len(tiny_tokenizer()), layers=LAYERS).requires_grad_(False)


def use(number: int) -> Use:
    return Use(entry=slot_name(number))


class Residents:
    """An encoder with slots of random weights, and both ways through it."""

    def __init__(self, *methods: Method) -> None:
        self.encoder, self.method, self.number = new_encoder(), methods[0], 0
        for method in methods:
            self.add(method)
        self.compiled = Compiled(self.encoder, family_of(self.encoder), self.method)

    def add(self, method: Method) -> None:
        slot, draw = slot_name(self.number), torch.Generator().manual_seed(self.number)
        method.attach(self.encoder, slot, None, Slot())
        for name, parameter in self.encoder.named_parameters():
            if slot in name.split("."):
                parameter.data.normal_(0.0, 0.1, generator=draw)
        self.encoder.eval().requires_grad_(False)
        self.number += 1

    @torch.no_grad()
    def plain(self, route: Route, inputs: dict[str, Tensor]) -> Tensor:
        self.method.activate(self.encoder, route)
        found = self.encoder(**inputs).last_hidden_state
        self.method.activate(self.encoder, Base())
        return found

    def both(self, route: Route, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return self.plain(route, inputs), self.compiled(inputs, route, start=0, hidden=None, stop=LAYERS)

    def both_mixed(self, rows: list[tuple[slice, Route]], inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        plain = [self.plain(route, {name: tensor[part] for name, tensor in inputs.items()}) for part, route in rows]
        return torch.cat(plain), self.compiled.by_rows(inputs, rows, stop=LAYERS)


def rows_of(count: int, width: int, *, seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    ids_NT = torch.randint(4, 40, (count, width), generator=draw)
    mask_NT = torch.ones_like(ids_NT)
    ids_NT[:, 0] = 0
    ids_NT[-1, width // 2 + 1 :], mask_NT[-1, width // 2 + 1 :] = 1, 0
    return {"input_ids": ids_NT, "attention_mask": mask_NT}


def assert_close(pair: tuple[Tensor, Tensor], inputs: dict[str, Tensor]) -> None:
    """Equal where there are tokens; what stands behind a row's end is nobody's."""
    here = inputs["attention_mask"].bool()
    torch.testing.assert_close(pair[0][here], pair[1][here], rtol=CLOSE, atol=CLOSE)


@pytest.mark.parametrize("case", ["pfeiffer", "lora"])
def test_twenty_entries_in_turn_need_the_graph_of_one(case: str, graphs: dict[str, Any]) -> None:
    world, seen = Residents(*[method_of(case)] * MANY), []
    inputs = rows_of(3, 9)
    for number in range(MANY):
        pair = world.both(use(number), inputs)
        assert_close(pair, inputs)
        seen.append(pair[1])
        assert count(graphs) == 1
    assert all(not torch.allclose(a, b, atol=1e-3) for a, b in itertools.pairwise(seen))


@pytest.mark.parametrize("case", ["pfeiffer", "lora"])
def test_an_entry_that_comes_later_needs_no_graph(case: str, graphs: dict[str, Any]) -> None:
    world, inputs = Residents(method_of(case)), rows_of(3, 9)
    for number in range(3):
        if number:
            world.add(method_of(case))
        assert_close(world.both(use(number), inputs), inputs)
    world.add(resolve("lora", {"targets": "all-linear"}) if case == "lora" else method_of("houlsby"))
    assert_close(world.both(use(0), inputs), inputs)
    assert count(graphs) == 1
    fresh = Compiled(world.encoder, family_of(world.encoder), world.method)
    fresh(inputs, use(1), start=0, hidden=None, stop=LAYERS)
    assert count(graphs) == 1


@pytest.mark.parametrize("case", [c for c in SLOTTED if c not in ("pfeiffer", "lora", "pfeiffer-top", "lora-top")])
def test_every_kind_of_slot_has_one_graph_for_all_its_entries(case: str, graphs: dict[str, Any]) -> None:
    world = Residents(*[method_of(case)] * 3)
    for number in range(3):
        inputs = rows_of(3, 9, seed=number)
        assert_close(world.both(use(number), inputs), inputs)
    assert count(graphs) == 1


@pytest.mark.parametrize("case", ["pfeiffer", "lora"])
def test_rows_of_many_entries_in_one_batch_need_one_graph(case: str, graphs: dict[str, Any]) -> None:
    world = Residents(*[method_of(case)] * MANY)
    batches = [list(range(MANY)), [3, 5], [7, 0, 19, 4, 0], [2, 11, 2]]
    for width, numbers in enumerate(batches, start=7):
        starts = [0]
        for number in numbers:
            starts.append(starts[-1] + 1 + number % 3)
        rows: list[tuple[slice, Route]] = [
            (slice(a, b), use(number)) for (a, b), number in zip(itertools.pairwise(starts), numbers, strict=True)
        ]
        inputs = rows_of(starts[-1], width, seed=width)
        assert_close(world.both_mixed(rows, inputs), inputs)
    assert count(graphs) == 1


def test_slots_of_other_sizes_share_a_batch_and_its_graph(graphs: dict[str, Any]) -> None:
    world = Residents(*(resolve("lora", {"r": r, "alpha": a}) for r, a in ((2, 4.0), (8, 8.0), (3, 1.0))))
    rows: list[tuple[slice, Route]] = [(slice(i, i + 1), use(i)) for i in range(3)]
    inputs = rows_of(3, 9)
    assert_close(world.both_mixed(rows, inputs), inputs)
    assert count(graphs) == 1


def test_entries_of_any_rank_need_one_graph_more_at_most(graphs: dict[str, Any]) -> None:
    world = Residents(*(resolve("lora", {"r": r}) for r in (2, 8, 3, 5, 16, 4)))
    for number in range(6):
        inputs = rows_of(3, 9)
        assert_close(world.both(use(number), inputs), inputs)
    assert count(graphs) == 2


def test_rows_and_widths_need_two_graphs(graphs: dict[str, Any]) -> None:
    """One for several rows, one for a row alone, as docs/speed.md says."""
    world = Residents(method_of("lora"), method_of("lora"))
    for number, (rows, width) in enumerate(((3, 9), (7, 9), (2, 30), (64, 5), (1, 9), (1, 17), (5, 2))):
        inputs = rows_of(rows, width)
        assert_close(world.both(use(number % 2), inputs), inputs)
    assert count(graphs) == 2


@pytest.mark.parametrize("case", ["pfeiffer", "lora"])
def test_a_composition_has_a_graph_for_all_entries_in_it(case: str, graphs: dict[str, Any]) -> None:
    world, inputs = Residents(*[method_of(case)] * 4), rows_of(3, 9)
    for a, b in ((0, 1), (2, 3), (3, 0)):
        assert_close(world.both(Stack(parts=(use(a), use(b))), inputs), inputs)
    assert count(graphs) == 1
    for a, b in ((0, 1), (2, 3)):
        assert_close(world.both(Average(parts=(use(a), use(b)), weights=(0.25, 0.75)), inputs), inputs)
    assert count(graphs) == 2


def test_rows_of_unlike_form_are_each_computed_as_they_are_alone(graphs: dict[str, Any]) -> None:
    plain, dora = method_of("lora"), resolve("lora", {"r": 2, "dora": True})
    world, inputs = Residents(plain, plain, dora), rows_of(7, 9)
    rows: list[tuple[slice, Route]] = [
        (slice(0, 2), use(0)),
        (slice(2, 3), use(2)),
        (slice(3, 5), Stack(parts=(use(0), use(1)))),
        (slice(5, 7), use(1)),
    ]
    assert_close(world.both_mixed(rows, inputs), inputs)


def test_a_hidden_state_on_the_way_is_a_start_and_an_end(graphs: dict[str, Any]) -> None:
    world, inputs = Residents(method_of("pfeiffer"), method_of("pfeiffer")), rows_of(3, 9)
    for number in range(2):
        whole = world.plain(use(number), inputs)
        below = world.compiled(inputs, use(number), start=0, hidden=None, stop=1)
        assert_close((whole, world.compiled(inputs, use(number), start=1, hidden=below, stop=LAYERS)), inputs)
    assert count(graphs) == 2


def test_fully_fine_tuned_encoders_share_a_graph(graphs: dict[str, Any]) -> None:
    inputs, seen = rows_of(3, 9), []
    for seed in range(3):
        encoder, method = new_encoder(), resolve("full")
        for parameter in encoder.parameters():
            parameter.data += 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            plain = encoder(**inputs).last_hidden_state
        found = Compiled(encoder, family_of(encoder), method)(inputs, use(1), start=0, hidden=None, stop=LAYERS)
        assert_close((plain, found), inputs)
        seen.append(found)
    assert count(graphs) == 1
    assert not torch.allclose(seen[0], seen[1], atol=1e-3)


def test_a_graph_holds_no_weights() -> None:
    world = Residents(method_of("lora"))
    world.both(use(0), rows_of(2, 5))
    (graph,) = compiled._GRAPHS.values()
    assert {tensor.device.type for tensor in graph._pass.state_dict().values()} == {"meta"}


# --- no silent way out --------------------------------------------------------------------------------------------


def test_torchs_limit_is_an_error() -> None:
    world = Residents(method_of("lora"))
    with torch._dynamo.config.patch(recompile_limit=1):
        world.both(use(0), rows_of(3, 9))
        with pytest.raises(ConfigError, match=r"recompile_limit.*leave --compile out"):
            world.both(use(0), rows_of(1, 9))


def test_a_process_where_compiling_is_switched_off_is_an_error() -> None:
    with torch._dynamo.config.patch(disable=True), pytest.raises(ConfigError, match="TORCHDYNAMO_DISABLE"):
        Residents(method_of("lora")).both(use(0), rows_of(2, 5))


def test_no_compiler_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "BACKEND", "inductor")
    nowhere = torch._inductor.config.patch({"cpp.cxx": ("/nowhere/g++",), "force_disable_caches": True})
    with nowhere, pytest.raises(ConfigError, match=r"no C\+\+ compiler.*apt install g\+\+"):
        Residents(method_of("lora")).both(use(0), rows_of(2, 5))


def test_what_torch_cannot_trace_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def untraceable(*_: Any, **__: Any) -> Tensor:
        torch._dynamo.graph_break()
        raise AssertionError

    monkeypatch.setattr(compiled, "run_layers", untraceable)
    with pytest.raises(ConfigError, match=r"cannot compile .* Leave --compile out"):
        Residents(method_of("lora")).both(use(0), rows_of(2, 5))


def test_a_model_in_training_is_refused(backbone_folder: Path, tmp_path: Path) -> None:
    from adapters_xling.model import build

    model = build(a_run("lora", backbone_folder), zoo=Zoo(tmp_path, fallbacks=()), tasks=[NLI])
    with pytest.raises(ConfigError, match="inference only"):
        model.compile_passes()


# --- as the product does it ---------------------------------------------------------------------------------------


def test_opened_entries_answer_as_they_do_uncompiled(
    backbone_folder: Path, tmp_path: Path, graphs: dict[str, Any]
) -> None:
    zoo = Zoo(tmp_path, fallbacks=())
    entries = [train_entry(a_run("pfeiffer", backbone_folder, seed=seed), zoo)[0] for seed in range(3)]

    def opened(*, compile_passes: bool) -> list[Any]:
        models: list[Any] = []
        for entry in entries:
            models.append(open_entry(entry.key, zoo=zoo, beside=models[0] if models else None))
            if compile_passes:
                models[-1].compile_passes(models[0])
        return models

    plain, quick = opened(compile_passes=False), opened(compile_passes=True)
    for a, b in zip(plain, quick, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(a(a_batch(a, NLI), NLI), b(a_batch(b, NLI), NLI), rtol=CLOSE, atol=CLOSE)
    assert count(graphs) == 1
    assert len({id(model.compiled) for model in quick}) == 1

    def together(models: list[Any]) -> list[Any]:
        jobs = [Job(model=model, task=NLI, examples=ROWS[NLI.name], max_length=32) for model in models]
        return [dict(one.detail)["probabilities"] for found in predict_together(jobs) for one in found]

    for a, b in zip(together(plain), together(quick), strict=True):
        assert a == pytest.approx(b, abs=CLOSE)


def test_shipped_entries_answer_through_the_products_own_backend(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, graphs: dict[str, Any]
) -> None:
    monkeypatch.setattr(compiled, "BACKEND", "inductor")
    requests = [
        ("mini-nli-bottleneck", ["Anna sleeps .", "Tom sleeps ."]),
        ("mini-pos-bottleneck", ["Anna sleeps ."]),
        ("mini-nli-bottleneck", ["Tom buys a hat .", "Anna sleeps ."]),
    ]
    answers = {
        on: api.predict_requests(requests, settings=api.Settings(runs=tmp_path, compile=on)) for on in (False, True)
    }
    assert count(graphs) == 1
    for plain, quick in zip(answers[False], answers[True], strict=True):
        assert plain.value == quick.value
        a, b = (dict(one.detail)["probabilities"] for one in (plain, quick))
        if isinstance(a, dict):
            a, b = list(a.values()), list(b.values())
        assert a == pytest.approx(b, abs=CLOSE)
    assert api.compile_use().startswith("torch.compile: 1 graph in ")


def test_evaluation_takes_entries_of_a_method_through_one_graph(tmp_path: Path, graphs: dict[str, Any]) -> None:
    """Scores of compiled passes stand where uncompiled ones would, in full precision."""
    how: dict[str, Any] = {"languages": ["de", "sw"], "limit": 6}
    found = {
        on: api.evaluate(
            "mini-nli-bottleneck", "mini-nli", settings=api.Settings(runs=tmp_path / str(on), compile=on), **how
        )
        for on in (False, True)
    }
    assert [(s.language, s.value) for s in found[False]] == [(s.language, s.value) for s in found[True]]
    assert 1 <= count(graphs) <= 2
    made = count(graphs)
    again = api.evaluate(
        "mini-nli-bottleneck", "mini-nli", settings=api.Settings(runs=tmp_path / "False", compile=True), **how
    )
    assert again == found[False]
    assert count(graphs) == made
