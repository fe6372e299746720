"""`xling data` without a hub: what is at hand of files, what a lock may hold, what is checked. With one: tests/hub."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from adapters_xling import hub_files, model, paths, tasks
from adapters_xling.cli.data import data as command
from adapters_xling.errors import ConfigError, MissingData, UnknownName, XlingError
from adapters_xling.spec import HubSource
from adapters_xling.tasks import hub_rows, lock
from adapters_xling.tasks.rows import Raw
from tests.unit.tiny import tiny_tokenizer

TASK = """
name: mine
kind: sentence
role: private
title: Mine
languages: [en, sw, de]
labels: ["yes", "no"]
metrics: [accuracy]
sources:
  - type: files
    reader: table
    languages: [en, sw]
    splits: {train: "train-{language}.tsv", test: "test-{language}.tsv"}
    options: {header: [text, label]}
  - {type: hub, repo: o/mine, config: "{language}", reader: table, languages: [en, sw], splits: {test: test}}
"""
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHA = "a" * 64


@pytest.fixture(autouse=True)
def tokenizer(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(model, "load_tokenizer", lambda name: tiny_tokenizer())
    if "real_data" not in request.fixturenames:
        monkeypatch.delenv("XLING_DATA", raising=False)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, ...]:
    """Options that name a task, and a folder with its test rows in Swahili."""
    own, data = tmp_path / "own", tmp_path / "data"
    own.mkdir()
    data.mkdir()
    (own / "mine.yaml").write_text(TASK)
    (data / "test-sw.tsv").write_text("".join(f"the cat {i}\t{'yes' if i % 2 else 'no'}\n" for i in range(10)))
    return "--tasks", str(own), "--data-dir", str(data)


def xling(*words: Any) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def cells(*words: Any) -> dict[tuple[str, str], dict[str, Any]]:
    result = xling("status", *words, "--json")
    assert result.exception is None, result.output
    return {(cell["split"], cell["language"]): cell for cell in json.loads(result.output)["cells"]}


def write_lock(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "data.lock.yaml"  # where conftest.py lets XLING_LOCK point
    file.write_text(text)
    return file


def test_status_tells_what_is_here_what_the_hub_has_and_what_nobody_has(
    folders: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_files, "why_not", lambda: pytest.fail("the network was asked"))
    found = cells("mine", *folders)
    assert {key: cell["state"] for key, cell in found.items()} == {
        ("train", "en"): "missing",
        ("test", "en"): "hub",
        ("test", "sw"): "here",
        ("test", "de"): "missing",
    }
    here, hub = found["test", "sw"], found["test", "en"]
    assert (here["kind"], here["source"], here["locked"]) == ("files", "files test-sw.tsv", None)
    assert here["num_bytes"] == (tmp_path / "data" / "test-sw.tsv").stat().st_size
    assert (hub["source"], hub["locked"], hub["rows"]) == ("hub o/mine@unlocked (en, test)", False, None)
    seen = f"{{rows: 7, sha256: {SHA}}}"
    write_lock(tmp_path, f"hub: {{o/mine: {{revision: '{COMMIT}', resolved: today, splits: {{en/test: {seen}}}}}}}")
    hub = cells("mine", *folders)["test", "en"]
    assert (hub["revision"], hub["locked"], hub["rows"]) == (COMMIT, True, 7)
    table = xling("status", "mine", *folders).output
    assert "1 here, 1 to be fetched from the hub, 2 missing" in table and str(tmp_path / "data.lock.yaml") in table
    each = xling("status", "mine", "--each", *folders).output
    assert any(line.split()[:4] == ["mine", "test", "sw", "here"] for line in each.splitlines())


def test_status_of_everything_needs_neither_torch_nor_the_hubs_client() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from adapters_xling.cli.data import data\n"
        "done = CliRunner().invoke(data, ['status', '--json']); assert done.exception is None, done.output\n"
        "assert '\"xnli\"' in done.output and 'mini-nli' not in done.output\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'huggingface_hub', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_check_takes_every_split_and_language_at_hand(folders: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "data" / "train-en.tsv").write_text("the dog\tno\n\tyes\nthe cat\tyes\n")
    done = xling("check", "mine", *folders)
    assert done.exception is None, done.output
    lines = [line.split() for line in done.output.splitlines()]
    assert ["mine", "train", "en", "2", "1", "ok;", "left", "out:", "blank", "first", "(1)"] in lines
    assert ["mine", "test", "sw", "10", "0", "ok"] in lines
    assert done.output.splitlines()[-1] == "2 checked, 0 failed, 2 not at hand"
    assert "1 checked, 0 failed, 1 not at hand" in xling("check", "mine", "--language", "en", *folders).output
    assert ["mine", "test", "sw", "3", "0", "ok"] in [
        line.split() for line in xling("check", "mine", "--limit", 3, *folders).output.splitlines()
    ]


def test_check_fails_for_bad_rows_and_for_none(folders: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "data" / "test-sw.tsv").write_text("the cat\tmaybe\n")
    bad = xling("check", "mine", *folders)
    assert "unknown label 'maybe'" in bad.output
    assert isinstance(bad.exception, XlingError) and "1 check(s) failed" in str(bad.exception)
    (tmp_path / "data" / "test-sw.tsv").unlink()
    none = xling("check", "mine", *folders)
    assert isinstance(none.exception, MissingData) and "nothing was checked" in str(none.exception)
    assert isinstance(xling("check", "mine", "--language", "xx", *folders).exception, UnknownName)
    assert isinstance(xling("status", "xnly").exception, UnknownName)


def test_without_the_hub_nothing_is_locked_or_written(
    folders: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    failed = xling("lock", "mine", *folders)
    assert isinstance(failed.exception, MissingData)
    assert "HF_HUB_OFFLINE is set" in str(failed.exception) and "Nothing was written" in str(failed.exception)
    assert not (tmp_path / "data.lock.yaml").exists()
    assert isinstance(xling("lock", "mini-nli").exception, ConfigError)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hub: {o/mine: {revison: x}}", "revison is not a field. .*Did you mean 'revision'"),
        ("hub: {o/mine: {revision: main, resolved: x}}", "revision"),
        (f"hub: {{o/mine: {{revision: {COMMIT}, resolved: x, splits: {{a: {{rows: -1, sha256: {SHA}}}}}}}}}", ">= 0"),
        ("schema: 2", "schema"),
        ("hub: [", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_lock_is_refused_with_its_name(
    folders: tuple[str, ...], tmp_path: Path, text: str, why: str
) -> None:
    file = write_lock(tmp_path, text)
    with pytest.raises(ConfigError, match=rf"{file}.*(\n|.)*{why}"):
        lock.load()
    assert isinstance(xling("status", "mine", *folders).exception, ConfigError)


def test_the_lock_lies_where_it_is_named_or_in_the_users_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lock.current() == tmp_path / "data.lock.yaml"
    with lock.chosen(tmp_path / "other.yaml") as file:
        assert lock.current() == file == tmp_path / "other.yaml"
    monkeypatch.delenv("XLING_LOCK")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert paths.lock_file() == tmp_path / "config" / "adapters_xling" / "data.lock.yaml"


def test_a_lock_is_written_as_it_is_read(tmp_path: Path) -> None:
    digits = "1" * 40  # YAML would read it as a number
    entry = lock.LockedRepo(
        revision=digits, resolved="2026-01-01", splits={"no/train": lock.RowsSeen(rows=0, sha256="0" * 64)}
    )
    lock.save(lock.Lock(hub={"o/b": entry, "o/a": entry}), lock.current())
    assert lock.load() == lock.Lock(hub={"o/a": entry, "o/b": entry})
    assert lock.pinned(HubSource(repo="o/a", reader="table", splits={}))[0] == digits


def test_the_digest_is_of_content_and_order_of_rows_and_not_of_the_order_of_columns() -> None:
    def digest(*rows: dict[str, Any]) -> str:
        found = lock.Digest()
        for row in rows:
            found.add(row)
        return found.seen().sha256

    one, two = {"a": 1, "b": ["x", None]}, {"a": 2, "b": ["y", "é"]}
    assert digest(one, two) == digest(dict(reversed(one.items())), two)
    assert len({digest(one, two), digest(two, one), digest(one), digest({**one, "a": "1"}, two)}) == 4


@pytest.mark.parametrize(
    ("reader", "options", "error"),
    [
        ("aligned", {}, "options.columns.query and options.columns.corpus"),
        ("aligned", {"columns": {"query": "x", "corpus": "de"}}, r"no column 'x' \(options.columns.query\)"),
        ("table", {"where": {"lang": "{language}"}}, r"no column 'lang' \(options.where\)"),
    ],
)
def test_a_hub_table_without_the_columns_a_source_names_is_an_error(
    reader: str, options: dict[str, Any], error: str
) -> None:
    rows = iter([Raw("hub o/n", 1, {"de": "satz", "en": "sentence"})])
    with pytest.raises(XlingError, match=error):
        list(hub_rows.shaped(rows, reader, options, language="de"))


@pytest.mark.realdata
def test_real_rows_are_shown_and_checked(real_data: Path) -> None:
    found = cells("xnli", "xquad", "--data-dir", real_data)
    assert found["dev", "sw"]["state"] == "here" and found["dev", "bg"]["state"] == "hub"
    done = xling("check", "xnli", "--data-dir", real_data, "--language", "sw", "--limit", 40)
    assert done.exception is None and "1 checked, 0 failed" in done.output, done.output


def test_every_shipped_hub_source_can_be_addressed_for_all_it_is_used_for() -> None:
    from adapters_xling.tasks import sources

    seen = 0
    for task in tasks.all_specs():
        for split, language in sources.cells(task):
            for source in sources.on_hub(task, split, language):
                at = sources.address(source, split, language, revision=None)
                assert "{" not in f"{at.config}{at.split}"
                seen += 1
    assert seen > 50


def test_a_lock_that_cannot_be_written_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapters_xling import hub_files

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("the hub was asked")

    def read_only(**_: Any) -> Any:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(hub_files, "why_not", lambda: None)
    monkeypatch.setattr(hub_files, "listing", never)
    monkeypatch.setattr(lock.tempfile, "TemporaryFile", read_only)
    done = xling("lock", "xnli", "--lock", tmp_path / "data.lock.yaml")
    assert isinstance(done.exception, XlingError)
    assert "data.lock.yaml: cannot be written: Read-only file system" in str(done.exception) and "XLING_LOCK" in str(
        done.exception
    )


def test_what_is_no_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root:x:0")
    done = xling("status", "xnli", "--lock", tmp_path / "passwd")
    assert "passwd is no lock of hub data sets; `xling data lock` makes one" in str(done.exception)


def test_errors_come_without_a_table_s_head(tmp_path: Path) -> None:
    done = xling("check", "xnli", "--language", "zz")
    assert isinstance(done.exception, XlingError) and "dropped" not in done.output
