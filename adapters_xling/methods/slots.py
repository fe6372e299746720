"""Slots of a live encoder: their names, the routes over them, and what all methods do to an encoder around them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from adapters_xling.backbones import FAMILIES, Family
from adapters_xling.composition import leaves, parts_of, transform
from adapters_xling.errors import ConfigError, unknown
from adapters_xling.spec import Alone, Average, Base, Fuse, Init, Merge, Merged, Route, Slot, Stack, Use

if TYPE_CHECKING:
    from torch import Tensor, nn

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
    """Slots a route runs through, the one nearest to the backbone first; each once.

    Args:
        route: a route over slots.
        own: the slot that `Slot()` stands for.

    Raises:
        ConfigError: when one forward path would apply a slot twice; what that means differs between methods.

    >>> slots(Stack(parts=(Use(entry="s001_"), Slot())), "s000_")
    ('s001_', 's000_')
    """
    if isinstance(route, Stack):
        found = tuple(slot for part in route.parts for slot in slots(part, own))
        if len(set(found)) != len(found):
            twice = next(slot for i, slot in enumerate(found) if slot in found[:i])
            raise ConfigError(
                f"a route runs through {twice!r} twice: two of its entries stand on the same parent. "
                "Stack entries that were trained on the bare backbone, or name the upper one alone"
            )
        return found
    if isinstance(route, (Average, Fuse)):  # side by side: parts may share what they stand on
        found = tuple(slot for part in route.parts for slot in slots(part, own))
        return tuple(dict.fromkeys((*found, *(slots(route.by, own) if isinstance(route, Fuse) else ()))))
    if isinstance(route, (Use, Alone)):
        return (route.entry,)
    return (own,) if isinstance(route, Slot) and own else ()


def own_route(route: Route, own: str) -> Route:
    """Put the run's own slot where a route says `Slot()`.

    >>> own_route(Slot(), "s000_")
    Use(entry='s000_')
    """
    return transform(route, lambda leaf: Use(entry=own) if isinstance(leaf, Slot) else leaf)


def malformed(route: Route) -> str | None:
    """Say what is wrong with a route whatever the method, or None."""
    for part in _inside(route):
        if isinstance(part, Stack) and len(part.parts) < 2:
            return "a Stack needs at least two parts; write the part alone"
        if isinstance(part, Fuse) and len(part.parts) < 2:
            return "a Fuse needs at least two parts; write the part alone"
        if parts_of(part) and any(isinstance(inner, Base) for inner in part.parts):  # type: ignore[union-attr]
            return f"Base cannot be part of {_a(part)}: it means that nothing is added to the backbone"
        if isinstance(part, Average) and any(isinstance(leaf, Slot) for leaf in leaves(part)):
            return "an Average cannot hold the run's own slot: put the slot on top, stack(average(…), slot)"
        if isinstance(part, Fuse) and any(isinstance(leaf, Slot) for inner in part.parts for leaf in leaves(inner)):
            return "a Fuse mixes finished entries: the run's own slot is its mixing and cannot be one of its parts"
    if sum(isinstance(leaf, Slot) for leaf in leaves(route)) > 1:
        return "a route can hold the run's own slot once only"
    return None


def composed(route: Route) -> str | None:
    """The first way of putting entries together in a route, as errors name it; None for one entry or slot alone.

    >>> composed(Stack(parts=(Use(entry="a"), Slot())))
    'Stack'
    """
    return type(route).__name__ if parts_of(route) else None


def beside(route: Route) -> str | None:
    """The first composition in a route that sets parts side by side, as errors name it.

    >>> beside(Average(parts=(Use(entry="a"), Use(entry="b")), weights=(0.5, 0.5)))
    'Average'
    """
    return next((type(part).__name__ for part in _inside(route) if isinstance(part, (Average, Fuse))), None)


def merges(init: Init, route: Route) -> tuple[Merge, ...]:
    """Merges of entries' weights that an init or a route asks for."""
    own = () if not isinstance(init, Merge) else (init,)
    return (*own, *(leaf.merge for leaf in leaves(route) if isinstance(leaf, Merged)))


def holds(route: Route, kind: type) -> bool:
    """Whether a route or anything inside it is of a kind."""
    return any(isinstance(part, kind) for part in _inside(route))


def _a(route: Route) -> str:
    name = type(route).__name__
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _inside(route: Route) -> Iterable[Route]:
    yield route
    for part in parts_of(route):
        yield from _inside(part)
    if isinstance(route, Fuse):
        yield route.by


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


def named_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, each once."""
    yield from module.named_parameters()
    yield from module.named_buffers()
