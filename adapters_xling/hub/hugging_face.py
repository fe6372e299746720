"""A shared zoo in a repository of the Hugging Face Hub: every push is one commit, every pull reads one commit.

Beside the entries, each in a folder named by its key, the repository's root holds what the hub and plain libraries look
for there: a README, and the native files of the entry the repository is about (`xling.json` names it).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from adapters_xling import hub_files
from adapters_xling.errors import HubError
from adapters_xling.hub_files import Listing, NotServed
from adapters_xling.spec import Slot
from adapters_xling.strict import parse_json
from adapters_xling.zoo import CARD, Entry
from adapters_xling.zoo.attestations import MAX_BYTES, SCORES
from adapters_xling.zoo.card import KEY
from adapters_xling.zoo.card_file import MAX_CARD_BYTES

from .address import Address
from .base import Absent, Hub, OnStep
from .readme import README, repository_readme
from .scores import to_publish

ABOUT = "xling.json"
"""File in a repository's root that names the entry whose native files lie there too."""
NATIVE = "encoder/"
_MAIN = "main"
_TRIES = 4
_MAX_ABOUT_BYTES = 4096


class HuggingFaceHub(Hub):
    """Entries in a repository, read at one commit and written in one commit. The client finds its token by itself.

    A commit that is in the client's cache is read without asking anybody; where the hub cannot be reached, so is the
    one its branch stood for when it was read last.
    """

    def __init__(self, address: Address) -> None:
        self.where = str(address)
        self._repo, self._asked = address.path, address.revision or _MAIN
        self._files: tuple[str, ...] | None = None
        self._private: bool | None = None
        self._offline: Path | None = None
        self._tree: dict[str, dict[str, hub_files.RemoteFile]] = {}

    # --- reading ---------------------------------------------------------------------------------------------------

    def keys(self) -> tuple[str, ...]:
        """Keys of the folders that hold a card at the commit that is read."""
        paths = [PurePosixPath(name) for name in self._listed()]
        found = {path.parts[0] for path in paths if len(path.parts) == 2 and path.name == CARD}
        return tuple(sorted(key for key in found if KEY.fullmatch(key)))

    def card_bytes(self, key: str) -> bytes | None:
        """See `Hub.card_bytes`."""
        return self._start(key, CARD, MAX_CARD_BYTES, "that is no card. Nothing was taken")

    def scores_bytes(self, key: str) -> bytes | None:
        """See `Hub.scores_bytes`."""
        return self._start(key, SCORES, MAX_BYTES, "those are no scores")

    def _start(self, key: str, file: str, most: int, what: str) -> bytes | None:
        """At most so many bytes of a file of an entry, and one more where it has more; None where there is none.

        Raises:
            HubError: before it is fetched, for one that is larger, saying `what` that means.
        """
        name = f"{key}/{file}"
        if name not in self._listed():
            return None
        if self._offline is None and (size := self._remote(key)[name].num_bytes) > most:
            raise HubError(f"{self.where}/{name}: {size:,} bytes; {what}")
        with self._file(name).open("rb") as stream:
            return stream.read(most + 1)

    def sizes(self, key: str) -> dict[str, int] | None:
        """See `Hub.sizes`; offline nobody can say, and the files themselves are compared."""
        self._listed()
        if self._offline is not None:
            return None
        return {name[len(key) + 1 :]: file.num_bytes for name, file in self._remote(key).items()}

    def altered(self, entry: Entry) -> list[str]:
        """See `Hub.altered`; the hub tells the digest of every file."""
        self._listed()
        if self._offline is not None:
            return []
        there = self._remote(entry.key)
        digests = {name: there[f"{entry.key}/{name}"].digest for name in entry.card.files}
        return [n for n, digest in digests.items() if hub_files.digest_like(entry.folder / n, digest) != digest]

    def fetch(self, key: str, name: str, target: Path, *, num_bytes: int) -> None:
        """See `Hub.fetch`. The client's cache goes on where a line broke."""
        path = self._file(f"{key}/{name}")
        if path.stat().st_size != num_bytes:
            raise HubError(
                f"{self.where}/{key}/{name}: {path.stat().st_size:,} bytes came, the card says {num_bytes:,}; nothing "
                f"was taken. Tell the owner of {self.where}"
            )
        shutil.copyfile(path, target)

    def main(self) -> str | None:
        """The entry that `xling.json` names."""
        if ABOUT not in self._listed():
            return None
        try:
            with self._file(ABOUT).open("rb") as stream:
                found = parse_json(stream.read(_MAX_ABOUT_BYTES))
        except ValueError as err:
            raise HubError(f"{self.where}/{ABOUT}: {err}; give the entry's key") from err
        key = found.get("entry") if isinstance(found, dict) else None
        if not isinstance(key, str) or not KEY.fullmatch(key):
            raise HubError(f"{self.where}/{ABOUT}: names no entry ({key!r}); give the entry's key")
        return key

    def moved(self) -> str | None:
        """See `Hub.moved`."""
        if self._offline is not None or self.revision is None:
            return None
        try:
            now = hub_files.listing(self._repo, self._asked, kind="model").commit
        except NotServed:
            return None  # it cannot be asked any more; what was read is of one commit all the same
        return None if now == self.revision else now

    # --- writing ---------------------------------------------------------------------------------------------------

    def check_push(self, *, private: bool | None) -> None:
        """See `Hub.check_push`."""
        if hub_files.is_commit(self._asked):
            raise HubError(
                f"{self.where}: a commit cannot be added to; name a branch, or leave @{self._asked[:12]} out"
            )
        try:
            self._listed()
        except Absent as err:  # it will be made as is asked for, and then has the main branch alone
            if self._asked != _MAIN:
                raise HubError(
                    f"{err}; it would be made without a branch {self._asked!r}: push to hf://{self._repo}, and make "
                    "the branch there"
                ) from err
            return
        self._require_openness(self._private, private)

    def _require_openness(self, is_private: bool | None, wanted: bool | None) -> None:
        """Refuse a repository that is open to others than was asked for.

        Raises:
            HubError: saying where to change it.
        """
        if None in (is_private, wanted) or is_private == wanted:
            return
        there, asked = ("private", "public") if is_private else ("public", "private")
        raise HubError(
            f"{self.where} is {there}, and {asked} was asked for: change it at {self._page('')}/settings, push "
            "elsewhere, or leave the option out"
        )

    def publish(self, entries: Sequence[Entry], *, readme: str, private: bool | None, on_step: OnStep) -> str:
        """See `Hub.publish`: one commit on top of the one that was read; a repository that is not there is made.

        Large files that arrived before a cut are not sent again: the hub knows them by their digest.
        """
        self.check_push(private=private)
        own = entries[-1]
        for _ in range(_TRIES):
            base = self._writable(private)
            new = [entry for entry in entries if not self.holds(entry)]
            sides = [(entry.key, to_publish(self, entry, there=entry not in new).file) for entry in entries]
            scores = {f"{key}/{SCORES}": raw for key, raw in sides if raw is not None}
            if not new and not scores:
                return self._page(own.key)
            on_step(own.key, "upload", 0, sum(entry.card.num_bytes for entry in new))
            commit = self._commit(new, own, base, readme, scores)
            if commit is not None:
                self._confirm(new, scores, commit)
                on_step(own.key, "upload", 1, 1)
                return self._page(own.key)
        raise HubError(f"{self.where}: somebody else commits to it all the time ({_TRIES} tries); try again later")

    def _writable(self, private: bool | None) -> Listing:
        """The repository as it is now, made when it is not there.

        Raises:
            HubError: when it cannot be had, or is open to others than `private` says.
        """
        from huggingface_hub import HfApi

        if reason := hub_files.why_not():
            raise HubError(f"{self.where}: {reason}; pushing needs the hub. The entry stays in your zoo")
        api = HfApi(endpoint=hub_files.endpoint())

        def make() -> Listing | None:
            api.create_repo(self._repo, private=private is not False, repo_type="model", exist_ok=True)
            return None

        def ask() -> Any:
            try:
                return api.model_info(self._repo, revision=self._asked, timeout=hub_files.REQUEST_TIMEOUT_S)
            except Exception as err:
                if type(err).__name__ == "RepositoryNotFoundError" and _status(err) == 404:
                    return None
                raise

        try:
            info = hub_files.patiently(ask, hub_files.overloaded, self._repo, self._asked, writing=True)
            if info is None:
                hub_files.patiently(make, hub_files.overloaded, self._repo, None, writing=True)
                info = hub_files.patiently(ask, hub_files.overloaded, self._repo, self._asked, writing=True)
        except NotServed as err:
            raise HubError(f"{self.where}: {err}") from err
        if info is None:
            raise HubError(f"{self.where}: the hub made the repository and then does not know it; try again")
        listing = hub_files.listing_of(info)
        self._require_openness(listing.private, private)
        if ".gitignore" in listing.files:
            raise HubError(
                f"{self.where} has a .gitignore, by which the hub leaves files out without a word; remove it"
            )
        self._see(listing)
        return listing

    def _commit(
        self, new: Sequence[Entry], own: Entry, base: Listing, readme: str, scores: Mapping[str, bytes]
    ) -> str | None:
        """Commit entries and scores on top of what was read; None when somebody else committed meanwhile."""
        from huggingface_hub import CommitOperationAdd, HfApi

        files: dict[str, Path | bytes] = dict(scores)
        for entry in new:
            files |= {f"{entry.key}/{name}": entry.folder / name for name in (*entry.card.files, CARD)}
        if new and ABOUT not in base.files:
            files[ABOUT] = f"{json.dumps({'schema': 1, 'entry': own.key})}\n".encode()
            files |= {path: own.folder / name for path, name in native_files(own).items() if path not in base.files}
        page = self._updated_readme(own, readme, [*self.keys(), *(entry.key for entry in new)])
        if new and page is not None:
            files[README] = page
        names = ", ".join(entry.key for entry in new)
        api = HfApi(endpoint=hub_files.endpoint())

        def commit() -> str | None:
            operations = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=data) for path, data in files.items()]
            try:
                done = api.create_commit(
                    self._repo,
                    operations,
                    commit_message=f"Add {own.key}" if new else f"Scores of {own.key}",
                    commit_description=f"Entries: {names}" if new else f"Files: {', '.join(scores)}",
                    revision=self._asked,
                    parent_commit=base.commit,
                )
            except Exception as err:
                if _status(err) in (409, 412):
                    return None
                raise
            return str(done.oid)

        try:
            return hub_files.patiently(commit, _may_pass, self._repo, self._asked, writing=True)
        except NotServed as err:
            raise HubError(
                f"{self.where}: {err}. Nothing of the entry is visible there; push again, large files that arrived are "
                "not sent twice"
            ) from err

    def _updated_readme(self, own: Entry, readme: str, keys: Sequence[str]) -> bytes | None:
        old = self._file(README).read_bytes() if README in self._listed() else None
        return repository_readme(readme, about=own, keys=sorted(set(keys)), repo=self._repo, old=old)

    def _confirm(self, new: Sequence[Entry], scores: Mapping[str, bytes], commit: str) -> None:
        """Ask the hub for the digests of what it committed.

        Raises:
            HubError: when they are not those of what was sent.
        """
        sent: dict[str, Path | bytes] = dict(scores)
        for entry in new:
            sent |= {f"{entry.key}/{name}": entry.folder / name for name in (*entry.card.files, CARD)}
        for key in dict.fromkeys(name.partition("/")[0] for name in sent):
            try:
                there = hub_files.tree(self._repo, commit, below=key, kind="model")
            except NotServed as err:
                raise HubError(
                    f"{self.where}: {err}. The commit {commit[:12]} was made but not confirmed; push again"
                ) from err
            for name, data in sent.items():
                if not name.startswith(f"{key}/"):
                    continue
                found = there.get(name)
                if found is None or hub_files.digest_like(data, found.digest) != found.digest:
                    raise HubError(
                        f"{self.where}: commit {commit[:12]} holds {name} "
                        f"{'not at all' if found is None else 'with other bytes'}; remove that commit or the repository"
                    )

    # --- inside ----------------------------------------------------------------------------------------------------

    def _listed(self) -> tuple[str, ...]:
        if self._files is None:
            try:
                self._see(hub_files.listing(self._repo, self._asked, kind="model"))
            except NotServed as err:
                if hub_files.why_not() is None:
                    absent = type(err.__cause__).__name__ == "RepositoryNotFoundError"
                    raise (Absent if absent else HubError)(f"{self.where}: {err}") from err
                self._see_cache(err)
        assert self._files is not None
        return self._files

    def _see(self, listing: Listing) -> None:
        self.revision, self._files, self._tree, self._offline = listing.commit, listing.files, {}, None
        self._private = listing.private

    def _see_cache(self, reason: NotServed) -> None:
        """Read what the client's cache holds of the revision asked for, or refuse with the reason."""
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(self._repo, revision=self._asked, local_files_only=True))
        except Exception as err:
            raise HubError(
                f"{self.where}: {reason}, and its cache holds nothing of {self._asked!r}. What is in your zoo stays "
                "usable"
            ) from err
        self._offline = folder
        self.revision = folder.name
        self._files = tuple(str(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.is_file())

    def _remote(self, key: str) -> dict[str, hub_files.RemoteFile]:
        assert self.revision is not None
        if key not in self._tree:
            try:
                self._tree[key] = hub_files.tree(self._repo, self.revision, below=key, kind="model")
            except NotServed as err:
                raise HubError(f"{self.where}: {err}") from err
        return self._tree[key]

    def _file(self, name: str) -> Path:
        """A file of the commit that is read, from the cache or downloaded."""
        assert self.revision is not None
        if self._offline is not None:
            path = self._offline / name
            if not path.is_file():
                raise HubError(
                    f"{self.where}: {name} of {self.revision[:12]} is not in the cache, and the hub cannot be asked; "
                    "pull again when it can"
                )
            return path
        try:
            path = hub_files.fetch(self._repo, name, revision=self.revision, kind="model")
            hub_files.refuse_damaged(path, f"{name} of {self._repo}@{self.revision[:12]}")
        except NotServed as err:
            raise HubError(f"{self.where}: {err}") from err
        return path

    def remember(self) -> None:
        """Let the client's cache know which commit the branch stands for, so that it can be read offline."""
        if self._offline is not None or self.revision is None or hub_files.is_commit(self._asked):
            return
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=self._repo, repo_type="model") / "refs"
        target = folder / self._asked
        if target.resolve().is_relative_to(folder.resolve()):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self.revision, encoding="ascii")

    def _page(self, key: str) -> str:
        return f"{hub_files.endpoint()}/{self._repo}" + (f"/tree/{self._asked}/{key}" if key else "")


def native_files(entry: Entry) -> dict[str, str]:
    """Path in the repository's root -> file of the entry that a plain library looks for there.

    Empty for an entry that stands on others: alone, its files would compute something else.
    """
    if not isinstance(entry.card.run.route, Slot):
        return {}
    return {name.removeprefix(NATIVE): name for name in entry.card.files if name.startswith(NATIVE)}


def _status(err: BaseException) -> int | None:
    return getattr(getattr(err, "response", None), "status_code", None)


def _may_pass(err: Exception) -> bool:
    """A fault of the hub or the line somewhere inside an upload; the client wraps what the hub answered."""
    chain: list[BaseException] = [err]
    while (deeper := chain[-1].__cause__ or chain[-1].__context__) is not None and deeper not in chain:
        chain.append(deeper)
    status = next((code for one in chain if (code := _status(one)) is not None), None)
    if status is not None:
        return status >= 500 or status == 429
    return any(isinstance(one, OSError) for one in chain)
