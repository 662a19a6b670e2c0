"""Decoding: what is accepted, what is refused, and with which word."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile as sf

from avskrift.audio import mp3
from avskrift.audio.constants import SAMPLE_RATE
from avskrift.audio.decode import decode, decode_file, encode_flac, pcm16, probe
from avskrift.errors import AudioError, AudioTooLargeError, AudioTypeError, EmptyAudioError, NotFiniteAudioError

CODECS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "FLOAT"),
    ("WAV", "ULAW"),
    ("FLAC", "PCM_16"),
    ("MP3", None),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
]
RATES = (8_000, 16_000, 44_100, 48_000)
CODECS_AND_RATES = [(*codec, rate) for codec in CODECS for rate in RATES if (codec[1], rate) != ("OPUS", 44_100)]


def tone(seconds: float, rate: int = SAMPLE_RATE, hertz: float = 440.0) -> npt.NDArray[np.float32]:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encoded(samples: npt.NDArray[np.float32], rate: int = SAMPLE_RATE, container: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, format=container, subtype=subtype)
    return buffer.getvalue()


def variable_mp3(seconds: float, *, silent_half: int) -> bytes:
    """An MP3 of variable bit rate, without the first frame that says how long it is."""
    samples = np.random.default_rng(0).normal(0, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)
    half = len(samples) // 2
    samples[silent_half * half : (silent_half + 1) * half] = 0
    buffer = io.BytesIO()
    with sf.SoundFile(buffer, "w", SAMPLE_RATE, 1, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5) as file:
        file.write(samples)
    data = buffer.getvalue()
    assert mp3.says_its_length(data)
    length = 1
    while not (mp3.is_mp3(data[length : length + 4]) and mp3.count_samples(data[length:]) > 1000):
        length += 1
    return data[length:]


@pytest.mark.parametrize(("container", "subtype", "rate"), CODECS_AND_RATES)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_accepted_codec_becomes_16_khz_mono(container: str, subtype: str | None, channels: int, rate: int) -> None:
    samples = decode(encoded(np.repeat(tone(1.0, rate)[:, None], channels, axis=1), rate, container, subtype))
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert abs(len(samples) - SAMPLE_RATE) <= 1200
    spectrum = np.abs(np.fft.rfft(samples[: SAMPLE_RATE // 2]))
    assert abs(2 * int(spectrum.argmax()) - 440) <= 4
    assert 0.15 < float(np.abs(samples[4000:12000]).max()) < 0.45


def test_lossless_samples_come_back_exactly() -> None:
    samples = pcm16(tone(2.5)).astype(np.float32) / 32768
    for container in ("WAV", "FLAC"):
        np.testing.assert_array_equal(decode(encoded(samples, container=container)), samples)
    np.testing.assert_array_equal(decode(encode_flac(samples)), samples)


def test_channels_are_averaged() -> None:
    left, right = tone(0.5), np.zeros(SAMPLE_RATE // 2, dtype=np.float32)
    np.testing.assert_allclose(decode(encoded(np.stack([left, right], axis=1), subtype="FLOAT")), left / 2, atol=1e-7)


def test_resampling_leaves_nothing_above_8_khz() -> None:
    samples = decode(encoded(tone(1.0, 48_000, hertz=11_000), 48_000, subtype="FLOAT"))
    assert float(np.abs(samples[1000:-1000]).max()) < 1e-4


def test_samples_stay_within_full_scale() -> None:
    square = np.sign(tone(0.5, 44_100)).astype(np.float32)
    assert float(np.abs(decode(encoded(square, 44_100))).max()) <= 1.0


@pytest.mark.parametrize(("container", "subtype"), CODECS)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_recording_cut_short_is_refused(container: str, subtype: str | None, share: float) -> None:
    data = encoded(np.random.default_rng(1).normal(0, 0.1, 5 * SAMPLE_RATE).astype(np.float32), SAMPLE_RATE, container, subtype)
    with pytest.raises(AudioError):
        decode(data[: int(share * len(data))])


def test_a_file_cut_short_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "half.wav"
    path.write_bytes(encoded(tone(1.0))[:-8000])
    with pytest.raises(AudioError, match=r"half\.wav: the recording is cut short: 8000 bytes fewer"):
        decode_file(path)


def test_a_wav_header_written_into_a_pipe_is_believed_only_as_far_as_the_bytes_go() -> None:
    data = bytearray(encoded(tone(1.0)))
    struct.pack_into("<I", data, 4, 0xFFFFFFFF)
    struct.pack_into("<I", data, data.index(b"data") + 4, 0xFFFFFFFF)
    assert len(decode(bytes(data))) == SAMPLE_RATE


def test_a_flac_header_that_does_not_say_its_length_is_read_to_the_end() -> None:
    data = _flac_claiming(encoded(tone(1.0), container="FLAC"), 0)
    assert probe(data).frames is None
    assert len(decode(data)) == SAMPLE_RATE
    with pytest.raises(AudioTooLargeError, match="whatever its header says"):
        decode(data, max_seconds=0.5)


def test_a_header_that_claims_too_much_is_refused_before_decoding() -> None:
    with pytest.raises(AudioTooLargeError, match="over the limit of 30 s"):
        decode(_flac_claiming(encoded(tone(1.0), container="FLAC"), 2**36 - 1), max_seconds=30)


def test_a_flac_with_fewer_samples_than_it_claims_is_refused() -> None:
    with pytest.raises(AudioError):
        decode(_flac_claiming(encoded(tone(1.0), container="FLAC"), 2 * SAMPLE_RATE))


def test_an_hour_of_silence_in_a_few_bytes_is_refused_by_its_duration() -> None:
    data = encoded(np.zeros(600 * SAMPLE_RATE, dtype=np.float32), container="FLAC", subtype="PCM_16")
    assert len(data) < 100_000
    with pytest.raises(AudioTooLargeError, match=r"lasts 600\.0 s, over the limit of 30 s"):
        decode(data, max_seconds=30)


def test_the_limit_of_duration_is_exact() -> None:
    assert len(decode(encoded(tone(1.0)), max_seconds=1.0)) == SAMPLE_RATE
    with pytest.raises(AudioTooLargeError):
        decode(encoded(tone(1.0 + 1 / SAMPLE_RATE)), max_seconds=1.0)


@pytest.mark.parametrize("data", [b"just a text, not a recording", b"\x00" * 4096, b"\x00\x00\x00\x20ftypM4A ", b"\x1a\x45\xdf\xa3webm"])
def test_what_is_no_accepted_container_is_refused_as_such(data: bytes) -> None:
    with pytest.raises(AudioTypeError, match="convert it to WAV, FLAC, MP3 or Ogg"):
        decode(data)


def test_an_accepted_name_does_not_make_audio(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp3"
    path.write_text("Det här är ingen inspelning.", encoding="utf-8")
    with pytest.raises(AudioTypeError, match=r"notes\.mp3"):
        decode_file(path)


def test_a_container_that_libsndfile_reads_and_the_policy_does_not_list_is_refused() -> None:
    with pytest.raises(AudioTypeError):
        decode(encoded(tone(0.5), container="AIFF"))


@pytest.mark.parametrize("data", [b"", encoded(np.zeros(0, dtype=np.float32)), encoded(np.zeros(0, dtype=np.float32), container="FLAC")])
def test_a_recording_without_samples_is_empty(data: bytes) -> None:
    with pytest.raises(EmptyAudioError):
        decode(data)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused(value: float) -> None:
    samples = tone(1.0)
    samples[SAMPLE_RATE // 2] = value
    with pytest.raises(NotFiniteAudioError):
        decode(encoded(samples, subtype="FLOAT"))


def test_samples_that_were_never_scaled_are_refused() -> None:
    with pytest.raises(AudioError, match="times full scale"):
        decode(encoded(tone(0.5) * 32768, subtype="FLOAT"))


@pytest.mark.parametrize("rate", [4_000, 384_000])
def test_a_sample_rate_outside_the_policy_is_refused(rate: int) -> None:
    with pytest.raises(AudioError, match=f"{rate} Hz"):
        decode(encoded(tone(0.5, rate), rate))


def test_too_many_channels_are_refused() -> None:
    with pytest.raises(AudioError, match="9 channels"):
        decode(encoded(np.zeros((1000, 9), dtype=np.float32)))


def test_an_mp3_that_does_not_say_its_length_is_read_whole_or_refused() -> None:
    # libsndfile guesses from the first frame's bit rate: too long here, and the guess does no harm ...
    quiet_first = variable_mp3(20, silent_half=0)
    assert probe(quiet_first).frames is None
    assert len(decode(quiet_first)) >= 20 * SAMPLE_RATE
    # ... and too short there, so that the end would be lost.
    with pytest.raises(AudioError, match="does not say how long it is"):
        decode(variable_mp3(20, silent_half=1))


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 32_000, 44_100, 48_000])
def test_frames_of_every_mpeg_version_are_counted(rate: int) -> None:
    data = encoded(tone(3.0, rate), rate, "MP3")
    counted = mp3.count_samples(b"ID3\x04\x00\x00\x00\x00\x01\x00" + b"\x00" * 128 + data)
    # The frame with the length, the encoder's delay, and the last frame filled up.
    assert 3 * rate <= counted <= 3 * rate + 4 * mp3.FRAME_SAMPLES


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"gone\.wav: cannot be read \(No such file or directory\)"):
        decode_file(tmp_path / "gone.wav")
    with pytest.raises(AudioError, match="cannot be read"):
        decode_file(tmp_path)


def test_the_same_samples_give_the_same_flac() -> None:
    samples = tone(1.0)
    assert encode_flac(samples) == encode_flac(samples.copy()) == encode_flac(pcm16(samples))


def test_storing_clips_and_does_not_wrap_around() -> None:
    stored = pcm16(np.array([1.5, 1.0, -1.0, -1.5], dtype=np.float32))
    assert stored.tolist() == [32767, 32767, -32768, -32768]


def _flac_claiming(data: bytes, samples: int) -> bytes:
    """A FLAC file whose header says ``samples``: 36 bits from the middle of byte 21 on."""
    changed = bytearray(data)
    changed[21] = (changed[21] & 0xF0) | samples >> 32
    changed[22:26] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(changed)
