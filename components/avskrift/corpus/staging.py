"""From entries to staged clips: read, checked and encoded, in batches that stand on disk and are not made twice.

A batch is two files: ``NNNNNN-DIGEST.audio``, the FLAC bytes one after the other, and ``NNNNNN-DIGEST.parquet``, a row for
every entry of the batch; the second is written last, so a batch with it is whole. Neither is flushed to the disk, which would
cost a tenth of the time; what a loss of power takes is noticed when the batch is merged. The digest is over what the source
said of the entries, so a changed source makes new batches.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

import avskrift
from avskrift.audio.constants import SAMPLE_RATE
from avskrift.audio.decode import encode_flac
from avskrift.audio.limited import Children
from avskrift.audio.limited_child import Note
from avskrift.corpus.entries import Entry, Stamped, held_bytes
from avskrift.corpus.validation import Recording, Refusal, check
from avskrift.errors import DatasetError
from avskrift.progress import progress
from avskrift.storage.atomic import atomic_file, make_folder, sweep
from avskrift.text.normaliser import normalise, normaliser_version
from avskrift.text.transcript import transcript

BATCH_CLIPS = 128
_BATCH_BYTES = 16 << 20
SECONDS_HEARD = 10  # what is kept of a refused clip, for people to listen to
_AUDIO, _ROWS = BATCH_SUFFIXES = (".audio", ".parquet")
_SPEAKER_ID_DIGITS = 16
_SAID = ("location", "clip_id", "text", "split", "speaker", "recording", "gender", "age", "accent", "up_votes", "down_votes", "gives_way")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What decides how an entry is staged, beside the entry."""

    language: str
    speaker_salt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedClip:
    """An entry that was read. ``code`` is "" for a valid clip; ``length`` is 0 where there is no audio in the batch.

    ``sentence`` is the normalised text, ``speaker_id`` a salted hash, ``source`` the number of the source. ``recording`` is as
    in an entry.
    """

    location: str
    clip_id: str
    text: str
    sentence: str
    split: str
    speaker_id: str
    gender: str
    age: str
    accent: str
    source: int
    gives_way: bool
    code: str
    reason: str
    pcm_sha256: str
    duration_s: float
    offset: int
    length: int
    crc32: int
    recording: str = ""
    batch: Path = Path()


_SCHEMA = pa.schema(
    [
        (field.name, {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}.get(str(field.type), pa.string()))
        for field in dataclasses.fields(StagedClip)
        if field.name != "batch"
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Entries to stage, each with the number of its source; ``stem`` is the path of the batch's files without their suffix."""

    stem: Path
    entries: Sequence[tuple[int, Entry]]
    rules: Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The batches that are ours to stage: every ``of``-th, from number ``part``."""

    part: int = 0
    of: int = 1


WHOLE = Share()


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """The stems of a share's batches, in their order, and a digest of what the sources said of all entries, ours or not."""

    stems: list[Path]
    entries_sha256: str


def stage(
    folder: Path, entries: Iterable[tuple[int, Entry]], rules: Rules, *, workers: int, total: int | None, share: Share = WHOLE
) -> Staged:
    """Stage this share of ``entries`` into ``folder``, with ``workers`` processes.

    Batches that are there already are not made again. ``total`` entries of all shares are what the progress shown is of.
    Memory does not grow with the number of entries.

    Raises:
        AvskriftError: what the source or the disk raised; whole batches stay.
    """
    make_folder(folder)
    stems: list[Path] = []
    said = hashlib.sha256()

    def missing() -> Iterator[Batch]:
        for number, divided in enumerate(_divided(entries)):
            digest = _digest(divided, rules)
            said.update(digest.encode())
            if number % share.of != share.part:
                continue
            batch = Batch(stem=folder / f"{number:06d}-{digest}", entries=divided, rules=rules)
            stems.append(batch.stem)
            if is_staged(batch.stem):
                shown.advance(len(batch.entries))
            else:
                yield batch

    ours = None if total is None else math.ceil(total / share.of)
    try:
        with progress("preparing", total=ours) as shown, Children(stage_batch, count=workers) as children:
            for batch, _ in children.run(missing()):
                shown.advance(len(batch.entries))
    finally:
        sweep(folder)  # what children that were stopped had half written
    return Staged(stems=stems, entries_sha256=said.hexdigest())


def is_staged(stem: Path) -> bool:
    """Whether the batch is there, whole."""
    return all(stem.with_suffix(suffix).is_file() for suffix in BATCH_SUFFIXES)


def read_batch(stem: Path) -> Iterator[StagedClip]:
    """The rows of a staged batch.

    Raises:
        DatasetError: it is not whole.
    """
    try:
        for row in pq.read_table(stem.with_suffix(_ROWS), schema=_SCHEMA).to_pylist():
            yield StagedClip(**row, batch=stem)
    except (OSError, pa.ArrowInvalid) as error:
        raise DatasetError(f"{stem.with_suffix(_ROWS)}: is not a whole batch ({error}); remove it and prepare again") from error


def staged_audio(clip: StagedClip) -> bytes:
    """The FLAC bytes of a staged clip, empty where it has none.

    Raises:
        DatasetError: the batch is not whole.
    """
    if not clip.length:
        return b""
    path = clip.batch.with_suffix(_AUDIO)
    try:
        with path.open("rb") as file:
            file.seek(clip.offset)
            data = file.read(clip.length)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); remove the batch and prepare again") from error
    if zlib.crc32(data) != clip.crc32:
        raise DatasetError(f"{path}: is cut short or damaged; remove the batch and prepare again")
    return data


def stage_batch(batch: Batch, note: Note, left_out: Mapping[int, str]) -> None:
    """Read, check and write one batch; a task of :class:`avskrift.audio.limited.Children`, a step for each entry."""
    rows: list[StagedClip] = []
    with atomic_file(batch.stem.with_suffix(_AUDIO), durable=False) as audio, audio.open("wb") as file:
        for step, (source, given) in enumerate(batch.entries):
            note(step)
            entry = dataclasses.replace(given, text=transcript(given.text))
            sentence = normalise(entry.text, batch.rules.language)
            if step in left_out:
                outcome: Recording | Refusal = Refusal(code="undecodable", reason=left_out[step])
            else:
                outcome = _checked(entry, sentence, batch.rules.language)
            rows.append(_staged(entry, source, sentence, outcome, file, batch.rules))
    _write_rows(batch.stem.with_suffix(_ROWS), rows)


def _checked(entry: Entry, sentence: str, language: str) -> Recording | Refusal:
    try:
        return check(entry, sentence, language)
    except Exception as error:
        error.add_note(f"while reading {entry.location!r}")
        raise


def hashed_speaker(speaker: str, salt: str) -> str:
    """A speaker's id: 16 hexadecimal digits of a salted sha256; "" stays ""."""
    return hashlib.sha256(f"{salt}\0{speaker}".encode()).hexdigest()[:_SPEAKER_ID_DIGITS] if speaker else ""


def _divided(entries: Iterable[tuple[int, Entry]]) -> Iterator[list[tuple[int, Entry]]]:
    """Batches of so many clips, or fewer where their bytes would fill the memory."""
    batch: list[tuple[int, Entry]] = []
    held = 0
    for numbered in entries:
        size = held_bytes(numbered[1])
        if batch and (len(batch) == BATCH_CLIPS or held + size > _BATCH_BYTES):
            yield batch
            batch, held = [], 0
        batch.append(numbered)
        held += size
    if batch:
        yield batch


def _digest(entries: Sequence[tuple[int, Entry]], rules: Rules) -> str:
    said = [
        [source, *(getattr(entry, name) for name in _SAID), entry.fault and entry.fault.code, _stamp(entry)] for source, entry in entries
    ]
    rule = [rules.language, normaliser_version(rules.language), hashed_speaker("-", rules.speaker_salt), avskrift.__version__]
    return hashlib.sha256(json.dumps([rule, said]).encode()).hexdigest()[:16]


def _stamp(entry: Entry) -> str:
    """What tells whether the recording has changed, without decoding it."""
    return entry.read.stamp() if isinstance(entry.read, Stamped) else ""


def _staged(entry: Entry, source: int, sentence: str, outcome: Recording | Refusal, file: BinaryIO, rules: Rules) -> StagedClip:
    pcm = outcome.pcm
    if pcm is not None and isinstance(outcome, Refusal):
        pcm = pcm[: SECONDS_HEARD * SAMPLE_RATE]
    audio = b"" if pcm is None else encode_flac(pcm)
    offset = file.tell()
    file.write(audio)
    return StagedClip(
        location=entry.location,
        clip_id=entry.clip_id,
        text=entry.text,
        sentence=sentence,
        split=entry.split,
        speaker_id=hashed_speaker(entry.speaker, rules.speaker_salt),
        gender=entry.gender,
        age=entry.age,
        accent=entry.accent,
        source=source,
        gives_way=entry.gives_way,
        code="" if isinstance(outcome, Recording) else outcome.code,
        reason="" if isinstance(outcome, Recording) else outcome.reason,
        pcm_sha256=outcome.pcm_sha256 if isinstance(outcome, Recording) else "",
        duration_s=outcome.duration_s if isinstance(outcome, Recording) else 0.0,
        offset=offset,
        length=len(audio),
        crc32=zlib.crc32(audio),
        recording=entry.recording,
    )


def _write_rows(path: Path, rows: Sequence[StagedClip]) -> None:
    columns = {name: [getattr(row, name) for row in rows] for name in _SCHEMA.names}
    with atomic_file(path, durable=False) as temporary:
        pq.write_table(pa.table(columns, schema=_SCHEMA), temporary)
