"""Recordings decoded in children: each its own samples or its own error, and nothing that one does reaches another."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from recordings import encoded, flac_of_silence, noise, tone, video
from scripted_decoder import decode_or_do_harm, die_at_once

from avskrift.audio.decode import decode
from avskrift.audio.limited_child import Limits
from avskrift.errors import (
    AudioError,
    AudioTooLargeError,
    AudioTypeError,
    EmptyAudioError,
    NotFiniteAudioError,
    StepFailedError,
)
from avskrift.serving import decoding, decoding_child
from avskrift.serving.decoding import DecodingPool
from avskrift.whisper.transcript import Audio

CODECS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("MP3", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("M4A", "AAC")]
LIMITS = Limits(memory_bytes=256 << 20, cpu_seconds=1)
PATIENCE_SECONDS = 30.0
TEN_HOURS = 36_000.0


def heard(pool: DecodingPool, data: bytes, max_seconds: float = 30.0) -> Audio:
    return asyncio.run(pool.decode(data, max_seconds=max_seconds))


def children() -> set[psutil.Process]:
    """Living ones: every pool's."""
    return {one for one in living(set(psutil.Process().children())) if any("limited_child" in word for word in one.cmdline())}


def living(processes: set[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodingPool]:
    pool = DecodingPool()
    pool.start()
    yield pool
    pool.close()


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[DecodingPool]:
    """One child with tight limits and a decoder that does harm when it is told to."""
    monkeypatch.setattr(decoding, "available_cores", lambda: 1)
    before = children()
    pool = DecodingPool(limits=LIMITS, decoder=decode_or_do_harm)
    pool.start()
    yield pool
    mine = children() - before
    pool.close()
    assert not living(mine)


@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize(("container", "subtype"), CODECS)
def test_samples_are_those_of_the_decoder(pool: DecodingPool, container: str, subtype: str | None, rate: int) -> None:
    data = encoded(noise(2.0, rate), rate, container, subtype)
    samples = heard(pool, data)
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, decode(data))


def spoilt() -> bytes:
    samples = tone(1.0)
    samples[8000] = np.nan
    return encoded(samples, subtype="FLOAT")


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"", EmptyAudioError, "no bytes"),
        (encoded(np.zeros(0, np.float32)), EmptyAudioError, "no samples"),
        (b"Hej, detta ar ingen inspelning.", AudioTypeError, "not audio that can be read"),
        (video(), AudioTypeError, "video"),
        (encoded(tone(31.0)), AudioTooLargeError, "over the limit of 30 s"),
        (encoded(tone(1.0))[:-100], AudioError, "cut short"),
        (spoilt(), NotFiniteAudioError, "NaN"),
        (flac_of_silence(TEN_HOURS, block=65_535), AudioTooLargeError, "lasts 36003.3 s, over the limit of 30 s"),
        (flac_of_silence(TEN_HOURS, block=65_535, claimed=0), AudioTooLargeError, "more than the limit of 30 s, whatever its header says"),
    ],
    ids=["nothing", "no samples", "text", "video", "long", "cut", "NaN", "ten hours", "ten hours unsaid"],
)
def test_an_error_travels_with_its_own_type_and_sentence(pool: DecodingPool, data: bytes, kind: type[AudioError], words: str) -> None:
    before = children()
    with pytest.raises(kind, match=words) as failure:
        heard(pool, data)
    assert type(failure.value) is kind
    assert children() == before, "no child had to be replaced"


def test_fifty_at_once_get_their_own_samples(pool: DecodingPool) -> None:
    recordings = [encoded(noise(0.1 + 0.02 * number, seed=number), container=("WAV", "FLAC")[number % 2]) for number in range(50)]

    async def together() -> list[Audio]:
        return list(await asyncio.gather(*(pool.decode(data, max_seconds=30.0) for data in recordings)))

    for data, samples in zip(recordings, asyncio.run(together()), strict=True):
        np.testing.assert_array_equal(samples, decode(data))


def test_there_are_as_many_children_as_cores_and_four_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, expected in ((1, 1), (3, 3), (64, 4)):
        monkeypatch.setattr(decoding, "available_cores", lambda cores=cores: cores)
        before = children()
        pool = DecodingPool()
        try:
            pool.start()
            assert len(children() - before) == expected
        finally:
            pool.close()


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("crash", r"the decoder crashed on it \(SIG(SEGV|BUS)\)"),
        ("spin", "more than 1 s of CPU time"),
        ("killed", "was killed twice"),
        ("hang", "decoding it took too long"),
        ("grow", "more memory than a recording may"),
    ],
)
def test_a_recording_that_does_harm_is_refused_and_the_next_is_decoded(
    scripted: DecodingPool, monkeypatch: pytest.MonkeyPatch, word: str, says: str
) -> None:
    if word == "hang":
        monkeypatch.setattr(decoding_child, "longest_wait", lambda _: 0.5)
    with pytest.raises(AudioError, match=says) as failure:
        heard(scripted, word.encode())
    assert failure.value.http_status == 422
    data = encoded(tone(1.0))
    np.testing.assert_array_equal(heard(scripted, data, 5.0), decode(data))


def test_a_dead_child_is_replaced_before_the_next_request(scripted: DecodingPool) -> None:
    before, first = len(children()), heard(scripted, b"whoami")
    with pytest.raises(AudioError):
        heard(scripted, b"crash")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(children()) < before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(children()) == before
    assert heard(scripted, b"whoami") != first


def test_a_child_that_somebody_else_killed_costs_no_recording(scripted: DecodingPool, tmp_path: Path) -> None:
    assert len(heard(scripted, b"killed-once " + os.fsencode(tmp_path / "flag"))) == 1
    os.kill(int(heard(scripted, b"whoami")[0]), signal.SIGKILL)  # when it has nothing to do
    assert len(heard(scripted, b"whoami")) == 1


def test_others_are_decoded_while_one_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "available_cores", lambda: 2)
    monkeypatch.setattr(decoding_child, "longest_wait", lambda _: 3.0)
    pool = DecodingPool(limits=LIMITS, decoder=decode_or_do_harm)
    pool.start()
    try:

        async def both() -> None:
            hanging = asyncio.create_task(pool.decode(b"hang", max_seconds=1.0))
            for _ in range(5):
                assert len(await pool.decode(b"whoami", max_seconds=1.0)) == 1
            assert not hanging.done()
            with pytest.raises(AudioError, match="too long"):
                await hanging

        asyncio.run(both())
    finally:
        pool.close()


async def cancelled(work: Coroutine[Any, Any, Audio], after_s: float) -> None:
    task = asyncio.create_task(work)
    await asyncio.sleep(after_s)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_whoever_leaves_frees_the_child(scripted: DecodingPool) -> None:
    async def leave_and_ask() -> Audio:
        await cancelled(scripted.decode(b"hang", max_seconds=30.0), 0.2)
        return await asyncio.wait_for(scripted.decode(b"whoami", max_seconds=30.0), PATIENCE_SECONDS / 3)

    assert len(asyncio.run(leave_and_ask())) == 1


def test_what_is_nearly_done_is_finished_by_the_same_child_though_nobody_waits(scripted: DecodingPool) -> None:
    before = children()

    async def leave_and_ask() -> None:
        await cancelled(scripted.decode(b"doze", max_seconds=30.0), 0.01)
        await scripted.decode(b"whoami", max_seconds=30.0)

    asyncio.run(leave_and_ask())
    assert children() == before


def test_what_is_cancelled_before_its_turn_is_never_decoded(scripted: DecodingPool) -> None:
    async def leave() -> None:
        first = asyncio.create_task(scripted.decode(b"doze", max_seconds=30.0))
        await asyncio.sleep(0)
        await cancelled(scripted.decode(b"hang", max_seconds=30.0), 0.0)
        await first
        await scripted.decode(b"whoami", max_seconds=30.0)

    before = children()
    asyncio.run(leave())
    assert children() == before


def test_closing_cancels_whoever_waits_and_leaves_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "available_cores", lambda: 1)
    before = children()
    pool = DecodingPool(limits=LIMITS, decoder=decode_or_do_harm)
    pool.start()
    mine = children() - before
    assert mine

    async def close_meanwhile() -> list[Audio | BaseException]:
        waiting = [asyncio.create_task(pool.decode(word, max_seconds=30.0)) for word in (b"hang", b"whoami")]
        await asyncio.sleep(0.2)
        pool.close()
        return list(await asyncio.gather(*waiting, return_exceptions=True))

    assert all(isinstance(one, asyncio.CancelledError) for one in asyncio.run(close_meanwhile()))
    assert not living(mine)
    pool.close()  # twice is no harm


def test_a_pool_whose_children_cannot_begin_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()
    with pytest.raises(StepFailedError, match=r"before it read anything: .*exit code 7"):
        DecodingPool(limits=LIMITS, decoder=die_at_once).start()
    assert not living(children() - before)


def test_no_child_outlives_a_server_that_was_killed_though_it_hangs(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import asyncio, psutil, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from scripted_decoder import decode_or_do_harm\n"
        "from avskrift.serving.decoding import DecodingPool\n"
        "pool = DecodingPool(decoder=decode_or_do_harm)\n"
        "pool.start()\n"
        "async def main():\n"
        "    hanging = asyncio.create_task(pool.decode(b'hang', max_seconds=1.0))\n"
        "    await asyncio.sleep(0.3)\n"
        "    print(*(c.pid for c in psutil.Process().children()), flush=True)\n"
        "    await hanging\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.send_signal(signal.SIGKILL)
    assert pids
    deadline = time.monotonic() + PATIENCE_SECONDS / 3
    while (left := [pid for pid in pids if psutil.pid_exists(pid)]) and time.monotonic() < deadline:
        left = [pid for pid in left if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
        if not left:
            break
        time.sleep(0.05)
    assert not left
