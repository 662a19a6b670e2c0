"""How an endpoint bears load: ours beside faster-whisper behind FastAPI with one lock, in the same run.

    python benchmarks/endpoint.py --package PACKAGE --dataset DATASET

PACKAGE is a model package (the demo's, say), DATASET a dataset folder whose test and validation clips of 2 to 6 s are sent as they
are, in FLAC, with their language. Both servers run the package's weights in int8, greedily, on --threads threads; the clients share
the machine with them. Closed loop: so many clients, each sending its next clip when the last was answered, for --seconds, and all
that was sent is waited for. Open loop: clips sent at random moments (Poisson) for twice as long, at a share of the capacity, which is
our rate with 16 clients; a server that falls behind must refuse, and every clip that it takes must be answered within --deadline.
Last, 32 clients that never pause, whatever they are told, at a server that may hold 12 s of audio: nearly all are refused.

- audio s/s: seconds of audio that were answered, over the seconds from the first request to the last answer
- p50, p95, p99: seconds from sending a request to the end of its answer, of those answered with 200
- refused: 429 or 503, and the 99th percentile of seconds until that was said
- late: answered after the deadline, with 504 or at all; lost: another status, or none
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import platform
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from rich import box
from rich.console import Console
from rich.table import Table

from avskrift.corpus.dataset import Clip, open_dataset
from avskrift.evaluation.machine import machine

_SHORTEST_S, _LONGEST_S = 2.0, 6.0
_CLIENTS = (1, 4, 16, 64)
_CAPACITY_CLIENTS = 16
_SHARES = (0.5, 1.5, 3.0)
_STORMING_CLIENTS, _STORMED_QUEUE_S = 32, 12
_SEED = 20_261_129
_STARTS_WITHIN_S = 120.0
_PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: seconds until its answer's end, its status (0: none), and the seconds of audio that it brought."""

    took_s: float
    status: int
    audio_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A server under one load."""

    server: str
    load: str
    answers: Sequence[Answer]
    seconds: float
    deadline_s: float

    @property
    def answered(self) -> list[Answer]:
        return [one for one in self.answers if one.status == 200]

    @property
    def rate(self) -> float:
        return sum(one.audio_s for one in self.answered) / self.seconds

    @property
    def refused(self) -> list[Answer]:
        return [one for one in self.answers if one.status in (429, 503)]

    def percentile(self, share: float) -> float:
        return percentile(self.answered, share)

    def counts(self) -> tuple[int, int, int]:
        """Refused, late, lost."""
        refused = len(self.refused)
        late = sum(one.status == 504 or (one.status == 200 and one.took_s > self.deadline_s) for one in self.answers)
        return refused, late, sum(one.status not in (200, 429, 503, 504) for one in self.answers)


def percentile(answers: Sequence[Answer], share: float) -> float:
    """Of the seconds that answers took; not a number where there are none."""
    taken = sorted(one.took_s for one in answers)
    return taken[min(len(taken) - 1, int(share * len(taken)))] if taken else math.nan


def main() -> None:
    options = _options()
    clips = [
        clip
        for split in ("test", "validation")
        for clip in open_dataset(options.dataset).clips(split)
        if _SHORTEST_S <= clip.duration_s <= _LONGEST_S
    ]
    random.Random(_SEED).shuffle(clips)
    with tempfile.TemporaryDirectory(prefix="avskrift-bench-") as folder:
        rows = [] if options.storm else _compared(clips, options, Path(folder))
        with ours(options, Path(folder), AVSKRIFT_MAX_QUEUE_SECONDS=str(_STORMED_QUEUE_S)) as url:
            rows.append(closed("ours", url, clips, _STORMING_CLIENTS, options, f"{_STORMING_CLIENTS} clients, {_STORMED_QUEUE_S} s held"))
    console = Console(width=160)
    console.print(f"{machine()}, {options.threads} threads, Python {platform.python_version()}; {len(clips)} clips", soft_wrap=True)
    console.print(table(rows))


def _compared(clips: Sequence[Clip], options: argparse.Namespace, folder: Path) -> list[Row]:
    """Every load but the storm, on both servers."""
    with ours(options, folder) as url:
        rows = [closed("ours", url, clips, clients, options) for clients in options.clients]
        at_capacity = next(row for row in rows if row.load == _closed(_CAPACITY_CLIENTS))
        capacity = len(at_capacity.answered) / at_capacity.seconds
        rows += [opened("ours", url, clips, share, capacity, options) for share in _SHARES]
    with locked(options, folder) as url:
        return rows + [closed("one lock", url, clips, clients, options) for clients in options.clients]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--language", default="sv")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="of sending, for each load")
    parser.add_argument("--deadline", type=float, default=20.0, help="seconds; our server is told the same")
    parser.add_argument("--clients", type=int, nargs="+", default=_CLIENTS, help=f"{_CAPACITY_CLIENTS} must be among them")
    parser.add_argument("--storm", action="store_true", help="the last load alone: 32 clients that never pause")
    return parser.parse_args()


@contextmanager
def ours(options: argparse.Namespace, folder: Path, **environment: str) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "avskrift.serving", "--package", str(options.package), "--port", str(port)]
    told = {"AVSKRIFT_THREADS": str(options.threads), "AVSKRIFT_DEADLINE_SECONDS": str(options.deadline), **environment}
    with running(command, port, folder / "ours.log", told) as url:
        yield url


@contextmanager
def locked(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    port, script = free_port(), Path(__file__).with_name("locked_server.py")
    command = [sys.executable, str(script), str(options.package / "ct2"), str(port), str(options.threads)]
    with running(command, port, folder / "locked.log", {}) as url:
        yield url


@contextmanager
def running(command: Sequence[str], port: int, log: Path, told: dict[str, str]) -> Iterator[str]:
    """The address of a server that accepts connections."""
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=os.environ | told)
    try:
        until = time.monotonic() + _STARTS_WITHIN_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError as error:
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"{command[1:3]} did not start:\n{log.read_text()[-3000:]}") from error
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/openai/v1/audio/transcriptions"
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def closed(server: str, url: str, clips: Sequence[Clip], clients: int, options: argparse.Namespace, load: str = "") -> Row:
    """Every client sends its next clip when its last was answered, or refused. ``load`` is the row's name."""

    async def run() -> tuple[list[Answer], float]:
        answers: list[Answer] = []
        started = time.perf_counter()

        async def client(session: aiohttp.ClientSession, number: int) -> None:
            place = number * len(clips) // clients
            while time.perf_counter() - started < options.seconds:
                answers.append(await ask(session, url, clips[place % len(clips)], options.language))
                place += 1

        async with _session() as session:
            await ask(session, url, clips[0], options.language)  # what is met first is met before the clock starts
            started = time.perf_counter()
            await asyncio.gather(*(client(session, number) for number in range(clients)))
        return answers, time.perf_counter() - started

    return _told(server, load or _closed(clients), *asyncio.run(run()), options)


def opened(server: str, url: str, clips: Sequence[Clip], share: float, capacity: float, options: argparse.Namespace) -> Row:
    """Clips at random moments, ``share`` times ``capacity`` a second, whatever the server does."""

    async def run() -> tuple[list[Answer], float]:
        chance, moment, sent = random.Random(_SEED), 0.0, []
        async with _session() as session:
            started = time.perf_counter()
            for number in range(round(share * capacity * 2 * options.seconds)):
                moment += chance.expovariate(share * capacity)
                await asyncio.sleep(max(0.0, started + moment - time.perf_counter()))
                sent.append(asyncio.ensure_future(ask(session, url, clips[number % len(clips)], options.language)))
            answers = list(await asyncio.gather(*sent))
        return answers, time.perf_counter() - started

    return _told(server, f"open loop, {share:.0%}", *asyncio.run(run()), options)


async def ask(session: aiohttp.ClientSession, url: str, clip: Clip, language: str) -> Answer:
    form = aiohttp.FormData({"language": language})
    form.add_field("file", clip.audio, filename="clip.flac")
    started, status = time.perf_counter(), 0
    try:
        async with session.post(url, data=form) as answer:
            await answer.read()
            status = answer.status
    except (aiohttp.ClientError, TimeoutError, ConnectionError):
        pass
    return Answer(time.perf_counter() - started, status, clip.duration_s)


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PATIENCE_S), connector=aiohttp.TCPConnector(limit=0))


def _told(server: str, load: str, answers: list[Answer], seconds: float, options: argparse.Namespace) -> Row:
    row = Row(server=server, load=load, answers=answers, seconds=seconds, deadline_s=options.deadline)
    print(f"{server}, {load}: {row.rate:.1f} audio s/s, p50 {row.percentile(0.5):.3f} s", file=sys.stderr, flush=True)
    return row


def _closed(clients: int) -> str:
    return f"{clients} client" + ("s" if clients > 1 else "")


def table(rows: Sequence[Row]) -> Table:
    """Ratios of throughput and of median latency are to the lock under the same load."""
    made = Table(box=box.MARKDOWN)
    titles = ("server", "load", "requests/s", "audio s/s", "times the lock", "p50, s", "p95, s", "p99, s", "p50 of the lock's")
    for title in (*titles, "sent", "refused", "late", "lost", "p99 of refusals, s"):
        made.add_column(title, justify="left" if title in ("server", "load") else "right")
    peers = {row.load: row for row in rows if row.server != "ours"}
    for row in rows:
        peer = peers.get(row.load)
        ratios = (f"{row.rate / peer.rate:.1f}", f"{row.percentile(0.5) / peer.percentile(0.5):.2f}") if peer else ("", "")
        made.add_row(
            row.server,
            row.load,
            f"{len(row.answered) / row.seconds:.1f}",
            f"{row.rate:.1f}",
            ratios[0],
            *(f"{row.percentile(share):.2f}" for share in (0.5, 0.95, 0.99)),
            ratios[1],
            str(len(row.answers)),
            *map(str, row.counts()),
            f"{percentile(row.refused, 0.99):.3f}" if row.refused else "",
        )
    return made


if __name__ == "__main__":
    main()
