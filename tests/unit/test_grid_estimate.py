"""What a plan will take is said before it runs: from the encoder's size, and better from whatever was timed here."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from zoo_samples import an_entry

from adapters_xling import api, evaluation, grid, inference, keeping, methods, tasks
from adapters_xling.backbones import FAMILIES, Shape
from adapters_xling.cli import grid as cli
from adapters_xling.cli import main
from adapters_xling.cli import plan as planning
from adapters_xling.errors import XlingError
from adapters_xling.grid import cost, timings
from adapters_xling.grid.cost import Load, Machine, Ratios, similar_scoring, similar_training, training_load
from adapters_xling.grid.estimate import START_S, Estimate, Job, schedule
from adapters_xling.grid.plan import Plan
from adapters_xling.made_with import RETRIEVAL, made_with, max_length_of
from adapters_xling.prefix_cache import PrefixCache
from adapters_xling.spec import Score, digest
from adapters_xling.tasks import kinds
from adapters_xling.zoo import Zoo

FAMILY = FAMILIES["xlm-roberta"]
NANO = Shape(layers=4, hidden=128, ffn=512, vocabulary=16044, positions=258)
LARGE = Shape(layers=24, hidden=1024, ffn=4096, vocabulary=250002, positions=514)
MACHINE = Machine(90e9)
NARROW = {"methods": ["lora"], "intermediate": ["none"], "targets": ["mini-ner"]}


# --- schedule ---------------------------------------------------------------------------------------------------

GRAPHS = st.lists(st.tuples(st.integers(0, 50), st.lists(st.integers(0, 30), max_size=2)), max_size=14)


@given(GRAPHS, st.integers(1, 4))
def test_a_schedule_lies_between_what_no_order_beats_and_what_list_scheduling_never_exceeds(
    rows: list[tuple[int, list[int]]], workers: int
) -> None:
    seconds = {str(i): float(length) for i, (length, _) in enumerate(rows)}
    parents = {str(i): [str(p) for p in above if p < i] for i, (_, above) in enumerate(rows)}
    ends: dict[str, float] = {}
    for name in seconds:
        ends[name] = seconds[name] + max((ends[p] for p in parents[name]), default=0.0)
    chain, work = max(ends.values(), default=0.0), sum(seconds.values())
    found = schedule(seconds, parents, workers)
    assert max(chain, work / workers) - 1e-6 <= found
    assert found <= work / workers + (1 - 1 / workers) * chain + 1e-6  # Graham 1969
    assert workers > 1 or found == pytest.approx(work)


def test_jobs_that_others_wait_for_go_first_as_the_executor_has_it() -> None:
    seconds = {"alone": 4.0, "parent": 4.0, "child": 4.0}
    assert schedule(seconds, {"child": ["parent"]}, 1) == 12
    assert schedule({**seconds, "other": 4.0}, {"child": ["parent"]}, 2) == 8
    assert schedule({"child": 2.0}, {"child": ["there already"]}, 3) == 2


# --- model ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "passes"),
    [
        ("full", {}, 3),  # forward, gradients of activations, gradients of weights
        ("lora", {"r": 1}, 2),
        ("bottleneck", {"reduction_factor": 1000}, 2),
        ("bottleneck", {"reduction_factor": 1000, "leave_out": tuple(range(12))}, 1.5),  # no gradient below layer 13
        ("head", {}, 1),
        ("head", {"layer": 12}, 0.5),
        ("head", {"layer": 0}, 0),
    ],
)
def test_a_method_costs_the_passes_it_makes(name: str, settings: dict[str, Any], passes: float) -> None:
    method = methods.resolve(name, settings)
    seconds = MACHINE.seconds(Load(trained=1e6), LARGE, FAMILY, method)
    products = LARGE.layers * 2 * LARGE.layer_parameters / (MACHINE.flops * cost.EFFICIENCY)
    forward = cost.PADDING * 1e6 * (products + LARGE.layers * LARGE.hidden * cost.ELEMENT_S)
    assert seconds == pytest.approx(passes * forward, rel=0.02)
    scored = MACHINE.seconds(Load(forward=1e6), LARGE, FAMILY, method)
    assert scored == pytest.approx(min(passes, 0.5 if settings.get("layer") else 1) * forward / cost.PADDING, rel=0.02)


def test_the_model_adds_up_and_scales() -> None:
    one = Load(rows=10, forward=2e5, trained=1e5, steps=5, batches=3, width=20, opened=1)
    two = Load(**{name: getattr(one, name) * (1 if name == "width" else 2) for name in vars(one) if name != "read"})
    full = methods.resolve("full")
    first = MACHINE.seconds(one, NANO, FAMILY, full)
    assert MACHINE.seconds(two, NANO, FAMILY, full) == pytest.approx(2 * first)
    assert MACHINE.seconds(Load(), NANO, FAMILY, full) == 0
    retrieval = Load(forward=1e6, read=2)
    assert MACHINE.seconds(retrieval, NANO, FAMILY, None) == pytest.approx(
        MACHINE.seconds(Load(forward=1e6), NANO, FAMILY, None) / 2
    )


RECORDED = [
    # grid `mini`, idle machine, 90 GFLOP/s a core (AMD EPYC), one thread: method, steps, batch, tokens, dev, seconds
    ("full", {"train_embeddings": False}, 300, 16, 479_499, (3, 200), 57.4),
    ("full", {"train_embeddings": False}, 200, 32, 66_984, (4, 300), 12.4),
    ("full", {"train_embeddings": False}, 300, 32, 221_284, (6, 300), 26.5),
    ("bottleneck", {"reduction_factor": 2}, 300, 16, 479_499, (3, 200), 42.4),
    ("bottleneck", {"reduction_factor": 2}, 300, 32, 221_284, (6, 300), 21.8),
    ("lora", {"targets": "all-linear"}, 300, 16, 479_499, (3, 200), 60.7),
    ("lora", {"targets": "all-linear"}, 200, 32, 66_984, (4, 300), 13.0),
    ("head", {}, 300, 16, 479_499, (3, 200), 20.0),
    ("head", {}, 200, 32, 66_984, (4, 300), 5.2),
    ("head", {"layer": 0}, 300, 32, 221_284, (6, 300), 1.7),
]


def test_with_nothing_timed_the_model_is_within_a_factor_of_two_of_runs_that_were_measured() -> None:
    recipe = grid.expand(grid.load_grid("quickstart", narrow=NARROW)).runs
    plain = next(iter(recipe.values())).recipe
    modelled = []
    for name, settings, steps, batch, tokens, (times, dev), _ in RECORDED:
        own = msgspec.structs.replace(plain, batch_size=batch, eval_every_steps=-(-steps // times))
        mean = tokens / (steps * batch)
        load = training_load(
            own, steps=steps, evaluations=times, rows=4000, features=4000, dev=dev, tokens=mean, width=mean
        )
        modelled.append(MACHINE.seconds(load, NANO, FAMILY, methods.resolve(name, settings)))
    measured = [row[-1] for row in RECORDED]
    assert all(0.5 < a / b < 2 for a, b in zip(modelled, measured, strict=True)), modelled
    assert 1 / 1.25 < sum(modelled) / sum(measured) < 1.25


def test_a_machine_with_twice_the_products_is_not_twice_as_fast_on_a_narrow_encoder() -> None:
    """Quickstart: 408 s where the probe gave 90 GFLOP/s, 354 s where it gave 202."""
    full = methods.resolve("full")
    load = Load(forward=5e6, trained=2e6, steps=300, batches=600, width=30, rows=20_000)
    slow, fast = (Machine(flops).seconds(load, NANO, FAMILY, full) for flops in (90e9, 202e9))
    assert 1.1 < slow / fast < 1.6  # 1.15 measured
    wide = Load(forward=5e6, trained=2e6)
    slow, fast = (Machine(flops).seconds(wide, LARGE, FAMILY, full) for flops in (90e9, 202e9))
    assert slow / fast > 2


def test_the_most_similar_measurement_counts_and_of_several_the_median() -> None:
    ratios = Ratios()
    wanted = similar_training("nano", "lora", "ner", "tag")
    assert ratios.find(wanted) == (1.0, None)
    ratios.note(similar_scoring("nano", "full", "qa", "span", "de"), 9.0, 1.0)
    assert ratios.find(wanted) == (9.0, 4)  # scoring on that backbone
    ratios.note(similar_training("nano", "full", "qa", "span"), 7.0, 1.0)
    assert ratios.find(wanted) == (7.0, 3)  # training on that backbone
    ratios.note(similar_training("nano", "full", "pos", "tag"), 5.0, 1.0)
    assert ratios.find(wanted) == (5.0, 2)
    ratios.note(similar_training("nano", "lora", "pos", "tag"), 3.0, 1.0)
    assert ratios.find(wanted) == (3.0, 1)
    for seconds in (1.0, 2.0, 50.0):
        ratios.note(wanted, seconds, 1.0)
    assert ratios.find(wanted) == (2.0, 0)
    assert ratios.find(similar_training("large", "lora", "ner", "tag")) == (1.0, None)


def test_figures_that_cannot_be_imported_without_torch_are_the_same_there() -> None:
    assert cost.TOKENS_PER_BATCH == inference.TOKENS_PER_BATCH
    assert cost.CPU_TOKENS_PER_BATCH == inference.CPU_TOKENS_PER_BATCH
    assert cost.RETRIEVAL_LENGTH == evaluation.DEFAULT_MAX_LENGTH
    assert grid.Common(zoo_root=Path(), runs_dir=Path()).threads == timings.THREADS
    assert [name for name in kinds.names() if kinds.get(name).vectors] == [RETRIEVAL]
    assert [name for name in kinds.names() if not kinds.get(name).trains] == [RETRIEVAL]


# --- plans ------------------------------------------------------------------------------------------------------


@pytest.fixture
def planned() -> Plan:
    return api.plan("quickstart", narrow=NARROW)


@pytest.fixture
def estimated(planned: Plan, tmp_path: Path) -> Callable[..., Estimate]:
    def run(**changes: Any) -> Estimate:
        given = {"zoo": Zoo(tmp_path / "zoo"), "runs_dir": tmp_path, "workers": 1, "machine": MACHINE, **changes}
        return grid.estimate(given.pop("plan", planned), **given)

    return run


def timed_entry(planned: Plan, folder: Path, *, seconds: float = 50.0, seed: int = 5, **changes: Any) -> str:
    """Keep an entry like the plan's LoRA run, of another seed; returns its key."""
    assert torch.get_num_threads() == timings.THREADS  # it goes into the card
    run = next(run for run in planned.runs.values() if run.method.name == "lora")
    facts = {
        "steps": 200,
        "planned_steps": 200,
        "best_step": 200,
        "epochs": 1.6,
        "seconds": seconds,
        "tokens": 66_984,
        "examples": 4000,
        "metric": "f1",
        "dev_score": 99.0,
        "chance": 0.0,
        "converged": True,
        "dev_curve": [(step, 99.0) for step in (50, 100, 150, 200)],
        "device": "cpu",
        **changes,
    }
    labels = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-TIM", "I-TIM")
    return an_entry(
        Zoo(folder, fallbacks=()),
        msgspec.structs.replace(run, seed=seed),
        training=facts,
        heads={"mini-ner": {"kind": "tag", "labels": labels, "task": "mini-ner"}},
        data={"mini-ner/train/en": {"kept": 4000}, "mini-ner/dev/en": {"kept": 500, "used": 300}},
    ).key


def timed_scores(
    folder: Path, key: str, seconds: float, *, device: str = "cpu", language: str = "de", reader: str = ""
) -> None:
    score = Score(
        key=key,
        task="mini-ner",
        language=language,
        metric="f1",
        value=50.0,
        num_examples=400,
        split="test",
        zero_shot=True,
        backbone="xlmr-nano",
        method="lora",
        init="fresh",
        route="slot",
        intermediate="none",
        seed=5,
    )
    path = folder / "scores" / key / "mini-ner" / f"test-{language}.json"
    timing = {"seconds": seconds, "device": device, "threads": 1}
    keeping.write(path, keeping.Kept("x", "y", [score], {}, timing, reader), [], None)


def job_of(found: Estimate, method: str) -> Job:
    return next(job for job in found.jobs.values() if job.label[0] == method)


def test_nothing_timed_gives_a_rough_figure_for_training_and_scoring(
    planned: Plan, estimated: Callable[..., Estimate]
) -> None:
    found = estimated()
    assert (found.basis, found.num_timed) == ("modelled", (0, 0))
    assert set(found.jobs) == {*planned.runs, "majority mini-ner"}
    assert all(found.jobs[name].train_s > 0 and found.jobs[name].sets == 8 for name in planned.runs)
    assert found.seconds == pytest.approx(START_S + sum(job.seconds for job in found.jobs.values()))
    assert found.low_s < found.seconds < found.high_s
    assert estimated(workers=3).seconds < found.seconds
    few = estimated(limit=10)
    assert sum(job.score_s for job in few.jobs.values()) < 0.5 * sum(job.score_s for job in found.jobs.values())
    assert [job.train_s for job in few.jobs.values()] == [job.train_s for job in found.jobs.values()]
    slow = estimated(machine=Machine(MACHINE.flops / 10))
    assert job_of(slow, "lora").seconds > 4 * job_of(found, "lora").seconds
    # LoRA of rank 8 on all linear maps, a head and the kept predictions: 0.4 MB measured
    assert 0.3e6 < job_of(found, "lora").disk_bytes < 1.5e6


def test_a_timed_run_of_the_same_kind_is_believed(
    planned: Plan, estimated: Callable[..., Estimate], tmp_path: Path
) -> None:
    rough = estimated()
    key = timed_entry(planned, tmp_path / "zoo")
    timed_scores(tmp_path, key, 3.0)
    found = estimated()
    assert (found.basis, found.num_timed) == ("measured", (1, 1))
    assert job_of(found, "lora").train_s == pytest.approx(50.0)
    assert job_of(found, "lora").score_s == pytest.approx(8 * 3.0, rel=0.1)  # and opening the model
    assert found.high_s / found.seconds < rough.high_s / rough.seconds
    shorter = timed_entry(planned, tmp_path / "zoo", seconds=25.0, steps=100, epochs=0.8, tokens=33_492, seed=6)
    assert shorter != key  # half the steps in half the time is the same speed
    assert job_of(estimated(), "lora").train_s == pytest.approx(50.0, rel=0.1)


@pytest.mark.parametrize("where", ["gpu card", "gpu scores", "another processor", "more threads", "the package"])
def test_times_of_another_machine_are_not_used(
    where: str, planned: Plan, estimated: Callable[..., Estimate], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = tmp_path / ("shipped" if where == "the package" else "zoo")
    if where == "more threads":
        monkeypatch.setattr(timings, "THREADS", 8)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    key = timed_entry(planned, zoo, device="cuda" if where == "gpu card" else "cpu")
    monkeypatch.undo()
    monkeypatch.setattr(timings, "cpu_name", lambda: "Babbage" if where == "another processor" else _cpu())
    if where == "gpu scores":
        shutil.rmtree(zoo)
        timed_scores(tmp_path, "xlmr-nano", 99.0, device="cuda")
    assert key
    found = estimated(zoo=Zoo(tmp_path / "zoo", fallbacks=[tmp_path / "shipped"]))
    assert (found.basis, found.num_timed) == ("modelled", (0, 0))


def _cpu() -> str:
    from adapters_xling.zoo import cpu_name

    return cpu_name()


def test_a_gpu_run_is_not_estimated_from_cpu_times(
    planned: Plan, estimated: Callable[..., Estimate], tmp_path: Path
) -> None:
    timed_scores(tmp_path, timed_entry(planned, tmp_path / "zoo"), 3.0)
    found = estimated(machine=Machine(cost.GPU_FLOPS, "cuda"))
    assert (found.basis, found.num_timed) == ("modelled", (0, 0))
    assert "assumed for cuda" in planning._basis(found)


def test_what_is_there_costs_only_its_reading(
    planned: Plan, estimated: Callable[..., Estimate], tmp_path: Path
) -> None:
    before = job_of(estimated(), "lora")
    name = next(name for name, run in planned.runs.items() if run.method.name == "lora")
    timed_entry(planned, tmp_path / "zoo", seed=0)
    assert name in Zoo(tmp_path / "zoo")
    timed_scores(tmp_path, name, 3.0)
    found = estimated().jobs[name]
    assert (found.train_s, found.sets) == (0, 7)
    for language in ("en", "es", "ru", "hi", "tr", "zh", "sw"):
        timed_scores(tmp_path, name, 3.0, language=language)
    found = estimated().jobs[name]
    assert (found.train_s, found.sets, found.disk_bytes) == (0, 0, 0)
    assert found.seconds < 8 * 3.0 / 2
    assert before.sets == 8
    assert estimated(limit=10).jobs[name].sets == 8  # limited scores are kept apart


def test_scores_that_would_be_made_again_are_counted_as_missing(
    planned: Plan, estimated: Callable[..., Estimate], tmp_path: Path
) -> None:
    name = next(name for name, run in planned.runs.items() if run.method.name == "lora")
    timed_entry(planned, tmp_path / "zoo", seed=0)
    run, task = planned.runs[name], tasks.get("mini-ner")
    how = made_with(task, backbone="xlmr-nano", max_length=max_length_of(run, task))
    for language in task.languages:
        timed_scores(tmp_path, name, 3.0, language=language, reader=digest(how))
    assert estimated().jobs[name].sets == 0
    for language in ("de", "sw"):
        timed_scores(tmp_path, name, 3.0, language=language, reader=digest([*how, "as another version read it"]))
    assert estimated().jobs[name].sets == 2
    in_bf16 = replace(planned, grid=msgspec.structs.replace(planned.grid, scoring_precision="bf16"))
    assert estimated(plan=in_bf16).jobs[name].sets == 8
    assert estimated(prefix_cache=PrefixCache.parse("64MiB,bf16")).jobs[name].sets == 8


def test_epochs_and_early_stopping_are_said(tmp_path: Path) -> None:
    text = (
        Path("task_configs") if Path("task_configs").is_dir() else Path(grid.grid_path("mini")).parents[1]
    ) / "grids"
    own = (text / "quickstart.yaml").read_text(encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(own + "overrides: {max_steps: 0, epochs: 2, patience: 3, dev_examples: 0}\n", encoding="utf-8")
    planned = api.plan(str(path), narrow=NARROW)
    found = grid.estimate(planned, zoo=Zoo(tmp_path / "z"), runs_dir=tmp_path, workers=1, machine=MACHINE)
    fixed = api.plan("quickstart", narrow=NARROW)
    plain = grid.estimate(fixed, zoo=Zoo(tmp_path / "z"), runs_dir=tmp_path, workers=1, machine=MACHINE)
    assert (found.at_most, plain.at_most) == (True, False)
    # 2 epochs of 4,000 rows in batches of 32 are 250 steps, against 200
    assert job_of(found, "lora").train_s == pytest.approx(1.25 * job_of(plain, "lora").train_s, rel=0.15)
    assert planning._time_lines(found)[0].startswith("time: at most about ")


# --- disk -------------------------------------------------------------------------------------------------------


def test_a_grid_that_does_not_fit_on_the_disk_is_refused_before_anything_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    monkeypatch.setattr(grid, "execute", lambda *_, **__: pytest.fail("training began"))
    with pytest.raises(SystemExit) as stop:
        main(["run", "quickstart", "--methods", "lora", "--targets", "mini-ner"])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert "nothing was trained" in err and "--methods" in err
    assert not (tmp_path / "runs" / "zoo").exists()
    with pytest.raises(XlingError, match="nothing was trained"):
        api.run(api.plan("quickstart", narrow=NARROW))


def test_full_entries_are_counted_by_their_weights(tmp_path: Path) -> None:
    planned = api.plan("quickstart", narrow={**NARROW, "methods": ["full"]})
    found = grid.estimate(planned, zoo=Zoo(tmp_path / "z"), runs_dir=tmp_path, workers=1, machine=MACHINE)
    assert job_of(found, "full").disk_bytes == pytest.approx(11.5e6, rel=0.2)  # 11,532,481 bytes measured


# --- what is printed --------------------------------------------------------------------------------------------


def test_the_dry_run_says_time_disk_and_what_they_stand_on(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "quickstart", "--methods", "lora", "--targets", "mini-ner", "--dry-run"]
    main(command)
    out = capsys.readouterr().out
    assert "rough, for nothing like it was timed here" in out
    assert "of training" in out and "of scoring" in out and "disk: about" in out
    assert "to narrow" not in out
    main([*command, "--json"])
    found = json.loads(capsys.readouterr().out)
    low, high = found["estimate_range_s"]
    assert 0 < low < found["estimate_s"] < high
    assert found["estimate_basis"] == "modelled"
    assert 0 < found["disk_bytes"] < found["free_bytes"]
    assert found["runs"].keys() == found["run_seconds"].keys()


def estimate_of(seconds: dict[str, float], **changes: Any) -> Estimate:
    jobs = {name: Job(("lora" if i else "full", name), train_s=s) for i, (name, s) in enumerate(seconds.items())}
    given: dict[str, Any] = {
        "seconds": sum(seconds.values()),
        "low_s": 1.0,
        "high_s": 1e6,
        "basis": "measured",
        "at_most": False,
        "jobs": jobs,
        "parents": {},
        "workers": 1,
        "device": "cpu",
        "flops": 9e10,
        "num_timed": (2, 3),
        "disk_bytes": 5,
        "free_bytes": None,
    }
    return Estimate(**{**given, **changes})


def test_a_long_grid_says_where_the_time_goes_and_how_to_narrow() -> None:
    lines = "\n".join(planning._time_lines(estimate_of({"xnli": 9000.0, "panx": 1000.0})))
    assert "from 2 runs and 3 scored sets timed on this machine" in lines
    assert "full 90%, lora 10%, xnli 90%, panx 10%" in lines
    assert "--methods, --targets, --intermediate, --languages, --limit, --seeds" in lines
    assert "nothing to train" in planning._time_lines(estimate_of({"xnli": 0.0}))[0]


def test_a_grid_that_the_disk_cannot_hold_is_marked() -> None:
    def line(free: int | None) -> str:
        return planning._disk_line(estimate_of({}, disk_bytes=5_000_000_000, free_bytes=free))

    assert line(4_000_000_000) == "disk: about 5.0 GB to write !, 4.0 GB free"
    assert line(6_000_000_000) == "disk: about 5.0 GB to write, 6.0 GB free"
    assert line(None) == "disk: about 5.0 GB to write, free space unknown"


def test_time_left_follows_what_the_jobs_really_took() -> None:
    events = cli._Events(estimate_of({"a": 1000.0, "b": 1000.0}), {"a", "b"}, quiet=True)
    assert events.left(0.0) == pytest.approx(2000)
    events("train", "a", "")
    assert events.left(1000.0) == pytest.approx(1000)
    assert events.left(3000.0) == pytest.approx(3000, rel=0.05)  # three times slower than thought
    events("fail", "b on some cell", "")
    assert events.left(1000.0) == pytest.approx(1000)  # a failed cell is no finished job
    events("train", "b", "")
    assert events.left(2000.0) == 0


@pytest.mark.parametrize("name", ["quickstart", "mini", "paper-adapters"])
def test_a_dry_run_takes_at_most_two_seconds_and_loads_no_torch(name: str, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom adapters_xling.cli import main\n"
        f"main(['run', {name!r}, '--dry-run', '--runs', {str(tmp_path)!r}])\n"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules), 'a heavy library was imported'"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {name: value for name, value in os.environ.items() if name != "XLING_DATA"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "disk: about" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


def test_a_mixture_costs_what_its_tasks_cost_in_their_shares(tmp_path: Path) -> None:
    """Not what its first task costs alone; and masked-LM rows cost their vocabulary."""
    narrow = {"methods": ["full"], "intermediate": ["several", "nli-mlm", "mini-nli"], "targets": ["mini-ner"]}
    planned = api.plan("mini-mixtures", narrow=narrow)
    found = grid.estimate(planned, zoo=Zoo(tmp_path / "z"), runs_dir=tmp_path, workers=1, machine=MACHINE)
    seconds = {run.task: found.jobs[name].train_s for name, run in planned.runs.items() if not run.parents}
    alone = {}
    for task in ("mini-nli", "mini-pos", "mini-qa", "mini-mlm"):
        run = grid.make_run(
            api.task(task),
            methods.resolve("full", {"train_embeddings": False}),
            backbone=next(iter(planned.runs.values())).backbone,
            recipe="nano",
            overrides={"max_steps": 400},
        )
        own = Plan(planned.grid, {"one": run})
        estimated = grid.estimate(own, zoo=Zoo(tmp_path / "z"), runs_dir=tmp_path, workers=1, machine=MACHINE)
        alone[task] = estimated.jobs["one"].train_s
    three = [alone[task] for task in ("mini-nli", "mini-pos", "mini-qa")]
    assert min(three) < seconds["mini-nli+mini-pos+mini-qa"] < max(three) * 1.3
    assert seconds["mini-nli+mini-pos+mini-qa"] == pytest.approx(sum(three) / 3, rel=0.35)
    assert seconds["mini-mlm+mini-nli"] == pytest.approx((alone["mini-nli"] + alone["mini-mlm"]) / 2, rel=0.35)
    plain = Load(trained=1e6, width=30)
    masked = Load(trained=1e6, width=30, guessed=0.15e6 * 3)
    more = MACHINE.seconds(masked, NANO, FAMILY, None) - MACHINE.seconds(plain, NANO, FAMILY, None)
    assert more == pytest.approx(2 * 0.45e6 * 16044 * 128 / (MACHINE.flops * cost.EFFICIENCY))
