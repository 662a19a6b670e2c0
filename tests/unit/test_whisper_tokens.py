"""Prompts and text are Whisper's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from avskrift.errors import LanguageError, PackageError
from avskrift.text.languages import LANGUAGES
from avskrift.whisper.tokens import TimedText, WhisperTokens

FIRST_TIMESTAMP = 50364  # <|0.00|>


@pytest.fixture(scope="session")
def tokens(tiny_whisper: Path) -> WhisperTokens:
    return WhisperTokens(tiny_whisper / "tokenizer.json")


def test_the_prompt_has_whispers_ids(tokens: WhisperTokens) -> None:
    assert tokens.prompt("sv") == [50258, 50273, 50359, 50363]
    assert tokens.prompt("en", task="translate", timestamps=True) == [50258, 50259, 50358]
    assert (tokens.start, tokens.end, tokens.no_timestamps, tokens.first_timestamp) == (50258, 50257, 50363, FIRST_TIMESTAMP)


def test_all_languages_of_the_model_are_known_and_no_other(tokens: WhisperTokens) -> None:
    assert tokens.languages == frozenset(LANGUAGES) - {"yue"}, "Cantonese came with large-v3"
    with pytest.raises(LanguageError, match=r"does not know the language 'yue'; it knows af, am, .*, zh"):
        tokens.prompt("yue")
    assert tokens.language_of("<|sv|>") == "sv"


@pytest.mark.parametrize("special", ["<|endoftext|>", "<|sv|>", "<|notimestamps|>", "<|startoftranscript|>", "<|0.00|>", "<|12.34|>"])
def test_a_special_token_spelled_out_in_a_text_is_text(tokens: WhisperTokens, special: str) -> None:
    encoded = tokens.encode(f" hon sade {special} och gick")
    assert max(encoded) < tokens.end
    assert tokens.decode(encoded) == f"hon sade {special} och gick"


def test_threads_share_a_tokenizer(tokens: WhisperTokens) -> None:
    texts = [f"mening nummer {number} <|sv|>" for number in range(200)]
    with ThreadPoolExecutor(8) as threads:
        assert [tokens.decode(encoded) for encoded in threads.map(tokens.encode, texts)] == texts


def test_text_between_times_becomes_stretches(tokens: WhisperTokens) -> None:
    encoded = [tokens.timestamp(0.5), *tokens.encode(" god dag"), tokens.timestamp(1.0), tokens.timestamp(1.5), *tokens.encode(" hej")]
    assert encoded[0] == FIRST_TIMESTAMP + 25
    assert tokens.decode_timed([*encoded, tokens.timestamp(2.0), tokens.end], duration_s=3.0) == [
        TimedText(start_s=0.5, end_s=1.0, text="god dag"),
        TimedText(start_s=1.5, end_s=2.0, text="hej"),
    ]


def test_a_stretch_that_was_not_closed_ends_with_the_window(tokens: WhisperTokens) -> None:
    text = tokens.encode(" hej")
    assert tokens.decode_timed([tokens.timestamp(1.0), *text], duration_s=2.5) == [TimedText(start_s=1.0, end_s=2.5, text="hej")]
    assert tokens.decode_timed(text, duration_s=2.5) == [TimedText(start_s=0.0, end_s=2.5, text="hej")]


def test_times_never_run_backwards_or_out_of_the_window(tokens: WhisperTokens) -> None:
    written = [tokens.timestamp(4.0), *tokens.encode(" a"), tokens.timestamp(3.0), *tokens.encode(" b"), tokens.timestamp(29.0)]
    stretches = tokens.decode_timed([*written, *tokens.encode(" c")], duration_s=5.0)
    assert [stretch.text for stretch in stretches] == ["a", "b", "c"]
    assert [(stretch.start_s, stretch.end_s) for stretch in stretches] == [(4.0, 4.0), (4.0, 5.0), (5.0, 5.0)]


def test_stretches_without_words_are_left_out(tokens: WhisperTokens) -> None:
    assert tokens.decode_timed([tokens.timestamp(0.0), *tokens.encode("  "), tokens.timestamp(1.0)], duration_s=1.0) == []


@pytest.mark.parametrize("content", ["", "{}", '{"added_tokens": []}', "[]"])
def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(PackageError, match=r"tokenizer\.json: not a tokenizer \(.*\); export or fetch the model again"):
        WhisperTokens(tmp_path / "tokenizer.json")
    with pytest.raises(PackageError, match=r"none\.json: not a tokenizer"):
        WhisperTokens(tmp_path / "none.json")


def test_the_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(PackageError, match=r"the tokenizer has no <\|startoftranscript\|>: not a multilingual Whisper's"):
        WhisperTokens(tmp_path / "tokenizer.json")
