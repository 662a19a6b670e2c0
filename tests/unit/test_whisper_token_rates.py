"""The room for a language's text, held against what the tokenizer needs for it."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from num2words import CONVERTER_CLASSES, num2words

from avskrift.text.languages import LANGUAGES
from avskrift.whisper.token_rates import USUAL_TOKENS_PER_SECOND, tokens_per_second
from avskrift.whisper.tokens import WhisperTokens

SWEDISH_TOKENS_PER_SECOND = 5.5
# First and last letter of a script, and the languages that are written in it.
SCRIPTS = {
    "a z": "sv en de",
    "а я": "ru uk bg",
    "α ω": "el",
    "א ת": "he",
    "ا ي": "ar",
    "ა ჰ": "ka",
    "ա ֆ": "hy",
    "ሀ ቀ": "am",
    "অ হ": "bn as",
    "अ ह": "hi mr ne sa",
    "અ હ": "gu",
    "ਅ ਹ": "pa",
    "அ ஹ": "ta",
    "అ హ": "te",
    "ಅ ಹ": "kn",
    "അ ഹ": "ml",
    "අ ෆ": "si",
    "ก ฮ": "th",
    "ກ ຮ": "lo",
    "ཀ ཨ": "bo",
    "က အ": "my",
    "ក អ": "km",
}


@pytest.fixture(scope="module")
def tokens(bundled_whisper: Path) -> WhisperTokens:
    return WhisperTokens(bundled_whisper / "tokenizer.json")


def letters(script: str) -> list[str]:
    first, last = script.split()
    return [chr(point) for point in range(ord(first), ord(last) + 1) if unicodedata.category(chr(point)).startswith("L")]


@pytest.mark.parametrize("script", SCRIPTS, ids=SCRIPTS.values())
def test_a_language_has_room_by_what_its_letters_take(tokens: WhisperTokens, script: str) -> None:
    alphabet = letters(script)
    each = len(tokens.encode("".join(alphabet))) / len(alphabet)
    low, high = (USUAL_TOKENS_PER_SECOND, 20) if each < 1.2 else (25, 25) if each < 1.45 else (45, 45)
    assert all(low <= tokens_per_second(language) <= high for language in SCRIPTS[script].split())


def test_every_language_has_room_for_what_takes_a_swede_as_long_to_count(tokens: WhisperTokens) -> None:
    def counting(language: str) -> int:
        return len(tokens.encode(" " + " ".join(num2words(number, lang=language) for number in range(20))))

    swedish, languages = counting("sv"), set(CONVERTER_CLASSES) & set(LANGUAGES)
    needed = {language: SWEDISH_TOKENS_PER_SECOND * counting(language) / swedish for language in languages}
    assert len(needed) > 35
    assert {language for language, rate in needed.items() if rate > tokens_per_second(language)} == set()
    assert sum(rate > USUAL_TOKENS_PER_SECOND for rate in needed.values()) >= 4, "else the usual room would do"


def test_a_translation_and_what_was_not_named_have_the_usual_room() -> None:
    assert {tokens_per_second(language) for language in ("sv", "en", "la", "")} == {USUAL_TOKENS_PER_SECOND}
    assert tokens_per_second("ka", "translate") == USUAL_TOKENS_PER_SECOND
