"""Where a task's rows can be: generator, original files, hub, other tasks; tried in the order of the task's file."""

from __future__ import annotations

import functools
import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapters_xling import hub_files, languages, paths, spec
from adapters_xling.errors import ConfigError, DataError, MissingData
from adapters_xling.spec import FileSource, GeneratorSource, HubSource, Source, TaskSource, TaskSpec
from adapters_xling.tasks import catalog, hub_rows, lock, readers
from adapters_xling.tasks.catalog import ALL
from adapters_xling.tasks.found import Found, NotAtHand
from adapters_xling.tasks.rows import Raw, in_turn

PIVOT = "en"
"""Language whose sentences are the corpus side of a generated retrieval task."""


def find(task: TaskSpec, split: str, language: str, *, data_dir: Path | None = None) -> Found:
    """The first source of a task that is at hand for a split and language.

    Raises:
        MissingData: with every place that was tried, why it did not serve, and what to do.
    """
    found = _first(task, split, language, data_dir)
    if isinstance(found, Found):
        return found
    other = [name for name in splits(task) if name != split and local(task, name, language, data_dir=data_dir)]
    text = f"task {task.name!r}: no rows for split {split!r} in {language!r}. Tried:"
    text += "".join(f"\n  - {line}" for line in found)
    text += "\nName the folder of the original files with --data-dir or XLING_DATA"
    text += f"; {task.homepage} says where to get them." if task.homepage else "."
    if task.access:
        text += f" {task.access}"
    if other:
        text += f" At hand in {language!r}: split {', '.join(map(repr, other))}."
    raise MissingData(text)


def _first(task: TaskSpec, split: str, language: str, data_dir: Path | None, *, ask: bool = True) -> Found | list[str]:
    """The first source that is at hand, or why each is not."""
    tried: list[str] = []
    return next(_each(task, split, language, data_dir, tried, ask=ask), tried)


def _each(
    task: TaskSpec, split: str, language: str, data_dir: Path | None, tried: list[str], *, ask: bool = True
) -> Iterator[Found]:
    """Every source that is at hand, one after the other; `tried` gathers why others are not."""
    for source in task.sources:
        try:
            found = _find(source, task, split, language, data_dir, ask=ask)
        except NotAtHand as err:
            tried.append(str(err))
        else:
            yield found


def every(
    task: TaskSpec, split: str, language: str, *, data_dir: Path | None = None, ask: bool = True
) -> Iterator[Found]:
    """Every source that is at hand for a split and language, in the task's order; `ask` allows to ask the network."""
    return _each(task, split, language, data_dir, [], ask=ask)


def at_hand(task: TaskSpec, split: str, language: str, *, data_dir: Path | None = None) -> Found | None:
    """The first source that can be read here and now without a network, or None."""
    found = _first(task, split, language, data_dir, ask=False)
    return found if isinstance(found, Found) else None


def local(task: TaskSpec, split: str, language: str, *, data_dir: Path | None = None) -> bool:
    """Whether a split can be read without a network."""
    return at_hand(task, split, language, data_dir=data_dir) is not None


def hub_ways(task: TaskSpec, split: str, language: str) -> Iterator[tuple[HubSource, ...]]:
    """Ways to have a split from the hub, at hand or not: one data set, or one for each of the tasks that are joined."""
    for source in task.sources:
        if _why_other(source, split, language) is not None:
            continue
        if isinstance(source, HubSource):
            yield (source,)
        elif isinstance(source, TaskSource):
            each = [next(hub_ways(part, split, language), None) for part in _parts(source)]
            if all(each):
                yield tuple(one for way in each if way for one in way)


def on_hub(task: TaskSpec, split: str, language: str) -> tuple[HubSource, ...]:
    """Every hub data set of `hub_ways`."""
    return tuple(source for way in hub_ways(task, split, language) for source in way)


def cells(task: TaskSpec) -> Iterator[tuple[str, str]]:
    """Every (split, language) a task has a use for: train rows in the languages it trains in, the others in all."""
    every = tuple(dict.fromkeys(task.train_languages + task.languages))
    for split in splits(task):
        for language in every:
            trained = split != "train" or language in task.train_languages
            if trained and language in task.languages_by_split.get(split, every):
                yield split, language


def has_split(task: TaskSpec, split: str) -> bool:
    """Whether any source of a task names a split."""
    return split in splits(task)


def splits(task: TaskSpec) -> tuple[str, ...]:
    """Every split that any source of a task names, in their order."""
    return tuple(dict.fromkeys(name for source in task.sources for name in _splits_of(source)))


def _splits_of(source: Source) -> tuple[str, ...]:
    """Splits a source has: those of its partition where it has one."""
    if isinstance(source, GeneratorSource | TaskSource) or source.partition is None:
        return tuple(source.splits)
    return tuple(source.partition.splits)


def _find(
    source: Source, task: TaskSpec, split: str, language: str, data_dir: Path | None, *, ask: bool = True
) -> Found:
    """Make one source ready, or say why it cannot serve; `ask` allows to ask the network."""
    other = _why_other(source, split, language)
    if other:
        raise NotAtHand(other)
    if isinstance(source, GeneratorSource):
        return _generated(source, task, split, language)
    if isinstance(source, TaskSource):
        return _joined(source, split, language, data_dir, ask=ask)
    if isinstance(source, FileSource):
        return _files(source, split, language, data_dir)
    return _hub(source, split, language, ask=ask)


def _why_other(source: Source, split: str, language: str) -> str | None:
    """Why a source has no rows for a split and language, or None."""
    if split not in _splits_of(source):
        return f"{_label(source)}: has no split {split!r}, only {', '.join(_splits_of(source))}"
    if isinstance(source, GeneratorSource | TaskSource):
        return None
    if source.languages is not None and language not in source.languages:
        return f"{_label(source)}: has no {language!r}, only {', '.join(source.languages)}"
    return None


def _label(source: Source) -> str:
    if isinstance(source, GeneratorSource):
        return f"generator {source.task!r}"
    if isinstance(source, TaskSource):
        return f"tasks {', '.join(source.tasks)}"
    return f"hub {source.repo}" if isinstance(source, HubSource) else f"files ({source.reader})"


def _definition(source: FileSource | HubSource, split: str) -> Any:
    return {"reader": source.reader, "options": source.options, "partition": source.partition, "split": split}


# --- generator ---------------------------------------------------------------------------------------------------


def _generated(source: GeneratorSource, task: TaskSpec, split: str, language: str) -> Found:
    from adapters_xling.tasks import mini

    place = f"generator {source.task!r} version {mini.VERSION}"

    def plain(code: str, extra: Mapping[str, Any]) -> Iterator[Raw]:
        for number, row in enumerate(mini.rows(source.task, split, code), start=1):
            yield Raw(f"{place}, {split}, {code}", number, {**row, **extra})

    def read() -> Iterator[Raw]:
        if task.kind != "retrieve":
            yield from plain(language, {})
            return
        corpus = {str(raw.values["id"]) for raw in plain(PIVOT, {})}
        for raw in plain(language, {"side": "query"}):
            own = str(raw.values["id"])
            match = (f"{PIVOT}:{own}",) if own in corpus else ()
            yield raw._replace(values={**raw.values, "matches": match, "group": own})
        for raw in plain(PIVOT, {"side": "corpus"}):
            own = str(raw.values["id"])
            yield raw._replace(values={**raw.values, "id": f"{PIVOT}:{own}", "group": own})

    return Found(
        kind="generator",
        description=f"{place} ({split}, {language})",
        read=read,
        identity=lambda: spec.digest(["generator", source.task, str(mini.VERSION), split, language]),
        definition=lambda: {"generator": source.task, "split": split},
    )


# --- other tasks -------------------------------------------------------------------------------------------------


def _parts(source: TaskSource) -> tuple[TaskSpec, ...]:
    return tuple(catalog.get(name) for name in source.tasks)


def _joined(source: TaskSource, split: str, language: str, data_dir: Path | None, *, ask: bool) -> Found:
    """Rows of several tasks, in turn; one that is not at hand keeps all of them from serving."""
    parts: list[Found] = []
    for part in _parts(source):
        found = _first(part, split, language, data_dir, ask=ask)
        if not isinstance(found, Found):
            raise NotAtHand(f"{_label(source)}: no rows of {part.name!r} ({'; '.join(found)})")
        parts.append(found)

    def read() -> Iterator[Raw]:
        return in_turn([_with_options(part) for part in parts])

    known = [part.num_rows for part in parts if part.num_rows is not None]
    kinds = dict.fromkeys(part.kind for part in parts)
    return Found(
        kind="hub" if "hub" in kinds else "files",
        description="; ".join(part.description for part in parts),
        read=read,
        identity=lambda: spec.digest(["tasks", *(part.identity() for part in parts)]),
        definition=lambda: {"tasks": [part.definition() for part in parts]},
        files=tuple(file for part in parts for file in part.files),
        locked=all(part.locked for part in parts),
        num_rows=sum(known) if len(known) == len(parts) else None,
    )


def _with_options(found: Found) -> Iterator[Raw]:
    """Rows that bring the options they are to be converted with."""
    return (raw._replace(options=found.options) for raw in found.read())


# --- files -------------------------------------------------------------------------------------------------------


def _files(source: FileSource, split: str, language: str, data_dir: Path | None) -> Found:
    wanted = source.splits.get(split, source.splits.get(ALL, ()))
    patterns = (wanted,) if isinstance(wanted, str) else wanted
    names = [languages.fill(pattern, language) for pattern in patterns]
    root = data_dir or paths.data_dir()
    if root is None and not all(Path(name).is_absolute() for name in names):
        raise NotAtHand(f"files {', '.join(names)}: no data folder was named")
    try:  # an absolute path stands for itself
        files = tuple(file for name in names for file in _matching((root or Path()).expanduser(), name))
        absent = [file for file in files if not file.is_file()]
    except OSError as err:  # a folder on the way that may not be entered
        raise NotAtHand(f"file {err.filename}: {err.strerror or err}") from err
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise NotAtHand(f"file {absent[0]}{more}: {_why_absent(absent[0])}")
    return Found(
        kind="files",
        description=f"files {', '.join(names)}",
        read=lambda: readers.get(source.reader).read(files, options=source.options, language=language),
        identity=lambda: spec.digest(["files", *map(file_digest, files)]),
        definition=lambda: _definition(source, split),
        options=source.options,
        partition=source.partition,
        files=files,
    )


def _why_absent(file: Path) -> str:
    """Why a file cannot serve: a folder stands in its place, it is still packed, or there is nothing."""
    if file.is_dir():
        return "is a folder, not a file"
    packed = [ending for ending in (".gz", ".bz2", ".xz", ".zip") if file.with_name(file.name + ending).is_file()]
    return f"not there, only {file.name}{packed[0]}; unpack it" if packed else "not there"


def _matching(root: Path, name: str) -> list[Path]:
    """The file of a name; of a name with ``*`` all files that match, ordered by name, or the name if none does."""
    path = root / name
    if "*" not in name or path.is_file():
        return [path]
    if path.is_absolute() and Path(name).is_absolute():
        root, name = Path(path.anchor), str(path.relative_to(path.anchor))
    return sorted(root.glob(name), key=lambda file: (file.name, file)) or [path]


def file_digest(file: Path) -> str:
    """sha256 of a file's bytes, remembered for as long as path, size and modification time stay the same."""
    stat = file.stat()
    return _file_digest(file, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _file_digest(file: Path, num_bytes: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    try:
        with file.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    except OSError as err:
        raise DataError(f"{file}: cannot be read: {err.strerror or err}") from err
    return digest.hexdigest()


def shown(file: str, data_dir: Path | None) -> str:
    """A file's path as cards show it: below the data folder where it lies there, so that it names nobody's machine."""
    root = data_dir or paths.data_dir()
    path = Path(file)
    if root is not None and path.is_absolute() and path.is_relative_to(root.expanduser()):
        return path.relative_to(root.expanduser()).as_posix()
    return file


# --- hub ---------------------------------------------------------------------------------------------------------


def address(source: HubSource, split: str, language: str, *, revision: str | None) -> hub_rows.Address:
    """Where a hub source has a split in a language: the placeholders of `languages.fill` are filled in.

    Raises:
        ConfigError: for a split that `splits` gives no name.
    """
    name = source.splits.get(split, source.splits.get(ALL, ""))
    if not name:
        raise ConfigError(f"hub {source.repo}: no rows for split {split!r} under `splits`")
    config = source.config
    config = languages.fill(config, language) if config else config
    name = languages.fill(name, language)
    return hub_rows.Address(repo=source.repo, config=config, split=name, revision=revision, branch=source.branch)


def _hub(source: HubSource, split: str, language: str, *, ask: bool) -> Found:
    revision, locked = lock.pinned(source)
    at = address(source, split, language, revision=revision)
    expected = locked.splits.get(lock.split_key(at.config, at.split)) if locked else None
    cached = hub_rows.prepared(at) is not None
    any_will_do = ask and at.revision is None and hub_files.offline()  # which commit is found when it is read
    if not cached and not (any_will_do and hub_rows.prepared_at_all(at)):
        reason = hub_files.why_not() if ask else "not in the cache"
        if reason:
            raise NotAtHand(f"{at}: {reason}")

    def read() -> Iterator[Raw]:
        raws = hub_rows.read(at)
        if expected is not None:
            raws = lock.checked(raws, expected, str(at))
        parts = at.split.split("+")
        if source.options.get("interleave") and len(parts) > 1:
            if expected is not None:
                deque(raws, maxlen=0)  # what is pinned is the rows one after the other
            raws = in_turn([hub_rows.read(replace(at, split=part)) for part in parts])
        return hub_rows.shaped(raws, source.reader, source.options, language=language)

    return Found(
        kind="hub",
        description=str(at),
        read=read,
        identity=lambda: spec.digest(["hub", at.repo, at.config, at.split, at.revision or "unlocked"]),
        definition=lambda: _definition(source, split),
        options=source.options,
        partition=source.partition,
        locked=revision is not None,
        revision=revision,
        num_rows=None if source.partition else expected.rows if expected else hub_rows.prepared_rows(at),
    )
