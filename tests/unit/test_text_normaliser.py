"""The normaliser of each language: what it takes out, what it keeps, and its version. For Swedish see test_text_swedish.py."""

from __future__ import annotations

import pytest

from avskrift.text.languages import LANGUAGES
from avskrift.text.normaliser import normalise, normaliser_version


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


def test_swedish_has_a_normaliser_of_its_own_and_the_other_languages_share_one() -> None:
    assert normaliser_version("sv") == "sv-1"
    assert {normaliser_version(code) for code in LANGUAGES if code != "sv"} == {"generic-1"}
