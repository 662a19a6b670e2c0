"""Streams over connections that break: HTTP from a server that can misbehave, S3 from SeaweedFS behind a line that is cut."""

from __future__ import annotations

import io
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
import test_storage_s3 as seaweedfs
from file_server import FileServer, serving

from avskrift.errors import StorageError, UsageError
from avskrift.storage import streams
from avskrift.storage.streams import open_stream, without_secrets

CONTENT = random.Random(7).randbytes(5 << 20)

store = seaweedfs.store
credentials = seaweedfs.credentials


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PAUSES_SECONDS", (0.0, 0.0, 0.0))


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(FileServer(files={"/release.tar.gz": CONTENT})) as running:
        yield running


def read(uri: str) -> bytes:
    with closing(open_stream(uri)) as stream:
        return io.BufferedReader(stream, 1 << 16).read()


@pytest.mark.parametrize("resets", [False, True])
def test_a_connection_that_is_closed_is_made_again_from_where_it_was(server: FileServer, resets: bool) -> None:
    server.cuts, server.resets = [1_000_000, 2_000_000, 10], resets
    assert read(f"{server.url}/release.tar.gz") == CONTENT
    first, *others = [int(asked.removeprefix("bytes=").removesuffix("-") or 0) for asked in server.ranges]
    assert first == 0
    assert len(others) == 3
    assert others[-1] > 0
    if not resets:  # a reset takes with it what was on its way
        assert others == [1_000_000, 3_000_000, 3_000_010]


def test_who_gets_on_between_two_failures_has_all_attempts_again(server: FileServer) -> None:
    server.cuts = [1 << 20] * 4
    assert read(f"{server.url}/release.tar.gz") == CONTENT


def test_a_server_that_gives_nothing_is_given_up_with_how_far_it_got(server: FileServer) -> None:
    server.cuts = [3 << 20, 5, 5, 5]
    with pytest.raises(
        StorageError, match=r"/release\.tar\.gz: cannot be read on, after 3\.0 MiB of 5\.0 MiB \(.+; tried 4 times\); check"
    ):
        read(f"{server.url}/release.tar.gz")
    assert len(server.ranges) == 4


def test_a_server_without_ranges_starts_again_and_what_was_read_is_passed_over(server: FileServer) -> None:
    server.knows_ranges, server.cuts = False, [2_500_000, 2_600_000]
    assert read(f"{server.url}/release.tar.gz") == CONTENT
    assert server.ranges == ["", "bytes=2500000-", "bytes=2600000-"]


def test_a_connection_that_breaks_while_the_beginning_is_passed_over_is_made_again(server: FileServer) -> None:
    server.knows_ranges, server.cuts = False, [2_500_000, 1_000_000]
    assert read(f"{server.url}/release.tar.gz") == CONTENT


def test_an_overloaded_server_is_asked_again(server: FileServer) -> None:
    server.statuses, server.cuts = [429, 0, 503], [100]
    assert read(f"{server.url}/release.tar.gz") == CONTENT


def test_a_server_that_stays_overloaded_is_named_with_its_answer(server: FileServer) -> None:
    server.statuses = [503] * 9
    with pytest.raises(StorageError, match=r"after 0\.0 MiB \(HTTP 503 Service Unavailable; tried 4 times\)"):
        read(f"{server.url}/release.tar.gz")


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final(server: FileServer, status: int) -> None:
    server.statuses = [status]
    with pytest.raises(StorageError, match=rf"the server refused it \(HTTP {status} .+\); check the address, and that it has not expired"):
        read(f"{server.url}/release.tar.gz")
    assert len(server.ranges) == 1


def test_a_file_that_changes_between_two_connections_is_never_spliced(server: FileServer) -> None:
    server.cuts = [1_000_000]
    with closing(open_stream(f"{server.url}/release.tar.gz")) as stream:
        server.files["/release.tar.gz"] = CONTENT[::-1]
        with pytest.raises(StorageError, match=r"was changed while it was read, after 1\.0 MiB; run the same command again"):
            io.BufferedReader(stream, 1 << 16).read()


def test_a_file_whose_length_changes_is_noticed_where_the_server_tells_no_versions(server: FileServer) -> None:
    server.cuts, server.knows_versions = [1_000_000], False
    with closing(open_stream(f"{server.url}/release.tar.gz")) as stream:
        assert stream.version == ""
        server.files["/release.tar.gz"] = CONTENT + b"more"
        with pytest.raises(StorageError, match="was changed while it was read"):
            io.BufferedReader(stream, 1 << 16).read()


def test_a_server_that_says_no_length_is_read_to_the_end(server: FileServer) -> None:
    server.says_length = False
    assert read(f"{server.url}/release.tar.gz") == CONTENT


def test_the_same_bytes_have_the_same_version_and_others_another(server: FileServer) -> None:
    with closing(open_stream(f"{server.url}/release.tar.gz")) as first, closing(open_stream(f"{server.url}/release.tar.gz")) as second:
        assert first.version == second.version != ""
    server.files["/release.tar.gz"] = b"another"
    with closing(open_stream(f"{server.url}/release.tar.gz")) as third:
        assert third.version != first.version


def test_a_redirect_is_followed_and_so_is_the_range(server: FileServer) -> None:
    server.redirects["/latest"] = f"{server.url}/release.tar.gz?signature=1"
    server.cuts = [1_000_000]
    assert read(f"{server.url}/latest") == CONTENT
    assert server.ranges == ["", "", "bytes=1000000-", "bytes=1000000-"]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/release.tar.gz"])
def test_a_redirect_out_of_the_web_is_not_followed(server: FileServer, target: str) -> None:
    server.redirects["/latest"] = target
    with pytest.raises(StorageError):
        read(f"{server.url}/latest")


def test_a_name_that_does_not_exist_is_final() -> None:
    with pytest.raises(StorageError, match=r"https://no\.such\.host\.invalid/x\.tar: cannot be reached|cannot be read on, after 0\.0 MiB"):
        read("https://no.such.host.invalid/x.tar")


def test_nobody_at_the_port_is_tried_again_and_then_named() -> None:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(StorageError, match=r"cannot be read on, after 0\.0 MiB \(Connection refused; tried 4 times\)"):
            read(f"http://127.0.0.1:{free.getsockname()[1]}/release.tar.gz")


def test_what_opens_the_door_is_in_no_message(server: FileServer) -> None:
    server.statuses = [403]
    with pytest.raises(StorageError) as refused:
        read(f"{server.url}/release.tar.gz?X-Amz-Signature=deadbeef")
    assert "deadbeef" not in str(refused.value)
    assert without_secrets("https://ada:pw@host:1/a?b#c") == "https://host:1/a"
    with pytest.raises(UsageError, match="a name and password in a URL are not sent") as refused_too:
        read(server.url.replace("://", "://ada:secret@") + "/release.tar.gz")
    assert "secret" not in str(refused_too.value)


@pytest.mark.parametrize("uri", ["ftp://host/x", "s3://bucket", "s3:///key"])
def test_what_is_no_stream_is_named(uri: str) -> None:
    with pytest.raises(UsageError, match=uri):
        read(uri)


def test_a_file_is_read_and_one_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "a file").write_bytes(b"here")
    assert read(str(tmp_path / "a file")) == b"here"
    with pytest.raises(StorageError, match=r"none: cannot be read \(No such file or directory\)"):
        read(str(tmp_path / "none"))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("certificate")
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run(["openssl", "req", *options, *files], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "certificate.pem").read_bytes())
    return both


def test_https_is_read_and_resumed(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(FileServer(files={"/release.tar.gz": CONTENT}, cuts=[1_000_000]), certificate=certificate) as server:
        assert read(f"{server.url}/release.tar.gz") == CONTENT
        assert len(server.ranges) == 2


def test_a_certificate_that_does_not_hold_is_final(certificate: Path) -> None:
    with serving(FileServer(files={"/release.tar.gz": CONTENT}), certificate=certificate) as server:
        with pytest.raises(StorageError, match=r"cannot be reached \(.*certificate.*\); check the address"):
            read(f"{server.url}/release.tar.gz")
        assert server.ranges == []


def test_https_does_not_send_on_to_http(certificate: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    secure = FileServer(files={}, redirects={"/latest": f"{server.url}/release.tar.gz"})
    with (
        serving(secure, certificate=certificate),
        pytest.raises(StorageError, match="sends on to a http: address, which is not followed"),
    ):
        read(f"{secure.url}/latest")
    assert server.ranges == []


@pytest.fixture
def stored(store: seaweedfs.Store) -> str:
    store.put("releases/sv #1.tar.gz", CONTENT)
    return f"s3://{seaweedfs._BUCKET}/releases/sv #1.tar.gz"


def test_an_object_is_read(stored: str) -> None:
    assert read(stored) == CONTENT


def test_an_object_is_read_on_where_the_line_was_cut(store: seaweedfs.Store, stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with cut_line(store.endpoint, [1_500_000, 2_000_000]) as (endpoint, connections):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        assert read(stored) == CONTENT
    assert len(connections) == 3


def test_a_line_that_is_cut_again_and_again_is_given_up_with_how_far_it_got(
    store: seaweedfs.Store, stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cut_line(store.endpoint, [3_000_000] + [600] * 20) as (endpoint, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        with pytest.raises(StorageError, match=r"sv #1\.tar\.gz: cannot be read on, after [23]\.\d MiB of 5\.0 MiB .*tried 4 times"):
            read(stored)


def test_an_object_that_is_replaced_while_it_is_read_is_never_spliced(
    store: seaweedfs.Store, stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cut_line(store.endpoint, [1_500_000]) as (endpoint, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        with closing(open_stream(stored)) as stream:
            store.put("releases/sv #1.tar.gz", CONTENT[::-1])
            with pytest.raises(StorageError, match="was changed while it was read"):
                io.BufferedReader(stream, 1 << 16).read()


def test_an_object_or_a_bucket_that_is_not_there_is_named(store: seaweedfs.Store) -> None:
    with pytest.raises(
        StorageError, match=r"nothing\.tar: the store did not give it \(\w+: NoSuchKey\); check endpoint, credentials and path"
    ):
        read(f"s3://{seaweedfs._BUCKET}/nothing.tar")
    with pytest.raises(StorageError, match=r"s3://none/nothing\.tar: the store did not give it"):
        read("s3://none/nothing.tar")


def test_wrong_keys_are_refused_at_once(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match=r"the store did not give it \(ClientError: SignatureDoesNotMatch\)"):
        read(stored)


def test_missing_keys_are_named(stored: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    for variable in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(variable, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StorageError, match=r"NoCredentialsError: Unable to locate credentials"):
        read(stored)


def test_an_endpoint_that_is_no_url_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "minio:9000/x y")
    with pytest.raises(StorageError, match="Invalid endpoint: minio:9000/x y"):
        read("s3://bucket/key")


@contextmanager
def cut_line(endpoint: str, cuts: list[int]) -> Iterator[tuple[str, list[int]]]:
    """A line to ``endpoint``: the first connections are cut after so many bytes of answer. The connections made are counted."""
    host, port = endpoint.removeprefix("http://").split(":")
    made: list[int] = []
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def answer() -> None:
            while True:
                try:
                    near, _ = listening.accept()
                except OSError:
                    return
                far = socket.create_connection((host, int(port)))
                made.append(cuts[len(made)] if len(made) < len(cuts) else 1 << 40)
                threading.Thread(target=_carry, args=(near, far, 1 << 40), daemon=True).start()
                threading.Thread(target=_carry, args=(far, near, made[-1]), daemon=True).start()

        threading.Thread(target=answer, daemon=True).start()
        stack.callback(listening.shutdown, socket.SHUT_RDWR)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", made


def _carry(origin: socket.socket, target: socket.socket, count: int) -> None:
    with suppress(OSError):
        while count > 0 and (data := origin.recv(min(count, 1 << 16))):
            target.sendall(data)
            count -= len(data)
    for each in (origin, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
