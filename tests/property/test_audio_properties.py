"""Invariants of decoding, over any samples and any bytes."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.audio.decode import decode, encode_flac, pcm16
from avskrift.errors import AudioError

samples_of_any_level = hnp.arrays(np.float32, st.integers(1, 2000), elements=st.floats(-1, 1, width=32))


@given(samples_of_any_level)
def test_storing_keeps_samples_within_half_a_step_of_16_bits_and_storing_again_changes_nothing(samples: npt.NDArray[np.float32]) -> None:
    once = decode(encode_flac(samples))
    assert float(np.abs(once - samples).max()) <= 1 / 32768
    np.testing.assert_array_equal(pcm16(decode(encode_flac(once))), pcm16(samples))


@given(st.integers(10, 4000), st.sampled_from([8_000, 11_025, 22_050, 44_100, 48_000]), st.integers(1, 3))
@settings(deadline=None)
def test_duration_is_kept_by_resampling(frames: int, rate: int, channels: int) -> None:
    buffer = io.BytesIO()
    sf.write(buffer, np.full((frames, channels), 0.25, dtype=np.float32), rate, format="WAV")
    assert abs(len(decode(buffer.getvalue())) - frames * SAMPLE_RATE / rate) <= 2


@given(st.sampled_from(["WAV", "FLAC", "OGG", "MP3"]), st.data())
@settings(deadline=None, max_examples=150)
def test_damaged_bytes_are_decoded_or_refused_and_never_worse(container: str, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    sf.write(buffer, np.random.default_rng(3).normal(0, 0.1, 4000).astype(np.float32), SAMPLE_RATE, format=container)
    damaged = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    samples, refusal = _decoded_or_refused(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
    assert refusal or 0 < len(samples) <= 30 * SAMPLE_RATE + 2
    assert samples.ndim == 1
    assert np.isfinite(samples).all()


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused_with_a_sentence(data: bytes) -> None:
    samples, refusal = _decoded_or_refused(data)
    assert len(samples) or refusal.startswith("the recording ")


def _decoded_or_refused(data: bytes) -> tuple[npt.NDArray[np.float32], str]:
    try:
        return decode(data, max_seconds=30), ""
    except AudioError as refusal:
        return np.zeros(0, dtype=np.float32), str(refusal)
