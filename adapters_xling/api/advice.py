"""Which entry should a target start from, and how good such advice was on a grid that was run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xling.errors import ConfigError, MissingData
from adapters_xling.spec import Fresh, RunSpec, Warm
from adapters_xling.zoo import Entry

from .entries import kept_scores
from .models import default_recipe
from .settings import Settings, open_zoo, task

if TYPE_CHECKING:
    from adapters_xling.advisor import Advice
    from adapters_xling.transferability import Regret


def advise(
    target: str,
    *,
    backbone: str = "xlmr-nano",
    method: str | None = None,
    probe_steps: int = 0,
    max_rows: int = 1000,
    among: Sequence[str] = (),
    settings: Settings | None = None,
    on_candidate: Callable[[str], Any] | None = None,
) -> list[Advice]:
    """Rank the entries at hand as a start for a target task, best first; starting from none is among them.

    Args:
        target: the task that is to profit.
        backbone: the encoder it will be trained on; only entries on it can serve.
        method: only entries of this method.
        probe_steps: train the target for so many steps from each candidate; 0 looks at features only.
        max_rows: most training rows of the target to look at.
        among: entries to choose from; all by default that were trained on other tasks.
        settings: folders and device.
        on_candidate: called with each candidate's name before its turn.

    Raises:
        MissingData: when no entry can serve, or the target's rows are not at hand.
    """
    from adapters_xling import advisor, grid, methods, tasks
    from adapters_xling.model import backbone_id

    settings = settings or Settings()
    zoo = open_zoo(settings)
    spec = task(target, settings)
    source = tasks.train_task(spec, extra=settings.tasks)
    found = advisor.candidates(zoo, spec, backbone=backbone, method=method)
    if among:
        keys = {zoo.resolve(name) for name in among}
        if strange := sorted(keys - {entry.key for entry in found}):
            raise ConfigError(
                f"entry {', '.join(strange)} cannot be advised for {target}: it is of another backbone or method, "
                "starts from an entry itself, or learnt the target's own task"
            )
        found = [entry for entry in found if entry.key in keys]
    if not found:
        raise MissingData(
            f"zoo {zoo.root} has no entry on {backbone} that {target} could start from; train or pull one: "
            "xling train TASK"
        )

    several = sorted({entry.card.run.method.name for entry in found})
    if probe_steps and len(several) > 1:
        raise ConfigError(
            f"entries of {' and '.join(several)} cannot be probed side by side: after a few steps one method is ahead "
            "of another for reasons of its own. Choose one with --method"
        )

    def short(entry: Entry | None) -> RunSpec:
        """The probing run: the usual recipe, cut to so many steps, with one look at the dev rows at the end."""
        return grid.make_run(
            source,
            methods.resolve((entry or found[0]).card.run.method),
            backbone=backbone_id(backbone),
            recipe=default_recipe(backbone),
            overrides={
                "max_steps": probe_steps,
                "eval_every_steps": probe_steps,
                "max_train_examples": max_rows,
                "dev_examples": 300,
            },
            init=Warm(entry=entry.key) if entry else Fresh(),
            data_dir=settings.data_dir,
        )

    return advisor.advise(
        spec,
        found,
        zoo=zoo,
        backbone=backbone,
        data_dir=settings.data_dir,
        device=settings.device,
        extra_tasks=settings.tasks,
        kept=kept_scores(settings),
        probe=short if probe_steps else None,
        max_rows=max_rows,
        on_candidate=on_candidate,
    )


def judge_advice(
    scores: Path,
    *,
    backbone: str = "xlmr-nano",
    probe_steps: int = 0,
    max_rows: int = 1000,
    settings: Settings | None = None,
    on_target: Callable[[str], Any] | None = None,
) -> dict[str, list[Regret]]:
    """How good the advice would have been on a grid that was run: ranking by each cheap score, and by what was best on
    the other targets, against what every intermediate task came to.

    Args:
        scores: the grid's `scores.jsonl`, or a folder that holds it.
        backbone: of the grid.
        probe_steps: also rank by a few steps of training; 0 for features only.
        max_rows: most training rows of a target to look at.
        settings: folders and device; the grid's entries are in their zoo.
        on_target: called with each target's name before its turn.

    Returns:
        Way of ranking -> regret on each target and method.

    Raises:
        MissingData: when there are no scores.
        DataError: when no target has two candidates.
    """
    from adapters_xling import report, tasks
    from adapters_xling.tasks import kinds
    from adapters_xling.transferability import best_elsewhere, regrets, transfer_matrix

    settings = settings or Settings()
    outcome = transfer_matrix(report.read_scores(scores / "scores.jsonl" if scores.is_dir() else scores))
    predicted: dict[str, dict[str, dict[str, float]]] = {"logme": {}, "probe": {}}
    for name in outcome:
        target, _, method = name.partition(" ")
        source = tasks.train_task(task(target, settings), extra=settings.tasks)
        if not kinds.get(source.kind).trains:
            continue
        if on_target:
            on_target(name)
        found = advise(
            target,
            backbone=backbone,
            method=method,
            probe_steps=probe_steps,
            max_rows=max_rows,
            settings=settings,
        )
        for way, rows in predicted.items():
            own: dict[str, list[float]] = {}
            for one in found:
                if way in one.values:
                    own.setdefault(one.task or "none", []).append(one.values[way])
            if own:
                rows[name] = {source: sum(values) / len(values) for source, values in own.items()}
    ways = {way: rows for way, rows in predicted.items() if rows}
    return {way: regrets(outcome, rows) for way, rows in {**ways, "best elsewhere": best_elsewhere(outcome)}.items()}
