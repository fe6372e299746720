"""A model hub on this machine, spoken to by the real clients over real HTTP.

It keeps repositories as commits of files in memory and answers what `huggingface_hub`, `datasets` and `transformers`
ask: repository info, trees, paths, and files with ETag, size, commit, redirects of large files and byte ranges. Faults
are part of it. What a client asked for is kept in `requests`. Pushing (commits, uploads) would be further POST routes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

Kind = Literal["dataset", "model"]
LARGE = (".parquet", ".safetensors", ".bin")
"""Suffixes of files the hub keeps apart from git: a redirect, and a sha256 for an ETag."""


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def is_large(path: str) -> bool:
    return PurePosixPath(path).suffix in LARGE


def etag(path: str, data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if is_large(path) else git_sha1(data)


@dataclass
class Repo:
    """A repository: every commit's files, and which commit each branch or tag stands for."""

    kind: Kind
    name: str
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Mapping[str, bytes | str], *, branch: str = "main") -> str:
        """Add a commit that holds exactly these files; returns its name."""
        content = {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}
        text = json.dumps(
            [self.name, self.refs.get(branch), {path: etag(path, data) for path, data in content.items()}]
        )
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.commits[sha] = content
        self.refs[branch] = sha
        return sha

    def find(self, revision: str) -> str | None:
        found = self.refs.get(revision, revision)
        return found if found in self.commits else None


@dataclass
class Fault:
    """What goes wrong for requests whose path matches.

    Attributes:
        path: regular expression, searched in the path of the request.
        status: answer with this status instead.
        times: so many requests, then all is well again; None for ever.
        keep: serve only so many bytes of the file.
        honest: with `keep`, announce the short size (damage at the source); else the full one (the line breaks).
    """

    path: str
    status: int | None = None
    times: int | None = None
    keep: int | None = None
    honest: bool = False


class LoopbackHub:
    """The hub: `with LoopbackHub() as hub: hub.repo("o/n").commit({...})`, then `HF_ENDPOINT=hub.url`."""

    def __init__(self) -> None:
        self.repos: dict[tuple[Kind, str], Repo] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.hub = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> LoopbackHub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def repo(self, name: str, kind: Kind = "dataset") -> Repo:
        """A repository, made when it is not there."""
        return self.repos.setdefault((kind, name), Repo(kind, name))

    def fault(self, path: str, **how: Any) -> Fault:
        """Let something go wrong from now on."""
        self.faults.append(Fault(path, **how))
        return self.faults[-1]

    @contextlib.contextmanager
    def faulty(self, path: str, **how: Any) -> Iterator[Fault]:
        """Let something go wrong inside a `with`."""
        fault = self.fault(path, **how)
        try:
            yield fault
        finally:
            self.faults.remove(fault)

    def struck(self, path: str) -> Fault | None:
        """The fault a request meets, counted."""
        with self._lock:
            for fault in self.faults:
                if re.search(fault.path, path) and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub_prefix = re.compile(r"^/(?:(?P<kind>datasets|spaces)/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<rest>.+)$")
    api = re.compile(
        r"^/api/(?P<kind>datasets|models)/(?P<repo>[^/]+/[^/]+?)"
        r"(?:/(?P<verb>revision|tree|paths-info)/(?P<revision>[^/]+)(?:/(?P<path>.+))?)?$"
    )

    @property
    def hub(self) -> LoopbackHub:
        return self.server.hub  # type: ignore[attr-defined]

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(body=True, form=form)

    def _answer(self, *, body: bool, form: bytes = b"") -> None:
        self.body = body
        path = urlsplit(self.path).path
        if path == "/__requests":  # for clients in another process
            self._json(self.hub.requests)
            return
        self.hub.requests.append(f"{self.command} {path}")
        self.fault = self.hub.struck(path)
        if self.fault is not None and self.fault.status is not None:
            status = self.fault.status
            self._error(status, {401: "Invalid username or password."}.get(status, "a fault made for a test"))
        elif path.startswith("/large/"):
            self._bytes(path.split("/")[2], path.split("/")[3])
        elif found := self.api.match(path):
            self._api(form=form, **found.groupdict())
        elif found := self.hub_prefix.match(path):
            self._resolve(**found.groupdict())
        else:
            self._error(404, "no such route")

    # --- answers ---------------------------------------------------------------------------------------------------

    def _send(self, status: int, headers: Mapping[str, Any], data: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": len(data), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.body:
            self.wfile.write(data)

    def _json(self, value: Any) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _error(self, status: int, message: str, code: str = "", **headers: str) -> None:
        named = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **headers}
        data = json.dumps({"error": message}).encode()
        self._send(status, {"Content-Type": "application/json", **named}, data)

    # --- the API ---------------------------------------------------------------------------------------------------

    def _commit(self, kind: str | None, name: str, revision: str) -> tuple[Repo, str] | None:
        """The repository and commit asked for; answers with the hub's errors where there is none."""
        plain: Kind = "dataset" if kind == "datasets" else "model"
        repo = self.hub.repos.get((plain, name))
        if repo is None:
            self._error(404, "Repository not found", "RepoNotFound")
            return None
        commit = repo.find(unquote(revision))
        if commit is None:
            self._error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
            return None
        return repo, commit

    def _api(self, kind: str, repo: str, verb: str | None, revision: str | None, path: str | None, form: bytes) -> None:
        found = self._commit(kind, repo, revision or "main")
        if found is None:
            return
        files = found[0].commits[found[1]]
        if verb in (None, "revision"):
            siblings = [{"rfilename": name} for name in sorted(files)]
            known = {"id": repo, "sha": found[1], "private": False, "gated": False, "tags": [], "downloads": 0}
            self._json({**known, "siblings": siblings})
        elif verb == "tree":
            query = parse_qs(urlsplit(self.path).query)
            tree = self._tree(files, unquote(path or ""), query.get("recursive", ["false"])[0].lower() == "true")
            if tree:
                self._json(tree)
            else:
                self._error(404, f"{path} does not exist", "EntryNotFound")
        else:
            names = parse_qs(form.decode()).get("paths", [])
            every = self._tree(files, "", True)
            self._json([entry for entry in every if entry["path"] in names])

    @staticmethod
    def _tree(files: Mapping[str, bytes], below: str, recursive: bool) -> list[dict[str, Any]]:
        folders: set[str] = set()
        entries: list[dict[str, Any]] = []
        root = PurePosixPath(below)
        for name, data in sorted(files.items()):
            path = PurePosixPath(name)
            if below and root not in path.parents:
                continue
            inner = [str(parent) for parent in path.parents if parent != root and (not below or root in parent.parents)]
            folders |= {folder for folder in inner if folder != "."}
            if not recursive and path.parent != (root if below else PurePosixPath(".")):
                continue
            entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": git_sha1(data)}
            if is_large(name):
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            entries.append(entry)
        depth = len(root.parts) + 1 if below else 1
        for folder in sorted(folders):
            if recursive or len(PurePosixPath(folder).parts) == depth:
                oid = hashlib.sha1(folder.encode()).hexdigest()
                entries.append({"type": "directory", "path": folder, "size": 0, "oid": oid})
        return entries

    # --- files -----------------------------------------------------------------------------------------------------

    def _resolve(self, kind: str | None, repo: str, rest: str) -> None:
        revision, _, path = rest.partition("/")
        found = self._commit(kind, repo, revision)
        if found is None:
            return
        path, commit = unquote(path), found[1]
        data = found[0].commits[commit].get(path)
        if data is None:
            self._error(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": commit})
            return
        tag = etag(path, data)
        if is_large(path):
            size = self._announced(data)
            location = f"{self.hub.url}/large/{commit}/{tag}"
            linked = {"X-Linked-Etag": f'"{tag}"', "X-Linked-Size": size, "Location": location}
            self._send(HTTPStatus.FOUND, {"X-Repo-Commit": commit, "ETag": f'"{git_sha1(data)}"', **linked})
        else:
            self._file(data, {"X-Repo-Commit": commit, "ETag": f'"{tag}"'})

    def _announced(self, data: bytes) -> int:
        fault = self.fault
        return min(fault.keep, len(data)) if fault and fault.keep is not None and fault.honest else len(data)

    def _bytes(self, commit: str, tag: str) -> None:
        for repo in self.hub.repos.values():
            for path, data in repo.commits.get(commit, {}).items():
                if etag(path, data) == tag:
                    self.fault = self.fault or self.hub.struck(f"/large/{path}")
                    self._file(data, {"ETag": f'"{tag}"'})
                    return
        self._error(404, "no such object")

    def _file(self, data: bytes, headers: Mapping[str, Any]) -> None:
        """Send a file or the range of it that was asked for, with the fault that strikes it."""
        keep = self.fault.keep if self.fault else None
        full = data[: self._announced(data)]
        first, last, status, more = 0, len(full) - 1, 200, {}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked and full:
            first = int(asked[1])
            last = min(int(asked[2] or last), len(full) - 1)
            if first > last:
                self._error(416, "range not satisfiable", **{"Content-Range": f"bytes */{len(full)}"})
                return
            status, more = 206, {"Content-Range": f"bytes {first}-{last}/{len(full)}"}
        part = full[first : last + 1]
        sent = part if keep is None else full[first : max(first, min(last + 1, keep))]
        length = {"Content-Length": len(part), "Accept-Ranges": "bytes"}
        self._send(status, {"Content-Type": "application/octet-stream", **headers, **length, **more}, sent)
        if len(sent) < len(part):
            self.close_connection = True
