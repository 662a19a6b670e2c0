"""The names that people give to the columns of a list of recordings, and how their values are read.

The first name that a list has is taken, so the order matters where lists have several.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from typing import Any

from avskrift.corpus.entries import tidy

# NeMo, Hugging Face AudioFolder and Common Voice.
RECORDING = ("audio_filepath", "file_name", "path", "file", "audio", "filename")
# FLEURS has the sentence twice, and `transcription` there is without case and punctuation, which Whisper is to learn.
TRANSCRIPT = ("text", "raw_transcription", "transcription", "sentence", "transcript")
DESCRIPTIVE: Mapping[str, tuple[str, ...]] = {
    "split": ("split",),
    "speaker": ("speaker_id", "client_id", "speaker"),
    "gender": ("gender",),
    "age": ("age",),
    "accent": ("accent", "accents"),
}
VOTES = ("up_votes", "down_votes")  # the fields of an entry have the same names
_EXACT_BELOW = 2.0**53  # beyond, a float is the neighbour of several whole numbers


def first_of(names: Iterable[str], present: Container[str]) -> str | None:
    """The first of ``names`` that is ``present``."""
    return next((name for name in names if name in present), None)


def described(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says beside recording and transcript: keyword arguments of an entry, from values by column name.

    Raises:
        ValueError: a count of votes is none, or a number has lost digits; the message names the column and what it holds.
    """
    found: dict[str, Any] = {}
    for field, names in DESCRIPTIVE.items():
        name = first_of(names, values)
        found[field] = tidy(_plain(name, values[name])) if name else ""
    for name in VOTES:
        found[name] = _count(name, values.get(name))
    return found


def seconds(name: str, value: str) -> float:
    """A time in seconds.

    Raises:
        ValueError: it is none, negative, or not finite; the message names the column and what it holds.
    """
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name!r} is {value!r}; give seconds, from 0 on, with a decimal point")
    return number


def either(names: tuple[str, ...]) -> str:
    """The names as a person would list them."""
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _plain(name: str, value: object) -> str:
    """A value as text; what pandas writes for a gap counts as one. Whole numbers arrive as 2.0 from tables that had gaps."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not (isinstance(value, float) and value.is_integer()):
        return str(value)
    if abs(value) >= _EXACT_BELOW:
        raise ValueError(f"{name!r} is {value:g}, a number that has lost its last digits; store the column as text")
    return str(int(value))


def _count(name: str, value: object) -> int:
    """A number of votes."""
    plain = _plain(name, value).strip()
    if not plain:
        return 0
    try:
        number = float(plain)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0 and number == int(number)):
        raise ValueError(f"{name!r} is {plain!r}; give a count, or leave it empty")
    return int(number)
