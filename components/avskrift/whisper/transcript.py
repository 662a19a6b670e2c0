"""What a transcription is: plain values, and the protocol of the engines that make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from avskrift.errors import UsageError

Task = Literal["transcribe", "translate"]
Timestamps = Literal["none", "segment", "word"]
Audio = npt.NDArray[np.float32]  # shape (samples,), 16 kHz mono, in [-1, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A word with the punctuation that clings to it. Times are seconds from the recording's start."""

    start_s: float
    end_s: float
    text: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of a recording and what was said in it. Times are seconds from the recording's start.

    ``avg_logprob`` is the mean log-probability of the tokens of the window that it was decoded in, ``no_speech_prob`` the
    model's probability that nobody speaks there. ``words`` is empty unless words were asked for.
    """

    start_s: float
    end_s: float
    text: str
    avg_logprob: float
    no_speech_prob: float
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageGuess:
    """A language by Whisper's code, and the model's probability that the recording is in it."""

    language: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """The text of one recording. ``language_probability`` is 1.0 where the caller named the language.

    ``languages`` are the most probable ones, best first; empty where the caller named it or nobody speaks.
    """

    text: str
    language: str
    duration_s: float
    language_probability: float = 1.0
    languages: tuple[LanguageGuess, ...] = ()
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to transcribe.

    ``language`` None lets the model identify it; ``prompt`` is previous text to condition on. ``beam_size`` 1 is greedy.
    ``temperatures`` are tried in turn, while a text repeats itself or is improbable: 0 decodes by beam or greedily, and
    more samples; with a single one the first text stands, and only what repeats itself is decoded again.
    """

    language: str | None = None
    task: Task = "transcribe"
    timestamps: Timestamps = "none"
    prompt: str | None = None
    beam_size: int = 1
    temperatures: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        """Raises UsageError for a way to decode that there is not."""
        if self.beam_size < 1:
            raise UsageError(f"beam size {self.beam_size}: 1 decodes greedily, more by beam")
        if not self.temperatures or not all(temperature >= 0 for temperature in self.temperatures):
            raise UsageError(f"temperatures {self.temperatures}: give one at least, each 0 or more")


class Transcriber(Protocol):
    """A transcription engine: the same one for evaluation and for serving."""

    @property
    def languages(self) -> frozenset[str]:
        """Codes of the languages that the model knows."""

    def identity(self) -> str:
        """Engine, library, device and arithmetic: what must be equal for two figures to be comparable."""

    def transcribe(self, recordings: Sequence[Audio], options: Options) -> list[Transcript]:
        """Transcribe recordings of any length; one transcript each, in order.

        Raises:
            LanguageError: the model does not know ``options.language``.
        """
