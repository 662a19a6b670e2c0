"""From staged clips to a dataset folder: refuse what shows only beside other clips, draw the splits, write.

Holds the metadata of every clip (some two kilobytes each) and the audio of a few.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avskrift.corpus.card import render_card
from avskrift.corpus.dataset import (
    DESCRIPTION_FILE,
    REPORT_FILE,
    SPLITS,
    Clip,
    DatasetDescription,
    SourceSummary,
    SplitSummary,
    open_dataset,
)
from avskrift.corpus.duplicates import refuse_duplicates
from avskrift.corpus.exclusion import NOTHING, Excluded
from avskrift.corpus.report import HeardRejection, render_report
from avskrift.corpus.splits import Assignment, Member, OnOverlap, assign
from avskrift.corpus.staging import StagedClip, hashed_speaker, read_batch, staged_audio
from avskrift.corpus.validation import HELD_BACK, Code, Rejection
from avskrift.corpus.writer import write_rejected, write_split
from avskrift.errors import SourceError
from avskrift.progress import progress
from avskrift.storage.atomic import write_json
from avskrift.text.normaliser import normaliser_version

CARD_FILE = "README.md"
_SHOWN = 10  # refused clips in the report


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """One of the sources that clips came from. Its train clips count ``weight`` times."""

    uri: str
    licence: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeRules:
    """How staged clips become a dataset. ``max_rejected`` is the share of refused clips above which nothing is written."""

    language: str
    speaker_salt: str
    max_rejected: float = 0.05
    on_missing: str = "fail"
    on_overlap: OnOverlap = "fail"
    excluded: Excluded = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What was written."""

    description: DatasetDescription
    rejected: dict[Code, int]


@dataclass(frozen=True, slots=True)
class _Refused:
    clip: StagedClip
    code: Code
    reason: str


def merge(folder: Path, batches: Iterable[Path], origins: Sequence[Origin], rules: MergeRules) -> Merged:
    """Write a dataset folder's files into ``folder``, which exists. Every staged clip becomes a clip or a rejection.

    The same clips give the same bytes, whatever batches they are in and whoever staged them.

    Raises:
        OverlapError: named splits share speakers, sentences or recordings.
        SourceError: too many clips refused, something missing, or no splits possible; the message has the reasons.
        OSError: the folder cannot be written.
    """
    staged = _identified(_sorted(batches, origins), origins)
    if not staged:
        raise SourceError(f"{_named(origins)} holds no recordings with transcripts; check that it is what you meant")
    clips, refused = _faultless(staged, rules)
    _refuse_missing(refused, rules)
    _refuse_too_many(origins, refused, len(staged), rules.max_rejected)
    assignment = _assign(clips, {clip.split for clip in staged if clip.split}, origins, rules)
    refused += _held_back(clips, assignment)
    kept = {split: [clip for clip in clips if assignment.splits.get(clip.clip_id) == split] for split in SPLITS}
    with progress("writing", total=sum(map(len, kept.values()))) as shown:
        for split in SPLITS:
            write_split(folder, split, _clips(kept[split], split, origins, shown.advance))
    return _describe(folder, staged, kept, refused, origins, rules)


def member_of(clip: StagedClip) -> Member:
    """What decides the clip's split."""
    return Member(
        clip_id=clip.clip_id,
        split=clip.split,
        speaker_id=clip.speaker_id,
        sentence=clip.sentence,
        location=clip.location,
        source=clip.source,
        gives_way=clip.gives_way,
        recording=clip.recording,
    )


def _sorted(batches: Iterable[Path], origins: Sequence[Origin]) -> list[StagedClip]:
    """All staged clips in an order of their own, not the sources' or the batches'."""
    clips = [clip for stem in batches for clip in read_batch(stem)]
    return sorted(
        clips, key=lambda clip: (origins[clip.source].uri, clip.location, clip.text, clip.speaker_id, clip.split, clip.pcm_sha256)
    )


def _identified(clips: Iterable[StagedClip], origins: Sequence[Origin]) -> list[StagedClip]:
    """Each clip with an id of its own.

    An id that a source gives is kept; the others are a hash of the location, and of a number where a location returns.
    """
    seen: Counter[str] = Counter()
    identified = []
    for clip in clips:
        place = clip.location if len(origins) == 1 else f"{origins[clip.source].uri}\0{clip.location}"
        seen[place] += 1
        name = place if seen[place] == 1 else f"{place}\0{seen[place]}"
        given = clip.clip_id if len(origins) == 1 and seen[place] == 1 else ""
        identified.append(dataclasses.replace(clip, clip_id=given or hashlib.sha256(name.encode()).hexdigest()[:16]))
    return identified


def _faultless(staged: Sequence[StagedClip], rules: MergeRules) -> tuple[list[StagedClip], list[_Refused]]:
    """The clips that can be used, and the others."""
    refused = [_Refused(clip, _code(clip), clip.reason) for clip in staged if clip.code]
    valid = [clip for clip in staged if not clip.code]
    duplicates = refuse_duplicates(valid, on_overlap=rules.on_overlap)
    refused += [_Refused(valid[place], code, reason) for place, (code, reason) in sorted(duplicates.items())]
    return [clip for place, clip in enumerate(valid) if place not in duplicates], refused


def _code(clip: StagedClip) -> Code:
    return clip.code  # type: ignore[return-value]  # it was a Code when it was written


def _refuse_missing(refused: Sequence[_Refused], rules: MergeRules) -> None:
    """What only shows once a source was read to its end: the rest was refused before the long work."""
    if rules.on_missing == "fail":
        refuse_missing([refusal.reason for refusal in refused if refusal.code == "missing"])


def refuse_missing(reasons: Sequence[str]) -> None:
    """Fail where something is missing; ``reasons`` has a sentence for each.

    Raises:
        SourceError: something is.
    """
    if reasons:
        more = f" (and {len(reasons) - 1:,} more)" if len(reasons) > 1 else ""
        raise SourceError(f"{reasons[0]}{more}; add what is missing, or run with --on-missing skip")


def _refuse_too_many(origins: Sequence[Origin], refused: Sequence[_Refused], staged: int, max_rejected: float) -> None:
    if len(refused) < staged and len(refused) / staged <= max_rejected:
        return
    counts = Counter(refusal.code for refusal in refused)
    examples = {refusal.code: refusal for refusal in reversed(refused)}
    table = "".join(
        f"\n  {code:23} {count:6,}  for instance {examples[code].clip.location!r}: {examples[code].reason}"
        for code, count in counts.most_common()
    )
    if len(refused) == staged:
        raise SourceError(f"{_named(origins)}: {staged:,} of {staged:,} clips were refused, so nothing is left; mend them:{table}")
    raise SourceError(
        f"{_named(origins)}: {len(refused):,} of {staged:,} clips were refused, and --max-rejected allows "
        f"{max_rejected:.0%}; mend them, leave them out, or allow more:{table}"
    )


def _assign(clips: Sequence[StagedClip], named: Iterable[str], origins: Sequence[Origin], rules: MergeRules) -> Assignment:
    try:
        assignment = assign([member_of(clip) for clip in clips], on_overlap=rules.on_overlap, also_named=named)
    except SourceError as error:
        raise type(error)(f"{_named(origins)}: {error}") from error
    return _without_excluded(clips, assignment, rules.excluded)


def _without_excluded(clips: Sequence[StagedClip], assignment: Assignment, excluded: Excluded) -> Assignment:
    """Clips that shape the model (train and validation) must not be what another dataset measures on; test clips may."""
    shared: dict[str, Code] = {
        clip.clip_id: "excluded" for clip in clips if assignment.splits.get(clip.clip_id, "test") != "test" and _exclusion(clip, excluded)
    }
    splits = {clip_id: split for clip_id, split in assignment.splits.items() if clip_id not in shared}
    for split in SPLITS:
        if split not in splits.values():
            raise SourceError(f"no clip is left for the {split} split: all of it is measured on in the dataset that --exclude names")
    return Assignment(splits=splits, held_back=assignment.held_back | shared)


def _exclusion(clip: StagedClip, excluded: Excluded) -> str:
    return excluded.reason(speaker_id=clip.speaker_id, sentence=clip.sentence, pcm_sha256=clip.pcm_sha256)


def _held_back(clips: Sequence[StagedClip], assignment: Assignment) -> list[_Refused]:
    reasons: dict[Code, str] = {code: f"its {code.replace('_in_', ' is in the ')} split too" for code in HELD_BACK}
    reasons["excluded"] = "a dataset that was excluded measures on its speaker, sentence or recording"
    return [_Refused(clip, code, reasons[code]) for clip in clips if (code := assignment.held_back.get(clip.clip_id))]


def _clips(clips: Iterable[StagedClip], split: str, origins: Sequence[Origin], advance: Callable[[], None]) -> Iterator[Clip]:
    for clip in clips:
        yield Clip(
            clip_id=clip.clip_id,
            audio=staged_audio(clip),
            duration_s=clip.duration_s,
            text=clip.text,
            speaker_id=clip.speaker_id,
            gender=clip.gender,
            age=clip.age,
            accent=clip.accent,
            source=_place(clip, origins),
            weight=_weight(clip, split, origins),
        )
        advance()


def _place(clip: StagedClip, origins: Sequence[Origin]) -> str:
    """Where the clip came from, as it stands in the dataset."""
    return clip.location if len(origins) == 1 else f"{origins[clip.source].uri} {clip.location}"


def _weight(clip: StagedClip, split: str, origins: Sequence[Origin]) -> float:
    return origins[clip.source].weight if split == "train" else 1.0


def _describe(
    folder: Path,
    staged: Sequence[StagedClip],
    kept: Mapping[str, Sequence[StagedClip]],
    refused: Sequence[_Refused],
    origins: Sequence[Origin],
    rules: MergeRules,
) -> Merged:
    """Write all but the splits."""
    rejections = [
        Rejection(clip_id=refusal.clip.clip_id, code=refusal.code, reason=refusal.reason, source=_place(refusal.clip, origins))
        for refusal in refused
    ]
    description = DatasetDescription(
        fingerprint=_fingerprint(kept, origins),
        language=rules.language,
        licence=" + ".join(dict.fromkeys(origin.licence for origin in origins)),
        source=_joined(origins),
        source_sha256=_digest_of(_said(clip) for clip in staged),
        normaliser=normaliser_version(rules.language),
        splits={split: _summary(clips) for split, clips in kept.items()},
        rejected=len(refused),
        sources=[_of_origin(number, origin, kept, refused) for number, origin in enumerate(origins)],
        speaker_salt_check=salt_check(rules.speaker_salt),
    )
    write_rejected(folder, rejections)
    write_json(folder / DESCRIPTION_FILE, dataclasses.asdict(description))
    dataset = open_dataset(folder)
    heard = [HeardRejection(rejection=rejections[place], audio=staged_audio(refused[place].clip)) for place in _to_show(refused)]
    (folder / REPORT_FILE).write_text(render_report(dataset, heard), encoding="utf-8")
    (folder / CARD_FILE).write_text(render_card(dataset), encoding="utf-8")
    return Merged(description=description, rejected=dict(Counter(refusal.code for refusal in refused)))


def salt_check(salt: str) -> str:
    """Eight digits that tell datasets apart whose speaker ids were made with different salts."""
    return hashed_speaker("speaker salt", salt)[:8]


def _to_show(refused: Sequence[_Refused]) -> list[int]:
    """Which refused clips the report shows: something of each code first, and what can be listened to before what cannot."""
    turns: Counter[Code] = Counter()
    order = []
    for place in sorted(range(len(refused)), key=lambda place: not refused[place].clip.length):
        code = refused[place].code
        if code not in HELD_BACK:
            order.append((turns[code], not refused[place].clip.length, place))
            turns[code] += 1
    return sorted(place for _, _, place in sorted(order)[:_SHOWN])


def _of_origin(number: int, origin: Origin, kept: Mapping[str, Sequence[StagedClip]], refused: Sequence[_Refused]) -> SourceSummary:
    durations = [clip.duration_s for clips in kept.values() for clip in clips if clip.source == number]
    return SourceSummary(
        uri=origin.uri,
        licence=origin.licence,
        weight=origin.weight,
        clips=len(durations),
        hours=math.fsum(durations) / 3600,
        rejected=sum(refusal.clip.source == number for refusal in refused),
    )


def _summary(clips: Sequence[StagedClip]) -> SplitSummary:
    speakers = {clip.speaker_id for clip in clips} - {""}
    return SplitSummary(clips=len(clips), hours=math.fsum(clip.duration_s for clip in clips) / 3600, speakers=len(speakers))


def _fingerprint(kept: Mapping[str, Sequence[StagedClip]], origins: Sequence[Origin]) -> str:
    """Over what the clips hold, not over where they came from or in which order."""
    return _digest_of(
        _digest(
            split,
            clip.pcm_sha256,
            clip.text,
            clip.speaker_id,
            clip.gender,
            clip.age,
            clip.accent,
            repr(_weight(clip, split, origins)),
        )
        for split, clips in kept.items()
        for clip in clips
    )


def _said(clip: StagedClip) -> str:
    """All that the source gave for this clip."""
    return _digest(clip.location, clip.pcm_sha256 or clip.code, clip.text, clip.split, clip.speaker_id, clip.gender, clip.age, clip.accent)


def _digest(*values: str) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _digest_of(digests: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def _joined(origins: Sequence[Origin]) -> str:
    return " + ".join(origin.uri if origin.weight == 1 else f"{origin.weight:g}*{origin.uri}" for origin in origins)


def _named(origins: Sequence[Origin]) -> str:
    return f"source {_joined(origins)!r}"
