import math
import tracemalloc

import pytest

from avskrift.errors import EvaluationError
from avskrift.evaluation.bootstrap import MIN_SPEAKERS, Rate, group_clips, paired_difference, ratio_interval, ratio_intervals
from avskrift.evaluation.result import Difference

CLIPS = group_clips([""] * 3)


def test_clips_are_grouped_by_speaker_where_enough_speakers_are_known() -> None:
    speakers = [f"s{number % MIN_SPEAKERS}" for number in range(3 * MIN_SPEAKERS)]
    grouping = group_clips(speakers)
    assert (grouping.unit, grouping.groups, grouping.speakers) == ("speakers", MIN_SPEAKERS, MIN_SPEAKERS)
    assert all((grouping.index[a] == grouping.index[b]) == (speakers[a] == speakers[b]) for a in range(30) for b in range(30))


def test_clips_stand_for_themselves_where_speakers_are_too_few() -> None:
    grouping = group_clips([f"s{number % (MIN_SPEAKERS - 1)}" for number in range(40)])
    assert (grouping.unit, grouping.groups, grouping.speakers) == ("clips", 40, MIN_SPEAKERS - 1)
    assert sorted(grouping.index) == list(range(40))


def test_a_clip_of_an_unknown_speaker_stands_for_itself_among_speakers() -> None:
    grouping = group_clips([*(f"s{number}" for number in range(MIN_SPEAKERS)), "s0", "", ""])
    assert (grouping.unit, grouping.groups, grouping.speakers) == ("speakers", MIN_SPEAKERS + 2, MIN_SPEAKERS)
    assert grouping.index[10] == grouping.index[0]
    assert grouping.index[11] != grouping.index[12]


def test_unknown_speakers_are_not_one_speaker() -> None:
    assert group_clips([""] * 50).unit == "clips"
    assert group_clips([""] * 50).speakers == 0


def test_one_speaker_alone_gives_an_interval_without_width() -> None:
    # Which is why the gate asks for a number of clips, and why few speakers fall back to clips.
    grouping = group_clips(["s"] * 3, min_speakers=1)
    interval = ratio_interval([1, 2, 3], [10, 10, 10], grouping)
    assert (interval.value, interval.low, interval.high) == (0.2, 0.2, 0.2)


def test_speakers_that_differ_widen_the_interval_over_that_of_their_clips() -> None:
    speakers = [f"s{number % 10}" for number in range(400)]
    errors = [(number % 10) // 2 for number in range(400)]
    by_speaker = ratio_interval(errors, [10] * 400, group_clips(speakers))
    by_clip = ratio_interval(errors, [10] * 400, group_clips([""] * 400))
    assert by_speaker.value == by_clip.value
    assert by_speaker.high - by_speaker.low > 3 * (by_clip.high - by_clip.low)


def test_a_shared_difficulty_cancels_out_of_the_paired_difference() -> None:
    baseline = [number % 20 for number in range(200)]
    candidate = [errors + 1 for errors in baseline]
    difference = paired_difference(candidate, baseline, [20] * 200, group_clips([""] * 200))
    assert (difference.value, difference.low, difference.high, difference.wins) == (0.05, 0.05, 0.05, 0)
    alone = ratio_interval(candidate, [20] * 200, group_clips([""] * 200))
    assert alone.high - alone.low > 0.05


def test_draws_of_nothing_but_clips_without_words_are_left_out() -> None:
    interval = ratio_interval([2, 0, 0], [4, 0, 0], CLIPS)
    assert (interval.value, interval.low, interval.high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("errors", "units", "grouping"),
    [
        ([], [], group_clips([])),
        ([0, 0, 0], [0, 0, 0], CLIPS),
        ([1, 1], [2, 2], CLIPS),
        ([1, 1, 1], [2, 2], CLIPS),
        ([1, math.nan, 1], [2, 2, 2], CLIPS),
        ([1, math.inf, 1], [2, 2, 2], CLIPS),
        ([1, -1, 1], [2, 2, 2], CLIPS),
    ],
    ids=["no clips", "no words", "a clip too few", "unequal", "nan", "infinite", "negative"],
)
def test_what_cannot_be_resampled_is_refused(errors: list[float], units: list[float], grouping: object) -> None:
    with pytest.raises(EvaluationError):
        ratio_interval(errors, units, grouping)  # type: ignore[arg-type]
    with pytest.raises(EvaluationError):
        paired_difference(errors, errors, units, grouping)  # type: ignore[arg-type]


def test_systems_that_make_the_same_errors_tie_in_fractions_too() -> None:
    # Sums in another order would differ by a rounding error, and a tie would be won by chance.
    rates = [number / 7 for number in range(60)]
    tie = paired_difference(rates, list(rates), [1] * 60, group_clips([f"s{number % 12}" for number in range(60)]))
    assert tie == Difference(value=0, low=0, high=0, wins=0.5)


def test_each_of_several_rates_is_refused_for_what_is_wrong_with_it() -> None:
    good, empty = Rate(errors=[1, 1, 1], units=[2, 2, 2]), Rate(errors=[0, 0, 0], units=[0, 0, 0])
    with pytest.raises(EvaluationError, match="no words"):
        ratio_intervals([good, empty], CLIPS)


def test_memory_does_not_grow_with_the_number_of_draws() -> None:
    clips = 5_000  # 2,000 resamples of them are 80 MB of indices at once
    tracemalloc.start()
    ratio_interval([1] * clips, [10] * clips, group_clips([""] * clips), resamples=2_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6
