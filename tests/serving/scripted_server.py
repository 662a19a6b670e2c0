"""The real model server with a scripted engine at its edge: ``python scripted_server.py --package DIR --port N``.

What the engine answers hangs on the recording's length alone, so that a test chooses the answer by what it sends.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from avskrift.errors import LanguageError
from avskrift.serving.__main__ import leave, main
from avskrift.serving.settings import Settings
from avskrift.whisper.package import ModelPackage
from avskrift.whisper.transcript import Audio, LanguageGuess, Options, Segment, Transcript, Word
from avskrift.whisper.windows import Kind, Window, WindowText

SPOKEN = "Kanariefågeln sjöng & teg <tyst>."
TRANSLATED = "The canary sang & was quiet."
SILENT_SECONDS = 2.0  # nothing was said
BREAKING_SECONDS = 3.0  # the engine fails, and its exception quotes the transcript
HANGING_SECONDS = 4.0  # the engine does not answer before the file HANG_FOLDER/released exists
CUT_HANGING_SECONDS = 12.0  # as above, before there are windows
DRAGGING_SECONDS = 2.25  # the engine takes half as long as the recording
HANG_FOLDER = "TEST_HANG_FOLDER"


class ScriptedTranscriber:
    """A :class:`avskrift.whisper.windows.WindowTranscriber` without a model."""

    languages = frozenset({"sv", "en"})

    def identity(self) -> str:
        return "scripted"

    def check(self, options: Options) -> None:
        if options.language and options.language not in self.languages:
            raise LanguageError(f"the model does not know {options.language!r}; use sv or en")

    def windows(self, samples: Audio) -> list[Window]:
        if len(samples) / 16_000 == CUT_HANGING_SECONDS:
            _hang(Path(os.environ[HANG_FOLDER]))
        return [Window(0, 0, samples, first=True)]

    def kind(self, window: Window, options: Options) -> Kind:
        return Kind(frames=max(2, len(window.samples) // 160), room=1, timed=options.timestamps != "none", at_once=16)

    def read(self, windows: Sequence[Window], options: Options, languages: Sequence[str | None]) -> list[WindowText]:
        assert len({self.kind(window, options) for window in windows}) == 1, "windows of several kinds were put together"
        return [self._one(window.samples, options, language) for window, language in zip(windows, languages, strict=True)]

    def transcribe(self, recordings: Sequence[Audio], options: Options) -> list[Transcript]:
        return [Transcript(text="", language="sv", duration_s=1.0) for _ in recordings]

    def _one(self, samples: Audio, options: Options, language: str | None) -> WindowText:
        assert samples.dtype == np.float32
        seconds = len(samples) / 16_000
        if seconds == BREAKING_SECONDS:
            raise RuntimeError(f"the engine failed on {SPOKEN!r}")
        if seconds == HANGING_SECONDS:
            _hang(Path(os.environ[HANG_FOLDER]))
        if seconds == DRAGGING_SECONDS:
            time.sleep(seconds / 2)
        spoken = TRANSLATED if options.task == "translate" else SPOKEN
        said = "" if seconds == SILENT_SECONDS else f"{options.prompt or ''}{spoken}"
        guesses = () if language else (LanguageGuess(language="sv", probability=0.75),)
        return WindowText(segments=_segments(seconds, said, options) if said else (), languages=guesses)


def open_scripted(package: ModelPackage, settings: Settings) -> ScriptedTranscriber:
    return ScriptedTranscriber()


def _segments(seconds: float, text: str, options: Options) -> tuple[Segment, ...]:
    if options.timestamps == "none":
        return (Segment(start_s=0.0, end_s=seconds, text=text, avg_logprob=-0.25, no_speech_prob=0.01),)
    middle, space = seconds / 2, text.index(" ", 10)
    halves = ((0.0, middle + 0.1, text[:space]), (middle, seconds + 1.0, text[space + 1 :]))  # they overlap, and outlast the recording
    return tuple(
        Segment(start_s=start, end_s=end, text=part, avg_logprob=-0.25, no_speech_prob=0.01, words=_words(start, end, part, options))
        for start, end, part in halves
    )


def _words(start: float, end: float, text: str, options: Options) -> tuple[Word, ...]:
    """Words of equal length, where they were asked for."""
    said = text.split() if options.timestamps == "word" else []
    step = (end - start) / max(1, len(said))
    return tuple(
        Word(start_s=start + number * step, end_s=start + (number + 1) * step, text=word, probability=0.5)
        for number, word in enumerate(said)
    )


def _hang(folder: Path) -> None:
    (folder / "started").touch()
    while not (folder / "released").exists():
        time.sleep(0.01)


if __name__ == "__main__":
    leave(main(sys.argv[1:], open_transcriber=open_scripted))
