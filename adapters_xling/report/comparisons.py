"""Differences between systems as plain data: interval, p, corrections for the number of comparisons, verdict.

A grid's comparisons are kept as JSON beside its scores, so that a report can be rendered again without the outcomes
they stand on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from adapters_xling.errors import DataError
from adapters_xling.spec import Frozen
from adapters_xling.statistics import ALPHA, benjamini_hochberg, holm

FRESH, EQUAL_STEPS, WARM, FULL = "fresh", "equal-steps", "warm", "full"
"""What a cell is compared with: the run without an intermediate task; one that may take as many steps in total; of a
run that stands on its intermediate entry, the one that starts from it; of an adapter, full fine-tuning."""


class Interval(Frozen, frozen=True):
    """A difference in points of percent with its 95 % interval and two-sided p; None where rows are too few for one."""

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


class Comparison(Frozen, frozen=True):
    """One cell against its control.

    Attributes:
        task: target task.
        metric: the score compared.
        split: of the target.
        backbone: of both.
        method: of both.
        settings: of the method, canonical JSON.
        intermediate: what came before the target.
        init: how the cell's slot starts.
        route: what it stands on.
        against: `FRESH`, `EQUAL_STEPS`, `WARM`, `FULL`, or the name of another backbone.
        seeds: paired; empty where nothing could be compared.
        mean: over the zero-shot languages, or over all where `source_only`.
        languages: each language by itself, those trained on too; their p values are not corrected.
        num_languages: languages in `mean`.
        expected: languages a complete mean has.
        num_examples: examples that were resampled, each id once where rows are parallel.
        num_left_out: examples that only one of the systems was scored on.
        parallel: whether ids were drawn once for all languages.
        p_holm: p of `mean` after Holm's correction over all comparisons with the same kind of control.
        p_bh: after Benjamini and Hochberg's.
        not_converged: entries behind either side, and those they started from, that did not converge. Such a
            comparison has no verdict and is in no correction.
        missing: why there is no interval; empty where there is one.
        source_only: no language was scored that was not trained on.
        keys: entries of the cell, where it is compared with another report's and may outlive them; None in what was
            kept of it before.
    """

    task: str
    metric: str
    split: str
    backbone: str
    method: str
    settings: str
    intermediate: str
    init: str
    route: str
    against: str
    seeds: tuple[int, ...] = ()
    mean: Interval | None = None
    languages: dict[str, Interval] = {}
    num_languages: int = 0
    expected: int = 0
    num_examples: int = 0
    num_left_out: int = 0
    parallel: bool = False
    p_holm: float | None = None
    p_bh: float | None = None
    not_converged: tuple[str, ...] = ()
    missing: str = ""
    source_only: bool = False
    keys: tuple[str, ...] | None = None

    @property
    def verdict(self) -> str:
        """``helps`` or ``harms`` where Holm's correction leaves p at 5 % or less, else empty."""
        if self.mean is None or self.p_holm is None or self.p_holm > ALPHA:
            return ""
        return "helps" if self.mean.value > 0 else "harms"


class Share(Frozen, frozen=True):
    """What a method keeps of full fine-tuning's gain over the floor `cells.ZERO`, without an intermediate task.

    Attributes:
        task: target task.
        metric: the score compared.
        split: of the target.
        backbone: of all three.
        method: whose share it is.
        settings: of the method, canonical JSON.
        over: the source languages, joined by ``+``, or ``zero-shot``.
        seeds: paired.
        num_floor_seeds: seeds of the floor; the first one's stands for those it lacks.
        full: gain of full fine-tuning.
        ours: gain of the method.
        share: of `ours` in `full`, in percent; None where the interval of `full` does not lie above 0, or one of their
            runs did not converge (a floor that did not is a floor all the same).
        not_converged: keys of entries behind the two rows that did not converge, or started from one that did not.
    """

    task: str
    metric: str
    split: str
    backbone: str
    method: str
    settings: str
    over: str
    seeds: tuple[int, ...]
    num_floor_seeds: int
    full: Interval
    ours: Interval
    share: Interval | None = None
    not_converged: tuple[str, ...] = ()


class Comparisons(Frozen, frozen=True):
    """All comparisons of a grid, and how they were made."""

    num_resamples: int
    seeds: str
    comparisons: tuple[Comparison, ...]
    shares: tuple[Share, ...] = ()

    def encode(self) -> bytes:
        """Write them as JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    @classmethod
    def read(cls, path: Path) -> Comparisons | None:
        """Read them; None where there is no file, as in the folder of a run from before there were any.

        Raises:
            DataError: for a file that holds something else.
        """
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError) as err:
            raise DataError(f"{path}: {err}. Run the grid again to write it") from err


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Correct the p of means for the number of comparisons with the same kind of control."""
    found = list(comparisons)
    for against in dict.fromkeys(one.against for one in comparisons):
        family = [
            (i, one.mean.p)
            for i, one in enumerate(comparisons)
            if one.against == against and not one.not_converged and one.mean is not None and one.mean.p is not None
        ]
        p_values = [p for _, p in family]
        for (i, _), by_holm, by_bh in zip(family, holm(p_values), benjamini_hochberg(p_values), strict=True):
            found[i] = msgspec.structs.replace(found[i], p_holm=by_holm, p_bh=by_bh)
    return found
