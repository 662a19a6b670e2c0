"""Splits: the source's own, or drawn so that nothing is shared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

import pytest

from avskrift.corpus.splits import Assignment, Member, assign
from avskrift.errors import OverlapError, SourceError


def member(number: int, *, speaker: str = "", sentence: str = "", split: str = "", recording: str = "") -> Member:
    sentence, location = sentence or f"mening {number}", f"{number:03}.wav"
    return Member(clip_id=f"c{number}", split=split, speaker_id=speaker, sentence=sentence, recording=recording, location=location)


def splits_of(members: Iterable[Member], assignment: Assignment) -> dict[str, set[str]]:
    """The splits in which each recording is."""
    found: dict[str, set[str]] = defaultdict(set)
    for one in members:
        if one.clip_id in assignment.splits:
            found[one.recording].add(assignment.splits[one.clip_id])
    return found


def test_the_sources_own_splits_are_taken_with_their_other_names() -> None:
    names = ["train", "Training", "dev", "valid", "validation", "test"]
    assignment = assign([member(number, split=name) for number, name in enumerate(names)])
    assert list(assignment.splits.values()) == ["train", "train", "validation", "validation", "validation", "test"]
    assert not assignment.held_back


@pytest.mark.parametrize(
    ("splits", "sentence"),
    [
        (["train", "test", ""], "2 of 3 clips name a split"),
        (["train", "test", "other"], "a split 'other'"),
        (["test", "test", "validation"], "no clip is left for the train split"),
    ],
)
def test_splits_that_cannot_be_used_are_refused(splits: list[str], sentence: str) -> None:
    with pytest.raises(SourceError, match=sentence):
        assign([member(number, split=split) for number, split in enumerate(splits)])


def test_a_split_that_the_source_does_not_have_is_drawn_from_its_train_split() -> None:
    members = [member(number, speaker=f"s{number % 20}", split="train") for number in range(100)]
    members += [member(number, speaker=f"t{number % 5}", split="test") for number in range(100, 120)]
    assignment = assign(members)
    assert {assignment.splits[f"c{number}"] for number in range(100)} == {"train", "validation"}
    assert {assignment.splits[f"c{number}"] for number in range(100, 120)} == {"test"}


def test_a_group_keeps_its_split_when_the_source_grows() -> None:
    small = [member(number, speaker=f"s{number}") for number in range(200)]
    large = [member(number, speaker=f"s{number}") for number in range(400)]
    before, after = assign(small).splits, assign(large).splits
    assert all(after[clip_id] == split for clip_id, split in before.items())


def test_large_sources_are_divided_about_80_10_10() -> None:
    splits = list(assign([member(number) for number in range(3000)]).splits.values())
    assert 2300 < splits.count("train") < 2500
    assert 240 < splits.count("validation") < 360
    assert 240 < splits.count("test") < 360


@pytest.mark.parametrize("groups", range(3, 30))
def test_three_groups_are_enough_for_three_splits(groups: int) -> None:
    assignment = assign([member(number, speaker=f"s{number % groups}") for number in range(60)])
    assert set(assignment.splits.values()) == {"train", "validation", "test"}


@pytest.mark.parametrize("groups", [1, 2])
def test_fewer_are_not(groups: int) -> None:
    with pytest.raises(SourceError, match=f"three or more different sentences, and there are {groups}"):
        assign([member(number, sentence=f"mening {number % groups}") for number in range(10)])


def test_two_speakers_are_too_few_and_the_sentence_says_what_to_do() -> None:
    with pytest.raises(SourceError, match="three or more speakers, and there are 2; add speakers, or leave them out of the metadata"):
        assign([member(number, speaker=f"s{number % 2}") for number in range(10)])


def test_a_single_speakers_clips_are_split_by_sentence() -> None:
    assignment = assign([member(number, speaker="s", sentence=f"mening {number // 2}") for number in range(60)])
    assert all(assignment.splits[f"c{number}"] == assignment.splits[f"c{number + 1}"] for number in range(0, 60, 2))


def test_clips_of_unknown_speakers_are_grouped_by_sentence_beside_known_ones() -> None:
    known = [member(number, speaker=f"s{number % 15}") for number in range(60)]
    unknown = [member(number, sentence=f"okänd {number % 15}") for number in range(60, 120)]
    splits = assign([*known, *unknown]).splits
    for number in range(15):
        assert len({splits[f"c{clip}"] for clip in range(number, 60, 15)}) == 1
        assert len({splits[f"c{clip}"] for clip in range(60 + number, 120, 15)}) == 1


def test_a_sentence_that_is_measured_is_not_trained_on() -> None:
    alone = [member(number, speaker=f"s{number % 30}") for number in range(300)]
    shared = [member(number, speaker=f"s{number % 30}", sentence="alla säger detta") for number in range(300, 330)]
    assignment = assign([*alone, *shared])
    assert {assignment.splits[clip.clip_id] for clip in shared if clip.clip_id in assignment.splits} == {"test"}
    assert set(assignment.held_back.values()) == {"sentence_in_test"}
    assert set(assignment.held_back) <= {clip.clip_id for clip in shared}


def test_speakers_who_all_say_the_same_leave_nothing_to_train_on_and_the_sentence_says_so() -> None:
    with pytest.raises(SourceError, match=r"no clip is left for the validation split|no clip is left for the train split"):
        assign([member(number, speaker=f"s{number % 12}", sentence=f"mening {number // 12}") for number in range(48)])


def named(number: int, split: str, *, speaker: str = "", sentence: str = "", gives_way: bool = False) -> Member:
    return Member(
        clip_id=f"c{number}",
        split=split,
        speaker_id=speaker or f"s{number}",
        sentence=sentence or f"mening {number}",
        location=f"{number}.wav",
        gives_way=gives_way,
    )


SEPARATE = [named(number, split) for number, split in enumerate(["train", "train", "dev", "test", "test"])]


@pytest.mark.parametrize(
    ("kind", "planted"),
    [("speaker", named(9, "train", speaker="s3")), ("sentence", named(9, "train", sentence="mening 3"))],
)
def test_what_named_splits_share_is_refused_with_the_offenders(kind: str, planted: Member) -> None:
    with pytest.raises(OverlapError, match="run with --on-overlap hold-back") as failure:
        assign([*SEPARATE, planted])
    assert f"\n  one {kind} in test ('3.wav') and in train ('9.wav')" in str(failure.value)


def test_only_the_first_offenders_are_shown_and_the_others_are_counted() -> None:
    clips = [named(number, split, speaker=f"s{number % 20}") for number, split in enumerate(["train"] * 20 + ["test"] * 20 + ["dev"])]
    with pytest.raises(OverlapError) as failure:
        assign(clips)
    assert str(failure.value).count("one speaker in") == 5
    assert "and 15 more" in str(failure.value)


def test_it_is_held_back_where_that_was_asked_for_and_the_test_stays_whole() -> None:
    planted = [named(9, "train", speaker="s3"), named(10, "train", sentence="mening 2"), named(11, "dev", sentence="mening 4")]
    assignment = assign([*SEPARATE, *planted], on_overlap="hold-back")
    assert assignment.held_back == {"c9": "speaker_in_test", "c10": "sentence_in_validation", "c11": "sentence_in_test"}
    assert assignment.splits["c3"] == assignment.splits["c4"] == "test"


def test_what_gives_way_is_held_back_without_being_a_fault() -> None:
    remainder = [
        named(20, "train", gives_way=True, speaker="s3"),
        named(21, "train", gives_way=True, sentence="mening 2"),
        named(22, "train", gives_way=True, speaker="s0", sentence="mening 1"),
        named(23, "train", gives_way=True),
    ]
    assignment = assign([*SEPARATE, *remainder])
    assert assignment.held_back == {"c20": "speaker_in_test", "c21": "sentence_in_validation"}
    assert assignment.splits["c22"] == assignment.splits["c23"] == "train"


def test_drawn_clips_give_way_to_named_ones_in_whatever_split_those_are() -> None:
    drawn = [Member(clip_id=f"d{n}", split="", speaker_id=f"d{n}", sentence="mening 0", location=f"d{n}", source=1) for n in range(60)]
    assignment = assign([*SEPARATE, *drawn])
    assert set(assignment.held_back.values()) == {"sentence_in_train"}
    assert {assignment.splits[clip_id] for clip_id in assignment.splits if clip_id.startswith("d")} == {"train"}


def test_a_few_drawn_clips_beside_named_splits_need_no_splits_of_their_own() -> None:
    assignment = assign([*SEPARATE, Member(clip_id="d", split="", speaker_id="d", sentence="en till", source=1)])
    assert assignment.splits["d"] in ("train", "validation", "test")


def test_a_lone_speaker_may_be_in_every_split() -> None:
    clips = [named(number, split, speaker="s") for number, split in enumerate(["train", "dev", "test"])]
    assert not assign(clips).held_back


def test_clips_without_a_split_in_a_source_that_names_splits_are_refused() -> None:
    with pytest.raises(SourceError, match="5 of 6 clips name a split"):
        assign([*SEPARATE, named(9, "")])


def test_a_lone_speaker_beside_a_corpus_with_splits_stays_in_one_split() -> None:
    own = [Member(clip_id=f"o{n}", split="", speaker_id="me", sentence=f"min mening {n}", source=1) for n in range(100)]
    assignment = assign([*SEPARATE, *own])
    assert not assignment.held_back
    assert len({assignment.splits[member.clip_id] for member in own}) == 1


def test_named_splits_that_overlap_are_refused_though_another_split_is_to_be_drawn() -> None:
    clips = [named(number, split, speaker=f"s{number % 20}") for number, split in enumerate(["train"] * 30 + ["test"] * 10)]
    with pytest.raises(OverlapError, match="one speaker in test"):
        assign(clips)


def test_a_split_whose_clips_were_all_refused_is_not_drawn_from_train() -> None:
    clips = [named(number, "train") for number in range(40)]
    assert set(assign(clips).splits.values()) == {"train", "validation", "test"}
    with pytest.raises(SourceError, match="no clip is left for the test split"):
        assign(clips, also_named={"train", "Testing"})


@pytest.mark.parametrize("speakers", [1, 60, 240], ids=["one", "three in each", "another in each clip"])
def test_all_clips_of_a_recording_are_in_one_split_whoever_speaks(speakers: int) -> None:
    clips = [member(n, speaker=f"s{n % speakers}", sentence="ja" if n < 40 else "", recording=f"r{n % 20}") for n in range(240)]
    assignment = assign(clips)
    assert all(len(splits) == 1 for splits in splits_of(clips, assignment).values())
    assert set(assignment.splits.values()) == {"train", "validation", "test"}
    assert set(assignment.held_back.values()) <= {"sentence_in_test", "sentence_in_validation"}


def test_a_clip_without_speaker_goes_where_its_recording_goes() -> None:
    parts = [member(n, speaker=f"s{n % 20}", recording=f"r{n % 20}") for n in range(80)]
    wholes = [member(n, recording=f"r{n % 20}") for n in range(80, 100)]
    assignment = assign([*wholes, *parts])
    assert not assignment.held_back
    assert all(len(splits) == 1 for splits in splits_of([*parts, *wholes], assignment).values())
    before = assign([replace(part, recording="") for part in parts]).splits
    assert all(assignment.splits[clip_id] == split for clip_id, split in before.items()), "the speaker's place is that of all"


def test_where_recordings_lie_does_not_decide() -> None:
    clips = [member(n, speaker="s", recording=f"/a/{n % 20}.wav") for n in range(80)]
    moved = [replace(clip, recording=f"/b/{-n % 20}") for n, clip in enumerate(clips)]
    assert assign(clips) == assign(moved)


@pytest.mark.parametrize("recordings", [1, 2, 20])
def test_recordings_that_cannot_be_kept_apart_do_not_stop_it(recordings: int) -> None:
    """One recording, two for three splits, or a host who is in all of them."""
    clips = [member(n, speaker="host" if n % 2 else f"guest {n % 20}", recording=f"r{n % recordings}") for n in range(120)]
    assignment = assign(clips)
    assert not assignment.held_back
    assert assignment.splits == assign([replace(clip, recording="") for clip in clips]).splits


def test_a_recording_in_two_named_splits_is_refused_or_held_back() -> None:
    separate = [replace(clip, recording=f"r{number}") for number, clip in enumerate(SEPARATE)]
    planted = replace(named(9, "train"), recording="r3")
    with pytest.raises(OverlapError, match=r"\n  one recording in test \('3.wav'\) and in train \('9.wav'\)$"):
        assign([*separate, planted])
    assert assign([*separate, planted], on_overlap="hold-back").held_back == {"c9": "recording_in_test"}


def test_drawn_clips_give_way_where_their_recording_is_in_a_named_split() -> None:
    separate = [replace(clip, recording=f"r{number}") for number, clip in enumerate(SEPARATE)]
    drawn = [Member(clip_id=f"d{n}", split="", speaker_id=f"d{n}", sentence=f"{n}", source=1, recording="r0") for n in range(60)]
    assignment = assign([*separate, *drawn])
    assert {assignment.splits.get(one.clip_id, "held back") for one in drawn} == {"train", "held back"}
    assert set(assignment.held_back.values()) == {"recording_in_train"}
