"""Task files: every YAML below `task_configs/` (and a private folder) as a checked `TaskSpec`.

The catalog is the only place that knows which tasks exist; a task is added by adding its file.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from adapters_xling import languages, paths
from adapters_xling.errors import ConfigError, UnknownName, unknown
from adapters_xling.spec import FileSource, HubSource, TaskSource, TaskSpec, decode, read_yaml
from adapters_xling.strict import NAME, NAME_IN_WORDS
from adapters_xling.tasks import readers

_NOT_TASKS = frozenset({"grids", "benchmarks"})
RECIPES = "recipes.yaml"
"""Optimisation settings; they lie beside the tasks and are none."""

ALL = "all"
"""Name, in `splits`, of rows that a partition divides into splits."""


def _files(extra: Path | None) -> dict[str, Path]:
    """Task name -> file, over the shipped folders and the private one."""
    found: dict[str, Path] = {}
    for file in _candidates(extra):
        other = found.setdefault(file.stem, file)
        if other != file:
            raise ConfigError(
                f"task {file.stem!r} is defined twice: {other} and {file}. Rename one of the two files and its `name`."
            )
    return found


def new_file(name: str, folder: Path) -> Path:
    """Where the file of a private task goes that is to be made; it may be there already.

    Args:
        name: of the task.
        folder: of private task files; it need not be there.

    Raises:
        ConfigError: for a name that no task can have, or that another file's task has.
    """
    if not NAME.fullmatch(name) or f"{name}.yaml" == RECIPES:
        like = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")
        example = f", e.g. {like}" if NAME.fullmatch(like) and f"{like}.yaml" != RECIPES else ""
        raise ConfigError(f"{name!r} cannot be a task's name: {NAME_IN_WORDS}. Give another --name{example}")
    target = folder / f"{name}.yaml"
    others = _candidates(folder) if folder.is_dir() else _shipped()
    if other := next((file for file in others if file.stem == name and file != target), None):
        raise ConfigError(f"task {name!r} is there already: {other}. Give another --name")
    return target


def _shipped() -> Iterator[Path]:
    shipped = paths.task_configs_dir()
    for folder in sorted(shipped.iterdir()) if shipped.is_dir() else ():
        if folder.is_dir() and folder.name not in _NOT_TASKS:
            yield from _in(folder, folder.stat().st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _in(folder: Path, mtime_ns: int) -> tuple[Path, ...]:
    """Task files of a folder, listed again when the folder has changed."""
    return tuple(sorted(folder.glob("*.yaml")))


def _candidates(extra: Path | None) -> Iterator[Path]:
    yield from _shipped()
    private = extra or paths.private_tasks_dir()
    if private is None:
        return
    if not private.is_dir():
        raise ConfigError(f"{private} is not a folder of task files; mend --tasks or XLING_TASKS")
    for file in sorted([*private.glob("*.yaml"), *private.glob("*/*.yaml")]):
        if file.name == RECIPES:
            _say_recipes_are_not_read(file)
        elif file.parent.name not in _NOT_TASKS:
            yield file


@functools.cache
def _say_recipes_are_not_read(file: Path) -> None:
    """Warn, once in a process: only the shipped recipes are read."""
    warnings.warn(
        f"{file} is not read: recipes come from {paths.task_configs_dir() / RECIPES} alone. Give differences with "
        "`xling train --with NAME=VALUE`, or under `overrides` of a grid",
        stacklevel=2,
    )


def names(extra: Path | None = None) -> tuple[str, ...]:
    """Every task's name, sorted. `extra` is a private folder of task files (default: `XLING_TASKS`)."""
    return tuple(sorted(_files(extra)))


def get(name: str, *, extra: Path | None = None) -> TaskSpec:
    """The task of a name, read and checked. Of a task that trains in several languages `<name>.<language>` is the task
    that trains in that one alone.

    Raises:
        UnknownName: with the closest names.
        ConfigError: for a file that breaks a rule of the schema, naming file and field.
    """
    files = _files(extra)
    several, _, code = name.rpartition(".")
    if name not in files and several in files:
        return _in_one_language(load(files[several]), code)
    if name not in files:
        raise unknown("task", name, files, "task_configs/*/*.yaml and XLING_TASKS")
    task = load(files[name])
    if task.train_on is not None:
        _check_train_on(task, files)
    for i, source in enumerate(task.sources):
        if isinstance(source, TaskSource):
            _check_joined(task, source, f"{files[name]}: sources[{i}].tasks")
    return task


def head_of(name: str, *, extra: Path | None = None) -> str:
    """Name of the head that a task's rows train; where its file is not here, the task's own without a language."""
    try:
        return get(name, extra=extra).head_name
    except (ConfigError, UnknownName):
        return name.rpartition(".")[0] or name


def _in_one_language(task: TaskSpec, code: str) -> TaskSpec:
    if code not in task.train_languages:
        raise unknown(f"training language of task {task.name!r}", code, task.train_languages)
    return msgspec.structs.replace(task, name=f"{task.name}.{code}", head=task.head_name, train_languages=(code,))


def all_specs(extra: Path | None = None) -> tuple[TaskSpec, ...]:
    """Every task, sorted by name."""
    return tuple(get(name, extra=extra) for name in names(extra))


def train_task(task: TaskSpec, *, override: str | None = None, extra: Path | None = None) -> TaskSpec:
    """The task whose train and dev rows `task` learns from: itself, its `train_on`, or `override`.

    Raises:
        ConfigError: where kind, labels or head of what is trained on do not fit.
    """
    seen = [task.name]
    while source := override or task.train_on:
        override = None
        if source in seen:
            if source == task.name:
                break
            raise ConfigError(f"tasks train on one another in a circle: {' -> '.join([*seen, source])}")
        source_task = get(source, extra=extra)
        _check_fit(task, source_task, f"task {task.name!r}")
        task = source_task
        seen.append(source)
    return task


def load(file: Path) -> TaskSpec:
    """Read one task file.

    Raises:
        ConfigError: naming file and field.
    """
    stat = file.stat() if file.is_file() else None
    return _load(file, stat.st_mtime_ns if stat else 0, stat.st_size if stat else 0)


@functools.lru_cache(maxsize=512)
def _load(file: Path, mtime_ns: int, num_bytes: int) -> TaskSpec:
    task = decode(TaskSpec, read_yaml(file), str(file))
    check(task, where=str(file))
    if task.name != file.stem:
        raise ConfigError(f"{file}: name is {task.name!r}, the file is called {file.stem!r}; they must be the same")
    return task


def check(task: TaskSpec, *, where: str) -> None:
    """Refuse what no kind needs to be asked about: languages, labels, readers, options, partitions.

    Raises:
        ConfigError: naming file and field.
        UnknownName: for a language, reader or option that does not exist.
    """
    listed = [("languages", task.languages), ("train_languages", task.train_languages)]
    listed += [(f"languages_by_split.{split}", codes) for split, codes in task.languages_by_split.items()]
    listed += [
        (f"sources[{i}].languages", source.languages or ())
        for i, source in enumerate(task.sources)
        if isinstance(source, FileSource | HubSource)
    ]
    for field, codes in listed:
        for code in codes:
            try:
                languages.language(code)
            except UnknownName as err:
                raise UnknownName(f"{where}: {field}: {err}") from err
        _refuse_twice(codes, f"{where}: {field}")
    for split, codes in task.languages_by_split.items():
        stray = set(codes) - set(task.languages) - set(task.train_languages)
        if stray:
            raise ConfigError(
                f"{where}: languages_by_split.{split} names {', '.join(sorted(stray))}, not in `languages`"
            )
    _refuse_twice(task.labels, f"{where}: labels")
    _check_labels_from(task, where)
    if task.pair is not None and task.kind != "sentence":
        raise ConfigError(
            f"{where}: pair: only rows of kind 'sentence' are one text or two, not those of {task.kind!r}"
        )
    if not task.sources:
        raise ConfigError(f"{where}: sources is empty; name at least one place the rows come from")
    if not task.metrics:
        raise ConfigError(f"{where}: metrics is empty; the first one selects models")
    for i, source in enumerate(task.sources):
        if isinstance(source, FileSource | HubSource):
            readers.check(source.reader, source.options, where=f"{where}: sources[{i}]")
            _check_partition(source, f"{where}: sources[{i}]")


def _check_labels_from(task: TaskSpec, where: str) -> None:
    """Labels are either listed or read off a split that no partition divides."""
    if task.labels_from is None:
        return
    if task.kind != "tag":
        raise ConfigError(f"{where}: labels_from: only tags are read off rows; list the labels of kind {task.kind!r}")
    if task.labels:
        raise ConfigError(f"{where}: labels and labels_from are both given; keep one of them")
    for i, source in enumerate(task.sources):
        if task.labels_from not in source.splits or getattr(source, "partition", None) is not None:
            raise ConfigError(
                f"{where}: labels_from: sources[{i}] has no split {task.labels_from!r} of its own (not by `partition`)"
            )


def _refuse_twice(values: tuple[str, ...], where: str) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ConfigError(f"{where} lists {twice[0]!r} twice")


def _check_partition(source: FileSource | HubSource, where: str) -> None:
    partition = source.partition
    if partition is None:
        if ALL in source.splits:
            raise ConfigError(f"{where}.splits.{ALL} holds rows of every split, but no `partition` divides them")
        return
    owner: dict[int, str] = {}
    for split, buckets in partition.splits.items():
        if split not in source.splits and ALL not in source.splits:
            raise ConfigError(f"{where}.partition.splits.{split}: `splits` has neither {split!r} nor {ALL!r}")
        for bucket in buckets:
            if not 0 <= bucket < partition.buckets:
                raise ConfigError(
                    f"{where}.partition.splits.{split}: bucket {bucket} is not within 0..{partition.buckets - 1}"
                )
            other = owner.setdefault(bucket, split)
            if other != split:
                raise ConfigError(f"{where}.partition: bucket {bucket} is in both {other!r} and {split!r}")
    loose = sorted(set(source.splits) - set(partition.splits) - {ALL})
    if loose:
        raise ConfigError(f"{where}.splits.{loose[0]} has no buckets in `partition.splits`")


def _check_train_on(task: TaskSpec, files: dict[str, Path]) -> None:
    """`train_on` names a task whose head this task can use."""
    where = str(files[task.name])
    if task.train_on not in files:
        raise unknown("task", str(task.train_on), files, f"{where}: train_on")
    _check_fit(task, load(files[task.train_on]), f"{where}: train_on")


def _check_joined(task: TaskSpec, source: TaskSource, where: str) -> None:
    """Tasks that are joined into one have rows of their own, whole, and of one form."""
    _refuse_twice(source.tasks, where)
    known = _files(None)
    for name in source.tasks:
        if name not in known:
            raise unknown("task", name, known, f"{where}: shipped task files and XLING_TASKS")
        part = load(known[name])
        if (part.kind, part.labels) != (task.kind, task.labels):
            raise ConfigError(
                f"{where}: {name!r} is of kind {part.kind!r} with labels {list(part.labels)}, but {task.name!r} is of "
                f"kind {task.kind!r} with labels {list(task.labels)}; only equal ones can be joined"
            )
        if any(isinstance(own, TaskSource) or getattr(own, "partition", None) for own in part.sources):
            raise ConfigError(f"{where}: {name!r} is joined or divided itself; name tasks with whole rows of their own")


def _check_fit(task: TaskSpec, source: TaskSpec, where: str) -> None:
    if (source.kind, source.labels) != (task.kind, task.labels):
        raise ConfigError(
            f"{where}: {source.name!r} is of kind {source.kind!r} with labels {list(source.labels)}, but {task.name!r} "
            f"is of kind {task.kind!r} with labels {list(task.labels)}; a head serves both only where these are equal"
        )
    if None not in (source.pair, task.pair) and source.pair is not task.pair:
        raise ConfigError(
            f"{where}: rows of {source.name!r} are {'pairs of texts' if source.pair else 'single texts'}, those of "
            f"{task.name!r} are not (`pair` in their task files); a head serves both only where these are equal"
        )
    if source.head_name != task.head_name:
        raise ConfigError(
            f"{where}: the head trained on {source.name!r} is kept as {source.head_name!r}, but {task.name!r} looks "
            f"for {task.head_name!r}; write `head: {source.head_name}` in the task file of {task.name!r}, or give both "
            "task files the same `head`"
        )


def check_languages(task: TaskSpec, languages: Sequence[str] | None, split: str) -> tuple[str, ...]:
    """Languages to evaluate: all of the task's for that split, or the ones asked for when the task has them.

    Raises:
        UnknownName: for a language the task does not have in that split.
    """
    known = task.languages_by_split.get(split, task.languages)
    for code in languages or ():
        if code not in known:
            raise unknown(f"language of {task.name} ({split})", code, known, f"task file of {task.name}")
    return tuple(dict.fromkeys(languages or known))
