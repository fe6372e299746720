"""What is at hand of each task, per split and language; locking what comes from the hub; checking the rows themselves.

Importing this loads no torch. `status` reads no row and asks no network.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from adapters_xling import hub_files
from adapters_xling.errors import ConfigError, MissingData, XlingError
from adapters_xling.hub_files import NotServed
from adapters_xling.spec import GeneratorSource, TaskSpec
from adapters_xling.tasks import data, hub_rows, labels, lock, sources

MAX_LENGTH = 256
"""Tokens of a row that is checked, as in the recipe `paper`."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One (task, split, language): where its rows are.

    Attributes:
        state: ``here``: can be read without a network; ``hub``: can be fetched; ``missing``: neither.
        kind: ``generator``, ``files`` or ``hub``; None where it is missing.
        source: where the rows come from, or would come from, for people.
        rows: their number where that is known without reading them (lock, cache of hub data sets).
        num_bytes: size of the files, for files.
        revision: commit of a hub data set.
        locked: whether a hub data set is read at a fixed commit; None for rows that are no hub data set's.
    """

    task: str
    split: str
    language: str
    state: Literal["here", "hub", "missing"]
    kind: Literal["generator", "files", "hub"] | None = None
    source: str = ""
    rows: int | None = None
    num_bytes: int | None = None
    revision: str | None = None
    locked: bool | None = None


def is_made_up(task: TaskSpec) -> bool:
    """Whether a task's rows are always at hand because this package makes them."""
    return all(isinstance(source, GeneratorSource) for source in task.sources)


def status(task: TaskSpec, *, data_dir: Path | None = None) -> list[Cell]:
    """What is at hand of a task; reads no row, asks no network.

    Raises:
        ConfigError: for a lock that cannot be read, or contradicts the task file.
    """
    return [_cell(task, split, language, data_dir) for split, language in sources.cells(task)]


def _cell(task: TaskSpec, split: str, language: str, data_dir: Path | None) -> Cell:
    place: dict[str, Any] = {"task": task.name, "split": split, "language": language}
    found = sources.at_hand(task, split, language, data_dir=data_dir)
    if found is not None:
        return Cell(
            **place,
            state="here",
            kind=found.kind,
            source=found.description,
            rows=found.num_rows,
            num_bytes=sum(file.stat().st_size for file in found.files) if found.files else None,
            revision=found.revision,
            locked=found.locked if found.kind == "hub" else None,
        )
    for way in sources.hub_ways(task, split, language):
        pinned = [(source, *lock.pinned(source)) for source in way]
        places = [sources.address(source, split, language, revision=revision) for source, revision, _ in pinned]
        seen = [
            known.splits.get(lock.split_key(at.config, at.split)) if known and not source.partition else None
            for at, (source, _, known) in zip(places, pinned, strict=True)
        ]
        return Cell(
            **place,
            state="hub",
            kind="hub",
            source="; ".join(map(str, places)),
            rows=sum(one.rows for one in seen if one) if all(seen) else None,
            revision=pinned[0][1] if len(pinned) == 1 else None,
            locked=all(revision is not None for _, revision, _ in pinned),
        )
    return Cell(**place, state="missing", source=task.homepage)


# --- locking -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LockOutcome:
    """What became of each repository.

    Attributes:
        file: the lock file.
        locked: repository -> its entry, where something was resolved or read.
        kept: repositories that were locked already, whole.
        failed: repository -> why; nothing was written for it.
    """

    file: Path
    locked: dict[str, lock.LockedRepo] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)


@dataclass
class _Wanted:
    """What tasks want of one repository: the revision or branch task files name, configurations with their splits."""

    given: set[str] = field(default_factory=set)
    branches: set[str | None] = field(default_factory=set)
    splits: dict[str, hub_rows.Address] = field(default_factory=dict)


def lock_hub(
    tasks: Iterable[TaskSpec],
    *,
    upgrade: bool = False,
    on_event: Callable[[str, str], Any] = lambda *_: None,
) -> LockOutcome:
    """Resolve the hub data sets of tasks and write what they are into the lock in use (`lock.chosen`).

    Every split and language a task has a use for is read once, at one commit per repository. A repository is written
    when all of it was read, each write whole or not at all; what is locked already stays as it is.

    Args:
        tasks: whose data sets.
        upgrade: resolve again what is locked already, to the commit the hub has now.
        on_event: called with (repository, text) as work goes on.

    Raises:
        MissingData: when the hub cannot be asked; nothing is written then.
        XlingError: when the lock cannot be written, before anything is read.
        ConfigError: for tasks without any hub data set, or a lock that cannot be read.
    """
    wanted = _wanted(tasks)
    if not wanted:
        raise ConfigError("none of these tasks names a hub data set: their rows are made here or come from files")
    before = lock.load()
    kept = tuple(repo for repo in sorted(wanted) if not upgrade and _whole(before.hub.get(repo), wanted[repo]))
    outcome = LockOutcome(file=lock.current(), kept=kept)
    todo = [repo for repo in sorted(wanted) if repo not in kept]
    reason = hub_files.why_not() if todo else None
    if reason:
        raise MissingData(
            f"{', '.join(todo)} cannot be locked: {reason}. Nothing was written; run `xling data lock` where "
            f"the hub can be reached, and bring {lock.current().name} along (XLING_LOCK names it)"
        )
    if todo:
        lock.check_writable(lock.current())
    for repo in todo:
        old = None if upgrade else before.hub.get(repo)
        try:
            entry = _resolved(repo, wanted[repo], old, on_event)
        except (NotServed, XlingError) as err:
            outcome.failed[repo] = str(err)
            on_event(repo, f"failed: {err}")
            continue
        outcome.locked[repo] = entry
        lock.save(lock.Lock(hub={**lock.load().hub, repo: entry}), lock.current())
    return outcome


def _wanted(tasks: Iterable[TaskSpec]) -> dict[str, _Wanted]:
    found: dict[str, _Wanted] = {}
    for task in tasks:
        for split, language in sources.cells(task):
            for source in sources.on_hub(task, split, language):
                one = found.setdefault(source.repo, _Wanted())
                one.given |= {source.revision} if source.revision else set()
                one.branches.add(source.branch)
                at = sources.address(source, split, language, revision=None)
                one.splits[lock.split_key(at.config, at.split)] = at
    return found


def _whole(entry: lock.LockedRepo | None, wanted: _Wanted) -> bool:
    """Whether all that is wanted of a repository is locked."""
    return entry is not None and wanted.given <= {entry.revision} and set(wanted.splits) <= set(entry.splits)


def _resolved(
    repo: str, wanted: _Wanted, old: lock.LockedRepo | None, on_event: Callable[[str, str], Any]
) -> lock.LockedRepo:
    """Read everything that is wanted of a repository at one commit."""
    for what, named in (("revisions", wanted.given), ("branches", wanted.branches)):
        if len(named) > 1:
            raise ConfigError(f"task files name different {what}: {', '.join(sorted(map(str, named)))}; agree on one")
    given = next(iter(wanted.given), None)
    if old is not None and given in (None, old.revision):
        commit, seen = old.revision, dict(old.splits)
    else:
        commit, seen = hub_files.listing(repo, given or next(iter(wanted.branches)), kind="dataset").commit, {}
    on_event(repo, f"revision {commit}")
    for key, at in sorted(wanted.splits.items()):
        if key in seen:
            continue
        digest = lock.Digest()
        for raw in hub_rows.read(hub_rows.Address(repo=repo, config=at.config, split=at.split, revision=commit)):
            digest.add(raw.values)
        seen[key] = digest.seen()
        on_event(repo, f"{key}: {seen[key].rows:,} rows, sha256:{seen[key].sha256[:12]}")
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    return lock.LockedRepo(revision=commit, resolved=today, splits=seen)


# --- checking ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What became of the rows of one (task, split, language).

    Attributes:
        state: ``ok``, ``failed``, or ``absent`` where they are not at hand.
        rows: rows that were checked.
        dropped: reason -> rows turned away in reading.
        unseen: words whose tag no training row has.
        text: what was seen, or why it failed.
    """

    task: str
    split: str
    language: str
    state: Literal["ok", "failed", "absent"]
    rows: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    unseen: int = 0
    text: str = ""

    @property
    def remarks(self) -> str:
        """What is to be said of the rows, on one line; nothing where there is nothing to say."""
        parts = [f"left out: {reason} ({count:,})" for reason, count in self.dropped.items()]
        parts += [f"{self.unseen:,} words with a tag that no train row has"] if self.unseen else []
        return "; ".join(parts)


def check_rows(
    task: TaskSpec,
    split: str,
    language: str,
    tokenizer: Any,
    *,
    data_dir: Path | None = None,
    limit: int | None = None,
    download: bool = False,
) -> Checked:
    """Push rows through everything a run would do with them (`check_task`).

    Args:
        task: whose rows.
        split: ``train``, ``dev`` or ``test``.
        language: code of the language.
        tokenizer: a fast tokenizer.
        data_dir: folder of the original files.
        limit: check the first so many; a retrieval task is always checked whole, because whole sets are searched.
        download: fetch rows from the hub that are not at hand.
    """
    from adapters_xling.tasks import kinds
    from adapters_xling.tasks.check import check_task

    place: dict[str, Any] = {"task": task.name, "split": split, "language": language}
    try:
        fetchable = download and bool(sources.on_hub(task, split, language))
        if not fetchable and not sources.local(task, split, language, data_dir=data_dir):
            return Checked(**place, state="absent")
        limit = limit if kinds.get(task.kind).trains else None
        found = data.load(task, split, language, data_dir=data_dir, limit=limit)
        labelled = labels.with_labels(task, data_dir=data_dir)
        report = check_task(labelled, found.examples, tokenizer, language=language, max_length=MAX_LENGTH)
    except XlingError as err:
        return Checked(**place, state="failed", text=str(err))
    return Checked(**place, state="ok", rows=len(found), dropped=found.dropped, unseen=found.unseen, text=str(report))
