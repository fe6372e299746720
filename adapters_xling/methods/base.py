"""The verbs a training family answers to. A method touches the encoder only; heads are ours and live in `model.py`.

A *slot* is an adapter's name inside a live encoder. A route given to a method names slots, not zoo keys:
`Use(entry=<slot>)`. Concrete methods are frozen dataclasses whose fields are their settings; they import their
library inside functions, so that reading settings and computing keys stays cheap.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from adapters_xling.backbones import FAMILIES, Family
from adapters_xling.errors import ConfigError, ZooError, unknown
from adapters_xling.spec import BackboneId, Base, Init, MethodSpec, Route, Slot, Stack, Use

if TYPE_CHECKING:
    from torch import Tensor, nn

_SLOT = re.compile(r"s\d{3}_")


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
class Method(ABC):
    """A training family with its settings as fields."""

    name: ClassVar[str]
    shares_encoder: ClassVar[bool] = True
    """False when an entry replaces the encoder's own weights, so that no other entry can be resident beside it."""

    def spec(self) -> MethodSpec:
        """The settings as data, every field written out; this is what a run hashes."""
        return MethodSpec(name=self.name, settings=dataclasses.asdict(self))

    @abstractmethod
    def check(self, family: Family) -> None:
        """Refuse settings that cannot work.

        Raises:
            ConfigError: naming method, setting and what is valid.
        """

    @abstractmethod
    def supports(self, init: Init, route: Route) -> str | None:
        """Say why this method cannot start so or run so, or None when it can. Checked before anything is loaded."""

    @abstractmethod
    def load(self, encoder: nn.Module, slot: str, folder: Path) -> None:
        """Add a frozen slot from an entry's native files, with the entry's own settings.

        Raises:
            ZooError: when a weight is missing, unexpected or of another shape.
        """

    @abstractmethod
    def attach(self, encoder: nn.Module, slot: str, warm: Path | None, route: Route) -> Trainable:
        """Make the trainable slot exist (fresh, or a copy of the native files in `warm`), activate `route`, and
        freeze everything else. Random initialisation draws from torch's global generator.

        Raises:
            ConfigError: when the files in `warm` were made with other settings.
        """

    @abstractmethod
    def activate(self, encoder: nn.Module, route: Route) -> None:
        """Route the forward pass over slots; `Base()` gives the bare backbone, bit for bit."""

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

    @abstractmethod
    def lowest_layer(self, num_layers: int) -> int:
        """First hidden state that differs from the frozen backbone's: 0 is the embeddings' output, i that of layer i
        (counted from 1), and `num_layers` + 1 means none does. What lies below may be computed once and kept."""

    def read_layer(self, num_layers: int) -> int | None:
        """Hidden state the heads read (0: the embeddings' output), or None for the last one."""
        return None

    def backbone_name(self, name: str) -> str | None:
        """Name that a tensor of a rewritten encoder has in the bare backbone, or None for a slot's own tensor.

        Fingerprints are taken over these names, so that they mean the same before and after slots were added.
        """
        return None if has_slot(name) else name

    def context(self, encoder: nn.Module, **inputs: Tensor) -> contextlib.AbstractContextManager[Any]:
        """What has to surround a call of single layers, for libraries that prepare things per forward pass."""
        return contextlib.nullcontext()


# --- slots ------------------------------------------------------------------------------------------------------


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


# --- encoders ---------------------------------------------------------------------------------------------------


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


# --- native files -----------------------------------------------------------------------------------------------


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of an entry.

    Raises:
        ZooError: when the file is absent or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise ZooError(f"{path}: no such file; the entry is incomplete: train it again or pull it") from err
    except (ValueError, OSError) as err:
        raise ZooError(f"{path}: not readable as JSON ({err}); pull the entry again") from err
    if not isinstance(data, dict):
        raise ZooError(f"{path}: holds {type(data).__name__}, a JSON object is expected")
    return data


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; nothing pickled is ever loaded.

    Raises:
        ZooError: when it is absent or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ZooError(f"{path}: no such file; weights are read from safetensors only, pickled files never")
    try:
        return load_file(path)
    except SafetensorError as err:
        raise ZooError(f"{path}: not a safetensors file ({err}); pull the entry again") from err


def copy_exactly(targets: Mapping[str, Tensor], tensors: Mapping[str, Tensor], where: Path) -> None:
    """Copy tensors into live ones of the same names and shapes, or refuse.

    Raises:
        ZooError: listing what is missing, unexpected or of another shape; then nothing was copied.
    """
    import torch

    missing = sorted(set(targets) - set(tensors))
    unexpected = sorted(set(tensors) - set(targets))
    shapes = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(targets[name].shape)}"
        for name in sorted(set(targets) & set(tensors))
        if tensors[name].shape != targets[name].shape
    ]
    problems = [
        f"{len(found)} {what} ({', '.join(found[:3])}{', …' if len(found) > 3 else ''})"
        for what, found in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if found
    ]
    if problems:
        raise ZooError(f"{where}: weights do not fit this backbone: {'; '.join(problems)}. Use the backbone it names")
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(tensors[name])


def differences(own: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Settings in which two mappings differ, as text; empty when they agree."""
    names = sorted(name for name in {*own, *other} if own.get(name) != other.get(name))
    return ", ".join(f"{name} {other.get(name)!r} there, {own.get(name)!r} here" for name in names)


def settings_of(cls: type[Method]) -> dict[str, Any]:
    """Settings of a method with their defaults (only fields that have one)."""
    return {
        field.name: (field.default if field.default is not dataclasses.MISSING else None)
        for field in dataclasses.fields(cls)
    }
