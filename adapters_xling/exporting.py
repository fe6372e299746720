"""Entries in forms that need nothing of ours: one merged encoder, a task-model class of transformers, an ONNX graph.

Each form is written aside, loaded again with the library it is for, and compared with the entry's own answers before it
appears. Shapes: N encoder rows, T tokens, D hidden size, C outputs of a head.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapters_xling.errors import ConfigError, ZooError, unknown
from adapters_xling.methods.native import copy_exactly
from adapters_xling.model import Model, open_entry
from adapters_xling.model.backbone import one_at_a_time
from adapters_xling.model.core import ENCODER_INPUTS, task_of_head
from adapters_xling.model.saving import HEADS
from adapters_xling.spec import TaskSpec
from adapters_xling.tasks import kinds
from adapters_xling.tasks.examples import Features
from adapters_xling.tasks.kinds.common import pad_rows
from adapters_xling.zoo import HeadCard, Zoo, trace

ENCODER = "encoder"
ONNX = "onnx"
GRAPH = "model.onnx"
ABOUT = "xling.json"
"""File of an export that says which entry it is, and what its outputs mean."""
TOLERANCE = 1e-4
"""Largest difference from the entry's own answers, for outputs up to 1; larger outputs scale it."""
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "sentencepiece.bpe.model")


@dataclass(frozen=True, kw_only=True)
class TaskClass:
    """A task-model class of transformers.

    Attributes:
        kind: form of task it is for.
        auto: name of its automatic class.
        layer: attribute of its output layer, which takes the place of the last map of our head.
    """

    kind: str
    auto: str
    layer: str


CLASSES: dict[str, TaskClass] = {
    "sequence-classification": TaskClass(
        kind="sentence", auto="AutoModelForSequenceClassification", layer="classifier.out_proj"
    ),
    "multiple-choice": TaskClass(kind="choice", auto="AutoModelForMultipleChoice", layer="classifier"),
    "token-classification": TaskClass(kind="tag", auto="AutoModelForTokenClassification", layer="classifier"),
    "question-answering": TaskClass(kind="span", auto="AutoModelForQuestionAnswering", layer="qa_outputs"),
}
FORMS = (ENCODER, *CLASSES, ONNX)


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was written.

    Attributes:
        folder: where.
        form: one of `FORMS`.
        files: its files.
        difference: largest difference from the entry's own answers; None where it could not be compared.
    """

    folder: Path
    form: str
    files: tuple[str, ...]
    difference: float | None


def export(
    key: str, to: Path, *, zoo: Zoo, form: str = ENCODER, task: str | None = None, backbone: str | Path | None = None
) -> Export:
    """Write an entry, with everything it stands on, in a form that needs nothing of ours.

    Args:
        key: the entry.
        to: a folder that does not exist yet.
        zoo: where entry and parents are.
        form: `encoder` (the merged encoder, its tokenizer and the heads), a task-model class of transformers
            (``token-classification``, …), or `onnx` (encoder and one head as a graph).
        task: whose head, for an entry with several; not with `encoder`, which takes all of them.
        backbone: folder of the entry's backbone, when it cannot be found by itself.

    Raises:
        UnknownName: for an entry or form nobody knows.
        ConfigError: when the entry cannot take that form, saying which it can; for a task that would choose nothing.
        ZooError: when the entry is not what its card says, or the export does not answer as the entry does.
    """
    if form not in FORMS:
        raise unknown("form of an export", form, FORMS)
    if form == ENCODER and task is not None:
        raise ConfigError(
            f"an exported {ENCODER} takes every head along, so there is none to choose: leave the task {task!r} out, "
            f"or name another form ({', '.join(one for one in FORMS if one != ENCODER)})"
        )
    if to.exists():
        raise ConfigError(f"{to} exists already: name a folder that does not")
    entry = zoo.get(key)
    terms = trace(zoo, key).licence()  # of all that it started from and stands on, which goes with it
    model = open_entry(key, zoo=zoo, backbone=backbone)
    spec = None if form == ENCODER else _head(model, key, task, form)
    aside = to.with_name(f".{to.name}.partial-{uuid.uuid4().hex[:12]}")
    try:
        aside.mkdir(parents=True)
        write: Callable[[Model, TaskSpec | None, str, Path, list[dict[str, Tensor]]], float | None]
        write = _write_encoder if form == ENCODER else _write_graph if form == ONNX else _write_class
        inputs = _inputs(model, entry.card.probe.inputs if entry.card.probe else ())
        with _quiet():
            difference = write(model, spec, form, aside, inputs)
        if difference is not None and not difference <= TOLERANCE:
            raise ZooError(
                f"entry {key} as {form}: answers differ by up to {difference:.3g} from the entry's own, {TOLERANCE:g} "
                "is allowed; nothing was written. Compare the package versions in its card with those installed"
            )
        _copy_tokenizer(model, aside)
        if form == ENCODER and entry.card.heads:
            shutil.copyfile(entry.folder / HEADS, aside / HEADS)
        about = {
            "entry": key,
            "form": form,
            "backbone": model.backbone.repo,
            "licence": terms.expression,
            "terms": list(terms.lines()),
            "pooling": model.pooling,
            "layer": model.num_layers if model.read_layer is None else model.read_layer,
            "heads": {n: {"kind": c.kind, "labels": list(c.labels)} for n, c in _heads_of(model, spec).items()},
        }
        (aside / ABOUT).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        to.parent.mkdir(parents=True, exist_ok=True)
        aside.rename(to)
    except OSError as err:
        raise ZooError(f"{to}: cannot be written: {err.strerror or err}; make room or choose another folder") from err
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    files = tuple(sorted(path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file()))
    return Export(folder=to, form=form, files=files, difference=difference)


# --- forms ------------------------------------------------------------------------------------------------------


@one_at_a_time
def _write_encoder(
    model: Model, task: TaskSpec | None, form: str, folder: Path, inputs: list[dict[str, Tensor]]
) -> float:
    """Write the bare encoder with every slot folded in, as `AutoModel.from_pretrained` reads it."""
    from transformers import AutoModel

    with torch.no_grad():
        expected = [model.encode(one, layer=model.num_layers) for one in inputs]
    _merged(model).save_pretrained(folder, safe_serialization=True, max_shard_size="1000GB")
    again = AutoModel.from_pretrained(folder, add_pooling_layer=False, local_files_only=True).eval()
    with torch.no_grad():
        return _worst(expected, [again(**one).last_hidden_state for one in inputs])


@one_at_a_time
def _write_class(
    model: Model, task: TaskSpec | None, form: str, folder: Path, inputs: list[dict[str, Tensor]]
) -> float:
    """Write encoder and head as a task-model class names them, as its `from_pretrained` reads them."""
    import transformers

    assert task is not None
    wanted = CLASSES[form]
    with torch.no_grad():
        expected = [model.head_output(one, task) for one in inputs]
    auto = getattr(transformers, wanted.auto)
    head = model.head_of(task)
    plain = _merged(model)
    config = plain.config
    out: Any = head.out
    config.num_labels = out.out_features
    if task.labels:
        config.id2label = dict(enumerate(task.labels))
        config.label2id = {label: i for i, label in enumerate(task.labels)}
    made = auto.from_config(config).eval()
    state = {f"{made.base_model_prefix}.{name}": tensor for name, tensor in plain.state_dict().items()}
    state |= {f"{wanted.layer}.{name}": tensor for name, tensor in out.state_dict().items()}
    copy_exactly(made.state_dict(), state, folder)
    made.save_pretrained(folder, safe_serialization=True, max_shard_size="1000GB")
    again, info = auto.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    if info["missing_keys"] or info["unexpected_keys"]:
        raise ZooError(f"{wanted.auto} does not take what was written for it: {info}; report this")
    again.eval()

    def answer(one: dict[str, Tensor]) -> Tensor:
        found = again(**one)
        return found.logits if hasattr(found, "logits") else torch.stack([found.start_logits, found.end_logits], -1)

    with torch.no_grad():
        return _worst(expected, [answer(one) for one in inputs])


@one_at_a_time
def _write_graph(
    model: Model, task: TaskSpec | None, form: str, folder: Path, inputs: list[dict[str, Tensor]]
) -> float | None:
    """Write encoder, pooler and head as an ONNX graph over token ids and mask, both (N,T)."""
    assert task is not None
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"an ONNX graph needs the package {package}: pip install 'adapters_xling[onnx]'")

    with contextlib.suppress(AttributeError):
        model.encoder.set_attn_implementation("eager")  # scaled_dot_product chooses kernels a graph cannot hold
    with torch.no_grad():
        expected = [model.head_output(one, task) for one in inputs]
    rows, tokens = torch.export.Dim("rows", min=1, max=4096), torch.export.Dim("tokens", min=2, max=model.max_positions)
    example = _example(model)
    program = torch.onnx.export(
        _Graph(model, task).eval(),
        tuple(example.values()),
        input_names=list(example),
        output_names=["logits"],
        dynamic_shapes={"inputs": tuple({0: rows, 1: tokens} for _ in example)},
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(str(folder / GRAPH), external_data=False)
    if importlib.util.find_spec("onnxruntime") is None:
        warnings.warn("onnxruntime is not installed, so the graph's answers were not compared with the entry's")
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / GRAPH), providers=["CPUExecutionProvider"])
    found = [session.run(["logits"], {name: value.numpy() for name, value in one.items()})[0] for one in inputs]
    return _worst(expected, [torch.as_tensor(value) for value in found])


class _Graph(nn.Module):
    """Encoder, pooler and one head as a function of tensors."""

    def __init__(self, model: Model, task: TaskSpec) -> None:
        super().__init__()
        self.model, self._task = model, task

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map what `_names` lists, each (N,T), to the head's output."""
        return self.model.head_output(dict(zip(_names(self.model), inputs, strict=True)), self._task)


# --- parts ------------------------------------------------------------------------------------------------------


def _head(model: Model, key: str, task: str | None, form: str) -> TaskSpec:
    """The head an export is about.

    Raises:
        ConfigError: when there is none of that kind, several to choose from, or one the class cannot hold.
    """
    every = {n: c for n, c in model.head_cards.items() if kinds.get(c.kind).trains and c.kind != "mlm"}
    asked = every if task is None else {name: card for name, card in every.items() if task in (name, card.task)}
    cards = asked
    if form in CLASSES:
        cards = {name: card for name, card in asked.items() if card.kind == CLASSES[form].kind}
    if len(cards) != 1:
        known = ", ".join(f"{name} ({card.kind})" for name, card in model.head_cards.items()) or "none"
        if cards or (every and not asked):
            way_out = "Name one with --task"
        elif every:
            kind_of = {card.kind for card in asked.values()}
            fitting = [name for name, one in CLASSES.items() if one.kind in kind_of and not kinds.get(one.kind).pooled]
            way_out = f"Forms that fit: {', '.join([*fitting, ONNX])}"
        else:
            way_out = f"Without one give --for {ENCODER}, or train a head first: xling train TASK --warm {key}"
        raise ConfigError(
            f"entry {key} has {len(cards)} heads that could go into {form}; its heads: {known}. {way_out}"
        )
    name, card = next(iter(cards.items()))
    if form in CLASSES and kinds.get(card.kind).pooled:
        raise ConfigError(
            f"entry {key} cannot become {CLASSES[form].auto}: that class has one dense layer with tanh below its "
            "output, ours has two (the pooler, which travels between tasks, and the head's own), so no weights give "
            "the same answers. Export it with --for onnx, or --for encoder and apply its heads (docs/sharing.md)"
        )
    if form in CLASSES and model.read_layer not in (None, model.num_layers):
        raise ConfigError(
            f"entry {key} reads hidden state {model.read_layer} of {model.num_layers}; {CLASSES[form].auto} reads the "
            "last one. Export it with --for onnx"
        )
    return task_of_head(name, card)


def _heads_of(model: Model, task: TaskSpec | None) -> dict[str, HeadCard]:
    return {name: card for name, card in model.head_cards.items() if task is None or name == task.head_name}


def _merged(model: Model) -> Any:
    """A new bare encoder with the backbone's weights and the active slots folded in."""
    model.method.fold(model.encoder)
    module, _, name = model.family.encoder_class.rpartition(".")
    plain: Any = getattr(importlib.import_module(module), name)(_plain_config(model), add_pooling_layer=False).eval()
    named = model.encoder.state_dict()
    state = {own: tensor for full, tensor in named.items() if (own := model.method.backbone_name(full)) is not None}
    copy_exactly(plain.state_dict(), state, Path(model.backbone.name))
    return plain


def _plain_config(model: Model) -> Any:
    """The encoder's configuration without traces of where it was loaded from."""
    import copy

    config = copy.deepcopy(model.encoder.config)
    config._name_or_path = ""
    return config


def _copy_tokenizer(model: Model, folder: Path) -> None:
    model.tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        assert path.suffix not in (".bin", ".pt"), path


def _inputs(model: Model, probes: Any) -> list[dict[str, Tensor]]:
    """Rows to compare on: the entry's probe, and one padded batch."""
    return [_batch(model, one["input_ids"], one.get("second")) for one in probes] + [_example(model)]


def _example(model: Model) -> dict[str, Tensor]:
    """Two rows of made-up tokens, the second padded."""
    vocabulary = len(model.tokens().vectors)
    first = [0, *(5 + i % max(1, vocabulary - 6) for i in range(min(9, model.max_positions - 2))), 2]
    return _batch(model, [first, first[:4]])


def _batch(model: Model, rows: list[list[int]], second: list[int] | None = None) -> dict[str, Tensor]:
    batch = pad_rows([Features(example=0, input_ids=rows, second=second)], model.pad_id)
    return {name: batch.get(name, torch.zeros_like(batch["input_ids"])) for name in _names(model)}


def _names(model: Model) -> tuple[str, ...]:
    """Tensors a graph of this backbone reads; the last only where it marks second segments."""
    return ENCODER_INPUTS if model.family.token_types > 1 else ENCODER_INPUTS[:2]


def _worst(expected: list[Tensor], found: list[Tensor]) -> float:
    """Largest difference over all inputs, relative to outputs beyond 1."""
    worst = 0.0
    for one, other in zip(expected, found, strict=True):
        if one.shape != other.shape:
            return float("inf")
        scale = max(1.0, float(one.abs().max()))
        difference = float((one - other).abs().max()) / scale
        worst = max(worst, difference if difference == difference else float("inf"))
    return worst


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence libraries that talk about what is meant here; their errors still come through."""
    from transformers.utils import logging as talk

    verbosity, root = talk.get_verbosity(), logging.root.manager.disable
    talk.set_verbosity_error()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for category in (FutureWarning, DeprecationWarning, UserWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        logging.disable(root)
        talk.set_verbosity(verbosity)
