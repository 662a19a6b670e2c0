"""Splits: the source's own, or drawn so that nothing is shared."""

from __future__ import annotations

import pytest

from avskrift.corpus.splits import Member, assign, in_several_splits
from avskrift.errors import SourceError


def member(number: int, *, speaker: str = "", sentence: str = "", split: str = "") -> Member:
    return Member(clip_id=f"c{number}", split=split, speaker_id=speaker, sentence=sentence or f"mening {number}")


def test_the_sources_own_splits_are_taken_with_their_other_names() -> None:
    names = ["train", "Training", "dev", "valid", "validation", "test"]
    assignment = assign([member(number, split=name, sentence="samma") for number, name in enumerate(names)])
    assert list(assignment.splits.values()) == ["train", "train", "validation", "validation", "validation", "test"]
    assert not assignment.held_back


@pytest.mark.parametrize(
    ("splits", "sentence"),
    [
        (["train", "test", ""], "2 of 3 clips name a split"),
        (["train", "test", "other"], "a split 'other'"),
        (["test", "test", "validation"], "no clip is in train"),
    ],
)
def test_splits_that_cannot_be_used_are_refused(splits: list[str], sentence: str) -> None:
    with pytest.raises(SourceError, match=sentence):
        assign([member(number, split=split) for number, split in enumerate(splits)])


def test_a_split_that_the_source_does_not_have_is_drawn_from_its_train_split() -> None:
    members = [member(number, speaker=f"s{number % 20}", split="train" if number < 100 else "test") for number in range(120)]
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


def test_values_in_several_splits_are_counted_and_unknown_ones_are_not() -> None:
    assert in_several_splits([("a", "train"), ("a", "test"), ("b", "train"), ("b", "train"), ("", "train"), ("", "test")]) == 1
