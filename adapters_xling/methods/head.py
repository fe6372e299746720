"""Train the head alone on a frozen encoder: the floor every table needs, and the way to run a bare backbone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from adapters_xling.backbones import Family
from adapters_xling.errors import ConfigError
from adapters_xling.spec import BackboneId, Route, Use, entries

from .base import Method, Trainable
from .slots import composed, freeze_all_but, malformed

if TYPE_CHECKING:
    from torch import nn


@dataclasses.dataclass(frozen=True)
class Head(Method):
    """Leave the encoder as it is.

    Attributes:
        layer: hidden state the heads read; None is the last one, 0 the embeddings' output, which knows tokens and
            their positions but no context (the floor "token vectors").
    """

    name: ClassVar[str] = "head"

    layer: int | None = None

    @property
    def label(self) -> str:
        """Tables call a head on the token vectors alone "vectors": what words tell without their context."""
        return "vectors" if self.layer == 0 else self.name

    def check(self, family: Family) -> None:
        """Refuse a negative layer."""
        if self.layer is not None and self.layer < 0:
            raise ConfigError(f"method 'head': layer is {self.layer}; valid are 0 (embeddings) upwards, or null (last)")

    def supports_route(self, route: Route) -> str | None:
        """Refuse compositions: a head adds nothing to the encoder that another entry could stand on."""
        if (what := composed(route)) is None:
            return None
        found = entries(route)
        return (
            f"method 'head' cannot {what}: it adds nothing to the encoder. "
            f"To start its head from {found[0] if found else 'an entry'} use Warm."
        )

    def load(self, encoder: nn.Module, slot: str, folder: Path) -> None:
        """Freeze the encoder; an entry of this method has no weights in it."""
        freeze_all_but(encoder, ())

    def attach(self, encoder: nn.Module, slot: str, warm: Path | None, route: Route) -> Trainable:
        """Freeze the encoder; nothing in it trains."""
        if composed(route) or isinstance(route, Use):
            raise ConfigError("method 'head' trains on the bare encoder: a run's route is Slot")
        freeze_all_but(encoder, ())
        return Trainable(parameters=frozenset(), modules=())

    def activate(self, encoder: nn.Module, route: Route, rows: Sequence[tuple[slice, Route]] | None = None) -> None:
        """Do nothing: every route is the bare backbone."""
        for one in (route, *(each for _, each in rows or ())):
            if reason := malformed(one) or self.supports_route(one):
                raise ConfigError(reason)

    def save(
        self, encoder: nn.Module, slot: str, folder: Path, *, name: str = "xling", backbone: BackboneId | None = None
    ) -> None:
        """Make an empty folder: the entry's weights are its heads."""
        folder.mkdir(parents=True, exist_ok=True)

    def lowest_layer(self, num_layers: int) -> int:
        """One above the last: no hidden state differs from the backbone's."""
        return num_layers + 1

    def fold(self, encoder: nn.Module) -> None:
        """Nothing to fold: the encoder is the backbone."""

    def read_layer(self, num_layers: int) -> int | None:
        """The configured layer.

        Raises:
            ConfigError: when the encoder has fewer layers.
        """
        if self.layer is not None and self.layer > num_layers:
            raise ConfigError(
                f"method 'head': layer is {self.layer}, but this encoder has {num_layers} layers (0: embeddings)"
            )
        return self.layer
