"""The windows of a long recording hold all that is spoken, whatever silero found."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from avskrift.audio.constants import SAMPLE_RATE, WINDOW_SAMPLES
from avskrift.whisper.quiet import is_silent, pauses, quietest_spot
from avskrift.whisper.transcript import Audio
from avskrift.whisper.voice_activity import Stretch
from avskrift.whisper.windows import cover, recording_windows

_LONGEST = st.sampled_from([WINDOW_SAMPLES, WINDOW_SAMPLES // 2])
_SECOND = SAMPLE_RATE


@st.composite
def _speech(draw: st.DrawFn) -> tuple[list[Stretch], int]:
    """Stretches of speech in a recording, and its length in samples; the pauses may be short, long or none at all."""
    length = draw(st.integers(0, 2 * _SECOND))
    stretches = []
    for _ in range(draw(st.integers(0, 12))):
        end = length + draw(st.one_of(st.integers(1, 3 * _SECOND), st.integers(1, 70 * _SECOND)))
        stretches.append(Stretch(length, end))
        length = end + draw(st.one_of(st.integers(0, _SECOND), st.integers(0, 10 * _SECOND)))
    return stretches, max(length, stretches[-1].end if stretches else 0)


def noise(samples: int, seed: int = 0) -> Audio:
    return np.random.default_rng(seed).random(samples, np.float32) - np.float32(0.5)


@settings(max_examples=60, deadline=None)
@given(spoken=_speech(), longest=_LONGEST)
@example(spoken=([], 0), longest=WINDOW_SAMPLES)
@example(spoken=([Stretch(0, WINDOW_SAMPLES)], WINDOW_SAMPLES), longest=WINDOW_SAMPLES)
@example(spoken=([Stretch(0, WINDOW_SAMPLES + 1)], WINDOW_SAMPLES + 1), longest=WINDOW_SAMPLES)
@example(spoken=([Stretch(0, 5), Stretch(5, 6), Stretch(7, 3 * WINDOW_SAMPLES)], 3 * WINDOW_SAMPLES), longest=WINDOW_SAMPLES)
def test_all_speech_is_in_a_window_once_and_no_window_is_too_long(spoken: tuple[list[Stretch], int], longest: int) -> None:
    speech, length = spoken
    windows = cover(speech, noise(length), longest=longest)
    assert all(0 <= window.start < window.end <= length for window in windows)
    assert all(window.end - window.start <= longest for window in windows)
    assert all(before.end <= after.start for before, after in pairwise(windows)), "in order, without overlap"
    covered = np.zeros(length, np.int8)
    for window in windows:
        covered[window.start : window.end] += 1
    assert all((covered[stretch.start : stretch.end] == 1).all() for stretch in speech)


@settings(max_examples=60, deadline=None)
@given(spoken=_speech(), longest=_LONGEST)
def test_no_speech_that_fits_into_a_window_is_cut(spoken: tuple[list[Stretch], int], longest: int) -> None:
    speech, length = spoken
    windows = cover(speech, noise(length), longest=longest)
    edges = {edge for window in windows for edge in (window.start, window.end)}
    padding = 2 * _SECOND // 5
    for stretch in speech:
        if stretch.end - stretch.start <= longest - 2 * padding:
            assert not any(stretch.start < edge < stretch.end for edge in edges)


@settings(max_examples=40, deadline=None)
@given(spoken=_speech(), longest=_LONGEST)
def test_windows_reach_into_the_pauses_and_leave_long_ones_out(spoken: tuple[list[Stretch], int], longest: int) -> None:
    speech, length = spoken
    windows = cover(speech, noise(length), longest=longest)
    for before, after in pairwise(speech):
        if after.start - before.end > 3 * _SECOND:
            assert any(window.end == before.end + 2 * _SECOND // 5 for window in windows)
            assert any(window.start == after.start - 2 * _SECOND // 5 for window in windows)


@settings(max_examples=30, deadline=None)
@given(samples=st.integers(0, 70 * _SECOND), start=st.integers(0, 40), lasts=st.floats(0.01, 40.0), longest=_LONGEST)
def test_a_recording_of_up_to_30_s_is_one_window_and_a_longer_one_is_read_where_somebody_speaks(
    samples: int, start: int, lasts: float, longest: int
) -> None:
    speech = Stretch(min(samples, start * _SECOND), min(samples, round((start + lasts) * _SECOND)))
    found = [speech] if speech.start < speech.end else []
    windows = list(recording_windows(3, noise(samples), lambda _: found, longest=longest))
    assert [window.first for window in windows] == [True, *[False] * (len(windows) - 1)][: len(windows)]
    assert {window.recording for window in windows} <= {3}
    if 0 < samples <= WINDOW_SAMPLES:
        assert [(window.start, len(window.samples)) for window in windows] == [(0, samples)]
    else:
        assert bool(windows) == bool(found)
        assert sum(len(window.samples) for window in windows) >= sum(stretch.end - stretch.start for stretch in found)


@settings(max_examples=30, deadline=None)
@given(pause=st.floats(20.2, 29.8), seed=st.integers(0, 5))
def test_speech_without_a_pause_is_cut_where_it_is_quietest(pause: float, seed: int) -> None:
    recording = noise(45 * _SECOND, seed)
    middle = round(pause * _SECOND)
    recording[middle - _SECOND // 10 : middle + _SECOND // 10] = 0.0
    first, second = cover([Stretch(0, len(recording))], recording, longest=WINDOW_SAMPLES)
    assert first.end == second.start
    assert abs(first.end - middle) <= _SECOND // 10


@settings(max_examples=30, deadline=None)
@given(samples=st.integers(_SECOND // 10, 3 * _SECOND), seed=st.integers(0, 5))
def test_the_quietest_spot_is_inside(samples: int, seed: int) -> None:
    assert 0 <= quietest_spot(noise(samples, seed)) < samples


@settings(max_examples=30, deadline=None)
@given(parts=st.lists(st.tuples(st.floats(0.3, 2.0), st.floats(0.3, 2.0)), max_size=5), room=st.sampled_from([0.0, 1e-4, 1e-2]))
def test_pauses_are_found_in_any_room_that_is_quieter_than_the_speech(parts: list[tuple[float, float]], room: float) -> None:
    chance, chunks, expected, length = np.random.default_rng(2), [noise(_SECOND)], list[tuple[float, float]](), 1.0
    for pause, speech in parts:
        chunks += [np.zeros(round(pause * _SECOND), np.float32), noise(round(speech * _SECOND))]
        expected.append((length, length + len(chunks[-2]) / _SECOND))
        length += (len(chunks[-2]) + len(chunks[-1])) / _SECOND
    samples = np.concatenate(chunks)
    samples += chance.normal(0, room, len(samples)).astype(np.float32)
    if sum(end - start for start, end in expected) < 0.15 * length:
        return  # the quietest tenth must be silence, or there is nothing to tell speech from
    found = pauses(samples)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert abs(one[0] - other[0]) <= 0.03
        assert abs(one[1] - other[1]) <= 0.03


@settings(max_examples=30, deadline=None)
@given(samples=st.integers(0, 2000), peak=st.sampled_from([0.0, 5e-5, -5e-5, 2e-4, -2e-4]))
def test_silence_is_what_no_sample_rises_above(samples: int, peak: float) -> None:
    recording = np.zeros(samples, np.float32)
    recording[samples // 2 : samples // 2 + 1] = peak
    assert is_silent(recording) == (not samples or abs(peak) <= 1e-4)
