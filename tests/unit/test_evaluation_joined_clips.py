import numpy as np
import pytest
from scripted_hearing import MARGIN_SECONDS, RATE, spoken

from avskrift.evaluation.joined_clips import PAUSE_SECONDS, join_clips, speech_bounds

CLIPS = [spoken(number, "ja") for number in range(20)]  # 4 s each


def test_recordings_are_filled_one_after_the_other_and_the_rest_is_left_out() -> None:
    recordings = join_clips(CLIPS, seconds=30, recordings=2)
    assert [[clip.index for clip in recording.clips] for recording in recordings] == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert all(recording.seconds <= 30 for recording in recordings)


def test_every_clip_lies_where_it_is_said_to_lie() -> None:
    (recording,) = join_clips(CLIPS[:5], seconds=60, recordings=2)
    for clip in recording.clips:
        samples = CLIPS[clip.index].samples
        start = round((clip.start_s - MARGIN_SECONDS) * RATE)
        assert any(np.array_equal(recording.samples[start + shift :][: len(samples)], samples) for shift in (-1, 0, 1))
        assert clip.end_s - clip.start_s == pytest.approx(4 - 2 * MARGIN_SECONDS)


def test_pauses_are_of_different_lengths_and_hold_faint_noise() -> None:
    (recording,) = join_clips(CLIPS, seconds=600, recordings=1)
    pauses = [
        after.start_s - before.end_s - 2 * MARGIN_SECONDS for before, after in zip(recording.clips, recording.clips[1:], strict=False)
    ]
    assert all(PAUSE_SECONDS[0] - 0.01 <= pause <= PAUSE_SECONDS[1] + 0.01 for pause in pauses)
    assert len({round(pause, 3) for pause in pauses}) == len(pauses)
    assert 0 < np.max(np.abs(recording.samples[: round(PAUSE_SECONDS[0] * RATE)])) < 0.01


def test_the_same_clips_give_the_same_recordings() -> None:
    first, second = (join_clips(CLIPS, seconds=30, recordings=2) for _ in range(2))
    assert all(np.array_equal(one.samples, other.samples) for one, other in zip(first, second, strict=True))


def test_a_clip_longer_than_a_recording_gets_one_of_its_own() -> None:
    long = spoken(1, "ja", seconds=40)
    for clips in ([long, CLIPS[1], CLIPS[2]], [CLIPS[0], long, CLIPS[2]]):
        recordings = join_clips(clips, seconds=30, recordings=3)
        assert [len(recording.clips) for recording in recordings] == ([1, 2] if clips[0] is long else [1, 1, 1])


def test_no_clips_give_no_recording() -> None:
    assert join_clips([], seconds=30, recordings=2) == []


def test_speech_begins_and_ends_where_it_is_loud() -> None:
    noise = np.random.default_rng(5).standard_normal(3 * RATE).astype(np.float32)
    noise[: RATE // 2] *= 0.001
    noise[2 * RATE :] *= 0.001
    assert speech_bounds(noise) == (0.5, 2.0)
    assert speech_bounds(CLIPS[0].samples) == pytest.approx((MARGIN_SECONDS, 4 - MARGIN_SECONDS))


def test_a_clip_without_a_sound_is_all_speech() -> None:
    assert speech_bounds(np.zeros(RATE, dtype=np.float32)) == (0.0, 1.0)
    assert speech_bounds(np.zeros(8, dtype=np.float32)) == (0.0, 8 / RATE)
