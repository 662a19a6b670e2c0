"""Bodies of KServe's V1 and V2 protocols: what was asked, and the answer's shape."""

from __future__ import annotations

import base64
import binascii
import json
import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from kserve import InferInput, InferOutput, InferRequest, InferResponse
from kserve.protocol.infer_type import RequestedOutput, to_http_parameters
from kserve.protocol.rest.v2_datamodels import InferenceRequest, RequestInput
from pydantic import ValidationError

from avskrift.errors import UsageError
from avskrift.text.languages import check_language
from avskrift.whisper.transcript import Options, Segment, Task, Transcript

AUDIO_INPUT = "audio"
PARAMETERS = ("language", "task", "timestamps", "prompt")  # how a recording is to be transcribed, in V1 and in V2
INSTANCE_FIELDS = (AUDIO_INPUT, *PARAMETERS)
_BINARY_OUTPUT = "binary_data_output"  # of V2's extension for binary tensors; KServe reads it
_ONE_TENSOR = '"inputs" must hold one tensor: {"name": "audio", "datatype": "BYTES", "shape": [1], "data": ["<base64>"]}'
_V2_OUTPUTS = {"text": "BYTES", "language": "BYTES", "language_probability": "FP32", "duration": "FP32", "segments": "BYTES"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One recording as it was sent, how it is to be transcribed, and what an error about it should call it."""

    data: bytes
    options: Options
    where: str = ""


def v1_recordings(payload: object) -> list[Recording]:
    """The recordings of ``{"instances": [{"audio": "<base64>" | {"b64": "<base64>"}, "language"?, ...}]}``.

    Raises:
        UsageError: a body that is not of this shape; names the instance and the field.
        LanguageError: a language that Whisper does not know.
    """
    if isinstance(payload, bytes):  # KServe parses what is "application/json" to the letter, and hands on the rest as it came
        payload = _json(payload)
    if not isinstance(payload, Mapping):
        raise UsageError('the body is not a JSON object; send {"instances": [{"audio": {"b64": "..."}}]} as application/json')
    instances = payload.get("instances")
    if not isinstance(instances, list) or not instances:
        raise UsageError('"instances" is missing or empty; send {"instances": [{"audio": {"b64": "..."}}]}')
    return [_instance(f"instances[{index}]", instance) for index, instance in enumerate(instances)]


def v1_answer(transcripts: Sequence[Transcript]) -> dict[str, Any]:
    """``{"predictions": [...]}``, one for each instance, in order."""
    return {"predictions": [_prediction(transcript) for transcript in transcripts]}


def v2_recordings(request: InferRequest) -> list[Recording]:
    """The recordings of a V2 request: one BYTES tensor named ``audio``.

    Its elements are base64 strings in JSON, which has no bytes, and the recordings' own bytes after the JSON and over gRPC. The
    request's ``parameters`` may hold ``language``, ``task``, ``timestamps`` and ``prompt``; they hold for every element.

    Raises:
        UsageError: tensors that are not of this shape.
        LanguageError: a language that Whisper does not know.
    """
    tensors = request.inputs
    if len(tensors) != 1 or tensors[0].name != AUDIO_INPUT or tensors[0].datatype != "BYTES":
        raise UsageError(_ONE_TENSOR)
    _check_outputs(request)
    parameters = to_http_parameters(request.parameters or {})
    if not request.from_grpc:
        parameters.pop(_BINARY_OUTPUT, None)
    _refuse_unknown("parameters", parameters, PARAMETERS)
    options = _options("parameters", parameters)
    named = _bytes_elements(tensors[0]) if request.from_grpc or tensors[0].data is None else _json_elements(tensors[0])
    return [Recording(data=data, options=options, where=where) for where, data in named]


def v2_binary_request(body: bytes, json_length: str, model_name: str) -> InferRequest:
    """A V2 request whose tensor follows its JSON, as Triton's client sends it unless told otherwise.

    KServe's own reading of these takes the elements for UTF-8, which a recording is not.

    Raises:
        UsageError: ``json_length``, the header's, or the tensor's ``binary_data_size`` are not the lengths of what is there.
    """
    length = int(json_length) if json_length.isascii() and json_length.isdigit() else 0
    if not 0 < length <= len(body):
        raise UsageError(
            f"the header Inference-Header-Content-Length must be the length of the JSON that begins the {len(body)} bytes sent"
        )
    try:
        told = _BinaryRequest.model_validate_json(body[:length])
    except ValidationError as error:
        raise UsageError(f"the first {length} bytes are not the JSON of a V2 request; see what the header's length counts") from error
    if len(told.inputs) != 1:
        raise UsageError(_ONE_TENSOR)
    (tensor,), rest = told.inputs, body[length:]
    size = (tensor.parameters or {}).get("binary_data_size", 0)
    if size != len(rest) or (tensor.data is None) == (not rest):
        raise UsageError(f'"binary_data_size" of the tensor must be the {len(rest)} bytes after the JSON, in place of "data"')
    return InferRequest(
        model_name=model_name,
        infer_inputs=[InferInput(tensor.name, tensor.shape, tensor.datatype, tensor.data)],
        request_id=told.id,
        raw_inputs=[rest] if rest else None,
        parameters=told.parameters,
        request_outputs=[RequestedOutput(output.name, output.parameters or {}) for output in told.outputs or ()] or None,
    )


class _BinaryInput(RequestInput):  # type: ignore[misc]  # kserve has no types
    data: list[Any] | None = None


class _BinaryRequest(InferenceRequest):  # type: ignore[misc]
    inputs: list[_BinaryInput]


def v2_answer(request: InferRequest, transcripts: Sequence[Transcript], *, model_name: str, version: str) -> InferResponse:
    """One element for each recording in each of the tensors that :func:`v2_outputs` describes, or in those that were asked for."""
    columns: dict[str, list[Any]] = {
        "text": [transcript.text for transcript in transcripts],
        "language": [transcript.language for transcript in transcripts],
        "language_probability": [transcript.language_probability for transcript in transcripts],
        "duration": [transcript.duration_s for transcript in transcripts],
        "segments": [_segments_as_json(transcript) for transcript in transcripts],
    }
    asked = [output.name for output in request.request_outputs or ()] or list(columns)
    return InferResponse(
        response_id=request.id or str(uuid.uuid4()),
        model_name=model_name,
        model_version=version or None,
        infer_outputs=[InferOutput(name, [len(transcripts)], _V2_OUTPUTS[name], columns[name]) for name in asked],
        use_binary_outputs=request.use_binary_outputs,
        requested_outputs=request.request_outputs,
    )


def v2_inputs() -> list[dict[str, Any]]:
    """What a V2 request must hold; -1 is any number of recordings."""
    return [{"name": AUDIO_INPUT, "datatype": "BYTES", "shape": [-1]}]


def v2_outputs() -> list[dict[str, Any]]:
    """What a V2 answer holds; an element of ``segments`` is V1's list of segments as JSON."""
    return [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in _V2_OUTPUTS.items()]


def _check_outputs(request: InferRequest) -> None:
    for output in request.request_outputs or ():
        if output.name not in _V2_OUTPUTS:
            raise UsageError(f'"outputs" names {output.name!r}, which is no output; use {", ".join(_V2_OUTPUTS)}')


def _json_elements(tensor: InferInput) -> list[tuple[str, bytes]]:
    """Each recording under the name that an error about it should have."""
    texts = tensor.data
    if not isinstance(texts, list) or not texts or list(tensor.shape) != [len(texts)]:
        raise UsageError('"inputs[0].data" must be a list of base64 strings with as many elements as "shape" says')
    named = [(f"inputs[0].data[{index}]", text) for index, text in enumerate(texts)]
    return [(where, _base64(where, text)) for where, text in named]


def _bytes_elements(tensor: InferInput) -> list[tuple[str, bytes]]:
    """As :func:`_json_elements`, from bytes after the JSON, or gRPC's ``raw_input_contents`` or ``bytes_contents``."""
    try:
        recordings = list(tensor.as_numpy())
    except (struct.error, ValueError) as error:  # a length that is not true, or a shape that does not fit
        raise UsageError('the tensor "audio" does not hold the elements that its shape says; send one element a recording') from error
    if not recordings or list(tensor.shape) != [len(recordings)]:
        raise UsageError('the tensor "audio" must have one dimension and an element for each recording')
    named = [(f"audio[{index}]", data) for index, data in enumerate(recordings)]
    for where, data in named:
        if not data:
            raise UsageError(f"{where} is empty; put the recording's bytes there")
    return named


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError as error:
        raise UsageError('the body is not JSON; send {"instances": [{"audio": {"b64": "..."}}]} as application/json') from error


def _instance(where: str, instance: object) -> Recording:
    if not isinstance(instance, Mapping):
        raise UsageError(f'{where} is not an object; send {{"audio": {{"b64": "..."}}}}')
    _refuse_unknown(where, instance, INSTANCE_FIELDS)
    if "audio" not in instance:
        raise UsageError(f'{where}.audio is missing; put the recording there as base64, plain or in {{"b64": "..."}}')
    audio = instance["audio"]
    wrapped = isinstance(audio, Mapping) and set(audio) == {"b64"}
    data = _base64(f"{where}.audio", audio["b64"] if wrapped else audio)
    return Recording(data=data, options=_options(where, instance), where=f"{where}.audio")


def _options(where: str, fields: Mapping[str, Any]) -> Options:
    language = _optional_text(where, fields, "language")
    task = _optional_text(where, fields, "task") or "transcribe"
    if task not in get_args(Task):
        raise UsageError(f"{where}.task is {task!r}; use {' or '.join(get_args(Task))}")
    timestamps = fields.get("timestamps", False)
    if not isinstance(timestamps, bool):
        raise UsageError(f"{where}.timestamps must be true or false")
    return Options(
        language=check_language(language) if language else None,
        task=cast(Task, task),
        timestamps="segment" if timestamps else "none",
        prompt=_optional_text(where, fields, "prompt"),
    )


def _optional_text(where: str, fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{where}.{name} must be a string")
    return value or None


def _base64(where: str, text: object) -> bytes:
    if not isinstance(text, str):
        raise UsageError(f'{where} must be a base64 string, plain or in {{"b64": "..."}}')
    try:
        data = base64.b64decode("".join(text.split()), validate=True)  # `base64` wraps its lines
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"{where} is not base64; encode the recording's bytes with the standard alphabet") from error
    if not data:
        raise UsageError(f"{where} is empty; put the recording's bytes there")
    return data


def _refuse_unknown(where: str, fields: Mapping[str, Any], known: Sequence[str]) -> None:
    unknown = sorted(str(name) for name in set(fields) - set(known))
    if unknown:
        raise UsageError(f"{where} has the unknown field {unknown[0]!r}; use {', '.join(known[:-1])} or {known[-1]}")


def _prediction(transcript: Transcript) -> dict[str, Any]:
    return {
        "text": transcript.text,
        "language": transcript.language,
        "language_probability": transcript.language_probability,
        "duration": transcript.duration_s,
        "segments": [_segment(segment) for segment in transcript.segments],
    }


def _segments_as_json(transcript: Transcript) -> str:
    return json.dumps([_segment(segment) for segment in transcript.segments], ensure_ascii=False)


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "start": segment.start_s,
        "end": segment.end_s,
        "text": segment.text,
        "avg_logprob": segment.avg_logprob,
        "no_speech_prob": segment.no_speech_prob,
    }
