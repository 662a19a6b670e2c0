import pytest

from avskrift.evaluation.error_rates import ErrorCounts
from avskrift.evaluation.references import Reference
from avskrift.evaluation.result import Slice
from avskrift.evaluation.slices import measure_slices, worst_slice


def reference(number: int = 0, *, duration_s: float = 3.0, **more: str) -> Reference:
    known = {"clip_id": f"c{number}", "text": "ord", "speaker_id": "", "gender": "", "age": "", "source": "", "audio_sha256": ""}
    return Reference(duration_s=duration_s, **known | more)


def wrong(errors: int, words: int = 10) -> ErrorCounts:
    return ErrorCounts(hits=words - errors, substitutions=errors, deletions=0, insertions=0)


def sliced(references: list[Reference], candidate: list[int], baseline: list[int] | None = None) -> dict[tuple[str, str], Slice]:
    found = measure_slices(references, [wrong(one) for one in candidate], [wrong(one) for one in baseline or candidate])
    return {(one.kind, one.name): one for one in found}


@pytest.mark.parametrize(
    ("duration_s", "name"),
    [
        (0.3, "under 2 s"),
        (1.999, "under 2 s"),
        (2.0, "2 to 4 s"),
        (4.0, "4 to 6 s"),
        (6.0, "6 to 10 s"),
        (10.0, "10 to 20 s"),
        (20.0, "20 to 30 s"),
        (30.0, "20 to 30 s"),
        (30.01, "over 30 s"),
    ],
)
def test_a_clip_belongs_to_one_stretch_of_durations(duration_s: float, name: str) -> None:
    assert list(sliced([reference(duration_s=duration_s)], [1])) == [("duration", name)]


def test_slices_hold_their_own_clips_and_no_others() -> None:
    references = [reference(number, gender="female" if number < 30 else "male") for number in range(50)]
    found = sliced(references, [1] * 30 + [4] * 20, [2] * 30 + [3] * 20)
    female, male = found["gender", "female"], found["gender", "male"]
    assert (female.clips, female.reference_words, female.candidate.value, female.baseline.value) == (30, 300, 0.1, 0.2)
    assert (male.clips, male.reference_words, male.candidate.value, male.baseline.value) == (20, 200, 0.4, 0.3)
    assert female.difference.wins == 1
    assert male.difference.low > 0


def test_durations_come_in_order_and_what_is_unknown_comes_last() -> None:
    references = [reference(duration_s=seconds, age=age) for seconds, age in ((15.0, ""), (1.0, "teens"), (5.0, "fifties"))]
    assert list(sliced(references, [0, 0, 0])) == [
        ("duration", "under 2 s"),
        ("duration", "4 to 6 s"),
        ("duration", "10 to 20 s"),
        ("age", "fifties"),
        ("age", "teens"),
        ("age", "unknown"),
    ]


def test_a_value_that_all_clips_share_makes_no_slice() -> None:
    references = [reference(number, gender="", age="teens", source="radio") for number in range(3)]
    assert list(sliced(references, [1, 1, 1])) == [("duration", "2 to 4 s")]


def test_a_slice_without_a_word_is_left_out() -> None:
    references = [reference(0, source="a"), reference(1, source="b")]
    words = [wrong(1), ErrorCounts(hits=0, substitutions=0, deletions=0, insertions=2)]
    assert [one.name for one in measure_slices(references, words, words) if one.kind == "source"] == ["a"]


def test_a_slice_resamples_speakers_where_it_has_enough_of_them() -> None:
    few = [reference(number, speaker_id=f"s{number % 3}", gender="male") for number in range(30)]
    many = [reference(number, speaker_id=f"t{number % 12}", gender="female") for number in range(36)]
    errors = [number % 3 for number in range(30)] + [(number % 12) // 3 for number in range(36)]
    found = sliced(few + many, errors)
    assert (found["gender", "male"].speakers, found["gender", "female"].speakers) == (3, 12)
    by_clip = sliced([reference(number, gender="female" if number < 36 else "male") for number in range(66)], errors[30:] + errors[:30])

    def width(one: Slice) -> float:
        return one.candidate.high - one.candidate.low

    assert width(found["gender", "female"]) > 1.3 * width(by_clip["gender", "female"])
    assert width(found["gender", "male"]) == pytest.approx(width(by_clip["gender", "male"]), rel=0.1)


def test_the_worst_slice_is_that_of_the_highest_rate_among_those_with_enough_clips() -> None:
    references = [reference(number, source="small" if number < 9 else "large" if number < 25 else "easy") for number in range(60)]
    slices = tuple(sliced(references, [9] * 9 + [5] * 16 + [1] * 35).values())
    assert worst_slice(slices) == ("source", "large")


def test_no_slice_is_the_worst_where_none_has_enough_clips() -> None:
    assert worst_slice(tuple(sliced([reference(number) for number in range(9)], [1] * 9).values())) is None
    assert worst_slice(()) is None
