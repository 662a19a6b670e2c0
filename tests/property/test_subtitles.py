"""Whatever the model said, the subtitles made of it parse, in order and without overlap."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from avskrift.serving.formats import render
from avskrift.whisper.transcript import Segment, Transcript

_CLOCK = r"(\d{2,}):([0-5]\d):([0-5]\d)%s(\d{3})"

# Text made to break subtitles, beside arbitrary text.
HOSTILE = st.sampled_from(
    ["-->", "--", ">", "\n\n", "\r\n", "1\n", "00:00:00,000 --> 00:00:01,000", "\u2028", "\x00", "&amp;", "<i>", "WEBVTT", "NOTE"]
)
TEXT = st.lists(st.one_of(st.text(max_size=12), HOSTILE), max_size=6).map("".join)
SECONDS = st.floats(allow_nan=True, allow_infinity=True)
SEGMENTS = st.builds(Segment, start_s=SECONDS, end_s=SECONDS, text=TEXT, avg_logprob=st.just(-0.1), no_speech_prob=st.just(0.0))
TRANSCRIPTS = st.builds(
    Transcript,
    text=TEXT,
    language=st.just("sv"),
    duration_s=st.floats(min_value=0, max_value=7200),
    segments=st.lists(SEGMENTS, max_size=8).map(tuple),
)


@dataclass(frozen=True)
class Cue:
    start_ms: int
    end_ms: int
    text: str


@given(transcript=TRANSCRIPTS)
def test_every_srt_parses_back(transcript: Transcript) -> None:
    check(parse_srt(as_text(transcript, "srt")), transcript)


@given(transcript=TRANSCRIPTS)
def test_every_vtt_parses_back(transcript: Transcript) -> None:
    check(parse_vtt(as_text(transcript, "vtt")), transcript)


@given(transcript=TRANSCRIPTS)
def test_srt_and_vtt_hold_the_same_cues(transcript: Transcript) -> None:
    assert [(cue.start_ms, cue.end_ms) for cue in parse_srt(as_text(transcript, "srt"))] == [
        (cue.start_ms, cue.end_ms) for cue in parse_vtt(as_text(transcript, "vtt"))
    ]


def as_text(transcript: Transcript, fmt: str) -> str:
    rendered = render(transcript, fmt)  # type: ignore[arg-type]
    assert isinstance(rendered, str)
    return rendered


def check(cues: list[Cue], transcript: Transcript) -> None:
    """The times run forward without overlap, and the words are those of the transcript, in its order."""
    for cue in cues:
        assert cue.start_ms < cue.end_ms
    for cue, following in itertools.pairwise(cues):
        assert cue.end_ms <= following.start_ms
    said = [segment.text for segment in transcript.segments] or [transcript.text]
    assert letters(" ".join(cue.text for cue in cues)) == letters(" ".join(said))


def letters(text: str) -> str:
    """What subtitles must keep, whatever becomes of arrows, spaces and control characters."""
    return "".join(letter for letter in text if letter.isalnum())


def parse_srt(text: str) -> list[Cue]:
    """Strict: numbered from 1, one timing line, at least one line of text, one blank line after each cue."""
    if not text:
        return []
    assert text.endswith("\n\n")
    cues = []
    for number, block in enumerate(re.split(r"\r\n\r\n|\n\n|\r\r", text[:-2]), start=1):
        first, timing, *lines = re.split(r"\r\n|\n|\r", block)
        assert first == str(number)
        assert lines
        cues.append(parse_cue(timing, lines, ","))
    return cues


def parse_vtt(text: str) -> list[Cue]:
    """Strict WebVTT without cue identifiers: text holds no bare ``<``, ``>`` or ``&``."""
    header, rest = text[:8], text[8:]
    assert header == "WEBVTT\n\n"
    if not rest:
        return []
    assert rest.endswith("\n\n")
    cues = []
    for block in rest[:-2].split("\n\n"):
        timing, *lines = re.split(r"\r\n|\n|\r", block)
        assert lines
        escaped = "\n".join(lines)
        assert re.fullmatch(r"(?:[^<>&]|&(?:lt|gt|amp);)*", escaped)
        plain = escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        cues.append(parse_cue(timing, [plain], "."))
    return cues


def parse_cue(timing: str, lines: list[str], decimal_mark: str) -> Cue:
    clock = _CLOCK % re.escape(decimal_mark)
    match = re.fullmatch(f"{clock} --> {clock}", timing)
    assert match, timing
    for line in lines:
        assert line.strip()
        assert "-->" not in line
        assert "\x00" not in line
    return Cue(start_ms=milliseconds(match.groups()[:4]), end_ms=milliseconds(match.groups()[4:]), text="\n".join(lines))


def milliseconds(parts: tuple[str, ...]) -> int:
    hours, minutes, seconds, rest = (int(part) for part in parts)
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + rest
