"""A stand-in for the Hugging Face hub on a loopback port: as much of its HTTP interface as streaming a data set asks for.

Written against huggingface_hub 2.4.0 and datasets 5.2.0, from what these clients send and read; the real hub answers with
more, and redirects large files to a content network. A client finds it by ``HF_ENDPOINT``, which it reads when imported.

======================================================  =============================================================
``GET  /api/datasets/ORG/NAME[/revision/REV]``          the commit, the card's metadata, the names of the files
``GET  /api/datasets/ORG/NAME/tree/REV[/PATH]``         the files below a folder
``POST /api/datasets/ORG/NAME/paths-info/REV``          what is at some paths
``HEAD, GET /datasets/ORG/NAME/resolve/REV/PATH``       a file, or a range of it
======================================================  =============================================================
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "d" * 39 + "1"  # of "main", the only one that a repository has


@dataclass(slots=True, kw_only=True)
class Repository:
    """A data set: its files by their paths, and what its card says.

    ``gated``: only who sends the token ``allowed`` gets in. ``withdrawn``: files whose content is refused though they are listed.
    """

    files: dict[str, bytes]
    card: dict[str, Any] = field(default_factory=dict)
    gated: bool = False
    withdrawn: set[str] = field(default_factory=set)


@dataclass(slots=True, kw_only=True)
class Hub:
    """A running stand-in. ``sent`` counts the bytes of files that it has given, by path."""

    endpoint: str
    repositories: dict[str, Repository]
    sent: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@contextmanager
def hugging_face_hub(repositories: dict[str, Repository]) -> Iterator[Hub]:
    """Serve ``repositories``, by ``ORG/NAME``, for as long as the block lasts."""
    hub = Hub(endpoint="", repositories=repositories)

    class Handler(_Handler):
        pass

    Handler.hub = hub
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield hub
        finally:
            server.shutdown()


class _Refusal(Exception):  # noqa: N818  # an answer, not a failure of the stand-in
    """An answer other than 200, with the hub's own code for the reason."""

    def __init__(self, status: int, code: str) -> None:
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.hub.asked.append(f"{self.command} {self.path}")
        try:
            self._route([unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")], body)
        except _Refusal as refusal:
            self._send(refusal.status, b"", {"X-Error-Code": refusal.code, "X-Error-Message": refusal.code})

    def _route(self, parts: list[str], body: str) -> None:
        if parts[:2] == ["api", "datasets"]:
            self._describe("/".join(parts[2:4]), parts[4:], body)
        elif parts[0] == "datasets" and parts[3:4] == ["resolve"]:
            self._give("/".join(parts[1:3]), parts[4], "/".join(parts[5:]))
        else:
            raise _Refusal(404, "EntryNotFound")

    def _repository(self, name: str, revision: str) -> Repository:
        repository = self.hub.repositories.get(name)
        if repository is None:
            raise _Refusal(401, "RepoNotFound")  # the hub does not tell strangers what is private and what is not there
        if revision not in ("main", COMMIT):
            raise _Refusal(404, "RevisionNotFound")
        return repository

    def _describe(self, name: str, rest: list[str], body: str) -> None:
        kind, revision = (rest[0], rest[1]) if len(rest) > 1 else ("revision", "main")
        repository = self._repository(name, revision)
        if kind == "revision":
            names = [{"rfilename": path} for path in sorted(repository.files)]
            self._send_json(
                {"id": name, "sha": COMMIT, "private": False, "gated": "auto" if repository.gated else False, "siblings": names}
                | {"cardData": repository.card, "tags": []}
            )
        elif kind == "tree":
            folder = "/".join(rest[2:])
            entries = [entry for entry in _tree(repository) if _below(entry["path"], folder)]
            recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() in ("1", "true")
            if not recursive:
                entries = [entry for entry in entries if "/" not in entry["path"][len(folder) :].strip("/")]
            if folder and not entries:
                raise _Refusal(404, "EntryNotFound")
            self._send_json(entries)
        elif kind == "paths-info":
            wanted = parse_qs(body).get("paths", []) if not body.startswith("{") else json.loads(body)["paths"]
            self._send_json([entry for entry in _tree(repository) if entry["path"] in wanted])
        else:
            raise _Refusal(404, "EntryNotFound")

    def _give(self, name: str, revision: str, path: str) -> None:
        repository = self._repository(name, revision)
        if repository.gated and self.headers.get("Authorization") != "Bearer allowed":
            raise _Refusal(403 if self.headers.get("Authorization") else 401, "GatedRepo")
        if path not in repository.files:
            raise _Refusal(404, "EntryNotFound")
        if path in repository.withdrawn:
            raise _Refusal(403, "Forbidden")
        content = repository.files[path]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{_digest(content)}"', "Accept-Ranges": "bytes"}
        start, end = 0, len(content)
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or end) + 1, end)
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        if self.command == "GET":
            self.hub.sent[path] = self.hub.sent.get(path, 0) + end - start
        self._send(206 if wanted else 200, content[start:end], headers)

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json", "X-Repo-Commit": COMMIT})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _tree(repository: Repository) -> list[dict[str, Any]]:
    """Its files and the folders that these are in, as the hub lists them."""
    folders = {path.rsplit("/", depth)[0] for path in repository.files for depth in range(1, path.count("/") + 1)}
    listed = [{"type": "directory", "path": folder, "oid": _digest(folder.encode())[:40], "size": 0} for folder in folders]
    listed += [{"type": "file", "path": path, "oid": _digest(data)[:40], "size": len(data)} for path, data in repository.files.items()]
    return sorted(listed, key=lambda entry: str(entry["path"]))


def _below(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
