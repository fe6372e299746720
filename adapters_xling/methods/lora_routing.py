"""Which LoRA slots act, and how much, in one place per encoder: switching is setting one attribute.

peft keeps the active slots in every module it wraps, so that its switch walks them all and gets slower with every
resident slot. Here the wrapped modules look at a `Routing` they share. Every route over LoRAs is a weighted sum of
their updates: flattened once, when it is activated.

Shapes: N rows, T tokens, D in, O out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from adapters_xling.spec import Average, Fuse, Route, Stack, Use

if TYPE_CHECKING:
    from torch import Tensor, nn

FUSION = "lora_fusion"
"""Attribute of a wrapped module with the trained weights of its fusions, by slot."""


@dataclass(frozen=True)
class Term:
    """One slot's part in a sum.

    Attributes:
        slot: whose update.
        weight: its constant factor.
        fusions: trained factors, as (slot of the fusion, number of the part in it).
    """

    slot: str
    weight: float = 1.0
    fusions: tuple[tuple[str, int], ...] = ()


Terms = tuple[Term, ...]


@dataclass
class Routing:
    """What all wrapped modules of an encoder do now.

    Attributes:
        terms: the sum for every row; empty for the bare backbone.
        rows: (rows, sum) where rows of a batch differ; they follow each other and cover the batch.
    """

    terms: Terms = ()
    rows: tuple[tuple[slice, Terms], ...] | None = None

    def set(self, route: Route, rows: Sequence[tuple[slice, Route]] | None = None) -> None:
        """Take effect from the next forward pass on."""
        self.terms = terms(route)
        self.rows = None if rows is None else tuple((part, terms(one)) for part, one in rows)


def terms(route: Route) -> Terms:
    """A route over slots as a sum; a slot met several times counts that often.

    >>> terms(Average(parts=(Use(entry="a"), Use(entry="b")), weights=(0.25, 0.75)))
    (Term(slot='a', weight=0.25, fusions=()), Term(slot='b', weight=0.75, fusions=()))
    """
    if isinstance(route, Use):
        return (Term(route.entry),)
    if isinstance(route, Stack):
        return _summed([term for part in route.parts for term in terms(part)])
    if isinstance(route, Average):
        pairs = zip(route.parts, route.weights, strict=True)
        return _summed([replace(term, weight=term.weight * weight) for part, weight in pairs for term in terms(part)])
    if isinstance(route, Fuse):
        assert isinstance(route.by, Use)
        by = route.by.entry
        return _summed(
            [
                replace(term, fusions=(*term.fusions, (by, i)))
                for i, part in enumerate(route.parts)
                for term in terms(part)
            ]
        )
    return ()


def _summed(found: list[Term]) -> Terms:
    """Terms of one slot with the same trained factors become one."""
    weights: dict[tuple[Any, ...], float] = {}
    for term in found:
        weights[term.slot, term.fusions] = weights.get((term.slot, term.fusions), 0.0) + term.weight
    return tuple(Term(slot, weight, fusions) for (slot, fusions), weight in weights.items() if weight)


def routing_of(encoder: nn.Module) -> Routing:
    """The routing that an encoder's wrapped modules share; made on first use."""
    if not hasattr(encoder, "_xling_routing"):
        encoder._xling_routing = Routing()
    return encoder._xling_routing


def install(encoder: nn.Module) -> None:
    """Let every module that peft wrapped look at the encoder's routing."""
    from peft.tuners.lora import Linear

    routed = _routed_class()
    for module in encoder.modules():
        if type(module) is Linear:
            module.__class__ = routed
            module._xling_routing = routing_of(encoder)


def wrapped(encoder: nn.Module) -> dict[str, Any]:
    """Modules that hold LoRA slots, by name."""
    routed = _routed_class()
    return {name: module for name, module in encoder.named_modules() if isinstance(module, routed)}


def fold(encoder: nn.Module) -> None:
    """Add the active sum's updates to the matrices below them, for good."""
    import torch

    with torch.no_grad():
        for module in wrapped(encoder).values():
            for term in module._xling_routing.terms:
                if term.slot not in module.lora_A:
                    continue
                if term.slot in module.lora_variant:  # DoRA, which scales the matrix too
                    module.merge(safe_merge=True, adapter_names=[term.slot])
                    continue
                factors = [getattr(module, FUSION)[fusion].weight[part] for fusion, part in term.fusions]
                module.base_layer.weight += math.prod(factors, start=term.weight) * module.get_delta_weight(term.slot)


@functools.cache
def _routed_class() -> Any:
    """peft's wrapped linear map with another forward pass; its parameters and their names stay."""
    from peft.tuners.lora import Linear

    class RoutedLinear(Linear):
        """A linear map and a weighted sum of low-rank updates, as the encoder's routing says."""

        _xling_routing: Routing

        def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            """Map (N,T,D) to (N,T,O)."""
            result = self.base_layer(x, *args, **kwargs)
            routing = self._xling_routing
            if routing.rows is None:
                return self._add(x, result, routing.terms)
            return _joined([self._add(x[part], result[part], sums) for part, sums in routing.rows])

        def _add(self, x: Tensor, result: Tensor, sums: Terms) -> Tensor:
            dtype = result.dtype
            for term in sums:
                slot = term.slot
                if slot not in self.lora_A:
                    continue
                down, up = self.lora_A[slot], self.lora_B[slot]
                x = self._cast_input_dtype(x, down.weight.dtype)
                if slot in self.lora_variant:  # DoRA stands alone: `Lora.activate` sees to that
                    result = self.lora_variant[slot].forward(self, active_adapter=slot, x=x, result=result)
                    continue
                update = up(down(self.lora_dropout[slot](x))) * self.scaling[slot]
                if term.weight != 1.0:
                    update = update * term.weight
                for fusion, part in term.fusions:
                    update = update * getattr(self, FUSION)[fusion].weight[part]
                result = result + update
            return result.to(dtype)

    return RoutedLinear


def _joined(parts: list[Tensor]) -> Tensor:
    """Rows behind each other."""
    import torch

    return torch.cat(parts) if len(parts) > 1 else parts[0]


def add_fusion(encoder: nn.Module, slot: str, parts: Sequence[Sequence[str]]) -> None:
    """Give every module that any of the parts adapts one weight per part, together 1 at the start.

    Args:
        encoder: where the parts are resident.
        slot: of the fusion.
        parts: the slots of each part.
    """
    import torch
    from torch import nn

    class Mixing(nn.Module):
        """One number per part."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((len(parts),), 1 / len(parts)))

    everyone = {one for part in parts for one in part}
    for module in wrapped(encoder).values():
        if everyone & set(module.lora_A):
            if not hasattr(module, FUSION):
                setattr(module, FUSION, nn.ModuleDict())
            getattr(module, FUSION)[slot] = Mixing().to(module.base_layer.weight.device)
