"""What a transcription is: plain values, and the protocol of the engines that make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Task = Literal["transcribe", "translate"]
Audio = npt.NDArray[np.float32]  # shape (samples,), 16 kHz mono, in [-1, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of a recording and what was said in it. Times are seconds from the recording's start."""

    start_s: float
    end_s: float
    text: str
    avg_logprob: float
    no_speech_prob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """The text of one recording. ``language_probability`` is 1.0 where the caller named the language."""

    text: str
    language: str
    duration_s: float
    language_probability: float = 1.0
    segments: tuple[Segment, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to transcribe. ``language`` None lets the model identify it; ``prompt`` is previous text to condition on."""

    language: str | None = None
    task: Task = "transcribe"
    timestamps: bool = False
    prompt: str | None = None
    beam_size: int = 1


class Transcriber(Protocol):
    """A transcription engine: the same one for evaluation and for serving."""

    @property
    def languages(self) -> frozenset[str]:
        """Codes of the languages that the model knows."""

    def transcribe(self, recordings: Sequence[Audio], options: Options) -> list[Transcript]:
        """Transcribe recordings of any length; one transcript each, in order.

        Raises:
            LanguageError: the model does not know ``options.language``.
        """
