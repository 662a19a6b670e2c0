"""Decoding: what is accepted, what is refused, and with which word."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr
from recordings import box, encoded, flac_claiming, m4a, noise, patched, tone, video, with_boxes

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
    ("M4A", "AAC"),
    ("M4A", "ALAC"),
]
RATES = (8_000, 16_000, 44_100, 48_000)
CODECS_AND_RATES = [(*codec, rate) for codec in CODECS for rate in RATES if (codec[1], rate) != ("OPUS", 44_100)]
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "200000"}


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


def test_the_mean_is_that_of_all_channels() -> None:
    samples = np.random.default_rng(2).uniform(-1, 1, (1000, 5)).astype(np.float32)
    np.testing.assert_array_equal(decode(encoded(samples, subtype="FLOAT")), samples.mean(axis=1))


def test_a_recording_read_in_several_blocks_is_resampled_as_one() -> None:
    samples = pcm16(noise(25.0, 192_000)).astype(np.float32) / 32768
    np.testing.assert_array_equal(decode(encoded(samples, 192_000)), soxr.resample(samples, 192_000, SAMPLE_RATE, quality="HQ"))


def test_resampling_leaves_nothing_above_8_khz() -> None:
    samples = decode(encoded(tone(1.0, 48_000, hertz=11_000), 48_000, subtype="FLOAT"))
    assert float(np.abs(samples[1000:-1000]).max()) < 1e-4


def test_samples_stay_within_full_scale() -> None:
    square = np.sign(tone(0.5, 44_100)).astype(np.float32)
    assert float(np.abs(decode(encoded(square, 44_100))).max()) <= 1.0


@pytest.mark.parametrize(("container", "subtype"), CODECS)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_recording_cut_short_is_refused(container: str, subtype: str | None, share: float) -> None:
    data = encoded(noise(5.0), SAMPLE_RATE, container, subtype)
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
    data = flac_claiming(encoded(tone(1.0), container="FLAC"), 0)
    assert probe(data).frames is None
    assert len(decode(data)) == SAMPLE_RATE
    with pytest.raises(AudioTooLargeError, match="whatever its header says"):
        decode(data, max_seconds=0.5)


def test_a_header_that_claims_too_much_is_refused_before_decoding() -> None:
    with pytest.raises(AudioTooLargeError, match="over the limit of 30 s"):
        decode(flac_claiming(encoded(tone(1.0), container="FLAC"), 2**36 - 1), max_seconds=30)


def test_a_flac_with_fewer_samples_than_it_claims_is_refused() -> None:
    with pytest.raises(AudioError):
        decode(flac_claiming(encoded(tone(1.0), container="FLAC"), 2 * SAMPLE_RATE))


@pytest.mark.parametrize("claimed", [1, SAMPLE_RATE // 2, SAMPLE_RATE - 1])
def test_a_flac_that_goes_on_after_the_end_that_it_claims_is_refused(claimed: int) -> None:
    with pytest.raises(AudioError, match="goes on after the end that its header names"):
        decode(flac_claiming(encoded(noise(1.0), container="FLAC"), claimed))


@pytest.mark.parametrize("seconds", [0.001, 0.1, 1.0, 40.0])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 96_000])
def test_an_honest_flac_ends_where_its_header_says(seconds: float, rate: int) -> None:
    frames = round(seconds * rate)
    for samples in (noise(seconds, rate), np.zeros(frames, dtype=np.float32)):
        data = encoded(samples, rate, "FLAC")
        assert abs(len(decode(data)) - frames * SAMPLE_RATE / rate) <= 1
        assert len(decode(data + b"TAG" + b"\0" * 125)) == len(decode(data))  # an ID3v1 tag at the end is none of its frames


@pytest.mark.parametrize(("container", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None), ("FLAC", "PCM_16")])
def test_two_files_in_one_are_refused_since_only_the_first_would_be_read(container: str, subtype: str | None) -> None:
    first, second = (encoded(noise(seconds), SAMPLE_RATE, container, subtype) for seconds in (1.0, 2.0))
    with pytest.raises(AudioError, match=r"several streams|goes on after the end that its header names"):
        decode(first + second)


def test_an_mp3_with_tags_around_it_is_read_whole() -> None:
    data = encoded(noise(2.0), container="MP3")
    tagged = b"ID3\x04\x00\x00\x00\x00\x01\x00" + b"\x00" * 128 + data + b"TAG" + b"\0" * 125
    np.testing.assert_array_equal(decode(tagged), decode(data))


def test_an_hour_of_silence_in_a_few_bytes_is_refused_by_its_duration() -> None:
    data = encoded(np.zeros(600 * SAMPLE_RATE, dtype=np.float32), container="FLAC", subtype="PCM_16")
    assert len(data) < 100_000
    with pytest.raises(AudioTooLargeError, match=r"lasts 600\.0 s, over the limit of 30 s"):
        decode(data, max_seconds=30)


def test_the_limit_of_duration_is_exact() -> None:
    assert len(decode(encoded(tone(1.0)), max_seconds=1.0)) == SAMPLE_RATE
    with pytest.raises(AudioTooLargeError):
        decode(encoded(tone(1.0 + 1 / SAMPLE_RATE)), max_seconds=1.0)


@pytest.mark.parametrize("data", [b"just a text, not a recording", b"\x00" * 4096, b"\x1a\x45\xdf\xa3webm"])
def test_what_is_no_accepted_container_is_refused_as_such(data: bytes) -> None:
    with pytest.raises(AudioTypeError, match=r"convert it to WAV, FLAC, MP3, Ogg .* or M4A"):
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


@pytest.mark.parametrize("options", [{}, {"movflags": "faststart"}], ids=["index last", "index first"])
def test_m4a_sound_starts_and_ends_where_it_did_before_it_was_encoded(options: dict[str, str]) -> None:
    samples = np.concatenate([np.zeros(SAMPLE_RATE, np.float32), tone(1.0), np.zeros(SAMPLE_RATE // 4, np.float32)])
    decoded = decode(m4a(samples, **options))
    assert len(decoded) == len(samples)
    loud = np.flatnonzero(np.abs(decoded) > 0.05)
    assert abs(loud[0] - SAMPLE_RATE) < 200
    assert abs(loud[-1] - 2 * SAMPLE_RATE) < 200


def test_an_m4a_in_fragments_is_read_to_its_end() -> None:
    decoded = decode(m4a(tone(2.0), **FRAGMENTED))
    assert 0 <= len(decoded) - 2 * SAMPLE_RATE <= 2048  # fragments do not say which samples are the encoder's own
    with pytest.raises(AudioTooLargeError, match="limit of 1 s"):
        decode(m4a(tone(2.0), **FRAGMENTED), max_seconds=1)


def test_alac_samples_come_back_exactly() -> None:
    samples = pcm16(noise(2.5)).astype(np.float32) / 32768
    np.testing.assert_array_equal(decode(m4a(samples, codec="alac")), samples)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("options", [{"movflags": "faststart"}, FRAGMENTED], ids=["index first", "fragmented"])
def test_an_m4a_cut_short_after_its_index_is_refused(options: dict[str, str], share: float) -> None:
    data = m4a(noise(3.0), **options)
    with pytest.raises(AudioError, match="cut short"):
        decode(data[: int(share * len(data))])


@pytest.mark.parametrize(("container", "codec"), [("mp4", "mpeg4"), ("mp4", "libx264"), ("mov", "mpeg4")])
def test_a_video_is_refused_as_one(container: str, codec: str) -> None:
    with pytest.raises(AudioTypeError, match="a video; extract its sound"):
        decode(video(container, codec))


def test_an_mp4_file_must_hold_one_track_of_aac_or_alac() -> None:
    data = m4a(tone(1.0))
    with pytest.raises(AudioTypeError, match="sound as 'ac-3', not AAC or ALAC"):
        decode(data.replace(b"mp4a", b"ac-3"))
    with pytest.raises(AudioTypeError, match="0 tracks of sound"):
        decode(patched(data, b"hdlr", 12, b"text"))
    start = data.index(b"trak") - 4
    track = data[start : data.index(b"udta") - 4]
    index = data.index(b"moov") - 4
    twice = patched(data, b"moov", -4, struct.pack(">I", len(data) - index + len(track)))
    with pytest.raises(AudioTypeError, match="2 tracks of sound"):
        decode(twice[:start] + track + twice[start:])


def test_nothing_but_the_sound_of_an_m4a_is_looked_at() -> None:
    data = m4a(tone(1.0))
    elsewhere = struct.pack(">II", 0, 1) + box(b"url ", b"\0\0\0\0file:///etc/hostname\0")
    np.testing.assert_array_equal(decode(with_boxes(data, dref=elsewhere)), decode(data))
    np.testing.assert_array_equal(decode(with_boxes(data, udta=b"\xff" * 50)), decode(data))


def test_an_m4a_header_that_claims_too_much_is_refused_before_decoding() -> None:
    packets = 40 * SAMPLE_RATE // 1024
    long = with_boxes(m4a(np.zeros(40 * SAMPLE_RATE, dtype=np.float32)), stts=struct.pack(">IIII", 0, 1, packets, 1024))
    with pytest.raises(AudioTooLargeError, match="over the limit of 30 s"):
        decode(long, max_seconds=30)


def test_an_m4a_that_goes_on_after_the_end_that_it_claims_is_refused() -> None:
    data = m4a(tone(2.0))
    with pytest.raises(AudioError, match="goes on after the end that its header names"):
        decode(patched(data, b"mdhd", 20, struct.pack(">I", SAMPLE_RATE)))


def test_m4a_without_its_decoder_is_refused_with_the_name_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    data = m4a(tone(1.0))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioTypeError, match="takes the package `av`"):
        decode(data)
    assert len(decode(encoded(tone(1.0)))) == SAMPLE_RATE


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"gone\.wav: the recording cannot be read \(No such file or directory\)"):
        decode_file(tmp_path / "gone.wav")
    with pytest.raises(AudioError, match="cannot be read"):
        decode_file(tmp_path)


def test_the_same_samples_give_the_same_flac() -> None:
    samples = tone(1.0)
    assert encode_flac(samples) == encode_flac(samples.copy()) == encode_flac(pcm16(samples))


def test_storing_clips_and_does_not_wrap_around() -> None:
    stored = pcm16(np.array([1.5, 1.0, -1.0, -1.5], dtype=np.float32))
    assert stored.tolist() == [32767, 32767, -32768, -32768]
