"""``/openai/v1/audio/transcriptions``, ``…/translations``, ``/openai/v1/models`` and ``…/models/{name}``, as OpenAI's clients expect them.

The audio routes are under ``/v1/audio/`` too. ``/v1/models`` is KServe's.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from avskrift.errors import UsageError
from avskrift.serving import answers, event_stream, page
from avskrift.serving.answers import Refusal
from avskrift.serving.formats import DEFAULT_GRANULARITIES, FORMATS, GRANULARITIES, TIMED_FORMATS, Format, Granularity, check_format, render
from avskrift.serving.guards import Guards
from avskrift.serving.model import TranscriptionModel
from avskrift.serving.payloads import Recording
from avskrift.text.languages import check_language
from avskrift.whisper.transcript import Options, Task, Timestamps

GRANULARITIES_FIELD = "timestamp_granularities[]"  # the only field that may be given more than once
FIELDS: Mapping[Task, tuple[str, ...]] = {
    "transcribe": ("file", "model", "language", "prompt", "response_format", "temperature", GRANULARITIES_FIELD, "stream"),
    "translate": ("file", "model", "prompt", "response_format", "temperature", "stream"),
}
_MOST_FIELDS = 16
AUDIO_PREFIXES = ("/openai/v1/audio", "/v1/audio")
ALIAS = "whisper-1"  # the model that OpenAI's clients name by default
MEDIA_TYPES: Mapping[Format, str] = {"text": "text/plain", "srt": "application/x-subrip", "vtt": "text/vtt"}


def furnish(app: FastAPI, model: TranscriptionModel) -> None:
    """Give ``app`` the OpenAI routes, the guards, and error answers that tell nothing they should not."""
    app.include_router(router(model))
    page.install(app, model.settings)
    answers.install(app)
    app.add_middleware(Guards, settings=model.settings, admission=model.admission)


def router(model: TranscriptionModel) -> APIRouter:
    """The OpenAI routes over ``model``."""
    routes = APIRouter(tags=["OpenAI"])

    async def heard(request: Request, task: Task) -> Response:
        fields = await _read_form(request, task, largest_file=model.settings.max_upload_bytes)
        fmt = _response_format(fields)
        granularities = _granularities(fields, fmt)
        _check_model(_text(fields, "model") or model.name, served=model.name)
        _check_temperature(fields)
        timestamps: Timestamps = "word" if "word" in granularities else "segment" if fmt in TIMED_FORMATS else "none"
        options = _options(fields, task, timestamps=timestamps)
        streamed = _streamed(fields, fmt)
        recording = Recording(data=await _read_file(fields), options=options)
        if streamed:
            return await event_stream.answer(model.stream(recording), fmt, request.url.path, task=task, granularities=granularities)
        (transcript,) = await model.transcribe([recording])
        rendered = render(transcript, fmt, task=task, granularities=granularities)
        if isinstance(rendered, str):
            return PlainTextResponse(rendered, media_type=MEDIA_TYPES[fmt])
        return JSONResponse(rendered)

    async def transcriptions(request: Request) -> Response:
        return await heard(request, "transcribe")

    async def translations(request: Request) -> Response:
        return await heard(request, "translate")

    for prefix in AUDIO_PREFIXES:
        routes.post(f"{prefix}/transcriptions", response_model=None)(transcriptions)
        routes.post(f"{prefix}/translations", response_model=None)(translations)

    @routes.get("/openai/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model_card(model)]}

    @routes.get("/openai/v1/models/{model_name}")
    async def one_model(model_name: str) -> dict[str, Any]:
        _check_model(model_name, served=model.name)
        return _model_card(model) | {"id": model_name}  # the alias as it was asked for, as OpenAI's API has it

    return routes


async def _read_form(request: Request, task: Task, *, largest_file: int) -> FormData:
    """The multipart fields of a route, each at most once but for the granularities.

    Raises:
        Refusal: another content type, a broken body, an unknown field or one that is given twice.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refusal(HTTPStatus.BAD_REQUEST, "the body must be multipart/form-data with the recording in the field 'file'", param="file")
    parser = MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=_MOST_FIELDS)
    parser.spool_max_size = largest_file  # in memory, which the body's limit bounds: a read-only root has no disk to spool to
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"the multipart body cannot be read: {error.message}") from error
    names = [name for name, _ in form.multi_items()]
    for name in names:
        if name not in FIELDS[task]:
            known = ", ".join(FIELDS[task])
            raise Refusal(HTTPStatus.BAD_REQUEST, f"no field {name!r} here; use {known}", param=name, code="unknown_parameter")
        if names.count(name) > 1 and name != GRANULARITIES_FIELD:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"the field {name!r} is given more than once; give it once", param=name)
    return form


async def _read_file(form: FormData) -> bytes:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise Refusal(HTTPStatus.BAD_REQUEST, "the field 'file' is missing or is no file; upload the recording there", param="file")
    spool = getattr(file.file, "_file", None)  # getvalue() hands over what it holds, where read() would copy it
    data = spool.getvalue() if isinstance(spool, io.BytesIO) else await file.read()
    await file.close()
    return data


def _options(form: FormData, task: Task, *, timestamps: Timestamps) -> Options:
    language = _text(form, "language")
    return Options(
        language=check_language(language) if language else None, task=task, timestamps=timestamps, prompt=_text(form, "prompt") or None
    )


def _granularities(form: FormData, fmt: Format) -> tuple[Granularity, ...]:
    """The lists of times that were asked for; segments where none was. As OpenAI's API has it, verbose_json alone has a choice."""
    asked = form.getlist(GRANULARITIES_FIELD)
    for name in asked:
        if name not in GRANULARITIES:
            message = f"no timestamp granularity {name!r}; use {' or '.join(GRANULARITIES)}"
            raise Refusal(HTTPStatus.BAD_REQUEST, message, param=GRANULARITIES_FIELD)
    if asked and fmt != "verbose_json":
        raise Refusal(HTTPStatus.BAD_REQUEST, "timestamp granularities need response_format verbose_json", param=GRANULARITIES_FIELD)
    return tuple(one for one in GRANULARITIES if one in asked) or DEFAULT_GRANULARITIES


def _response_format(form: FormData) -> Format:
    try:
        return check_format(_text(form, "response_format") or FORMATS[0])
    except UsageError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, str(error), param="response_format") from error


def _streamed(form: FormData, fmt: Format) -> bool:
    asked = (_text(form, "stream") or "false").lower()
    if asked not in ("true", "false"):
        raise Refusal(HTTPStatus.BAD_REQUEST, f"stream is {asked!r}; use true or false", param="stream")
    if asked == "true" and fmt in ("srt", "vtt"):
        message = "subtitles are not streamed; use response_format json, text or verbose_json, or leave stream out"
        raise Refusal(HTTPStatus.BAD_REQUEST, message, param="stream")
    return asked == "true"


def _check_model(name: str, *, served: str) -> None:
    if name not in (served, ALIAS):
        message = f"no model {name!r} here; use {served!r} or {ALIAS!r}"
        raise Refusal(HTTPStatus.NOT_FOUND, message, param="model", code="model_not_found")


def _check_temperature(form: FormData) -> None:
    text = _text(form, "temperature") or "0"
    try:
        zero = float(text) == 0
    except ValueError:
        zero = False
    if not zero:
        message = f"temperature is {text!r}, but this engine never samples; use 0 or leave the field out"
        raise Refusal(HTTPStatus.BAD_REQUEST, message, param="temperature")


def _text(form: FormData, name: str) -> str:
    value = form.get(name, "")
    if not isinstance(value, str):
        raise Refusal(HTTPStatus.BAD_REQUEST, f"the field {name!r} must be text, not a file", param=name)
    return value.strip()


def _model_card(model: TranscriptionModel) -> dict[str, Any]:
    """OpenAI's model object; ``version`` and ``sha256`` are ours, and say which bytes answer."""
    return {
        "id": model.name,
        "object": "model",
        "created": model.loaded_at,
        "owned_by": "avskrift",
        "version": model.version,
        "sha256": model.package.description.sha256,
    }
