"""What the contract tests run on: a tiny encoder, inputs, methods with settings, and runs over a local backbone."""

from __future__ import annotations

import atexit
import functools
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapters_xling.methods import Method, resolve
from adapters_xling.model import Model, backbone_id, build, save_entry
from adapters_xling.spec import Fresh, Init, Recipe, Route, RunSpec, Slot, TaskRef, TaskSpec
from adapters_xling.tasks import kinds
from adapters_xling.tasks.examples import SentenceExample, TagExample
from adapters_xling.zoo import Entry, Facts, Zoo

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from tiny import tiny_encoder, tiny_tokenizer

LAYERS, HIDDEN = 3, 32

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "full": ("full", {}),
    "full-frozen-tokens": ("full", {"train_embeddings": False}),
    "head": ("head", {}),
    "pfeiffer": ("bottleneck", {"reduction_factor": 4}),
    "pfeiffer-top": ("bottleneck", {"reduction_factor": 4, "leave_out": (0, 1), "dropout": 0.2}),
    "pfeiffer-inv": ("bottleneck", {"reduction_factor": 4, "inv_adapter": "nice"}),
    "houlsby": ("bottleneck", {"architecture": "houlsby", "reduction_factor": 4, "scaling": "channel"}),
    "parallel": ("bottleneck", {"architecture": "parallel", "reduction_factor": 4}),
    "compacter": ("bottleneck", {"architecture": "compacter", "reduction_factor": 4}),
    "prefix": ("bottleneck", {"architecture": "prefix", "prefix_length": 3, "prefix_bottleneck": 8}),
    "lora": ("lora", {"r": 4}),
    "lora-all": ("lora", {"r": 2, "targets": "all-linear", "rslora": True}),
    "lora-top": ("lora", {"r": 2, "layers": (2,), "alpha": 3.0}),
    "dora": ("lora", {"r": 2, "dora": True}),
}
SLOTTED = tuple(name for name, (method, _) in CASES.items() if method in ("bottleneck", "lora"))
STACKING = tuple(name for name in SLOTTED if name not in ("parallel", "dora", "pfeiffer-inv"))
OWN, PARENT, OTHER = "s000_", "s001_", "s002_"


def method_of(case: str) -> Method:
    name, settings = CASES[case]
    return resolve(name, settings)


def new_encoder() -> Any:
    return tiny_encoder(len(tiny_tokenizer()), layers=LAYERS, hidden=HIDDEN).requires_grad_(False)


def inputs(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids_NT = torch.randint(4, len(tiny_tokenizer()) - 1, (3, 9), generator=generator)
    mask_NT = torch.ones_like(ids_NT)
    ids_NT[:, 0], ids_NT[1, 6:], mask_NT[1, 6:] = 0, 1, 0
    return {"input_ids": ids_NT, "attention_mask": mask_NT}


@torch.no_grad()
def hidden_states(encoder: Any) -> tuple[Tensor, ...]:
    return encoder(**inputs(), output_hidden_states=True).hidden_states


def output(encoder: Any) -> Tensor:
    return hidden_states(encoder)[-1]


def snapshot(encoder: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in encoder.state_dict().items()}


def train(encoder: Any, names: frozenset[str], *, steps: int = 3) -> None:
    """A few optimiser steps over everything that asks for gradients, away from the initial weights."""
    asking = [p for name, p in encoder.named_parameters() if p.requires_grad]
    assert len(asking) == len(names)
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(asking, lr=0.05)
    for step in range(steps):
        loss = (encoder(**inputs(step)).last_hidden_state[:, :2] * torch.linspace(-1, 1, HIDDEN)).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@functools.cache
def _trained(case: str, seed: int) -> tuple[Path, Tensor]:
    folder = Path(tempfile.mkdtemp(prefix="xling-slot-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    method, encoder = method_of(case), new_encoder()
    torch.manual_seed(seed)
    trainable = method.attach(encoder, OWN, None, Slot())
    if trainable.parameters:
        train(encoder, trainable.parameters)
    method.save(encoder, OWN, folder)
    return folder, output(encoder)


def trained_slot(case: str, folder: Path, *, seed: int = 0) -> Tensor:
    """Save a slot that was trained alone on a fresh encoder; returns what that encoder computed with it."""
    made, expected = _trained(case, seed)
    shutil.copytree(made, folder, dirs_exist_ok=True)
    return expected


# --- whole runs -------------------------------------------------------------------------------------------------

NLI = TaskSpec(
    name="tiny-nli",
    kind="sentence",
    role="private",
    title="tiny",
    languages=("en",),
    sources=(),
    metrics=("accuracy",),
    labels=("yes", "no", "maybe"),
)
TOPIC = TaskSpec(
    name="tiny-topic",
    kind="sentence",
    role="private",
    title="tiny",
    languages=("en",),
    sources=(),
    metrics=("accuracy",),
    labels=("house", "park"),
)
TAGS = TaskSpec(
    name="tiny-tags",
    kind="tag",
    role="private",
    title="tiny",
    languages=("en",),
    sources=(),
    metrics=("accuracy",),
    labels=("N", "V"),
)
NLI_ROWS = [
    SentenceExample(id=str(i), first=first, second=second, label=label)
    for i, (first, second, label) in enumerate(
        [
            ("the cat sat on the mat", "the dog ran", "no"),
            ("Anna gave a red book to Ben", "Ben did see Anna", "yes"),
            ("who gave the book ?", "Carl did not see it", "maybe"),
            ("the old house in the green park", "the house", "yes"),
            ("der Hund lief zum Haus", "the dog ran to the house", "yes"),
        ]
    )
]
TOPIC_ROWS = [
    SentenceExample(id="a", first="the old house", label="house"),
    SentenceExample(id="b", first="in the green park", label="park"),
]
TAG_ROWS = [
    TagExample(id="a", words=("the", "dog", "ran"), tags=("N", "N", "V")),
    TagExample(id="b", words=("Anna", "gave", "a", "book"), tags=("N", "V", "N", "N")),
]
ROWS: dict[str, list[Any]] = {"tiny-nli": NLI_ROWS, "tiny-topic": TOPIC_ROWS, "tiny-tags": TAG_ROWS}


def write_backbone(folder: Path, *, seed: int = 0) -> Path:
    tiny_encoder(len(tiny_tokenizer()), layers=LAYERS, hidden=HIDDEN, seed=seed).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def a_recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "learning_rate": 1e-2,
        "batch_size": 5,
        "epochs": 1,
        "max_steps": 3,
        "max_length": 32,
        "accumulate": 1,
        "warmup": 0,
        "weight_decay": 0,
        "adam_epsilon": 1e-8,
        "clip_norm": 1,
        "dropout": 0.1,
        "precision": "fp32",
        "eval_every_steps": 1,
        "patience": 0,
        "dev_examples": 0,
        "max_train_examples": 0,
        "pooling": "first",
        "carry": "none",
    }
    return Recipe(**{**values, **changes})


def a_run(
    case: str,
    backbone: Path,
    *,
    task: TaskSpec = NLI,
    init: Init = Fresh(),  # noqa: B008 - frozen
    route: Route = Slot(),  # noqa: B008
    seed: int = 0,
    **recipe: Any,
) -> RunSpec:
    return RunSpec(
        backbone=backbone_id(str(backbone)),
        tasks=(TaskRef(name=task.name, digest="0" * 64),),
        method=method_of(case).spec(),
        recipe=a_recipe(**recipe),
        init=init,
        route=route,
        seed=seed,
    )


def a_batch(model: Model, task: TaskSpec) -> dict[str, Tensor]:
    kind = kinds.get(task.kind)
    features = kind.encode(ROWS[task.name], model.tokenizer, task, max_length=32)
    return kind.collate(features, pad_id=model.pad_id)


@torch.no_grad()
def logits(model: Model, task: TaskSpec) -> Tensor:
    model.eval()
    return model(a_batch(model, task), task)


def fit(model: Model, task: TaskSpec, *, steps: int = 3) -> None:
    """A few real steps of the task's own loss."""
    kind = kinds.get(task.kind)
    optimizer = torch.optim.AdamW(list(model.trainable_parameters().values()), lr=1e-2)
    batch = a_batch(model, task)
    torch.manual_seed(0)
    model.train()
    for _ in range(steps):
        kind.loss(model(batch, task), batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def publish(model: Model, run: RunSpec, zoo: Zoo, task: TaskSpec) -> Entry:
    with zoo.writing(run) as draft:
        draft.finish(Facts(training=None, **save_entry(model, run, task, draft.folder, ROWS[task.name])))
    assert draft.entry is not None
    return draft.entry


def train_entry(run: RunSpec, zoo: Zoo, task: TaskSpec = NLI) -> tuple[Entry, Tensor]:
    """Build, train and publish a run; the logits are those the live model gave."""
    model = build(run, zoo=zoo, tasks=[task])
    fit(model, task)
    return publish(model, run, zoo, task), logits(model, task)
