"""The shipped grids that are the paper: what they expand to, with nothing at hand and with some of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters_xling import api, paths, tasks
from adapters_xling.cli import main
from adapters_xling.errors import ConfigError, MissingData, UnknownName
from adapters_xling.grid import Plan
from adapters_xling.grid.mixing import in_pieces
from adapters_xling.spec import RunSpec, Stack, Warm

NINE = ["anli-plus", "mnli", "qqp", "squad2", "squad1", "hellaswag", "ccg", "cosmosqa", "commonsenseqa"]
SOURCES = 6  # nine targets: two retrieval sets train nothing, XQuAD and MLQA learn from one run on SQuAD 1.1
TRAINED, READ = 7, 2  # targets with a head, and targets that read the encoder

COUNTS = {
    # runs: intermediate entries, target runs without one, target runs on each, and the head floor
    # cells: without an intermediate 7 a method and the bare backbone's 2, on each 7 a way and 2, and the floor's 7
    "paper-dev": (9 + SOURCES * 10 + SOURCES, TRAINED + 9 * (TRAINED + READ) + READ + TRAINED),
    "paper-adapters": (
        2 * (9 + SOURCES + 9 * SOURCES * 2) + SOURCES,
        2 * (TRAINED + 9 * (2 * TRAINED + READ)) + READ + TRAINED,
    ),
    "multitask": (3 * (3 + SOURCES * 4) + SOURCES, 3 * (TRAINED + 3 * (TRAINED + READ)) + READ + TRAINED),
    "mlm": (3 * (9 + SOURCES * 10) + SOURCES, 3 * (TRAINED + 9 * (TRAINED + READ)) + READ + TRAINED),
    "translated": (3 * (12 + SOURCES * 13) + SOURCES, 3 * (TRAINED + 12 * (TRAINED + READ)) + READ + TRAINED),
    "retrieval-layers": (3 * 9, 3 * 9 * READ + READ),
}


@pytest.fixture(autouse=True)
def nothing_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLING_DATA", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def only(plan: Plan, method: str, task: str, *, fresh: bool = True) -> list[RunSpec]:
    return [
        run
        for run in plan.runs.values()
        if (run.method.name, run.task) == (method, task) and (not isinstance(run.init, Warm)) is fresh
    ]


@pytest.mark.parametrize("name", COUNTS)
def test_a_paper_grid_is_planned_with_nothing_at_hand(name: str) -> None:
    planned = api.plan(name)
    runs, cells = COUNTS[name]
    assert (len(planned.runs), len(planned.cells)) == (runs, cells)
    assert not planned.locked
    assert set(planned.state(api.open_zoo()).values()) == {"lacking"}
    everything = {task.name for run in planned.runs.values() for task in run.tasks}
    assert set(planned.lacking) == everything
    assert planned.at_hand().runs == {}
    with pytest.raises(MissingData, match="--without-lacking"):
        api.run(planned)


def test_the_two_phases_have_settings_of_their_own() -> None:
    planned = api.plan("paper-dev")
    second, third = sorted(only(planned, "full", "mnli"), key=lambda run: run.recipe.batch_size)
    assert (second.recipe.batch_size, second.recipe.epochs) == (24, 2)
    assert (third.recipe.batch_size, third.recipe.epochs, third.recipe.learning_rate) == (32, 2, 1e-5)
    second, third = sorted(only(planned, "full", "squad1"), key=lambda run: run.recipe.batch_size)
    assert (second.recipe.batch_size, second.recipe.epochs, second.recipe.max_length) == (8, 3, 384)
    assert (third.recipe.batch_size, third.recipe.epochs, third.recipe.max_length) == (16, 2, 384)
    epochs = {
        name: (run.recipe.batch_size, run.recipe.epochs) for name in NINE for run in only(planned, "full", name)[:1]
    }
    assert epochs["hellaswag"] == (24, 7) and epochs["ccg"] == (24, 15) and epochs["qqp"] == (24, 3)
    assert epochs["cosmosqa"] == (4, 15) and epochs["commonsenseqa"] == (4, 10) and epochs["anli-plus"] == (24, 2)
    [pawsx], [udpos] = only(planned, "full", "pawsx"), only(planned, "full", "udpos")
    assert (pawsx.recipe.epochs, udpos.recipe.epochs, udpos.recipe.patience) == (5, 10, 30)
    assert {run.recipe.dev_examples for run in planned.runs.values()} == {500}


def test_adapters_start_from_and_stand_on_every_intermediate_entry() -> None:
    planned = api.plan("paper-adapters")
    for method in ("bottleneck", "lora"):
        runs = [run for run in planned.runs.values() if run.method.name == method and run.task == "panx"]
        assert sum(isinstance(run.init, Warm) for run in runs) == 9
        assert sum(isinstance(run.route, Stack) for run in runs) == 9
        assert len(runs) == 19
        assert {run.recipe.learning_rate for run in runs} == {1e-4}
    xquad, mlqa = ({cell.name for cell in planned.cells if cell.target.task == name} for name in ("xquad", "mlqa"))
    assert xquad == mlqa


def test_mixtures_share_steps_as_the_paper_has_it() -> None:
    mixed = [run for run in api.plan("multitask").runs.values() if run.mixture]
    assert {len(run.tasks) for run in mixed} == {8, 9}
    assert {run.mixture.sampling.cap for run in mixed if run.mixture} == {2**17}  # type: ignore[union-attr]
    beside = [run for run in api.plan("mlm").runs.values() if run.mixture]
    assert len(beside) == 3 * 9
    for run in beside:
        assert run.mixture is not None
        assert run.mixture.rates == {"wiki-mlm": 0.5}
        assert run.mixture.parts["wiki-mlm"].batch_size == 8
    assert {run.recipe.learning_rate for run in beside if run.method.name == "full"} == {5e-6}


def test_translated_data_is_one_task_per_language_with_the_original_s_settings() -> None:
    planned = api.plan("translated", narrow={"methods": ["full"]})
    [german], both = only(planned, "full", "mnli-translated.de"), only(planned, "full", "mnli")
    assert german.recipe == min(both, key=lambda run: run.recipe.batch_size).recipe
    reason = planned.lacking["hellaswag-translated.ru"]
    assert "intermediate/translated/hellaswag/train.ru.jsonl" in reason and '"endings"' in reason
    both = tasks.get("qqp-translated")
    assert (tasks.get("qqp-translated.sw").train_languages, both.train_languages) == (("sw",), ("de", "ru", "sw"))
    assert tasks.get("qqp-translated.sw").head_name == both.head_name
    with pytest.raises(UnknownName, match=r"'fr'.*de, ru, sw"):
        tasks.get("qqp-translated.fr")
    with pytest.raises(UnknownName, match="unknown task"):
        tasks.get("nothing.de")


def translated(folder: Path, languages: tuple[str, ...] = ("de",)) -> Path:
    place = folder / "intermediate/translated/mnli"
    place.mkdir(parents=True)
    for code in languages:
        for split, number in (("train", 6), ("dev", 3)):
            rows = [
                {
                    "sentence1": f"Satz {i}",
                    "sentence2": f"Folge {i}",
                    "gold_label": ("entailment", "neutral", "contradiction")[i % 3],
                    "pairID": f"{i}e",
                }
                for i in range(number)
            ]
            (place / f"{split}.{code}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


def test_a_user_s_translations_are_read_where_they_are_told_to_be(tmp_path: Path) -> None:
    data = translated(tmp_path)
    planned = api.plan("translated", narrow={"methods": ["lora"]}, settings=api.Settings(data=data))
    assert "mnli-translated.de" not in planned.lacking and "mnli-translated.ru" in planned.lacking
    states = planned.state(api.open_zoo())
    [key] = [name for name, run in planned.runs.items() if run.task == "mnli-translated.de"]
    assert states[key] == "missing"  # its children lack their own rows
    rest = planned.at_hand()
    assert list(rest.runs) == [key]
    assert {cell.target.task for cell in rest.cells} == {"bucc2018", "tatoeba"}
    assert rest.left_out == tuple(planned.lacking)
    rows, _ = tasks.load_all(tasks.get("mnli-translated.de"), "train", ["de"], data_dir=data)
    assert len(rows) == 6


def test_rows_change_a_run_s_key_and_a_planned_one_is_never_taken_for_it(tmp_path: Path) -> None:
    narrow = {"methods": ["lora"], "intermediate": ["mnli-translated.de"], "targets": ["tatoeba"]}
    before = api.plan("translated", narrow=narrow)
    after = api.plan("translated", narrow=narrow, settings=api.Settings(data=translated(tmp_path)))
    assert (before.lacking != {}, after.lacking) == (True, {})
    assert set(before.runs).isdisjoint(after.runs)


def test_larger_batches_are_cut_into_pieces_of_the_same_effective_size(tmp_path: Path) -> None:
    text = (paths.task_configs_dir() / "grids/paper-dev.yaml").read_text(encoding="utf-8")
    own = tmp_path / "mine.yaml"
    own.write_text(text + "rows_at_once: {mnli: 8, hellaswag: 5}\n", encoding="utf-8")
    planned, plain = api.plan(str(own)), api.plan("paper-dev")
    for run in planned.runs.values():
        same = [other for other in plain.runs.values() if (other.task, other.method) == (run.task, run.method)]
        assert run.recipe.batch_size * run.recipe.accumulate in {other.recipe.batch_size for other in same}
    sizes = {run.recipe.batch_size for run in planned.runs.values() if run.task == "mnli"}
    assert sizes == {8}
    assert {run.recipe.batch_size for run in planned.runs.values() if run.task == "hellaswag"} == {4}
    assert in_pieces(next(iter(plain.runs.values())).recipe, 10**6) == next(iter(plain.runs.values())).recipe
    own.write_text(text + "rows_at_once: {mnli: 0}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="rows_at_once"):
        api.plan(str(own))


def test_the_plan_says_what_is_missing_and_how_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    main(["plan", "paper-dev", "--gpu-memory", "16GB"])
    out = capsys.readouterr().out
    assert "75 lack rows" in out
    assert "xlm-roberta-large is not here. `xling run` downloads it" in out
    assert "LDC2005T13" in out and "--without-lacking" in out and "xling data lock" in out
    assert "hellaswag: 3" in out and "of 14.9 GiB" in out
    main(["run", "paper-dev", "--dry-run"])
    assert "75 lack rows" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["plan", "paper-dev", "--gpu-memory", "lots"])
    assert stop.value.code == 2
    assert "24GiB" in capsys.readouterr().err


def test_a_grid_that_lacks_rows_is_not_begun(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["run", "real-kit", "--methods", "lora"])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert "XLING_DATA" in err and "Nothing was trained" in err and "--without-lacking" in err
