"""What a clip must be, checked on real recordings."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile as sf

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus.entries import MAX_CLIP_BYTES, MAX_SECONDS, Entry, Fault, oversized, recording_at, recording_of
from avskrift.corpus.validation import MIN_SECONDS, Recording, Refusal, check
from avskrift.text.normaliser import normalise

TEXT = "Hej på dig."


def tone(seconds: float = 1.0, peak: float = 0.3) -> npt.NDArray[np.float32]:
    return (peak * np.sin(2 * np.pi * 440 * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)).astype(np.float32)


def outcome(samples: npt.NDArray[np.float32], text: str = TEXT, **facts: object) -> Recording | Refusal:
    entry = Entry(location="a.wav", text=text, read=lambda: samples, **facts)  # type: ignore[arg-type]
    return check(entry, normalise(text, "sv"), "sv")


def code(samples: npt.NDArray[np.float32], text: str = TEXT, **facts: object) -> str:
    found = outcome(samples, text, **facts)
    return found.code if isinstance(found, Refusal) else ""


def test_a_sound_recording_with_a_transcript_is_accepted_with_its_samples() -> None:
    found = outcome(tone(1.5))
    assert isinstance(found, Recording)
    assert found.duration_s == 1.5
    assert np.abs(found.pcm / 32768 - tone(1.5)).max() < 1e-4
    again = outcome(tone(1.5))
    assert isinstance(again, Recording)
    assert again.pcm_sha256 == found.pcm_sha256 != outcome(tone(1.6)).pcm_sha256  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("samples", "text", "expected"),
    [
        (tone(MIN_SECONDS), "hej", ""),
        (tone(MIN_SECONDS - 0.01), "hej", "too_short"),
        (tone(MAX_SECONDS), TEXT, ""),
        (tone(MAX_SECONDS + 0.01), TEXT, "too_long"),
        (tone(peak=0.0011), TEXT, ""),
        (tone(peak=0.0009), TEXT, "silent"),
        (np.zeros(SAMPLE_RATE, np.float32), TEXT, "silent"),
        (np.clip(tone(peak=1.01), -1, 1), TEXT, "clipped"),
        (np.clip(tone(peak=5.0), -1, 1), TEXT, "clipped"),
        (tone(peak=0.99), TEXT, ""),
        (tone(1.0), "e" * 40, "too_fast"),
        (tone(1.0), "e" * 30, ""),
        (tone(20.0), "hej", "too_slow"),
        (tone(10.0), "hej", ""),
        (tone(), " … ?", "empty_transcript"),
        (tone(), "", "empty_transcript"),
        (tone(), "Привет på dig", "foreign_characters"),
        (tone(), "Hej \ufffd dig", "foreign_characters"),
        (tone(), "Hej, säger É. Müller.", ""),
    ],
)
def test_each_limit_is_where_it_is_said_to_be(samples: npt.NDArray[np.float32], text: str, expected: str) -> None:
    assert code(samples, text) == expected


def test_what_more_people_voted_against_than_for_is_refused_and_a_draw_is_not() -> None:
    assert code(tone(), up_votes=1, down_votes=2) == "voted_down"
    assert code(tone(), up_votes=2, down_votes=2) == ""


@pytest.mark.parametrize("fault", ["missing", "outside", "too_long", "undecodable"])
def test_what_the_source_found_itself_is_said_and_nothing_is_read(fault: str) -> None:
    found = check(Entry(location="a", text=TEXT, fault=Fault(code=fault, reason="because")), TEXT, "sv")  # type: ignore[arg-type]
    assert isinstance(found, Refusal)
    assert (found.code, found.reason) == (fault, "because")


def test_refused_clips_that_could_be_read_can_be_listened_to_and_others_cannot() -> None:
    silent, foreign = outcome(np.zeros(SAMPLE_RATE, np.float32)), outcome(tone(), "Привет")
    assert isinstance(silent, Refusal)
    assert silent.pcm is not None
    assert len(silent.pcm) == SAMPLE_RATE
    assert isinstance(foreign, Refusal)
    assert foreign.pcm is None


def test_recordings_in_files_and_in_memory_read_the_same_and_survive_pickling(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, tone(), SAMPLE_RATE)
    in_file, in_memory = (pickle.loads(pickle.dumps(read)) for read in (recording_at(path), recording_of(path.read_bytes())))
    assert np.array_equal(in_file(), in_memory())


def test_a_stamp_changes_with_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, tone(), SAMPLE_RATE)
    before = recording_at(path).stamp(), recording_of(path.read_bytes()).stamp()  # type: ignore[attr-defined]
    sf.write(path, tone(peak=0.2), SAMPLE_RATE)
    after = recording_at(path).stamp(), recording_of(path.read_bytes()).stamp()  # type: ignore[attr-defined]
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_a_file_too_large_for_a_clip_is_refused_by_its_size() -> None:
    assert oversized(MAX_CLIP_BYTES) is None
    fault = oversized(MAX_CLIP_BYTES + 1)
    assert fault is not None
    assert fault.code == "too_long"
