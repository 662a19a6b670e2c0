import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avskrift.evaluation.bootstrap import group_clips, paired_difference, ratio_interval
from avskrift.evaluation.result import Estimate

CLIP = st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.sampled_from(["", *"abcdefghijkl"]))
CORPUS = st.lists(CLIP, min_size=1, max_size=60).filter(lambda clips: any(words for *_, words, _ in clips))


def columns(clips: list[tuple[int, int, int, str]]) -> tuple[list[int], list[int], list[int], list[str]]:
    candidate, baseline, words, speakers = (list(column) for column in zip(*clips, strict=True))
    return candidate, baseline, words, speakers


@settings(max_examples=60)
@given(CORPUS)
def test_the_interval_holds_the_point_estimate(clips: list[tuple[int, int, int, str]]) -> None:
    candidate, baseline, words, speakers = columns(clips)
    grouping = group_clips(speakers)
    wer = ratio_interval(candidate, words, grouping, resamples=300)
    difference = paired_difference(candidate, baseline, words, grouping, resamples=300)
    assert wer.value == sum(candidate) / sum(words)
    assert difference.value == (sum(candidate) - sum(baseline)) / sum(words)
    assert wer.low <= wer.value <= wer.high
    assert difference.low <= difference.value <= difference.high


@settings(max_examples=30)
@given(CORPUS)
def test_the_same_arguments_give_the_same_interval(clips: list[tuple[int, int, int, str]]) -> None:
    candidate, _, words, speakers = columns(clips)
    first, second = (ratio_interval(candidate, words, group_clips(speakers), resamples=200) for _ in range(2))
    assert first == second


@settings(max_examples=30)
@given(CORPUS, st.integers(1, 1000))
def test_counting_in_another_unit_changes_nothing(clips: list[tuple[int, int, int, str]], factor: int) -> None:
    candidate, _, words, speakers = columns(clips)
    grouping = group_clips(speakers)
    scaled = ratio_interval([factor * e for e in candidate], [factor * w for w in words], grouping, resamples=200)
    assert scaled == ratio_interval(candidate, words, grouping, resamples=200)


@settings(max_examples=30)
@given(CORPUS)
def test_systems_with_the_same_errors_differ_by_exactly_nothing(clips: list[tuple[int, int, int, str]]) -> None:
    candidate, _, words, speakers = columns(clips)
    assert paired_difference(candidate, candidate, words, group_clips(speakers), resamples=200) == Estimate(value=0, low=0, high=0)


@settings(max_examples=30)
@given(CORPUS)
def test_exchanging_the_systems_changes_the_sign_alone(clips: list[tuple[int, int, int, str]]) -> None:
    candidate, baseline, words, speakers = columns(clips)
    grouping = group_clips(speakers)
    there = paired_difference(candidate, baseline, words, grouping, resamples=200)
    back = paired_difference(baseline, candidate, words, grouping, resamples=200)
    assert back.value == -there.value
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=1e-12)


def test_the_interval_agrees_with_a_bootstrap_written_in_plain_loops() -> None:
    source = random.Random(7)
    speakers = [f"s{number % 25}" for number in range(150)]
    words = [source.randint(3, 15) for _ in speakers]
    baseline = [source.randint(0, count) for count in words]
    candidate = [source.randint(0, errors) for errors in baseline]

    rates, differences = [], []
    for _ in range(6_000):
        drawn = [source.choice(range(25)) for _ in range(25)]
        clips = [clip for speaker in drawn for clip in range(speaker, 150, 25)]
        said = sum(words[clip] for clip in clips)
        rates.append(sum(candidate[clip] for clip in clips) / said)
        differences.append(sum(candidate[clip] - baseline[clip] for clip in clips) / said)

    grouping = group_clips(speakers)
    for interval, naive in (
        (ratio_interval(candidate, words, grouping), sorted(rates)),
        (paired_difference(candidate, baseline, words, grouping), sorted(differences)),
    ):
        width = interval.high - interval.low
        assert interval.low == pytest.approx(naive[150], abs=0.05 * width)
        assert interval.high == pytest.approx(naive[-151], abs=0.05 * width)


def simulated_test_set(generator: np.random.Generator) -> tuple[list[int], list[int], list[int], list[str]]:
    """60 speakers, each with a rate of his own and five clips; the true rates are 0.2 for the candidate, 0.25 for the baseline."""
    words = generator.integers(3, 15, size=(60, 5))
    easiness = generator.beta(4, 12, size=(60, 1))  # mean 0.25
    baseline = generator.binomial(words, easiness)
    candidate = generator.binomial(words, 0.8 * easiness)
    return candidate.ravel().tolist(), baseline.ravel().tolist(), words.ravel().tolist(), [f"s{number // 5}" for number in range(300)]


def test_intervals_hold_the_true_rate_about_as_often_as_they_promise() -> None:
    generator = np.random.default_rng(1)
    simulations, hits = 600, np.zeros(2)
    for seed in range(simulations):
        candidate, baseline, words, speakers = simulated_test_set(generator)
        grouping = group_clips(speakers)
        wer = ratio_interval(candidate, words, grouping, resamples=800, seed=seed)
        difference = paired_difference(candidate, baseline, words, grouping, resamples=800, seed=seed)
        hits += (wer.low <= 0.2 <= wer.high, difference.low <= -0.05 <= difference.high)
    assert hits / simulations == pytest.approx([0.95, 0.95], abs=0.025)
