"""``/openapi.json``: every route that this server answers, with what it takes, what it gives, and examples that can be sent as they are.

There is no page at ``/docs``: FastAPI's loads its scripts from another host.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import numpy as np
from fastapi import FastAPI

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.audio.decode import encode_flac
from avskrift.serving.formats import FORMATS
from avskrift.serving.openapi_schemas import schemas
from avskrift.serving.payloads import AUDIO_INPUT, v2_inputs, v2_outputs
from avskrift.serving.routes import AUDIO_PREFIXES, MEDIA_TYPES
from avskrift.serving.settings import Settings

Described = dict[str, Any]

_REFUSED = {
    HTTPStatus.BAD_REQUEST: "a field that is missing, unknown, given twice or not usable",
    HTTPStatus.NOT_FOUND: "no such model",
    HTTPStatus.REQUEST_TIMEOUT: "the request had not arrived in time",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "more bytes or seconds than the limits",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "not WAV, FLAC, MP3, Ogg or M4A",
    HTTPStatus.UNPROCESSABLE_ENTITY: "a recording that is empty, damaged or cut short",
    HTTPStatus.TOO_MANY_REQUESTS: "the server is full",
    HTTPStatus.INTERNAL_SERVER_ERROR: "a fault of the server",
    HTTPStatus.SERVICE_UNAVAILABLE: "the server cannot do this now, or was stopped meanwhile",
    HTTPStatus.GATEWAY_TIMEOUT: "the answer was not ready in time",
}
_OPENAI_EXAMPLE = {"error": {"message": "no model 'x' here", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}}
_ERROR_EXAMPLE = {"error": 'the field "instances" is missing'}
_SPOKEN = "Kanariefågeln sjöng."
_DURATION_S = 0.5


def describe(app: FastAPI, *, model_name: str, settings: Settings) -> None:
    """Make ``app`` answer ``/openapi.json`` with :func:`description`."""
    described = description(model_name=model_name, settings=settings)
    app.openapi = lambda: described  # type: ignore[method-assign]  # FastAPI's documented way to replace its own


def description(*, model_name: str, settings: Settings) -> Described:
    """The description as OpenAPI 3.1; ``model_name`` and the limits are those of the running server."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Avskrift",
            "version": version("avskrift"),
            "description": f"Speech to text. A recording may have {settings.max_upload_mb:g} MiB; all recordings of a request together "
            f"{settings.max_audio_seconds:g} s.",
        },
        "paths": _openai_paths(model_name) | _v1_paths(model_name) | _v2_paths(model_name) | _server_paths(),
        "components": {"schemas": schemas(model_name)},
    }


def _openai_paths(model_name: str) -> Described:
    card = {"id": model_name, "object": "model", "created": 1767225600, "owned_by": "avskrift", "version": "7", "sha256": "0" * 64}
    one = _get("OpenAI", "The model as OpenAI shows it", "OpenAIModel", card) | {"parameters": [_model_name(model_name)]}
    one["responses"][str(int(HTTPStatus.NOT_FOUND))] = _json(_REFUSED[HTTPStatus.NOT_FOUND], "OpenAIError", _OPENAI_EXAMPLE)
    paths: Described = {
        "/openai/v1/models": {"get": _get("OpenAI", "The model as OpenAI lists it", "OpenAIModels", {"object": "list", "data": [card]})},
        "/openai/v1/models/{model_name}": {"get": one},
    }
    for prefix in AUDIO_PREFIXES:
        paths[f"{prefix}/transcriptions"] = {"post": _hear("What was said", "TranscriptionForm", task="transcribe")}
        paths[f"{prefix}/translations"] = {"post": _hear("What was said, in English", "TranslationForm", task="translate")}
    return paths


def _hear(summary: str, form: str, *, task: str) -> Described:
    segment = {"id": 0, "start": 0.0, "end": _DURATION_S, "text": _SPOKEN, "temperature": 0.0}
    segment |= {"avg_logprob": -0.25, "compression_ratio": 0.71, "no_speech_prob": 0.01}
    verbose = {"task": task, "language": "swedish", "duration": _DURATION_S, "text": _SPOKEN, "segments": [segment]}
    examples = {"json": {"value": {"text": _SPOKEN}}, "verbose_json": {"value": verbose}}
    # Not oneOf: a verbose transcript has what a plain one has, and more.
    either = {"anyOf": [_reference("Transcript"), _reference("VerboseTranscript")]}
    content: Described = {"application/json": {"schema": either, "examples": examples}}
    cue = "00:00:00{0}000 --> 00:00:00{0}500\n" + _SPOKEN + "\n\n"
    written = {"text": f"{_SPOKEN}\n", "srt": "1\n" + cue.format(","), "vtt": "WEBVTT\n\n" + cue.format(".")}
    for fmt in FORMATS:
        if fmt in MEDIA_TYPES:
            content[MEDIA_TYPES[fmt]] = {"schema": {"type": "string"}, "examples": {fmt: {"value": written[fmt]}}}
    events = {"delta": {"type": "transcript.text.delta", "delta": _SPOKEN}, "done": {"type": "transcript.text.done", "text": _SPOKEN}}
    streamed = {name: {"value": {"data": json.dumps(event, ensure_ascii=False)}} for name, event in events.items()}
    content["text/event-stream"] = {"schema": _reference("StreamedEvent"), "examples": streamed}
    return {
        "tags": ["OpenAI"],
        "summary": summary,
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _reference(form)}}},
        "responses": {"200": {"description": "the transcript in the format asked for", "content": content}}
        | _refusals("OpenAIError", _OPENAI_EXAMPLE),
    }


def _v1_paths(model_name: str) -> Described:
    instance = {AUDIO_INPUT: {"b64": _recording()}, "language": "sv", "task": "transcribe", "timestamps": True, "prompt": "Fåglar:"}
    segment = {"start": 0.0, "end": _DURATION_S, "text": _SPOKEN, "avg_logprob": -0.25, "no_speech_prob": 0.01}
    prediction = {"text": _SPOKEN, "language": "sv", "language_probability": 1.0, "duration": _DURATION_S, "segments": [segment]}
    return {
        "/v1/models": {"get": _get("V1", "The models by name", "Models", {"models": [model_name]})},
        "/v1/models/{model_name}": {"get": _get_model("V1", "Whether the model is ready", "ModelReady", model_name, _ready(model_name))},
        "/v1/models/{model_name}:predict": {
            "post": _post(
                "V1",
                "What was said in each recording",
                model_name,
                request=("V1Request", {"plain": {"instances": [{AUDIO_INPUT: _recording()}]}, "all fields": {"instances": [instance]}}),
                answer=("V1Answer", {"predictions": [prediction]}),
            )
        },
    }


def _v2_paths(model_name: str) -> Described:
    values = {"text": _SPOKEN, "language": "sv", "language_probability": 1.0, "duration": _DURATION_S, "segments": "[]"}
    outputs = [output | {"shape": [1], "data": [values[output["name"]]]} for output in v2_outputs()]
    request = {"inputs": [{"name": AUDIO_INPUT, "datatype": "BYTES", "shape": [1], "data": [_recording()]}]}
    more = {"id": "17", "parameters": {"language": "sv", "timestamps": True}, "outputs": [{"name": "text"}, {"name": "segments"}]}
    metadata = {"name": model_name, "versions": ["7"], "platform": "", "inputs": v2_inputs(), "outputs": v2_outputs()}
    server = {"name": "kserve", "version": version("kserve"), "extensions": ["model_repository_extension"]}
    return {
        "/v2": {"get": _get("V2", "The server", "ServerMetadata", server)},
        "/v2/health/live": {"get": _get("V2", "Whether the server runs", "Live", {"live": True})},
        "/v2/health/ready": {"get": _get("V2", "Whether the server is ready", "Ready", {"ready": True})},
        "/v2/models": {"get": _get("V2", "The models by name", "Models", {"models": [model_name]})},
        "/v2/models/{model_name}": {"get": _get_model("V2", "What infer takes and gives", "ModelMetadata", model_name, metadata)},
        "/v2/models/{model_name}/ready": {
            "get": _get_model("V2", "Whether the model is ready", "ModelReady", model_name, _ready(model_name))
        },
        "/v2/models/{model_name}/infer": {
            "post": _post(
                "V2",
                "What was said in each recording",
                model_name,
                request=("V2Request", {"plain": request, "some outputs": request | more}),
                answer=("V2Answer", {"id": "17", "model_name": model_name, "model_version": "7", "outputs": outputs}),
            )
        },
    }


def _server_paths() -> Described:
    metrics = {"description": "Prometheus' text format", "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {
        "/": {"get": _get("server", "Whether the server runs", "Alive", {"status": "alive"})},
        "/metrics": {"get": {"tags": ["server"], "summary": "Counts and times", "responses": {"200": metrics}}},
    }


def _get(tag: str, summary: str, schema: str, example: Described) -> Described:
    return {"tags": [tag], "summary": summary, "responses": {"200": _json("as asked for", schema, example)}}


def _get_model(tag: str, summary: str, schema: str, model_name: str, example: Described) -> Described:
    described = _get(tag, summary, schema, example)
    for status in (HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE):
        described["responses"][str(int(status))] = _json(_REFUSED[status], "Error", _ERROR_EXAMPLE)
    return described | {"parameters": [_model_name(model_name)]}


def _post(
    tag: str, summary: str, model_name: str, *, request: tuple[str, Mapping[str, Described]], answer: tuple[str, Described]
) -> Described:
    schema, examples = request
    body = {"schema": _reference(schema), "examples": {name: {"value": value} for name, value in examples.items()}}
    return {
        "tags": [tag],
        "summary": summary,
        "parameters": [_model_name(model_name)],
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": {"200": _json("in the order of the recordings", *answer)} | _refusals("Error", _ERROR_EXAMPLE),
    }


def _refusals(schema: str, example: Described) -> Described:
    described = {str(int(status)): _json(because, schema, example) for status, because in _REFUSED.items()}
    seconds = {"description": "whole seconds after which to try again", "schema": {"type": "string", "pattern": "^[1-9][0-9]*$"}}
    for status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        described[str(int(status))]["headers"] = {"Retry-After": seconds}
    return described


def _json(because: str, schema: str, example: Described) -> Described:
    return {
        "description": because,
        "content": {"application/json": {"schema": _reference(schema), "examples": {"one": {"value": example}}}},
    }


def _model_name(model_name: str) -> Described:
    return {"name": "model_name", "in": "path", "required": True, "schema": {"type": "string"}, "example": model_name}


def _ready(model_name: str) -> Described:
    return {"name": model_name, "ready": True}


def _reference(schema: str) -> Described:
    return {"$ref": f"#/components/schemas/{schema}"}


def _recording() -> str:
    """Half a second of silence, as base64 of a FLAC file."""
    return base64.b64encode(encode_flac(np.zeros(int(_DURATION_S * SAMPLE_RATE), dtype=np.float32))).decode()
