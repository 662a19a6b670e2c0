"""The sentences of the embedded corpus: what the file promises in its header."""

from __future__ import annotations

import re
from collections import Counter
from importlib import resources

import pytest

from avskrift.corpus.demo.sentences import sentences, sentences_of, split_of
from avskrift.corpus.demo.speakers import Split
from avskrift.text.normaliser import normalise

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def words(text: str) -> list[str]:
    return normalise(text, "sv").split()


def test_there_are_at_least_360_sentences() -> None:
    assert len(sentences()) >= 360


def test_no_two_sentences_are_the_same_after_normalisation() -> None:
    repeated = [text for text, times in Counter(normalise(text, "sv") for text in sentences()).items() if times > 1]
    assert repeated == []


def test_each_sentence_has_four_to_fourteen_words() -> None:
    assert [text for text in sentences() if not 4 <= len(words(text)) <= 14] == []


def test_a_sentence_is_swedish_letters_and_plain_punctuation_and_ends_as_a_sentence() -> None:
    assert [text for text in sentences() if not re.fullmatch(r"[A-ZÅÄÖ][A-Za-zÅÄÖåäöé ,-]+[.?!]", text)] == []


@pytest.mark.parametrize("letter", "åäöé?!")
def test_what_is_swedish_about_swedish_is_there(letter: str) -> None:
    assert sum(letter in text.lower() for text in sentences()) >= 4


def test_the_vocabulary_and_the_openings_vary() -> None:
    assert len({word for text in sentences() for word in words(text)}) >= 1_500
    _, commonest = Counter(words(text)[0] for text in sentences()).most_common(1)[0]
    assert commonest <= 0.03 * len(sentences())


def test_the_splits_are_about_eight_one_and_one_in_ten() -> None:
    shares = {split: len(sentences_of(split)) / len(sentences()) for split in SPLITS}
    assert shares["train"] == pytest.approx(0.8, abs=0.04)
    assert shares["validation"] == pytest.approx(0.1, abs=0.03)
    assert shares["test"] == pytest.approx(0.1, abs=0.03)


def test_every_sentence_is_in_one_split_and_stays_there_on_every_machine() -> None:
    assert sorted(text for split in SPLITS for text in sentences_of(split)) == sorted(sentences())
    assert split_of("Hur raderar man ett konto som inte längre används?") == "train"
    assert split_of("Pollenhalten är hög i hela Mälardalen.") == "validation"
    assert split_of("Lavar växer oerhört långsamt på karga klippor.") == "test"


def test_the_sentences_carry_their_licence() -> None:
    package = resources.files("avskrift.corpus.demo")
    assert "CC0-1.0" in package.joinpath("sentences_sv.txt").read_text(encoding="utf-8").splitlines()[1]
    assert "SPDX-License-Identifier: CC0-1.0" in package.joinpath("LICENCE.txt").read_text(encoding="utf-8")
