"""Full fine-tuning: every weight of the encoder trains. The baseline every adapter is reported against."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from adapters_xling.backbones import Family, Shape
from adapters_xling.errors import ConfigError
from adapters_xling.spec import BackboneId, Base, Init, Route, Stack, Use, entries

from .base import Method, Trainable
from .native import copy_exactly, read_tensors
from .slots import family_of, freeze_all_but, malformed

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

    def supports(self, init: Init, route: Route) -> str | None:
        """Refuse every composition: two sets of encoder weights cannot be resident at once."""
        if reason := malformed(route):
            return reason
        if isinstance(route, Stack):
            found = entries(route)
            return (
                "method 'full' cannot Stack: it starts from Fresh or Warm. "
                f"To start from {found[0] if found else 'an entry'} use Warm."
            )
        if isinstance(route, Base):
            return (
                "method 'full' cannot run Base: its entry has replaced the backbone's weights. "
                "Open the bare backbone itself."
            )
        return None

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

    def activate(self, encoder: nn.Module, route: Route) -> None:
        """Check that the route is the encoder itself; there is nothing to switch.

        Raises:
            ConfigError: for a route that would need other weights than the encoder's.
        """
        if reason := self.supports_route(route):
            raise ConfigError(reason)

    def merge(self, encoder: nn.Module) -> None:
        """Nothing to fold: the encoder's weights are the entry's."""

    def supports_route(self, route: Route) -> str | None:
        """`supports` for callers that have no init at hand: with this method the init never matters."""
        from adapters_xling.spec import Fresh

        return self.supports(Fresh(), route)

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
