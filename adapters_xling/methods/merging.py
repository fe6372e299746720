"""The arithmetic of merges, on one weight matrix at a time: means, task vectors, TIES and DARE.

What a task vector is differs between methods: the difference to the backbone (full), the update itself (LoRA).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adapters_xling.spec import Dare, Merge, Ties

if TYPE_CHECKING:
    from torch import Tensor


def combine(merge: Merge, vectors: Sequence[Tensor], *, name: str) -> Tensor:
    """Merge the task vectors of one weight.

    Args:
        merge: how.
        vectors: one per entry, all of one shape, in float32.
        name: of the weight; what DARE drops follows from it and the seed.
    """
    import torch

    if isinstance(merge, Ties):
        return _ties(vectors, merge.weights, merge.density)
    if isinstance(merge, Dare):
        vectors = [_drop(v, merge.density, seed=f"{merge.seed}:{i}:{name}") for i, v in enumerate(vectors)]
    total = torch.zeros_like(vectors[0], dtype=torch.float64)
    for vector, weight in zip(vectors, merge.weights, strict=True):
        total += weight * vector.double()
    return total.float()


def _ties(vectors: Sequence[Tensor], weights: Sequence[float], density: float) -> Tensor:
    """Trim each vector to its largest values, elect a sign per value, and take the mean of those that agree."""
    import torch

    trimmed = torch.stack([_trim(vector, density) * weight for vector, weight in zip(vectors, weights, strict=True)])
    elected = torch.sign(trimmed.sum(0))
    agree = (torch.sign(trimmed) == elected) & (trimmed != 0)
    counts = torch.tensor(list(weights), dtype=trimmed.dtype).reshape(-1, *[1] * vectors[0].ndim)
    return (trimmed * agree).sum(0) / (counts * agree).sum(0).clamp(min=torch.finfo(trimmed.dtype).tiny)


def _trim(vector: Tensor, density: float) -> Tensor:
    """Keep the largest values by magnitude, at least one; ties are broken by place, so that the count is exact."""
    import torch

    keep = max(1, math.ceil(density * vector.numel()))
    if keep >= vector.numel():
        return vector
    chosen = vector.abs().flatten().topk(keep, sorted=False).indices
    mask = torch.zeros(vector.numel(), dtype=torch.bool)
    mask[chosen] = True
    return vector * mask.reshape(vector.shape)


def _drop(vector: Tensor, density: float, *, seed: str) -> Tensor:
    """Keep each value with a probability of `density`, divided by it, so that the expected sum stays."""
    import torch

    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:7], "big"))
    return vector * (torch.rand(vector.shape, generator=generator) < density) / density
