"""Which clip is for training, which for validation, which for the test; and that they share nothing.

Where a source names its splits, they are taken. Otherwise clips are drawn by group: all clips of a speaker go to one
split; where speakers are unknown, or there is only one, all clips of a sentence do. A group's place hangs on its
sha256 alone, so it stays where it is when the source grows: of [0, 1), the first tenth is test, the second validation.

A small source could leave a split empty that way. Then groups are ranked by their sha256 instead: the first tenth of
them (rounded, at least one group) is test, the next validation, the rest train.

A recording of which several clips are parts joins the groups of those clips, so that all of it goes to one split, unless
too few groups are left that way: where all recordings share a speaker, say, or where there is only one.

No speaker, no sentence and no such recording may then stand in two splits (a lone speaker or recording may: there is no
other, and so may recordings that cannot be kept apart). Clips whose split was
drawn, or that give way, are held back; between splits that sources name it is a fault, unless holding back was asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from avskrift.corpus.dataset import SPLITS
from avskrift.corpus.validation import Code
from avskrift.errors import OverlapError, SourceError

SHARE = 0.1  # of the groups, for test and for validation each
OnOverlap = Literal["fail", "hold-back"]
_OTHER_NAMES = {
    "training": "train",
    "dev": "validation",
    "development": "validation",
    "valid": "validation",
    "val": "validation",
    "testing": "test",
}
_OFFENDERS_SHOWN = 5
# What is measured on stays whole where it can: of two clips that clash, the one of the later split goes.
_RANK = {"test": 0, "validation": 1, "train": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What decides a clip's split. ``sentence`` is normalised; ``split`` is the source's own or ""; unknown speakers are "".
    ``recording`` is the same for clips that are in one recording, "" where it holds one alone.

    ``location`` names the clip for people; ``source`` is the number of its source. A member that ``gives_way`` is held back
    where it clashes with one of a named split.
    """

    clip_id: str
    split: str
    speaker_id: str
    sentence: str
    location: str = ""
    source: int = 0
    gives_way: bool = False
    recording: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """``splits`` and ``held_back`` are by clip id and disjoint; together they hold every clip."""

    splits: dict[str, str]
    held_back: dict[str, Code]


def assign(members: Sequence[Member], *, on_overlap: OnOverlap = "fail", also_named: Iterable[str] = ()) -> Assignment:
    """Give every clip its split. The outcome does not hang on the order of ``members``.

    A split that no source names, while they name others, is drawn from the named train split. ``also_named`` are splits
    that sources name for clips which were refused: those are not drawn.

    Raises:
        OverlapError: named splits share recordings, speakers or sentences, and ``on_overlap`` is fail; the message names the clips.
        SourceError: too few groups for three splits, a split left empty, or split names that cannot be used.
    """
    named = _named_splits(members)
    keys = _keys(members)
    if on_overlap == "fail":
        _refuse_overlaps([member for member in members if member.split and not member.gives_way], named, keys)
    drawn = _drawn_splits(members, named, {own_split(split) for split in also_named})
    splits = named | drawn
    # Clips that a source put into its splits, as opposed to those that were drawn or give way.
    firm = {member.clip_id for member in members if member.clip_id not in drawn and not member.gives_way}
    held_back: dict[str, Code] = {}
    for kind, key in keys:
        held_back |= _clashes(kind, key, [member for member in members if member.clip_id not in held_back], splits, firm)
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


def own_split(name: str) -> str:
    """Our name for a split as sources name it; a name that is none of them comes back in lower case."""
    return _OTHER_NAMES.get(name.lower(), name.lower())


def offence(kind: str, clips: Iterable[tuple[str, str]]) -> str:
    """A line that names what splits share: the kind, and of pairs of split and location the first of each split."""
    first: dict[str, str] = {}
    for split, location in sorted(clips, key=lambda clip: (_RANK[clip[0]], clip[1])):
        first.setdefault(split, location)
    return f"one {kind} in " + " and in ".join(f"{split} ({location!r})" for split, location in first.items())


def overlap_error(offences: Sequence[str]) -> OverlapError:
    """The error for what named splits share."""
    shown = "".join(f"\n  {line}" for line in offences[:_OFFENDERS_SHOWN])
    more = f"\n  and {len(offences) - _OFFENDERS_SHOWN:,} more" if len(offences) > _OFFENDERS_SHOWN else ""
    return OverlapError(
        "the splits that the sources name share what they must not, so a model would be tested on what it was trained on; "
        f"mend the splits, or run with --on-overlap hold-back to leave the clips out of train (or validation):{shown}{more}"
    )


def _named_splits(members: Sequence[Member]) -> dict[str, str]:
    """The sources' splits under our names, by clip id."""
    by_source: dict[int, list[Member]] = defaultdict(list)
    for member in members:
        by_source[member.source].append(member)
    for of_source in by_source.values():
        with_split = sum(bool(member.split) for member in of_source)
        if 0 < with_split < len(of_source):
            raise SourceError(
                f"{with_split} of {len(of_source)} clips name a split and the others none; name it for all of them or for none"
            )
    named = {member.clip_id: own_split(member.split) for member in members if member.split}
    unknown = sorted(set(named.values()) - set(SPLITS))
    if unknown:
        raise SourceError(f"the source names a split {unknown[0]!r}; name them {', '.join(SPLITS)}")
    return named


def _refuse_overlaps(members: Sequence[Member], named: Mapping[str, str], keys: Sequence[tuple[str, Callable[[Member], str]]]) -> None:
    """What the sources' own splits share, before anything is drawn from them."""
    offences = []
    for kind, key in keys:
        clips: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for member in members:
            clips[key(member)].append((named[member.clip_id], member.location))
        shared = {value for value, found in clips.items() if value and len({split for split, _ in found}) > 1}
        offences += [offence(kind, clips[value]) for value in sorted(shared)]
    if offences:
        raise overlap_error(offences)


def _drawn_splits(members: Sequence[Member], named: Mapping[str, str], also_named: set[str]) -> dict[str, str]:
    """The splits of the clips that name none; where all do, those of train clips from which an absent split is drawn."""
    by_sentence = _one_speaker(members)
    without = [member for member in members if member.clip_id not in named]
    absent = [split for split in ("test", "validation") if split not in named.values() and split not in also_named]
    if without:
        # Beside named splits nothing is forced: what is drawn may all be for training.
        return _draw(without, absent or ["test", "validation"], forced=bool(absent), by_sentence=by_sentence)
    if not absent:
        return {}
    train = [member for member in members if named[member.clip_id] == "train"]
    if not train:
        raise SourceError("the source names splits but no clip is in train; name some train, or leave the splits out")
    return _draw(train, absent, forced=True, by_sentence=by_sentence)


def _draw(members: Sequence[Member], absent: Sequence[str], *, forced: bool, by_sentence: bool) -> dict[str, str]:
    """Draw the ``absent`` splits from ``members``; who is not drawn is in train. ``forced``: none of them may stay empty."""
    groups = _joined(members, by_sentence=by_sentence)
    if forced and len(set(groups.values())) <= len(absent):
        groups = {member.clip_id: _group(member, by_sentence=by_sentence) for member in members}
    names = set(groups.values())
    if forced and len(names) <= len(absent):
        raise SourceError(_too_few(len(names), by_sentence=by_sentence))
    drawn = {name: _by_place(_place(name), absent) for name in names}
    if forced and len(set(drawn.values())) <= len(absent):
        drawn = _by_rank(names, absent)
    return {clip_id: drawn[group] for clip_id, group in groups.items()}


def _one_speaker(members: Iterable[Member]) -> bool:
    """Whether there are no two speakers to keep apart."""
    return len({member.speaker_id for member in members} - {""}) < 2


def _joined(members: Sequence[Member], *, by_sentence: bool) -> dict[str, str]:
    """The group of each clip, by clip id, where a recording joins those of its clips: the first of their names is that of all."""
    if len({member.recording for member in members} - {""}) < 2:
        return {member.clip_id: _group(member, by_sentence=by_sentence) for member in members}
    joined_to: dict[str, str] = {}

    def root(name: str) -> str:
        while (other := joined_to.get(name, name)) != name:
            joined_to[name] = joined_to.get(other, other)
            name = other
        return name

    def own(member: Member) -> str:
        # A sentence joins nothing: "Ja." is in every recording.
        by_recording = member.recording and (by_sentence or not member.speaker_id)
        return f"recording:{member.recording}" if by_recording else _group(member, by_sentence=by_sentence)

    for member in members:
        if member.recording:
            joined_to[root(own(member))] = root(f"recording:{member.recording}")
    roots = {member.clip_id: root(own(member)) for member in members}
    names: dict[str, tuple[bool, str]] = {}
    for member in members:
        unnamed = own(member) == f"recording:{member.recording}"
        # By a speaker where there is one; where a recording lies differs between machines, and must not decide.
        name = (unnamed, f"recording:{member.location}" if unnamed else own(member))
        names[roots[member.clip_id]] = min(names.get(roots[member.clip_id], name), name)
    return {clip_id: names[of][1] for clip_id, of in roots.items()}


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


def _keys(members: Sequence[Member]) -> list[tuple[str, Callable[[Member], str]]]:
    """What no two splits may share."""
    speaker: list[tuple[str, Callable[[Member], str]]] = [] if _one_speaker(members) else [("speaker", lambda member: member.speaker_id)]
    return [*_recording_key(members), *speaker, ("sentence", lambda member: member.sentence)]


def _recording_key(members: Sequence[Member]) -> list[tuple[str, Callable[[Member], str]]]:
    """Recordings are compared where there are two or more, and not so linked by their speakers that three splits cannot be."""
    if len({member.recording for member in members} - {""}) < 2:
        return []
    groups = _joined(members, by_sentence=_one_speaker(members))
    return [("recording", lambda member: member.recording)] if len(set(groups.values())) >= len(SPLITS) else []


def _clashes(
    kind: str, key: Callable[[Member], str], members: Sequence[Member], splits: Mapping[str, str], firm: set[str]
) -> dict[str, Code]:
    """Which clips to hold back so that no key stands in two splits, with the code of each."""
    keeper = _keepers(key, members, splits, firm)
    return {
        member.clip_id: _code(kind, keeper[key(member)])
        for member in members
        if key(member) and keeper[key(member)] != splits[member.clip_id]
    }


def _keepers(key: Callable[[Member], str], members: Sequence[Member], splits: Mapping[str, str], firm: set[str]) -> dict[str, str]:
    """The split that keeps each key: a firm clip's before others', then test before validation before train."""
    best: dict[str, tuple[bool, int]] = {}
    for member in members:
        claim = (member.clip_id not in firm, _RANK[splits[member.clip_id]])
        best[key(member)] = min(best.get(key(member), claim), claim)
    return {value: SPLITS[len(SPLITS) - 1 - rank] for value, (_, rank) in best.items()}


def _code(kind: str, split: str) -> Code:
    codes: dict[str, Code] = {
        "recording/test": "recording_in_test",
        "recording/validation": "recording_in_validation",
        "recording/train": "recording_in_train",
        "speaker/test": "speaker_in_test",
        "speaker/validation": "speaker_in_validation",
        "speaker/train": "speaker_in_train",
        "sentence/test": "sentence_in_test",
        "sentence/validation": "sentence_in_validation",
        "sentence/train": "sentence_in_train",
    }
    return codes[f"{kind}/{split}"]


def _too_few(groups: int, *, by_sentence: bool) -> str:
    what = "different sentences" if by_sentence else "speakers"
    advice = "add recordings" if by_sentence else "add speakers, or leave them out of the metadata to split by sentence"
    return f"train, validation and test need three or more {what}, and there are {groups}; {advice}, or name each clip's split in a column"


def _why_empty(split: str, held_back: Mapping[str, Code]) -> str:
    if not held_back:
        return f"no clip is left for the {split} split; add recordings, or name each clip's split in a column"
    return (
        f"no clip is left for the {split} split: {len(held_back)} clips have a sentence, a speaker or a recording "
        "that is also in another one; add recordings of other sentences, or name each clip's split in a column"
    )
