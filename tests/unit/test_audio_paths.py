"""Recordings in files, whole and in part."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import psutil
import pytest
from recordings import SUFFIXES, encoded, flac_claiming, noise, tone

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.audio.decode import decode, decode_path
from avskrift.errors import AudioError, AudioTooLargeError, AudioTypeError, EmptyAudioError

CODECS = [("WAV", "PCM_16"), ("WAV", "IMA_ADPCM"), ("FLAC", "PCM_16"), ("MP3", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("M4A", "AAC")]


def recording(folder: Path, container: str = "WAV", subtype: str | None = None, *, seconds: float = 4.0, rate: int = SAMPLE_RATE) -> Path:
    path = folder / f"a{SUFFIXES[container]}"
    path.write_bytes(encoded(noise(seconds, rate), rate, container, subtype))
    return path


@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize(("container", "subtype"), CODECS)
def test_a_file_gives_the_samples_that_its_bytes_give(tmp_path: Path, container: str, subtype: str | None, rate: int) -> None:
    path = recording(tmp_path, container, subtype, rate=rate)
    np.testing.assert_array_equal(decode_path(path), decode(path.read_bytes()))


@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize(("offset_s", "duration_s"), [(0.0, 1.0), (1.5, 1.0), (3.25, None), (2.0, 2.0), (0.001, 0.5)])
@pytest.mark.parametrize(("container", "subtype"), CODECS)
def test_a_part_is_that_part_of_the_whole(
    tmp_path: Path, container: str, subtype: str | None, offset_s: float, duration_s: float | None, rate: int
) -> None:
    path = recording(tmp_path, container, subtype, rate=rate)
    whole = decode_path(path)
    part = decode_path(path, offset_s=offset_s, duration_s=duration_s)
    first = round(offset_s * SAMPLE_RATE)
    due = whole[first:] if duration_s is None else whole[first : first + round(duration_s * SAMPLE_RATE)]
    assert abs(len(part) - len(due)) <= 1
    inside = slice(300, min(len(part), len(due)) - 300)  # the resampler knows nothing of what lies outside of the part
    np.testing.assert_allclose(part[inside], due[inside], atol=1e-6 if rate == SAMPLE_RATE else 2e-3)


def test_a_part_of_a_flac_that_does_not_say_its_length_is_found_by_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    data = encoded(noise(4.0), container="FLAC")
    path.write_bytes(flac_claiming(data, 0))
    np.testing.assert_array_equal(decode_path(path, offset_s=1.0, duration_s=2.0), decode(data)[SAMPLE_RATE : 3 * SAMPLE_RATE])
    with pytest.raises(AudioError, match=r"ends before 5 s"):
        decode_path(path, offset_s=5.0)


@pytest.mark.parametrize(("container", "subtype"), CODECS)
@pytest.mark.parametrize("offset_s", [4.2, 100.0, 1e300])
def test_a_part_after_the_end_is_refused(tmp_path: Path, container: str, subtype: str | None, offset_s: float) -> None:
    path = recording(tmp_path, container, subtype)
    for duration_s in (None, 1.0):
        with pytest.raises(AudioError, match=r"the recording ends before .* s, where the part that was asked for starts"):
            decode_path(path, offset_s=offset_s, duration_s=duration_s)


@pytest.mark.parametrize(("container", "subtype"), CODECS)
def test_a_part_may_end_a_tenth_of_a_second_after_the_recording_and_no_more(tmp_path: Path, container: str, subtype: str | None) -> None:
    path = recording(tmp_path, container, subtype)
    assert 2.0 <= len(decode_path(path, offset_s=2.0, duration_s=2.09)) / SAMPLE_RATE <= 2.09
    with pytest.raises(AudioError, match=r"holds 2\.\d\d s of the 2\.20 s that were asked for from 2 s on"):
        decode_path(path, offset_s=2.0, duration_s=2.2)


@pytest.mark.parametrize(
    ("offset_s", "duration_s"), [(-1.0, None), (float("nan"), 1.0), (float("inf"), 1.0), (0.0, 0.0), (0.0, float("nan"))]
)
def test_a_part_that_cannot_be_is_refused(tmp_path: Path, offset_s: float, duration_s: float | None) -> None:
    with pytest.raises(AudioError, match="the recording has no part that"):
        decode_path(recording(tmp_path), offset_s=offset_s, duration_s=duration_s)


def test_the_limit_of_duration_is_that_of_the_part(tmp_path: Path) -> None:
    path = recording(tmp_path)
    with pytest.raises(AudioTooLargeError, match="over the limit of 2 s"):
        decode_path(path, max_seconds=2)
    assert len(decode_path(path, max_seconds=2, offset_s=1, duration_s=2)) == 2 * SAMPLE_RATE
    assert len(decode_path(path, max_seconds=2, offset_s=2)) == 2 * SAMPLE_RATE
    with pytest.raises(AudioTooLargeError, match="the part of the recording lasts 3"):
        decode_path(path, max_seconds=2, offset_s=1, duration_s=3)
    with pytest.raises(AudioTooLargeError, match="the part of the recording lasts 3"):
        decode_path(path, max_seconds=2, offset_s=1)


def test_a_damaged_recording_gives_no_part_either(tmp_path: Path) -> None:
    path = recording(tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(AudioError, match="cut short: 1000 bytes fewer"):
        decode_path(path, offset_s=1.0, duration_s=1.0)


@pytest.mark.timeout(20)  # a pipe that nobody writes to would be waited for
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "socket"])
def test_only_a_regular_file_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.wav"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    with pytest.raises(AudioError, match="the recording cannot be read"):
        decode_path(path)


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    path = recording(tmp_path)
    link = tmp_path / "link.mp3"
    link.symlink_to(path)
    np.testing.assert_array_equal(decode_path(link), decode_path(path))


@pytest.mark.parametrize("name", ["gone.wav", "a\0b.wav", "\ud800.wav", "x" * 300])
def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AudioError, match="the recording cannot be read"):
        decode_path(tmp_path / name)


def test_an_empty_file_holds_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.touch()
    with pytest.raises(EmptyAudioError):
        decode_path(path)


@pytest.mark.parametrize("data", [b"text", encoded(tone(1.0))[:-10], encoded(tone(0.5, 4000), 4000), encoded(np.zeros((9, 9), np.float32))])
def test_no_message_names_the_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "secret-name.wav"
    path.write_bytes(data)
    with pytest.raises(AudioError) as refused:
        decode_path(path)
    assert "secret" not in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


def test_files_are_closed_whether_or_not_they_can_be_decoded(tmp_path: Path) -> None:
    good, bad, video = recording(tmp_path), tmp_path / "bad.wav", tmp_path / "bad.m4a"
    bad.write_bytes(good.read_bytes()[:-10])
    video.write_bytes(b"\0\0\0\x10ftypM4A \0\0\0\0")
    before = psutil.Process().num_fds()
    for _ in range(20):
        decode_path(good, offset_s=1.0)
        for path, error in ((bad, AudioError), (video, AudioError), (tmp_path, AudioError)):
            with pytest.raises(error):
                decode_path(path)
    assert psutil.Process().num_fds() == before


def test_a_text_that_is_named_like_a_recording_is_refused_as_another_type(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_text("Det här är ingen inspelning.", encoding="utf-8")
    with pytest.raises(AudioTypeError):
        decode_path(path)
