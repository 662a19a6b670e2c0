"""What a client and a log are not told."""

from __future__ import annotations

import grpc
import httpx
import pytest
from conftest import RunningServer, StartServer, base64_recording, recording
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
from scripted_server import BREAKING_SECONDS, SPOKEN, TRANSLATED

FILE_NAME = "samtalet-med-kanariefageln.flac"
PROMPT = "Doktor Ögonblick sade:"
HEADER = "klient-sjutton-hundra"
SECRETS = (SPOKEN.split()[0], "sjöng", TRANSLATED.split()[1], "Ögonblick", FILE_NAME, "samtalet", HEADER)


def send_everything(server: RunningServer) -> list[httpx.Response]:
    """Requests that end well and badly on every route, each carrying what must not be logged; the answers."""
    answers: list[httpx.Response] = []
    with httpx.Client(
        base_url=server.client.base_url,
        timeout=60,
        headers={"user-agent": HEADER, "x-request-id": HEADER, "cookie": f"id={HEADER}", "authorization": f"Bearer {HEADER}"},
        event_hooks={"response": [answers.append]},
    ) as client:
        _send_over_http(client)
    _send_over_grpc(server)
    return answers


def _send_over_grpc(server: RunningServer) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        for seconds in (1.5, BREAKING_SECONDS):
            tensor = {"name": "audio", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [recording(seconds)]}}
            parameters = {"prompt": messages.InferParameter(string_param=PROMPT)}
            asked = messages.ModelInferRequest(model_name="avskrift", id=HEADER, inputs=[tensor], parameters=parameters)
            if seconds == BREAKING_SECONDS:
                with pytest.raises(grpc.RpcError) as failed:
                    stub.ModelInfer(asked, metadata=(("x-client", HEADER),))
                assert not any(secret in failed.value.details() for secret in SECRETS)
            else:
                stub.ModelInfer(asked, metadata=(("x-client", HEADER),))


def _send_over_http(client: httpx.Client) -> None:
    route = "/openai/v1/audio/transcriptions"
    for seconds in (1.5, BREAKING_SECONDS):
        file = (FILE_NAME, recording(seconds))
        client.post(route, files={"file": file}, data={"prompt": PROMPT, "response_format": "srt"}, params={"token": FILE_NAME})
        client.post(route, files={"file": file}, data={"prompt": PROMPT, "stream": "true"})
        client.post("/v1/audio/translations", files={"file": file}, data={"prompt": PROMPT})
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


@pytest.mark.parametrize("form", ["text", "json"])
def test_logs_and_metrics_hold_no_word_no_name_and_no_client(start_server: StartServer, form: str) -> None:
    server = start_server("--grpc-port", "0", AVSKRIFT_LOG_FORMAT=form)
    send_everything(server)
    metrics = server.client.get("/metrics").text
    assert server.terminate() == 0
    log = server.log()
    for secret in SECRETS:
        assert secret not in log
        assert secret not in metrics
    assert "Traceback" not in log
    assert log.count("serving.transcribed") == 6
    assert "request.refused" in log


def test_what_failed_is_told_without_a_word_of_it(start_server: StartServer) -> None:
    server = start_server("--grpc-port", "0")
    failed = [answer for answer in send_everything(server) if answer.status_code >= 500]
    assert failed
    for answer in failed:
        assert not any(secret in answer.text for secret in SECRETS)


def test_a_failure_is_a_fixed_sentence_for_the_client_and_a_place_in_the_code_for_the_log(start_server: StartServer) -> None:
    server = start_server()
    openai = server.transcribe(recording(BREAKING_SECONDS))
    kserve = server.client.post("/v1/models/avskrift:predict", json={"instances": [{"audio": base64_recording(BREAKING_SECONDS)}]})
    assert openai.status_code == kserve.status_code == 500
    assert openai.json()["error"]["type"] == "server_error"
    assert openai.json()["error"]["message"] == kserve.json()["error"]
    for response in (openai, kserve):
        assert SECRETS[0] not in response.text
        assert "RuntimeError" not in response.text
    assert "error=RuntimeError where=scripted_server.py" in server.log()


def test_the_server_goes_on_after_a_failure(server: RunningServer) -> None:
    assert server.transcribe(recording(BREAKING_SECONDS)).status_code == 500
    assert server.transcribe(recording(1.5)).json() == {"text": SPOKEN}
