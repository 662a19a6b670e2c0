"""The shapes of bodies and answers as JSON Schema, made from the tables that the routes and payloads are read with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from avskrift.serving.formats import FORMATS, GRANULARITIES
from avskrift.serving.payloads import AUDIO_INPUT, INSTANCE_FIELDS, PARAMETERS, v2_outputs
from avskrift.serving.routes import ALIAS, FIELDS, GRANULARITIES_FIELD
from avskrift.whisper.transcript import Task

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_FIGURE: Schema = {"type": ["number", "null"]}  # null: not finite, which JSON cannot say
_BASE64: Schema = {"type": "string", "contentEncoding": "base64", "minLength": 4}
_LANGUAGE: Schema = {"type": "string", "description": "code or English name, such as sv or Swedish; left out, the model identifies it"}
_PROMPT: Schema = {"type": "string", "description": "text that comes before what is said, for its spelling and names"}


def schemas(model_name: str) -> dict[str, Schema]:
    """Every shape by its name in ``components``."""
    return {
        "TranscriptionForm": _form("transcribe", model_name),
        "TranslationForm": _form("translate", model_name),
        "Transcript": _object({"text": _TEXT}),
        "VerboseTranscript": _verbose(),
        "StreamedEvent": _streamed_event(),
        "OpenAIModel": _openai_model(),
        "OpenAIModels": _object({"object": {"const": "list"}, "data": _list(_openai_model())}),
        "OpenAIError": _openai_error(),
        "Error": _object({"error": _TEXT}),
        "Alive": _object({"status": {"const": "alive"}}),
        "Live": _object({"live": {"type": "boolean"}}),
        "Ready": _object({"ready": {"type": "boolean"}}),
        "Models": _object({"models": _list(_TEXT)}),
        "ModelReady": _object({"name": _TEXT, "ready": {"type": "boolean"}}),
        "ServerMetadata": _object({"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)}),
        "ModelMetadata": _object(
            {
                "name": _TEXT,
                "versions": {"type": ["array", "null"], "items": _TEXT},
                "platform": _TEXT,
                "inputs": _list(_described_tensor()),
                "outputs": _list(_described_tensor()),
            }
        ),
        "V1Request": _object({"instances": _list(_instance()) | {"minItems": 1}}),
        "V1Answer": _object({"predictions": _list(_prediction())}),
        "V2Request": _v2_request(),
        "V2Answer": _v2_answer(),
    }


def _form(task: Task, model_name: str) -> Schema:
    known: Mapping[str, Schema] = {
        "file": {"type": "string", "format": "binary", "description": "the recording: WAV, FLAC, MP3, Ogg or M4A"},
        "model": {"type": "string", "enum": [model_name, ALIAS], "default": model_name},
        "language": _LANGUAGE,
        "prompt": _PROMPT,
        "response_format": {"type": "string", "enum": list(FORMATS), "default": FORMATS[0]},
        "temperature": {"type": "number", "const": 0, "description": "0, since the engine never samples"},
        GRANULARITIES_FIELD: {
            "type": "array",
            "items": {"type": "string", "enum": list(GRANULARITIES)},
            "description": "the lists that verbose_json has; no other format takes it",
        },
        "stream": {"type": "boolean", "default": False, "description": "server-sent events as the text is made; not for subtitles"},
    }
    return {
        "type": "object",
        "properties": {name: known[name] for name in FIELDS[task]},
        "required": ["file"],
        "additionalProperties": False,
    }


def _verbose() -> Schema:
    times = {"start": _FIGURE, "end": _FIGURE}
    segment = {"id": {"type": "integer"}, **times, "text": _TEXT, "temperature": _NUMBER}
    segment |= {"avg_logprob": _FIGURE, "compression_ratio": _FIGURE, "no_speech_prob": _FIGURE}
    always = {"task": {"enum": list(get_args(Task))}, "language": _TEXT, "duration": _FIGURE, "text": _TEXT}
    sometimes = {"segments": _list(_object(segment)), "words": _list(_object({"word": _TEXT, **times}))}
    return _object(always | sometimes, required=always)


def _streamed_event() -> Schema:
    kinds = ["transcript.text.delta", "transcript.text.segment", "transcript.text.done", "error"]
    event = _object({"type": {"enum": kinds}, "delta": _TEXT, "text": _TEXT}, required=["type"])
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": event}
    return _object({"data": data}) | {"description": "one server-sent event by its fields; with verbose_json, done has all that it has"}


def _openai_model() -> Schema:
    card = {"id": _TEXT, "object": {"const": "model"}, "created": {"type": "integer"}, "owned_by": _TEXT, "version": _TEXT, "sha256": _TEXT}
    return _object(card)


def _openai_error() -> Schema:
    maybe: Schema = {"type": ["string", "null"]}
    kinds = {"enum": ["invalid_request_error", "rate_limit_error", "server_error"]}
    return _object({"error": _object({"message": _TEXT, "type": kinds, "param": maybe, "code": maybe})})


def _how_to_transcribe() -> dict[str, Schema]:
    """The parameters of V1 and V2, by name."""
    known: Mapping[str, Schema] = {
        "language": _LANGUAGE,
        "task": {"type": "string", "enum": list(get_args(Task)), "default": "transcribe"},
        "timestamps": {"type": "boolean", "default": False, "description": "whether the answer has segments"},
        "prompt": _PROMPT,
    }
    return {name: known[name] for name in PARAMETERS}


def _instance() -> Schema:
    known = {AUDIO_INPUT: {"oneOf": [_BASE64, _object({"b64": _BASE64}) | {"additionalProperties": False}]}} | _how_to_transcribe()
    properties = {name: known[name] for name in INSTANCE_FIELDS}
    return _object(properties, required=[AUDIO_INPUT]) | {"additionalProperties": False}


def _prediction() -> Schema:
    segment = {"start": _FIGURE, "end": _FIGURE, "text": _TEXT, "avg_logprob": _FIGURE, "no_speech_prob": _FIGURE}
    return _object(
        {"text": _TEXT, "language": _TEXT, "language_probability": _FIGURE, "duration": _FIGURE, "segments": _list(_object(segment))}
    )


def _described_tensor() -> Schema:
    return _object({"name": _TEXT, "datatype": _TEXT, "shape": _list({"type": "integer"})})


def _v2_request() -> Schema:
    tensor = {
        "name": {"const": AUDIO_INPUT},
        "datatype": {"const": "BYTES"},
        "shape": _list({"type": "integer", "minimum": 1}) | {"minItems": 1, "maxItems": 1, "description": "as many as data has"},
        "data": _list(_BASE64) | {"minItems": 1},
    }
    output = _object({"name": {"enum": [tensor["name"] for tensor in v2_outputs()]}})
    properties = {
        "id": _TEXT,
        "parameters": _object(_how_to_transcribe(), required=[]) | {"additionalProperties": False},
        "inputs": _list(_object(tensor)) | {"minItems": 1, "maxItems": 1},
        "outputs": _list(output) | {"description": "those that the answer is to have; all where left out"},
    }
    return _object(properties, required=["inputs"])


def _v2_answer() -> Schema:
    tensor = {
        "name": {"enum": [tensor["name"] for tensor in v2_outputs()]},
        "datatype": {"enum": sorted({tensor["datatype"] for tensor in v2_outputs()})},
        "shape": _list({"type": "integer"}),
        "data": _list({"type": ["string", "number", "null"]}),
    }
    properties = {"id": _TEXT, "model_name": _TEXT, "model_version": {"type": ["string", "null"]}, "outputs": _list(_object(tensor))}
    return _object(properties)


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _object(properties: Mapping[str, Schema], *, required: Mapping[str, Schema] | list[str] | None = None) -> Schema:
    """An object; everything in it is required unless ``required`` says what is."""
    return {"type": "object", "properties": dict(properties), "required": list(properties if required is None else required)}
