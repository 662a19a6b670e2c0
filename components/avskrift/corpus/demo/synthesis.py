"""From a planned utterance to samples: the voice's small variations, the resampling and the trimming."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus.demo.espeak import ESPEAK_RATE, say
from avskrift.corpus.demo.plan import LANGUAGE, DemoUtterance
from avskrift.corpus.demo.speakers import Speaker
from avskrift.errors import UsageError

RATE_VARIATION = 0.08  # of the speaker's rate, either way
PITCH_VARIATION = 5.0  # steps of eSpeak's scale, either way
SILENCE_SECONDS = (0.10, 0.20)  # kept or put before and after the speech
HIGHEST_PEAK = 0.95

_SILENT_BELOW = 0.004  # of full scale: under -48 dB there is breath and rounding, no speech


def speak(utterance: DemoUtterance) -> npt.NDArray[np.float32]:
    """One planned utterance, as :func:`synthesise` gives it; its variation hangs on its clip id.

    Raises:
        SourceError: eSpeak NG cannot be used.
    """
    seed = int.from_bytes(hashlib.sha256(utterance.clip_id.encode()).digest()[:8], "big")
    return synthesise(utterance.text, utterance.speaker, seed)


def synthesise(text: str, speaker: Speaker, utterance_seed: int) -> npt.NDArray[np.float32]:
    """``text`` in ``speaker``'s voice: float32, mono, 16 kHz, shape (samples,), peak at most :data:`HIGHEST_PEAK`.

    The same arguments give the same bytes, in any process and in any order. Every value is a whole multiple of
    1/32768, so 16-bit FLAC keeps it exactly.

    Raises:
        SourceError: eSpeak NG cannot be used.
        UsageError: there is nothing to speak in ``text``.
    """
    variation = _vary(speaker, utterance_seed)
    spoken = say(text, language=LANGUAGE, variant=speaker.variant, rate=variation.rate, pitch=variation.pitch, seed=utterance_seed)
    samples = soxr.resample(spoken.astype(np.float64) / 32768, ESPEAK_RATE, SAMPLE_RATE)
    framed = _frame(samples, before=variation.silence_before, after=variation.silence_after)
    loudness = min(1.0, HIGHEST_PEAK / float(np.abs(framed).max()))
    return (np.trunc(framed * loudness * 32768) / 32768).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variation:
    rate: int
    pitch: int
    silence_before: float  # seconds
    silence_after: float


def _vary(speaker: Speaker, utterance_seed: int) -> _Variation:
    drawn = hashlib.sha256(f"{speaker.name}/{utterance_seed}".encode()).digest()
    first, second, third, fourth = (int.from_bytes(drawn[at : at + 4], "big") / 2**32 for at in (0, 4, 8, 12))
    shortest, longest = SILENCE_SECONDS
    return _Variation(
        rate=round(speaker.rate * (1 + RATE_VARIATION * (2 * first - 1))),
        pitch=round(speaker.pitch + PITCH_VARIATION * (2 * second - 1)),
        silence_before=shortest + third * (longest - shortest),
        silence_after=shortest + fourth * (longest - shortest),
    )


def _frame(samples: npt.NDArray[np.float64], *, before: float, after: float) -> npt.NDArray[np.float64]:
    """``samples`` cut to its speech with ``before`` and ``after`` seconds around it: eSpeak's own near-silence, then zeros."""
    lead, tail = round(before * SAMPLE_RATE), round(after * SAMPLE_RATE)
    loud = np.flatnonzero(np.abs(samples) > _SILENT_BELOW)
    if not loud.size:
        raise UsageError("the text has no word that eSpeak NG can speak; give it at least one")
    return np.pad(samples, (lead, tail))[loud[0] : loud[-1] + 1 + lead + tail]
