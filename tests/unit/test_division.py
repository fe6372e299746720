"""How processes divide a step: every row once, the same number of forward passes in each, and who may speak."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path

import msgspec
import pytest

from adapters_xling import cli
from adapters_xling.errors import ConfigError, SaidElsewhere, XlingError
from adapters_xling.processes import ALONE, Processes
from adapters_xling.spec import Recipe
from adapters_xling.training import preparing, sharding
from adapters_xling.training.division import Division, require_divisible


@pytest.mark.parametrize(("count", "accumulate"), [*product(range(1, 9), range(1, 7))])
def test_every_row_of_a_step_is_computed_by_one_process(count: int, accumulate: int) -> None:
    for size in (8, 5):  # a whole batch, and the last one of an epoch
        seen: Counter[tuple[int, int]] = Counter()
        passes = set()
        for index in range(count):
            division = Division.of(Processes(index, count), accumulate)
            mine = [batch for batch in range(accumulate) if division.computes(batch)]
            seen.update((batch, row) for batch in mine for row in division.own(range(size)))
            passes.add(len(mine))
        assert seen == Counter(product(range(accumulate), range(size)))
        assert len(passes) == 1  # sharded weights are put together by all, as often


def test_batches_are_dealt_out_before_they_are_split() -> None:
    assert [Division.of(Processes(i, 2), 4).parts for i in (0, 1)] == [1, 1]
    assert [Division.of(Processes(i, 2), 3).parts for i in (0, 1)] == [2, 2]


def recipe(**changes: int) -> Recipe:
    return msgspec.structs.replace(a_recipe(), **changes)


def a_recipe() -> Recipe:
    values = {
        "learning_rate": 1e-3, "batch_size": 4, "epochs": 1, "max_steps": 0, "max_length": 16, "accumulate": 1,
        "warmup": 0, "weight_decay": 0, "adam_epsilon": 1e-8, "clip_norm": 1, "dropout": 0, "precision": "fp32",
        "eval_every_steps": 1, "patience": 0, "dev_examples": 0, "max_train_examples": 0, "pooling": "first",
        "carry": "none",
    }  # fmt: skip
    return Recipe(**values)  # type: ignore[arg-type]


def test_the_smallest_step_of_a_mixture_bounds_the_processes() -> None:
    parts = {"large": recipe(batch_size=8, accumulate=4), "small": recipe(batch_size=2, accumulate=3)}
    for count in (1, 2, 6):
        require_divisible(parts, Processes(0, count))
    with pytest.raises(ConfigError, match=r"4 processes cannot share a step of 'small'.*here: 1, 2, 3, 6$"):
        require_divisible(parts, Processes(0, 4))


def test_one_process_alone_exchanges_nothing() -> None:
    assert ALONE.share([1, 2]) == [1, 2]
    assert ALONE.everyone("a") == ["a"]
    assert ALONE.add_up((1.5, 2.0)) == [1.5, 2.0]
    with pytest.raises(XlingError, match="as it is"):
        ALONE.on_first(lambda: (_ for _ in ()).throw(XlingError("as it is")))


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("second_of_two")
def test_commands_that_would_run_twice_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["run", "quickstart"])
    said = capsys.readouterr().err
    assert "process 1: error: xling run was started 2 times at once" in said
    assert "--executor" in said


@pytest.mark.usefixtures("second_of_two")
def test_what_another_process_has_said_is_not_said_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(**_: object) -> None:
        raise SaidElsewhere("process 0 failed: disk full")

    monkeypatch.setattr(cli.xling, "main", fails)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["train", "mini-nli"])
    assert capsys.readouterr().err == ""
    assert not cli.speaks()


def test_a_launcher_that_started_one_process_of_two_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.warns(UserWarning, match="starts one process.*--multi_gpu"):
        preparing._say_if_alone()


@pytest.mark.parametrize(
    ("name", "words"),
    [("ACCELERATE_USE_DEEPSPEED", "DeepSpeed is not supported"), ("ACCELERATE_USE_FSDP", "fsdp_version: 2")],
)
def test_what_divides_a_model_otherwise_is_refused(name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not sharding.wanted()
    monkeypatch.setenv(name, "true")
    monkeypatch.delenv("FSDP_VERSION", raising=False)
    with pytest.raises(ConfigError, match=words):
        sharding.wanted()


def test_the_shipped_launch_files_are_what_accelerate_reads() -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    folder = Path(__file__).parents[2] / "scripts" / "accelerate"
    read = {path.stem: load_config_from_file(str(path)) for path in folder.glob("*.yaml")}
    assert {name: str(one.distributed_type).rpartition(".")[2] for name, one in read.items()} == {
        "processes": "MULTI_GPU",
        "fsdp": "FSDP",
    }
    assert read["fsdp"].fsdp_config["fsdp_version"] == 2
