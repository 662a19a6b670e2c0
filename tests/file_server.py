"""A web server of a few files on loopback that can misbehave: close connections, know no ranges, answer with errors."""

from __future__ import annotations

import http.server
import re
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True, kw_only=True)
class FileServer:
    """``files`` by path. Each answer with content takes the next of ``cuts``: after so many bytes the connection is closed.

    Each request takes the next of ``statuses`` first, an error to answer with; 0 is none. ``ranges`` asked for are kept, "" for all.
    """

    files: dict[str, bytes]
    url: str = ""
    knows_ranges: bool = True
    knows_versions: bool = True
    says_length: bool = True
    resets: bool = False
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    ranges: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


@contextmanager
def serving(server: FileServer, *, certificate: Path | None = None) -> Iterator[FileServer]:
    """Serve until the end of the block, with TLS where there is a ``certificate`` (with its key, in PEM)."""

    class Handler(_Handler):
        files = server

    with _Quiet(("127.0.0.1", 0), Handler) as listening:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            listening.socket = context.wrap_socket(listening.socket, server_side=True)
        server.url = f"{'http' if certificate is None else 'https'}://127.0.0.1:{listening.server_port}"
        threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server
        finally:
            listening.shutdown()


class _Quiet(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients hang up, and handshakes fail, on purpose here."""


class _Handler(http.server.BaseHTTPRequestHandler):
    files: FileServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        wanted = self.headers.get("Range") or ""
        path = self.path.partition("?")[0]
        self.files.ranges.append(wanted)
        self.files.paths.append(self.path)
        status = self.files.statuses.pop(0) if self.files.statuses else 0
        if status:
            self._answer(status, b"", {})
        elif path in self.files.redirects:
            self._answer(302, b"", {"Location": self.files.redirects[path]})
        elif path in self.files.files:
            self._give(self.files.files[path], wanted)
        else:
            self._answer(404, b"", {})

    def _give(self, content: bytes, wanted: str) -> None:
        headers = {"ETag": f'"{hash(content)}"'} if self.files.knows_versions else {}
        asked = re.fullmatch(r"bytes=(\d+)-", wanted)
        if not (asked and self.files.knows_ranges):
            self._answer(200, content, headers)
        elif int(asked[1]) >= len(content):
            self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        else:
            first = int(asked[1])
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            self._answer(206, content[first:], headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        cut = self.files.cuts.pop(0) if body and self.files.cuts else len(body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.files.says_length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body[:cut])
        if cut < len(body):
            self._hang_up()

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        if self.files.resets:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *_: object) -> None:
        """Quiet."""
