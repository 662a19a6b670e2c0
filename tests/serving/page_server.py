"""The page from its real router, on an endpoint that answers what a test scripts and keeps what it was sent.

It speaks the contract between the page and ``/openai/v1/audio/``: the answers that a model would need luck to give.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.datastructures import UploadFile

from avskrift.serving import answers, page
from avskrift.serving.settings import Settings

Event = dict[str, Any]
Answer = Callable[[], Response]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request for a transcript, as it came."""

    route: str
    fields: dict[str, str]
    file_name: str
    file: bytes


@dataclass(slots=True, kw_only=True)
class PageServer:
    url: str
    answers: deque[Answer] = field(default_factory=deque)  # one for each request, in order
    asked: list[Asked] = field(default_factory=list)


def segment(number: int, start: float, end: float, text: str) -> Event:
    return {"id": number, "start": start, "end": end, "text": text}


def whole(segments: Sequence[Event], *, language: str = "swedish") -> Event:
    """``verbose_json`` without streaming."""
    text = " ".join(one["text"] for one in segments)
    return {"task": "transcribe", "language": language, "duration": segments[-1]["end"], "text": text, "segments": list(segments)}


class Gate:
    """Holds a stream behind its first segment until the test opens it; a stream that nobody reads any more is let go."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    async def passed(self) -> None:
        while not self._open.is_set():
            await asyncio.sleep(0.02)


def streamed(segments: Sequence[Event], *, language: str = "swedish", gate: Gate | None = None) -> Answer:
    """The segments one after the other, and the whole at the end; with a gate, the first alone until it is opened."""
    parts = [
        event
        for one in segments
        for event in ({"type": "transcript.text.segment", **one}, {"type": "transcript.text.delta", "delta": f" {one['text']}"})
    ]
    return events(*parts, {"type": "transcript.text.done", **whole(segments, language=language)}, gate=gate)


def events(*sent: Event, gate: Gate | None = None) -> Answer:
    async def body() -> AsyncIterator[str]:
        for event in sent:
            yield f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
            if gate and event["type"] == "transcript.text.segment":
                await gate.passed()

    return lambda: StreamingResponse(body(), media_type="text/event-stream")


def plain(answer: Event) -> Answer:
    return lambda: JSONResponse(answer)


def refused(status: int, message: str = "no", **headers: str) -> Answer:
    """OpenAI's error shape; headers by keyword, with ``_`` for ``-``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda: JSONResponse({"error": {"message": message, "type": "t", "param": None, "code": None}}, status, headers=named)


@contextmanager
def serving_page(settings: Settings) -> Iterator[PageServer]:
    """The server on a free loopback port, in a thread of its own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        scripted = PageServer(url=f"http://127.0.0.1:{listener.getsockname()[1]}/")
        server = uvicorn.Server(uvicorn.Config(_application(scripted, settings), log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield scripted
        finally:
            server.should_exit = True
            thread.join()


def _application(scripted: PageServer, settings: Settings) -> FastAPI:
    app = FastAPI()

    @app.post("/openai/v1/audio/{route}", response_model=None)
    async def audio(request: Request, route: str) -> Response:
        async with request.form() as form:
            file = form["file"]
            assert isinstance(file, UploadFile)
            fields = {name: str(value) for name, value in form.items() if name != "file"}
            scripted.asked.append(Asked(route=route, fields=fields, file_name=str(file.filename), file=await file.read()))
        return scripted.answers.popleft()()

    page.install(app, settings)
    answers.install(app)
    return app
