"""Error rates of the clips that share something, so that no average hides those for whom a model is worse."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence

from avskrift.evaluation.bootstrap import compare_rates, group_clips
from avskrift.evaluation.error_rates import ErrorCounts
from avskrift.evaluation.references import Reference
from avskrift.evaluation.result import Slice

UNKNOWN = "unknown"
LEAST_CLIPS = 10  # of a slice that may be named the worst: a rate over fewer is chance
_EDGES_S = (2.0, 4.0, 6.0, 10.0, 20.0, 30.0)
_DURATIONS = ("under 2 s", "2 to 4 s", "4 to 6 s", "6 to 10 s", "10 to 20 s", "20 to 30 s", "over 30 s")

Words = Sequence[ErrorCounts]


def measure_slices(references: Sequence[Reference], candidate: Words, baseline: Words) -> tuple[Slice, ...]:
    """The slices by duration, gender, age and source, with the word errors of both models, clip by clip.

    Left out are slices without a word in their references and, of gender, age and source, what has one value in the whole
    split. Speakers are resampled where a slice has enough of them, whatever the whole split has.
    """
    return tuple(
        _slice(kind, name, places, references, candidate, baseline)
        for kind, value_of in _KINDS.items()
        for name, places in _places(kind, [value_of(reference) for reference in references])
        if any(candidate[place].reference_units for place in places)
    )


def worst_slice(slices: Sequence[Slice]) -> tuple[str, str] | None:
    """Kind and name of the slice with the candidate's highest WER, of those with at least 10 clips; None where there is none."""
    large = [one for one in slices if one.clips >= LEAST_CLIPS]
    if not large:
        return None
    worst = max(large, key=lambda one: one.candidate.value)
    return worst.kind, worst.name


def _places(kind: str, values: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Each value, in a reader's order, and where it stands."""
    found = set(values)
    if len(found) == 1 and kind != _DURATION:  # it would say once more what the whole split says
        return
    for name in sorted(found, key=_DURATIONS.index if kind == _DURATION else _unknown_last):
        yield name, [place for place, value in enumerate(values) if value == name]


def _unknown_last(name: str) -> tuple[bool, str]:
    return name == UNKNOWN, name


def _slice(kind: str, name: str, places: Sequence[int], references: Sequence[Reference], candidate: Words, baseline: Words) -> Slice:
    grouping = group_clips([references[place].speaker_id for place in places])
    units = [candidate[place].reference_units for place in places]
    compared = compare_rates([candidate[place].errors for place in places], [baseline[place].errors for place in places], units, grouping)
    return Slice(
        kind=kind,
        name=name,
        clips=len(places),
        speakers=grouping.speakers,
        reference_words=sum(units),
        candidate=compared.candidate,
        baseline=compared.baseline,
        difference=compared.difference,
    )


def _duration(reference: Reference) -> str:
    """Each stretch holds its lower end; 30 s, the most that a window holds, is not yet over 30 s."""
    return _DURATIONS[-2] if reference.duration_s == _EDGES_S[-1] else _DURATIONS[bisect_right(_EDGES_S, reference.duration_s)]


_DURATION = "duration"
_KINDS: Mapping[str, Callable[[Reference], str]] = {
    _DURATION: _duration,
    "gender": lambda reference: reference.gender or UNKNOWN,
    "age": lambda reference: reference.age or UNKNOWN,
    "source": lambda reference: reference.source or UNKNOWN,
}
