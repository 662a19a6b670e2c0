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
_LARGEST_ANSWER_BYTES = 1 << 20


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
    fields = {"model": model, "response_format": "json"} | ({"language": language} if language else {})
    body, content_type = _multipart(fields, audio, file_type)
    request = urllib.request.Request(f"{url}/openai/v1/audio/transcriptions", data=body, headers={"Content-Type": content_type})
    try:
        with _direct.open(request, timeout=timeout_s) as answer:
            return _text(url, json.loads(answer.read(_LARGEST_ANSWER_BYTES)))
    except urllib.error.HTTPError as error:
        with error:
            raise EndpointError(f"{url} answered a transcription with {error.code} {error.reason}; see its log") from error
    except (OSError, http.client.HTTPException) as error:
        raise EndpointError(f"{url} did not answer a transcription ({error}); see its log") from error
    except ValueError as error:
        raise EndpointError(f"{url} answered a transcription with what is not JSON; see its log") from error


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
