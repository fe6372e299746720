"""Products of two blocks of unit vectors, in float32 or in bfloat16, and how far one may be from the cosine.

Processors with instructions for bfloat16 multiply it several times as fast as float32 (LOG.md: 4.6 times on an AMD EPYC
with AVX-512). What is lost is bounded, not hoped for. With a centre m, x' = x - m and y' = y - m, a cosine is

    x·y = x'·y' + x'·m + m·y' + m·m.

Only x' and y' are rounded, so that vectors which all point the same way, as a multilingual encoder's do, lose little:
the two middle terms are three columns of bfloat16 each beside them, exact to float32, and m·m is a constant. By Cauchy
and Schwarz rounding moves a product by no more than |x' - r(x')| |y'| + |r(x')| |y' - r(y')|; to this come the sum in
float32 and the rounding of what comes out (`Rounded.error`).

Shapes: R rows of a block, D vector size, W columns multiplied.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

CHUNK = 64
"""Blocks are filled up with zero vectors to a multiple of this many rows."""

_ROUNDING = 2.0**-8
"""Largest relative error of rounding to bfloat16."""
_SUMMING = 2.0**-23
"""Largest relative error of a sum in float32 for each number added, twice over."""
_SLACK = 4e-6
"""For the differences x - m, the columns' last bits and the exact cosine's, in float32 of numbers below 2."""
_TERMS = 3
"""Numbers of bfloat16 that a float32 is the sum of."""


class Products(Protocol):
    """How blocks are multiplied."""

    spare: int
    """Neighbours to keep beyond those asked for, among which float64 decides."""
    dtype: torch.dtype
    """Of the products."""

    def left(self, block_RD: np.ndarray, device: Any) -> Tensor:
        """Queries (R,D) as they are multiplied, (R',W), filled up to whole chunks."""
        ...

    def right(self, block_RD: np.ndarray, device: Any) -> Tensor:
        """The same of a corpus."""
        ...

    def certain(self, ours_RD: np.ndarray, kth_R: np.ndarray, worst_R: np.ndarray, *, among: str) -> np.ndarray:
        """Which rows (R,) surely have their k best among those that were kept.

        Args:
            ours_RD: the rows.
            kth_R: exact cosine of the k-th best that was kept.
            worst_R: product of the worst that was kept; others were not.
            among: what the rows were multiplied with, "left" or "right".
        """
        ...


def filled(block_RD: np.ndarray) -> np.ndarray:
    """A block with zero vectors up to whole chunks."""
    missing = -len(block_RD) % CHUNK
    if not missing:
        return block_RD
    return np.concatenate([block_RD, np.zeros((missing, block_RD.shape[1]), np.float32)])


class Plain:
    """Float32: products err in its last digits, which the spare neighbours make up for unless more are as near."""

    spare = 4
    dtype = torch.float32

    def left(self, block_RD: np.ndarray, device: Any) -> Tensor:
        """The block on its device."""
        return torch.from_numpy(np.ascontiguousarray(filled(block_RD))).to(device)

    right = left

    def certain(self, ours_RD: np.ndarray, kth_R: np.ndarray, worst_R: np.ndarray, *, among: str) -> np.ndarray:
        """All of them."""
        return np.ones(len(ours_RD), dtype=bool)


@dataclass
class _Side:
    """The longest centred vector of one side so far, and what rounding took from it at most."""

    length: float = 0.0
    lost: float = 0.0


@dataclass
class Rounded:
    """Bfloat16 around a centre; remembers the bounds of everything it was given.

    Attributes:
        centre: float32 (D,); any vector is right, the mean of both sides loses least.
    """

    centre: Tensor
    spare: int = 12
    dtype: torch.dtype = torch.bfloat16
    _sides: dict[str, _Side] = field(default_factory=lambda: {"left": _Side(), "right": _Side()})

    @classmethod
    def around(cls, *samples: np.ndarray) -> Rounded:
        """Products around the mean of some vectors, each sample (N,D) counting alike."""
        means = [torch.from_numpy(np.ascontiguousarray(sample)).double().mean(0) for sample in samples]
        return cls(torch.stack(means).mean(0).float())

    def left(self, block_RD: np.ndarray, device: Any) -> Tensor:
        """(R',D+6) bfloat16: rounded differences to the centre, their products with it, ones."""
        rounded_RD, terms_RT = self._rounded(block_RD, "left")
        return torch.cat([rounded_RD, terms_RT, torch.ones_like(terms_RT)], dim=1).to(device)

    def right(self, block_RD: np.ndarray, device: Any) -> Tensor:
        """(R',D+6) bfloat16: rounded differences to the centre, ones, their products with it."""
        rounded_RD, terms_RT = self._rounded(block_RD, "right")
        return torch.cat([rounded_RD, torch.ones_like(terms_RT), terms_RT], dim=1).to(device)

    def certain(self, ours_RD: np.ndarray, kth_R: np.ndarray, worst_R: np.ndarray, *, among: str) -> np.ndarray:
        """Where the k-th best is above anything that a product as low as the worst kept one can stand for."""
        centred_RD, rounded_RD = self._centred(ours_RD)
        lost_R = _lengths(centred_RD - rounded_RD.float())
        highest_R = worst_R.astype(np.float64)
        highest_R += self._constant + _ROUNDING * np.abs(worst_R) + self.error(_lengths(rounded_RD), lost_R, among)
        return kth_R > highest_R

    def error(self, rounded_R: np.ndarray, lost_R: np.ndarray, among: str) -> np.ndarray:
        """Most that a sum can differ from the cosine, before it is rounded itself.

        Args:
            rounded_R: lengths of the rows' rounded differences to the centre.
            lost_R: lengths of what rounding took from them.
            among: side that they were multiplied with.
        """
        other, own_R = self._sides[among], rounded_R + lost_R
        added_R = own_R * other.length + 2 * (own_R + other.length) * self._constant**0.5  # magnitudes that are summed
        summed_R = (len(self.centre) + 2 * _TERMS) * _SUMMING * added_R
        return lost_R * other.length + rounded_R * other.lost + summed_R + _SLACK

    @property
    def _constant(self) -> float:
        return float(self.centre.double().square().sum())

    def _centred(self, block_RD: np.ndarray) -> tuple[Tensor, Tensor]:
        centred_RD = torch.from_numpy(np.ascontiguousarray(block_RD)) - self.centre
        return centred_RD, centred_RD.bfloat16()

    def _rounded(self, block_RD: np.ndarray, name: str) -> tuple[Tensor, Tensor]:
        centred_RD, rounded_RD = self._centred(filled(block_RD))
        side = self._sides[name]
        side.length = max(side.length, float(_lengths(centred_RD).max()))
        side.lost = max(side.lost, float(_lengths(centred_RD - rounded_RD.float()).max()))
        rest_R, terms = centred_RD @ self.centre, []
        for _ in range(_TERMS):
            terms.append(rest_R.bfloat16())
            rest_R = rest_R - terms[-1].float()
        return rounded_RD, torch.stack(terms, dim=1)


def _lengths(rows_RD: Tensor) -> np.ndarray:
    """Euclidean lengths (R,), float64, rounded up by more than their own error."""
    return torch.linalg.vector_norm(rows_RD, dim=1, dtype=torch.float32).double().numpy() * (1 + 1e-4)


def fast_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16."""
    ways = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch's own, which some versions lack
    return any(getattr(torch.cpu, way, bool)() for way in ways)
