"""The task files against the benchmarks' own lists, and XTREME's folders: what they hold, and what they withhold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters_xling import spec, tasks
from adapters_xling.errors import DataError
from adapters_xling.tasks import page, sources

ROOT = Path(__file__).parents[2]

XTREME = {
    "xnli": "ar bg de el en es fr hi ru sw th tr ur vi zh",
    "pawsx": "de en es fr ja ko zh",
    "udpos": "af ar bg de el en es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru ta te th tl tr ur vi yo zh",
    "panx": "af ar bg bn de el en es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr ms my nl pt ru sw ta te th tl "
    "tr ur vi yo zh",
    "xquad": "ar de el en es hi ru th tr vi zh",
    "mlqa": "ar de en es hi vi zh",
    "tydiqa": "ar bn en fi id ko ru sw te",
    "bucc2018": "de fr ru zh",
    "tatoeba": "af ar bg bn de el es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr nl pt ru sw ta te th tl tr ur "
    "vi zh",
}
"""Languages that XTREME scores, from its evaluate.py; written down here a second time on purpose."""

XTREME_R = {
    "panx-xr": XTREME["panx"] + " qu pl uk az lt pa gu ro",
    "udpos-xr": XTREME["udpos"] + " lt pl uk wo ro",
    "tatoeba-xr": XTREME["tatoeba"] + " az lt pl uk ro",
    "xquad-xr": XTREME["xquad"] + " ro",
    "xcopa": "et ht id it qu sw ta th tr vi zh",
    "mewslix": "ar de en es fa ja pl ro ta tr uk",
    "lareqa": XTREME["xquad"],
}


def test_all_162_cells_of_xtreme_are_reachable_by_name() -> None:
    cells = {(name, code) for name in XTREME for code in tasks.get(name).languages}
    assert cells == {(name, code) for name, codes in XTREME.items() for code in codes.split()}
    assert len(cells) == 162
    for name, code in sorted(cells):
        task = tasks.get(name)
        assert task.role == "target"
        assert code in (task.languages_by_split.get(task.eval_split) or task.languages)
        assert sources.has_split(task, task.eval_split)
        assert any(
            (getattr(source, "languages", None) or task.languages) and task.eval_split in source.splits
            for source in task.sources
            if getattr(source, "languages", None) is None or code in source.languages  # type: ignore[union-attr]
        ), f"{name} {code}"


@pytest.mark.parametrize("name", XTREME_R)
def test_the_sets_of_xtreme_r_have_its_languages(name: str) -> None:
    task = tasks.get(name)
    assert sorted(task.languages) == sorted(XTREME_R[name].split())
    assert len(task.languages) == len(set(task.languages))


@pytest.mark.parametrize(("longer", "shorter"), [("panx-xr", "panx"), ("udpos-xr", "udpos"), ("xquad-xr", "xquad")])
def test_the_longer_lists_learn_what_the_shorter_ones_learn(longer: str, shorter: str) -> None:
    one, other = tasks.get(longer), tasks.get(shorter)
    assert tasks.train_task(one).name == tasks.train_task(other).name
    assert (one.head_name, one.labels, one.metrics, one.kind) == (
        other.head_name, other.labels, other.metrics, other.kind
    )  # fmt: skip


def test_the_nine_intermediate_tasks_and_the_spare_ones_are_there() -> None:
    intermediate = {task.name for task in tasks.all_specs() if task.role == "intermediate"}
    nine = {"anli-plus", "mnli", "qqp", "squad2", "squad1", "hellaswag", "ccg", "cosmosqa", "commonsenseqa"}
    spare, own_data = {"siqa", "paws", "snli", "anli"}, {f"{name}-translated" for name in ("mnli", "qqp", "hellaswag")}
    assert intermediate == nine | spare | own_data | {"wiki-mlm"}
    assert all(tasks.get(name).languages == ("en",) for name in nine | spare)


# --- XTREME's own folders ----------------------------------------------------------------------------------------


def put(root: Path, name: str, text: str) -> None:
    (root / "xtreme" / name).parent.mkdir(parents=True, exist_ok=True)
    (root / "xtreme" / name).write_text(text, encoding="utf-8")


def blank_squad() -> str:
    rows = [{"id": str(i), "question": "Who?", "answers": [{"text": "", "answer_start": 0}]} for i in range(3)]
    return json.dumps(
        {"data": [{"paragraphs": [{"context": "Ada came.", "qas": [row]}]} for row in rows], "version": 1}
    )


def copa(count: int = 60) -> str:
    row = {"premise": "It rained.", "choice1": "wet", "choice2": "dry", "question": "effect", "label": 0}
    return "".join(json.dumps({**row, "idx": i, "premise": f"It rained {i}."}) + "\n" for i in range(count))


WITHHELD = {
    "xnli": ({"xnli/test-sw.tsv": "a\tb\nc\td\n"}, "blank label: 2"),
    "pawsx": ({"pawsx/test-de.tsv": "a\tb\nNS\tb\nc\td\n"}, "blank label: 2; placeholder 'NS'"),
    "udpos": ({"udpos/test-de.tsv": "zum\nHaus\n\nja\n"}, "blank label: 2"),
    "panx": ({"panx/test-sw.tsv": "Bonn\n\nja\n\n"}, "blank label: 2"),
    "xquad": ({"xquad/xquad.th.json": blank_squad()}, "blank answer: 3"),
    "mlqa": ({"mlqa/MLQA_V1/test/test-context-vi-question-vi.json": blank_squad()}, "blank answer: 3"),
    "tydiqa": ({"tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.fi.dev.json": blank_squad()}, "blank answer: 3"),
    "xcopa": ({"xcopa/test.et.jsonl": copa()}, "all 60 rows .* have the label 0"),
    "bucc2018": (
        {"bucc2018/fr-en.test.fr": "f-1\tun\nf-2\tdeux\n", "bucc2018/fr-en.test.en": "e-1\tone\n"},
        "no query .* has a match.* removes BUCC's gold",
    ),
    "tatoeba": (
        {
            "tatoeba/sw-en.sw": "".join(f"mstari {i}\n" for i in range(60)),
            "tatoeba/sw-en.en": "".join(f"line {i}\n" for i in range(100, 160)),
        },
        "no query .* has a match.* sorts Tatoeba's English side",
    ),
}


@pytest.mark.parametrize("name", WITHHELD)
def test_withheld_gold_is_refused_for_scoring_and_read_for_predicting(tmp_path: Path, name: str) -> None:
    files, message = WITHHELD[name]
    for file, text in files.items():
        put(tmp_path, file, text)
    task = tasks.get(name)
    ((code, split),) = [
        (code, split)
        for code in task.languages
        for split in ("dev", "test")
        if split in tasks.splits_at_hand(task, code, data_dir=tmp_path)
    ]
    assert split == task.eval_split
    with pytest.raises(DataError, match=message) as caught:
        tasks.load(task, split, code, data_dir=tmp_path)
    assert "authors" in str(caught.value)
    found = tasks.load(task, split, code, data_dir=tmp_path, need_gold=False)
    assert found.kept > 0
    if task.kind == "tag":
        assert [example.tags for example in found.examples] == [None, None]  # type: ignore[union-attr]


def test_what_xtreme_leaves_with_gold_is_read(tmp_path: Path) -> None:
    put(tmp_path, "xnli/train-en.tsv", "a\tb\tcontradictory\n")
    put(tmp_path, "squad/train-v1.1.json", blank_squad().replace('""', '"Ada"'))
    put(tmp_path, "xcopa/val.et.jsonl", copa(3))
    put(tmp_path, "xcopa/train.en.jsonl", copa(3))
    put(tmp_path, "panx/dev-sw.tsv", "Bonn\tB-LOC\n\nja\tO\n")
    one_language = blank_squad().replace('""', '"Ada"')
    put(tmp_path, "tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.en.train.json", one_language)
    assert tasks.load(tasks.get("mnli"), "train", "en", data_dir=tmp_path).examples[0].label == "contradiction"  # type: ignore[union-attr]
    for name, split, code in (("squad1", "train", "en"), ("xcopa", "dev", "et"), ("copa", "train", "en")):
        assert tasks.load(tasks.get(name), split, code, data_dir=tmp_path).kept == 3
    assert tasks.load(tasks.get("panx"), "dev", "sw", data_dir=tmp_path).kept == 2
    assert tasks.load(tasks.get("tydiqa"), "train", "en", data_dir=tmp_path).kept == 3


def test_tydiqa_trains_on_english_alone_wherever_the_nine_languages_lie_in_one_file(tmp_path: Path) -> None:
    answers = [{"text": "Ada", "answer_start": 0}]
    names = ("english", "finnish", "english", "korean")
    qas = [{"id": f"{name}-{i}", "question": "Who?", "answers": answers} for i, name in enumerate(names)]
    text = json.dumps({"data": [{"paragraphs": [{"context": "Ada came.", "qas": qas}]}]})
    put(tmp_path, "tydiqa/tydiqa-goldp-v1.1-train/tydiqa-goldp-v1.1-train.json", text)  # where XTREME's script moves it
    found = tasks.load(tasks.get("tydiqa"), "train", "en", data_dir=tmp_path)
    assert [example.id for example in found.examples] == ["english-0", "english-2"]


def test_rows_of_other_languages_in_a_hub_table_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    from adapters_xling import hub_files
    from adapters_xling.tasks import hub_rows

    row = {"context": "Ada came.", "question": "Who?", "answers": {"text": ["Ada"], "answer_start": [0]}, "title": "T"}
    names = ("english", "korean", "thai")
    table = datasets.Dataset.from_list([{**row, "id": f"{name}-{i}"} for i, name in enumerate(names)])
    monkeypatch.delenv("XLING_DATA", raising=False)
    monkeypatch.setattr(hub_files, "why_not", lambda: None)
    monkeypatch.setattr(hub_rows, "_dataset", lambda address: table)
    for code, wanted in (("en", "english-0"), ("ko", "korean-1")):
        found = tasks.load(tasks.get("tydiqa"), "train" if code == "en" else "dev", code)
        assert [example.id for example in found.examples] == [wanted]


# --- what people read --------------------------------------------------------------------------------------------


def test_the_shipped_page_is_made_from_the_task_files_as_they_are() -> None:
    made = page.markdown(tasks.all_specs())
    assert (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8") == made, "xling tasks --markdown > docs/tasks.md"


def test_the_page_shows_every_task_with_its_licence_and_source() -> None:
    made = page.markdown(tasks.all_specs())
    lines = {line.split("`")[1]: line for line in made.splitlines() if line.startswith("| `")}
    assert sorted(lines) == list(tasks.names())
    for task in tasks.all_specs():
        assert task.licence not in ("", "unknown") and f"| {task.licence} |" in lines[task.name]
        assert lines[task.name].count(" | ") == 8
    assert "`ccg`: CCGbank (LDC2005T13) is licensed" in made


def test_what_is_said_to_people_moves_no_digest() -> None:
    import msgspec

    task = tasks.get("xnli")
    other = msgspec.structs.replace(task, rows={"dev": 1}, access="ask")
    assert spec.digest(other) == spec.digest(task)
    assert spec.canonical_json(task).count("labels_from") == 0
