"""Low-rank adaptation through peft, on the bare encoder. A Stack of LoRA slots is the sum of their updates.

peft is used below its model wrappers: slots are injected into the encoder's own modules, so the encoder keeps its
class and its forward signature, and several slots can be active at once.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adapters_xling.backbones import FAMILIES, Family, Shape
from adapters_xling.errors import ConfigError, ZooError
from adapters_xling.spec import BackboneId, Fuse, Merge, Route, describe

from . import lora_merging
from .base import Kept, Method, Trainable
from .lora_routing import FUSION, add_fusion, fold, install, routing_of, wrapped
from .native import copy_exactly, differences, made_by_library, read_json, read_tensors
from .slots import (
    claim,
    composed,
    family_of,
    freeze_all_but,
    has_slot,
    own_route,
    slot_modules,
    slot_parameters,
    slots,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
FUSION_CONFIG = "lora_fusion_config.json"
FUSION_WEIGHTS = "lora_fusion.safetensors"
_PREFIX = "base_model.model."
_SHAPING = ("r", "lora_alpha", "target_modules", "layers_to_transform", "layers_pattern", "use_rslora", "use_dora")
"""Fields of peft's configuration that determine what a slot computes; a warm start must agree in all of them."""
_FREE = (
    "lora_dropout",
    "inference_mode",
    "base_model_name_or_path",
    "revision",
    "task_type",
    "peft_version",
    "init_lora_weights",
)
"""Fields that may say anything: they act in training only, or are remarks. `init_lora_weights` is checked apart."""
_LARGEST_RANK = 2**14
"""No encoder is as wide; a file that says more would only fill the memory."""
_TYPES: dict[str, Any] = {
    "use_rslora": bool | None,
    "use_dora": bool | None,
    "lora_dropout": float | int | None,
    "layers_pattern": str | None,
    "task_type": str | None,
}
_PLAIN_INITS = (True, "gaussian")
"""Initialisations that leave the backbone's weights alone (PiSSA, OLoRA, CorDA and others change them at load)."""


@dataclasses.dataclass(frozen=True)
class Lora(Method):
    """Add low-rank updates to linear maps of the encoder (Hu et al. 2021).

    Attributes:
        r: rank.
        alpha: the update is scaled by alpha / r, or by alpha / sqrt(r) with `rslora`.
        dropout: on the update's input, in training.
        targets: module suffixes, in no order; None is the family's default (query and value), "all-linear" every linear
            map. Spelling either out adapts the same modules under another key: which they are depends on the family,
            and a key is made without it.
        rslora: rank-stabilised scaling (Kalajdzievski 2023).
        dora: weight-decomposed update (Liu et al. 2024); cannot be stacked, for it is not additive.
        layers: layers (from 0) that get an update, in no order; None is all (likewise another key than all numbers).
    """

    name: ClassVar[str] = "lora"

    r: int = 8
    alpha: float = 16.0
    dropout: float = 0.1
    targets: tuple[str, ...] | Literal["all-linear"] | None = None
    rslora: bool = False
    dora: bool = False
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.targets is not None and not isinstance(self.targets, str):
            object.__setattr__(self, "targets", tuple(sorted(set(self.targets))))
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(sorted(set(self.layers))))

    def check(self, family: Family) -> None:
        """Refuse ranks, scalings and targets that cannot work."""
        if self.r < 1:
            raise ConfigError(f"method 'lora': r is {self.r}; valid is a rank of 1 or more")
        if not self.alpha > 0:
            raise ConfigError(f"method 'lora': alpha is {self.alpha:g}; valid is any number above 0")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"method 'lora': dropout is {self.dropout:g}; valid is 0 up to, not including, 1")
        if self.layers is not None and (not self.layers or min(self.layers) < 0):
            raise ConfigError(
                f"method 'lora': layers is {list(self.layers)}; valid are layer numbers from 0, or null for all"
            )
        bad = [target for target in self._targets(family) if target not in family.linear_targets]
        if bad or not self._targets(family):
            raise ConfigError(
                f"method 'lora': targets holds {bad or 'nothing'}; valid for {family.name}: "
                f'{", ".join(family.linear_targets)}, "all-linear", or null for {", ".join(family.lora_targets)}'
            )

    def supports_route(self, route: Route) -> str | None:
        """Refuse to sum DoRA updates, whose rescaling makes the result depend on the order."""
        if self.dora and (what := composed(route)):
            return (
                f"method 'lora' with dora cannot {what}: its update rescales the whole weight, so parts do not add up. "
                "Use Warm."
            )
        return None

    def supports_merge(self, merge: Merge) -> str | None:
        """Every merge of updates; not of DoRA's, which are no updates."""
        return (
            "with dora an entry rescales the backbone's weights, so there is no update to merge" if self.dora else None
        )

    def merged(self, merge: Merge, methods: Sequence[Method]) -> Method:
        """Rank and alpha are the ranks together, so that the scaling is 1 and nothing is lost; dropout is the first's.

        Raises:
            ConfigError: for entries that adapt other maps or layers in every family, or with dora. What a default means
                on their own backbone shows when their files are merged.
        """
        first = methods[0]
        assert isinstance(first, Lora)
        rank = 0
        for other in methods:
            assert isinstance(other, Lora)
            if other.dora:
                raise ConfigError(f"{describe(merge)}: {self.supports_merge(merge) or 'one entry has dora'}")
            if not _may_be_same_maps(first, other):
                raise ConfigError(
                    f"{describe(merge)}: its entries adapt other maps ({_maps(first)}; {_maps(other)}); merge entries "
                    "with the same targets and layers, or run them side by side: average(…) as a route"
                )
            rank += other.r
        return dataclasses.replace(first, r=rank, alpha=float(rank), rslora=False)

    def merge(self, encoder: nn.Module, merge: Merge, folders: Sequence[Path], folder: Path) -> str:
        """Merge updates: sums exactly, by putting the ranks behind each other; others as matrices, cut to that rank."""
        return lora_merging.merge(merge, folders, folder)

    def load(self, encoder: nn.Module, slot: str, folder: Path) -> None:
        """Inject a frozen slot with the rank, scaling and targets it was trained with."""
        training = {name for name, p in encoder.named_parameters() if p.requires_grad and has_slot(name)}
        if (folder / FUSION_CONFIG).is_file():
            _load_fusion(encoder, slot, folder)
        else:
            with made_by_library(folder / CONFIG):
                self._inject(encoder, slot, _read_config(folder / CONFIG))
            _copy(encoder, slot, folder)
        freeze_all_but(encoder, training)

    @classmethod
    def of_files(cls, encoder: nn.Module, folder: Path) -> Lora:
        """Rank and scaling as the configuration says; targets and layers as the weights show."""
        config, tensors = _read_config(folder / CONFIG), read_tensors(folder / WEIGHTS)
        family = family_of(encoder)
        marker = re.compile(rf"{re.escape(_PREFIX + family.layers)}\.(\d+)\.(.+)\.lora_A\.weight")
        found = [match for name in tensors if (match := marker.fullmatch(name))]
        layers = {int(match[1]) for match in found}
        targets = {
            max((t for t in family.linear_targets if f".{m[2]}".endswith(f".{t}")), key=len, default=m[2])
            for m in found
        }
        if len(found) != len(layers) * len(targets) or not found:
            raise ZooError(f"{folder / WEIGHTS}: its layers are not all adapted alike; only such LoRA is read")
        every = layers == set(range(encoder.config.num_hidden_layers))
        made = cls(
            r=config.r,
            alpha=float(config.lora_alpha),
            dropout=float(config.lora_dropout),
            targets=tuple(targets),
            rslora=bool(config.use_rslora),
            dora=bool(config.use_dora),
            layers=None if every else tuple(layers),
        )
        try:
            made.check(family)
        except ConfigError as err:
            raise ZooError(f"{folder / CONFIG}: {err}") from err
        return made

    def attach(self, encoder: nn.Module, slot: str, warm: Path | None, route: Route) -> Trainable:
        """Inject the slot, activate the route and freeze all else (peft leaves every active slot trainable)."""
        if isinstance(route, Fuse):
            return self._attach_fusion(encoder, slot, warm, route)
        own = self._config(encoder)
        if warm is not None:
            with made_by_library(warm / CONFIG):
                there = _shaping(_read_config(warm / CONFIG))
            if text := differences(_shaping(own), there):
                raise ConfigError(
                    f"{warm}: a warm start needs the parent's settings: {text}. Change them or start Fresh"
                )
        self._inject(encoder, slot, own)
        if warm is not None:
            _copy(encoder, slot, warm)
        self.activate(encoder, own_route(route, slot))
        names = slot_parameters(encoder, slot)
        if not names:
            raise ConfigError(
                f"method 'lora': no module of the encoder matches targets {self.targets!r}, layers {self.layers!r}"
            )
        freeze_all_but(encoder, names)
        modules = slot_modules(encoder, slot)
        if self.dora:  # its dropout asks the wrapped layer, not the dropout module, whether training is on
            modules = tuple(m for m in encoder.modules() if slot in getattr(m, "lora_A", ()))
        return Trainable(parameters=names, modules=modules)

    def activate(self, encoder: nn.Module, route: Route, rows: Sequence[tuple[slice, Route]] | None = None) -> None:
        """Sum the slots of the route; without slots every module answers as the backbone's own.

        Raises:
            ConfigError: for a slot that is not there, and when a sum holds one with DoRA.
        """
        configs: dict[str, Any] = getattr(encoder, "peft_config", {})
        fusions = _fusions(encoder)
        for one in (route, *(each for _, each in rows or ())):
            active = slots(one)
            for slot in active:
                if slot not in configs and slot not in fusions:
                    raise ConfigError(
                        f"route names slot {slot!r}, which this encoder does not hold; resident: "
                        f"{sorted({*configs, *fusions})}"
                    )
                if len(active) > 1 and slot in configs and configs[slot].use_dora:
                    what = composed(one) or "Stack"
                    raise ConfigError(
                        f"a {what} cannot hold an entry with dora: its update rescales the weight, so parts do not "
                        "add up"
                    )
        routing_of(encoder).set(route, rows)

    def _attach_fusion(self, encoder: nn.Module, slot: str, warm: Path | None, route: Fuse) -> Trainable:
        """Weights per adapted map for frozen parts: all that trains is how much each part counts where."""
        add_fusion(encoder, slot, [slots(part) for part in route.parts])
        _note_fusion(encoder, slot, len(route.parts))
        if warm is not None:
            _copy_fusion(encoder, slot, warm)
        self.activate(encoder, own_route(route, slot))
        names = slot_parameters(encoder, slot)
        freeze_all_but(encoder, names)
        return Trainable(parameters=names, modules=slot_modules(encoder, slot))

    def save(
        self, encoder: nn.Module, slot: str, folder: Path, *, name: str = "xling", backbone: BackboneId | None = None
    ) -> None:
        """Write peft's own two files. The state is collected here: peft's saver would ask the hub for the backbone."""
        import copy

        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        if slot in _fusions(encoder):
            _save_fusion(encoder, slot, folder)
            return
        config = copy.deepcopy(encoder.peft_config[slot])
        config.base_model_name_or_path = backbone.repo if backbone else None
        config.revision = backbone.revision if backbone else None
        config.inference_mode = True
        # A set would be written in an order that changes from process to process.
        config.target_modules = sorted(config.target_modules)
        config.save_pretrained(str(folder))
        tensors = {key: value.detach().cpu().contiguous() for key, value in _state(encoder, slot).items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    def lowest_layer(self, num_layers: int) -> int:
        """One above the lowest adapted layer; updates sit inside layers only."""
        return (min(self.layers) if self.layers else 0) + 1

    def num_added(self, shape: Shape, family: Family) -> int:
        """Two matrices of rank r for every adapted map, with DoRA a magnitude per output as well."""
        h, f = shape.hidden, shape.ffn
        sides = dict.fromkeys(family.linear_targets, (h, h))
        sides |= {"intermediate.dense": (h, f), "output.dense": (f, h)}
        per_layer = sum(self.r * (i + o) + self.dora * o for i, o in (sides[t] for t in self._targets(family)))
        return per_layer * len([i for i in range(shape.layers) if self.layers is None or i in self.layers])

    def kept(self, shape: Shape, family: Family) -> Kept:
        """The input of every adapted map and the low-rank vector between its two matrices.

        Query, key and value read one tensor, and what attention gives is kept by attention itself; with dropout every
        map has a copy of its own and a mask.
        """
        h = shape.hidden
        widths = dict.fromkeys(family.linear_targets, h) | {"output.dense": shape.ffn}
        targets = self._targets(family)
        layers = len([i for i in range(shape.layers) if self.layers is None or i in self.layers])
        each = sum(widths[target] for target in targets)
        shared = h * any(target in ("query", "key", "value") for target in targets)
        shared += sum(widths[target] for target in targets if target in ("intermediate.dense", "output.dense"))
        ranks = self.r * len(targets)
        if self.dropout:
            return Kept(layers * (each + ranks), layers * (each + ranks), masks=layers * each)
        return Kept(layers * (shared + ranks), layers * (each + ranks))

    def fold(self, encoder: nn.Module) -> None:
        """Add the updates of the active route, with their weights, to the matrices they belong to."""
        fold(encoder)

    def backbone_name(self, name: str) -> str | None:
        """Undo peft's renaming of the modules it wraps."""
        plain = super().backbone_name(name)
        return plain and plain.replace(".base_layer.", ".")

    def form(self, encoder: nn.Module, slot: str) -> Any:
        """Whether it is DoRA, or of how many parts a fusion."""
        parts = _fusions(encoder).get(slot)
        return {"parts": parts} if parts else {"dora": bool(encoder.peft_config[slot].use_dora)}

    def operands(self, encoder: nn.Module, slot: str) -> dict[str, Tensor]:
        """The slot's tensors, its scaling in the upper matrix."""
        found = super().operands(encoder, slot)
        for name, module in wrapped(encoder).items():
            if slot in module.lora_B:
                found[f"{name}.lora_B.{slot}.weight"] = module.lora_B[slot].weight.detach() * module.scaling[slot]
        return found

    def stand_in(self, copy: nn.Module, route: Route) -> None:
        """Unwrap the maps that no slot of the route adapts, and leave scaling to the operands."""
        wanted = set(slots(route))
        for name, module in wrapped(copy).items():
            if not wanted & {*module.lora_A, *getattr(module, FUSION, ())}:
                copy.set_submodule(name, module.base_layer)
            for slot in wanted & set(module.scaling):
                module.scaling[slot] = 1.0
        self.activate(copy, route)

    def runs_by_rows(self, encoder: nn.Module, slot: str) -> bool:
        """Not DoRA, which looks at the columns of the whole weight, and not the trained weights of a fusion."""
        return self.form(encoder, slot) == {"dora": False}

    def _targets(self, family: Family) -> tuple[str, ...]:
        if self.targets == "all-linear":
            return family.linear_targets
        return family.lora_targets if self.targets is None else tuple(self.targets)

    def _config(self, encoder: nn.Module) -> Any:
        """peft's configuration of these settings on this encoder."""
        from peft import LoraConfig

        family = family_of(encoder)
        self.check(family)
        num_layers = encoder.config.num_hidden_layers
        if self.layers and max(self.layers) >= num_layers:
            raise ConfigError(
                f"method 'lora': layers holds {max(self.layers)}, but this encoder has layers 0 to {num_layers - 1}"
            )
        alpha = int(self.alpha) if float(self.alpha).is_integer() else self.alpha
        return LoraConfig(
            task_type="FEATURE_EXTRACTION",
            r=self.r,
            lora_alpha=alpha,
            lora_dropout=self.dropout,
            target_modules=_target_modules(encoder, family, self._targets(family)),
            use_rslora=self.rslora,
            use_dora=self.dora,
            layers_to_transform=sorted(self.layers) if self.layers else None,
            layers_pattern=family.layers.rpartition(".")[2] if self.layers else None,
        )

    def _inject(self, encoder: nn.Module, slot: str, config: Any) -> None:
        from peft import inject_adapter_in_model

        claim(encoder, self.name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "already found a peft_config": several slots are meant
            inject_adapter_in_model(config, encoder, adapter_name=slot)
        install(encoder)


def _target_modules(encoder: nn.Module, family: Family, targets: tuple[str, ...]) -> list[str]:
    """Targets as peft understands them: it adapts every module whose name *ends* in one.

    ``output.dense`` alone would therefore catch ``attention.output.dense`` too. Where that happens the modules are
    named one by one; otherwise the short suffixes stay, which also fit the encoder inside other classes.
    """
    names = [name for name, _ in encoder.named_modules() if name.startswith(family.layers + ".")]
    covered = [t for t in targets if not any(t != other and t.endswith("." + other) for other in targets)]
    by_suffix = {name for name in names if any(name.endswith("." + t) for t in covered)}
    meant = set()
    for name in names:
        longest = max((t for t in family.linear_targets if name.endswith("." + t)), key=len, default=None)
        if longest in targets:
            meant.add(name)
    return sorted(covered if by_suffix == meant else meant)


def _shaping(config: Any) -> dict[str, Any]:
    values = {name: getattr(config, name) for name in _SHAPING}
    values["target_modules"] = sorted(values["target_modules"])
    return values


def _read_config(path: Path) -> Any:
    """Read a peft configuration, allowing only what leaves the backbone alone.

    Raises:
        ZooError: for another method, a switched-on extra, or values of the wrong type.
    """
    from peft import LoraConfig

    data = read_json(path)
    if data.get("peft_type") != "LORA":
        raise ZooError(f"{path}: peft_type is {data.get('peft_type')!r}; only 'LORA' is loaded")
    plain = LoraConfig().to_dict()
    for name, value in data.items():
        if name in _SHAPING or name in _FREE or name == "peft_type":
            continue
        if value not in (plain.get(name), None, False, [], {}):
            raise ZooError(
                f"{path}: {name} is {value!r}; only plain LoRA is loaded, so this must be {plain.get(name)!r}"
            )
    if data.get("init_lora_weights", True) not in _PLAIN_INITS:
        raise ZooError(
            f"{path}: init_lora_weights is {data['init_lora_weights']!r}, which alters the backbone's own weights"
        )
    r, alpha, targets = data.get("r"), data.get("lora_alpha"), data.get("target_modules")
    good = (
        type(r) is int and 1 <= r <= _LARGEST_RANK,
        isinstance(alpha, (int, float)) and math.isfinite(alpha),
        isinstance(targets, list) and all(isinstance(target, str) for target in targets),
    )
    if not all(good):
        raise ZooError(f"{path}: r {r!r}, lora_alpha {alpha!r} or target_modules {targets!r} is not valid for LoRA")
    layers = data.get("layers_to_transform")
    if layers is not None and not (isinstance(layers, list) and all(type(layer) is int for layer in layers)):
        raise ZooError(f"{path}: layers_to_transform is {layers!r}; valid is a list of layers, or null for all")
    for name, types in _TYPES.items():
        if not isinstance(data.get(name), types):
            raise ZooError(f"{path}: {name} is {data[name]!r}, which is not valid for LoRA")
    values = {name: data[name] for name in (*_SHAPING, "lora_dropout", "task_type") if name in data}
    return LoraConfig(**values)


def _state(encoder: nn.Module, slot: str) -> dict[str, Tensor]:
    """Live tensors of a slot under the names peft gives them in files."""
    found = {}
    for name, tensor in encoder.state_dict().items():
        parts = name.split(".")
        if slot in parts:
            at = parts.index(slot)
            # DoRA's magnitude is a module in memory and a bare tensor in files.
            tail = [] if parts[at - 1] == "lora_magnitude_vector" else parts[at + 1 :]
            found[_PREFIX + ".".join((*parts[:at], *tail))] = tensor
    return found


def _may_be_same_maps(one: Lora, other: Lora) -> bool:
    """Whether there is a family and a number of layers for which both settings adapt the same maps."""
    same_targets = any(set(one._targets(family)) == set(other._targets(family)) for family in FAMILIES.values())
    if one.layers is None or other.layers is None:
        given = one.layers or other.layers or ()
        return same_targets and given == tuple(range(len(given)))
    return same_targets and one.layers == other.layers


def _maps(method: Lora) -> str:
    targets = "default targets" if method.targets is None else f"targets {method.targets!r}"
    return f"{targets} in {'all layers' if method.layers is None else f'layers {method.layers!r}'}"


# --- fusions ----------------------------------------------------------------------------------------------------


def _fusions(encoder: nn.Module) -> dict[str, int]:
    """Number of parts of every resident fusion, by slot."""
    return getattr(encoder, "_xling_fusions", {})


def _note_fusion(encoder: nn.Module, slot: str, num_parts: int) -> None:
    encoder._xling_fusions = {**_fusions(encoder), slot: num_parts}


def _fusion_state(encoder: nn.Module, slot: str) -> dict[str, Tensor]:
    modules = wrapped(encoder).items()
    return {name: m.lora_fusion[slot].weight for name, m in modules if slot in getattr(m, "lora_fusion", ())}


def _save_fusion(encoder: nn.Module, slot: str, folder: Path) -> None:
    from safetensors.torch import save_file

    config = {"fusion": "weighted-sum", "num_parts": _fusions(encoder)[slot]}
    (folder / FUSION_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    tensors = {name: value.detach().cpu().contiguous() for name, value in _fusion_state(encoder, slot).items()}
    save_file(tensors, folder / FUSION_WEIGHTS, metadata={"format": "pt"})


def _load_fusion(encoder: nn.Module, slot: str, folder: Path) -> None:
    """Add the trained weights of a fusion; which modules have some follows from the file."""
    config = read_json(folder / FUSION_CONFIG)
    num_parts = config.get("num_parts")
    if config.get("fusion") != "weighted-sum" or type(num_parts) is not int or not 2 <= num_parts <= 1000:
        raise ZooError(f"{folder / FUSION_CONFIG}: not a fusion of LoRAs; pull the entry again")
    holders = sorted(getattr(encoder, "peft_config", {}))
    add_fusion(encoder, slot, [holders, *[()] * (num_parts - 1)])
    tensors = read_tensors(folder / FUSION_WEIGHTS)
    for name, module in wrapped(encoder).items():  # entries beside its parts may adapt more modules
        if name not in tensors and slot in getattr(module, "lora_fusion", ()):
            del module.lora_fusion[slot]
    _note_fusion(encoder, slot, num_parts)
    _copy_fusion(encoder, slot, folder)


def _copy_fusion(encoder: nn.Module, slot: str, folder: Path) -> None:
    copy_exactly(_fusion_state(encoder, slot), read_tensors(folder / FUSION_WEIGHTS), folder / FUSION_WEIGHTS)


def _copy(encoder: nn.Module, slot: str, folder: Path) -> None:
    copy_exactly(_state(encoder, slot), read_tensors(folder / WEIGHTS), folder / WEIGHTS)
