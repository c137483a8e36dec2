"""A hub on 127.0.0.1: what huggingface_hub asks of the real one, for repositories that lie in folders, with
faults to switch on.

Model info, file tree, and files by commit or branch: HEAD and GET with ETag, X-Repo-Commit, X-Linked-Size and
Range. Large files are redirected to a content-addressed store, as the real hub does with its CDN.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".pth")  # kept in LFS by the real hub
API = re.compile(
    r"/api/models/(?P<repo>[^/]+/[^/]+?)(/revision/(?P<revision>[^/]+)|/tree/(?P<tree>[^/]+)|(?P<discussions>/discussions))?/?"
)
RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


@dataclass
class Faults:
    """What goes wrong now, for every repository."""

    status: int | None = None  # answer everything with it
    missing_files: bool = False  # announced, but not there
    cut_after: int | None = None  # bytes after which the body of a large file breaks off ...
    cuts: int = 10**9  # ... so many times
    cut_silently: bool = False  # say that the part is the whole
    damage: bool = False  # right length, wrong bytes
    busy: int = 0  # answer 503 to the next so many requests for a file
    delay: float = 0.0  # seconds before each 16 KiB of a large file's body


@dataclass
class Repository:
    revisions: dict[str, Path]  # by branch or tag, or by a commit that is to be had under just that hash
    gated: bool = False
    token: str | None = None  # who reads it must show it

    def commit(self, revision: str) -> tuple[str, Path] | None:
        commits = {_commit(folder): folder for folder in self.revisions.values()}
        if revision in self.revisions:
            folder = self.revisions[revision]
            return revision if re.fullmatch("[0-9a-f]{40}", revision) else _commit(folder), folder
        return (revision, commits[revision]) if revision in commits else None


@dataclass
class Hub:
    repositories: dict[str, Repository] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # method, path, headers
    url: str = ""

    def add(self, name: str, folder: Path, **options: Any) -> None:
        self.repositories[name] = Repository({"main": folder}, **options)

    def files_read(self) -> list[str]:
        return [
            path.rpartition("/")[2]
            for method, path, _ in self.requests
            if method == "GET" and "/resolve/" in path
        ]

    def blob(self, digest: str) -> Path | None:
        for repository in self.repositories.values():
            for folder in repository.revisions.values():
                for path in files(folder):
                    if path.suffix in LARGE and sha256(path) == digest:
                        return path
        return None


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _commit(folder: Path) -> str:
    content = "".join(
        f"{path.relative_to(folder)} {path.stat().st_size} {path.stat().st_mtime_ns}\n"
        for path in files(folder)
    )
    return hashlib.sha1(content.encode(), usedforsecurity=False).hexdigest()


def _git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@contextmanager
def serve(hub: Hub | None = None) -> Iterator[Hub]:
    """Runs a hub on a free port until the block ends; `hub.url` is for HF_ENDPOINT."""
    hub = hub or Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path  # quoted: a revision may hold slashes, refs/pr/1
        self.hub.requests.append((self.command, path, dict(self.headers)))
        if self.hub.faults.status:
            self._refuse(self.hub.faults.status)
        elif path.startswith("/store/"):
            self._large_file(path.removeprefix("/store/"))
        elif match := RESOLVE.fullmatch(path):
            self._resolve(match["repo"], unquote(match["revision"]), unquote(match["file"]))
        elif (match := API.fullmatch(path)) and match["discussions"]:
            self._discussions(match["repo"])
        elif match:
            self._api(
                match["repo"], unquote(match["revision"] or match["tree"] or "main"), bool(match["tree"])
            )
        else:
            self._refuse(404)

    def _found(self, name: str, revision: str) -> tuple[Repository, str, Path] | None:
        """The repository, commit and folder; or answers as the real hub does where one is missing."""
        repository = self.hub.repositories.get(name)
        authorised = repository and (
            repository.token is None or self.headers.get("Authorization") == f"Bearer {repository.token}"
        )
        if not repository or (not authorised and not repository.gated):
            self._refuse(404 if self.headers.get("Authorization") else 401, "RepoNotFound")
            return None
        found = repository.commit(revision)
        if not found:
            self._refuse(404, "RevisionNotFound")
            return None
        return repository, *found

    def _api(self, name: str, revision: str, tree: bool) -> None:
        found = self._found(name, revision)
        if not found:
            return
        repository, commit, folder = found
        names = [path.relative_to(folder).as_posix() for path in files(folder)]
        info: Any = {
            "id": name,
            "modelId": name,
            "sha": commit,
            "private": False,
            "gated": repository.gated and "manual",
            "tags": [],
        }
        info["siblings"] = [{"rfilename": file} for file in names]
        self._send(
            200,
            json.dumps([self._entry(folder / file, file) for file in names] if tree else info).encode(),
            "application/json",
        )

    def _discussions(self, name: str) -> None:
        found = self._found(name, "main")
        if not found:
            return
        offers = [revision for revision in found[0].revisions if revision.startswith("refs/pr/")]
        listed = [
            {
                "num": int(revision.rpartition("/")[2]),
                "title": "Adding `safetensors` variant of this model",
                "status": "open",
                "author": {"name": "SFconvertbot"},
                "isPullRequest": True,
                "createdAt": "2023-03-21T12:00:00.000Z",
                "repo": {"name": name, "type": "model"},
            }
            for revision in offers
        ]
        self._send(
            200,
            json.dumps({"discussions": listed, "count": len(listed), "start": 0}).encode(),
            "application/json",
        )

    @staticmethod
    def _entry(path: Path, name: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": name, "size": path.stat().st_size}
        if path.suffix in LARGE:
            return {
                **entry,
                "oid": "0" * 40,
                "lfs": {"oid": sha256(path), "size": entry["size"], "pointerSize": 134},
            }
        return {**entry, "oid": _git_blob(path.read_bytes())}

    def _resolve(self, name: str, revision: str, file: str) -> None:
        if self.hub.faults.busy > 0:
            self.hub.faults.busy -= 1
            return self._refuse(503)
        found = self._found(name, revision)
        if not found:
            return
        repository, commit, folder = found
        if repository.gated and self.headers.get("Authorization") != f"Bearer {repository.token}":
            return self._refuse(403 if self.headers.get("Authorization") else 401, "GatedRepo")
        path = folder / file
        if not path.is_file() or self.hub.faults.missing_files:
            return self._refuse(404, "EntryNotFound")
        if path.suffix in LARGE:
            digest = sha256(path)
            headers = {
                # Another host, so no token is sent there.
                "Location": f"{self.hub.url.replace('127.0.0.1', 'localhost')}/store/{digest}",
                "X-Linked-Size": str(path.stat().st_size),
                "X-Linked-ETag": f'"{digest}"',
                "ETag": f'"{digest}"',
                "X-Repo-Commit": commit,
            }
            return self._send(302, b"", "text/plain", headers)
        content = path.read_bytes()
        self._send(200, content, "text/plain", {"ETag": f'"{_git_blob(content)}"', "X-Repo-Commit": commit})

    def _large_file(self, digest: str) -> None:
        path = self.hub.blob(digest)
        if path is None:
            return self._refuse(404)
        faults, size = self.hub.faults, path.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        if start >= size:
            return self._refuse(416)
        end = size
        if faults.cut_after is not None and faults.cuts > 0 and self.command == "GET":
            faults.cuts -= 1
            end = min(size, start + faults.cut_after)
        told = end - start if faults.cut_silently else size - start
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(told))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{digest}"')
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()
        if self.command == "GET":
            self._body(path, start, end)
        if end < size:
            self.close_connection = True

    def _body(self, path: Path, start: int, end: int) -> None:
        faults = self.hub.faults
        with path.open("rb") as stream:
            stream.seek(start)
            while start < end:
                piece = stream.read(min(2**14 if faults.delay else 2**20, end - start))
                time.sleep(faults.delay)
                try:
                    self.wfile.write(bytes(len(piece)) if faults.damage else piece)
                except OSError:  # whoever asked has given up
                    self.close_connection = True
                    return
                start += len(piece)

    def _refuse(self, status: int, code: str | None = None) -> None:
        self._send(
            status,
            json.dumps({"error": code or "fault"}).encode(),
            "application/json",
            {"X-Error-Code": code} if code else {},
        )

    def _send(self, status: int, content: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
