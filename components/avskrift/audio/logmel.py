"""Whisper's log-mel spectrogram on the CPU.

Equal to the feature extractors of openai/whisper and transformers; ``mel_filterbank`` serves the GPU half too.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from avskrift.audio.constants import HOP_LENGTH, N_FFT, SAMPLE_RATE

_FREQUENCIES = N_FFT // 2 + 1  # 201 bins, 0 to 8 kHz
_FLOOR = 1e-10  # the quietest power that is told apart
_RANGE = 8.0  # in log10: 80 dB below the loudest frame is silence


def log_mel(samples: npt.NDArray[np.float32], n_mels: int = 80, frames: int | None = None) -> npt.NDArray[np.float32]:
    """Log-mel features of 16 kHz mono samples, shape ``(n_mels, frames)``, 100 frames a second.

    The samples are cut or padded with zeros to ``frames`` frames first; None takes as many as the audio has, the last
    one begun counted whole. ``frames=3000`` is what an unadapted Whisper expects.
    """
    count = -(-len(samples) // HOP_LENGTH) if frames is None else frames
    if count == 0:
        return np.zeros((n_mels, 0), dtype=np.float32)
    power = _power_spectrum(_fit(samples, count * HOP_LENGTH))
    logs = np.log10(np.maximum(mel_filterbank(n_mels) @ power.T, _FLOOR))
    logs = np.maximum(logs, logs.max() - _RANGE)
    return np.ascontiguousarray((logs + 4.0) / 4.0, dtype=np.float32)


@cache
def mel_filterbank(n_mels: int) -> npt.NDArray[np.float32]:
    """Triangular mel filters of unit area, shape ``(n_mels, 201)``, from 0 to 8 kHz. Read-only.

    Slaney, *Auditory Toolbox* (Interval Research, 1998): the mel scale is linear (200/3 Hz a mel) up to 1 kHz and
    logarithmic above (27 mels for a factor of 6.4); each triangle is scaled by 2 / its width in Hz.
    """
    edges = _mel_to_hz(np.linspace(0.0, _hz_to_mel(SAMPLE_RATE / 2), n_mels + 2))
    frequencies = np.linspace(0.0, SAMPLE_RATE / 2, _FREQUENCIES)
    widths = np.diff(edges)
    slopes = edges[:, None] - frequencies[None, :]
    rising = -slopes[:-2] / widths[:-1, None]
    falling = slopes[2:] / widths[1:, None]
    area = 2.0 / (edges[2:] - edges[:-2])
    filters = (np.maximum(0.0, np.minimum(rising, falling)) * area[:, None]).astype(np.float32)
    filters.setflags(write=False)
    return filters


_LINEAR_HZ = 200.0 / 3.0  # Hz a mel below the break
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ  # 15
_LOG_STEP = np.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    return hz / _LINEAR_HZ if hz < _BREAK_HZ else float(_BREAK_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP)


def _mel_to_hz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(mels < _BREAK_MEL, mels * _LINEAR_HZ, _BREAK_HZ * np.exp((mels - _BREAK_MEL) * _LOG_STEP))


def _fit(samples: npt.NDArray[np.float32], length: int) -> npt.NDArray[np.float32]:
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


def _power_spectrum(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Shape ``(frames, 201)``. Frame i is centred on sample 160 i; the last, centred on the end, is dropped."""
    # In float64: the logarithm of a quiet bin would magnify what float32 rounds away.
    padded = np.pad(samples.astype(np.float64), N_FFT // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP_LENGTH][:-1]
    spectrum = np.fft.rfft(windows * _hann(), axis=-1)
    return np.square(spectrum.real) + np.square(spectrum.imag)


@cache
def _hann() -> npt.NDArray[np.float64]:
    """The periodic Hann window: 400 of 401 points of the symmetric one."""
    return np.hanning(N_FFT + 1)[:-1]
