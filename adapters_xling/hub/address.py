"""Where a shared zoo is: what people write, taken apart. Nothing is asked or loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from adapters_xling import hub_files
from adapters_xling.errors import HubError, unknown

HUGGING_FACE = "hf"
FOLDER = "file"
_PROTOCOLS: dict[str, str] = {
    FOLDER: "",
    "memory": "",
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "sftp": "paramiko",
}
"""Protocols of fsspec that hold files, and the package each needs. Others (archives, caches, code) are not offered."""
READ_ONLY = ("http", "https")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,199}", re.ASCII)
FORMS = "hf://owner/repository, hf://owner/repository@revision, s3://bucket/folder, https://host/folder, or a folder"


@dataclass(frozen=True, kw_only=True)
class Address:
    """A shared zoo's place.

    Attributes:
        protocol: `hf`, `file`, or another protocol of fsspec.
        path: repository for `hf`, else everything fsspec needs (an absolute folder, or the whole URL).
        revision: branch, tag or commit of a repository; None elsewhere, and where none was written.
    """

    protocol: str
    path: str
    revision: str | None = None

    def __str__(self) -> str:
        if self.protocol == HUGGING_FACE:
            return f"hf://{self.path}" + (f"@{self.revision}" if self.revision else "")
        return self.path

    @property
    def package(self) -> str:
        """Package its protocol needs beside fsspec; empty for none."""
        return _PROTOCOLS.get(self.protocol, "")


def parse(where: str) -> Address:
    """Read a place as people write it.

    Raises:
        HubError: for a repository name, revision or URL that cannot be one.
        UnknownName: for a protocol that is not offered.

    >>> parse("hf://me/mnli-lora@v1")
    Address(protocol='hf', path='me/mnli-lora', revision='v1')
    >>> parse("s3://bucket/zoo/").path
    's3://bucket/zoo'
    """
    if not where.strip() or any(ord(char) < 32 for char in where):
        raise HubError(f"{where!r} is no place of a zoo; valid: {FORMS}")
    protocol, sign, rest = where.partition("://")
    if not sign and (found := re.fullmatch(r"hf:/?(.+)", where, re.IGNORECASE)):
        raise HubError(f"{where!r}: for the model hub write hf://{found[1]}; for a folder of this name ./{where}")
    if not sign:
        return Address(protocol=FOLDER, path=str(Path(where).expanduser().absolute()))
    protocol = protocol.lower()
    if protocol == HUGGING_FACE:
        return _repository(where, rest)
    if protocol not in _PROTOCOLS:
        raise unknown("protocol", protocol, (HUGGING_FACE, *_PROTOCOLS), FORMS)
    if "::" in where:
        raise HubError(f"{where!r}: chained addresses (::) are not followed; valid: {FORMS}")
    if protocol == FOLDER:
        return Address(protocol=FOLDER, path=str(Path(rest).absolute()))
    if "@" in urlsplit(where).netloc and protocol in READ_ONLY:
        raise HubError(
            f"{protocol}://…@…: an address must hold no password, for it is shown and kept in logs; give it to the "
            "client's own configuration (~/.netrc, or its environment variables)"
        )
    host, _, page = rest.strip("/").partition("/")
    if protocol in READ_ONLY and host in _model_hubs() and _REPO.fullmatch(page):
        raise HubError(f"{where!r} is a page about a repository of the model hub: write hf://{page}")
    if not rest.strip("/"):
        raise HubError(f"{where!r} names no host, bucket or folder; valid: {FORMS}")
    return Address(protocol=protocol, path=f"{protocol}://{rest.rstrip('/')}")


def hint(where: str) -> str:
    """How to name a repository of the model hub, for a text that is taken for a folder, names none that is there, and
    looks like a repository's name; empty for any other."""
    name = where.strip()
    for host in _model_hubs():
        name = name.removeprefix(f"{host}/")
    if not _REPO.fullmatch(name) or Path(where).exists() or Path(where).parent.is_dir():
        return ""
    return f"{where} is taken for a folder; for the model hub write hf://{name}"


def _model_hubs() -> tuple[str, ...]:
    return (hub_files.host(), "huggingface.co", "hf.co")


def _repository(where: str, rest: str) -> Address:
    repo, sign, revision = rest.strip("/").partition("@")
    if not _REPO.fullmatch(repo) or ".." in repo or "--" in repo:
        raise HubError(f"{where!r}: {repo!r} is no repository's name; valid: hf://owner/repository")
    if sign and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise HubError(f"{where!r}: {revision!r} is no branch, tag or commit")
    return Address(protocol=HUGGING_FACE, path=repo, revision=revision or None)
