"""Who multiplies bfloat16 numbers in PyTorch's own kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from adapters_xling import precision


class Slow(TorchDispatchMode):
    """Counts products, and those of bfloat16 that reach PyTorch's own kernels; entered outside of what is tested."""

    def __init__(self) -> None:
        super().__init__()
        self.num_products, self.slow = 0, []  # type: int, list[str]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in precision._PRODUCTS:
            self.num_products += 1
            if any(isinstance(one, Tensor) and one.dtype == torch.bfloat16 for one in args):
                self.slow.append(str(func))
        return func(*args, **(kwargs or {}))
