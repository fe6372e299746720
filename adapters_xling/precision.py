"""Products in bfloat16, on processors without instructions for them too.

Where oneDNN has no kernel for bfloat16, PyTorch's own takes many times as long as a float32 product (LOG.md). The
same numbers are multiplied in float32 there and what comes out is rounded, which is what such instructions do: they add
up in float32. So a run in bfloat16 is the same run on every processor, up to the order of sums.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

aten: Any = torch.ops.aten
_PRODUCTS = {
    aten.mm.default,
    aten.addmm.default,
    aten.bmm.default,
    aten.baddbmm.default,
    aten.linear.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_flash_attention_for_cpu_backward.default,
}
_KEPT = {aten._scaled_dot_product_flash_attention_for_cpu.default: 1}
"""Outputs from this place on stay in float32: the logarithms of the sums of a softmax."""


@functools.cache
def has_bfloat16_kernels() -> bool:
    """Whether products of bfloat16 on this processor are oneDNN's."""
    supported: Any = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return torch.backends.mkldnn.is_available() and supported is not None and bool(supported())


class _InFloat32(TorchDispatchMode):
    """Multiply bfloat16 numbers of the CPU in float32 and round what comes out."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Called by PyTorch for every operation."""
        kwargs = kwargs or {}
        if func not in _PRODUCTS or not _rounded(args[1 if func is aten.addmm.default else 0]):
            return func(*args, **kwargs)
        out = func(*tree_map(_wide, args), **tree_map(_wide, dict(kwargs)))
        if isinstance(out, Tensor):
            return out.bfloat16()
        kept = _KEPT.get(func, len(out))
        return tuple(one.bfloat16() if i < kept else one for i, one in enumerate(out))


def _rounded(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.bfloat16 and value.device.type == "cpu"


def _wide(value: Any) -> Any:
    return value.float() if _rounded(value) else value


def in_float32(device: torch.device, precision: str) -> bool:
    """Whether bfloat16 products are made of float32 ones there."""
    return precision == "bf16" and device.type == "cpu" and not has_bfloat16_kernels()


@contextmanager
def products(device: torch.device, precision: str) -> Iterator[None]:
    """Context of whatever multiplies: forward passes, which also need `rounded`, and backward passes, which do not.

    Args:
        device: where it is computed.
        precision: "fp32" or "bf16".
    """
    if in_float32(device, precision):
        with _InFloat32():
            yield
    else:
        yield


@contextmanager
def rounded(device: torch.device, precision: str) -> Iterator[None]:
    """Context of forward passes: with "bf16" what is multiplied is rounded to bfloat16, nothing with "fp32"."""
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"), products(device, precision):
        yield
