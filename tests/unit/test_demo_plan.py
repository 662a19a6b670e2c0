"""The plan of the demo corpus: who says what, in which split."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from avskrift.corpus.demo import DEFAULT, LICENCE, SPEAKERS, TINY, DemoSize, corpus_sha256, plan
from avskrift.corpus.demo.sentences import sentences_of
from avskrift.errors import SourceError, UsageError


def test_the_default_plan_has_420_24_and_60_clips() -> None:
    assert Counter(utterance.split for utterance in plan(DEFAULT)) == {"train": 420, "validation": 24, "test": 60}


def test_the_tiny_plan_has_24_8_and_8_clips() -> None:
    assert Counter(utterance.split for utterance in plan(TINY)) == {"train": 24, "validation": 8, "test": 8}


def test_the_default_plan_uses_every_train_sentence_and_every_test_sentence() -> None:
    planned = plan(DEFAULT)
    for split in ("train", "test"):
        assert {utterance.text for utterance in planned if utterance.split == split} == set(sentences_of(split))


def test_there_are_at_least_ten_speakers_and_each_split_mixes_genders() -> None:
    assert len({speaker.variant for speaker in SPEAKERS}) == len({speaker.name for speaker in SPEAKERS}) == len(SPEAKERS) >= 10
    for split in ("train", "validation", "test"):
        assert {speaker.gender for speaker in SPEAKERS if speaker.split == split} == {"female", "male"}


def test_another_language_is_refused_and_told_what_to_do() -> None:
    with pytest.raises(SourceError, match=r"Swedish \(sv\), not 'de'; .*--source FOLDER"):
        plan(TINY, language="de")


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_split_without_clips_is_refused(split: str) -> None:
    with pytest.raises(UsageError, match=f"0 {split} clips"):
        DemoSize(**{split: 0})


def test_more_clips_than_pairs_of_sentence_and_speaker_are_refused_with_the_limit() -> None:
    most = len(sentences_of("test")) * sum(speaker.split == "test" for speaker in SPEAKERS)
    assert len(plan(DemoSize(train=1, validation=1, test=most))) == most + 2
    with pytest.raises(UsageError, match=f"at most {most}"):
        plan(DemoSize(train=1, validation=1, test=most + 1))


def test_another_process_makes_the_same_plan() -> None:
    script = "from avskrift.corpus.demo import *; print(*(u.clip_id for u in plan(DEFAULT)), corpus_sha256())"
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    told = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True).stdout.split()
    assert told == [*(utterance.clip_id for utterance in plan(DEFAULT)), corpus_sha256()]


def test_the_licence_names_the_sentences_and_the_synthesis() -> None:
    assert LICENCE == "CC0-1.0 (sentences); speech synthesised with eSpeak NG"
