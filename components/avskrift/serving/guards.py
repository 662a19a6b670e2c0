"""ASGI middleware in front of KServe's application: a limit on every body, closed doors, and a last resort."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from avskrift.serving.answers import OPENAI_PREFIXES, Refusal, answer_to
from avskrift.serving.settings import Settings

_OVERHEAD_BYTES = 64 << 10  # of a body besides the recording: form fields, boundaries, JSON around the base64
_BINARY_TENSOR_HEADER = "inference-header-content-length"
_CLOSED_PREFIX = "/v2/repository/"  # loading and unloading models is not for whoever reaches the port


class Guards:
    """Lets a request through to ``app`` if it may pass, and answers whatever ``app`` does not."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, self._limited(scope, receive), watch)
        except Exception as error:  # the last resort: nothing of it may reach the client or uvicorn's log
            response = answer_to(scope["path"], error)
            if not started:
                await response(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if scope["path"].startswith(_CLOSED_PREFIX):
            raise Refusal(HTTPStatus.NOT_FOUND, "this server keeps the model that it was started with")
        if _BINARY_TENSOR_HEADER in headers:
            raise Refusal(HTTPStatus.BAD_REQUEST, "binary tensors are not accepted; send the audio as base64 strings in JSON")
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._limit(scope):
            raise self._too_large()

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """``receive`` that stops reading once the body is over the limit, whatever its headers said."""
        limit = self._limit(scope)
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise self._too_large()
            return message

        return limited

    def _limit(self, scope: Scope) -> int:
        """Bytes of the whole body: the recording as it is where OpenAI's clients send it, as base64 (4 for 3) elsewhere."""
        recording = self._settings.max_upload_bytes
        return _OVERHEAD_BYTES + (recording if scope["path"].startswith(OPENAI_PREFIXES) else -(-recording // 3) * 4)

    def _too_large(self) -> Refusal:
        message = f"the upload is over the limit of {self._settings.max_upload_mb:g} MB; send it in parts or compressed as FLAC or MP3"
        return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, param="file", code="audio_too_large")
