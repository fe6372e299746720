"""Costs, effects, plots by language and published rows, against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from adapters_xling import metrics, tasks
from adapters_xling.errors import ConfigError, UnknownName
from adapters_xling.published import MARKS, PublishedRow, PublishedTable, load_published
from adapters_xling.report import EntryFacts, RunInfo, collect, html, latex, markdown
from adapters_xling.report.beside import published_section
from adapters_xling.report.chart import BYTES, cost_quality
from adapters_xling.report.costs import cost_section, kept_bytes
from adapters_xling.report.effects import effect_section
from adapters_xling.report.plots import best_rows, language_plot
from adapters_xling.report.sheets import Column, Item, Section, Sheet
from adapters_xling.spec import Score


def make(task: str, language: str, value: float, **changes: Any) -> Score:
    fields: dict[str, Any] = {
        "key": f"{task}-{changes.get('method', 'lora')}-{changes.get('intermediate', 'none')}",
        "metric": "f1", "num_examples": 10, "split": "test", "zero_shot": language != "en", "backbone": "nano",
        "method": "lora", "init": "fresh", "route": "slot", "intermediate": "none", "seed": 0,
    }  # fmt: skip
    return Score(task=task, language=language, value=value, **(fields | changes))


def fact(hours: float | None = None, **changes: Any) -> EntryFacts:
    known: dict[str, Any] = {"num_trainable": 10, "num_bytes": 40, "steps": 100, "device": "H200", "on_gpu": True}
    seconds = None if hours is None else hours * 3600
    return EntryFacts(**(known | {"num_devices": 1, "seconds": seconds} | changes))


def shown(sheet: Sheet) -> list[list[str]]:
    return [[item.plain + (f" <- {item.after}" if item.after else "") for item in row] for row in sheet.rows]


# --- costs ------------------------------------------------------------------------------------------------------


def test_a_methods_cost_counts_every_entry_once_those_of_intermediate_tasks_too() -> None:
    scores = [
        make("pos", "de", 50.0),
        make("ner", "de", 50.0),
        make("pos", "de", 60.0, intermediate="nli", init="warm"),
        make("ner", "de", 60.0, intermediate="nli", init="warm"),
    ]
    facts = {
        "pos-lora-none": fact(1.0),
        "ner-lora-none": fact(2.0, num_bytes=60),
        "pos-lora-nli": fact(3.0, parents=("nli",)),
        "ner-lora-nli": fact(4.0, parents=("nli",)),
        "nli": fact(10.0, num_devices=2, num_trainable=30, steps=1000),
    }
    section = cost_section(collect(scores, facts=facts))
    assert section is not None
    methods, cells = section.sheets
    assert shown(methods) == [
        ["lora", "5", "10–30", "40 B–60 B", "220 B", "100 %", "1,400", "30 GPU-h", "H200"],
    ]  # 1 + 2 + 3 + 4 + 10 hours on two devices
    by_place = {(row[0], row[1]): row[2:] for row in shown(cells)}
    assert by_place["lora <- nli", "pos"] == ["1", "10", "40 B", "100", "3 GPU-h", "23 GPU-h"]
    assert by_place["lora", "ner"] == ["1", "10", "60 B", "100", "2 GPU-h", "2 GPU-h"]


def test_gpu_and_cpu_hours_are_never_added_up_and_a_card_that_lacks_them_leaves_a_hole() -> None:
    scores = [make("pos", "de", 50.0, seed=seed, key=f"k{seed}") for seed in range(4)]
    facts = {
        "k0": fact(2.0),
        "k1": fact(3.0, on_gpu=False, device="EPYC, 1 thread"),
        "k2": fact(4.0, on_gpu=None, num_devices=None, device=""),
        "k3": EntryFacts(),
    }
    section = cost_section(collect(scores, facts=facts))
    assert section is not None
    assert shown(section.sheets[0]) == [
        ["lora", "4", "10 (3/4)", "40 B (3/4)", "120 B (3/4)", "100 %", "300 (3/4)", "2 GPU-h + 3 CPU-h (2/4)",
         "EPYC, 1 thread, H200"],
    ]  # fmt: skip
    assert cost_section(collect(scores)) is None
    bare = cost_section(collect(scores, facts={"k0": EntryFacts(num_bytes=5)}))
    assert bare is not None
    assert shown(bare.sheets[0])[0][6:] == ["·", "·", "·"]


def test_what_must_be_kept_is_all_targets_of_a_seed_and_what_an_entry_stands_on() -> None:
    scores = [
        make(task, "de", 50.0, seed=seed, key=f"{task}{seed}{way}", route=route, intermediate=inter)
        for task in ("pos", "ner")
        for seed in (0, 1)
        for way, route, inter in (("f", "slot", "none"), ("s", "stack", "nli"))
    ]
    facts = {score.key: fact(1.0) for score in scores}
    for name in list(facts):
        if name.endswith("s"):
            facts[name] = fact(1.0, parents=(f"nli{name[3]}",), stands_on=(f"nli{name[3]}",))
    facts |= {"nli0": fact(1.0, num_bytes=1000), "nli1": fact(1.0, num_bytes=1000)}
    results = collect(scores, facts=facts)
    fresh, stack = results.systems
    assert kept_bytes(results, fresh) == 2 * 40
    assert kept_bytes(results, stack) == 2 * 40 + 1000
    chart = cost_quality(results, BYTES)
    assert chart is not None
    left, right = sorted(chart.points, key=lambda point: point.x)
    assert (left.filled, right.filled) == (False, True)
    assert "80 B kept" in left.title
    del facts["nli1"]
    assert kept_bytes(collect(scores, facts=facts), stack) is None


def test_what_nobody_trained_has_no_cost() -> None:
    scores = [make("pos", "de", 50.0), make("find", "de", 20.0, method="base", route="base", key="nano")]
    results = collect(scores, facts={"pos-lora-none": fact(1.0)})
    section = cost_section(results)
    assert section is not None
    assert [row[:2] for row in shown(section.sheets[1])] == [["lora", "pos"]]


# --- effects ----------------------------------------------------------------------------------------------------


def test_effects_have_targets_down_and_intermediate_tasks_across() -> None:
    scores = [make("pos", "de", 50.0), make("ner", "de", 40.0), make("ner", "ru", 40.0)]
    scores += [make("pos", "de", 53.0, intermediate="nli", init="warm")]
    scores += [make("ner", "de", 32.0, intermediate="nli", init="warm")]
    scores += [make("pos", "de", 51.0, intermediate="qa", init="warm")]
    scores += [make("pos", "de", 55.0, intermediate="nli", route="stack", key="stacked")]
    section = effect_section(collect(scores))
    assert section is not None
    (sheet,) = section.sheets
    assert sheet.bands == [("stack", 1), ("warm", 2)]
    assert [column.name for column in sheet.columns] == ["task", "nli", "nli", "qa"]
    assert shown(sheet) == [
        ["ner", "·", "−8.0 (1/2)", "·"],
        ["pos", "+5.0", "+3.0", "+1.0"],
        ["all tasks", "+5.0 (1/3)", "−2.5 (2/3)", "+1.0 (1/3)"],
    ]
    loss = sheet.rows[0][2]
    assert (loss.sign, loss.tint) == ("loss", 100)  # the largest of all has the deepest colour: −8 of ±8
    assert [item.tint for item in sheet.rows[1][1:]] == [62, 38, 12]
    assert sheet.legend == ("diverging", "−8 (loss) → +8 points (gain)")
    assert effect_section(collect([make("pos", "de", 50.0)])) is None


# --- plots by language ------------------------------------------------------------------------------------------


def test_a_plot_ranks_languages_by_their_best_mark_and_leaves_gaps() -> None:
    scores = [
        make("pos", "en", 90.0), make("pos", "de", 60.0), make("pos", "ru", 70.0),
        make("pos", "de", 80.0, method="full"), make("pos", "sw", 100.0, method="full"),
        make("pos", "de", 20.0, method="majority"), make("pos", "ru", 0.0, method="majority"),
    ]  # fmt: skip
    results = collect(scores)
    plot = language_plot(results, results.headline[0])
    assert plot is not None
    assert [(row.code, row.source, len(row.marks)) for row in plot.rows] == [
        ("sw", False, 1), ("en", True, 1), ("de", False, 2), ("ru", False, 1),
    ]  # fmt: skip
    assert [label for _, label in plot.ticks] == ["0", "20", "40", "60", "80", "100"]
    assert plot.rows[0].marks[0].x == plot.right
    (floor,) = plot.floors
    assert floor.pieces[0][0] == plot.left + 0.2 * (plot.right - plot.left)
    assert floor.pieces[-1][0] == plot.left
    full, lora = (row.marks for row in (plot.rows[0], plot.rows[1]))
    assert full[0].shape != lora[0].shape
    assert full[0].series != lora[0].series


def test_a_plot_has_one_row_of_each_method_a_complete_one_before_a_higher_one() -> None:
    scores = [
        make("pos", "de", 50.0), make("pos", "ru", 50.0),
        make("pos", "de", 55.0, intermediate="nli"), make("pos", "ru", 52.0, intermediate="nli"),
        make("pos", "de", 99.0, intermediate="qa"),
    ]  # fmt: skip
    results = collect(scores)
    assert [(s.method, s.intermediate) for s in best_rows(results, results.headline[0])] == [("lora", "nli")]
    only_source = collect([make("pos", "en", 90.0)])
    assert language_plot(only_source, only_source.headline[0]) is None


# --- published rows ---------------------------------------------------------------------------------------------

TABLE = PublishedTable(
    title="Somebody's table",
    split="test",
    splits={"qa": "dev"},
    sources={"book": "Somebody 2020", "memory": "recalled"},
    rows=(
        PublishedRow(
            model="Large", source="book", mark="S", scores={"pos": {"f1": 80.0, "em": 1.0}, "qa": {"f1": 70.0}}
        ),
        PublishedRow(model="Large", source="memory", mark="M-lo", scores={"ner": {"f1": 50.0}}, note="as recalled"),
        PublishedRow(model="Huge", source="book", mark="S", languages={"pos": {"f1": {"de": 71.0, "sw": 61.0}}}),
    ),
)
LANGUAGES = {"pos": ("en", "de", "ru"), "ner": ("en", "de"), "qa": ("de",)}


def info(**changes: Any) -> RunInfo:
    return RunInfo(**({"title": "t", "published": TABLE, "all_languages": LANGUAGES} | changes))


def test_published_means_stand_beside_means_over_all_languages_source_included() -> None:
    scores = [make("pos", "en", 90.0), make("pos", "de", 60.0), make("pos", "ru", 30.0), make("ner", "de", 10.0)]
    scores += [make("qa", "de", 33.0, split="dev"), make("pos", "en", 95.0, method="full")]
    section = published_section(collect(scores), info())
    assert section is not None
    assert section.title == "Published (other models, test split)"
    assert section.foreign
    means, by_language = section.sheets
    assert [column.name for column in means.columns] == ["model", "source", "pos (test)", "qa (dev)"]
    theirs, ours = means.bodies
    assert [[item.plain for item in row] for row in theirs] == [["Large", "book", "80.0 [S]", "70.0 [S]"]]
    assert [[item.plain for item in row] for row in ours] == [["lora", "this report, nano", "60.0", "33.0"]]
    assert "[S] read in the source named" in means.foot
    assert "book: Somebody 2020" in means.foot
    assert "recalled" not in means.foot
    assert [column.name for column in by_language.columns[2:]] == ["de", "sw"]
    assert shown(by_language) == [["Huge", "book", "71.0 [S]", "61.0 [S]"], ["lora", "this report, nano", "60.0", "·"]]


def test_a_published_row_is_shown_only_where_task_metric_split_and_rows_are_the_same() -> None:
    whole = [make("pos", code, 50.0) for code in ("en", "de", "ru")]
    other_split = [make("pos", code, 50.0, split="dev") for code in ("en", "de", "ru")]
    other_metric = [make("pos", code, 50.0, metric="accuracy") for code in ("en", "de", "ru")]
    for scores, known in ((other_split, LANGUAGES), (other_metric, LANGUAGES), (whole, {})):
        section = published_section(collect(scores), info(all_languages=known))
        assert section is not None
        assert section.sheets == ()
        assert "none is shown" in section.lead
        text = html(scores, info=info(all_languages=known)) + markdown(scores, info=info(all_languages=known))
        assert "80.0" not in text
    assert published_section(collect(whole), RunInfo(title="t")) is None
    assert "Published" not in html(whole, info=RunInfo(title="t"))


def test_every_published_figure_carries_its_mark_in_every_format() -> None:
    scores = [make("ner", code, 41.0) for code in ("en", "de")]
    for text in (html(scores, info=info()), markdown(scores, info=info()), latex(scores, info=info())):
        assert "M-lo" in text
        assert "from memory, unverified, unsure" in text
        assert "no bar to reach" in text


def test_shipped_published_rows_name_tasks_metrics_splits_and_languages_that_exist() -> None:
    for name in ("xtreme-test", "xstilts-dev"):
        table = load_published(name)
        places = set()
        for number, row in enumerate(table.rows):
            for figure in table.figures(row):
                task = tasks.get(figure.task)
                assert figure.split in {split for source in task.sources for split in getattr(source, "splits", ())}
                assert figure.mark in MARKS
                assert not figure.language or figure.language in task.languages
                outputs = {output for one in task.metrics for output in _outputs(one)}
                assert figure.metric in outputs, (name, figure)
                assert (number, *figure[:4]) not in places
                places.add((number, *figure[:4]))
        assert {row.source for row in table.rows} == set(table.sources)


def _outputs(metric: str) -> set[str]:
    spans = {"f1", "exact_match", "mean"}
    known = {"squad": spans, "mlqa": spans, "tag_f1": {"f1"}, "span_f1": {"f1"}, "mining_f1": {"f1"}}
    return known.get(metric, {metrics.main(metric)})


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("a: {title: t, split: test, sources: {}, rows: [], spilt: x}", UnknownName, "spilt"),
        ("a: {title: t, split: s, sources: {b: c}, rows: [{model: m, source: d, mark: S}]}", ConfigError, "source 'd'"),
        ("a: {title: t, split: s, sources: {b: c}, rows: [{model: m, source: b, mark: X}]}", ConfigError, "mark"),
        (
            "a: {title: t, split: s, sources: {b: c}, rows: [{model: m, source: b, mark: S, scores: {x: {f1: 790}}}]}",
            ConfigError,
            "<= 100",
        ),
        ("b: {}", UnknownName, "set of published rows 'a'"),
    ],
)
def test_published_rows_are_read_strictly(
    text: str, error: type[Exception], said: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "published.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr("adapters_xling.paths.task_configs_dir", lambda: tmp_path)
    with pytest.raises((error, ConfigError), match=said):
        load_published("a")


# --- sections from elsewhere ------------------------------------------------------------------------------------


def test_a_section_given_from_outside_is_drawn_by_every_output() -> None:
    sheet = Sheet(
        "mine", "Mine", "A lead.", (Column("who", numeric=False), Column("n")), (((Item("x&y"), Item("7", 7)),),)
    )
    section = Section("extra", "An extra section", (sheet,))
    scores = [make("pos", "de", 50.0)]
    for draw in (html, markdown, latex):
        text = draw(scores, info=RunInfo(title="t"), sections=[section])
        assert "An extra section" in text
        assert "A lead." in text
    assert 'href="#extra"' in html(scores, info=RunInfo(title="t"), sections=[section])
    with pytest.raises(AssertionError):
        Sheet("s", "S", "", (Column("a"),), (((Item("1"), Item("2")),),))
