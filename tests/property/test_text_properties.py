"""Invariants of the normaliser, over any text."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from avskrift.text.languages import LANGUAGES
from avskrift.text.normaliser import normalise

any_text = st.text() | st.text(st.characters(exclude_categories=[]))
any_language = st.sampled_from(sorted(LANGUAGES)) | st.text()


@given(any_text, any_language)
def test_normalising_twice_is_normalising_once(text: str, language: str) -> None:
    once = normalise(text, language)
    assert normalise(once, language) == once


@given(any_text)
def test_what_is_left_is_words_with_one_space_between(text: str) -> None:
    normal = normalise(text, "sv")
    assert normal == " ".join(normal.split())
    assert all(character == " " or unicodedata.category(character)[0] in "LMN" for character in normal)


@given(any_text)
def test_composition_and_case_do_not_matter(text: str) -> None:
    assert normalise(unicodedata.normalize("NFD", text), "sv") == normalise(text, "sv")
    assert normalise(text.casefold(), "sv") == normalise(text, "sv")


@given(st.lists(st.text(st.sampled_from("abcåäöéü0123456789"), min_size=1)))
def test_plain_swedish_words_are_kept_as_they_are(words: list[str]) -> None:
    assert normalise(" ".join(words), "sv") == " ".join(words)
