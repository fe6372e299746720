"""How entries are put together, as data that is hashed: inits (how a slot starts) and routes (what a forward pass runs
over). What each method makes of them stands in `methods/`; how a person writes them, in `expressions.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import msgspec

from .errors import ConfigError
from .strict import Frozen

SUM_TOLERANCE = 1e-6
"""How far the weights of an average may be from 1 together."""

Density = Annotated[float, msgspec.Meta(gt=0, le=1)]


# --- inits ------------------------------------------------------------------------------------------------------


class Fresh(Frozen, frozen=True, tag="fresh"):
    """Start the trainable slot from the method's own initialisation."""


class Warm(Frozen, frozen=True, tag="warm"):
    """Start the trainable slot from an entry of the zoo."""

    entry: str


class Imported(Frozen, frozen=True, tag="imported"):
    """Take the slot from an adapter that was made elsewhere; how it was trained is unknown, and no step is taken here.

    `source` says where it came from, `digest` is the sha256 of its own files' digests.
    """

    source: str
    digest: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]


class WeightAverage(Frozen, frozen=True, tag="average"):
    """The weighted mean of entries' weights; of LoRAs the mean of their updates, exactly (the rank adds up).

    Attributes:
        entries: two or more, each once.
        weights: one per entry; together they make 1.
    """

    entries: tuple[str, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        _require_weights("average", self.entries, self.weights)
        _require_one("average", self.weights)


class Arithmetic(Frozen, frozen=True, tag="arithmetic"):
    """Task vectors added and subtracted (Ilharco et al. 2023): what training changed, times a coefficient each.

    Attributes:
        entries: one or more, each once.
        weights: a coefficient per entry, of either sign.
    """

    entries: tuple[str, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        _require_weights("arithmetic", self.entries, self.weights, least=1)


class Ties(Frozen, frozen=True, tag="ties"):
    """Task vectors trimmed, their signs elected, and the mean taken of those that agree (Yadav et al. 2023).

    Attributes:
        entries: two or more, each once.
        weights: how much each counts in election and mean; positive.
        density: share of each weight matrix that is kept, the largest values first.
    """

    entries: tuple[str, ...]
    weights: tuple[float, ...]
    density: Density = 0.2

    def __post_init__(self) -> None:
        _require_weights("ties", self.entries, self.weights)
        _require_positive("ties", self.weights)


class Dare(Frozen, frozen=True, tag="dare"):
    """Task vectors of which a random part is dropped and the rest scaled up, then added (Yu et al. 2024).

    Attributes:
        entries: two or more, each once.
        weights: a coefficient per entry.
        density: share of the values that is kept, each then divided by it.
        seed: of what is dropped.
    """

    entries: tuple[str, ...]
    weights: tuple[float, ...]
    density: Density = 0.5
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        _require_weights("dare", self.entries, self.weights)


Merge = WeightAverage | Arithmetic | Ties | Dare
Init = Fresh | Warm | Imported | WeightAverage | Arithmetic | Ties | Dare


# --- routes -----------------------------------------------------------------------------------------------------


class Slot(Frozen, frozen=True, tag="slot"):
    """The run's own trainable slot."""


class Base(Frozen, frozen=True, tag="base"):
    """The bare backbone: nothing is added to the forward pass."""


class Use(Frozen, frozen=True, tag="use"):
    """An entry as it was trained, together with whatever it was trained on top of."""

    entry: str


class Alone(Frozen, frozen=True, tag="alone"):
    """An entry's own slot without what it was trained on top of, which the route puts something else under."""

    entry: str


class Merged(Frozen, frozen=True, tag="merged"):
    """Entries merged into one set of weights, which is made when the route is opened and kept nowhere."""

    merge: Merge


class Stack(Frozen, frozen=True, tag="stack"):
    """Parts one above the other, the first nearest to the backbone. LoRA parts add up."""

    parts: tuple[Route, ...]


class Average(Frozen, frozen=True, tag="average"):
    """Parts side by side, the weighted mean taken of what each adds wherever it adds something.

    Attributes:
        parts: two or more.
        weights: one per part; together they make 1.
    """

    parts: tuple[Route, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.parts) != len(self.weights) or len(self.parts) < 2:
            raise ConfigError(
                f"average of {len(self.parts)} parts with {len(self.weights)} weights: give two parts or more and a "
                "weight for each"
            )
        _require_finite("average", self.weights)
        _require_one("average", self.weights)


class Fuse(Frozen, frozen=True, tag="fuse"):
    """Frozen parts side by side, mixed by weights that a run trains: the run's own slot is the mixing.

    Attributes:
        parts: two or more entries.
        by: what holds the trained weights.
    """

    parts: tuple[Route, ...]
    by: Route = Slot()


Route = Slot | Base | Use | Alone | Merged | Stack | Average | Fuse


# --- what can be asked of them ------------------------------------------------------------------------------------


def parts_of(route: Route) -> tuple[Route, ...]:
    """Parts of a route one level down, in forward order; the mixing of a Fuse is no part of it."""
    return route.parts if isinstance(route, (Stack, Average, Fuse)) else ()


def transform(route: Route, change: Callable[[Route], Route]) -> Route:
    """A route with every leaf (and the mixing of every Fuse) replaced by what `change` makes of it."""
    if isinstance(route, Fuse):
        return Fuse(parts=tuple(transform(part, change) for part in route.parts), by=change(route.by))
    if isinstance(route, (Stack, Average)):
        return msgspec.structs.replace(route, parts=tuple(transform(part, change) for part in route.parts))
    return change(route)


def leaves(route: Route) -> tuple[Route, ...]:
    """Leaves of a route in forward order; the mixing of a Fuse stands behind its parts.

    >>> leaves(Fuse(parts=(Use(entry="a"), Use(entry="b"))))
    (Use(entry='a'), Use(entry='b'), Slot())
    """
    found = tuple(leaf for part in parts_of(route) for leaf in leaves(part))
    if isinstance(route, Fuse):
        return (*found, route.by)
    return found or (route,)


def named(init: Init) -> tuple[str, ...]:
    """Keys of the entries an init starts from, in order.

    >>> named(WeightAverage(entries=("a", "b"), weights=(0.5, 0.5))), named(Fresh())
    (('a', 'b'), ())
    """
    if isinstance(init, Fresh | Imported):
        return ()
    return (init.entry,) if isinstance(init, Warm) else init.entries


def entries(route: Route) -> tuple[str, ...]:
    """Keys of all entries a route names, in forward order.

    >>> entries(Stack(parts=(Use(entry="a"), Slot())))
    ('a',)
    """
    found: list[str] = []
    for leaf in leaves(route):
        if isinstance(leaf, (Use, Alone)):
            found.append(leaf.entry)
        elif isinstance(leaf, Merged):
            found += leaf.merge.entries
    return tuple(found)


def highest(route: Route) -> Merge | tuple[str, ...]:
    """What a run's slot stands on directly, from which its pooler and heads start: a merge, or an entry; several where
    they stand side by side and are no plain mean.

    >>> highest(Stack(parts=(Use(entry="a"), Use(entry="b"), Slot())))
    ('b',)
    >>> highest(Fuse(parts=(Use(entry="a"), Stack(parts=(Use(entry="a"), Alone(entry="b"))))))
    ('a', 'b')
    >>> highest(Average(parts=(Use(entry="a"), Use(entry="b")), weights=(0.5, 0.5)))
    WeightAverage(entries=('a', 'b'), weights=(0.5, 0.5))
    """
    match route:
        case Use(entry=entry) | Alone(entry=entry):
            return (entry,)
        case Merged(merge=merge):
            return merge
        case Stack(parts=parts):
            return next((found for part in reversed(parts) if (found := highest(part))), ())
    names = [highest(part) for part in parts_of(route)]
    flat = dict.fromkeys(name for one in names for name in (one if isinstance(one, tuple) else one.entries))
    if isinstance(route, Average) and len(flat) == len(names):
        return WeightAverage(entries=tuple(flat), weights=route.weights)
    return tuple(flat)


def describe(composed: Route | Init) -> str:
    """A route or an init as one readable line, which `expressions.parse` reads back.

    >>> describe(Stack(parts=(Use(entry="mnli"), Slot())))
    'stack(mnli, slot)'
    >>> describe(Arithmetic(entries=("a", "b"), weights=(1.0, -0.5)))
    'arithmetic(+a:1, -b:0.5)'
    """
    match composed:
        case Use(entry=entry) | Warm(entry=entry):
            return entry
        case Alone(entry=entry):
            return f"alone({entry})"
        case Merged(merge=merge):
            return f"merge({describe(merge)})"
        case Stack(parts=parts) | Fuse(parts=parts):
            return f"{_tag(composed)}({', '.join(map(describe, parts))})"
        case Average(parts=parts, weights=weights):
            return f"average({_weighted([describe(part) for part in parts], weights)})"
        case WeightAverage(entries=names, weights=weights):
            return f"average({_weighted(list(names), weights)})"
        case Arithmetic(entries=names, weights=weights):
            signed = (f"{'-' if w < 0 else '+'}{name}:{number(abs(w))}" for name, w in zip(names, weights, strict=True))
            return f"arithmetic({', '.join(signed)})"
        case Ties(entries=names, weights=weights, density=density):
            return f"ties({_weighted(list(names), weights)}, density={number(density)})"
        case Dare(entries=names, weights=weights, density=density, seed=seed):
            return f"dare({_weighted(list(names), weights)}, density={number(density)}, seed={seed})"
    return _tag(composed)


def outline(route: Route | Init) -> str:
    """The form of a route or an init without the entries in it: what tables tell them apart by.

    >>> outline(Stack(parts=(Use(entry="a"), Slot()))), outline(Slot())
    ('stack', 'slot')
    >>> outline(Stack(parts=(Average(parts=(Use(entry="a"), Use(entry="b")), weights=(0.7, 0.3)), Slot())))
    'stack(average 0.7 0.3)'
    """
    if isinstance(route, Merged):
        return f"merge {outline(route.merge)}"
    if isinstance(route, (Average, WeightAverage, Arithmetic, Ties, Dare)):
        equal = len(set(route.weights)) == 1 and not isinstance(route, Arithmetic)
        weights = "" if equal else "".join(f" {number(weight)}" for weight in route.weights)
    else:
        weights = ""
    inner: list[str] = []
    if isinstance(route, (Stack, Average, Fuse)):
        inner = [outline(part) for part in route.parts if not isinstance(part, (Use, Slot, Base))]
    return f"{_tag(route)}{weights}" + (f"({', '.join(inner)})" if inner else "")


def number(value: float) -> str:
    """A number as it is read back exactly, without a needless fraction.

    >>> number(1.0), number(0.7)
    ('1', '0.7')
    """
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))


def _tag(composed: Route | Init) -> str:
    return str(composed.__struct_config__.tag)


def _weighted(names: list[str], weights: tuple[float, ...]) -> str:
    return ", ".join(f"{name}:{number(weight)}" for name, weight in zip(names, weights, strict=True))


def _require_weights(what: str, names: tuple[str, ...], weights: tuple[float, ...], *, least: int = 2) -> None:
    if len(names) < least or len(names) != len(weights):
        raise ConfigError(
            f"{what} of {len(names)} entries with {len(weights)} weights: give {least} or more, and a weight for each"
        )
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise ConfigError(f"{what} names {twice} twice; give each entry once, with the sum of its weights")
    _require_finite(what, weights)


def _require_finite(what: str, weights: tuple[float, ...]) -> None:
    if bad := [weight for weight in weights if not math.isfinite(weight) or not weight]:
        raise ConfigError(f"{what} holds the weight {bad[0]:g}; give numbers other than 0, or leave the part out")


def _require_one(what: str, weights: tuple[float, ...]) -> None:
    total = math.fsum(weights)
    if abs(total - 1) > SUM_TOLERANCE:
        raise ConfigError(
            f"the weights of {what} make {total:g}, together they must make 1; other sums are what arithmetic is for"
        )


def _require_positive(what: str, weights: tuple[float, ...]) -> None:
    if bad := [weight for weight in weights if weight <= 0]:
        raise ConfigError(f"{what} holds the weight {bad[0]:g}; its weights are above 0")
