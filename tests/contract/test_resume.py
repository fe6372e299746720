"""A run that was killed goes on exactly: the same weights and the same logs, bit for bit, wherever it was stopped."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from loops import largest_difference, logged, mixed_run, run_of, trained
from safetensors import safe_open

from adapters_xling.errors import XlingError
from adapters_xling.grid import Mix
from adapters_xling.spec import RunSpec
from adapters_xling.training import checkpoint, loop
from adapters_xling.zoo import Entry

STEPS = 9
LENGTH: dict[str, Any] = {"max_steps": STEPS, "eval_every_steps": 2, "dropout": 0.1, "warmup": 0.3}


def mixed(method: str) -> Callable[[Path], RunSpec]:
    mix = Mix(rates={"mini-mlm": 0.4})
    names = ("mini-nli", "mini-mlm", "mini-pos")
    return lambda folder: mixed_run(folder, *names, method=method, mix=mix, **LENGTH)


CASES: dict[str, Callable[[Path], RunSpec]] = {
    "full": lambda folder: run_of(folder, method="full", **LENGTH),
    "bottleneck-accumulating": lambda folder: run_of(folder, method="bottleneck", accumulate=2, **LENGTH),
    "lora-patience": lambda folder: run_of(folder, method="lora", patience=3, **LENGTH),
    "full-pieces": lambda folder: run_of(folder, method="full", tokens_at_once=50, accumulate=2, **LENGTH),
    "head": lambda folder: run_of(folder, method="head", **LENGTH),
    "mixture-full": mixed("full"),
    "mixture-bottleneck": mixed("bottleneck"),
    "mixture-lora": mixed("lora"),
}
QUICK = ("full", "full-pieces", "bottleneck-accumulating", "mixture-lora")


class Stopped(Exception):
    """No error: the test stops the run."""


def run(spec: RunSpec, root: Path, *, every: int = 1) -> Entry:
    options: dict[str, Any] = {"checkpoint_dir": root / "checkpoints", "checkpoint_s": 0, "checkpoint_steps": every}
    return trained(spec, root / "zoo", log_dir=root / "logs", **options)


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the run break off in the middle of a step."""
    original = loop.Loop._step

    def step_or_stop(self: Any, part: Any, number: int) -> float:
        if number == step:
            part.train[0]
            raise Stopped
        return original(self, part, number)

    monkeypatch.setattr(loop.Loop, "_step", step_or_stop)


def stopped(spec: RunSpec, root: Path, step: int, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Path:
    """Run until a step, and give the checkpoint that is left."""
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at(step, patch)
        run(spec, root, **options)
    return next((root / "checkpoints").glob("*.safetensors"))


def require_equal(one: Entry, two: Entry, root_one: Path, root_two: Path) -> None:
    """The same bits in every file of weights, the same curve and losses, the same log."""
    assert one.key == two.key
    assert largest_difference(one, two) == 0.0
    assert one.card.training is not None
    assert two.card.training is not None
    assert msgspec.structs.replace(one.card.training, seconds=0) == msgspec.structs.replace(
        two.card.training, seconds=0
    )
    assert logged(root_one / "logs") == logged(root_two / "logs")


@pytest.mark.parametrize("case", QUICK)
def test_a_run_stopped_twice_ends_like_one_in_one_go(
    case: str, backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = CASES[case](backbone_folder)
    whole = run(spec, tmp_path / "whole")
    stopped(spec, tmp_path / "parts", 4, monkeypatch, every=2)  # goes back to step 2
    stopped(spec, tmp_path / "parts", 8, monkeypatch, every=3)
    random.seed(99)  # a fresh process has other random numbers
    torch.manual_seed(99)
    parts = run(spec, tmp_path / "parts")
    require_equal(whole, parts, tmp_path / "whole", tmp_path / "parts")
    assert list((tmp_path / "parts" / "checkpoints").iterdir()) == []


def test_a_checkpoint_holds_what_trains_and_never_the_backbone(
    backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = mixed("lora")(backbone_folder)
    path = stopped(spec, tmp_path, 3, monkeypatch)
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        weights = sum(file.get_tensor(name).numel() for name in names if name.startswith("model/"))
    assert not [name for name in names if "word_embeddings" in name or "query.base_layer" in name]
    assert {name.partition("/")[0] for name in names} == {"model", "best", "optimizer", "rng", "plain"}
    entry = run(spec, tmp_path)
    assert weights == entry.card.num_trainable


@pytest.mark.parametrize("harm", ["flipped", "cut", "renamed"])
def test_what_is_no_sound_checkpoint_of_this_run_is_said_and_not_continued(
    harm: str, backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = run_of(backbone_folder, method="lora", max_steps=4)
    path = stopped(spec, tmp_path, 3, monkeypatch)
    if harm == "renamed":
        spec = msgspec.structs.replace(spec, seed=5)
        path = path.rename(checkpoint.Checkpoint(path.parent, spec).path or path)
    else:
        raw = bytearray(path.read_bytes())
        raw[-9] ^= 1
        path.write_bytes(raw if harm == "flipped" else raw[:-100])
    words = "belongs to another run" if harm == "renamed" else "is damaged"
    with pytest.warns(UserWarning, match=f"{words}.*starts over"):
        again = run(spec, tmp_path)
    assert largest_difference(again, trained(spec, tmp_path / "whole")) == 0.0


def test_a_checkpoint_that_the_disk_does_not_give_is_kept(
    backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = run_of(backbone_folder, method="head", max_steps=4)
    path = stopped(spec, tmp_path, 3, monkeypatch)

    def broken(*_: Any, **__: Any) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "safe_open", broken)
        with pytest.raises(XlingError, match=r"cannot be read \(Input/output error\); run the same command again"):
            run(spec, tmp_path)
    assert path.is_file()
    assert largest_difference(run(spec, tmp_path), trained(spec, tmp_path / "whole")) == 0.0


def test_other_rows_than_the_checkpoints_start_the_run_over(
    backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = run_of(backbone_folder, method="head")
    stopped(spec, tmp_path, 3, monkeypatch)
    monkeypatch.setattr(loop.Loop, "_data", lambda self: {"sizes": {}, "steps": self.steps})
    with pytest.warns(UserWarning, match="no longer the same.*starts over"):
        run(spec, tmp_path)


def test_a_full_disk_costs_a_warning_and_not_the_run(
    backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.warns(UserWarning, match="no checkpoint could be written.*No space left"):
        assert run(run_of(backbone_folder, method="head"), tmp_path).card.training is not None


# --- real kills -------------------------------------------------------------------------------------------------


def in_a_child(work: Callable[[], Any]) -> int:
    """Do something in a forked process of its own; gives its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", CASES)
def test_ten_kills_at_random_moments_change_nothing(case: str, backbone_folder: Path, tmp_path: Path) -> None:
    spec = CASES[case](backbone_folder)
    seed = random.SystemRandom().randrange(10**6)
    rng = random.Random(seed)
    whole = run(spec, tmp_path / "whole")
    began = time.monotonic()
    os.waitpid(in_a_child(lambda: run(spec, tmp_path / "timed")), 0)
    length = time.monotonic() - began
    kills = chains = 0
    while kills < 10:
        root = tmp_path / f"chain{chains}"
        chains += 1
        while True:
            fresh, began = not root.exists(), time.monotonic()
            child = in_a_child(lambda root=root: run(spec, root))  # type: ignore[misc]
            if kills < 10:
                time.sleep(rng.uniform(0, length))
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if os.WIFSIGNALED(status):
                kills += 1
                continue
            assert os.WEXITSTATUS(status) == 0, f"the run failed by itself (delays from seed {seed})"
            if fresh:  # it was faster than its kill: the machine has more time for it now
                length = min(length, time.monotonic() - began)
            break
        require_equal(whole, run(spec, root), tmp_path / "whole", root)
        assert list((root / "checkpoints").iterdir()) == [], f"delays from seed {seed}"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("write", [2, 5])
def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(
    write: int, backbone_folder: Path, tmp_path: Path
) -> None:
    spec = CASES["mixture-bottleneck"](backbone_folder)

    def killed_in_a_write() -> None:
        calls = 0

        def die(path: Path) -> None:
            nonlocal calls
            calls += 1
            if calls == 2 * write - 1:  # each write syncs the file, then its folder
                os.kill(os.getpid(), signal.SIGKILL)

        checkpoint._to_disk = die
        run(spec, tmp_path / "parts")

    _, status = os.waitpid(in_a_child(killed_in_a_write), 0)
    assert os.WIFSIGNALED(status)
    folder = tmp_path / "parts" / "checkpoints"
    assert len(list(folder.glob("*.part"))) == 1
    found = checkpoint.Checkpoint(folder, spec).read()
    assert found is not None
    assert found.plain["progress"]["step"] == write - 1
    require_equal(run(spec, tmp_path / "whole"), run(spec, tmp_path / "parts"), tmp_path / "whole", tmp_path / "parts")
    assert list(folder.iterdir()) == []
