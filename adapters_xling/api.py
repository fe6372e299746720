"""The verbs of the command line, for Python: `tasks`, `train`, `evaluate`, `layers`, `predict`, `run`, `report`,
`open_zoo`, `build_submission`, `submission_labels`, `check_submission`, `score_submission`.

Each takes names and paths as a person would type them and gives back data.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xling import paths, published
from adapters_xling.errors import ConfigError, DataError, MissingData, ZooError, unknown
from adapters_xling.spec import Fresh, Init, Route, Score, Slot, Stack, TaskSpec, Use, Warm, entries
from adapters_xling.zoo import Entry, Zoo

if TYPE_CHECKING:
    from adapters_xling.grid import Estimate, Outcome, Plan
    from adapters_xling.report import EntryFacts, Versus
    from adapters_xling.statistics import Seeds
    from adapters_xling.submission import Built, Problem, Result
    from adapters_xling.sweep import LayerSweep
    from adapters_xling.tasks.examples import Example, Prediction
    from adapters_xling.zoo import Provenance


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def has_gpu() -> bool:
    """Whether an NVIDIA device is there and not hidden, found without loading torch."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all") != "" and any(Path("/dev").glob("nvidia[0-9]*"))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where things are and on what they run; the same for every verb.

    Attributes:
        runs: trained entries (in `zoo/`), predictions, scores, logs and reports.
        data: folder of original data files.
        tasks: private folder of task files.
        device: `cpu`, `cuda`, or None to choose.
        workers: runs trained at a time; 0 means one per core, or with GPUs asked for as many as these allow.
        executor: where a grid's runs are computed: `local` (this machine) or `ray` (a cluster).
        gpus_per_run: part of a GPU that each run gets, above 0 up to 1; None leaves it to the executor.
        ray_address: of a Ray cluster; a Ray of this machine is started when there is none.
        checkpoint_every: time or steps between two checkpoints of a run (``10m``, ``90s``, ``500steps``), or ``never``.
    """

    runs: Path | None = None
    data: Path | None = None
    tasks: Path | None = None
    device: str | None = None
    workers: int = 0
    executor: str = "local"
    gpus_per_run: float | None = None
    ray_address: str | None = None
    checkpoint_every: str = "10m"

    @property
    def checkpoint_interval(self) -> tuple[float, int]:
        """Seconds and steps between two checkpoints; 0 where that does not count.

        Raises:
            ConfigError: for text that says neither.
        """
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|steps?)", self.checkpoint_every.strip())
        if self.checkpoint_every == "never":
            return 0.0, 0
        if found is None or not float(found[1]) or (found[2].startswith("step") and "." in found[1]):
            raise ConfigError(
                f"checkpoints every {self.checkpoint_every!r}: give a time or a number of steps (90s, 10m, 1h, "
                "500steps), or never"
            )
        if found[2].startswith("step"):
            return 0.0, int(found[1])
        return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]], 0

    @property
    def checkpoint_dir(self) -> Path:
        """Folder of the checkpoints of runs that are not finished."""
        return self.runs_dir / "checkpoints"

    @property
    def runs_dir(self) -> Path:
        """Folder of everything that is produced."""
        return self.runs or paths.runs_dir()

    @property
    def device_type(self) -> str:
        """Type of device that will be used (`cpu`, `cuda`, `mps`), found without loading torch."""
        return self.device.partition(":")[0] if self.device else ("cuda" if has_gpu() else "cpu")

    @property
    def num_workers(self) -> int:
        """Runs trained at a time: as asked for, else one on a GPU, else one per core."""
        return self.workers or (1 if self.device_type == "cuda" else cores())

    @property
    def data_dir(self) -> Path | None:
        """Folder of original data files.

        Raises:
            DataError: when a folder was named that does not exist.
        """
        found = self.data or paths.data_dir()
        if found is not None and not found.is_dir():
            raise DataError(f"data folder {found} does not exist: correct --data-dir or XLING_DATA")
        return found


def open_zoo(settings: Settings | None = None) -> Zoo:
    """Open the zoo of trained entries below the runs folder, with the shipped entries behind it."""
    return Zoo((settings or Settings()).runs_dir / "zoo")


def tasks(settings: Settings | None = None) -> list[TaskSpec]:
    """Every task there is, shipped and private."""
    from adapters_xling import tasks as catalog

    extra = (settings or Settings()).tasks
    return [catalog.get(name, extra=extra) for name in catalog.names(extra=extra)]


def task(name: str, settings: Settings | None = None) -> TaskSpec:
    """One task by name.

    Raises:
        UnknownName: with the closest names.
    """
    from adapters_xling import tasks as catalog

    return catalog.get(name, extra=(settings or Settings()).tasks)


def default_recipe(backbone: str) -> str:
    """Recipe used when none is named: the paper's, unless one was made for that backbone (`xlmr-nano`: `nano`)."""
    from adapters_xling import grid

    own = backbone.rsplit("-", 1)[-1]
    return own if own in grid.recipes().recipes else "paper"


def train(
    name: str | Sequence[str],
    *,
    method: str = "bottleneck",
    method_settings: Mapping[str, Any] | None = None,
    backbone: str = "xlmr-nano",
    recipe: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    warm: str | None = None,
    stack: str | None = None,
    seed: int = 0,
    mix: str | None = None,
    rates: Mapping[str, float] | None = None,
    settings: Settings | None = None,
    show_progress: bool = True,
) -> Entry:
    """Train one task, or a mixture of tasks, with one method and keep it in the zoo.

    A run that was killed goes on from its last checkpoint when it is asked for again.

    Args:
        name: task or tasks; a target that has no training rows of its own trains on its source (XNLI on MNLI).
        method: training family.
        method_settings: differences from the method's default settings.
        backbone: name of the frozen encoder.
        recipe: optimisation settings by name.
        overrides: differences to the recipe.
        warm: entry (key or unambiguous beginning of one) to start from.
        stack: entry to stand on; it stays frozen below the new slot.
        seed: seed of initialisation, order and dropout.
        mix: how the tasks of a mixture share the steps: ``proportional`` to their rows (the default), ``uniform`` or
            ``temperature:2``; the first and last with a cap on the rows after a further colon.
        rates: task -> share of all steps, for tasks with a rate of their own (MLM beside an English task).
        settings: folders and device.
        show_progress: draw a progress bar.
    """
    from adapters_xling import grid, methods
    from adapters_xling import tasks as catalog
    from adapters_xling.model import backbone_id, family_of
    from adapters_xling.training import train as train_run

    settings = settings or Settings()
    zoo = open_zoo(settings)
    if warm and stack:
        raise ConfigError("give --warm or --stack, not both: a slot starts from an entry or stands on one")
    init: Init = Warm(entry=zoo.resolve(warm)) if warm else Fresh()
    route: Route = Stack(parts=(Use(entry=zoo.resolve(stack)), Slot())) if stack else Slot()
    built = methods.resolve(method, method_settings)
    built.check(family_of(backbone))
    every_s, every_steps = settings.checkpoint_interval
    wanted = [name] if isinstance(name, str) else list(name)
    sources = [catalog.train_task(task(one, settings), extra=settings.tasks) for one in wanted]
    run = grid.make_run(
        sources[0] if len(sources) == 1 else sources,
        built,
        backbone=backbone_id(backbone, download=True),
        recipe=recipe or default_recipe(backbone),
        overrides=overrides,
        init=init,
        route=route,
        seed=seed,
        data_dir=settings.data_dir,
        mix=grid.Mix.parse(mix or "proportional", rates) if mix or rates else None,
        backbone_folder=_local(backbone),
    )
    return train_run(
        run,
        zoo=zoo,
        data_dir=settings.data_dir,
        log_dir=settings.runs_dir / "logs",
        device=settings.device,
        show_progress=show_progress,
        extra_tasks=settings.tasks,
        backbone=_local(backbone),
        checkpoint_dir=settings.checkpoint_dir,
        checkpoint_s=every_s,
        checkpoint_steps=every_steps,
    )


def _local(backbone: str) -> Path | None:
    """The folder of a local backbone; None for one that is known by name."""
    from adapters_xling.backbones import BACKBONES

    return None if backbone in BACKBONES or not Path(backbone).is_dir() else Path(backbone)


def _folder(backbone: str | None) -> Path | None:
    """The folder a person named as that of an entry's backbone; None for one that is known by name.

    Raises:
        ZooError: for a name that is neither.
    """
    from adapters_xling.backbones import BACKBONES

    if backbone is None or backbone in BACKBONES:
        return None
    folder = Path(backbone).expanduser()
    if not folder.is_dir():
        raise ZooError(
            f"backbone folder {backbone} does not exist: give the folder with config.json, tokenizer.json and "
            "model.safetensors that the entry was trained on"
        )
    return folder


def evaluate(
    entry: str,
    name: str,
    *,
    languages: Sequence[str] | None = None,
    split: str | None = None,
    limit: int | None = None,
    settings: Settings | None = None,
    on_language: Callable[[str, list[Score]], Any] | None = None,
    on_missing: Callable[[str, str], Any] | None = None,
    on_step: Callable[[str, str, int, int], Any] | None = None,
    layer: int | None = None,
    pooling: str | None = None,
    vectors: str = "float32",
    unscored: bool = False,
    on_left_out: Callable[[str, dict[str, int]], Any] | None = None,
    backbone: str | None = None,
) -> list[Score]:
    """Score an entry (or a bare backbone, for retrieval) on a task, language by language; resumable.

    `backbone` names the folder of an entry's local backbone, where it cannot be found by its name.
    `layer`, `pooling` and `vectors` are retrieval's: see `evaluation.Reading`. With `unscored` only the predictions are
    kept, for test sets whose answers are withheld, and no score comes back. `on_left_out` hears of rows that were not
    scored, by reason.
    """
    from adapters_xling.evaluation import Reading
    from adapters_xling.evaluation import evaluate as evaluate_entry
    from adapters_xling.model import is_backbone

    settings = settings or Settings()
    zoo = open_zoo(settings)
    return evaluate_entry(
        entry if is_backbone(entry) else zoo.resolve(entry),
        task(name, settings),
        zoo=zoo,
        runs_dir=settings.runs_dir,
        languages=languages,
        split=split,
        data_dir=settings.data_dir,
        limit=limit,
        device=settings.device,
        extra_tasks=settings.tasks,
        on_language=on_language,
        on_missing=on_missing,
        on_left_out=on_left_out,
        unscored=unscored,
        on_step=on_step,
        reading=Reading(layer=layer, pooling=pooling, vectors=vectors),
        backbone=_folder(backbone),
    )


def layers(
    name: str,
    *,
    on: str | None = None,
    backbone: str = "xlmr-nano",
    languages: Sequence[str] | None = None,
    split: str = "dev",
    pooling: str | None = None,
    vectors: str = "float32",
    limit: int | None = None,
    settings: Settings | None = None,
    on_step: Callable[[str, str, int, int], Any] | None = None,
    on_missing: Callable[[str, str], Any] | None = None,
) -> LayerSweep:
    """Score every hidden state on a retrieval task's dev rows, from one pass over its sentences.

    Args:
        name: a retrieval task.
        on: entry (key or unambiguous beginning of one) whose encoder reads; the bare backbone by default.
        backbone: that backbone.
        languages: subset of the task's languages.
        split: another split than dev can be looked at, not chosen on.
        pooling: "mean", "mean-text" or "first", instead of what retrieval uses.
        vectors: "float32", or "float16" for half the space on disk.
        limit: only the first queries of each language.
        settings: folders and device.
        on_step: called with language, stage, what is done of it and its total.
        on_missing: called with language and reason where rows are not at hand.
    """
    from adapters_xling import sweep

    settings = settings or Settings()
    zoo = open_zoo(settings)
    return sweep.layers(
        zoo.resolve(on) if on else backbone,
        task(name, settings),
        zoo=zoo,
        runs_dir=settings.runs_dir,
        languages=languages,
        split=split,
        pooling=pooling,
        vectors=vectors,
        data_dir=settings.data_dir,
        limit=limit,
        device=settings.device,
        on_step=on_step,
        on_missing=on_missing,
    )


def predict(
    entry: str,
    examples: Sequence[Any],
    *,
    name: str | None = None,
    settings: Settings | None = None,
    backbone: str | None = None,
) -> list[Prediction]:
    """Predict with an entry's head.

    Args:
        entry: key, or an unambiguous beginning of one.
        examples: examples, or the texts of each (one or two sentences; prompt and choices; question and context).
        name: task whose head answers; needed only when the entry has several.
        settings: folders and device.
        backbone: folder of the entry's local backbone, where it cannot be found by its name.

    Raises:
        DataError: for texts the kind cannot use.
        ConfigError: when the entry has several heads and none was named.
    """
    from adapters_xling import inference
    from adapters_xling import tasks as catalog
    from adapters_xling.model import open_entry, resolve_device
    from adapters_xling.tasks import kinds

    settings = settings or Settings()
    zoo = open_zoo(settings)
    found = zoo.get(zoo.resolve(entry))
    spec = catalog.with_labels(task(name or answering(found), settings), data_dir=settings.data_dir)
    kind = kinds.get(spec.kind)
    ready: list[Example] = [
        kind.from_texts([str(text) for text in item], id=str(i)) if isinstance(item, (list, tuple)) else item
        for i, item in enumerate(examples)
    ]
    for item in ready:
        problem = kind.check_example(item, spec, need_gold=False)
        if problem:
            raise DataError(f"row {item.id}: {problem}")
    model = open_entry(found.key, zoo=zoo, device=resolve_device(settings.device), backbone=_folder(backbone))
    return inference.predict(model, spec, ready, max_length=found.card.run.recipe_for(spec.name).max_length)


def answering(entry: Entry) -> str:
    """The task whose head answers when none is named: the entry's only one beside companions (MLM).

    Raises:
        ConfigError: when the tasks of a mixture have several heads to choose from.
    """
    from adapters_xling.tasks.kinds import options

    heads = {head.task: head for head in entry.card.heads.values() if head.kind not in options.COMPANIONS}
    if len(heads) > 1:
        raise ConfigError(f"entry {entry.key} has heads for {', '.join(heads)}: name one of these tasks (--task)")
    return next(iter(heads), entry.card.run.tasks[0].name)


def plan(
    name: str,
    *,
    narrow: Mapping[str, Sequence[Any]] | None = None,
    download: bool = False,
    settings: Settings | None = None,
) -> Plan:
    """Expand a grid without training anything; `download` fetches a hub backbone, which training needs."""
    from adapters_xling import grid

    settings = settings or Settings()
    spec = grid.load_grid(name, narrow=dict(narrow or {}))
    if spec.published:
        published.load_published(spec.published)  # a name that is wrong is said now and not after the training
    return grid.expand(spec, data_dir=settings.data_dir, extra_tasks=settings.tasks, download=download)


def require_rows(planned: Plan) -> None:
    """Refuse a plan with runs that cannot be trained here, before anything is downloaded or trained.

    Raises:
        MissingData: naming each task whose training rows are not at hand, and what to do.
    """
    if planned.lacking:
        reasons = "\n".join(planned.lacking.values())
        raise MissingData(
            f"{reasons}\nNothing was trained. To run the rest of the grid add --without-lacking, or leave these tasks "
            "out: --intermediate, --targets"
        )


def estimate(
    planned: Plan, *, limit: int | None = None, gpu_memory: str | None = None, settings: Settings | None = None
) -> Estimate:
    """What a plan still lacks will take here: time of training and scoring, disk, and memory of each run.

    Stands on what was timed on this machine, else on the encoder's size and the machine's speed. Loads no torch.

    Args:
        planned: what `plan` gave.
        limit: score only the first rows of every set.
        gpu_memory: memory of the GPU to plan for, e.g. ``24GiB``; by default that of the visible one, and of this
            machine divided by the workers where runs train on its processor.
        settings: folders, device and workers.

    Raises:
        ConfigError: for memory that is no number with a unit.
    """
    from adapters_xling import grid

    settings = settings or Settings()
    device, memory = grid.device_memory(settings.device_type, gpu_memory, workers=settings.num_workers)
    return grid.estimate(
        planned,
        zoo=open_zoo(settings),
        runs_dir=settings.runs_dir,
        workers=settings.num_workers if device == settings.device_type else 1,
        device=device,
        memory=memory,
        data_dir=settings.data_dir,
        extra_tasks=settings.tasks,
        limit=limit,
    )


def run(
    planned: Plan,
    *,
    limit: int | None = None,
    settings: Settings | None = None,
    expected: Estimate | None = None,
    on_event: Callable[[str, str, str], Any] = lambda *_: None,
) -> Outcome:
    """Train what a plan still lacks and score all its cells.

    Args:
        planned: what `plan` gave.
        limit: score only the first rows of every set.
        settings: folders, device and workers.
        expected: what `estimate` said of this plan; computed here when it is not given.
        on_event: see `grid.execute`.

    Raises:
        MissingData: when training rows of a run are not at hand.
        XlingError: before anything trains, when the disk cannot hold what will be written.
    """
    from adapters_xling import grid

    settings = settings or Settings()
    require_rows(planned)
    grid.require_room(expected or estimate(planned, limit=limit, settings=settings), settings.runs_dir)
    runs, backbone = settings.runs_dir.absolute(), _local(planned.grid.backbone)
    data, private = settings.data_dir, settings.tasks or paths.private_tasks_dir()
    common = grid.Common(
        zoo_root=runs / "zoo",
        runs_dir=runs,
        data_dir=data and data.absolute(),
        extra_tasks=settings.tasks and settings.tasks.absolute(),
        device=settings.device,
        limit=limit,
        backbone=backbone and backbone.absolute(),
        checkpoint_s=settings.checkpoint_interval[0],
        checkpoint_steps=settings.checkpoint_interval[1],
    )
    executor = grid.open_executor(
        settings.executor,
        workers=settings.workers,
        default_workers=settings.num_workers,
        gpus_per_run=settings.gpus_per_run,
        device=settings.device,
        address=settings.ray_address,
        shared=tuple(folder.absolute() for folder in (runs, data, private, backbone) if folder),
    )
    return grid.execute(planned, common, executor=executor, on_event=on_event)


_OWN_FOLDERS = ("zoo", "scores", "logs", "checkpoints")


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
    suffix = ("-narrowed" if narrowed else "") + (f"-first{limit}" if limit else "")
    return (settings or Settings()).runs_dir / f"{stem}{suffix}"


def write_report(
    planned: Plan, outcome: Outcome, folder: Path, *, limit: int | None = None, settings: Settings | None = None
) -> dict[str, Path]:
    """Write scores, what the scores do not say, comparisons and the report of a grid into `folder`."""
    from adapters_xling import report
    from adapters_xling.zoo import provenance

    zoo = open_zoo(settings)
    origin = provenance()
    facts = {name: _facts(zoo, name, planned.mixtures) for name in planned.runs if name in zoo}
    facts |= {name: report.EntryFacts(failure=why) for name, why in outcome.failed.items()}
    info = report.RunInfo(
        title=planned.grid.title,
        commit=(origin.commit or "")[:12] + (" with changes" if origin.dirty else ""),
        machine=f"{origin.gpu or origin.cpu}, {cores()} cores",
        date=origin.created[:10],
        seconds=round(outcome.seconds, 1),
        notes=tuple(_notes(planned, limit)),
        metrics=_main_metrics(planned, settings),
        num_trained=len(outcome.trained),
        published=published.load_published(planned.grid.published) if planned.grid.published else None,
        all_languages={} if limit else _all_languages(planned, settings),
    )
    controls = set(planned.controls.values())  # compared with, and in no table of methods
    scores = [score for score in outcome.scores if score.key not in controls]
    limits = {cell.target.task: limit or cell.target.limit for cell in planned.cells}
    kept = report.Kept((settings or Settings()).runs_dir, limits)
    report.write_scores(folder / "scores.jsonl", scores)
    paths.atomic_write(folder / "info.json", report.encode_info(info, facts))
    results = report.collect(scores, info=info, facts=facts)
    report.write_comparisons(folder, report.compare(results, kept, controls=planned.controls))
    return render_report(folder)


def render_report(folder: Path) -> dict[str, Path]:
    """Render the report of a finished grid from its folder; needs no model and no torch.

    Raises:
        MissingData: when the folder holds no scores.
    """
    from adapters_xling import report

    scores = report.read_scores(folder / "scores.jsonl")
    info, facts = report.decode_info(folder / "info.json")
    sections = report.sections_of(folder, report.collect(scores, info=info, facts=facts))
    return report.write(scores, folder, info=info, facts=facts, sections=sections)


def report_text(folder: Path, format: str) -> str:
    """The report of a finished grid in one format (`html`, `markdown`, `latex`, `csv`, `text`), as text.

    Raises:
        MissingData: when the folder holds no scores.
        UnknownName: for another format.
    """
    from adapters_xling import report

    info, facts = report.decode_info(folder / "info.json")
    scores = report.read_scores(folder / "scores.jsonl")
    sections = report.sections_of(folder, report.collect(scores, info=info, facts=facts))
    return report.render(format, scores, info=info, facts=facts, sections=sections)


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
    languages: Sequence[str] | None = None,
    limit: int | None = None,
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
        languages: subset of the task's languages, each of which must be there.
        limit: compare scores of so many first rows.
        resamples: draws of the bootstrap.
        seeds: how training noise enters; see `statistics.Bootstrap`.
        settings: folders.
    """
    from adapters_xling import metrics, report
    from adapters_xling.statistics import RESAMPLES, Bootstrap

    settings = settings or Settings()
    spec = task(name, settings)
    split = split or spec.eval_split
    known = spec.languages_by_split.get(split, spec.languages)
    for code in languages or ():
        if code not in known:
            raise unknown(f"language of {spec.name} ({split})", code, known)
    return report.versus(
        (ours, theirs),
        report.Target(spec.name, metric or metrics.main(spec.metrics[0]), split),
        kept=report.Kept(settings.runs_dir, {spec.name: limit}),
        languages=languages or known,
        bootstrap=Bootstrap(num_resamples=resamples or RESAMPLES, seeds=seeds),
        only=languages is not None,
    )


def _facts(zoo: Zoo, name: str, mixtures: Mapping[str, str]) -> EntryFacts:
    """What the card of an entry says; `mixtures` names mixtures by the key of their entry."""
    from adapters_xling.report import EntryFacts

    card = zoo.get(name, verify=False).card
    trained = card.training
    named = (mixtures[key] for key in (name, *card.parents) if key in mixtures)
    device = trained.device if trained else None
    return EntryFacts(
        steps=trained.steps if trained else None,
        device=_device_name(card.provenance, device) if device else "",
        on_gpu=device != "cpu" if device else None,
        num_devices=trained.get("processes", 1) if trained and device else None,  # each on a device of its own
        parents=card.parents,
        stands_on=entries(card.run.route),
        mixture=next(named, ""),
        num_trainable=card.num_trainable,
        num_bytes=card.num_bytes,
        seconds=trained.seconds if trained else None,
        converged=trained.converged if trained else None,
        dev_score=trained.dev_score if trained else None,
        chance=trained.chance if trained else None,
        method_settings={k: v for k, v in card.run.method.settings.items() if v is not None},
    )


def _device_name(origin: Provenance, device: str) -> str:
    """What an entry was trained on: a GPU by its name, a processor with the threads that were used of it."""
    if device == "cuda" and origin.gpu:
        return re.sub(r" x\d+$", "", origin.gpu)  # how many there were says nothing about how many were used
    if device != "cpu":
        return device
    return f"{origin.cpu}, {origin.num_threads} thread{'s' * (origin.num_threads != 1)}"


def _all_languages(planned: Plan, settings: Settings | None) -> dict[str, tuple[str, ...]]:
    """Languages of each target of which every row is scored: what a published mean is over."""
    extra = (settings or Settings()).tasks
    found: dict[str, tuple[str, ...]] = {}
    for target in dict.fromkeys(cell.target for cell in planned.cells):
        if target.limit is None:
            spec = task(target.task, Settings(tasks=extra))
            found[target.task] = spec.languages_by_split.get(target.split or spec.eval_split, spec.languages)
    return found


def _notes(planned: Plan, limit: int | None) -> Iterator[str]:
    """What must be said beside every table of a grid: its own warning, and which rows were left out."""
    if planned.grid.warning:
        yield planned.grid.warning
    if planned.left_out:
        yield f"Left out, for their training rows were not at hand: {', '.join(planned.left_out)}."
    if limit:
        yield f"Only the first {limit} rows of each set were scored."
        return
    limited = {cell.target.task: cell.target.limit for cell in planned.cells if cell.target.limit}
    for name, rows in limited.items():
        yield f"{name}: only the first {rows} rows of each language were scored."


def _main_metrics(planned: Plan, settings: Settings | None) -> dict[str, str]:
    from adapters_xling import metrics

    extra = (settings or Settings()).tasks
    names = dict.fromkeys(cell.target.task for cell in planned.cells)
    return {name: metrics.main(task(name, Settings(tasks=extra)).metrics[0]) for name in names}


def build_submission(
    sources: Sequence[str],
    out: Path,
    *,
    benchmark: str = "xtreme",
    use: Mapping[str, str] | None = None,
    allow_missing: bool = False,
    force: bool = False,
    settings: Settings | None = None,
) -> Built:
    """Write the folder a benchmark wants from kept predictions; see `submission.build`."""
    from adapters_xling import submission

    settings = settings or Settings()
    return submission.build(
        sources,
        out,
        submission.benchmark.get(benchmark),
        runs_dir=settings.runs_dir,
        use=use,
        data_dir=settings.data_dir,
        extra_tasks=settings.tasks,
        allow_missing=allow_missing,
        force=force,
    )


def submission_labels(
    out: Path,
    *,
    benchmark: str = "xtreme",
    allow_missing: bool = False,
    force: bool = False,
    settings: Settings | None = None,
) -> Built:
    """Write the answers of rows that are at hand as a benchmark's labels folder; see `submission.labels`."""
    from adapters_xling import submission

    settings = settings or Settings()
    return submission.labels(
        out,
        submission.benchmark.get(benchmark),
        data_dir=settings.data_dir,
        extra_tasks=settings.tasks,
        allow_missing=allow_missing,
        force=force,
    )


def check_submission(folder: Path, *, benchmark: str = "xtreme", labels: Path | None = None) -> list[Problem]:
    """Name everything that is missing, unexpected or malformed in a submission folder; see `submission.check`."""
    from adapters_xling import submission

    return submission.check(folder, submission.benchmark.get(benchmark), labels=labels)


def score_submission(
    predictions: Path, labels: Path, *, benchmark: str = "xtreme", allow_missing: bool = False
) -> Result:
    """Score a folder of predictions against a folder of labels as the benchmark does; see `submission.score`."""
    from adapters_xling import submission

    return submission.score(predictions, labels, submission.benchmark.get(benchmark), allow_missing=allow_missing)
