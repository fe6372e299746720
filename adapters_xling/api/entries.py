"""What can be known of an entry: how to train it again, its README, its licence, its scores, what sets it apart."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xling import keeping
from adapters_xling.errors import ConfigError, MissingData, UnknownName
from adapters_xling.spec import Fresh, Recipe, RunSpec, Score, Slot, Stack, TaskSpec, Uniform, Use, Warm
from adapters_xling.zoo import Card, Entry

from .settings import Settings, open_zoo, task

if TYPE_CHECKING:
    from adapters_xling.leaks import Leaks
    from adapters_xling.licences import Terms
    from adapters_xling.zoo.attestations import Attestation


@dataclass(frozen=True)
class Retraining:
    """The command that trains an entry again.

    Attributes:
        arguments: words after `xling`.
        notes: what must be there that a command cannot say.
    """

    arguments: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The command as a person types it."""
        return " ".join(["xling", *map(shlex.quote, self.arguments)])


def retraining(card: Card, settings: Settings | None = None) -> Retraining:
    """The command that trains what a card describes, with every setting that differs from the defaults of now.

    The same rows under the same defaults give the same key.

    Raises:
        ConfigError: for a run that no options of `xling train` describe.
    """
    from adapters_xling.backbones import BACKBONES

    run = card.run
    arguments = ["train", *(ref.name for ref in run.tasks), "--method", run.method.name]
    arguments += [word for name, value in _method_settings(run).items() for word in ("--set", _pair(name, value))]
    arguments += ["--backbone", run.backbone.name]
    specs, private = _tasks(card, settings)
    recipe, overrides = _recipe(run, specs)
    arguments += ["--recipe", recipe]
    arguments += [word for name, value in overrides.items() for word in ("--with", _pair(name, value))]
    arguments += _mixture(run)
    arguments += _composition(run)
    if run.seed:
        arguments += ["--seed", str(run.seed)]
    notes = [f"the task file of {name} must be in the folder that --tasks or XLING_TASKS names" for name in private]
    if run.backbone.name not in BACKBONES:
        notes.append(f"--backbone must name the folder of {run.backbone.name}")
    if run.parents:
        notes.append(f"in the zoo must be {', '.join(run.parents)}")
    if files := sorted({name for rows in card.data.values() for name in rows.files}):
        notes.append(f"below --data-dir or XLING_DATA must be {', '.join(files[:6])}{', …' if len(files) > 6 else ''}")
    return Retraining(tuple(arguments), tuple(notes))


def _pair(name: str, value: Any) -> str:
    return f"{name}={value}" if isinstance(value, str) else f"{name}={json.dumps(value)}"


def _method_settings(run: RunSpec) -> dict[str, Any]:
    """Settings of a run's method that are not the defaults."""
    from adapters_xling import methods
    from adapters_xling.spec import canonical

    usual = canonical(methods.resolve(run.method.name).spec().settings)
    return {name: value for name, value in canonical(run.method.settings).items() if usual.get(name) != value}


def _tasks(card: Card, settings: Settings | None) -> tuple[list[TaskSpec], list[str]]:
    """The tasks of a run as far as a recipe depends on them, and those no task file describes here."""
    forms = {head.task: head.kind for head in card.heads.values()}
    found, private = [], []
    for ref in card.run.tasks:
        try:
            spec = task(ref.name, settings)
        except UnknownName:
            if ref.name not in forms:
                raise
            spec = TaskSpec(
                name=ref.name,
                kind=forms[ref.name],
                role="private",
                title=ref.name,
                languages=(),
                sources=(),
                metrics=(),
            )
            private.append(ref.name)
        if spec.role == "private" and ref.name not in private:
            private.append(ref.name)
        found.append(spec)
    return found, private


def _recipe(run: RunSpec, specs: Sequence[TaskSpec]) -> tuple[str, dict[str, Any]]:
    """The recipe and the differences to it that give a run's settings, with as few differences as can be."""
    from adapters_xling import grid
    from adapters_xling.grid.mixing import Mix, mixture_of

    from .models import default_recipe

    mix = Mix(run.mixture.sampling, run.mixture.rates) if run.mixture else Mix()
    usual = default_recipe(run.backbone.name)
    best: tuple[str, dict[str, Any]] | None = None
    for name in sorted(grid.recipes().recipes, key=lambda one: (one != usual, one)):

        def resolved(overrides: dict[str, Any], name: str = name) -> Any:
            return mixture_of(specs, mix, grid.recipes(), name, method=run.method.name, overrides=overrides)

        shared, mixture = resolved({})
        overrides = _unlike(run.recipe, shared)
        if run.mixture and mixture:
            for part, wanted in run.mixture.parts.items():
                overrides |= _unlike(wanted, mixture.parts[part])
        if resolved(overrides) == (run.recipe, run.mixture) and (best is None or len(overrides) < len(best[1])):
            best = name, overrides
    if best is None:
        raise ConfigError(
            f"entry of {run.task}: its tasks have settings that no recipe and no --with give, as batches cut to a "
            "grid's rows_at_once; run the grid it came from"
        )
    return best


def _unlike(wanted: Any, found: Any) -> dict[str, Any]:
    names = [name for name in wanted.__struct_fields__ if name in Recipe.__struct_fields__]
    return {name: getattr(wanted, name) for name in names if getattr(wanted, name) != getattr(found, name)}


def _mixture(run: RunSpec) -> list[str]:
    if run.mixture is None:
        return []
    sampling = run.mixture.sampling
    numbers = [f"{getattr(sampling, name):g}" for name in ("temperature",) if hasattr(sampling, name)]
    numbers += [str(getattr(sampling, name)) for name in ("cap",) if hasattr(sampling, name)]
    words = ["--mix", ":".join([str(sampling.__struct_config__.tag), *numbers])]
    if isinstance(sampling, Uniform) and run.mixture.rates and set(run.mixture.rates) == set(run.mixture.parts):
        words = []  # a mixture whose every task has a rate of its own has nothing left to divide
    return words + [word for name, rate in run.mixture.rates.items() for word in ("--rate", f"{name}={rate!r}")]


def _composition(run: RunSpec) -> list[str]:
    """The options that say what a run starts from and stands on.

    Raises:
        ConfigError: for a composition they do not describe.
    """
    words: list[str] = []
    if isinstance(run.init, Warm):
        words += ["--warm", run.init.entry]
    elif not isinstance(run.init, Fresh):
        raise ConfigError(f"a slot that starts as {run.init.__struct_config__.tag} has no options of `xling train`")
    if isinstance(run.route, Slot):
        return words
    parts = run.route.parts if isinstance(run.route, Stack) else ()
    if len(parts) == 2 and isinstance(parts[0], Use) and isinstance(parts[1], Slot) and not words:
        return ["--stack", parts[0].entry]
    raise ConfigError("a route of this form has no options of `xling train`; train it from Python with its card's run")


# --- what is known of an entry -----------------------------------------------------------------------------------


def entry_licence(entry: str, settings: Settings | None = None) -> Terms:
    """What the licences of an entry's data, backbone and ancestors ask of whoever shares it.

    Args:
        entry: key, or an unambiguous beginning of one.
        settings: folders.
    """
    from adapters_xling.zoo import lineage

    zoo = open_zoo(settings)
    return lineage.trace(zoo, zoo.resolve(entry)).licence()


def entry_readme(entry: str, settings: Settings | None = None) -> str:
    """The README.md of an entry, with its lineage, its attested scores and the command that trains it again."""
    from adapters_xling.zoo import lineage
    from adapters_xling.zoo.readme import render_readme

    zoo = open_zoo(settings)
    found = zoo.get(zoo.resolve(entry), verify=False)
    try:
        command = retraining(found.card, settings).command
    except (ConfigError, UnknownName):
        command = ""  # a composition or private task that options do not describe
    scores = [one.score for one in zoo.scores(found.key)]
    return render_readme(found.card, lineage=lineage.trace(zoo, found.key), scores=scores, retrain=command)


def leaks(
    entry: str,
    *,
    on: Sequence[str] = (),
    languages: Sequence[str] | None = None,
    settings: Settings | None = None,
    on_set: Callable[[str], Any] | None = None,
) -> Leaks:
    """Compare what an entry and its ancestors learnt from with the rows of benchmarks.

    Args:
        entry: key, or an unambiguous beginning of one.
        on: tasks whose scored rows are looked at; by default the mini tasks for an entry that learnt from these alone,
            else all others.
        languages: look only at these.
        settings: folders.
        on_set: called with the name of each set as it is read.
    """
    from adapters_xling.leaks import find_leaks
    from adapters_xling.zoo import lineage

    from .settings import tasks as every

    settings = settings or Settings()
    zoo = open_zoo(settings)
    key = zoo.resolve(entry)
    known = {spec.name: spec for spec in every(settings)}
    learnt = {ref.name for card in lineage.trace(zoo, key).cards.values() if card for ref in card.run.tasks}
    made_up = all(name in known and known[name].role == "mini" for name in learnt)
    chosen = [task(name, settings) for name in on] or [
        spec for spec in known.values() if (spec.role == "mini") == made_up and spec.role in ("mini", "target", "kit")
    ]
    return find_leaks(
        key,
        zoo=zoo,
        benchmarks=chosen,
        data_dir=settings.data_dir,
        extra_tasks=settings.tasks,
        languages=languages,
        on_set=on_set,
    )


def kept_scores(settings: Settings | None = None) -> list[Score]:
    """Scores of whole sets that evaluation kept in the runs folder, of all entries."""
    folder = (settings or Settings()).runs_dir / "scores"
    return [score for path in _score_files(folder, "*") for score in _read(path).scores]


def attest_scores(entry: str, names: Iterable[str] = (), settings: Settings | None = None) -> tuple[Attestation, ...]:
    """Keep the scores of an entry in the zoo beside its card, sealed, so that they travel with it.

    Scores come from what evaluation kept; it is asked again for each of them, so that what no longer fits its rows,
    weights or scoring code is measured anew before it is attested. Scores of first rows only are left out.

    Args:
        entry: key, or an unambiguous beginning of one.
        names: tasks; all that the entry was scored on by default.
        settings: folders and device.

    Returns:
        All scores that are attested then.

    Raises:
        MissingData: when nothing was scored, or its rows are not at hand any more.
        ZooError: for an entry that is read-only.
    """
    from adapters_xling.zoo import attestations, provenance

    from .models import evaluate

    settings = settings or Settings()
    zoo = open_zoo(settings)
    found = zoo.get(zoo.resolve(entry))
    wanted, made = list(names), provenance()
    new = []
    for path in _score_files(settings.runs_dir / "scores", found.key):
        if wanted and path.parent.name not in wanted:
            continue
        split, _, language = path.stem.partition("-")
        evaluate(found.key, path.parent.name, languages=[language], split=split, settings=settings)
        kept = _read(path)
        new += [
            attestations.attest(
                found.card, score, identity=kept.identity, scoring=kept.scoring, rows=kept.facts, made=made
            )
            for score in kept.scores
        ]
    if not new:
        on = f" on {', '.join(wanted)}" if wanted else ""
        raise MissingData(
            f"entry {found.key} has no scores{on} in {settings.runs_dir / 'scores'}: run `xling evaluate {found.key} TASK` first"
        )
    return zoo.attest(found.key, new)


def _score_files(folder: Path, key: str) -> list[Path]:
    """Score files of whole sets, read as the task says: ``<split>-<language>.json``."""
    files = sorted(folder.glob(f"{key}/*/*.json"))
    return [path for path in files if len(path.stem.split("-")) == 2 and not path.stem.startswith(".")]


def _read(path: Path) -> keeping.Kept:
    return keeping.read(path) or keeping.Kept("", "", [], {}, {})


def all_scores(entry: Entry, settings: Settings | None = None) -> list[Score]:
    """Scores of an entry: its card's, the attested ones, and those kept in the runs folder, each cell once."""
    zoo = open_zoo(settings)
    kept = [
        score
        for path in _score_files((settings or Settings()).runs_dir / "scores", entry.key)
        for score in _read(path).scores
    ]
    every = [*entry.card.scores, *kept, *(one.score for one in zoo.scores(entry.key))]
    return list({(one.task, one.split, one.language, one.metric): one for one in every}.values())
