"""One entry: as it lies in the zoo, as it is being written, and what can be asked of its folder alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters_xling.errors import ZooError, unknown
from adapters_xling.zoo import card_file, files
from adapters_xling.zoo.card import CARD, KEY, Card, Facts, FileDigest, unsafe_name


@dataclass(frozen=True)
class Entry:
    """A trained thing in the zoo: its key, its folder and its card."""

    key: str
    folder: Path
    card: Card

    def file(self, name: str) -> Path:
        """Path of one file the card lists.

        Raises:
            UnknownName: with the names there are.
        """
        if name not in self.card.files:
            raise unknown(f"file of entry {self.key}", name, self.card.files, str(self.folder))
        return self.folder / name


class Draft:
    """An entry being written: put files below `folder`, then hand the facts to `finish`."""

    def __init__(self, key: str, folder: Path) -> None:
        self.key = key
        self.folder = folder
        self.facts: Facts | None = None
        self.entry: Entry | None = None
        """The entry in the zoo, once the `writing` block has ended: this one, or the one that was there first."""

    def finish(self, facts: Facts) -> None:
        """Declare the files complete; they are digested, described and published when the block ends.

        Raises:
            ZooError: when called twice.
        """
        if self.facts is not None:
            raise ZooError(f"entry {self.key}: finish() was called twice; call it once, after the last file")
        self.facts = facts


def is_entry(path: Path) -> bool:
    """Whether a folder is named by a key and holds a card; the card is what makes it complete."""
    return KEY.fullmatch(path.name) is not None and (path / CARD).is_file()


def is_backbone(path: Path) -> bool:
    """Whether a folder holds a backbone: weights and their config, not named like an entry."""
    return (
        not path.name.startswith(".")
        and not KEY.fullmatch(path.name)
        and (path / "config.json").is_file()
        and (path / "model.safetensors").is_file()
    )


def slug(key: str) -> str:
    """Readable part of a key, without seed and hash."""
    return key.rpartition("-")[0].rpartition("-s")[0]


def matches(name: str, keys: Sequence[str]) -> list[str]:
    """Keys a short name may mean: those of its slug (with or without the seed), else of its beginning, else its hash.

    >>> matches("a-lora", ["a-lora-s0-0123456789abcdef", "a-lora-warm-s0-fedcba9876543210"])
    ['a-lora-s0-0123456789abcdef']
    """
    if name in keys:
        return [name]
    found = [key for key in keys if name in (key.rpartition("-")[0], slug(key))]
    found = found or [key for key in keys if name and key.startswith(name)]
    if not found and len(name) >= 6:
        found = [key for key in keys if key.rpartition("-")[2].startswith(name)]
    return found


def tasks(entry: Entry) -> set[str]:
    """Names of the tasks an entry was trained on."""
    return {task.name for task in entry.card.run.tasks}


def ancestors(key: str, by_key: Mapping[str, Entry]) -> list[str]:
    """Keys of all ancestors, each after its own parents; the entry itself is left out."""
    found: list[str] = []
    seen = {key}

    def visit(child: str) -> None:
        for parent in by_key[child].card.parents if child in by_key else ():
            if parent not in seen:
                seen.add(parent)
                visit(parent)
                found.append(parent)

    visit(key)
    return found


def damage(folder: Path) -> list[str]:
    """Problems of a folder as an entry, its parents aside."""
    try:
        return files.compare(folder, card_file.read(folder).files)
    except ZooError as err:
        return [str(err)]


def digest_all(folder: Path, key: str) -> dict[str, FileDigest]:
    """Digests of all files of a draft, refusing what may not be in an entry."""
    names, problems = files.walk(folder)
    problems += [f"{name}: {why}" for name in names if (why := unsafe_name(name) or files.refuse(folder / name))]
    if not names:
        problems.append("no file was written")
    if problems:
        raise ZooError(f"entry {key} cannot be published: {'; '.join(problems)}")
    return {
        name: FileDigest(sha256=files.file_digest(folder / name), num_bytes=(folder / name).stat().st_size)
        for name in names
    }
