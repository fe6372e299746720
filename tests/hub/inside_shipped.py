"""Every hub source of every shipped task over the loopback hub, on invented rows. Run by `test_hub.py`.

The columns are those that the task files name; whether the hub's own data sets have them shows when they are locked.
"""

from __future__ import annotations

from tests.hub.sets import HUB, parquet  # isort: skip - first: it sets HF_ENDPOINT

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from click.testing import CliRunner

from adapters_xling import languages, tasks
from adapters_xling.cli.data import data as command
from adapters_xling.errors import ConfigError, MissingData
from adapters_xling.spec import HubSource, TaskSpec
from adapters_xling.tasks import lock, sources
from adapters_xling.tasks.check import check_task
from tests.unit import invented
from tests.unit.tiny import tiny_tokenizer

real_sleep = time.sleep


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(time, "sleep", lambda seconds: real_sleep(min(seconds, 0.02)))
    monkeypatch.delenv("XLING_DATA", raising=False)
    yield
    HUB.faults.clear()


def hub_sources() -> list[tuple[str, int]]:
    return [
        (task.name, number)
        for task in tasks.all_specs()
        for number, source in enumerate(task.sources)
        if isinstance(source, HubSource)
    ]


def codes(task: TaskSpec, source: HubSource, split: str) -> list[str]:
    """Languages a source is read in for a split: the first, and the last where its address depends on the language."""
    known = task.languages_by_split.get(split) or (task.train_languages if split == "train" else task.languages)
    mine = [code for code in known if source.languages is None or code in source.languages]
    moves = "{" in f"{source.config}{source.splits}{source.options}"
    return list(dict.fromkeys([mine[0], mine[-1]])) if moves else mine[:1]


def table(task: TaskSpec, source: HubSource, language: str, mark: str) -> list[dict[str, Any]]:
    """Invented rows with the columns that a source names."""
    columns = source.options.get("columns", {})
    numbers = range(invented.NUM_ROWS)
    if task.kind in ("sentence", "choice"):
        rows = [invented.row(task, source.options, number, Path(mark)) for number in numbers]
        return [
            {key: str(value) if key == columns.get("label") else value for key, value in row.items()} for row in rows
        ]
    if task.kind == "tag":
        tags = [[task.labels[(number + i) % len(task.labels)] for i in range(6)] for number in numbers]
        return [{columns["words"]: invented.words(n), columns["tags"]: tags[n]} for n in numbers]
    if task.kind == "retrieve":
        names = {side: languages.fill(column, language) for side, column in columns.items()}
        return [{names["query"]: f"one {n} line", names["corpus"]: f"{language} {n} line"} for n in numbers]
    assert task.kind == "span"
    prefix = languages.fill(source.options.get("id_prefix", ""), language)
    rows = []
    for n in numbers:
        context = " ".join(invented.words(n, 12))
        found = {"text": [f"no{n}"], "answer_start": [context.index(f"no{n}")]}
        rows.append({"id": f"{prefix}{n}", "title": f"T{n}", "context": context, "question": "who ?", "answers": found})
    if task.options.get("impossible"):
        rows[1]["answers"] = {"text": [], "answer_start": []}
    return rows


def put(task: TaskSpec, source: HubSource) -> None:
    """Commit what a source wants, in every split and the languages of `codes`."""
    rows: dict[str, list[dict[str, Any]]] = {}
    configs: dict[str, dict[str, str]] = {}
    for split in source.splits:
        for code in codes(task, source, split):
            at = sources.address(source, split, code, revision=None)
            for part in at.split.split("+"):
                path = f"{at.config or 'default'}/{part}-00000-of-00001.parquet"
                made = table(task, source, code, part)
                if task.kind == "retrieve":  # where a language is a column, all of them stand in one file
                    rows[path] = [old | new for old, new in zip(rows.get(path, made), made, strict=True)]
                else:  # and where its rows are told by their ids
                    rows[path] = [*rows.get(path, []), *made]
                configs.setdefault(at.config or "default", {})[part] = path
    listed = [
        {"config_name": name, "data_files": [{"split": part, "path": path} for part, path in found.items()]}
        for name, found in configs.items()
    ]
    files: dict[str, bytes | str] = {path: parquet(made) for path, made in rows.items()}
    files["README.md"] = f"---\n{yaml.safe_dump({'configs': listed})}---\n"
    HUB.repo(source.repo).commit(files, branch=source.branch or "main")


@pytest.mark.parametrize(("name", "number"), hub_sources())
@pytest.mark.filterwarnings("ignore:.*doc_stride")
def test_a_shipped_source_gives_rows_that_check_task_passes(name: str, number: int) -> None:
    task = tasks.get(name)
    source = task.sources[number]
    assert isinstance(source, HubSource)
    assert source.revision is None and not source.verified  # nobody here can have resolved one
    put(task, source)
    alone = msgspec.structs.replace(task, sources=(source,))
    for split in source.splits:
        for code in codes(task, source, split):
            found = tasks.load(alone, split, code)
            parts = sources.address(source, split, code, revision=None).split.count("+") + 1
            assert found.kept == invented.NUM_ROWS * (2 if task.kind == "retrieve" else parts) and not found.dropped
            report = check_task(task, found.examples, tiny_tokenizer(), language=code, max_length=64)
            assert report.scores == dict.fromkeys(task.metrics, 100.0)


def put_joined() -> dict[str, HubSource]:
    """The three sets of ANLI+, each where its own task looks for it."""
    found = {}
    for name in ("snli", "mnli", "anli"):
        task = tasks.get(name)
        source = next(source for source in task.sources if isinstance(source, HubSource))
        put(task, source)
        found[name] = source
    return found


def test_anli_plus_is_joined_from_three_data_sets_and_locked_with_all_of_them(tmp_path: Path) -> None:
    repos = put_joined()
    task = tasks.get("anli-plus")
    found = tasks.load(task, "dev", "en")
    assert found.kept == invented.NUM_ROWS * (1 + 1 + 3)  # ANLI's three rounds are three splits
    assert {example.label for example in found.examples} == set(task.labels)  # type: ignore[union-attr]
    first = [repos[name].repo for name in repos]
    assert [source.repo for source in sources.on_hub(task, "dev", "en")] == first
    assert all(repo in found.source for repo in first)
    with pytest.raises(ConfigError, match="at no fixed revision"):
        tasks.ref(task)
    done = CliRunner().invoke(command, ["lock", "anli-plus"])
    assert done.exit_code == 0, done.output
    assert sorted(lock.load().hub) == sorted(first)
    digest = tasks.ref(task).digest
    shown = CliRunner().invoke(command, ["status", "anli-plus", "--each"])
    assert shown.exit_code == 0 and shown.output.count(" yes") == 2  # train and dev are locked
    # another commit of one of them is another set; the lock holds the one that was read
    put(tasks.get("snli"), repos["snli"])
    assert tasks.ref(task).digest == digest


def test_a_joined_set_of_which_one_part_is_not_there_says_which() -> None:
    put_joined()
    with HUB.faulty("/api/datasets/nyu-mll/multi_nli", status=404), pytest.raises(MissingData, match="multi_nli"):
        tasks.load(tasks.get("anli-plus"), "dev", "en")
