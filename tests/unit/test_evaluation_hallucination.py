"""What counts as heard where nobody speaks. A scripted engine stands at the edge."""

import numpy as np
import pytest
from scripted_hearing import ScriptedEngine, spoken

from avskrift.errors import EvaluationError
from avskrift.evaluation.hallucination import SILENCE_SECONDS, SPEECH_CLIPS, SPEECH_IN_SILENCE, measure_hallucination
from avskrift.evaluation.sounds import generate_sounds

SPEECH = [spoken(number, "Det regnar i dag.") for number in range(3)]


def faithful(number: int | None) -> str:
    return "" if number is None else "det regnar i dag"


def test_a_model_that_hears_only_what_is_said_hears_no_words_a_minute() -> None:
    heard = measure_hallucination(ScriptedEngine(faithful), language="sv", speech=SPEECH)
    assert (heard.words_a_minute.value, heard.words_a_minute.low, heard.words_a_minute.high) == (0, 0, 0)
    assert [sound.kind for sound in heard.sounds] == ["silence", "hum", "white-noise", "pink-noise", "clicks", SPEECH_IN_SILENCE]
    assert all(sound.words == sound.looped == 0 for sound in heard.sounds)


def test_words_heard_in_sounds_count_by_the_minute() -> None:
    engine = ScriptedEngine(lambda number: "Tack för att ni tittade!" if number is None else faithful(number))
    heard = measure_hallucination(engine, language="sv", speech=SPEECH)
    sounds = generate_sounds()
    seconds = sum(len(sound.samples) for sound in sounds) / 16_000 + SILENCE_SECONDS * len(SPEECH)
    assert heard.words_a_minute.value == pytest.approx(5 * len(sounds) * 60 / seconds)
    assert heard.words_a_minute.low < heard.words_a_minute.value < heard.words_a_minute.high
    assert [sound.words for sound in heard.sounds] == [20, 20, 20, 20, 20, 0]


def test_a_sentence_without_spaces_counts_by_its_letters() -> None:
    engine = ScriptedEngine(lambda number: "谢谢大家观看" if number is None else "今天下雨")
    heard = measure_hallucination(engine, language="zh", speech=[spoken(number, "今天下雨。") for number in range(3)])
    assert [sound.words for sound in heard.sounds] == [24, 24, 24, 24, 24, 0]


def test_punctuation_and_signs_are_no_words() -> None:
    engine = ScriptedEngine(lambda number: " ... ♪ " if number is None else "– Det regnar, i dag … !")
    assert measure_hallucination(engine, language="sv", speech=SPEECH).words_a_minute.value == 0


def test_beyond_speech_only_insertions_count() -> None:
    said = {0: "det regnar i dag tack för mig", 1: "det snöar", 2: ""}
    heard = measure_hallucination(ScriptedEngine(lambda number: said.get(number, "")), language="sv", speech=SPEECH)
    around = heard.sounds[-1]
    assert (around.kind, around.recordings, around.seconds, around.words) == (SPEECH_IN_SILENCE, 3, 3 * SILENCE_SECONDS, 3)


def test_speech_stands_in_the_middle_of_faint_noise() -> None:
    engine = ScriptedEngine(faithful)
    measure_hallucination(engine, language="sv", speech=SPEECH[:1])
    ((recordings, options),) = engine.calls
    half = round(SILENCE_SECONDS / 2 * 16_000)
    assert np.array_equal(recordings[-1][half:-half], SPEECH[0].samples)
    assert 0 < np.max(np.abs(recordings[-1][:half])) < 0.01
    assert 0 < np.max(np.abs(recordings[-1][-half:])) < 0.01
    assert options.language == "sv"


def test_a_few_clips_from_all_over_are_enough() -> None:
    engine = ScriptedEngine(faithful)
    many = [spoken(number, "Det regnar i dag.", seconds=1) for number in range(60)]
    heard = measure_hallucination(engine, language="sv", speech=many)
    assert heard.sounds[-1].recordings == SPEECH_CLIPS
    loudest = [round(float(np.max(recording)) * 100) - 1 for recording in engine.calls[0][0][-SPEECH_CLIPS:]]
    assert loudest == list(range(0, 60, 4))


def test_a_text_that_repeats_itself_is_counted_as_a_loop() -> None:
    engine = ScriptedEngine(lambda number: "på tjugo " * 30 if number is None else faithful(number))
    assert [sound.looped for sound in measure_hallucination(engine, language="sv", speech=SPEECH).sounds] == [4, 4, 4, 4, 4, 0]


def test_without_speech_the_sounds_are_measured_all_the_same() -> None:
    heard = measure_hallucination(ScriptedEngine(faithful), language="sv", speech=[])
    assert len(heard.sounds) == 5


def test_an_engine_that_skips_recordings_is_refused() -> None:
    with pytest.raises(EvaluationError, match="22 transcripts for 23 recordings"):
        measure_hallucination(ScriptedEngine(faithful, missing=1), language="sv", speech=SPEECH)
