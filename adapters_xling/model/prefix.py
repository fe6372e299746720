"""The frozen prefix: the layers below everything that trains, whose output depends on a row of tokens alone.

That output is computed once per row and kept (`prefix_cache`), whatever asks for it: epochs, seeds, learning rates,
adapters, dev scoring, evaluation. Rows are computed in batches whose width is a multiple of `WIDTH` tokens. The vectors
of a processor then take a row's tokens in the same groups whatever else stands in the batch, so that on a CPU the bits
of a row depend on nothing but the row (tested; on a GPU its last bits may differ). Hence a run ends with the same bits
however much was kept, by whom, and whether it was killed on the way.

Shapes: N rows, T tokens, D hidden size.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import tempfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from adapters_xling.batching import bucket
from adapters_xling.composition import leaves, transform
from adapters_xling.prefix_cache import PrefixCache, Store, open_store
from adapters_xling.spec import Base, Route, Stack, Use, canonical, digest

if TYPE_CHECKING:
    from .core import Model

FORMAT = 1
"""Raise when the same address would mean other hidden states."""
WIDTH = 16
"""Tokens that batches are filled up to a multiple of: what the widest vectors of processors take at once."""

_STORED: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16}


class Prefix:
    """Gives a model the hidden states of its frozen layers, from a store as far as they are there.

    Attributes:
        layer: hidden state below everything that trains: layers 1 to `layer` are frozen. At 0 nothing is kept: the
            embeddings take a hundredth of a layer's time (LOG.md), and their output as much space as any.
        store: where rows are kept.
        storage: "fp32" or "bf16".
    """

    def __init__(self, model: Model, setting: PrefixCache) -> None:
        self._model = model
        self.layer = frozen_layers(model)
        self.storage = setting.storage
        self.store: Store = open_store(setting)
        self._addresses: dict[tuple[int, str], str] = {}
        self._paused = False

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Neither look rows up nor keep them: for rows that no one will ask for again."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def start(self, batch: Mapping[str, Tensor], stop: int) -> tuple[int, Tensor | None]:
        """Where a forward pass that ends at hidden state `stop` may begin, and the hidden state (N,T,D) there.

        Args:
            batch: inputs of the encoder, (N,T) each.
            stop: hidden state that is wanted.

        Returns:
            (0, None) where nothing is kept. Positions behind a row's end hold zeros, which nothing reads.
        """
        layer = min(self.layer, stop)
        if layer < 1 or self._paused:
            return 0, None
        ids_NT = batch["input_ids"].cpu().numpy().astype("<i4")
        types_NT = batch["token_type_ids"].cpu().numpy().astype("<i4") if "token_type_ids" in batch else None
        mask_NT = batch["attention_mask"].cpu().numpy() != 0
        lengths = mask_NT.sum(1)
        if not lengths.all() or not (mask_NT == (np.arange(mask_NT.shape[1]) < lengths[:, None])).all():
            return 0, None  # rows that do not stand on the left are nobody's here
        names = [
            _name(ids_NT[i, :length], None if types_NT is None else types_NT[i, :length])
            for i, length in enumerate(lengths)
        ]
        address = self._address(layer)
        rows = self.store.get(address, names)
        missing = {name: i for i, (name, row) in enumerate(zip(names, rows, strict=True)) if row is None}
        if missing:
            computed = self._compute(batch, layer, list(missing.values()), lengths)
            new = dict(zip(missing, computed, strict=True))
            self.store.put(address, new)
            rows = [new[name] if row is None else row for name, row in zip(names, rows, strict=True)]
        return layer, self._together(rows, width=ids_NT.shape[1])

    @torch.no_grad()
    def _compute(self, batch: Mapping[str, Tensor], layer: int, chosen: list[int], lengths: np.ndarray) -> list[Tensor]:
        """Hidden states (T,D) of some rows of a batch, as they are kept.

        Where products are rounded, the last row is repeated up to a number of rows that comes again (`batching`).
        """
        model, longest = self._model, int(lengths[chosen].max())
        high = len(chosen) if _precision(model.device.type) == "float32" else min(bucket(len(chosen)), len(lengths))
        taken = [*chosen, *chosen[-1:] * (high - len(chosen))]
        width = max(longest, min(math.ceil(longest / WIDTH) * WIDTH, model.max_positions))
        fills = {"input_ids": model.pad_id}
        rows = {name: _to_width(batch[name][taken], width, fills.get(name, 0)) for name in batch}
        hidden_NTD = model.encode_now(rows, layer=layer)
        stored = hidden_NTD.to(_STORED[self.storage] or hidden_NTD.dtype).cpu()
        return [stored[i, : lengths[row]] for i, row in enumerate(chosen)]

    def _together(self, rows: list[Any], *, width: int) -> Tensor:
        """Rows of hidden states as one batch (N,T,D) on the model's device."""
        dtype = torch.float32 if self.storage == "bf16" else rows[0].dtype
        hidden_NTD = torch.zeros(len(rows), width, rows[0].shape[1], dtype=dtype)
        for own, row in zip(hidden_NTD, rows, strict=True):
            own[: len(row)] = row
        return hidden_NTD.to(self._model.device, non_blocking=True)

    def _address(self, layer: int) -> str:
        """Digest of everything beside a row's tokens that its hidden state depends on."""
        precision = _precision(self._model.device.type)
        if (layer, precision) not in self._addresses:
            compiled = self._model.compiled is not None
            self._addresses[layer, precision] = address(
                self._model, layer, precision=precision, storage=self.storage, compiled=compiled
            )
        return self._addresses[layer, precision]


def address(model: Model, layer: int, *, precision: str, storage: str, compiled: bool = False) -> str:
    """Digest of everything beside its tokens that a row's hidden state `layer` depends on.

    Args:
        model: backbone, route and slots.
        layer: hidden state, from 1.
        precision: of the products.
        storage: how it is kept.
        compiled: whether the passes go through `torch.compile`, which rounds otherwise.
    """
    acting = below(model, layer)
    facts = {
        "format": FORMAT,
        "backbone": [model.backbone.digest, model.backbone_fingerprint],
        "below": acting,
        "layer": layer,
        "precision": precision,
        "storage": storage,
        "attention": str(model.encoder.config._attn_implementation),
        "machine": _machine(model.device),
        "versions": [torch.__version__, transformers.__version__],
        **({"libraries": [metadata.version(name) for name in ("adapters", "peft")]} if acting else {}),
        **({"compiled": True} if compiled else {}),
    }
    return digest(facts)[:32]


def frozen_layers(model: Model) -> int:
    """Number of the encoder's lowest layers that training leaves as they are, together with all that is below them.

    The method says from where on its slot acts. Of what trains in a layer (a fusion may reach lower than the slots of
    its method) the layer itself says it.
    """
    lowest = model.method.lowest_layer(model.num_layers) - 1
    layers = [_layer_of(model, name) for name in model.trainable.parameters]
    return max(0, min([lowest, *(layer for layer in layers if layer is not None)]))


def below(model: Model, layer: int) -> Any:
    """What of a model's route acts below a hidden state, as data: None for the bare backbone.

    A slot stands for the files it would be saved as, which determine what it computes. One that holds nothing below
    does nothing there.
    """
    if model.route is None:
        return None
    acting = {slot: _files_digest(model, slot) for slot in _slots(model.route) if _acts_below(model, slot, layer)}
    return _described(model.route, acting)


def _described(route: Route, acting: Mapping[str, str]) -> Any:
    """A route with each slot's name replaced by its digest; None where none of its slots acts."""
    if not set(_slots(route)) & set(acting):
        return None
    if isinstance(route, Stack):
        parts = [found for part in route.parts if (found := _described(part, acting)) is not None]
        return parts[0] if len(parts) == 1 else ["stack", *parts]
    return canonical(
        transform(route, lambda leaf: Use(entry=acting.get(leaf.entry, "-")) if isinstance(leaf, Use) else Base())
    )


def _slots(route: Route) -> list[str]:
    return [leaf.entry for leaf in leaves(route) if isinstance(leaf, Use)]


def _acts_below(model: Model, slot: str, layer: int) -> bool:
    """Whether a slot has anything in the layers up to hidden state `layer`, or outside the layers.

    The one that trains acts above, by `frozen_layers`, wherever its parts may lie.
    """
    own = [name for name, _ in model.encoder.named_parameters(remove_duplicate=False) if slot in name.split(".")]
    if not model.trainable.parameters.isdisjoint(own):
        return False
    return any(at is None or at < layer for at in (_layer_of(model, name) for name in own))


def _layer_of(model: Model, name: str) -> int | None:
    """Number (from 0) of the layer that a parameter lies in; None for one outside the layers."""
    head = f"{model.family.layers}."
    return int(name.removeprefix(head).partition(".")[0]) if name.startswith(head) else None


def _files_digest(model: Model, slot: str) -> str:
    """Digest of the files a slot would be saved as."""
    total = hashlib.sha256()
    with tempfile.TemporaryDirectory(prefix="xling-slot-") as name:
        folder = Path(name)
        model.method.save(model.encoder, slot, folder)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                total.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return total.hexdigest()


def _machine(device: torch.device) -> list[Any]:
    """What the bits of a product depend on beside its factors."""
    if device.type == "cuda":
        return [device.type, torch.cuda.get_device_name(device)]
    return [device.type, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()]


def _precision(device: str) -> str:
    """Type of the products that forward passes compute now."""
    if torch.is_autocast_enabled(device):
        return str(torch.get_autocast_dtype(device)).removeprefix("torch.")
    return "float32"


def _name(ids_T: np.ndarray, types_T: np.ndarray | None) -> bytes:
    """Digest of a row's tokens."""
    total = hashlib.blake2b(ids_T.tobytes(), digest_size=16)
    if types_T is not None and types_T.any():
        total.update(b"types" + types_T.tobytes())
    return total.digest()


def _to_width(rows_NT: Tensor, width: int, value: int) -> Tensor:
    """Rows cut or filled up on the right."""
    return nn.functional.pad(rows_NT, (0, width - rows_NT.shape[1]), value=value)
