"""The demo's speakers: voice variants of eSpeak NG's Swedish voice, each with a rate and a pitch of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "validation", "test"]
Gender = Literal["female", "male"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """One voice, and the only split in which it is heard."""

    name: str
    variant: str  # a file in the wheel's espeak-ng-data/voices/!v
    gender: Gender
    rate: int  # words a minute, before the variation from clip to clip
    pitch: int  # eSpeak's scale from 0 to 99; 50 is the variant's own pitch
    split: Split


SPEAKERS: tuple[Speaker, ...] = (
    Speaker(name="sv-m1", variant="m1", gender="male", rate=160, pitch=46, split="train"),
    Speaker(name="sv-m2", variant="m2", gender="male", rate=172, pitch=52, split="train"),
    Speaker(name="sv-m4", variant="m4", gender="male", rate=150, pitch=40, split="train"),
    Speaker(name="sv-m7", variant="m7", gender="male", rate=166, pitch=58, split="train"),
    Speaker(name="sv-f1", variant="f1", gender="female", rate=158, pitch=48, split="train"),
    Speaker(name="sv-f2", variant="f2", gender="female", rate=170, pitch=55, split="train"),
    Speaker(name="sv-f4", variant="f4", gender="female", rate=148, pitch=44, split="train"),
    Speaker(name="sv-linda", variant="linda", gender="female", rate=164, pitch=50, split="train"),
    Speaker(name="sv-m6", variant="m6", gender="male", rate=154, pitch=50, split="validation"),
    Speaker(name="sv-f5", variant="f5", gender="female", rate=168, pitch=46, split="validation"),
    Speaker(name="sv-m3", variant="m3", gender="male", rate=162, pitch=49, split="test"),
    Speaker(name="sv-m8", variant="m8", gender="male", rate=156, pitch=54, split="test"),
    Speaker(name="sv-f3", variant="f3", gender="female", rate=160, pitch=50, split="test"),
    Speaker(name="sv-annie", variant="Annie", gender="female", rate=152, pitch=45, split="test"),
)


def speakers_of(split: Split) -> tuple[Speaker, ...]:
    """The speakers heard in ``split``, in a fixed order."""
    return tuple(speaker for speaker in SPEAKERS if speaker.split == split)
