"""Files of the model hub: which commit a name stands for, and files of that commit fetched whole, verified, cached.

`huggingface_hub` compares sizes, not contents, and keeps what arrived: a file that was damaged before its size was
announced stays in the cache as good. Here each file is compared with the digest the hub gives for it (its ETag, also
the name of the cached blob), and a file that differs is removed again. The client is imported only when it is used.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

Kind = Literal["dataset", "model"]

COMMIT = re.compile(r"[0-9a-f]{40}")
PROBE_TIMEOUT_S = 4.0
REQUEST_TIMEOUT_S = 10.0
_WAITS_S = (0.5, 1.0, 2.0)
"""Pauses before a question is asked again that the hub could not answer (5xx, broken connection)."""

T = TypeVar("T")


class NotServed(Exception):
    """The hub, or its cache on this machine, cannot give what was asked for; the text says why and the way out."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A repository at one commit.

    Attributes:
        commit: the commit, 40 hex digits.
        files: paths of its files.
        private: whether it is for its owner only; None where the hub does not say.
    """

    commit: str
    files: tuple[str, ...]
    private: bool | None = None


def listing_of(info: Any) -> Listing:
    """What the hub's client found of a repository."""
    files = tuple(file.rfilename for file in info.siblings or ())
    return Listing(commit=str(info.sha), files=files, private=getattr(info, "private", None))


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a full commit, which nobody can move, and no branch, tag or abbreviation.

    >>> is_commit("main"), is_commit("0123456789" * 4)
    (False, True)
    """
    return revision is not None and COMMIT.fullmatch(revision) is not None


def offline() -> bool:
    """Whether the user forbade network access for the hub's libraries."""
    return any(
        os.environ.get(name, "").upper() in ("1", "TRUE", "YES", "ON")
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
    )


def host() -> str:
    """Host of the hub in use (`HF_ENDPOINT`)."""
    return urlsplit(endpoint()).hostname or "huggingface.co"


def why_not() -> str | None:
    """Why the hub cannot be asked, or None. Takes seconds at most: the hub's own client retries for minutes."""
    if offline():
        return "HF_HUB_OFFLINE is set, so only what is already in the cache can be read"
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return None
    address = urlsplit(endpoint())
    port = address.port or (443 if address.scheme == "https" else 80)
    return None if _reachable(host(), port) else f"{host()} cannot be reached"


def endpoint() -> str:
    """Address of the hub in use."""
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


@functools.lru_cache(maxsize=8)
def _reachable(name: str, port: int) -> bool:
    """Whether a connection can be opened. In a thread, because a name look-up obeys no timeout."""
    answer: list[bool] = []

    def connect() -> None:
        try:
            socket.create_connection((name, port), timeout=PROBE_TIMEOUT_S).close()
            answer.append(True)
        except OSError:
            answer.append(False)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PROBE_TIMEOUT_S + 1)
    return bool(answer and answer[0])


def listing(repo: str, revision: str | None, *, kind: Kind) -> Listing:
    """Ask the hub which commit a revision stands for and which files it has.

    Args:
        repo: repository, `owner/name`.
        revision: branch, tag or commit; None is the main branch.
        kind: what the repository holds.

    Raises:
        NotServed: when the hub cannot be reached, or knows no such repository or revision.
    """
    reason = why_not()
    if reason:
        raise NotServed(reason)
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint())
    ask = api.dataset_info if kind == "dataset" else api.model_info
    info = patiently(lambda: ask(repo, revision=revision, timeout=REQUEST_TIMEOUT_S), overloaded, repo, revision)
    if not is_commit(info.sha):
        raise NotServed(f"{host()} gave no commit for {repo}@{revision or 'main'}, but {info.sha!r}")
    return listing_of(info)


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file as the hub describes it.

    Attributes:
        num_bytes: its size.
        digest: sha256 of its bytes where the hub keeps it apart from git, else git's sha1 of them.
    """

    num_bytes: int
    digest: str


def tree(repo: str, commit: str, *, below: str, kind: Kind) -> dict[str, RemoteFile]:
    """Ask the hub for all files below a folder of a repository, by their paths in the repository.

    Raises:
        NotServed: when the hub cannot be reached, or there is no such folder.
    """
    from huggingface_hub import HfApi

    def ask() -> dict[str, RemoteFile]:
        found: dict[str, RemoteFile] = {}
        entries = HfApi(endpoint=endpoint()).list_repo_tree(
            repo, path_in_repo=below, recursive=True, revision=commit, repo_type=kind
        )
        for one in entries:
            size: Any = getattr(one, "size", None)
            if size is not None:
                apart: Any = getattr(one, "lfs", None)
                digest = apart.sha256 if apart else getattr(one, "blob_id", "")
                found[one.path] = RemoteFile(num_bytes=int(size), digest=str(digest))
        return found

    return patiently(ask, overloaded, repo, commit, below)


def digest_like(data: Path | bytes, other: str) -> str:
    """Digest of a file, or of bytes, in the form of another: sha256 (64 hex digits), or git's sha1 (40)."""
    if isinstance(data, bytes):
        return _git_sha1_of(data) if len(other) == 40 else hashlib.sha256(data).hexdigest()
    return _git_sha1(data) if len(other) == 40 else _sha256(data)


def fetch(repo: str, file: str, *, revision: str, kind: Kind) -> Path:
    """A file of a repository, from the cache or downloaded; its bytes are those the hub has a digest of.

    A commit that is in the cache is not asked for again; for a branch the hub is asked what it stands for now.

    Returns:
        Its path in the cache, in a folder named by the commit.

    Raises:
        NotServed: naming the file, when it cannot be had or arrives damaged; nothing damaged stays in the cache.
    """
    cached = cached_file(repo, file, revision=revision, kind=kind) if is_commit(revision) else None
    if cached is not None:
        return cached
    from huggingface_hub import hf_hub_download

    def download() -> str:
        return hf_hub_download(
            repo, file, revision=revision, repo_type=kind, etag_timeout=REQUEST_TIMEOUT_S, endpoint=endpoint()
        )

    path = Path(patiently(download, _broke_off, repo, revision, file))
    if is_commit(revision) and path.resolve().parent.name == "blobs" and revision not in path.parts:
        raise NotServed(
            f"{host()} was asked for {file} of {repo}@{revision[:12]} and gave it from another commit: the revision "
            "was swapped under this download; nothing was taken"
        )
    refuse_damaged(path, f"{file} of {repo}@{revision[:12]}")
    return path


def refuse_damaged(path: Path, what: str) -> None:
    """Compare a cached file with the digest in its blob's name, and remove it from the cache where they differ.

    The cache names blobs by the hub's ETag: sha256 of a large file's bytes, git's sha1 of a small one's. Where the
    cache holds plain files instead of links (Windows without developer mode) there is no digest to compare with.

    Raises:
        NotServed: naming file, size and both digests.
    """
    blob = path.resolve()
    wanted = blob.name
    if blob.parent.name != "blobs" or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", wanted):
        return
    found = _git_sha1(blob) if len(wanted) == 40 else _sha256(blob)
    if found == wanted:
        return
    num_bytes = blob.stat().st_size
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)
    raise NotServed(
        f"{what} arrived damaged: {num_bytes:,} bytes with digest {found[:12]}, the hub's is {wanted[:12]}. "
        "It was removed from the cache; try again"
    )


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _git_sha1(file: Path) -> str:
    """git's name of a file's content; small files only, so it is read at once."""
    return _git_sha1_of(file.read_bytes())


def _git_sha1_of(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


def patiently(
    ask: Callable[[], T],
    passing: Callable[[Exception], bool],
    repo: str,
    revision: str | None,
    file: str | None = None,
    *,
    writing: bool = False,
) -> T:
    """Ask again after a passing fault.

    Args:
        ask: the question.
        passing: whether a fault may pass.
        repo: repository that is asked for.
        revision: revision that is asked for.
        file: file that is asked for.
        writing: whether something is to be written.

    Raises:
        NotServed: for any other fault, or when it does not pass.
    """
    for wait_s in (*_WAITS_S, None):
        try:
            return ask()
        except Exception as err:  # the client raises dozens of types, from requests, its own and the system
            if wait_s is None or not passing(err):
                raise NotServed(explain(err, repo, revision, file, writing=writing)) from err
            time.sleep(wait_s)
    raise AssertionError("the last try returns or raises")


def overloaded(err: Exception) -> bool:
    """A fault of the hub or of the line, where the client asks only once."""
    status = _status(err)
    if status is not None:
        return status >= 500 or status == 429
    return isinstance(err, OSError)  # the connection was refused, broken or too slow


def _broke_off(err: Exception) -> bool:
    """The line broke within a file. The client waits out other faults itself, not this; it goes on where it broke."""
    return type(err).__name__ == "ChunkedEncodingError"


def _status(err: BaseException | None) -> int | None:
    return getattr(getattr(err, "response", None), "status_code", None)


def _refused_writing(names: set[str], repo: str, status: int) -> str | None:
    """What a refused upload means, or None where it means the same as a refused download."""
    tokens = f"{endpoint()}/settings/tokens"
    if status == 401 or "LocalTokenNotFoundError" in names:
        return (
            f"{host()} knows no valid token of yours (401), and writing to {repo} needs one: make a token with write "
            f"access at {tokens}, then `hf auth login` or set HF_TOKEN"
        )
    if status == 403:
        return (
            f"{host()} forbids to write to {repo} (403): the token in use lacks write access to it; make one that has "
            f"it at {tokens}, or push to a repository below your own name"
        )
    return None


def explain(err: Exception, repo: str, revision: str | None, file: str | None = None, *, writing: bool = False) -> str:
    """What a fault of the hub's client means, in one sentence with the way out.

    Args:
        err: what was raised; its cause is looked at too, because the client wraps what the hub answered.
        repo: repository that was asked for.
        revision: revision that was asked for.
        file: file that was asked for.
        writing: whether something was to be written there.
    """
    chain: list[BaseException] = [err]
    while (deeper := chain[-1].__cause__ or chain[-1].__context__) is not None and deeper not in chain:
        chain.append(deeper)
    names = {type(one).__name__ for one in chain}
    if any("Invalid credentials" in str(one) for one in chain):
        return (
            f"{host()} does not know the token in use (401): make a new one at {endpoint()}/settings/tokens, then "
            "`hf auth login` or set HF_TOKEN (or unset it, to read what is public)"
        )
    if writing:
        refused = _refused_writing(names, repo, next((code for one in chain if (code := _status(one)) is not None), 0))
        if refused:
            return refused
    status = next((code for one in chain if (code := _status(one)) is not None), None)
    what = f"{file} of {repo}" if file else repo
    at = f"{repo}@{revision or 'main'}"
    if "RevisionNotFoundError" in names:
        return f"{repo} has no revision {revision!r}: correct it, or leave it out and let `xling data lock` find one"
    if "GatedRepoError" in names:
        return f"{repo} is gated: accept its terms at {host()}, then log in with `hf auth login` or set HF_TOKEN"
    if status == 401 or status == 403:
        return (
            f"{host()} refuses {what} ({status}): it is private, gated, or not there under this name; correct the "
            "name, or log in with `hf auth login` or HF_TOKEN"
        )
    if "EntryNotFoundError" in names or (status == 404 and file):
        return f"{at} has no file {file}"
    if "RepositoryNotFoundError" in names or status == 404:
        return f"{host()} knows no repository {repo!r}: correct the name, or log in if it is private"
    if status is not None:
        return f"{host()} answers {status} for {what}: a fault there; try again later"
    if "ChunkedEncodingError" in names:
        return f"the line to {host()} broke off within {what}; try again, it goes on where it broke"
    if "OfflineModeIsEnabled" in names:
        return f"{what} at {at} is not in the cache, and HF_HUB_OFFLINE forbids to ask for it"
    return f"{what}: {type(err).__name__}: {first_line(err)}"


def first_line(err: BaseException) -> str:
    """First line of an error's text."""
    return (str(err).strip().splitlines() or ["no reason given"])[0]


def shown(names: Sequence[str], limit: int = 5) -> str:
    """Some names as text, the rest as a count.

    >>> shown(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")


def cached_file(repo: str, file: str, *, revision: str | None, kind: Kind) -> Path | None:
    """A file in the local cache, or None; asks nobody."""
    from huggingface_hub import constants  # a quarter of a second less than what looks into a folder that is there

    if not (Path(constants.HF_HUB_CACHE) / f"{kind}s--{repo.replace('/', '--')}").is_dir():
        return None
    from huggingface_hub import try_to_load_from_cache

    found: Any = try_to_load_from_cache(repo, file, revision=revision, repo_type=kind)
    return Path(found) if isinstance(found, str) else None
