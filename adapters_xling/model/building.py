"""From data to a live model: a run to train, an entry to use, a bare backbone to measure.

Every entry that gets into an encoder passes the same door (`Resident.add`): files verified by the zoo, same method,
same backbone, same loaded tensors, and its probe answered.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from adapters_xling.composition import highest, transform
from adapters_xling.errors import ConfigError, XlingError, ZooError
from adapters_xling.methods import Method, resolve
from adapters_xling.methods.native import read_tensors
from adapters_xling.methods.slots import holds, own_route, slot_name
from adapters_xling.spec import (
    Alone,
    Average,
    BackboneId,
    Base,
    Fresh,
    Fuse,
    Imported,
    Merge,
    Merged,
    Route,
    RunSpec,
    Slot,
    Stack,
    TaskSpec,
    Use,
    Warm,
    describe,
    key,
)
from adapters_xling.tasks.kinds import options
from adapters_xling.zoo import Entry, Zoo

from . import merges
from .backbone import LoadedBackbone, load_backbone, one_at_a_time, require_same
from .core import Model, Turns, seed_for
from .lm_head import start_from_backbone
from .saving import ENCODER, HEADS, check_probe


@one_at_a_time
def build(
    run: RunSpec,
    *,
    zoo: Zoo,
    tasks: Sequence[TaskSpec],
    device: Any = "cpu",
    trains_on: Any = None,
    backbone: str | Path | None = None,
) -> Model:
    """Make the model a run trains: parents resident and frozen, the slot attached, heads fresh or carried over.

    The result is in eval mode; `trainable_parameters()` is what the run may change. Initial weights do not depend on
    the device: everything is made in main memory and moved at the end.

    Args:
        run: what to build.
        zoo: where the parents are.
        tasks: the run's tasks, in the run's order.
        device: where the model goes.
        trains_on: device it is trained on, which decides the kernel of its attention, where that is another one.
        backbone: folder of the run's backbone, when it cannot be found by itself; its files must be the same.

    Raises:
        ConfigError: for a method that cannot start or run so, rows longer than the encoder can read, and parents of
            another method or settings.
        UnknownName: for a parent or backbone nobody knows.
        ZooError: for parents or backbones that are not what their cards say.
    """
    if isinstance(run.init, Imported):
        raise ConfigError(f"run {key(run)} was imported, not trained; to go on from it start another run Warm from it")
    method = resolve(run.method)
    if reason := method.supports(run.init, run.route):
        raise ConfigError(reason)
    if [task.name for task in tasks] != [ref.name for ref in run.tasks]:
        raise ConfigError(
            f"run {key(run)} is about {', '.join(ref.name for ref in run.tasks)}; it was given the tasks "
            f"{', '.join(task.name for task in tasks) or 'none'}"
        )
    if not _ends_in_slot(run.route):
        raise ConfigError(
            f"route {describe(run.route)} cannot be trained: the run's own slot must be in it, at its top. "
            "Valid: slot, stack(<entries>, slot), or fuse(<entries>), whose mixing is what trains"
        )
    attention = _training_attention(run.recipe.precision, trains_on or device)
    loaded = load_for(run, zoo=zoo, who=f"run {key(run)}", backbone=backbone, attention=attention)
    method.check(loaded.family)
    model = Model(loaded, method, pooling=run.recipe.pooling, dropout=run.recipe.dropout, seed=run.seed)
    longest = max(run.recipe_for(ref.name).max_length for ref in run.tasks)
    if longest > model.max_positions:
        raise ConfigError(
            f"recipe.max_length is {longest}, but backbone {run.backbone.name!r} reads at most "
            f"{model.max_positions} tokens; set --with max_length={model.max_positions} (or less)"
        )
    resident = Resident(loaded, method, zoo)
    own = slot_name(0)
    with contextlib.ExitStack() as stack:
        start: Path | None = None
        if isinstance(run.init, Merge):  # before anything changes the encoder
            start, settings, _ = resident.merge(run.init, stack)
            merges.require_settings(method, settings, describe(run.init))
            for name in run.init.entries:
                _same_ground(zoo.get(name, verify=False), run.route, resident)
        route = resident.expand(run.route)
        warm = resident.check(run.init.entry) if isinstance(run.init, Warm) else None
        if warm is not None:
            _same_ground(warm, run.route, resident)
            start = warm.folder / ENCODER
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(run.seed, "slot"))
            model.trainable = method.attach(model.encoder, own, start, route)
    model.route = own_route(route, own)
    model.set_dropout()
    if warm is not None:
        _prove(loaded, warm, own_route(route, own), method)
    for task in tasks:
        fresh = task.head_name not in model.head_cards
        model.add_head(task)
        if fresh and task.kind in options.FROM_LM_HEAD:
            start_from_backbone(model.head_of(task), loaded.folder, expected=run.lm_head, who=f"run {key(run)}")
    _carry(model, run, warm, zoo)
    return model.eval_mode().to(device)


@one_at_a_time
def open_entry(
    name: str,
    *,
    zoo: Zoo,
    device: Any = "cpu",
    route: Route | None = None,
    backbone: str | Path | None = None,
    beside: Model | None = None,
) -> Model:
    """Open an entry for use: its encoder side, what it stands on, and its heads, all checked.

    Args:
        name: key of the entry.
        zoo: where it and its parents are.
        device: where the model goes.
        route: how to run it instead of as it was trained; `Use` names entries of the same method.
        backbone: folder of its backbone, when it cannot be found by itself; its files must be the same to the byte.
        beside: an opened entry whose encoder it shares, so that both are resident; each runs over its own route.

    Raises:
        UnknownName: for an entry or backbone nobody knows.
        ConfigError: for entries that cannot share an encoder, or a route its method cannot run.
        ZooError: when entry, parents or backbone are not what the card says, or the probe fails.
    """
    entry = zoo.get(name)
    run = entry.card.run
    method = resolve(run.method)
    if route is not None and (reason := method.supports(Fresh(), route)):
        raise ConfigError(reason)
    if route is not None and holds(route, Fuse):
        raise ConfigError(
            f"{describe(route)}: a fusion has to be trained before it can be used. `xling train TASK --on "
            f"'{describe(route)}'`, then open the entry that gives"
        )
    if beside is not None:
        resident = _resident_of(beside, method, name)
        loaded = resident.loaded
    else:
        loaded = load_for(run, zoo=zoo, who=f"entry {name}", backbone=backbone)
        loaded.encoder.to(device)
        resident = Resident(loaded, method, zoo)
    resident.whose = None  # proofs use the encoder, also those that fail
    wanted = resident.expand(Use(entry=name) if route is None else _name_slot(route, name))
    model = Model(loaded, method, pooling=run.recipe.pooling)
    model.add_heads(entry.card.heads, _head_tensors(entry))
    model.route, model.turns = wanted, resident
    resident.take(model)
    return model.requires_grad_(False).eval().to(device)


def _resident_of(beside: Model, method: Method, name: str) -> Resident:
    """What is resident in the encoder of an opened entry.

    Raises:
        ConfigError: for a model that holds one entry only.
    """
    if not isinstance(beside.turns, Resident) or not method.shares_encoder:
        raise ConfigError(
            f"entry {name} cannot share an encoder: method {method.name!r} holds one entry at a time. Open it by itself"
        )
    return beside.turns


@one_at_a_time
def bare(
    name: str | BackboneId, *, zoo: Zoo | None = None, device: Any = "cpu", backbone: str | Path | None = None
) -> Model:
    """Open a backbone without any entry: retrieval needs no training. Arguments are those of `load_backbone`.

    Raises:
        UnknownName: for a backbone nobody knows.
        ZooError: when its files cannot be had or are damaged.
    """
    return Model(load_backbone(name, zoo=zoo, backbone=backbone), resolve("head")).to(device)


class Resident(Turns):
    """Entries that live in one encoder, the slots they are in, and what was refused."""

    def __init__(self, loaded: LoadedBackbone, method: Method, zoo: Zoo) -> None:
        super().__init__()
        self.loaded, self.method, self.zoo = loaded, method, zoo
        self.slots: dict[str, str] = {}
        self.refused: dict[str, XlingError] = {}

    def expand(self, route: Route) -> Route:
        """Turn a route over entries into one over slots, loading what it names and all that stands below."""
        if isinstance(route, Stack):
            parts: list[Route] = []
            for part in map(self.expand, route.parts):
                parts += part.parts if isinstance(part, Stack) else [part]
            return Stack(parts=tuple(parts))
        if isinstance(route, (Average, Fuse)):
            return msgspec.structs.replace(route, parts=tuple(map(self.expand, route.parts)))
        if isinstance(route, Alone):
            self.add(route.entry)
            merges.require_own_weights(self.zoo.get(route.entry, verify=False), describe(route))
            return Use(entry=self.slots[route.entry])
        if isinstance(route, Merged):
            return self.add_merged(route.merge)
        return self.add(route.entry) if isinstance(route, Use) else route

    def add(self, name: str) -> Route:
        """Bring an entry and its parents into the encoder; returns the route that runs it as it was trained."""
        if name in self.refused:  # its slot is there, but nothing may run over it
            raise self.refused[name]
        entry = self.check(name)
        below = self.expand(entry.card.run.route)
        if name in self.slots:
            return own_route(below, self.slots[name])
        if self.slots and not self.method.shares_encoder:
            raise ConfigError(
                f"method {self.method.name!r} holds one entry at a time: {next(iter(self.slots))} is in this encoder, "
                f"{name} would overwrite it"
            )
        method = resolve(entry.card.run.method)
        with self.occupying(name):
            route = own_route(below, self.slots[name])
            method.load(self.loaded.encoder, self.slots[name], entry.folder / ENCODER)
            _prove(self.loaded, entry, route, method)
        return route

    @contextlib.contextmanager
    def occupying(self, name: str) -> Iterator[None]:
        """Give something a slot; what does not get through, whatever stops it, may not run over that slot later."""
        self.slots[name] = slot_name(len(self.slots) + 1)
        try:
            yield
        except BaseException as err:
            why = f"{name} was not loaded to its end in this encoder ({type(err).__name__}: {err}); open it again"
            self.refused[name] = err if isinstance(err, XlingError) else ZooError(why)
            raise

    def add_merged(self, merge: Merge) -> Route:
        """Merge entries and bring the result into the encoder, under what they all stand on."""
        name = describe(merge)
        if name in self.refused:
            raise self.refused[name]
        ground = self.zoo.get(merge.entries[0], verify=False).card.run.route
        below = self.expand(ground)
        if name not in self.slots:
            with contextlib.ExitStack() as stack:
                folder, method, _ = self.merge(merge, stack)
                with self.occupying(name):
                    method.load(self.loaded.encoder, self.slots[name], folder)
        return own_route(below, self.slots[name])

    def merge(self, merge: Merge, stack: contextlib.ExitStack) -> tuple[Path, Method, str]:
        """Files of a merge, for as long as `stack` is open, the method they are of, and what was computed, in words."""
        found = [self.check(name) for name in merge.entries]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xling-merge-")))
        method, computed = merges.merge_files(merge, found, self.loaded.encoder, folder)
        return folder, method, computed

    def check(self, name: str) -> Entry:
        """Get an entry that fits this encoder, or refuse."""
        entry = self.zoo.get(name)
        other = entry.card.run.method.name
        if other != self.method.name:
            raise ConfigError(
                f"entry {name} was made by method {other!r}, this run's is {self.method.name!r}: both rewrite the same "
                f"modules of the encoder, so they cannot share one. Compose entries of one method, or train {name}'s "
                f"task again with {self.method.name!r}"
            )
        require_same(self.loaded.id, entry.card.run.backbone, who=f"entry {name}")
        if entry.card.backbone_fingerprint != self.loaded.fingerprint:
            raise ZooError(
                f"entry {name} was trained on backbone tensors {entry.card.backbone_fingerprint[:16]}…, those loaded "
                f"here are {self.loaded.fingerprint[:16]}… although the file is the same; check the versions of "
                "transformers and safetensors against the card"
            )
        return entry


def _training_attention(precision: str, device: Any) -> str | None:
    """Kernel that training uses: the backbone's own, but plain products on a CPU in bfloat16.

    There the fused kernel's backward pass takes about ten times as long (LOG.md); the results differ by rounding.
    """
    return "eager" if precision == "bf16" and torch.device(device).type == "cpu" else None


def load_for(
    run: RunSpec, *, zoo: Zoo, who: str, backbone: str | Path | None, attention: str | None = None
) -> LoadedBackbone:
    """Load the backbone of a run, and no other.

    Raises:
        ZooError: naming who needs it, when it is not to be had.
    """
    try:
        loaded = load_backbone(run.backbone, zoo=zoo, backbone=backbone, attention=attention)
    except ZooError as err:
        raise ZooError(f"{who}: {err}") from err
    require_same(loaded.id, run.backbone, who=who)
    return loaded


def _prove(loaded: LoadedBackbone, entry: Entry, route: Route, method: Method) -> None:
    """Run an entry's probe through the encoder it was just put into."""
    if entry.card.probe is None:
        return
    trained = Model(loaded, method, pooling=entry.card.run.recipe.pooling)
    method.activate(loaded.encoder, route)
    try:
        trained.add_heads(entry.card.heads, _head_tensors(entry))
        check_probe(trained, entry.card.probe)
    except ZooError as err:
        raise ZooError(f"entry {entry.key}: {err}") from err


def _head_tensors(entry: Entry) -> dict[str, torch.Tensor]:
    return read_tensors(entry.folder / HEADS) if entry.card.heads else {}


def _same_ground(warm: Entry, route: Route, resident: Resident) -> None:
    """Refuse a start from weights without the entries that these were trained on top of.

    Raises:
        ConfigError: naming the route that would do.
    """
    if resident.expand(warm.card.run.route) != resident.expand(route):
        raise ConfigError(
            f"entry {warm.key} was trained as {describe(warm.card.run.route)}; without what lies below it its weights "
            f"mean something else. Start Warm from it with that same route, not {describe(_outward(route, resident))}"
        )


def _outward(route: Route, resident: Resident) -> Route:
    """The route over entries with every parent written out."""
    names = {slot: name for name, slot in resident.slots.items()}
    live = resident.expand(route)
    return transform(live, lambda leaf: Use(entry=names[leaf.entry]) if isinstance(leaf, Use) else leaf)


def _carry(model: Model, run: RunSpec, warm: Entry | None, zoo: Zoo) -> None:
    """Copy pooler and heads of the nearest parents as far as the recipe says: the pooler always, a head to its like."""
    if run.recipe.carry == "none":
        return
    nearest = run.init if isinstance(run.init, Merge) else (warm.key,) if warm else highest(run.route)
    found = [zoo.get(name) for name in (nearest.entries if isinstance(nearest, Merge) else nearest)]
    if not found:
        return
    if isinstance(nearest, Merge):
        parent = found[0]
        cards, tensors, _ = merges.merged_heads(nearest, found)
    else:
        parent = next((one for one in found if any(map(_is_pooler, _head_tensors(one)))), found[0])
        cards, tensors = parent.card.heads, _head_tensors(parent)
    wanted = set(filter(_is_pooler, tensors))
    if run.recipe.carry == "head":
        for name, card in model.head_cards.items():
            there = cards.get(name)
            if there and (there.kind, there.labels) == (card.kind, card.labels):
                wanted |= {t for t in tensors if t.startswith(f"heads.{name.replace('.', '/')}.")}
    own = model.head_state()
    unlike = [name for name in wanted & set(own) if own[name].shape != tensors[name].shape]
    if unlike:
        raise ConfigError(
            f"the pooler of {parent.key} cannot travel: it reads pooling {parent.card.run.recipe.pooling!r}, this run "
            f"{run.recipe.pooling!r}. Train with `--with pooling={parent.card.run.recipe.pooling}`, or leave the "
            "pooler behind with `--with carry=none`"
        )
    with torch.no_grad():
        for name in wanted & set(own):
            own[name].copy_(tensors[name])


def _is_pooler(name: str) -> bool:
    return name.startswith("pooler.")


def _ends_in_slot(route: Route) -> bool:
    if isinstance(route, Fuse):
        return isinstance(route.by, Slot)
    top = route.parts[-1] if isinstance(route, Stack) and route.parts else route
    return _ends_in_slot(top) if isinstance(top, Stack) else isinstance(top, Slot)


def _name_slot(route: Route, name: str) -> Route:
    """Let `Slot` in an evaluation route mean the entry at hand; `Base` stays the bare backbone."""
    return route if isinstance(route, Base) else own_route(route, name)
