"""Starting, refusing to start, answering while busy, and stopping."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from conftest import RunningServer, StartServer, recording, server_command
from scripted_server import HANG_FOLDER, HANGING_SECONDS, SPOKEN

from avskrift.deployment.client import Question
from avskrift.deployment.patience import PatientEndpoint
from avskrift.errors import IntegrityError, PackageError, PortTakenError, UsageError
from avskrift.storage.manifest import verify_folder
from avskrift.whisper.package import open_package


def refuses_to_start(package: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """The exit code and the one sentence of a server that did not start."""
    done = subprocess.run(server_command(package, *arguments), env=os.environ | environment, capture_output=True, text=True, timeout=60)
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("avskrift.serving: ")]
    assert "Traceback" not in done.stderr
    assert "serving.ready" not in done.stderr
    return done.returncode, sentence


def wait_for(file: Path) -> None:
    while not file.exists():  # ends with pytest's own timeout
        time.sleep(0.01)


def test_a_taken_port_is_named_before_the_model_is_loaded(package: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, sentence = refuses_to_start(package, "--port", str(port))
    assert code == PortTakenError.exit_code
    assert str(port) in sentence
    assert "--port" in sentence


def test_a_package_that_was_changed_is_not_served(package: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(package, tmp_path / "package"))
    (copy / "ct2" / "model.bin").write_bytes(b"WEIGHTS")
    with pytest.raises(IntegrityError):
        verify_folder(copy, open_package(copy).description.files)
    code, sentence = refuses_to_start(copy, "--port", "0")
    assert code == IntegrityError.exit_code
    assert "ct2/model.bin" in sentence


def test_a_package_that_is_not_the_registered_one_is_not_served(package: Path) -> None:
    code, sentence = refuses_to_start(package, "--package-sha256", "cd" * 32)
    assert code == IntegrityError.exit_code
    found = open_package(package).description.sha256
    assert f"holds the package with sha256 {found}, not {'cd' * 32}, which the registry holds of this version" in sentence


def test_the_registered_package_is_served(start_server: StartServer, package: Path) -> None:
    assert start_server("--package-sha256", open_package(package).description.sha256)


def test_a_folder_that_is_no_package_is_not_served(tmp_path: Path) -> None:
    code, sentence = refuses_to_start(tmp_path, "--port", "0")
    assert code == PackageError.exit_code
    assert "model.json" in sentence


@pytest.mark.parametrize(
    ("arguments", "environment", "named"),
    [
        (("--port", "0"), {"AVSKRIFT_THREADS": "many"}, "AVSKRIFT_THREADS"),
        (("--port", "70000"), {}, "70000"),
        (("--port", "0", "--host", "192.0.2.1"), {}, "192.0.2.1"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(package: Path, arguments: tuple[str, ...], environment: dict[str, str], named: str) -> None:
    code, sentence = refuses_to_start(package, *arguments, **environment)
    assert code == UsageError.exit_code
    assert named in sentence


def test_the_model_answers_under_the_name_it_was_given(start_server: StartServer) -> None:
    server = start_server("--name", "rost")
    assert server.client.get("/v2/models/rost/ready").json() == {"name": "rost", "ready": True}
    assert server.transcribe(recording(1.5), model="rost").json() == {"text": SPOKEN}
    assert server.transcribe(recording(1.5), model="avskrift").status_code == 404


def test_it_listens_on_the_loopback_address_alone_unless_told(start_server: StartServer) -> None:
    server = start_server()
    with pytest.raises(ConnectionRefusedError):
        # Another address of the same machine: all of 127.0.0.0/8 is the loopback interface.
        socket.create_connection(("127.0.0.2", server.port), timeout=60)


def test_it_listens_on_every_address_when_told(start_server: StartServer) -> None:
    server = start_server("--host", "0.0.0.0")
    assert httpx.get(f"http://127.0.0.2:{server.port}/v2/health/ready").json() == {"ready": True}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_server_with_exit_code_0(start_server: StartServer, number: signal.Signals) -> None:
    server = start_server()
    assert server.client.get("/v2/health/ready").status_code == 200  # and its connection is kept alive
    server.process.send_signal(number)
    assert server.process.wait(timeout=60) == 0
    assert "Traceback" not in server.log()
    assert "serving.stopped" in server.log()


def test_the_port_is_free_again_after_the_end(start_server: StartServer, package: Path) -> None:
    first = start_server()
    first.transcribe(recording(1.5))
    first.terminate()
    second = start_server("--port", str(first.port))
    assert second.port == first.port
    assert second.transcribe(recording(1.5)).json() == {"text": SPOKEN}


def in_background(server: RunningServer, answers: list[httpx.Response]) -> threading.Thread:
    def transcribe() -> None:
        try:
            answers.append(server.transcribe(recording(HANGING_SECONDS)))
        except httpx.HTTPError:
            return

    thread = threading.Thread(target=transcribe)
    thread.start()
    return thread


def test_health_checks_are_answered_while_a_transcription_runs(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(**{HANG_FOLDER: str(tmp_path)})
    answers: list[httpx.Response] = []
    thread = in_background(server, answers)
    wait_for(tmp_path / "started")
    assert server.client.get("/v2/health/ready").json() == {"ready": True}
    assert server.client.get("/v2/models/avskrift/ready").json()["ready"] is True
    assert not answers
    (tmp_path / "released").touch()
    thread.join()
    assert answers[0].json() == {"text": SPOKEN}


def test_a_request_in_flight_is_answered_before_the_end(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(**{HANG_FOLDER: str(tmp_path)}, AVSKRIFT_GRACE_SECONDS="60")
    answers: list[httpx.Response] = []
    thread = in_background(server, answers)
    wait_for(tmp_path / "started")
    server.process.send_signal(signal.SIGTERM)
    (tmp_path / "released").touch()
    thread.join()
    assert answers[0].json() == {"text": SPOKEN}
    assert server.process.wait(timeout=60) == 0


def test_a_transcription_that_does_not_end_does_not_hold_the_server(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(**{HANG_FOLDER: str(tmp_path)}, AVSKRIFT_GRACE_SECONDS="1")
    answers: list[httpx.Response] = []
    thread = in_background(server, answers)
    wait_for(tmp_path / "started")
    assert server.terminate() == 0
    thread.join()
    assert (answers[0].status_code, answers[0].headers["retry-after"]) == (503, "1")
    assert answers[0].json()["error"]["code"] == "stopping"
    assert "CancelledError" not in server.log(), "uvicorn was left to answer"


def test_our_own_client_asks_again_after_a_server_was_stopped_under_it(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(**{HANG_FOLDER: str(tmp_path)}, AVSKRIFT_GRACE_SECONDS="1")
    file = tmp_path / "a.flac"
    file.write_bytes(recording(HANGING_SECONDS))

    def another_server(_seconds: float) -> None:
        server.process.wait(timeout=60)
        (tmp_path / "released").touch()
        start_server("--port", str(server.port), **{HANG_FOLDER: str(tmp_path)})

    patient = PatientEndpoint(f"http://127.0.0.1:{server.port}", sleep=another_server)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(patient.ask, file, Question(model="avskrift"))
        wait_for(tmp_path / "started")
        server.process.send_signal(signal.SIGTERM)
        assert asked.result() == f"{SPOKEN}\n"


def test_the_command_explains_itself_and_refuses_what_it_does_not_know() -> None:
    command = [sys.executable, "-m", "avskrift.serving"]
    helped = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60)
    assert helped.returncode == 0
    assert "--package DIR" in helped.stdout
    wrong = subprocess.run([*command, "--package", "x", "--gpu"], capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 2
    assert "--gpu" in wrong.stderr
