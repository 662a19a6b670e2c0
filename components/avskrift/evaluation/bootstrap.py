"""Intervals for corpus error rates: a bootstrap over the groups of clips that vary together.

Clips of one speaker share an accent, a microphone and a room, so clips drawn one by one would promise intervals that
are too narrow. Whole speakers are drawn instead, and clips only where speakers are unknown or too few to stand for any
others. Method: Bisani and Ney, *Bootstrap estimates for confidence intervals in ASR performance evaluation* (ICASSP
2004), with percentile intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from avskrift.errors import EvaluationError
from avskrift.evaluation.result import Difference, Estimate

RESAMPLES = 10_000
CONFIDENCE = 0.95
MIN_SPEAKERS = 10  # fewer known speakers than this say next to nothing about the speakers who were not recorded
SEED = 20_221_206
_DRAWS_AT_ONCE = 1 << 18  # group indices in memory at a time: 2 MB, and three times as much that is made of them

Unit = Literal["speakers", "clips"]
Counts = Sequence[float]  # one figure a clip
Figures = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """Which clips are drawn together: ``index[clip]`` is the clip's group, counted from 0."""

    unit: Unit
    index: npt.NDArray[np.intp]
    groups: int
    speakers: int  # distinct known ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What a corpus rate is made of, clip by clip: ``sum(errors) / sum(units)``."""

    errors: Counts
    units: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two systems over the same references; ``difference`` is candidate minus baseline."""

    candidate: Estimate
    baseline: Estimate
    difference: Difference


def group_clips(speaker_ids: Sequence[str], *, min_speakers: int = MIN_SPEAKERS) -> Grouping:
    """Group clips by speaker, or each for itself when fewer than ``min_speakers`` distinct speakers are known.

    "" is an unknown speaker; where clips are grouped by speaker, such a clip stands for itself.
    """
    speakers = len({speaker for speaker in speaker_ids if speaker})
    if speakers < min_speakers:
        return Grouping(unit="clips", index=np.arange(len(speaker_ids)), groups=len(speaker_ids), speakers=speakers)
    keys = [(speaker, -1) if speaker else ("", clip) for clip, speaker in enumerate(speaker_ids)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    index = np.array([numbers[key] for key in keys], dtype=np.intp)
    return Grouping(unit="speakers", index=index, groups=len(numbers), speakers=speakers)


def ratio_interval(
    errors: Counts,
    units: Counts,
    grouping: Grouping,
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = SEED,
) -> Estimate:
    """The corpus rate ``sum(errors) / sum(units)`` over clips, with its percentile interval over resampled groups.

    The interval is widened to the estimate itself in the rare case that the percentiles miss it. The same arguments
    give the same figures.

    Raises:
        EvaluationError: no clips, no reference units, or a figure that is negative or not finite.
    """
    (interval,) = ratio_intervals([Rate(errors=errors, units=units)], grouping, resamples=resamples, confidence=confidence, seed=seed)
    return interval


def ratio_intervals(
    rates: Sequence[Rate],
    grouping: Grouping,
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = SEED,
) -> list[Estimate]:
    """:func:`ratio_interval` of each rate, all from the same resamples: drawing them costs most of the time.

    Raises:
        EvaluationError: as there, for any of the rates.
    """
    totals = [_group_totals([rate.errors, rate.units], grouping) for rate in rates]
    resampled = _resampled_totals(np.concatenate(totals), resamples, seed)
    return [
        Estimate(**_interval(errors, units, _rates(drawn_errors, drawn_units), confidence))
        for (errors, units), drawn_errors, drawn_units in zip(totals, resampled[0::2], resampled[1::2], strict=True)
    ]


def paired_difference(
    candidate_errors: Counts,
    baseline_errors: Counts,
    units: Counts,
    grouping: Grouping,
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = SEED,
) -> Difference:
    """Candidate's corpus rate minus baseline's, over the same references, with its percentile interval.

    Each resample takes the same groups for both systems, so what makes a speaker hard for both cancels out. Below 0 the
    candidate is better; two systems with the same errors differ by exactly 0, [0, 0], and win half each.

    Raises:
        EvaluationError: no clips, no reference units, or a figure that is negative or not finite.
    """
    compared = compare_rates(candidate_errors, baseline_errors, units, grouping, resamples=resamples, confidence=confidence, seed=seed)
    return compared.difference


def compare_rates(
    candidate_errors: Counts,
    baseline_errors: Counts,
    units: Counts,
    grouping: Grouping,
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = SEED,
) -> Comparison:
    """Both rates as :func:`ratio_interval` gives them and their :func:`paired_difference`, from the same resamples.

    Raises:
        EvaluationError: no clips, no reference units, or a figure that is negative or not finite.
    """
    candidate, baseline, words = _group_totals([candidate_errors, baseline_errors, units], grouping)
    # Subtracted before they are summed, so that what is equal in every group stays equal in every resample.
    apart = candidate - baseline
    *resampled, resampled_words = _resampled_totals(np.stack([candidate, baseline, apart, words]), resamples, seed)
    first, second, between = (_rates(errors, resampled_words) for errors in resampled)
    return Comparison(
        candidate=Estimate(**_interval(candidate, words, first, confidence)),
        baseline=Estimate(**_interval(baseline, words, second, confidence)),
        difference=Difference(**_interval(apart, words, between, confidence), wins=float(np.mean(between < 0) + np.mean(between == 0) / 2)),
    )


def _group_totals(columns: Sequence[Counts], grouping: Grouping) -> Figures:
    """Sums over each group's clips, shape (columns, groups); the last column holds the units."""
    if grouping.groups == 0 or any(len(column) != len(grouping.index) for column in columns):
        raise EvaluationError(
            f"{len(grouping.index)} clips cannot be resampled with {len(columns[0])} results; measure every clip, and one at least"
        )
    values = np.asarray(columns, dtype=np.float64)
    if not np.all(np.isfinite(values) & (values >= 0)):
        raise EvaluationError("an error count is negative or not a number, so the test set cannot be resampled; evaluate the package again")
    totals: Figures = np.stack(
        [np.bincount(grouping.index, weights=column, minlength=grouping.groups) for column in values], dtype=np.float64
    )
    if totals[-1].sum() == 0:
        raise EvaluationError(
            "the references hold no words once normalised, so no error rate can be computed; use a split with transcripts"
        )
    return totals


def _resampled_totals(totals: Figures, resamples: int, seed: int) -> Figures:
    """Sums over ``resamples`` draws of as many groups as there are, with replacement; shape (columns, resamples).

    How often each group was drawn is counted once, and serves all columns. Drawn in slices, so that memory does not grow
    with the test set and stays within a processor's cache; a slice continues the generator's stream, so the slicing
    does not change which groups are drawn.
    """
    columns, groups = totals.shape
    generator = np.random.default_rng(seed)
    sums = np.empty((columns, resamples), dtype=np.float64)
    rows = max(1, _DRAWS_AT_ONCE // groups)
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        drawn = generator.integers(0, groups, size=(stop - start, groups))
        drawn += groups * np.arange(stop - start)[:, None]  # each resample counts in bins of its own
        counts = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)
        # Not `@`: for a product of this shape BLAS starts threads that wait for each other, ten times as long on a busy machine.
        np.einsum("rg,cg->cr", counts, totals, out=sums[:, start:stop])
    return sums


def _rates(resampled: Figures, units: Figures) -> Figures:
    """The rate of each resample that has one."""
    # A draw of nothing but clips without words has none. At least 63 draws in 100 (1 - 1/e) hold a group with words.
    kept = units > 0
    if not kept.any():
        raise EvaluationError(f"none of {len(kept)} resamples holds a reference word; ask for {RESAMPLES} of them")
    rates: Figures = resampled[kept] / units[kept]
    return rates


def _interval(errors: Figures, units: Figures, rates: Figures, confidence: float) -> dict[str, float]:
    """The rate itself as ``value``, and the percentiles of the resampled ones as ``low`` and ``high`` around it."""
    value = float(errors.sum() / units.sum())
    tail = 50 * (1 - confidence)
    low, high = np.percentile(rates, [tail, 100 - tail])
    return {"value": value, "low": min(value, float(low)), "high": max(value, float(high))}
