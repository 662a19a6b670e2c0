"""How a dataset's figures are put into words, in its report and in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from avskrift import pages
from avskrift.corpus.statistics import Share, Spread, Statistics, Voices

NOT_STATED = "not stated"

# Of the codes, for people. The sentence that each refused clip has beside its code gives the figures.
MEANINGS: Mapping[str, str] = {
    "missing": "the recording or its transcript is not there",
    "outside": "its name or a link leads out of the source",
    "undecodable": "cannot be decoded as audio",
    "empty_audio": "holds no samples",
    "too_short": "shorter than speech can be",
    "too_long": "longer than Whisper's window",
    "silent": "nothing to hear",
    "clipped": "recorded too loud",
    "not_finite": "holds samples that are no numbers",
    "empty_transcript": "the transcript has no words",
    "foreign_characters": "the transcript is not written in the language",
    "too_fast": "more text than can be said in the time",
    "too_slow": "less text than the time holds",
    "voted_down": "more votes against it than for it",
    "duplicate_audio": "the same audio as another clip",
    "conflicting_transcripts": "the same audio with another transcript",
    "recording_in_test": "its recording is in test",
    "recording_in_validation": "its recording is in validation",
    "recording_in_train": "its recording is in train",
    "sentence_in_test": "its sentence is in test",
    "sentence_in_validation": "its sentence is in validation",
    "sentence_in_train": "its sentence is in train",
    "speaker_in_test": "its speaker is in test",
    "speaker_in_validation": "its speaker is in validation",
    "speaker_in_train": "its speaker is in train",
    "excluded": "another dataset, named to be kept out, measures on it",
}

# As Common Voice spells them.
_AGES = ("teens", "twenties", "thirties", "fourties", "fifties", "sixties", "seventies", "eighties", "nineties")


def verdict(figures: Statistics) -> str:
    """How much was kept of what."""
    refused, held_back = sum(figures.refused.values()), sum(figures.held_back.values())
    return (
        f"Of {count(figures.entries, 'recording')} {figures.clips:,} are in the splits, {pages.length(figures.hours)}; {refused:,} were "
        f"refused for a fault ({pages.percent(figures.refused_share)}) and {held_back:,} held back so that the splits share nothing."
    )


def separation(figures: Statistics) -> tuple[str, bool]:
    """What stands in more than one split; and whether that is nothing."""
    unknown = f" Of {count(figures.voices.unknown.clips, 'clip')} the speaker is unknown." if figures.voices.unknown.clips else ""
    shared = f"{count(figures.shared_speakers, 'speaker')} and {count(figures.shared_sentences, 'sentence')}"
    return f"In more than one split: {shared}.{unknown}", not (figures.shared_speakers or figures.shared_sentences)


def spread(spread: Spread, unit: str) -> str:
    """Where the clips lie."""
    return (
        f"Median {spread.median:.1f} {unit}; nine of ten clips {spread.low:.1f} to {spread.high:.1f}, "
        f"all {spread.smallest:.1f} to {spread.largest:.1f}."
    )


def voices(voices: Voices, hours: float) -> str:
    """How many speak, and whether a few speak most."""
    if not voices.speakers:
        return "The source does not say who speaks."
    said = f"{count(voices.speakers, 'speaker')}; the one heard most has {pages.percent(voices.largest[0].hours / hours)} of the audio"
    if voices.others.clips:
        named = sum(share.hours for share in voices.largest)
        said += f", the {len(voices.largest)} heard most {pages.percent(named / hours)}"
    return f"{said}."


def count(number: int, what: str) -> str:
    """A number with its noun."""
    return f"{number:,} {what}{'' if number == 1 else 's'}" if number else f"no {what}"


def unit(hours: float) -> tuple[str, float]:
    """In which unit to give the parts of so many hours, and how many of it an hour has."""
    return ("Hours", 1.0) if hours >= 2 else ("Minutes", 60.0)


def by_age(ages: Sequence[Share]) -> list[Share]:
    """As people grow older; ages in other words come after those that Common Voice has, and the unknown last."""
    return sorted(ages, key=lambda age: (not age.name, _AGES.index(age.name) if age.name in _AGES else len(_AGES), age.name))
