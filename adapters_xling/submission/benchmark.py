"""What a benchmark wants handed in: tasks, languages, file contents, groups; read from `task_configs/benchmarks/`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import msgspec

from adapters_xling import languages, paths
from adapters_xling.errors import ConfigError, unknown
from adapters_xling.spec import Frozen, Name, decode, read_yaml

from . import formats

FOLDER = "benchmarks"


class Part(Frozen, frozen=True):
    """One task of a benchmark.

    Attributes:
        task: name of the task, and of its folder in a submission.
        group: task scores are averaged by group, too.
        format: what its files hold, a name in `formats.py`.
        metric: what is averaged over languages; one that the format can be scored with.
        languages: every one of them has a file.
        labels: labels a file may hold, where it holds labels.
        pattern: regular expression of the ids in rankings, where there is one.
        rows: task here whose rows and predictions fill its files; of the same name where that is left out (XTREME-R
            calls `tatoeba` what is `tatoeba-xr` here).
    """

    task: Name
    group: Name
    format: str
    metric: str
    languages: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    labels: tuple[str, ...] = ()
    pattern: str = ""
    rows: str = ""

    @property
    def rows_of(self) -> str:
        """Name of the task whose rows and predictions fill its files."""
        return self.rows or self.task

    @property
    def contents(self) -> formats.Format:
        """How its files are read, checked, scored and written."""
        return formats.get(self.format)(labels=self.labels, metric=self.metric, pattern=self.pattern)

    def file(self, language: str) -> str:
        """Path of a language's file below the submission folder."""
        return f"{self.task}/test-{language}{self.contents.suffix}"


class Benchmark(Frozen, frozen=True):
    """A benchmark: its parts, and through them its groups."""

    name: Name
    title: str
    tasks: Annotated[tuple[Part, ...], msgspec.Meta(min_length=1)]
    citation: str = ""

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Group -> its tasks, both in the order of the file."""
        found: dict[str, tuple[str, ...]] = {}
        for part in self.tasks:
            found[part.group] = (*found.get(part.group, ()), part.task)
        return found

    @property
    def num_files(self) -> int:
        """Files of a whole submission."""
        return sum(len(part.languages) for part in self.tasks)

    def part(self, task: str) -> Part:
        """The part of a task.

        Raises:
            UnknownName: for a task that the benchmark does not have.
        """
        for part in self.tasks:
            if part.task == task:
                return part
        raise unknown(f"task of {self.name}", task, [part.task for part in self.tasks])


def names() -> tuple[str, ...]:
    """Every benchmark.

    >>> names()
    ('mini', 'xtreme', 'xtreme-r')
    """
    return tuple(sorted(path.stem for path in (paths.task_configs_dir() / FOLDER).glob("*.yaml")))


def get(name: str) -> Benchmark:
    """A benchmark by name, or by the path of a YAML file of the same schema.

    Raises:
        UnknownName: with the closest names.
        ConfigError: for a file that breaks the schema, naming file and field.

    >>> get("xtreme").num_files
    162
    """
    if name.endswith((".yaml", ".yml")):
        return load(Path(name))
    if name not in names():
        raise unknown("benchmark", name, names(), f"task_configs/{FOLDER}/")
    return load(paths.task_configs_dir() / FOLDER / f"{name}.yaml")


def load(file: Path) -> Benchmark:
    """Read one benchmark file.

    Raises:
        ConfigError: naming file and field.
        UnknownName: for a language, format or metric that does not exist.
    """
    stat = file.stat() if file.is_file() else None
    return _load(file, stat.st_mtime_ns if stat else 0, stat.st_size if stat else 0)


@functools.lru_cache(maxsize=16)
def _load(file: Path, mtime_ns: int, num_bytes: int) -> Benchmark:
    found = decode(Benchmark, read_yaml(file), str(file))
    if found.name != file.stem:
        raise ConfigError(f"{file}: name is {found.name!r}, the file is called {file.stem!r}; they must be the same")
    for i, part in enumerate(found.tasks):
        where = f"{file}: tasks[{i}] ({part.task})"
        for code in part.languages:
            languages.language(code)
        if len(set(part.languages)) < len(part.languages):
            raise ConfigError(f"{where}: a language is listed twice")
        if part.task in {other.task for other in found.tasks[:i]}:
            raise ConfigError(f"{where}: the task is listed twice")
        wanted = formats.get(part.format, where=where)
        if part.metric not in wanted.scored_with:
            raise unknown(f"metric of format {part.format!r}", part.metric, wanted.scored_with, where)
        if wanted.needs_labels != bool(part.labels):
            raise ConfigError(
                f"{where}: format {part.format!r} {'needs' if wanted.needs_labels else 'takes no'} labels"
            )
    return found
