"""MLflow away, broken, full, or killed while its database was being made."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from avskrift.errors import AvskriftError, DiskFullError, RegistryError, StorageError
from avskrift.registry.mlflow_registry import open_registry
from avskrift.registry.protocol import RunKey

KEY = RunKey(pipeline_run_id="run-1", experiment="swedish")


@pytest.fixture(autouse=True)
def no_configured_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.timeout(60)  # MLflow's own settings would try again for minutes
def test_a_server_that_is_away_is_reported_in_one_sentence_without_the_password() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"http://anna:hunter2@127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(RegistryError, match=r"^MLflow at http://127\.0\.0\.1:\d+ did not answer or refused .* check that it is up") as away:
        open_registry(uri).open_run(KEY)
    assert "hunter2" not in str(away.value)
    assert "\n" not in str(away.value)


@pytest.fixture
def another_server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.end_headers()
            self.wfile.write(b"<html>not here</html>")

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_server_that_is_not_mlflow_is_one_sentence(another_server: str) -> None:
    with pytest.raises(RegistryError, match="did not answer or refused") as refused:
        open_registry(another_server).open_run(KEY)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("uri", ["bogus://somewhere", "nonsense"])
def test_a_tracking_uri_that_mlflow_does_not_know_is_a_registry_error(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RegistryError, match="MLFLOW_TRACKING_URI"):
        open_registry(uri).open_run(KEY)


@pytest.mark.timeout(60)
def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_text("notes of a meeting\n" * 100, encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(RegistryError, match=r"mlflow\.db is not a usable MLflow database"):
        open_registry(f"sqlite:///{path}")
    assert path.read_bytes() == before


@pytest.mark.timeout(60)
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        open_registry(f"sqlite:///{tmp_path}/file/mlflow.db")


def test_killed_while_the_database_is_made_the_next_run_works_and_nothing_is_left(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    code = f"from avskrift.registry.mlflow_registry import open_registry; open_registry({uri!r})"
    with subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"AVSKRIFT_HOME": str(tmp_path)}) as maker:
        while not _half_made(tmp_path):
            assert maker.poll() is None, "the database was never seen half made"
            time.sleep(0.005)
        maker.send_signal(signal.SIGKILL)
    assert not (tmp_path / "mlflow.db").exists()
    assert open_registry(uri).open_run(KEY)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mlflow.db"]


def test_a_full_disk_is_said_and_nothing_half_made_remains(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", small], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        with pytest.raises(DiskFullError, match="no space left"):
            open_registry(f"sqlite:///{small}/mlflow.db")
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_every_failure_is_in_the_error_tree() -> None:
    with pytest.raises(AvskriftError):
        open_registry("http://127.0.0.1:1").version("whisper-sv", "1")


def _half_made(folder: Path) -> bool:
    return any(path.stat().st_size > 4096 for path in folder.glob(".mlflow.db.new.tmp-*/mlflow.db"))
