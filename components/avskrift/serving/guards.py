"""ASGI middleware in front of KServe's application: who is let in, limits on every body and its time, closed doors, and a last resort."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from avskrift.serving import deadline, metrics, tracing
from avskrift.serving.admission import Admission
from avskrift.serving.answers import OPENAI_PREFIXES, Refusal, Stopping, TooSlow, answer_to
from avskrift.serving.settings import Settings

_OVERHEAD_BYTES = 64 << 10  # of a body besides the recording: form fields, boundaries, JSON around the base64
_BINARY_TENSOR_HEADER = b"inference-header-content-length"
_CLOSED_PREFIX = "/v2/repository/"  # loading and unloading models is not for whoever reaches the port
_NOT_OFFERED = ":explain"  # KServe would read and parse the whole body before it says so
_PROTOCOLS = {"/transcriptions": "openai", "/translations": "openai", ":predict": "v1", "/infer": "v2"}  # by a path's end
_LEFT = 499  # nginx's status for a client that closed its connection; it is counted, never sent


class Guards:
    """Lets a request through to ``app`` if it may pass, and answers whatever ``app`` does not.

    A client that leaves has its work cancelled, in whatever protocol it asked. A request's deadline begins here, before its body is
    read: whoever stops sending does not keep the place that it was given.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings, admission: Admission) -> None:
        self._app = app
        self._settings = settings
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, answer, protocol = time.monotonic(), _Answer(send), _protocol(scope)
        try:
            if not await self._let_through(scope, receive, answer.send, protocol):
                answer.status = answer.status or _LEFT
        except asyncio.CancelledError:  # the server is told to stop, and the time of grace is over
            if answer.status:  # cut off in the middle: uvicorn hangs up, and the client sees that it is not whole
                raise
            await answer_to(scope["path"], Stopping())(scope, receive, answer.send)
        except Exception as error:  # the last resort: nothing of it may reach the client or uvicorn's log
            response = answer_to(scope["path"], error)
            if not answer.status:
                await response(scope, receive, answer.send)
        finally:
            if protocol:
                metrics.REQUESTS.labels(protocol, str(answer.status)).inc()
                metrics.REQUEST_SECONDS.observe(time.monotonic() - began)

    async def _let_through(self, scope: Scope, receive: Receive, send: Send, protocol: str) -> bool:
        """Have ``app`` answer, as long as there is somebody to answer; whether there was."""
        self._check(scope)
        with ExitStack() as stack:
            until = stack.enter_context(deadline.within(self._settings.deadline_seconds))
            if protocol:
                stack.enter_context(tracing.request(protocol, Headers(scope=scope)))
                stack.enter_context(self._admission.spooled(self._size(scope), declared=_declared(scope) is not None))
            client = self._client(scope, receive, until)
            return await _while_there(_run(self._app, _as_bytes(scope), client.receive, send), client)

    def _check(self, scope: Scope) -> None:
        if scope["path"].startswith(_CLOSED_PREFIX):
            raise Refusal(HTTPStatus.NOT_FOUND, "this server keeps the model that it was started with")
        if scope["path"].endswith(_NOT_OFFERED):
            raise Refusal(HTTPStatus.NOT_IMPLEMENTED, "this server does not offer that operation")
        if self._size(scope) > self._limit(scope):
            raise self._too_large()

    def _client(self, scope: Scope, receive: Receive, until: float) -> _Client:
        return _Client(
            receive,
            limit=self._limit(scope),
            too_large=self._too_large,
            until=until,
            too_slow=lambda: TooSlow(self._settings.deadline_seconds),
        )

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


class _Answer:
    """What a client is sent, and with which status; 0 as long as there is none."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


class _Client:
    """What a client sends, up to ``limit`` bytes whatever its headers said and by its deadline, and whether it is still there."""

    def __init__(
        self, receive: Receive, *, limit: int, too_large: Callable[[], Refusal], until: float, too_slow: Callable[[], Refusal]
    ) -> None:
        self._receive = receive
        self._limit, self._too_large = limit, too_large
        self._until, self._too_slow = until, too_slow
        self._seen = 0
        self._said_all = asyncio.Event()
        self._gone = asyncio.Event()

    async def receive(self) -> Message:
        """What the application reads: the body's parts, then that the client is gone, once it is.

        Raises:
            Refusal: the body is too large, or was not there by the deadline.
        """
        if self._said_all.is_set():
            await self._gone.wait()
            return {"type": "http.disconnect"}
        try:
            message = await deadline.awaited(self._receive(), self._until)
        except TimeoutError as error:
            raise self._too_slow() from error
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
