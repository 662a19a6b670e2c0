"""Speech is found where it is, in recordings of any length, by the real network."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from faster_whisper.vad import get_vad_model

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus.demo import TINY, plan, speak
from avskrift.whisper import voice_activity
from avskrift.whisper.transcript import Audio
from avskrift.whisper.voice_activity import FRAME_SAMPLES, Stretch, find_speech, speech_probabilities, speech_stretches


def room(seconds: float) -> Audio:
    """The noise of a quiet room."""
    return np.random.default_rng(1).normal(0, 1e-4, round(seconds * SAMPLE_RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def recording() -> tuple[Audio, list[tuple[float, float]]]:
    """Six clips, two seconds apart, and where each begins and ends."""
    parts, places, length = [room(2.0)], [], 2.0
    for utterance in plan(TINY)[:6]:
        clip = speak(utterance)
        places.append((length, length + len(clip) / SAMPLE_RATE))
        parts += [clip, room(2.0)]
        length = sum(map(len, parts)) / SAMPLE_RATE
    return np.concatenate(parts), places


def test_each_clip_is_found_and_nothing_between_them(recording: tuple[Audio, list[tuple[float, float]]]) -> None:
    samples, places = recording
    found = find_speech(samples)
    assert all(before.end < after.start for before, after in pairwise(found))
    for start, end in places:
        inside = [stretch for stretch in found if stretch.end > start * SAMPLE_RATE and stretch.start < end * SAMPLE_RATE]
        assert inside[0].start / SAMPLE_RATE == pytest.approx(start, abs=0.4)
        assert inside[-1].end / SAMPLE_RATE == pytest.approx(end, abs=0.4)
        found = [stretch for stretch in found if stretch not in inside]
    assert found == []


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), np.zeros(1, np.float32), np.zeros(40 * SAMPLE_RATE, np.float32), room(40.0)])
def test_where_nobody_speaks_nothing_is_found(samples: Audio) -> None:
    assert find_speech(samples) == []


def test_a_recording_is_judged_in_parts_of_bounded_size_and_left_as_it_is(
    recording: tuple[Audio, list[tuple[float, float]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, _ = recording
    kept, whole = samples.copy(), speech_probabilities(samples)
    network, sizes = get_vad_model(), list[int]()

    def watched(part: Audio) -> npt.NDArray[np.float32]:
        sizes.append(len(part))
        probabilities: npt.NDArray[np.float32] = network(part)
        return probabilities

    monkeypatch.setattr(voice_activity, "get_vad_model", lambda: watched)
    monkeypatch.setattr(voice_activity, "_PART_FRAMES", 200)
    in_parts = speech_probabilities(samples)
    assert max(sizes) == (200 + voice_activity._LEAD_FRAMES) * FRAME_SAMPLES
    assert len(in_parts) == len(whole) == -(-len(samples) // FRAME_SAMPLES)
    assert np.mean(np.abs(in_parts - whole) > 0.2) < 0.01, "what was heard five seconds ago matters little"
    assert (samples == kept).all()


def test_speech_begins_over_one_threshold_and_lasts_over_another() -> None:
    quiet, doubtful, spoken = [0.1] * 6, [0.4] * 20, [0.9] * 3
    probabilities = np.array([*quiet, *doubtful, *spoken, *doubtful, *quiet, *spoken, 0.1, *spoken, 0.1, 0.1], np.float32)
    begins = len(quiet) + len(doubtful)
    again = begins + len(spoken) + len(doubtful) + len(quiet)
    assert speech_stretches(probabilities, len(probabilities) * FRAME_SAMPLES) == [
        Stretch(begins * FRAME_SAMPLES, (again - len(quiet)) * FRAME_SAMPLES),
        Stretch(again * FRAME_SAMPLES, (again + 7) * FRAME_SAMPLES),
    ]


def test_speech_to_the_end_ends_with_the_recording() -> None:
    assert speech_stretches(np.array([0.9, 0.9], np.float32), FRAME_SAMPLES + 7) == [Stretch(0, FRAME_SAMPLES + 7)]
