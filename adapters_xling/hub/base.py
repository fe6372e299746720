"""What every shared zoo can do, wherever it lies: say what is in it, give files, take entries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from adapters_xling.errors import HubError, ZooError
from adapters_xling.strict import control_character
from adapters_xling.zoo import CARD, Card, Entry, card_file
from adapters_xling.zoo.card import TaskTraining, Training
from adapters_xling.zoo.files import ALLOWED, SIDE_FILE

OnStep = Callable[[str, str, int, int], Any]
"""Called with entry, what is being done, how much of it is done and its total."""


MOST_TOLERANCE = 0.01
"""Most that the answers of a probe from elsewhere may be off by, as a share of its largest one, or of 1 where that is
less; entries made here have 2e-4."""

BESIDE = frozenset({CARD, SIDE_FILE})
"""Files of an entry that its card does not list."""


class Absent(HubError):
    """There is nothing at an address yet; whoever may write there can make it."""


class Hub(ABC):
    """A shared zoo: entries in folders named by their keys, complete exactly when they hold a card.

    Attributes:
        where: its address, for people.
        revision: the commit that is read, where there are commits; None elsewhere, and before anything was read.
        hint: what else its address may have meant; empty where there is no doubt.
    """

    where: str
    revision: str | None = None
    hint: str = ""

    @abstractmethod
    def keys(self) -> tuple[str, ...]:
        """Keys of all entries that are complete there, sorted.

        Raises:
            Absent: when there is nothing at its address.
            HubError: when it cannot be reached or cannot say what it holds.
        """

    @abstractmethod
    def card_bytes(self, key: str) -> bytes | None:
        """The card of an entry as it lies there, at most `MAX_CARD_BYTES` and a byte of it; None where there is none.

        Raises:
            HubError: when the place cannot be read.
        """

    @abstractmethod
    def scores_bytes(self, key: str) -> bytes | None:
        """The attested scores beside a card as they lie there, at most `MAX_BYTES` and a byte; None where there are
        none.

        Raises:
            HubError: when the place cannot be read.
        """

    @abstractmethod
    def sizes(self, key: str) -> dict[str, int] | None:
        """Bytes of every file of an entry, the card included; None where the place cannot list them."""

    @abstractmethod
    def fetch(self, key: str, name: str, target: Path, *, num_bytes: int) -> None:
        """Write a file of an entry to `target`, which does not exist yet; never more than `num_bytes` bytes.

        Raises:
            HubError: naming the file, when it cannot be had whole.
        """

    @abstractmethod
    def check_push(self, *, private: bool | None) -> None:
        """Refuse what this place would refuse of any entry, before anything is sent; nothing is written.

        Args:
            private: as `publish` takes it.

        Raises:
            HubError: when nothing can be added here, or not so.
        """

    @abstractmethod
    def publish(self, entries: Sequence[Entry], *, readme: str, private: bool | None, on_step: OnStep) -> str:
        """Add entries, parents first, so that nobody ever sees half of one; the last is the one that was asked for.

        One that is there stays as it is; only attested scores that it lacks are added beside its card.

        Args:
            entries: verified.
            readme: what the entry asked for says of itself, for places that show a page about an entry.
            private: whether a place that is made by this is for its owner only; None leaves the choice to the place.
            on_step: hears of progress.

        Returns:
            Where the entry can be looked at.

        Raises:
            HubError: saying what to do; what was uploaded stays for the next try, and is invisible until then.
        """

    def main(self) -> str | None:
        """Key of the entry this place is about, where it says so."""
        return None

    def moved(self) -> str | None:
        """What the place is at now, when that is no longer what was read; None while it has not moved."""
        return None

    def holds(self, entry: Entry) -> bool:
        """Whether exactly this entry is there.

        Raises:
            HubError: when another one is there under its key.
        """
        raw = self.card_bytes(entry.key)
        if raw is not None and raw != (entry.folder / CARD).read_bytes():
            raise HubError(other_content(self.where, entry.key))
        return raw is not None

    def card(self, key: str) -> Card | None:
        """The card of an entry, read as strictly as one on disk; None where there is no such entry.

        Raises:
            HubError: when the place cannot be read, or holds a card that is none.
        """
        raw = self.card_bytes(key)
        if raw is None:
            return None
        return self.read_card(key, raw)

    def read_card(self, key: str, raw: bytes) -> Card:
        """Bytes of a card, checked to be one, and this entry's.

        Raises:
            HubError: naming place and field.
        """
        where = f"{self.where}/{key}/{CARD}"
        if len(raw) > card_file.MAX_CARD_BYTES:
            raise HubError(f"{where}: more than {card_file.MAX_CARD_BYTES:,} bytes; that is no card. Nothing was taken")
        try:
            card = card_file.parse(raw, where)
        except ZooError as err:
            raise HubError(f"{err}. Nothing was taken; tell the owner of {self.where}") from err
        if card.key != key:
            raise HubError(
                f"{where}: it is the card of {card.key!r}. Nothing was taken; tell the owner of {self.where}"
            )
        if (text := control_character(msgspec.to_builtins(card))) is not None:
            raise HubError(
                f"{where}: holds control characters, which a terminal would obey: {text[:60]!r}. Nothing was taken; "
                f"tell the owner of {self.where}"
            )
        if problem := _names_problem(card):
            raise HubError(f"{where}: files: {problem}. Nothing was taken; tell the owner of {self.where}")
        if problem := _numbers_problem(card):
            raise HubError(f"{where}: {problem}. Nothing was taken; tell the owner of {self.where}")
        return card

    def check_sizes(self, card: Card) -> None:
        """Compare what lies there with what the card says, before anything is fetched.

        Raises:
            HubError: naming the first files that are missing, of another size, or not in the card.
        """
        if problems := self._misfits(card):
            raise HubError(
                f"{self.where}/{card.key} is not what its card says: {problems}. Nothing was taken; tell the owner of "
                f"{self.where}"
            )

    def check_published(self, entry: Entry) -> None:
        """Compare the files of an entry that is there with one's own: sizes, and digests where the place tells them.

        Raises:
            HubError: naming the first files that differ, and what to do.
        """
        problems = self._misfits(entry.card)
        if not problems:
            problems = _named([f"{name}: altered" for name in self.altered(entry)])
        if problems:
            raise HubError(
                f"{self.where}/{entry.key} was published, but is damaged there now: {problems}. Nobody can pull it. "
                f"Remove that folder, or have the owner of {self.where} do so, and push again"
            )

    def altered(self, entry: Entry) -> list[str]:
        """Files of an entry that is there, of the right size, whose bytes are not those of one's own; none where the
        place would have to give them for that."""
        return []

    def _misfits(self, card: Card) -> str:
        """What lies there against what the card says, by names and sizes; empty where it fits or nobody can say."""
        there = self.sizes(card.key)
        if there is None:
            return ""
        wanted = {name: file.num_bytes for name, file in card.files.items()}
        problems = [f"{name}: missing" for name in sorted(set(wanted) - set(there))]
        problems += [f"{name}: not in the card" for name in sorted(set(there) - set(wanted) - BESIDE)]
        problems += [
            f"{name}: {there[name]:,} bytes, the card says {wanted[name]:,}"
            for name in sorted(set(wanted) & set(there))
            if wanted[name] != there[name]
        ]
        return _named(problems)


def _named(problems: Sequence[str]) -> str:
    """The first few problems in one line."""
    return "; ".join(problems[:4]) + (f"; and {len(problems) - 4} more" if len(problems) > 4 else "")


def other_content(where: str, key: str) -> str:
    """Message for a key that two entries claim."""
    return (
        f"{where} holds {key} with other content than your zoo: the same run, trained or described again. A published "
        "entry is never overwritten; pull theirs into an empty zoo to compare, or push yours elsewhere"
    )


def _numbers_problem(card: Card) -> str | None:
    """What a card from elsewhere claims that no entry can have, or None: shares above all rows, a proof of nothing."""
    claims: dict[str, float] = {}
    parts: dict[str, Training | TaskTraining]
    if card.training:
        parts = {"training": card.training, **{f"training of {n}": one for n, one in card.training.tasks.items()}}
        for name, part in parts.items():
            claims |= {f"{name}: dev_score": part.dev_score, f"{name}: chance": part.chance}
            claims |= {f"{name}: dev_score at step {step}": value for step, value in part.dev_curve}
    claims |= {f"score on {one.task} ({one.language})": one.value for one in (*card.dev_scores, *card.scores)}
    for where, value in claims.items():
        if not 0 <= value <= 100:
            return f"{where} is {value:g}; a percentage lies between 0 and 100"
    if card.probe:
        largest = max((abs(value) for output in card.probe.outputs for value in _flat(output)), default=0.0)
        most = MOST_TOLERANCE * max(1.0, largest)
        if card.probe.tolerance > most:
            return f"probe: a tolerance of {card.probe.tolerance:g} proves nothing; at most {most:g} is taken"
    return None


def _flat(value: Any) -> Iterator[float]:
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _flat(one)
    else:
        yield float(value)


def _names_problem(card: Card) -> str | None:
    """Why the file names of a card from elsewhere are refused, beside what `Card` itself refuses; or None."""
    seen: dict[str, str] = {}
    for name in card.files:
        path = PurePosixPath(name)
        if path.suffix.lower() not in ALLOWED:
            return (
                f"{name!r}: ending {path.suffix or '(none)'!r} is not allowed in an entry; valid: {', '.join(ALLOWED)}"
            )
        if any(part.startswith(".") or part != part.strip() or part.endswith(".") for part in path.parts):
            return f"{name!r} holds a part that is hidden or ends in a dot or blank"
        if len(path.parts) > 4 or len(name) > 200:
            return f"{name!r} is nested too deeply or too long"
        if name.casefold() == CARD or path.parts[0].casefold() == CARD:
            return f"{name!r} would be taken for the card"
        if name.casefold() in seen:
            return f"{name!r} and {seen[name.casefold()]!r} are one file on some disks"
        seen[name.casefold()] = name
    return None
