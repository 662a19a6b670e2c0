"""What a server, a network or a person does wrong is one sentence each, which names the place and the way out."""

from __future__ import annotations

import logging
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from kfp_replay import HANG, RESET, Fault, Replay

from avskrift.errors import AccessError, KubeflowError, UsageError
from avskrift_pipelines.kfp_access import Access, access
from avskrift_pipelines.kfp_server import PipelinesServer

_TOKEN = "sekret-token-1234"


def server(host: str, **more: Any) -> PipelinesServer:
    return PipelinesServer(access(host, **more))


def refused(ask: Callable[[], object], kind: type[KubeflowError] = KubeflowError) -> str:
    with pytest.raises(kind) as error:
        ask()
    assert type(error.value) is kind
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (
            401,
            '{"code": 16, "message": "no user identity"}',
            AccessError,
            r"does not accept the token \(HTTP 401: no user identity\); give a fresh one",
        ),
        (
            403,
            '{"message": "User \'anna\' is not authorized"}',
            AccessError,
            r"does not let you list runs \(HTTP 403: User 'anna' is not authorized\)",
        ),
        (404, "404 page not found", KubeflowError, r"HTTP 404: 404 page not found\); check --host"),
        (409, '{"error_message": "the name exists"}', KubeflowError, r"refused to list runs \(HTTP 409: the name exists\)"),
        (
            500,
            '{"error": "Internal Server Error: database is locked"}',
            KubeflowError,
            r"failed to list runs \(HTTP 500: Internal .*kubectl logs",
        ),
        (502, "<html><h1>Bad Gateway</h1></html>", KubeflowError, r"failed to list runs \(HTTP 502\); try again"),
    ],
)
def test_a_status_is_told_with_what_the_server_says(kfp: Replay, status: int, body: str, kind: type[KubeflowError], says: str) -> None:
    kfp.faults = [Fault("GET /apis/v2beta1/runs", status=status, body=body)]
    said = refused(lambda: server(kfp.url, token=_TOKEN).runs(limit=5), kind)
    assert re.search(says, said), said
    assert kfp.url in said


def test_a_server_that_repeats_the_token_does_not_get_it_printed(kfp: Replay) -> None:
    kfp.token = "another"
    said = refused(lambda: server(kfp.url, token=_TOKEN).runs(limit=5), AccessError)
    assert "no user identity in [redacted]" in said
    assert _TOKEN not in said
    assert _TOKEN not in repr(access(kfp.url, token=_TOKEN, cookies="session=sekret"))
    assert "sekret" not in repr(access(kfp.url, cookies="session=sekret"))


def test_who_shows_no_token_is_told_how_to(kfp: Replay) -> None:
    kfp.token = "another"
    said = refused(lambda: server(kfp.url).runs(limit=5), AccessError)
    assert "asks who you are" in said
    assert "set KF_PIPELINES_TOKEN, or give --token-file or --port-forward" in said


def test_the_cause_of_a_refusal_holds_nothing_that_the_server_repeated(kfp: Replay) -> None:
    kfp.token = "another"
    with pytest.raises(AccessError) as error:
        server(kfp.url, token=_TOKEN).runs(limit=5)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__


def test_a_login_page_is_told_from_an_answer(kfp: Replay) -> None:
    kfp.faults = [Fault("GET /apis/v2beta1/healthz", status=200, body="<!doctype html><title>Log in</title>", content_type="text/html")]
    said = refused(lambda: server(kfp.url).multi_user(), AccessError)
    assert "answered with a web page" in said


def test_a_connection_that_is_cut_is_said(kfp: Replay, caplog: pytest.LogCaptureFixture) -> None:
    kfp.faults = [Fault("GET /apis/v2beta1/runs", instead=RESET)]
    with caplog.at_level(logging.WARNING):
        assert "was cut" in refused(lambda: server(kfp.url).runs(limit=5))
    assert caplog.records == [], "no library speaks in between"


def test_a_server_that_does_not_answer_is_given_up(kfp: Replay) -> None:
    kfp.faults = [Fault("GET /apis/v2beta1/runs", instead=HANG)]
    assert "did not answer in 0.2 s" in refused(lambda: server(kfp.url, timeout_seconds=0.2).runs(limit=5))


def test_a_port_where_nobody_listens_and_a_name_that_nobody_has_are_told_apart() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}"
    assert f"{nobody} cannot be reached" in refused(lambda: server(nobody).multi_user())
    assert "no such host; check --host" in refused(lambda: server("http://kfp.invalid").multi_user())


@pytest.fixture
def behind_tls(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server with a certificate that it signed itself, and the certificate."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    try:
        subprocess.run(
            [*words, "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("needs openssl to make a certificate")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"multi_user": true}')

        def log_message(self, *_: object) -> None:
            return

    secured = HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    secured.socket = context.wrap_socket(secured.socket, server_side=True)
    threading.Thread(target=secured.serve_forever, args=(0.02,), daemon=True).start()
    yield f"https://localhost:{secured.server_port}", certificate
    secured.shutdown()
    secured.server_close()


def test_a_certificate_of_an_unknown_authority_is_refused_until_it_is_named_or_not_asked_for(behind_tls: tuple[str, Path]) -> None:
    host, certificate = behind_tls
    said = refused(lambda: server(host).multi_user())
    assert f"the TLS certificate of {host} is not trusted (self-signed certificate); give the authority's with --ca-cert" in said
    assert server(host, ca_file=certificate).multi_user()
    assert server(host, verify_tls=False).multi_user()


def test_https_where_http_is_spoken_is_said(kfp: Replay) -> None:
    said = refused(lambda: server(kfp.url.replace("http:", "https:")).multi_user())
    assert "is it http:// that it speaks?" in said


@pytest.mark.parametrize(
    ("host", "more", "says"),
    [
        ("kubeflow.example.org", {}, "is no address; write https://HOST"),
        ("https://", {}, "is no address"),
        ("https://host:port", {}, "is no address"),
        ("https://anna:hunter2@host", {}, "holds a user name or password"),
        ("https://host", {"token": "two words"}, "--existing-token or KF_PIPELINES_TOKEN holds no token"),
        ("https://host", {"token": "line\nbreak"}, "holds no token"),
        ("https://host", {"token": "one", "token_file": Path("/etc/hostname")}, "leave one out"),
        ("https://host", {"token_file": Path("/nowhere/token")}, "cannot be read (No such file or directory)"),
        ("https://host", {"cookies": "a=b\r\nX: y"}, "the cookies hold a line break"),
        ("https://host", {"ca_file": Path("/nowhere.pem")}, "no such file; give the certificates in PEM"),
    ],
)
def test_what_cannot_be_an_address_or_a_token_is_refused_before_anything_is_sent(host: str, more: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as error:
        access(host, **more)
    assert says in str(error.value)
    assert "hunter2" not in str(error.value)
    assert "two words" not in str(error.value)


def test_the_page_of_a_run_is_below_the_address_that_people_open() -> None:
    assert PipelinesServer(Access(host="http://kfp:8888", page="https://kubeflow.example.org/pipeline")).link("abc") == (
        "https://kubeflow.example.org/pipeline/#/runs/details/abc"
    )
    assert access("https://kubeflow.example.org/pipeline/#/runs").host == "https://kubeflow.example.org/pipeline"


def test_lists_are_read_to_their_last_page(kfp: Replay) -> None:
    kfp.runs = [{"run_id": f"{number}", "display_name": "same", "state": "SUCCEEDED", "experiment_id": "e"} for number in range(230)]
    assert len(server(kfp.url).runs(limit=1000)) == 230
    assert [run.run_id for run in server(kfp.url).runs(limit=3)] == ["229", "228", "227"]
