"""The same recording more than once."""

from __future__ import annotations

import pytest

from avskrift.corpus.duplicates import refuse_duplicates
from avskrift.corpus.staging import StagedClip
from avskrift.errors import OverlapError


def clip(location: str, audio: str, sentence: str = "hej", split: str = "", *, gives_way: bool = False) -> StagedClip:
    return StagedClip(
        location=location,
        clip_id=location,
        text=sentence,
        sentence=sentence,
        split=split,
        speaker_id="",
        gender="",
        age="",
        accent="",
        source=0,
        gives_way=gives_way,
        code="",
        reason="",
        pcm_sha256=audio,
        duration_s=1.0,
        offset=0,
        length=1,
        crc32=0,
    )


def test_of_clips_that_sound_and_read_the_same_the_first_is_kept() -> None:
    refused = refuse_duplicates([clip("a", "x"), clip("b", "y"), clip("c", "x"), clip("d", "x")], on_overlap="fail")
    assert {place: code for place, (code, _) in refused.items()} == {2: "duplicate_audio", 3: "duplicate_audio"}
    assert refused[2][1] == "the same audio as 'a'"


def test_where_the_same_audio_has_different_transcripts_nobody_knows_which_is_right() -> None:
    refused = refuse_duplicates([clip("a", "x", "hej"), clip("b", "x", "nej"), clip("c", "y", "nej")], on_overlap="fail")
    assert {place: code for place, (code, _) in refused.items()} == {0: "conflicting_transcripts", 1: "conflicting_transcripts"}
    assert "'b'" in refused[0][1]


def test_the_copy_in_a_named_split_is_kept_before_one_that_would_be_drawn_or_gives_way() -> None:
    clips = [clip("a", "x"), clip("b", "x", split="train", gives_way=True), clip("c", "x", split="dev")]
    assert set(refuse_duplicates(clips, on_overlap="fail")) == {0, 1}


def test_a_recording_in_two_named_splits_is_refused_with_both_places() -> None:
    clips = [clip("a.wav", "x", split="train"), clip("b.wav", "x", split="test")]
    with pytest.raises(OverlapError, match=r"one recording in test \('b\.wav'\) and in train \('a\.wav'\)"):
        refuse_duplicates(clips, on_overlap="fail")
    assert set(refuse_duplicates(clips, on_overlap="hold-back")) == {0}
