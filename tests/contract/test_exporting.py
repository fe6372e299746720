"""Exports answer as the entry does, in the hands of the library they are for and without this package."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from worlds import NLI, TAGS, a_batch, a_run, train_entry, write_backbone

from adapters_xling import exporting
from adapters_xling.errors import ConfigError, UnknownName
from adapters_xling.exporting import FORMS, export
from adapters_xling.methods import resolve
from adapters_xling.model import open_entry
from adapters_xling.spec import Slot, Stack, TaskSpec, Use
from adapters_xling.tasks.examples import Answer, ChoiceExample, SpanExample
from adapters_xling.zoo import Zoo, trace

SPANS = TaskSpec(
    name="tiny-spans", kind="span", role="private", title="tiny", languages=("en",), sources=(), metrics=("f1",)
)
CHOICES = TaskSpec(
    name="tiny-choices",
    kind="choice",
    role="private",
    title="tiny",
    languages=("en",),
    sources=(),
    metrics=("accuracy",),
)
needs_onnx = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs the extra onnx",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Zoo]:
    root = tmp_path_factory.mktemp("export")
    return write_backbone(root / "tiny"), Zoo(root / "zoo", fallbacks=())


@pytest.fixture(autouse=True)
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    import worlds

    span = SpanExample(
        id="a", question="who gave the book ?", context="Anna gave a red book to Ben", answers=(Answer("Anna", 0),)
    )
    choice = ChoiceExample(id="a", prompt="the cat sat", choices=("on the mat", "in Paris"), label=0)
    monkeypatch.setitem(worlds.ROWS, "tiny-spans", [span])
    monkeypatch.setitem(worlds.ROWS, "tiny-choices", [choice, choice])


def batch(model: Any, task: TaskSpec) -> dict[str, torch.Tensor]:
    return {name: value for name, value in a_batch(model, task).items() if name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize("case", ["full", "head", "lora", "lora-all", "dora"])
def test_a_merged_encoder_is_loaded_by_plain_transformers(case: str, world: tuple[Path, Zoo], tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from transformers import AutoModel, AutoTokenizer

    backbone, zoo = world
    entry, expected = train_entry(a_run(case, backbone), zoo)
    done = export(entry.key, tmp_path / "out", zoo=zoo, backbone=backbone)
    assert done.difference is not None and done.difference < 1e-5
    assert {"config.json", "model.safetensors", "heads.safetensors", "tokenizer.json", "xling.json"} <= set(done.files)
    assert not [name for name in done.files if name.endswith((".bin", ".pt"))]
    encoder = AutoModel.from_pretrained(tmp_path / "out", add_pooling_layer=False).eval()
    inputs = batch(open_entry(entry.key, zoo=zoo, backbone=backbone), NLI)
    heads = load_file(tmp_path / "out" / "heads.safetensors")
    with torch.no_grad():  # as docs/sharing.md says
        vectors = encoder(**inputs).last_hidden_state[:, 0]
        vectors = torch.tanh(vectors @ heads["pooler.dense.weight"].T + heads["pooler.dense.bias"])
        vectors = torch.tanh(vectors @ heads["heads.tiny-nli.dense.weight"].T + heads["heads.tiny-nli.dense.bias"])
        found = vectors @ heads["heads.tiny-nli.out.weight"].T + heads["heads.tiny-nli.out.bias"]
    assert torch.allclose(found, expected, atol=1e-5)
    text = "the cat sat on the mat"
    ours = open_entry(entry.key, zoo=zoo, backbone=backbone).tokenizer(text)["input_ids"]
    assert AutoTokenizer.from_pretrained(tmp_path / "out")(text)["input_ids"] == ours
    assert str(backbone) not in (tmp_path / "out" / "config.json").read_text()


def test_a_stack_of_lora_is_merged_as_its_sum(world: tuple[Path, Zoo], tmp_path: Path) -> None:
    backbone, zoo = world
    parent, _ = train_entry(a_run("lora", backbone, seed=3), zoo)
    route = Stack(parts=(Use(entry=parent.key), Slot()))
    child, _ = train_entry(a_run("lora", backbone, route=route, seed=4), zoo)
    assert (export(child.key, tmp_path / "out", zoo=zoo, backbone=backbone).difference or 0) < 1e-5


def test_an_encoder_whose_heads_read_a_lower_layer_is_written_whole_and_says_which(
    world: tuple[Path, Zoo], tmp_path: Path
) -> None:
    backbone, zoo = world
    run = a_run("head", backbone)
    run = msgspec.structs.replace(run, method=resolve("head", {"layer": 1}).spec())
    entry, _ = train_entry(run, zoo)
    done = export(entry.key, tmp_path / "out", zoo=zoo, backbone=backbone)
    assert done.difference is not None and done.difference < 1e-5
    about = json.loads((tmp_path / "out" / "xling.json").read_text())
    assert about["layer"] == 1
    terms = trace(zoo, entry.key).licence()  # of the rows, and of the backbone and parents that go with them
    assert (about["licence"], about["terms"]) == (terms.expression, list(terms.lines()))
    assert about["licence"] != entry.card.licence


@pytest.mark.parametrize("case", ["lora", "full"])
@pytest.mark.parametrize(
    ("task", "form", "auto"),
    [
        (TAGS, "token-classification", "AutoModelForTokenClassification"),
        (SPANS, "question-answering", "AutoModelForQuestionAnswering"),
    ],
)
def test_a_task_model_class_gives_the_same_logits(
    case: str, task: TaskSpec, form: str, auto: str, world: tuple[Path, Zoo], tmp_path: Path
) -> None:
    import transformers

    backbone, zoo = world
    entry, _ = train_entry(a_run(case, backbone, task=task), zoo, task)
    model = open_entry(entry.key, zoo=zoo, backbone=backbone)
    inputs = batch(model, task)
    with torch.no_grad():
        expected = model.head_output(inputs, task)
    export(entry.key, tmp_path / "out", zoo=zoo, form=form, backbone=backbone)
    plain, info = getattr(transformers, auto).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    with torch.no_grad():
        found = plain.eval()(**inputs)
    theirs = found.logits if "logits" in found else torch.stack([found.start_logits, found.end_logits], -1)
    assert torch.allclose(theirs, expected, atol=1e-5)
    if task is TAGS:
        assert plain.config.id2label == {0: "N", 1: "V"}


@pytest.mark.parametrize(("task", "form"), [(NLI, "sequence-classification"), (CHOICES, "multiple-choice")])
def test_a_head_with_two_dense_layers_does_not_pretend_to_fit_a_class_with_one(
    task: TaskSpec, form: str, world: tuple[Path, Zoo], tmp_path: Path
) -> None:
    backbone, zoo = world
    entry, _ = train_entry(a_run("lora", backbone, task=task, seed=7), zoo, task)
    with pytest.raises(ConfigError, match=r"one dense layer with tanh .* ours has two.*--for onnx"):
        export(entry.key, tmp_path / "out", zoo=zoo, form=form, backbone=backbone)
    assert list(tmp_path.iterdir()) == []


@needs_onnx
@pytest.mark.parametrize(
    ("case", "task"),
    [
        *((case, NLI) for case in ("lora", "pfeiffer", "pfeiffer-inv", "prefix", "full")),
        *(("lora", task) for task in (TAGS, SPANS, CHOICES)),
    ],
    ids=lambda value: getattr(value, "kind", value),
)
def test_a_graph_answers_as_the_entry_does_for_any_number_of_rows_and_tokens(
    case: str, task: TaskSpec, world: tuple[Path, Zoo], tmp_path: Path
) -> None:
    import onnxruntime

    backbone, zoo = world
    entry, _ = train_entry(a_run(case, backbone, task=task, seed=11), zoo, task)
    done = export(entry.key, tmp_path / "out", zoo=zoo, form="onnx", backbone=backbone)
    assert done.difference is not None and done.difference < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    model = open_entry(entry.key, zoo=zoo, backbone=backbone)
    whole = batch(model, task)
    for inputs in (whole, {name: value[:1, :7].contiguous() for name, value in whole.items()}):
        with torch.no_grad():
            expected = model.head_output(inputs, task)
        found = session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
        assert torch.allclose(torch.as_tensor(found), expected, atol=1e-4)
    about = json.loads((tmp_path / "out" / "xling.json").read_text())
    assert about["entry"] == entry.key and list(about["heads"]) == [task.head_name]


def test_what_cannot_be_exported_says_what_can(world: tuple[Path, Zoo], tmp_path: Path) -> None:
    backbone, zoo = world
    blocks, _ = train_entry(a_run("pfeiffer", backbone), zoo)
    with pytest.raises(ConfigError, match="cannot be merged into one; export it with --for onnx"):
        export(blocks.key, tmp_path / "out", zoo=zoo, backbone=backbone)
    with pytest.raises(ConfigError, match=r"0 heads that could go into token-classification; its heads: tiny-nli"):
        export(blocks.key, tmp_path / "out", zoo=zoo, form="token-classification", backbone=backbone)
    with pytest.raises(UnknownName, match="token-classification"):
        export(blocks.key, tmp_path / "out", zoo=zoo, form="token-clasification", backbone=backbone)
    with pytest.raises(ConfigError, match="exists already"):
        export(blocks.key, tmp_path, zoo=zoo, backbone=backbone)
    with pytest.raises(
        ConfigError, match="takes every head along, so there is none to choose: leave the task 'tiny-nli'"
    ):
        export(blocks.key, tmp_path / "out", zoo=zoo, task="tiny-nli", backbone=backbone)
    with pytest.raises(UnknownName):
        export("nothing", tmp_path / "out", zoo=zoo, backbone=backbone)
    assert list(tmp_path.iterdir()) == [] and "encoder" in FORMS


def test_the_way_out_of_a_form_without_a_head_is_one_that_works(
    world: tuple[Path, Zoo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, zoo = world
    entry, _ = train_entry(a_run("lora", backbone, task=TAGS, seed=21), zoo, TAGS)

    def refusal(form: str, **options: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            export(entry.key, tmp_path / "out", zoo=zoo, form=form, backbone=backbone, **options)
        return str(caught.value)

    assert "its heads: tiny-tags (tag). Forms that fit: token-classification, onnx" in refusal("question-answering")
    assert refusal("onnx", task="tiny-tag").endswith("its heads: tiny-tags (tag). Name one with --task")

    def headless(*args: Any, **options: Any) -> Any:
        model = open_entry(*args, **options)
        model.head_cards.clear()
        return model

    monkeypatch.setattr(exporting, "open_entry", headless)
    for form in ("onnx", "token-classification"):
        said = "its heads: none. Without one give --for encoder, or train a head first: xling train TASK --warm "
        assert refusal(form).endswith(said + entry.key)
