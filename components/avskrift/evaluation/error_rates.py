"""Word and character errors of hypotheses against references, counted on normalised text unless said otherwise.

Corpus rates are all errors over all reference units, never a mean of per-clip rates: a clip of two words must not weigh
as much as one of forty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jiwer

from avskrift.errors import EvaluationError
from avskrift.text.languages import UNSPACED
from avskrift.text.normaliser import normalise, split_letters


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorCounts:
    """The edits of one minimal (Levenshtein) alignment, in words or in characters."""

    hits: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_units(self) -> int:
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float | None:
        """Errors over reference units; may exceed 1. None where the reference is empty and a rate has no meaning."""
        return self.errors / self.reference_units if self.reference_units else None

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            hits=self.hits + other.hits,
            substitutions=self.substitutions + other.substitutions,
            deletions=self.deletions + other.deletions,
            insertions=self.insertions + other.insertions,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipErrors:
    """What one hypothesis got wrong."""

    words: ErrorCounts
    characters: ErrorCounts


NO_ERRORS = ErrorCounts(hits=0, substitutions=0, deletions=0, insertions=0)


def count_clip_errors(reference: str, hypothesis: str, language: str) -> ClipErrors:
    """Count the errors of one hypothesis, both sides normalised for ``language`` first.

    Words are what whitespace separates. Characters are Unicode code points, the single space between two words
    included, since splitting or joining words is an error that a reader sees; runs of whitespace count as one space and
    leading and trailing whitespace as none, on both sides alike. A reference that normalises to nothing has no units:
    all that the hypothesis says over it counts as insertions.

    In a language that is written without spaces a word is a letter with its marks, and spaces are no characters.
    """
    return count_text_errors(normalise(reference, language), normalise(hypothesis, language), language)


def count_text_errors(reference: str, hypothesis: str, language: str = "") -> ClipErrors:
    """Count as :func:`count_clip_errors` does, in texts that are compared as they are."""
    expected, said = (" ".join(text.split()) for text in (reference, hypothesis))
    if language in UNSPACED:
        words = jiwer.process_words(split_letters(expected), split_letters(said))
        characters = jiwer.process_characters(expected.replace(" ", ""), said.replace(" ", ""))
    else:
        words, characters = jiwer.process_words(expected, said), jiwer.process_characters(expected, said)
    return ClipErrors(words=_counts(words), characters=_counts(characters))


def count_errors(references: Sequence[str], hypotheses: Sequence[str], language: str) -> list[ClipErrors]:
    """Count the errors of each hypothesis against its reference, in order.

    Raises:
        EvaluationError: not one hypothesis for each reference.
    """
    if len(references) != len(hypotheses):
        raise EvaluationError(f"{len(references)} references but {len(hypotheses)} hypotheses; a clip that was skipped was not measured")
    return [count_clip_errors(reference, hypothesis, language) for reference, hypothesis in zip(references, hypotheses, strict=True)]


def total(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    """The sum over clips."""
    return sum(counts, start=NO_ERRORS)


def corpus_rate(counts: Iterable[ErrorCounts]) -> float:
    """All errors over all reference units.

    Raises:
        EvaluationError: there is no reference unit at all. (A rate of 0 there would make an empty test set look perfect.)
    """
    rate = total(counts).rate
    if rate is None:
        raise EvaluationError(
            "the references hold no words once normalised, so no error rate can be computed; use a split with transcripts"
        )
    return rate


def _counts(output: jiwer.WordOutput | jiwer.CharacterOutput) -> ErrorCounts:
    return ErrorCounts(
        hits=output.hits,
        substitutions=output.substitutions,
        deletions=output.deletions,
        insertions=output.insertions,
    )
