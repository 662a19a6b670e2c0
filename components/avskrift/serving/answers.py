"""What a client is told when a request fails: one sentence in its protocol's shape, never an exception's insides.

Under ``/openai/`` and ``/v1/audio/`` the shape is OpenAI's, ``{"error": {"message", "type", "param", "code"}}``; elsewhere KServe's,
``{"error": "..."}``. What gRPC makes of a :class:`Failure` is in :mod:`avskrift.serving.grpc_server`.
"""

from __future__ import annotations

import math
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from kserve import errors as kserve_errors
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from avskrift.errors import AudioError, AudioTooLargeError, AudioTypeError, AvskriftError, LanguageError
from avskrift.logs import Log

OPENAI_PREFIXES = ("/openai/", "/v1/audio/")  # the second for clients whose base URL is KServe's own /v1
_FRAMES_LOGGED = 6
_ABSOLUTE_PATH = re.compile(r"(?<![\w/:.<])/[\w.-]+/")
_UNEXPECTED = "the server failed on this request; its log says where"
_UNAVAILABLE = "the server cannot do this now; try again later"

# (param, code) of OpenAI's shape; the first class that fits.
_OPENAI_DETAILS: tuple[tuple[type[AvskriftError], str, str], ...] = (
    (AudioTypeError, "file", "unsupported_audio_type"),
    (AudioTooLargeError, "file", "audio_too_large"),
    (AudioError, "file", "undecodable_audio"),
    (LanguageError, "language", "unknown_language"),
)

# What KServe raises: the status, and what to say; None: its own sentence, which names only what the client sent.
_KSERVE: tuple[tuple[type[Exception], HTTPStatus, str | None], ...] = (
    (kserve_errors.InvalidInput, HTTPStatus.BAD_REQUEST, None),
    (kserve_errors.ModelNotFound, HTTPStatus.NOT_FOUND, None),
    (kserve_errors.ModelNotReady, HTTPStatus.SERVICE_UNAVAILABLE, None),
    (kserve_errors.ServerNotReady, HTTPStatus.SERVICE_UNAVAILABLE, _UNAVAILABLE),
    (kserve_errors.ServerNotLive, HTTPStatus.SERVICE_UNAVAILABLE, _UNAVAILABLE),
    (kserve_errors.InferenceError, HTTPStatus.INTERNAL_SERVER_ERROR, _UNEXPECTED),
    (kserve_errors.UnsupportedProtocol, HTTPStatus.NOT_IMPLEMENTED, "this server does not speak that protocol"),
    (NotImplementedError, HTTPStatus.NOT_IMPLEMENTED, "this server does not offer that operation"),
)

_log = Log("serving")


class Refusal(HTTPException):
    """A request refused before it reached the engine; ``param`` and ``code`` show in OpenAI's shape alone.

    An HTTPException, since FastAPI passes those on unchanged when they are raised while it reads a body.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(status_code=status, detail=message, headers=headers)
        self.param = param
        self.code = code


class Busy(Refusal):
    """429: no room for the request now; ``retry_after_s`` seconds from now there may be, which ``Retry-After`` rounds up."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        whole_seconds = max(1, math.ceil(retry_after_s))  # 0 would call for a retry at once
        super().__init__(HTTPStatus.TOO_MANY_REQUESTS, message, code="busy", headers={"Retry-After": str(whole_seconds)})
        self.retry_after_s = retry_after_s


class TooLate(Refusal):
    """504: the request's deadline passed before its answer was there."""

    def __init__(self, message: str) -> None:
        super().__init__(HTTPStatus.GATEWAY_TIMEOUT, message, code="deadline_exceeded")


class TooSlow(Refusal):
    """408: the deadline passed before all of the request was there. What may still come of it is not waited for."""

    def __init__(self, seconds: float) -> None:
        message = f"the request had not arrived after {seconds:g} s; send it compressed as FLAC or MP3, in parts, or try again"
        super().__init__(HTTPStatus.REQUEST_TIMEOUT, message, code="upload_too_slow", headers={"Connection": "close"})


class Stopping(Refusal):
    """503: the server is told to stop and cannot wait for the answer; another one, or the next, may have it."""

    def __init__(self) -> None:
        message = "the server was stopped before the answer was there; try again"
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, message, code="stopping", headers={"Retry-After": "1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a client may know of a failure, whatever protocol it speaks."""

    status: int  # as HTTP has it
    message: str
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] | None = None


def failure_of(error: Exception) -> Failure:
    """What to tell of whatever a request ended in, which is logged too; only errors made for the client's eyes keep their message."""
    _record(error)
    if isinstance(error, Refusal):
        return Failure(status=error.status_code, message=error.detail, param=error.param, code=error.code, headers=error.headers)
    if isinstance(error, HTTPException):
        return Failure(status=error.status_code, message=error.detail, headers=error.headers)
    if isinstance(error, RequestValidationError):
        return Failure(status=HTTPStatus.BAD_REQUEST, message=_first_complaint(error))
    if isinstance(error, AvskriftError):
        return _failure_of_ours(error)
    for kind, status, sentence in _KSERVE:
        if isinstance(error, kind):
            return Failure(status=status, message=sentence or str(error))
    return Failure(status=HTTPStatus.INTERNAL_SERVER_ERROR, message=_UNEXPECTED)


def answer_to(path: str, error: Exception) -> JSONResponse:
    """The failure in the shape of the HTTP protocol that ``path`` belongs to."""
    failure = failure_of(error)
    if not path.startswith(OPENAI_PREFIXES):
        return JSONResponse({"error": failure.message}, status_code=failure.status, headers=failure.headers)
    body = {"message": failure.message, "type": _openai_type(failure.status), "param": failure.param, "code": failure.code}
    return JSONResponse({"error": body}, status_code=failure.status, headers=failure.headers)


def install(app: FastAPI) -> None:
    """Answer through :func:`answer_to`. Call it after KServe's handlers were added: they log and tell too much."""
    for kind in (HTTPException, RequestValidationError, AvskriftError, *(kind for kind, _, _ in _KSERVE)):
        app.add_exception_handler(kind, _handle)


def _openai_type(status: int) -> str:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    return "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"


async def _handle(request: Request, error: Exception) -> JSONResponse:
    return answer_to(request.url.path, error)


def _failure_of_ours(error: AvskriftError) -> Failure:
    if error.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Failure(status=error.http_status, message=_UNAVAILABLE if error.retryable else _UNEXPECTED)
    param, code = next(((param, code) for kind, param, code in _OPENAI_DETAILS if isinstance(error, kind)), (None, None))
    message = str(error)
    if _ABSOLUTE_PATH.search(message):  # a message made for the machine's owner; the client has no business with its folders
        message = "the request cannot be answered; the server's log says why"
    return Failure(status=error.http_status, message=message, param=param, code=code)


def _first_complaint(error: RequestValidationError) -> str:
    """Where and what, without pydantic's echo of the input."""
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def _record(error: Exception) -> None:
    """The kind of error, and where a fault arose; never its message, which may quote a transcript or a file's name."""
    kind = type(error).__name__
    if isinstance(error, HTTPException):
        _log.info("request.refused", error=kind, status=error.status_code)
    elif isinstance(error, AvskriftError) and error.http_status < HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.info("request.refused", error=kind, status=error.http_status)
    elif isinstance(error, (RequestValidationError, *(kserve_kind for kserve_kind, _, _ in _KSERVE))):
        _log.info("request.refused", error=kind)
    elif isinstance(error, ClientDisconnect):
        _log.info("request.abandoned")
    else:
        frames = traceback.extract_tb(error.__traceback__)[-_FRAMES_LOGGED:]
        where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
        _log.error("request.failed", error=kind, where=where)
