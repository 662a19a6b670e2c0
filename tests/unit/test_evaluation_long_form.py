"""Clips joined beside the same clips alone. A scripted engine stands at the edge, and hears which clips a recording holds."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from scripted_hearing import ScriptedEngine, spoken

from avskrift.errors import EvaluationError
from avskrift.evaluation.bootstrap import group_clips, ratio_interval
from avskrift.evaluation.long_form import RECORDING_SECONDS, measure_long_form
from avskrift.evaluation.result import Difference, LongForm
from avskrift.whisper.transcript import Audio, Options, Transcript

SENTENCES = (
    "Det regnar i dag.",
    "Var ligger närmaste järnvägsstation?",
    "Vi bor i ett rött hus nära skogen.",
    "Hon köpte tre äpplen och en limpa.",
)
CLIPS = [spoken(number, SENTENCES[number % 4]) for number in range(12)]
RIGHT = [clip.text for clip in CLIPS]
WORDS = sum(len(text.split()) for text in RIGHT)


def says(number: int | None) -> str:
    return "" if number is None else RIGHT[number]


def heard(alone: list[str] = RIGHT, **changed: str) -> LongForm:
    """With the texts of some clips changed, as ``clip3="ja"``."""
    engine = ScriptedEngine(lambda number: changed.get(f"clip{number}", says(number)))
    measured = measure_long_form(CLIPS, alone, engine, language="sv")
    assert measured is not None
    return measured


def test_a_model_that_hears_all_of_a_long_recording_loses_nothing() -> None:
    measured = heard()
    assert (measured.recordings, measured.clips) == (1, 12)
    assert 12 * 4.3 <= measured.seconds <= 12 * 5
    assert (measured.wer.value, measured.wer_alone.value, measured.loss.value, measured.clips_found) == (0, 0, 0, 1)
    assert measured.timestamp_error_s == pytest.approx(0, abs=0.01)


def test_a_clip_that_is_lost_in_the_long_recording_counts_as_errors_and_as_not_found() -> None:
    measured = heard(clip3="", clip6="")
    lost = len(RIGHT[3].split()) + len(RIGHT[6].split())
    assert (measured.wer.value, measured.wer_alone.value) == (pytest.approx(lost / WORDS), 0)
    assert measured.loss.value == pytest.approx(lost / WORDS)
    assert measured.loss.low < measured.loss.value < measured.loss.high
    assert measured.clips_found == pytest.approx(10 / 12)


@pytest.mark.parametrize(
    ("owner", "text"), [(0, f"Tack, tack. {RIGHT[0]}"), (5, f"{RIGHT[5]} Tack, tack."), (11, f"{RIGHT[11]} Tack, tack.")]
)
def test_what_is_heard_beside_a_clips_words_counts_for_the_clip_before(owner: int, text: str) -> None:
    errors = [2 if number == owner else 0 for number in range(12)]
    assert heard(**{f"clip{owner}": text}).wer == ratio_interval(errors, [len(said.split()) for said in RIGHT], group_clips([""] * 12))


def test_what_is_wrong_alone_as_well_is_no_loss() -> None:
    alone = [*RIGHT[:-1], "Hon köpte tre."]
    measured = heard(alone, clip11="Hon köpte tre.")
    assert measured.wer.value == measured.wer_alone.value == pytest.approx(4 / WORDS)
    assert (measured.loss.value, measured.loss.low, measured.loss.high) == (0, 0, 0)
    assert measured.clips_found == 1


def test_a_clip_is_found_where_half_of_its_words_alone_are_heard_again() -> None:
    assert heard(clip0="det regnar").clips_found == 1
    assert heard(clip0="det").clips_found == pytest.approx(11 / 12)
    assert heard(["något helt annat", *RIGHT[1:]]).clips_found == pytest.approx(11 / 12)


def test_a_clip_in_which_nothing_was_heard_alone_cannot_be_lost() -> None:
    assert heard(["", *RIGHT[1:]]).clips_found == 1
    assert heard([""] * 12).clips_found == 0


def test_late_timestamps_are_told() -> None:
    measured = measure_long_form(CLIPS, RIGHT, ScriptedEngine(says, late_s=0.25), language="sv")
    assert measured is not None
    assert measured.timestamp_error_s == pytest.approx(0.25, abs=0.01)


def test_words_that_were_heard_wrong_do_not_tell_where_a_clip_begins_or_ends() -> None:
    assert heard(**{f"clip{number}": "ja nej" for number in range(12)}).timestamp_error_s == RECORDING_SECONDS


def test_a_clip_ends_with_the_last_word_of_its_reference_not_with_what_was_heard_after_it() -> None:
    # The half of the distances that are of ends is large: the words of a scripted clip share its time.
    after = heard(**{f"clip{number}": f"{text} Tack, tack." for number, text in enumerate(RIGHT)})
    assert after.timestamp_error_s > 0.1


def test_a_model_that_hears_no_boundary_has_the_worst_timestamps_and_a_number_all_the_same() -> None:
    measured = measure_long_form(CLIPS, RIGHT, ScriptedEngine(lambda number: ""), language="sv")
    assert measured is not None
    assert measured.timestamp_error_s == RECORDING_SECONDS
    assert (measured.wer.value, measured.clips_found) == (1, 0)


def test_segments_give_their_times_where_words_have_none() -> None:
    measured = measure_long_form(CLIPS, RIGHT, ScriptedEngine(says, word_times=False, late_s=0.1), language="sv")
    assert measured is not None
    assert measured.timestamp_error_s == pytest.approx(0.1, abs=0.01)


def test_words_have_their_times_however_many_a_segment_holds() -> None:
    measured = measure_long_form(CLIPS, RIGHT, ScriptedEngine(says, in_one_segment=True), language="sv")
    assert measured is not None
    assert measured.timestamp_error_s == pytest.approx(0, abs=0.01)


def test_numbers_are_read_with_the_words_beside_them() -> None:
    clips = [spoken(number, "Den tredje maj kostar det tre tusen kronor.") for number in range(10)]
    engine = ScriptedEngine(lambda number: "den 3 maj kostar det 3 000 kronor")
    measured = measure_long_form(clips, [clip.text for clip in clips], engine, language="sv")
    assert measured is not None
    assert measured.wer.value == 0


def test_at_most_six_minutes_are_joined_in_the_order_of_the_clips() -> None:
    clips = [spoken(number, SENTENCES[number % 4], seconds=10) for number in range(60)]
    engine = ScriptedEngine(lambda number: "" if number is None else clips[number].text)
    measured = measure_long_form(clips, [clip.text for clip in clips], engine, language="sv")
    assert measured is not None
    assert measured.recordings == 2
    assert 340 < measured.seconds <= 360
    assert measured.wer.value == 0
    ((recordings, options),) = engine.calls
    assert all(len(recording) <= 180 * 16_000 for recording in recordings)
    assert (options.language, options.timestamps) == ("sv", "word")


def test_clips_without_words_are_left_out() -> None:
    clips = [spoken(50, "…"), *CLIPS]
    measured = measure_long_form(clips, ["Tack.", *RIGHT], ScriptedEngine(says), language="sv")
    assert measured is not None
    assert (measured.clips, measured.wer.value, measured.wer_alone.value) == (12, 0, 0)


def test_clips_that_fit_into_one_window_make_no_long_recording() -> None:
    assert measure_long_form(CLIPS[:6], RIGHT[:6], ScriptedEngine(says), language="sv") is None
    assert measure_long_form([], [], ScriptedEngine(says), language="sv") is None


def test_speakers_are_drawn_together_where_enough_are_known() -> None:
    def loss_by(speakers: list[str]) -> Difference:
        clips = [spoken(number, SENTENCES[number % 4], seconds=2, speaker=speaker) for number, speaker in enumerate(speakers)]
        lost = ScriptedEngine(lambda number: "" if number in (0, 1, 2) else clips[number or 0].text)
        measured = measure_long_form(clips, [clip.text for clip in clips], lost, language="sv")
        assert measured is not None
        return measured.loss

    together, each_alone = loss_by([f"s{number // 3}" for number in range(36)]), loss_by([""] * 36)
    assert together.value == each_alone.value
    assert together.high > each_alone.high  # clips 0, 1 and 2 are one speaker's: drawn all at once or not at all


def test_an_engine_that_skips_recordings_is_refused() -> None:
    with pytest.raises(EvaluationError, match="0 transcripts for 1 recordings"):
        measure_long_form(CLIPS, RIGHT, ScriptedEngine(says, missing=1), language="sv")


def test_sentences_without_spaces_between_them_are_told_apart_by_their_letters() -> None:
    clips = [spoken(number, f"{text}。") for number, text in enumerate(("今天下雨", "车站在哪里", "我们住在红房子", "她买了苹果") * 3)]
    alone = [clip.text.removesuffix("。") for clip in clips]

    class Unbroken(ScriptedEngine):
        def transcribe(self, recordings: Sequence[Audio], options: Options) -> list[Transcript]:
            return [replace(heard, text=heard.text.replace(" ", "")) for heard in super().transcribe(recordings, options)]

    for in_one_segment in (False, True):
        engine = Unbroken(lambda number: "" if number is None else alone[number], in_one_segment=in_one_segment)
        measured = measure_long_form(clips, alone, engine, language="zh")
        assert measured is not None
        assert (measured.wer.value, measured.wer_alone.value, measured.loss.value, measured.clips_found) == (0, 0, 0, 1)
