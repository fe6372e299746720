"""Bottleneck adapters and their relatives through the adapters library, on the bare encoder.

Settings are numbers and switches of our own, resolved here to the library's configuration classes, so that a key means
the same whatever the library's presets say. Weights are read and written here, strictly and as safetensors only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adapters_xling.backbones import Family, Shape
from adapters_xling.composition import SUM_TOLERANCE, parts_of
from adapters_xling.errors import ConfigError, ZooError, unknown
from adapters_xling.spec import (
    Arithmetic,
    BackboneId,
    Fuse,
    Merge,
    Route,
    Slot,
    Stack,
    WeightAverage,
    describe,
)

from . import bottleneck_fusion
from .base import Kept, Method, Trainable
from .bottleneck_dense import matrices, replace
from .bottleneck_routing import composition, install
from .native import copy_exactly, differences, made_by_library, read_json, read_tensors
from .slots import (
    beside,
    claim,
    composed,
    freeze_all_but,
    has_slot,
    holds,
    own_route,
    slot_modules,
    slot_parameters,
    slots,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG = "adapter_config.json"
WEIGHTS = "adapter.safetensors"

_BLOCK: dict[str, Any] = {
    "reduction_factor": 16.0,
    "non_linearity": "relu",
    "dropout": 0.0,
    "scaling": 1.0,
    "inv_adapter": "none",
    "inv_reduction_factor": 2.0,
}
_PREFIX: dict[str, Any] = {"prefix_length": 30, "prefix_bottleneck": 512, "non_linearity": "tanh", "dropout": 0.0}

PRESETS: dict[str, dict[str, Any]] = {
    "pfeiffer": _BLOCK,
    "houlsby": {**_BLOCK, "non_linearity": "swish"},
    "parallel": {**_BLOCK, "reduction_factor": 2.0, "scaling": 4.0},
    "compacter": {**_BLOCK, "reduction_factor": 32.0, "non_linearity": "gelu"},
    "compacter++": {**_BLOCK, "reduction_factor": 32.0, "non_linearity": "gelu"},
    "prefix": _PREFIX,
}
"""Defaults of each architecture's own settings; a setting that is absent here does not belong to it."""

_PLACES: dict[str, dict[str, Any]] = {
    "pfeiffer": {"mh_adapter": False, "output_adapter": True, "original_ln_before": True},
    "houlsby": {"mh_adapter": True, "output_adapter": True, "original_ln_before": False},
    "parallel": {
        "mh_adapter": False,
        "output_adapter": True,
        "original_ln_before": False,
        "is_parallel": True,
        "init_weights": "mam_adapter",
    },
    "compacter": {"mh_adapter": True, "output_adapter": True, "original_ln_before": False, "phm_layer": True},
    "compacter++": {"mh_adapter": False, "output_adapter": True, "original_ln_before": True, "phm_layer": True},
}
"""Where blocks sit and how they join the residual stream, as the architectures' papers have it."""

PHM_DIM = 4
"""Compacter's number of Kronecker factors, which the bottleneck's width must be a multiple of."""

ACTIVATIONS = ("gelu", "gelu_new", "leakyrelu", "mish", "relu", "sigmoid", "silu", "swish", "tanh")
"""Activations that may be named; listed here so that settings are checked without importing a library."""

_SIZES = {
    "reduction_factor": (0.05, 10**6),
    "inv_adapter_reduction_factor": (0.05, 10**6),
    "prefix_length": (1, 10**5),
    "bottleneck_size": (1, 10**5),
}
"""Sizes a configuration file may ask for; what lies beyond would only fill the memory."""

_TRAINING_ONLY = ("dropout", "init_weights", "init_weights_seed", "stochastic_depth")
"""Fields that do not change what a trained slot computes; a warm start may differ in them."""


@dataclasses.dataclass(frozen=True)
class Bottleneck(Method):
    """Insert small trainable blocks between the encoder's sub-layers.

    A setting left at None takes the architecture's own default when the object is made, so every setting that matters
    is a number by the time it is hashed; those of another architecture stay None and may not be given.

    Attributes:
        architecture: pfeiffer (one block per layer, 2020), houlsby (two, 2019), parallel (He et al. 2021), compacter
            and compacter++ (Mahabadi et al. 2021), prefix (prefix tuning, Li & Liang 2021).
        reduction_factor: hidden size over bottleneck size.
        non_linearity: activation inside the block.
        dropout: behind the block, in training.
        scaling: factor on the block's output, or "learned" (one number) or "channel" (one per dimension).
        inv_adapter: invertible block behind the embeddings: "none", "nice" or "glow" (MAD-X, 2020).
        inv_reduction_factor: half the hidden size over the invertible block's bottleneck.
        prefix_length: virtual keys and values per layer.
        prefix_bottleneck: width of the network that makes them.
        leave_out: layers (from 0) without a block, in no order.
    """

    name: ClassVar[str] = "bottleneck"

    architecture: Literal["pfeiffer", "houlsby", "parallel", "compacter", "compacter++", "prefix"] = "pfeiffer"
    reduction_factor: float | None = None
    non_linearity: str | None = None
    dropout: float | None = None
    scaling: float | Literal["learned", "channel"] | None = None
    inv_adapter: Literal["none", "nice", "glow"] | None = None
    inv_reduction_factor: float | None = None
    prefix_length: int | None = None
    prefix_bottleneck: int | None = None
    leave_out: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        preset = PRESETS.get(self.architecture)
        if preset is None:
            raise ConfigError(
                f"method 'bottleneck': architecture is {self.architecture!r}; valid: {', '.join(PRESETS)}"
            )
        for field in dataclasses.fields(self):
            if field.default is not None:
                continue
            if field.name in preset and getattr(self, field.name) is None:
                object.__setattr__(self, field.name, preset[field.name])
            elif field.name not in preset and getattr(self, field.name) is not None:
                raise ConfigError(
                    f"method 'bottleneck': {field.name} does not belong to architecture {self.architecture!r}, "
                    f"which has: {', '.join(preset)}, leave_out"
                )
        object.__setattr__(self, "leave_out", tuple(sorted(set(self.leave_out))))

    @property
    def mixes_rows(self) -> bool:
        """Not with prefixes: attention reads them with every row."""
        return self.architecture != "prefix"

    def check(self, family: Family) -> None:
        """Refuse numbers that make no block, and activations the library does not have."""
        valid = {
            "reduction_factor": self.reduction_factor is None or self.reduction_factor > 0,
            "inv_reduction_factor": self.inv_reduction_factor is None or self.inv_reduction_factor > 0,
            "dropout": self.dropout is None or 0 <= self.dropout < 1,
            "prefix_length": self.prefix_length is None or self.prefix_length > 0,
            "prefix_bottleneck": self.prefix_bottleneck is None or self.prefix_bottleneck > 0,
            "leave_out": all(layer >= 0 for layer in self.leave_out),
        }
        for name, good in valid.items():
            if not good:
                raise ConfigError(f"method 'bottleneck': {name} is {getattr(self, name)!r}; give a number in its range")
        if self.non_linearity not in ACTIVATIONS:
            raise unknown("non_linearity of method 'bottleneck'", str(self.non_linearity), ACTIVATIONS)

    def supports_route(self, route: Route) -> str | None:
        """Refuse the compositions in which the library would drop a part without saying so."""
        what = composed(route)
        if what is None:
            return None
        if self.architecture == "parallel":
            return _PARALLEL.format(what=what)
        if self.architecture == "prefix" and (side := beside(route)):
            return _PREFIX_BESIDE.format(what=side)
        invertible = self.inv_adapter in ("nice", "glow") and not holds(route, Fuse)
        if invertible and not isinstance(_first(route), Slot) and holds(route, Slot):
            return _INVERTIBLE
        return None

    def supports_merge(self, merge: Merge) -> str | None:
        """Means of weights. Task vectors need the weights that training started from, which no entry keeps; where the
        coefficients make 1 these cancel out."""
        if isinstance(merge, WeightAverage):
            return None
        if isinstance(merge, Arithmetic):
            total = math.fsum(merge.weights)
            if abs(total - 1) <= SUM_TOLERANCE:
                return None
            return (
                f"the coefficients make {total:g}; with bottleneck entries they must make 1, for only then do the "
                "weights that training started from, which no entry keeps, cancel out"
            )
        return (
            "it trims and drops differences to the weights that training started from, which no bottleneck entry "
            "keeps. Use average, or LoRA entries"
        )

    def merged(self, merge: Merge, methods: Sequence[Method]) -> Method:
        """The settings all entries have.

        Raises:
            ConfigError: when they differ in more than dropout.
        """
        own = {**dataclasses.asdict(methods[0]), "dropout": None}
        for other in methods[1:]:
            if text := differences(own, {**dataclasses.asdict(other), "dropout": None}):
                raise ConfigError(f"{describe(merge)}: its entries have other settings: {text}; they must be the same")
        return methods[0]

    def merge(self, encoder: nn.Module, merge: Merge, folders: Sequence[Path], folder: Path) -> str:
        """The weighted sum of each weight; of Compacter's, of the factors its matrices are made of."""
        from safetensors.torch import save_file

        configs = [read_json(one / CONFIG) for one in folders]
        parsed = [_parse_config(data, one / CONFIG, encoder) for data, one in zip(configs, folders, strict=True)]
        states = []
        for data, config, one in zip(configs, parsed, folders, strict=True):
            if text := differences(_shaping(parsed[0]), _shaping(config)):
                raise ConfigError(f"{one}: {describe(merge)} needs entries with the same settings: {text}")
            states.append({_rename(k, data["name"], "merged"): v for k, v in read_tensors(one / WEIGHTS).items()})
            if set(states[-1]) != set(states[0]):
                raise ZooError(f"{one / WEIGHTS}: holds other weights than the entries it is merged with")
        result = {
            name: sum(w * s[name].double() for w, s in zip(merge.weights, states, strict=True)).float().contiguous()
            for name in states[0]
        }
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**configs[0], "name": "merged"}, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
        save_file(result, folder / WEIGHTS, metadata={"format": "pt"})
        return f"{describe(merge)} of the weights of the blocks, which is not the same of what they compute"

    def load(self, encoder: nn.Module, slot: str, folder: Path) -> None:
        """Add a frozen slot with the configuration it was trained with."""
        if (folder / bottleneck_fusion.CONFIG).is_file():
            training = {name for name, p in encoder.named_parameters() if p.requires_grad and has_slot(name)}
            bottleneck_fusion.load(encoder, slot, folder)
            freeze_all_but(encoder, training)
            return
        data = read_json(folder / CONFIG)
        config = _parse_config(data, folder / CONFIG, encoder)
        training = {name for name, p in encoder.named_parameters() if p.requires_grad and has_slot(name)}
        with made_by_library(folder / CONFIG):
            _add(encoder, slot, config)
        _copy(encoder, slot, data, folder)
        freeze_all_but(encoder, training)

    @classmethod
    def of_files(cls, encoder: nn.Module, folder: Path) -> Bottleneck:
        """The architecture, and its settings, that give exactly the configuration in the files."""
        theirs = _parse_config(read_json(folder / CONFIG), folder / CONFIG, encoder)
        wanted, closest = _shaping(theirs), ""
        for architecture, preset in PRESETS.items():
            given = {
                "reduction_factor": getattr(theirs, "reduction_factor", None),
                "non_linearity": theirs.non_linearity,
                "dropout": theirs.dropout,
                "scaling": getattr(theirs, "scaling", None),
                "inv_adapter": getattr(theirs, "inv_adapter", None) or "none",
                "inv_reduction_factor": getattr(theirs, "inv_adapter_reduction_factor", None),
                "prefix_length": getattr(theirs, "prefix_length", None),
                "prefix_bottleneck": getattr(theirs, "bottleneck_size", None),
            }
            settings = {name: value for name, value in given.items() if name in preset and value is not None}
            with contextlib.suppress(ConfigError, TypeError):
                made = cls(architecture=architecture, leave_out=tuple(theirs.leave_out or ()), **settings)  # type: ignore[arg-type]
                text = differences(_shaping(made._config(encoder)), wanted)
                if not text:
                    return made
                closest = min(closest or text, text, key=len)
        raise ZooError(
            f"{folder / CONFIG}: none of the architectures known here ({', '.join(PRESETS)}); the closest differs in: "
            f"{closest or 'everything'}"
        )

    def attach(self, encoder: nn.Module, slot: str, warm: Path | None, route: Route) -> Trainable:
        """Add the slot, activate the route and freeze all else (the library's own switch trains a whole stack)."""
        if isinstance(route, Fuse):
            bottleneck_fusion.attach(encoder, slot, route, dropout=self.dropout or 0.0, warm=warm)
            self.activate(encoder, own_route(route, slot))
            names = slot_parameters(encoder, slot)
            freeze_all_but(encoder, names)
            return Trainable(parameters=names, modules=slot_modules(encoder, slot))
        own = self._config(encoder)
        data: dict[str, Any] = {}
        if warm is not None:
            data = read_json(warm / CONFIG)
            there = _parse_config(data, warm / CONFIG, encoder)
            with made_by_library(warm / CONFIG):
                text = differences(_shaping(own), _shaping(there))
            if text:
                raise ConfigError(
                    f"{warm}: a warm start needs the parent's settings: {text}. Change them or start Fresh"
                )
        _add(encoder, slot, own)
        if warm is not None:
            _copy(encoder, slot, data, warm)
        self.activate(encoder, own_route(route, slot))
        names = slot_parameters(encoder, slot)
        if not names:
            raise ConfigError(f"method 'bottleneck': leave_out {list(self.leave_out)} leaves no layer with a block")
        freeze_all_but(encoder, names)
        return Trainable(parameters=names, modules=slot_modules(encoder, slot))

    def activate(self, encoder: nn.Module, route: Route, rows: Sequence[tuple[slice, Route]] | None = None) -> None:
        """Run the slots of the route as it says; without slots the bare backbone.

        Raises:
            ConfigError: for a slot that is not there, and for compositions the library would compute wrongly.
        """
        resident = getattr(encoder, "adapters_config", None)
        if resident is None and not any(slots(one) for one in (route, *(each for _, each in rows or ()))):
            return
        for one in (route, *(each for _, each in rows or ())):
            self._check_live(encoder, one, mixed=rows is not None)
        # The setter of the library walks every module; this attribute is all a forward pass reads.
        encoder.adapters_config.active_setup = composition(route, rows)

    def _check_live(self, encoder: nn.Module, route: Route, *, mixed: bool) -> None:
        """Refuse a route over slots that cannot be computed as it says."""
        resident = getattr(encoder, "adapters_config", None)
        active = slots(route)
        first = slots(_first(route))
        for slot in active:
            if resident is None or slot not in resident.adapters:
                if bottleneck_fusion.is_fusion(encoder, slot):
                    continue
                raise ConfigError(
                    f"route names slot {slot!r}, which this encoder does not hold; resident: "
                    f"{sorted(resident.adapters if resident else ())}"
                )
            config = resident.get(slot)
            if len(active) > 1 and config.get("is_parallel"):
                raise ConfigError(_PARALLEL.format(what=composed(route)))
            if config.get("prefix_length") and (side := "mix rows of" if mixed else beside(route)):
                raise ConfigError(_PREFIX_BESIDE.format(what=side))
            if config.get("inv_adapter") and (slot not in first[:1] or beside(_bottom(route))):
                raise ConfigError(_INVERTIBLE)

    def save(
        self, encoder: nn.Module, slot: str, folder: Path, *, name: str = "xling", backbone: BackboneId | None = None
    ) -> None:
        """Write the library's configuration and its safetensors file, under a name of the caller's choice."""
        from adapters.configuration.model_adapters_config import build_full_config
        from safetensors.torch import save_file

        if bottleneck_fusion.is_fusion(encoder, slot):
            model_name = backbone.repo if backbone else None
            bottleneck_fusion.save(encoder, slot, folder, name=name, model_name=model_name)
            return
        folder.mkdir(parents=True, exist_ok=True)
        config: Any = encoder.adapters_config.get(slot)
        full = build_full_config(
            config,
            encoder.config,
            model_name=backbone.repo if backbone else None,
            model_class=type(encoder).__name__,
            name=name,
        )
        text = json.dumps(full, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
        tensors = {_rename(k, slot, name): v.detach().cpu().contiguous() for k, v in _state(encoder, slot).items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    def penalty(self, encoder: nn.Module, slot: str) -> Tensor | None:
        """A fusion's: it holds the value maps near the identity."""
        return bottleneck_fusion.penalty(encoder, slot)

    def lowest_layer(self, num_layers: int) -> int:
        """0 with an invertible block, else one above the lowest layer that has a block."""
        if self.inv_adapter in ("nice", "glow"):
            return 0
        return next((i + 1 for i in range(num_layers) if i not in self.leave_out), num_layers + 1)

    def num_added(self, shape: Shape, family: Family) -> int:
        """Down and up projection of every block with their biases; learned scalings are left out.

        Compacter makes a projection as a sum of Kronecker products of two vectors, with small matrices that all blocks
        share (Mahabadi et al. 2021).
        """
        h, places = shape.hidden, _PLACES.get(self.architecture, {})
        layers = len([i for i in range(shape.layers) if i not in self.leave_out])
        if self.architecture == "prefix":
            length, width = self.prefix_length or 0, self.prefix_bottleneck or 0
            return length * h + (h + 1) * width + (width + 1) * 2 * h * layers
        width, kronecker = int(h // (self.reduction_factor or 1)), bool(places.get("phm_layer"))
        weights = 2 * (h + width) if kronecker else 2 * h * width
        blocks = layers * (bool(places.get("mh_adapter")) + bool(places.get("output_adapter")))
        inverse = int(h // 2 // (self.inv_reduction_factor or 1)) if self.inv_adapter in ("nice", "glow") else 0
        invertible = 2 * (h * inverse + inverse + h // 2) if inverse else 0
        return blocks * (weights + h + width) + kronecker * PHM_DIM**3 + invertible

    def kept(self, shape: Shape, family: Family) -> Kept:
        """The input of every block and the two sides of its activation; a block behind the layer's own normalisation
        is followed by a second pass through it. Of the lowest layer with a block, what lies below it is not kept.
        """
        places = _PLACES.get(self.architecture, {})
        layers = len([i for i in range(shape.layers) if i not in self.leave_out])
        if self.architecture == "prefix":
            joined = layers * 2.0 * shape.hidden  # keys and values, copied behind the prefix
            return Kept(joined, joined)
        width = int(shape.hidden // (self.reduction_factor or 1))
        blocks = layers * (bool(places.get("mh_adapter")) + bool(places.get("output_adapter")))
        scaled = shape.hidden * isinstance(self.scaling, str)  # a learned factor keeps what it multiplies
        values = blocks * (shape.hidden + 2.0 * width + scaled)
        normed = layers * bool(places.get("original_ln_before")) * float(shape.hidden)
        if places.get("mh_adapter"):
            below = 4.0 * shape.hidden
        else:
            below, normed = 4.0 * shape.hidden + shape.ffn, normed - shape.hidden
        values -= below * bool(layers)
        return Kept(values, values, normed=normed, masks=blocks * shape.hidden * bool(self.dropout))

    def unembed(self, encoder: Any, vectors: Tensor) -> Tensor:
        """Run the active invertible block backwards, as the library's own masked-LM head does."""
        if not hasattr(encoder, "adapters_config"):
            return vectors
        whole = vectors if vectors.dim() == 3 else vectors[None]  # its blocks know batches of token rows only
        return encoder.invertible_adapters_forward(whole, rev=True).reshape(vectors.shape)

    def backbone_name(self, name: str) -> str | None:
        """Leave out the library's second name for the token vectors."""
        return None if name.startswith("prompt_tuning.") else super().backbone_name(name)

    def acts_by_token(self, encoder: nn.Module) -> bool:
        """Not with a prefix, which becomes keys and values of every row."""
        resident: Any = getattr(encoder, "adapters_config", None)
        active = resident.active_setup.flatten() if resident is not None and resident.active_setup is not None else ()
        configs = (resident.get(slot) for slot in active if slot in resident.adapters)
        return not any(config.get("prefix_length") for config in configs)

    def form(self, encoder: nn.Module, slot: str) -> Any:
        """Its configuration, without the sizes that its tensors show; prefixes compute with theirs."""
        if bottleneck_fusion.is_fusion(encoder, slot):
            return {"fusion": True}
        config = _shaping(encoder.adapters_config.get(slot))
        fixed = bool(config.get("prefix_length"))
        return {name: value for name, value in config.items() if fixed or not name.endswith("reduction_factor")}

    def operands(self, encoder: nn.Module, slot: str) -> dict[str, Tensor]:
        """The slot's tensors; of Compacter the matrices it makes of them."""
        found = super().operands(encoder, slot)
        if not self.form(encoder, slot).get("phm_layer"):
            return found
        made = matrices(encoder, slot)
        maps = tuple(name.rpartition(".")[0] + "." for name in made)
        kept = {n: t for n, t in found.items() if not n.startswith((*maps, "shared_parameters."))}
        return {**kept, **made}

    def stand_in(self, copy: nn.Module, route: Route) -> None:
        """Put plain maps in the place of Compacter's."""
        replace(copy, slots(route))
        self.activate(copy, route)

    def before_pass(self) -> None:
        """The library keeps its contexts by thread and makes the place for them at first use; a graph sees which."""
        from adapters.context import AdapterSetup, ForwardContext

        AdapterSetup.get_contexts()
        ForwardContext.get_contexts()

    def runs_by_rows(self, encoder: nn.Module, slot: str) -> bool:
        """Blocks of two linear maps do; prefixes, invertible blocks and fusions do not."""
        form = self.form(encoder, slot)
        return not any(form.get(name) for name in ("fusion", "prefix_length", "inv_adapter"))

    def context(self, encoder: nn.Module, **inputs: Tensor) -> contextlib.AbstractContextManager[Any]:
        """The library's per-pass state: prefixes and shared weights are put there before the first layer runs."""
        from adapters.context import ForwardContext

        return ForwardContext(encoder, **inputs) if hasattr(encoder, "adapters_config") else super().context(encoder)

    def _config(self, encoder: nn.Module) -> Any:
        """The library's configuration of these settings, every field given."""
        from adapters import BnConfig, PrefixTuningConfig

        num_layers = encoder.config.num_hidden_layers
        if self.leave_out and max(self.leave_out) >= num_layers:
            raise ConfigError(
                f"method 'bottleneck': leave_out holds {max(self.leave_out)}; "
                f"this encoder has layers 0 to {num_layers - 1}"
            )
        shared = {"leave_out": sorted(self.leave_out), "non_linearity": self.non_linearity, "dropout": self.dropout}
        if self.architecture == "prefix":
            return PrefixTuningConfig(
                prefix_length=self.prefix_length, bottleneck_size=self.prefix_bottleneck, cross_prefix=True, **shared
            )
        width = int(encoder.config.hidden_size // (self.reduction_factor or 1))
        if _PLACES[self.architecture].get("phm_layer") and (width < PHM_DIM or width % PHM_DIM):
            raise ConfigError(
                f"method 'bottleneck': reduction_factor {self.reduction_factor:g} gives {self.architecture} a width of "
                f"{width} on this encoder ({encoder.config.hidden_size} wide); it must be a multiple of {PHM_DIM}"
            )
        scaling = self.scaling if isinstance(self.scaling, str) else float(self.scaling or 0.0)
        invertible = None if self.inv_adapter == "none" else self.inv_adapter
        return BnConfig(
            **_PLACES[self.architecture],
            **shared,
            reduction_factor=self.reduction_factor,
            phm_dim=PHM_DIM,
            scaling=scaling,
            inv_adapter=invertible,
            inv_adapter_reduction_factor=self.inv_reduction_factor if invertible else None,
        )


_PARALLEL = (
    "method 'bottleneck' cannot {what} architecture 'parallel': its block reads the sub-layer's input, so the library "
    "would drop what the part below it added. Use Warm, or another architecture."
)
_PREFIX_BESIDE = (
    "method 'bottleneck' cannot {what} architecture 'prefix': a prefix is keys and values that attention reads, not "
    "something added that could be weighed. Use Stack, Warm, or another architecture."
)
_INVERTIBLE = (
    "method 'bottleneck' can Stack an invertible part in first place only: the library runs the first part's "
    "invertible block and skips all others. Put it first, or set inv_adapter to none."
)


def _bottom(route: Route) -> Route:
    """The part of a route nearest to the backbone."""
    return _bottom(route.parts[0]) if isinstance(route, Stack) else route


def _first(route: Route) -> Route:
    inner = parts_of(route)
    return _first(inner[0]) if inner else route


def _add(encoder: nn.Module, slot: str, config: Any) -> None:
    """Make the encoder adapter-capable (once) and add an inactive slot, leaving modes and active slots as they are."""
    import adapters

    claim(encoder, Bottleneck.name)
    if not hasattr(encoder, "adapters_config"):
        adapters.init(encoder)
        # Deliberate here: running the bare backbone beside resident slots.
        logging.getLogger("adapters.model_mixin").addFilter(
            lambda record: "none are activated" not in record.getMessage()
        )
    device = next(encoder.parameters()).device
    encoder.add_adapter(slot, config=config)
    for module in slot_modules(encoder, slot):
        module.to(device)
    install(encoder)


def _shaping(config: Any) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name not in _TRAINING_ONLY}


def _parse_config(data: dict[str, Any], path: Path, encoder: nn.Module) -> Any:
    """Turn an entry's configuration file into the library's class, from a closed list of architectures and fields.

    The library looks classes up by names found in the file; here nothing in the file is ever called.

    Raises:
        ZooError: for another architecture, an unknown field, a value of the wrong type, or another encoder.
    """
    from adapters import BnConfig, PrefixTuningConfig

    config = data.get("config")
    name = data.get("name")
    if not isinstance(config, dict) or not isinstance(name, str) or not name or set(name) & set("./,"):
        raise ZooError(
            f"{path}: holds no adapter configuration with a usable name; found keys: {', '.join(sorted(data))}"
        )
    for field, value in (("model_type", encoder.config.model_type), ("hidden_size", encoder.config.hidden_size)):
        if data.get(field) != value:
            raise ZooError(
                f"{path}: {field} is {data.get(field)!r}, this backbone's is {value!r}; use the backbone it names"
            )
    classes = {None: BnConfig, "bottleneck": BnConfig, "prefix_tuning": PrefixTuningConfig}
    architecture = config.get("architecture")
    if not isinstance(architecture, (str, type(None))) or architecture not in classes:
        raise ZooError(
            f"{path}: architecture is {architecture!r}; only bottleneck (null) and 'prefix_tuning' are loaded"
        )
    cls = classes[architecture]
    fields = {field.name for field in dataclasses.fields(cls)}
    given = {key: value for key, value in config.items() if key != "architecture"}
    if strange := sorted(set(given) - fields):
        raise ZooError(
            f"{path}: {strange[0]!r} is not a setting of this architecture; it has: {', '.join(sorted(fields))}"
        )
    nested = [
        key
        for key, value in given.items()
        if isinstance(value, (dict, list)) and key not in ("leave_out", "reduction_factor")
    ]
    if nested or given.get("stochastic_depth"):
        raise ZooError(f"{path}: {nested[0] if nested else 'stochastic_depth'} holds a value that is not supported")
    for field, (low, high) in _SIZES.items():
        value = given.get(field)
        for one in value.values() if isinstance(value, dict) else () if value is None else (value,):
            if isinstance(one, bool) or not isinstance(one, (int, float)) or not low <= one <= high:
                raise ZooError(f"{path}: {field} is {value!r}; loaded are numbers from {low} to {high:,}")
    left_out = given.setdefault("leave_out", [])
    if not isinstance(left_out, list) or any(type(layer) is not int for layer in left_out):
        raise ZooError(f"{path}: leave_out is {left_out!r}; valid is a list of layers")
    try:
        return cls(**given)
    except (TypeError, ValueError) as err:
        raise ZooError(f"{path}: not a valid adapter configuration: {err}") from err


def _rename(name: str, old: str, new: str) -> str:
    return ".".join(new if part == old else part for part in name.split("."))


def _state(encoder: nn.Module, slot: str) -> dict[str, Tensor]:
    """Live tensors of a slot, by whole name components (the library filters by substring).

    A prefix hangs in the module tree once per layer; of names for the same memory the shortest is kept.
    """
    found: dict[tuple[int, int], tuple[str, Tensor]] = {}
    for name, tensor in encoder.state_dict().items():
        if slot in name.split("."):
            memory = (tensor.data_ptr(), tensor.numel())
            if memory not in found or len(name) < len(found[memory][0]):
                found[memory] = (name, tensor)
    return dict(found.values())


def _copy(encoder: nn.Module, slot: str, data: dict[str, Any], folder: Path) -> None:
    tensors = {_rename(k, data["name"], slot): v for k, v in read_tensors(folder / WEIGHTS).items()}
    copy_exactly(_state(encoder, slot), tensors, folder / WEIGHTS)
