"""Task files: each loads strictly, and each rule of the catalog refuses what it is there to refuse."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from adapters_xling import languages, paths, spec, tasks
from adapters_xling.errors import ConfigError, UnknownName, XlingError
from adapters_xling.spec import FileSource, GeneratorSource, HubSource, TaskSpec
from adapters_xling.tasks import catalog

NLI: dict[str, Any] = {
    "name": "mine",
    "kind": "sentence",
    "role": "private",
    "title": "Mine",
    "languages": ["en", "de"],
    "labels": ["yes", "no"],
    "metrics": ["accuracy"],
    "sources": [
        {"type": "files", "reader": "table", "splits": {"train": "a.tsv"}, "options": {"header": ["first", "label"]}}
    ],
}


def write(folder: Path, changes: dict[str, Any] | None = None, *, file: str = "") -> Path:
    data = {**NLI, **(changes or {})}
    folder.mkdir(exist_ok=True)
    path = folder / f"{file or data['name']}.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", tasks.names())
def test_every_shipped_file_loads_and_survives_a_round_trip(name: str) -> None:
    task = tasks.get(name)
    assert task.name == name
    again = spec.decode(TaskSpec, msgspec.to_builtins(task), name)
    assert spec.canonical_json(again) == spec.canonical_json(task)


@pytest.mark.parametrize("name", tasks.names())
def test_every_shipped_task_satisfies_its_kind(name: str) -> None:
    from adapters_xling.tasks import kinds

    task = tasks.get(name)
    kinds.get(task.kind).check_spec(task)


def test_no_unresolved_hub_revision_is_written_as_if_resolved() -> None:
    hubs = [source for task in tasks.all_specs() for source in task.sources if isinstance(source, HubSource)]
    assert hubs
    assert all(source.verified == (source.revision is not None) for source in hubs)


def test_the_xtreme_targets_list_the_languages_that_xtreme_scores() -> None:
    numbers = {name: len(tasks.get(name).languages) for name in ("xnli", "pawsx", "udpos", "panx", "xquad", "mlqa")}
    assert numbers == {"xnli": 15, "pawsx": 7, "udpos": 33, "panx": 40, "xquad": 11, "mlqa": 7}
    assert len(tasks.get("tydiqa").languages) == 9
    assert len(tasks.get("tatoeba").languages) == 36
    assert tasks.get("bucc2018").languages == ("de", "fr", "ru", "zh")
    udpos = tasks.get("udpos")
    assert set(udpos.languages) - set(udpos.languages_by_split["dev"]) == {"kk", "th", "tl", "yo"}
    assert set(tasks.get("panx").languages) - set(tasks.get("tatoeba").languages) == {"en", "ms", "my", "yo"}


def test_shipped_tasks_are_in_the_languages_of_the_benchmarks_alone() -> None:
    """Any ISO 639 code is a language, so a slip of the pen in a shipped file shows here."""
    used = {code for task in tasks.all_specs() for code in task.languages + task.train_languages}
    assert " ".join(sorted(used)) == (
        "af ar az bg bn de el en es et eu fa fi fr gu he hi ht hu id it ja jv ka kk ko lt ml mr ms my nl pa pl pt qu "
        "ro ru sw ta te th tl tr uk ur vi wo yo zh"
    )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("ws", r"Did you mean 'sw' \(Swahili\)\?"),
        ("hau", r"Did you mean 'ha' \(Hausa\)\?"),
        ("Hausa", r"Did you mean 'ha' \(Hausa\)\?"),
        ("swahilli", r"Did you mean 'sw' \(Swahili\) or"),
        ("SW", r"Did you mean 'sw' \(Swahili\)\?"),
        ("xx", r"unknown language 'xx'\. A language goes by its ISO 639-1 code"),
        ("sw_KE", "or by its ISO 639-3 code"),
        ("", "or by its ISO 639-3 code"),
    ],
)
def test_what_is_no_code_of_a_language_is_refused_with_the_closest(code: str, words: str) -> None:
    with pytest.raises(UnknownName, match=words):
        languages.language(code)


def test_placeholders_of_a_language_of_which_only_the_code_is_known() -> None:
    assert languages.fill("{iso3}/{language}.tsv", "nso") == "nso/nso.tsv"
    assert languages.fill("{iso3}_{script}", "am") == "amh_Ethi"
    for pattern in ("{script}", "{Name}", "{name}"):
        with pytest.raises(ConfigError, match="of language 'nso' only the code is known"):
            languages.fill(pattern, "nso")


def test_the_mini_tasks_agree_with_their_generator() -> None:
    mini = pytest.importorskip("adapters_xling.tasks.mini")
    if not hasattr(mini, "rows"):
        pytest.skip("the generator has no rows yet")
    for task in tasks.all_specs():
        source = task.sources[0]
        if task.role != "mini":
            continue
        assert isinstance(source, GeneratorSource)
        pivot = {"en"} if task.kind == "retrieve" else set()
        assert set(task.languages) | pivot == set(mini.LANGUAGES), task.name
        if task.kind == "sentence":
            assert set(task.labels) == set(mini.labels(source.task)), task.name
        if task.kind == "tag":
            assert set(task.labels) == set(mini.tags(source.task)), task.name


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", [name for name in tasks.names() if tasks.get(name).role == "mini"])
def test_no_generated_row_is_turned_away(name: str) -> None:
    mini = pytest.importorskip("adapters_xling.tasks.mini")
    if not hasattr(mini, "rows"):
        pytest.skip("the generator has no rows yet")
    task = tasks.get(name)
    rows = tasks.load(task, "dev", task.languages[-1])
    assert rows.kept and not rows.dropped and not rows.renamed


def test_an_unknown_task_is_answered_with_the_closest_names() -> None:
    with pytest.raises(UnknownName, match=r"unknown task 'xnly'\. Did you mean 'xnli'"):
        tasks.get("xnly")


def test_a_private_folder_adds_tasks_by_argument_and_by_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "own")
    assert "mine" not in tasks.names()
    assert "mine" in tasks.names(tmp_path / "own")
    monkeypatch.setenv("XLING_TASKS", str(tmp_path / "own"))
    assert tasks.get("mine").title == "Mine"


def test_a_name_given_twice_is_refused_with_both_files(tmp_path: Path) -> None:
    own = write(tmp_path / "own", {"name": "xnli"})
    with pytest.raises(ConfigError) as caught:
        tasks.get("mnli", extra=tmp_path / "own")
    assert str(own) in str(caught.value)
    assert str(paths.task_configs_dir() / "target" / "xnli.yaml") in str(caught.value)


PARTITIONED = {"type": "files", "reader": "table", "splits": {"all": "a.tsv"}}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"languages": ["en", "xx"]}, "languages: unknown language 'xx'"),
        ({"languages": ["en", "en"]}, "languages lists 'en' twice"),
        ({"labels": ["yes", "yes"]}, "labels lists 'yes' twice"),
        ({"languages_by_split": {"dev": ["fr"]}}, "languages_by_split.dev names fr"),
        ({"sources": []}, "sources is empty"),
        ({"metrics": []}, "metrics is empty"),
        ({"train_on": "xnly"}, "unknown task 'xnly'"),
        ({"train_on": "mnli"}, "is of kind 'sentence' with labels ['entailment'"),
        (
            {"train_on": "mnli", "labels": ["entailment", "neutral", "contradiction"], "head": "nli", "pair": False},
            "rows of 'mnli' are pairs of texts, those of 'mine' are not",
        ),
        ({"sources": [{**NLI["sources"][0], "reader": "tabel"}]}, "unknown reader 'tabel'. Did you mean 'table'"),
        ({"sources": [{**NLI["sources"][0], "options": {"heder": []}}]}, "Did you mean 'header'"),
        ({"sources": [{**NLI["sources"][0], "revison": 1}]}, "revison"),
        ({"sources": [PARTITIONED]}, "no `partition` divides them"),
        (
            {"sources": [{**PARTITIONED, "partition": {"buckets": 2, "splits": {"train": [0], "dev": [0]}}}]},
            "bucket 0 is in both 'train' and 'dev'",
        ),
        (
            {"sources": [{**PARTITIONED, "partition": {"buckets": 2, "splits": {"train": [2]}}}]},
            "bucket 2 is not within 0..1",
        ),
        (
            {
                "sources": [
                    {**PARTITIONED, "splits": {"test": "a"}, "partition": {"buckets": 2, "splits": {"dev": [1]}}}
                ]
            },
            "`splits` has neither 'dev' nor 'all'",
        ),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused_by_file_and_field(
    tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    path = write(tmp_path / "own", changes)
    with pytest.raises(XlingError, match=re.escape(text)) as caught:
        tasks.get("mine", extra=tmp_path / "own")
    assert str(path) in str(caught.value)


def test_the_file_must_be_called_as_its_task(tmp_path: Path) -> None:
    write(tmp_path / "own", {"name": "mine"}, file="other")
    with pytest.raises(ConfigError, match="name is 'mine', the file is called 'other'"):
        tasks.get("other", extra=tmp_path / "own")


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    write(tmp_path / "own")
    assert tasks.get("mine", extra=tmp_path / "own").title == "Mine"
    write(tmp_path / "own", {"title": "Another"})
    assert tasks.get("mine", extra=tmp_path / "own").title == "Another"


def test_train_task_follows_train_on_and_the_override() -> None:
    xnli = tasks.get("xnli")
    assert tasks.train_task(xnli).name == "mnli"
    assert tasks.train_task(xnli, override="kit-nli").name == "kit-nli"
    assert tasks.train_task(tasks.get("panx")).name == "panx"
    with pytest.raises(ConfigError, match="'panx' is of kind 'tag'"):
        tasks.train_task(xnli, override="panx")


@pytest.mark.parametrize("name", [name for name in tasks.names() if tasks.get(name).train_on])
def test_every_target_finds_the_head_of_what_it_trains_on(name: str) -> None:
    task = tasks.get(name)
    assert task.head_name == tasks.train_task(task).head_name


def test_the_sources_that_the_shipped_grids_name_fit_their_targets() -> None:
    named = [
        (target["task"], target["train"])
        for file in (paths.task_configs_dir() / "grids").glob("*.yaml")
        for target in spec.read_yaml(file)["targets"]
        if isinstance(target, dict) and "train" in target
    ]
    assert {("xnli", "kit-nli"), ("kit-xquad", "kit-squad1")} <= set(named)
    for target, source in named:
        found = tasks.train_task(tasks.get(target), override=source)
        assert (found.name, found.head_name) == (source, tasks.get(target).head_name)


def test_a_source_with_another_head_is_refused_with_what_to_write(tmp_path: Path) -> None:
    write(tmp_path / "own", {"name": "source"})
    path = write(tmp_path / "own", {"train_on": "source"})
    with pytest.raises(
        ConfigError, match=r"kept as 'source', but 'mine' looks for 'mine'; write `head: source`"
    ) as caught:
        tasks.get("mine", extra=tmp_path / "own")
    assert str(path) in str(caught.value)
    write(tmp_path / "own", {"train_on": "source", "head": "source"})
    assert tasks.train_task(tasks.get("mine", extra=tmp_path / "own"), extra=tmp_path / "own").name == "source"
    with pytest.raises(ConfigError, match="write `head: kit-squad1` in the task file of 'xquad'"):
        tasks.train_task(tasks.get("xquad"), override="kit-squad1")


def test_private_recipes_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    write(tmp_path / "own")
    (tmp_path / "own" / "recipes.yaml").write_text("paper: {}\n")
    with pytest.warns(UserWarning, match=r"own.recipes\.yaml is not read: .* --with NAME=VALUE"):
        assert "mine" in tasks.names(tmp_path / "own")


def test_tasks_that_train_on_one_another_are_refused(tmp_path: Path) -> None:
    for name, source in ("ab", "bc", "cb"):
        write(tmp_path / "own", {"name": name, "train_on": source, "head": "shared"})
    with pytest.raises(ConfigError, match="a -> b -> c -> b"):
        tasks.train_task(tasks.get("a", extra=tmp_path / "own"), extra=tmp_path / "own")


def test_the_squad_divisions_are_one_division() -> None:
    def partition(name: str) -> spec.Partition:
        source = tasks.get(name).sources[0]
        assert isinstance(source, FileSource) and source.partition is not None
        return source.partition

    one, two, scored = partition("kit-squad1"), partition("kit-squad2"), partition("kit-xquad")
    assert one == two
    assert (scored.salt, scored.buckets, scored.splits["test"]) == (one.salt, one.buckets, one.splits["test"])
    assert set(scored.splits) == {"test"}


def test_reading_task_files_imports_no_torch_and_no_datasets() -> None:
    code = (
        "import sys; from adapters_xling import tasks; tasks.all_specs(); tasks.load, tasks.ref;"
        "assert not {'torch', 'datasets', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_reader_named_in_a_shipped_file_exists() -> None:
    for task in tasks.all_specs():
        catalog.check(task, where=task.name)
