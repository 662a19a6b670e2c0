"""What the normaliser takes out and what it keeps."""

from __future__ import annotations

import pytest

from avskrift.text.normaliser import normalise, normaliser_version


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hej, på  DIG!", "hej på dig"),
        ("för", "för"),
        ("Åke är på ön — idén, kaféet", "åke är på ön idén kaféet"),
        ("fo\u0308r", "för"),
        ("3,5 EU-land", "3 5 eu land"),
        ("av\u00adstavning", "avstavning"),
        ("rad\net\ttab", "rad et tab"),
        ("Straße", "strasse"),
        ("  ?!…  ", ""),
        ("", ""),
        ("हिन्दी", "हिन्दी"),
    ],
)
def test_case_and_punctuation_go_and_letters_stay(text: str, expected: str) -> None:
    assert normalise(text, "sv") == expected


def test_words_that_differ_in_diacritics_alone_stay_different() -> None:
    assert normalise("för", "sv") != normalise("for", "sv")
    assert normalise("måla", "sv") != normalise("mala", "sv")


def test_the_normaliser_has_a_version() -> None:
    assert normaliser_version("sv") == normaliser_version("en") == "generic-1"
