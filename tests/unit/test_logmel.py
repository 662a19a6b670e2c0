"""Log-mel features are Whisper's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from avskrift.audio.constants import SAMPLE_RATE, WINDOW_FRAMES
from avskrift.audio.logmel import log_mel, mel_filterbank

transformers = pytest.importorskip("transformers")


def noise(seconds: float) -> npt.NDArray[np.float32]:
    return np.random.default_rng(7).normal(0, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)


def tone(seconds: float) -> npt.NDArray[np.float32]:
    return (0.3 * np.sin(0.1 * np.arange(round(seconds * SAMPLE_RATE)))).astype(np.float32)


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("samples", [noise(4.0), tone(4.4), noise(30.0), noise(31.0), tone(0.05), np.zeros(3000, np.float32)])
def test_a_full_window_equals_the_reference_extractor(samples: npt.NDArray[np.float32], n_mels: int) -> None:
    extractor = transformers.WhisperFeatureExtractor(feature_size=n_mels)
    reference = extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="np")["input_features"][0]
    features = log_mel(samples, n_mels, frames=WINDOW_FRAMES)
    assert features.dtype == np.float32
    assert features.shape == (n_mels, WINDOW_FRAMES)
    np.testing.assert_allclose(features, reference, atol=1e-4)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_the_filterbank_equals_the_reference(n_mels: int) -> None:
    reference = transformers.WhisperFeatureExtractor(feature_size=n_mels).mel_filters.T
    assert mel_filterbank(n_mels).shape == (n_mels, 201)
    np.testing.assert_allclose(mel_filterbank(n_mels), reference, atol=1e-7)


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (1, 1), (160, 1), (161, 2), (200, 2), (16_000, 100), (16_001, 101)])
def test_features_have_as_many_frames_as_the_audio_has_begun(samples: int, frames: int) -> None:
    features = log_mel(noise(2.0)[:samples])
    assert features.shape == (80, frames)
    assert np.isfinite(features).all()


def test_a_short_context_pads_with_silence_and_cuts_at_its_end() -> None:
    samples = noise(2.0)
    np.testing.assert_array_equal(log_mel(samples, frames=300), log_mel(np.pad(samples, (0, SAMPLE_RATE)), frames=300))
    np.testing.assert_array_equal(log_mel(samples, frames=150), log_mel(samples[: SAMPLE_RATE * 3 // 2]))


def test_the_shared_filterbank_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        mel_filterbank(80)[0, 0] = 1.0
