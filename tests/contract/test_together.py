"""Several processes train what one process trains: same data, same weights up to rounding, same scores."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from loops import largest_difference, logged, relative_difference, trained
from together import CASES, noting, parts, run

from adapters_xling.spec import key
from adapters_xling.training.checkpoint import Checkpoint
from adapters_xling.training.loop import Loop
from adapters_xling.zoo import Entry, Zoo

SCRIPT = Path(__file__).with_name("together.py")
EQUAL = 1e-5
"""Largest relative difference of any tensor that rounding in another order may leave."""


def launch(backbone: Path, root: Path, *names: str, options: tuple[str, ...] = ("--multi_gpu",)) -> int:
    """Start `accelerate launch` as a user would, on CPUs; gives its exit code."""
    given = ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    ports = ["--dynamo_backend", "no", "--main_process_port", "0"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *options, *given, *ports]
    environ = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(SCRIPT), str(backbone), str(root), *names], env=environ, capture_output=True, timeout=280
    )
    root.mkdir(parents=True, exist_ok=True)
    (root / "stderr.txt").write_bytes(done.stderr)
    return done.returncode


def entry(root: Path, case: str, backbone: Path) -> Entry:
    problem = root / "stderr.txt"
    zoo, name = Zoo(root / case / "zoo", fallbacks=()), key(CASES[case](backbone))
    assert name in zoo, problem.read_text(encoding="utf-8")[-3000:] if problem.exists() else f"{name} is missing"
    return zoo.get(name)


def rows_of(folder: Path) -> dict[int, list[list[int]]]:
    """Rows of each step, in no order, over all processes."""
    found: dict[int, list[list[int]]] = {}
    for path in folder.glob("rows-*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            step, rows = json.loads(line)
            found.setdefault(step, []).extend(rows)
    return {step: sorted(rows) for step, rows in sorted(found.items())}


EXACT = ("full", "bottleneck-accumulating", "lora-odd", "head-qa", "mixture", "mixture-pieces")


@pytest.fixture(scope="module")
def both(backbone_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Every case by one process and by two."""
    root = tmp_path_factory.mktemp("together")
    torch.set_num_threads(1)
    for case in (*EXACT, "full-dropout"):
        (root / "one" / case).mkdir(parents=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Loop, "_loss", noting(root / "one" / case, "0"))
            run(CASES[case](backbone_folder), root / "one" / case)
    names = (*EXACT, "full-dropout", "too-many", "diverging")
    assert launch(backbone_folder, root / "two", *names) == 0, (root / "two" / "stderr.txt").read_text()[-3000:]
    return root / "one", root / "two"


@pytest.mark.parametrize("case", EXACT)
def test_two_processes_end_with_the_weights_of_one(case: str, both: tuple[Path, Path], backbone_folder: Path) -> None:
    one, two = (entry(root, case, backbone_folder) for root in both)
    assert one.key == two.key
    assert 0 <= relative_difference(one, two) <= EQUAL
    a, b = one.card.training, two.card.training
    assert a is not None
    assert b is not None
    assert (a.processes, b.processes) == (1, 2)
    same = {"seconds": 0, "processes": 1, "losses": ()}
    assert msgspec.structs.replace(a, **same) == msgspec.structs.replace(b, **same)  # tokens, rows, dev scores, steps
    assert [loss for _, loss in b.losses] == pytest.approx([loss for _, loss in a.losses], rel=1e-5)
    ours, theirs = (logged(root / case / "logs") for root in both)
    assert set(ours) == set(theirs)
    assert [step for step, _ in ours["loss"]] == [step for step, _ in theirs["loss"]]


@pytest.mark.parametrize("case", [*EXACT, "full-dropout"])
def test_every_row_is_computed_once_in_its_step_whatever_the_number_of_processes(
    case: str, both: tuple[Path, Path]
) -> None:
    one, two = (rows_of(root / case) for root in both)
    assert one == two
    assert len(one) == 6
    assert all((both[1] / case / f"rows-{rank}.jsonl").stat().st_size for rank in (0, 1))


def test_processes_draw_different_dropout(both: tuple[Path, Path], backbone_folder: Path) -> None:
    one, two = (entry(root, "full-dropout", backbone_folder) for root in both)
    assert relative_difference(one, two) > EQUAL


def test_more_processes_than_rows_are_refused_with_what_is_possible(both: tuple[Path, Path]) -> None:
    said = {(both[1] / "too-many" / f"error-{rank}.txt").read_text(encoding="utf-8") for rank in (0, 1)}
    assert len(said) == 1
    text = said.pop()
    assert "2 processes cannot share a step of 'mini-nli'" in text
    assert text.endswith("Possible numbers of processes here: 1, 3")


def test_a_loss_that_is_no_number_ends_every_process_with_the_same_message(both: tuple[Path, Path]) -> None:
    said = {(both[1] / "diverging" / f"error-{rank}.txt").read_text(encoding="utf-8") for rank in (0, 1)}
    assert len(said) == 1
    assert "the loss became nan" in said.pop()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="names of threads are read from /proc")
def test_no_thread_of_the_group_is_left_when_a_process_ends(both: tuple[Path, Path]) -> None:
    """Such a thread aborts the process now and then: it lets go of a tensor when Python is gone."""
    for rank in (0, 1):
        left = json.loads((both[1] / f"threads-{rank}.json").read_text(encoding="utf-8"))
        assert "python" in " ".join(left)
        assert not [name for name in left if "gloo" in name]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("case", ["full-dropout", "mixture", "bottleneck-accumulating"])
def test_a_killed_process_ends_the_others_and_all_go_on_exactly(
    case: str, victim: int, backbone_folder: Path, tmp_path: Path
) -> None:
    assert launch(backbone_folder, tmp_path / "whole", case) == 0
    assert launch(backbone_folder, tmp_path / "parts", case, f"kill={victim}@4") != 0
    left = Checkpoint(tmp_path / "parts" / case / "checkpoints", CASES[case](backbone_folder)).read()
    assert left is not None
    assert left.plain["progress"]["step"] == 3
    assert len(left.plain["other_rngs"]) == 1
    assert launch(backbone_folder, tmp_path / "parts", case) == 0
    whole, parts = (entry(tmp_path / root, case, backbone_folder) for root in ("whole", "parts"))
    assert largest_difference(whole, parts) == 0.0
    assert list((tmp_path / "parts" / case / "checkpoints").iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_two_processes_began_one_finishes_and_says_so(backbone_folder: Path, tmp_path: Path) -> None:
    assert launch(backbone_folder, tmp_path / "two", "full", "kill=1@4") != 0
    torch.set_num_threads(1)
    with pytest.warns(UserWarning, match="goes on from a checkpoint made on .*'processes': 2"):
        finished = run(CASES["full"](backbone_folder), tmp_path / "two" / "full")
    whole = run(CASES["full"](backbone_folder), tmp_path / "one")
    assert relative_difference(whole, finished) <= EQUAL


FSDP: dict[str, Any] = {"options": ("--use_fsdp", "--fsdp_version", "2")}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", ["full", "mixture", "mixture-pieces", "lora-odd", "bottleneck-accumulating"])
def test_sharded_weights_end_as_whole_ones(case: str, backbone_folder: Path, tmp_path: Path) -> None:
    whole = run(CASES[case](backbone_folder), tmp_path / "whole")
    assert launch(backbone_folder, tmp_path / "sharded", case, **FSDP) == 0, (
        tmp_path / "sharded" / "stderr.txt"
    ).read_text()[-3000:]
    sharded = entry(tmp_path / "sharded", case, backbone_folder)
    assert relative_difference(whole, sharded) <= EQUAL
    assert launch(backbone_folder, tmp_path / "parts", case, "kill=1@4", **FSDP) != 0
    assert launch(backbone_folder, tmp_path / "parts", case, **FSDP) == 0
    assert largest_difference(sharded, entry(tmp_path / "parts", case, backbone_folder)) == 0.0


def with_parts(case: str, method: str, backbone: Path, *roots: Path) -> None:
    """Train what a fusion mixes, once, into the zoo of a case below each root."""
    first, *others = (root / case / "zoo" for root in roots)
    for part in parts(backbone, method):
        trained(part, first)
    for other in others:
        shutil.copytree(first, other)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_fusion_of_loras_is_sharded_and_adapter_fusion_says_why_not(backbone_folder: Path, tmp_path: Path) -> None:
    whole, sharded = tmp_path / "whole", tmp_path / "sharded"
    with_parts("fused-lora", "lora", backbone_folder, whole, sharded)
    with_parts("fused-bottleneck", "bottleneck", backbone_folder, sharded)
    one = run(CASES["fused-lora"](backbone_folder), whole / "fused-lora")
    done = launch(backbone_folder, sharded, "fused-lora", "fused-bottleneck", **FSDP)
    assert done == 0, (sharded / "stderr.txt").read_text()[-3000:]
    assert relative_difference(one, entry(sharded, "fused-lora", backbone_folder)) <= EQUAL
    said = {(sharded / "fused-bottleneck" / f"error-{rank}.txt").read_text(encoding="utf-8") for rank in (0, 1)}
    assert len(said) == 1
    assert "ConfigError" in (text := said.pop()) and "term on its own weights" in text and "without FSDP" in text


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_train_an_adapter_fusion_as_one_does(backbone_folder: Path, tmp_path: Path) -> None:
    case, one, two = "fused-bottleneck", tmp_path / "one", tmp_path / "two"
    with_parts(case, "bottleneck", backbone_folder, one, two)
    alone = run(CASES[case](backbone_folder), one / case)
    assert launch(backbone_folder, two, case) == 0, (two / "stderr.txt").read_text()[-3000:]
    assert relative_difference(alone, entry(two, case, backbone_folder)) <= EQUAL
