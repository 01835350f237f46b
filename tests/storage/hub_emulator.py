"""The Hugging Face Hub's API over real HTTP, as its documentation and the LFS specification tell it: create, preupload, LFS, commit.

It keeps what it is sent by its real hashes. ``faults`` make it lie or refuse; ``seen`` is every request's method and path.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "hf_emulated"
CHUNK = 1 << 20
"""Files above it go in parts of this size, as large ones do there."""


@dataclass(slots=True)
class Repo:
    """One repository: its files, their LFS hash where they are large, its commits."""

    name: str
    private: bool
    files: dict[str, tuple[bytes, bool]] = field(default_factory=dict)
    """Of main."""
    commits: list[str] = field(default_factory=lambda: ["0" * 40])
    branches: dict[str, dict[str, tuple[bytes, bool]]] = field(default_factory=dict)
    """Beside main."""
    snapshots: dict[str, dict[str, tuple[bytes, bool]]] = field(default_factory=dict)
    """By commit."""

    def at(self, revision: str) -> dict[str, tuple[bytes, bool]] | None:
        """Return the files of a branch or commit, None where there is none."""
        if revision == "main" or revision == self.commits[0]:
            return self.files
        return self.branches.get(revision, self.snapshots.get(revision))


@dataclass
class HubEmulator:
    """What runs, and what it knows."""

    server: ThreadingHTTPServer
    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    """Status by a word of the path (answered once for each entry of the count in ``times``)."""
    times: dict[str, int] = field(default_factory=dict)
    forgets: set[str] = field(default_factory=set)
    """Paths that a commit takes and does not keep."""
    spoils: set[str] = field(default_factory=set)
    """Paths of which paths-info tells another hash."""
    seen: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


def start() -> HubEmulator:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    emulator = HubEmulator(server)
    server.emulator = emulator  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return emulator


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    @property
    def hub(self) -> HubEmulator:
        return self.server.emulator  # type: ignore[attr-defined,no-any-return]

    def _answer(self, method: str) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        with self.hub.lock:
            self.hub.seen.append((method, path))
            for word, status in self.hub.faults.items():
                if word in path and self.hub.times.get(word, 1 << 30) > 0:
                    self.hub.times[word] = self.hub.times.get(word, 1 << 30) - 1
                    return self._send(status, {"error": f"emulated {status}"})
            if path.startswith("/lfs-storage/") and method == "PUT":
                return self._store(path, body)
            if self.headers.get("Authorization") != f"Bearer {TOKEN}" and not path.startswith("/lfs-complete/"):
                return self._send(401, {"error": "Invalid username or password."})
            if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                return self._resolve(method, match)
            self._send(*self._route(method, path, body))

    def _route(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return 200, {"warnings": [], "errors": []}
        if path.startswith("/lfs-complete/"):
            said, oid = json.loads(body), path.rpartition("/")[2]
            parts = self.hub.parts.pop(oid)
            assert [part["partNumber"] for part in said["parts"]] == sorted(parts) and said["oid"] == oid
            return self._keep(oid, b"".join(parts[number] for number in sorted(parts)))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit|paths-info|tree|branch)/([^/]+)", path):
            repo = self.hub.repos.get(match[1])
            if repo is None:
                return 404, {"error": "Repository not found"}
            if match[2] == "branch":
                return self._branch(repo, match[3])
            if (tree := repo.at(match[3])) is None:
                return 404, {"error": f"Invalid rev id: {match[3]}"}
            answer: tuple[int, Any] = getattr(self, "_" + match[2].replace("-", "_"))(repo, tree, body)
            return answer
        if match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self._batch(json.loads(body))
        if path == "/lfs-verify":
            said = json.loads(body)
            right = len(self.hub.objects.get(said["oid"], b"")) == said["size"]
            return (200, {}) if right else (404, {"error": "no such object"})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/[^/]+)?", path):
            repo = self.hub.repos.get(match[1])
            return self._info(match[1], repo) if repo else (404, {})
        return 404, {"error": f"no route {method} {path}"}

    def _info(self, name: str, repo: Repo) -> tuple[int, Any]:
        siblings = [{"rfilename": path} for path in repo.files]
        return 200, {"id": name, "sha": repo.commits[-1], "private": repo.private, "tags": [], "siblings": siblings}

    def _create(self, said: dict[str, Any]) -> tuple[int, Any]:
        name = f"{said['organization']}/{said['name']}"
        url = {"url": f"{self.hub.endpoint}/{name}"}
        if said["organization"] == "not-ours":
            return 403, {"error": "You don't have the rights to create a model under the namespace"}
        if name in self.hub.repos:
            return 409, {"error": "You already created this model repo", **url}
        self.hub.repos[name] = Repo(name, said.get("visibility") == "private" or said.get("private") is True)
        return 200, url

    def _preupload(self, repo: Repo, tree: dict[str, tuple[bytes, bool]], body: bytes) -> tuple[int, Any]:
        files = []
        for one in json.loads(body)["files"]:
            large = one["size"] > 100_000 or one["path"].endswith((".safetensors", ".bin"))
            answer: dict[str, Any] = {"path": one["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            if (there := tree.get(one["path"])) is not None:
                answer["oid"] = hashlib.sha256(there[0]).hexdigest() if there[1] else blob_id(there[0])
            files.append(answer)
        return 200, {"files": files}

    def _batch(self, said: dict[str, Any]) -> tuple[int, Any]:
        assert said["operation"] == "upload" and "basic" in said["transfers"]
        objects = []
        for one in said["objects"]:
            answer = {"oid": one["oid"], "size": one["size"]}
            base = self.hub.endpoint
            if one["oid"] in self.hub.objects:
                objects.append(answer)
                continue
            upload: dict[str, Any] = {"href": f"{base}/lfs-storage/{one['oid']}"}
            if one["size"] > CHUNK:
                count = -(-one["size"] // CHUNK)
                parts = {f"{number:05}": f"{base}/lfs-storage/{one['oid']}?part={number}" for number in range(1, count + 1)}
                upload = {"href": f"{base}/lfs-complete/{one['oid']}", "header": {"chunk_size": str(CHUNK), **parts}}
            objects.append({**answer, "actions": {"upload": upload, "verify": {"href": f"{base}/lfs-verify"}}})
        return 200, {"transfer": "basic", "objects": objects}

    def _store(self, path: str, body: bytes) -> None:
        oid, part = path.rpartition("/")[2], parse_qs(urlsplit(self.path).query).get("part")
        if part:
            self.hub.parts.setdefault(oid, {})[int(part[0])] = body
            return self._send(200, {}, etag=f'"{hashlib.md5(body).hexdigest()}"')
        self._send(*self._keep(oid, body))

    def _keep(self, oid: str, content: bytes) -> tuple[int, Any]:
        if hashlib.sha256(content).hexdigest() != oid:
            return 400, {"error": "sha256 mismatch"}
        self.hub.objects[oid] = content
        return 200, {}

    def _commit(self, repo: Repo, tree: dict[str, tuple[bytes, bool]], body: bytes) -> tuple[int, Any]:
        head, *rest = [json.loads(line) for line in body.splitlines()]
        assert head["key"] == "header" and head["value"]["summary"]
        for line in rest:
            value = line["value"]
            if line["key"] == "deletedFile":
                del tree[value["path"]]
                continue
            if line["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    return 400, {"error": "LFS pointer pointed to a file that does not exist"}
                content, large = self.hub.objects[value["oid"]], True
            else:
                content, large = base64.b64decode(value["content"]), False
            if value["path"] not in self.hub.forgets:
                tree[value["path"]] = (content, large)
        repo.commits.append(hashlib.sha1(body + repo.commits[-1].encode()).hexdigest())
        repo.snapshots[repo.commits[-1]] = dict(tree)
        return 200, {
            "success": True,
            "commitOid": repo.commits[-1],
            "commitUrl": f"{self.hub.endpoint}/{repo.name}/commit/{repo.commits[-1]}",
        }

    def _branch(self, repo: Repo, name: str) -> tuple[int, Any]:
        if name in repo.branches:
            return 409, {"error": "Reference already exists"}
        repo.branches[name] = dict(repo.files)
        return 201, {}

    def _tree(self, repo: Repo, tree: dict[str, tuple[bytes, bool]], body: bytes) -> tuple[int, Any]:
        return 200, [self._told(path, *one) for path, one in tree.items()]

    def _paths_info(self, repo: Repo, tree: dict[str, tuple[bytes, bool]], body: bytes) -> tuple[int, Any]:
        return 200, [self._told(path, *tree[path]) for path in parse_qs(body.decode()).get("paths", []) if path in tree]

    def _told(self, path: str, content: bytes, large: bool) -> dict[str, Any]:
        spoilt = b"!" if path in self.hub.spoils else b""
        info: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob_id(content + spoilt)}
        if large:
            info["lfs"] = {"oid": hashlib.sha256(content + spoilt).hexdigest(), "size": len(content), "pointerSize": 134}
        return info

    def _resolve(self, method: str, match: re.Match[str]) -> None:
        repo = self.hub.repos.get(match[1])
        tree = repo.at(match[2]) if repo else None
        if repo is None or tree is None or match[3] not in tree:
            what = "RepoNotFound" if repo is None else "RevisionNotFound" if tree is None else "EntryNotFound"
            return self._send(404, {"error": "not found"}, headers={"X-Error-Code": what})
        content, large = tree[match[3]]
        self.send_response(200)
        tag = hashlib.sha256(content).hexdigest() if large else blob_id(content)
        commit = match[2] if match[2] in repo.snapshots else repo.commits[-1]
        for name, value in (("ETag", f'"{tag}"'), ("X-Repo-Commit", commit), ("Content-Length", str(len(content)))):
            self.send_header(name, value)
        self.end_headers()
        if method == "GET":
            self.wfile.write(content)

    def _send(self, status: int, value: Any, *, etag: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, one in {**(headers or {}), **({"ETag": etag} if etag else {})}.items():
            self.send_header(name, one)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
