"""Questions to an endpoint over HTTP, with the standard library alone: the ops image needs no client."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
import uuid
from typing import Any

from avskrift.errors import EndpointError

# An endpoint on this machine is never behind a proxy, whatever http_proxy says.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_LARGEST_ANSWER_BYTES = 16 << 20


def is_ready(url: str, *, timeout_s: float = 2.0) -> bool:
    """Whether ``/v2/health/ready`` answers that the server and its models are ready."""
    try:
        with _direct.open(f"{url}/v2/health/ready", timeout=timeout_s) as answer:
            return answer.status == 200 and json.loads(answer.read(_LARGEST_ANSWER_BYTES)).get("ready") is True
    except (OSError, http.client.HTTPException, ValueError, AttributeError):
        return False


def transcribe(url: str, audio: bytes, *, file_type: str, model: str, language: str = "", timeout_s: float = 120.0) -> str:
    """The text that ``/openai/v1/audio/transcriptions`` gives for one recording. ``file_type`` is ``wav`` or ``flac``.

    Raises:
        EndpointError: no answer in time, an answer other than 200, or one without a text.
    """
    answer = ask(url, audio, file_type=file_type, model=model, language=language, response_format="json", timeout_s=timeout_s)
    try:
        return _text(url, json.loads(answer))
    except ValueError as error:
        raise EndpointError(f"{url} answered a transcription with what is not JSON; see its log") from error


def ask(
    url: str, audio: bytes, *, file_type: str, model: str, language: str = "", response_format: str = "text", timeout_s: float = 600.0
) -> str:
    """What the endpoint answers in ``response_format``: json, text, srt, vtt or verbose_json.

    Raises:
        EndpointError: no answer in time, or an answer other than 200, with the endpoint's own sentence where it gave one.
    """
    fields = {"model": model, "response_format": response_format} | ({"language": language} if language else {})
    body, content_type = _multipart(fields, audio, file_type)
    try:
        request = urllib.request.Request(f"{url}/openai/v1/audio/transcriptions", data=body, headers={"Content-Type": content_type})
        with _direct.open(request, timeout=timeout_s) as answer:
            return str(answer.read(_LARGEST_ANSWER_BYTES).decode("utf-8"))
    except urllib.error.HTTPError as error:
        with error:
            raise EndpointError(f"{url} answered a transcription with {error.code} {error.reason}{_sentence(error)}") from error
    except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
        raise EndpointError(f"{url} did not answer a transcription ({error}); is it running? see `avskrift status`") from error
    except ValueError as error:
        raise EndpointError(f"{url!r} is not a URL of an endpoint ({error}); give one like http://127.0.0.1:8085") from error


def _sentence(error: urllib.error.HTTPError) -> str:
    """The endpoint's own words in OpenAI's error shape, where there are any."""
    try:
        return f": {json.loads(error.read(_LARGEST_ANSWER_BYTES))['error']['message']}"
    except (OSError, http.client.HTTPException, ValueError, TypeError, KeyError):
        return "; see its log"


def _text(url: str, answer: Any) -> str:
    text = answer.get("text") if isinstance(answer, dict) else None
    if not isinstance(text, str):
        raise EndpointError(f"{url} answered a transcription without a text; see its log")
    return text


def _multipart(fields: dict[str, str], audio: bytes, file_type: str) -> tuple[bytes, str]:
    boundary = uuid.uuid4().hex
    disposition = f"--{boundary}\r\nContent-Disposition: form-data"
    parts = [f'{disposition}; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()]
    parts.append(f'{disposition}; name="file"; filename="clip.{file_type}"\r\nContent-Type: audio/{file_type}\r\n\r\n')
    body = "".join(parts).encode() + audio + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"
