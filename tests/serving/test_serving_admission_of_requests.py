"""Who gets in at the real server: uploads that stall, recordings that are still being cut, several recordings in one request."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import RunningServer, StartServer, base64_recording, recording
from scripted_server import CUT_HANGING_SECONDS, DRAGGING_SECONDS, HANG_FOLDER, SPOKEN, ScriptedTranscriber

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.serving.scheduler import Heard, Scheduler, Turn
from avskrift.whisper.transcript import Options
from avskrift.whisper.windows import Window

OPENAI, V1, V2 = "/openai/v1/audio/transcriptions", "/v1/models/avskrift:predict", "/v2/models/avskrift/infer"
DECLARED = 1 << 20
PATIENCE_S = 60.0


def stalled(server: RunningServer, path: str) -> socket.socket:
    """An upload that was announced and begun, and of which nothing more comes."""
    kind = "multipart/form-data; boundary=b" if path == OPENAI else "application/json"
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
    head = f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Type: {kind}\r\nContent-Length: {DECLARED}\r\n\r\n"
    connection.sendall(head.encode() + (b"--b\r\n" if path == OPENAI else b"{"))
    return connection


def answer_on(connection: socket.socket) -> tuple[str, Any]:
    """The status line and the body, read to the connection's end."""
    with connection, connection.makefile("rb") as stream:
        head, _, body = stream.read().partition(b"\r\n\r\n")
    return head.decode().splitlines()[0], json.loads(body)


@pytest.mark.parametrize("path", [OPENAI, V1, V2])
def test_uploads_that_stall_are_let_go_and_make_room(start_server: StartServer, path: str) -> None:
    server = start_server(AVSKRIFT_DEADLINE_SECONDS="2", AVSKRIFT_MAX_SPOOL_MB="1")
    connection = stalled(server, path)
    while (waiting := server.transcribe(recording(1.5))).status_code != 200:  # ends with pytest's own timeout
        assert waiting.status_code in (429, 504)
    status, body = answer_on(connection)
    assert status == "HTTP/1.1 408 Request Timeout"
    if path == OPENAI:
        assert (body["error"]["type"], body["error"]["code"]) == ("invalid_request_error", "upload_too_slow")
    assert "had not arrived after 2 s" in (body["error"]["message"] if path == OPENAI else body["error"])
    assert waiting.json() == {"text": SPOKEN}
    assert 'status="408"' in server.client.get("/metrics").text


@pytest.fixture
def slow(start_server: StartServer, tmp_path: Path) -> RunningServer:
    """A server that knows its engine to read at most 2 seconds a second, so that no more than 20 s may be ahead."""
    server = start_server(AVSKRIFT_DEADLINE_SECONDS="20", **{HANG_FOLDER: str(tmp_path)})
    assert server.transcribe(recording(DRAGGING_SECONDS)).status_code == 200
    return server


@pytest.mark.parametrize("stream", ["false", "true"])
def test_a_recording_that_is_still_being_cut_is_ahead_of_those_who_come_after_it(slow: RunningServer, tmp_path: Path, stream: str) -> None:
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=slow.client.base_url, timeout=PATIENCE_S) as another:
        first = pool.submit(slow.transcribe, recording(CUT_HANGING_SECONDS), stream=stream)
        while not (tmp_path / "started").exists() and not first.done():  # ends with pytest's own timeout
            time.sleep(0.01)
        second = another.post(OPENAI, files={"file": ("a.flac", recording(CUT_HANGING_SECONDS))})
        (tmp_path / "released").touch()
        assert (second.status_code, second.headers.get("retry-after", "").isdigit()) == (429, True)
        assert first.result().status_code == 200


@pytest.mark.parametrize("durations", [(1.0, 25.0), (25.0, 1.0), (26.0,)])
def test_a_request_that_is_alone_is_let_in_however_many_recordings_it_has(slow: RunningServer, durations: tuple[float, ...]) -> None:
    audio = [base64_recording(seconds) for seconds in durations]
    v1 = slow.client.post(V1, json={"instances": [{"audio": one} for one in audio]})
    assert [prediction["duration"] for prediction in v1.json()["predictions"]] == list(durations)
    tensor = {"name": "audio", "datatype": "BYTES", "shape": [len(audio)], "data": audio}
    assert slow.client.post(V2, json={"inputs": [tensor]}).status_code == 200


def test_the_recordings_of_a_request_are_let_in_together_or_not_at_all(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(AVSKRIFT_MAX_QUEUE_SECONDS="20", **{HANG_FOLDER: str(tmp_path)})
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=server.client.base_url, timeout=PATIENCE_S) as another:
        first = pool.submit(server.transcribe, recording(CUT_HANGING_SECONDS))
        while not (tmp_path / "started").exists() and not first.done():
            time.sleep(0.01)
        two = {"instances": [{"audio": base64_recording(5.0)}] * 2}
        assert another.post(V1, json=two).status_code == 429, "12 + 5 + 5 s are more than 20"
        (tmp_path / "released").touch()
        assert first.result().status_code == 200
    assert server.client.post(V1, json=two).status_code == 200
    assert server.log().count("serving.transcribed") == 3


def test_a_place_in_the_queue_counts_until_it_is_given_up_or_taken() -> None:
    queue, done = Scheduler(ScriptedTranscriber()), threading.Event()

    def tell(_item: Heard | Exception) -> None:
        done.set()

    window = Window(0, 0, np.zeros(int(DRAGGING_SECONDS * SAMPLE_RATE), dtype=np.float32), first=True)
    queue.submit(Turn(windows=[window], options=Options(language="sv"), on_heard=tell, on_failure=tell))
    assert done.wait(PATIENCE_S)
    alone = queue.wait_s(10.0)
    assert alone > 0
    with queue.kept([10.0, 20.0]) as (first, second):
        assert queue.wait_s(10.0) == pytest.approx(4 * alone)
        queue.free(second)
        queue.free(second)
        assert queue.wait_s(10.0) == pytest.approx(2 * alone)
        assert first.seconds == 10.0
    assert queue.wait_s(10.0) == pytest.approx(alone)
    with pytest.raises(ZeroDivisionError), queue.kept([10.0]):
        raise ZeroDivisionError
    assert queue.wait_s(10.0) == pytest.approx(alone)
