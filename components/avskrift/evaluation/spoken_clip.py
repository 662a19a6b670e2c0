"""A clip with its audio in memory, for the measures that listen to a few clips more than once."""

from __future__ import annotations

from dataclasses import dataclass

from avskrift.whisper.transcript import Audio


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpokenClip:
    """What was said, by whom, and the recording. ``speaker_id`` is "" where the speaker is unknown."""

    clip_id: str
    text: str
    speaker_id: str
    duration_s: float
    samples: Audio
