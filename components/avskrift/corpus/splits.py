"""Which clip is for training, which for validation, which for the test.

Where a source names its splits, they are taken. Otherwise clips are drawn by group: all clips of a speaker go to one
split; where speakers are unknown, or there is only one, all clips of a sentence do. A group's place hangs on its
sha256 alone, so it stays where it is when the source grows: of [0, 1), the first tenth is test, the second validation.

A small source could leave a split empty that way. Then groups are ranked by their sha256 instead: the first tenth of
them (rounded, at least one group) is test, the next validation, the rest train.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from avskrift.corpus.dataset import SPLITS
from avskrift.corpus.validation import Code
from avskrift.errors import SourceError

SHARE = 0.1  # of the groups, for test and for validation each
_OTHER_NAMES = {
    "training": "train",
    "dev": "validation",
    "development": "validation",
    "valid": "validation",
    "val": "validation",
    "testing": "test",
}
_HELD_BACK_FOR: Mapping[str, Code] = {"test": "sentence_in_test", "validation": "sentence_in_validation"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What decides a clip's split. ``sentence`` is normalised; ``split`` is the source's own or ""; unknown speakers are ""."""

    clip_id: str
    split: str
    speaker_id: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """``splits`` and ``held_back`` are by clip id and disjoint; together they hold every clip.

    A clip is held back where its sentence is in a split that measures: in test, or for train in validation.
    Nothing is held back where the source names all splits.
    """

    splits: dict[str, str]
    held_back: dict[str, Code]


def assign(members: Sequence[Member]) -> Assignment:
    """Give every clip its split. The outcome does not hang on the order of ``members``.

    A split that the source names nowhere, while it names others, is drawn from its train split.

    Raises:
        SourceError: too few groups for three splits, a split left empty, or split names that cannot be used.
    """
    own = _own_splits(members)
    absent = [split for split in ("test", "validation") if split not in own.values()]
    drawn_from = [member for member in members if own[member.clip_id] == "train"] if own else members
    splits = own | (_draw(drawn_from, absent) if absent else {})
    held_back = _held_back(members, splits) if absent else {}
    kept = {clip_id: split for clip_id, split in splits.items() if clip_id not in held_back}
    for split in SPLITS:
        if split not in kept.values():
            raise SourceError(_why_empty(split, held_back))
    return Assignment(splits=kept, held_back=held_back)


def subset(members: Iterable[Member], splits: Mapping[str, str], clips: int) -> dict[str, str]:
    """A choice of ``clips`` clips with their splits, in the proportions of ``splits`` and with something of each.

    It hangs on the clip ids alone; a larger choice contains a smaller one.
    """
    pools: dict[str, list[str]] = {split: [] for split in SPLITS}
    for member in sorted(members, key=lambda member: sha256(member.clip_id.encode()).digest()):
        if member.clip_id in splits:
            pools[splits[member.clip_id]].append(member.clip_id)
    taken = dict.fromkeys(SPLITS, 0)
    for _ in range(min(clips, sum(map(len, pools.values())))):
        split = min((split for split in SPLITS if taken[split] < len(pools[split])), key=lambda split: taken[split] / len(pools[split]))
        taken[split] += 1
    return {clip_id: split for split in SPLITS for clip_id in pools[split][: taken[split]]}


def in_several_splits(values: Iterable[tuple[str, str]]) -> int:
    """How many values stand in more than one split; of pairs of value and split, the value "" not counted."""
    found = defaultdict(set)
    for value, split in values:
        found[value].add(split)
    return sum(len(splits) > 1 for value, splits in found.items() if value)


def _own_splits(members: Sequence[Member]) -> dict[str, str]:
    """The source's splits under our names; empty where it names none."""
    named = [member for member in members if member.split]
    if not named:
        return {}
    if len(named) < len(members):
        raise SourceError(f"{len(named)} of {len(members)} clips name a split and the others none; name it for all of them or for none")
    own = {member.clip_id: _OTHER_NAMES.get(member.split.lower(), member.split.lower()) for member in members}
    unknown = sorted(set(own.values()) - set(SPLITS))
    if unknown:
        raise SourceError(f"the source names a split {unknown[0]!r}; name them {', '.join(SPLITS)}")
    if "train" not in own.values():
        raise SourceError("the source names splits but no clip is in train; name some train, or leave the splits out")
    return own


def _draw(members: Sequence[Member], absent: Sequence[str]) -> dict[str, str]:
    """Draw the ``absent`` splits from ``members``; who is not drawn is in train."""
    by_sentence = len({member.speaker_id for member in members} - {""}) < 2
    groups = {member.clip_id: _group(member, by_sentence=by_sentence) for member in members}
    names = set(groups.values())
    if len(names) <= len(absent):
        raise SourceError(_too_few(len(names), by_sentence=by_sentence))
    drawn = {name: _by_place(_place(name), absent) for name in names}
    if len(set(drawn.values())) <= len(absent):
        drawn = _by_rank(names, absent)
    return {clip_id: drawn[group] for clip_id, group in groups.items()}


def _group(member: Member, *, by_sentence: bool) -> str:
    if by_sentence or not member.speaker_id:
        return f"sentence:{member.sentence}"
    return f"speaker:{member.speaker_id}"


def _place(group: str) -> float:
    """In [0, 1), the same for ever."""
    return int.from_bytes(sha256(group.encode()).digest()[:6], "big") / 2**48


def _by_place(place: float, absent: Sequence[str]) -> str:
    number = int(place / SHARE)
    return absent[number] if number < len(absent) else "train"


def _by_rank(names: Iterable[str], absent: Sequence[str]) -> dict[str, str]:
    ranked = sorted(names, key=lambda name: (_place(name), name))
    each = max(1, round(len(ranked) * SHARE))
    return {name: absent[rank // each] if rank < each * len(absent) else "train" for rank, name in enumerate(ranked)}


def _held_back(members: Sequence[Member], splits: Mapping[str, str]) -> dict[str, Code]:
    """The clips whose sentence is in a split that measures and is not their own; test goes before validation."""
    sentences = {split: {member.sentence for member in members if splits[member.clip_id] == split} for split in _HELD_BACK_FOR}
    held_back: dict[str, Code] = {}
    for member in members:
        own = splits[member.clip_id]
        for split, code in _HELD_BACK_FOR.items():
            if own == split:
                break
            if member.sentence in sentences[split]:
                held_back[member.clip_id] = code
                break
    return held_back


def _too_few(groups: int, *, by_sentence: bool) -> str:
    what = "different sentences" if by_sentence else "speakers"
    advice = "add recordings" if by_sentence else "add speakers, or leave them out of the metadata to split by sentence"
    return f"train, validation and test need three or more {what}, and there are {groups}; {advice}, or name each clip's split in a column"


def _why_empty(split: str, held_back: Mapping[str, Code]) -> str:
    if not held_back:
        return f"no clip is left for the {split} split; add recordings, or name each clip's split in a column"
    return (
        f"no clip is left for the {split} split: {len(held_back)} clips have a sentence that is also in test or validation; "
        "add recordings of other sentences, or name each clip's split in a column"
    )
