"""Recordings with bytes changed at random: the pool answers each or refuses it with a known error, soon.

Some hundreds are tried; AVSKRIFT_MUTATIONS=10000 tries that many, and -s shows the figures.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from functools import cache

import numpy as np
import pytest
from recordings import encoded, noise, tone

from avskrift.errors import AudioError
from avskrift.serving.decoding import DecodingPool

MUTATIONS = int(os.environ.get("AVSKRIFT_MUTATIONS") or 400)
BOUND_SECONDS = 5.0  # on a busy machine; the slowest of 10,000 took 0.14 s on two cores
AT_ONCE = 8
CODECS = [
    ("WAV", "PCM_16"),
    ("WAV", "MS_ADPCM"),
    ("FLAC", "PCM_16"),
    ("MP3", None),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("M4A", "AAC"),
    ("M4A", "ALAC"),
]
EXTREMES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\0\0\0\x80")


@cache
def whole(codec: int) -> bytes:
    return encoded(tone(0.5) + noise(0.5), 16_000, *CODECS[codec])


def mutated(number: int) -> bytes:
    """The ``number``-th recording: one to eight changes, half of them in the header."""
    random = np.random.default_rng(number)
    data = bytearray(whole(number % len(CODECS)))
    for _ in range(random.integers(1, 9)):
        at = int(random.integers(1 + (len(data) if random.random() < 0.5 else min(200, len(data)))))
        length = int(random.integers(1, 64))
        match random.integers(6):
            case 0:
                data[at : at + 1] = bytes(octet ^ 1 << int(random.integers(8)) for octet in data[at : at + 1])
            case 1:
                data[at : at + 4] = EXTREMES[random.integers(len(EXTREMES))]
            case 2:
                data[at : at + length] = random.bytes(length)
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = data[at : at + length] * int(random.integers(1, 20))
            case _:
                del data[max(12, at) :]  # the first bytes say what it is, and without them nothing would be tried
    return bytes(data)


@pytest.mark.timeout(0 if MUTATIONS > 1000 else 300)
def test_every_mutation_is_answered_or_refused_soon() -> None:
    outcomes: Counter[str] = Counter()
    slowest: list[tuple[float, int]] = []

    async def ask(pool: DecodingPool, numbers: range) -> None:
        for number in numbers:
            data, started = mutated(number), time.monotonic()
            try:
                samples = await pool.decode(data, max_seconds=30.0)
                assert np.isfinite(samples).all()
                assert 0 < len(samples) <= 30 * 16_000
                outcomes["samples"] += 1
            except AudioError as error:
                outcomes[type(error).__name__ + ("" if "crashed" not in str(error) else " crash")] += 1
            slowest.append((time.monotonic() - started, number))

    async def ask_all(pool: DecodingPool) -> None:
        await asyncio.gather(*(ask(pool, range(first, MUTATIONS, AT_ONCE)) for first in range(AT_ONCE)))

    pool = DecodingPool()
    pool.start()
    try:
        asyncio.run(ask_all(pool))
    finally:
        pool.close()
    slowest.sort(reverse=True)
    print(dict(outcomes), "slowest:", [(f"{seconds:.3f} s", CODECS[number % len(CODECS)], number) for seconds, number in slowest[:3]])
    assert sum(outcomes.values()) == MUTATIONS
    assert slowest[0][0] < BOUND_SECONDS, f"mutation {slowest[0][1]}"
