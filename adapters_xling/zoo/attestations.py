"""Scores measured after an entry was published: a side file of sealed lines, so that the card stays as it was sealed.

`scores.jsonl` stands beside `card.json` and is not among the files that the card lists. Each line is one score with
what it was made from, bound to the entry's key and to the digests of its files, and sealed by itself: a line that was
edited, or moved here from another entry, is refused. As with the card, a seal finds accidents and careless edits; it is
no signature.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from adapters_xling import spec
from adapters_xling.errors import ConfigError, ZooError
from adapters_xling.paths import atomic_write
from adapters_xling.spec import Frozen, Score
from adapters_xling.strict import control_character
from adapters_xling.zoo import files
from adapters_xling.zoo.card import Card, Sha256
from adapters_xling.zoo.origin import clean, code, stamp

SCORES = files.SIDE_FILE
SCHEMA = 1
MAX_BYTES = 64 * 2**20
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


class Measured(Frozen, frozen=True):
    """When a score was measured, and with what.

    Attributes:
        created: UTC, ISO 8601.
        commit: git commit of the code that measured; null where unknown.
        packages: installed versions; none where unknown.
    """

    created: str
    commit: str | None = None
    packages: dict[str, str] = {}

    @classmethod
    def now(cls) -> Measured:
        """What measures here and now."""
        commit, packages = code()
        return cls(created=stamp(), commit=commit, packages=packages)

    @classmethod
    def of_file(cls, path: Path) -> Measured:
        """What is known of a file that does not say it: its time.

        Raises:
            OSError: when it is not there.
        """
        return cls(created=stamp(path.stat().st_mtime))


class Attestation(Frozen, frozen=True):
    """One score of an entry and what it was measured with.

    Attributes:
        schema: version of the line's form.
        entry: key of the entry.
        weights: digest of the digests of the entry's files.
        score: the number; its `key` is the entry.
        identity: digest of what the predictions were made from (rows, weights, reading), as evaluation keeps it.
        scoring: digest of the code that scored them.
        rows: what was kept and dropped, and where the rows came from.
        created: UTC, ISO 8601.
        commit: git commit of the code that measured; null where unknown.
        packages: installed versions.
        seal: sha256 over all the rest.
    """

    schema: int
    entry: str
    weights: Sha256
    score: Score
    identity: str
    scoring: str
    rows: dict[str, Any]
    created: str
    commit: str | None
    packages: dict[str, str]
    seal: str = ""

    @property
    def cell(self) -> tuple[str, str, str, str]:
        """What the score is of: task, split, language, metric."""
        return (self.score.task, self.score.split, self.score.language, self.score.metric)


def attest(
    card: Card, score: Score, *, identity: str, scoring: str, rows: Mapping[str, Any], made: Measured
) -> Attestation:
    """Seal one score of an entry.

    Args:
        card: the entry's.
        score: the number.
        identity: digest of what the predictions were made from.
        scoring: digest of the code that scored them.
        rows: what was kept and dropped, and where the rows came from.
        made: when it was measured, and with what.

    Raises:
        ZooError: for a score of another entry, or one that is no percentage.
    """
    if score.key != card.key:
        raise ZooError(f"a score of {score.key} cannot be attested for entry {card.key}")
    if not 0 <= score.value <= 100:
        raise ZooError(f"entry {card.key}: {score.task}, {score.language}: {score.value} is no percentage")
    facts = _cleaned(dict(rows))
    line = Attestation(
        schema=SCHEMA,
        entry=card.key,
        weights=card.weights,
        score=score,
        identity=identity,
        scoring=scoring,
        rows=facts,
        created=made.created,
        commit=made.commit,
        packages=made.packages,
    )
    return msgspec.structs.replace(line, seal=_seal(line))


def _cleaned(value: Any) -> Any:
    """Facts without private paths, however deep they lie."""
    if isinstance(value, Mapping):
        return {name: _cleaned(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(one) for one in value]
    return clean(value) if isinstance(value, str) else value


def read(folder: Path, card: Card) -> tuple[Attestation, ...]:
    """The attested scores of an entry, checked line by line; none where there is no such file.

    Raises:
        ZooError: naming file, line and what is wrong with it.
    """
    path = folder / SCORES
    if path.is_symlink():
        raise ZooError(f"{path}: is a symbolic link; {_way_out(path)}")
    if not path.exists():
        return ()
    try:
        if not path.is_file():
            raise ZooError(f"{path}: is no file; {_way_out(path)}")
        if path.stat().st_size > MAX_BYTES:
            raise ZooError(f"{path}: {path.stat().st_size:,} bytes, at most {MAX_BYTES:,} are read; {_way_out(path)}")
        raw = path.read_bytes()
    except OSError as err:
        raise ZooError(f"{path}: cannot be read: {err.strerror or err}") from err
    return parse(raw, card, where=str(path))


def parse(raw: bytes, card: Card, *, where: str) -> tuple[Attestation, ...]:
    """Turn the bytes of a side file into attested scores, strictly.

    Raises:
        ZooError: for a line that is no attestation, was altered, or belongs to another entry or other weights; and for
            a cell that is given twice.
    """
    found: dict[tuple[str, ...], Attestation] = {}
    weights = card.weights
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if not line.strip():
            continue
        place = f"{where}:{number}"
        try:
            plain = json.loads(line.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
            one = spec.decode(Attestation, plain, place)
            right = _seal(one)
        except (ValueError, RecursionError, ConfigError) as err:
            raise ZooError(f"{place}: no attested score: {err}") from err
        if one.schema != SCHEMA:
            raise ZooError(f"{place}: schema {one.schema} is unknown, this adapters_xling reads {SCHEMA}: upgrade it")
        if one.seal != right:
            raise ZooError(f"{place}: altered after it was written: seal expected {right}, found {one.seal!r}")
        if (one.entry, one.weights, one.score.key) != (card.key, weights, card.key):
            raise ZooError(f"{place}: belongs to entry {one.entry} with other weights than those here")
        if not 0 <= one.score.value <= 100:
            raise ZooError(f"{place}: a score of {one.score.value} is no percentage")
        if (text := control_character(plain)) is not None:
            raise ZooError(f"{place}: holds control characters: {text[:60]!r}")
        if not _CREATED.fullmatch(one.created):
            raise ZooError(f"{place}: created: {one.created!r} is no time of the form 2026-01-31T12:00:00Z")
        if one.cell in found:
            raise ZooError(f"{place}: {', '.join(one.cell)} is given twice")
        found[one.cell] = one
    return tuple(found[cell] for cell in sorted(found))


def render(lines: Iterable[Attestation]) -> bytes:
    """The bytes of a side file: one line per score, sorted; of two of one cell the later line stays."""
    by_cell = {one.cell: one for one in lines}
    ordered = (msgspec.to_builtins(by_cell[cell]) for cell in sorted(by_cell))
    return "".join(json.dumps(one, ensure_ascii=False, allow_nan=False) + "\n" for one in ordered).encode()


def add(folder: Path, card: Card, new: Iterable[Attestation], *, aside: Path) -> tuple[Attestation, ...]:
    """Write further scores beside a card; a cell that was measured again is replaced, all others stay.

    Args:
        folder: the entry.
        card: its card.
        new: the scores.
        aside: a folder of the same disk to write in first: a kill must leave nothing in an entry that its card does not
            list.

    Raises:
        ZooError: when the file that is there is damaged, or a line belongs to another entry; nothing is written then.
    """
    raw = render([*read(folder, card), *new])
    checked = parse(raw, card, where=str(folder / SCORES))
    atomic_write(aside / SCORES, raw)
    (aside / SCORES).replace(folder / SCORES)
    return checked


def problems(folder: Path, card: Card) -> list[str]:
    """What is wrong with an entry's side file; nothing where there is none."""
    try:
        read(folder, card)
    except ZooError as err:
        return [str(err)]
    return []


def _seal(one: Attestation) -> str:
    plain = msgspec.to_builtins(one)
    del plain["seal"]
    return spec.digest(plain)


def _way_out(path: Path) -> str:
    return f"remove it ({path.name}) and attest the scores again (xling zoo attest)"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a key is given twice")
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
