"""``/openai/v1``: every response format, and every way to be refused."""

from __future__ import annotations

import io
import socket
import wave
from typing import Any

import httpx
import pytest
from conftest import RunningServer, StartServer, recording
from scripted_server import SILENT_SECONDS, SPOKEN, TRANSLATED

TRANSCRIPTIONS, TRANSLATIONS = "/openai/v1/audio/transcriptions", "/openai/v1/audio/translations"


def refused(response: httpx.Response, status: int, param: str | None, code: str | None = None) -> str:
    """The message, once the answer was found to be OpenAI's error shape and nothing else."""
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert "Traceback" not in error["message"]
    return str(error["message"])


def test_json_is_the_default_format(server: RunningServer) -> None:
    response = server.transcribe(recording(1.5))
    assert response.status_code == 200
    assert response.json() == {"text": SPOKEN}


def test_text_is_the_bare_transcript(server: RunningServer) -> None:
    response = server.transcribe(recording(1.5), response_format="text")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text == f"{SPOKEN}\n"


def test_srt_has_cues_that_do_not_overlap(server: RunningServer) -> None:
    response = server.transcribe(recording(1.5), response_format="srt")
    assert response.headers["content-type"] == "application/x-subrip"
    assert response.content.decode().splitlines()[:3] == ["1", "00:00:00,000 --> 00:00:00,750", "Kanariefågeln"]
    assert response.content.decode().splitlines()[4:7] == ["2", "00:00:00,750 --> 00:00:01,500", "sjöng & teg <tyst>."]


def test_vtt_is_escaped(server: RunningServer) -> None:
    response = server.transcribe(recording(1.5), response_format="vtt")
    assert response.headers["content-type"] == "text/vtt; charset=utf-8"
    assert response.text.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:00.750\n")
    assert "sjöng &amp; teg &lt;tyst&gt;." in response.text


def test_verbose_json_has_the_segments(server: RunningServer) -> None:
    answer = server.transcribe(recording(1.5), response_format="verbose_json").json()
    assert (answer["task"], answer["language"], answer["duration"], answer["text"]) == ("transcribe", "swedish", 1.5, SPOKEN)
    assert [segment["id"] for segment in answer["segments"]] == [0, 1]


def test_words_and_segments_are_listed_as_asked_for(server: RunningServer) -> None:
    def asked(*granularities: str) -> dict[str, Any]:
        fields = {"response_format": "verbose_json", "timestamp_granularities[]": list(granularities)}
        answer: dict[str, Any] = server.client.post(TRANSCRIPTIONS, files={"file": ("a.flac", recording(1.5))}, data=fields).json()
        return answer

    both = asked("word", "segment")
    assert [word["word"] for word in both["words"]] == SPOKEN[:14].split() + SPOKEN[14:].split()
    assert all(set(word) == {"word", "start", "end"} and word["start"] < word["end"] for word in both["words"])
    assert len(both["segments"]) == 2
    assert "segments" not in asked("word")
    assert "words" not in asked("segment")
    assert set(asked()) == set(asked("segment"))


def test_granularities_that_are_none_or_have_no_place_are_refused(server: RunningServer) -> None:
    def asked(fmt: str, granularity: str) -> httpx.Response:
        return server.transcribe(recording(1.5), response_format=fmt, **{"timestamp_granularities[]": granularity})

    assert "use segment or word" in refused(asked("verbose_json", "letter"), 400, "timestamp_granularities[]")
    assert "need response_format verbose_json" in refused(asked("srt", "word"), 400, "timestamp_granularities[]")


def test_a_translation_is_english_whatever_the_format(server: RunningServer) -> None:
    def asked(fmt: str) -> httpx.Response:
        return server.client.post(TRANSLATIONS, files={"file": ("a.flac", recording(1.5))}, data={"response_format": fmt})

    assert asked("json").json() == {"text": TRANSLATED}
    assert asked("text").text == f"{TRANSLATED}\n"
    answer = asked("verbose_json").json()
    assert (answer["task"], answer["text"]) == ("translate", TRANSLATED)


def test_a_translation_takes_no_language(server: RunningServer) -> None:
    answer = server.client.post(TRANSLATIONS, files={"file": ("a.flac", recording(1.5))}, data={"language": "sv"})
    assert "no field 'language' here" in refused(answer, 400, "language", "unknown_parameter")


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/audio/translations"])
def test_the_audio_routes_are_under_kserves_prefix_too_with_openais_errors(server: RunningServer, path: str) -> None:
    answer = server.client.post(path, files={"file": ("a.flac", recording(1.5))})
    assert answer.json() == {"text": SPOKEN if path.endswith("transcriptions") else TRANSLATED}
    refused(server.client.post(path, files={"file": ("a.flac", b"")}), 422, "file", "undecodable_audio")
    assert server.client.get("/v1/models").json() == {"models": ["avskrift"]}


def test_silence_is_an_empty_transcript(server: RunningServer) -> None:
    assert server.transcribe(recording(SILENT_SECONDS)).json() == {"text": ""}
    assert server.transcribe(recording(SILENT_SECONDS), response_format="srt").text == ""


def test_a_wav_is_taken_as_well_as_a_flac(server: RunningServer) -> None:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(8000)
        wav.writeframes(bytes(2 * 8000))
    assert server.transcribe(buffer.getvalue()).json() == {"text": SPOKEN}


def test_language_prompt_and_temperature_zero_are_taken(server: RunningServer) -> None:
    fields = {"language": "English", "prompt": "Förr: ", "temperature": "0.0", "response_format": "verbose_json"}
    answer = server.transcribe(recording(1.5), **fields).json()
    assert (answer["language"], answer["text"]) == ("english", f"Förr:{SPOKEN}")


@pytest.mark.parametrize("name", ["avskrift", "whisper-1"])
def test_the_served_name_and_openais_are_models(server: RunningServer, name: str) -> None:
    assert server.transcribe(recording(1.5), model=name).status_code == 200


def test_the_list_of_models_says_which_version_answers(server: RunningServer) -> None:
    answer = server.client.get("/openai/v1/models").json()
    assert answer["object"] == "list"
    (card,) = answer["data"]
    assert (card["id"], card["object"], card["version"], len(card["sha256"])) == ("avskrift", "model", "7", 64)


def test_another_model_is_not_found(server: RunningServer) -> None:
    assert "'gpt-4o'" in refused(server.transcribe(recording(1.5), model="gpt-4o"), 404, "model", "model_not_found")


def test_a_language_that_whisper_does_not_know_is_refused(server: RunningServer) -> None:
    assert "'klingon'" in refused(server.transcribe(recording(1.5), language="klingon"), 400, "language", "unknown_language")


def test_a_language_that_the_model_does_not_know_is_refused(server: RunningServer) -> None:
    assert "'de'" in refused(server.transcribe(recording(1.5), language="de"), 400, "language", "unknown_language")


def test_an_unknown_format_is_refused_with_those_that_exist(server: RunningServer) -> None:
    assert "verbose_json" in refused(server.transcribe(recording(1.5), response_format="ass"), 400, "response_format")


@pytest.mark.parametrize("value", ["0.2", "warm", "nan"])
def test_sampling_is_refused_by_name(server: RunningServer, value: str) -> None:
    assert "temperature" in refused(server.transcribe(recording(1.5), temperature=value), 400, "temperature")


def test_an_unknown_field_is_refused_by_name(server: RunningServer) -> None:
    response = server.transcribe(recording(1.5), diarize="true")
    assert "'diarize'" in refused(response, 400, "diarize", "unknown_parameter")


def test_a_field_given_twice_is_refused(server: RunningServer) -> None:
    files = [("file", ("a.flac", recording(1.5))), ("language", (None, "sv")), ("language", (None, "en"))]
    assert "more than once" in refused(server.client.post(TRANSCRIPTIONS, files=files), 400, "language")


def test_a_second_file_is_refused(server: RunningServer) -> None:
    files = [("file", ("a.flac", recording(1.5))), ("file", ("b.flac", recording(1.5)))]
    assert "Too many files" in refused(server.client.post(TRANSCRIPTIONS, files=files), 400, None)


def test_a_missing_file_is_refused(server: RunningServer) -> None:
    response = server.client.post(TRANSCRIPTIONS, files={"language": (None, "sv")})
    assert "'file' is missing" in refused(response, 400, "file")


def test_a_file_in_a_text_field_is_refused(server: RunningServer) -> None:
    response = server.client.post(TRANSCRIPTIONS, files={"language": ("a.flac", recording(1.5))})
    assert "must be text" in refused(response, 400, "language")


def test_an_empty_file_is_refused(server: RunningServer) -> None:
    refused(server.transcribe(b""), 422, "file", "undecodable_audio")


def test_a_body_that_is_no_form_is_refused(server: RunningServer) -> None:
    assert "multipart/form-data" in refused(server.client.post(TRANSCRIPTIONS, json={"file": "x"}), 400, "file")


def test_a_form_without_its_boundary_is_refused(server: RunningServer) -> None:
    headers = {"content-type": "multipart/form-data"}
    refused(server.client.post(TRANSCRIPTIONS, content=b"--x\r\n", headers=headers), 400, None)


def test_a_type_that_is_not_audio_is_refused(server: RunningServer) -> None:
    refused(server.transcribe(b"%PDF-1.7 not a recording"), 415, "file", "unsupported_audio_type")


def test_a_recording_cut_short_is_refused(server: RunningServer) -> None:
    data = recording(1.5)
    refused(server.transcribe(data[: len(data) // 2]), 422, "file", "undecodable_audio")


def test_a_recording_over_the_limit_of_duration_is_refused(server: RunningServer) -> None:
    assert "limit of 10 s" in refused(server.transcribe(recording(10.5)), 413, "file", "audio_too_large")


def test_an_upload_over_the_limit_of_bytes_is_refused(server: RunningServer) -> None:
    assert "limit of 1 MB" in refused(server.transcribe(bytes(1_200_000)), 413, "file", "audio_too_large")


def test_a_file_just_over_the_limit_is_refused_although_its_request_is_not(server: RunningServer) -> None:
    assert "limit is 1048576" in refused(server.transcribe(b"fLaC" + bytes(1_048_573)), 413, "file", "audio_too_large")


def test_a_length_over_the_limit_is_refused_before_the_body_is_read(server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(f"POST {TRANSCRIPTIONS} HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n".encode())
        assert connection.recv(1024).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_hides_its_length_is_cut_off_at_the_limit(server: RunningServer) -> None:
    def chunks() -> list[bytes]:
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.flac"\r\n\r\n'
        return [head, *[bytes(100_000)] * 15, b"\r\n--b--\r\n"]

    headers = {"content-type": "multipart/form-data; boundary=b"}
    refused(server.client.post(TRANSCRIPTIONS, content=iter(chunks()), headers=headers), 413, "file", "audio_too_large")


def test_an_upload_that_its_sender_gave_up_is_no_fault_of_the_server(start_server: StartServer) -> None:
    server = start_server()
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        head = f"POST {TRANSCRIPTIONS} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 900\r\n"
        connection.sendall(f"{head}\r\n--b\r\n".encode())
    assert server.transcribe(recording(1.5)).json() == {"text": SPOKEN}
    server.terminate()
    assert "request.abandoned" in server.log()
    assert "request.failed" not in server.log()


def test_a_path_that_does_not_exist_is_answered_in_openais_shape(server: RunningServer) -> None:
    refused(server.client.get("/openai/v1/audio/nothing"), 404, None)


def test_the_wrong_method_names_the_right_one(server: RunningServer) -> None:
    response = server.client.get(TRANSCRIPTIONS)
    refused(response, 405, None)
    assert response.headers["allow"] == "POST"
