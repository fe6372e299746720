"""Which device to compute on, from what a user typed."""

from __future__ import annotations

import torch

from adapters_xling.errors import ConfigError


def resolve_device(name: str | None = None) -> torch.device:
    """The device of a name, or the best there is.

    Args:
        name: `cpu`, `cuda`, `cuda:<number>` or `mps`; None is the first CUDA device, or the CPU where there is none.

    Raises:
        ConfigError: for anything else, and for a device this machine does not have, with those it has.
    """
    num_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name is None:
        return torch.device("cuda" if num_cuda else "cpu")
    here = ["cpu", *(["cuda"] if num_cuda else []), *(f"cuda:{i}" for i in range(num_cuda))]
    if torch.backends.mps.is_available():
        here.append("mps")
    if name not in here:
        why = "; this installation of torch is built without CUDA" if torch.version.cuda is None else ""
        raise ConfigError(
            f"device {name!r} is not available here. Valid: {', '.join(here)}, or none to choose by itself"
            f"{why if name.startswith('cuda') else ''}"
        )
    return torch.device(name)
