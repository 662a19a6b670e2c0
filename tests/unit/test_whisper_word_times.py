"""Words are what a reader calls words, and their times are theirs and not the pauses'."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.transcript import Audio, Word
from avskrift.whisper.word_times import Alignment, SpelledWord, place_words, spell_words


@pytest.fixture(scope="session")
def tokens(bundled_whisper: Path) -> WhisperTokens:
    return WhisperTokens(bundled_whisper / "tokenizer.json")


def spelled(tokens: WhisperTokens, text: str, language: str = "sv") -> list[str]:
    written = tokens.encode(text)
    words = spell_words(tokens, written, language)
    assert sum(word.tokens for word in words) == len(written)
    return [word.text for word in words]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Årarna spelade i gryningen.", ["Årarna", "spelade", "i", "gryningen."]),
        ("Utan mellanslag först", ["Utan", "mellanslag", "först"]),
        (' Hon sa: "Hej, du!" och gick...', ["Hon", "sa:", '"Hej,', 'du!"', "och", "gick..."]),
        (" EU-landet, 3,5 procent och/eller 20:e", ["EU-landet,", "3,5", "procent", "och/eller", "20:e"]),
        (" ja - nej – jo", ["ja", "- nej", "– jo"]),
        (" vad ?", ["vad ?"]),
        (" ...", ["..."]),
        (" - ", ["-"]),
        (" «Да, конечно», — сказал он.", ["«Да,", "конечно»,", "— сказал", "он."]),
        ("", []),
    ],
)
def test_a_word_has_its_punctuation_with_it(tokens: WhisperTokens, text: str, expected: list[str]) -> None:
    assert spelled(tokens, text) == expected


@pytest.mark.parametrize("language", ["zh", "ja", "th", "lo", "my", "yue"])
def test_where_no_spaces_are_written_words_are_whole_characters(tokens: WhisperTokens, language: str) -> None:
    text = {"th": "สวัสดีครับ", "lo": "ສະບາຍດີ", "my": "မင်္ဂလာပါ"}.get(language, "今日は、鬱だ。「はい」と言う！")
    words = spelled(tokens, text, language)
    assert "".join(words) == text
    assert len(words) > 3
    assert not any("\ufffd" in word for word in words)
    assert not any(word in "、。！」" for word in words)


def test_half_a_character_takes_no_other_with_it(tokens: WhisperTokens) -> None:
    half = tokens.encode("鬱")[:1]
    words = spell_words(tokens, [*tokens.encode("はい"), *half, *tokens.encode("ですそうですか、わかりました")], "ja")
    assert len(words) > 3
    assert sum("\ufffd" in word.text for word in words) == 1


def steps(*positions: int) -> Alignment:
    """An alignment in which token i begins at encoder position ``positions[i]``; the last one is the end's."""
    path = [
        (token, at)
        for token, (start, end) in enumerate(zip(positions, [*positions[1:], positions[-1] + 1], strict=True))
        for at in range(start, end)
    ]
    return Alignment(path=path, probabilities=[0.5 + token / 100 for token in range(len(positions) - 1)])


def speech(*seconds: float) -> Audio:
    """Sound and silence in turn, so many seconds each."""
    chance = np.random.default_rng(0)
    parts = [chance.normal(0, 1e-4 if number % 2 else 0.1, round(length * SAMPLE_RATE)) for number, length in enumerate(seconds)]
    return np.concatenate(parts).astype(np.float32)


def times(words: Sequence[Word]) -> list[float]:
    return [round(time, 2) for word in words for time in (word.start_s, word.end_s)]


def test_a_word_begins_with_its_first_token_and_ends_where_the_next_begins() -> None:
    words = [SpelledWord("god", 2), SpelledWord("dag", 1)]
    placed = place_words(words, steps(0, 10, 25, 50), speech(1.0))
    assert times(placed) == [0.0, 0.5, 0.5, 1.0]
    assert [word.text for word in placed] == ["god", "dag"]
    assert [word.probability for word in placed] == pytest.approx([0.505, 0.52])


@pytest.mark.parametrize("boundary", [1.1, 1.2, 1.6, 2.0, 2.1])
def test_a_pause_belongs_to_neither_word_wherever_in_it_the_model_sees_the_boundary(boundary: float) -> None:
    placed = place_words([SpelledWord("god", 1), SpelledWord("dag", 1)], steps(0, round(boundary * 50), 150), speech(1.2, 0.8, 1.0))
    assert times(placed) == pytest.approx([0.0, 1.2, 2.0, 3.0], abs=0.021)


def test_silence_around_the_words_is_not_theirs() -> None:
    samples = speech(0.0, 0.5, 1.0, 1.0)
    placed = place_words([SpelledWord("hej", 1)], steps(0, 120), samples)
    assert times(placed) == pytest.approx([0.5, 1.5], abs=0.021)


def test_a_short_silence_at_the_edge_of_a_window_is_not_a_words_either() -> None:
    samples = speech(0.0, 0.1, 1.0, 0.1)
    assert times(place_words([SpelledWord("hej", 1)], steps(0, 58), samples)) == pytest.approx([0.1, 1.1], abs=0.021)


def test_a_pause_inside_a_word_and_a_consonants_closure_change_nothing() -> None:
    words = [SpelledWord("god", 1), SpelledWord("dag", 1)]
    assert times(place_words(words, steps(0, 100, 150), speech(0.7, 0.3, 2.0))) == [0.0, 2.0, 2.0, 3.0]
    assert times(place_words(words, steps(0, 50, 100), speech(0.9, 0.1, 0.7, 0.1, 0.2))) == [0.0, 1.0, 1.0, 2.0]


def test_noise_as_loud_as_the_words_leaves_the_models_times() -> None:
    words = [SpelledWord("god", 1), SpelledWord("dag", 1)]
    assert times(place_words(words, steps(0, 40, 100), speech(2.0))) == [0.0, 0.8, 0.8, 2.0]


def test_a_window_too_short_to_align_is_given_to_its_words() -> None:
    nothing = Alignment(path=[], probabilities=[])
    placed = place_words([SpelledWord("god", 1), SpelledWord("dag", 1)], nothing, speech(0.01))
    assert times(placed) == [0.0, 0.01, 0.01, 0.01]
    assert [word.probability for word in placed] == [0.0, 0.0]


def test_no_words_have_no_times() -> None:
    assert place_words([], steps(0), speech(1.0, 1.0)) == []
