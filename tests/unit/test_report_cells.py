"""Aggregation, averages and deltas, against numbers worked out by hand."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from adapters_xling.errors import DataError
from adapters_xling.report import Average, EntryFacts, RunInfo, Target, collect
from adapters_xling.report.cells import average, average_tasks
from adapters_xling.report.chart import LINE, cost_quality, spread_out
from adapters_xling.report.collect import order_languages
from adapters_xling.report.formats import delta_text, intermediate_name, language_title, method_name, target_name
from adapters_xling.report.summary import highlights
from adapters_xling.report.tables import markdown
from adapters_xling.spec import Score

POS = Target("pos", "f1", "test")


def score(value: float, **changes: object) -> Score:
    fields = {
        "key": "k",
        "task": "pos",
        "language": "de",
        "metric": "f1",
        "value": value,
        "num_examples": 10,
        "split": "test",
        "zero_shot": changes.get("language", "de") != "en",
        "backbone": "nano",
        "method": "lora",
        "init": "fresh",
        "route": "slot",
        "intermediate": "none",
        "seed": 0,
    }
    return Score(**(fields | changes))  # type: ignore[arg-type]


def warm(value: float, **changes: object) -> Score:
    return score(value, **({"intermediate": "nli", "init": "warm", "key": "w"} | changes))


def test_seeds_become_mean_and_sample_sd():
    results = collect([score(60, seed=0), score(70, seed=1), score(74, seed=2), score(50, language="sw")])
    (lora,) = results.systems
    cell = results.row(POS, lora)["de"]
    assert cell.mean == 68
    assert cell.sd == pytest.approx(math.sqrt((64 + 4 + 36) / 2))
    assert results.row(POS, lora)["sw"].sd is None


def test_zero_shot_mean_leaves_the_source_out_and_weights_languages_equally():
    scores = [score(90, language="en"), score(60), score(30, language="sw", num_examples=10_000)]
    results = collect(scores)
    (lora,) = results.systems
    assert results.zero_shot_mean(POS, lora).mean == 45
    assert results.source_mean(POS, lora).mean == 90
    assert results.sources(POS) == ("en",)


def test_incomplete_row_counts_what_it_has_and_no_hole_is_zero():
    scores = [score(60), score(30, language="sw"), score(80, method="full")]
    results = collect(scores)
    full = next(s for s in results.systems if s.method == "full")
    mean = results.zero_shot_mean(POS, full)
    assert (mean.mean, mean.num, mean.expected, mean.complete) == (80, 1, 2, False)
    assert "sw" not in results.row(POS, full)


def test_expected_languages_may_be_given_when_nobody_was_scored_in_one():
    results = collect([score(60)], info=RunInfo(title="t", zero_shot_languages={"pos": ("de", "sw", "zh")}))
    assert results.zero_shot_mean(POS, results.systems[0]).expected == 3
    assert results.languages[POS] == ("de", "sw", "zh")


def test_row_without_any_score_has_no_mean():
    results = collect([score(60), score(50, task="ner", method="full")])
    full = next(s for s in results.systems if s.method == "full")
    assert results.zero_shot_mean(POS, full) == Average(None, {}, 0, 1)
    overall = results.overall(full)
    assert (overall.mean, overall.num, overall.expected) == (50, 1, 2)


def test_overall_is_the_mean_of_task_means_not_of_cells():
    scores = [score(60), score(40, language="sw"), score(90, task="ner")]
    results = collect(scores)
    assert results.overall(results.systems[0]).mean == 70


def test_retrieval_stands_apart_from_means_over_tasks_where_anything_else_was_scored():
    """X-STILTs' own figures: most of a gain on development sets may be retrieval's."""
    scores = [score(60), score(30, task="tatoeba"), warm(62), warm(70, task="tatoeba")]
    info = RunInfo(title="t", retrieval=("tatoeba",))
    results = collect(scores, info=info)
    fresh, stilts = results.systems
    assert (results.overall(fresh).mean, results.overall_delta(stilts).mean) == (60, 2)
    assert results.overall_name == "all but retrieval" and "tatoeba" in [target.task for target in results.headline]
    assert ("+2.0", "Δ from an intermediate task, over 1 row, mean of all but retrieval") in highlights(results)
    assert "| all but retrieval | Δ |" in markdown(scores, info=info)
    alone = collect([one for one in scores if one.task == "tatoeba"], info=info)
    assert alone.overall(alone.systems[0]).mean == 30 and alone.overall_name == "all tasks"
    everything = collect(scores)
    assert everything.overall(everything.systems[0]).mean == 45


def test_sd_of_an_average_uses_only_seeds_that_have_every_language():
    scores = [score(60, seed=0), score(62, seed=1), score(40, seed=0, language="sw")]
    mean = (results := collect(scores)).zero_shot_mean(POS, results.systems[0])
    assert mean.mean == pytest.approx((61 + 40) / 2)
    assert dict(mean.by_seed) == {0: 50}
    assert mean.sd is None


def test_delta_pairs_seeds_and_drops_the_unpaired():
    scores = [score(60, seed=0), score(70, seed=1), score(10, seed=2)]
    scores += [warm(63, seed=0), warm(75, seed=1), warm(99, seed=3)]
    results = collect(scores)
    fresh, stilts = results.systems
    delta = results.delta(POS, stilts)
    assert dict(delta.by_seed) == {0: 3, 1: 5}
    assert delta.mean == 4
    assert delta.sd == pytest.approx(math.sqrt(2))
    assert results.delta(POS, fresh).mean is None


def test_delta_uses_only_languages_scored_on_both_sides():
    scores = [score(60), score(20, language="sw"), warm(66)]
    results = collect(scores)
    delta = results.delta(POS, results.systems[1])
    assert (delta.mean, delta.num, delta.expected) == (6, 1, 2)


def test_delta_is_never_taken_against_another_method_backbone_or_setting():
    facts = {"w": EntryFacts(method_settings={"rank": 8}), "k": EntryFacts(method_settings={"rank": 4})}
    for others, given in (
        ([score(50, method="full")], None),
        ([score(50, backbone="other")], None),
        ([score(50)], facts),
    ):
        results = collect([*others, warm(60)], facts=given)
        stilts = next(s for s in results.systems if s.has_intermediate)
        assert results.baseline(stilts) is None
        assert results.delta(POS, stilts).mean is None


def test_baseline_prefers_the_fresh_slot():
    scores = [score(10, init="warm", key="a"), score(50, key="b"), warm(60)]
    results = collect(scores)
    stilts = next(s for s in results.systems if s.has_intermediate)
    assert results.delta(POS, stilts).mean == 10


def test_one_seed_is_said_to_be_one_and_a_mark_comes_from_the_comparisons_alone():
    one, three = Average(5.0, {0: 5.0}, 7, 7), Average(3.5, {0: 3.0, 1: 3.5, 2: 4.0}, 7, 7)
    assert delta_text(one) == "+5.0 (1 seed)"
    assert delta_text(three) == "+3.5 ±0.5"  # a t test over these seeds would find it; nobody asks one
    assert delta_text(three, mark="*") == "+3.5* ±0.5"


def test_unconverged_seed_marks_cell_average_delta_and_overall():
    facts = {"bad": EntryFacts(converged=False)}
    results = collect([score(60), score(50, seed=1, key="bad"), warm(70), score(1, task="ner")], facts=facts)
    fresh, stilts = results.systems
    assert not results.row(POS, fresh)["de"].converged
    assert not results.overall(fresh).converged
    assert results.overall(stilts).converged
    assert results.delta(POS, stilts).converged is False


def test_a_parent_that_did_not_converge_marks_what_started_from_it():
    facts = {"w": EntryFacts(converged=True, parents=("p",)), "p": EntryFacts(converged=False)}
    results = collect([score(60), warm(70)], facts=facts)
    fresh, stilts = results.systems
    assert results.row(POS, fresh)["de"].converged
    assert not results.row(POS, stilts)["de"].converged
    assert not results.delta(POS, stilts).converged and not results.overall_delta(stilts).converged


def test_what_is_said_in_words_rests_on_runs_that_converged():
    facts = {"bad": EntryFacts(converged=False)}
    rows = [score(60), warm(64, intermediate="pos"), warm(90, key="bad")]
    (_, best), (delta, over) = highlights(collect(rows, facts=facts))[:2]
    assert "after pos" in best and delta == "+4.0" and "over 1 row, mean of all tasks (1 † left out)" in over
    assert highlights(collect(rows))[0][0] == "90.0"
    alone = highlights(collect([score(60, key="bad")], facts=facts))
    assert alone[0][0] == "60.0†", "where nothing converged, it says so"


def test_two_entries_in_one_cell_are_refused_and_a_repeat_is_not():
    assert len(collect([score(60), score(60)]).cells) == 1
    with pytest.raises(DataError, match=r"two different scores .* 60 and 61, both from entry k"):
        collect([score(60), score(61)])
    with pytest.raises(DataError, match="entries k and other both fill the cell pos/de/f1"):
        collect([score(60), score(60, key="other")])


def test_settings_given_as_facts_split_rows_and_name_what_differs():
    facts = {
        "a": EntryFacts(method_settings={"reduction": 16, "act": "relu"}),
        "b": EntryFacts(method_settings={"reduction": 64, "act": "relu"}),
    }
    results = collect([score(60, key="a"), score(61, key="b")], facts=facts)
    assert [method_name(results, s) for s in results.systems] == ["lora (reduction=16)", "lora (reduction=64)"]


def test_rows_of_one_method_go_by_the_names_their_grid_gives_them():
    facts = {
        "a": EntryFacts(method_settings={"r": 8}, label="lora"),
        "b": EntryFacts(method_settings={"r": 8, "layers": [3]}, label="lora-top"),
    }
    results = collect([score(60, key="a"), score(61, key="b")], facts=facts)
    assert sorted(method_name(results, s) for s in results.systems) == ["lora", "lora-top"]


def test_a_row_without_the_setting_in_which_others_differ_has_the_usual_one():
    facts = {"a": EntryFacts(method_settings={"r": 8}), "b": EntryFacts(method_settings={"r": 8, "layers": [3]})}
    results = collect([score(60, key="a"), score(61, key="b")], facts=facts)
    assert {method_name(results, s) for s in results.systems} == {"lora (usual layers)", "lora (layers=[3])"}


def test_nothing_to_report_is_an_error():
    with pytest.raises(DataError, match="no scores to report"):
        collect([])


def test_order_does_not_depend_on_the_order_of_lines():
    scores = [score(60), warm(61), score(5, method="majority"), score(80, method="full", key="f"), score(9, task="ner")]
    facts = {"f": EntryFacts(num_trainable=1000), "k": EntryFacts(num_trainable=10)}
    one, two = collect(scores, facts=facts), collect(reversed(scores), facts=facts)
    assert one.systems == two.systems
    assert one.targets == two.targets
    assert [(s.method, s.intermediate) for s in one.systems] == [
        ("full", "none"),
        ("lora", "none"),
        ("lora", "nli"),
        ("majority", "none"),
    ]


def test_headline_metric_is_the_first_of_the_task_unless_told():
    scores = [score(60, metric="f1"), score(40, metric="em"), score(10, task="ner")]
    assert [t[:2] for t in collect(scores).headline] == [("ner", "f1"), ("pos", "f1")]
    told = collect(scores, info=RunInfo(title="t", metrics={"pos": "em"}))
    assert [t[:2] for t in told.headline] == [("pos", "em"), ("ner", "f1")]
    assert [target_name(told, t) for t in told.targets] == ["pos (em)", "pos (f1)", "ner"]
    with pytest.raises(DataError, match="no score of pos has the metric 'acc'"):
        collect(scores, info=RunInfo(title="t", metrics={"pos": "acc"}))


def test_splits_are_never_mixed():
    results = collect([score(60), score(40, split="dev")])
    assert results.headline == (POS,)
    assert results.overall(results.systems[0]).mean == 60
    assert [target_name(results, t) for t in results.targets] == ["pos (test)", "pos (dev)"]


def test_two_ways_of_using_an_intermediate_task_are_told_apart():
    results = collect([score(1), warm(2), warm(3, init="fresh", route="stack", key="s")])
    names = [intermediate_name(results, s) for s in results.systems]
    assert names == ["none", "nli (stack)", "nli (warm)"]


def test_lexical_gap_compares_shared_languages_only():
    scores = [
        score(60),
        score(90, language="sw"),
        score(57, method="vectors"),
        score(99, method="vectors", language="en"),
    ]
    results = collect(scores)
    system, gap = results.lexical_gap(POS)
    assert (system.method, gap) == ("lora", 3)
    assert collect([score(60)]).lexical_gap(POS) is None


def test_colour_starts_at_majority_else_chance_else_zero():
    facts = {"k": EntryFacts(chance=33.0)}
    assert collect([score(60), score(20, method="majority", key="m")], facts=facts).floor_value(POS, "de") == 20
    assert collect([score(60)], facts=facts).floor_value(POS, "de") == 33
    assert collect([score(60)]).floor_value(POS, "de") == 0


def test_a_mixture_goes_by_the_name_that_the_grid_gave_it_and_two_of_the_same_tasks_are_two_rows():
    facts = {
        "p": EntryFacts(mixture="by-size"),
        "u": EntryFacts(mixture="evenly"),
    }
    scores = [score(60), warm(61, intermediate="a+b", key="p"), warm(62, intermediate="a+b", key="u")]
    results = collect(scores, facts=facts)
    assert [intermediate_name(results, s) for s in results.systems] == ["none", "by-size", "evenly"]
    with pytest.raises(DataError, match="both fill the cell"):
        collect(scores)


def test_cost_ignores_entries_that_train_nothing():
    facts = {
        "a": EntryFacts(num_trainable=10, num_bytes=40, seconds=2),
        "b": EntryFacts(num_trainable=12, num_bytes=48, seconds=4),
        "c": EntryFacts(num_trainable=0, num_bytes=0, seconds=0),
    }
    scores = [score(1, key="a"), score(1, key="b", seed=1), score(1, key="c", task="tatoeba")]
    results = collect(scores, facts=facts)
    cost = results.cost(results.systems[0])
    assert (cost.num_trainable, cost.num_bytes, cost.seconds) == (12, 48, 3)


def test_languages_go_by_source_script_family_code():
    codes = ["sw", "zh", "hi", "en", "ru", "de", "xx"]
    others = ["nso", "am", "ha", "sw"]
    assert order_languages(others, others) == ("ha", "sw", "am", "nso")
    assert language_title("ha") == "Hausa · Latin script · Afro-Asiatic" and language_title("nso") == "nso"
    assert order_languages(codes, ["sw", "zh", "hi", "ru", "de", "xx"]) == ("en", "de", "sw", "ru", "hi", "zh", "xx")


def test_averages_of_nothing():
    assert average([], expected=3).mean is None
    assert average_tasks([Average(None, {}, 0, 3)]).mean is None


def test_labels_are_pushed_apart_and_keep_their_order():
    placed = spread_out([50, 10, 11, 12, 13], gap=LINE)
    ranked = [placed[i] for i in (1, 2, 3, 4, 0)]
    assert ranked == sorted(ranked)
    assert all(b - a >= LINE - 1e-9 for a, b in pairwise(ranked))


def test_chart_puts_more_parameters_right_and_better_means_higher():
    facts = {"k": EntryFacts(num_trainable=1_000), "f": EntryFacts(num_trainable=1_000_000)}
    scores = [score(60), score(80, method="full", key="f"), score(10, method="majority", key="m")]
    chart = cost_quality(collect(scores, facts=facts))
    by_method = {point.method: point for point in chart.points}
    assert by_method["full"].x > by_method["lora"].x
    assert by_method["full"].y < by_method["lora"].y
    assert [floor.label for floor in chart.floors] == ["majority 10.0"]
    assert chart.left <= by_method["lora"].x <= by_method["full"].x <= chart.right
    assert cost_quality(collect(scores)) is None


def test_crowded_chart_names_each_methods_best_and_baseline_inside_the_plot():
    scores = [score(99.0 - n / 10, intermediate=f"i{n:02}", init="warm", key="k") for n in range(30)] + [score(60)]
    chart = cost_quality(collect(scores, facts={"k": EntryFacts(num_trainable=1_000)}))
    assert len(chart.points) == 31
    assert sorted(p.label for p in chart.points if p.label_y is not None) == ["i00", "none"]
    few = cost_quality(collect(scores[:11], facts={"k": EntryFacts(num_trainable=1_000)}))
    assert all(few.top <= p.label_y <= few.bottom for p in few.points)


def row(key: str, task: str, value: float, **changes: Any) -> Score:
    fields: dict[str, Any] = {
        "metric": "accuracy", "language": "de", "num_examples": 10, "split": "test", "zero_shot": True,
        "backbone": "b", "method": "lora", "init": "fresh", "route": "slot", "intermediate": "none", "seed": 0,
    }  # fmt: skip
    return Score(key=key, task=task, value=value, **{**fields, **changes})


def test_what_needs_no_training_is_shared_by_the_rows_it_belongs_to() -> None:
    """A bare backbone belongs to every method's row without intermediate; an entry as it is to its warm and stack."""
    scores = [
        row("base", "find", 40.0, method="base", route="base"),
        row("i0", "find", 50.0, intermediate="nli"),
        row("i1", "find", 52.0, intermediate="nli", seed=1),
        row("a0", "tag", 60.0),
        row("a1", "tag", 62.0, seed=1),
        row("w0", "tag", 70.0, init="warm", intermediate="nli"),
        row("w1", "tag", 71.0, init="warm", intermediate="nli", seed=1),
        row("s0", "tag", 72.0, route="stack", intermediate="nli"),
        row("f0", "tag", 80.0, method="full"),
    ]
    results = collect(scores)
    find = next(target for target in results.targets if target.task == "find")
    rows = {(s.method, s.intermediate, s.init, s.route): results.row(find, s) for s in results.systems}
    assert set(rows) == {
        ("full", "none", "fresh", "slot"),
        ("lora", "none", "fresh", "slot"),
        ("lora", "nli", "warm", "slot"),
        ("lora", "nli", "fresh", "stack"),
    }
    values = {name: cells["de"].by_seed for name, cells in rows.items()}
    assert values["full", "none", "fresh", "slot"] == {0: 40.0}
    assert values["lora", "none", "fresh", "slot"] == {0: 40.0, 1: 40.0}
    assert values["lora", "nli", "warm", "slot"] == {0: 50.0, 1: 52.0}
    assert values["lora", "nli", "fresh", "stack"] == {0: 50.0, 1: 52.0}


def test_a_grid_of_retrieval_alone_has_each_methods_row_to_compare_with() -> None:
    scores = [
        row("b", "find", 40.0, method="base", route="base"),
        row("i0", "find", 50.0, intermediate="nli"),
        row("i1", "find", 52.0, intermediate="nli", seed=1),
        row("f0", "find", 30.0, intermediate="nli", method="full"),
        row("o", "find", 90.0, intermediate="nli", backbone="other"),  # nothing to compare with
    ]
    results = collect(scores)
    (find,) = results.targets
    rows = {(s.backbone, s.method, s.intermediate): s for s in results.systems}
    assert set(rows) == {
        *(("b", method, after) for method in ("lora", "full") for after in ("none", "nli")),
        ("other", "lora", "nli"),
    }
    assert results.row(find, rows["b", "lora", "none"])["de"].by_seed == {0: 40.0, 1: 40.0}
    deltas = {place: results.delta(find, system).mean for place, system in rows.items()}
    assert deltas["b", "lora", "nli"] == 11.0 and deltas["b", "full", "nli"] == -10.0
    assert deltas["other", "lora", "nli"] is None
    assert results.cost(rows["b", "lora", "none"]).seconds is None


def test_a_bare_backbone_without_any_method_keeps_its_row() -> None:
    assert [s.method for s in collect([row("b", "find", 40.0, method="base", route="base")]).systems] == ["base"]


def test_an_encoder_with_random_weights_is_a_floor_of_its_twin():
    twin = RunInfo(title="t", random={"nano-random": "nano"})
    drawn = [msgspec.structs.replace(score(20, key="r"), backbone="nano-random", method="full")]
    drawn += [msgspec.structs.replace(score(3, task="tatoeba", key="b"), backbone="nano-random", method="base")]
    results = collect([score(60), *drawn], info=twin)
    (floor,) = results.floors
    assert (floor.method, floor.backbone, floor.intermediate) == ("random", results.contenders[0].backbone, "none")
    assert [results.zero_shot_mean(target, floor).mean for target in results.headline] == [20, 3]
    assert len(results.contenders) == 1 and method_name(results, floor) == "random"
