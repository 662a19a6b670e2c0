"""Whether a model reads short clips as well when it is given only what they last."""

from __future__ import annotations

from collections.abc import Sequence

from avskrift.evaluation.bootstrap import group_clips, paired_difference, ratio_interval
from avskrift.evaluation.listening import listen, word_errors, words
from avskrift.evaluation.result import ShortContext
from avskrift.evaluation.spoken_clip import SpokenClip
from avskrift.whisper.transcript import Options, Transcriber

CLIPS = 40


def choose_shortest(durations: Sequence[float]) -> list[int]:
    """The places of the shortest clips, at most 40, in the order of the clips."""
    return sorted(sorted(range(len(durations)), key=durations.__getitem__)[:CLIPS])


def measure_short_context(
    clips: Sequence[SpokenClip], as_packaged: Sequence[str], full: Transcriber, *, language: str
) -> ShortContext | None:
    """Compare the texts ``as_packaged`` with those of ``full``, the same model given 30 s; None where no clip has words.

    ``clips`` are those of :func:`choose_shortest`, ``as_packaged`` has a text for each.

    Raises:
        EvaluationError: the engine did not answer once for every clip.
        LanguageError: the model does not know ``language``.
    """
    units = [len(words(clip.text, language)) for clip in clips]
    if not any(units):
        return None
    heard = listen(full, [clip.samples for clip in clips], Options(language=language))
    packaged = [word_errors(clip.text, text, language) for clip, text in zip(clips, as_packaged, strict=True)]
    at_30_s = [word_errors(clip.text, transcript.text, language) for clip, transcript in zip(clips, heard, strict=True)]
    grouping = group_clips([clip.speaker_id for clip in clips])
    return ShortContext(
        clips=len(clips),
        wer=ratio_interval(packaged, units, grouping),
        wer_full=ratio_interval(at_30_s, units, grouping),
        loss=paired_difference(packaged, at_30_s, units, grouping),
    )
