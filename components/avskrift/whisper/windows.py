"""What the encoder reads at once: a short recording as it is, a long one in windows that begin and end in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from avskrift.audio.constants import SAMPLE_RATE, WINDOW_SAMPLES
from avskrift.whisper.quiet import is_silent, quietest_spot
from avskrift.whisper.transcript import Audio, LanguageGuess, Options, Segment, Transcriber, Transcript
from avskrift.whisper.voice_activity import Stretch

_PADDING = SAMPLE_RATE * 2 // 5  # around speech: the network hears a word's first consonant late, if at all
_LONGEST_PAUSE = 3 * SAMPLE_RATE  # inside a window; a longer one costs time, and invites words that nobody said
_SEARCHED_SHARE = 3  # a window ends in its last third, if it can: windows should be few


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A stretch of at most 30 s of one recording, which begins at sample ``start``; the first of it, or a later one."""

    recording: int
    start: int
    samples: Audio
    first: bool

    @property
    def offset_s(self) -> float:
        return self.start / SAMPLE_RATE

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """What windows must have in common to be read together, and how many of them are at most.

    ``frames`` of encoder context, ``room`` in tokens for the text, and whether it is written with timestamps.
    """

    frames: int
    room: int
    timed: bool
    at_once: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowText:
    """What is said in a window: segments in the recording's time, and the languages it may be in where none was named."""

    segments: tuple[Segment, ...]
    languages: tuple[LanguageGuess, ...] = ()


class WindowTranscriber(Transcriber, Protocol):
    """An engine that reads recordings window by window, so that those of several people can take turns."""

    def check(self, options: Options) -> None:
        """Raises LanguageError for a language that the model does not know."""

    def windows(self, samples: Audio) -> list[Window]:
        """What of a recording is read, in order."""

    def kind(self, window: Window, options: Options) -> Kind:
        """Which windows may be read together, under equal options but for the language."""

    def read(self, windows: Sequence[Window], options: Options, languages: Sequence[str | None]) -> list[WindowText]:
        """The texts of windows of one kind; a language that is None is identified."""


def assemble(duration_s: float, texts: Sequence[WindowText], *, language: str | None) -> Transcript:
    """The transcript of a recording from those of its windows. Where no language was named and nobody speaks, it is unknown."""
    ordered = tuple(sorted((segment for text in texts for segment in text.segments), key=lambda segment: segment.start_s))
    guesses = next((text.languages for text in texts if text.languages), ())
    best = guesses[0] if guesses else LanguageGuess(language=language or "", probability=1.0 if language else 0.0)
    return Transcript(
        text=" ".join(segment.text for segment in ordered),
        language=best.language,
        language_probability=best.probability,
        languages=guesses,
        duration_s=duration_s,
        segments=ordered,
    )


def recording_windows(recording: int, samples: Audio, find_speech: Callable[[Audio], list[Stretch]], *, longest: int) -> Iterator[Window]:
    """The windows of a recording, in order; none where it is silent, or over 30 s and ``find_speech`` hears nobody.

    ``longest`` is how many samples a window of a recording of over 30 s may have; a shorter recording is one window.
    """
    if is_silent(samples):
        return
    short = len(samples) <= WINDOW_SAMPLES
    stretches = [Stretch(0, len(samples))] if short else cover(find_speech(samples), samples, longest=longest)
    heard = [stretch for stretch in stretches if not is_silent(samples[stretch.start : stretch.end])]
    for number, stretch in enumerate(heard):
        yield Window(recording, stretch.start, samples[stretch.start : stretch.end], first=number == 0)


def halves(window: Window) -> Iterator[Window]:
    """The two parts of a window of more than 0.3 s, cut where its middle third is quietest; neither where it is silent."""
    third = len(window.samples) // 3
    middle = third + quietest_spot(window.samples[third : 2 * third])
    for start, samples in ((0, window.samples[:middle]), (middle, window.samples[middle:])):
        if not is_silent(samples):
            yield Window(window.recording, window.start + start, samples, first=False)


def cover(speech: Sequence[Stretch], samples: Audio, *, longest: int) -> list[Stretch]:
    """Windows of at most ``longest`` samples that together hold all of ``speech``, in order and apart.

    They begin and end in a pause, 0.4 s from the speech or in the middle of the pause if it is shorter than 0.8 s; only
    speech that goes on for longer than a window is cut where it is quietest.
    """
    return [window for run in _runs(speech) for window in _windows(run, samples, longest)]


def _runs(speech: Sequence[Stretch]) -> list[list[Stretch]]:
    """``speech`` split at its long pauses."""
    runs = [[stretch] for stretch in speech[:1]]
    for before, after in pairwise(speech):
        if after.start - before.end > _LONGEST_PAUSE:
            runs.append([])
        runs[-1].append(after)
    return runs


def _windows(run: Sequence[Stretch], samples: Audio, longest: int) -> Iterator[Stretch]:
    start, end = max(0, run[0].start - _PADDING), min(len(samples), run[-1].end + _PADDING)
    while end - start > longest:
        before, after = _cut(run, start, samples, longest)
        yield Stretch(start, before)
        start = after
    yield Stretch(start, end)


def _cut(run: Sequence[Stretch], start: int, samples: Audio, longest: int) -> tuple[int, int]:
    """Where a window from ``start`` ends, and where the next one begins."""
    limit = start + longest
    late = limit - longest // _SEARCHED_SHARE
    pauses = [(before, after) for before, after in pairwise(run) if before.end > start and _edges(before, after)[0] <= limit]
    if pauses:
        found = [pause for pause in pauses if pause[0].end > late] or pauses
        return _edges(*max(found, key=lambda pause: pause[1].start - pause[0].end))
    spot = late + quietest_spot(samples[late:limit])
    return spot, spot


def _edges(before: Stretch, after: Stretch) -> tuple[int, int]:
    middle = (before.end + after.start) // 2
    return min(before.end + _PADDING, middle), max(after.start - _PADDING, middle)
