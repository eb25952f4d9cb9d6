"""A Hub on the loopback interface: real HTTP, spoken to by the real ``huggingface_hub`` client.

It keeps model repositories in memory: commits, branches, tags, LFS files, pull requests, gated and private
repositories, and failures on demand. Run as a script it serves until its command ends, for examples and
docs::

    python tests/hub/loopback.py -- python examples/share.py
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

Files = dict[str, bytes]
LFS_SUFFIXES = (".safetensors", ".pt")


@dataclass
class Repo:
    """One model repository; ``commits`` maps a hash to its files, ``refs`` a branch or tag to a hash."""

    private: bool = False
    gated: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, ref: str, files: Files) -> str:
        parent = self.refs.get(ref, "")
        sha = hashlib.sha1(parent.encode() + repr(sorted(files.items())).encode() + os.urandom(8)).hexdigest()
        self.commits[sha] = dict(files)
        self.refs[ref] = sha
        return sha

    def resolve(self, ref: str) -> str | None:
        return ref if ref in self.commits else self.refs.get(ref)


@dataclass
class Fault:
    """What ``times`` requests whose "METHOD /path" matches ``pattern`` get instead of their answer.

    Attributes:
        pattern: Regular expression.
        status: Of the answer, with ``Retry-After: retry_after`` seconds.
        kind: ``status`` answers with the status; ``cut`` sends half of the true body and closes the
            connection; ``drop`` closes it without an answer; ``silent`` takes the request and never answers;
            ``flip`` sends the true body with one bit changed.
        times: How often.
    """

    pattern: str
    status: int = 500
    kind: Literal["status", "cut", "drop", "silent", "flip"] = "status"
    times: int = 10**9
    retry_after: float = 0


class LoopbackHub:
    """The server; use as a context manager.

    ``requests`` lists what was asked, ``moments`` when, ``faults`` what is to fail, ``renamed`` maps old ids
    to new ones.
    """

    TOKEN = "hf_loopback"

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.renamed: dict[str, str] = {}
        self.stopped = threading.Event()
        self.lfs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.moments: list[float] = []
        self.faults: list[Fault] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def environment(self, home: str | os.PathLike[str]) -> dict[str, str]:
        """Variables for a client process: they must be set before ``huggingface_hub`` is imported."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": os.fspath(home),
            "HF_TOKEN": self.TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }

    def add(self, repo_id: str, files: Files, **flags: bool) -> str:
        """Create a repository holding ``files``; returns the commit's hash."""
        self.repos[repo_id] = Repo(**flags)
        return self.repos[repo_id].commit("main", files)

    def __enter__(self) -> LoopbackHub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


class _Answer(Exception):
    """Ends a request with this answer."""

    def __init__(
        self, status: int, body: Any = None, code: str = "", headers: dict[str, str] | None = None
    ) -> None:
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body if body is not None else {}).encode()
        self.headers = {**({"X-Error-Code": code} if code else {}), **(headers or {})}


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET

    def _serve(self) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.body = self._read_body()
        line = f"{self.command} {unquote(url.path)}"
        self.hub.requests.append(line)
        self.hub.moments.append(time.monotonic())
        fault = next((f for f in self.hub.faults if f.times > 0 and re.search(f.pattern, line)), None)
        try:
            if fault is not None:
                fault.times -= 1
                if fault.kind == "silent":
                    self.hub.stopped.wait(120)
                if fault.kind in ("silent", "drop"):
                    self.close_connection = True
                    return
                if fault.kind == "status":
                    after = {"Retry-After": f"{fault.retry_after:g}"}
                    raise _Answer(fault.status, {"error": "injected"}, headers=after)
            self._redirect(url.path)
            self._route(line)
            raise _Answer(404, {"error": f"no route {line}"})
        except _Answer as answer:
            self._send(answer, fault.kind if fault is not None else "status")

    def _redirect(self, path: str) -> None:
        """Send requests for a renamed repository to its new name, as the Hub does."""
        for old, new in self.hub.renamed.items():
            if re.search(rf"/{old}(?=[/.]|$)", path):
                raise _Answer(307, headers={"Location": self.path.replace(f"/{old}", f"/{new}", 1)})

    def _route(self, line: str) -> None:
        for pattern, action in _ROUTES:
            match = re.fullmatch(pattern, line)
            if match:
                action(self, **match.groupdict())

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, answer: _Answer, fault: str) -> None:
        self.send_response(answer.status)
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(answer.body)),
            **answer.headers,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        body, middle = answer.body, len(answer.body) // 2
        if fault == "flip" and body:
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        if self.command != "HEAD":
            self.wfile.write(body[:middle] if fault == "cut" else body)
        if fault == "cut":
            self.close_connection = True

    def _authorised(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.TOKEN}"

    def _repo(self, repo_id: str) -> Repo:
        repo = self.hub.repos.get(repo_id)
        if repo is None or (repo.private and not self._authorised()):
            raise _Answer(404, {"error": "Repository not found"}, "RepoNotFound")
        return repo

    def _commit(self, repo_id: str, ref: str) -> tuple[Repo, str]:
        repo = self._repo(repo_id)
        sha = repo.resolve(ref)
        if sha is None:
            raise _Answer(404, {"error": f"Invalid rev id: {ref}"}, "RevisionNotFound")
        return repo, sha

    # Reading.

    def info(self, repo_id: str, ref: str | None = None) -> None:
        repo, sha = self._commit(repo_id, ref or "main")
        siblings = [_sibling(name, data) for name, data in sorted(repo.commits[sha].items())]
        raise _Answer(
            200,
            {"id": repo_id, "modelId": repo_id, "sha": sha, "siblings": siblings, "private": repo.private},
        )

    def tree(self, repo_id: str, ref: str, under: str = "") -> None:
        repo, sha = self._commit(repo_id, ref)
        start = f"{under}/" if under else ""
        files = {name: data for name, data in repo.commits[sha].items() if name.startswith(start)}
        if under and not files:
            raise _Answer(404, {"error": f"{under} does not exist"}, "EntryNotFound")
        folders = {str(folder) for name in files for folder in PurePosixPath(name).parents}
        entries = [_folder(name) for name in sorted(folders) if name != "." and name.startswith(start)]
        entries += [_entry(name, data) for name, data in sorted(files.items())]
        if self.query.get("recursive", [""])[0].lower() != "true":
            entries = [each for each in entries if "/" not in each["path"][len(start) :]]
        raise _Answer(200, entries)

    def paths(self, repo_id: str, ref: str) -> None:
        repo, sha = self._commit(repo_id, ref)
        asked = parse_qs(self.body.decode()).get("paths", [])
        files = repo.commits[sha]
        raise _Answer(200, [_entry(name, files[name]) for name in asked if name in files])

    def resolve(self, repo_id: str, ref: str, name: str) -> None:
        repo, sha = self._commit(repo_id, ref)
        commit = {"X-Repo-Commit": sha}
        if repo.gated and not self._authorised():
            raise _Answer(403, {"error": "Access to model is restricted"}, "GatedRepo", commit)
        data = repo.commits[sha].get(name)
        if data is None:
            raise _Answer(404, {"error": "Entry not found"}, "EntryNotFound", commit)
        headers = {**commit, "ETag": f'"{_git_sha1(data)}"', "Content-Type": "application/octet-stream"}
        if name.endswith(LFS_SUFFIXES):
            headers |= {"X-Linked-Etag": f'"{_sha256(data)}"', "X-Linked-Size": str(len(data))}
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if start:
            offset = int(start[1])
            headers["Content-Range"] = f"bytes {offset}-{len(data) - 1}/{len(data)}"
            raise _Answer(206, data[offset:], headers=headers)
        raise _Answer(200, data, headers=headers)

    # Writing.

    def create(self) -> None:
        self._require_token()
        asked = json.loads(self.body)
        repo_id = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if repo_id in self.hub.repos:
            raise _Answer(
                409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{repo_id}"}
            )
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.add(repo_id, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=private)
        raise _Answer(200, {"url": f"{self.hub.url}/{repo_id}", "name": repo_id})

    def ref(self, repo_id: str, name: str) -> None:
        """Create a branch from main, or a tag (named in the body) on a revision."""
        self._require_token()
        asked = json.loads(self.body or b"{}")
        start = name if "tag" in asked else asked.get("startingPoint", "main")
        repo, sha = self._commit(repo_id, start)
        target = asked.get("tag", name)
        if target in repo.refs:
            raise _Answer(409, {"error": "Reference already exists"})
        repo.refs[target] = sha
        raise _Answer(200)

    def validate(self) -> None:
        raise _Answer(200, {"errors": [], "warnings": []})

    def preupload(self, repo_id: str, ref: str) -> None:
        self._require_token()
        repo, sha = self._commit(repo_id, ref)
        held = repo.commits[sha]
        answers = []
        for file in json.loads(self.body)["files"]:
            lfs = file["path"].endswith(LFS_SUFFIXES)
            data = held.get(file["path"])
            oid = None if data is None else _sha256(data) if lfs else _git_sha1(data)
            mode = "lfs" if lfs else "regular"
            answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        raise _Answer(200, {"files": answers})

    def lfs_batch(self, repo_id: str) -> None:
        self._require_token()
        self._repo(repo_id)
        objects = []
        for item in json.loads(self.body)["objects"]:
            answer = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.hub.lfs:
                answer["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}", "header": {}}}
            objects.append(answer)
        raise _Answer(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if _sha256(self.body) != oid:
            raise _Answer(400, {"error": "hash mismatch"})
        self.hub.lfs[oid] = self.body
        raise _Answer(200)

    def commit(self, repo_id: str, ref: str) -> None:
        self._require_token()
        repo, sha = self._commit(repo_id, ref)
        files = dict(repo.commits[sha])
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header" and value.get("parentCommit", sha) != sha:
                raise _Answer(412, {"error": "A commit has happened since. Please refresh and try again."})
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            if item["key"] == "lfsFile":
                files[value["path"]] = self.hub.lfs[value["oid"]]
        answer: dict[str, Any] = {"success": True}
        if "create_pr" in self.query:
            number = sum(name.startswith("refs/pr/") for name in repo.refs) + 1
            ref = f"refs/pr/{number}"
            repo.refs[ref] = sha
            answer["pullRequestUrl"] = f"{self.hub.url}/{repo_id}/discussions/{number}"
        new = repo.commit(ref, files)
        raise _Answer(
            200, {**answer, "commitOid": new, "commitUrl": f"{self.hub.url}/{repo_id}/commit/{new}"}
        )

    def _require_token(self) -> None:
        if not self._authorised():
            raise _Answer(401, {"error": "Invalid credentials in Authorization header"})


_ID = r"(?P<repo_id>[^/]+/[^/]+)"
_ROUTES: list[tuple[str, Callable[..., None]]] = [
    ("POST /api/repos/create", _Handler.create),
    ("POST /api/validate-yaml", _Handler.validate),
    (rf"GET /api/models/{_ID}", _Handler.info),
    (rf"GET /api/models/{_ID}/revision/(?P<ref>.+)", _Handler.info),
    (rf"GET /api/models/{_ID}/tree/(?P<ref>.+)", _Handler.tree),
    (rf"GET /api/datasets/{_ID}", _Handler.info),
    (rf"GET /api/datasets/{_ID}/revision/(?P<ref>.+)", _Handler.info),
    (rf"GET /api/datasets/{_ID}/tree/(?P<ref>[^/]+)", _Handler.tree),
    (rf"GET /api/datasets/{_ID}/tree/(?P<ref>[^/]+)/(?P<under>.+)", _Handler.tree),
    (rf"POST /api/datasets/{_ID}/paths-info/(?P<ref>.+)", _Handler.paths),
    (rf"(?:HEAD|GET) /datasets/{_ID}/resolve/(?P<ref>[^/]+|refs/pr/\d+)/(?P<name>.+)", _Handler.resolve),
    (rf"POST /api/models/{_ID}/(?:branch|tag)/(?P<name>.+)", _Handler.ref),
    (rf"POST /api/models/{_ID}/preupload/(?P<ref>.+)", _Handler.preupload),
    (rf"POST /api/models/{_ID}/commit/(?P<ref>.+)", _Handler.commit),
    (rf"POST /{_ID}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    (r"PUT /lfs/(?P<oid>\w+)", _Handler.lfs_put),
    (rf"(?:HEAD|GET) /{_ID}/resolve/(?P<ref>[^/]+|refs/pr/\d+)/(?P<name>.+)", _Handler.resolve),
]


def _folder(name: str) -> dict[str, Any]:
    return {"type": "directory", "path": name, "size": 0, "oid": _git_sha1(name.encode())}


def _entry(name: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": _git_sha1(data)}
    if name.endswith(LFS_SUFFIXES):
        entry["lfs"] = {"oid": _sha256(data), "size": len(data), "pointerSize": 130}
    return entry


def _sibling(name: str, data: bytes) -> dict[str, Any]:
    sibling: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": _git_sha1(data)}
    if name.endswith(LFS_SUFFIXES):
        sibling["lfs"] = {"sha256": _sha256(data), "size": len(data), "pointerSize": 130}
    return sibling


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main(arguments: list[str]) -> int:
    """Serve while the command after ``--`` runs with the client's variables set."""
    import tempfile

    command = arguments[arguments.index("--") + 1 :]
    with LoopbackHub() as hub, tempfile.TemporaryDirectory() as home:
        return subprocess.run(command, env={**os.environ, **hub.environment(home)}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
