"""A Kubernetes API server for one namespace, over HTTP, with what deploy uses of it. README.md says what it was written from.

Objects live by their path. Writes count ``resourceVersion`` and ``generation``; a server-side apply keeps who manages which
field, refuses conflicts and removes what its manager no longer applies. InferenceServices are held against KServe's schema.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from crd_schema import faults, schema_if_here

Object = dict[str, Any]
NAMESPACE = "speech"
SERVICES = f"/apis/serving.kserve.io/v1beta1/namespaces/{NAMESPACE}/inferenceservices"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
EVENTS = f"/api/v1/namespaces/{NAMESPACE}/events"
HANG = 0  # in place of a status


@dataclass
class Refuses:
    """The next ``times`` requests of ``method`` whose path has ``where`` get this status, or no answer at all (HANG).

    ``done``: what they ask for is done all the same, and only the answer is lost.
    """

    status: int
    times: int = 1
    method: str = ""
    where: str = ""
    done: bool = False


@dataclass
class ApiServer:
    """``before_read`` is called with the path of what is read, as a controller that may change it; ``asked`` has all requests."""

    url: str = ""
    objects: dict[str, Object] = field(default_factory=dict)
    owners: dict[str, dict[str, set[str]]] = field(default_factory=dict)  # path of an object -> manager -> its fields
    applied: list[Object] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    refuses: list[Refuses] = field(default_factory=list)
    unknown_kinds: set[str] = field(default_factory=set)
    before_read: Callable[[str], None] = lambda _: None
    after_write: Callable[[str], None] = lambda _: None
    after_refusal: Callable[[], None] = lambda: None
    lock: threading.RLock = field(default_factory=threading.RLock)
    version: int = 100
    released: threading.Event = field(default_factory=threading.Event)

    def service(self, name: str = "tal") -> Object:
        return self.objects[f"{SERVICES}/{name}"]

    def edit(self, manager: str, change: Callable[[Object], None], name: str = "tal") -> None:
        """What `kubectl edit` does: the fields that it changes are its own from then on, and nobody else's."""
        path = f"{SERVICES}/{name}"
        with self.lock:
            before = dict(leaves(copy.deepcopy(self.objects[path])))
            change(self.objects[path])
            after = dict(leaves(self.objects[path]))
            gone = before.keys() - after.keys()
            changed = {where for where, value in after.items() if before.get(where) != value}
            for fields in self.owners[path].values():
                fields -= changed | gone
            self.owners[path].setdefault(manager, set()).update(changed)
            self._count(path, spec_changed=True)

    def answer(self, method: str, path: str, query: dict[str, str], body: Object, content_type: str) -> tuple[int, Object]:
        with self.lock:
            self.asked.append((method, path, query))
            if any(kind in path for kind in self.unknown_kinds):
                return status(404, "the server could not find the requested resource")
            if method == "GET":
                self.before_read(path)
                return self._get(path, query)
            if method == "POST":
                return self._create(f"{path}/{body['metadata']['name']}", body)
            if method == "PUT":
                return self._replace(path, body)
            assert method == "PATCH", method
            assert content_type == "application/apply-patch+yaml", content_type
            return self._apply(path, body, query)

    def _get(self, path: str, query: dict[str, str]) -> tuple[int, Object]:
        if path in (SERVICES, LEASES, PODS, EVENTS):
            found = [entry for where, entry in self.objects.items() if where.rpartition("/")[0] == path and fits(entry, query)]
            return 200, {"kind": "List", "items": copy.deepcopy(found)}
        if path not in self.objects:
            return status(404, f"{path.rpartition('/')[2]} not found", name=path.rpartition("/")[2])
        return 200, copy.deepcopy(self.objects[path])

    def _create(self, path: str, body: Object) -> tuple[int, Object]:
        if path in self.objects:
            return status(409, "already exists", name=path.rpartition("/")[2])
        self.objects[path] = copy.deepcopy(body)
        self._count(path, spec_changed=True)
        return 201, copy.deepcopy(self.objects[path])

    def _replace(self, path: str, body: Object) -> tuple[int, Object]:
        if path not in self.objects:
            return status(404, "not found", name=path.rpartition("/")[2])
        if body["metadata"].get("resourceVersion") != self.objects[path]["metadata"]["resourceVersion"]:
            return status(409, "the object has been modified; please apply your changes to the latest version", name="x")
        self.objects[path] = copy.deepcopy(body)
        self._count(path, spec_changed=True)
        return 200, copy.deepcopy(self.objects[path])

    def _apply(self, path: str, body: Object, query: dict[str, str]) -> tuple[int, Object]:
        assert query["fieldValidation"] == "Strict"
        manager, force = query["fieldManager"], query["force"] == "true"
        structural = schema_if_here()
        wrong = faults(body, structural, "") if structural else []
        if wrong:
            return status(422, "; ".join(wrong), name="x")
        self.applied.append(copy.deepcopy(body))
        live = self.objects.get(path) or {"metadata": {"creationTimestamp": now()}, "status": {}}
        owners = self.owners.setdefault(path, {})
        new, old = dict(leaves(body)), dict(leaves(live))
        others = {name: fields for name, fields in owners.items() if name != manager}
        conflicts = [(where, name) for where in new for name, own in others.items() if where in own and old.get(where) != new[where]]
        if conflicts and not force:
            causes = [
                {"reason": "FieldManagerConflict", "message": f'conflict with "{name}"', "field": f".{where.replace('|', '.')}"}
                for where, name in conflicts
            ]
            return status(409, f"Apply failed with {len(conflicts)} conflict", causes=causes)
        for where, name in conflicts:
            others[name].discard(where)
        kept = set().union(*others.values()) if others else set()
        spec_before = copy.deepcopy(live.get("spec"))
        for where in owners.get(manager, set()) - set(new) - kept:
            remove(live, where)
        for where, value in new.items():
            put(live, where, value)
        owners[manager] = set(new)
        live |= {"apiVersion": body["apiVersion"], "kind": body["kind"]}
        live["metadata"] |= {"name": body["metadata"]["name"], "namespace": NAMESPACE}
        self.objects[path] = live
        self._count(path, spec_changed=spec_before != live["spec"])
        return 200, copy.deepcopy(live)

    def _count(self, path: str, *, spec_changed: bool) -> None:
        self.version += 1
        metadata = self.objects[path]["metadata"]
        metadata["resourceVersion"] = str(self.version)
        if spec_changed:
            metadata["generation"] = metadata.get("generation", 0) + 1
        metadata["managedFields"] = [
            {"manager": name, "operation": "Apply", "time": now(), "fieldsV1": as_fields(fields)}
            for name, fields in self.owners.get(path, {}).items()
            if fields
        ]
        self.after_write(path)


@contextmanager
def api_server() -> Iterator[ApiServer]:
    server = ApiServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # it would hold each answer back for 40 ms

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            told = self._refused(parts.path)
            if told is not None and told.done:
                server.answer(self.command, parts.path, query, body, self.headers.get("Content-Type", ""))
            if told is not None and told.status == HANG:
                server.released.wait(20)
                self.close_connection = True
                return
            if told is not None:
                code, value = status(told.status, "etcdserver: request timed out")
            else:
                code, value = server.answer(self.command, parts.path, query, body, self.headers.get("Content-Type", ""))
            content = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

        def _refused(self, path: str) -> Refuses | None:
            with server.lock:
                for told in server.refuses:
                    if told.times > 0 and told.method in ("", self.command) and told.where in path:
                        told.times -= 1
                        server.asked.append((self.command, path, {"refused": str(told.status)}))
                        server.after_refusal()
                        return told
            return None

        def log_message(self, *_: object) -> None:
            return

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that left
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    server.url = f"http://127.0.0.1:{http.server_port}"
    try:
        yield server
    finally:
        server.released.set()
        http.shutdown()
        http.server_close()


def status(code: int, message: str, *, name: str = "", causes: list[dict[str, str]] | None = None) -> tuple[int, Object]:
    details = ({"name": name} if name else {}) | ({"causes": causes} if causes else {})
    return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code, "details": details}


def fits(entry: Object, query: dict[str, str]) -> bool:
    wanted = dict(pair.split("=", 1) for pair in query.get("labelSelector", "").split(",") if pair)
    labels = entry["metadata"].get("labels") or {}
    return all(labels.get(name) == value for name, value in wanted.items())


def leaves(entry: Object) -> Iterator[tuple[str, Any]]:
    """What people may set, by path; a list is one value, as the CRD has it (atomic)."""
    for part in ("labels", "annotations"):
        for name, value in (entry["metadata"].get(part) or {}).items():
            yield f"metadata|{part}|{name}", value
    yield from _inner(entry.get("spec") or {}, "spec")


def _inner(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, entry in value.items():
            yield from _inner(entry, f"{path}|{name}")
    else:
        yield path, value


def put(entry: Object, where: str, value: Any) -> None:
    *parents, last = where.split("|")
    for name in parents:
        entry = entry.setdefault(name, {})
    entry[last] = copy.deepcopy(value)


def remove(entry: Object, where: str) -> None:
    *parents, last = where.split("|")
    for name in parents:
        entry = entry.get(name, {})
    entry.pop(last, None)


def as_fields(paths: set[str]) -> Object:
    fields: Object = {}
    for path in sorted(paths):
        here = fields
        for name in path.split("|"):
            here = here.setdefault(f"f:{name}", {})
    return fields


def now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def wait_until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)
