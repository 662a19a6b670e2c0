"""The look at all sources before the long work: what is missing, how much there is, and the choice of some clips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from avskrift.corpus.entries import Entry
from avskrift.corpus.sources.uris import Weighted
from avskrift.corpus.splits import Member, OnOverlap, assign, subset
from avskrift.corpus.staging import Rules, hashed_speaker
from avskrift.errors import SourceError
from avskrift.text.normaliser import normalise
from avskrift.text.transcript import transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """``entries`` counts what the sources list, None where a remote one is among them; ``missing`` has a sentence for each.

    ``members`` are the usable entries, for a first look at the splits; none where a source is remote.
    """

    entries: int | None
    missing: list[str]
    members: list[Member]


def survey(sources: Sequence[Weighted], rules: Rules) -> Listing:
    """Walk through the listings of what is near.

    Raises:
        SourceError: a source is not there, or its metadata cannot be understood.
    """
    count, missing, members = 0, [], []
    for number, entry in _listed([weighted for weighted in sources if not weighted.source.remote]):
        count += 1
        if entry.fault and entry.fault.code == "missing":
            missing.append(entry.fault.reason)
        member = _member(number, entry, rules, clip_id=str(count))
        if member is not None:
            members.append(member)
    if any(weighted.source.remote for weighted in sources):
        return Listing(entries=None, missing=missing, members=[])
    return Listing(entries=count, missing=missing, members=members)


def choose(sources: Sequence[Weighted], rules: Rules, clips: int, *, on_overlap: OnOverlap) -> dict[str, str]:
    """Of so many usable entries, something of each split, the key with the split that it has among all of them.

    Raises:
        SourceError: no splits possible, or nothing to choose from.
    """
    listed = (_member(number, entry, rules, clip_id=_key(number, entry)) for number, entry in _listed(sources))
    distinct = list({member.clip_id: member for member in listed if member is not None}.values())
    if not distinct:
        raise SourceError("no recording with a transcript is listed to choose from; check that the source is what you meant")
    return subset(distinct, assign(distinct, on_overlap=on_overlap).splits, clips)


def walk(sources: Sequence[Weighted], chosen: Mapping[str, str] | None = None) -> Iterator[tuple[int, Entry]]:
    """All entries to read, each with the number of its source; of a choice, those alone and with its splits."""
    for number, weighted in enumerate(sources):
        for entry in weighted.source.entries():
            if chosen is None:
                yield number, entry
            elif (split := chosen.get(_key(number, entry))) is not None:
                # A split that was drawn is not the source's: what it shares with another is nobody's fault.
                yield number, replace(entry, split=split, gives_way=entry.gives_way or not entry.split)


def _listed(sources: Sequence[Weighted]) -> Iterator[tuple[int, Entry]]:
    for number, weighted in enumerate(sources):
        for entry in weighted.source.listing():
            yield number, entry


def _member(number: int, entry: Entry, rules: Rules, *, clip_id: str) -> Member | None:
    """What decides the entry's split, if it can be used as far as is known."""
    sentence = normalise(transcript(entry.text), rules.language)
    if entry.fault or not sentence:
        return None
    return Member(
        clip_id=clip_id,
        split=entry.split,
        speaker_id=hashed_speaker(entry.speaker, rules.speaker_salt),
        sentence=sentence,
        location=entry.location,
        source=number,
        gives_way=entry.gives_way,
        recording=entry.recording,
    )


def _key(number: int, entry: Entry) -> str:
    return f"{number}:{entry.clip_id or entry.location}"
