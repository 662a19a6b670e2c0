"""Many clients at once, servers that are told to stop under them, and one that takes over from another.

AVSKRIFT_LOAD_REQUESTS (of each of 32 clients) and AVSKRIFT_SIGTERMS ask for more than the default, which is for every day.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from contextlib import suppress

import aiohttp
import psutil
from conftest import RunningServer, StartServer, recording

CLIENTS = 32
REQUESTS = int(os.environ.get("AVSKRIFT_LOAD_REQUESTS", "60"))
SIGTERMS = int(os.environ.get("AVSKRIFT_SIGTERMS", "2"))
SWAPPED_REQUESTS = 1000
CLIP_SECONDS = 1.5
MOST_GROWTH_MB = 50.0
CLIP = recording(CLIP_SECONDS)


async def ask(session: aiohttp.ClientSession, port: int) -> tuple[int, str]:
    """The status and Retry-After of one transcription."""
    form = aiohttp.FormData({"language": "sv"})
    form.add_field("file", CLIP, filename="clip.flac")
    async with session.post(f"http://127.0.0.1:{port}/openai/v1/audio/transcriptions", data=form) as answer:
        await answer.read()
        return answer.status, answer.headers.get("Retry-After", "")


def session(*, keep_alive: bool = True) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=not keep_alive))


def test_every_answer_is_an_answer_and_memory_stays(start_server: StartServer) -> None:
    server = start_server(AVSKRIFT_MAX_QUEUE_SECONDS=str(8 * CLIP_SECONDS))
    answers: Counter[tuple[int, bool]] = Counter()

    async def client(each: aiohttp.ClientSession, requests: int) -> None:
        for _ in range(requests):
            status, retry_after = await ask(each, server.port)
            answers[status, retry_after.isdigit()] += 1

    async def load(requests: int) -> None:
        async with session() as each:
            await asyncio.gather(*(client(each, requests) for _ in range(CLIENTS)))

    asyncio.run(load(max(1, REQUESTS // 10)))
    before = resident_mb(server)
    asyncio.run(load(REQUESTS))
    assert set(answers) <= {(200, False), (429, True)}, answers
    assert answers[200, False]
    assert answers[429, True], "nobody was refused: this is not load"
    assert resident_mb(server) - before < MOST_GROWTH_MB


def test_a_server_that_is_told_to_stop_answers_all_that_it_took(start_server: StartServer) -> None:
    for _ in range(SIGTERMS):
        server = start_server(AVSKRIFT_GRACE_SECONDS="60")
        statuses = asyncio.run(_stopped_under_load(server))
        assert server.process.wait(timeout=60) == 0
        assert set(statuses) == {200}
        assert server.log().count("serving.transcribed") == len(statuses)


async def _stopped_under_load(server: RunningServer) -> list[int]:
    """The statuses of clients that begin nothing new once the server was told to stop."""
    statuses: list[int] = []
    told = asyncio.Event()

    async def client(each: aiohttp.ClientSession) -> None:
        while not told.is_set():
            statuses.append((await ask(each, server.port))[0])

    async with session() as each:
        clients = [asyncio.ensure_future(client(each)) for _ in range(CLIENTS)]
        while len(statuses) < 2 * CLIENTS:
            await asyncio.sleep(0.01)
        told.set()
        # Whatever a client had begun is on its way: the connection is there, and the kernel holds what was sent.
        server.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*clients)
    return statuses


def test_one_server_takes_over_from_another_and_nobody_notices(start_server: StartServer) -> None:
    first = start_server(AVSKRIFT_GRACE_SECONDS="60")
    second = start_server(AVSKRIFT_GRACE_SECONDS="60")
    statuses = asyncio.run(_swapped(first, second))
    assert first.process.wait(timeout=60) == 0
    assert Counter(statuses) == {200: SWAPPED_REQUESTS}


async def _swapped(first: RunningServer, second: RunningServer) -> list[int]:
    """Requests through a door that leads to the first server, and from the middle on to the second, while the first is stopped."""
    leads_to = [first.port]
    statuses: list[int] = []
    waiting = iter(range(SWAPPED_REQUESTS))

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", leads_to[0])
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))

    async def client(each: aiohttp.ClientSession, port: int) -> None:
        for _ in waiting:
            statuses.append((await ask(each, port))[0])
            if len(statuses) == SWAPPED_REQUESTS // 2:
                leads_to[0] = second.port
                first.process.send_signal(signal.SIGTERM)

    async with await asyncio.start_server(pass_on, "127.0.0.1", 0) as door, session(keep_alive=False) as each:
        port = door.sockets[0].getsockname()[1]
        await asyncio.gather(*(client(each, port) for _ in range(8)))
    return statuses


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


def resident_mb(server: RunningServer) -> float:
    """Of the server and the children that it has."""
    process = psutil.Process(server.process.pid)
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 1e6
