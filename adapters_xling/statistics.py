"""How sure a difference between two systems is: a paired bootstrap over examples and seeds, and corrections for many
comparisons.

Examples are resampled by id. Where rows are translations of each other (`parallel` tasks) an id is drawn with the same
weight in all languages, for its rows rise and fall together; elsewhere each language draws its own. Both systems, every
seed and every language are scored under the same draws, so what they share cancels.

A draw gives each id a weight from a Poisson distribution of mean 1 instead of drawing N of N with replacement (Hanley
and MacGibbon 2006; Chamandy et al. 2012): the two agree as N grows, and a weight then depends on the id alone, so that
sets which share only some ids need no common list.

Shapes: S seeds, N examples, C columns of units, B draws.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from adapters_xling.errors import ConfigError, DataError, unknown

Seeds = Literal["student", "resample", "fixed"]
"""What a draw does about seeds; see `Bootstrap`."""

RESAMPLES = 10_000
CONFIDENCE = 0.95
ALPHA = 0.05
LEAST_DEFINED = 0.9
"""Share of the draws in which a score must be defined (F1 wants gold) for an interval to be given."""
_BLOCK = 512
"""Draws whose weights are held as floating-point numbers at a time."""
MOST_BYTES = 2**28
"""Weights that are held at a time: of 26,843 examples under 10,000 draws; larger sets are drawn part by part."""


def mean_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation (n − 1), None for a single value.

    >>> mean_sd([60.0, 70.0, 74.0])
    (68.0, 7.211102550927978)
    """
    centre = math.fsum(values) / len(values)
    if len(values) < 2:
        return centre, None
    return centre, math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


@dataclass(frozen=True)
class Sample:
    """What one system did with the examples of one set, once per seed.

    Attributes:
        ids: of the examples.
        units: column -> what each example adds to a sum, (S,N).
        combine: sums of all columns and of ``num`` -> score in percent, NaN where undefined; see `metrics.Metric`.
    """

    ids: tuple[str, ...]
    units: Mapping[str, np.ndarray]
    combine: Callable[[Mapping[str, Any]], Any]

    @cached_property
    def scores(self) -> np.ndarray:
        """Score of each seed, (S,)."""
        sums = {name: values.sum(axis=-1) for name, values in self.units.items()}
        return self._combined(sums, np.float64(len(self.ids)))

    def _combined(self, sums: Mapping[str, np.ndarray], num: Any) -> np.ndarray:
        first = next(iter(sums.values()))
        return np.asarray(self.combine({**sums, "num": np.broadcast_to(num, first.shape)}), np.float64)


@dataclass(frozen=True)
class Difference:
    """A difference between two systems, in points of percent.

    Attributes:
        value: mean over seeds on the rows as they are.
        low: lower end of the percentile interval; None where it cannot be given.
        high: upper end.
        p: two-sided p: twice the share of draws on the other side of 0, never below 2 / (draws + 1).
        num_seeds: seeds paired.
        by_seed: the difference within each seed.
    """

    value: float
    low: float | None
    high: float | None
    p: float | None
    num_seeds: int
    by_seed: tuple[float, ...]


class Bootstrap:
    """Draws of examples and seeds, the same for every system: what a draw weighs depends on ids and `seed` alone.

    Seeds are few, so how they enter matters more than how examples do. ``student`` (the default) adds to each draw of
    the examples a draw of Student's t with S − 1 degrees of freedom, scaled by the standard error over seeds: where
    seeds are what varies, its interval is a t interval. ``resample`` draws S − 1 of S seeds with replacement, which is
    unbiased in variance but reaches no further than the seeds there are: with three, its interval covers three times
    in four. ``fixed`` keeps the seeds: what is said holds for these very models. One seed is always fixed, and nothing
    is said about training noise.

    Args:
        num_resamples: draws, B.
        seed: of the draws.
        seeds: what to do about seeds.

    Raises:
        ConfigError: for fewer than 100 draws, of which no interval can be read.
    """

    def __init__(self, *, num_resamples: int = RESAMPLES, seed: int = 0, seeds: Seeds = "student") -> None:
        if num_resamples < 100:
            raise ConfigError(f"a bootstrap of {num_resamples} draws has no tails; give 100 or more")
        if seeds not in get_args(Seeds):
            raise unknown("way of treating seeds", seeds, get_args(Seeds))
        self.num_resamples, self.seed, self.seeds = num_resamples, seed, seeds
        self._weights: tuple[tuple[str, tuple[str, ...]], np.ndarray] | None = None

    def draws(self, sample: Sample, *, scope: str = "") -> np.ndarray:
        """Score of each seed under each draw, (S,B), in single precision.

        Args:
            sample: a system on one set.
            scope: what else beside its id tells an example from others: the language, where rows are not parallel.
        """
        units_SCN = np.stack([values.astype(np.float32) for values in sample.units.values()], axis=1)
        num_seeds, num_columns, num = units_SCN.shape
        rows_RN = np.concatenate([units_SCN.reshape(-1, num), np.ones((1, num), np.float32)])
        sums_RB = np.zeros((len(rows_RN), self.num_resamples))
        at_once = max(1, MOST_BYTES // self.num_resamples)
        for first in range(0, num, at_once):
            part = slice(first, first + at_once)
            weights_NB = self._weights_of(sample.ids[part], scope)
            for top in range(0, self.num_resamples, _BLOCK):
                block = slice(top, top + _BLOCK)
                sums_RB[:, block] += rows_RN[:, part] @ weights_NB[:, block].astype(np.float32)
        sums_SCB = sums_RB[:-1].reshape(num_seeds, num_columns, -1)
        sums = {name: sums_SCB[:, i] for i, name in enumerate(sample.units)}
        return sample._combined(sums, sums_RB[-1]).astype(np.float32)

    def _weights_of(self, ids: tuple[str, ...], scope: str) -> np.ndarray:
        """Weights (N,B) of examples; those asked for last are kept, for the next system is scored on the same."""
        if self._weights is None or self._weights[0] != (scope, ids):
            self._weights = None  # makes room
            weights_NB = np.empty((len(ids), self.num_resamples), np.uint8)
            for i, name in enumerate(ids):
                weights_NB[i] = _POISSON[
                    self._generator(scope, name).integers(0, 1 << 16, self.num_resamples, np.uint16)
                ]
            self._weights = ((scope, ids), weights_NB)
        return self._weights[1]

    def _generator(self, *names: str) -> np.random.Generator:
        text = "\0".join((str(self.seed), *names))
        key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")
        return np.random.Generator(np.random.Philox(key=key))

    def difference(self, ours: Sequence[Drawn], theirs: Sequence[Drawn], *, one_for_all: bool = False) -> Difference:
        """Difference of two systems' means over sets (languages), seeds paired.

        Args:
            ours: the first system on each set.
            theirs: the other system on the same sets, in the same order.
            one_for_all: one of the two was trained with one seed, and stands for each of the other's. Over the pairs
                only the other varies; the error then counts the one's noise too, taken to be as large: that of a
                difference of one run and a mean of S is s·√(1 + 1/S), not s·√(1/S).

        Raises:
            DataError: when there is no set, or the systems' seeds are not equally many.
        """
        if not ours or len(ours) != len(theirs):
            raise DataError(f"a difference wants the same sets of both systems, got {len(ours)} and {len(theirs)}")
        values_S = np.mean([a.scores - b.scores for a, b in _paired(ours, theirs)], axis=0)
        draws_SB = np.mean([a.draws - b.draws for a, b in _paired(ours, theirs)], axis=0)
        draws_B = self._over_seeds(values_S, draws_SB, one_for_all=one_for_all)
        defined_B = draws_B[np.isfinite(draws_B)]
        low = high = p = None
        if len(defined_B) >= LEAST_DEFINED * self.num_resamples:
            tail = (1 - CONFIDENCE) / 2
            low, high = (float(end) for end in np.quantile(defined_B, [tail, 1 - tail]))
            below, above = int((defined_B <= 0).sum()), int((defined_B >= 0).sum())
            p = min(1.0, 2 * (1 + min(below, above)) / (1 + len(defined_B)))
        by_seed = tuple(float(value) for value in values_S)
        return Difference(float(values_S.mean()), low, high, p, len(by_seed), by_seed)

    def share(
        self, ours: Sequence[Drawn], full: Sequence[Drawn], zero: Sequence[Drawn]
    ) -> tuple[float, float | None, float | None]:
        """One system's gain over a floor in percent of another's, with its percentile interval; seeds are paired.

        Both gains are taken under the same draws. With ``student`` the two share one draw of a bivariate t over seeds,
        so that seeds on which both are better stay seeds on which both are. Only meaningful where the interval of the
        other system's gain excludes 0.
        """
        gains = [
            (
                np.mean([a.scores - b.scores for a, b in _paired(one, zero)], axis=0),
                np.mean([a.draws - b.draws for a, b in _paired(one, zero)], axis=0),
            )
            for one in (ours, full)
        ]
        values_2S = np.stack([values for values, _ in gains])
        draws_2SB = np.stack([draws for _, draws in gains])
        draws_2B = draws_2SB.mean(axis=1)
        num = values_2S.shape[1]
        if num > 1 and self.seeds == "student":
            spread, axes = np.linalg.eigh(np.cov(values_2S) / num)
            generator = self._generator("seeds of a share", str(num))
            normal_2B = generator.standard_normal((2, self.num_resamples))
            scale_B = np.sqrt((num - 1) / generator.chisquare(num - 1, self.num_resamples))
            draws_2B = draws_2B + (axes * np.sqrt(np.maximum(spread, 0))) @ normal_2B * scale_B
        elif num > 1 and self.seeds == "resample":
            picks = self._generator("seeds", str(num)).integers(0, num, (1, num - 1, self.num_resamples))
            draws_2B = np.take_along_axis(draws_2SB, picks, axis=1).mean(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = 100 * float(values_2S[0].mean() / values_2S[1].mean())
            shares_B = 100 * draws_2B[0] / draws_2B[1]
        defined_B = shares_B[np.isfinite(shares_B)]
        if len(defined_B) < LEAST_DEFINED * self.num_resamples:
            return value, None, None
        tail = (1 - CONFIDENCE) / 2
        low, high = (float(end) for end in np.quantile(defined_B, [tail, 1 - tail]))
        return value, low, high

    def _over_seeds(self, values_S: np.ndarray, draws_SB: np.ndarray, *, one_for_all: bool = False) -> np.ndarray:
        num = len(values_S)
        if num == 1 or self.seeds == "fixed":
            return draws_SB.mean(axis=0)
        generator = self._generator("seeds", str(num))
        if self.seeds == "resample":
            picks_B = generator.integers(0, num, (num - 1, self.num_resamples))
            return np.take_along_axis(draws_SB, picks_B, axis=0).mean(axis=0)
        error = values_S.std(ddof=1) * math.sqrt(1 / num + one_for_all)
        return draws_SB.mean(axis=0) + error * generator.standard_t(num - 1, self.num_resamples)


@dataclass(frozen=True)
class Drawn:
    """A system on one set: score of each seed (S,), and the same under each draw (S,B)."""

    scores: np.ndarray
    draws: np.ndarray


def _paired(ours: Sequence[Drawn], theirs: Sequence[Drawn]) -> list[tuple[Drawn, Drawn]]:
    pairs = list(zip(ours, theirs, strict=True))
    for one, other in pairs:
        if one.scores.shape != other.scores.shape:
            raise DataError(f"seeds are compared in pairs, got {one.scores.shape[0]} and {other.scores.shape[0]}")
    return pairs


def _poisson_table() -> np.ndarray:
    """Quantiles of the Poisson distribution of mean 1 at (i + ½) / 2^16, as 2^16 small integers."""
    reached, probability, ends = 0.0, math.exp(-1), []
    for count in range(12):
        reached += probability
        ends.append(reached)
        probability /= count + 1
    return np.searchsorted(ends, (np.arange(1 << 16) + 0.5) / (1 << 16)).astype(np.uint8)


_POISSON = _poisson_table()


# --- many comparisons -------------------------------------------------------------------------------------------


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p of each comparison: at 5 % they keep the chance of any false finding among all at 5 % (Holm 1979).

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values, np.float64)[order] * factors))
    return adjusted.tolist()


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p of each comparison: at 5 % they keep the expected share of false findings among those found at 5 %
    (Benjamini and Hochberg 1995), for independent or positively dependent comparisons.

    >>> [round(p, 3) for p in benjamini_hochberg([0.01, 0.04, 0.03])]
    [0.03, 0.04, 0.04]
    """
    num = len(p_values)
    order = np.argsort(p_values, kind="stable")[::-1]
    factors = num / np.arange(num, 0, -1)
    adjusted = np.empty(num)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(np.asarray(p_values, np.float64)[order] * factors))
    return adjusted.tolist()


def resamples_for(num_comparisons: int) -> int:
    """Draws that so many comparisons want: enough for the smallest p to stay below 5 % after Holm's correction.

    >>> resamples_for(9), resamples_for(243)
    (10000, 24300)
    """
    return max(RESAMPLES, 100 * num_comparisons)
