"""The card on disk: sealed JSON, read as strictly as it is written.

A card is believed only when its schema is known, every field has its type, its key and digest follow from the run
inside it, and its `seal` (sha256 over all the rest) fits. The seal finds accidents and careless edits; it is no
signature: who can rewrite the card can rewrite the seal.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec

from adapters_xling import spec
from adapters_xling.errors import ConfigError, ZooError
from adapters_xling.strict import parse_json
from adapters_xling.zoo.card import CARD, CARD_SCHEMA, LATER_FIELDS, Card

MAX_CARD_BYTES = 16 * 2**20


def render(card: Card) -> bytes:
    """The card as sealed JSON, a line per field, ready to be written.

    Raises:
        ZooError: for a value JSON cannot hold (NaN, an array type) or a card beyond `MAX_CARD_BYTES`.
    """
    try:
        plain = json.loads(json.dumps(msgspec.to_builtins(card), allow_nan=False))
        plain = {name: value for name, value in plain.items() if value is not None or name not in LATER_FIELDS}
        lines = (f"{json.dumps(name)}: {json.dumps(v, ensure_ascii=False)}" for name, v in _sealed(plain).items())
        raw = ("{\n" + ",\n".join(lines) + "\n}\n").encode()
    except (TypeError, ValueError) as err:
        raise ZooError(
            f"the card of {card.key} cannot be written as JSON: {err}. Valid are finite Python numbers, strings and "
            "lists of them; convert arrays with .tolist() and leave out scores that are not numbers"
        ) from err
    if len(raw) > MAX_CARD_BYTES:
        raise ZooError(
            f"the card of {card.key} would be {len(raw):,} bytes, the limit is {MAX_CARD_BYTES:,}: "
            "thin out training.curve, training.losses or the probe"
        )
    parse(raw, f"the new card of {card.key}")
    return raw


class NewerCard(ZooError):
    """A card that a newer version wrote: nothing is wrong with the entry."""


def read(folder: Path) -> Card:
    """Read the card of an entry's folder and check that it belongs to that folder.

    Raises:
        ZooError: naming the file, the field and what is wrong with it.
    """
    path = folder / CARD
    try:
        if path.is_symlink():
            raise ZooError(f"{path}: is a symbolic link; a card must be a file of its own. {way_out(folder.name)}")
        num_bytes = path.stat().st_size
        if num_bytes > MAX_CARD_BYTES:
            raise ZooError(
                f"{path}: {num_bytes:,} bytes, a card has at most {MAX_CARD_BYTES:,}. {way_out(folder.name)}"
            )
        raw = path.read_bytes()
    except OSError as err:
        raise ZooError(f"{path}: the card cannot be read: {err.strerror or err}. {way_out(folder.name)}") from err
    try:
        card = parse(raw, str(path))
    except NewerCard:
        raise
    except ZooError as err:
        raise ZooError(f"{err}. {way_out(folder.name)}") from err
    if card.key != folder.name:
        raise ZooError(
            f"{path}: the card says key {card.key!r} but lies in a folder named {folder.name!r}; "
            f"rename the folder back to {card.key!r}"
        )
    return card


def parents(folder: Path) -> tuple[str, ...]:
    """What a card says its entry descends from, also a card of a newer version or one that was altered.

    Raises:
        ZooError: for a file that says nothing of it.
    """
    path = folder / CARD
    try:
        plain = parse_json(path.read_bytes()[: MAX_CARD_BYTES + 1])
    except (OSError, ValueError) as err:
        raise ZooError(f"{path}: the card cannot be read: {err}") from err
    found = plain.get("parents") if isinstance(plain, dict) else None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ZooError(f"{path}: does not say what the entry descends from")
    return tuple(found)


def parse(raw: bytes, where: str) -> Card:
    """Turn the bytes of a card into a `Card`, strictly.

    Raises:
        ZooError: for bytes that are not one JSON object with unique keys, an unknown schema, a wrong, missing or
            unknown field, a key or digest that does not follow from the run, or a seal that does not fit.
    """
    try:
        plain = parse_json(raw)
    except ValueError as err:
        why = str(err)
        raise ZooError(f"{where}: {why if why.startswith('not UTF-8') else f'not valid JSON: {why}'}") from err
    if not isinstance(plain, dict):
        raise ZooError(f"{where}: not a card: expected a JSON object, found {type(plain).__name__}")
    _check_schema(plain.get("schema"), CARD_SCHEMA, f"{where}: schema")
    run = plain.get("run")
    if isinstance(run, dict) and "schema" in run:
        _check_schema(run["schema"], spec.SCHEMA, f"{where}: run.schema")
    seal = plain.pop("seal", None)
    try:
        card = spec.decode(Card, plain, where)
        found_digest, found_key, found_seal = spec.digest(card.run), spec.key(card.run), _seal(plain)
    except ConfigError as err:
        raise ZooError(str(err)) from err
    except (ValueError, RecursionError, OverflowError) as err:
        raise ZooError(f"{where}: holds a value no card can have: {err}") from err
    for field, says, found in (
        ("digest", card.digest, found_digest),
        ("key", card.key, found_key),
        ("parents", card.parents, card.run.parents),
    ):
        if says != found:
            raise ZooError(
                f"{where}: {field} does not follow from the run inside the card: expected {found!r}, found {says!r}"
            )
    if seal != found_seal:
        raise ZooError(f"{where}: altered after it was written: seal expected {found_seal}, found {seal!r}")
    return card


def way_out(key: str) -> str:
    """What to do about an entry that cannot be used."""
    return f"Remove it (xling zoo rm {key}) and train or pull it again (reinstall the package if it ships with that)"


def _check_schema(value: Any, known: int, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ZooError(f"{where}: expected a whole number from 1 to {known}, found {value!r}")
    if value > known:
        raise NewerCard(
            f"{where}: {value} was written by a newer adapters_xling, this one reads up to {known}: "
            "upgrade it (pip install -U adapters_xling)"
        )


def _sealed(plain: dict[str, Any]) -> dict[str, Any]:
    return {**plain, "seal": _seal(plain)}


def _seal(plain: dict[str, Any]) -> str:
    return hashlib.sha256(spec.canonical_json(plain).encode()).hexdigest()
