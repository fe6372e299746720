"""A step computed in pieces is the step: `tokens_at_once` changes what is padded, and nothing else beyond rounding."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from loops import absolute_difference, logged, mixed_run, relative_difference, run_of, trained
from test_packing import noting
from test_shares import gradient
from together import fused, parts

from adapters_xling import tasks
from adapters_xling.errors import ConfigError
from adapters_xling.grid import Mix
from adapters_xling.methods import resolve
from adapters_xling.model import build
from adapters_xling.processes import Processes
from adapters_xling.spec import RunSpec
from adapters_xling.tasks import kinds
from adapters_xling.tasks.examples import Features
from adapters_xling.training.data import load_data
from adapters_xling.training.division import Division, num_labels
from adapters_xling.training.loop import Loop
from adapters_xling.training.pieces import in_order, pieces_of
from adapters_xling.zoo import Zoo

BUDGET = 48
EXACT: dict[str, Any] = {"max_steps": 4, "eval_every_steps": 4, "dropout": 0.0, "batch_size": 7, "warmup": 0.3}


# --- one batch -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*brings no masked-LM head")
@pytest.mark.parametrize("name", ["mini-nli", "mini-choice", "mini-pos", "mini-qa", "mini-mlm"])
def test_the_pieces_of_all_processes_make_the_batch(name: str, backbone_folder: Path, tmp_path: Path) -> None:
    task, run = tasks.get(name), run_of(backbone_folder, task=name, method="full", dropout=0.0)
    model = build(run, zoo=Zoo(tmp_path, fallbacks=()), tasks=[task], backbone=backbone_folder).double().train()
    part, kind = load_data(task, run.recipe, model.tokenizer, data_dir=None), kinds.get(task.kind)
    rows = kind.redraw([part.train[i] for i in range(7)], model.tokenizer, task, seed=3)
    collate = functools.partial(kind.collate, pad_id=model.pad_id)
    whole = collate(rows)
    kind.loss(model(whole, task), whole).backward()
    expected = gradient(model)
    assert expected.norm() > 0
    for count in (1, 2, 3):
        found = [
            piece
            for index in range(count)
            for piece in pieces_of(rows, Division.of(Processes(index, count), 1), collate, tokens=BUDGET)
        ]
        assert len(found) > count
        assert sum(piece.weight for piece in found) == pytest.approx(1)
        assert sum(num_labels(piece.batch) for piece in found) == num_labels(whole)
        least = min(len(row.input_ids) for row in rows)
        for batch, _, counts in found:
            assert counts
            assert batch["input_ids"].numel() <= BUDGET or len(batch["input_ids"]) == least
        for batch, weight, _ in found:
            (kind.loss(model(batch, task), batch) * weight).backward()
        assert float((gradient(model) - expected).norm() / expected.norm()) < 1e-6  # some losses are in float32


def test_pieces_without_a_budget_or_with_a_large_one_are_the_batch() -> None:
    kind = kinds.get("sentence")
    rows = [Features(i, [[5] * width], 0) for i, width in enumerate((3, 9, 4))]
    collate = functools.partial(kind.collate, pad_id=1)
    for tokens in (0, 27):
        (one,) = pieces_of(rows, Division(), collate, tokens=tokens)
        assert (one.weight, one.counts, one.batch["input_ids"].shape) == (1.0, True, (3, 9))
    assert in_order(rows, 0)[0] is rows  # as drawn
    assert [len(piece) for piece in in_order(rows, 8)] == [1, 2]  # longer than the budget: alone


def test_a_process_without_a_row_computes_one_for_nothing_and_a_batch_without_labels_is_not_cut() -> None:
    kind = kinds.get("sentence")
    collate = functools.partial(kind.collate, pad_id=1)
    rows = [Features(i, [[5] * 4], 0) for i in range(2)]
    (spare,) = pieces_of(rows, Division.of(Processes(2, 3), 1), collate, tokens=8)
    assert (spare.weight, spare.counts) == (0.0, False)
    bare = [Features(i, [[5] * 4], -100) for i in range(2)]
    assert [piece.weight for piece in pieces_of(bare, Division(), collate, tokens=4)] == [1.0]


# --- whole runs ----------------------------------------------------------------------------------------------------


def _upper(folder: Path, **changes: Any) -> RunSpec:
    """A run whose lowest layer is frozen, so that its output is kept."""
    run = run_of(folder, method="bottleneck", **changes)
    return msgspec.structs.replace(run, method=resolve("bottleneck", {"reduction_factor": 4, "leave_out": (0,)}).spec())


def _mixed(folder: Path, **changes: Any) -> RunSpec:
    mix = Mix(rates={"mini-mlm": 0.5})
    run = mixed_run(folder, "mini-nli", "mini-mlm", method="lora", mix=mix, **changes)
    return msgspec.structs.replace(run, method=resolve("lora", {"r": 2, "dropout": 0.0}).spec())


RUNS: dict[str, Callable[..., RunSpec]] = {
    "sentence-full": lambda folder, **more: run_of(folder, method="full", **EXACT | more),
    "tag-bottleneck": lambda folder, **more: run_of(
        folder, task="mini-pos", method="bottleneck", **EXACT | {"accumulate": 2} | more
    ),
    "span-lora": lambda folder, **more: run_of(folder, task="mini-qa", method="lora", **EXACT | more),
    "choice-full": lambda folder, **more: run_of(folder, task="mini-choice", method="full", **EXACT | more),
    "mlm-mixture-lora": lambda folder, **more: _mixed(folder, **EXACT | more),
    "kept-prefix": lambda folder, **more: _upper(folder, **EXACT | more),
}


def both(case: str, folder: Path, root: Path) -> Any:
    """The case by whole batches and in pieces."""
    runs = [RUNS[case](folder, tokens_at_once=tokens) for tokens in (0, BUDGET)]
    return [trained(run, root / str(i)) for i, run in enumerate(runs)]


def require_same(one: Any, two: Any) -> None:
    a, b = one.card.training, two.card.training
    assert one.key != two.key
    assert (a.tokens, a.steps, a.epochs) == (b.tokens, b.steps, b.epochs)
    assert [loss for _, loss in b.losses] == pytest.approx([loss for _, loss in a.losses], abs=1e-6, rel=1e-6)
    assert 0 < absolute_difference(one, two) <= 1e-5  # 0 would mean that nothing was cut


@pytest.mark.filterwarnings("ignore:.*brings no masked-LM head")
@pytest.mark.parametrize("case", list(RUNS))
def test_a_run_in_pieces_ends_with_the_weights_of_whole_batches(
    case: str, backbone_folder: Path, tmp_path: Path
) -> None:
    require_same(*both(case, backbone_folder, tmp_path))


@pytest.mark.parametrize("case", ["sentence-full", "tag-bottleneck", "span-lora", "kept-prefix"])
def test_pieces_without_padding_end_with_the_weights_of_padded_whole_batches(
    case: str, backbone_folder: Path, tmp_path: Path
) -> None:
    whole = trained(RUNS[case](backbone_folder), tmp_path / "whole")
    with noting() as seen:
        packed = trained(RUNS[case](backbone_folder, tokens_at_once=BUDGET), tmp_path / "packed", attention="packed")
    assert seen
    require_same(whole, packed)


def test_a_penalty_counts_once_a_step(backbone_folder: Path, tmp_path: Path) -> None:
    for one in parts(backbone_folder, "bottleneck"):
        trained(one, tmp_path)
    run = fused(backbone_folder, "bottleneck")
    cut = msgspec.structs.replace(run, recipe=msgspec.structs.replace(run.recipe, tokens_at_once=BUDGET))
    require_same(*(trained(one, tmp_path) for one in (run, cut)))


def test_products_in_bf16_meet_shapes_that_come_again(
    backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapters_xling.batching import bucket_width
    from adapters_xling.model import Model

    run = run_of(backbone_folder, method="lora", precision="bf16", tokens_at_once=BUDGET, **EXACT)
    shapes: list[tuple[int, int]] = []
    places: list[int] = []
    encode, count = Model.encode, Loop._places

    def noted(self: Model, batch: Any, *args: Any, **more: Any) -> Any:
        if self.training:
            shapes.append(tuple(batch["input_ids"].shape))
        return encode(self, batch, *args, **more)

    def counted(self: Loop, batch: Any) -> int:
        places.append(count(self, batch))
        return places[-1]

    monkeypatch.setattr(Model, "encode", noted)
    monkeypatch.setattr(Loop, "_places", counted)
    entry = trained(run, tmp_path)
    assert all(width == bucket_width(width) for _, width in shapes)
    assert all(rows * width <= BUDGET or rows == 1 for rows, width in shapes)
    assert entry.card.training is not None
    whole = trained(run_of(backbone_folder, method="lora", **EXACT), tmp_path)
    for (_, ours), (_, theirs) in zip(entry.card.training.losses, whole.card.training.losses, strict=True):
        assert ours == pytest.approx(theirs, rel=0.02)
    assert places == [rows * width for rows, width in shapes]  # the log counts what is filled up


def test_padding_in_the_log_is_that_of_the_pieces(backbone_folder: Path, tmp_path: Path) -> None:
    shares = []
    for tokens in (0, BUDGET):
        run = run_of(backbone_folder, method="head", tokens_at_once=tokens, **EXACT)
        logs = tmp_path / f"logs-{tokens}"
        trained(run, tmp_path, log_dir=logs)
        shares.append(logged(logs)["padding"][-1][1])
    assert shares[1] < 0.7 * shares[0]


def test_a_budget_below_nothing_is_refused(backbone_folder: Path) -> None:
    with pytest.raises(ConfigError, match="tokens_at_once"):
        run_of(backbone_folder, tokens_at_once=-1)


def test_sharded_weights_take_as_many_passes_in_every_process(
    backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Longer(Processes):
        """Somebody else needs three pieces more."""

        def everyone(self, value: Any) -> list[Any]:
            return [value, value + 3] if isinstance(value, int) else [value]

    counts: list[list[bool]] = []
    pieces = Loop._pieces

    def noted(self: Loop, *args: Any, **more: Any) -> Any:
        plain, self.sharded = self.sharded, True
        self.processes, before = Longer(), self.processes
        try:
            found = pieces(self, *args, **more)
        finally:
            self.sharded, self.processes = plain, before
        counts.append([piece.counts for piece in found[0]])
        return found

    run = run_of(backbone_folder, method="head", tokens_at_once=BUDGET, **EXACT)
    expected = trained(run, tmp_path / "a")
    monkeypatch.setattr(Loop, "_pieces", noted)
    found = trained(run, tmp_path / "b")
    assert all(one[-3:] == [False] * 3 and all(one[:-3]) for one in counts)
    assert counts
    assert relative_difference(expected, found) <= 1e-6  # they add nothing
    assert found.card.training.tokens == expected.card.training.tokens  # type: ignore[union-attr]
