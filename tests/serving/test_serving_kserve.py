"""KServe's V1 and V2 protocols."""

from __future__ import annotations

import json
import struct
from typing import Any

import httpx
import pytest
from conftest import RunningServer, base64_recording, recording
from scripted_server import SPOKEN, TRANSLATED

PREDICT = "/v1/models/avskrift:predict"
INFER = "/v2/models/avskrift/infer"


def predict(server: RunningServer, *instances: Any) -> httpx.Response:
    return server.client.post(PREDICT, json={"instances": list(instances)})


def tensor(*data: Any, **changes: Any) -> dict[str, Any]:
    return {"name": "audio", "datatype": "BYTES", "shape": [len(data)], "data": list(data)} | changes


def infer(server: RunningServer, *tensors: dict[str, Any], **more: Any) -> httpx.Response:
    return server.client.post(INFER, json={"inputs": list(tensors)} | more)


def refused(response: httpx.Response, status: int = 400) -> str:
    """The message, once the answer was found to be KServe's error shape and nothing else."""
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    assert "Traceback" not in response.text
    return str(response.json()["error"])


def test_v1_transcribes_base64_plain_and_wrapped_in_the_order_given(server: RunningServer) -> None:
    short, longer = base64_recording(1.0), base64_recording(1.5)
    response = predict(server, {"audio": {"b64": longer}, "language": "en"}, {"audio": short}, {"audio": longer})
    assert response.status_code == 200
    predictions = response.json()["predictions"]
    assert [(one["text"], one["language"], one["language_probability"], one["duration"], one["segments"]) for one in predictions] == [
        (SPOKEN, "en", 1.0, 1.5, []),
        (SPOKEN, "sv", 0.75, 1.0, []),
        (SPOKEN, "sv", 0.75, 1.5, []),
    ]


def test_v1_takes_prompt_task_and_timestamps(server: RunningServer) -> None:
    response = predict(server, {"audio": base64_recording(1.5), "prompt": "Förr: ", "task": "translate", "timestamps": True})
    (prediction,) = response.json()["predictions"]
    assert prediction["text"] == f"Förr: {TRANSLATED}"
    assert [set(segment) for segment in prediction["segments"]] == [{"start", "end", "text", "avg_logprob", "no_speech_prob"}] * 2


def test_v1_takes_a_content_type_that_names_its_charset(server: RunningServer) -> None:
    body = json.dumps({"instances": [{"audio": base64_recording(1.5)}]})
    response = server.client.post(PREDICT, content=body, headers={"content-type": "application/json; charset=utf-8"})
    assert response.json()["predictions"][0]["text"] == SPOKEN


@pytest.mark.parametrize(
    ("instance", "complaint"),
    [
        ({}, "instances[0].audio is missing"),
        ("audio", "instances[0] is not an object"),
        ({"audio": "åäö"}, "instances[0].audio is not base64"),
        ({"audio": "YQ"}, "instances[0].audio is not base64"),
        ({"audio": ""}, "instances[0].audio is empty"),
        ({"audio": 7}, "instances[0].audio must be a base64 string"),
        ({"audio": {"url": "x"}}, "instances[0].audio must be a base64 string"),
        ({"audio": "YQ==", "speed": 2}, "unknown field 'speed'"),
        ({"audio": "YQ==", "task": "sing"}, "instances[0].task is 'sing'"),
        ({"audio": "YQ==", "timestamps": "yes"}, "instances[0].timestamps must be true or false"),
        ({"audio": "YQ==", "prompt": ["a"]}, "instances[0].prompt must be a string"),
        ({"audio": "YQ==", "language": "klingon"}, "'klingon'"),
    ],
)
def test_v1_refuses_a_bad_instance_by_name(server: RunningServer, instance: Any, complaint: str) -> None:
    assert complaint in refused(predict(server, instance))


@pytest.mark.parametrize("body", [b"{", b"[]", b"7", b"{}", b'{"instances": []}', b'{"instances": 7}', b"\xff"])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_v1_refuses_a_body_that_is_no_request(server: RunningServer, body: bytes, content_type: str) -> None:
    refused(server.client.post(PREDICT, content=body, headers={"content-type": content_type}))


def test_v1_says_which_recording_cannot_be_decoded(server: RunningServer) -> None:
    assert "instances[1].audio" in refused(predict(server, {"audio": base64_recording(1.0)}, {"audio": "YQ=="}), 415)


def test_v1_holds_all_recordings_together_to_the_limit_of_duration(server: RunningServer) -> None:
    six = {"audio": base64_recording(6.0)}
    assert predict(server, six).status_code == 200
    assert "instances[1].audio" in refused(predict(server, six, six), 413)


def test_v1_refuses_an_upload_over_the_limit(server: RunningServer) -> None:
    assert "limit of 1 MB" in refused(predict(server, {"audio": "A" * 1_600_000}), 413)


def test_v1_does_not_know_other_models(server: RunningServer) -> None:
    assert "nobody" in refused(server.client.post("/v1/models/nobody:predict", json={"instances": []}), 404)


def test_v1_refuses_explain(server: RunningServer) -> None:
    refused(server.client.post("/v1/models/avskrift:explain", json={"instances": [{"audio": "YQ=="}]}), 501)


def test_v2_is_live_and_ready(server: RunningServer) -> None:
    assert server.client.get("/v2/health/live").json() == {"live": True}
    assert server.client.get("/v2/health/ready").json() == {"ready": True}
    assert server.client.get("/v2/models/avskrift/ready").json() == {"name": "avskrift", "ready": True}
    assert server.client.get("/v1/models/avskrift").json() == {"name": "avskrift", "ready": True}


def test_v2_metadata_describes_what_infer_takes_and_gives(server: RunningServer) -> None:
    metadata = server.client.get("/v2/models/avskrift").json()
    assert metadata["inputs"] == [{"name": "audio", "datatype": "BYTES", "shape": [-1]}]
    answer = infer(server, tensor(base64_recording(1.5))).json()
    described = [(output["name"], output["datatype"]) for output in metadata["outputs"]]
    assert [(output["name"], output["datatype"]) for output in answer["outputs"]] == described


def test_v2_transcribes_each_element(server: RunningServer) -> None:
    request = tensor(base64_recording(1.0), base64_recording(1.5))
    answer = infer(server, request, id="17", parameters={"language": "en"}).json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("17", "avskrift", "7")
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    assert outputs == {
        "text": [SPOKEN, SPOKEN],
        "language": ["en", "en"],
        "language_probability": [1.0, 1.0],
        "duration": [1.0, 1.5],
        "segments": ["[]", "[]"],
    }


def test_v2_gives_segments_as_json_where_timestamps_are_asked_for(server: RunningServer) -> None:
    answer = infer(server, tensor(base64_recording(1.5)), parameters={"timestamps": True}).json()
    (segments,) = next(output["data"] for output in answer["outputs"] if output["name"] == "segments")
    timed = {"audio": base64_recording(1.5), "timestamps": True}
    assert json.loads(segments) == predict(server, timed).json()["predictions"][0]["segments"]


def test_v2_takes_json_that_does_not_say_so(server: RunningServer) -> None:
    body = json.dumps({"inputs": [tensor(base64_recording(1.5))]}).encode()
    assert server.client.post(INFER, content=body).json()["outputs"][0]["data"] == [SPOKEN]


def test_v2_gives_binary_outputs_to_a_client_that_asks_for_them(server: RunningServer) -> None:
    answer = infer(server, tensor(base64_recording(1.5)), parameters={"binary_data_output": True})
    length = int(answer.headers["inference-header-content-length"])
    sizes = [output["parameters"]["binary_data_size"] for output in json.loads(answer.content[:length])["outputs"]]
    assert answer.content[length + 4 : length + sizes[0]] == SPOKEN.encode()


def test_v2_gives_only_the_outputs_asked_for(server: RunningServer) -> None:
    answer = infer(server, tensor(base64_recording(1.5)), outputs=[{"name": "text"}]).json()
    assert [output["name"] for output in answer["outputs"]] == ["text"]


@pytest.mark.parametrize(
    ("tensors", "more"),
    [
        ([], {}),
        ([tensor("YQ==", name="speech")], {}),
        ([tensor("YQ=="), tensor("YQ==")], {}),
        ([tensor(1, datatype="UINT8")], {}),
        ([tensor("YQ==", shape=[2])], {}),
        ([tensor()], {}),
        ([tensor(7)], {}),
        ([tensor("?")], {}),
        ([tensor("YQ==")], {"parameters": {"speed": 2}}),
        ([tensor("YQ==")], {"parameters": {"language": "klingon"}}),
        ([tensor("YQ==")], {"outputs": [{"name": "words"}]}),
    ],
)
def test_v2_refuses_what_is_no_request(server: RunningServer, tensors: list[dict[str, Any]], more: dict[str, Any]) -> None:
    refused(infer(server, *tensors, **more))


def test_v2_refuses_a_broken_body_without_echoing_it(server: RunningServer) -> None:
    response = server.client.post(INFER, json={"inputs": "hemligheten"})
    refused(response)
    assert "hemligheten" not in response.text


def test_v2_refuses_an_upload_over_the_limit(server: RunningServer) -> None:
    assert "limit of 1 MB" in refused(infer(server, tensor("A" * 1_600_000)), 413)


def test_v2_cuts_off_a_body_that_hides_its_length(server: RunningServer) -> None:
    body = iter([b'{"inputs": [{"name": "audio", "data": ["', *[b"A" * 100_000] * 16, b'"]}]}'])
    assert "limit of 1 MB" in refused(server.client.post(INFER, content=body, headers={"content-type": "application/json"}), 413)


def binary(
    server: RunningServer, body: dict[str, Any] | bytes, after: bytes, *, length: str = "", content_type: str = "application/octet-stream"
) -> httpx.Response:
    """A V2 request as Triton's client sends it: JSON, then the tensor, and a header that says where it begins."""
    head = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"inference-header-content-length": length or str(len(head))} | ({"content-type": content_type} if content_type else {})
    return server.client.post(INFER, content=head + after, headers=headers)


def elements(*recordings: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(one)) + one for one in recordings)


def sized(size: object, *, shape: int = 1, **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "audio", "datatype": "BYTES", "shape": [shape], "parameters": {"binary_data_size": size}}]} | more


@pytest.mark.parametrize("content_type", ["application/octet-stream", "application/json", ""])
def test_v2_takes_recordings_as_they_are_after_the_json(server: RunningServer, content_type: str) -> None:
    raw = elements(recording(1.0), recording(1.5))
    answer = binary(server, sized(len(raw), shape=2, id="17", parameters={"language": "en"}), raw, content_type=content_type).json()
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    assert (answer["id"], outputs["text"], outputs["language"], outputs["duration"]) == ("17", [SPOKEN] * 2, ["en"] * 2, [1.0, 1.5])


def test_v2_gives_the_binary_outputs_that_a_binary_request_names(server: RunningServer) -> None:
    raw = elements(recording(1.5))
    answer = binary(server, sized(len(raw), outputs=[{"name": "text", "parameters": {"binary_data": True}}]), raw)
    length = int(answer.headers["inference-header-content-length"])
    assert answer.content[length + 4 :] == SPOKEN.encode()


def test_v2_takes_a_header_about_nothing_but_json(server: RunningServer) -> None:
    assert binary(server, {"inputs": [tensor(base64_recording(1.5))]}, b"").json()["outputs"][0]["data"] == [SPOKEN]


CUT = elements(b"12345678")[:-1]


@pytest.mark.parametrize(
    ("body", "after", "length", "words"),
    [
        (sized(12), b"", "0", "must be the length of the JSON"),
        (sized(12), b"", "9999", "must be the length of the JSON"),
        (sized(12), b"", "-3", "must be the length of the JSON"),
        (sized(12), b"", "all", "must be the length of the JSON"),
        (sized(12), elements(b"12345678"), "12", "are not the JSON of a V2 request"),
        (b"\xff{}", b"", "", "are not the JSON of a V2 request"),
        (b"[]", b"", "", "are not the JSON of a V2 request"),
        (sized(11), elements(b"12345678"), "", "must be the 12 bytes after the JSON"),
        (sized("12"), elements(b"12345678"), "", "must be the 12 bytes after the JSON"),
        (sized(None), elements(b"12345678"), "", "are not the JSON of a V2 request"),
        (sized(0), b"", "", "must be the 0 bytes after the JSON"),
        ({"inputs": [tensor("YQ==", parameters={"binary_data_size": 12})]}, elements(b"12345678"), "", "in place of"),
        ({"inputs": []}, b"", "", '"inputs" must hold one tensor'),
        ({"inputs": sized(6)["inputs"] * 2}, elements(b"12345678"), "", '"inputs" must hold one tensor'),
        (sized(len(CUT)), CUT, "", "does not hold the elements"),
        (sized(12, shape=2), elements(b"12345678"), "", "does not hold the elements"),
        (sized(4), elements(b""), "", "is empty"),
        (sized(12, parameters={"speed": 2}), elements(b"12345678"), "", "speed"),
    ],
)
def test_v2_refuses_binary_tensors_that_are_not_what_their_lengths_say(
    server: RunningServer, body: dict[str, Any] | bytes, after: bytes, length: str, words: str
) -> None:
    assert words in refused(binary(server, body, after, length=length))


def test_v2_refuses_a_binary_tensor_that_is_no_audio(server: RunningServer) -> None:
    raw = elements(b"hemligheten")
    assert "hemligheten" not in refused(binary(server, sized(len(raw)), raw), 415)


def test_nobody_unloads_the_model_over_http(server: RunningServer) -> None:
    refused(server.client.post("/v2/repository/models/avskrift/unload"), 404)
    assert server.client.get("/v2/models/avskrift/ready").json()["ready"] is True


def test_metrics_count_predictions(server: RunningServer) -> None:
    predict(server, {"audio": base64_recording(1.5)})
    metrics = server.client.get("/metrics").text
    assert 'request_predict_seconds_count{model_name="avskrift"}' in metrics
