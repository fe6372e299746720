"""Comparisons from kept outcomes: what is compared with what, what is marked, what is missing, and who is meant."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from adapters_xling import api, keeping
from adapters_xling.cli import main, xling
from adapters_xling.errors import DataError, MissingData, UnknownName
from adapters_xling.metrics import Outcomes
from adapters_xling.paths import score_file
from adapters_xling.report import (
    EntryFacts,
    Kept,
    RunInfo,
    Target,
    between,
    collect,
    html,
    latex,
    markdown,
    marks_of,
    sections_of,
    text_table,
)
from adapters_xling.report.compare import compare
from adapters_xling.report.compared import comparison_section, comparisons_csv, write_comparisons
from adapters_xling.report.comparisons import Comparison, Comparisons, Interval, corrected
from adapters_xling.report.info import encode_info
from adapters_xling.report.scores import write_scores
from adapters_xling.report.versus import versus
from adapters_xling.spec import ON, Score
from adapters_xling.statistics import Bootstrap

NUM = 200
BOOTSTRAP = {"num_resamples": 400}


class World:
    """A runs folder with entries whose outcomes are drawn: each is right with a probability of its own."""

    def __init__(self, folder: Path) -> None:
        self.runs, self.scores = folder / "runs", list[Score]()
        self.luck = np.random.default_rng(0).random((9, NUM))  # of seed and id, shared by all entries

    def entry(
        self,
        key: str,
        right: float,
        *,
        seed: int = 0,
        languages: str = "en de sw",
        num: int = NUM,
        trained: str = "en",
        precision: str = "fp32",
        others: Sequence[str] = (),
        **labels: Any,
    ) -> None:
        fields = {"method": "lora", "init": "fresh", "route": "slot", "intermediate": "none", **labels}
        for code in languages.split():
            ids = [str(i) for i in range(num)]
            predictions = ["1" if luck < right else "0" for luck in self.luck[seed, :num]]
            golds = ["2" if id_ in others else "1" for id_ in ids]
            outcomes = Outcomes.of(["accuracy"], ids, golds, predictions, language=code, parallel=True)
            score = Score(
                key=key,
                task="mini-nli",
                language=code,
                metric="accuracy",
                value=outcomes.scores()["accuracy"],
                num_examples=num,
                split="test",
                zero_shot=code not in trained.split(),
                seed=seed,
                **{"backbone": "xlmr-nano", **fields},
            )
            keeping.write(
                self.file(key, code, precision), keeping.Kept("made", "by hand", [score], {}, {}), [], outcomes
            )
            self.scores.append(score)

    def file(self, key: str, code: str, precision: str = "fp32") -> Path:
        return score_file(self.runs / "scores" / key / "mini-nli", "test", code, precision=precision)

    def compare(self, facts: dict[str, EntryFacts] | None = None, **options: Any) -> Comparisons:
        hidden = set((options.get("controls") or {}).values())
        results = collect([score for score in self.scores if score.key not in hidden], facts=facts)
        return compare(results, Kept(self.runs), bootstrap=Bootstrap(**BOOTSTRAP), **options)


AFTER = {"intermediate": "mini-pos", "init": "warm"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    for seed in (0, 1):
        world.entry(f"plain-s{seed}", 0.5, seed=seed)
        world.entry(f"better-s{seed}", 0.8, seed=seed, **AFTER)
        world.entry(f"worse-s{seed}", 0.2, seed=seed, **AFTER | {"intermediate": "mini-ner"})
    return world


def by_task(found: Comparisons, against: str = "fresh") -> dict[str, Comparison]:
    return {one.intermediate: one for one in found.comparisons if one.against == against}


def test_a_gain_and_a_loss_are_told_from_noise_on_the_same_seeds_and_rows(world: World) -> None:
    found = by_task(world.compare())
    gain, loss = found["mini-pos"], found["mini-ner"]
    plain, better = ([s for s in world.scores if s.key.startswith(n) and s.zero_shot] for n in ("plain", "better"))
    wanted = np.mean([s.value for s in better]) - np.mean([s.value for s in plain])
    assert gain.mean is not None and gain.mean.value == pytest.approx(wanted)
    assert (gain.verdict, loss.verdict) == ("helps", "harms")
    assert (gain.seeds, gain.num_languages, gain.expected, gain.num_examples, gain.parallel) == (
        (0, 1),
        2,
        2,
        NUM,
        True,
    )
    assert set(gain.languages) == {"en", "de", "sw"}
    assert gain.p_holm is not None and gain.mean.p is not None and gain.p_holm >= gain.mean.p


def test_a_control_is_compared_with_and_stands_in_no_table(world: World) -> None:
    controls = {}
    for seed in (0, 1):
        world.entry(f"longer-s{seed}", 0.9, seed=seed)
        controls[f"better-s{seed}"] = f"longer-s{seed}"
    found = world.compare(controls=controls)
    assert by_task(found)["mini-pos"].verdict == "helps"
    longer = by_task(found, "equal-steps")
    assert set(longer) == {"mini-pos"}  # the other has no control
    assert longer["mini-pos"].verdict == "harms"
    assert longer["mini-pos"].mean is not None and longer["mini-pos"].mean.value == pytest.approx(-10, abs=4)


def test_a_run_that_did_not_converge_is_shown_and_is_no_evidence(world: World) -> None:
    facts = {"plain-s1": EntryFacts(converged=False), "plain-s0": EntryFacts(converged=True)}
    found = by_task(world.compare(facts))
    assert found["mini-pos"].not_converged == ("plain-s1",)
    assert found["mini-pos"].mean is not None
    assert (found["mini-pos"].verdict, found["mini-pos"].p_holm) == ("", None)


def test_a_parent_that_did_not_converge_counts_too(world: World) -> None:
    facts = {"better-s0": EntryFacts(parents=("pos-s0",)), "pos-s0": EntryFacts(converged=False)}
    found = by_task(world.compare(facts))
    assert found["mini-pos"].not_converged == ("pos-s0",)
    assert found["mini-ner"].not_converged == ()


def test_where_outcomes_were_not_kept_it_is_said_and_nothing_is_made_up(world: World) -> None:
    path = world.file("better-s1", "sw")
    body = json.loads(path.read_text(encoding="utf-8"))
    del body["scoring"]  # a file from before there were outcomes
    path.write_text(json.dumps(body), encoding="utf-8")
    found = by_task(world.compare())
    assert found["mini-pos"].mean is None and found["mini-pos"].languages == {}
    assert "has scores but no outcomes per example; run the grid" in found["mini-pos"].missing
    assert found["mini-ner"].verdict == "harms"


def test_only_rows_that_both_were_scored_on_are_compared(world: World) -> None:
    world.entry("short-s0", 0.8, num=150, **AFTER | {"intermediate": "mini-qa"})
    found = by_task(world.compare())["mini-qa"]
    assert (found.num_examples, found.num_left_out, found.seeds) == (150, 100, (0,))


def test_a_language_that_one_side_lacks_leaves_a_hole(world: World) -> None:
    world.entry("partly-s0", 0.8, languages="en de", **AFTER | {"intermediate": "mini-qa"})
    found = by_task(world.compare())["mini-qa"]
    assert (found.num_languages, found.expected, set(found.languages)) == (1, 2, {"en", "de"})


def test_correction_is_over_comparisons_of_one_kind_that_have_a_p() -> None:
    place = dict.fromkeys(
        ("task", "metric", "split", "backbone", "method", "settings", "intermediate", "init", "route"), "x"
    )

    def one(p: float | None, against: str = "fresh", **more: Any) -> Comparison:
        return Comparison(**place, against=against, mean=Interval(value=1.0, p=p), **more)

    given = [one(0.01), one(0.04), one(None), one(0.02, not_converged=("k",)), one(0.03, "equal-steps")]
    assert [found.p_holm for found in corrected(given)] == [0.02, 0.04, None, None, 0.03]


# --- the section ------------------------------------------------------------------------------------------------


def test_every_output_shows_the_section(world: World, tmp_path: Path) -> None:
    results = collect(world.scores)
    write_comparisons(tmp_path, world.compare())
    sections = sections_of(tmp_path, results)
    info = RunInfo(title="t")
    text = markdown(world.scores, info=info, sections=sections)
    assert "## Does the intermediate task help?" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| mini-nli |") and "▼" in line]
    assert "\\*" in line and "\\[+" in line and "\\[−" in line
    assert "Holm's correction for 2 comparisons leaves below 5 %: 1 and 1." in text
    assert "Does the intermediate task help?" in html(world.scores, info=info, sections=sections)
    assert r"$\downarrow$" in latex(world.scores, info=info, sections=sections)


def test_a_folder_without_comparisons_has_no_section_and_a_damaged_file_is_refused(
    world: World, tmp_path: Path
) -> None:
    results = collect(world.scores)
    assert sections_of(tmp_path, results) == ()
    (tmp_path / "comparisons.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"comparisons\.json.*Run the grid again"):
        sections_of(tmp_path, results)


def test_comparisons_survive_their_file_and_missing_ones_are_noted(world: World, tmp_path: Path) -> None:
    world.file("better-s1", "sw").with_suffix(".outcomes.jsonl").unlink()
    found = world.compare()
    write_comparisons(tmp_path, found)
    assert Comparisons.read(tmp_path / "comparisons.json") == found
    section = comparison_section(found, collect(world.scores))
    assert section is not None and section.note.startswith("1 of 2 comparisons are missing: ")
    rows = list(csv.DictReader(io.StringIO(comparisons_csv(found))))
    harmed = [row for row in rows if row["intermediate"] == "mini-ner"]
    assert [row["language"] for row in harmed] == ["zero-shot mean", "en", "de", "sw"]
    assert harmed[0]["verdict"] == "harms" and float(harmed[0]["value"]) < 0
    (lost,) = [row for row in rows if row["intermediate"] == "mini-pos"]
    assert (lost["value"], lost["p_holm"]) == ("", "") and "outcomes" in lost["missing"]


# --- two systems that somebody names ---------------------------------------------------------------------------


def against(world: World, one: str, other: str, **options: Any) -> Any:
    return versus(
        (one, other),
        Target("mini-nli", options.pop("metric", "accuracy"), "test"),
        kept=Kept(world.runs, precision=options.pop("precision", "fp32")),
        languages=options.pop("languages", ("en", "de", "sw")),
        bootstrap=Bootstrap(**BOOTSTRAP),
        **options,
    )


def test_labels_and_keys_name_the_same_systems(world: World) -> None:
    by_label = against(world, "intermediate=mini-pos", "method=lora,intermediate=none")
    by_key = against(world, "better-s0,better-s1", "plain-s0, plain-s1")
    assert by_label.mean == by_key.mean
    assert by_label.languages == by_key.languages
    assert by_label.ours.keys == ("better-s0", "better-s1")
    assert by_label.seeds == (0, 1)
    assert by_label.mean == by_task(world.compare())["mini-pos"].mean  # as in the report
    assert list(by_label.languages) == ["en", "de", "sw"]
    mean, sd = by_label.ours.scores["de"]
    assert sd is not None and mean == pytest.approx(
        np.mean([s.value for s in world.scores if s.key.startswith("better")])
    )


@pytest.mark.parametrize(
    ("one", "other", "error", "text"),
    [
        ("beter-s0", "plain-s0", UnknownName, r"Did you mean 'better-s0'"),
        ("metod=lora", "plain-s0", UnknownName, "Did you mean 'method'"),
        ("intermediate=mini-pso", "plain-s0", UnknownName, "Did you mean 'mini-pos'"),
        ("better", "plain-s0", DataError, "beginning of 2 entries"),
        ("method=lora,seed=0", "plain-s0", DataError, "both of seed 0; they differ in intermediate"),
        ("intermediate=none,init=warm", "plain-s0", DataError, "no entry scored on .* has all of"),
        ("", "plain-s0", DataError, "names no entry"),
    ],
)
def test_names_that_mean_nothing_or_too_much_are_answered(
    world: World, one: str, other: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        against(world, one, other)


def test_an_entry_that_was_scored_otherwise_is_not_called_unknown(world: World) -> None:
    world.entry("rounded-s0", 0.6, precision="bf16")
    for name in ("rounded-s0", "rounded", "plain-s1, rounded-s0"):
        with pytest.raises(UnknownName, match=r"^rounded.*: no such scores .*there are scores for --precision bf16\)"):
            against(world, name, "plain-s0")
    with pytest.raises(UnknownName, match="unknown entry scored on"):
        against(world, "runded-s0", "plain-s0")


def test_the_beginning_of_a_key_means_the_entry_on_its_own_route(world: World) -> None:
    for key in ("lone-s0-abcdef", f"lone-s0-abcdef{ON}0123", f"bare-s0{ON}4567", f"bare-s0{ON}89ab"):
        world.entry(key, 0.6)
    assert against(world, "lone", "plain-s0").ours.keys == ("lone-s0-abcdef",)
    assert against(world, f"lone-s0-abcdef{ON}0", "plain-s0").ours.keys == (f"lone-s0-abcdef{ON}0123",)
    with pytest.raises(DataError, match="beginning of 2 entries"):
        against(world, "bare", "plain-s0")


def test_seeds_without_a_partner_are_left_out_aloud(world: World) -> None:
    world.entry("better-s2", 0.8, seed=2, **AFTER)
    found = against(world, "intermediate=mini-pos", "intermediate=none")
    assert found.seeds == (0, 1)
    assert found.notes == ("seeds 2 of intermediate=mini-pos have no partner and are left out",)


def test_one_entry_of_another_seed_is_compared_with_each(world: World) -> None:
    world.entry("bare", 0.4, seed=7, method="base")
    found = against(world, "intermediate=mini-pos", "bare")
    assert found.seeds == (0, 1)
    assert found.theirs.keys == ("bare", "bare")
    assert "each seed of the other" in found.notes[0]
    world.entry("bare-2", 0.4, seed=8, method="base")
    with pytest.raises(DataError, match=r"has seeds 0, 1, method=base has 7, 8.*share none"):
        against(world, "intermediate=mini-pos", "method=base")


def test_a_language_asked_for_must_be_there_and_a_score_too(world: World) -> None:
    world.entry("partly-s0", 0.8, languages="en de")
    found = against(world, "partly-s0", "plain-s0")
    assert list(found.languages) == ["en", "de"]
    assert found.notes == ("left out, for only one of the two was scored there: sw",)
    with pytest.raises(MissingData, match=r"were not both scored .* in sw"):
        against(world, "partly-s0", "plain-s0", only=True)
    with pytest.raises(UnknownName, match="Did you mean 'accuracy'"):
        against(world, "better-s0", "plain-s0", metric="acuracy")


def test_the_zero_shot_mean_is_over_languages_that_trained_neither_and_has_no_order(world: World) -> None:
    world.entry("adapted-s0", 0.8, trained="en sw")
    one, other = against(world, "adapted-s0", "plain-s0"), against(world, "plain-s0", "adapted-s0")
    assert one.zero_shot == other.zero_shot == ("de",)
    assert one.mean is not None and other.mean is not None
    assert one.mean.value == pytest.approx(-other.mean.value) == one.languages["de"].value
    assert one.notes == other.notes == ("not in the zero-shot mean, for rows of it trained one of the two: sw",)


def test_entries_that_were_scored_on_other_rows_are_not_compared(world: World) -> None:
    world.entry("mended-s0", 0.8, num=150, others=["7", "9"])
    os.utime(world.file("mended-s0", "en"), (1, 1))  # scored before the rest
    for names in (("mended-s0", "plain-s0"), ("plain-s0", "mended-s0")):
        with pytest.raises(DataError, match=r"^mended-s0: scored on other rows .* than plain-s0.* example '7'") as stop:
            against(world, *names)
        assert "`xling evaluate mended-s0 mini-nli --split test`" in str(stop.value)
    world.entry("mended-s1", 0.5, seed=1, others=["7", "9"])
    assert against(world, "mended-s0", "mended-s1").num_left_out == 2 * 50  # their fewer rows are the same
    outcomes = world.file("mended-s0", "en").with_suffix(".outcomes.jsonl")
    head, rest = outcomes.read_text(encoding="utf-8").split("\n", 1)
    old = {name: value for name, value in json.loads(head).items() if name != "golds"}
    outcomes.write_text(json.dumps(old) + "\n" + rest, encoding="utf-8")  # from before golds were kept
    assert list(against(world, "mended-s0", "plain-s0", languages=["en"]).languages) == ["en"]


def test_where_every_language_trained_one_of_the_two_there_is_no_zero_shot_mean(world: World) -> None:
    world.entry("adapted-s0", 0.8, trained="en de sw")
    found = against(world, "adapted-s0", "plain-s0")
    assert (found.mean, found.zero_shot, list(found.languages)) == (None, (), ["de", "en", "sw"])
    args = ["compare", "adapted-s0", "plain-s0", "--task", "mini-nli", "--resamples", "400", "--runs", str(world.runs)]
    lines = CliRunner().invoke(xling, args, catch_exceptions=False).output.splitlines()
    assert [line.split()[0] for line in lines[4:7]] == ["de", "en", "sw"]
    assert lines[-1] == "not in the zero-shot mean, for rows of it trained one of the two: de, sw"


def test_scores_of_another_precision_are_compared_with_their_like_alone(world: World) -> None:
    world.entry("rounded-s0", 0.8, precision="bf16")
    with pytest.raises(UnknownName, match="rounded-s0"):
        against(world, "rounded-s0", "plain-s0")
    world.entry("plain-s0", 0.5, precision="bf16")
    assert list(against(world, "rounded-s0", "plain-s0", precision="bf16").languages) == ["en", "de", "sw"]


def test_the_command_prints_a_table_or_json(world: World) -> None:
    args = ["compare", "intermediate=mini-pos", "intermediate=none", "--task", "mini-nli", "--resamples", "400"]
    found = CliRunner().invoke(xling, [*args, "--runs", str(world.runs)])
    assert found.exit_code == 0, found.output
    lines = found.output.splitlines()
    assert lines[0] == "mini-nli, accuracy, test: A − B in points"
    assert [line.split()[0] for line in lines[4:8]] == ["en", "de", "sw", "zero-shot"]
    assert "200 ids, each drawn for all languages at once; 400 draws" in found.output
    plain = CliRunner().invoke(xling, [*args, "--runs", str(world.runs), "--json"])
    data = json.loads(plain.output)
    assert data["mean"]["low"] > 0 and data["zero_shot"] == ["de", "sw"]


def test_a_misspelt_key_is_one_message_and_exit_2(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["compare", "beter-s0", "plain-s0", "--task", "mini-nli", "--runs", str(world.runs)])
    assert stop.value.code == 2
    assert "Did you mean 'better-s0'" in capsys.readouterr().err


def test_scores_of_first_rows_are_pointed_at(tmp_path: Path) -> None:
    folder = tmp_path / "scores" / "k" / "mini-nli"
    folder.mkdir(parents=True)
    for suffix in ("first20", "first20-bf16", "first20-unscored", "first20-layer3"):
        (folder / f"test-de-{suffix}.json").write_text("{}", encoding="utf-8")
    with pytest.raises(MissingData, match=r"there are scores for --limit 20; --limit 20 --precision bf16\)"):
        api.compare("a", "b", "mini-nli", settings=api.Settings(runs=tmp_path))


def test_comparing_loads_no_torch(world: World) -> None:
    code = (
        "import sys; from pathlib import Path; from adapters_xling import api;"
        f"api.compare('better-s0', 'plain-s0', 'mini-nli', settings=api.Settings(runs=Path({str(world.runs)!r})));"
        "print([m for m in ('torch', 'scipy', 'transformers') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


# --- against full fine-tuning, starting or standing, another backbone -------------------------------------------------


@pytest.fixture
def families(tmp_path: Path) -> World:
    """Full fine-tuning, LoRA and the frozen head, three seeds; LoRA also after a task, starting from it and on it."""
    world = World(tmp_path)
    for seed in (0, 1, 2):
        world.entry(f"full-s{seed}", 0.9, seed=seed, method="full")
        world.entry(f"lora-s{seed}", 0.75, seed=seed)
        world.entry(f"warm-s{seed}", 0.8, seed=seed, **AFTER)
        world.entry(f"stack-s{seed}", 0.5, seed=seed, intermediate="mini-pos", route="stack")
    world.entry("head-s0", 0.5, method="head")
    return world


def three(root: Path, *, full: float, lora: float, head: float) -> World:
    """Full fine-tuning, LoRA and the frozen head, two seeds."""
    world = World(root)
    for seed in (0, 1):
        world.entry(f"full-s{seed}", full, seed=seed, method="full")
        world.entry(f"lora-s{seed}", lora, seed=seed)
        world.entry(f"head-s{seed}", head, seed=seed, method="head")
    return world


def test_an_adapter_s_share_of_the_gain_is_over_the_frozen_head_under_the_same_draws(families: World) -> None:
    found = families.compare()
    shares = {one.over: one for one in found.shares}
    assert set(shares) == {"en", "zero-shot"}
    one = shares["zero-shot"]

    def mean(name: str) -> float:
        return float(np.mean([s.value for s in families.scores if s.key.startswith(name) and s.zero_shot]))

    gain, own = mean("full") - mean("head"), mean("lora") - mean("head")
    assert one.full.value == pytest.approx(gain) and one.ours.value == pytest.approx(own)
    assert one.share is not None and one.share.value == pytest.approx(100 * own / gain)
    assert one.share.low is not None and one.share.high is not None
    assert one.share.low < one.share.value < one.share.high < 100
    assert (one.method, one.seeds, one.num_floor_seeds) == ("lora", (0, 1, 2), 1)
    (section,) = [s for s in sections_of_(families, found) if s.id == "shares"]
    text = " ".join(item.plain for sheet in section.sheets for row in sheet.rows for item in row)
    assert f"{one.share.value:.1f} %" in text and "has fewer seeds" in section.lead


def test_a_language_that_one_of_two_rows_was_trained_on_is_in_no_zero_shot_mean(tmp_path: Path) -> None:
    """The report's own Δ leaves it out; so must the interval and the mark that stand on that Δ."""
    world = World(tmp_path)
    for seed in (0, 1):
        world.entry(f"plain-s{seed}", 0.5, seed=seed)
        world.entry(f"german-s{seed}", 0.9, seed=seed, trained="en de", languages="en de", **AFTER)
        world.entry(f"german-s{seed}", 0.5, seed=seed, trained="en de", languages="sw", **AFTER)
    results = collect(world.scores)
    (after,) = [system for system in results.contenders if system.has_intermediate]
    one = by_task(world.compare())["mini-pos"]
    assert one.mean and one.mean.value == pytest.approx(results.delta(results.headline[0], after).mean or 0.0)
    assert (one.num_languages, one.expected, one.verdict) == (1, 2, "")
    assert set(one.languages) == {"en", "de", "sw"} and one.languages["de"].value > 20
    only = World(tmp_path / "only")
    only.entry("plain-s0", 0.5)
    only.entry("all-s0", 0.9, trained="en de sw", **AFTER)
    (none,) = only.compare().comparisons
    assert none.mean is None and not none.source_only, "not the mean over what one of them was trained on"


def test_no_share_is_printed_of_a_loss_or_of_runs_that_did_not_converge(tmp_path: Path) -> None:
    """Full fine-tuning that stays at chance loses to the frozen head, and nobody keeps 118 % of that."""
    found = three(tmp_path, full=0.2, lora=0.1, head=0.6).compare()
    assert found.shares and all(one.share is None and one.full.value < 0 for one in found.shares)
    good = three(tmp_path / "good", full=0.9, lora=0.8, head=0.5)
    assert all(one.share for one in good.compare({"head-s0": EntryFacts(converged=False)}).shares)
    doubtful = good.compare({"full-s1": EntryFacts(converged=False)})
    assert all(one.share is None and one.not_converged == ("full-s1",) for one in doubtful.shares)
    (section,) = [s for s in sections_of_(good, doubtful) if s.id == "shares"]
    assert any(item.text == "†" for sheet in section.sheets for row in sheet.rows for item in row)


def test_no_share_is_printed_of_a_gain_that_may_be_none(tmp_path: Path) -> None:
    world = three(tmp_path, full=0.51, lora=0.7, head=0.5)
    found = world.compare()
    assert found.shares and all(one.share is None for one in found.shares)
    (section,) = [s for s in sections_of_(world, found) if s.id == "shares"]
    assert all("%" not in item.text for sheet in section.sheets for row in sheet.rows for item in row)
    assert "2 of 2" in "".join(sheet.foot for sheet in section.sheets) or "1 of 1 shares" in section.sheets[0].foot


def sections_of_(world: World, found: Comparisons) -> tuple[Any, ...]:
    write_comparisons(world.runs, found)
    return sections_of(world.runs, collect(world.scores))


def test_standing_is_compared_with_starting_and_adapters_with_full_fine_tuning(families: World) -> None:
    found = families.compare().comparisons
    (stack,) = [one for one in found if one.against == "warm"]
    assert (stack.route, stack.verdict) == ("stack", "harms")
    (full,) = [one for one in found if one.against == "full"]  # after a task there is no full row to compare with
    assert (full.method, full.intermediate, full.verdict) == ("lora", "none", "harms")
    assert {one.against for one in found} == {"fresh", "warm", "full"}
    section = comparison_section(families.compare(), collect(families.scores))
    assert section is not None
    titles = [sheet.title for sheet in section.sheets]
    assert titles[0] == "Against no intermediate task" and "Against full fine-tuning" in titles


def test_every_mark_in_a_report_is_that_of_the_corrected_comparison(families: World) -> None:
    found = families.compare()
    write_comparisons(families.runs, found)
    marks = marks_of(families.runs)
    verdicts = {(one.intermediate, one.route): one.verdict for one in found.comparisons if one.against == "fresh"}
    assert verdicts[("mini-pos", "stack")] == "harms"
    assert {(system.intermediate, system.route): mark for (_, system), mark in marks.items()} == {
        place: {"helps": "*", "harms": "▼"}[verdict] for place, verdict in verdicts.items() if verdict
    }
    info = RunInfo(title="t")
    without = markdown(families.scores, info=info)
    assert "▼" not in without.split("## How to read")[0] and "\\*" not in without.split("## How to read")[0]
    for text in (
        markdown(families.scores, info=info, marks=marks),
        html(families.scores, info=info, marks=marks),
        text_table(families.scores, info=info, marks=marks),
    ):
        assert text.split("How to read")[0].count("▼") >= 1


def other_backbone(world: World) -> World:
    """The same rows on another encoder: worse in other languages, as good in English."""
    other = World(world.runs.parent)
    for seed in (0, 1, 2):
        for name, method, right in (("full", "full", 0.9), ("lora", "lora", 0.75)):
            other.entry(f"eng-{name}-s{seed}", right, seed=seed, method=method, languages="en")
            other.entry(f"eng-{name}-s{seed}", 0.4, seed=seed, method=method, languages="de sw")
    other.scores = [msgspec.structs.replace(score, backbone="minilm-l6") for score in other.scores]
    return other


def test_two_grids_are_compared_row_by_row_on_their_examples(families: World) -> None:
    other = other_backbone(families)
    mine, theirs = collect(families.scores), collect(other.scores)
    kept = Kept(families.runs)
    found = between((mine, kept), (theirs, kept), bootstrap=Bootstrap(**BOOTSTRAP))
    assert {(one.method, one.against, one.verdict) for one in found.comparisons} == {
        ("full", "minilm-l6", "helps"),
        ("lora", "minilm-l6", "helps"),
    }
    english = [one.languages["en"].value for one in found.comparisons]
    assert english == pytest.approx([0.0, 0.0])
    write_comparisons(families.runs, found, against="english-headline")
    (section,) = [s for s in sections_of(families.runs, mine) if s.title == "Against the same on minilm-l6"]
    assert [sheet.title for sheet in section.sheets] == ["Zero-shot", "On the language trained on"]
    assert all(not item.mark for row in section.sheets[1].rows for item in row)  # nobody corrected these
    with pytest.raises(DataError, match="no row and target in common"):
        between((mine, kept), (mine, kept), bootstrap=Bootstrap(**BOOTSTRAP))
    rounded = Kept(families.runs, precision="bf16")
    with pytest.warns(UserWarning, match="scored in fp32, the other in bf16"), pytest.raises(DataError):
        between((mine, kept), (mine, rounded), bootstrap=Bootstrap(**BOOTSTRAP))


def test_a_comparison_of_entries_that_were_trained_again_is_left_out_of_the_report(families: World) -> None:
    other = other_backbone(families)
    kept, mine = Kept(families.runs), collect(families.scores)
    found = between((mine, kept), (collect(other.scores), kept), bootstrap=Bootstrap(**BOOTSTRAP))
    assert {one.keys for one in found.comparisons} == {
        tuple(f"{name}-s{s}" for s in range(3)) for name in ("full", "lora")
    }
    write_comparisons(families.runs, found, against="english-headline")
    again = [
        msgspec.structs.replace(score, key="lora-again") if score.key == "lora-s1" else score
        for score in families.scores
    ]
    (section,) = sections_of(families.runs, collect(again))
    assert section.title == "Against the same on minilm-l6" and not section.sheets
    assert "against-english-headline.json compares other entries" in section.note
    assert "xling report GRID --against english-headline" in section.note
    assert "compares other entries" in markdown(again, info=RunInfo(title="t"), sections=[section])
    (section,) = sections_of(families.runs, mine)
    assert section.sheets and not section.note
    # one from before the entries were kept may be of these
    old = tuple(msgspec.structs.replace(one, keys=None) for one in found.comparisons)
    write_comparisons(families.runs, msgspec.structs.replace(found, comparisons=old), against="english-headline")
    (section,) = sections_of(families.runs, collect(again))
    assert section.sheets and "does not say which entries" in section.note


def test_grids_that_were_scored_on_other_rows_are_not_compared_and_the_report_says_so(families: World) -> None:
    other = other_backbone(families)
    for score in {score.key: score for score in other.scores}.values():
        labels = {"seed": score.seed, "method": score.method, "languages": "sw"}
        other.entry(score.key, 0.4, others=["3"], **labels)
    kept, mine = Kept(families.runs), collect(families.scores)
    theirs = collect([score for score in other.scores if score.backbone == "minilm-l6"])
    found = between((mine, kept), (theirs, kept), bootstrap=Bootstrap(**BOOTSTRAP))
    assert [one.mean for one in found.comparisons] == [None, None]
    write_comparisons(families.runs, found, against="english-headline")
    (section,) = sections_of(families.runs, mine)
    assert section.title == "Against the same on minilm-l6" and not section.sheets
    assert "2 of 2 comparisons are missing" in section.note and "in sw the gold of example '3' differs" in section.note


def finished(folder: Path, scores: list[Score], **info: Any) -> Path:
    write_scores(folder / "scores.jsonl", scores)
    (folder / "info.json").write_bytes(encode_info(RunInfo(title="t", **info), {}))
    return folder


def test_folders_of_two_runs_are_compared_and_not_the_grids_of_their_names(families: World) -> None:
    scored = {"limits": {"mini-nli": None}, "readings": {}}
    mine = finished(families.runs / "mini-narrowed", families.scores, **scored)
    theirs = finished(families.runs / "eng-narrowed", other_backbone(families).scores, **scored)
    asked = ["report", str(mine), "--against", str(theirs), "--format", "markdown", "--runs", "elsewhere"]
    done = CliRunner().invoke(xling, asked, catch_exceptions=False)
    assert "Against the same on minilm-l6" in done.output
    assert (mine / "against-eng-narrowed.json").is_file()
    finished(mine, families.scores)  # from before a report said what was scored of it, and no grid has its name
    refused = CliRunner().invoke(xling, asked)
    assert isinstance(refused.exception, MissingData) and "run the grid again" in str(refused.exception)


def test_english_rows_alone_are_tabled_and_compared_as_such(tmp_path: Path) -> None:
    world = World(tmp_path)
    for seed in (0, 1, 2):
        world.entry(f"full-s{seed}", 0.9, seed=seed, method="full", languages="en")
        world.entry(f"lora-s{seed}", 0.6, seed=seed, languages="en")
    found = world.compare()
    (one,) = found.comparisons
    assert (one.against, one.source_only, one.verdict, one.expected) == ("full", True, "harms", 1)
    text = markdown(world.scores, info=RunInfo(title="t"))
    assert "## Scores on the language trained on" in text and "zero-shot |" not in text
    full = next(line for line in text.splitlines() if line.startswith("| full |"))
    assert "·" not in full.split("|")[3]
    assert "zero-shot" not in text_table(world.scores, info=RunInfo(title="t"))


def test_labels_that_mean_entries_of_several_systems_are_refused(world: World) -> None:
    """Seeds that do not meet hid that one is of another backbone: the two became one system."""
    world.entry("other-s7", 0.9, seed=7, backbone="xlmr-mini")
    with pytest.raises(DataError, match="no seeds of one system: they differ in backbone"):
        against(world, "intermediate=none", "better-s0")
    assert against(world, "intermediate=none,backbone=xlmr-mini", "better-s0").ours.keys == ("other-s7",)


def test_one_trained_entry_against_several_seeds_counts_its_own_noise(world: World) -> None:
    world.entry("one", 0.4, seed=7)
    world.entry("bare", 0.4, seed=8, method="base")
    one, bare = against(world, "one", "intermediate=mini-pos"), against(world, "bare", "intermediate=mini-pos")
    assert one.mean is not None and bare.mean is not None
    assert "noise of training" in one.notes[0] and "noise" not in bare.notes[0]
    turned = against(world, "intermediate=mini-pos", "one").mean
    widths = []
    for found in (one.mean, turned, bare.mean):
        assert found is not None and found.low is not None and found.high is not None
        widths.append(found.high - found.low)
    assert min(widths[:2]) > 1.3 * widths[2]  # √(1 + 1/2) / √(1/2) = 1.7 of the part that seeds have in it
