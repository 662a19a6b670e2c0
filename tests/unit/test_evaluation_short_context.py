"""A model's texts as packaged beside those at 30 s. A scripted engine stands at the edge."""

import pytest
from scripted_hearing import ScriptedEngine, spoken

from avskrift.errors import EvaluationError
from avskrift.evaluation.short_context import CLIPS, choose_shortest, measure_short_context

SAID = [spoken(number, "Det regnar i dag.", seconds=1) for number in range(4)]


def right(number: int | None) -> str:
    return "det regnar i dag"


def test_the_loss_is_the_rate_as_packaged_minus_the_rate_at_30_s() -> None:
    packaged = ["Det regnar i dag", "Det regnar", "", "i dag, i dag, i dag"]  # 0, 2, 4 and 4 errors
    measured = measure_short_context(SAID, packaged, ScriptedEngine(lambda number: "det regnar i går"), language="sv")
    assert measured is not None
    assert measured.clips == 4
    assert measured.wer.value == pytest.approx(10 / 16)
    assert measured.wer_full.value == pytest.approx(4 / 16)
    assert measured.loss.value == pytest.approx(6 / 16)
    assert measured.loss.low <= measured.loss.value <= measured.loss.high


def test_the_same_texts_lose_nothing() -> None:
    measured = measure_short_context(SAID, ["det regnar"] * 4, ScriptedEngine(lambda number: "Det regnar."), language="sv")
    assert measured is not None
    assert (measured.loss.value, measured.loss.low, measured.loss.high) == (0, 0, 0)


def test_speakers_are_drawn_together_where_enough_are_known() -> None:
    packaged = ["" if number < 3 else "det regnar i dag" for number in range(36)]

    def high(speakers: list[str]) -> float:
        clips = [spoken(number, "Det regnar i dag.", seconds=1, speaker=speaker) for number, speaker in enumerate(speakers)]
        measured = measure_short_context(clips, packaged, ScriptedEngine(right), language="sv")
        assert measured is not None
        return measured.loss.high

    assert high([f"s{number // 3}" for number in range(36)]) > high([""] * 36)


def test_the_shortest_clips_are_chosen_and_stay_in_order() -> None:
    assert choose_shortest([3.0, 1.0, 2.0]) == [0, 1, 2]
    durations = [float(number % 50) for number in range(100)]
    chosen = choose_shortest(durations)
    assert chosen == sorted(chosen)
    assert len(chosen) == CLIPS
    assert max(durations[place] for place in chosen) <= min(durations[place] for place in range(100) if place not in chosen)


def test_clips_without_words_cannot_be_compared() -> None:
    assert measure_short_context([], [], ScriptedEngine(right), language="sv") is None
    assert measure_short_context([spoken(0, "…")], [""], ScriptedEngine(right), language="sv") is None


def test_an_engine_that_skips_clips_is_refused() -> None:
    with pytest.raises(EvaluationError, match="3 transcripts for 4 recordings"):
        measure_short_context(SAID, [""] * 4, ScriptedEngine(right, missing=1), language="sv")
