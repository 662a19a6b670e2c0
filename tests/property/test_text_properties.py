"""Invariants of the text functions, over any text."""

from __future__ import annotations

import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from avskrift.corpus.demo.sentences import sentences
from avskrift.text.languages import LANGUAGES, UNSPACED
from avskrift.text.normaliser import normalise
from avskrift.text.scripts import foreign_characters
from avskrift.text.transcript import transcript

any_text = st.text() | st.text(st.characters(exclude_categories=[]))
any_language = st.sampled_from(sorted(LANGUAGES)) | st.text()
numeric_text = st.text(st.sampled_from("0123456789,.:-–% /+kr°½²€'as\u00a0\u0301\u0661"))
NUMBER_WORDS = [
    "noll",
    "ett",
    "en",
    "två",
    "tio",
    "nitton",
    "tjugo",
    "nittio",
    "hundra",
    "tusen",
    "hundrade",
    "tusende",
    "första",
    "talet",
    "miljon",
    "kr",
]
number_words = st.lists(st.sampled_from(NUMBER_WORDS), max_size=8)
words_run_together = st.lists(st.sampled_from(["", " "]), min_size=8, max_size=8).flatmap(
    lambda gaps: number_words.map(lambda words: "".join(word + gap for word, gap in zip(words, gaps, strict=False)))
)
dotted_text = st.lists(st.sampled_from(["t", "ex", "m", "fl", "kr", "f", "s", "kl", "S:t", "ca", ".", " ", ":", "-", "1"])).map("".join)
typographic_text = st.text(st.sampled_from("ab .\"'“”„«»‘’´`—–-…\u00ad\u200b\u200d\u0301\u0085\ud800م"))
swedish_text = any_text | numeric_text | words_run_together | dotted_text


@given(any_text, any_language)
def test_normalising_twice_is_normalising_once(text: str, language: str) -> None:
    once = normalise(text, language)
    assert normalise(once, language) == once


@given(swedish_text)
@example("1 000 000 000")
@example("tio hundra två hundra")
@example("ett ett hundra")
@example("\u0345\u02bc\u0301")
def test_normalising_swedish_twice_is_normalising_it_once(text: str) -> None:
    once = normalise(text, "sv")
    assert normalise(once, "sv") == once


@given(swedish_text)
def test_what_is_left_of_swedish_is_lower_case_letters_and_their_marks_with_one_space_between_words(text: str) -> None:
    normal = normalise(text, "sv")
    assert normal == " ".join(normal.split())
    assert all(character == " " or unicodedata.category(character)[0] in "LM" for character in normal)
    assert normal == unicodedata.normalize("NFC", normal.casefold())


@given(any_text)
def test_what_is_left_of_other_languages_is_words_with_one_space_between(text: str) -> None:
    normal = normalise(text, "en")
    assert normal == " ".join(normal.split())
    assert all(character == " " or unicodedata.category(character)[0] in "LMN" for character in normal)


@given(any_text, st.sampled_from(sorted(UNSPACED)))
def test_without_spaces_every_letter_is_a_word_with_its_marks(text: str, language: str) -> None:
    normal = normalise(text, language)
    for word in normal.split():
        assert all(unicodedata.category(mark)[0] == "M" for mark in word[1:])
    assert normalise(normal.replace(" ", ""), language).replace(" ", "") == normal.replace(" ", "")


@given(st.text(st.sampled_from("iIıİ\u0307\u0301\u00ad aS")), st.sampled_from(["tr", "az"]))
def test_turkish_is_normalised_to_lower_case_and_once(text: str, language: str) -> None:
    normal = normalise(text, language)
    assert normalise(normal, language) == normal
    assert not set(normal) & set("Iİ")
    assert normalise(unicodedata.normalize("NFD", text), language) == normal


@given(any_text | numeric_text, st.sampled_from(["sv", "en"]))
def test_composition_and_case_do_not_matter(text: str, language: str) -> None:
    assert normalise(unicodedata.normalize("NFD", text), language) == normalise(text, language)
    assert normalise(text.casefold(), language) == normalise(text, language)


@given(st.lists(st.text(st.sampled_from("bcjqåäöéü"), min_size=2)))
def test_words_that_are_no_numbers_are_kept_as_they_are(words: list[str]) -> None:
    kept = [word for word in words if word not in ("ca", "bc")]
    assert normalise(" ".join(kept), "sv") == " ".join(kept)


@given(st.integers(min_value=0, max_value=10**15 - 1), st.sampled_from([" ", ".", "\u00a0", "\u2009"]))
def test_a_number_is_read_alike_however_its_thousands_are_set_apart(number: int, separator: str) -> None:
    assert normalise(f"{number:,}".replace(",", separator), "sv") == normalise(str(number), "sv")


@given(st.integers(min_value=0, max_value=999_999), st.integers(min_value=0, max_value=999_999))
def test_different_numbers_are_read_differently(one: int, other: int) -> None:
    assert (normalise(str(one), "sv") == normalise(str(other), "sv")) == (one == other)


@given(st.integers(min_value=0, max_value=999_999))
def test_a_number_that_is_read_out_and_written_as_one_word_is_the_same_number(number: int) -> None:
    read = normalise(str(number), "sv")
    # Three equal letters are written as two.
    assert normalise(read.replace(" ", "").replace("etttusen", "ettusen"), "sv") == read


@given(any_text | typographic_text)
@example('"""Nej"", sa hon."')
@example('"«a» ""b"""')
@example("a——b")
def test_a_transcript_that_is_tidied_twice_is_tidied_once(text: str) -> None:
    once = transcript(text)
    assert transcript(once) == once


@given(any_text | typographic_text)
def test_a_transcript_can_be_stored_and_is_composed_with_single_spaces(text: str) -> None:
    tidied = transcript(text)
    assert tidied.encode().decode() == tidied == " ".join(unicodedata.normalize("NFC", tidied).split())
    assert not any(unicodedata.category(character) == "Cc" for character in tidied)


@given(st.sampled_from(sentences()))
def test_tidying_leaves_plain_swedish_alone_and_never_changes_what_is_compared(sentence: str) -> None:
    assert transcript(sentence) == sentence
    assert normalise(transcript(f"“{sentence}”"), "sv") == normalise(sentence, "sv")


@given(any_text, any_language)
def test_foreign_characters_are_the_text_s_own_sorted_and_each_once(text: str, language: str) -> None:
    found = foreign_characters(text, language)
    assert found == "".join(sorted(set(found)))
    assert set(found) <= set(text)


@given(st.text(st.characters(max_codepoint=0x17F, exclude_categories=["Cc", "Cf"])), st.sampled_from(sorted(LANGUAGES)))
def test_latin_letters_digits_and_punctuation_belong_in_every_language(text: str, language: str) -> None:
    assert foreign_characters(text, language) == ""
