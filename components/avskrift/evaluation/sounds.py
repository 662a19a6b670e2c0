"""Recordings in which nobody speaks: faint noise, mains hum, white and pink noise, keyboard-like clicks.

Generated, so that every model hears the same ones everywhere, and no corpus has to hold any. They are loud enough that
an engine cannot call them silence and leave the model unasked, and quieter than speech.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.whisper.transcript import Audio

SECONDS = (2.0, 3.5, 6.0, 12.5)  # of the recordings of each kind; 2 minutes of five kinds, which a CPU transcribes for each model
SEED = 20_261_127
_NOISE_FLOOR = -60.0  # dB below full scale: a quiet room through a good microphone
_MAINS_HZ, _HARMONICS = 50, 8
_LOWEST_HZ = 20.0  # pink noise has ever more power further down
_CLICK_SECONDS = (0.004, 0.012)  # until a click has died away
_BETWEEN_KEYS_SECONDS = (0.08, 0.45)
_HELD_SECONDS = (0.05, 0.12)  # a key's release is heard as well, at half the level

_Samples = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sound:
    """One recording without speech."""

    kind: str
    samples: Audio


def generate_sounds() -> list[Sound]:
    """Every kind at every duration, each recording at its own level; the same samples at every call."""
    return [
        Sound(kind=kind, samples=_at_level(make(_samples(seconds), generator), level))
        for number, (kind, (make, levels)) in enumerate(_KINDS.items())
        for generator in [np.random.default_rng([SEED, number])]
        for seconds, level in zip(SECONDS, levels, strict=True)
    ]


def noise_floor(seconds: float, generator: np.random.Generator) -> Audio:
    """What a quiet room sounds like: shape (samples,)."""
    return _at_level(_white(_samples(seconds), generator), _NOISE_FLOOR)


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)


def _white(samples: int, generator: np.random.Generator) -> _Samples:
    return generator.standard_normal(samples)


def _pink(samples: int, generator: np.random.Generator) -> _Samples:
    """White noise with its power divided by the frequency."""
    spectrum = np.fft.rfft(_white(samples, generator))
    hertz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    pink: _Samples = np.fft.irfft(spectrum / np.sqrt(np.maximum(hertz, _LOWEST_HZ)), samples)
    return pink


def _hum(samples: int, generator: np.random.Generator) -> _Samples:
    """Mains and its harmonics, each weaker than the one below, at phases of chance."""
    orders = np.arange(1, _HARMONICS + 1)[:, None]
    phases = generator.uniform(0, 2 * np.pi, size=orders.shape)
    tones: _Samples = np.sin(2 * np.pi * _MAINS_HZ * orders * np.arange(samples) / SAMPLE_RATE + phases) / orders
    hum: _Samples = tones.sum(axis=0) + 0.01 * _white(samples, generator)
    return hum


def _clicks(samples: int, generator: np.random.Generator) -> _Samples:
    """Somebody types: short bursts of noise that die away, two a key."""
    sound = 0.003 * _white(samples, generator)
    at = generator.uniform(*_BETWEEN_KEYS_SECONDS)
    while at < samples / SAMPLE_RATE:
        strength = generator.uniform(0.5, 1.0)
        _add_click(sound, at, strength, generator)
        _add_click(sound, at + generator.uniform(*_HELD_SECONDS), strength / 2, generator)
        at += generator.uniform(*_BETWEEN_KEYS_SECONDS)
    return sound


def _add_click(sound: _Samples, at_s: float, strength: float, generator: np.random.Generator) -> None:
    length = _samples(generator.uniform(*_CLICK_SECONDS))
    start = _samples(at_s)
    click = strength * _white(length, generator) * np.exp(-5 * np.arange(length) / length)
    sound[start : start + length] += click[: max(0, len(sound) - start)]


def _at_level(sound: _Samples, level: float) -> Audio:
    """At a root mean square of ``level`` dB below full scale."""
    scaled = sound * (10 ** (level / 20) / np.sqrt(np.mean(np.square(sound))))
    clipped: Audio = np.clip(scaled, -1, 1).astype(np.float32)
    return clipped


# Levels in dB below full scale, in the order of SECONDS. Speech has -20 to -30; a browser's or a telephone's automatic gain
# raises what is there to that level when nobody speaks.
_KINDS: Mapping[str, tuple[Callable[[int, np.random.Generator], _Samples], tuple[float, ...]]] = {
    "silence": (_white, (-60.0, -70.0, -65.0, -60.0)),
    "hum": (_hum, (-30.0, -20.0, -40.0, -25.0)),
    "white-noise": (_white, (-25.0, -40.0, -20.0, -30.0)),
    "pink-noise": (_pink, (-40.0, -30.0, -25.0, -20.0)),
    "clicks": (_clicks, (-40.0, -25.0, -30.0, -25.0)),
}
