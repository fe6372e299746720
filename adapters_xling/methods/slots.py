"""Slots of a live encoder: their names, the routes over them, and what all methods do to an encoder around them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from adapters_xling.backbones import FAMILIES, Family
from adapters_xling.errors import ConfigError, unknown
from adapters_xling.spec import Base, Route, Slot, Stack, Use

if TYPE_CHECKING:
    from torch import nn

_SLOT = re.compile(r"s\d{3}_")


def slot_name(index: int) -> str:
    """Name of a slot, valid in every library: fixed width and closed by ``_``, so that none is part of another.

    >>> slot_name(7)
    's007_'
    """
    return f"s{index:03d}_"


def has_slot(name: str) -> bool:
    """Say whether a tensor's name belongs to a slot.

    >>> has_slot("encoder.layer.0.output.adapters.s000_.adapter_up.weight"), has_slot("embeddings.LayerNorm.bias")
    (True, False)
    """
    return any(_SLOT.fullmatch(part) for part in name.split("."))


def slots(route: Route, own: str | None = None) -> tuple[str, ...]:
    """Slots a route runs through, the one nearest to the backbone first.

    Args:
        route: a route over slots.
        own: the slot that `Slot()` stands for.

    Raises:
        ConfigError: when a slot would be applied twice; what that means differs between methods.

    >>> slots(Stack(parts=(Use(entry="s001_"), Slot())), "s000_")
    ('s001_', 's000_')
    """
    if isinstance(route, Stack):
        found = tuple(slot for part in route.parts for slot in slots(part, own))
    elif isinstance(route, Use):
        found = (route.entry,)
    else:
        found = (own,) if isinstance(route, Slot) and own else ()
    if len(set(found)) != len(found):
        twice = next(slot for i, slot in enumerate(found) if slot in found[:i])
        raise ConfigError(
            f"a route runs through {twice!r} twice: two of its entries stand on the same parent. "
            "Stack entries that were trained on the bare backbone, or name the upper one alone"
        )
    return found


def own_route(route: Route, own: str) -> Route:
    """Put the run's own slot where a route says `Slot()`.

    >>> own_route(Slot(), "s000_")
    Use(entry='s000_')
    """
    if isinstance(route, Stack):
        return Stack(parts=tuple(own_route(part, own) for part in route.parts))
    return Use(entry=own) if isinstance(route, Slot) else route


def malformed(route: Route) -> str | None:
    """Say what is wrong with a route whatever the method, or None."""
    if not isinstance(route, Stack):
        return None
    if len(route.parts) < 2:
        return "a Stack needs at least two parts; write the part alone"
    if any(isinstance(part, Base) for part in route.parts):
        return "Base cannot be part of a Stack: it means that nothing is added to the backbone"
    flat = [part for part in _leaves(route) if isinstance(part, Slot)]
    return "a route can hold the run's own slot once only" if len(flat) > 1 else None


def _leaves(route: Route) -> Iterable[Route]:
    if isinstance(route, Stack):
        for part in route.parts:
            yield from _leaves(part)
    else:
        yield route


def family_of(encoder: nn.Module) -> Family:
    """Architecture of a live encoder, by the model type in its configuration.

    Raises:
        UnknownName: for an architecture without a row in `backbones.py`.
    """
    name = str(encoder.config.model_type)
    if name not in FAMILIES:
        raise unknown("family", name, FAMILIES, "adapters_xling/backbones.py")
    return FAMILIES[name]


def claim(encoder: nn.Module, method: str) -> None:
    """Mark an encoder as rewritten by a method's library, so that no second one rewrites the same modules.

    adapters replaces layers that peft wrapped without a word (and the other way round), after which the older
    slots no longer act; hence an error here.

    Raises:
        ConfigError: when another method has slots in this encoder.
    """
    holder = getattr(encoder, "_xling_method", method)
    if holder != method:
        raise ConfigError(
            f"method {method!r} cannot join method {holder!r} in one encoder: both rewrite the same modules and one "
            f"would silently switch the other off. Compose entries of one method, or start with Warm"
        )
    encoder._xling_method = method


def freeze_all_but(encoder: nn.Module, names: Collection[str]) -> None:
    """Let exactly the named parameters train, and put every module in eval mode."""
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(name in names)
    encoder.eval()


def slot_parameters(encoder: nn.Module, slot: str) -> frozenset[str]:
    """Names of the parameters that belong to a slot."""
    return frozenset(name for name, _ in encoder.named_parameters() if slot in name.split("."))


def slot_modules(encoder: nn.Module, slot: str) -> tuple[nn.Module, ...]:
    """Modules of a slot: in every library they are children named like the slot."""
    return tuple(module for name, module in encoder.named_modules() if name.rpartition(".")[2] == slot)
