"""A text that cannot be right is decoded again, and the best of the tries is taken."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from avskrift.whisper.fallback import Attempt, Reading, read

LOOP = "samma ord igen " * 20


def reading(text: str = "hej", logprob: float = -0.3, no_speech: float = 0.0) -> Reading:
    return Reading(tokens=(1,), text=text, avg_logprob=logprob, no_speech_prob=no_speech)


class Script:
    """Gives each window's readings in turn, and notes who was asked for and how."""

    def __init__(self, *readings: Sequence[Reading]) -> None:
        self._left = [list(of_window) for of_window in readings]
        self.asked: list[tuple[list[int], float, int]] = []

    def __call__(self, windows: Sequence[int], attempt: Attempt) -> list[Reading]:
        self.asked.append((list(windows), attempt.temperature, attempt.ngrams))
        return [self._left[window].pop(0) for window in windows]


def test_a_text_that_stands_is_decoded_once() -> None:
    script = Script([reading("ett")], [reading("två", logprob=-1.0)])
    assert [one.text for one in read(2, (0.0, 0.5, 1.0), script)] == ["ett", "två"]
    assert script.asked == [([0, 1], 0.0, 0)]


@pytest.mark.parametrize("doubtful", [reading(LOOP), reading(logprob=-1.01)])
def test_only_doubtful_texts_are_decoded_again_at_the_next_temperature(doubtful: Reading) -> None:
    script = Script([reading("ett")], [doubtful, doubtful, reading("två")], [doubtful, reading("tre")])
    assert [one.text for one in read(3, (0.0, 0.2, 0.4, 0.6), script)] == ["ett", "två", "tre"]
    assert script.asked == [([0, 1, 2], 0.0, 0), ([1, 2], 0.2, 0), ([1], 0.4, 0)]


def test_of_texts_that_are_all_improbable_the_most_probable_is_taken() -> None:
    script = Script([reading("ett", -1.5), reading("två", -1.2), reading("tre", -1.9)])
    assert [one.text for one in read(1, (0.0, 0.5, 1.0), script)] == ["två"]
    assert len(script.asked) == 3


def test_a_text_that_repeats_itself_is_never_preferred_however_probable() -> None:
    script = Script([reading(LOOP, -0.1), reading("två", -1.8), reading(LOOP, -0.2)])
    assert [one.text for one in read(1, (0.0, 0.5, 1.0), script)] == ["två"]


@pytest.mark.parametrize("temperatures", [(0.0,), (0.0, 0.5)])
def test_where_all_repeat_themselves_repeats_are_forbidden(temperatures: tuple[float, ...]) -> None:
    script = Script([reading("ett")], [*(reading(LOOP) for _ in temperatures), reading("två", -1.4)])
    assert [one.text for one in read(2, temperatures, script)] == ["ett", "två"]
    assert script.asked[-1] == ([1], 0.0, 3)


def test_an_improbable_text_stands_where_there_is_no_other_temperature() -> None:
    script = Script([reading("ett", -3.0)])
    assert [one.text for one in read(1, (0.0,), script)] == ["ett"]
    assert len(script.asked) == 1


def test_silence_is_not_decoded_again() -> None:
    silence = reading("tack för att ni tittade", logprob=-1.1, no_speech=0.61)
    script = Script([silence])
    assert read(1, (0.0, 0.5), script) == [silence]
    assert silence.is_silence
    assert len(script.asked) == 1


def test_no_windows_ask_for_nothing() -> None:
    script = Script()
    assert read(0, (0.0, 0.5), script) == []
    assert script.asked == []
