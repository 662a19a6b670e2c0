"""What holds for a demo plan of any size, and for utterances spoken in any order."""

from __future__ import annotations

from collections import Counter
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from avskrift.corpus.demo import SPEAKERS, TINY, DemoSize, plan, speak
from avskrift.corpus.demo.plan import DemoUtterance
from avskrift.corpus.demo.sentences import sentences_of, split_of
from avskrift.text.normaliser import normalise

SPLITS = ("train", "validation", "test")
sizes = st.builds(DemoSize, train=st.integers(1, 1_500), validation=st.integers(1, 60), test=st.integers(1, 120))


@settings(max_examples=40, deadline=None)
@given(sizes)
def test_a_plan_has_exactly_the_clips_asked_for_and_no_pair_twice(size: DemoSize) -> None:
    planned = plan(size)
    assert Counter(utterance.split for utterance in planned) == dict(size.of_splits())
    assert len({utterance.clip_id for utterance in planned}) == len(planned)
    assert len({(utterance.text, utterance.speaker.name) for utterance in planned}) == len(planned)


@settings(max_examples=40, deadline=None)
@given(sizes)
def test_no_speaker_and_no_sentence_is_in_two_splits(size: DemoSize) -> None:
    planned = plan(size)
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        mine, theirs = ([utterance for utterance in planned if utterance.split == split] for split in (one, other))
        assert not {utterance.speaker.name for utterance in mine} & {utterance.speaker.name for utterance in theirs}
        assert not {normalise(utterance.text, "sv") for utterance in mine} & {normalise(utterance.text, "sv") for utterance in theirs}
    assert all(utterance.split == utterance.speaker.split == split_of(utterance.text) for utterance in planned)


@settings(max_examples=40, deadline=None)
@given(sizes)
def test_clips_are_spread_evenly_over_speakers_and_sentences(size: DemoSize) -> None:
    planned = plan(size)
    for split, clips in size.of_splits():
        speakers = [speaker.name for speaker in SPEAKERS if speaker.split == split]
        texts = sentences_of(split)
        said_by = Counter(utterance.speaker.name for utterance in planned if utterance.split == split)
        said = Counter(utterance.text for utterance in planned if utterance.split == split)
        turns = -(-clips // len(texts))
        assert max(said_by.values()) - min(said_by[name] for name in speakers) <= turns
        assert max(said.values()) - min(said[text] for text in texts) <= 1


@settings(max_examples=20, deadline=None)
@given(sizes, sizes)
def test_a_larger_plan_begins_with_the_smaller_one(one: DemoSize, other: DemoSize) -> None:
    for split in SPLITS:
        first, second = ([utterance for utterance in plan(size) if utterance.split == split] for size in (one, other))
        assert all(mine == theirs for mine, theirs in zip(first, second, strict=False))


UTTERANCES = plan(TINY)[:8] + plan(TINY)[24:28] + plan(TINY)[32:36]


@cache
def first_take(utterance: DemoUtterance) -> bytes:
    return speak(utterance).tobytes()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(UTTERANCES), min_size=2, max_size=6))
def test_an_utterance_sounds_the_same_whatever_was_said_before(order: list[DemoUtterance]) -> None:
    for utterance in order:
        assert speak(utterance).tobytes() == first_take(utterance)
