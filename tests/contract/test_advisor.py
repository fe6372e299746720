"""Advice about where to start: candidates that can serve, scores that mean what they say, advice held to results."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from adapters_xling import advisor, api, report, tasks
from adapters_xling.cli import main
from adapters_xling.errors import ConfigError, DataError, MissingData, XlingError
from adapters_xling.evaluation import open_model
from adapters_xling.model import bare
from adapters_xling.paths import task_configs_dir
from adapters_xling.spec import Score
from adapters_xling.transferability import logme

NLI, CHOICE = "mini-nli-bottleneck", "mini-choice-lora"


@pytest.fixture
def settings(tmp_path: Path) -> api.Settings:
    return api.Settings(runs=tmp_path / "runs", device="cpu")


def test_an_entry_that_learnt_a_like_task_is_advised_and_said_to_be_sure(settings: api.Settings) -> None:
    """Paraphrase and NLI both ask whether two sentences say the same; tagging does not."""
    found = api.advise("mini-paraphrase", max_rows=200, settings=settings)
    by_task = {one.task or advisor.NONE: one for one in found}
    assert set(by_task) == {"mini-nli", "mini-choice", "mini-ner", "mini-pos", advisor.NONE}
    assert found[0].task == "mini-nli"
    assert by_task["mini-nli"].values["logme"] > by_task[advisor.NONE].values["logme"] + 0.1
    assert sum(one.first or 0 for one in found) == pytest.approx(1)
    assert found == sorted(found, key=lambda one: -one.values["logme"])


def test_a_target_is_never_advised_to_start_from_its_own_task(settings: api.Settings) -> None:
    zoo = api.open_zoo(settings)
    names = {e.card.run.task for e in advisor.candidates(zoo, tasks.get("mini-nli"), backbone="xlmr-nano")}
    assert names == {"mini-choice", "mini-ner", "mini-pos"}
    only = advisor.candidates(zoo, tasks.get("mini-nli"), backbone="xlmr-nano", method="lora")
    assert {e.card.run.task for e in only} == {"mini-choice", "mini-ner"}
    assert advisor.candidates(zoo, tasks.get("mini-nli"), backbone="xlm-roberta-base") == []


@pytest.mark.parametrize(
    ("name", "classes"),
    [("mini-nli", {0, 1, 2}), ("mini-choice", {0, 1}), ("mini-qa", {0, 1, 2}), ("mini-ner", set(range(7)))],
)
def test_features_carry_the_gold_of_every_form_of_task(name: str, classes: set[int]) -> None:
    task = tasks.get(name)
    rows = tasks.load(task, "train", "en", limit=60).examples
    model = bare("xlmr-nano")
    features = advisor._features(model, task, rows)
    assert len(features) == 60
    vectors, labels = advisor._stacked(features, range(60))
    assert vectors.shape == (len(labels), model.hidden_size) and np.isfinite(vectors).all()
    assert set(labels.tolist()) <= classes and len(set(labels.tolist())) > 1
    if name == "mini-choice":
        assert all(one.sum() == 1 for _, one in features)
        assert all(len(one) == len(row.choices) for (_, one), row in zip(features, rows, strict=True))
    if name == "mini-qa":
        assert all(1 <= (one > 0).sum() <= 2 for _, one in features)


def test_features_do_not_depend_on_the_company_of_a_row() -> None:
    task = tasks.get("mini-nli")
    rows = tasks.load(task, "train", "en", limit=30).examples
    model = bare("xlmr-nano")
    alone = [advisor._features(model, task, [row])[0] for row in rows[:5]]
    together = advisor._features(model, task, rows)
    for (one, label), (other, same) in zip(alone, together, strict=False):
        np.testing.assert_allclose(one, other, atol=1e-4)
        assert label.tolist() == same.tolist()


def test_the_score_is_logme_of_the_entrys_own_features(settings: api.Settings) -> None:
    zoo = api.open_zoo(settings)
    key = zoo.resolve(NLI)
    (found,) = [one for one in api.advise("mini-paraphrase", among=[NLI], max_rows=50, settings=settings) if one.task]
    task = tasks.get("mini-paraphrase")
    rows = tasks.load(task, "train", "en", limit=50).examples
    features = advisor._features(open_model(key, zoo.get(key).card, zoo=zoo, device="cpu", backbone=None), task, rows)
    assert found.values["logme"] == pytest.approx(logme(*advisor._stacked(features, range(50))))


def test_probing_trains_a_few_steps_and_leaves_nothing_in_the_zoo(settings: api.Settings) -> None:
    zoo = api.open_zoo(settings)
    before = zoo.keys()
    found = api.advise("mini-paraphrase", method="lora", among=[CHOICE], probe_steps=3, max_rows=60, settings=settings)
    assert zoo.keys() == before
    assert {one.candidate for one in found} == {advisor.NONE, zoo.resolve(CHOICE)}
    assert all(0 <= one.values["probe"] <= 100 for one in found)
    assert found[0].values["probe"] >= found[1].values["probe"]
    assert sum(one.first or 0 for one in found) == pytest.approx(1)


def test_what_was_measured_stands_beside_it(settings: api.Settings) -> None:
    child = api.train(
        "mini-paraphrase",
        method="lora",
        method_settings={"targets": "all-linear"},
        warm=CHOICE,
        overrides={"max_steps": 2, "eval_every_steps": 2, "dev_examples": 20},
        settings=settings,
        show_progress=False,
    )
    scores = api.evaluate(child.key, "mini-paraphrase", languages=["de", "sw"], settings=settings)
    found = api.advise("mini-paraphrase", among=[CHOICE], max_rows=50, settings=settings)
    one = next(one for one in found if one.task == "mini-choice")
    mean = np.mean([score.value for score in scores if score.metric == "accuracy"])
    assert one.num_measured == 1 and one.values["measured"] == pytest.approx(mean)
    api.evaluate(child.key, "mini-paraphrase", languages=["de"], split="dev", settings=settings)  # no part of it
    found = api.advise("mini-paraphrase", among=[CHOICE], max_rows=50, settings=settings)
    one = next(one for one in found if one.task == "mini-choice")
    assert one.values["measured"] == pytest.approx(mean)


def test_draws_that_hold_one_class_alone_say_nothing_and_stop_nothing() -> None:
    """Forty rows, two of a rare class: one draw in eight lacks it."""
    rng = np.random.default_rng(0)
    rows = [(rng.normal(size=(1, 8)), np.array([int(i < 2)])) for i in range(40)]
    drawn = advisor._resampled(rows)
    assert 0 < np.isnan(drawn).sum() < len(drawn) / 2 and np.isfinite(drawn).any()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"target": "mini-retrieval"}, ConfigError, "trains nothing"),
        ({"target": "mini-nli", "among": [NLI]}, ConfigError, "cannot be advised"),
        ({"target": "mini-nli", "method": "full"}, MissingData, "no entry on xlmr-nano"),
        ({"target": "mini-qa", "probe_steps": 2}, ConfigError, "several|cannot be probed side by side"),
    ],
)
def test_what_cannot_be_advised_is_said(
    settings: api.Settings, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        api.advise(**options, settings=settings)


def test_a_private_task_that_trains_on_another_is_found_by_the_settings_alone(
    settings: api.Settings, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    body = yaml.safe_load((task_configs_dir() / "mini" / "mini-nli.yaml").read_text(encoding="utf-8"))
    for name, more in (("my-source", {}), ("mine", {"train_on": "my-source"})):
        text = yaml.safe_dump({**body, **more, "name": name, "role": "private", "head": "mini-nli"})
        (own / f"{name}.yaml").write_text(text, encoding="utf-8")
    settings = dataclasses.replace(settings, tasks=own)
    found = api.advise("mine", max_rows=50, among=[CHOICE], settings=settings)
    assert "mini-choice" in {one.task for one in found}
    (choice,) = api.choose(NLI, "mine", ["base", "slot"], languages=["en"], limit=40, settings=settings)
    assert choice.language == "en"


def a_grid(folder: Path, cells: dict[tuple[str, str], float]) -> Path:
    scores = [
        Score(
            key=f"{target}-{source}",
            task=target,
            language=code,
            metric="accuracy",
            value=value,
            num_examples=10,
            split="test",
            zero_shot=True,
            backbone="xlmr-nano",
            method="lora",
            init="warm",
            route="slot",
            intermediate=source,
            seed=0,
        )
        for (target, source), value in cells.items()
        for code in ("de", "sw")
    ]
    report.write_scores(folder / "scores.jsonl", scores)
    return folder


def test_advice_is_held_against_what_a_grid_came_to(
    settings: api.Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = {
        ("mini-paraphrase", "mini-choice"): 70.0,
        ("mini-paraphrase", "mini-ner"): 75.0,
        ("mini-paraphrase", "none"): 50.0,
        ("mini-pos", "mini-choice"): 81.0,
        ("mini-pos", "mini-ner"): 82.0,
        ("mini-pos", "none"): 83.0,
    }
    folder = a_grid(tmp_path / "grid", cells)
    found = api.judge_advice(folder, max_rows=100, settings=settings)
    assert set(found) == {"logme", "best elsewhere"}
    for one in found["logme"]:
        target = one.target.task
        advices = api.advise(target, method="lora", max_rows=100, settings=settings)
        assert one.first == (advices[0].task or "none")
        best = max(value for (name, _), value in cells.items() if name == target)
        assert one.at[1] == pytest.approx(best - cells[target, one.first])
        assert one.at[3] == 0 and one.chance[3] == 0
    elsewhere = {str(one.target): one.first for one in found["best elsewhere"]}
    assert elsewhere == {"mini-paraphrase lora": "none", "mini-pos lora": "mini-ner"}
    runs = ["--runs", str(settings.runs_dir), "--rows", "100"]
    main(["zoo", "advise", "--judge", str(folder), *runs])
    text = capsys.readouterr().out
    assert "regret@1" in text and "best elsewhere" in text
    main(["zoo", "advise", "--judge", str(folder), "--json", *runs])
    assert set(json.loads(capsys.readouterr().out)) == {"logme", "best elsewhere"}


def test_a_grid_without_two_candidates_says_what_to_do(settings: api.Settings, tmp_path: Path) -> None:
    folder = a_grid(tmp_path / "grid", {("mini-pos", "none"): 83.0})
    with pytest.raises(DataError, match="at least two"):
        api.judge_advice(folder, max_rows=50, settings=settings)


def test_the_command_prints_the_order_and_how_sure_it_is(
    settings: api.Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["zoo", "advise", "--target", "mini-paraphrase", "--rows", "100", "--runs", str(settings.runs_dir)])
    text = capsys.readouterr().out
    assert "mini-nli" in text.splitlines()[1]
    assert "first by logme" in text or "cannot be told apart" in text
    with pytest.raises(SystemExit):
        main(["zoo", "advise", "--runs", str(settings.runs_dir)])
    assert "give --target TASK" in capsys.readouterr().err


def test_a_real_grids_floors_twins_and_stacks_take_no_part(
    settings: api.Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XLING_DATA", raising=False)
    sources = ("mini-choice", "mini-ner", "none")
    folder = a_grid(tmp_path / "grid", {("mini-pos", one): 80.0 + i for i, one in enumerate(sources)})
    rows = report.read_scores(folder / "scores.jsonl")
    like = {one.language: one for one in rows if one.intermediate == "none"}
    for code, score in like.items():
        strange = {
            "twin": {"backbone": "xlmr-nano-random", "value": 1.0},
            "floor": {"method": "head", "value": 20.0},
            "stack": {"route": "stack", "intermediate": "mini-ner", "value": 99.0},
            "merge": {"init": "average", "intermediate": "mini-ner+mini-choice", "value": 98.0},
        }
        rows += [
            Score(**{**{n: getattr(score, n) for n in score.__struct_fields__}, **one}) for one in strange.values()
        ]
        for source in ("none", "kit-squad1"):  # rows that are not at hand
            rows.append(
                Score(
                    **{
                        **{n: getattr(score, n) for n in score.__struct_fields__},
                        "task": "kit-udpos",
                        "intermediate": source,
                    }
                )
            )
        assert code in ("de", "sw")
    report.write_scores(folder / "scores.jsonl", rows)
    page = tmp_path / "page.md"
    runs = ["--runs", str(settings.runs_dir), "--rows", "40"]
    main(["zoo", "advise", "--judge", str(folder), "--output", str(page), *runs])
    said = capsys.readouterr()
    assert "kit-udpos lora is not judged: task 'kit-udpos'" in said.err
    assert "mini-pos lora" in said.out and "head" not in said.out and "mean over 1 targets of 1 tasks" in said.out
    text = page.read_text(encoding="utf-8")
    assert "- kit-udpos lora:" in text and "| mini-pos lora | 3 |" in text
    assert "| 82.0" not in text  # numbers of scores are no regrets
    with pytest.raises(SystemExit):
        main(["zoo", "advise", "--target", "mini-pos", "--output", str(page), *runs])
    assert "is of --judge" in capsys.readouterr().err


def test_a_grid_is_judged_by_its_name_with_the_rows_it_trained_on(settings: api.Settings, tmp_path: Path) -> None:
    from adapters_xling.api.advice import _judged

    folder = settings.runs_dir / "mini-encoder-narrowed-first40"
    folder.mkdir(parents=True)
    assert _judged("mini-encoder", settings) == (
        settings.runs_dir / "mini-encoder" / "scores.jsonl",
        {"xnli": "kit-mnli"},
    )
    assert _judged(folder, settings) == (folder / "scores.jsonl", {"xnli": "kit-mnli"})
    assert _judged(tmp_path, settings) == (tmp_path / "scores.jsonl", {})
    with pytest.raises(XlingError, match="Did you mean 'mini-encoder'"):
        _judged("mini-encodre", settings)
    with pytest.raises(MissingData, match="cannot be read"):
        api.judge_advice("mini-encoder", settings=settings)
