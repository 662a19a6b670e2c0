"""Bodies of KServe's V1 and V2 protocols: what was asked, and the answer's shape."""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from kserve import InferOutput, InferRequest, InferResponse

from avskrift.errors import UsageError
from avskrift.text.languages import check_language
from avskrift.whisper.transcript import Options, Segment, Task, Transcript

AUDIO_INPUT = "audio"
_INSTANCE_FIELDS = ("audio", "language", "task", "timestamps", "prompt")
_PARAMETERS = ("language", "task", "prompt")  # what a V2 request may set; its answer has no place for timestamps


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
    """The recordings of a V2 request: one BYTES tensor named ``audio`` whose elements are base64 strings.

    The request's ``parameters`` may hold ``language``, ``task`` and ``prompt``; they hold for every element.

    Raises:
        UsageError: tensors that are not of this shape.
        LanguageError: a language that Whisper does not know.
    """
    tensors = request.inputs
    if len(tensors) != 1 or tensors[0].name != AUDIO_INPUT or tensors[0].datatype != "BYTES":
        raise UsageError('"inputs" must hold one tensor: {"name": "audio", "datatype": "BYTES", "shape": [1], "data": ["<base64>"]}')
    data = tensors[0].data
    if not isinstance(data, list) or not data or list(tensors[0].shape) != [len(data)]:
        raise UsageError('"inputs[0].data" must be a list of base64 strings with as many elements as "shape" says')
    parameters = dict(request.parameters or {})
    _refuse_unknown("parameters", parameters, _PARAMETERS)
    options = _options("parameters", parameters)
    named = [(f"inputs[0].data[{index}]", text) for index, text in enumerate(data)]
    return [Recording(data=_base64(where, text), options=options, where=where) for where, text in named]


def v2_answer(request: InferRequest, transcripts: Sequence[Transcript], *, model_name: str, version: str) -> InferResponse:
    """One element for each recording in each of the tensors that :func:`v2_outputs` describes."""
    columns: dict[str, list[Any]] = {
        "text": [transcript.text for transcript in transcripts],
        "language": [transcript.language for transcript in transcripts],
        "language_probability": [transcript.language_probability for transcript in transcripts],
        "duration": [transcript.duration_s for transcript in transcripts],
    }
    tensors = [
        InferOutput(described["name"], [len(transcripts)], described["datatype"], columns[described["name"]]) for described in v2_outputs()
    ]
    return InferResponse(
        response_id=request.id or str(uuid.uuid4()),
        model_name=model_name,
        model_version=version or None,
        infer_outputs=tensors,
        requested_outputs=request.request_outputs,
    )


def v2_inputs() -> list[dict[str, Any]]:
    """What a V2 request must hold; -1 is any number of recordings."""
    return [{"name": AUDIO_INPUT, "datatype": "BYTES", "shape": [-1]}]


def v2_outputs() -> list[dict[str, Any]]:
    """What a V2 answer holds."""
    kinds = {"text": "BYTES", "language": "BYTES", "language_probability": "FP32", "duration": "FP32"}
    return [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in kinds.items()]


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError as error:
        raise UsageError('the body is not JSON; send {"instances": [{"audio": {"b64": "..."}}]} as application/json') from error


def _instance(where: str, instance: object) -> Recording:
    if not isinstance(instance, Mapping):
        raise UsageError(f'{where} is not an object; send {{"audio": {{"b64": "..."}}}}')
    _refuse_unknown(where, instance, _INSTANCE_FIELDS)
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


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "start": segment.start_s,
        "end": segment.end_s,
        "text": segment.text,
        "avg_logprob": segment.avg_logprob,
        "no_speech_prob": segment.no_speech_prob,
    }
