"""The zoo: a folder of entries, each complete and verified or not there at all."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import uuid
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from adapters_xling import paths, spec
from adapters_xling.errors import ZooError, unknown
from adapters_xling.spec import RunSpec
from adapters_xling.zoo import attestations, card_file, files
from adapters_xling.zoo.attestations import Attestation
from adapters_xling.zoo.card import CARD, KEY, Card, build
from adapters_xling.zoo.entry import (
    Draft,
    Entry,
    ancestors,
    damage,
    digest_all,
    is_backbone,
    is_entry,
    matches,
    tasks,
)
from adapters_xling.zoo.origin import clean, provenance
from adapters_xling.zoo.staging import PARTIAL, STALE_S, Garbage, alone, publish, staging, sweep


class ZooWarning(UserWarning):
    """An entry was left out of a listing because its card cannot be read."""


@functools.lru_cache(maxsize=4096)
def _weights(folder: Path, stamp: tuple[int, int, int]) -> str:
    """Weights by the card in a folder; `stamp` tells one card there from the next."""
    return card_file.read(folder).weights


class Zoo:
    """Entries below `root`, with read-only `fallbacks` behind it (by default what ships with the package).

    Only a folder that is named by a key and holds a card counts as an entry; the card is written last and the folder
    renamed into place, so an entry that can be seen is complete.
    """

    def __init__(self, root: Path, *, fallbacks: Sequence[Path] | None = None) -> None:
        self.root = Path(root)
        found = (paths.shipped_zoo_dir(),) if fallbacks is None else fallbacks
        self.fallbacks = tuple(Path(path) for path in found if Path(path).resolve() != self.root.resolve())

    # --- looking ------------------------------------------------------------------------------------------------

    def keys(self) -> tuple[str, ...]:
        """Keys of all entries, sorted; partial folders, backbones and anything else are not entries."""
        return tuple(sorted({path.name for root in self._roots() for path in root.iterdir() if is_entry(path)}))

    def entries(self) -> tuple[Entry, ...]:
        """All entries by key, cards read but files not verified; an unreadable card gives a `ZooWarning`."""
        found = []
        for key in self.keys():
            try:
                found.append(self.get(key, verify=False))
            except ZooError as err:
                warnings.warn(f"left out: {err}", ZooWarning, stacklevel=2)
        return tuple(found)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and any(is_entry(root / key) for root in self._roots() if KEY.fullmatch(key))

    def get(self, key: str, *, verify: bool = True) -> Entry:
        """One entry by its exact key, checked byte by byte unless `verify` is off (see `resolve` for short names).

        Digests are remembered per process, so verifying again costs nothing while the files stay as they are.

        Raises:
            UnknownName: when there is none, with the closest keys.
            ZooError: naming entry, file, what was expected and found, and the way out; also when an entry it stands
                on is not here.
        """
        folder = self._folder(key)
        entry = Entry(key, folder, card_file.read(folder))
        if not verify:
            return entry
        if problems := files.compare(folder, entry.card.files):
            more = f"; and {len(problems) - 4} more" if len(problems) > 4 else ""
            raise ZooError(
                f"entry {key} ({folder}): {'; '.join(problems[:4])}{more}. {card_file.way_out(key)}; "
                f"it was made by: {entry.card.provenance.command or '(unknown command)'}"
            )
        if absent := self._absent(entry.card):
            raise ZooError(
                f"entry {key} ({folder}) runs on top of {', '.join(absent)}, which is not in zoo {self.root}: "
                "pull or train that entry first"
            )
        return entry

    def resolve(self, name: str | Entry) -> str:
        """The key a short name means: the key itself, its slug (with or without the seed), a prefix, or its hash.

        A full key is taken for a damaged folder too, so that it can be verified and removed. An entry is its key.

        Raises:
            UnknownName: with the closest keys.
            ZooError: when several entries answer to the name; they are listed. Also for what is no name.
        """
        if isinstance(name, Entry):
            name = name.key
        if not isinstance(name, str):
            raise ZooError(f"an entry is named by text, its key or the beginning of one; got {name!r:.100}")
        keys = self.keys()
        if name in keys or (KEY.fullmatch(name) and os.path.lexists(self.root / name)):
            return name
        found = matches(name, keys)
        if len(found) == 1:
            return found[0]
        if found:
            raise ZooError(
                f"{name!r} means {len(found)} entries of zoo {self.root}: {', '.join(found)}. "
                "Give more of the key, e.g. its last 16 characters"
            )
        raise unknown("entry", name, keys, str(self.root))

    def find(
        self,
        *,
        task: str | None = None,
        method: str | None = None,
        backbone: str | None = None,
        intermediate: str | None = None,
        parent: str | None = None,
        seed: int | None = None,
    ) -> tuple[Entry, ...]:
        """Entries that fit every filter given.

        Args:
            task: a task the entry was trained on.
            method: name of its method.
            backbone: name of its backbone.
            intermediate: a task one of its ancestors was trained on.
            parent: key or short name of an entry it starts from or stands on.
            seed: its seed.
        """
        parent = self.resolve(parent) if parent is not None and not KEY.fullmatch(parent) else parent
        everything = self.entries()
        by_key = {entry.key: entry for entry in everything}

        def fits(entry: Entry) -> bool:
            run = entry.card.run
            return (
                (task is None or task == run.task or task in tasks(entry))
                and (method is None or method == run.method.name)
                and (backbone is None or backbone == run.backbone.name)
                and (seed is None or seed == run.seed)
                and (parent is None or parent in entry.card.parents)
                and (
                    intermediate is None
                    or any(intermediate in tasks(by_key[k]) for k in ancestors(entry.key, by_key) if k in by_key)
                )
            )

        return tuple(entry for entry in everything if fits(entry))

    def children(self, key: str) -> tuple[str, ...]:
        """Keys of the entries that start from `key` or stand on it."""
        return tuple(entry.key for entry in self.entries() if key in entry.card.parents)

    def lineage(self, key: str) -> tuple[str, ...]:
        """Ancestors of an entry, each after its own parents, then the entry; one that is not here is named too."""
        self.get(key, verify=False)
        return (*ancestors(key, {entry.key: entry for entry in self.entries()}), key)

    def verify(self, key: str) -> list[str]:
        """Every problem of one entry, in words; an empty list means it is what it was when it was written, and runs.

        A parent that it only started from may be gone (`gone`).

        Raises:
            UnknownName: when no folder has that name.
        """
        folder = self._folder(key)
        problems = [f"{folder}: is a symbolic link; an entry is a folder of its own"] if folder.is_symlink() else []
        try:
            card = card_file.read(folder)
        except ZooError as err:
            return [*problems, str(err)]
        problems += files.compare(folder, card.files) + attestations.problems(folder, card)
        problems += [f"runs on top of {one}, which is not in zoo {self.root}" for one in self._absent(card)]
        needed = spec.entries(card.run.route)
        return problems + [
            f"runs on top of {one}, which has other weights than it was made on: it was trained again since"
            for one in self.replaced(card)
            if one in needed
        ]

    def replaced(self, card: Card) -> tuple[str, ...]:
        """Parents of an entry that are here with other weights than those it was made from, as far as its card says."""
        made_from = card.parent_weights or {}
        return tuple(parent for parent, weights in made_from.items() if self.weights(parent) not in (None, weights))

    def weights(self, key: str) -> str | None:
        """`Card.weights` of an entry; None where it is not here or its card cannot be read. Read once per process, as
        long as the card stays."""
        if key not in self:
            return None
        folder = self._folder(key)
        try:
            stat = (folder / CARD).stat()
            return _weights(folder, (stat.st_mtime_ns, stat.st_size, stat.st_ino))
        except (ZooError, OSError):
            return None

    def gone(self, key: str) -> tuple[str, ...]:
        """Parents that an entry started from and that are not here; it works without them.

        Raises:
            UnknownName: when there is no such entry.
            ZooError: for a card that cannot be read.
        """
        card = self.get(key, verify=False).card
        needed = spec.entries(card.run.route)
        return tuple(parent for parent in card.parents if parent not in needed and parent not in self)

    def backbone_folder(self, name: str) -> Path:
        """Folder of a backbone that lies in the zoo or ships with the package (`config.json`, `model.safetensors`).

        Raises:
            UnknownName: with the backbones there are.
        """
        known = {path.name: path for root in reversed(self._roots()) for path in root.iterdir() if is_backbone(path)}
        if name not in known:
            raise unknown("backbone folder", name, known, ", ".join(map(str, (self.root, *self.fallbacks))))
        return known[name]

    # --- changing -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(self, run: RunSpec, *, needs_bytes: int = 0) -> Iterator[Draft]:
        """Write a new entry: files go below `draft.folder`, then `draft.finish(facts)`; it is published at the end.

        When the key exists by then, that entry is verified and kept, and this one discarded; either way
        `draft.entry` is the entry in the zoo. An exception inside the block leaves nothing behind.

        Args:
            run: what determines the entry.
            needs_bytes: size the entry is known to need; refused at once when the disk has less.

        Raises:
            ZooError: without `finish`, for files that may not be in an entry, on a full disk, or when the key is
                taken by something damaged.
        """
        key = spec.key(run)
        if run.backbone.digest is None:
            raise ZooError(
                f"entry {key}: backbone {run.backbone.name!r} is not locked (no digest of its weights), so the run may "
                "be planned but not written; lock the backbone first"
            )
        self._refuse_damaged(key)
        with staging(self.root, key, needs_bytes=needs_bytes) as folder:
            draft = Draft(key, folder)
            yield draft
            if draft.facts is None:
                raise ZooError(f"entry {key}: left without finish(facts); nothing was kept")
            listed = digest_all(folder, key)
            origin, kin = provenance(), {one: there for one in run.parents if (there := self.weights(one))}
            card = build(run, draft.facts, files=listed, provenance=origin, clean=clean, parent_weights=kin)
            paths.atomic_write(folder / CARD, card_file.render(card))
            draft.entry = self._publish(folder, key)

    def adopt(self, folder: Path) -> Entry:
        """Take a complete entry from another folder (pulled, copied) into this zoo, verified before and after.

        Raises:
            ZooError: naming every file that is not what the card says; nothing is taken then.
        """
        card = card_file.read(folder)
        if problems := files.compare(folder, card.files):
            raise ZooError(f"entry {card.key} ({folder}): {'; '.join(problems)}. Fetch it again; nothing was taken")
        with self.receiving(card, source=str(folder)) as own:
            side = (attestations.SCORES,) if attestations.read(folder, card) else ()
            for name in (*card.files, CARD, *side):
                (own / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, own / name, follow_symlinks=False)
        taken = self.get(card.key, verify=False)
        if taken.card != card:
            raise ZooError(
                f"entry {card.key} is here already ({taken.folder}), with other content than {folder}: the same run, "
                "trained or described again. Nothing was taken; adopt it into an empty zoo to compare"
            )
        return taken

    @contextlib.contextmanager
    def receiving(self, card: Card, *, source: str) -> Iterator[Path]:
        """Give an empty folder for the files and the card of an entry that is made already; published at the end.

        Args:
            card: what the files must be.
            source: where they come from, for messages.

        Raises:
            ZooError: naming every file that is not what the card says, or when the key is taken by something damaged;
                nothing is taken then.
        """
        self._refuse_damaged(card.key)
        with staging(self.root, card.key, needs_bytes=card.num_bytes) as own:
            yield own
            if problems := files.compare(own, card.files) + attestations.problems(own, card):
                raise ZooError(
                    f"entry {card.key} did not arrive from {source} as its card says: {'; '.join(problems)}. Nothing "
                    f"was taken; try again, and if it stays so tell the owner of {source} that it is damaged there"
                )
            if card_file.parse((own / CARD).read_bytes(), f"the card of {card.key} from {source}") != card:
                raise ZooError(f"the card of {card.key} changed while it came from {source}; nothing was taken")
            self._publish(own, card.key)

    def scores(self, key: str) -> tuple[Attestation, ...]:
        """Scores of an entry that were measured after it was published, each checked against its seal.

        Raises:
            ZooError: naming the line that is not what was written.
        """
        entry = self.get(key, verify=False)
        return attestations.read(entry.folder, entry.card)

    def attest(self, key: str, found: Iterable[Attestation]) -> tuple[Attestation, ...]:
        """Keep scores beside an entry's card, which stays as it is; returns all that are there then.

        Raises:
            ZooError: for an entry that is read-only, and for scores of another entry or other weights.
        """
        entry = self.get(key)
        if entry.folder.parent != self.root:
            raise ZooError(
                f"entry {key} is read-only: it lies in {entry.folder.parent}, not in {self.root}; scores are attested "
                "in the zoo an entry belongs to"
            )
        with staging(self.root, key) as aside, alone(entry.folder):
            return attestations.add(entry.folder, entry.card, found, aside=aside)

    def remove(self, key: str, *, force: bool = False) -> None:
        """Remove an entry, damaged or not, in one step (a kill leaves a partial folder for `gc`, never half an entry).

        Raises:
            UnknownName: when there is none.
            ZooError: while other entries descend from it (unless `force`), or when it is read-only.
        """
        folder = self._folder(key)
        if folder.parent != self.root:
            raise ZooError(f"entry {key} is read-only: it lies in {folder.parent}, not in {self.root}")
        children, unknown_kin = ([], []) if force else self._kin(key)
        if children:
            raise ZooError(
                f"entry {key} has {len(children)} descending from it: {', '.join(children)}. "
                "Remove those first, or force it"
            )
        if unknown_kin:
            raise ZooError(
                f"entry {key}: the cards of {', '.join(unknown_kin)} cannot be read, so whether they descend from it "
                "is not known. See to those first (xling zoo verify), or force it"
            )
        try:
            if folder.is_symlink():
                folder.unlink()
                return
            aside = self.root / PARTIAL / f"{key}-{uuid.uuid4().hex[:12]}"
            aside.parent.mkdir(exist_ok=True)
            folder.rename(aside)
            shutil.rmtree(aside)
        except OSError as err:
            raise ZooError(
                f"entry {key} ({folder}) cannot be removed: {err.strerror or err}; check the permissions of the folder"
            ) from err

    def gc(self, *, dry_run: bool, stale_s: float = STALE_S) -> Garbage:
        """Remove partial folders of dead writers, and report names and bytes; running writers are left alone."""
        return sweep(self.root, dry_run=dry_run, stale_s=stale_s)

    # --- inside -------------------------------------------------------------------------------------------------

    def _kin(self, key: str) -> tuple[list[str], list[str]]:
        """Entries that descend from one, and those whose cards do not even say from what."""
        children, unknown_kin = [], []
        for name in self.keys():
            if name == key:
                continue
            try:
                parents = card_file.parents(self._folder(name))
            except ZooError:
                unknown_kin.append(name)
            else:
                children += [name] if key in parents else []
        return children, unknown_kin

    def _roots(self) -> list[Path]:
        if self.root.exists() and not self.root.is_dir():
            raise ZooError(f"zoo {self.root}: is a file; a zoo is a folder")
        return [root for root in (self.root, *self.fallbacks) if root.is_dir()]

    def _absent(self, card: Card) -> list[str]:
        """Entries that an entry runs on top of and that are not here."""
        return [parent for parent in spec.entries(card.run.route) if parent not in self]

    def _folder(self, key: str) -> Path:
        """Folder of an entry: the first with a card, else (damaged) the first of that name."""
        folders = [root / key for root in self._roots() if KEY.fullmatch(key) and os.path.lexists(root / key)]
        if not folders:
            raise unknown("entry", key, self.keys(), str(self.root))
        return next((folder for folder in folders if is_entry(folder)), folders[0])

    def _refuse_damaged(self, key: str) -> None:
        """Refuse to start on a key whose place is taken by something that is not a sound entry."""
        if os.path.lexists(self.root / key) and (problems := damage(self.root / key)):
            raise ZooError(f"entry {key} ({self.root / key}): {'; '.join(problems)}. {card_file.way_out(key)}")

    def _publish(self, folder: Path, key: str) -> Entry:
        """Rename a complete partial folder into place, or settle for a sound entry that is already there."""
        elsewhere = [root / key for root in self.fallbacks if is_entry(root / key)]
        if any(not damage(found) for found in elsewhere) or not publish(folder, self.root / key):
            self._refuse_damaged(key)
        return self.get(key, verify=False)
