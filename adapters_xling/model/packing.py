"""Batches without padding: the real tokens of all rows end to end, each row attending to itself alone.

A batch of rows filled up to its longest one sends its padding through every linear map. Packed, each token is a row of
its own to the encoder's layers, (P,1,D), for all they do but attention is done to each token by itself; a span of rows
is then a span of tokens, so that what acts on some rows of a batch alone (`model.mixed`) goes on doing so. Attention
gets the rows' lengths in the place of its mask: the encoder classes of transformers 4 for these families call torch's
`scaled_dot_product_attention` directly and read no attention interface, so `OwnRow`, which they pass on as the mask,
answers that call. What comes back is (N,T,D) with zeros at the padding.

Shapes: N rows, T tokens of the longest, P real tokens of all rows, D hidden size, H attention heads, W width of one.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from adapters_xling.backbones import Family

if TYPE_CHECKING:
    from .core import Model

HALF = (torch.float16, torch.bfloat16)
"""Types that variable-length kernels compute in."""
LEAST_CAPABILITY = (8, 0)
"""Of a CUDA device with such kernels (Ampere)."""
WIDEST_HEAD, HEAD_STEP = 256, 8
"""Widths of a head that they know: multiples of `HEAD_STEP` up to `WIDEST_HEAD`."""


@dataclass(frozen=True, eq=False)
class Packing:
    """Where the tokens of a batch lie when they lie end to end.

    Attributes:
        shape: (N,T) of the batch.
        places: (P), place of each token among the N*T of the batch.
        lengths: tokens of each row, in the order in which rows lie: shorter ones first within each part.
        ends: number of tokens up to the end of each part of the batch.
        real: (N,T), True for real tokens.
        starts: (N+1), int32: where each row begins, and the number of tokens.
        kernel: variable-length attention, where the device has it.
    """

    shape: tuple[int, int]
    places: Tensor
    lengths: tuple[int, ...]
    ends: tuple[int, ...]
    real: Tensor
    starts: Tensor
    kernel: Callable[..., Tensor] | None

    @classmethod
    def of(cls, mask_NT: Tensor, *, parts: Sequence[int] = (), kernel: Callable[..., Tensor] | None = None) -> Packing:
        """Lay a batch out.

        Args:
            mask_NT: other than 0 for real tokens, wherever they stand in a row.
            parts: rows of each part whose tokens must stay together; by default the batch is one part.
            kernel: variable-length attention, where it can be used.
        """
        real_NT = mask_NT != 0
        rows, width = real_NT.shape
        counts = real_NT.sum(1).tolist()
        order: list[int] = []
        for size in parts or (rows,):
            order += sorted(range(len(order), len(order) + size), key=counts.__getitem__)
        assert len(order) == rows, (parts, rows)
        at_N = torch.tensor(order, device=real_NT.device)
        found = real_NT[at_N].nonzero()
        lengths = tuple(counts[i] for i in order)
        sums = (0, *itertools.accumulate(lengths))
        return cls(
            shape=(rows, width),
            places=at_N[found[:, 0]] * width + found[:, 1],
            lengths=lengths,
            ends=tuple(sums[end] for end in itertools.accumulate(parts or (rows,))),
            real=real_NT,
            starts=torch.tensor(sums, dtype=torch.int32, device=real_NT.device),
            kernel=kernel,
        )

    @property
    def parts(self) -> tuple[slice, ...]:
        """Tokens of each part of the batch."""
        return tuple(slice(*ends) for ends in itertools.pairwise((0, *self.ends)))

    def pack(self, values: Tensor) -> Tensor:
        """Take (N,T) or (N,T,D) to (P,1) or (P,1,D)."""
        return values.flatten(0, 1).index_select(0, self.places).unsqueeze(1)

    def unpack(self, values_P1D: Tensor) -> Tensor:
        """Take (P,1,D) back to (N,T,D), zeros at the padding."""
        empty = values_P1D.new_zeros(self.real.numel(), values_P1D.shape[-1])
        return empty.index_copy(0, self.places, values_P1D.squeeze(1)).unflatten(0, self.shape)

    def mask(self) -> Tensor:
        """What layers take for their attention mask."""
        mask = torch.empty(1, device=self.real.device).expand(len(self.places), 1, 1, 1).as_subclass(OwnRow)
        mask.packing = self
        return mask

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *, dropout: float = 0.0) -> Tensor:
        """Attention of every token over its own row, (P,H,W) each.

        The kernel has no dropout; with some, and without the kernel, it is done by whole rows: on a processor those of
        one length together, on other devices, where many small products take longer, all of them padded.
        """
        half = query.dtype in HALF and query.dtype == key.dtype == value.dtype
        if self.kernel is not None and not dropout and half:
            longest = max(self.lengths)
            return self.kernel(query, key, value, self.starts, self.starts, longest, longest)
        if query.device.type == "cpu":
            return self.attend_by_length(query, key, value, dropout=dropout)
        return self.attend_padded(query, key, value, dropout=dropout)

    def attend_by_length(self, query: Tensor, key: Tensor, value: Tensor, *, dropout: float = 0.0) -> Tensor:
        """`attend`, rows of one length that follow each other in one call: nothing is masked or filled up."""
        outputs, start = [], 0
        for length, group in itertools.groupby(self.lengths):
            count = len(list(group))
            end = start + count * length
            if not length:
                continue
            q, k, v = (one[start:end].unflatten(0, (count, length)).transpose(1, 2) for one in (query, key, value))
            found = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
            outputs.append(found.transpose(1, 2).flatten(0, 1))
            start = end
        return torch.cat(outputs)

    def attend_padded(self, query: Tensor, key: Tensor, value: Tensor, *, dropout: float = 0.0) -> Tensor:
        """`attend`, filled up for this alone."""
        heads = query.shape[1:]
        q, k, v = (
            self.unpack(one.flatten(1).unsqueeze(1)).unflatten(2, heads).transpose(1, 2) for one in (query, key, value)
        )
        mask = self.real[:, None, None, :]
        found = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.pack(found.transpose(1, 2).flatten(2)).squeeze(1).unflatten(1, heads)


class OwnRow(Tensor):
    """Stands in the place of an attention mask and says instead which tokens are one row.

    Layers may ask for its form and attend with it. Anything else they would do to a mask has no meaning here.
    """

    packing: Packing

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Answer `scaled_dot_product_attention`, and what layers ask of a mask's form.

        Raises:
            TypeError: for anything else.
        """
        if func is functional.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        if func in _FORM:
            return super().__torch_function__(func, types, args, kwargs or {})
        raise TypeError(f"{getattr(func, '__name__', func)} of the mask of a packed batch: rows have no mask there")


_FORM: set[Any] = {Tensor.shape.__get__, Tensor.device.__get__, Tensor.dtype.__get__, Tensor.size, Tensor.dim}


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: OwnRow,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **others: Any,
) -> Tensor:
    """torch's signature over tokens that are rows of their own, (P,H,1,W)."""
    if is_causal or any(value not in (None, False) for value in others.values()) or query.shape != key.shape:
        raise TypeError("attention over a packed batch is that of a plain encoder: as many keys as queries, not causal")
    flat = (one.squeeze(2) for one in (query, key, value))
    return attn_mask.packing.attend(*flat, dropout=dropout_p).unsqueeze(2)


# --- when ---------------------------------------------------------------------------------------------------------


def packing_of(model: Model, inputs: Mapping[str, Tensor], *, parts: Sequence[int] = ()) -> Packing | None:
    """How a batch is laid out for the forward pass that begins now; None where it stays padded.

    Args:
        model: whose `attention` is asked for.
        inputs: of the encoder, (N,T) each.
        parts: as `Packing.of` takes them.
    """
    if not packs(model):
        return None
    mask_NT = inputs["attention_mask"]
    packing = Packing.of(mask_NT, parts=parts, kernel=_kernel(model))
    return packing if 0 < len(packing.places) < mask_NT.numel() else None


def packs(model: Model) -> bool:
    """Whether a model's forward passes are packed, in the precision that is switched on now."""
    if model.attention == "padded":
        return False
    if model.attention == "auto":
        return _kernel(model) is not None and _against(model) is None
    reason = _against(model)
    if reason is not None:
        warnings.warn(f"attention 'packed' was asked for, but {reason}: such batches stay padded")
    return reason is None


def _against(model: Model) -> str | None:
    """Why a model's batches cannot be packed; None when they can."""
    if model.compiled is not None:
        return "its passes are compiled, for whole batches"
    config = model.encoder.config
    if config._attn_implementation != "sdpa":
        return f"the encoder runs with attention kernel {config._attn_implementation!r}"
    if getattr(config, "position_embedding_type", "absolute") != "absolute":
        return f"the backbone has {config.position_embedding_type} positions"
    if not model.method.acts_by_token(model.encoder):
        return "its route has prefixes, which every row attends to"
    if model.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        return "rounded products on a processor need batches of few shapes (batching)"
    return None


def _kernel(model: Model) -> Callable[..., Tensor] | None:
    """Variable-length attention, where device, build, precision and encoder have it."""
    device, config = model.device, model.encoder.config
    if device.type != "cuda" or not torch.backends.cuda.is_flash_attention_available():
        return None
    if torch.cuda.get_device_capability(device) < LEAST_CAPABILITY:
        return None
    width = config.hidden_size // config.num_attention_heads
    if width > WIDEST_HEAD or width % HEAD_STEP:
        return None
    computed = next(model.encoder.parameters()).dtype
    if torch.is_autocast_enabled("cuda"):
        computed = torch.get_autocast_dtype("cuda")
    return _varlen() if computed in HALF else None


@functools.cache
def _varlen() -> Callable[..., Tensor] | None:
    """torch's own variable-length attention; None in versions without it."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


# --- the encoder's inputs -----------------------------------------------------------------------------------------


def packed_inputs(encoder: Any, family: Family, packing: Packing, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inputs (P,1) of the embedding block: tokens, their positions as the family counts them, and segments."""
    ids_NT = inputs["input_ids"]
    types_NT = inputs.get("token_type_ids", torch.zeros_like(ids_NT))
    named = {"input_ids": ids_NT, "position_ids": positions(encoder, family, ids_NT), "token_type_ids": types_NT}
    return {name: packing.pack(values) for name, values in named.items()}


def positions(encoder: Any, family: Family, ids_NT: Tensor) -> Tensor:
    """Position (N,T) of every token: from 0, or in families that count from behind the padding's, from there."""
    if not family.position_offset:
        return torch.arange(ids_NT.shape[1], device=ids_NT.device).expand_as(ids_NT)
    padding = int(encoder.config.pad_token_id)
    text_NT = (ids_NT != padding).long()
    return text_NT.cumsum(1) * text_NT + padding
