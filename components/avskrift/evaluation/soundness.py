"""Which figures of an evaluation cannot be right, whatever wrote them.

An evaluation may come from a file, and JSON readers accept NaN, text where a number belongs, and ``true`` for 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TypeGuard

from avskrift.evaluation.result import (
    NORMALISED,
    PROTOCOLS,
    UTTERANCE_MEAN,
    Difference,
    ErrorRates,
    Estimate,
    Evaluation,
    Hallucination,
    LongForm,
    ModelScore,
    Retention,
    ShortContext,
    Slice,
    Speed,
)

ERROR_COUNTS = ("substitutions", "deletions", "insertions")
_TOLERANCE = 1e-6  # between a rate and the counts that it was computed from
_SHA256 = re.compile(r"[0-9a-f]{64}")


def unsound_figures(evaluation: Evaluation) -> Iterator[str]:
    """Name every figure that is missing, not a finite number, out of its range, or at odds with another one.

    What was not measured, and stands as None, is sound. A part of another kind altogether is named as a whole.
    """
    yield from _unsound_totals(evaluation)
    for name, score in _models(evaluation):
        yield from _named(name, _unsound_score(name, score, evaluation))
    yield from _named("wer_difference", _unsound_comparison(evaluation))
    yield from _named("slices", _unsound_slices(evaluation))
    if evaluation.retention is not None:
        yield from _named("retention", _unsound_retention(evaluation.retention))


def number(figure: object) -> float:
    """``figure`` as a finite float, or NaN: with which every comparison says no."""
    if isinstance(figure, bool) or not isinstance(figure, (int, float)):
        return math.nan
    try:
        return float(figure) if math.isfinite(figure) else math.nan
    except OverflowError:  # an integer beyond the largest float
        return math.nan


def integer(figure: object) -> int | None:
    """``figure`` where it is a whole number, else None. True is no number."""
    return figure if isinstance(figure, int) and not isinstance(figure, bool) else None


def is_sha256(digest: object) -> TypeGuard[str]:
    """Whether ``digest`` is a sha256 in lower-case hex."""
    return isinstance(digest, str) and _SHA256.fullmatch(digest) is not None


def close(left: float, right: float) -> bool:
    """Whether two figures that were computed in different ways are the same. NaN is close to nothing."""
    return abs(left - right) <= _TOLERANCE


def _models(evaluation: Evaluation) -> list[tuple[str, ModelScore]]:
    others = [(f"others.{place}", score) for place, score in enumerate(evaluation.others)]
    return [("candidate", evaluation.candidate), ("baseline", evaluation.baseline), *others]


def _named(part: str, figures: Iterator[str]) -> Iterator[str]:
    """The figures; the part itself where something in it is of another kind, so that they cannot be looked at."""
    try:
        yield from figures
    except (AttributeError, KeyError, TypeError, ValueError):
        yield part


def _unsound_totals(evaluation: Evaluation) -> Iterator[str]:
    if not _count(evaluation.clips) >= 1:
        yield "clips"
    if not number(evaluation.hours) > 0:
        yield "hours"
    if not 0 <= _count(evaluation.speakers) <= _count(evaluation.clips):
        yield "speakers"


def _unsound_score(name: str, score: ModelScore, evaluation: Evaluation) -> Iterator[str]:
    if not is_sha256(score.package_sha256):
        yield f"{name}.package_sha256"
    if _count(score.hypotheses) != _count(evaluation.clips):
        yield f"{name}.hypotheses"
    if not 0 <= _count(score.looped) <= _count(score.hypotheses):
        yield f"{name}.looped"
    for protocol in sorted({*PROTOCOLS, *score.rates}):
        part = f"{name}.rates.{protocol}"
        reference = evaluation.baseline.rates[protocol].reference_words
        yield from _named(part, _unsound_rates(part, score.rates[protocol], mean=protocol == UTTERANCE_MEAN, reference_words=reference))
    yield from _named(f"{name}.speed", _unsound_speed(f"{name}.speed", score.speed))
    if score.hallucination is not None:
        yield from _named(f"{name}.hallucination", _unsound_hallucination(f"{name}.hallucination", score.hallucination))
    if score.long_form is not None:
        yield from _named(f"{name}.long_form", _unsound_long_form(f"{name}.long_form", score.long_form))
    if score.short_context is not None:
        yield from _named(f"{name}.short_context", _unsound_short_context(f"{name}.short_context", score.short_context))


def _unsound_rates(name: str, rates: ErrorRates, *, mean: bool, reference_words: object) -> Iterator[str]:
    yield from _unsound_estimate(f"{name}.wer", rates.wer)
    yield from _unsound_estimate(f"{name}.cer", rates.cer)
    for count in ERROR_COUNTS:
        if not _count(getattr(rates, count)) >= 0:
            yield f"{name}.{count}"
    words = _count(rates.reference_words)
    if not words >= 1:
        yield f"{name}.reference_words"
    if words != _count(reference_words):
        yield f"{name}.reference_words against the baseline's"
    errors = sum(_count(getattr(rates, count)) for count in ERROR_COUNTS)
    if not mean and not close(number(rates.wer.value) * words, errors):
        yield f"{name}.wer against its counts"


def _unsound_speed(name: str, speed: Speed) -> Iterator[str]:
    if not number(speed.audio_seconds_per_second) >= 0:
        yield f"{name}.audio_seconds_per_second"
    if not 0 <= number(speed.latency_p50_s) <= number(speed.latency_p95_s):
        yield f"{name}.latency"
    if not _count(speed.latency_clips) >= 0:
        yield f"{name}.latency_clips"


def _unsound_hallucination(name: str, heard: Hallucination) -> Iterator[str]:
    yield from _unsound_estimate(f"{name}.words_a_minute", heard.words_a_minute)
    minutes = sum(number(sound.seconds) for sound in heard.sounds) / 60
    if not close(number(heard.words_a_minute.value) * minutes, sum(_count(sound.words) for sound in heard.sounds)):
        yield f"{name}.words_a_minute against its sounds"
    if not heard.sounds:
        yield f"{name}.sounds"
    for place, sound in enumerate(heard.sounds):
        if not (
            _count(sound.recordings) >= 1
            and number(sound.seconds) > 0
            and _count(sound.words) >= 0
            and 0 <= _count(sound.looped) <= _count(sound.recordings)
        ):
            yield f"{name}.sounds.{place}"


def _unsound_long_form(name: str, joined: LongForm) -> Iterator[str]:
    yield from _unsound_pair(name, joined, "wer", "wer_alone", "loss")
    if not (_count(joined.recordings) >= 1 and _count(joined.clips) >= 1):
        yield f"{name}.clips"
    if not number(joined.seconds) > 0:
        yield f"{name}.seconds"
    if not 0 <= number(joined.clips_found) <= 1:
        yield f"{name}.clips_found"
    if not number(joined.timestamp_error_s) >= 0:
        yield f"{name}.timestamp_error_s"


def _unsound_short_context(name: str, short: ShortContext) -> Iterator[str]:
    yield from _unsound_pair(name, short, "wer", "wer_full", "loss")
    if not _count(short.clips) >= 1:
        yield f"{name}.clips"


def _unsound_retention(retention: Retention) -> Iterator[str]:
    yield from _unsound_pair("retention", retention, "candidate", "base", "loss")
    if not _count(retention.clips) >= 1:
        yield "retention.clips"
    if not is_sha256(retention.base_sha256):
        yield "retention.base_sha256"


def _unsound_comparison(evaluation: Evaluation) -> Iterator[str]:
    yield from _unsound_difference("wer_difference", evaluation.wer_difference)
    if not _is_difference(evaluation.wer_difference, _wer(evaluation.candidate), _wer(evaluation.baseline)):
        yield "wer_difference against the two WERs"


def _wer(score: ModelScore) -> Estimate:
    return score.rates[NORMALISED].wer


def _unsound_slices(evaluation: Evaluation) -> Iterator[str]:
    for place, one in enumerate(evaluation.slices):
        yield from _named(f"slices.{place}", _unsound_slice(f"slices.{place}", one, evaluation))
    if evaluation.worst_slice is not None and evaluation.worst_slice not in [(one.kind, one.name) for one in evaluation.slices]:
        yield "worst_slice"


def _unsound_slice(name: str, one: Slice, evaluation: Evaluation) -> Iterator[str]:
    yield from _unsound_pair(name, one, "candidate", "baseline", "difference")
    if not 1 <= _count(one.clips) <= _count(evaluation.clips):
        yield f"{name}.clips"
    if not 0 <= _count(one.speakers) <= _count(evaluation.speakers):
        yield f"{name}.speakers"
    if not _count(one.reference_words) >= 1:
        yield f"{name}.reference_words"


def _unsound_pair(name: str, part: object, first: str, second: str, difference: str) -> Iterator[str]:
    """Two rates of a part by their fields' names, and their difference."""
    for rate in (first, second):
        yield from _unsound_estimate(f"{name}.{rate}", getattr(part, rate))
    yield from _unsound_difference(f"{name}.{difference}", getattr(part, difference))
    if not _is_difference(getattr(part, difference), getattr(part, first), getattr(part, second)):
        yield f"{name}.{difference} against {first} and {second}"


def _unsound_estimate(name: str, estimate: Estimate) -> Iterator[str]:
    if not 0 <= number(estimate.low) <= number(estimate.value) <= number(estimate.high):
        yield name


def _unsound_difference(name: str, difference: Difference) -> Iterator[str]:
    if not number(difference.low) <= number(difference.value) <= number(difference.high):
        yield name
    if not 0 <= number(difference.wins) <= 1:
        yield f"{name}.wins"


def _is_difference(difference: Difference, first: Estimate, second: Estimate) -> bool:
    return close(number(difference.value), number(first.value) - number(second.value))


def _count(figure: object) -> float:
    """A whole number, or NaN: with which every comparison says no."""
    return number(integer(figure))
