"""Which entry should a target start from, and how good such advice was on a grid that was run."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xling import paths
from adapters_xling.errors import ConfigError, DataError, MissingData, UnknownName
from adapters_xling.spec import Fresh, RunSpec, Score, Warm
from adapters_xling.zoo import Entry

from .entries import kept_scores
from .models import default_recipe
from .reports import grid_of, report_folder, require_own
from .settings import Settings, open_zoo, task

if TYPE_CHECKING:
    from adapters_xling.advisor import Advice
    from adapters_xling.transferability import Regret, Target


def advise(
    target: str,
    *,
    backbone: str = "xlmr-nano",
    method: str | None = None,
    probe_steps: int = 0,
    max_rows: int = 1000,
    among: Sequence[str] = (),
    train: str | None = None,
    only: Set[str] = frozenset(),
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
        train: task whose rows the target learns from, over what its file says.
        only: keys; where some entries are among them, no others are looked at.
        settings: folders and device.
        on_candidate: called with each candidate's name before its turn.

    Raises:
        MissingData: when no entry can serve, or the target's rows are not at hand.
    """
    from adapters_xling import grid, methods, tasks
    from adapters_xling.model import backbone_id

    settings = settings or Settings()
    zoo = open_zoo(settings)
    spec = task(target, settings)
    source = tasks.train_task(spec, override=train, extra=settings.tasks)
    if method is not None:
        methods.require(method)
    chosen = {zoo.resolve(name) for name in among}
    from adapters_xling import advisor  # once the names are right: it loads torch

    found = advisor.candidates(zoo, spec, backbone=backbone, method=method, train=train, extra_tasks=settings.tasks)
    found = [entry for entry in found if entry.key in only] or found
    if among:
        if strange := sorted(chosen - {entry.key for entry in found}):
            raise ConfigError(
                f"entry {', '.join(strange)} cannot be advised for {target}: it is of another backbone or method, "
                "starts from an entry itself, or learnt the target's own task"
            )
        found = [entry for entry in found if entry.key in chosen]
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
            extra_tasks=settings.tasks,
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
        train=train,
        on_candidate=on_candidate,
    )


def judge_advice(
    scores: Path | str,
    *,
    backbone: str | None = None,
    probe_steps: int = 0,
    max_rows: int = 1000,
    settings: Settings | None = None,
    on_target: Callable[[str], Any] | None = None,
    on_skipped: Callable[[str, str], Any] | None = None,
) -> dict[str, list[Regret]]:
    """How good the advice would have been on a grid that was run: ranking by each cheap score, and by what was best on
    the targets of other tasks, against what every intermediate task came to.

    Floors and runs that stand on an entry take no part. A target learns from the rows the grid gave it.

    Args:
        scores: a grid's name; or its `scores.jsonl`, or a folder that holds it.
        backbone: of the grid; by default that of its intermediate entries.
        probe_steps: also rank by a few steps of training; 0 for features only.
        max_rows: most training rows of a target to look at.
        settings: folders and device; the grid's entries are in their zoo.
        on_target: called with each target's name before its turn.
        on_skipped: called with the name of a target whose rows or entries are not at hand, and the reason.

    Returns:
        Way of ranking -> regret on each target and method.

    Raises:
        MissingData: when there are no scores, or those of another grid of the same file name.
        ConfigError: when the scores are of several backbones.
        DataError: when no target has two candidates.
    """
    from adapters_xling import report, tasks
    from adapters_xling.tasks import kinds
    from adapters_xling.transferability import best_elsewhere, regrets, transfer_matrix

    settings = settings or Settings()
    file, trained_on = _judged(scores, settings)
    found = report.read_scores(file)
    backbone = backbone or _backbone_of(found, file)
    outcome = transfer_matrix(found, backbone=backbone, metrics=_main_metrics({one.task for one in found}, settings))
    outcome = {target: row for target, row in outcome.items() if len(row) > 1}  # of a floor nothing else is known
    parents = _parents(found, settings)
    predicted: dict[str, dict[Target, dict[str, float]]] = {"logme": {}, "probe": {}}
    for target in list(outcome):
        train = trained_on.get(target.task)
        source = tasks.train_task(task(target.task, settings), override=train, extra=settings.tasks)
        if not kinds.get(source.kind).trains:
            del outcome[target]  # nothing starts from an entry there
            continue
        if on_target:
            on_target(str(target))
        try:
            advices = advise(
                target.task,
                backbone=backbone,
                method=target.method,
                probe_steps=probe_steps,
                max_rows=max_rows,
                train=train,
                only=parents,
                settings=settings,
            )
        except MissingData as err:
            if on_skipped:
                on_skipped(str(target), str(err).splitlines()[0].removesuffix(" Tried:"))
            continue
        for way, rows in predicted.items():
            own: dict[str, list[float]] = {}
            for one in advices:
                if way in one.values:
                    own.setdefault(one.task or "none", []).append(one.values[way])
            if own:
                rows[target] = {source: sum(values) / len(values) for source, values in own.items()}
    judged = {way: regrets(outcome, rows) for way, rows in predicted.items() if rows}
    try:
        judged["best elsewhere"] = regrets(outcome, best_elsewhere(outcome))
    except DataError:  # the targets have no two candidates in common, so nothing can be learnt from one about another
        if not judged:
            raise
    return judged


def _judged(scores: Path | str, settings: Settings) -> tuple[Path, dict[str, str]]:
    """The file of scores, and target -> task that the grid trains it on, where its file says another."""
    from adapters_xling import grid

    path = Path(scores)
    name = path.stem if path.suffix in (".yaml", ".yml") or not path.exists() else ""
    if name:
        grid.grid_path(str(scores))  # a name that is none is said to be none
        file = report_folder(str(scores), settings=settings) / "scores.jsonl"
        require_own(file.parent, str(scores))
    else:
        file = path / "scores.jsonl" if path.is_dir() else path
    said = str(scores) if name else grid_of(file.parent)
    if said is None:  # a report from before grids were named there: the folder of a shipped one has its name
        of = re.sub(r"(-narrowed)?(-first\d+)?$", "", file.parent.name)
        said = of if (paths.task_configs_dir() / "grids" / f"{of}.yaml").is_file() else ""
    if not said:
        return file, {}
    targets = grid.load_grid(said).targets
    return file, {one.task: one.train for one in targets if not isinstance(one, str) and one.train}


def _backbone_of(scores: Sequence[Score], file: Path) -> str:
    """The backbone that a grid's intermediate entries are on.

    Raises:
        ConfigError: for several.
    """
    names = sorted({one.backbone for one in scores if one.intermediate != "none"} or {one.backbone for one in scores})
    if len(names) != 1:
        raise ConfigError(f"{file}: scores on {len(names)} backbones ({', '.join(names)}); choose one with --backbone")
    return names[0]


def _main_metrics(names: Set[str], settings: Settings) -> dict[str, str]:
    """The score of each task that is here which stands for it, as its file has it; a file of scores may be sorted."""
    from adapters_xling import metrics

    found = {}
    for name in names:
        try:
            found[name] = metrics.main(task(name, settings).metrics[0])
        except UnknownName:
            continue
    return found


def _parents(scores: Sequence[Score], settings: Settings) -> set[str]:
    """Entries that the scored ones start from; a zoo may hold others of the same task, made in another way."""
    zoo = open_zoo(settings)
    scored = {one.key for one in scores if one.init == "warm"}
    return {parent for name in scored if name in zoo for parent in zoo.get(name, verify=False).card.parents}
