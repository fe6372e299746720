"""What a grid or two systems come to: reports and comparisons, without a model or torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import structs

from adapters_xling import paths, published
from adapters_xling.errors import ConfigError, DataError, MissingData, UnknownName, unknown
from adapters_xling.spec import canonical_json, entry_scored

from .report_facts import (
    all_languages,
    facts_known,
    incomplete,
    main_metrics,
    method_label,
    notes,
    retrieval_tasks,
    without_cost,
)
from .settings import Settings, codes, cores, open_zoo, task

if TYPE_CHECKING:
    from adapters_xling.grid import Origin, Outcome, Plan
    from adapters_xling.report import Kept, Results, RunInfo, Section, Versus
    from adapters_xling.spec import Score
    from adapters_xling.statistics import Seeds
    from adapters_xling.sweep import LayerSweep


_OWN_FOLDERS = ("zoo", "scores", "logs", "checkpoints")
_NARROWED = "-narrowed"
SCORES_FILE = "scores.jsonl"


def report_folder(
    name: str, *, narrowed: bool = False, limit: int | None = None, settings: Settings | None = None
) -> Path:
    """Folder of a grid's scores and report; a narrowed or limited run has its own, so that no full report is lost.

    Raises:
        ConfigError: for a grid named like a folder that holds something else.
    """
    stem = Path(name).stem
    if stem in _OWN_FOLDERS:
        raise ConfigError(f"a grid cannot be named {stem!r}: that folder of the runs holds something else; rename it")
    suffix = (_NARROWED if narrowed else "") + (f"-first{limit}" if limit else "")
    return (settings or Settings()).runs_dir / f"{stem}{suffix}"


def finished_folder(name: str, *, settings: Settings | None = None) -> Path:
    """Folder of the scores of a run that is finished.

    Args:
        name: a grid, or the folder itself, as a narrowed or limited run has one.
        settings: folders.

    Raises:
        MissingData: when it holds no scores, or those of another grid of the same name, with what there is instead.
        UnknownName: for what is neither a grid nor such a folder.
    """
    from adapters_xling.grid import grid_path

    folder = Path(name) if Path(name).name not in ("", "..") else Path(name).resolve()
    if (folder / SCORES_FILE).is_file():
        return folder
    if folder.is_dir() and os.sep in name:
        raise MissingData(
            f"{folder / SCORES_FILE} does not exist: give a grid by name, or the folder that a run of one left its "
            "scores in"
        )
    grid_path(name)  # a name that no grid has is said to be none
    folder = report_folder(name, settings=settings)
    if not (folder / SCORES_FILE).is_file():
        others = sorted(str(path.parent) for path in folder.parent.glob(f"{folder.name}-*/{SCORES_FILE}"))
        narrowed = f", or report a narrowed run of it: {', '.join(others)}" if others else ""
        raise MissingData(f"{folder / SCORES_FILE} does not exist: run the grid first (xling run {name}){narrowed}")
    require_own(folder, name)
    return folder


def require_own(folder: Path, name: str) -> None:
    """Refuse the folder of a grid's report when the last run there was of another grid of the same file name.

    Raises:
        MissingData: naming the other grid.
    """
    from adapters_xling import grid

    if other := _other_grid(folder, grid.Origin.of(name, {})):
        raise MissingData(
            f"{folder} holds the report of another grid: the last run there was of {other}. Run {name} again (what is "
            f"trained and scored is kept), or give the folder to have the report that is there: {folder}"
        )


def replaced(planned: Plan, folder: Path) -> str:
    """What a run is about to put its own report in place of; empty for an earlier one of the same.

    Args:
        planned: what is run.
        folder: of its report.

    Returns:
        A sentence that names the other grid of the same file name, or the other part of this grid.
    """
    if planned.origin is None or (found := _info(folder)) is None or not found.grid:
        return ""
    other = _other_grid(folder, planned.origin)
    if not other and dict(found.narrowing) != planned.origin.narrowing:
        other = " ".join(f"--{what} {','.join(kept)}" for what, kept in found.narrowing.items())
    return f"the report of {other} in {folder} is replaced; rename the folder to keep it" if other else ""


def _info(folder: Path) -> RunInfo | None:
    """What a report says of itself; None where there is none, or it cannot be read."""
    from adapters_xling import report

    try:
        return report.decode_info(folder / "info.json")[0]
    except DataError:
        return None


def _other_grid(folder: Path, origin: Origin) -> str:
    """The grid that the report in a folder is of, as a person here names it; empty when it is that of `origin`.

    A grid that was edited is the same by its path, one that was moved by its text.
    """
    found = _info(folder)
    if found is None or not found.grid or found.grid_digest == origin.digest:
        return ""
    if found.grid == _grid_name(origin.path, folder.parent):
        return ""
    if _is_shipped(found.grid):
        return f"the shipped grid {found.grid}"
    return os.path.relpath(folder.parent.resolve() / found.grid)


def grid_of(folder: Path) -> str | None:
    """The grid that the report in a folder is of: a shipped one's name or a file; empty for a file that is gone, None
    where the report does not say.
    """
    found = _info(folder)
    if found is None or not found.grid:
        return None
    if _is_shipped(found.grid):
        return found.grid if (paths.task_configs_dir() / "grids" / f"{found.grid}.yaml").is_file() else ""
    file = folder.parent.resolve() / found.grid
    return str(file.resolve()) if file.is_file() else ""


def _is_shipped(said: str) -> bool:
    """Whether what a report calls its grid is a shipped one's name and not a file."""
    return os.sep not in said and not Path(said).suffix


def _grid_name(path: Path, runs_dir: Path) -> str:
    """What a report calls its grid, see `RunInfo.grid`; relative, so that grids and runs may be moved together."""
    if path.parent == (paths.task_configs_dir() / "grids").resolve():
        return path.stem
    return os.path.relpath(path, runs_dir.resolve())


def write_report(
    planned: Plan, outcome: Outcome, folder: Path, *, limit: int | None = None, settings: Settings | None = None
) -> dict[str, Path]:
    """Write scores, what the scores do not say, comparisons and the report of a grid into `folder`."""
    from adapters_xling import report
    from adapters_xling.zoo import provenance

    zoo = open_zoo(settings)
    origin, num = provenance(), cores()
    facts = {name: facts_known(zoo, name, planned) for name in planned.runs if name in zoo}
    facts |= {name: report.EntryFacts(failure=why) for name, why in outcome.failed.items()}
    facts |= {
        score.key: without_cost(facts[entry])
        for score in outcome.scores
        if score.key not in facts and (entry := entry_scored(score.key)) in facts
    }
    limits = {cell.target.task: limit or cell.target.limit for cell in planned.cells}
    readings = {cell.target.task: cell.target.reading for cell in planned.cells if cell.target.reading}
    info = report.RunInfo(
        title=planned.grid.title,
        commit=(origin.commit or "")[:12] + (" with changes" if origin.dirty else ""),
        machine=f"{origin.gpu or origin.cpu}, {num} {'core' if num == 1 else 'cores'}",
        date=origin.created[:10],
        seconds=round(outcome.seconds, 1),
        notes=(*notes(planned, limit), *incomplete(planned, outcome.scores, settings)),
        metrics=main_metrics(planned, settings),
        num_trained=len(outcome.trained),
        published=published.load_published(planned.grid.published) if planned.grid.published else None,
        all_languages={} if limit else all_languages(planned, settings),
        random={planned.grid.random: planned.grid.backbone} if planned.grid.random else {},
        limits=limits,
        readings=readings,
        precision=planned.grid.scoring_precision,
        retrieval=retrieval_tasks(planned, settings),
        grid=_grid_name(planned.origin.path, folder.parent) if planned.origin else "",
        grid_digest=planned.origin.digest if planned.origin else "",
        narrowing=planned.origin.narrowing if planned.origin else {},
    )
    controls = set(planned.controls.values())  # compared with, and in no table of methods
    scores = [score for score in outcome.scores if score.key not in controls]
    kept = report.Kept((settings or Settings()).runs_dir, limits, readings, planned.grid.scoring_precision)
    results = report.collect(scores, info=info, facts=facts)  # first: where it fails an earlier report stays
    report.write_scores(folder / SCORES_FILE, scores)
    paths.atomic_write(folder / "info.json", report.encode_info(info, facts))
    report.write_comparisons(folder, report.compare(results, kept, controls=planned.controls))
    return render_report(folder)


def render_report(folder: Path) -> dict[str, Path]:
    """Render the report of a finished grid from its folder; needs no model and no torch.

    Raises:
        MissingData: when the folder holds no scores.
    """
    from adapters_xling import report

    scores = report.read_scores(folder / SCORES_FILE)
    info, facts = report.decode_info(folder / "info.json")
    sections = _sections(folder, report.collect(scores, info=info, facts=facts))
    marks = report.marks_of(folder)
    return report.write(scores, folder, info=info, facts=facts, sections=sections, marks=marks)


def _sections(folder: Path, results: Results) -> tuple[Section, ...]:
    """What a grid's folder adds to its report; a narrowed run takes the sweeps of its entries from the whole grid."""
    from adapters_xling import report

    whole = folder.with_name(folder.name.removesuffix(_NARROWED))
    return report.sections_of(folder, results, swept=whole)


def compare_grids(name: str, other: str, *, settings: Settings | None = None) -> Path:
    """Compare the rows of two finished grids that differ in their backbone alone, and keep that for the first's report.

    Needs no model: it stands on what was kept of each example.

    Args:
        name: a grid, or the folder of its scores, whose report gets a section.
        other: another one, on another backbone, with targets in common.
        settings: folders.

    Returns:
        The file with the comparisons.

    Raises:
        MissingData: when one of them has no scores.
        DataError: when they have no row or target in common.
    """
    from adapters_xling import report

    folders = [finished_folder(one, settings=settings) for one in (name, other)]
    sides = [_finished(one, folder) for one, folder in zip((name, other), folders, strict=True)]
    against = folders[1].name
    report.write_comparisons(folders[0], report.between(*sides), against=against)
    return folders[0] / report.BETWEEN.format(against)


def _finished(name: str, folder: Path) -> tuple[Results, Kept]:
    """Cells of a finished grid, and where what was kept of its examples is: beside its folder."""
    from adapters_xling import grid, report

    info, facts = report.decode_info(folder / "info.json")
    results = report.collect(report.read_scores(folder / SCORES_FILE), info=info, facts=facts)
    if info.limits is not None and info.readings is not None:
        return results, report.Kept(folder.parent, info.limits, info.readings, info.precision)
    # written before a report said it of itself: the grid does, where that is known
    try:
        said = grid.load_grid(folder.name if folder == Path(name) else name)
    except (ConfigError, UnknownName) as err:
        raise MissingData(
            f"{folder / 'info.json'} does not say which rows of each target were scored; run the grid again, narrowed "
            "as it was, to write it: nothing is trained or scored a second time"
        ) from err
    targets = [one for one in said.targets if not isinstance(one, str)]
    limits, readings = {one.task: one.limit for one in targets}, {one.task: one.reading for one in targets}
    return results, report.Kept(folder.parent, limits, readings, said.scoring_precision)


class Joined(NamedTuple):
    """What became of a file of scores: all in it, those that are new, and those whose value is another one now."""

    total: int
    new: int
    changed: int


def join_scores(names: Sequence[str], file: Path, *, settings: Settings | None = None) -> Joined:
    """Join every score of several finished grids to those of a file: a `Score` a line, sorted, each cell once.

    What the file has stays, save cells that one of the grids scored anew: the grid's value is kept then. Cells of
    different numbers of rows, read at different layers or in different precisions, are different cells.

    Args:
        names: grids, or folders of their scores.
        file: where they go; made when there is none.
        settings: folders.

    Raises:
        MissingData: when a grid has no scores.
        DataError: when two grids give one cell two values, or the file holds something else; it is left as it was.
    """
    from adapters_xling import report

    given: dict[tuple[Any, ...], Score] = {}
    for name in names:
        path = finished_folder(name, settings=settings) / SCORES_FILE
        for score in report.read_scores(path):
            other = given.setdefault(_cell(score), score)
            if other.value != score.value:
                raise DataError(
                    f"{path}: {score.key} has {score.metric} {score.value} on {score.task} ({score.language}), in "
                    f"another grid {other.value}. Run both grids again, so that they were scored by the same code"
                )
    with paths.hold(file.with_name(f".{file.name}.lock"), wait=True):  # another report may be joining its scores now
        kept = {_cell(score): score for score in report.read_scores(file)} if file.exists() else {}
        every = kept | given
        report.write_scores(file, sorted(every.values(), key=_place))
    changed = sum(cell in kept and kept[cell] != score for cell, score in given.items())
    return Joined(len(every), len(every) - len(kept), changed)


def _cell(score: Score) -> tuple[Any, ...]:
    """What was scored, on what and how. What is said of it beside the value (zero-shot or not, the intermediate task)
    belongs to the cell and not to its name: it may have been mended."""
    what = (score.key, score.backbone, score.task, score.split, score.language, score.metric, score.num_examples)
    return (*what, score.layer, score.precision)


def _place(score: Score) -> str:
    """Where a score stands in a file."""
    return canonical_json(structs.replace(score, value=0.0))


def encoder_row(planned: Plan, name: str) -> tuple[str, str]:
    """The row that an encoder of a grid belongs to, with those of other seeds.

    Args:
        planned: the grid.
        name: key of an entry, or name of a bare backbone.

    Returns:
        Its method as the grid calls it, for two settings of one family are two rows, and what it was trained on.
    """
    from adapters_xling import methods, report

    run = planned.runs.get(name)
    if run is None:
        return report.BASE, "none"
    label = method_label(run.method, planned.grid.methods) or methods.resolve(run.method).label
    return label, planned.mixtures.get(name) or run.task


def keep_layers(planned: Plan, sweeps: Mapping[str, LayerSweep], folder: Path) -> Path | None:
    """Keep layer sweeps of a grid's entries, and of its bare backbone, in the grid's folder for its report.

    Args:
        planned: the grid.
        sweeps: key, or name of the backbone, -> its sweep, all of one task.
        folder: of the grid's report.

    Returns:
        The file; None where nothing of the grid's own was swept.
    """
    from adapters_xling import report

    found = []
    for name, sweep in sweeps.items():
        run = planned.runs.get(name)
        if run is None and name != planned.grid.backbone:
            continue  # the twin with random weights is a floor of the scores, not an encoder to compare layers of
        label, after = encoder_row(planned, name)
        found.append(report.Swept(name, label, after, run.seed if run else 0, sweep.configured, sweep.values))
    if not found:
        return None
    one = next(iter(sweeps.values()))
    kept = report.Layers(one.task, one.split, one.metric, one.pooling, tuple(found), one.precision)
    return report.write_layers(folder, kept, usual=planned.grid.scoring_precision)


def report_text(folder: Path, format: str) -> str:
    """The report of a finished grid in one format (`html`, `markdown`, `latex`, `csv`, `text`), as text.

    Raises:
        MissingData: when the folder holds no scores.
        UnknownName: for another format.
    """
    from adapters_xling import report

    info, facts = report.decode_info(folder / "info.json")
    scores = report.read_scores(folder / SCORES_FILE)
    sections = _sections(folder, report.collect(scores, info=info, facts=facts))
    marks = report.marks_of(folder)
    return report.render(format, scores, info=info, facts=facts, sections=sections, marks=marks)


def summary(folder: Path) -> str:
    """The table of a finished grid, as text for a terminal."""
    return report_text(folder, "text").rstrip("\n")


def compare(
    ours: str,
    theirs: str,
    name: str,
    *,
    metric: str | None = None,
    split: str | None = None,
    languages: str | Sequence[str] | None = None,
    limit: int | None = None,
    precision: str = "fp32",
    resamples: int | None = None,
    seeds: Seeds = "student",
    settings: Settings | None = None,
) -> Versus:
    """Compare two systems on a task, example by example, from what evaluation kept; needs no model and no torch.

    Args:
        ours: key of an entry, several with commas (one per seed), or labels: ``method=lora,intermediate=mini-nli``.
        theirs: the other system.
        name: the task.
        metric: one of its scores; the one models are selected by where it is left out.
        split: split that was scored; the task's own by default.
        languages: subset of the task's languages, each of which must be there; codes, or text with commas between them.
        limit: compare scores of so many first rows.
        precision: of the forward passes that were scored, "fp32" or "bf16"; the two are never compared with each other.
        resamples: draws of the bootstrap.
        seeds: how training noise enters; see `statistics.Bootstrap`.
        settings: folders.
    """
    from adapters_xling import metrics, report
    from adapters_xling.statistics import RESAMPLES, Bootstrap

    settings = settings or Settings()
    languages = codes(languages)
    spec = task(name, settings)
    split = split or spec.eval_split
    known = spec.languages_by_split.get(split, spec.languages)
    for code in languages or ():
        if code not in known:
            raise unknown(f"language of {spec.name} ({split})", code, known)
    return report.versus(
        (ours, theirs),
        report.Target(spec.name, metric or metrics.main(spec.metrics[0]), split),
        kept=report.Kept(settings.runs_dir, {spec.name: limit}, precision=precision, zoo=open_zoo(settings)),
        languages=languages or known,
        bootstrap=Bootstrap(num_resamples=resamples or RESAMPLES, seeds=seeds),
        only=languages is not None,
    )
