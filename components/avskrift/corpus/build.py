"""From entries to a dataset folder: validate, draw the splits, write."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avskrift.audio.decode import encode_flac
from avskrift.corpus.card import render_card
from avskrift.corpus.dataset import DESCRIPTION_FILE, REPORT_FILE, SPLITS, Clip, DatasetDescription, SplitSummary
from avskrift.corpus.entries import Entry, Source
from avskrift.corpus.report import Example, ReportContent, render_report
from avskrift.corpus.splits import Assignment, Member, assign, in_several_splits
from avskrift.corpus.spool import Slot, Spool
from avskrift.corpus.validation import HELD_BACK, Code, Recording, Rejection, Validator
from avskrift.corpus.writer import write_rejected, write_split
from avskrift.errors import SourceError
from avskrift.progress import progress
from avskrift.storage.atomic import write_json
from avskrift.text.normaliser import normalise, normaliser_version

CARD_FILE = "README.md"
_SPOOL_FILE = "spool"
_EXAMPLES_IN_SPLIT = 3
_SPEAKER_ID_DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How entries become a dataset. ``max_rejected`` is the share of refused clips above which nothing is written."""

    language: str
    max_rejected: float
    speaker_salt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What was written."""

    description: DatasetDescription
    rejected: dict[Code, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Accepted:
    """A valid clip: its metadata, and where in the spool its audio is."""

    entry: Entry
    member: Member
    slot: Slot
    pcm_sha256: str
    duration_s: float


def build(folder: Path, source: Source, entries: Sequence[Entry], rules: Rules) -> Built:
    """Write a dataset folder's files into ``folder``, which exists. Every entry becomes a clip or a rejection.

    Raises:
        SourceError: too many clips refused, or no splits possible; the message has the reasons.
        OSError: the folder cannot be written.
    """
    with Spool(folder / _SPOOL_FILE) as spool:
        accepted, rejections, source_sha256 = _validate(entries, spool, rules)
        _refuse_too_many(source, rejections, len(entries), rules.max_rejected)
        assignment = _assign(source, accepted)
        for split in SPLITS:
            write_split(folder, split, _clips(accepted, assignment, split, spool))
    rejections += _held_back(accepted, assignment)
    description = DatasetDescription(
        fingerprint=_fingerprint(accepted, assignment),
        language=rules.language,
        licence=source.licence,
        source=source.uri,
        source_sha256=source_sha256,
        normaliser=normaliser_version(rules.language),
        splits={split: _summary(accepted, assignment, split) for split in SPLITS},
        rejected=len(rejections),
    )
    write_rejected(folder, rejections)
    write_json(folder / DESCRIPTION_FILE, dataclasses.asdict(description))
    (folder / REPORT_FILE).write_text(render_report(_report_content(description, accepted, assignment, rejections)), encoding="utf-8")
    (folder / CARD_FILE).write_text(render_card(description), encoding="utf-8")
    return Built(description=description, rejected=dict(Counter(rejection.code for rejection in rejections)))


def member_of(entry: Entry, language: str, salt: str) -> Member:
    """What decides the entry's split; its speaker is hashed with ``salt``."""
    speaker = hashlib.sha256(f"{salt}\0{entry.speaker}".encode()).hexdigest()[:_SPEAKER_ID_DIGITS] if entry.speaker else ""
    return Member(clip_id=entry.clip_id, split=entry.split, speaker_id=speaker, sentence=normalise(entry.text, language))


def _validate(entries: Sequence[Entry], spool: Spool, rules: Rules) -> tuple[list[_Accepted], list[Rejection], str]:
    """Also the source's digest: over what was read of it, in whatever order."""
    validator = Validator(rules.language)
    accepted: list[_Accepted] = []
    rejections: list[Rejection] = []
    contents = []
    with progress("preparing", total=len(entries)) as shown:
        for entry in entries:
            outcome = validator.check(entry)
            if isinstance(outcome, Rejection):
                rejections.append(outcome)
                contents.append(_entry_digest(entry, outcome.code))
            else:
                accepted.append(_accept(entry, outcome, spool, rules))
                contents.append(_entry_digest(entry, outcome.content_sha256))
            shown.advance()
    return accepted, rejections, _digest_of(contents)


def _accept(entry: Entry, recording: Recording, spool: Spool, rules: Rules) -> _Accepted:
    return _Accepted(
        entry=entry,
        member=member_of(entry, rules.language, rules.speaker_salt),
        slot=spool.put(encode_flac(recording.pcm)),
        pcm_sha256=recording.pcm_sha256,
        duration_s=recording.duration_s,
    )


def _refuse_too_many(source: Source, rejections: Sequence[Rejection], entries: int, max_rejected: float) -> None:
    if len(rejections) < entries and len(rejections) / entries <= max_rejected:
        return
    counts = Counter(rejection.code for rejection in rejections)
    examples = {rejection.code: rejection for rejection in reversed(rejections)}
    table = "".join(
        f"\n  {code:17} {count:6}  for instance {examples[code].source!r}: {examples[code].reason}" for code, count in counts.most_common()
    )
    raise SourceError(
        f"source {source.uri!r}: {len(rejections)} of {entries} clips were refused, and --max-rejected allows "
        f"{max_rejected:.0%}; mend them, leave them out, or allow more:{table}"
    )


def _assign(source: Source, accepted: Sequence[_Accepted]) -> Assignment:
    try:
        return assign([clip.member for clip in accepted])
    except SourceError as error:
        raise SourceError(f"source {source.uri!r}: {error}") from error


def _held_back(accepted: Sequence[_Accepted], assignment: Assignment) -> list[Rejection]:
    reasons: Mapping[Code, str] = {code: f"its sentence is in the {code.removeprefix('sentence_in_')} split too" for code in HELD_BACK}
    return [
        Rejection(clip_id=clip.entry.clip_id, code=code, reason=reasons[code], source=clip.entry.location)
        for clip in accepted
        if (code := assignment.held_back.get(clip.entry.clip_id))
    ]


def _of_split(accepted: Sequence[_Accepted], assignment: Assignment, split: str) -> list[_Accepted]:
    return [clip for clip in accepted if assignment.splits.get(clip.entry.clip_id) == split]


def _clips(accepted: Sequence[_Accepted], assignment: Assignment, split: str, spool: Spool) -> Iterator[Clip]:
    for clip in _of_split(accepted, assignment, split):
        yield Clip(
            clip_id=clip.entry.clip_id,
            audio=spool.get(clip.slot),
            duration_s=clip.duration_s,
            text=clip.entry.text,
            speaker_id=clip.member.speaker_id,
            gender=clip.entry.gender,
            age=clip.entry.age,
            accent=clip.entry.accent,
            source=clip.entry.location,
        )


def _summary(accepted: Sequence[_Accepted], assignment: Assignment, split: str) -> SplitSummary:
    clips = _of_split(accepted, assignment, split)
    speakers = {clip.member.speaker_id for clip in clips} - {""}
    return SplitSummary(clips=len(clips), hours=sum(clip.duration_s for clip in clips) / 3600, speakers=len(speakers))


def _fingerprint(accepted: Sequence[_Accepted], assignment: Assignment) -> str:
    """Over what the clips hold, not over where they came from or in which order."""
    return _digest_of(
        _digest(
            assignment.splits[clip.entry.clip_id],
            clip.pcm_sha256,
            clip.entry.text,
            clip.member.speaker_id,
            clip.entry.gender,
            clip.entry.age,
            clip.entry.accent,
        )
        for clip in accepted
        if clip.entry.clip_id in assignment.splits
    )


def _entry_digest(entry: Entry, content: str) -> str:
    return _digest(entry.location, content, entry.text, entry.split, entry.speaker, entry.gender, entry.age, entry.accent)


def _digest(*values: str) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _digest_of(digests: Iterator[str] | Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def _report_content(
    description: DatasetDescription, accepted: Sequence[_Accepted], assignment: Assignment, rejections: Sequence[Rejection]
) -> ReportContent:
    kept = [(clip, assignment.splits[clip.entry.clip_id]) for clip in accepted if clip.entry.clip_id in assignment.splits]
    return ReportContent(
        description=description,
        durations_s=[clip.duration_s for clip, _ in kept],
        shared_speakers=in_several_splits((clip.member.speaker_id, split) for clip, split in kept),
        shared_sentences=in_several_splits((clip.member.sentence, split) for clip, split in kept),
        examples=[
            Example(split=split, text=clip.entry.text, duration_s=clip.duration_s, source=clip.entry.location)
            for split in SPLITS
            for clip in _of_split(accepted, assignment, split)[:_EXAMPLES_IN_SPLIT]
        ],
        rejections=rejections,
    )
