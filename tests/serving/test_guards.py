"""The door by itself, around an application that does what a test needs."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from prometheus_client import REGISTRY
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from avskrift.serving import deadline
from avskrift.serving.admission import Admission
from avskrift.serving.guards import Guards
from avskrift.serving.settings import Settings

OPENAI, V1 = "/openai/v1/audio/transcriptions", "/v1/models/avskrift:predict"
LONG_S = 300.0


class Exchange:
    """One request: its body comes when ``finish`` is called; ``sent`` is what was answered."""

    def __init__(self, app: ASGIApp, path: str, *, length: int = 10, **settings: Any) -> None:
        self.admission = Admission(Settings(**settings))
        self.sent: list[Message] = []
        self.received = 0
        self._guards = Guards(app, settings=Settings(**settings), admission=self.admission)
        self._scope = {"type": "http", "method": "POST", "path": path, "headers": [(b"content-length", str(length).encode())]}
        self._all, self._gone = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        await self._guards(self._scope, self._receive, self._send)

    def finish(self) -> None:
        self._all.set()

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def error(self) -> Any:
        return json.loads(self.sent[1]["body"])["error"]

    async def _receive(self) -> Message:
        self.received += 1
        await (self._gone if self._all.is_set() and self.received > 1 else self._all).wait()
        return {"type": "http.request", "body": b"0123456789", "more_body": False}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)


async def reads_and_hangs(_scope: Scope, receive: Receive, _send: Send) -> None:
    await receive()
    await asyncio.Event().wait()


def counted(protocol: str, status: int) -> float:
    return REGISTRY.get_sample_value("avskrift_requests_total", {"protocol": protocol, "status": str(status)}) or 0.0


async def cut_off(exchange: Exchange) -> asyncio.Task[None]:
    """What uvicorn does with a request that outlives the time of grace."""
    task = asyncio.ensure_future(exchange.run())
    exchange.finish()
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait({task})
    return task


@pytest.mark.parametrize(("path", "protocol"), [(OPENAI, "openai"), (V1, "v1")])
def test_a_request_that_is_cut_off_is_told_to_try_again_and_counted_so(path: str, protocol: str) -> None:
    async def scenario() -> Exchange:
        exchange = Exchange(reads_and_hangs, path)
        assert not (await cut_off(exchange)).cancelled(), "uvicorn would hang up, or answer itself"
        return exchange

    before = counted(protocol, 503), counted(protocol, 0)
    exchange = asyncio.run(scenario())
    assert (exchange.status, exchange.headers["retry-after"]) == (503, "1")
    sentence = exchange.error["message"] if path == OPENAI else exchange.error
    assert sentence == "the server was stopped before the answer was there; try again"
    assert (counted(protocol, 503), counted(protocol, 0)) == (before[0] + 1, before[1])


def test_an_answer_that_is_cut_off_in_the_middle_is_not_finished_by_another() -> None:
    async def begins_and_hangs(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await reads_and_hangs(scope, receive, send)

    async def scenario() -> Exchange:
        exchange = Exchange(begins_and_hangs, OPENAI)
        assert (await cut_off(exchange)).cancelled()
        return exchange

    assert [message["type"] for message in asyncio.run(scenario()).sent] == ["http.response.start"]


@pytest.mark.parametrize(("path", "protocol"), [(OPENAI, "openai"), (V1, "v1")])
def test_whoever_stops_sending_is_not_waited_for_and_its_place_is_free(path: str, protocol: str) -> None:
    async def scenario() -> Exchange:
        exchange = Exchange(reads_and_hangs, path, length=20 << 20, deadline_seconds=0.05, max_spool_mb=20)
        await asyncio.wait_for(exchange.run(), 60)
        with exchange.admission.spooled(20 << 20):
            return exchange

    before = counted(protocol, 408)
    exchange = asyncio.run(scenario())
    assert (exchange.status, exchange.headers["connection"]) == (408, "close")
    assert "had not arrived after 0.05 s" in (exchange.error["message"] if path == OPENAI else exchange.error)
    assert counted(protocol, 408) == before + 1


def test_the_time_that_a_body_takes_is_part_of_the_deadline() -> None:
    seen: list[float] = []

    async def reads_then_asks(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        seen.append(deadline.of_this_request(2 * LONG_S))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def scenario() -> float:
        exchange = Exchange(reads_then_asks, OPENAI, deadline_seconds=LONG_S)
        task = asyncio.ensure_future(exchange.run())
        await asyncio.sleep(0.01)
        before_the_body = time.monotonic()
        exchange.finish()
        await task
        return before_the_body

    before_the_body = asyncio.run(scenario())
    assert seen[0] <= before_the_body + LONG_S


def test_explain_is_refused_before_its_body_is_read() -> None:
    async def scenario() -> Exchange:
        exchange = Exchange(reads_and_hangs, "/v1/models/avskrift:explain", length=20 << 20)
        await asyncio.wait_for(exchange.run(), 60)
        return exchange

    exchange = asyncio.run(scenario())
    assert (exchange.status, exchange.error, exchange.received) == (501, "this server does not offer that operation", 0)
