"""Whisper's log-mel spectrogram in torch, on whatever device the samples are: the training half of ``logmel``."""

from __future__ import annotations

import torch

from avskrift.audio.constants import HOP_LENGTH, N_FFT
from avskrift.audio.logmel import mel_filterbank


class LogMel(torch.nn.Module):
    """Samples (batch, n * 160) in [-1, 1] to log-mel features (batch, n_mels, n).

    The dynamic range is cut per clip at 8 (80 dB) below its own maximum, as Whisper does.
    """

    window: torch.Tensor
    filters: torch.Tensor

    def __init__(self, n_mels: int = 80) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)
        self.register_buffer("filters", torch.tensor(mel_filterbank(n_mels)), persistent=False)

    @torch.no_grad()
    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        spectrum = torch.stft(samples, N_FFT, HOP_LENGTH, window=self.window, return_complex=True)
        power = spectrum[..., :-1].abs() ** 2
        with torch.autocast(samples.device.type, enabled=False):  # eight bits of mantissa are too few for a power spectrum
            mel = self.filters @ power
        log_mel = mel.clamp(min=1e-10).log10()
        log_mel = torch.maximum(log_mel, log_mel.amax(dim=(1, 2), keepdim=True) - 8.0)
        return (log_mel + 4.0) / 4.0
