"""Why a clip is left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile as sf

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.audio.decode import pcm16
from avskrift.corpus.entries import Entry, Reading, read_nothing, read_recording
from avskrift.corpus.validation import MAX_SECONDS, Recording, Rejection, Validator

Samples = npt.NDArray[np.float32]


def tone(seconds: float, level: float = 0.3, rate: int = SAMPLE_RATE) -> Samples:
    return (level * np.sin(0.1 * np.arange(round(seconds * rate)))).astype(np.float32)


def entry(read: Callable[[], Reading], *, text: str = "hej på dig", missing: str = "", location: str = "a.wav") -> Entry:
    return Entry(clip_id=f"id of {location}", location=location, text=text, read=read, missing=missing)


def of_file(path: Path, location: str = "a.wav") -> Entry:
    return entry(lambda: read_recording(path, MAX_SECONDS), location=location)


def of_samples(samples: Samples, location: str = "a.wav") -> Entry:
    return entry(lambda: Reading(samples=samples, content_sha256="0" * 64), location=location)


def verdict(checked: Recording | Rejection) -> str:
    return checked.code if isinstance(checked, Rejection) else "kept"


def with_nan() -> Samples:
    samples = tone(1.0)
    samples[100] = np.nan
    return samples


@pytest.mark.parametrize(
    ("samples", "rate", "code"),
    [
        (tone(0.3), SAMPLE_RATE, "kept"),
        (tone(0.29), SAMPLE_RATE, "too_short"),
        (tone(30.0), SAMPLE_RATE, "kept"),
        (tone(30.0, rate=44_100), 44_100, "kept"),
        (tone(30.1), SAMPLE_RATE, "too_long"),
        (tone(1.0, level=0.0005), SAMPLE_RATE, "silent"),
        (np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE, "silent"),
        (with_nan(), SAMPLE_RATE, "not_finite"),
        (np.zeros(0, np.float32), SAMPLE_RATE, "empty_audio"),
    ],
)
def test_a_recording_outside_the_rules_is_left_out_with_its_code(samples: Samples, rate: int, code: str, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, samples, rate, subtype="FLOAT")
    assert verdict(Validator("sv").check(of_file(path))) == code


def test_samples_that_no_decoder_limited_are_checked_too() -> None:
    assert verdict(Validator("sv").check(of_samples(tone(30.1)))) == "too_long"


@pytest.mark.parametrize("data", [b"a text", b"RIFF\x00\x00\x00\x00WAVEfmt ", b"fLaC" + b"\x00" * 50])
def test_what_cannot_be_decoded_is_left_out_with_the_decoders_reason(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    rejection = Validator("sv").check(of_file(path))
    assert isinstance(rejection, Rejection)
    assert (rejection.code, rejection.clip_id, rejection.source) == ("undecodable", "id of a.wav", "a.wav")
    assert "the recording is" in rejection.reason


def test_a_file_that_vanished_since_it_was_listed_is_left_out(tmp_path: Path) -> None:
    assert verdict(Validator("sv").check(of_file(tmp_path / "gone.wav"))) == "undecodable"


@pytest.mark.parametrize("text", ["", " ", "…", "?!"])
def test_a_transcript_without_words_is_left_out(text: str) -> None:
    assert verdict(Validator("sv").check(entry(read_nothing, text=text))) == "empty_transcript"


def test_a_missing_half_is_left_out_with_its_sentence() -> None:
    rejection = Validator("sv").check(entry(read_nothing, missing="'a.wav' has no transcript 'a.txt'"))
    assert isinstance(rejection, Rejection)
    assert (rejection.code, rejection.reason) == ("missing", "'a.wav' has no transcript 'a.txt'")


def test_the_same_audio_enters_once_whatever_its_container(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", pcm16(tone(1.0)), SAMPLE_RATE)
    sf.write(tmp_path / "b.flac", pcm16(tone(1.0)), SAMPLE_RATE)
    sf.write(tmp_path / "c.wav", tone(1.1), SAMPLE_RATE)
    validator = Validator("sv")
    first, second, third = (validator.check(of_file(tmp_path / name, name)) for name in ("a.wav", "b.flac", "c.wav"))
    assert [verdict(first), verdict(second), verdict(third)] == ["kept", "duplicate_audio", "kept"]
    assert isinstance(second, Rejection)
    assert "'a.wav'" in second.reason


def test_a_kept_recording_has_its_duration_and_16_bit_samples() -> None:
    recording = Validator("sv").check(of_samples(tone(1.5)))
    assert isinstance(recording, Recording)
    assert recording.duration_s == 1.5
    assert recording.pcm.dtype == np.int16
