"""Ask an engine for the transcripts of a few recordings, and count what was heard."""

from __future__ import annotations

from collections.abc import Sequence

from avskrift.errors import EvaluationError
from avskrift.evaluation.word_alignment import aligned_words
from avskrift.text.normaliser import normalise
from avskrift.whisper.transcript import Audio, Options, Transcriber, Transcript


def listen(transcriber: Transcriber, recordings: Sequence[Audio], options: Options) -> list[Transcript]:
    """One transcript for each recording, in order.

    Raises:
        EvaluationError: the engine did not answer once for every recording.
        LanguageError: the model does not know the language.
    """
    heard = transcriber.transcribe(recordings, options)
    if len(heard) != len(recordings):
        raise EvaluationError(f"the engine gave {len(heard)} transcripts for {len(recordings)} recordings; this is a bug of the engine")
    return heard


def words(text: str, language: str) -> list[str]:
    """The words of a text, normalised."""
    return normalise(text, language).split()


def word_errors(reference: str, hypothesis: str, language: str) -> int:
    """Substitutions, deletions and insertions, both sides normalised."""
    aligned = aligned_words(words(reference, language), words(hypothesis, language))
    return sum(kind != "equal" for kind, _, _ in aligned)
