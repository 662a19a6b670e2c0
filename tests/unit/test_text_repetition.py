import pytest

from avskrift.corpus.demo import DEFAULT, plan
from avskrift.text.repetition import is_loop

SPEECH = (
    "",
    "Ja.",
    "Ja ja ja.",
    "Nej, nej, nej, nej, nej!",
    "Ett två tre, ett två tre, ett två tre.",
    "Det regnar i dag, och i morgon ska det regna igen.",
    "Mycket, mycket, mycket gott, mycket, mycket bra, och mycket, mycket tack.",
    "Sju sjösjuka sjömän sköttes av sjutton sköna sjuksköterskor på det sjunkande skeppet Shanghai.",
)


@pytest.mark.parametrize("text", SPEECH)
def test_speech_is_no_loop(text: str) -> None:
    assert not is_loop(text)


def test_no_sentence_of_the_demo_is_a_loop() -> None:
    assert not any(is_loop(utterance.text) for utterance in plan(DEFAULT))


@pytest.mark.parametrize("phrase", ["tack för att du tittade på den här videon. ", "på tjugo ", "ja ", "ö"])
def test_a_phrase_without_end_is_a_loop(phrase: str) -> None:
    assert is_loop(phrase * 40)


def test_a_loop_after_speech_is_found() -> None:
    assert is_loop("Det regnar i dag, " + "och i morgon " * 20)


# What models adapted by the demo heard in hum and in pink noise, and an unadapted one in silence: all under zlib's threshold.
@pytest.mark.parametrize(
    "text",
    [
        "Vi har varit i dagens tjur av tjur av tjur av tjur av tjur av tjur av tjur av tjur av.",
        "Själv om man kommer tjugo på tjugo på tjugo på tjugo på tjugo.",
        "Jag är ju med med med med med med med med med med med",
    ],
)
def test_a_loop_too_short_for_zlib_is_found(text: str) -> None:
    assert is_loop(text)


def test_case_and_punctuation_hide_no_loop() -> None:
    assert is_loop("Så går det. så går det! Så går det, så går det …")


def test_a_phrase_said_three_times_or_in_seven_words_is_no_loop() -> None:
    assert not is_loop("vi ses snart " * 3)
    assert is_loop("vi ses snart " * 4)
    assert not is_loop("hej " * 7)
    assert is_loop("hej " * 8)
