"""Merges of entries: their files and their heads.

What happens to heads and pooler is one rule for every method: where all entries of an average have the same heads,
these are averaged like the weights; otherwise they are the first entry's. The card's notes say which.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from adapters_xling.errors import ConfigError
from adapters_xling.methods import Method, resolve
from adapters_xling.methods.native import differences, read_tensors
from adapters_xling.methods.slots import holds
from adapters_xling.spec import Fuse, Merge, WeightAverage, describe
from adapters_xling.zoo import Entry, HeadCard

from .saving import ENCODER, HEADS


def merge_files(merge: Merge, found: Sequence[Entry], encoder: Any, folder: Path) -> tuple[Method, str]:
    """Merge the native files of entries.

    Args:
        merge: how; its entries are `found`.
        found: entries of one method on one backbone.
        encoder: a pristine encoder of that backbone.
        folder: where the result is written.

    Returns:
        The method the result is of, and what was computed, in words.

    Raises:
        ConfigError: for entries that do not fit each other.
    """
    method = merged_method(merge, found)
    return method, method.merge(encoder, merge, [entry.folder / ENCODER for entry in found], folder)


def merged_method(merge: Merge, found: Sequence[Entry]) -> Method:
    """The method, with its settings, of a merge; nothing but cards is read.

    Raises:
        ConfigError: for entries of several methods, or that do not fit each other.
    """
    names = sorted({entry.card.run.method.name for entry in found})
    if len(names) > 1:
        raise ConfigError(
            f"{describe(merge)}: its entries are of methods {' and '.join(names)}; merge those of one method"
        )
    methods = [resolve(entry.card.run.method) for entry in found]
    if reason := methods[0].supports_merge(merge):
        raise ConfigError(f"method {names[0]!r} cannot make {describe(merge)}: {reason}")
    first = found[0].card.run
    for entry in found:
        require_own_weights(entry, describe(merge))
        if entry.card.run.route != first.route:
            raise ConfigError(
                f"{describe(merge)}: {found[0].key} was trained as {describe(first.route)}, {entry.key} as "
                f"{describe(entry.card.run.route)}; only entries that stand on the same can be merged"
            )
    return methods[0].merged(merge, methods)


def require_settings(method: Method, merged: Method, what: str) -> None:
    """Refuse a run whose method's settings are not those of the merge it starts from; dropout may differ.

    Raises:
        ConfigError: with the settings to give.
    """
    own, there = ({**one.spec().settings, "dropout": None} for one in (method, merged))
    if text := differences(own, there):
        raise ConfigError(f"a start from {what} needs the settings of its result: {text}. Set them, or start Fresh")


def require_own_weights(entry: Entry, what: str) -> None:
    """Refuse an entry that is nothing but the mixing of others.

    Raises:
        ConfigError: saying so.
    """
    if holds(entry.card.run.route, Fuse):
        raise ConfigError(f"{what}: {entry.key} is a fusion, which means nothing without its parts; use it whole")


def merged_heads(merge: Merge, found: Sequence[Entry]) -> tuple[dict[str, HeadCard], dict[str, Tensor], str]:
    """Heads and pooler of a merge: cards, tensors by their names in `heads.safetensors`, and where they are from."""
    first = found[0].card.heads
    if not first:
        return {}, {}, f"no heads, for {found[0].key} has none"
    states = [read_tensors(entry.folder / HEADS) if entry.card.heads else {} for entry in found]
    alike = all(_forms(entry) == _forms(found[0]) for entry in found)
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    if isinstance(merge, WeightAverage) and alike and all(shape == shapes[0] for shape in shapes):
        tensors = {
            name: sum(w * s[name].double() for w, s in zip(merge.weights, states, strict=True)).float()
            for name in states[0]
        }
        return first, tensors, "heads and pooler averaged with the same weights"
    return first, states[0], f"heads and pooler of {found[0].key}"


def _forms(entry: Entry) -> dict[str, Any]:
    """What the heads of an entry are and how they read the encoder."""
    pooling = entry.card.run.recipe.pooling
    return {name: (card.kind, card.labels, pooling) for name, card in entry.card.heads.items()}
