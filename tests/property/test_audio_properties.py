"""Invariants of decoding, over any samples and any bytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from recordings import encoded, flac_of_silence, m4a, noise

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
    samples = np.full((frames, channels), 0.25, dtype=np.float32)
    assert abs(len(decode(encoded(samples, rate))) - frames * SAMPLE_RATE / rate) <= 2


@given(st.integers(1, 4000), st.sampled_from([8_000, 11_025, 44_100, 48_000, 192_000]), st.lists(st.integers(1, 2000), max_size=5))
@settings(deadline=None)
def test_the_resampler_gives_the_same_samples_however_a_recording_is_cut_into_blocks(frames: int, rate: int, blocks: list[int]) -> None:
    samples = noise(frames / rate, rate)
    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    parts = [stream.resample_chunk(part) for part in np.split(samples, np.cumsum(blocks))]
    parts.append(stream.resample_chunk(samples[:0], last=True))
    np.testing.assert_array_equal(np.concatenate(parts), soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ"))


@given(st.integers(1, 2000), st.sampled_from([8_000, 16_000, 48_000]), st.sampled_from([16, 192, 1000, 4096]))
@settings(deadline=None, max_examples=40)
def test_every_honest_flac_is_read_to_the_end_that_its_header_names(milliseconds: int, rate: int, block: int) -> None:
    seconds = milliseconds / 1000
    due = -(-round(seconds * rate) // block) * block * SAMPLE_RATE / rate
    assert abs(len(decode(flac_of_silence(seconds, rate, block=block))) - due) <= 1
    assert abs(len(decode(encoded(noise(seconds, rate), rate, "FLAC"))) - milliseconds * 16) <= 1


_WHOLE = {container: encoded(noise(0.25), container=container) for container in ("WAV", "FLAC", "OGG", "MP3", "M4A")}
_WHOLE["ALAC"] = m4a(noise(0.25), codec="alac")


@given(st.sampled_from(sorted(_WHOLE)), st.data())
@settings(deadline=None, max_examples=200)
def test_damaged_bytes_are_decoded_or_refused_and_never_worse(container: str, data: st.DataObject) -> None:
    damaged = bytearray(_WHOLE[container])
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
