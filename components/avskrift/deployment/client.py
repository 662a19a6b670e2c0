"""Questions to an endpoint over HTTP, with the standard library alone: the ops image needs no client."""

from __future__ import annotations

import http.client
import io
import json
import os
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import urlsplit

from avskrift.errors import EndpointError, SourceError

# An endpoint on this machine or in a cluster is never behind a proxy, whatever http_proxy says.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_LARGEST_ANSWER_BYTES = 16 << 20
_PIECE_BYTES = 1 << 16
TOKEN_VARIABLE = "AVSKRIFT_ENDPOINT_TOKEN"
# A gateway in front of the endpoint asks who this is; one for browsers sends them to a page to log in.
_WHO_ARE_YOU = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.FOUND, HTTPStatus.SEE_OTHER})
_ROUTES = {"transcribe": "transcriptions", "translate": "translations"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of a recording. ``language`` "" has the model identify it; a translation takes none."""

    model: str
    response_format: str = "text"  # json, text, srt, vtt or verbose_json
    language: str = ""
    prompt: str = ""
    task: Literal["transcribe", "translate"] = "transcribe"
    timeout_s: float = 600.0  # without a byte from the endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the endpoint said, whatever its status. ``retry_after`` is that header as it came, "" without one."""

    status: int
    body: bytes
    retry_after: str = ""

    def text(self, url: str) -> str:
        """The transcript in the format that was asked for.

        Raises:
            EndpointError: an answer other than 200, with the endpoint's own sentence where it gave one; or it is no UTF-8.
        """
        if self.status != HTTPStatus.OK:
            raise self.error(url)
        try:
            return self.body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise EndpointError(f"{url} answered a transcription with what is no UTF-8; see its log") from error

    def error(self, url: str) -> EndpointError:
        """The error that an answer other than 200 is."""
        hint = f"; a token that it takes goes into {TOKEN_VARIABLE}" if self.status in _WHO_ARE_YOU else ""
        return EndpointError(f"{url} answered a transcription with {self.status} {_phrase(self.status)}{_sentence(self.body)}{hint}")


def is_ready(url: str, *, timeout_s: float = 2.0) -> bool:
    """Whether ``/v2/health/ready`` answers that the server and its models are ready."""
    try:
        return json.loads(get(f"{url}/v2/health/ready", timeout_s=timeout_s)).get("ready") is True
    except (OSError, http.client.HTTPException, ValueError, AttributeError):
        return False


def get(url: str, *, timeout_s: float) -> bytes:
    """What is at ``url``, 16 MiB of it at most.

    Raises:
        OSError, http.client.HTTPException: no answer, or one other than 2xx.
    """
    with _direct.open(url, timeout=timeout_s) as answer:
        return bytes(answer.read(_LARGEST_ANSWER_BYTES))


def transcribe(url: str, audio: bytes, *, file_type: str, model: str, language: str = "", timeout_s: float = 120.0) -> str:
    """The text that ``/openai/v1/audio/transcriptions`` gives for one recording. ``file_type`` is ``wav`` or ``flac``.

    Raises:
        EndpointError: no answer in time, an answer other than 200, or one without a text.
    """
    question = Question(model=model, language=language, response_format="json", timeout_s=timeout_s)
    try:
        answer = send(url, io.BytesIO(audio), len(audio), file_type=file_type, question=question)
    except (OSError, http.client.HTTPException) as error:
        raise no_answer(url, error) from error
    try:
        return _text(url, json.loads(answer.text(url)))
    except ValueError as error:
        raise EndpointError(f"{url} answered a transcription with what is not JSON; see its log") from error


def send_file(url: str, path: Path, question: Question, *, token: str = "") -> Answer:
    """Ask once about the recording in a file, which is sent piece by piece and never held as a whole.

    ``token`` goes along as a bearer's, for a gateway in front of the endpoint.

    Raises:
        SourceError: the file cannot be read.
        EndpointError: ``url`` is none.
        OSError, http.client.HTTPException: there was no answer; :func:`no_answer` has the words.
    """
    suffix = path.suffix.removeprefix(".").lower()
    file_type = suffix if suffix.isascii() and suffix.isalnum() else "wav"  # it goes into a header; the endpoint looks at the bytes
    try:
        file = path.open("rb")
    except OSError as error:
        raise SourceError(f"it cannot be read ({error.strerror}); check its name and its permissions") from error
    with file:
        return send(url, file, os.fstat(file.fileno()).st_size, file_type=file_type, question=question, token=token)


def send(url: str, audio: BinaryIO, size: int, *, file_type: str, question: Question, token: str = "") -> Answer:
    """Ask once about the ``size`` bytes of ``audio``; as :func:`send_file`."""
    head, tail, content_type = _multipart(question, file_type)
    headers = {"Content-Type": content_type, "Content-Length": str(len(head) + size + len(tail)), "Connection": "close"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    with _connected(url, question.timeout_s) as (connection, prefix):
        try:
            connection.request("POST", f"{prefix}/openai/v1/audio/{_ROUTES[question.task]}", _body(head, audio, size, tail), headers)
        except (BrokenPipeError, ConnectionResetError):
            if connection.sock is None:
                raise
            # An endpoint that refuses a recording by its headers answers and hangs up while it is still being sent.
        answer = connection.getresponse()
        body = answer.read(_LARGEST_ANSWER_BYTES + 1)
        if len(body) > _LARGEST_ANSWER_BYTES:
            raise EndpointError(f"{url} answered a transcription with more than {_LARGEST_ANSWER_BYTES >> 20} MiB; cut the recording")
        if answer.length:  # of a body with a length: what read() of so many bytes leaves unsaid
            raise http.client.IncompleteRead(body, answer.length)
        return Answer(status=answer.status, body=body, retry_after=answer.getheader("Retry-After", ""))


def no_answer(url: str, error: Exception) -> EndpointError:
    """The error for an endpoint that could not be reached, or hung up."""
    return EndpointError(f"{url} did not answer a transcription ({error}); is it running? see `avskrift status`")


def check_url(url: str) -> None:
    """Return if ``url`` may be an endpoint's.

    Raises:
        EndpointError: it is none.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        reason = "it does not begin with http:// or https:// and a host"
    except ValueError as error:
        usable, reason = False, str(error)
    if not usable:
        raise EndpointError(f"{url!r} is not a URL of an endpoint ({reason}); give one like http://127.0.0.1:8085")


@contextmanager
def _connected(url: str, timeout_s: float) -> Iterator[tuple[http.client.HTTPConnection, str]]:
    """A connection, which opens when something is sent, and the path before the routes."""
    check_url(url)
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
        yield connection, parts.path.rstrip("/")
    finally:
        connection.close()


def _body(head: bytes, audio: BinaryIO, size: int, tail: bytes) -> Iterator[bytes]:
    yield head
    left = size
    while left:
        try:
            piece = audio.read(min(left, _PIECE_BYTES))
        except OSError as error:
            raise SourceError(f"it cannot be read ({error.strerror}); check the disk") from error
        if not piece:
            raise SourceError("it became shorter while it was sent; wait until nobody writes to it")
        left -= len(piece)
        yield piece
    yield tail


def _multipart(question: Question, file_type: str) -> tuple[bytes, bytes, str]:
    """What goes before and after the recording, and the type of it all."""
    given = {"model": question.model, "response_format": question.response_format, "language": question.language, "prompt": question.prompt}
    boundary = uuid.uuid4().hex
    disposition = f"--{boundary}\r\nContent-Disposition: form-data"
    parts = [f'{disposition}; name="{name}"\r\n\r\n{value}\r\n' for name, value in given.items() if value]
    parts.append(f'{disposition}; name="file"; filename="clip.{file_type}"\r\nContent-Type: audio/{file_type}\r\n\r\n')
    return "".join(parts).encode(), f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else ""


def _sentence(body: bytes) -> str:
    """The endpoint's own words in OpenAI's error shape, where there are any."""
    try:
        return f": {json.loads(body)['error']['message']}"
    except (ValueError, TypeError, KeyError):
        return "; see its log"


def _text(url: str, answer: Any) -> str:
    text = answer.get("text") if isinstance(answer, dict) else None
    if not isinstance(text, str):
        raise EndpointError(f"{url} answered a transcription without a text; see its log")
    return text
