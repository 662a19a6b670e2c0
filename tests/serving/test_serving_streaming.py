"""Server-sent events: text as it is known, and what became of it where something failed on the way."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import RunningServer, StartServer, recording
from scripted_server import BREAKING_SECONDS, HANG_FOLDER, HANGING_SECONDS, SILENT_SECONDS, SPOKEN, TRANSLATED

FIRST, SECOND = SPOKEN[:13], SPOKEN[14:]


def ask(server: RunningServer, seconds: float, path: str = "/openai/v1/audio/transcriptions", **fields: str) -> httpx.Response:
    return server.client.post(path, files={"file": ("a.flac", recording(seconds))}, data={"stream": "true", **fields})


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    frames = answer.text.split("\n\n")
    assert frames.pop() == ""
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


@pytest.mark.parametrize("path", ["/openai/v1/audio/transcriptions", "/v1/audio/transcriptions"])
def test_text_comes_in_deltas_and_whole_at_the_end(server: RunningServer, path: str) -> None:
    assert events(ask(server, 1.5, path)) == [
        {"type": "transcript.text.delta", "delta": SPOKEN},
        {"type": "transcript.text.done", "text": SPOKEN},
    ]


def test_verbose_json_has_segments_with_their_times(server: RunningServer) -> None:
    first, first_delta, second, second_delta, done = events(ask(server, 1.5, response_format="verbose_json"))
    assert first == {"type": "transcript.text.segment", "id": 0, "start": 0.0, "end": 0.85, "text": FIRST}
    assert second == {"type": "transcript.text.segment", "id": 1, "start": 0.75, "end": 2.5, "text": SECOND}
    assert [first_delta["delta"], second_delta["delta"]] == [FIRST, f" {SECOND}"]
    whole = server.transcribe(recording(1.5), response_format="verbose_json").json()
    assert done == {"type": "transcript.text.done"} | whole


def test_a_translation_is_streamed_too(server: RunningServer) -> None:
    assert events(ask(server, 1.5, "/openai/v1/audio/translations"))[-1]["text"] == TRANSLATED


def test_of_silence_there_is_the_end_alone(server: RunningServer) -> None:
    assert events(ask(server, SILENT_SECONDS)) == [{"type": "transcript.text.done", "text": ""}]


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"stream": "perhaps"}, 400, "stream"),
        ({"response_format": "srt"}, 400, "stream"),
        ({"response_format": "vtt"}, 400, "stream"),
        ({"language": "fi"}, 400, "language"),
    ],
)
def test_what_is_refused_is_refused_with_a_status(server: RunningServer, fields: dict[str, str], status: int, param: str) -> None:
    answer = ask(server, 1.5, **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


def test_a_failure_before_the_first_word_is_a_status_without_the_reason(server: RunningServer) -> None:
    answer = ask(server, BREAKING_SECONDS)
    assert answer.status_code == 500
    assert "Kanariefågeln" not in answer.text


def test_a_client_that_leaves_frees_its_place(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(AVSKRIFT_MAX_QUEUE_SECONDS="5", **{HANG_FOLDER: str(tmp_path)})
    for fields in ({}, {"stream": "true"}):
        with pytest.raises(httpx.ReadTimeout):
            server.client.post(
                "/openai/v1/audio/transcriptions",
                files={"file": ("a.flac", recording(HANGING_SECONDS))},
                data=fields,
                timeout=httpx.Timeout(60, read=1),
            )
        wait_until_empty(server)
        (tmp_path / "released").touch()
        assert server.transcribe(recording(1.5)).json() == {"text": SPOKEN}
        (tmp_path / "released").unlink()


def test_a_full_queue_says_when_to_come_again(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(AVSKRIFT_MAX_QUEUE_SECONDS="5", AVSKRIFT_DEADLINE_SECONDS="2", **{HANG_FOLDER: str(tmp_path)})
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=server.client.base_url, timeout=60) as another:
        first = pool.submit(lambda: server.transcribe(recording(HANGING_SECONDS)))
        while queued_seconds(another) < HANGING_SECONDS:
            time.sleep(0.01)
        refused = another.post("/openai/v1/audio/transcriptions", files={"file": ("a.flac", recording(1.5))})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["error"]["code"] == "busy"
        instance = {"instances": [{"audio": ""}]}
        assert another.post("/v1/models/avskrift:predict", json=instance).status_code == 400, "there is room for what is nothing"
        late = first.result()
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
        (tmp_path / "released").touch()


def wait_until_empty(server: RunningServer) -> None:
    while queued_seconds(server.client):  # ends with pytest's own timeout
        time.sleep(0.01)


def queued_seconds(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    (value,) = [line.split()[1] for line in lines if line.startswith("avskrift_queue_audio_seconds ")]
    return float(value)
