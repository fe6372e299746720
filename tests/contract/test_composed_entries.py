"""Compositions of entries through a real zoo: started from, stood on, fused, kept, opened, together in one batch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from test_model import above
from torch import Tensor
from worlds import NLI, NLI_ROWS, TAGS, TOPIC, a_batch, a_run, fit, inputs, logits, publish, train_entry

from adapters_xling import api
from adapters_xling.composition import describe
from adapters_xling.errors import ConfigError, ZooError
from adapters_xling.methods import resolve
from adapters_xling.model import bare, build, keep_merge, open_entry
from adapters_xling.model.mixed import Segment, forward_mixed
from adapters_xling.spec import (
    Alone,
    Arithmetic,
    Average,
    Base,
    Fuse,
    Merge,
    Merged,
    Route,
    Slot,
    Stack,
    Ties,
    Use,
    WeightAverage,
    key,
)
from adapters_xling.zoo import Zoo


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "zoo", fallbacks=())


@torch.no_grad()
def vectors(name: str, zoo: Zoo, route: Route | None = None) -> Tensor:
    return open_entry(name, zoo=zoo, route=route).encode(inputs())


def two_entries(case: str, backbone: Path, zoo: Zoo, task: Any = NLI) -> tuple[str, str]:
    return tuple(train_entry(a_run(case, backbone, task=task, seed=seed), zoo, task)[0].key for seed in (0, 1))  # type: ignore[return-value]


def half(a: str, b: str) -> WeightAverage:
    return WeightAverage(entries=(a, b), weights=(0.5, 0.5))


# --- merges ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["full", "pfeiffer", "lora"])
def test_a_kept_merge_is_an_entry_that_computes_what_the_merge_in_memory_does(
    case: str, backbone_folder: Path, zoo: Zoo
) -> None:
    a, b = two_entries(case, backbone_folder, zoo)
    merge = half(a, b)
    entry = keep_merge(merge, zoo=zoo, backbone=backbone_folder)
    run = entry.card.run
    assert run.parents == (a, b) and run.made_by == "merging" and run.seed == 0
    assert entry.card.training is None and entry.card.num_trainable == 0 and entry.card.probe is not None
    assert entry.key.startswith(f"tiny-nli-{run.method.name}-average-")
    assert "heads and pooler averaged" in entry.card.notes and describe(merge) in entry.card.notes
    alone = vectors(entry.key, zoo)
    assert torch.allclose(alone, vectors(a, zoo, Merged(merge=merge)), atol=1e-6)
    assert not torch.allclose(alone, vectors(a, zoo), atol=1e-4)
    assert keep_merge(merge, zoo=zoo, backbone=backbone_folder).key == entry.key
    heads = [zoo.get(name).folder / "heads.safetensors" for name in (a, b, entry.key)]
    from safetensors.torch import load_file

    one, two, both = map(load_file, heads)
    assert all(torch.allclose(both[name], (one[name] + two[name]) / 2, atol=1e-6) for name in both)


def test_a_kept_lora_merge_is_the_average_of_every_pass_to_rounding(backbone_folder: Path, zoo: Zoo) -> None:
    a, b = two_entries("lora", backbone_folder, zoo)
    entry = keep_merge(half(a, b), zoo=zoo, backbone=backbone_folder)
    assert entry.card.run.method.settings["r"] == 8 and "exact: rank 8" in entry.card.notes
    side_by_side = Average(parts=(Use(entry=a), Use(entry=b)), weights=(0.5, 0.5))
    assert torch.allclose(vectors(entry.key, zoo), vectors(a, zoo, side_by_side), atol=1e-5)


def test_a_merge_of_tasks_has_the_first_ones_heads_and_both_in_its_name(backbone_folder: Path, zoo: Zoo) -> None:
    a = train_entry(a_run("lora", backbone_folder), zoo)[0].key
    b = train_entry(a_run("lora", backbone_folder, task=TAGS), zoo, TAGS)[0].key
    entry = keep_merge(Arithmetic(entries=(a, b), weights=(1.0, -0.5)), zoo=zoo, backbone=backbone_folder)
    assert set(entry.card.heads) == {"tiny-nli"} and f"heads and pooler of {a}" in entry.card.notes
    assert entry.card.run.task == "tiny-nli+tiny-tags" and "-arithmetic-" in entry.key
    assert torch.isfinite(logits(open_entry(entry.key, zoo=zoo), NLI)).all()


def test_a_lossy_merge_says_how_lossy(backbone_folder: Path, zoo: Zoo) -> None:
    a, b = two_entries("lora", backbone_folder, zoo)
    entry = keep_merge(Ties(entries=(a, b), weights=(1.0, 1.0)), zoo=zoo, backbone=backbone_folder)
    assert "relative error 0." in entry.card.notes


@pytest.mark.parametrize("case", ["full", "pfeiffer", "lora"])
def test_a_run_that_starts_from_a_merge_computes_it_before_training(case: str, backbone_folder: Path, zoo: Zoo) -> None:
    a, b = two_entries(case, backbone_folder, zoo)
    kept = keep_merge(half(a, b), zoo=zoo, backbone=backbone_folder)
    run = a_run(case, backbone_folder, init=half(a, b), seed=4, carry="head")
    run = msgspec.structs.replace(run, method=kept.card.run.method)
    model = build(run, zoo=zoo, tasks=[NLI])
    assert torch.equal(logits(model, NLI), logits(open_entry(kept.key, zoo=zoo), NLI))
    assert run.parents == (a, b)
    fit(model, NLI)
    child = publish(model, run, zoo, NLI)
    assert torch.equal(logits(open_entry(child.key, zoo=zoo), NLI), logits(model, NLI))
    assert child.key != kept.key


def test_the_settings_a_merge_needs_are_named(backbone_folder: Path, zoo: Zoo) -> None:
    a, b = two_entries("lora", backbone_folder, zoo)
    with pytest.raises(ConfigError, match=r"r 8 there, 4 here"):
        build(a_run("lora", backbone_folder, init=half(a, b)), zoo=zoo, tasks=[NLI])


@pytest.mark.parametrize(
    ("other", "why"), [("pfeiffer", "of methods bottleneck and lora"), ("lora-top", "adapt other maps")]
)
def test_entries_that_do_not_fit_are_not_merged(other: str, why: str, backbone_folder: Path, zoo: Zoo) -> None:
    a = train_entry(a_run("lora", backbone_folder), zoo)[0].key
    b = train_entry(a_run(other, backbone_folder), zoo)[0].key
    with pytest.raises(ConfigError, match=why):
        keep_merge(half(a, b), zoo=zoo, backbone=backbone_folder)


def test_entries_on_different_ground_are_not_merged(backbone_folder: Path, zoo: Zoo) -> None:
    a, b = two_entries("lora", backbone_folder, zoo)
    child = train_entry(a_run("lora", backbone_folder, route=above(a), seed=2), zoo)[0].key
    with pytest.raises(ConfigError, match="stand on the same"):
        keep_merge(half(b, child), zoo=zoo, backbone=backbone_folder)


def test_entries_on_the_same_ground_are_merged_above_it(backbone_folder: Path, zoo: Zoo) -> None:
    ground = train_entry(a_run("lora", backbone_folder), zoo)[0].key
    a, b = (train_entry(a_run("lora", backbone_folder, route=above(ground), seed=s), zoo)[0].key for s in (1, 2))
    entry = keep_merge(half(a, b), zoo=zoo, backbone=backbone_folder)
    assert entry.card.run.route == above(ground) and entry.card.parents == (a, b, ground)
    beside = Average(parts=(Use(entry=a), Use(entry=b)), weights=(0.5, 0.5))
    assert torch.allclose(vectors(entry.key, zoo), vectors(a, zoo, beside), atol=1e-5)


def test_a_damaged_part_of_a_merge_is_refused(backbone_folder: Path, zoo: Zoo) -> None:
    a, b = two_entries("lora", backbone_folder, zoo)
    path = next((zoo.get(b).folder / "encoder").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-4] + b"\0\1\2\3")
    with pytest.raises(ZooError, match=r"sha256|expected"):
        keep_merge(half(a, b), zoo=zoo, backbone=backbone_folder)


# --- routes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["pfeiffer", "lora"])
def test_a_run_on_an_average_leaves_it_alone_and_reopens(case: str, backbone_folder: Path, zoo: Zoo) -> None:
    a, b = two_entries(case, backbone_folder, zoo)
    average = Average(parts=(Use(entry=a), Use(entry=b)), weights=(0.7, 0.3))
    run = a_run(case, backbone_folder, task=TOPIC, route=Stack(parts=(average, Slot())), seed=2)
    assert run.parents == (a, b)
    model = build(run, zoo=zoo, tasks=[TOPIC])
    fit(model, TOPIC)
    child = publish(model, run, zoo, TOPIC)
    assert torch.equal(logits(open_entry(child.key, zoo=zoo), TOPIC), logits(model, TOPIC))
    if case == "lora":  # a fresh LoRA adds nothing
        fresh = build(run, zoo=zoo, tasks=[TOPIC])
        with torch.no_grad():
            assert torch.equal(fresh.encode(inputs()), vectors(a, zoo, average))


@pytest.mark.parametrize("case", ["pfeiffer", "lora"])
def test_a_fusion_is_an_entry_like_any_other(case: str, backbone_folder: Path, zoo: Zoo) -> None:
    a, b = two_entries(case, backbone_folder, zoo)
    run = a_run(case, backbone_folder, task=TOPIC, route=Fuse(parts=(Use(entry=a), Use(entry=b))), seed=2)
    model = build(run, zoo=zoo, tasks=[TOPIC])
    asking = {name for name in model.trainable_parameters() if name.startswith("encoder.")}
    assert asking and all("s000_" in name.split(".") for name in asking)
    assert (model.penalty() is not None) is (case == "pfeiffer")
    fit(model, TOPIC)
    entry = publish(model, run, zoo, TOPIC)
    expected = logits(model, TOPIC)
    assert entry.card.parents == (a, b)
    assert torch.equal(logits(open_entry(entry.key, zoo=zoo), TOPIC), expected)
    on_top = build(
        a_run(case, backbone_folder, task=NLI, route=above(entry.key), seed=3), zoo=zoo, tasks=[NLI]
    )  # stood on in turn
    fit(on_top, NLI)
    child = publish(on_top, a_run(case, backbone_folder, task=NLI, route=above(entry.key), seed=3), zoo, NLI)
    assert torch.equal(logits(open_entry(child.key, zoo=zoo), NLI), logits(on_top, NLI))
    with pytest.raises(ConfigError, match="nothing without its parts"):
        open_entry(entry.key, zoo=zoo, route=Alone(entry=entry.key))
    with pytest.raises(ConfigError, match="nothing without its parts"):
        keep_merge(half(entry.key, a), zoo=zoo, backbone=backbone_folder)


def test_a_fusion_is_trained_before_it_is_used(backbone_folder: Path, zoo: Zoo) -> None:
    a, b = two_entries("lora", backbone_folder, zoo)
    with pytest.raises(ConfigError, match="has to be trained before"):
        open_entry(a, zoo=zoo, route=Fuse(parts=(Use(entry=a), Use(entry=b))))


@pytest.mark.parametrize("case", ["pfeiffer", "pfeiffer-inv", "lora"])
def test_what_lies_under_an_entry_can_be_swapped(case: str, backbone_folder: Path, zoo: Zoo) -> None:
    """A language adapter below a task adapter, another language's when that is evaluated (MAD-X)."""
    task_case = "pfeiffer" if case == "pfeiffer-inv" else case
    english, other = two_entries(case, backbone_folder, zoo)
    run = a_run(task_case, backbone_folder, task=TOPIC, route=above(english), seed=2)
    model = build(run, zoo=zoo, tasks=[TOPIC])
    fit(model, TOPIC)
    task = publish(model, run, zoo, TOPIC)
    own = Alone(entry=task.key)
    same = Stack(parts=(Use(entry=english), own))
    assert torch.equal(logits(open_entry(task.key, zoo=zoo, route=same), TOPIC), logits(model, TOPIC))
    swapped = open_entry(task.key, zoo=zoo, route=Stack(parts=(Use(entry=other), own)))
    assert not torch.allclose(logits(swapped, TOPIC), logits(model, TOPIC), atol=1e-4)


def test_a_route_without_the_entry_needs_none_of_its_weights(backbone_folder: Path, zoo: Zoo) -> None:
    a, b = two_entries("pfeiffer", backbone_folder, zoo)
    assert torch.equal(vectors(a, zoo, Use(entry=b)), vectors(b, zoo))
    with torch.no_grad():
        assert torch.equal(vectors(a, zoo, Base()), bare(str(backbone_folder)).encode(inputs()))


# --- several entries in one encoder -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["pfeiffer", "lora"])
def test_entries_beside_each_other_answer_as_they_do_alone(case: str, backbone_folder: Path, zoo: Zoo) -> None:
    """Heads of one name stay apart; each model switches the encoder to its own route by itself."""
    a, b = two_entries(case, backbone_folder, zoo)
    c = train_entry(a_run(case, backbone_folder, task=TAGS, seed=3), zoo, TAGS)[0].key
    tasks = {a: NLI, b: NLI, c: TAGS}
    alone = {name: logits(open_entry(name, zoo=zoo), task) for name, task in tasks.items()}
    first = open_entry(a, zoo=zoo)
    models = {a: first, **{name: open_entry(name, zoo=zoo, beside=first) for name in (b, c)}}
    for name in (a, c, b, a, b):
        assert torch.equal(logits(models[name], tasks[name]), alone[name])
    assert models[b].encoder is first.encoder and models[b].heads is not first.heads


@pytest.mark.parametrize("case", ["pfeiffer", "lora"])
def test_a_mixed_batch_gives_what_one_by_one_gives(case: str, backbone_folder: Path, zoo: Zoo) -> None:
    """Rows of different lengths, tasks and kinds of head. Tolerance 1e-5 for sums in another order."""
    a, b = two_entries(case, backbone_folder, zoo)
    c = train_entry(a_run(case, backbone_folder, task=TAGS, seed=3), zoo, TAGS)[0].key
    first = open_entry(a, zoo=zoo)
    route = Average(parts=(Use(entry=a), Use(entry=b)), weights=(0.5, 0.5))
    models = [
        (first, NLI),
        (open_entry(c, zoo=zoo, beside=first), TAGS),
        (open_entry(b, zoo=zoo, beside=first), NLI),
        (open_entry(a, zoo=zoo, beside=first, route=route), NLI),
    ]
    segments = [Segment(model, task, a_batch(model, task)) for model, task in models]
    assert len({one.batch["input_ids"].shape for one in segments}) > 1
    with torch.no_grad():
        mixed = forward_mixed(segments)
        for found, (model, task) in zip(mixed, models, strict=True):
            expected = logits(model, task)
            assert found.shape == expected.shape
            real = a_batch(model, task)["attention_mask"].bool() if task is TAGS else slice(None)
            assert torch.allclose(found[real], expected[real], atol=1e-5)
    assert not torch.allclose(mixed[0], mixed[2], atol=1e-4)


def test_what_cannot_be_mixed_is_refused(backbone_folder: Path, zoo: Zoo) -> None:
    a, b = two_entries("lora", backbone_folder, zoo)
    apart = [open_entry(name, zoo=zoo) for name in (a, b)]
    with pytest.raises(ConfigError, match="entries in one encoder"):
        forward_mixed([Segment(model, NLI, a_batch(model, NLI)) for model in apart])
    full = train_entry(a_run("full", backbone_folder), zoo)[0].key
    with pytest.raises(ConfigError, match="holds one entry at a time"):
        open_entry(full, zoo=zoo, beside=open_entry(full, zoo=zoo))
    with pytest.raises(ConfigError, match="both rewrite the same"):
        pfeiffer = train_entry(a_run("pfeiffer", backbone_folder), zoo)[0].key
        open_entry(pfeiffer, zoo=zoo, beside=apart[0])


@pytest.mark.parametrize(
    "merge", [Arithmetic(entries=("x", "y"), weights=(1.0, 1.0)), Ties(entries=("x", "y"), weights=(1.0, 1.0))]
)
def test_an_impossible_merge_is_refused_before_anything_is_looked_up(
    merge: Merge, backbone_folder: Path, zoo: Zoo
) -> None:
    """`x` and `y` are nowhere: the reason comes first."""
    with pytest.raises(ConfigError, match="which no"):
        build(a_run("pfeiffer", backbone_folder, init=merge), zoo=zoo, tasks=[NLI])


def test_keys_of_compositions_differ_and_are_readable(backbone_folder: Path) -> None:
    runs = [
        a_run("lora", backbone_folder, init=half("a", "b")),
        a_run("lora", backbone_folder, init=WeightAverage(entries=("a", "b"), weights=(0.6, 0.4))),
        a_run("lora", backbone_folder, init=half("b", "a")),
        a_run("lora", backbone_folder, route=Fuse(parts=(Use(entry="a"), Use(entry="b")))),
        a_run("lora", backbone_folder, route=Stack(parts=(Merged(merge=half("a", "b")), Slot()))),
    ]
    assert len({key(run) for run in runs}) == len(runs)
    assert "-average-" in key(runs[0])


@pytest.mark.filterwarnings("ignore:the file of task")
def test_requests_to_entries_that_cannot_be_mixed_are_answered_in_order(backbone_folder: Path, tmp_path: Path) -> None:
    settings, folder = api.Settings(runs=tmp_path), str(backbone_folder)
    zoo = api.open_zoo(settings)
    names = [train_entry(a_run(case, backbone_folder), zoo)[0].key for case in ("full", "prefix", "pfeiffer", "head")]
    names.append(train_entry(a_run("pfeiffer", backbone_folder, route=above(names[1])), zoo)[0].key)
    low = msgspec.structs.replace(a_run("head", backbone_folder), method=resolve("head", {"layer": 1}).spec())
    names.append(train_entry(low, zoo)[0].key)
    pairs = [[row.first, str(row.second)] for row in NLI_ROWS[:2]]
    asked = [(name, pair) for pair in pairs for name in names]
    answers = api.predict_requests(asked, settings=settings, backbone=folder)
    assert [answer.id for answer in answers] == [str(number) for number in range(len(asked))]
    for i, name in enumerate(names):
        alone = api.predict(name, pairs, settings=settings, backbone=folder)
        for own, answer in zip(alone, answers[i :: len(names)], strict=True):
            assert answer.value == own.value
            assert answer.detail["probabilities"] == pytest.approx(own.detail["probabilities"], abs=1e-5)


@pytest.mark.filterwarnings("ignore:the file of task")
def test_texts_that_are_cut_are_said(backbone_folder: Path, tmp_path: Path) -> None:
    settings, folder = api.Settings(runs=tmp_path), str(backbone_folder)
    zoo = api.open_zoo(settings)
    first, second = (train_entry(a_run(case, backbone_folder), zoo)[0].key for case in ("pfeiffer", "full"))
    length = zoo.get(first).card.run.recipe.max_length
    short, long = ("a cat sat", "a dog"), ("a cat sat " * length, "a dog")
    with pytest.warns(UserWarning, match=rf"2 of 3 examples are longer than the {length} tokens that {first}.* 0, 2\."):
        api.predict(first, [long, short, long], settings=settings, backbone=folder)
    with pytest.warns(UserWarning, match=r"2 of 4 examples .*were cut: 1, 2\."):
        api.predict_requests(
            [(first, short), (first, long), (second, long), (second, short)], settings=settings, backbone=folder
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*were cut|.*was cut")
        api.predict(first, [short], settings=settings, backbone=folder)
