"""A line to an S3 server that can be told to answer with errors, to be slow, to break, or to lose answers."""

from __future__ import annotations

import http.client
import http.server
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field

GONE = -1  # no answer at all: the connection is closed
CUT = -2  # the connection is reset in the middle of the request's body
LOST = -3  # the store does what it is asked, and the connection is reset instead of an answer
STALLED = -4  # nothing happens for `stall_seconds`, then the connection is closed


@dataclass(slots=True, kw_only=True)
class Line:
    """A line to the store. ``rule`` sees each request's method and path, and says what to answer instead; 0 lets it through."""

    endpoint: str
    rule: Callable[[str, str], int] = lambda method, path: 0
    requests: list[str] = field(default_factory=list)
    stall_seconds: float = 2.0


@contextmanager
def line_to(endpoint: str) -> Iterator[Line]:
    """A line to the store at ``endpoint`` until the end of the block; its own is on loopback, on a free port."""

    class Handler(_Handler):
        store = endpoint.removeprefix("http://")

    with _Server(("127.0.0.1", 0), Handler) as server:
        Handler.line = line = Line(endpoint=f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield line
        finally:
            with suppress(OSError):
                server.shutdown()


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients are killed on purpose here."""

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Without the polite end, which would keep a reset from being one."""
        self.close_request(request)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    line: Line
    store: str

    def do_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.line.requests.append(f"{self.command} {self.path}")
        status = self.line.rule(self.command, self.path)
        body = self.rfile.read(length // 2 if status == CUT else length)
        if status == STALLED:
            time.sleep(self.line.stall_seconds)
        elif status == LOST:
            self._forwarded(body)
        if status < 0:
            self._hang_up(reset=status in (CUT, LOST))
        elif status:
            self._answer(status, [], b"")
        else:
            self._answer(*self._forwarded(body))

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_any  # noqa: N815

    def _answer(self, status: int, headers: list[tuple[str, str]], answer: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                self.send_header(name, value)
        told = dict(headers).get("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", told or str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _hang_up(self, *, reset: bool) -> None:
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def _forwarded(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """As it came, host and all: the signature covers it."""
        with closing(http.client.HTTPConnection(self.store)) as store:
            store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    store.putheader(name, value)
            store.endheaders(body)
            answer = store.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    def log_message(self, *_: object) -> None:
        """Quiet."""
