"""How many tokens of a row a task's head reads: the same wherever it answers, and what it was trained with."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from zoo_samples import RECIPE, a_run, an_entry

from adapters_xling import api, inference, model, tasks
from adapters_xling.made_with import max_length_of
from adapters_xling.mixture import Uniform
from adapters_xling.model.kept_merges import merge_run
from adapters_xling.spec import Mixture, Part, RunSpec, TaskRef, WeightAverage
from adapters_xling.zoo import HeadCard, Zoo

LENGTHS = {"mnli": 64, "squad1": 256}


def a_mixture(seed: int = 0) -> RunSpec:
    """MNLI in 64 tokens beside SQuAD in windows of 256."""
    parts = {
        name: Part(batch_size=8, accumulate=1, max_length=length, dev_examples=0, max_train_examples=0)
        for name, length in LENGTHS.items()
    }
    return msgspec.structs.replace(
        a_run(seed=seed),
        tasks=tuple(TaskRef(name=name, digest="b" * 64) for name in sorted(LENGTHS)),
        recipe=msgspec.structs.replace(RECIPE, max_length=max(LENGTHS.values())),
        mixture=Mixture(sampling=Uniform(), parts=parts),
    )


def heads() -> dict[str, HeadCard]:
    labels = tuple(tasks.get("mnli").labels)
    return {
        "nli": HeadCard(kind="sentence", labels=labels, task="mnli"),
        "squad": HeadCard(kind="span", labels=(), task="squad1"),
    }


def test_a_target_that_trained_on_a_task_of_a_mixture_is_answered_in_that_tasks_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XNLI reads what MNLI did, in `predict` as in `evaluate`, and not the longest of the mixture."""
    zoo = Zoo(tmp_path / "zoo", fallbacks=())
    entry = an_entry(zoo, a_mixture(), heads=heads())
    read: list[int] = []

    def answer(*_: Any, max_length: int, **how: Any) -> list[Any]:
        read.append(max_length)
        return []

    monkeypatch.setattr(inference, "predict", answer)
    opened = SimpleNamespace(set_attention=lambda _: None)
    monkeypatch.setattr(model, "open_entry", lambda *_, **how: opened)
    monkeypatch.setattr(api.predicting, "open_zoo", lambda _: zoo)
    api.predict(entry.key, [("a", "b")], name="xnli", settings=api.Settings(runs=tmp_path))
    assert read == [max_length_of(entry.card.run, tasks.get("xnli"))] == [64]


def test_a_merge_of_mixtures_cuts_no_task_shorter_than_it_was_trained(tmp_path: Path) -> None:
    zoo = Zoo(tmp_path / "zoo", fallbacks=())
    keys = tuple(an_entry(zoo, a_mixture(seed), heads=heads()).key for seed in (0, 1))
    merged = merge_run(WeightAverage(entries=keys, weights=(0.5, 0.5)), zoo=zoo)
    for name, length in LENGTHS.items():
        assert max_length_of(a_mixture(), tasks.get(name)) == length
        assert max_length_of(merged, tasks.get(name)) >= length


def test_rows_of_ones_own_under_a_head_of_a_mixture_are_read_in_its_tasks_length() -> None:
    """`adapt` trained a head of questions in 64 tokens, the length of the first task by name."""
    for head, length in (("squad1", 256), ("mnli", 64)):
        base = tasks.get(head)
        own = msgspec.structs.replace(base, name="mine-sw", head=base.head_name, train_on=None)
        assert max_length_of(a_mixture(), own) == length
