"""ASGI middleware in front of KServe's application: who is let in, a limit on every body, closed doors, and a last resort."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from avskrift.serving import metrics, tracing
from avskrift.serving.admission import Admission
from avskrift.serving.answers import OPENAI_PREFIXES, Refusal, answer_to
from avskrift.serving.settings import Settings

_OVERHEAD_BYTES = 64 << 10  # of a body besides the recording: form fields, boundaries, JSON around the base64
_BINARY_TENSOR_HEADER = b"inference-header-content-length"
_CLOSED_PREFIX = "/v2/repository/"  # loading and unloading models is not for whoever reaches the port
_PROTOCOLS = {"/transcriptions": "openai", "/translations": "openai", ":predict": "v1", "/infer": "v2"}  # by a path's end
_LEFT = 499  # nginx's status for a client that closed its connection; it is counted, never sent


class Guards:
    """Lets a request through to ``app`` if it may pass, and answers whatever ``app`` does not.

    A client that leaves has its work cancelled, in whatever protocol it asked.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings, admission: Admission) -> None:
        self._app = app
        self._settings = settings
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        client = _Client(receive, self._limit(scope), self._too_large)
        protocol = _protocol(scope)
        try:
            with ExitStack() as stack:
                self._check(scope)
                if protocol:
                    stack.enter_context(tracing.request(protocol, Headers(scope=scope)))
                    stack.enter_context(self._admission.spooled(self._size(scope), declared=_declared(scope) is not None))
                if not await _while_there(_run(self._app, _as_bytes(scope), client.receive, watch), client):
                    status = status or _LEFT
        except Exception as error:  # the last resort: nothing of it may reach the client or uvicorn's log
            response = answer_to(scope["path"], error)
            if not status:
                await response(scope, receive, watch)
        finally:
            if protocol:
                metrics.REQUESTS.labels(protocol, str(status)).inc()
                metrics.REQUEST_SECONDS.observe(time.monotonic() - began)

    def _check(self, scope: Scope) -> None:
        if scope["path"].startswith(_CLOSED_PREFIX):
            raise Refusal(HTTPStatus.NOT_FOUND, "this server keeps the model that it was started with")
        if self._size(scope) > self._limit(scope):
            raise self._too_large()

    def _size(self, scope: Scope) -> int:
        """Bytes that the body has by its header; where it does not say, as many as it may have."""
        declared = _declared(scope)
        return self._limit(scope) if declared is None else declared

    def _limit(self, scope: Scope) -> int:
        """Bytes of the whole body: the recording as it is where OpenAI's clients send it, as base64 (4 for 3) elsewhere."""
        recording = self._settings.max_upload_bytes
        return _OVERHEAD_BYTES + (recording if scope["path"].startswith(OPENAI_PREFIXES) else -(-recording // 3) * 4)

    def _too_large(self) -> Refusal:
        message = f"the upload is over the limit of {self._settings.max_upload_mb:g} MB; send it in parts or compressed as FLAC or MP3"
        return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, param="file", code="audio_too_large")


class _Client:
    """What a client sends, up to ``limit`` bytes whatever its headers said, and whether it is still there."""

    def __init__(self, receive: Receive, limit: int, too_large: Callable[[], Refusal]) -> None:
        self._receive, self._limit, self._too_large = receive, limit, too_large
        self._seen = 0
        self._said_all = asyncio.Event()
        self._gone = asyncio.Event()

    async def receive(self) -> Message:
        """What the application reads: the body's parts, then that the client is gone, once it is."""
        if self._said_all.is_set():
            await self._gone.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > self._limit:
            raise self._too_large()
        if message["type"] == "http.disconnect":
            self._gone.set()
        if not message.get("more_body"):
            self._said_all.set()
        return message

    async def leaves(self) -> None:
        """Return when the client, who has said all, closes the connection."""
        await self._said_all.wait()
        if not self._gone.is_set():
            await self._receive()
            self._gone.set()


async def _while_there(answering: Coroutine[Any, Any, None], client: _Client) -> bool:
    """Answer as long as there is somebody to answer; whether there was."""
    answered, left = asyncio.ensure_future(answering), asyncio.ensure_future(client.leaves())
    try:
        await asyncio.wait({answered, left}, return_when=asyncio.FIRST_COMPLETED)
        if answered.done():
            await answered
            return True
        answered.cancel()
        await asyncio.wait({answered})
        return False
    finally:
        answered.cancel()
        left.cancel()


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


def _as_bytes(scope: Scope) -> Scope:
    """``scope``, which says that its body is no JSON where tensors follow the JSON; clients say that it is, or nothing."""
    headers = dict(scope["headers"])
    if _BINARY_TENSOR_HEADER not in headers or _protocol(scope) != "v2":
        return scope
    return {**scope, "headers": [*(headers | {b"content-type": b"application/octet-stream"}).items()]}


def _declared(scope: Scope) -> int | None:
    length = Headers(scope=scope).get("content-length", "")
    return int(length) if length.isdigit() else None


def _protocol(scope: Scope) -> str:
    """Which protocol's transcription is asked for; none of health checks, lists and pages."""
    if scope["method"] != "POST":
        return ""
    return next((protocol for end, protocol in _PROTOCOLS.items() if scope["path"].endswith(end)), "")
