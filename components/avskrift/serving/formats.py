"""A transcript as JSON, plain text, SubRip or WebVTT.

Shapes: ``json`` and ``verbose_json`` are those of OpenAI's ``/v1/audio/transcriptions``; ``vtt`` is W3C WebVTT; ``srt`` is SubRip.
"""

from __future__ import annotations

import math
import unicodedata
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, get_args

from avskrift.errors import UsageError
from avskrift.text.languages import LANGUAGES
from avskrift.whisper.transcript import Segment, Task, Transcript, Word

Format = Literal["json", "text", "srt", "vtt", "verbose_json"]
Granularity = Literal["segment", "word"]
FORMATS: tuple[Format, ...] = get_args(Format)
GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
DEFAULT_GRANULARITIES: tuple[Granularity, ...] = ("segment",)
TIMED_FORMATS: frozenset[Format] = frozenset({"srt", "vtt", "verbose_json"})  # those that need Options.timestamps


def check_format(name: str) -> Format:
    """``name`` if it is a format.

    Raises:
        UsageError: it is not; names those that are.
    """
    if name not in FORMATS:
        raise UsageError(f"no transcript format {name!r}; use {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    return name


def render(
    transcript: Transcript, fmt: Format, *, task: Task = "transcribe", granularities: Collection[Granularity] = DEFAULT_GRANULARITIES
) -> str | dict[str, Any]:
    """``transcript`` in the format: a dict for ``json`` and ``verbose_json``, else a string that ends with a newline.

    ``granularities`` are the lists that ``verbose_json`` has: segments, words, or both.

    Subtitles have cues in the order of the segments whose times never overlap nor run backwards, whatever the model said;
    a transcript without segments is one cue, one without words has none (an empty string in SubRip, which has no header).
    """
    match fmt:
        case "json":
            return {"text": transcript.text}
        case "verbose_json":
            return _verbose(transcript, task, granularities)
        case "srt":
            return "".join(f"{number}\n{_times(cue, ',')}\n{cue.text}\n\n" for number, cue in enumerate(_cues(transcript), start=1))
        case "vtt":
            return "WEBVTT\n\n" + "".join(f"{_times(cue, '.')}\n{_escape(cue.text)}\n\n" for cue in _cues(transcript))
        case "text":
            return transcript.text + "\n"


def _verbose(transcript: Transcript, task: Task, granularities: Collection[Granularity]) -> dict[str, Any]:
    segments = [_verbose_segment(number, segment) for number, segment in enumerate(transcript.segments)]
    words = [_verbose_word(word) for segment in transcript.segments for word in segment.words]
    return {
        "task": task,
        "language": LANGUAGES.get(transcript.language, transcript.language),  # OpenAI answers with the English name
        "duration": _figure(transcript.duration_s),
        "text": transcript.text,
        **({"segments": segments} if "segment" in granularities else {}),
        **({"words": words} if "word" in granularities else {}),
    }


def _verbose_word(word: Word) -> dict[str, Any]:
    return {"word": word.text, "start": _figure(word.start_s), "end": _figure(word.end_s)}


def _verbose_segment(number: int, segment: Segment) -> dict[str, Any]:
    spoken = segment.text.encode()
    return {
        "id": number,
        "start": _figure(segment.start_s),
        "end": _figure(segment.end_s),
        "text": segment.text,
        "temperature": 0.0,  # the engine never samples
        "avg_logprob": _figure(segment.avg_logprob),
        "compression_ratio": _figure(len(spoken) / len(zlib.compress(spoken))),  # as Whisper defines it
        "no_speech_prob": _figure(segment.no_speech_prob),
    }


def _figure(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return round(value, 6) if math.isfinite(value) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cue:
    start_ms: int
    end_ms: int
    text: str


def _cues(transcript: Transcript) -> list[_Cue]:
    """Cues whose starts rise by at least 1 ms and which end after their start and by the next one's start."""
    whole = Segment(start_s=0.0, end_s=transcript.duration_s, text=transcript.text, avg_logprob=0.0, no_speech_prob=0.0)
    segments = [(segment, text) for segment in transcript.segments or (whole,) if (text := _one_line(segment.text))]
    starts: list[int] = []
    for segment, _ in segments:
        starts.append(max(_milliseconds(segment.start_s, longest=transcript.duration_s), starts[-1] + 1 if starts else 0))
    cues = []
    for index, (segment, text) in enumerate(segments):
        end = max(_milliseconds(segment.end_s, longest=transcript.duration_s), starts[index] + 1)
        if index + 1 < len(starts):
            end = min(end, starts[index + 1])
        cues.append(_Cue(start_ms=starts[index], end_ms=end, text=text))
    return cues


def _milliseconds(seconds: float, *, longest: float) -> int:
    """Within the recording; 0 for what is no time at all."""
    return round(1000 * max(0.0, min(seconds, longest))) if math.isfinite(seconds) else 0


def _one_line(text: str) -> str:
    """Text that cannot end a cue or start another: one line, no control characters, no arrow of a timing line."""
    line = " ".join(text.split())
    return "".join(letter for letter in line if unicodedata.category(letter) != "Cc").replace("-->", "→").strip()


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _times(cue: _Cue, decimal_mark: str) -> str:
    return f"{_clock(cue.start_ms, decimal_mark)} --> {_clock(cue.end_ms, decimal_mark)}"


def _clock(milliseconds: int, decimal_mark: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{decimal_mark}{rest:03d}"
