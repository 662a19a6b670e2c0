"""Kubeflow Pipelines' v2beta1 REST API on a loopback port, with its state in memory; see README.md for what it was written from."""

from __future__ import annotations

import email
import email.policy
import json
import re
import socket
import struct
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

RESET, HANG = "reset", "hang"
TASKS = ("prepare", "fine-tune", "evaluate")


@dataclass
class Fault:
    """What happens to requests whose method and path match. ``after`` it has been done all the same; ``times`` is how often."""

    request: str
    status: int = 0
    body: str = "{}"
    instead: str = ""
    after: bool = False
    times: int = 1_000
    content_type: str = "application/json"


@dataclass
class Replay:
    """The server's state, and what it was asked."""

    url: str = ""
    multi_user: bool = False
    token: str = ""  # one that requests must show; none where empty
    faults: list[Fault] = field(default_factory=list)
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, authorization
    pipelines: list[dict[str, Any]] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)
    experiments: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    ends_as: str = "SUCCEEDED"
    looks: int = 4  # how often a run is looked at before it has ended; 0 for one that never does
    failure: str = "evaluate: no clips in the test split"
    plugins_output: dict[str, Any] = field(default_factory=dict)
    released: threading.Event = field(default_factory=threading.Event)
    seen: dict[str, int] = field(default_factory=dict)

    def count(self, pattern: str) -> int:
        return sum(bool(re.fullmatch(pattern, f"{method} {path}")) for method, path, _ in self.asked)


@contextmanager
def kfp_replay() -> Iterator[Replay]:
    """A server that runs while the block does."""
    replay = Replay()
    handler = type("Handler", (_Handler,), {"replay": replay, "lock": threading.Lock()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    replay.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield replay
    finally:
        replay.released.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    replay: Replay
    lock: threading.Lock
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        with self.lock:
            self.replay.asked.append((self.command, parts.path, self.headers.get("Authorization", "")))
            fault = _fault(self.replay, f"{self.command} {parts.path}")
            status, answer = self._allowed(parts.path, query, body) if fault is None or fault.after else (0, None)
        if fault is not None:
            self._fail(fault)
        else:
            self._answer(status, json.dumps(answer), "application/json")

    do_POST = do_GET  # noqa: N815

    def _allowed(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        shown = self.headers.get("Authorization", "nothing")
        if self.replay.token and shown != f"Bearer {self.replay.token}":
            return 401, {"code": 16, "message": f"Request header error: there is no user identity in {shown}"}
        return _route(self.replay, self.command, path, query, body, self.headers.get("Content-Type", ""))

    def _fail(self, fault: Fault) -> None:
        if not fault.instead:
            self._answer(fault.status, fault.body, fault.content_type)
            return
        if fault.instead == HANG:
            self.replay.released.wait(30)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _answer(self, status: int, body: str, content_type: str) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def finish(self) -> None:
        with suppress(OSError, ValueError):  # of a connection that we cut ourselves
            super().finish()

    def log_message(self, *_: object) -> None:
        return


def _fault(replay: Replay, request: str) -> Fault | None:
    for fault in replay.faults:
        if fault.times and re.fullmatch(fault.request, request):
            fault.times -= 1
            return fault
    return None


def _route(replay: Replay, method: str, path: str, query: dict[str, str], body: bytes, content_type: str) -> tuple[int, Any]:
    name = path.removeprefix("/apis/v2beta1/")
    if name == "healthz":
        return 200, {"multi_user": replay.multi_user, "pipeline_store": "database"}
    if name == "pipelines/upload_version":
        return _upload(replay, query, body, content_type)
    if match := re.fullmatch(r"pipelines/([\w-]+)/versions", name):
        found = [one for one in replay.versions if one["pipeline_id"] == match[1]]
        return 200, {"pipeline_versions": _wanted(found, query)}
    if match := re.fullmatch(r"runs/([\w-]+)(:terminate)?", name):
        return _one_run(replay, match[1], terminate=bool(match[2]))
    if name not in ("pipelines", "experiments", "runs"):
        return 404, {"code": 5, "message": f"Not Found: {path}"}
    entries: list[dict[str, Any]] = getattr(replay, name)
    if method == "GET":
        chosen = [one for one in entries if query.get("experiment_id", one.get("experiment_id")) == one.get("experiment_id")]
        newest_first = chosen[::-1] if query.get("sort_by", "").endswith("desc") else chosen
        return 200, _page(name, _wanted(newest_first, query), query)
    made = json.loads(body) | {f"{name[:-1]}_id": str(uuid.uuid4()), "created_at": "2026-11-29T12:00:00Z"}
    if any(one["display_name"] == made["display_name"] for one in entries) and name != "runs":
        return 409, {"code": 6, "message": f"The name {made['display_name']} already exist"}
    if name == "runs":
        made |= {"state": "PENDING"}
    entries.append(made)
    return 200, made


def _page(name: str, found: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
    start, size = int(query.get("page_token", "0")), int(query.get("page_size", "10"))
    more = {"next_page_token": str(start + size)} if start + size < len(found) else {}
    return {name: found[start : start + size], "total_size": len(found)} | more


def _wanted(found: list[dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
    if "filter" not in query:
        return found
    (predicate,) = json.loads(query["filter"])["predicates"]
    assert (predicate["operation"], predicate["key"]) == ("EQUALS", "display_name")
    return [one for one in found if one["display_name"] == predicate["stringValue"]]


def _upload(replay: Replay, query: dict[str, str], body: bytes, content_type: str) -> tuple[int, Any]:
    message = email.message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body, policy=email.policy.HTTP)
    (part,) = message.iter_parts()
    assert part.get_param("name", header="content-disposition") == "uploadfile"
    if not any(one["pipeline_id"] == query["pipelineid"] for one in replay.pipelines):
        return 400, {"error_message": "Failed to create a pipeline version", "error_details": "no such pipeline"}
    replay.uploads.append(part.get_content() if part.get_content_type().startswith("text/") else part.get_payload(decode=True).decode())
    made = {
        "pipeline_id": query["pipelineid"],
        "pipeline_version_id": str(uuid.uuid4()),
        "display_name": query["name"],
        "name": query["name"],
        "created_at": "2026-11-29T12:00:00Z",
    }
    replay.versions.append(made)
    return 200, made


def _one_run(replay: Replay, run_id: str, *, terminate: bool) -> tuple[int, Any]:
    run = next((one for one in replay.runs if one["run_id"] == run_id), None)
    if run is None:
        return 404, {"code": 5, "message": f"Failed to fetch run {run_id}: not found"}
    if terminate:
        run["state"] = "CANCELING"
        return 200, {}
    looks = replay.seen[run_id] = replay.seen.get(run_id, 0) + 1
    ended = bool(replay.looks) and looks >= replay.looks
    run["state"] = replay.ends_as if ended else "RUNNING"
    if ended and replay.ends_as == "FAILED":
        run["error"] = {"code": 13, "message": "workflow failed"}
    run["plugins_output"] = replay.plugins_output
    run["run_details"] = {"task_details": _tasks(replay, looks, ended=ended)}
    return 200, run | {"finished_at": "2026-11-29T12:05:00Z" if ended else "1970-01-01T00:00:00Z"}


def _tasks(replay: Replay, looks: int, *, ended: bool) -> list[dict[str, Any]]:
    """One more task for each look; what has another after it has succeeded. The drivers and the root are listed beside them."""
    begun = TASKS if ended else TASKS[:looks]
    states = ["SUCCEEDED"] * (len(begun) - 1) + [replay.ends_as if ended else "RUNNING"]
    found = [_task("root", "RUNNING", 0), _task("avskrift-fine-tune-x7k2p", "RUNNING", 0), _task("executor", "RUNNING", 1)]
    for minute, (name, state) in enumerate(zip(begun, states, strict=True)):
        found += [_task(f"{name}-driver", "SUCCEEDED", minute), _task(name, state, minute)]
        if state == "FAILED":
            found[-1]["error"] = {"code": 13, "message": replay.failure}
    return found


def _task(name: str, state: str, minute: int) -> dict[str, Any]:
    ended = f"2026-11-29T12:{minute + 1:02}:35Z" if state != "RUNNING" else "1970-01-01T00:00:00Z"
    return {
        "display_name": name,
        "task_id": f"task-{name}",
        "state": state,
        "start_time": f"2026-11-29T12:{minute:02}:00Z",
        "end_time": ended,
    }
