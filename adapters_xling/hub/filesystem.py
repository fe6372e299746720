"""A shared zoo in any place fsspec can read: a folder, S3 and other object stores, a web server (read-only)."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from adapters_xling.errors import HubError
from adapters_xling.zoo import CARD, Entry, file_digest
from adapters_xling.zoo.attestations import MAX_BYTES, SCORES
from adapters_xling.zoo.card import KEY
from adapters_xling.zoo.card_file import MAX_CARD_BYTES
from adapters_xling.zoo.staging import PARTIAL, alone

from .address import FOLDER, READ_ONLY, Address
from .base import Absent, Hub, OnStep
from .scores import to_publish

_BLOCK = 2**20
_RENAMES = (FOLDER, "sftp")
"""Protocols that show a file while it is written, and can rename one at once. Object stores show whole files only."""

_HAS_FOLDERS = (*_RENAMES, "memory")


class FileSystemHub(Hub):
    """Entries below a folder of a file system. A card is written last, and in one step, so an entry is whole or absent.

    What was uploaded before a cut is compared by its bytes the next time, and only the rest is sent.
    """

    def __init__(self, address: Address, *, options: dict[str, Any] | None = None, hint: str = "") -> None:
        self.where, self.hint = str(address), hint
        self._address = address
        if address.package and importlib.util.find_spec(address.package) is None:
            raise HubError(
                f"{self.where}: {address.protocol}:// needs {address.package}: pip install {address.package}"
            )
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        with self._explained("be opened"):
            if "://" in address.path:
                self._fs, self._root = url_to_fs(address.path, **(options or {}))
            else:  # as it stands: in an address two colons would name a second place
                self._fs, self._root = LocalFileSystem(**(options or {})), LocalFileSystem._strip_protocol(address.path)
            self._fs.use_listings_cache = False
        self._root = self._root.rstrip("/")

    # --- reading ---------------------------------------------------------------------------------------------------

    def keys(self) -> tuple[str, ...]:
        """Keys of the folders that hold a card. A web server must list its folders for this."""
        with self._explained("be listed", listing=True):
            self._fs.invalidate_cache()
            found = {str(one).rstrip("/").rpartition("/")[2] for one in self._fs.ls(self._root, detail=False)}
            return tuple(sorted(key for key in found if KEY.fullmatch(key) and self._exists(f"{key}/{CARD}")))

    def card_bytes(self, key: str) -> bytes | None:
        """See `Hub.card_bytes`."""
        return self._start(f"{key}/{CARD}", MAX_CARD_BYTES) if KEY.fullmatch(key) else None

    def scores_bytes(self, key: str) -> bytes | None:
        """See `Hub.scores_bytes`."""
        return self._start(f"{key}/{SCORES}", MAX_BYTES) if KEY.fullmatch(key) else None

    def _start(self, name: str, most: int) -> bytes | None:
        """At most so many bytes of a file, and one more where it has more; None where there is no such file."""
        with self._explained(f"give {name}"):
            self._refuse_link(name)
            try:
                with self._fs.open(self._at(name), "rb") as stream:
                    raw = bytearray()
                    while len(raw) <= most and (block := stream.read(min(_BLOCK, most + 1 - len(raw)))):
                        raw += block
                    return bytes(raw)
            except (FileNotFoundError, IsADirectoryError):
                return None

    def sizes(self, key: str) -> dict[str, int] | None:
        """See `Hub.sizes`; a web server is not asked, because its pages may list anything."""
        if self._address.protocol in READ_ONLY:
            return None
        with self._explained(f"list {key}"):
            self._fs.invalidate_cache()
            base = self._at(key)
            found = self._fs.find(base, detail=True, withdirs=False)
            names = {path: str(path)[str(path).rindex(f"{key}/") + len(key) + 1 :] for path in found}
            for name in names.values():
                self._refuse_link(f"{key}/{name}")
            return {names[path]: int(info["size"]) for path, info in found.items() if names[path]}

    def altered(self, entry: Entry) -> list[str]:
        """See `Hub.altered`; told by a folder of this machine."""
        if self._address.protocol != FOLDER:
            return []
        with self._explained(f"give {entry.key}"):
            files = entry.card.files.items()
            return [n for n, file in files if file_digest(Path(self._at(f"{entry.key}/{n}"))) != file.sha256]

    def fetch(self, key: str, name: str, target: Path, *, num_bytes: int) -> None:
        """See `Hub.fetch`."""
        with self._explained(f"give {key}/{name}"):
            self._refuse_link(f"{key}/{name}")
            got = 0
            with self._fs.open(self._at(f"{key}/{name}"), "rb") as stream, target.open("xb") as out:
                while block := stream.read(min(_BLOCK, num_bytes + 1 - got)):
                    got += len(block)
                    if got > num_bytes:
                        break
                    out.write(block)
            if got != num_bytes:
                raise HubError(
                    f"{self.where}/{key}/{name}: the card says {num_bytes:,} bytes, "
                    f"{'more' if got > num_bytes else f'{got:,}'} came: it was cut or is another file. Try again"
                )

    # --- writing ---------------------------------------------------------------------------------------------------

    def check_push(self, *, private: bool | None) -> None:
        """See `Hub.check_push`. Who may read a folder or bucket is not ours to set."""
        if self._address.protocol in READ_ONLY:
            raise HubError(f"{self.where} can only be read: push to a folder, s3://… or hf://… instead")
        if private is not None:
            raise HubError(f"{self.where}: who may read it is set where it lies; leave --private and --public out")

    def publish(self, entries: Sequence[Entry], *, readme: str, private: bool | None, on_step: OnStep) -> str:
        """See `Hub.publish`."""
        self.check_push(private=private)
        for entry in entries:
            there = self.holds(entry)
            total = sent = entry.card.num_bytes
            if not there:
                sent = 0
                for name, file in entry.card.files.items():
                    on_step(entry.key, name, sent, total)
                    self._put(entry, name, file.sha256)
                    sent += file.num_bytes
            with self._alone(entry.key):
                side = to_publish(self, entry, there=there)
                if side.file is not None:
                    on_step(entry.key, SCORES, sent, total)
                    self._write(f"{entry.key}/{SCORES}", side.file)
            if not there:
                on_step(entry.key, CARD, sent, total)
                with self._explained(f"take {entry.key}"):
                    self._fs.invalidate_cache()
                self._publish_card(entry)
        return f"{self.where}/{entries[-1].key}"

    def _put(self, entry: Entry, name: str, sha256: str) -> None:
        remote = self._at(f"{entry.key}/{name}")
        with self._explained(f"take {entry.key}/{name}"):
            self._refuse_link(f"{entry.key}/{name}")
            if self._digest(remote, entry.card.files[name].num_bytes) == sha256:
                return
            if self._address.protocol in _HAS_FOLDERS:  # elsewhere this would make a bucket
                self._fs.makedirs(remote.rpartition("/")[0], exist_ok=True)
            self._fs.put_file(str(entry.folder / name), remote)

    def _publish_card(self, entry: Entry) -> None:
        """Check what arrived, then let the card appear in one step.

        Raises:
            HubError: when a file is missing, of another size, or not the entry's.
        """
        if self.card_bytes(entry.key) is not None:
            raise HubError(f"{self.where}/{entry.key} was published by somebody else meanwhile; pull it to compare")
        self.check_sizes(entry.card)
        if self._address.protocol == FOLDER:  # two who push the same run at once write over each other's files
            for name, file in entry.card.files.items():
                if self._digest(self._at(f"{entry.key}/{name}"), file.num_bytes) != file.sha256:
                    raise HubError(
                        f"{self.where}/{entry.key}/{name} was written by somebody else meanwhile; push again, or pull "
                        "theirs to compare"
                    )
        self._write(f"{entry.key}/{CARD}", (entry.folder / CARD).read_bytes(), new=True)

    def _write(self, name: str, raw: bytes, *, new: bool = False) -> None:
        """Let a small file appear, or unless it is to be `new` change, in one step."""
        final = self._at(name)
        with self._explained(f"take {name}"):
            self._refuse_link(name)
            if self._address.protocol not in _RENAMES:
                self._fs.pipe_file(final, raw)
                return
            aside = self._at(f"{PARTIAL}/{name.partition('/')[0]}-{uuid.uuid4().hex[:12]}")
            try:
                self._fs.makedirs(aside.rpartition("/")[0], exist_ok=True)
                self._fs.pipe_file(aside, raw)
                if new and self._address.protocol == FOLDER and _linked(aside, final, self.where):
                    return
                self._fs.mv(aside, final)
            finally:
                with contextlib.suppress(Exception):
                    self._fs.rm(aside)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _alone(self, key: str) -> contextlib.AbstractContextManager[None]:
        """Hold an entry's folder while its scores are read and written anew; only the file system here can do that."""
        if self._address.protocol != FOLDER:
            return contextlib.nullcontext()
        return alone(Path(self._root) / key)

    def _exists(self, name: str) -> bool:
        return bool(
            self._fs.isfile(self._at(name))
            if self._address.protocol not in READ_ONLY
            else self._fs.exists(self._at(name))
        )

    def _refuse_link(self, name: str) -> None:
        """Refuse a symbolic link in a folder: it may point at anything on this machine."""
        if self._address.protocol != FOLDER:
            return
        path = Path(self._root)
        for part in Path(name).parts:
            path = path / part
            if path.is_symlink():
                raise HubError(f"{path}: is a symbolic link; an entry holds files of its own only. Nothing was taken")

    def _digest(self, remote: str, num_bytes: int) -> str | None:
        """sha256 of a file there, or None when it is absent or of another size."""
        try:
            if int(self._fs.info(remote)["size"]) != num_bytes:
                return None
        except FileNotFoundError:
            return None
        if self._address.protocol == FOLDER:
            return file_digest(Path(remote))
        digest = hashlib.sha256()
        with self._fs.open(remote, "rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()

    @contextlib.contextmanager
    def _explained(self, what: str, *, listing: bool = False) -> Iterator[None]:
        """Turn what file systems raise (dozens of types) into one sentence with the way out."""
        try:
            yield
        except HubError:
            raise
        except Exception as err:
            kind = Absent if listing and isinstance(err, FileNotFoundError) else HubError
            reason = _reason(err, self._address)
            if kind is Absent and self.hint:
                reason += f". {self.hint}"
            raise kind(f"{self.where} cannot {what}: {reason}") from err


def _linked(aside: str, final: str, where: str) -> bool:
    """Give a file its name only if nobody has it yet; False where the disk knows no such way.

    Raises:
        HubError: when somebody has it.
    """
    try:
        os.link(aside, final)
    except FileExistsError as err:
        raise HubError(f"{where}: {final} was published by somebody else meanwhile; pull it to compare") from err
    except OSError:
        return False
    return True


def _reason(err: Exception, address: Address) -> str:
    status = getattr(err, "status", None)
    web = address.protocol in READ_ONLY
    text = (str(err).strip().splitlines() or [type(err).__name__])[0]
    if status in (401, 403) or isinstance(err, PermissionError):
        return f"access is refused ({status or text}): give the client credentials that may do this"
    if isinstance(err, FileNotFoundError) or status == 404:
        return "it is not there (404)" + (
            "; correct the address" if not web else ", or this server lists no folders: give the entry's full key"
        )
    if isinstance(status, int):
        return f"the server answers {status}: a fault there; try again later"
    if type(err).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        return f"no credentials were found ({text}); set them as {address.package} expects"
    if type(err).__name__.startswith(("ClientConnector", "EndpointConnection", "ServerDisconnected", "ConnectTimeout")):
        return f"it cannot be reached ({text}); what is already in your zoo stays usable"
    if type(err).__name__ in ("ClientPayloadError", "IncompleteRead"):
        return f"the line broke off ({text}); try again"
    return f"{type(err).__name__}: {text}"
