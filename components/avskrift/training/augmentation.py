"""What a clip is changed into before it is trained on, and what windows without speech hold.

All chance comes from the generator that the caller passes: the same generator and clip give the same samples.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import soxr

from avskrift.audio.constants import SAMPLE_RATE

Samples = npt.NDArray[np.float32]

MAX_SPEED_CHANGE = 0.1  # Ko et al., *Audio Augmentation for Speech Recognition* (2015): 0.9 to 1.1, and pitch moves with it
MAX_GAIN_DB = 12.0
NOISE_BELOW_SPEECH_DB = (5.0, 30.0)
# Of windows without speech: RMS relative to full scale. The quietest are what a muted input's last bits hold.
QUIET_DBFS = (-100.0, -80.0)
EMPTY_DBFS = (-80.0, -20.0)
EMPTY_KINDS = ("silence", "quiet", "white", "pink", "hum")
MAINS_HZ = 50
_HARMONICS = 10  # up to 500 Hz, where hum fades into noise
_PINK_FROM_HZ = 20.0  # below it, pink noise would spend half its power where nobody hears it
# soxr's cheapest quality that filters: "QQ" would fold what is over 7 kHz back into a clip that is sped up.
_QUALITY = "LQ"


def augment(
    samples: Samples, chance: np.random.Generator, *, speed_share: float, gain_share: float, noise_share: float, max_samples: int
) -> Samples:
    """One clip's ``samples`` (n,), each kind of change made with the probability that its share says.

    A clip of at most ``max_samples`` never becomes longer than that: it is sped up where it was to be slowed down. What is
    changed has a peak of at most 1; where nothing is drawn, the very same array comes back. ``chance`` is drawn from the
    same number of times whatever the shares and the clip are, so that one share does not move the others' draws.
    """
    changes_speed, changes_gain, adds_noise = chance.random(3) < (speed_share, gain_share, noise_share)
    speed = chance.uniform(1 - MAX_SPEED_CHANGE, 1 + MAX_SPEED_CHANGE)
    gain_db = chance.uniform(-MAX_GAIN_DB, MAX_GAIN_DB)
    below_db = chance.uniform(*NOISE_BELOW_SPEECH_DB)
    is_pink = chance.random() < 0.5
    noise_seed = chance.integers(1 << 63)  # noise takes as many draws as there are samples: they come from elsewhere

    changed = samples
    if changes_speed:
        changed = _change_speed(changed, speed, max_samples)
    if changes_gain:
        changed = changed * np.float32(_factor(gain_db))
    if adds_noise:
        noise = _noise(len(changed), np.random.default_rng(noise_seed), pink=bool(is_pink))
        changed = changed + noise * np.float32(_rms(changed) * _factor(-below_db))
    return samples if changed is samples else _limited(changed)


def empty_window(chance: np.random.Generator, seconds: float) -> Samples:
    """Audio without speech, for which the transcript is empty: silence, very quiet noise, white or pink noise, or mains hum.

    ``round(seconds * SAMPLE_RATE)`` samples from -1 to 1, the kind and its level drawn from ``chance``.
    """
    length = round(seconds * SAMPLE_RATE)
    kind = EMPTY_KINDS[chance.integers(len(EMPTY_KINDS))]
    if kind == "silence":
        return np.zeros(length, dtype=np.float32)
    level = _factor(chance.uniform(*(QUIET_DBFS if kind == "quiet" else EMPTY_DBFS)))
    sound = _hum(length, chance) if kind == "hum" else _noise(length, chance, pink=kind == "pink")
    return np.asarray(np.clip(sound * np.float32(level), -1, 1), dtype=np.float32)


def _change_speed(samples: Samples, speed: float, max_samples: int) -> Samples:
    """Resampled from ``speed`` times the rate, so that it lasts ``1 / speed`` times as long."""
    rate = round(speed * SAMPLE_RATE)
    if len(samples) * SAMPLE_RATE > max_samples * rate:
        rate = max(rate, 2 * SAMPLE_RATE - rate)
    resampled: Samples = soxr.resample(samples, rate, SAMPLE_RATE, quality=_QUALITY)
    return resampled


def _noise(length: int, chance: np.random.Generator, *, pink: bool) -> Samples:
    """White or pink (power falls as 1/f) noise with an RMS of 1."""
    if not pink:
        return chance.standard_normal(length, dtype=np.float32)
    transformed = 1 << max(1, (length - 1).bit_length())  # a power of two is quick to transform; what is over is cut
    spectrum = np.fft.rfft(chance.standard_normal(transformed, dtype=np.float32))
    frequencies = np.fft.rfftfreq(transformed, 1 / SAMPLE_RATE).astype(np.float32)
    spectrum /= np.sqrt(np.maximum(frequencies, np.float32(_PINK_FROM_HZ)))
    spectrum[0] = 0  # no offset
    return _at_rms_1(np.fft.irfft(spectrum, transformed)[:length].astype(np.float32))


def _hum(length: int, chance: np.random.Generator) -> Samples:
    """50 Hz and its harmonics, the weaker the higher, with an RMS of 1."""
    orders = np.arange(1, _HARMONICS + 1)
    strengths = chance.uniform(0.1, 1.0, _HARMONICS) / orders
    phases = chance.uniform(0, 2 * math.pi, _HARMONICS)
    turns = 2 * math.pi * MAINS_HZ / SAMPLE_RATE * np.arange(SAMPLE_RATE // MAINS_HZ)
    period = (strengths[:, None] * np.sin(orders[:, None] * turns + phases[:, None])).sum(axis=0)
    return np.resize(_at_rms_1(period.astype(np.float32)), length)


def _at_rms_1(sound: Samples) -> Samples:
    return sound / np.float32(_rms(sound) or 1.0)


def _rms(sound: Samples) -> float:
    return math.sqrt(np.mean(np.square(sound, dtype=np.float64))) if len(sound) else 0.0


def _limited(samples: Samples) -> Samples:
    peak = np.float32(np.abs(samples).max(initial=0.0))
    return samples / peak if peak > 1 else samples


def _factor(decibels: float) -> float:
    return float(10 ** (decibels / 20))
