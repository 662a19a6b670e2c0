"""What a model hears where nobody speaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.evaluation.bootstrap import group_clips, ratio_interval
from avskrift.evaluation.listening import listen, words
from avskrift.evaluation.result import Hallucination, SoundHeard
from avskrift.evaluation.sounds import generate_sounds, noise_floor
from avskrift.evaluation.spoken_clip import SpokenClip
from avskrift.evaluation.word_alignment import aligned_words
from avskrift.text.repetition import is_loop
from avskrift.whisper.transcript import Audio, Options, Transcriber

SPEECH_IN_SILENCE = "speech-in-silence"
SPEECH_CLIPS = 15  # with fewer, an unadapted model that talks around one clip in five passes by luck
SILENCE_SECONDS = 10.0  # around a clip of speech, half before and half after
_SEED = 20_261_128


def measure_hallucination(transcriber: Transcriber, *, language: str, speech: Sequence[SpokenClip]) -> Hallucination:
    """Count the words heard in generated sounds, and beyond the reference in up to 15 clips of ``speech`` amid silence.

    Words are counted once normalised, so that "..." or a note sign is none. Of a clip of speech, the insertions of its
    alignment count, and of its seconds those of the silence.

    Raises:
        EvaluationError: the engine did not answer once for every recording.
        LanguageError: the model does not know ``language``.
    """
    recordings = [*_without_speech(), *_amid_silence(speech)]
    heard = listen(transcriber, [recording.samples for recording in recordings], Options(language=language))
    counts = [
        _Count(
            kind=recording.kind,
            seconds=recording.silent_s,
            words=_words_beyond(recording.said, transcript.text, language),
            looped=is_loop(transcript.text),
        )
        for recording, transcript in zip(recordings, heard, strict=True)
    ]
    each_alone = group_clips([""] * len(counts))
    return Hallucination(
        words_a_minute=ratio_interval([count.words for count in counts], [count.seconds / 60 for count in counts], each_alone),
        sounds=tuple(_summary(kind, counts) for kind in dict.fromkeys(count.kind for count in counts)),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Recording:
    kind: str
    samples: Audio
    silent_s: float
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Count:
    """Of one recording."""

    kind: str
    seconds: float
    words: int
    looped: bool


def _without_speech() -> list[_Recording]:
    return [_Recording(kind=sound.kind, samples=sound.samples, silent_s=len(sound.samples) / SAMPLE_RATE) for sound in generate_sounds()]


def _amid_silence(speech: Sequence[SpokenClip]) -> list[_Recording]:
    generator = np.random.default_rng(_SEED)
    return [
        _Recording(kind=SPEECH_IN_SILENCE, samples=_surrounded(clip.samples, generator), silent_s=SILENCE_SECONDS, said=clip.text)
        for clip in _spread(speech)
    ]


def _spread(speech: Sequence[SpokenClip]) -> list[SpokenClip]:
    """Clips from all over, since neighbours often share their speaker."""
    places = np.linspace(0, len(speech), num=min(SPEECH_CLIPS, len(speech)), endpoint=False)
    return [speech[int(place)] for place in places]


def _surrounded(samples: Audio, generator: np.random.Generator) -> Audio:
    before, after = (noise_floor(SILENCE_SECONDS / 2, generator) for _ in range(2))
    return np.concatenate([before, samples, after])


def _words_beyond(said: str, heard: str, language: str) -> int:
    return sum(kind == "insert" for kind, _, _ in aligned_words(words(said, language), words(heard, language)))


def _summary(kind: str, counts: Sequence[_Count]) -> SoundHeard:
    alike = [count for count in counts if count.kind == kind]
    return SoundHeard(
        kind=kind,
        recordings=len(alike),
        seconds=sum(count.seconds for count in alike),
        words=sum(count.words for count in alike),
        looped=sum(count.looped for count in alike),
    )
