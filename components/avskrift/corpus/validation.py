"""What a clip must be to enter a dataset, and the words for why one is not.

Each check looks at one clip alone. What shows only beside other clips (duplicates, splits) is in ``duplicates`` and ``splits``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.audio.decode import Audio, pcm16
from avskrift.corpus.entries import MAX_SECONDS, Entry
from avskrift.errors import AudioError, AudioTooLargeError, EmptyAudioError, NotFiniteAudioError
from avskrift.text.scripts import foreign_characters

FaultCode = Literal[
    "missing",
    "outside",
    "undecodable",
    "empty_audio",
    "too_short",
    "too_long",
    "silent",
    "clipped",
    "not_finite",
    "empty_transcript",
    "foreign_characters",
    "too_fast",
    "too_slow",
    "voted_down",
    "duplicate_audio",
    "conflicting_transcripts",
]
# Not faults of the source: what is held back so that the splits, or another dataset's, share nothing with each other.
HeldBackCode = Literal[
    "sentence_in_test",
    "sentence_in_validation",
    "sentence_in_train",
    "recording_in_test",
    "recording_in_validation",
    "recording_in_train",
    "speaker_in_test",
    "speaker_in_validation",
    "speaker_in_train",
    "excluded",
]
Code = Literal[FaultCode, HeldBackCode]
HELD_BACK: frozenset[Code] = frozenset(get_args(HeldBackCode))

MIN_SECONDS = 0.3
SILENT_PEAK = 0.001  # of full scale: -60 dB
# A recording that was too loud stays at full scale for many samples; a loud one touches it now and then.
CLIPPED_LEVEL = 0.999
CLIPPED_SHARE = 0.02
# Characters of the normalised sentence a second. Fast Swedish is some 20; one short word in a recording of five seconds is 0.4.
MAX_CHARACTERS_A_SECOND = 35.0
MIN_CHARACTERS_A_SECOND = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A clip that does not enter the dataset: a code to count by and a sentence for a person."""

    clip_id: str
    code: Code
    reason: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a clip is refused. ``pcm`` is its audio where that could be read, for people to listen to."""

    code: Code
    reason: str
    pcm: npt.NDArray[np.int16] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The audio of a valid entry: 16-bit samples at 16 kHz and their sha256."""

    pcm: npt.NDArray[np.int16]
    pcm_sha256: str

    @property
    def duration_s(self) -> float:
        return len(self.pcm) / SAMPLE_RATE


def check(entry: Entry, sentence: str, language: str) -> Recording | Refusal:
    """Read the entry's recording and check it with its transcript; the first fault found is the reason.

    ``sentence`` is the transcript, normalised.
    """
    refused = _check_metadata(entry, sentence, language)
    if refused:
        return refused
    try:
        samples = entry.read()
    except AudioError as error:
        return Refusal(code=_code_of(error), reason=str(error))
    except MemoryError:
        return Refusal(code="undecodable", reason="decoding it needs more memory than a clip may take")
    pcm = pcm16(samples)
    return _check_samples(samples, pcm, sentence) or Recording(pcm=pcm, pcm_sha256=pcm_digest(pcm))


def pcm_digest(pcm: npt.NDArray[np.int16]) -> str:
    """What tells one recording from another: the sha256 of its samples, little-endian."""
    return sha256(pcm.astype("<i2", copy=False).tobytes()).hexdigest()


def _check_metadata(entry: Entry, sentence: str, language: str) -> Refusal | None:
    if entry.fault:
        return Refusal(code=entry.fault.code, reason=entry.fault.reason)
    if not sentence:
        return Refusal(code="empty_transcript", reason="the transcript has no words")
    foreign = foreign_characters(entry.text, language)
    if foreign:
        return Refusal(code="foreign_characters", reason=f"the transcript holds what is not written in {language!r}: {_named(foreign)}")
    if entry.down_votes > entry.up_votes:
        return Refusal(code="voted_down", reason=f"{entry.down_votes} people voted against it and {entry.up_votes} for it")
    return None


def _check_samples(samples: Audio, pcm: npt.NDArray[np.int16], sentence: str) -> Refusal | None:
    seconds = len(samples) / SAMPLE_RATE
    if seconds > MAX_SECONDS:
        return Refusal(code="too_long", reason=f"lasts {seconds:.2f} s, more than {MAX_SECONDS:g} s")
    if seconds < MIN_SECONDS:
        return Refusal(code="too_short", reason=f"lasts {seconds:.2f} s, less than {MIN_SECONDS:g} s", pcm=pcm)
    levels = np.abs(samples)
    peak = float(levels.max())
    if peak < SILENT_PEAK:
        return Refusal(code="silent", reason=f"its loudest sample is {peak:.5f} of full scale, below {SILENT_PEAK:g}", pcm=pcm)
    if peak >= CLIPPED_LEVEL and (share := float((levels >= CLIPPED_LEVEL).mean())) > CLIPPED_SHARE:
        return Refusal(code="clipped", reason=f"{share:.0%} of its samples are at full scale; it was recorded too loud", pcm=pcm)
    return _check_rate(len(sentence.replace(" ", "")) / seconds, pcm)


def _check_rate(characters_a_second: float, pcm: npt.NDArray[np.int16]) -> Refusal | None:
    said = f"{characters_a_second:.1f} characters a second; the transcript does not belong to the recording, or not to all of it"
    if characters_a_second > MAX_CHARACTERS_A_SECOND:
        return Refusal(code="too_fast", reason=f"{said} (more than {MAX_CHARACTERS_A_SECOND:g})", pcm=pcm)
    if characters_a_second < MIN_CHARACTERS_A_SECOND:
        return Refusal(code="too_slow", reason=f"{said} (less than {MIN_CHARACTERS_A_SECOND:g})", pcm=pcm)
    return None


def _code_of(error: AudioError) -> Code:
    codes: Sequence[tuple[type[AudioError], Code]] = (
        (AudioTooLargeError, "too_long"),
        (EmptyAudioError, "empty_audio"),
        (NotFiniteAudioError, "not_finite"),
    )
    return next((code for cls, code in codes if isinstance(error, cls)), "undecodable")


def _named(characters: str) -> str:
    """The first characters, also by number: some cannot be seen."""
    return ", ".join(f"{character if character.isprintable() else '?'} (U+{ord(character):04X})" for character in characters[:5])
