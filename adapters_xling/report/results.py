"""All cells of a report, and the questions its tables ask: rows, averages, deltas, floors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from adapters_xling.report.cells import LEXICAL_FLOOR, Average, Cell, System, Target, average, average_tasks
from adapters_xling.report.scores import EntryFacts

Marks = Mapping[tuple[Target, System], str]


@dataclass(frozen=True)
class Cost:
    """What a row costs per entry; None where no entry of it says.

    Attributes:
        num_trainable: trainable parameters of its largest entry.
        num_bytes: size of its largest entry.
        seconds: mean training time of an entry, without its parents'.
    """

    num_trainable: int | None
    num_bytes: int | None
    seconds: float | None


@dataclass(frozen=True)
class Results:
    """All cells of a report and the questions tables ask of them.

    Attributes:
        targets: every (task, metric, split), headline ones and others.
        headline: one target per task, the ones averages over tasks are made of.
        systems: contenders, then floors.
        cells: absent where nothing was scored.
        keys: row -> keys of the entries behind it.
        entries: target and row -> keys of the entries behind these cells.
        facts: key -> what is known about the entry.
        languages: target -> every language any row was scored in, or should have been.
        zero_shot: target -> languages a complete zero-shot average needs.
        chance: headline target -> highest chance level its entries state.
        marks: target and row -> mark of its Δ (`HELPS`, `HARMS`), from the comparisons alone.
        retrieval: tasks that means over tasks leave out.
    """

    targets: tuple[Target, ...]
    headline: tuple[Target, ...]
    systems: tuple[System, ...]
    cells: Mapping[tuple[Target, System, str], Cell]
    keys: Mapping[System, tuple[str, ...]]
    entries: Mapping[tuple[Target, System], tuple[str, ...]]
    facts: Mapping[str, EntryFacts]
    languages: Mapping[Target, tuple[str, ...]]
    zero_shot: Mapping[Target, tuple[str, ...]]
    chance: Mapping[Target, float]
    marks: Marks = field(default_factory=dict)
    retrieval: frozenset[str] = frozenset()

    @property
    def contenders(self) -> tuple[System, ...]:
        """Rows that are not floors."""
        return tuple(system for system in self.systems if not system.is_floor)

    @property
    def floors(self) -> tuple[System, ...]:
        """Rows that are floors."""
        return tuple(system for system in self.systems if system.is_floor)

    def mean_over(self, target: Target, system: System, codes: Sequence[str]) -> Average:
        """Mean over the languages named, whether they were trained on or not."""
        row = self.row(target, system)
        return average([row[code] for code in codes if code in row], expected=len(codes))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Every seed of a contender, ascending."""
        return tuple(sorted({s for (_, sys, _), cell in self.cells.items() if not sys.is_floor for s in cell.by_seed}))

    @property
    def source_only(self) -> bool:
        """Whether no language was scored that was not trained on; means are then over the source languages."""
        return not any(self.zero_shot[target] for target in self.headline)

    @property
    def mean_name(self) -> str:
        """What means are over, as a heading: ``zero-shot``, or the source languages where nothing else was scored."""
        codes = dict.fromkeys(code for target in self.headline for code in self.languages[target])
        return "+".join(codes) if self.source_only else "zero-shot"

    def sources(self, target: Target) -> tuple[str, ...]:
        """Languages of a target that were trained on: its source column, usually English."""
        return tuple(code for code in self.languages[target] if code not in self.zero_shot[target])

    def trained_on(self, target: Target, system: System, codes: Sequence[str]) -> list[str]:
        """Those of some languages that rows of trained a row's own head."""
        row = self.row(target, system)
        return [code for code in codes if code in row and not row[code].zero_shot]

    def row(self, target: Target, system: System) -> dict[str, Cell]:
        """Cells of one row by language; missing ones are absent."""
        found = ((code, self.cells.get((target, system, code))) for code in self.languages[target])
        return {code: cell for code, cell in found if cell is not None}

    def _zero_shot_average(self, target: Target, cells: Mapping[str, Cell]) -> Average:
        if self.source_only:
            return average(list(cells.values()), expected=len(self.languages[target]))
        wanted = self.zero_shot[target]
        return average([c for code, c in cells.items() if c.zero_shot and code in wanted], expected=len(wanted))

    def zero_shot_mean(self, target: Target, system: System) -> Average:
        """Mean over the languages that were not trained on (of all, where `source_only`)."""
        return self._zero_shot_average(target, self.row(target, system))

    def source_mean(self, target: Target, system: System) -> Average:
        """Mean over the languages that were trained on."""
        row, wanted = self.row(target, system), self.sources(target)
        return average([row[code] for code in wanted if code in row], expected=len(wanted))

    @property
    def averaged(self) -> tuple[Target, ...]:
        """Headline targets that means over tasks are of: retrieval stands apart where anything else was scored.

        The paper's gain on its development sets is larger than on the benchmark's because of retrieval, whose scores
        before any intermediate task hang on the layer that is read.
        """
        return tuple(target for target in self.headline if target.task not in self.retrieval) or self.headline

    @property
    def overall_name(self) -> str:
        """What `overall` is over, as a heading."""
        return "all tasks" if self.averaged == self.headline else "all but retrieval"

    def overall(self, system: System) -> Average:
        """Mean of the averaged targets' zero-shot means."""
        return average_tasks([self.zero_shot_mean(target, system) for target in self.averaged])

    def baseline(self, system: System) -> System | None:
        """The row without intermediate task that a row is compared with; None for such a row itself and for floors.

        Method, settings and backbone agree; of several, the one from a fresh slot is taken.
        """
        if not system.is_compared:
            return None
        same = [s for s in self.systems if s[:3] == system[:3] and not s.has_intermediate]
        return min(same, key=lambda s: (s.init != "fresh", s.route != "slot", s), default=None)

    def delta_row(self, target: Target, system: System) -> dict[str, Cell]:
        """Differences to the baseline by language, within the seeds that both have."""
        base = self.baseline(system)
        if base is None:
            return {}
        theirs, deltas = self.row(target, base), {}
        for code, cell in self.row(target, system).items():
            other = theirs.get(code)
            shared = sorted(set(cell.by_seed) & set(other.by_seed)) if other else []
            if other and shared:
                values = {seed: cell.by_seed[seed] - other.by_seed[seed] for seed in shared}
                deltas[code] = Cell(values, cell.zero_shot and other.zero_shot, cell.converged and other.converged)
        return deltas

    def delta(self, target: Target, system: System) -> Average:
        """Zero-shot mean of `delta_row`."""
        return self._zero_shot_average(target, self.delta_row(target, system))

    def mark(self, target: Target, system: System) -> str:
        """Mark of a row's Δ on a target."""
        return self.marks.get((target, system), "")

    def overall_delta(self, system: System) -> Average:
        """Mean of the averaged targets' deltas."""
        return average_tasks([self.delta(target, system) for target in self.averaged])

    def cost(self, system: System) -> Cost:
        """Size and time of a row; entries that train nothing (a bare backbone) count only among themselves."""
        known = [self.facts[name] for name in self.keys[system] if name in self.facts]
        known = [fact for fact in known if fact.num_trainable != 0] or known
        seconds = [fact.seconds for fact in known if fact.seconds is not None]
        return Cost(
            num_trainable=max((f.num_trainable for f in known if f.num_trainable is not None), default=None),
            num_bytes=max((f.num_bytes for f in known if f.num_bytes is not None), default=None),
            seconds=math.fsum(seconds) / len(seconds) if seconds else None,
        )

    def floor_value(self, target: Target, code: str) -> float:
        """Where a cell's colour starts: the majority floor, else the entries' chance level, else 0."""
        for system in self.floors:
            cell = self.cells.get((target, system, code))
            if system.method == "majority" and cell:
                return cell.mean
        return self.chance.get(target, 0.0)

    def lexical_gap(self, target: Target) -> tuple[System, float] | None:
        """Best contender and its lead over token vectors, on the languages both were scored in without training.

        None when there is no such floor, or nothing to compare with it.
        """
        gaps = []
        for floor in (s for s in self.floors if s.method == LEXICAL_FLOOR):
            below = {code: cell for code, cell in self.row(target, floor).items() if cell.zero_shot}
            for system in self.contenders:
                row = {code: c for code, c in self.row(target, system).items() if c.zero_shot and code in below}
                if row and system.backbone == floor.backbone:
                    gap = math.fsum(cell.mean - below[code].mean for code, cell in row.items()) / len(row)
                    gaps.append((gap, system))
        if not gaps:
            return None
        gap, system = max(gaps)
        return system, gap
