"""Batches without padding give what padded ones give, outputs and gradients, whatever is trained and read."""

from __future__ import annotations

import contextlib
import inspect
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from loops import largest_difference, run_of, trained
from test_families import ROWS, TASKS, batch_of
from test_resume import stopped
from tiny_families import FAMILIES, write_family
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from worlds import NLI, TAGS, a_batch, a_run, method_of, train_entry

from adapters_xling import tasks
from adapters_xling.errors import UnknownName
from adapters_xling.evaluation import evaluate
from adapters_xling.methods.slots import has_slot
from adapters_xling.model import Model, bare, build, load_backbone, open_entry, packing
from adapters_xling.model.mixed import Segment, forward_mixed
from adapters_xling.model.packing import OwnRow, Packing, packing_of
from adapters_xling.model.shared import Shared
from adapters_xling.prefix_cache import IN_MEMORY, OFF, open_store
from adapters_xling.spec import Average, Fuse, Route, Slot, Stack, Use
from adapters_xling.tasks import kinds
from adapters_xling.zoo import Zoo

EQUAL = 1e-6
"""Largest difference in float32 that products over other rows may leave, of numbers up to 1."""
TRAINED = tuple(kind for kind in TASKS if kind != "retrieve")
MODELS = [
    *(
        (family, case, kind)
        for family in ("xlm-roberta", "bert")
        for case in ("full", "pfeiffer", "lora-all")
        for kind in TRAINED
    ),
    *(("roberta", "full", kind) for kind in ("sentence", "tag")),
    *(("bert", case, "sentence") for case in ("pfeiffer-inv", "houlsby", "parallel", "compacter", "dora")),
    ("xlm-roberta", "pfeiffer-inv", "mlm"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("packing")
    return {family: write_family(family, root / f"tiny-{family}") for family in FAMILIES}


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "zoo", fallbacks=())


@contextlib.contextmanager
def attention(setting: Any, *models: Model) -> Iterator[None]:
    """Models with a setting; at the end that of before."""
    before = [model.attention for model in models]
    for model in models:
        model.attention = setting
    try:
        yield
    finally:
        for model, one in zip(models, before, strict=True):
            model.attention = one


def difference(one: Tensor, two: Tensor) -> float:
    """Largest difference, of large numbers relative to the largest."""
    assert one.shape == two.shape
    return float((one - two).detach().abs().max() / max(1.0, float(one.detach().abs().max())))


def agitate(model: Model) -> None:
    """Move what trains away from where it starts: fresh slots pass nothing on, so nothing below them would matter."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in sorted(model.trainable_parameters().items()):
            if has_slot(name):
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


def without_dropout(model: Model) -> None:
    """Switch off the slots' own dropout, which the recipe does not set."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def learnt(model: Model, kind: str, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits of a batch in train mode and all gradients of its loss."""
    model.zero_grad()
    model.train()
    found = model(batch, TASKS[kind])
    kinds.get(kind).loss(found, batch).backward()
    grads = {name: p.grad.clone() for name, p in model.trainable_parameters().items() if p.grad is not None}
    return found.detach(), grads


def require_equal(model: Model, kind: str, batch: dict[str, Tensor]) -> None:
    """Both ways of a batch agree, outputs and gradients; and the packed one was packed."""
    with attention("padded", model):
        wanted, wanted_grads = learnt(model, kind, batch)
    with attention("packed", model), noting() as seen:
        found, grads = learnt(model, kind, batch)
    assert seen == [int(batch["attention_mask"].sum())]
    outputs = kinds.get(kind).outputs
    for one, two in zip(outputs(found, batch), outputs(wanted, batch), strict=True):
        assert difference(torch.tensor(two), torch.tensor(one)) <= EQUAL
    assert set(grads) == set(wanted_grads)
    assert any(grad.abs().max() > 1e-4 for grad in grads.values())
    assert {name: difference(wanted_grads[name], grads[name]) for name in grads} == pytest.approx(
        dict.fromkeys(grads, 0.0), abs=EQUAL
    )


@contextlib.contextmanager
def noting() -> Iterator[list[int]]:
    """Tokens of every batch that is packed."""
    seen: list[int] = []
    plain = Packing.mask

    def mask(self: Packing) -> Tensor:
        seen.append(len(self.places))
        return plain(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Packing, "mask", mask)
        yield seen


# --- one model ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*brings no masked-LM head", "ignore:.*doc_stride 128 does not fit")
@pytest.mark.parametrize(("family", "case", "kind"), MODELS)
def test_outputs_and_gradients_are_those_of_the_padded_batch(
    family: str, case: str, kind: str, folders: dict[str, Path], zoo: Zoo
) -> None:
    task = TASKS[kind]
    model = build(a_run(case, folders[family], task=task, dropout=0.0, max_length=48), zoo=zoo, tasks=[task])
    agitate(model)
    without_dropout(model)
    require_equal(model, kind, batch_of(model, kind))


@pytest.mark.parametrize("pooling", ["first", "mean", "pair"])
def test_every_pooling_reads_the_same(pooling: str, folders: dict[str, Path], zoo: Zoo) -> None:
    task = TASKS["sentence"]
    run = a_run("pfeiffer", folders["xlm-roberta"], task=task, dropout=0.0, pooling=pooling)
    model = build(run, zoo=zoo, tasks=[task])
    require_equal(model, "sentence", batch_of(model, "sentence"))


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_every_hidden_state_is_that_of_the_padded_batch_with_zeros_at_the_padding(
    family: str, folders: dict[str, Path]
) -> None:
    model = bare(str(folders[family]))
    for kind in ("retrieve", "sentence"):
        batch = batch_of(model, kind)
        real = batch["attention_mask"].bool()
        with attention("padded", model):
            wanted = list(model.all_layers(batch))
            vectors = model(batch, TASKS["retrieve"])
        with attention("packed", model), noting() as seen:
            found = list(model.all_layers(batch))
            assert difference(vectors, model(batch, TASKS["retrieve"])) <= EQUAL
        assert len(seen) == len(wanted) + 1
        for one, two in zip(found, wanted, strict=True):
            assert difference(two[real], one[real]) <= EQUAL
            assert not one[~real].any()


def test_rows_with_padding_anywhere_and_padding_tokens_in_a_text_are_counted_as_the_family_does(
    folders: dict[str, Path],
) -> None:
    for family in FAMILIES:
        model = bare(str(folders[family]))
        ids = torch.randint(5, 40, (4, 12), generator=torch.Generator().manual_seed(0))
        mask = torch.ones_like(ids)
        mask[0, 7:], mask[1, :3], mask[2, 4:6] = 0, 0, 0
        ids[0, 7:] = ids[1, :3] = ids[3, 5] = model.pad_id
        batch = {"input_ids": ids, "attention_mask": mask}
        with torch.no_grad(), attention("padded", model):
            wanted = model.encode(batch)
        with torch.no_grad(), attention("packed", model), noting() as seen:
            found = model.encode(batch)
        assert seen == [int(mask.sum())]
        assert difference(wanted[mask.bool()], found[mask.bool()]) <= EQUAL


def test_a_row_reads_no_other_row(folders: dict[str, Path]) -> None:
    model = bare(str(folders["xlm-roberta"]))
    batch = batch_of(model, "sentence")
    other = {name: tensor.clone() for name, tensor in batch.items()}
    other["input_ids"][1, 1:4] = torch.tensor([9, 10, 11])
    with torch.no_grad(), attention("packed", model):
        one, two = model.encode(batch), model.encode(other)
    same = [i for i in range(len(one)) if i != 1]
    assert torch.equal(one[same], two[same])
    assert not torch.equal(one[1], two[1])


def test_dropout_of_attention_acts_in_training(folders: dict[str, Path], zoo: Zoo) -> None:
    task = TASKS["sentence"]
    model = build(a_run("full", folders["bert"], task=task, dropout=0.5), zoo=zoo, tasks=[task])
    without_dropout(model)  # what is left is that of attention, which is no module
    batch = batch_of(model, "sentence")
    with torch.no_grad(), attention("packed", model):
        model.train()
        assert not torch.allclose(model(batch, task), model(batch, task), atol=1e-4)
        model.eval()
        assert torch.equal(model(batch, task), model(batch, task))


# --- entries put together -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["pfeiffer", "lora"])
@pytest.mark.parametrize("shape", ["stack", "fuse", "average"])
def test_compositions_train_alike(case: str, shape: str, folders: dict[str, Path], zoo: Zoo) -> None:
    folder, how = folders["xlm-roberta"], {"task": TASKS["sentence"], "dropout": 0.0}
    parents = [train_entry(a_run(case, folder, seed=seed), zoo)[0].key for seed in (1, 2)]
    uses = tuple(Use(entry=parent) for parent in parents)
    routes: dict[str, Route] = {
        "stack": Stack(parts=(*uses, Slot())),
        "fuse": Fuse(parts=uses),
        "average": Stack(parts=(Average(parts=uses, weights=(0.7, 0.3)), Slot())),
    }
    model = build(a_run(case, folder, route=routes[shape], **how), zoo=zoo, tasks=[TASKS["sentence"]])
    agitate(model)
    without_dropout(model)
    require_equal(model, "sentence", batch_of(model, "sentence"))


@pytest.mark.parametrize("case", ["pfeiffer", "pfeiffer-inv", "lora"])
def test_rows_of_several_entries_go_their_own_ways_in_one_packed_batch(
    case: str, backbone_folder: Path, zoo: Zoo
) -> None:
    keys = [train_entry(a_run(case, backbone_folder, seed=1), zoo)[0].key]
    keys.append(train_entry(a_run(case, backbone_folder, task=TAGS, seed=2), zoo, TAGS)[0].key)
    first = open_entry(keys[0], zoo=zoo)
    second = open_entry(keys[1], zoo=zoo, beside=first)
    segments = [
        Segment(model, task, a_batch(model, task)) for model, task in ((first, NLI), (second, TAGS), (first, NLI))
    ]
    with torch.no_grad():
        alone = [one.model(one.batch, one.task) for one in segments]
        padded = forward_mixed(segments)
        with attention("packed", first, second), noting() as seen:
            packed = forward_mixed(segments)
    assert len(seen) == 1
    for one, two, three, segment in zip(packed, padded, alone, segments, strict=True):
        outputs = kinds.get(segment.task.kind).outputs
        for a, b, c in zip(*(outputs(x, segment.batch) for x in (one, two, three)), strict=True):
            assert a == pytest.approx(b, abs=1e-5)
            assert a == pytest.approx(c, abs=1e-5)


def test_entries_that_share_their_lower_layers_go_on_from_packed_ones(backbone_folder: Path, zoo: Zoo) -> None:
    keys = [train_entry(a_run("lora-top", backbone_folder, seed=seed), zoo)[0].key for seed in (1, 2)]
    first = open_entry(keys[0], zoo=zoo)
    models = [first, open_entry(keys[1], zoo=zoo, beside=first)]
    batch = a_batch(first, NLI)
    with torch.no_grad():
        wanted = [model(batch, NLI) for model in models]
    with torch.no_grad(), attention("packed", *models), noting() as seen:
        shared = Shared.of(batch, NLI, models, unchanged=2, fill=512)
        found = [shared.logits(model, NLI) for model in models]
    assert (shared.start, len(seen)) == (2, 3)
    for one, two in zip(found, wanted, strict=True):
        assert difference(two, one) <= EQUAL


def test_kept_rows_are_those_of_padded_batches_and_the_layers_above_are_packed(backbone_folder: Path, zoo: Zoo) -> None:
    model = build(a_run("pfeiffer-top", backbone_folder, dropout=0.0), zoo=zoo, tasks=[NLI])
    batch = a_batch(model, NLI)
    model.eval()
    with torch.no_grad():
        model.keep_prefix(IN_MEMORY)
        model.encode(batch)
        assert model.prefix is not None
        store = open_store(IN_MEMORY)
        kept = [row.clone() for row in _rows(model, batch)]
        wanted = model(batch, NLI)
        model.keep_prefix(OFF)
        with attention("packed", model):
            model.keep_prefix(IN_MEMORY)
            found, asked = model(batch, NLI), store.use.found
            with noting() as seen:
                again = model(batch, NLI)
            assert store.use.found > asked
            assert len(seen) == 1
            assert all(torch.equal(one, two) for one, two in zip(_rows(model, batch), kept, strict=True))
    assert difference(wanted, found) <= EQUAL
    assert torch.equal(found, again)


def _rows(model: Model, batch: dict[str, Tensor]) -> list[Tensor]:
    assert model.prefix is not None
    _, hidden = model.prefix.start(batch, model.num_layers)
    assert hidden is not None
    return list(hidden)


# --- when -----------------------------------------------------------------------------------------------------------


def test_on_a_processor_nothing_is_packed_by_itself(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = bare(str(folders["xlm-roberta"]))
    monkeypatch.setattr(Packing, "of", lambda *_, **__: pytest.fail("it was packed"))
    batch = batch_of(model, "sentence")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model.encode(batch)
    with torch.no_grad():
        whole = model.encoder(**{name: batch[name] for name in ("input_ids", "attention_mask")}).last_hidden_state
        assert torch.equal(model.encode(batch), whole)


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("prefix", "its route has prefixes"),
        ("eager", "attention kernel 'eager'"),
        ("rounded", "rounded products on a processor"),
        ("compiled", "its passes are compiled"),
    ],
)
def test_what_cannot_be_packed_stays_padded_and_says_why(
    case: str, why: str, folders: dict[str, Path], zoo: Zoo
) -> None:
    folder, task = folders["xlm-roberta"], TASKS["sentence"]
    if case == "prefix":
        model = build(a_run("prefix", folder, task=task), zoo=zoo, tasks=[task]).eval_mode()
    else:
        loaded = load_backbone(str(folder), attention="eager" if case == "eager" else None)
        model = Model(loaded, method_of("head"))
    if case == "compiled":
        model.compiled = lambda inputs, _, **how: model.encoder(**inputs).last_hidden_state  # type: ignore[assignment]
    batch = batch_of(model, "sentence")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=case == "rounded"):
        wanted = model.encode(batch)
        with attention("packed", model), noting() as seen, pytest.warns(UserWarning, match=why):
            found = model.encode(batch)
    assert not seen
    assert torch.equal(found, wanted)


def test_a_batch_without_padding_stays_as_it_is(folders: dict[str, Path]) -> None:
    model = bare(str(folders["bert"]))
    model.attention = "packed"
    ids = torch.randint(5, 40, (4, 12))
    with noting() as seen, torch.no_grad():
        model.encode({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    assert not seen


def test_a_setting_that_is_none_is_refused(folders: dict[str, Path]) -> None:
    model = bare(str(folders["bert"]))
    with pytest.raises(UnknownName, match=r"unknown attention 'paked'\. Did you mean 'packed'"):
        model.set_attention("paked")
    model.set_attention("packed")
    assert model.attention == "packed"


@pytest.mark.parametrize(
    ("changes", "kernel"),
    [
        ({}, True),
        ({"precision": torch.float32}, False),
        ({"capability": (7, 5)}, False),
        ({"flash": False}, False),
        ({"varlen": None}, False),
        ({"hidden": 36}, False),
        ({"attention": "padded"}, False),
    ],
)
def test_on_a_gpu_variable_length_attention_decides(
    changes: dict[str, Any], kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {
        "precision": torch.bfloat16,
        "capability": (9, 0),
        "flash": True,
        "varlen": by_row,
        "hidden": 32,
        **changes,
    }
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: facts["flash"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: facts["capability"])
    monkeypatch.setattr(packing, "_varlen", lambda: facts["varlen"])
    config = SimpleNamespace(_attn_implementation="sdpa", hidden_size=facts["hidden"], num_attention_heads=4)
    weights = torch.zeros(1, dtype=facts["precision"])
    model: Any = SimpleNamespace(
        attention=facts.get("attention", "auto"),
        device=torch.device("cuda"),
        method=SimpleNamespace(acts_by_token=lambda _: True),
        encoder=SimpleNamespace(config=config, parameters=lambda: iter([weights])),
        compiled=None,
    )
    assert packing.packs(model) == kernel
    model.compiled = object()
    assert not packing.packs(model)


# --- attention itself -----------------------------------------------------------------------------------------------


def by_row(q: Tensor, k: Tensor, v: Tensor, starts_q: Tensor, starts_k: Tensor, most_q: int, most_k: int) -> Tensor:
    """What variable-length attention is said to compute, written as plainly as can be."""
    assert starts_q.dtype == starts_k.dtype == torch.int32
    found = torch.empty_like(q)
    for start, end in zip(starts_q.tolist(), starts_q.tolist()[1:], strict=False):
        assert end - start <= min(most_q, most_k)
        scores = torch.einsum("qhw,khw->hqk", q[start:end].double(), k[start:end].double()) / q.shape[-1] ** 0.5
        found[start:end] = torch.einsum("hqk,khw->qhw", scores.softmax(-1), v[start:end].double()).to(q.dtype)
    return found


def a_mask(seed: int = 0, *, rows: int = 9) -> Tensor:
    draw = random.Random(seed)
    mask = torch.zeros(rows, 14, dtype=torch.long)
    for i in range(rows):
        mask[i, : draw.choice([1, 3, 3, 8, 14])] = 1
    return mask


@pytest.mark.parametrize("parts", [(), (2, 4, 3)])
def test_every_way_of_attending_is_row_by_row(parts: tuple[int, ...]) -> None:
    mask = a_mask()
    layout = Packing.of(mask, parts=parts, kernel=by_row)
    q, k, v = torch.randn(3, len(layout.places), 2, 8, generator=torch.Generator().manual_seed(0))
    wanted = by_row(q, k, v, layout.starts, layout.starts, 14, 14)
    for found in (layout.attend_by_length(q, k, v), layout.attend_padded(q, k, v), layout.attend(q, k, v)):
        assert difference(wanted, found) <= EQUAL
    half = [one.bfloat16() for one in (q, k, v)]
    assert torch.equal(layout.attend(*half), by_row(*half, layout.starts, layout.starts, 14, 14))
    assert not torch.equal(layout.attend(*half, dropout=0.9), layout.attend(*half))


def test_rows_without_a_token_are_left_out() -> None:
    mask = a_mask()
    mask[3] = 0
    layout = Packing.of(mask, kernel=by_row)
    q, k, v = torch.randn(3, len(layout.places), 2, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    wanted = by_row(q, k, v, layout.starts, layout.starts, 14, 14)
    for attend in (layout.attend_by_length, layout.attend_padded):
        found = attend(q, k, v)
        assert difference(wanted, found) <= EQUAL
        (grad,) = torch.autograd.grad(found.sum(), q, allow_unused=True)
        assert grad.isfinite().all()
    assert not layout.unpack(torch.ones(len(layout.places), 1, 5))[3].any()


def test_what_is_packed_and_unpacked_is_as_before_and_parts_stay_together() -> None:
    mask = a_mask()
    layout = Packing.of(mask, parts=(2, 4, 3))
    values = torch.randn(9, 14, 5)
    packed = layout.pack(values)
    assert packed.shape == (int(mask.sum()), 1, 5)
    assert torch.equal(layout.unpack(packed), values * mask[..., None])
    rows = torch.arange(9)[:, None].expand(9, 14)
    spans = [set(layout.pack(rows)[part].flatten().tolist()) for part in layout.parts]
    assert spans == [{0, 1}, {2, 3, 4, 5}, {6, 7, 8}]


def test_torchs_own_kernel_takes_what_it_is_given() -> None:
    varlen = packing._varlen()
    if varlen is None:
        pytest.skip("this version of torch has no variable-length attention")
    assert len(inspect.signature(varlen).parameters) >= 7
    layout = Packing.of(a_mask(), kernel=varlen)
    with FakeTensorMode(allow_non_fake_inputs=True):
        q, k, v = (torch.empty(len(layout.places), 2, 8, dtype=torch.bfloat16) for _ in range(3))
        assert layout.attend(q, k, v).shape == q.shape


def test_a_mask_of_a_packed_batch_can_do_nothing_else() -> None:
    mask = Packing.of(a_mask()).mask()
    assert isinstance(mask, OwnRow)
    assert mask.shape[0] == int(a_mask().sum())
    with pytest.raises(TypeError, match="add of the mask of a packed batch"):
        torch.add(mask, 1)
    q = torch.zeros(mask.shape[0], 2, 1, 8)
    with pytest.raises(TypeError, match="as many keys as queries"):
        functional.scaled_dot_product_attention(q, q[..., :1, :].repeat(1, 1, 2, 1), q, attn_mask=mask)
    with pytest.raises(TypeError, match="not causal"):
        functional.scaled_dot_product_attention(q, q, q, attn_mask=mask, is_causal=True)


def test_what_was_asked_for_is_silent_where_it_can_be_done(folders: dict[str, Path]) -> None:
    model = bare(str(folders["bert"]))
    model.attention = "packed"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert packing_of(model, batch_of(model, "sentence")) is not None
    assert len(ROWS["sentence"]) == 4


# --- whole runs -----------------------------------------------------------------------------------------------------


def test_a_run_trained_and_scored_without_padding_is_the_run_with_it(backbone_folder: Path, tmp_path: Path) -> None:
    spec = run_of(backbone_folder, method="bottleneck", dropout=0.0)
    padded = trained(spec, tmp_path / "padded")
    with noting() as seen:
        packed = trained(spec, tmp_path / "packed", attention="packed")
    assert seen
    assert packed.key == padded.key
    assert largest_difference(packed, padded) <= 1e-4
    losses = [[loss for _, loss in one.card.training.losses] for one in (packed, padded)]  # type: ignore[union-attr]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    scores: dict[str, Any] = {}
    for setting in ("padded", "packed"):
        with noting() as seen:
            scores[setting] = evaluate(
                padded.key,
                tasks.get("mini-nli"),
                zoo=Zoo(tmp_path / "padded", fallbacks=()),
                runs_dir=tmp_path / setting,
                languages=["de"],
                limit=12,
                device="cpu",
                attention=setting,
            )
        assert bool(seen) == (setting == "packed")
    assert scores["packed"] == scores["padded"]


def test_going_on_packed_where_it_was_padded_is_said(
    backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = run_of(backbone_folder, method="lora")
    stopped(spec, tmp_path, 3, monkeypatch)
    options: dict[str, Any] = {"checkpoint_dir": tmp_path / "checkpoints", "checkpoint_s": 0, "checkpoint_steps": 1}
    with pytest.warns(UserWarning, match="here is .*'attention': 'packed'.*not bit for bit"):
        trained(spec, tmp_path / "zoo", attention="packed", log_dir=tmp_path / "logs", **options)
