"""Entries on their way between a zoo and a shared one: what would travel, and the journey itself."""

from __future__ import annotations

import contextlib
import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapters_xling import paths, spec
from adapters_xling.errors import HubError, UnknownName, XlingError, unknown
from adapters_xling.licences import Terms
from adapters_xling.strict import parse_json
from adapters_xling.zoo import CARD, Attestation, Card, Entry, Zoo, attestations, lineage, render_readme
from adapters_xling.zoo.card import KEY
from adapters_xling.zoo.entry import matches
from adapters_xling.zoo.staging import alone

from .base import Absent, Hub, OnStep, other_content
from .hugging_face import HuggingFaceHub
from .scores import Side, from_there, shortened, to_publish, to_take

PULLED = ".pulled.json"
"""File in a zoo that says where its pulled entries came from: place, commit, digests of the card and of its scores."""
_MOST = 200


@dataclass(frozen=True, kw_only=True)
class Item:
    """One entry of a journey.

    Attributes:
        card: its card.
        terms: what the licences of its data, its backbone and its ancestors ask together.
        there: whether the goal has it already, unchanged.
        reason: "asked for", or whose parent it is.
        side: its attested scores that travel, to an entry that is there too.
    """

    card: Card
    terms: Terms
    there: bool
    reason: str
    side: Side = field(default_factory=Side)

    @property
    def key(self) -> str:
        """Key of the entry."""
        return self.card.key


@dataclass(frozen=True, kw_only=True)
class Journey:
    """What travels, parents first, and what there is to say about it.

    Attributes:
        where: the shared zoo.
        items: entries in the order they travel.
        notes: sentences for people.
        revision: commit that was read or written, where there are commits.
        page: where a pushed entry can be looked at.
    """

    where: str
    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()
    revision: str | None = None
    page: str | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes that have to travel."""
        return sum(item.card.num_bytes for item in self.items if not item.there)


def _nothing(key: str, what: str, done: int, total: int) -> None:
    pass


# --- push -------------------------------------------------------------------------------------------------------


def plan_push(zoo: Zoo, name: str, hub: Hub, *, private: bool | None = None) -> Journey:
    """Say what a push would send: the entry, and its ancestors that are not there yet. Nothing is written.

    Args and errors are `push`'s.
    """
    key = zoo.resolve(name)
    hub.check_push(private=private)
    known = _keys_there(hub)
    items: list[Item] = []
    notes: list[str] = [hub.hint] if hub.hint and not known else []
    for one in zoo.lineage(key):
        if one not in zoo:
            if one in known:
                continue
            child = next(k for k in zoo.lineage(key) if k in zoo and one in zoo.get(k, verify=False).card.parents)
            if one in spec.entries(zoo.get(child, verify=False).card.run.route):
                raise HubError(
                    f"{child} runs on top of {one}, which is neither in zoo {zoo.root} nor at {hub.where}: pull or "
                    "train it"
                )
            notes.append(f"{one}, which {child} started from, is in neither place; {child} works without it")
            continue
        entry = zoo.get(one)
        there = one in known
        if there and not hub.holds(entry):
            raise HubError(f"{hub.where}: {one} was there and is not any more; push again")
        if there:
            hub.check_published(entry)
        terms = lineage.trace(zoo, one).licence()
        side = _side_to_publish(hub, entry, there=there)
        reason = "asked for" if one == key else "parent"
        items.append(Item(card=entry.card, terms=terms, there=there, reason=reason, side=side))
    for item in items:
        if item.side.note:
            notes.append(item.side.note)
        if not item.there:
            notes += _warnings(item)
    return Journey(where=hub.where, items=tuple(items), notes=tuple(notes), revision=hub.revision)


def _warnings(item: Item) -> list[str]:
    """What of an entry's licences somebody who publishes it has to know."""
    said = [f"the licences of {item.key} do not fit each other: {text}" for text in item.terms.conflicts()]
    if item.terms.unknown:
        said.append(
            f"part of the licence of {item.key} is unknown ({', '.join(item.terms.unknown)}): make sure that you may "
            "publish it"
        )
    return said


def push(
    zoo: Zoo,
    name: str,
    hub: Hub,
    *,
    private: bool | None = None,
    describe: Callable[[Entry], str] | None = None,
    on_step: OnStep = _nothing,
) -> Journey:
    """Publish an entry with its missing ancestors: on the Hugging Face Hub in one commit, elsewhere cards last.

    Args:
        zoo: where the entry is.
        name: key or short name.
        hub: where it goes.
        private: for a repository that is made by this: True (the default) or False; refused when one that is there
            says otherwise.
        describe: what an entry says of itself; by default its card and lineage do.
        on_step: hears of progress.

    Raises:
        UnknownName: for an entry the zoo does not have.
        ZooError: for one that is not what its card says.
        HubError: saying what to do; nobody sees half an entry, and a second try goes on where the first was cut.
    """
    plan = plan_push(zoo, name, hub, private=private)
    if all(item.there and not item.side.new for item in plan.items):
        return plan
    entries = [zoo.get(item.key) for item in plan.items]
    asked = zoo.get(zoo.resolve(name), verify=False)
    readme = describe(asked) if describe else render_readme(asked.card, lineage=lineage.trace(zoo, asked.key))
    page = hub.publish(entries, readme=readme, private=private, on_step=on_step)
    return Journey(where=plan.where, items=plan.items, notes=plan.notes, revision=hub.revision, page=page)


def _side_to_publish(hub: Hub, entry: Entry, *, there: bool) -> Side:
    """What of an entry's scores would travel to a place that may not exist yet."""
    try:
        return to_publish(hub, entry, there=there)
    except Absent:
        scores = attestations.read(entry.folder, entry.card)
        return Side(new=scores)


def _keys_there(hub: Hub) -> tuple[str, ...]:
    """Keys at a place that may not exist yet."""
    try:
        return hub.keys()
    except Absent:
        return ()


# --- pull -------------------------------------------------------------------------------------------------------


def plan_pull(zoo: Zoo, name: str | None, hub: Hub) -> Journey:
    """Say what a pull would fetch: the entry, and its ancestors that are not in the zoo yet. Nothing is kept.

    Args:
        zoo: where it goes.
        name: key or short name there; None for the one entry the place is about.
        hub: where it is.

    Raises:
        UnknownName: for a name that means nothing there.
        HubError: when the place cannot be read, or holds something no entry may be.
    """
    key = _resolve(name, hub)
    pins, origins = _pins(zoo), _notes(zoo)
    cards: dict[str, Card] = {}
    notes: list[str] = []

    def visit(one: str, child: str | None) -> None:
        if one in cards:
            return
        if len(cards) >= _MOST:
            raise HubError(
                f"{hub.where}: {key} has more than {_MOST} ancestors there; that is no lineage of an adapter"
            )
        raw = hub.card_bytes(one)
        if raw is None:
            notes.append(_lacking(zoo, hub, one, child, cards))
            return
        card = hub.read_card(one, raw)
        _refuse_swapped(hub, pins.get(one), raw, one)
        if one not in zoo:
            hub.check_sizes(card)
        elif raw != (zoo.get(one).folder / CARD).read_bytes():
            raise HubError(other_content(hub.where, one))
        cards[one] = card
        for parent in card.parents:
            visit(parent, one)

    visit(key, None)
    order = _parents_first(cards)
    items = [
        Item(
            card=cards[k],
            terms=lineage.follow(k, lambda name, _: cards.get(name)).licence(),
            there=k in zoo,
            reason="asked for" if k == key else "parent",
            side=to_take(zoo, hub, cards[k], pins.get(k), places=_seals(origins, k)),
        )
        for k in order
    ]
    notes += [item.side.note for item in items]
    pin = pins.get(key)
    if pin and pin["where"] == hub.where and pin["revision"] not in (None, hub.revision):
        notes.append(
            f"{hub.where} has moved since the last pull, from {pin['revision'][:12]} to {str(hub.revision)[:12]}"
        )
    return Journey(where=hub.where, items=tuple(items), notes=tuple(filter(None, notes)), revision=hub.revision)


def pull(zoo: Zoo, name: str | None, hub: Hub, *, on_step: OnStep = _nothing) -> Journey:
    """Fetch an entry with its ancestors into a zoo, all of one revision, each complete and verified or not at all.

    Args and errors are `plan_pull`'s; also ZooError when files that arrived are not what their card says.
    """
    plan = plan_pull(zoo, name, hub)
    for item in plan.items:
        card, side, done = item.card, item.side, 0
        if item.there:
            if side.new:
                zoo.attest(card.key, side.new)
                _pin_scores(zoo, hub, card.key, side)
            continue
        with zoo.receiving(card, source=hub.where) as folder:
            for file, digest in card.files.items():
                on_step(card.key, file, done, card.num_bytes)
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                hub.fetch(card.key, file, folder / file, num_bytes=digest.num_bytes)
                done += digest.num_bytes
            raw = hub.card_bytes(card.key)
            if raw is None or hub.read_card(card.key, raw) != card:
                raise HubError(f"{hub.where}/{card.key} changed while it was pulled; nothing was taken, pull again")
            (folder / CARD).write_bytes(raw)
            if side.new:
                (folder / attestations.SCORES).write_bytes(attestations.render(side.new))
            on_step(card.key, CARD, done, card.num_bytes)
        _pin(zoo, hub, card.key, hashlib.sha256(raw).hexdigest(), side)
    if isinstance(hub, HuggingFaceHub):
        hub.remember()
    notes = list(plan.notes)
    if moved := hub.moved():
        notes.append(
            f"{hub.where} moved to {moved[:12]} while this was pulled; everything taken is of {str(hub.revision)[:12]}"
        )
    return Journey(where=plan.where, items=plan.items, notes=tuple(notes), revision=hub.revision)


def _resolve(name: str | None, hub: Hub) -> str:
    if name is not None and KEY.fullmatch(name) and hub.card_bytes(name) is not None:
        return name
    keys = hub.keys()
    if name is None:
        found = [own] if (own := hub.main()) is not None else list(keys)
        if len(found) == 1:
            return found[0]
        raise HubError(f"{hub.where} holds {len(keys)} entries, name one: {', '.join(keys[:20]) or 'none'}")
    found = matches(name, keys)
    if len(found) == 1:
        return found[0]
    if found:
        raise HubError(f"{name!r} means {len(found)} entries of {hub.where}: {', '.join(found)}. Give more of the key")
    raise unknown("entry", name, keys, hub.where)


def _lacking(zoo: Zoo, hub: Hub, key: str, child: str | None, cards: dict[str, Card]) -> str:
    """What it means that an entry is not there: nothing, a note, or an error."""
    if child is None:
        raise UnknownName(f"unknown entry {key!r} — {hub.where}")
    if key in zoo:
        return ""
    if key in spec.entries(cards[child].run.route):
        raise HubError(
            f"{hub.where}: {child} runs on top of {key}, which is neither there nor in your zoo: pull that first"
        )
    return f"{key}, which {child} started from, is not at {hub.where}; {child} works without it"


def _parents_first(cards: dict[str, Card]) -> list[str]:
    order: list[str] = []

    def visit(key: str, above: tuple[str, ...]) -> None:
        if key in order or key not in cards:
            return
        if key in above:
            raise HubError(f"{key} is its own ancestor; its cards contradict each other. Nothing was taken")
        for parent in cards[key].parents:
            visit(parent, (*above, key))
        order.append(key)

    for key in list(cards):
        visit(key, ())
    return order


# --- where things came from -------------------------------------------------------------------------------------


def _pins(zoo: Zoo) -> dict[str, dict[str, Any]]:
    """Origin of every pulled entry; one that cannot be read counts as unknown."""
    return {key: pin for key, pin in (_notes(zoo) or {}).items() if isinstance(pin, dict) and _is_pin(pin)}


def _notes(zoo: Zoo) -> dict[str, Any] | None:
    """What the file of origins holds, whoever wrote it; None for one that cannot be read."""
    try:
        found = parse_json((zoo.root / PULLED).read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _is_pin(pin: dict[str, Any]) -> bool:
    fields = {"where", "revision", "card"}  # and since scores travel, their digest and which of ours came from there
    taken = pin.get("taken", [])
    return (
        fields <= set(pin) <= fields | {"scores", "taken"}
        and all(isinstance(v, str | None) for k, v in pin.items() if k != "taken")
        and isinstance(taken, list)
        and all(isinstance(v, str) for v in taken)
    )


def _pin_scores(zoo: Zoo, hub: Hub, key: str, side: Side) -> None:
    """Keep where scores were taken from; only from the place the entry itself came from are they a part of its pin."""
    pin = _pins(zoo).get(key)
    same = pin is not None and pin["where"] == hub.where
    _pin(zoo, hub, key, str(pin["card"]) if pin and same else None, side)


def _pin(zoo: Zoo, hub: Hub, key: str, card: str | None, side: Side) -> None:
    """Keep the origin of an entry (`card`: digest of its card; None leaves it as it was) and of each of its scores."""
    pin = {"where": hub.where, "revision": hub.revision, "card": card, "scores": side.digest, "taken": [*side.taken]}
    with contextlib.suppress(XlingError, OSError), alone(zoo.root):  # a zoo without notes is a zoo all the same
        path = zoo.root / PULLED
        if (notes := _notes(zoo)) is None:  # nobody's origins are thrown away
            notes = {}
            path.rename(path.with_name(f"{PULLED}.unreadable-{uuid.uuid4().hex[:8]}"))
        new = {} if card is None else {key: pin}
        if side.taken:
            new[_scores_of(key)] = {**_seals(notes, key), **dict.fromkeys(side.taken, _place(pin))}
        paths.atomic_write(path, json.dumps({**notes, **new}, indent=1, sort_keys=True) + "\n")


def _scores_of(key: str) -> str:
    return f"scores of {key}"


def _seals(notes: Mapping[str, Any] | None, key: str) -> dict[str, str]:
    """Seal of a pulled score, in short -> where it was pulled from."""
    found = (notes or {}).get(_scores_of(key))
    return {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}


def _place(pin: Mapping[str, Any]) -> str:
    return f"{pin['where']} ({pin['revision']})" if pin["revision"] else str(pin["where"])


def _refuse_swapped(hub: Hub, pin: dict[str, Any] | None, raw: bytes, key: str) -> None:
    """Refuse a commit that holds another card than it did when it was pulled before.

    Raises:
        HubError: naming commit and entry.
    """
    if pin is None or pin["where"] != hub.where or pin["revision"] is None or pin["revision"] != hub.revision:
        return
    if pin["card"] != hashlib.sha256(raw).hexdigest():
        raise HubError(
            f"{hub.where}: the card of {key} at commit {str(hub.revision)[:12]} is not the one that was pulled from "
            "that very commit before: somebody rewrote it. Nothing was taken; ask the owner"
        )


def scores_origin(zoo: Zoo, entry: Entry) -> str:
    """Where scores that lie beside an entry now were pulled from, and how many where it is not all of them, to be read
    after "pulled"; empty where every one was attested here, or nobody knows."""
    lines = zoo.scores(entry.key)
    known = {**_seals_of_pin(_pins(zoo).get(entry.key), lines), **_seals(_notes(zoo), entry.key)}
    places = Counter(known[seal] for seal in shortened(lines) if seal in known)
    if len(places) == 1 and places.total() == len(lines):
        return f" from {next(iter(places))}"
    some = ", ".join(f"{count} of them from {place}" for place, count in places.items())
    return some and f": {some}"


def _seals_of_pin(pin: Mapping[str, Any] | None, lines: Sequence[Attestation]) -> dict[str, str]:
    return {} if pin is None else dict.fromkeys(shortened(from_there(lines, pin)), _place(pin))


def origin(zoo: Zoo, entry: Entry) -> str | None:
    """Where an entry was pulled from, or None for one that was made here, also in the place of one that was pulled."""
    pin = _pins(zoo).get(entry.key)
    if pin is None or pin["card"] != hashlib.sha256((entry.folder / CARD).read_bytes()).hexdigest():
        return None
    return _place(pin)
