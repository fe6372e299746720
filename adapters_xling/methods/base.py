"""The verbs a training family answers to. A method touches the encoder only; heads are ours and live in `model.py`.

A *slot* is an adapter's name inside a live encoder. A route given to a method names slots, not zoo keys:
`Use(entry=<slot>)`. Concrete methods are frozen dataclasses whose fields are their settings; they import their
library inside functions, so that reading settings and computing keys stays cheap.
"""

from __future__ import annotations

import contextlib
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from adapters_xling.backbones import Family, Shape
from adapters_xling.errors import ConfigError, ZooError
from adapters_xling.spec import BackboneId, Init, Merge, MethodSpec, Route, describe

from .slots import has_slot, malformed, merges, named_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Trainable:
    """What a run may change in the encoder.

    Attributes:
        parameters: names (as in `encoder.named_parameters()`) of everything that trains; all else is frozen.
        modules: modules put in train mode (their dropout acts); every other module stays in eval mode.
    """

    parameters: frozenset[str]
    modules: tuple[nn.Module, ...]


@dataclasses.dataclass(frozen=True)
class Kept:
    """Numbers per token, over all layers, that a slot's own maps keep for the backward pass.

    Attributes:
        values: inputs of its maps, each counted once however many read it.
        casts: the same where every map makes a copy of its own (bfloat16 products).
        normed: inputs of normalisations, kept in float32.
        masks: dropout's.
    """

    values: float = 0.0
    casts: float = 0.0
    normed: float = 0.0
    masks: float = 0.0


@dataclasses.dataclass(frozen=True)
class Method(ABC):
    """A training family with its settings as fields."""

    name: ClassVar[str]
    shares_encoder: ClassVar[bool] = True
    """False when an entry replaces the encoder's own weights, so that no other entry can be resident beside it."""

    @property
    def mixes_rows(self) -> bool:
        """Whether rows of one batch may run over different entries of this method; see `activate`."""
        return self.shares_encoder

    @property
    def label(self) -> str:
        """What tables call it; the method's name unless its settings make it something else."""
        return self.name

    def spec(self) -> MethodSpec:
        """The settings as data, every field written out; this is what a run hashes."""
        return MethodSpec(name=self.name, settings=dataclasses.asdict(self))

    @abstractmethod
    def check(self, family: Family) -> None:
        """Refuse settings that cannot work.

        Raises:
            ConfigError: naming method, setting and what is valid.
        """

    def supports(self, init: Init, route: Route) -> str | None:
        """Say why this method cannot start so or run so, or None when it can. Checked before anything is loaded."""
        if reason := malformed(route) or self.supports_route(route):
            return reason
        for merge in merges(init, route):
            if reason := self.supports_merge(merge):
                return f"method {self.name!r} cannot make {describe(merge)}: {reason}"
        return None

    @abstractmethod
    def supports_route(self, route: Route) -> str | None:
        """Say why this method cannot run over a well-formed route, or None."""

    def supports_merge(self, merge: Merge) -> str | None:
        """Say why this method's entries cannot be merged so, or None. By default they never can."""
        return "its entries hold no weights of the encoder"

    @abstractmethod
    def load(self, encoder: nn.Module, slot: str, folder: Path) -> None:
        """Add a frozen slot from an entry's native files, with the entry's own settings.

        Raises:
            ZooError: when a weight is missing, unexpected or of another shape.
        """

    @classmethod
    def of_files(cls, encoder: nn.Module, folder: Path) -> Method:
        """Read off an adapter's native files the settings it was made with.

        Raises:
            ZooError: when they are no settings of this method.
        """
        raise ZooError(f"{folder}: method {cls.name!r} has no adapters of others to read")

    @abstractmethod
    def attach(self, encoder: nn.Module, slot: str, warm: Path | None, route: Route) -> Trainable:
        """Make the trainable slot exist (fresh, or a copy of the native files in `warm`), activate `route`, and
        freeze everything else. Random initialisation draws from torch's global generator.

        Raises:
            ConfigError: when the files in `warm` were made with other settings.
        """

    @abstractmethod
    def activate(self, encoder: nn.Module, route: Route, rows: Sequence[tuple[slice, Route]] | None = None) -> None:
        """Route the forward pass over slots; `Base()` gives the bare backbone, bit for bit. Takes no longer the more
        slots are resident.

        Args:
            encoder: the live encoder.
            route: for every row of a batch.
            rows: instead of it, a route for each part of a batch; they follow each other and cover it.

        Raises:
            ConfigError: for a slot that is not there, or a route that cannot be computed as it says.
        """

    @abstractmethod
    def save(
        self, encoder: nn.Module, slot: str, folder: Path, *, name: str = "xling", backbone: BackboneId | None = None
    ) -> None:
        """Write the slot in its library's own format (safetensors and JSON only), loadable without this package.

        Args:
            encoder: the live encoder.
            slot: which slot of it.
            folder: created when missing.
            name: name a stranger's library will give the adapter.
            backbone: recorded in the native files as what they were trained on.
        """

    def merged(self, merge: Merge, methods: Sequence[Method]) -> Method:
        """The method, with its settings, that describes what a merge of entries of these methods gives.

        Raises:
            ConfigError: when they differ in what must be the same.
        """
        raise NotImplementedError  # only asked for what `supports_merge` allows

    def merge(self, encoder: nn.Module, merge: Merge, folders: Sequence[Path], folder: Path) -> str:
        """Merge entries' native files into native files of their own.

        Args:
            encoder: a pristine encoder of the backbone; left as it is.
            merge: how; entry i of it lies in folder i.
            folders: native files of each entry.
            folder: where the result is written.

        Returns:
            What was computed and how exact it is, in a sentence for the card.

        Raises:
            ConfigError: for entries that do not fit each other.
            ZooError: for files that cannot be read.
        """
        raise NotImplementedError  # only asked for what `supports_merge` allows

    def penalty(self, encoder: nn.Module, slot: str) -> Tensor | None:
        """What training adds to the loss for the slot's own weights; None for nothing."""
        return None

    @abstractmethod
    def lowest_layer(self, num_layers: int) -> int:
        """First hidden state that differs from the frozen backbone's: 0 is the embeddings' output, i that of layer i
        (counted from 1), and `num_layers` + 1 means none does. What lies below may be computed once and kept."""

    def num_added(self, shape: Shape, family: Family) -> int:
        """Parameters a slot adds to an encoder of this size; nothing is loaded to say so. By default none."""
        return 0

    def num_saved(self, shape: Shape, family: Family) -> int:
        """Encoder parameters an entry keeps on disk: by default what the slot added."""
        return self.num_added(shape, family)

    def num_trained(self, shape: Shape, family: Family) -> int:
        """Parameters of the encoder itself that train, beside what the slot added. By default none."""
        return 0

    def kept(self, shape: Shape, family: Family) -> Kept:
        """What the slot keeps of every token between forward and backward pass. By default nothing."""
        return Kept()

    def acts_by_token(self, encoder: nn.Module) -> bool:
        """Whether what is active now treats each token by itself, and alike wherever it stands in a batch."""
        return True

    def read_layer(self, num_layers: int) -> int | None:
        """Hidden state the heads read (0: the embeddings' output), or None for the last one."""
        return None

    def unembed(self, encoder: nn.Module, vectors: Tensor) -> Tensor:
        """Take vectors (…,D) made from the last hidden state back to the space of the token vectors.

        Only what a slot does between the token vectors and the first layer has to be undone (invertible blocks).
        """
        return vectors

    def fold(self, encoder: nn.Module) -> None:
        """Fold the active slots into the backbone's own weights, for good; the encoder is for export only afterwards.

        Raises:
            ConfigError: for a method whose slots are modules of their own, which no plain encoder has.
        """
        raise ConfigError(
            f"method {self.name!r} adds modules that a plain encoder does not have, so it cannot be merged into one; "
            "export it with --for onnx, or load its own files with its library"
        )

    def backbone_name(self, name: str) -> str | None:
        """Name that a tensor of a rewritten encoder has in the bare backbone, or None for a slot's own tensor.

        Fingerprints are taken over these names, so that they mean the same before and after slots were added.
        """
        return None if has_slot(name) else name

    def form(self, encoder: nn.Module, slot: str) -> Any:
        """What of a slot, beside its tensors, decides what a forward pass computes, as data. Slots with equal forms
        and tensors of the same names differ in values and sizes alone, so that one compiled graph serves them all.
        """
        return None

    def operands(self, encoder: nn.Module, slot: str) -> dict[str, Tensor]:
        """Tensors of a slot by their names in the encoder, as its stand-in (`stand_in`) takes them."""
        return {name: tensor.detach() for name, tensor in named_tensors(encoder) if slot in name.split(".")}

    def stand_in(self, copy: nn.Module, route: Route) -> None:
        """Turn a copy of an encoder into one that runs a route over operands which are given to it in every pass.

        Whatever depends on other residents than the route's must go. By default the route is activated.
        """
        self.activate(copy, route)

    def before_pass(self) -> None:  # noqa: B027 - most have nothing to do
        """What a thread must have done before a compiled pass, so that the first finds what every later one does."""

    def runs_by_rows(self, encoder: nn.Module, slot: str) -> bool:
        """Whether a slot's forward pass stays right when every row of a batch has tensors of its own: when all it does
        with them is to apply linear maps, and to add or multiply along the hidden dimension."""
        return False

    def context(self, encoder: nn.Module, **inputs: Tensor) -> contextlib.AbstractContextManager[Any]:
        """What has to surround a call of single layers, for libraries that prepare things per forward pass."""
        return contextlib.nullcontext()
