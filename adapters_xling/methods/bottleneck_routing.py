"""Bottleneck slots side by side, mixed, or different from row to row: what the library's own compositions get wrong.

The library's `Average` divides by the number of parts twice, so that the average of two copies of a slot is not that
slot (adapters 1.3.0), and its `BatchSplit` has no rows without a slot. Here the layers that hold blocks read a route of
ours. A stack of slots alone goes the library's own way.

A part that has no block at some place leaves the hidden state there as it is, in every composition.
Shapes: N rows, T tokens, P parts, D hidden size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from adapters_xling.composition import leaves
from adapters_xling.spec import Average, Fuse, Route, Stack, Use

if TYPE_CHECKING:
    from torch import Tensor, nn

Rows = Sequence[tuple[slice, Route]]


def composition(route: Route, rows: Rows | None = None) -> Any:
    """What the library's layers get as the active setup: None for the bare backbone."""
    from adapters.composition import Stack as Plain

    active = _slots(route) if rows is None else tuple(dict.fromkeys(slot for _, one in rows for slot in _slots(one)))
    if not active:
        return None
    if rows is None and isinstance(route, (Use, Stack)) and all(isinstance(part, Use) for part in _flat(route)):
        return Plain(*active)
    return _block_class()(active, route, rows)


def install(encoder: nn.Module) -> None:
    """Let the layers that hold blocks, and the step behind the embeddings, read routes."""
    from adapters.methods.bottleneck import BottleneckLayer

    for module in encoder.modules():
        if isinstance(module, BottleneckLayer) and not hasattr(module, "follows_routes"):
            module.__class__ = _routed(type(module))
    if "invertible_adapters_forward" not in vars(encoder):
        plain = encoder.invertible_adapters_forward
        encoder.invertible_adapters_forward = functools.partial(_invert, encoder, plain)


def _invert(encoder: Any, plain: Callable[..., Tensor], hidden_states: Tensor, rev: bool = False) -> Tensor:
    """Run each row (N,T,D) through the invertible block of the first slot of its route, where that has one."""
    import torch

    setup = encoder.adapters_config.active_setup
    if not hasattr(setup, "route"):  # one of the library's own; `torch.compile` cannot look the class up
        return plain(hidden_states, rev=rev)
    done = []
    for part, route in setup.rows or ((slice(None), setup.route),):
        first, rows_NTD = next(iter(_slots(route)), ""), hidden_states[part]
        blocks = encoder.invertible_adapters
        done.append(blocks[first](rows_NTD, rev=rev) if first in blocks else rows_NTD)
    return torch.cat(done) if len(done) > 1 else done[0]


def _flat(route: Route) -> tuple[Route, ...]:
    if isinstance(route, Stack):
        return tuple(leaf for part in route.parts for leaf in _flat(part))
    return (route,)


def _slots(route: Route) -> tuple[str, ...]:
    """Slots whose blocks a route runs through; the mixing of a Fuse is no block."""
    found = [leaf.entry for leaf in leaves(route) if isinstance(leaf, Use)]
    mixings = {one.by.entry for one in _fusions(route) if isinstance(one.by, Use)}
    return tuple(dict.fromkeys(slot for slot in found if slot not in mixings))


def _fusions(route: Route) -> tuple[Fuse, ...]:
    inner = route.parts if isinstance(route, (Stack, Average, Fuse)) else ()
    below = tuple(one for part in inner for one in _fusions(part))
    return (*below, route) if isinstance(route, Fuse) else below


@functools.cache
def _block_class() -> Any:
    from adapters.composition import AdapterCompositionBlock

    class Routed(AdapterCompositionBlock):
        """A route of ours, as the library carries its own: by the names of the slots in it."""

        def __init__(self, active: Sequence[str], route: Route, rows: Rows | None) -> None:
            super().__init__(*active)
            self.route, self.rows, self.names = route, rows, set(active)

        def flatten(self) -> set[str]:
            """Names of the slots; asked for by every layer in every pass."""
            return self.names

    return Routed


_ROUTED: dict[type, Any] = {}


def _routed(cls: type) -> Any:
    """A library's layer class whose composition follows routes; one for each of the library's."""
    if cls not in _ROUTED:
        _ROUTED[cls] = _make_routed(cls)
    return _ROUTED[cls]


def _make_routed(cls: Any) -> Any:
    import torch

    block = _block_class()

    class RoutedBottleneck(cls):
        """A layer with blocks."""

        follows_routes = True

        def compose(self, adapter_setup: Any, state: Any) -> Any:
            """The library's entry point: our routes here, its own compositions there."""
            if not isinstance(adapter_setup, block):
                return super().compose(adapter_setup, state)
            if adapter_setup.rows is None:
                state = _run(self, adapter_setup.route, state)
            else:
                rows = adapter_setup.rows
                ends = [_run(self, route, self.vslice(state, part)).hidden_states for part, route in rows]
                state = state._replace(hidden_states=torch.cat(ends))
            present = next(name for name in adapter_setup.children if name in self.adapters)
            return state._replace(last=present)  # which one ends the layer: they all do it alike

    return RoutedBottleneck


def _run(layer: Any, route: Route, state: Any) -> Any:
    """Take a layer's state through a route."""
    if isinstance(route, Use):
        if route.entry not in layer.adapters:
            return state
        return layer.compose_single(route.entry, layer.pre_block(route.entry, state))
    if isinstance(route, Stack):
        for part in route.parts:
            state = _run(layer, part, state)
        return state
    if isinstance(route, Average):
        ends = [_run(layer, part, state).hidden_states for part in route.parts]
        total = sum(weight * end for weight, end in zip(route.weights, ends, strict=True))
        return state._replace(hidden_states=total)
    if isinstance(route, Fuse) and isinstance(route.by, Use):
        return _fuse(layer, [slot for part in route.parts for slot in _slots(part)], route.by.entry, state)
    return state


def _fuse(layer: Any, names: Sequence[str], fusion: str, state: Any) -> Any:
    """AdapterFusion (Pfeiffer et al. 2021): attention of the hidden state over what the parts would add.

    The hidden state before the blocks asks, the parts' outputs answer, and the mix is added to the residual stream.
    """
    import torch

    present = [name for name in names if name in layer.adapters]
    if fusion not in layer.adapter_fusion_layer or not present:
        return state
    config = layer.adapter_fusion_layer[fusion].config
    hidden, query, residual = layer.adapters[present[-1]].pre_forward(
        state.hidden_states, state.input_tensor, state.layer_norm, fusion_config=config
    )
    inner = state._replace(hidden_states=hidden, adapter_residual=residual)
    ups_NTPD = torch.stack([layer.compose_single(name, inner).bottleneck_up for name in present], dim=2)
    mixed_NTD = layer.adapter_fusion_layer[fusion](query, ups_NTPD, ups_NTPD, residual)
    return state._replace(hidden_states=mixed_NTD, adapter_residual=residual)
