"""Reading native files strictly: JSON objects and safetensors, every weight accounted for, nothing pickled."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xling.errors import XlingError, ZooError
from adapters_xling.strict import parse_json

if TYPE_CHECKING:
    from torch import Tensor


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of an entry.

    Raises:
        ZooError: when the file is absent or holds something else.
    """
    try:
        data = parse_json(path.read_bytes())
    except FileNotFoundError as err:
        raise ZooError(f"{path}: no such file; the entry is incomplete: train it again or pull it") from err
    except (ValueError, OSError) as err:
        raise ZooError(f"{path}: not readable as JSON ({err}); pull the entry again") from err
    if not isinstance(data, dict):
        raise ZooError(f"{path}: holds {type(data).__name__}, a JSON object is expected")
    return data


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; nothing pickled is ever loaded.

    Raises:
        ZooError: when it is absent or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ZooError(f"{path}: no such file; weights are read from safetensors only, pickled files never")
    try:
        return load_file(path)
    except SafetensorError as err:
        raise ZooError(f"{path}: not a safetensors file ({err}); pull the entry again") from err


@contextlib.contextmanager
def made_by_library(path: Path) -> Iterator[None]:
    """Turn whatever a library raises over a configuration it cannot use into an error that names the file.

    Raises:
        ZooError: with the library's reason.
    """
    try:
        yield
    except XlingError:
        raise
    except Exception as err:
        raise ZooError(f"{path}: its library cannot make an adapter of this: {type(err).__name__}: {err}") from err


def copy_exactly(targets: Mapping[str, Tensor], tensors: Mapping[str, Tensor], where: Path) -> None:
    """Copy tensors into live ones of the same names and shapes, or refuse.

    Raises:
        ZooError: listing what is missing, unexpected or of another shape; then nothing was copied.
    """
    import torch

    missing = sorted(set(targets) - set(tensors))
    unexpected = sorted(set(tensors) - set(targets))
    shapes = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(targets[name].shape)}"
        for name in sorted(set(targets) & set(tensors))
        if tensors[name].shape != targets[name].shape
    ]
    problems = [
        f"{len(found)} {what} ({', '.join(found[:3])}{', …' if len(found) > 3 else ''})"
        for what, found in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if found
    ]
    if problems:
        raise ZooError(f"{where}: weights do not fit this backbone: {'; '.join(problems)}. Use the backbone it names")
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(tensors[name])


def differences(own: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Settings in which two mappings differ, as text; empty when they agree."""
    names = sorted(name for name in {*own, *other} if own.get(name) != other.get(name))
    return ", ".join(f"{name} {other.get(name)!r} there, {own.get(name)!r} here" for name in names)
