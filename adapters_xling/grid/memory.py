"""What memory a training run needs on its device, from shapes alone, and what to change where it does not fit.

Counted is what autograd keeps of each layer for the backward pass, in vectors of the encoder's width per token (the
layer's own input and maps, attention by a fused kernel, two normalisations), beside weights, gradients and AdamW's two
moments. The counts were compared with what torch keeps and allocates on a CPU: see docs/planning.md. A fused attention
kernel and a foreach optimiser are taken for granted on a GPU; neither was measured there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from adapters_xling.backbones import Family, Shape
from adapters_xling.grid.mixing import in_pieces
from adapters_xling.methods import Method
from adapters_xling.spec import Recipe
from adapters_xling.units import GIB, parse_bytes

CONTEXT = 0.75 * GIB
"""Bytes that CUDA and its libraries hold before a tensor is made (assumed; 0.5 to 1 GiB are usual)."""
SLACK = 1.1
"""Reserved over allocated bytes of a caching allocator (assumed)."""
LOGIT_COPIES = 3
"""Logits, their logarithmic softmax and the gradient, in float32."""
MATH_COPIES = 3
"""Attention weights kept by the unfused attention that a CPU takes when attention has dropout (measured)."""


@dataclass(frozen=True)
class Batch:
    """The largest batch of a run.

    Attributes:
        rows: encoder rows: examples, times the choices of each.
        tokens: tokens of the longest row.
        outputs: outputs of the head per token, or 0 where its logits are too few to count.
        guessed: rows times tokens whose logits over the vocabulary are computed (masked-LM).
        in_pieces: whether it is one of several pieces of a batch, whose gradients add up (`tokens_at_once`).
    """

    rows: float
    tokens: int
    outputs: int = 0
    guessed: float = 0.0
    in_pieces: bool = False

    @classmethod
    def of(cls, recipe: Recipe, *, rows: float, tokens: int, outputs: int = 0, masked: float = 0.0) -> Batch:
        """The most that a recipe lets through the encoder at once.

        Args:
            recipe: batch size and `tokens_at_once`.
            rows: encoder rows of an example.
            tokens: of a row.
            outputs: as in `Batch`.
            masked: share of the tokens whose logits over the vocabulary are computed.
        """
        whole = at_once = recipe.batch_size * rows
        if recipe.tokens_at_once:
            at_once = min(whole, max(rows, recipe.tokens_at_once // tokens))
        return cls(at_once, tokens, outputs, masked * at_once * tokens, at_once < whole)


@dataclass(frozen=True)
class Footprint:
    """Bytes a training step needs at most, by what they are for.

    Attributes:
        weights: parameters, trained or not, in float32.
        moments: AdamW's two moments of what trains.
        gradients: of what trains.
        activations: kept for the backward pass, logits included.
        passing: what lives for a moment at the height of the backward pass.
        update: what the optimiser's step makes for a moment.
        accumulating: whether gradients of earlier batches are there during the forward pass.
        fixed: the device's own, before any tensor.
        slack: factor for the allocator's reserve.
    """

    weights: float
    moments: float
    gradients: float
    activations: float
    passing: float
    update: float
    accumulating: bool = False
    fixed: float = 0.0
    slack: float = 1.0

    @property
    def peak(self) -> float:
        """The larger of the backward pass at its height and the optimiser's step."""
        backward = self.activations + self.passing + self.gradients * self.accumulating
        update = self.gradients + self.update
        return self.fixed + self.slack * (self.weights + self.moments + max(backward, update))


def footprint(
    method: Method,
    recipe: Recipe,
    batch: Batch,
    shape: Shape,
    family: Family,
    *,
    device: str = "cuda",
    head_parameters: int = 0,
) -> Footprint:
    """Memory of a training step at its height.

    Args:
        method: what trains.
        recipe: precision, accumulation and dropout.
        batch: the largest batch.
        shape: the encoder's size.
        family: its architecture.
        device: `cuda` or `cpu`.
        head_parameters: of the heads, which always train.
    """
    layers, width, ffn = shape.layers, shape.hidden, shape.ffn / shape.hidden
    read = method.read_layer(layers)
    top = layers if read is None else min(read, layers)
    above = max(0, top - max(method.lowest_layer(layers), 1) + 1)
    added = method.num_added(shape, family)
    own = method.num_trained(shape, family)  # of the encoder itself
    every, trained = shape.num_parameters + added + head_parameters, own + added + head_parameters
    half = recipe.precision == "bf16"
    kept = method.kept(shape, family)
    if own:
        values, casts = 6 + 2 * ffn, 8 + 2 * ffn
    else:
        values, casts = 4 + ffn, 4 + ffn
    layer = (casts / 2 if half else values) + 2  # normalisations take float32 and keep their input
    vectors = above * layer * width + kept.normed + (kept.casts / 2 if half else kept.values)
    mask_bytes = 4 if device == "cpu" else 1
    masks = kept.masks + (own > 0) * (recipe.dropout > 0) * (2 * above + 1) * width
    tokens = batch.rows * batch.tokens
    activations = 4 * tokens * (vectors + 2 * width) + mask_bytes * tokens * masks  # and the embeddings' two
    activations += 4 * batch.rows * batch.tokens**2  # the attention mask, as numbers
    if device == "cpu" and own and recipe.dropout:
        activations += 4 * MATH_COPIES * tokens * batch.tokens * shape.num_heads * above
    if half:
        activations += 2 * shape.layer_parameters * above  # weights cast for the products
    logits = 4 * LOGIT_COPIES * (batch.guessed * shape.vocabulary + tokens * batch.outputs)
    passing = 4 * tokens * width * (2 * ffn + 2) * (0.5 if half else 1)
    table = shape.vocabulary if own >= shape.num_parameters else shape.ffn
    update = 4 * (2 * table * width * (own > 0) if device == "cpu" else trained)
    return Footprint(
        weights=4 * every,
        moments=8 * trained,
        gradients=4 * trained,
        activations=activations + logits,
        passing=passing,
        update=update,
        accumulating=recipe.accumulate > 1 or batch.in_pieces,
        fixed=CONTEXT if device == "cuda" else 0.0,
        slack=SLACK if device == "cuda" else 1.0,
    )


@dataclass(frozen=True)
class Need:
    """What a run needs, and whether the device has it.

    Attributes:
        footprint: of its largest batch; of a mixture, of the task that needs most.
        task: whose batch that is.
        recipe: the run's settings as that task sees them.
        limit: bytes of the device; None where that is not known.
        smaller: the same effective batch in pieces that fit, where the whole does not; None if even one row at a time
            does not.
    """

    footprint: Footprint
    task: str
    recipe: Recipe
    limit: float | None = None
    smaller: Recipe | None = None

    @property
    def fits(self) -> bool | None:
        """Whether it does; None where the device's memory is not known."""
        return None if self.limit is None else self.footprint.peak <= self.limit


def need(task: str, recipe: Recipe, count: Callable[[Recipe], Footprint], limit: float | None) -> Need:
    """Compare a run's footprint with a device and look for pieces of its batch that fit.

    Args:
        task: whose batch it is.
        recipe: batch size and accumulation.
        count: footprint of a training step under other batch sizes.
        limit: bytes of the device; None where that is not known.
    """
    whole = count(recipe)
    if limit is None or whole.peak <= limit:
        return Need(whole, task, recipe, limit)
    for size in range(recipe.batch_size - 1, 0, -1):
        other = in_pieces(recipe, size)
        if count(other).peak <= limit:
            return Need(whole, task, recipe, limit, other)
    return Need(whole, task, recipe, limit)


def device_memory(device: str, given: str | None = None, *, workers: int = 1) -> tuple[str, float | None]:
    """Type of device to plan for, and the bytes one run may use there; None where nobody can tell.

    Args:
        device: type of device that would be used here.
        given: a GPU's memory as a person wrote it, which means that a GPU is planned for.
        workers: runs at a time that share the main memory.

    Raises:
        ConfigError: for text that is no memory.
    """
    if given is not None:
        return "cuda", parse_bytes(given)
    if device == "cuda":
        return device, visible_memory()
    try:
        return device, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / max(workers, 1)
    except (AttributeError, ValueError, OSError):
        return device, None


def visible_memory() -> float | None:
    """Bytes of the smallest visible NVIDIA device, asked of its driver's tool; None where there is none to ask."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603 - fixed words
        return min(float(line) for line in done.stdout.split("\n") if line.strip()) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
