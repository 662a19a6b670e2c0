"""An endpoint that answers as it is told: to each recording by what is in it, at the first time, the second, and so on."""

from __future__ import annotations

import email
import email.policy
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RESET, HANG, CUT_SHORT = "reset", "hang", "cut short"


@dataclass(frozen=True)
class Says:
    """An answer: a status with a body and headers, or one of the words above."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    instead: str = ""


@dataclass
class ScriptedEndpoint:
    """``script`` has the answers to a recording by its bytes, the last of them for ever; others get their bytes back as text."""

    url: str = ""
    script: dict[bytes, list[Says]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)  # path, fields, recording
    shown: list[str] = field(default_factory=list)  # the Authorization header of each request, "" without
    at_once: int = 0  # the most requests at the same time
    released: threading.Event = field(default_factory=threading.Event)

    def times(self, recording: bytes) -> int:
        return Counter(one for _, _, one in self.asked)[recording]


@contextmanager
def scripted_endpoint() -> Iterator[ScriptedEndpoint]:
    endpoint, lock, now = ScriptedEndpoint(), threading.Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with lock:
                now[0] += 1
                endpoint.at_once = max(endpoint.at_once, now[0])
            try:
                self._answer()
            finally:
                with lock:
                    now[0] -= 1

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            fields, recording = _parts(self.headers["Content-Type"], body)
            with lock:
                endpoint.asked.append((self.path, fields, recording))
                endpoint.shown.append(self.headers.get("Authorization", ""))
                script = endpoint.script.get(recording, [])
                says = script[min(endpoint.times(recording), len(script)) - 1] if script else Says(body=recording.decode())
            if says.instead == HANG:
                endpoint.released.wait(60)
            if says.instead == RESET:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                return
            content = says.body.encode()
            self.send_response(says.status)
            for name, value in says.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content) + (10 if says.instead == CUT_SHORT else 0)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that left
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    endpoint.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield endpoint
    finally:
        endpoint.released.set()
        server.shutdown()
        server.server_close()


def _parts(content_type: str, body: bytes) -> tuple[dict[str, str], bytes]:
    message = email.message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body, policy=email.policy.HTTP)
    fields, recording = {}, b""
    for part in message.iter_parts():  # type: ignore[attr-defined]
        content = part.get_payload(decode=True)
        if part.get_filename():
            recording = content
        else:
            fields[part.get_param("name", header="content-disposition")] = content.decode()
    return fields, recording
