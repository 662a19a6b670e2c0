"""The normaliser of each language: what it takes out, what it keeps, and its version. For Swedish see test_text_swedish.py."""

from __future__ import annotations

import pytest

from avskrift.text.languages import LANGUAGES, UNSPACED
from avskrift.text.normaliser import normalise, normaliser_version, split_letters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello,  YOU!", "hello you"),
        ("naïve café", "naïve café"),
        ("fo\u0308r", "för"),
        ("3.5 U.S.-made", "3 5 u s made"),
        ("so\u00adft hyphen", "soft hyphen"),
        ("row\nand\ttab", "row and tab"),
        ("Straße", "strasse"),
        ("  ?!…  ", ""),
        ("", ""),
        ("हिन्दी", "हिन्दी"),
    ],
)
def test_case_and_punctuation_go_and_letters_and_digits_stay(text: str, expected: str) -> None:
    assert normalise(text, "en") == expected


@pytest.mark.parametrize("language", ["sv", "en", "fi"])
def test_words_that_differ_in_diacritics_alone_stay_different(language: str) -> None:
    assert normalise("för", language) != normalise("for", language)
    assert normalise("måla", language) != normalise("mala", language)


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("zh", "今天天气很好,我们去公园。", "今 天 天 气 很 好 我 们 去 公 园"),
        ("zh", "用 iPhone 15", "用 i p h o n e 1 5"),
        ("yue", "佢哋", "佢 哋"),
        ("ja", "がんばって!", "が ん ば っ て"),
        ("ja", "か\u3099", "が"),
        ("th", "ที่นี่", "ที่ นี่"),
        ("lo", "ຂ້ອຍ", "ຂ້ ອ ຍ"),
        ("km", "ខ្ញុំ", "ខ្ ញុំ"),
        ("my", "မနက်", "မ န က်"),
    ],
)
def test_a_letter_with_its_marks_is_a_word_where_no_spaces_are_written(language: str, text: str, expected: str) -> None:
    assert normalise(text, language) == expected


def test_tibetan_has_a_mark_between_its_syllables_which_are_its_words() -> None:
    assert normalise("ང་སང་ཉིན་", "bo") == "ང སང ཉིན"


@pytest.mark.parametrize("text", ["", " ", "\u0301", " \u0301a", "e\u0301 e"])
def test_splitting_letters_loses_nothing_but_spaces(text: str) -> None:
    assert split_letters(text).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize("language", ["tr", "az"])
@pytest.mark.parametrize(
    ("one", "other"),
    [("İyi", "iyi"), ("Işık", "ışık"), ("IŞIK", "ışık"), ("I\u0307yi", "iyi"), ("i\u0307yi", "iyi"), ("DİYARBAKIR", "diyarbakır")],
)
def test_a_turkish_i_keeps_its_dot_or_its_lack_of_one(language: str, one: str, other: str) -> None:
    assert normalise(one, language) == normalise(other, language) == other
    assert normalise("ısı", language) != normalise("isi", language)


def test_an_english_i_has_a_dot_in_lower_case() -> None:
    assert normalise("Is It", "en") == "is it"


def test_a_version_says_by_which_rules_a_language_is_compared() -> None:
    assert normaliser_version("sv") == "sv-1"
    assert {code for code in LANGUAGES if normaliser_version(code) == "generic-2-letters"} == UNSPACED
    assert {normaliser_version(code) for code in LANGUAGES if code != "sv" and code not in UNSPACED} == {"generic-2"}
