import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avskrift.evaluation.bootstrap import SEED, Rate, compare_rates, group_clips, paired_difference, ratio_interval, ratio_intervals
from avskrift.evaluation.result import Difference

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
    difference = paired_difference(candidate, candidate, words, group_clips(speakers), resamples=200)
    assert difference == Difference(value=0, low=0, high=0, wins=0.5)


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


def percentile(values: list[float], share: float) -> float:
    """Between the two nearest of the sorted values, as far as the share lies between them."""
    place = share * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return sorted(values)[below] + (place - below) * (sorted(values)[above] - sorted(values)[below])


def test_the_interval_is_that_of_plain_loops_over_the_same_draws() -> None:
    words, candidate, baseline = [4, 7, 3, 6, 5], [1, 2, 0, 3, 1], [1, 1, 1, 3, 1]
    draws = np.random.default_rng(SEED).integers(0, 5, size=(400, 5)).tolist()
    rates = [sum(candidate[clip] for clip in drawn) / sum(words[clip] for clip in drawn) for drawn in draws]
    differences = [sum(candidate[clip] - baseline[clip] for clip in drawn) / sum(words[clip] for clip in drawn) for drawn in draws]
    won = sum(1.0 if one < 0 else 0.5 if one == 0 else 0.0 for one in differences) / 400
    assert 0.1 < won < 0.9, "the case has wins, losses and ties"

    grouping = group_clips([""] * 5)
    wer = ratio_interval(candidate, words, grouping, resamples=400)
    difference = paired_difference(candidate, baseline, words, grouping, resamples=400)
    assert (wer.low, wer.high) == pytest.approx((percentile(rates, 0.025), percentile(rates, 0.975)))
    assert (difference.low, difference.high) == pytest.approx((percentile(differences, 0.025), percentile(differences, 0.975)))
    assert difference.wins == pytest.approx(won)


def simulated_test_set(generator: np.random.Generator) -> tuple[list[int], list[int], list[int], list[str]]:
    """60 speakers, each with a rate of his own and five clips; the true rates are 0.2 for the candidate, 0.25 for the baseline."""
    words = generator.integers(3, 15, size=(60, 5))
    easiness = generator.beta(4, 12, size=(60, 1))  # mean 0.25
    baseline = generator.binomial(words, easiness)
    candidate = generator.binomial(words, 0.8 * easiness)
    return candidate.ravel().tolist(), baseline.ravel().tolist(), words.ravel().tolist(), [f"s{number // 5}" for number in range(300)]


def test_intervals_hold_the_true_rate_about_as_often_as_they_promise() -> None:
    generator = np.random.default_rng(1)
    simulations, hits = 2_000, np.zeros(2)  # by chance alone the share of 2,000 is within a point, 19 times of 20
    for seed in range(simulations):
        candidate, baseline, words, speakers = simulated_test_set(generator)
        compared = compare_rates(candidate, baseline, words, group_clips(speakers), resamples=600, seed=seed)
        wer, difference = compared.candidate, compared.difference
        hits += (wer.low <= 0.2 <= wer.high, difference.low <= -0.05 <= difference.high)
    assert hits / simulations == pytest.approx([0.95, 0.95], abs=0.02)


def test_intervals_over_clips_would_hold_the_true_rate_of_such_speakers_less_often() -> None:
    generator = np.random.default_rng(2)
    simulations, hits = 300, 0
    for seed in range(simulations):
        candidate, _, words, speakers = simulated_test_set(generator)
        wer = ratio_interval(candidate, words, group_clips([""] * len(speakers)), resamples=600, seed=seed)
        hits += wer.low <= 0.2 <= wer.high
    assert hits / simulations < 0.92


@settings(max_examples=30)
@given(CORPUS)
def test_rates_and_difference_are_the_same_alone_and_together(clips: list[tuple[int, int, int, str]]) -> None:
    candidate, baseline, words, speakers = columns(clips)
    grouping = group_clips(speakers)
    compared = compare_rates(candidate, baseline, words, grouping, resamples=200)
    alone = [ratio_interval(errors, words, grouping, resamples=200) for errors in (candidate, baseline)]
    assert [compared.candidate, compared.baseline] == alone
    assert compared.difference == paired_difference(candidate, baseline, words, grouping, resamples=200)
    together = ratio_intervals([Rate(errors=errors, units=words) for errors in (candidate, baseline)], grouping, resamples=200)
    assert together == alone


@settings(max_examples=30)
@given(CORPUS)
def test_every_resample_has_one_winner_or_a_tie(clips: list[tuple[int, int, int, str]]) -> None:
    candidate, baseline, words, speakers = columns(clips)
    grouping = group_clips(speakers)
    there = paired_difference(candidate, baseline, words, grouping, resamples=200)
    back = paired_difference(baseline, candidate, words, grouping, resamples=200)
    assert there.wins + back.wins == pytest.approx(1)
    if all(ours < theirs for ours, theirs in zip(candidate, baseline, strict=True)):
        assert there.wins == 1
