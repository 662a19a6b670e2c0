"""A long recording is cut without losing a sample."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from avskrift.audio.constants import SAMPLE_RATE, WINDOW_SAMPLES
from avskrift.whisper.transcriber import cut


@settings(max_examples=60, deadline=None)
@given(samples=st.integers(0, 200 * SAMPLE_RATE), seed=st.integers(0, 5), loudness=st.sampled_from([0.0, 1e-6, 0.1, 1.0]))
@example(samples=WINDOW_SAMPLES, seed=0, loudness=0.1)
@example(samples=WINDOW_SAMPLES + 1, seed=0, loudness=0.1)
def test_every_sample_is_in_one_stretch_in_order_and_no_stretch_is_longer_than_a_window(samples: int, seed: int, loudness: float) -> None:
    recording = np.random.default_rng(seed).random(samples, np.float32) * np.float32(loudness)
    stretches = cut(recording)
    assert stretches[0][0] == 0
    assert stretches[-1][1] == samples
    assert all(before[1] == after[0] for before, after in pairwise(stretches))
    assert all(0 <= end - start <= WINDOW_SAMPLES for start, end in stretches)
    assert all(end - start >= 20 * SAMPLE_RATE for start, end in stretches[:-1]), "few cuts: each may split a word"


@settings(max_examples=30, deadline=None)
@given(pause=st.floats(20.2, 29.8), seed=st.integers(0, 5))
def test_the_cut_falls_into_the_pause(pause: float, seed: int) -> None:
    recording = np.random.default_rng(seed).normal(0, 0.1, 45 * SAMPLE_RATE).astype(np.float32)
    middle = round(pause * SAMPLE_RATE)
    recording[middle - SAMPLE_RATE // 10 : middle + SAMPLE_RATE // 10] = 0.0
    (_, first), _ = cut(recording)
    assert abs(first - middle) <= SAMPLE_RATE // 10
