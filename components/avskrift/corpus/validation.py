"""What a clip must be to enter a dataset, and the words for why one is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

import numpy as np
import numpy.typing as npt

from avskrift.audio.constants import SAMPLE_RATE, WINDOW_SAMPLES, WINDOW_SECONDS
from avskrift.audio.decode import pcm16
from avskrift.corpus.entries import Entry, Reading
from avskrift.errors import AudioError, AudioTooLargeError, EmptyAudioError, NotFiniteAudioError
from avskrift.text.normaliser import normalise

Code = Literal[
    "missing",
    "undecodable",
    "empty_audio",
    "too_short",
    "too_long",
    "silent",
    "not_finite",
    "empty_transcript",
    "duplicate_audio",
    "sentence_in_test",
    "sentence_in_validation",
]
# Not faults of the source: what is held back so that the splits share no sentence.
HELD_BACK: frozenset[Code] = frozenset({"sentence_in_test", "sentence_in_validation"})

MIN_SECONDS = 0.3
MAX_SECONDS = float(WINDOW_SECONDS)
SILENT_PEAK = 0.001  # of full scale: -60 dB


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A clip that does not enter the dataset: a code to count by and a sentence for a person."""

    clip_id: str
    code: Code
    reason: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The audio of a valid entry: 16-bit samples at 16 kHz and their sha256."""

    pcm: npt.NDArray[np.int16]
    pcm_sha256: str
    content_sha256: str

    @property
    def duration_s(self) -> float:
        return len(self.pcm) / SAMPLE_RATE


class Validator:
    """Checks entries one after the other; it remembers the audio it has seen, by its sha256."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._seen: dict[bytes, Entry] = {}

    def check(self, entry: Entry) -> Recording | Rejection:
        """Read the entry's recording and check it with its transcript; the first fault found is the reason."""
        if entry.missing:
            return _rejected(entry, "missing", entry.missing)
        if not normalise(entry.text, self._language):
            return _rejected(entry, "empty_transcript", "the transcript has no words")
        try:
            reading = entry.read()
        except AudioError as error:
            return _rejected(entry, _code_of(error), str(error))
        return _check_samples(entry, reading) or self._check_new(entry, reading)

    def _check_new(self, entry: Entry, reading: Reading) -> Recording | Rejection:
        pcm = pcm16(reading.samples)
        digest = sha256(pcm.astype("<i2").tobytes())
        first = self._seen.setdefault(digest.digest(), entry)
        if first is not entry:
            return _rejected(entry, "duplicate_audio", f"the same audio as {first.location!r}, clip {first.clip_id}")
        return Recording(pcm=pcm, pcm_sha256=digest.hexdigest(), content_sha256=reading.content_sha256)


def _check_samples(entry: Entry, reading: Reading) -> Rejection | None:
    samples = reading.samples
    if len(samples) > WINDOW_SAMPLES:
        return _rejected(entry, "too_long", f"lasts {len(samples) / SAMPLE_RATE:.2f} s, more than {MAX_SECONDS:g} s")
    if len(samples) < MIN_SECONDS * SAMPLE_RATE:
        return _rejected(entry, "too_short", f"lasts {len(samples) / SAMPLE_RATE:.2f} s, less than {MIN_SECONDS:g} s")
    peak = float(np.abs(samples).max())
    if peak < SILENT_PEAK:
        return _rejected(entry, "silent", f"its loudest sample is {peak:.5f} of full scale, below {SILENT_PEAK:g}")
    return None


def _code_of(error: AudioError) -> Code:
    codes: Sequence[tuple[type[AudioError], Code]] = (
        (AudioTooLargeError, "too_long"),
        (EmptyAudioError, "empty_audio"),
        (NotFiniteAudioError, "not_finite"),
    )
    return next((code for cls, code in codes if isinstance(error, cls)), "undecodable")


def _rejected(entry: Entry, code: Code, reason: str) -> Rejection:
    return Rejection(clip_id=entry.clip_id, code=code, reason=reason, source=entry.location)
