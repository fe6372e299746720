"""Checkpoints: the whole state of a run in one file, written whole or not at all, so that a killed run goes on exactly.

A file is named by the run's key and holds the run's full digest, so a checkpoint of another run, other rows or another
version of the algorithm is never continued. Its own sha256 covers every tensor and number: what was damaged is said and
thrown away. safetensors only, nothing pickled. The frozen backbone is never in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from adapters_xling.errors import XlingError
from adapters_xling.processes import Processes
from adapters_xling.spec import RunSpec, digest, key

FORMAT = "1"
"""Version of the file's form; one of another version is not continued."""
EVERY_S = 600.0
"""Seconds between checkpoints when nothing else is asked for."""
_PLAIN = "plain"


class State(NamedTuple):
    """What a checkpoint holds: tensors by name, and everything else as JSON has it."""

    tensors: dict[str, Tensor]
    plain: dict[str, Any]


class _UnusableError(Exception):
    """A checkpoint that must not be continued; the text says why."""


class Checkpoint:
    """The checkpoint of one run.

    Args:
        folder: where checkpoints are; None keeps none.
        run: whose it is.
        every_s: seconds after which the next one is due; 0 means never by time.
        every_steps: steps after which it is due; 0 means never by steps.
    """

    def __init__(self, folder: Path | None, run: RunSpec, *, every_s: float = EVERY_S, every_steps: int = 0) -> None:
        self.path = None if folder is None else folder / f"{key(run)}.safetensors"
        self.run = digest(run)
        self.every_s, self.every_steps = every_s, every_steps
        self._last = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether one is to be written after this step."""
        if self.path is None:
            return False
        by_time = self.every_s > 0 and time.monotonic() - self._last >= self.every_s
        return by_time or (self.every_steps > 0 and step % self.every_steps == 0)

    def write(self, state: State) -> None:
        """Write it to a file of its own, wait for the disk, and only then give it its name.

        The file is written in a folder of its own: safetensors itself writes to a temporary file first, which a kill
        leaves under a name that says nothing. A full disk costs a warning, not the run.
        """
        assert self.path is not None
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
        tensors[_PLAIN] = torch.frombuffer(bytearray(json.dumps(state.plain).encode()), dtype=torch.uint8)
        facts = {"format": FORMAT, "run": self.run, "sha256": _digest(tensors)}
        part = self.path.with_name(f"{self.path.stem}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
        try:
            part.mkdir(parents=True)
            file = part / self.path.name
            save_file(tensors, file, metadata=facts)
            _to_disk(file)
            file.replace(self.path)
            _to_disk(self.path.parent)
        except (OSError, SafetensorError) as err:
            warnings.warn(f"{self.path}: no checkpoint could be written ({err}); training goes on without")
        finally:
            shutil.rmtree(part, ignore_errors=True)
        self._last = time.monotonic()

    def read(self) -> State | None:
        """The state to go on from; None where there is none. A damaged or foreign one is said, and removed.

        Raises:
            XlingError: when the disk does not give it: it may be whole.
        """
        if self.path is None or not self.path.is_file():
            return None
        try:
            return self._load(self.path)
        except _UnusableError as err:
            self.refuse(str(err))
        except OSError as err:
            raise XlingError(
                f"checkpoint {self.path} cannot be read ({err.strerror or err}); run the same command again once it "
                "can, or delete the file to start over"
            ) from err
        except (SafetensorError, KeyError, ValueError) as err:
            self.refuse(f"it is damaged ({type(err).__name__}: {err})")
        return None

    def read_together(self, processes: Processes) -> State | None:
        """What `read` gives the first process, in all of them, each from the file.

        Raises:
            XlingError: when a process does not see the file the first one reads.
        """
        state = processes.on_first(self.read)
        mark = processes.first_says(state and state.plain["progress"]["seconds"])
        if mark is None or processes.count == 1:
            return state
        if not processes.first:
            with contextlib.suppress(_UnusableError, SafetensorError, OSError, KeyError, ValueError):
                state = self._load(Path(str(self.path)))
        same = processes.everyone(state is not None and state.plain["progress"]["seconds"] == mark)
        if not all(same):
            blind = ", ".join(str(i) for i, sees in enumerate(same) if not sees)
            raise XlingError(
                f"processes {blind} of {processes.count} do not read the checkpoint {self.path} that process 0 does: "
                "the folder of the runs must be one that all machines share (--runs, XLING_RUNS)"
            )
        return state

    def _load(self, path: Path) -> State:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            if facts.get("format") != FORMAT:
                raise _UnusableError(f"its form is {facts.get('format')!r}, this version reads {FORMAT!r}")
            if facts.get("run") != self.run:
                raise _UnusableError("it belongs to another run")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if _digest(tensors) != facts.get("sha256"):
            raise _UnusableError("it is damaged: its sha256 is not what was written")
        return State(tensors, json.loads(tensors.pop(_PLAIN).numpy().tobytes()))

    def refuse(self, why: str) -> None:
        """Say why it is not continued, and throw it away."""
        warnings.warn(f"checkpoint {self.path} is not used: {why}. The run starts over")
        self.remove()

    def remove(self) -> None:
        """Throw it away, and what a killed writer left beside it; called once the entry is in the zoo."""
        if self.path is None:
            return
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        for part in self.path.parent.glob(f"{self.path.stem}.*.part"):
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:  # of a version that wrote it without a folder
                part.unlink(missing_ok=True)


def rng_state(device: torch.device) -> State:
    """State of every generator a run may draw from: Python's, NumPy's, torch's, and the device's own (dropout)."""
    own: Any = np.random.get_state(legacy=True)
    plain = {"python": random.getstate(), "numpy": [own[0], own[1].tolist(), *own[2:]]}
    tensors = {"rng/torch": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["rng/cuda"] = torch.cuda.get_rng_state(device)
    return State(tensors, plain)


def set_rng_state(state: State, device: torch.device) -> None:
    """Put every generator back to where `rng_state` found it."""
    version, words, gauss = state.plain["python"]
    random.setstate((version, tuple(words), gauss))
    name, words, *rest = state.plain["numpy"]
    np.random.set_state((name, np.array(words, dtype=np.uint32), *rest))
    torch.set_rng_state(state.tensors["rng/torch"])
    if device.type == "cuda" and "rng/cuda" in state.tensors:
        torch.cuda.set_rng_state(state.tensors["rng/cuda"], device)


def optimizer_state(optimizer: Any) -> State:
    """An optimiser's state taken apart: moments as tensors, settings of its groups as numbers."""
    found = optimizer.state_dict()
    tensors = {
        f"optimizer/{index}/{name}": value for index, values in found["state"].items() for name, value in values.items()
    }
    return State(tensors, {"groups": found["param_groups"]})


def set_optimizer_state(
    optimizer: Any, state: State, *, divide: Callable[[Tensor, Tensor], Tensor] = lambda _, value: value
) -> None:
    """Put together what `optimizer_state` took apart; `divide` shards a moment as its parameter (given first) is."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in under("optimizer/", state.tensors).items():
        index, _, what = name.partition("/")
        moments.setdefault(int(index), {})[what] = divide(parameters[int(index)], tensor)
    groups = [{**group, "betas": tuple(group["betas"])} for group in state.plain["groups"]]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors below a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        total.update(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))
    return total.hexdigest()
