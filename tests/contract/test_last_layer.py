"""Where a head reads the first token alone, the last layer computes that token alone, and nothing else comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from tiny_families import FAMILIES, write_family
from torch import Tensor
from worlds import CASES, HIDDEN, NLI, TAGS, TOPIC, a_batch, a_run, fit, method_of, train_entry

from adapters_xling.methods.slots import slot_name
from adapters_xling.model import Model, backbone_id, build, load_backbone
from adapters_xling.model.mixed import Segment, forward_mixed
from adapters_xling.model.shared import Shared
from adapters_xling.spec import Slot, Stack, TaskSpec, Use
from adapters_xling.tasks import kinds
from adapters_xling.zoo import Zoo

SLOTS = [case for case in CASES if case != "head"]


class Widths:
    """Tokens that the last layer's feed-forward block got, call by call."""

    def __init__(self, model: Model) -> None:
        self.seen: list[int] = []
        block = model.encoder.get_submodule(model.family.layers)[-1]
        block.intermediate.dense.register_forward_hook(lambda module, given, _: self.seen.append(given[0].shape[1]))


def gradients(model: Model, task: TaskSpec, *, whole: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and gradients of a step without dropout, from the first token's path or from every token's."""
    kind, batch = kinds.get(task.kind), a_batch(model, task)
    model.eval()
    model.zero_grad()
    if whole:
        logits = kind.shape_logits(model.read(model.encode(batch, layer=model.layer_for(task)), batch, task), batch)
    else:
        logits = model(batch, task)
    kind.loss(logits, batch).backward()
    return logits.detach(), {
        name: p.grad.clone() for name, p in model.trainable_parameters().items() if p.grad is not None
    }


def same_both_ways(model: Model, task: TaskSpec) -> None:
    (ours, ours_by_name), (theirs, theirs_by_name) = (gradients(model, task, whole=whole) for whole in (False, True))
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert set(ours_by_name) == set(theirs_by_name)
    for name, gradient in theirs_by_name.items():
        assert torch.allclose(ours_by_name[name], gradient, atol=1e-6), name


@pytest.mark.parametrize("case", SLOTS)
def test_logits_and_gradients_are_those_of_the_whole_layer(case: str, backbone_folder: Path, tmp_path: Path) -> None:
    model = build(a_run(case, backbone_folder), zoo=Zoo(tmp_path, fallbacks=()), tasks=[NLI])
    fit(model, NLI, steps=2)
    widths = Widths(model)
    model(a_batch(model, NLI), NLI)
    tokens = a_batch(model, NLI)["input_ids"].shape[1]
    assert widths.seen == [tokens if case == "prefix" else 1]
    same_both_ways(model, NLI)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_in_every_family_and_kernel(family: str, attention: str, tmp_path: Path) -> None:
    folder = write_family(family, tmp_path / "backbone")
    model = Model(load_backbone(backbone_id(str(folder)), attention=attention), method_of("pfeiffer"))
    model.trainable = model.method.attach(model.encoder, slot_name(0), None, Slot())
    model.add_head(NLI)
    widths = Widths(model)
    same_both_ways(model, NLI)
    assert widths.seen[0] == 1 < widths.seen[1]
    assert model.encoder.config._attn_implementation == attention and model.family.name == family


@pytest.mark.parametrize("case", ["pfeiffer", "lora"])
def test_in_a_stack_beside_others_and_in_a_mixed_batch(case: str, backbone_folder: Path, tmp_path: Path) -> None:
    zoo = Zoo(tmp_path / "zoo", fallbacks=())
    below, _ = train_entry(a_run(case, backbone_folder), zoo)
    route = Stack(parts=(Use(entry=below.key), Slot()))
    model = build(a_run(case, backbone_folder, route=route, task=TOPIC), zoo=zoo, tasks=[TOPIC])
    fit(model, TOPIC)
    widths = Widths(model)
    same_both_ways(model, TOPIC)
    assert widths.seen[0] == 1
    batch = a_batch(model, TOPIC)
    assert torch.allclose(Shared.of(batch, TOPIC, [model]).logits(model, TOPIC), model(batch, TOPIC), atol=1e-6)
    assert widths.seen[-2:] == [1, 1]


def test_a_mixed_batch_reads_first_tokens_only_where_every_segment_does(backbone_folder: Path, tmp_path: Path) -> None:
    from adapters_xling.model import open_entry

    zoo = Zoo(tmp_path / "zoo", fallbacks=())
    pairs, _ = train_entry(a_run("lora", backbone_folder), zoo)
    topic, _ = train_entry(a_run("lora", backbone_folder, task=TOPIC, seed=1), zoo, TOPIC)
    tags, _ = train_entry(a_run("lora", backbone_folder, task=TAGS, seed=2), zoo, TAGS)
    first = open_entry(pairs.key, zoo=zoo)
    others = [open_entry(entry.key, zoo=zoo, beside=first) for entry in (topic, tags)]
    models = dict(zip((NLI.name, TOPIC.name, TAGS.name), (first, *others), strict=True))
    widths = Widths(first)

    @torch.no_grad()
    def mixed(*named: TaskSpec) -> list[Tensor]:
        return forward_mixed([Segment(models[t.name], t, a_batch(models[t.name], t)) for t in named])

    alone = {t.name: models[t.name](a_batch(models[t.name], t), t) for t in (NLI, TOPIC, TAGS)}
    del widths.seen[:]
    for named in ((NLI, TOPIC), (NLI, TAGS)):
        for task, found in zip(named, mixed(*named), strict=True):
            assert torch.allclose(found, alone[task.name], atol=1e-6)
    assert widths.seen[0] == 1 < widths.seen[1]


def test_means_and_frozen_encoders_are_read_as_before(backbone_folder: Path, tmp_path: Path) -> None:
    zoo = Zoo(tmp_path, fallbacks=())
    mean = build(a_run("lora", backbone_folder, pooling="mean"), zoo=zoo, tasks=[NLI])
    widths = Widths(mean)
    same_both_ways(mean, NLI)
    assert min(widths.seen) > 1
    bottom = msgspec.structs.replace(a_run("head", backbone_folder), method=method_of("head").spec())
    head = build(bottom, zoo=zoo, tasks=[NLI])
    batch: Any = a_batch(head, NLI)
    assert head.encode(batch, layer=0, first_token=True).shape == (len(batch["input_ids"]), 1, HIDDEN)
    assert torch.equal(head(batch, NLI), head.read(head.encode(batch), batch, NLI))
