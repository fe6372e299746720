"""Attested scores on their way between a zoo and a shared one: they join an entry after it was published.

A card never changes, so scores travel in the side file beside it. Each line is bound to key and weights and sealed; a
file with a line that is not so is left where it is, with the reason. A seal is no signature: where scores were pulled
from is kept with the entry's origin.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapters_xling.errors import HubError, XlingError
from adapters_xling.zoo import Attestation, Card, Entry, Zoo, attestations

if TYPE_CHECKING:
    from .base import Hub


@dataclass(frozen=True, kw_only=True)
class Side:
    """What of an entry's attested scores travels.

    Attributes:
        new: those that the goal has not, or from an earlier measurement.
        file: a shared zoo's side file with them; None where nothing is to be written.
        digest: of the scores at the place they are pulled from; None where none were read.
        taken: seals of the scores of the entry that will have come from there, in short.
        note: a sentence for people, empty where there is nothing to say.
    """

    new: tuple[Attestation, ...] = ()
    file: bytes | None = None
    digest: str | None = None
    taken: tuple[str, ...] = ()
    note: str = ""


def to_publish(hub: Hub, entry: Entry, *, there: bool) -> Side:
    """Scores of an entry in the zoo that a shared one lacks; of two measurements of one cell the later stays there.

    Args:
        hub: where they go.
        entry: the entry.
        there: whether it is there already.

    Raises:
        ZooError: when the entry's own side file is damaged.
        HubError: when the place cannot be read, or scores lie there without their entry and would become its own.
    """
    ours = attestations.read(entry.folder, entry.card)
    if there and not ours:
        return Side()
    raw = hub.scores_bytes(entry.key)
    if not there:
        if raw is not None and not ours:
            raise HubError(
                f"{_file(hub, entry.key)} lies there without its entry, and your zoo has no scores of it: remove it "
                "there, then push again"
            )
        return Side(new=ours, file=attestations.render(ours) if ours else None)
    try:
        theirs = _parsed(hub, entry.card, raw)
    except XlingError as err:
        return Side(
            note=f"{len(ours)} attested scores of {entry.key} stay here, for those at {hub.where} are not sound: "
            f"{err}. Remove {attestations.SCORES} there, then push again"
        )
    by_cell = _by_cell(theirs)
    new = tuple(one for one in ours if one.cell not in by_cell or _measured_later(one, by_cell[one.cell]))
    later = sum(one not in new and by_cell[one.cell] != one for one in ours)
    return Side(
        new=new,
        file=attestations.render([*theirs, *new]) if new else None,
        note=f"{later} scores of {entry.key} at {hub.where} were measured later than yours and stay" if later else "",
    )


def to_take(
    zoo: Zoo, hub: Hub, card: Card, pin: Mapping[str, Any] | None, *, places: Mapping[str, str] | None = None
) -> Side:
    """Scores of an entry in a shared zoo that one's own lacks. What is not sound is left out, and said to be.

    A score that was pulled from the same place is replaced by the one that stands there now; scores from anywhere else
    stay, and cells without one are added.

    Args:
        zoo: where they go.
        hub: where they are.
        card: the entry's.
        pin: what is known of the last pull of this entry.
        places: seal of a score that was pulled, in short -> where it was pulled from.
    """
    try:
        raw = hub.scores_bytes(card.key)
        if raw is None:
            return Side()
        theirs = _parsed(hub, card, raw)
    except XlingError as err:
        return Side(note=f"attested scores of {card.key} are left out: {err}. Tell the owner of {hub.where}")
    digest = _digest(theirs)
    same_place = pin is not None and pin["where"] == hub.where
    before = pin.get("scores") if pin is not None and same_place else None
    if pin is not None and before not in (None, digest) and pin["revision"] == hub.revision is not None:
        return Side(
            note=f"attested scores of {card.key} are left out: those at commit {str(hub.revision)[:12]} are not the "
            f"ones that were pulled from that very commit before: somebody rewrote it. Ask the owner of {hub.where}"
        )
    if card.key not in zoo:
        return Side(new=theirs, digest=digest, taken=shortened(theirs))
    entry = zoo.get(card.key, verify=False)
    try:
        ours = attestations.read(entry.folder, card)
    except XlingError as err:
        return Side(note=f"attested scores of {card.key} at {hub.where} are left out, for yours are not sound: {err}")
    seals = {seal for seal, place in (places or {}).items() if place == hub.where or place.startswith(f"{hub.where} (")}
    from_here = [one for one, seal in zip(ours, shortened(ours), strict=True) if seal in seals]
    held = _by_cell([*from_there(ours, pin if same_place else None), *from_here])
    own = _by_cell(one for one in ours if one.cell not in held)
    differing = sum(own.get(one.cell, one) != one for one in theirs)
    note = f"{differing} scores of {card.key} at {hub.where} differ from yours, which stay" if differing else ""
    new = tuple(one for one in theirs if one.cell not in own and held.get(one.cell) != one)
    if new and entry.folder.parent != zoo.root:
        return Side(note=f"{card.key} is read-only in {entry.folder.parent}: {len(new)} scores of it are left out")
    return Side(new=new, digest=digest, taken=shortened((held | _by_cell(new)).values()), note=note)


def from_there(ours: Sequence[Attestation], pin: Mapping[str, Any] | None) -> Sequence[Attestation]:
    """Those of our scores that were pulled from the place of `pin`; pins of old have a digest of all scores alone."""
    if pin is None:
        return ()
    if (taken := pin.get("taken")) is None:
        return ours if pin.get("scores") == _digest(ours) else ()
    return [one for one, seal in zip(ours, shortened(ours), strict=True) if seal in taken]


def shortened(lines: Iterable[Attestation]) -> tuple[str, ...]:
    """Seals as they are kept with the origin of an entry."""
    return tuple(one.seal[:16] for one in lines)


def _parsed(hub: Hub, card: Card, raw: bytes | None) -> tuple[Attestation, ...]:
    where = _file(hub, card.key)
    if raw is not None and len(raw) > attestations.MAX_BYTES:
        raise HubError(f"{where}: more than {attestations.MAX_BYTES:,} bytes; those are no scores")
    return attestations.parse(raw or b"", card, where=where)


def _file(hub: Hub, key: str) -> str:
    return f"{hub.where}/{key}/{attestations.SCORES}"


def _by_cell(lines: Iterable[Attestation]) -> dict[tuple[str, ...], Attestation]:
    return {one.cell: one for one in lines}


def _measured_later(one: Attestation, other: Attestation) -> bool:
    return one.created > other.created


def _digest(lines: Iterable[Attestation]) -> str:
    """Digest of scores in the form they are written in, whatever blank lines stood between them."""
    return hashlib.sha256(attestations.render(lines)).hexdigest()
