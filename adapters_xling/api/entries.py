"""What can be known of an entry: its README, its licence, its scores, and what it learnt from."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xling import keeping
from adapters_xling.errors import ConfigError, MissingData, UnknownName, unknown
from adapters_xling.spec import Score
from adapters_xling.zoo import Entry, Zoo

from .commands import retraining, starting
from .settings import Settings, codes, open_zoo, task

if TYPE_CHECKING:
    from adapters_xling.leaks import Leaks
    from adapters_xling.licences import Terms
    from adapters_xling.zoo.attestations import Attestation


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
    """The README.md of an entry, with its lineage, its attested scores and the command that trains it again, or
    for one without a head the command that starts from it."""
    from adapters_xling.zoo import lineage
    from adapters_xling.zoo.readme import render_readme

    zoo = open_zoo(settings)
    found = zoo.get(zoo.resolve(entry), verify=False)
    try:
        command = retraining(found.card, settings).command
    except (ConfigError, UnknownName):
        command = ""  # a composition or private task that options do not describe
    scores = [one.score for one in zoo.scores(found.key)]
    start = starting(found.card) if not found.card.heads else ""
    return render_readme(found.card, lineage=lineage.trace(zoo, found.key), scores=scores, retrain=command, start=start)


def leaks(
    entry: str,
    *,
    on: Sequence[str] = (),
    languages: str | Sequence[str] | None = None,
    settings: Settings | None = None,
    on_set: Callable[[str], Any] | None = None,
) -> Leaks:
    """Compare what an entry and its ancestors learnt from with the rows of benchmarks.

    Args:
        entry: key, or an unambiguous beginning of one.
        on: tasks whose scored rows are looked at; by default the mini tasks for an entry that learnt from these alone,
            else all others.
        languages: look only at these; codes, or text with commas between them.
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
        languages=codes(languages),
        on_set=on_set,
    )


def kept_scores(settings: Settings | None = None) -> list[Score]:
    """Scores of whole sets that evaluation kept in the runs folder, of all entries."""
    settings = settings or Settings()
    folder, zoo = settings.runs_dir / "scores", open_zoo(settings)
    return [score for path in _score_files(folder, "*") for score in _read(path, zoo).scores]


def attest_scores(entry: str, names: Iterable[str] = (), settings: Settings | None = None) -> tuple[Attestation, ...]:
    """Keep the scores of an entry in the zoo beside its card, sealed, so that they travel with it.

    Scores come from what evaluation kept; it is asked again for each of them, so that what no longer fits its rows,
    weights or scoring code is measured anew before it is attested. Scores of first rows only are left out.

    Args:
        entry: key, or an unambiguous beginning of one.
        names: tasks; by default all that the entry was scored on, but for those whose file is not here, which a warning
            names.
        settings: folders and device.

    Returns:
        All scores that are attested then.

    Raises:
        MissingData: when nothing was scored, or its rows are not at hand any more.
        UnknownName: for a task it was not scored on, with the closest that it was.
        ZooError: for an entry that is read-only.
    """
    from adapters_xling.zoo import attestations

    from .scoring import evaluate

    settings = settings or Settings()
    zoo = open_zoo(settings)
    found = zoo.get(zoo.resolve(entry))
    wanted = list(names)
    folder = settings.runs_dir / "scores"
    files = _score_files(folder, found.key)
    scored = {path.parent.name for path in files}
    for name in wanted:
        if scored and name not in scored:
            what = f"task that entry {found.key} was scored on:"
            raise unknown(what, name, scored, f"{folder / found.key}; score it first: xling evaluate")
    lacking = [] if wanted else sorted(name for name in scored if not _is_task(name, settings))
    if lacking:
        warnings.warn(
            f"left out, for their task files are not here: {', '.join(lacking)}; --tasks or XLING_TASKS names their "
            f"folder (`xling adapt` writes to {settings.runs_dir / 'tasks'} where neither is given)",
            stacklevel=2,
        )
    new = []
    for path in files:
        if path.parent.name in lacking or (wanted and path.parent.name not in wanted):
            continue
        split, _, language = path.stem.partition("-")
        evaluate(found.key, path.parent.name, languages=[language], split=split, settings=settings)
        kept = _read(path, zoo)
        new += [
            attestations.attest(
                found.card, score, identity=kept.identity, scoring=kept.scoring, rows=kept.facts, made=kept.measured
            )
            for score in kept.scores
        ]
    if not new:
        on = f" on {', '.join(wanted)}" if wanted else " on a task whose file is here" if lacking else ""
        raise MissingData(
            f"entry {found.key} has no scores{on} in {folder}: run `xling evaluate {found.key} TASK` first"
        )
    return zoo.attest(found.key, new)


def attested(entry: Entry, settings: Settings | None = None) -> str:
    """How many scores stand beside an entry's card, and whose they are; empty where there are none."""
    from adapters_xling import hub

    zoo = open_zoo(settings)
    found = zoo.scores(entry.key)
    if not found:
        return ""
    last = max(one.created for one in found)
    pulled = hub.scores_origin(zoo, entry)
    return f"{len(found)} scores, the last of {last}" + (f"; pulled{pulled}" if pulled else "")


def _is_task(name: str, settings: Settings) -> bool:
    try:
        task(name, settings)
    except UnknownName:
        return False
    return True


def _score_files(folder: Path, key: str) -> list[Path]:
    """Score files of whole sets, read as the task says: ``<split>-<language>.json``."""
    files = sorted(folder.glob(f"{key}/*/*.json"))
    return [path for path in files if len(path.stem.split("-")) == 2 and not path.stem.startswith(".")]


def _read(path: Path, zoo: Zoo) -> keeping.Kept:
    return keeping.read_of(path, zoo) or keeping.Kept("", "", [], {}, {})


def all_scores(entry: Entry, settings: Settings | None = None) -> list[Score]:
    """Scores of an entry, each cell once: what was measured here, else what was attested (perhaps by others), else what
    its card says."""
    zoo = open_zoo(settings)
    kept = [
        score
        for path in _score_files((settings or Settings()).runs_dir / "scores", entry.key)
        for score in _read(path, zoo).scores
    ]
    every = [*entry.card.scores, *(one.score for one in zoo.scores(entry.key)), *kept]
    return list({(one.task, one.split, one.language, one.metric): one for one in every}.values())
