"""How good advice was over all targets of a grid: means with intervals beside what a blind draw lacks, and a page.

Targets of one task (under several methods) are not independent, so intervals come from drawing tasks anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from adapters_xling.transferability import Regret

DRAWS = 10_000
LEAST_TASKS = 5
"""Tasks from which on there is an interval; fewer cannot stand for others."""


@dataclass(frozen=True)
class Mean:
    """A mean over targets with a 95 % interval; no ends where there are too few tasks."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        ends = "" if self.low is None or self.high is None else f" [{self.low:.1f}, {self.high:.1f}]"
        return f"{self.value:.1f}{ends}"


@dataclass(frozen=True)
class Judgement:
    """How one way of ranking did.

    Attributes:
        way: its name.
        rows: target by target.
        num_tasks: different tasks among the targets.
        regret: k -> points that the best of the first k lacked.
        chance: k -> the same, expected of k candidates drawn blindly.
        saved: k -> chance less regret, in points; above 0 the ranking was worth something.
        hits: share of targets on which the first was the best, in percent.
        lucky: the same of a blind draw.
    """

    way: str
    rows: tuple[Regret, ...]
    num_tasks: int
    regret: Mapping[int, Mean]
    chance: Mapping[int, Mean]
    saved: Mapping[int, Mean]
    hits: Mean
    lucky: Mean

    def plain(self) -> dict[str, Any]:
        """As JSON has it; a target by its name."""
        rows = [{**asdict(row), "target": str(row.target)} for row in self.rows]
        return {**asdict(self), "rows": rows}


def judge(way: str, rows: Sequence[Regret]) -> Judgement:
    """Sum a way of ranking up over its targets.

    Args:
        way: its name.
        rows: target by target, at least one.
    """
    ks = tuple(rows[0].at)
    task_of = [row.target.task for row in rows]
    counts_BT = _draws(task_of)

    def mean(values: Sequence[float]) -> Mean:
        return _mean(values, counts_BT)

    return Judgement(
        way,
        tuple(rows),
        len(set(task_of)),
        {k: mean([row.at[k] for row in rows]) for k in ks},
        {k: mean([row.chance[k] for row in rows]) for k in ks},
        {k: mean([row.chance[k] - row.at[k] for row in rows]) for k in ks},
        mean([100.0 * (row.at_first == 0) for row in rows]),
        mean([100.0 * row.num_best / row.num_candidates for row in rows]),
    )


def _draws(task_of: Sequence[str]) -> np.ndarray | None:
    """How often each target is in each draw of tasks with replacement, (B, targets); None for too few tasks."""
    names = sorted(set(task_of))
    if len(names) < LEAST_TASKS:
        return None
    drawn_BN = np.random.default_rng(0).multinomial(len(names), [1 / len(names)] * len(names), size=DRAWS)
    return drawn_BN[:, [names.index(task) for task in task_of]]


def _mean(values: Sequence[float], counts_BT: np.ndarray | None) -> Mean:
    found = np.asarray(values, float)
    if counts_BT is None:
        return Mean(float(found.mean()))
    means_B = counts_BT @ found / counts_BT.sum(axis=1)
    low, high = np.percentile(means_B, [2.5, 97.5])
    return Mean(float(found.mean()), float(low), float(high))


def markdown(judged: Sequence[Judgement], *, title: str, skipped: Mapping[str, str] | None = None) -> str:
    """A page: the ways side by side, then target by target.

    Args:
        judged: one per way of ranking.
        title: what was judged.
        skipped: target -> why it could not be judged.
    """
    ks = tuple(judged[0].regret)
    columns = ["ranked by", "targets", "tasks"]
    for k in ks:
        columns += [f"regret@{k}", f"blind draw @{k}", f"saved @{k}"]
    columns += ["first is best, %", "blind draw, %"]
    body = []
    for one in judged:
        cells = [one.way, str(len(one.rows)), str(one.num_tasks)]
        for k in ks:
            cells += [str(one.regret[k]), str(one.chance[k]), str(one.saved[k])]
        body.append([*cells, str(one.hits), str(one.lucky)])
    parts = [f"# {title}", _table(columns, body, numbers=1), _legend(judged, ks)]
    for one in judged:
        heads = ["target", "candidates", "advised", "best", *(f"regret@{k}" for k in ks)]
        heads += [*(f"blind draw @{k}" for k in ks), "rank correlation"]
        lines = [
            [
                str(row.target),
                str(row.num_candidates),
                row.first,
                row.best,
                *(f"{row.at[k]:.1f}" for k in ks),
                *(f"{row.chance[k]:.1f}" for k in ks),
                "·" if row.spearman is None else f"{row.spearman:.2f}",
            ]
            for row in one.rows
        ]
        parts.append(f"## Ranked by {one.way}\n\n{_table(heads, lines, numbers=4)}")
    if skipped:
        parts.append("Not judged:\n\n" + "\n".join(f"- {name}: {why}" for name, why in skipped.items()))
    return "\n\n".join(parts) + "\n"


def _legend(judged: Sequence[Judgement], ks: Sequence[int]) -> str:
    named = " and ".join(str(k) for k in ks)
    lines = [
        f"Regret@k: points that the best of the first k ({named}) lacked to the best candidate of a target, zero-shot "
        "mean over languages, then over seeds; starting from none is a candidate. Blind draw: what k candidates drawn "
        "at random lack on average. Saved: the difference; where its interval holds 0, the ranking was not shown to be "
        "worth more than a draw.",
    ]
    if any(one.hits.low is not None for one in judged):
        lines.append(
            f"In brackets: 95 % intervals from {DRAWS:,} draws of the tasks with replacement (targets of one task stay "
            "together). With so few tasks they are rather too narrow."
        )
    if any(one.hits.low is None for one in judged):
        lines.append(f"No interval where there are fewer than {LEAST_TASKS} tasks.")
    return " ".join(lines)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int) -> str:
    """A markdown table; columns from `numbers` on are to the right."""
    rule = [("---:" if i >= numbers else "---") for i in range(len(columns))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (columns, rule, *rows))
