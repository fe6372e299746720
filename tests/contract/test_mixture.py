"""Mixtures and masked-LM co-training through the one loop, with every method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from loops import mixed_run, run_of, trained
from safetensors.torch import load_file, save_file
from worlds import a_run, method_of, new_encoder, write_backbone

from adapters_xling import api, evaluation, methods, tasks
from adapters_xling.errors import ConfigError, UnknownName, ZooError
from adapters_xling.grid import Mix, make_run
from adapters_xling.methods.slots import slot_name
from adapters_xling.model import build
from adapters_xling.spec import Base, RunSpec, Slot
from adapters_xling.tasks import kinds
from adapters_xling.zoo import Zoo

MLM = tasks.get("mini-mlm")


@pytest.mark.parametrize("method", ["full", "bottleneck", "lora"])
def test_every_method_trains_a_mixture_with_mlm_and_its_entry_answers_for_each_task(
    method: str, backbone_folder: Path, tmp_path: Path
) -> None:
    names = ("mini-nli", "mini-pos", "mini-mlm")
    run = mixed_run(backbone_folder, *names, method=method, mix=Mix(rates={"mini-mlm": 0.4}), max_steps=8)
    entry = trained(run, tmp_path)
    card = entry.card
    assert card.training is not None
    assert set(card.heads) == set(names)
    assert set(card.training.tasks) == set(names)
    assert sum(own.steps for own in card.training.tasks.values()) == card.training.steps == 8
    assert all(own.steps > 0 for own in card.training.tasks.values())
    assert card.training.tasks["mini-mlm"].rate == 0.4
    nli, pos = card.training.tasks["mini-nli"], card.training.tasks["mini-pos"]
    assert card.training.metric == "mean"
    assert card.training.dev_score == pytest.approx((nli.dev_score + pos.dev_score) / 2)
    assert {place.split("/")[0] for place in card.data} == set(names)
    zoo = Zoo(tmp_path, fallbacks=())
    for name, languages in (("mini-nli", ["sw"]), ("mini-pos", ["ru"]), ("mini-mlm", ["de"])):
        found = evaluation.evaluate(
            entry.key,
            tasks.get(name),
            zoo=zoo,
            runs_dir=tmp_path / "runs",
            languages=languages,
            limit=6,
            device="cpu",
            backbone=backbone_folder,
        )
        assert found[0].num_examples == 6


def test_tasks_with_one_head_share_it(backbone_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    folder.mkdir()
    text = "\n".join(
        line for line in (Path("task_configs/mini/mini-nli.yaml").read_text()).splitlines() if "name:" not in line
    )
    for name in ("one-nli", "two-nli"):
        (folder / f"{name}.yaml").write_text(
            f"name: {name}\nhead: nli\n{text.replace('role: mini', 'role: private')}\n"
        )
    specs = [tasks.get(name, extra=folder) for name in ("one-nli", "two-nli")]
    base = mixed_run(backbone_folder, "mini-nli", "mini-pos")
    run = make_run(
        specs,
        methods.resolve(base.method),
        backbone=base.backbone,
        recipe="nano",
        overrides={"max_steps": 3, "dev_examples": 8, "max_train_examples": 32, "eval_every_steps": 3, "batch_size": 4},
    )
    entry = trained(run, tmp_path / "zoo", extra_tasks=folder)
    assert set(entry.card.heads) == {"nli"}
    assert entry.card.training is not None
    assert set(entry.card.training.tasks) == {"one-nli", "two-nli"}


def test_several_tasks_without_a_mixture_are_refused(backbone_folder: Path, tmp_path: Path) -> None:
    run = msgspec.structs.replace(mixed_run(backbone_folder, "mini-nli", "mini-pos"), mixture=None)
    with pytest.raises(ConfigError, match="2 tasks but no mixture"):
        trained(run, tmp_path)


def test_a_task_in_several_languages_trains_on_all_of_them_and_its_floor_reads_all(
    backbone_folder: Path, tmp_path: Path
) -> None:
    """Translated intermediate data: the same task, `train_languages` more than one."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    text = Path("task_configs/mini/mini-nli.yaml").read_text().replace("role: mini", "role: private")
    (folder / "translated.yaml").write_text(
        text.replace("name: mini-nli", "name: translated") + "train_languages: [de, ru, sw]\n"
    )
    task = tasks.get("translated", extra=folder)
    base = run_of(backbone_folder)
    run = make_run(
        task,
        methods.resolve(base.method),
        backbone=base.backbone,
        recipe="nano",
        overrides={"max_steps": 2, "dev_examples": 9, "max_train_examples": 30, "eval_every_steps": 2, "batch_size": 4},
    )
    entry = trained(run, tmp_path / "zoo", extra_tasks=folder)
    used = {place: rows.used for place, rows in entry.card.data.items()}
    assert used == {f"translated/{s}/{c}": n for s, n in (("train", 10), ("dev", 3)) for c in ("de", "ru", "sw")}
    scores = evaluation.majority(task, backbone="x", languages=["de", "en"], limit=8)
    assert {score.language: score.zero_shot for score in scores} == {"de": False, "en": True}
    found = evaluation.evaluate(
        entry.key,
        task,
        zoo=Zoo(tmp_path / "zoo", fallbacks=()),
        runs_dir=tmp_path / "runs",
        languages=["ru", "zh"],
        limit=4,
        backbone=backbone_folder,
    )
    assert {score.language: score.zero_shot for score in found} == {"ru": False, "zh": True}


# --- masked language modelling ----------------------------------------------------------------------------------


def mlm_run(case: str, folder: Path, **recipe: Any) -> RunSpec:
    return a_run(case, folder, task=MLM, **recipe)


def mlm_batch(model: Any) -> dict[str, torch.Tensor]:
    kind = kinds.get("mlm")
    rows = tasks.load(MLM, "dev", "en", limit=6).examples
    return kind.collate(kind.encode(rows, model.tokenizer, MLM, max_length=32), pad_id=model.pad_id)


@pytest.mark.filterwarnings("ignore:.*brings no masked-LM head")
@pytest.mark.parametrize("case", ["full", "full-frozen-tokens", "pfeiffer", "pfeiffer-inv", "lora"])
def test_the_output_matrix_is_the_token_matrix_and_trains_exactly_when_that_does(
    case: str, backbone_folder: Path, tmp_path: Path
) -> None:
    model = build(mlm_run(case, backbone_folder), zoo=Zoo(tmp_path, fallbacks=()), tasks=[MLM])
    vectors = model.tokens().vectors
    assert vectors is model.encoder.get_input_embeddings().weight
    names = [name for name, p in model.named_parameters() if p.shape == vectors.shape]
    assert len(names) == 1  # one matrix, however often a library names it
    before = vectors.detach().clone()
    batch, kind = mlm_batch(model), kinds.get("mlm")
    optimizer = torch.optim.AdamW(list(model.trainable_parameters().values()), lr=1e-2)
    losses = []
    for _ in range(6):
        model.train()
        loss = kind.loss(model(batch, MLM), batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert torch.equal(before, model.tokens().vectors) == (case != "full")


def test_an_invertible_block_is_undone_before_the_token_matrix(backbone_folder: Path) -> None:
    method, encoder = method_of("pfeiffer-inv"), new_encoder()
    torch.manual_seed(0)
    method.attach(encoder, slot_name(0), None, Slot())
    for name, parameter in encoder.named_parameters():
        if "invertible" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    vectors = torch.randn(4, 7, encoder.config.hidden_size)
    there = encoder.invertible_adapters_forward(vectors)
    assert (there - vectors).abs().max().item() > 0.1
    assert torch.allclose(method.unembed(encoder, there), vectors, atol=1e-4)
    method.activate(encoder, Base())
    assert torch.equal(method.unembed(encoder, vectors), vectors)


def headed_backbone(folder: Path, *, inside: bool) -> dict[str, torch.Tensor]:
    """A tiny backbone with a masked-LM head of its own, in a file beside the weights or among them."""
    write_backbone(folder)
    encoder = load_file(folder / "model.safetensors")
    size, hidden = encoder["embeddings.word_embeddings.weight"].shape
    generator = torch.Generator().manual_seed(3)
    head = {
        "lm_head.dense.weight": torch.randn(hidden, hidden, generator=generator),
        "lm_head.dense.bias": torch.randn(hidden, generator=generator),
        "lm_head.layer_norm.weight": torch.randn(hidden, generator=generator),
        "lm_head.layer_norm.bias": torch.randn(hidden, generator=generator),
        "lm_head.bias": torch.randn(size, generator=generator),
    }
    if inside:
        prefixed = {f"roberta.{name}": tensor for name, tensor in encoder.items()}
        save_file({**prefixed, **head}, folder / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "architectures": ["XLMRobertaForMaskedLM"]}))
    else:
        save_file(head, folder / "lm_head.safetensors", metadata={"format": "pt"})
    return head


@pytest.mark.parametrize("inside", [False, True])
def test_a_fresh_head_takes_the_backbones_own_and_gives_the_same_logits_as_its_library(
    inside: bool, tmp_path: Path
) -> None:
    from transformers import XLMRobertaForMaskedLM

    expected = headed_backbone(tmp_path / "headed", inside=inside)
    base = mixed_run(tmp_path / "headed", "mini-nli", "mini-mlm")
    assert (base.lm_head is None) == inside
    model = build(base, zoo=Zoo(tmp_path, fallbacks=()), tasks=[tasks.get(ref.name) for ref in base.tasks])
    own = {f"lm_head.{name}": tensor for name, tensor in model.head_of(MLM).named_parameters()}
    assert all(torch.equal(own[name], expected[name]) for name in expected)
    if inside:
        theirs = XLMRobertaForMaskedLM.from_pretrained(tmp_path / "headed").eval()
        batch = mlm_batch(model)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            assert torch.allclose(model.head_output(inputs, MLM), theirs(**inputs).logits, atol=1e-4)


def test_another_head_file_than_planned_is_refused(tmp_path: Path) -> None:
    headed_backbone(tmp_path / "headed", inside=False)
    run = mixed_run(tmp_path / "headed", "mini-nli", "mini-mlm")
    specs = [tasks.get(ref.name) for ref in run.tasks]
    changed = {name: t + 1 for name, t in load_file(tmp_path / "headed" / "lm_head.safetensors").items()}
    (tmp_path / "headed" / "lm_head.safetensors").unlink()
    save_file(changed, tmp_path / "headed" / "lm_head.safetensors")
    with pytest.raises(ConfigError, match="the run was planned with"):
        build(run, zoo=Zoo(tmp_path, fallbacks=()), tasks=specs)


def test_a_head_of_another_size_is_refused(tmp_path: Path) -> None:
    headed_backbone(tmp_path / "headed", inside=False)
    save_file({"lm_head.bias": torch.zeros(3)}, tmp_path / "headed" / "lm_head.safetensors")
    run = mixed_run(tmp_path / "headed", "mini-nli", "mini-mlm")
    with pytest.raises(ZooError, match="does not fit this backbone"):
        build(run, zoo=Zoo(tmp_path, fallbacks=()), tasks=[tasks.get(ref.name) for ref in run.tasks])


def test_requests_name_the_head_that_answers_where_an_entry_has_several(backbone_folder: Path, tmp_path: Path) -> None:
    """Full entries are answered one after the other, each in an encoder that need not stay."""
    settings, folder = api.Settings(runs=tmp_path), str(backbone_folder)
    asked: list[tuple[str, list[str], str | None]] = []
    for method in ("lora", "full"):
        run = mixed_run(backbone_folder, "mini-nli", "mini-pos", method=method, max_steps=2)
        name = trained(run, tmp_path / "zoo").key
        asked += [(name, ["Anna sleeps .", "Tom sleeps ."], "mini-nli"), (name, ["Anna sleeps ."], "mini-pos")]
    answers = api.predict_requests(asked, settings=settings, backbone=folder)
    for answer, (name, texts, head) in zip(answers, asked, strict=True):
        (alone,) = api.predict(name, [texts], name=head, settings=settings, backbone=folder)
        assert answer.value == alone.value
    with pytest.raises(ConfigError, match=r"name one of these tasks \(--task\), in a line of --requests as `task`"):
        api.predict_requests([asked[0][:2]], settings=settings, backbone=folder)
    wrong = api.Settings(runs=tmp_path, attention="paked")
    for predicting in (
        lambda: api.predict(asked[0][0], [asked[0][1]], name="mini-nli", settings=wrong, backbone=folder),
        lambda: api.predict_requests(asked[:1], settings=wrong, backbone=folder),
    ):
        with pytest.raises(UnknownName, match="Did you mean 'packed'"):
            predicting()
