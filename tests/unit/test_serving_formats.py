"""The shapes in which a transcript is given."""

from __future__ import annotations

import math
from typing import Any

import pytest

from avskrift.errors import UsageError
from avskrift.serving.formats import FORMATS, TIMED_FORMATS, check_format, render
from avskrift.whisper.transcript import Segment, Transcript


def segment(start: float, end: float, text: str, *, avg_logprob: float = -0.5) -> Segment:
    return Segment(start_s=start, end_s=end, text=text, avg_logprob=avg_logprob, no_speech_prob=0.25)


def transcript(*segments: Segment, text: str = "Hej på dig. Å, vad vackert!", seconds: float = 5.0) -> Transcript:
    return Transcript(text=text, language="sv", duration_s=seconds, segments=segments)


TWO = transcript(segment(0.0, 2.0, " Hej på dig."), segment(2.5, 5.0, " Å, vad vackert!"))


def test_json_is_the_text_alone() -> None:
    assert render(TWO, "json") == {"text": "Hej på dig. Å, vad vackert!"}


def test_text_ends_with_a_newline() -> None:
    assert render(TWO, "text") == "Hej på dig. Å, vad vackert!\n"


def test_srt_numbers_its_cues_and_writes_decimal_commas() -> None:
    expected = "1\n00:00:00,000 --> 00:00:02,000\nHej på dig.\n\n2\n00:00:02,500 --> 00:00:05,000\nÅ, vad vackert!\n\n"
    assert render(TWO, "srt") == expected


def test_vtt_has_its_header_and_writes_decimal_points() -> None:
    expected = "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\nHej på dig.\n\n00:00:02.500 --> 00:00:05.000\nÅ, vad vackert!\n\n"
    assert render(TWO, "vtt") == expected


def test_verbose_json_has_openais_fields() -> None:
    answer: Any = render(TWO, "verbose_json", task="translate")
    assert {name: answer[name] for name in ("task", "language", "duration", "text")} == {
        "task": "translate",
        "language": "swedish",
        "duration": 5.0,
        "text": TWO.text,
    }
    assert [(part["id"], part["start"], part["end"], part["text"]) for part in answer["segments"]] == [
        (0, 0.0, 2.0, " Hej på dig."),
        (1, 2.5, 5.0, " Å, vad vackert!"),
    ]
    assert answer["segments"][0]["avg_logprob"] == -0.5
    assert answer["segments"][0]["no_speech_prob"] == 0.25
    assert answer["segments"][0]["temperature"] == 0.0


def test_the_compression_ratio_tells_repetition_from_speech() -> None:
    answer: Any = render(transcript(segment(0, 1, "la " * 200), segment(1, 2, "En katt satt på mattan.")), "verbose_json")
    looping, spoken = (part["compression_ratio"] for part in answer["segments"])
    assert looping > 2.4 > spoken  # the threshold above which Whisper takes a segment for a loop


def test_a_figure_that_json_cannot_hold_is_null() -> None:
    answer: Any = render(transcript(segment(0, 1, "Hej", avg_logprob=-math.inf)), "verbose_json")
    assert answer["segments"][0]["avg_logprob"] is None


def test_hours_are_written_out() -> None:
    late = transcript(segment(3661.5, 3662.0, "Sent"), seconds=4000.0)
    assert "01:01:01,500 --> 01:01:02,000" in render(late, "srt")


def test_overlapping_segments_become_cues_that_follow_each_other() -> None:
    overlapping = transcript(segment(0.0, 3.0, "ett"), segment(2.0, 9.0, "två"), seconds=5.0)
    assert render(overlapping, "srt") == "1\n00:00:00,000 --> 00:00:02,000\nett\n\n2\n00:00:02,000 --> 00:00:05,000\ntvå\n\n"


def test_segments_out_of_order_keep_their_order_and_move_forward() -> None:
    backwards = transcript(segment(3.0, 4.0, "ett"), segment(1.0, 2.0, "två"))
    assert "00:00:03,000 --> 00:00:03,001\nett" in render(backwards, "srt")
    assert "00:00:03,001 --> 00:00:03,002\ntvå" in render(backwards, "srt")


def test_text_cannot_end_a_cue_or_start_another() -> None:
    hostile = transcript(segment(0, 1, "a\n\n2\n00:00:00,000 --> 00:00:01,000\nb"))
    assert render(hostile, "srt") == "1\n00:00:00,000 --> 00:00:01,000\na 2 00:00:00,000 → 00:00:01,000 b\n\n"


def test_markup_is_escaped_in_vtt() -> None:
    assert "&lt;b&gt;R&amp;D&lt;/b&gt;" in render(transcript(segment(0, 1, "<b>R&D</b>")), "vtt")


def test_segments_without_words_are_no_cues() -> None:
    gappy = transcript(segment(0, 1, "  "), segment(1, 2, "Hej"), segment(2, 3, "\x00"))
    assert render(gappy, "srt") == "1\n00:00:01,000 --> 00:00:02,000\nHej\n\n"


def test_a_transcript_without_segments_is_one_cue() -> None:
    assert render(transcript(), "srt") == "1\n00:00:00,000 --> 00:00:05,000\nHej på dig. Å, vad vackert!\n\n"


def test_silence_has_no_cues() -> None:
    silence = transcript(text="")
    assert render(silence, "srt") == ""
    assert render(silence, "vtt") == "WEBVTT\n\n"


def test_every_format_is_known_and_the_timed_ones_are_among_them() -> None:
    assert [check_format(name) for name in FORMATS] == list(FORMATS)
    assert set(FORMATS) > TIMED_FORMATS


def test_an_unknown_format_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UsageError, match=r"'ass'.*verbose_json"):
        check_format("ass")
