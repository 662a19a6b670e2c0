"""What a client and a log are not told."""

from __future__ import annotations

from conftest import RunningServer, StartServer, base64_recording, recording
from scripted_server import BREAKING_SECONDS, SPOKEN

FILE_NAME = "samtalet-med-kanariefageln.flac"
PROMPT = "Doktor Ögonblick sade:"
WORD = SPOKEN.split()[0]


def send_everything(server: RunningServer) -> None:
    """Requests that end well and badly on every route, each carrying what must not be logged."""
    client = server.client
    route = "/openai/v1/audio/transcriptions"
    for seconds in (1.5, BREAKING_SECONDS):
        file = (FILE_NAME, recording(seconds))
        client.post(route, files={"file": file}, data={"prompt": PROMPT, "response_format": "srt"}, params={"token": FILE_NAME})
        client.post(route, files={"file": file}, data={FILE_NAME: PROMPT})
        client.post(route, files={"file": file}, data={"language": FILE_NAME})
        instance = {"audio": base64_recording(seconds), "prompt": PROMPT}
        client.post("/v1/models/avskrift:predict", json={"instances": [instance]})
        client.post("/v1/models/avskrift:predict", json={"instances": [instance | {FILE_NAME: PROMPT}]})
        tensor = {"name": "audio", "datatype": "BYTES", "shape": [1], "data": [base64_recording(seconds)]}
        client.post("/v2/models/avskrift/infer", json={"inputs": [tensor], "parameters": {"prompt": PROMPT}})
        client.post("/v2/models/avskrift/infer", json={"inputs": PROMPT})
    client.post(route, files={"file": (FILE_NAME, PROMPT.encode())})
    client.get(f"/{FILE_NAME}")


def test_the_log_holds_no_transcript_no_prompt_and_no_file_name(start_server: StartServer) -> None:
    server = start_server()
    send_everything(server)
    assert server.terminate() == 0
    log = server.log()
    for secret in (WORD, "sjöng", "Ögonblick", FILE_NAME, "samtalet"):
        assert secret not in log
    assert "Traceback" not in log
    assert log.count("serving.transcribed") == 3
    assert "request.refused" in log


def test_a_failure_is_a_fixed_sentence_for_the_client_and_a_place_in_the_code_for_the_log(start_server: StartServer) -> None:
    server = start_server()
    openai = server.transcribe(recording(BREAKING_SECONDS))
    kserve = server.client.post("/v1/models/avskrift:predict", json={"instances": [{"audio": base64_recording(BREAKING_SECONDS)}]})
    assert openai.status_code == kserve.status_code == 500
    assert openai.json()["error"]["type"] == "server_error"
    assert openai.json()["error"]["message"] == kserve.json()["error"]
    for response in (openai, kserve):
        assert WORD not in response.text
        assert "RuntimeError" not in response.text
    assert "error=RuntimeError where=scripted_server.py" in server.log()


def test_the_server_goes_on_after_a_failure(server: RunningServer) -> None:
    assert server.transcribe(recording(BREAKING_SECONDS)).status_code == 500
    assert server.transcribe(recording(1.5)).json() == {"text": SPOKEN}
