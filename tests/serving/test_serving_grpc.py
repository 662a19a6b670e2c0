"""KServe's V2 protocol over gRPC: the same model, limits and sentences as over HTTP."""

from __future__ import annotations

import datetime
import io
import ipaddress
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import RunningServer, StartServer, base64_recording, recording, server_command
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from grpc import StatusCode
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as v2
from scripted_server import BREAKING_SECONDS, HANG_FOLDER, HANGING_SECONDS, SPOKEN, TRANSLATED

from avskrift.errors import PortTakenError

_PATIENCE_SECONDS = 60
_UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def stub_of(server: RunningServer) -> Any:
    return v2.GRPCInferenceServiceStub(grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=_UNLIMITED))


@pytest.fixture
def stub(server: RunningServer) -> Any:
    return stub_of(server)


def request(*recordings: bytes, raw: bool = False, **changes: Any) -> Any:
    """A ModelInfer request, with the recordings where the protocol has two places for them; parameters by ``parameters``."""
    tensor = {"name": "audio", "datatype": "BYTES", "shape": [len(recordings)]} | changes.pop("tensor", {})
    if not raw:
        tensor["contents"] = {"bytes_contents": list(recordings)}
    fields = {"model_name": "avskrift", "inputs": [tensor], "raw_input_contents": [prefixed(recordings)] if raw else []} | changes
    return pb.ModelInferRequest(**fields)


def prefixed(elements: Sequence[bytes]) -> bytes:
    """BYTES elements as V2 has them in one piece: four bytes of length before each."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def text_parameter(value: str) -> Any:
    return pb.InferParameter(string_param=value)


def refused(call: Any, *arguments: Any, code: StatusCode = StatusCode.INVALID_ARGUMENT) -> str:
    """The sentence, once the call was found to end with this status."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, timeout=_PATIENCE_SECONDS)
    error: Any = caught.value
    assert error.code() == code, error.details()
    assert "Traceback" not in error.details()
    return str(error.details())


def outputs(answer: Any) -> dict[str, list[Any]]:
    """What an answer without raw contents holds."""
    return {one.name: list(one.contents.bytes_contents or one.contents.fp32_contents) for one in answer.outputs}


def test_it_is_live_and_ready(stub: Any) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    assert stub.ModelReady(pb.ModelReadyRequest(name="avskrift")).ready
    assert stub.ServerMetadata(pb.ServerMetadataRequest()).name == "kserve"


def test_metadata_is_what_http_says(server: RunningServer, stub: Any) -> None:
    over_http = server.client.get("/v2/models/avskrift").json()
    over_grpc = stub.ModelMetadata(pb.ModelMetadataRequest(name="avskrift"))
    assert list(over_grpc.versions) == over_http["versions"] == ["7"], "the registry's, which the server was told"
    for tensors in ("inputs", "outputs"):
        described = [{"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in getattr(over_grpc, tensors)]
        assert described == over_http[tensors]


@pytest.mark.parametrize("raw", [False, True])
def test_recordings_are_sent_as_their_bytes_in_either_place(stub: Any, raw: bool) -> None:
    answer = stub.ModelInfer(request(recording(1.0), recording(1.5), raw=raw, id="17", parameters={"language": text_parameter("en")}))
    assert (answer.id, answer.model_name, answer.model_version) == ("17", "avskrift", "7")
    assert [(one.name, one.datatype, list(one.shape)) for one in answer.outputs] == [
        ("text", "BYTES", [2]),
        ("language", "BYTES", [2]),
        ("language_probability", "FP32", [2]),
        ("duration", "FP32", [2]),
        ("segments", "BYTES", [2]),
    ]
    if raw:  # whoever sends raw contents is answered with them
        assert answer.raw_output_contents[0] == prefixed([SPOKEN.encode()] * 2)
        assert answer.raw_output_contents[3] == struct.pack("<2f", 1.0, 1.5)
    else:
        assert outputs(answer)["text"] == [SPOKEN.encode()] * 2
        assert outputs(answer)["duration"] == [1.0, 1.5]


def test_grpc_and_http_give_one_answer(server: RunningServer, stub: Any) -> None:
    parameters = {"language": "en", "task": "translate", "prompt": "Förr: ", "timestamps": True}
    tensor = {"name": "audio", "datatype": "BYTES", "shape": [1], "data": [base64_recording(1.5)]}
    over_http = server.client.post("/v2/models/avskrift/infer", json={"inputs": [tensor], "parameters": parameters}).json()
    given = {
        name: pb.InferParameter(bool_param=value) if isinstance(value, bool) else text_parameter(str(value))
        for name, value in parameters.items()
    }
    over_grpc = outputs(stub.ModelInfer(request(recording(1.5), parameters=given)))
    for one in over_http["outputs"]:
        expected = [value.encode() if isinstance(value, str) else value for value in one["data"]]
        assert over_grpc[one["name"]] == expected
    assert over_grpc["text"] == [f"Förr: {TRANSLATED}".encode()]
    assert [segment["start"] for segment in json.loads(over_grpc["segments"][0])] == [0.0, 0.75]


def test_only_the_outputs_asked_for_are_given(stub: Any) -> None:
    assert set(outputs(stub.ModelInfer(request(recording(1.5), outputs=[{"name": "text"}])))) == {"text"}


def test_an_output_that_is_none_is_refused(stub: Any) -> None:
    assert "'words'" in refused(stub.ModelInfer, request(recording(1.5), outputs=[{"name": "words"}]))


@pytest.mark.parametrize(
    "broken",
    [
        request(),
        request(b""),
        request(b"YQ==", tensor={"name": "speech"}),
        request(b"YQ==", tensor={"datatype": "UINT8"}),
        request(b"YQ==", tensor={"datatype": "no type"}),
        request(b"YQ==", tensor={"shape": [2]}),
        request(b"YQ==", tensor={"shape": [1, 1]}),
        request(b"YQ==", tensor={"shape": [-1]}),
        request(b"YQ==", inputs=[]),
        request(raw_input_contents=[struct.pack("<I", 2**31) + b"short"], raw=True, tensor={"shape": [1]}),
        request(b"YQ==", raw_input_contents=[b"\x01"]),
        request(raw_input_contents=[b"\x01"], raw=True),
        request(raw_input_contents=[b"", b""], raw=True),
        request(b"YQ==", parameters={"speed": pb.InferParameter(int64_param=2)}),
        request(b"YQ==", parameters={"language": text_parameter("klingon")}),
        request(b"YQ==", parameters={"language": pb.InferParameter()}),
        request(b"YQ==", parameters={"timestamps": text_parameter("yes")}),
    ],
)
def test_what_is_no_request_is_an_invalid_argument(stub: Any, broken: Any) -> None:
    refused(stub.ModelInfer, broken)


def test_the_recording_that_cannot_be_decoded_is_named(stub: Any) -> None:
    assert "audio[1]" in refused(stub.ModelInfer, request(recording(1.0), b"%PDF-1.7 not a recording"))


def test_base64_is_no_recording_over_grpc(stub: Any) -> None:
    refused(stub.ModelInfer, request(base64_recording(1.5).encode()))


def test_limits_hold_as_over_http(stub: Any) -> None:
    assert "limit of 10 s" in refused(stub.ModelInfer, request(recording(10.5)))
    assert "limit is 1048576" in refused(stub.ModelInfer, request(b"fLaC" + bytes(1_048_573)))
    refused(stub.ModelInfer, request(bytes(1_200_000)), code=StatusCode.RESOURCE_EXHAUSTED)


def test_a_message_that_unpacks_to_more_than_the_limit_is_refused(server: RunningServer) -> None:
    channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=_UNLIMITED, compression=grpc.Compression.Gzip)
    refused(v2.GRPCInferenceServiceStub(channel).ModelInfer, request(bytes(50_000_000)), code=StatusCode.RESOURCE_EXHAUSTED)


def test_an_upload_over_grpcs_own_limit_of_4_mb_is_heard(start_server: StartServer) -> None:
    server = start_server("--grpc-port", "0")
    long = io.BytesIO()
    with wave.open(long, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(24 << 20))
    assert outputs(stub_of(server).ModelInfer(request(long.getvalue())))["text"] == [SPOKEN.encode()]


def test_another_model_is_not_found(stub: Any) -> None:
    for call, message in (
        (stub.ModelInfer, request(recording(1.5), model_name="nobody")),
        (stub.ModelReady, pb.ModelReadyRequest(name="nobody")),
        (stub.ModelMetadata, pb.ModelMetadataRequest(name="nobody")),
    ):
        assert "nobody" in refused(call, message, code=StatusCode.NOT_FOUND)


def test_versions_and_the_repository_are_not_offered(server: RunningServer, stub: Any) -> None:
    for call, message in (
        (stub.ModelInfer, request(recording(1.5), model_version="6")),
        (stub.ModelReady, pb.ModelReadyRequest(name="avskrift", version="6")),
        (stub.ModelMetadata, pb.ModelMetadataRequest(name="avskrift", version="6")),
        (stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="avskrift")),
        (stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name="avskrift")),
    ):
        refused(call, message, code=StatusCode.UNIMPLEMENTED)
    assert server.client.get("/v2/models/avskrift/ready").json()["ready"] is True


def test_a_fault_is_the_same_fixed_sentence_as_over_http(server: RunningServer, stub: Any) -> None:
    over_http = server.transcribe(recording(BREAKING_SECONDS)).json()["error"]["message"]
    assert refused(stub.ModelInfer, request(recording(BREAKING_SECONDS)), code=StatusCode.INTERNAL) == over_http


def counted(server: RunningServer, status: int) -> float:
    """Calls that ended so, by the server's metrics."""
    found = re.search(rf'avskrift_requests_total{{protocol="grpc",status="{status}"}} (\S+)', server.client.get("/metrics").text)
    return float(found[1]) if found else 0.0


def test_calls_are_counted_by_the_status_that_http_has(server: RunningServer, stub: Any) -> None:
    before = {status: counted(server, status) for status in (200, 415)}
    stub.ModelInfer(request(recording(1.5)))
    refused(stub.ModelInfer, request(b"%PDF-1.7 not a recording"))
    stub.ServerLive(pb.ServerLiveRequest())
    assert {status: counted(server, status) for status in (200, 415)} == {200: before[200] + 1, 415: before[415] + 1}


def test_a_full_server_says_when_to_come_back(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("--grpc-port", "0", **{HANG_FOLDER: str(tmp_path)}, AVSKRIFT_MAX_QUEUE_SECONDS="4")
    first = stub_of(server).ModelInfer.future(request(recording(HANGING_SECONDS)))
    wait_for(tmp_path / "started")
    with pytest.raises(grpc.RpcError) as caught:
        stub_of(server).ModelInfer(request(recording(1.5)))
    error: Any = caught.value
    assert error.code() == StatusCode.RESOURCE_EXHAUSTED
    assert int(dict(error.trailing_metadata())["retry-after"]) >= 1
    (tmp_path / "released").touch()
    assert outputs(first.result())["text"] == [SPOKEN.encode()]


def test_an_answer_that_is_not_ready_before_the_servers_deadline_is_not_awaited(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("--grpc-port", "0", **{HANG_FOLDER: str(tmp_path)}, AVSKRIFT_DEADLINE_SECONDS="0.5")
    refused(stub_of(server).ModelInfer, request(recording(HANGING_SECONDS)), code=StatusCode.DEADLINE_EXCEEDED)
    (tmp_path / "released").touch()


def test_the_log_holds_no_transcript_and_no_prompt(start_server: StartServer) -> None:
    server = start_server("--grpc-port", "0")
    parameters = {"prompt": text_parameter("Doktor Ögonblick sade:")}
    stub_of(server).ModelInfer(request(recording(1.5), parameters=parameters))
    refused(stub_of(server).ModelInfer, request(recording(BREAKING_SECONDS), parameters=parameters), code=StatusCode.INTERNAL)
    refused(stub_of(server).ModelInfer, request(b"Doktor"))
    assert server.terminate() == 0
    for secret in ("Kanarie", "Ögonblick", "Doktor", "Traceback"):
        assert secret not in server.log()


def wait_for(file: Path) -> None:
    while not file.exists():  # ends with pytest's own timeout
        time.sleep(0.01)


def accepts_connections(server: RunningServer) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.grpc_port or 0), timeout=_PATIENCE_SECONDS).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture
def hanging(start_server: StartServer, tmp_path: Path) -> Iterator[RunningServer]:
    """A server that is told to finish whatever hangs at the end, so that its client is not left waiting."""
    yield start_server("--grpc-port", "0", **{HANG_FOLDER: str(tmp_path)}, AVSKRIFT_GRACE_SECONDS="60")
    (tmp_path / "released").touch()


def test_a_call_that_was_cancelled_before_its_turn_is_never_transcribed(hanging: RunningServer, tmp_path: Path) -> None:
    stub = stub_of(hanging)
    first = stub.ModelInfer.future(request(recording(HANGING_SECONDS)))
    wait_for(tmp_path / "started")
    second = stub.ModelInfer.future(request(recording(1.5)))
    third = stub.ModelInfer.future(request(recording(1.0)), timeout=0.5)
    refused(lambda timeout: third.result(timeout), code=StatusCode.DEADLINE_EXCEEDED)
    second.cancel()
    stub.ServerLive(pb.ServerLiveRequest())  # sent after the cancellation on one connection, so it is known once this is answered
    (tmp_path / "released").touch()
    assert outputs(first.result())["text"] == [SPOKEN.encode()]
    assert outputs(stub.ModelInfer(request(recording(2.5))))["duration"] == [2.5]
    assert hanging.terminate() == 0
    assert hanging.log().count("serving.transcribed") == 2


def test_a_call_in_flight_is_answered_before_the_end_and_new_ones_are_not_taken(hanging: RunningServer, tmp_path: Path) -> None:
    in_flight = stub_of(hanging).ModelInfer.future(request(recording(HANGING_SECONDS)))
    wait_for(tmp_path / "started")
    hanging.process.send_signal(signal.SIGTERM)
    while accepts_connections(hanging):  # ends with pytest's own timeout
        time.sleep(0.01)
    (tmp_path / "released").touch()
    assert outputs(in_flight.result())["text"] == [SPOKEN.encode()]
    assert hanging.process.wait(timeout=_PATIENCE_SECONDS) == 0
    assert "Traceback" not in hanging.log()


def test_a_call_that_does_not_end_does_not_hold_the_server(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("--grpc-port", "0", **{HANG_FOLDER: str(tmp_path)}, AVSKRIFT_GRACE_SECONDS="1")
    in_flight = stub_of(server).ModelInfer.future(request(recording(HANGING_SECONDS)))
    wait_for(tmp_path / "started")
    assert server.terminate() == 0
    with pytest.raises(grpc.RpcError):
        in_flight.result()


def test_http_answers_while_grpc_waits(hanging: RunningServer, tmp_path: Path) -> None:
    in_flight = stub_of(hanging).ModelInfer.future(request(recording(HANGING_SECONDS)))
    wait_for(tmp_path / "started")
    assert hanging.client.get("/v2/health/ready").json() == {"ready": True}
    assert stub_of(hanging).ServerReady(pb.ServerReadyRequest()).ready
    (tmp_path / "released").touch()
    in_flight.result()


def test_a_taken_port_is_named_before_the_model_is_loaded(package: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = subprocess.run(
            server_command(package, "--port", "0", "--grpc-port", port), env=os.environ, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == PortTakenError.exit_code
    assert f"port {port} on 127.0.0.1 is taken by another process; choose another with --grpc-port" in done.stderr
    assert "serving.loaded" not in done.stderr
    assert "Traceback" not in done.stderr


def test_two_servers_do_not_share_a_port(server: RunningServer, package: Path) -> None:
    command = server_command(package, "--port", "0", "--grpc-port", str(server.grpc_port))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == PortTakenError.exit_code
    assert "Traceback" not in done.stderr


def test_it_listens_on_the_address_that_http_listens_on(server: RunningServer) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", server.grpc_port or 0), timeout=_PATIENCE_SECONDS)


def certificate_for_this_machine(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(signed.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, private


def test_it_is_encrypted_where_http_is(start_server: StartServer, tmp_path: Path) -> None:
    certificate, key = certificate_for_this_machine(tmp_path)
    server = start_server("--grpc-port", "0", KSERVE_TLS_CERT_FILE=str(certificate), KSERVE_TLS_KEY_FILE=str(key))
    trusted = grpc.ssl_channel_credentials(certificate.read_bytes())
    stub = v2.GRPCInferenceServiceStub(grpc.secure_channel(f"127.0.0.1:{server.grpc_port}", trusted))
    assert outputs(stub.ModelInfer(request(recording(1.5))))["text"] == [SPOKEN.encode()]
    refused(stub_of(server).ServerLive, pb.ServerLiveRequest(), code=StatusCode.UNAVAILABLE)


def test_without_a_port_there_is_no_grpc(start_server: StartServer) -> None:
    assert start_server().grpc_port is None


def test_calls_of_many_threads_are_answered_each_with_its_own(stub: Any) -> None:
    answers: dict[float, float] = {}

    def ask(seconds: float) -> None:
        answers[seconds] = outputs(stub.ModelInfer(request(recording(seconds))))["duration"][0]

    threads = [threading.Thread(target=ask, args=(0.5 + number / 8,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {0.5 + number / 8: 0.5 + number / 8 for number in range(8)}
