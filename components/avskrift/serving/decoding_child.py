"""A warm child process that decodes one recording at a time, through a file in memory that is shared with it.

The recording goes into that file and its samples come back in its place: for half an hour of samples (115 MB) this takes a
third of the time of a pipe. /dev/shm is not used, since containers have little of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.audio.decode import encode_flac, nameless_file
from avskrift.audio.limited_child import Child, Died, Failed, Limits, Note, ended_early
from avskrift.errors import AudioError
from avskrift.whisper.transcript import Audio

# Opus, the slowest, took 0.013 s of CPU time for a second of stereo. Twice that allows for a slow core. What a busy machine
# adds to it is time that passes and no CPU time, so of that there is more.
_CPU_SECONDS, _CPU_SHARE = 10.0, 0.03
_WALL_SECONDS, _WALL_SHARE = 10.0, 0.05
_CODEC_BYTES = 256 << 20  # for a block of eight channels, and what a codec keeps
_COPIES = 2  # of the samples: the blocks, and all in one piece
_LOOK_SECONDS = 0.25
_WARM_UP_SECONDS = 1.0


class Decoder(Protocol):
    """What a child decodes with, like :func:`avskrift.audio.decode.decode_path`; picklable."""

    def __call__(self, path: Path, *, max_seconds: float) -> Audio: ...


def limits_for(longest_seconds: float) -> Limits:
    """What a child may use for recordings of at most ``longest_seconds``."""
    samples_bytes = int(longest_seconds * SAMPLE_RATE) * np.dtype(np.float32).itemsize
    return Limits(memory_bytes=_CODEC_BYTES + _COPIES * samples_bytes, cpu_seconds=int(_CPU_SECONDS + _CPU_SHARE * longest_seconds))


def longest_wait(max_seconds: float) -> float:
    """Seconds after which decoding a recording of at most ``max_seconds`` is given up."""
    return _WALL_SECONDS + _WALL_SHARE * max_seconds


class AbandonedError(Exception):
    """Nobody wanted the samples any more, so the child was ended."""


class DecodingChild:
    """For the thread that made it, but for :meth:`stop`. ``alive`` turns false where the child died or had to be ended."""

    def __init__(self, decoder: Decoder, limits: Limits) -> None:
        self._file = nameless_file()
        number = self._file.fileno()
        self._child: Child[float, None] = Child(partial(_replace_by_samples, decoder, number), limits, descriptors=(number,))
        self.alive = True

    def warm_up(self) -> None:
        """Wait until the child has loaded its libraries and decoded something.

        Raises:
            StepFailedError: it ended before that.
        """
        silence = encode_flac(np.zeros(int(_WARM_UP_SECONDS * SAMPLE_RATE), dtype=np.float32))
        outcome = self.decode(silence, max_seconds=_WARM_UP_SECONDS, wanted=lambda: True)
        if isinstance(outcome, Died):
            raise ended_early(outcome)

    def decode(self, data: bytes, *, max_seconds: float, wanted: Callable[[], bool]) -> Audio | Died:
        """The samples, as :func:`avskrift.audio.decode.decode` gives them, or how the child died.

        ``wanted`` is asked a few times a second.

        Raises:
            AudioError and those below it: of the decoder; or it took too much memory or time.
            AbandonedError: it was not done when ``wanted`` said no.
        """
        self._file.truncate(0)
        self._file.seek(0)
        _write(self._file.write, data)
        self._child.give(max_seconds)
        self._wait(longest_wait(max_seconds), wanted)
        outcome = self._child.answer()
        if isinstance(outcome, Died):
            self._close()
            return outcome
        if isinstance(outcome, Failed):
            raise outcome.error
        self._file.seek(0)
        # Read, not mapped: what a child that was taken over does to the file cannot reach what was read.
        samples = np.fromfile(self._file, dtype=np.float32)
        self._file.truncate(0)
        return samples

    def stop(self) -> None:
        """End the child, from any thread; what it is at has died."""
        self._child.stop()

    def kill(self) -> None:
        """End the child and forget it."""
        self._child.kill()
        self._close()

    def _wait(self, limit_s: float, wanted: Callable[[], bool]) -> None:
        deadline = time.monotonic() + limit_s
        while not self._child.has_answer(within_s=_LOOK_SECONDS):
            if time.monotonic() > deadline:
                self.kill()
                raise AudioError(f"decoding it took too long (more than {limit_s:.0f} s); cut it into parts, or convert it to WAV or FLAC")
            if not wanted():
                self.kill()
                raise AbandonedError

    def _close(self) -> None:
        self._file.close()
        self.alive = False


def _write(write: Callable[[memoryview], int], data: bytes) -> None:
    """All of ``data``: the system takes less than 2 GiB at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[write(rest) :]


def _replace_by_samples(decoder: Decoder, descriptor: int, max_seconds: float, note: Note, left_out: Mapping[int, str]) -> None:
    """In the child: decode the recording in the open file ``descriptor`` and leave its samples there instead."""
    del left_out  # nothing: there is one step
    note(0)
    try:
        samples = decoder(Path(f"/dev/fd/{descriptor}"), max_seconds=max_seconds)
    except MemoryError:
        raise AudioError("decoding it took more memory than a recording may; cut it into parts, or convert it to WAV or FLAC") from None
    with open(descriptor, "r+b", buffering=0, closefd=False) as file:
        file.truncate(0)
        file.seek(0)
        samples.tofile(file)
