"""s3:// against SeaweedFS, the store that Kubeflow Pipelines ships."""

from __future__ import annotations

import http.server
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import pytest
import seaweedfs
from s3_line import Line, line_to

from avskrift.errors import DiskFullError, ModelUnavailableError, StorageError
from avskrift.storage.door import fetch
from avskrift.storage.objects import ObjectStore
from avskrift.storage.paths import cache, home

_BUCKET, _SECRET_KEY = seaweedfs.BUCKET, seaweedfs.SECRET_KEY
Store = seaweedfs.Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with seaweedfs.running(tmp_path_factory.mktemp("seaweedfs")) as store:
        yield store


@pytest.fixture(autouse=True)
def credentials(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    seaweedfs.use_keys(monkeypatch, request.getfixturevalue("store").endpoint if "store" in request.fixturenames else "")


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


@pytest.mark.parametrize("name", ["model.json", "ct2/model.bin"])
def test_an_object_that_is_replaced_while_it_is_fetched_is_fetched_again_and_never_kept_as_the_old_one(
    store: Store, prefix: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = store.client.get_object(Bucket=_BUCKET, Key=f"{prefix}/{name}")["Body"].read()
    with line_to(store.endpoint) as line:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", line.endpoint)
        _replacing(store, line, f"{prefix}/{name}", len(old), times=1)
        fetched = fetch(f"s3://{_BUCKET}/{prefix}")
    assert (fetched / name).read_bytes() == b"1" * len(old)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", store.endpoint)
    store.put(f"{prefix}/{name}", old)
    assert (fetch(f"s3://{_BUCKET}/{prefix}") / name).read_bytes() == old


def test_objects_that_never_rest_are_named_and_nothing_is_kept(store: Store, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with line_to(store.endpoint) as line:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", line.endpoint)
        _replacing(store, line, f"{prefix}/model.json", 2, times=9)
        with pytest.raises(StorageError, match="its objects keep changing while they are fetched; wait until") as refused:
            fetch(f"s3://{_BUCKET}/{prefix}")
        assert sum("list-type=2" in request for request in line.requests) == 3
    assert refused.value.exit_code == 30
    assert [path for path in home().rglob("*") if path.is_file()] == []


def test_a_large_object_that_is_replaced_between_its_parts_is_an_error_of_the_store(
    store: Store, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with line_to(store.endpoint) as line:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", line.endpoint)
        _replacing(store, line, f"{prefix}/ct2/model.bin", 9_000_000, times=1)
        with pytest.raises(StorageError, match=r"ct2/model.bin: the store did not give it \(S3DownloadFailedError"):
            ObjectStore(f"s3://{_BUCKET}/{prefix}").get("ct2/model.bin", tmp_path / "model.bin")


def _replacing(store: Store, line: Line, key: str, size: int, *, times: int) -> None:
    """Let the object be replaced before it is given, so many times: by ones, then by twos, and so on."""
    versions = iter(range(1, times + 1))

    def rule(method: str, path: str) -> int:
        if method == "GET" and unquote(path).endswith(key) and (version := next(versions, 0)):
            store.put(key, str(version).encode() * size)
        return 0

    line.rule = rule


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
