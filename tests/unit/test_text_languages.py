"""Whisper's languages."""

from __future__ import annotations

import pytest

from avskrift.errors import LanguageError
from avskrift.text.languages import LANGUAGES, check_language


def test_the_languages_are_whispers() -> None:
    tokenizer = pytest.importorskip("transformers.models.whisper.tokenization_whisper")
    assert list(LANGUAGES.items()) == list(tokenizer.LANGUAGES.items())


@pytest.mark.parametrize("given", ["sv", "SV", " sv ", "swedish", "Swedish"])
def test_a_language_is_known_by_code_and_by_name_in_any_case(given: str) -> None:
    assert check_language(given) == "sv"


@pytest.mark.parametrize(("given", "meant"), [("sv-SE", "sv (swedish)"), ("pt_BR", "pt (portuguese)"), ("swedsh", "sv (swedish)")])
def test_an_unknown_language_is_answered_with_what_may_have_been_meant(given: str, meant: str) -> None:
    with pytest.raises(LanguageError) as refused:
        check_language(given)
    assert meant in str(refused.value)
    assert given in str(refused.value)


@pytest.mark.parametrize("given", ["", "xx", "klingon"])
def test_an_unknown_language_is_refused(given: str) -> None:
    with pytest.raises(LanguageError, match="none of the 100 that Whisper knows"):
        check_language(given)
