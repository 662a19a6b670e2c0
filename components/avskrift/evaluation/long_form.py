"""Clips joined into long recordings, transcribed at one go, beside the same clips alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import median

from avskrift.audio.constants import WINDOW_SECONDS
from avskrift.evaluation.bootstrap import group_clips, paired_difference, ratio_interval
from avskrift.evaluation.joined_clips import JoinedRecording, PlacedClip, join_clips
from avskrift.evaluation.listening import listen, word_errors, words
from avskrift.evaluation.result import LongForm
from avskrift.evaluation.spoken_clip import SpokenClip
from avskrift.evaluation.word_alignment import Kind, aligned_words
from avskrift.whisper.transcript import Options, Transcriber, Transcript

RECORDING_SECONDS = 180.0
RECORDINGS = 2  # 6 minutes for each model
LEAST_SECONDS = WINDOW_SECONDS + 5.0  # what one window of the encoder holds is not long
_FOUND_SHARE = 0.5


def measure_long_form(clips: Sequence[SpokenClip], alone: Sequence[str], transcriber: Transcriber, *, language: str) -> LongForm | None:
    """Join clips in their order, with pauses, into at most two recordings of up to 3 minutes; None if they last under 35 s.

    ``alone`` has for each clip the text that the same model gave for it alone. Clips without words in their reference are
    left out, and so are those that no longer fit. Every edit belongs to the clip in whose reference it falls, an insertion
    to the clip before it; so both error rates are counted clip by clip, and their difference is resampled in pairs.

    Raises:
        EvaluationError: the engine did not answer once for every recording.
        LanguageError: the model does not know ``language``.
    """
    pieces = [_piece(clip, text, language) for clip, text in zip(clips, alone, strict=True)]
    pieces = [piece for piece in pieces if piece.said]
    recordings = join_clips([piece.clip for piece in pieces], seconds=RECORDING_SECONDS, recordings=RECORDINGS)
    if sum(recording.seconds for recording in recordings) < LEAST_SECONDS:
        return None
    heard = listen(transcriber, [recording.samples for recording in recordings], Options(language=language, timestamps="word"))
    measured = [
        clip for recording, transcript in zip(recordings, heard, strict=True) for clip in _measure(recording, pieces, transcript, language)
    ]
    return _summary(measured, recordings)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Piece:
    """A clip, its reference and what was heard in it alone, as normalised words; ``errors`` are those alone."""

    clip: SpokenClip
    said: list[str]
    alone: list[str]
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Measured:
    """One clip in a long recording. ``found`` is the share of its words alone that were heard again, None if it had none.

    ``distances`` are from where it begins to where its first word was heard, and for its end likewise, in seconds; of
    those of the two words that were heard right.
    """

    piece: _Piece
    errors: int
    found: float | None
    distances: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _HeardWord:
    word: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class _Edit:
    """One place of an alignment; ``heard`` counts the words heard, None where a word was left out."""

    kind: Kind
    heard: int | None


def _piece(clip: SpokenClip, alone: str, language: str) -> _Piece:
    return _Piece(clip=clip, said=words(clip.text, language), alone=words(alone, language), errors=word_errors(clip.text, alone, language))


def _measure(recording: JoinedRecording, pieces: Sequence[_Piece], transcript: Transcript, language: str) -> list[_Measured]:
    here = [pieces[place.index] for place in recording.clips]
    # Errors are counted as everywhere, on the whole text: a number of two words is another one when each is read by itself.
    whole, timed = words(transcript.text, language), _heard_words(transcript, language)
    said = _edits_by_clip([piece.said for piece in here], whole)
    again = _edits_by_clip([piece.alone for piece in here], whole)
    times = _edits_by_clip([piece.said for piece in here], [word.word for word in timed])
    return [
        _Measured(
            piece=piece,
            errors=sum(edit.kind != "equal" for edit in said[number]),
            found=sum(edit.kind == "equal" for edit in again[number]) / len(piece.alone) if piece.alone else None,
            distances=_boundary_distances(place, times[number], timed),
        )
        for number, (piece, place) in enumerate(zip(here, recording.clips, strict=True))
    ]


def _edits_by_clip(said: Sequence[Sequence[str]], heard: Sequence[str]) -> list[list[_Edit]]:
    """Align all that was said with all that was heard, and give each edit to its clip; what was heard before all goes to the first."""
    owners = [clip for clip, of_clip in enumerate(said) for _ in of_clip]
    edits: list[list[_Edit]] = [[] for _ in said]
    at_said = at_heard = 0
    for kind, expected, word in aligned_words(list(chain.from_iterable(said)), heard):
        owner = at_said if expected is not None else max(0, at_said - 1)
        edits[owners[owner] if owners else 0].append(_Edit(kind, None if word is None else at_heard))
        at_said += expected is not None
        at_heard += word is not None
    return edits


def _heard_words(transcript: Transcript, language: str) -> list[_HeardWord]:
    """Normalised words with their times; what holds several of them, as a segment without word times does, gives its times to each."""
    stretches = [stretch for segment in transcript.segments for stretch in (segment.words or (segment,))]
    return [
        _HeardWord(word=word, start_s=stretch.start_s, end_s=stretch.end_s)
        for stretch in stretches
        for word in words(stretch.text, language)
    ]


def _boundary_distances(place: PlacedClip, edits: Sequence[_Edit], timed: Sequence[_HeardWord]) -> list[float]:
    of_reference = [edit for edit in edits if edit.kind != "insert"]
    first, last = of_reference[0], of_reference[-1]
    distances: list[float] = []
    if first.kind == "equal" and first.heard is not None:
        distances.append(abs(timed[first.heard].start_s - place.start_s))
    if last.kind == "equal" and last.heard is not None:
        distances.append(abs(timed[last.heard].end_s - place.end_s))
    return distances


def _summary(measured: Sequence[_Measured], recordings: Sequence[JoinedRecording]) -> LongForm:
    errors, errors_alone = [clip.errors for clip in measured], [clip.piece.errors for clip in measured]
    units = [len(clip.piece.said) for clip in measured]
    grouping = group_clips([clip.piece.clip.speaker_id for clip in measured])
    found = [clip.found >= _FOUND_SHARE for clip in measured if clip.found is not None]
    distances = [distance for clip in measured for distance in clip.distances]
    return LongForm(
        recordings=len(recordings),
        seconds=sum(recording.seconds for recording in recordings),
        clips=len(measured),
        wer=ratio_interval(errors, units, grouping),
        wer_alone=ratio_interval(errors_alone, units, grouping),
        loss=paired_difference(errors, errors_alone, units, grouping),
        clips_found=sum(found) / len(found) if found else 0.0,
        # A model that heard no boundary's word right has placed nothing: as wrong as can be, and a number all the same.
        timestamp_error_s=median(distances) if distances else RECORDING_SECONDS,
    )
