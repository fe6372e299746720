"""The card: everything one entry says about itself.

Data only; `card_file` writes it to disk and reads it back.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any

import msgspec

from adapters_xling import spec
from adapters_xling.spec import Frozen, KindName, RunSpec, S, Score
from adapters_xling.zoo.known_rows import KnownRows

CARD = "card.json"
CARD_SCHEMA = 1
"""Version of the card's own form. A card that says more is refused: it may mean something this code cannot see."""

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
Number = Annotated[int, msgspec.Meta(ge=0)]
LATER_FIELDS = ("known_rows", "backbone_licence", "parent_weights")
"""Fields of the card that its first form did not have: null, and left out of the file, where they say nothing."""

KEY = re.compile(r"[a-z0-9][a-z0-9-]{0,71}-s-?[0-9]{1,20}-[0-9a-f]{16}")


class FileDigest(Frozen, frozen=True):
    """What one file of an entry must be, to the byte."""

    sha256: Sha256
    num_bytes: Number


class HeadCard(Frozen, frozen=True):
    """A head inside an entry: its form, its outputs in order, and the task it was trained on."""

    kind: KindName
    labels: tuple[str, ...]
    task: str


class Probe(Frozen, frozen=True):
    """A few inputs and the outputs an entry must give for them wherever it is loaded.

    Attributes:
        task: whose head gave the outputs.
        inputs: one mapping per input, e.g. ``{"input_ids": [[0, 5, 2]]}``, as plain nested lists of numbers; with
            `second`, where second segments begin, for backbones that mark them.
        outputs: one nested list of floats per input.
        tolerance: largest absolute difference that still counts as the same output.
    """

    task: str
    inputs: tuple[dict[str, Any], ...]
    outputs: list[Any]
    tolerance: Annotated[float, msgspec.Meta(ge=0)]

    def __post_init__(self) -> None:
        _numbers(self.outputs, "outputs")
        for i, one in enumerate(self.inputs):
            for name, value in one.items():
                _numbers(value, f"inputs[{i}].{name}")
        if not self.inputs or len(self.inputs) != len(self.outputs):
            raise ValueError(f"a probe needs one output per input, found {len(self.outputs)} for {len(self.inputs)}")


class TaskTraining(Frozen, frozen=True):
    """How one task of a mixture fared.

    Attributes:
        rate: share of the steps it was meant to have.
        steps: steps that were its own.
        examples: training rows there were.
        metric: name of its dev metric.
        dev_score: that metric at the step whose weights were kept, in percent.
        chance: what ignoring the input scores on the same dev rows, in percent.
        converged: whether the score is clearly above chance.
        dev_curve: (step, dev score in percent) in order.
    """

    rate: float
    steps: Number
    examples: Number
    metric: str
    dev_score: float
    chance: float
    converged: bool
    dev_curve: tuple[tuple[int, float], ...] = ()


class Training(Frozen, frozen=True):
    """How the training went. Fields can be read by name (`training["metric"]`) as well.

    Of a mixture `metric` is ``mean``: dev score and chance are means over the tasks that select, and `converged` says
    that none of these stayed at chance.

    Attributes:
        steps: optimiser steps taken.
        planned_steps: optimiser steps the recipe allowed.
        best_step: step whose weights were kept.
        epochs: passes over the training rows, fractional when stopped early.
        seconds: wall-clock time of the loop.
        tokens: sub-word tokens seen, without padding.
        examples: training rows there were.
        metric: name of the dev metric that selected `best_step`.
        dev_score: that metric at `best_step`, in percent.
        chance: what ignoring the input scores on the same dev rows, in percent.
        converged: whether the score is clearly above chance.
        dev_curve: (step, dev score in percent) in order.
        losses: (step, mean training loss) in order; null where the loss was not a finite number.
        device: type of the device it ran on (`cpu`, `cuda`); null where that was not noted.
        processes: how many trained together, each on a device of its own.
        prefix_storage: ``bf16`` where hidden states of frozen layers were kept in bfloat16, which changes the weights;
            null where they were kept as computed, or not.
        tasks: of a mixture, each task by name; empty for one task.
    """

    steps: Number
    best_step: Number
    seconds: float
    tokens: Number
    examples: Number
    metric: str
    dev_score: float
    chance: float
    converged: bool
    planned_steps: Number | None = None
    epochs: float | None = None
    dev_curve: tuple[tuple[int, float], ...] = ()
    losses: tuple[tuple[int, float | None], ...] = ()
    device: str | None = None
    processes: Number = 1
    prefix_storage: str | None = None
    tasks: dict[str, TaskTraining] = {}

    def __post_init__(self) -> None:
        if any(loss is not None and not math.isfinite(loss) for _, loss in self.losses):
            finite = tuple((s, loss if loss is not None and math.isfinite(loss) else None) for s, loss in self.losses)
            msgspec.structs.force_setattr(self, "losses", finite)

    def __getitem__(self, name: str) -> Any:
        if name not in self.__struct_fields__:
            raise KeyError(name)
        return getattr(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        """One field by name, or `default` when there is no such field."""
        return getattr(self, name) if name in self.__struct_fields__ else default


class DataCard(Frozen, frozen=True):
    """Rows one split gave in one language: how many were kept, how many dropped and why, and what identifies them.

    Attributes:
        kept: rows that passed every check.
        dropped: reason -> rows turned away for it.
        identity: digest of the bytes, generator version or hub revision they came from.
        source: where they came from, for people.
        used: rows that were really used, where a limit cut them.
        renamed: rows whose id an earlier row already had.
        samples: (file, row number, reason) of the first few dropped rows.
        files: files read, relative to the data folder.
    """

    kept: Number
    dropped: dict[str, Number] = msgspec.field(default_factory=dict)
    identity: str = ""
    source: str = ""
    used: Number | None = None
    renamed: Number = 0
    samples: tuple[tuple[str, int, str], ...] = ()
    files: tuple[str, ...] = ()


class Provenance(Frozen, frozen=True):
    """Where, when and with what an entry was made; free of paths, host names and user names.

    Attributes:
        created: UTC, ISO 8601.
        commit: git commit; null outside a checkout, or before its first commit.
        dirty: whether files differed from that commit; null outside a checkout.
        checkout: what the checkout holds: the `package` itself, or only the working `folder`.
        packages: installed versions.
        gpu: name and number, where one was visible to torch.
        command: the command line without folders and tokens.
    """

    created: str
    commit: str | None
    dirty: bool | None
    checkout: str | None
    packages: dict[str, str]
    python: str
    platform: str
    cpu: str
    gpu: str | None
    num_threads: Number
    command: str


class Facts(Frozen, frozen=True):
    """What only the trainer knows about an entry, handed to `Draft.finish`.

    `probe` and `training` must be named even when they are None (a merge, a bare backbone). Plain mappings are taken
    for `heads`, `probe`, `training` and `data` too, and read as strictly as YAML.

    Attributes:
        backbone_fingerprint: digest of the backbone's tensors as loaded.
        heads: name -> head inside the entry.
        data: ``task/split/language`` -> what became of its rows.
        scores: evaluation results, where there are any already.
        known_rows: benchmark rows among the training rows; None where nobody looked.
        backbone_licence: what a backbone without a row in `backbones.py` says of itself; None where it says nothing.

    Raises:
        ConfigError: naming a field that is unknown, missing or of the wrong type.
    """

    backbone_fingerprint: str
    heads: dict[str, HeadCard]
    probe: Probe | None
    training: Training | None
    num_trainable: Number
    num_parameters: Number
    dev_scores: tuple[Score, ...] = ()
    scores: tuple[Score, ...] = ()
    data: dict[str, DataCard] = msgspec.field(default_factory=dict)
    licence: str = "unknown"
    notes: str = ""
    known_rows: KnownRows | None = None
    backbone_licence: str | None = None

    def __post_init__(self) -> None:
        def read(cls: type[S], value: Any, place: str) -> Any:
            return spec.decode(cls, value, f"facts.{place}") if isinstance(value, Mapping) else value

        for name, value in (
            ("probe", read(Probe, self.probe, "probe")),
            ("training", read(Training, self.training, "training")),
            ("heads", {k: read(HeadCard, v, f"heads.{k}") for k, v in self.heads.items()}),
            ("data", {k: read(DataCard, v, f"data.{k}") for k, v in self.data.items()}),
        ):
            msgspec.structs.force_setattr(self, name, value)


class Card(Frozen, frozen=True):
    """The machine-readable description of an entry (`card.json`).

    Fields added after the first cards were sealed (`LATER_FIELDS`) stand last and are left out of the file at their
    default, so that old cards stay what they were.
    """

    schema: int
    key: str
    digest: Sha256
    run: RunSpec
    parents: tuple[str, ...]
    files: dict[str, FileDigest]
    backbone_fingerprint: str
    heads: dict[str, HeadCard]
    probe: Probe | None
    training: Training | None
    num_trainable: Number
    num_parameters: Number
    dev_scores: tuple[Score, ...]
    scores: tuple[Score, ...]
    data: dict[str, DataCard]
    provenance: Provenance
    licence: str
    notes: str
    known_rows: KnownRows | None = None
    backbone_licence: str | None = None
    parent_weights: dict[str, Sha256] | None = None
    """Parent -> `weights` of the entry that it was then: a key does not hold them, and one that is trained again has
    others. Null without parents, and on cards of before."""

    def __post_init__(self) -> None:
        for name in self.files:
            if why := unsafe_name(name):
                raise ValueError(f"files: {name!r} {why}")

    @property
    def weights(self) -> str:
        """Digest of the digests of the entry's files: the very weights it is."""
        return spec.digest({name: file.sha256 for name, file in self.files.items()})

    @property
    def num_bytes(self) -> int:
        """Size of all files of the entry, the card itself not counted."""
        return sum(file.num_bytes for file in self.files.values())


def unsafe_name(name: str) -> str | None:
    """Say why a file name inside a card may not be followed, or None when it stays inside its entry.

    >>> unsafe_name("adapter/model.safetensors")
    >>> unsafe_name("../../etc/passwd")
    'leaves the entry (..)'
    """
    path = PurePosixPath(name)
    if not name or name != str(path) or name == ".":
        return "is not a plain relative path"
    if path.is_absolute() or "\\" in name or ":" in name:
        return "is an absolute or a platform-specific path"
    if ".." in path.parts:
        return "leaves the entry (..)"
    if any(ord(char) < 32 or 0xD800 <= ord(char) <= 0xDFFF for char in name):
        return "holds control characters"
    if name == CARD:
        return "is the card itself"
    return None


def build(
    run: RunSpec,
    facts: Facts,
    *,
    files: dict[str, FileDigest],
    provenance: Provenance,
    clean: Callable[[str], str] = str,
    parent_weights: dict[str, str] | None = None,
) -> Card:
    """Put a card together from the run, the trainer's facts and what the zoo found out itself.

    `clean` is applied to every free text (notes, sources), so that no private path travels. `parent_weights` are those
    of the parents that are at hand.
    """
    data = {
        name: msgspec.structs.replace(
            rows,
            source=clean(rows.source),
            files=tuple(map(clean, rows.files)),
            samples=tuple((clean(file), row, clean(why)) for file, row, why in rows.samples),
        )
        for name, rows in facts.data.items()
    }
    names = ("backbone_fingerprint", "heads", "probe", "training", "num_trainable", "num_parameters")
    return Card(
        schema=CARD_SCHEMA,
        key=spec.key(run),
        digest=spec.digest(run),
        run=run,
        parents=run.parents,
        files=files,
        **{name: getattr(facts, name) for name in names},
        dev_scores=facts.dev_scores,
        scores=facts.scores,
        data=data,
        provenance=provenance,
        licence=facts.licence,
        notes=clean(facts.notes),
        known_rows=facts.known_rows,
        backbone_licence=facts.backbone_licence and clean(facts.backbone_licence),
        parent_weights=parent_weights or None,
    )


def _numbers(value: Any, where: str) -> None:
    """Refuse anything but nested lists of finite numbers."""
    if isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _numbers(item, f"{where}[{i}]")
    elif not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{where}: expected finite numbers in plain lists, found {value!r}")
