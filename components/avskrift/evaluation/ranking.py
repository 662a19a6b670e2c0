"""Several packages that were measured on the same clips, the best first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from avskrift.errors import EvaluationError
from avskrift.evaluation.bootstrap import group_clips, paired_difference
from avskrift.evaluation.clip_results import ClipResult
from avskrift.evaluation.result import Difference, Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A measured package under the name that people know it by."""

    name: str
    evaluation: Evaluation
    clips: Sequence[ClipResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a contender came. ``behind`` is its WER minus the best one's, with its interval; None for the best itself."""

    contender: Contender
    behind: Difference | None

    @property
    def could_be_best(self) -> bool:
        """Whether the distance to the best may be chance."""
        return self.behind is None or self.behind.low <= 0


def rank(contenders: Sequence[Contender]) -> list[Place]:
    """By the candidate's WER, then its CER, then the order given. Each is compared with the best on the same resampled speakers.

    Raises:
        EvaluationError: there is none, or they were not measured on the same clips of the same dataset in the same way.
    """
    if not contenders:
        raise EvaluationError("no trial was measured, so there is none to pick; look at why the trials failed")
    _refuse_different_tests(contenders)
    best, *others = sorted(contenders, key=lambda one: (one.evaluation.candidate.wer.value, one.evaluation.candidate.cer.value))
    return [Place(contender=best, behind=None), *(Place(contender=one, behind=_behind(one, best)) for one in others)]


def _behind(contender: Contender, best: Contender) -> Difference:
    of_best = {clip.clip_id: clip.candidate_errors for clip in best.clips}
    return paired_difference(
        [clip.candidate_errors for clip in contender.clips],
        [of_best[clip.clip_id] for clip in contender.clips],
        [clip.reference_words for clip in contender.clips],
        group_clips([clip.speaker_id for clip in contender.clips]),
    )


def _refuse_different_tests(contenders: Sequence[Contender]) -> None:
    for one, other in pairwise(contenders):
        asked = [(of.dataset_fingerprint, of.split, of.language, of.normaliser, of.clips) for of in (one.evaluation, other.evaluation)]
        if asked[0] != asked[1] or {clip.clip_id for clip in one.clips} != {clip.clip_id for clip in other.clips}:
            raise EvaluationError(f"{one.name} and {other.name} were not measured on the same clips; measure them again on one dataset")
