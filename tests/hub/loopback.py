"""A model hub on this machine, spoken to by the real clients over real HTTP.

It keeps repositories as commits of files in memory and answers what `huggingface_hub`, `datasets` and `transformers`
ask: repository info, trees, paths, and files with ETag, size, commit, redirects of large files and byte ranges. Faults
are part of it. What a client asked for is kept in `requests`. It takes uploads as the hub does: large files first, each
to the address it was given, then one commit that names them. Tokens say who may read what is private and who may write.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

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
    private: bool = False
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
        keep: serve only so many bytes of the file; of an upload, take only so many and hang up.
        method: only requests of this method.
        deaf: do what was asked, then hang up without an answer.
        honest: with `keep`, announce the short size (damage at the source); else the full one (the line breaks).
    """

    path: str
    status: int | None = None
    times: int | None = None
    keep: int | None = None
    honest: bool = False
    method: str | None = None
    deaf: bool = False


class LoopbackHub:
    """The hub: `with LoopbackHub() as hub: hub.repo("o/n").commit({...})`, then `HF_ENDPOINT=hub.url`."""

    def __init__(self) -> None:
        self.repos: dict[tuple[Kind, str], Repo] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.tokens: dict[str, str] = {}
        """token -> "read" or "write"; an unknown one is refused everywhere."""
        self.objects: dict[str, bytes] = {}
        """Large files that were uploaded, by sha256, whether or not a commit names them."""
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

    def struck(self, path: str, method: str | None = None) -> Fault | None:
        """The fault a request meets, counted."""
        with self._lock:
            for fault in self.faults:
                if fault.method not in (None, method):
                    continue
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

    def do_PUT(self) -> None:
        """Take a large file, or as much of it as a fault lets through."""
        self.body = True
        path = urlsplit(self.path).path
        self.hub.requests.append(f"PUT {path}")
        fault = self.hub.struck(path, "PUT")
        size = int(self.headers.get("Content-Length") or 0)
        if fault is not None and fault.keep is not None:
            self.rfile.read(min(size, fault.keep))
            self._hang_up()
            return
        data = self.rfile.read(size)
        if fault is not None and fault.status is not None:
            self._error(fault.status, "a fault made for a test")
            return
        self.hub.objects[hashlib.sha256(data).hexdigest()] = data
        self._send(200, {})

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, *, body: bool, form: bytes = b"") -> None:
        self.body = body
        path = urlsplit(self.path).path
        if path == "/__requests":  # for clients in another process
            self._json(self.hub.requests)
            return
        self.hub.requests.append(f"{self.command} {path}")
        self.fault = self.hub.struck(path, self.command)
        if self.fault is not None and self.fault.status is not None:
            status = self.fault.status
            self._error(status, {401: "Invalid username or password."}.get(status, "a fault made for a test"))
        elif self._role() == "unknown":
            self._error(401, "Invalid credentials in Authorization header")
        elif self.command == "POST" and self._take(path, form):
            pass
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

    # --- who asks ----------------------------------------------------------------------------------------------------

    def _role(self) -> str:
        """What the token of a request allows: "write", "read", "nobody" without one, "unknown" for a wrong one."""
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return self.hub.tokens.get(given, "unknown") if given else "nobody"

    def _may_write(self) -> bool:
        if self._role() == "write":
            return True
        if self._role() == "read":
            self._error(403, "Forbidden: you must use a write token")
        else:
            self._error(401, "Invalid username or password.")
        return False

    # --- uploads -----------------------------------------------------------------------------------------------------

    writes = re.compile(
        r"^/api/models/(?P<repo>[^/]+/[^/]+)/(?P<verb>preupload|commit)/(?P<revision>[^/]+)$"
        r"|^/(?P<git>[^/]+/[^/]+)[.]git/info/lfs/objects/batch$|^/api/(?P<plain>validate-yaml|repos/create)$"
    )

    def _take(self, path: str, form: bytes) -> bool:
        """Answer a request that writes; False for one that does not."""
        found = self.writes.match(path)
        if found is None:
            return False
        if found["plain"] == "validate-yaml":
            self._validate_yaml(json.loads(form)["content"])
        elif self._may_write():
            if found["plain"]:
                self._create(json.loads(form))
                return True
            there = self._commit("models", found["repo"] or found["git"], found["revision"] or "main")
            if there is None:
                return True
            if found["git"]:
                self._batch(json.loads(form))
            elif found["verb"] == "preupload":
                self._preupload(there[0].commits[there[1]], json.loads(form))
            else:
                self._add_commit(there[0], unquote(found["revision"]), form)
        return True

    def _validate_yaml(self, content: str) -> None:
        parts = content.split("---\n")
        try:
            head = yaml.safe_load(parts[1]) if content.startswith("---\n") else {}
            errors = [] if isinstance(head.get("license", ""), str) else [{"message": "license must be a string"}]
        except (yaml.YAMLError, IndexError, AttributeError) as err:
            errors = [{"message": str(err)}]
        data = json.dumps({"errors": errors, "warnings": []}).encode()
        self._send(400 if errors else 200, {"Content-Type": "application/json"}, data)

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if ("model", name) in self.hub.repos:
            self._error(409, "You already created this model repo")
            return
        made = self.hub.repo(name, "model")
        made.private = bool(wanted.get("private"))
        made.commit({".gitattributes": "*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        self._json({"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def _preupload(self, files: Mapping[str, bytes], wanted: dict[str, Any]) -> None:
        ignored = files.get(".gitignore", b"").decode().split()
        answers = [
            {
                "path": one["path"],
                "uploadMode": "lfs" if is_large(one["path"]) else "regular",
                "shouldIgnore": any(PurePosixPath(one["path"]).match(pattern) for pattern in ignored),
            }
            for one in wanted["files"]
        ]
        self._json({"files": answers})

    def _batch(self, wanted: dict[str, Any]) -> None:
        objects = []
        for one in wanted["objects"]:
            answer = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.objects:
                answer["actions"] = {"upload": {"href": f"{self.hub.url}/upload/{one['oid']}", "header": {}}}
            objects.append(answer)
        self._json({"transfer": "basic", "objects": objects})

    def _add_commit(self, repo: Repo, branch: str, form: bytes) -> None:
        """One commit on a branch: all of it, or an error and nothing."""
        lines = [json.loads(line) for line in form.splitlines() if line.strip()]
        head = next(line["value"] for line in lines if line["key"] == "header")
        if branch not in repo.refs:
            self._error(404, f"Invalid rev id: {branch}", "RevisionNotFound")
            return
        if head.get("parentCommit") not in (None, repo.refs[branch]):
            self._error(412, "A commit has happened since. Please refresh and try again.")
            return
        files: dict[str, bytes] = dict(repo.commits[repo.refs[branch]])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    self._error(400, f"LFS pointer pointed to a file that does not exist: {value['oid']}")
                    return
                files[value["path"]] = self.hub.objects[value["oid"]]
        commit = repo.commit(files, branch=branch)
        if self.fault is not None and self.fault.deaf:
            self._hang_up()
            return
        self._json({"commitUrl": f"{self.hub.url}/{repo.name}/commit/{commit}", "commitOid": commit, "success": True})

    # --- the API ---------------------------------------------------------------------------------------------------

    def _commit(self, kind: str | None, name: str, revision: str) -> tuple[Repo, str] | None:
        """The repository and commit asked for; answers with the hub's errors where there is none."""
        plain: Kind = "dataset" if kind == "datasets" else "model"
        repo = self.hub.repos.get((plain, name))
        if repo is None or (repo.private and self._role() not in ("read", "write")):
            if self._role() == "nobody" and self.hub.tokens:  # the hub does not tell strangers what there is
                self._error(401, "Invalid username or password.", "RepoNotFound")
            else:
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
            known = {
                "id": repo,
                "sha": found[1],
                "private": found[0].private,
                "gated": False,
                "tags": [],
                "downloads": 0,
            }
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
