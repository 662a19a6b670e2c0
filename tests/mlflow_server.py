"""A real `mlflow server` on a loopback port that a test may kill and start again, and a proxy that can be told to fail or be away."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

from avskrift.deployment.process import end


class MlflowServer:
    """The server over ``mlflow.db`` and an artifact folder in ``folder``, or over ``database`` and ``artifacts``.

    It has the same port however often it starts. ``environment`` is what its process gets besides ours.
    """

    def __init__(self, folder: Path, *, database: str = "", artifacts: str = "", environment: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._database = database or f"sqlite:///{folder}/mlflow.db"
        self._artifacts = artifacts or str(folder / "artifacts")
        self._environment = dict(environment or {})
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers."""
        if self._process is not None:
            return
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        stores = [
            f"--backend-store-uri={self._database}",
            f"--artifacts-destination={self._artifacts}",
        ]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING")}
        environment |= self._environment
        environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # no background workers for tests that give them nothing to do
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *stores], stdout=log, stderr=log, env=environment, start_new_session=True, cwd=self._folder
            )
        self._wait(self._process)

    def stop(self) -> None:
        """End it; what it has stored stays."""
        if self._process is not None:
            end(psutil.Process(self._process.pid))
            self._process.wait()
            self._process = None

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        for _ in range(600):
            assert process.poll() is None, "mlflow server ended"
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise AssertionError("mlflow server did not answer")


class FailingProxy:
    """Passes requests on to ``target``, or answers them with 500 while ``failing`` is set; ``refused`` counts those.

    While it is stopped its port is closed, as that of a server which is not there: MLflow's own takes ten seconds to start.
    """

    def __init__(self, target: str) -> None:
        self.failing = threading.Event()
        self.refused = 0
        self._port = 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if proxy.failing.is_set():
                    proxy.refused += 1
                    self._answer(500, b"{}")
                    return
                headers = {"Content-Type": self.headers.get("Content-Type", "application/json")}
                asked = urllib.request.Request(target + self.path, data=body or None, headers=headers, method=self.command)
                try:
                    with urllib.request.urlopen(asked, timeout=30) as answer:
                        self._answer(answer.status, answer.read())
                except urllib.error.HTTPError as error:
                    self._answer(error.code, error.read())

            do_POST = do_GET  # noqa: N815

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self._handler = Handler
        self.start()
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, on the same port however often it starts."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Listen no longer; may be done again."""
        self._server.shutdown()
        self._server.server_close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
