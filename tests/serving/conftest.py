"""A model package of a few bytes, recordings, and the real server around a scripted engine."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from avskrift.audio.decode import encode_flac
from avskrift.storage.atomic import write_json
from avskrift.storage.manifest import digest_folder
from avskrift.whisper.package import DESCRIPTION_FILE, EncoderContext, PackageDescription, description_as_json

_HERE = Path(__file__).parent
_PATIENCE_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """A server process that answered; what it wrote so far is in ``log()``."""

    process: subprocess.Popen[bytes]
    client: httpx.Client
    port: int
    grpc_port: int | None  # None where it was started without --grpc-port
    log_file: Path

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def transcribe(self, data: bytes, **fields: str) -> httpx.Response:
        return self.client.post("/openai/v1/audio/transcriptions", files={"file": ("inspelning.flac", data)}, data=fields)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=_PATIENCE_SECONDS)


StartServer = Callable[..., RunningServer]


def recording(seconds: float) -> bytes:
    """FLAC of a quiet tone."""
    count = int(seconds * 16_000)
    return encode_flac((0.1 * np.sin(np.arange(count) * 0.05)).astype(np.float32))


def base64_recording(seconds: float) -> str:
    return base64.b64encode(recording(seconds)).decode()


def make_package(folder: Path) -> Path:
    (folder / "ct2").mkdir(parents=True)
    (folder / "ct2" / "model.bin").write_bytes(b"weights")
    description = PackageDescription(
        base_model="package:none",
        base_model_sha256="0" * 64,
        languages=("sv",),
        encoder_context=EncoderContext(),
        files=digest_folder(folder),
    )
    write_json(folder / DESCRIPTION_FILE, description_as_json(description))
    return folder


def server_command(package: Path, *arguments: str) -> list[str]:
    return [sys.executable, str(_HERE / "scripted_server.py"), "--package", str(package), *arguments]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_package(tmp_path_factory.mktemp("serving") / "package")


@contextmanager
def running(package: Path, log_file: Path, *arguments: str, **environment: str) -> Iterator[RunningServer]:
    """The server around a scripted engine on a free port, ready; killed at the end if the test left it."""
    with started(server_command(package, "--port", "0", "--model-version", "7", *arguments), log_file, **environment) as server:
        yield server


@contextmanager
def started(command: Sequence[str], log_file: Path, **environment: str) -> Iterator[RunningServer]:
    """As :func:`running`, by any command that starts a server."""
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | environment)
    try:
        port, grpc_port = _wait_for_ports(process, log_file)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=_PATIENCE_SECONDS) as client:
            yield RunningServer(process=process, client=client, port=port, grpc_port=grpc_port, log_file=log_file)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def start_server(package: Path, tmp_path: Path) -> Iterator[StartServer]:
    """Starts a server of the test's own; environment variables by keyword."""
    with ExitStack() as stack:

        def start(*arguments: str, **environment: str) -> RunningServer:
            return stack.enter_context(running(package, tmp_path / "server.log", *arguments, **environment))

        yield start


@pytest.fixture(scope="session")
def server(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that the tests share, over HTTP and gRPC: at most 1 MB and 10 s a request."""
    log_file = tmp_path_factory.mktemp("server") / "server.log"
    with running(package, log_file, "--grpc-port", "0", AVSKRIFT_MAX_UPLOAD_MB="1", AVSKRIFT_MAX_AUDIO_SECONDS="10") as shared:
        yield shared


def _wait_for_ports(process: subprocess.Popen[bytes], log_file: Path) -> tuple[int, int | None]:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        match = re.search(r"serving\.ready\b.*?\bport\W+(\d+)(?:\W+grpc_port\W+(\d+))?\W*\n", log_file.read_text(encoding="utf-8"))
        if match:
            return int(match[1]), int(match[2]) if match[2] else None
        time.sleep(0.02)
    raise AssertionError(f"no server: {log_file.read_text(encoding='utf-8')}")
