"""What an experiment is, as frozen data: sources, tasks, recipes, inits, routes, runs, scores, and their keys.

Everything here is read strictly (an unknown field is an error that names file and field) and hashed canonically
(`key()`), without importing torch or touching a model.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from .composition import Alone as Alone
from .composition import Arithmetic as Arithmetic
from .composition import Average as Average
from .composition import Base as Base
from .composition import Dare as Dare
from .composition import Fresh as Fresh
from .composition import Fuse as Fuse
from .composition import Imported as Imported
from .composition import Init as Init
from .composition import Merge as Merge
from .composition import Merged as Merged
from .composition import Route as Route
from .composition import Slot as Slot
from .composition import Stack as Stack
from .composition import Ties as Ties
from .composition import Use as Use
from .composition import Warm as Warm
from .composition import WeightAverage as WeightAverage
from .composition import describe as describe
from .composition import entries as entries
from .composition import highest as highest
from .composition import named as named
from .composition import outline as outline
from .mixture import Mixture as Mixture
from .mixture import Part as Part
from .mixture import Proportional as Proportional
from .mixture import Sampling as Sampling
from .mixture import Temperature as Temperature
from .mixture import Uniform as Uniform
from .strict import Count, Fraction, Name, NonNegative, Positive
from .strict import Frozen as Frozen
from .strict import S as S
from .strict import decode as decode
from .strict import read_yaml as read_yaml

SCHEMA = 1
"""Version of the canonical form. A field added later is listed in `LATER_FIELDS` instead of raising this."""

ALGORITHM = 1
"""Version of what training means (head initialisation, order of rows, optimiser grouping, selection). Raised by any
change that gives another result from the same run, so that old entries are never taken for new ones."""
ALGORITHM_ON_SEVERAL = 2
"""That of runs whose pooler or head starts from entries side by side; under 1 it was the last one named."""

SEEDS = 2**32
"""Seeds are below this: numpy takes no larger ones."""

# --- where rows come from ---------------------------------------------------------------------------------------


class Partition(Frozen, frozen=True):
    """Split rows that come in one file into disjoint splits by the hash of their group (premise, title, …).

    `splits` gives each split its buckets: ``{"train": [0, 1, 2], "dev": [3]}`` of `buckets` = 4.
    """

    buckets: Count
    splits: dict[str, tuple[int, ...]]
    salt: str = ""


class GeneratorSource(Frozen, frozen=True, tag="generator"):
    """Rows made by this package (the mini world)."""

    task: str
    splits: tuple[str, ...] = ("train", "dev", "test")


class TaskSource(Frozen, frozen=True, tag="tasks"):
    """Rows of several other tasks as one set, each from whichever of its sources is at hand (ANLI+).

    Their rows are taken in turn, so that the first so many hold some of each. `tasks` have the kind, the labels and the
    splits of the task that joins them.
    """

    tasks: tuple[str, ...]
    splits: tuple[str, ...] = ("train", "dev")


class FileSource(Frozen, frozen=True, tag="files"):
    """Rows in the original distribution's files below the data folder.

    `splits` maps a split to one path or several, relative to the data folder; ``{language}`` is replaced by the
    language's code, ``{iso3}`` by its ISO 639-3 code, ``{script}`` by its ISO 15924 script, ``{name}`` by its English
    name in lower case. A path with ``*`` is every file that matches, ordered by name. `options` go to the reader.
    """

    reader: str
    splits: dict[str, str | tuple[str, ...]]
    options: dict[str, Any] = {}
    partition: Partition | None = None
    languages: tuple[str, ...] | None = None


class HubSource(Frozen, frozen=True, tag="hub"):
    """Rows of a script-free data set on the model hub.

    `revision` stays null and `verified` false until somebody resolved it online: a revision nobody resolved is
    never written. `config` and `splits` may hold the placeholders of `languages.fill`. `branch` is what
    `xling data lock` resolves; null is the main branch. ``refs/convert/parquet`` is the hub's own conversion of a data
    set that is a loading script.
    """

    repo: str
    reader: str
    splits: dict[str, str]
    config: str | None = None
    revision: str | None = None
    verified: bool = False
    branch: str | None = None
    options: dict[str, Any] = {}
    partition: Partition | None = None
    languages: tuple[str, ...] | None = None


Source = GeneratorSource | TaskSource | FileSource | HubSource

KindName = Literal["sentence", "choice", "tag", "span", "retrieve", "mlm"]
Role = Literal["intermediate", "target", "training", "mini", "kit", "private"]


class TaskSpec(Frozen, frozen=True):
    """One task: what its rows are, where they lie, how they are scored. One YAML file each.

    Attributes:
        name: how everybody refers to it.
        kind: form of the task; one deep module each in `tasks/kinds/`.
        role: what it serves as in the experiment.
        languages: languages it is evaluated in.
        train_languages: languages its train and dev splits are read in; anything else is zero-shot. Empty for a task
            that nothing is trained for (retrieval).
        sources: tried in order; the first that is at hand is read.
        metrics: names in `metrics/`; the first is the one models are selected by, and of scores of one name (`squad`'s
            f1 and `mlqa`'s) its own is kept.
        labels: label or tag set, in the order of the head's outputs; empty for span and retrieve.
        train_on: name of the task whose train and dev splits this target learns from (XNLI: mnli).
        head: name of the head; tasks with the same head share it.
        eval_split: split that is scored by default.
        languages_by_split: languages a split has where that is fewer than `languages`.
        options: settings of the kind (truncation side, doc_stride, retrieval mode, …), checked by the kind.
        labels_from: split whose rows say what the tags are, where a licence forbids writing them down; `labels` is
            empty then. See `tasks.labels`.
        rows: published size of each split, for people: a number, or a range over languages.
        access: how to get data that cannot be downloaded; said where the files are missing.
        parallel: rows of the same id are translations of each other in all languages, wherever both are there. Such
            rows are not independent, so statistics resample them together. Rows that are merely numbered alike are not.
        pair: of kind sentence: rows have two texts (true) or one (false), others are refused; None takes either.
    """

    name: Name
    kind: KindName
    role: Role
    title: str
    languages: tuple[str, ...]
    sources: tuple[Source, ...]
    metrics: tuple[str, ...]
    labels: tuple[str, ...] = ()
    train_languages: tuple[str, ...] = ("en",)
    train_on: str | None = None
    head: str | None = None
    eval_split: str = "test"
    languages_by_split: dict[str, tuple[str, ...]] = {}
    options: dict[str, Any] = {}
    licence: str = "unknown"
    citation: str = ""
    homepage: str = ""
    labels_from: str | None = None
    rows: dict[str, int | str] = {}
    access: str = ""
    parallel: bool = False
    pair: bool | None = None

    @property
    def head_name(self) -> str:
        """Name under which the head is kept and shared."""
        return self.head or self.name


# --- how things are trained -------------------------------------------------------------------------------------


Precision = Literal["fp32", "bf16"]
FULL: Precision = "fp32"
"""Precision of forward passes where nothing else is said."""
Pooling = Literal["first", "mean", "pair"]
Attention = Literal["auto", "packed", "padded"]
"""How rows of unequal length lie in a batch (`model.packing`); no part of a run."""


class Recipe(Frozen, frozen=True):
    """Optimisation settings, fully resolved before a run is hashed. Defaults: `task_configs/recipes.yaml`.

    Units: `warmup` is a fraction of all steps; `max_length` counts sub-word tokens; `max_steps` of 0 means that
    `epochs` decides; `patience` counts evaluations without gain (0: never stop early); `dev_examples` is how many
    of the first dev rows select the best step (0: all), and `dev_precision` what they are read in. `sort_window` is
    how many batches' rows are put in order of length before they are cut into batches, which then hold less padding (0:
    none). `tokens_at_once` changes neither steps nor order: each batch is computed in pieces of similar length of at
    most so many tokens, padding counted (a longer row alone; 0: whole batches), each of which counts as much as its
    share of the batch's labels. `carry` says what travels from a parent beside the method's own weights: nothing, the
    pooler, or the pooler and (same head only) the head. `pooling` is what a classifying head reads: the first token,
    the mean of all, or both segments' means with their difference and product.
    """

    learning_rate: Positive
    batch_size: Count
    epochs: Positive
    max_steps: Annotated[int, msgspec.Meta(ge=0)]
    max_length: Annotated[int, msgspec.Meta(ge=8)]
    accumulate: Count
    warmup: Fraction
    weight_decay: NonNegative
    adam_epsilon: Positive
    clip_norm: NonNegative
    dropout: Fraction
    precision: Precision
    eval_every_steps: Count
    patience: Annotated[int, msgspec.Meta(ge=0)]
    dev_examples: Annotated[int, msgspec.Meta(ge=0)]
    max_train_examples: Annotated[int, msgspec.Meta(ge=0)]
    pooling: Pooling
    carry: Literal["none", "pooler", "head"]
    dev_precision: Precision = "fp32"
    sort_window: Annotated[int, msgspec.Meta(ge=0)] = 0
    tokens_at_once: Annotated[int, msgspec.Meta(ge=0)] = 0

    def steps(self, num_features: int) -> int:
        """Optimiser steps of a run: `max_steps` where given, else epochs over so many encoded training rows."""
        if self.max_steps:
            return self.max_steps
        return max(1, math.ceil(self.epochs * math.ceil(num_features / (self.batch_size * self.accumulate))))


class MethodSpec(Frozen, frozen=True):
    """A training family by name with every one of its settings written out (`methods.resolve` fills them in)."""

    name: str
    settings: dict[str, Any] = {}


class BackboneId(Frozen, frozen=True):
    """Identity of a backbone: hub repository and commit, or the shipped name, and the digest of its files.

    A digest of ``None`` marks an unlocked backbone: such a run may be planned but not trained.
    """

    name: str
    repo: str
    revision: str | None
    digest: str | None


class TaskRef(Frozen, frozen=True):
    """A task inside a run: its name and the digest of spec, converter version and source revision."""

    name: str
    digest: str


class RunSpec(Frozen, frozen=True):
    """Everything that determines an entry, and nothing else.

    Not here, because it cannot change the result: evaluation batch size, device, number of workers, paths, checkpoints.

    Attributes:
        tasks: one, or the tasks of a mixture sorted by name.
        mixture: how several tasks share the steps; None exactly when there is one task.
        lm_head: sha256 of the file a masked-LM head starts from, where that is none of the files behind
            `backbone.digest`; None otherwise.
        made_by: ``merging`` is a merge (`init`) kept as it is: no step is taken, the seed is 0, and of the recipe,
            which is that of the first entry merged, only pooling and lengths mean something.
    """

    backbone: BackboneId
    tasks: tuple[TaskRef, ...]
    method: MethodSpec
    recipe: Recipe
    init: Init = Fresh()
    route: Route = Slot()
    seed: Annotated[int, msgspec.Meta(ge=0, lt=SEEDS)] = 0
    algorithm: int = ALGORITHM
    schema: int = SCHEMA
    mixture: Mixture | None = None
    lm_head: str | None = None
    made_by: Literal["training", "merging"] = "training"

    @property
    def task(self) -> str:
        """Name of the task, or of the tasks joined by ``+``."""
        return "+".join(task.name for task in self.tasks)

    @property
    def parents(self) -> tuple[str, ...]:
        """Keys of the entries this run starts from or stands on, in order, without repeats."""
        return tuple(dict.fromkeys(named(self.init) + entries(self.route)))

    def recipe_for(self, task: str) -> Recipe:
        """The recipe as a task sees it: in a mixture each has batch size, lengths and numbers of rows of its own."""
        part = self.mixture.parts.get(task) if self.mixture else None
        return msgspec.structs.replace(self.recipe, **msgspec.structs.asdict(part)) if part else self.recipe


class Score(Frozen, frozen=True, omit_defaults=True):
    """One number: a cell of the table. `value` is a percentage; a missing cell has no Score.

    `layer` is the hidden state that retrieval was told to read (null: the configured one), `precision` that of the
    forward passes; both are left out of a written score where they are the default.
    """

    key: str
    task: str
    language: str
    metric: str
    value: float
    num_examples: int
    split: str
    zero_shot: bool
    backbone: str
    method: str
    init: str
    route: str
    intermediate: str
    seed: int
    layer: int | None = None
    precision: Precision = FULL

    def __post_init__(self) -> None:
        if self.precision == FULL:  # what is left out is the default itself, not its like from another process
            msgspec.structs.force_setattr(self, "precision", FULL)


ON = "-on-"
"""Between an entry and the digest of the route that it was scored on, which is not its own."""

# --- identity ---------------------------------------------------------------------------------------------------

LATER_FIELDS: dict[tuple[str, str], Any] = {
    ("TaskSpec", "labels_from"): None,
    ("TaskSpec", "pair"): None,
    ("HubSource", "branch"): None,
    ("RunSpec", "mixture"): None,
    ("RunSpec", "lm_head"): None,
    ("Recipe", "dev_precision"): "fp32",
    ("Recipe", "sort_window"): 0,
    ("Recipe", "tokens_at_once"): 0,
    ("RunSpec", "made_by"): "training",
    ("Score", "layer"): None,
    ("Score", "precision"): "fp32",
}
"""(class, field) -> value that reproduces the behaviour before the field existed; left out of the canonical form at
that value. Entries are never removed, so that keys stay what they were."""

SAID_TO_PEOPLE = frozenset({("TaskSpec", "rows"), ("TaskSpec", "access"), ("TaskSpec", "parallel")})
"""(class, field) that no weight and no score depends on; never part of the canonical form."""


_fields = functools.cache(msgspec.structs.fields)


def canonical(value: Any) -> Any:
    """Reduce spec data to plain JSON types in the one form that is hashed."""
    if isinstance(value, msgspec.Struct):
        info = _fields(type(value))
        cls = type(value).__name__
        plain = {
            field.name: canonical(getattr(value, field.name))
            for field in info
            if (cls, field.name) not in SAID_TO_PEOPLE
            and ((cls, field.name) not in LATER_FIELDS or getattr(value, field.name) != LATER_FIELDS[cls, field.name])
        }
        tag = value.__struct_config__.tag
        return {"type": tag, **plain} if tag else plain
    if isinstance(value, Mapping):
        return {str(k): canonical(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def canonical_json(value: Any) -> str:
    """Canonical JSON: sorted keys, no blanks, NaN refused; 1.0 and 1 are the same number."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """sha256 (64 hex characters) of the canonical JSON of any spec data."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def scored_as(name: str, route: Route | None) -> str:
    """What scores are kept under: the entry, with a digest of the route it does not have by itself."""
    own = Path(name).name
    return own if route is None else f"{own}{ON}{digest(route)[:16]}"


def entry_scored(scored: str) -> str:
    """The entry behind what scores are kept under (`scored_as`)."""
    return scored.partition(ON)[0]


def key(run: RunSpec) -> str:
    """Key of a run: a readable slug and 16 hex characters of its digest. Needs no model and no network.

    The slug is for people; two runs are the same exactly when the digests are.
    """
    slug = "-".join((run.task, run.method.name, str(run.init.__struct_config__.tag), Path(run.backbone.name).name))
    slug = re.sub(r"[^a-z0-9]+", "-", slug.lower()).strip("-")[:72]
    return f"{slug}-s{run.seed}-{digest(run)[:16]}"
