"""`datasets` against the loopback hub, through the tasks' own way to rows. Run by `test_hub.py`."""

from __future__ import annotations

from tests.hub.sets import ABSENT, HUB, LABELS, nli_files, pairs, parquet  # isort: skip - first: it sets HF_ENDPOINT

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from click.testing import CliRunner, Result

from adapters_xling import hub_files, paths, tasks
from adapters_xling.cli.data import data as command
from adapters_xling.errors import ConfigError, DataError, MissingData, XlingError
from adapters_xling.spec import TaskSpec, decode
from adapters_xling.tasks import hub_rows, lock

real_sleep = time.sleep


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients' pauses between tries, shortened; how often they try is theirs."""
    monkeypatch.setattr(time, "sleep", lambda seconds: real_sleep(min(seconds, 0.02)))
    monkeypatch.delenv("XLING_DATA", raising=False)


@pytest.fixture
def fresh() -> Iterator[str]:
    """A repository name nobody used."""
    fresh.count = getattr(fresh, "count", 0) + 1  # type: ignore[attr-defined]
    yield f"o/set{fresh.count}"  # type: ignore[attr-defined]
    HUB.faults.clear()


def body(repo: str, *, config: str | None = "{language}", revision: str | None = None, **more: Any) -> dict[str, Any]:
    source = {
        "type": "hub",
        "repo": repo,
        "config": config,
        "revision": revision,
        "reader": "table",
        "splits": {"train": "train", "dev": "validation"},
        **more,
    }
    return {
        "name": "mine",
        "kind": "sentence",
        "role": "private",
        "title": "Mine",
        "languages": ["de", "en"],
        "labels": list(LABELS),
        "metrics": ["accuracy"],
        "eval_split": "dev",
        "sources": [source],
    }


def task(repo: str, **more: Any) -> TaskSpec:
    return decode(TaskSpec, body(repo, **more), "test")


def firsts(repo: str, split: str = "dev", language: str = "de", **more: Any) -> list[str]:
    return [example.first for example in tasks.load(task(repo, **more), split, language).examples]  # type: ignore[union-attr]


def asked() -> list[str]:
    """Requests since the last call."""
    found = list(HUB.requests)
    HUB.requests.clear()
    return found


def pairs_card(config: str) -> str:
    return f"---\nconfigs:\n- config_name: {config}\n  data_files:\n  - {{split: test, path: {config}/test*}}\n---\n"


def cached_files(repo: str) -> list[str]:
    folder = Path(os.environ["HF_HOME"]) / "hub" / f"datasets--{repo.replace('/', '--')}"
    return [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]


# --- rows, revisions, cache --------------------------------------------------------------------------------------


def test_the_endpoint_is_the_loopback_hub_and_the_cache_is_where_we_look_for_it() -> None:
    assert HUB.url == datasets.config.HF_ENDPOINT
    assert paths.hub_data_cache() == datasets.config.HF_DATASETS_CACHE


def test_rows_of_a_configuration_come_with_the_names_of_their_classes(fresh: str) -> None:
    commit = HUB.repo(fresh).commit(nli_files("v1", "de", "en"))
    asked()
    rows = tasks.load(task(fresh), "dev", "de")
    assert [example.first for example in rows.examples] == [f"v1 de validation {i}" for i in range(6)]  # type: ignore[union-attr]
    assert [example.label for example in rows.examples] == [*LABELS, *LABELS]  # type: ignore[union-attr]
    assert rows.source == f"hub {fresh}@unlocked (de, validation)"
    log = asked()
    assert any(f"/tree/{commit}" in line for line in log)  # the files of the commit were listed, not those of a branch
    assert not any("/en/" in line and line.startswith("GET /datasets") for line in log)
    assert hub_files.listing(fresh, None, kind="dataset").files == tuple(sorted(nli_files("v1", "de", "en")))


def test_a_pinned_revision_is_read_whatever_main_says_and_once_read_asks_nobody(fresh: str) -> None:
    first = HUB.repo(fresh).commit(nli_files("v1", "de"))
    second = HUB.repo(fresh).commit(nli_files("v2", "de"))
    assert firsts(fresh)[0] == "v2 de validation 0"
    assert firsts(fresh, revision=first)[0] == "v1 de validation 0"
    asked()
    assert firsts(fresh, revision=first)[0] == "v1 de validation 0"
    assert firsts(fresh, split="train", revision=second)[0] == "v2 de train 0"
    assert tasks.splits_at_hand(task(fresh, revision=first), "de") == ("train", "dev")
    assert asked() == []
    assert firsts(fresh)[0] == "v2 de validation 0"
    assert asked() == [f"GET /api/datasets/{fresh}"]  # unpinned: which commit is it now; its rows are here


def test_a_tag_stands_for_its_commit_but_may_not_pin(fresh: str) -> None:
    commit = HUB.repo(fresh).commit(nli_files("v1", "de"), branch="v1.0")
    assert hub_files.listing(fresh, "v1.0", kind="dataset").commit == commit
    with pytest.raises(ConfigError, match=r"revision 'v1\.0' is not a full commit.*xling data lock"):
        firsts(fresh, revision="v1.0")


def test_json_lines_without_a_card_are_read(fresh: str) -> None:
    lines = "".join(json.dumps({**row, "label": LABELS[row["label"]]}) + "\n" for row in pairs(4, "line"))
    HUB.repo(fresh).commit({"train.jsonl": lines, "validation.jsonl": lines})
    assert firsts(fresh, config=None) == [f"line {i}" for i in range(4)]
    asked()
    commit = HUB.repo(fresh).refs["main"]
    assert firsts(fresh, config=None, revision=commit, split="train")[0] == "line 0"
    assert asked() == []


def test_several_splits_are_one_and_rows_of_other_languages_are_passed_over(fresh: str) -> None:
    rows = [{**row, "id": f"{code}-{i}"} for code in ("de", "en") for i, row in enumerate(pairs(2, code))]
    named = [{**row, "label": LABELS[row["label"]]} for row in rows]
    HUB.repo(fresh).commit({"train.jsonl": "".join(json.dumps(row) + "\n" for row in named)})
    HUB.repo(fresh).commit(
        {**HUB.repo(fresh).commits[HUB.repo(fresh).refs["main"]], "test.jsonl": json.dumps(named[0])}
    )
    more: dict[str, Any] = {"config": None, "splits": {"dev": "train+test"}}
    assert firsts(fresh, **more) == ["de 0", "de 1", "en 0", "en 1", "de 0"]
    assert firsts(fresh, **more, options={"interleave": True}) == ["de 0", "de 0", "de 1", "en 0", "en 1"]
    squad = {**more, "reader": "squad", "options": {"id_prefix": "{language}-"}}
    assert firsts(fresh, **squad) == ["de 0", "de 1", "de 0"]
    where = {**more, "options": {"where": {"premise": "en 1"}}}
    assert firsts(fresh, **where) == ["en 1"]


def test_pairs_become_queries_and_what_they_search(fresh: str) -> None:
    rows = [{"source_sentence": f"satz {i}", "target_sentence": f"sentence {i}"} for i in range(3)]
    columns = {"query": "target_sentence", "corpus": "source_sentence"}
    HUB.repo(fresh).commit({"German.deu/test.parquet": parquet(rows), "README.md": pairs_card("German.deu")})
    source = {"repo": fresh, "config": "{Name}.{iso3}", "reader": "aligned", "splits": {"test": "test"}}
    plain = body(fresh)
    given = {**plain, "kind": "retrieve", "labels": [], "metrics": ["retrieval_accuracy"], "eval_split": "test"}
    given["sources"] = [{"type": "hub", **source, "options": {"columns": columns}}]
    given["train_languages"] = []
    found = tasks.load(decode(TaskSpec, given, "test"), "test", "de").examples
    assert [(e.id, e.text, e.side) for e in found][:1] == [("q1", "sentence 0", "query")]  # type: ignore[union-attr]
    matched = {e.id: e.text for e in found if e.side == "corpus"}  # type: ignore[union-attr]
    assert [matched[e.matches[0]] for e in found if e.side == "query"] == ["satz 0", "satz 1", "satz 2"]  # type: ignore[union-attr]


def test_what_was_read_at_a_commit_is_read_again_offline_and_nothing_else_is(own: tuple[str, Path]) -> None:
    """In a process that was offline from its start, with a hub that is not there."""
    repo, folder = own
    commit = HUB.repo(repo).refs["main"]
    assert xling("lock", "mine", "--tasks", folder).exit_code == 0
    code = f"""
import json
from adapters_xling import tasks
from adapters_xling.errors import XlingError
from tests.hub.inside_datasets import task
def attempt(ask):
    try:
        return [example.first for example in ask().examples]
    except XlingError as err:
        return str(err)
mine = tasks.get("mine")
found = [attempt(lambda: tasks.load(mine, "dev", "de")), attempt(lambda: tasks.load(task({repo!r}), "dev", "en"))]
found += [attempt(lambda: tasks.load(task({repo!r}, revision={ABSENT!r}), "dev", "en"))]
found += [attempt(lambda: tasks.load(task("o/never"), "dev", "en"))]
print("FOUND" + json.dumps(found))
"""
    nowhere = {"HF_HUB_OFFLINE": "1", "XLING_TASKS": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **nowhere}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    locked, unlocked, other, never = json.loads(done.stdout.split("FOUND")[1])
    assert locked == [f"v1 de validation {i}" for i in range(6)]
    assert unlocked == [f"v1 en validation {i}" for i in range(6)]
    assert f"says revision {ABSENT}, the lock" in other and commit in other
    assert "o/never" in never and "HF_HUB_OFFLINE" in never


# --- faults ------------------------------------------------------------------------------------------------------


def test_a_revision_that_is_not_there_is_an_error_that_names_it_and_nothing_else_is_served(fresh: str) -> None:
    HUB.repo(fresh).commit(nli_files("v1", "de"))
    firsts(fresh)
    with pytest.raises(MissingData, match=f"{fresh} has no revision '{ABSENT}'.*xling data lock"):
        firsts(fresh, revision=ABSENT)


def test_another_revision_in_the_cache_never_stands_in_when_the_hub_fails(fresh: str) -> None:
    first = HUB.repo(fresh).commit(nli_files("v1", "de"))
    firsts(fresh, revision=first)
    second = HUB.repo(fresh).commit(nli_files("v2", "de"))
    HUB.fault(f"/api/datasets/{fresh}/tree/", status=503)
    with pytest.raises(MissingData, match=rf"revision {first[:12]} from its cache in place of {second[:12]}"):
        firsts(fresh, revision=second)
    HUB.faults.clear()
    assert firsts(fresh, revision=second)[0] == "v2 de validation 0"


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"status": 401}, "refuses o/.*401.*hf auth login"),
        ({"status": 404}, "knows no repository"),
        ({"status": 500}, "answers 500 for .*try again later"),
    ],
)
def test_what_the_hub_refuses_is_said_in_words(fresh: str, how: dict[str, Any], text: str) -> None:
    HUB.repo(fresh).commit(nli_files("v1", "de"))
    HUB.fault(f"/api/datasets/{fresh}", **how)
    with pytest.raises(MissingData, match=text):
        firsts(fresh)
    assert not cached_files(fresh)


def test_a_missing_repository_configuration_split_and_file_are_named(fresh: str) -> None:
    with pytest.raises(MissingData, match=f"knows no repository '{fresh}'"):
        firsts(fresh)
    HUB.repo(fresh).commit(nli_files("v1", "de"))
    with pytest.raises(MissingData, match=r"BuilderConfig 'en' not found.*'de'.*correct `config`"):
        firsts(fresh, language="en")
    with pytest.raises(MissingData, match=r"validating.*correct `splits`|Unknown split.*correct"):
        firsts(fresh, splits={"dev": "validating"})
    script = fresh + "-script"
    HUB.repo(script).commit({f"{script[2:]}.py": "print('never run')", "README.md": ""})
    with pytest.raises(MissingData, match="is a loading script, which is never run"):
        firsts(script)


def test_a_file_that_is_listed_but_not_there_is_named_and_nothing_is_cached_as_good(fresh: str) -> None:
    commit = HUB.repo(fresh).commit(nli_files("v1", "de"))
    HUB.fault(r"resolve/.*/de%?/?.*validation.*\.parquet", status=404)
    with pytest.raises(MissingData, match=r"has no file de/validation-00000-of-00001\.parquet"):
        firsts(fresh, revision=commit)
    assert hub_rows.prepared(hub_rows.Address(repo=fresh, config="de", split="train", revision=commit)) is None
    HUB.faults.clear()
    assert len(firsts(fresh, revision=commit)) == 6


@pytest.mark.parametrize("name", ["validation-00000-of-00001.parquet", "README.md", "train.jsonl"])
def test_a_damaged_file_is_named_and_fetched_again_the_next_time(fresh: str, name: str) -> None:
    """Cut at the source: the size announced is that of what is left, so size alone shows nothing."""
    if name == "train.jsonl":  # cut between two lines: perfectly good JSON lines, two rows short
        lines = [json.dumps({**row, "label": LABELS[row["label"]]}) + "\n" for row in pairs(4, "line")]
        files: dict[str, Any] = {"train.jsonl": "".join(lines)}
        keep, given = len("".join(lines[:2])), {"config": None, "splits": {"dev": "train"}}
    else:
        files, keep, given = nli_files("v1", "de"), 60, {}
    commit = HUB.repo(fresh).commit(files)
    HUB.fault(name, keep=keep, honest=True)
    with pytest.raises(MissingData, match=rf"{name} of {fresh}@{commit[:12]} arrived damaged: {keep} bytes") as caught:
        firsts(fresh, revision=commit, **given)
    assert "removed from the cache" in str(caught.value)
    assert not [file for file in cached_files(fresh) if file.endswith(name)]
    HUB.faults.clear()
    assert len(firsts(fresh, revision=commit, **given)) in (4, 6)


def test_a_broken_line_is_resumed_where_it_broke(fresh: str) -> None:
    commit = HUB.repo(fresh).commit(nli_files("v1", "de", count=4000))
    HUB.fault(r"^/large/.*validation", keep=5000, times=1)
    assert len(firsts(fresh, revision=commit)) == 4000
    assert not HUB.struck("validation")


def test_a_line_that_stays_broken_names_the_file_and_leaves_no_file_behind(fresh: str) -> None:
    commit = HUB.repo(fresh).commit(nli_files("v1", "de", count=4000))
    HUB.fault(r"^/large/.*validation", keep=5000)
    with pytest.raises(MissingData, match=r"broke off within de/validation-00000-of-00001\.parquet of o/"):
        firsts(fresh, revision=commit)
    cached = cached_files(fresh)
    assert [file for file in cached if file.endswith(".incomplete")]
    assert not [file for file in cached if "validation" in file]
    HUB.faults.clear()
    asked()
    assert len(firsts(fresh, revision=commit)) == 4000


def test_passing_faults_of_the_hub_are_waited_out(fresh: str) -> None:
    HUB.repo(fresh).commit(nli_files("v1", "de"))
    asked()
    HUB.fault(rf"^/api/datasets/{fresh}$", status=503, times=2)
    HUB.fault(rf"{fresh}/resolve/.*train", status=502, times=2)
    assert firsts(fresh)[0] == "v1 de validation 0"
    assert asked().count(f"GET /api/datasets/{fresh}") == 3


def test_files_that_came_whole_but_are_no_table_are_named(fresh: str) -> None:
    HUB.repo(fresh).commit({"train.jsonl": '{"premise": "a"}\n{broken\n'})
    with pytest.raises(MissingData, match=r"train\.jsonl of .* came whole but cannot be read as rows"):
        firsts(fresh, config=None, split="train")


# --- the lock ----------------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path, fresh: str) -> tuple[str, Path]:
    """A private task that names a hub data set, and the folder it lies in."""
    HUB.repo(fresh).commit(nli_files("v1", "de", "en"))
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "mine.yaml").write_text(yaml.safe_dump(body(fresh)))
    return fresh, folder


def xling(*words: Any) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def test_lock_pins_revision_rows_and_content_and_later_runs_read_that(own: tuple[str, Path], tmp_path: Path) -> None:
    repo, folder = own
    commit = HUB.repo(repo).refs["main"]
    with pytest.raises(ConfigError, match="xling data lock mine"):
        tasks.ref(tasks.get("mine", extra=folder), extra=folder)
    done = xling("lock", "mine", "--tasks", folder)
    assert done.exit_code == 0, done.output
    written = yaml.safe_load((tmp_path / "data.lock.yaml").read_text())["hub"][repo]
    assert written["revision"] == commit
    # dev in German is read as a target's, train only where the task trains
    assert {name: seen["rows"] for name, seen in written["splits"].items()} == {
        "de/validation": 6, "en/train": 6, "en/validation": 6
    }  # fmt: skip
    assert len({seen["sha256"] for seen in written["splits"].values()}) == 3
    HUB.repo(repo).commit(nli_files("v2", "de", "en", count=9))
    asked()
    mine = tasks.get("mine", extra=folder)
    assert tasks.load(mine, "dev", "de").examples[0].first == "v1 de validation 0"  # type: ignore[union-attr]
    assert tasks.ref(mine, extra=folder).digest
    assert asked() == []
    again = xling("lock", "mine", "--tasks", folder)
    assert again.exit_code == 0 and "already locked" in again.output
    assert lock.load().hub[repo].revision == commit
    assert xling("lock", "mine", "--tasks", folder, "--upgrade").exit_code == 0
    assert lock.load().hub[repo].revision == HUB.repo(repo).refs["main"] != commit
    assert lock.load().hub[repo].splits["en/train"].rows == 9


def test_the_hubs_own_conversion_of_a_script_is_locked_from_its_branch(fresh: str, tmp_path: Path) -> None:
    named = [{**row, "label": LABELS[row["label"]]} for row in pairs(4, "converted")]
    HUB.repo(fresh).commit({f"{fresh[2:]}.py": "print('never run')", "README.md": ""})
    files = {f"default/{split}/0000.parquet": parquet(named) for split in ("train", "validation")}
    commit = HUB.repo(fresh).commit(files, branch="refs/convert/parquet")
    made = body(fresh, config=None, branch="refs/convert/parquet")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(made))
    assert firsts(fresh, config=None, branch="refs/convert/parquet")[0] == "converted 0"
    done = xling("lock", "mine", "--tasks", tmp_path)
    assert done.exit_code == 0, done.output
    assert lock.load().hub[fresh].revision == commit
    assert lock.load().hub[fresh].splits["default/validation"].rows == 4
    assert tasks.load(tasks.get("mine", extra=tmp_path), "train", "en").kept == 4


def test_rows_that_differ_from_the_lock_are_an_error_that_names_both(own: tuple[str, Path], tmp_path: Path) -> None:
    repo, folder = own
    assert xling("lock", "mine", "--tasks", folder).exit_code == 0
    file = tmp_path / "data.lock.yaml"
    good, mine = file.read_text(), tasks.get("mine", extra=folder)
    sha = lock.load().hub[repo].splits["en/train"].sha256
    file.write_text(good.replace(sha, "f" * 64))
    with pytest.raises(DataError, match=rf"6 rows with content sha256:{sha[:12]}, but .*6 rows with sha256:f{{12}}"):
        tasks.load(mine, "train", "en")
    file.write_text(good.replace("rows: 6", "rows: 7"))
    with pytest.raises(DataError, match=r"6 rows with .*has 7 rows with"):
        tasks.load(mine, "train", "en")
    shown = xling("check", "mine", "--tasks", folder)
    assert shown.exit_code != 0 and isinstance(shown.exception, XlingError)
    file.write_text(good)
    assert tasks.load(mine, "train", "en").kept == 6


def test_a_lock_and_a_task_file_that_disagree_are_refused(own: tuple[str, Path]) -> None:
    repo, folder = own
    first = HUB.repo(repo).refs["main"]
    assert xling("lock", "mine", "--tasks", folder).exit_code == 0
    second = HUB.repo(repo).commit(nli_files("v2", "de", "en"))
    with pytest.raises(ConfigError, match=f"says revision {second}, the lock .* says {first}"):
        firsts(repo, revision=second)


def test_a_lock_that_fails_writes_nothing_and_says_why(own: tuple[str, Path], tmp_path: Path) -> None:
    repo, folder = own
    with HUB.faulty(f"/api/datasets/{repo}", status=404):
        failed = xling("lock", "mine", "--tasks", folder)
    assert failed.exit_code != 0 and "knows no repository" in failed.output + str(failed.exception)
    with HUB.faulty("de/validation", keep=60, honest=True):
        failed = xling("lock", "mine", "--tasks", folder)
    assert failed.exit_code != 0 and "arrived damaged" in failed.output + str(failed.exception)
    assert not (tmp_path / "data.lock.yaml").exists()


def test_status_and_check_show_what_is_here_and_locked(own: tuple[str, Path], tmp_path: Path) -> None:
    _, folder = own
    before = json.loads(xling("status", "mine", "--tasks", folder, "--json").output)
    assert {(cell["split"], cell["language"], cell["state"], cell["locked"]) for cell in before["cells"]} == {
        ("dev", "de", "hub", False), ("dev", "en", "hub", False), ("train", "en", "hub", False)
    }  # fmt: skip
    nothing = xling("check", "mine", "--tasks", folder)
    assert nothing.exit_code != 0 and "--download" in str(nothing.exception)
    own_lock = tmp_path / "other.yaml"
    assert xling("lock", "mine", "--tasks", folder, "--lock", own_lock).exit_code == 0
    asked()
    after = json.loads(xling("status", "mine", "--tasks", folder, "--lock", own_lock, "--json").output)
    assert {(cell["state"], cell["locked"], cell["rows"]) for cell in after["cells"]} == {("here", True, 6)}
    checked = xling("check", "mine", "--tasks", folder, "--lock", own_lock)
    assert checked.exit_code == 0, checked.output
    assert "3 checked" in checked.output
    assert asked() == []
