"""The training half of the log-mel spectrogram is the serving half."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from avskrift.audio.constants import HOP_LENGTH
from avskrift.audio.logmel import log_mel
from avskrift.audio.logmel_torch import LogMel


def clips(count: int, samples: int) -> npt.NDArray[np.float32]:
    """Noise of different loudness, with a silent end: the range is cut clip by clip."""
    random = np.random.default_rng(3)
    audio = random.normal(0, 1, (count, samples)).astype(np.float32) * np.logspace(-3, -0.5, count, dtype=np.float32)[:, None]
    audio[:, samples // 2 :] *= 1e-4
    return audio


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("frames", [2, 100, 448, 3000])
def test_features_equal_those_of_the_serving_half(n_mels: int, frames: int) -> None:
    audio = clips(3, frames * HOP_LENGTH)
    features = LogMel(n_mels)(torch.from_numpy(audio))
    assert features.shape == (3, n_mels, frames)
    assert features.dtype == torch.float32
    np.testing.assert_allclose(features.numpy(), np.stack([log_mel(clip, n_mels) for clip in audio]), atol=2e-4)


def test_silence_is_no_exception() -> None:
    features = LogMel()(torch.zeros(1, 16_000))
    np.testing.assert_allclose(features.numpy(), log_mel(np.zeros(16_000, np.float32))[None], atol=1e-6)


def test_mixed_precision_does_not_blur_the_features() -> None:
    audio = torch.from_numpy(clips(2, 32_000))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = LogMel()(audio)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, LogMel()(audio))


def test_no_weights_are_added_to_a_model() -> None:
    assert list(LogMel().state_dict()) == []
    assert list(LogMel().parameters()) == []
