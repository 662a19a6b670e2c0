"""A predictor in twenty lines for what the real one cannot be brought to do: die, never get ready, answer nonsense."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--mode", default="good")
parser.add_argument("--version", default="")
parser.add_argument("--environment-to", type=Path)
parser.add_argument("--breaks", type=Path, help="a file to spoil while the smoke test is answered")
options = parser.parse_args()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(503 if options.mode == "never-ready" else 200, {"ready": options.mode != "never-ready"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if options.breaks:
            options.breaks.write_bytes(b"spoilt" * 1000)
        if options.mode == "error" or b'name="file"' not in body or b'name="model"' not in body:
            self._answer(500, {"error": "no"})
        elif options.mode == "refuses":
            self._answer(413, {"error": {"message": "at most 30 minutes are taken"}})
        elif options.mode == "no-text":
            self._answer(200, {"words": []})
        else:
            self._answer(200, {"text": "" if options.mode == "hears-nothing" else f"version {options.version}"})

    def log_message(self, *_: object) -> None:
        return

    def _answer(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if options.environment_to:
    options.environment_to.write_text(json.dumps(dict(os.environ)))
if options.mode == "dies":
    print("loading")
    sys.exit("the weights are no weights")
if options.mode == "ignores-sigterm":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if options.mode == "killed-by-system":
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
print("listening", flush=True)
ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()
