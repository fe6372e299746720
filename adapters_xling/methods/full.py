"""Full fine-tuning: every weight of the encoder trains. The baseline every adapter is reported against."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from adapters_xling.backbones import Family, Shape
from adapters_xling.errors import ConfigError, ZooError
from adapters_xling.spec import BackboneId, Base, Merge, Route, Use, describe, entries

from . import merging
from .base import Method, Trainable
from .native import copy_exactly, read_tensors
from .slots import composed, family_of, freeze_all_but, malformed

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = "model.safetensors"


@dataclasses.dataclass(frozen=True)
class Full(Method):
    """Train the encoder itself. Its dropout is the recipe's (`Model.set_dropout`).

    Attributes:
        train_embeddings: False freezes the token vectors, which are most of a multilingual encoder's weights.
    """

    name: ClassVar[str] = "full"
    shares_encoder: ClassVar[bool] = False

    train_embeddings: bool = True

    def check(self, family: Family) -> None:
        """Nothing can be wrong with a switch."""

    def supports_route(self, route: Route) -> str | None:
        """Refuse every composition: two sets of encoder weights cannot be resident at once."""
        if what := composed(route):
            found = entries(route)
            return (
                f"method 'full' cannot {what}: it starts from Fresh or Warm. "
                f"To start from {found[0] if found else 'an entry'} use Warm."
            )
        if isinstance(route, Base):
            return (
                "method 'full' cannot run Base: its entry has replaced the backbone's weights. "
                "Open the bare backbone itself."
            )
        return None

    def supports_merge(self, merge: Merge) -> str | None:
        """Every merge is sound: all entries started from the backbone, so a task vector is the difference to it."""
        return None

    def merged(self, merge: Merge, methods: Sequence[Method]) -> Method:
        """These settings: they say what trains, not what the weights are."""
        return self

    def merge(self, encoder: Any, merge: Merge, folders: Sequence[Path], folder: Path) -> str:
        """Merge tensor by tensor, as float32: the mean of the weights, or task vectors against the backbone's."""
        from safetensors.torch import save_file

        start = dict(encoder.state_dict())
        states = [read_tensors(one / WEIGHTS) for one in folders]
        for state, one in zip(states, folders, strict=True):
            if set(state) != set(start):
                raise ZooError(f"{one / WEIGHTS}: holds other tensors than this backbone; use the backbone it names")
        result = {}
        for name, before in start.items():
            values = [state[name] for state in states]
            if not before.is_floating_point():
                result[name] = before.clone()
                continue
            vectors = [value.float() - before.float() for value in values]
            result[name] = (before.float() + merging.combine(merge, vectors, name=name)).to(before.dtype).contiguous()
        folder.mkdir(parents=True, exist_ok=True)
        encoder.config.save_pretrained(folder)
        save_file(result, folder / WEIGHTS, metadata={"format": "pt"})
        return f"{describe(merge)} of all weights of the encoder, as differences to the backbone's; exact"

    def load(self, encoder: nn.Module, slot: str, folder: Path) -> None:
        """Replace the encoder's weights by an entry's, every one of them."""
        copy_exactly(encoder.state_dict(), read_tensors(folder / WEIGHTS), folder / WEIGHTS)
        freeze_all_but(encoder, ())

    def attach(self, encoder: nn.Module, slot: str, warm: Path | None, route: Route) -> Trainable:
        """Unfreeze the encoder, from the entry in `warm` where one is given. The whole encoder is in train mode."""
        if isinstance(route, Use):
            raise ConfigError(
                "method 'full' trains its own weights: a run's route is Slot; to start from an entry use Warm"
            )
        self.activate(encoder, route)
        if warm is not None:
            self.load(encoder, slot, warm)
        frozen = () if self.train_embeddings else (family_of(encoder).word_embeddings + ".",)
        names = frozenset(name for name, _ in encoder.named_parameters() if not name.startswith(frozen or ("\0",)))
        freeze_all_but(encoder, names)
        return Trainable(parameters=names, modules=(encoder,))

    def activate(self, encoder: nn.Module, route: Route, rows: Sequence[tuple[slice, Route]] | None = None) -> None:
        """Check that the route is the encoder itself; there is nothing to switch.

        Raises:
            ConfigError: for a route that would need other weights than the encoder's.
        """
        for one in (route, *(each for _, each in rows or ())):
            if reason := malformed(one) or self.supports_route(one):
                raise ConfigError(reason)

    def fold(self, encoder: nn.Module) -> None:
        """Nothing to fold: the encoder's weights are the entry's."""

    def save(
        self, encoder: Any, slot: str, folder: Path, *, name: str = "xling", backbone: BackboneId | None = None
    ) -> None:
        """Write config.json and one model.safetensors, as `from_pretrained` of the bare encoder class reads them."""
        encoder.save_pretrained(folder, safe_serialization=True, max_shard_size="1000GB")

    def lowest_layer(self, num_layers: int) -> int:
        """0: the embedding block trains (its positions and normalisation do even when the token vectors are frozen)."""
        return 0

    def num_saved(self, shape: Shape, family: Family) -> int:
        """The whole encoder, token vectors included even when they were frozen."""
        return shape.num_parameters

    def num_trained(self, shape: Shape, family: Family) -> int:
        """All of it, or all but the token vectors."""
        return shape.num_parameters - (0 if self.train_embeddings else shape.vocabulary * shape.hidden)
