"""Recordings that occur more than once: one is kept, unless what is said in them is told differently."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from avskrift.corpus.splits import OnOverlap, offence, overlap_error, own_split
from avskrift.corpus.staging import StagedClip
from avskrift.corpus.validation import Code

_PREFERRED = ("test", "validation", "train")


def refuse_duplicates(clips: Sequence[StagedClip], *, on_overlap: OnOverlap) -> dict[int, tuple[Code, str]]:
    """The clips to refuse, by their place in ``clips``, each with a code and a reason. ``clips`` are valid and sorted.

    Of clips with the same samples and the same normalised transcript one is kept: of a split that the source names before
    others, test before validation before train, then the first. Where transcripts differ, all of them are refused.

    Raises:
        OverlapError: the same recording is in two named splits, and ``on_overlap`` is fail.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, clip in enumerate(clips):
        places[clip.pcm_sha256].append(place)
    groups = [group for group in places.values() if len(group) > 1]
    if on_overlap == "fail":
        _refuse_overlaps(clips, groups)
    refused: dict[int, tuple[Code, str]] = {}
    for group in groups:
        refused |= _of_group(clips, group)
    return refused


def _of_group(clips: Sequence[StagedClip], group: Sequence[int]) -> dict[int, tuple[Code, str]]:
    if len({clips[place].sentence for place in group}) > 1:
        return {
            place: ("conflicting_transcripts", f"the same audio as {_other(clips, group, place)!r}, with another text") for place in group
        }
    kept = min(group, key=lambda place: (_preference(clips[place]), place))
    reason = f"the same audio as {clips[kept].location!r}"
    return {place: ("duplicate_audio", reason) for place in group if place != kept}


def _refuse_overlaps(clips: Sequence[StagedClip], groups: Iterable[Sequence[int]]) -> None:
    offences = []
    for group in groups:
        firm = [
            (own_split(clips[place].split), clips[place].location) for place in group if clips[place].split and not clips[place].gives_way
        ]
        if len({split for split, _ in firm} & set(_PREFERRED)) > 1:
            offences.append(offence("recording", [pair for pair in firm if pair[0] in _PREFERRED]))
    if offences:
        raise overlap_error(offences)


def _preference(clip: StagedClip) -> tuple[bool, bool, int]:
    ranks: Mapping[str, int] = {split: rank for rank, split in enumerate(_PREFERRED)}
    return (not clip.split, clip.gives_way, ranks.get(own_split(clip.split), len(ranks)))


def _other(clips: Sequence[StagedClip], group: Sequence[int], place: int) -> str:
    return next(clips[other].location for other in group if clips[other].sentence != clips[place].sentence)
