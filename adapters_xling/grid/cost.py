"""What a run or an evaluation costs: a model of the machine, corrected by what was timed on it.

The model counts multiplications: parameters of the encoder times tokens, times the passes that a method needs, over the
speed of a matrix product of the backbone's own shape, and beside them the numbers that pass through each layer. What
was timed here becomes a ratio of measured to modelled seconds, and that of the most similar work is applied to the
rest. So with nothing timed there is a rough figure, and whatever was timed makes it better. Times of another type of
device are never used.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from adapters_xling import paths
from adapters_xling.backbones import BACKBONES, Family, Shape
from adapters_xling.errors import XlingError
from adapters_xling.grid.sizes import Size
from adapters_xling.methods import Method
from adapters_xling.model import backbones_dir
from adapters_xling.spec import Recipe, TaskSpec
from adapters_xling.zoo import Zoo

PROBE_S = 0.1
"""Computing time of the speed measurement; the median of its pieces counts, so that one lucky piece does not."""
PROBE_ROWS = 1024
"""Rows of the matrix that is multiplied: about the tokens of a small batch."""
FEWEST_ROWS = 128
"""Rows of that of a large encoder, whose products are long enough; with fewer, products are slower than in training."""
PIECE_FLOPS = 5e8
"""Multiplications and additions of one piece that is timed, unless a single product has more of them."""
GPU_FLOPS = 10e12
"""Multiplications and additions per second that a GPU is taken to do: it cannot be asked without loading torch."""

# The constants below were fitted to 87 runs and 714 evaluated sets of the grids `mini` and `quickstart` (nano backbone,
# AMD EPYC, two workers of one thread, an idle machine; the probe gives 90 GFLOP/s there): see LOG.md. How the time is
# divided between products and the rest was judged from `quickstart` on a machine whose probe gave 202 GFLOP/s: 354 s
# there against 408 s, so that much of a narrow encoder's time is no product.
EFFICIENCY = 1.0
"""Share of the probe's speed that products of a processor reach."""
GPU_EFFICIENCY = 0.6
"""The same of a GPU, all else included: assumed, for nothing was timed on one."""
ELEMENT_S = 2.3e-8
"""Seconds that a processor takes, for each number of a token's vector in one pass over one layer, beside the products
(normalisation, activation, copies): of a width of 128 two fifths of the time, of 1024 a twelfth."""
SLOT_FACTOR = 3.0
"""Multiplications of a slot's thin maps take so many times longer than those of the encoder's wide ones."""
LAYER_S = 0.001
"""Seconds that one layer costs in one pass beside its multiplications (calls, small tensors)."""
ROW_S = 0.0002
"""Seconds per row for reading, encoding, decoding and scoring."""
OPEN_S, BYTES_PER_S = 0.5, 4e8
"""Seconds to put a model together, and bytes of weights per second that are read and checked."""
PADDING = 1.15
"""Tokens of a training batch over tokens of its rows; evaluation sorts by length."""

TOKENS_PER_BATCH, CPU_TOKENS_PER_BATCH = 8192, 1024
"""Tokens of one evaluation batch (`inference` has the same two, which cannot be read without torch)."""
RETRIEVAL_LENGTH = 512
"""Tokens at which retrieval cuts a sentence (`evaluation.DEFAULT_MAX_LENGTH`, likewise)."""

Key = tuple[str, ...]
MIXED = "mixed"


def kind_of(kinds: Iterable[str]) -> str:
    """Kind of a run's tasks, or `MIXED`."""
    found = set(kinds)
    return found.pop() if len(found) == 1 else MIXED


@dataclass(frozen=True)
class Load:
    """Some work on an encoder.

    Attributes:
        rows: rows read, encoded and decoded (or, in training, prepared once).
        forward: tokens of a forward pass alone.
        trained: tokens of a forward and a backward pass.
        steps: batches of `trained`.
        batches: batches of `forward` at least: one for each time that a set is read.
        width: tokens of one encoder row.
        guessed: tokens, times the passes over them, whose logits over the vocabulary are computed (masked-LM).
        opened: models put together.
        read: hidden state that is read (0: the embeddings' output); None for what the method says, else the last one.
    """

    rows: float = 0.0
    forward: float = 0.0
    trained: float = 0.0
    steps: float = 0.0
    batches: float = 0.0
    width: float = 0.0
    guessed: float = 0.0
    opened: float = 0.0
    read: int | None = None


def training_load(
    recipe: Recipe,
    *,
    steps: float,
    evaluations: int,
    rows: float,
    features: float,
    dev: float,
    tokens: float,
    width: float,
    masked: float = 0.0,
    opened: float = 1.0,
) -> Load:
    """What training on a task loads the machine with: its steps, and the dev evaluations between them.

    Args:
        recipe: batch sizes.
        steps: optimiser steps of this task.
        evaluations: how often the dev rows are scored.
        rows: training rows that are read and encoded.
        features: what they give to train on (windows of long contexts count apart).
        dev: dev rows of one evaluation.
        tokens: mean tokens of one of these features.
        width: mean tokens of one encoder row.
        masked: share of the tokens that are guessed over the whole vocabulary.
        opened: models put together; a share where several tasks are trained in one.
    """
    batches = steps * recipe.accumulate
    dev_tokens = dev * tokens * features / max(rows, 1)
    trained = batches * min(recipe.batch_size, max(features, 1)) * tokens
    return Load(
        rows=rows + evaluations * dev,
        forward=evaluations * dev_tokens,
        trained=trained,
        steps=batches,
        batches=evaluations if dev_tokens else 0,
        width=width,
        guessed=masked * (3 * trained + evaluations * dev_tokens),
        opened=opened,
    )


def scoring_load(size: Size, rows: float, read: int | None) -> Load:
    """What scoring so many encoded rows of a set loads the machine with; `read` as in `Load`."""
    tokens = rows * size.tokens
    return Load(rows=rows, forward=tokens, batches=1 if tokens else 0, width=size.width, read=read)


def retrieval_layer(task: TaskSpec, backbone: str, shape: Shape) -> int | None:
    """Hidden state that a task without training reads; None for the others, which read what their method says."""
    if task.train_languages:
        return None
    row = BACKBONES.get(backbone)
    return row.retrieval_layer if row else max(1, round(shape.layers * 7 / 12))


@dataclass(frozen=True)
class Machine:
    """Modelled speed: multiplications and additions per second of one worker, by type of device."""

    flops: float
    device: str = "cpu"

    @classmethod
    def measure(cls, device: str, shape: Shape) -> Machine:
        """Time a matrix product of the backbone's shape; a GPU is taken to do `GPU_FLOPS`.

        Computing time is counted, over all threads: the speed of one core that has nothing else to do.
        """
        return cls(measured_flops(shape) if device == "cpu" else GPU_FLOPS, device)

    def seconds(self, load: Load, shape: Shape, family: Family, method: Method | None) -> float:
        """Modelled time of some work; `method` is None for the bare backbone."""
        layers = shape.layers
        own_read = None if method is None else method.read_layer(layers)
        read = min(next((at for at in (own_read, load.read) if at is not None), layers), layers)
        lowest = layers + 1 if method is None else method.lowest_layer(layers)
        above = max(0, read - max(lowest, 1) + 1)
        added, saved = (0, 0) if method is None else _num_parameters(method, shape, family)
        own = min(max(saved - added, 0), layers * shape.layer_parameters)  # the encoder's own weights that train
        speed = self.flops * (EFFICIENCY if self.device == "cpu" else GPU_EFFICIENCY)
        layer = 2 * shape.layer_parameters + 4 * load.width * shape.hidden
        layer += ELEMENT_S * shape.hidden * speed * (self.device == "cpu")
        slot = 2 * added * SLOT_FACTOR
        forward = read * layer + slot
        backward = (above + own / shape.layer_parameters) * layer + 2 * slot
        flops = (load.forward + load.trained * PADDING) * forward + load.trained * PADDING * backward
        flops += 2 * load.guessed * shape.vocabulary * shape.hidden
        at_once = CPU_TOKENS_PER_BATCH if self.device == "cpu" else TOKENS_PER_BATCH
        batches = max(load.batches, load.forward / at_once)
        calls = (batches + load.steps) * read + load.steps * (above + min(above, read))
        opening = load.opened * (OPEN_S + 4 * shape.num_parameters / BYTES_PER_S)
        return flops / speed + calls * LAYER_S + load.rows * ROW_S + opening


@lru_cache(maxsize=256)
def _num_parameters(method: Method, shape: Shape, family: Family) -> tuple[int, int]:
    """Parameters that a method adds, and that it saves: a plan asks for those of few methods thousands of times."""
    return method.num_added(shape, family), method.num_saved(shape, family)


def measured_flops(shape: Shape, seconds: float = PROBE_S) -> float:
    """Multiplications and additions per second of computing time, of a float32 product of (rows, D) and (D, ffn)."""
    import numpy as np

    row = 2 * shape.hidden * shape.ffn
    rows = min(PROBE_ROWS, max(FEWEST_ROWS, round(PIECE_FLOPS / row)))
    left = np.ones((rows, shape.hidden), dtype=np.float32)
    right = np.ones((shape.hidden, shape.ffn), dtype=np.float32)
    out = left @ right
    flops = rows * row
    repeats = max(1, round(PIECE_FLOPS / flops))
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        started = time.process_time()
        for _ in range(repeats):
            np.matmul(left, right, out=out)
        times.append(max(time.process_time() - started, 1e-9))
    return repeats * flops / statistics.median(times)


def shape_of(name: str, *, zoo: Zoo) -> Shape:
    """Size of a backbone: from its row, else from the `config.json` in its folder; no weight is read.

    Raises:
        XlingError: when neither says it.
    """
    row = BACKBONES.get(name)
    if row is not None and row.shape is not None:
        return row.shape
    folders = [Path(name), zoo.root / name, paths.shipped_zoo_dir() / name]
    folders += [own / name] if (own := backbones_dir()) is not None else []
    for folder in folders:
        if (folder / "config.json").is_file():
            try:
                config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
                return Shape(
                    layers=int(config["num_hidden_layers"]),
                    hidden=int(config["hidden_size"]),
                    ffn=int(config["intermediate_size"]),
                    vocabulary=int(config["vocab_size"]),
                    positions=int(config["max_position_embeddings"]),
                    types=int(config.get("type_vocab_size", 1)),
                    heads=int(config.get("num_attention_heads", 0)),
                )
            except (OSError, ValueError, KeyError, TypeError) as err:
                raise XlingError(f"{folder / 'config.json'}: does not say the encoder's size ({err!r})") from err
    raise XlingError(f"backbone {name!r}: no config.json that says its size in {', '.join(map(str, folders))}")


@dataclass
class Ratios:
    """Measured over modelled seconds, by what was timed.

    `note` files a measurement under every description of it, `find` looks a piece of work up, the most similar
    description first.
    """

    known: dict[Key, list[float]] = field(default_factory=dict)

    def note(self, similar: Sequence[Key], measured: float, modelled: float) -> None:
        """Keep one measurement under all descriptions of its own sort (a scoring is looked up for a training, not kept
        as one).
        """
        if measured > 0 and modelled > 0:
            for key in similar:
                if key[0] == similar[0][0]:
                    self.known.setdefault(key, []).append(measured / modelled)

    def find(self, similar: Sequence[Key]) -> tuple[float, int | None]:
        """The median ratio of the most similar measured work and how far down the list it was found, or (1, None)."""
        for rank, key in enumerate(similar):
            if key in self.known:
                return statistics.median(self.known[key]), rank
        return 1.0, None


def similar_training(backbone: str, method: str, task: str, kind: str) -> tuple[Key, ...]:
    """From most to least alike: what the cost of a training run may be read from; `kind` is `MIXED` for a mixture of
    several.
    """
    return (
        ("train", backbone, method, task),
        ("train", backbone, method, f"kind {kind}"),
        ("train", backbone, f"kind {kind}"),
        ("train", backbone),
        ("score", backbone),
    )


def similar_scoring(backbone: str, method: str, task: str, kind: str, language: str) -> tuple[Key, ...]:
    """From most to least alike: what the cost of scoring a set may be read from."""
    return (
        ("score", backbone, method, task, language),
        ("score", backbone, method, task),
        ("score", backbone, f"task {task}"),
        ("score", backbone, f"kind {kind}"),
        ("score", backbone),
        ("train", backbone),
    )
