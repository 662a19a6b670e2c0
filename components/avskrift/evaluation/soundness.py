"""Which figures of an evaluation cannot be right, whatever wrote them.

An evaluation may come from a file, and JSON readers accept NaN, text where a number belongs, and ``true`` for 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TypeGuard

from avskrift.evaluation.result import Estimate, Evaluation, ModelScore

_TOLERANCE = 1e-6  # between a rate and the counts that it was computed from
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ERROR_COUNTS = ("substitutions", "deletions", "insertions")


def unsound_figures(evaluation: Evaluation) -> Iterator[str]:
    """Name every figure that is missing, not a finite number, out of its range, or at odds with another one."""
    yield from _unsound_score("candidate", evaluation.candidate)
    yield from _unsound_score("baseline", evaluation.baseline)
    yield from _unsound_estimate("wer_difference", evaluation.wer_difference, least=-math.inf)
    if not number(evaluation.hours) > 0:
        yield "hours"
    speakers = integer(evaluation.speakers)
    if speakers is None or speakers < 0:
        yield "speakers"
    words = integer(evaluation.candidate.reference_words)
    if words is None or words != integer(evaluation.baseline.reference_words):
        yield "reference_words of candidate against baseline"
    difference = number(evaluation.candidate.wer.value) - number(evaluation.baseline.wer.value)
    if not _close(number(evaluation.wer_difference.value), difference):
        yield "wer_difference against the two WERs"


def number(figure: object) -> float:
    """``figure`` as a finite float, or NaN: with which every comparison says no."""
    if isinstance(figure, bool) or not isinstance(figure, (int, float)):
        return math.nan
    try:
        return float(figure) if math.isfinite(figure) else math.nan
    except OverflowError:  # an integer beyond the largest float
        return math.nan


def integer(figure: object) -> int | None:
    """``figure`` where it is a whole number of a size that a count can have, else None. True is no number."""
    if isinstance(figure, bool) or not isinstance(figure, int):
        return None
    return figure if abs(figure) < 1 << 63 else None


def is_sha256(digest: object) -> TypeGuard[str]:
    """Whether ``digest`` is a sha256 in lower-case hex."""
    return isinstance(digest, str) and _SHA256.fullmatch(digest) is not None


def _unsound_score(model: str, score: ModelScore) -> Iterator[str]:
    yield from _unsound_estimate(f"{model}.wer", score.wer, least=0)
    yield from _unsound_estimate(f"{model}.cer", score.cer, least=0)
    if not is_sha256(score.package_sha256):
        yield f"{model}.package_sha256"
    if not number(score.audio_seconds_per_second) >= 0:
        yield f"{model}.audio_seconds_per_second"
    for name in (*_ERROR_COUNTS, "hypotheses"):
        if not number(integer(getattr(score, name))) >= 0:
            yield f"{model}.{name}"
    words = integer(score.reference_words)
    if words is None or words < 1:
        yield f"{model}.reference_words"
    else:
        errors = sum(number(getattr(score, name)) for name in _ERROR_COUNTS)
        if not _close(number(score.wer.value), errors / words):
            yield f"{model}.wer against its counts"


def _unsound_estimate(name: str, estimate: Estimate, *, least: float) -> Iterator[str]:
    if not least <= number(estimate.low) <= number(estimate.value) <= number(estimate.high):
        yield name


def _close(left: float, right: float) -> bool:
    return abs(left - right) <= _TOLERANCE
