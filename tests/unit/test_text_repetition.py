import zlib

import pytest
from num2words import num2words

from avskrift.corpus.demo import DEFAULT, plan
from avskrift.text.repetition import _one_byte_a_letter, is_loop

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


# Some 13 s of everyday speech each. In UTF-8 zlib takes off two thirds and more, since the first bytes of all letters are alike.
@pytest.mark.parametrize(
    "text",
    [
        "நான் நாளை காலை அலுவலகத்திற்குச் சென்று மேலாளரிடம் பேசிவிட்டு பிறகு வீட்டிற்குத் திரும்பி வருவேன். அம்மா சமையல் செய்கிறார், "
        "அப்பா செய்தித்தாள் படிக்கிறார். தம்பி பள்ளிக்குச் சென்று மாலை ஐந்து மணிக்குத் திரும்பி வருவான்.",
        "ხვალ დილით ოფისში წავალ მენეჯერს დაველაპარაკები და შემდეგ სახლში დავბრუნდები. დედა სადილს ამზადებს, მამა გაზეთს კითხულობს. "
        "ჩემი ძმა სკოლაში მიდის და საღამოს ხუთ საათზე ბრუნდება. კვირას ყველანი ერთად კინოში წავალთ",
        "ကျွန်တော် မနက်ဖြန် မနက် ရုံးကို သွားပြီး မန်နေဂျာနဲ့ စကားပြောပြီးမှ အိမ်ကို ပြန်လာမယ်။ ပြီးရင် မိသားစုနဲ့ အတူ ညစာစားပြီး တီဗီကြည့်မယ်။ "
        "တနင်္ဂနွေနေ့မှာတော့ သူငယ်ချင်းတွေနဲ့ ဈေးသွားပြီး အဝတ်အစားတွေ ဝယ်မယ်",
    ],
    ids=["ta", "ka", "my"],
)
def test_speech_in_a_script_of_three_bytes_is_no_loop(text: str) -> None:
    assert len(text.encode()) / len(zlib.compress(text.encode())) > 2.4
    assert not is_loop(text)
    assert is_loop(text[:60] * 4)


@pytest.mark.parametrize("language", ["am", "ar", "bn", "fa", "he", "ja", "kn", "ko", "te", "th"])
def test_counting_is_no_loop_in_any_script(language: str) -> None:
    counted = " ".join(num2words(number, lang=language) for number in range(20))
    assert not is_loop(counted)
    assert is_loop(f"{counted[:40]} " * 8)


@pytest.mark.parametrize("text", ["谢谢大家" * 6, "谢谢大家。" * 5, "ありがとうございました" * 4, "ขอบคุณครับ" * 5, "今天下雨" + "谢谢" * 8])
def test_a_phrase_over_and_over_is_a_loop_without_spaces_too(text: str) -> None:
    assert is_loop(text)


@pytest.mark.parametrize("text", ["哈哈哈哈哈哈", "ドキドキドキドキ", "谢谢大家,谢谢大家,谢谢大家"])
def test_a_few_times_are_no_loop_without_spaces_either(text: str) -> None:
    assert not is_loop(text)


def test_what_is_written_in_latin_is_measured_in_utf_8_as_ever() -> None:
    """So no Swedish verdict changes: those of the demo, of loops in it, and at the very threshold."""
    plain = [utterance.text for utterance in plan(DEFAULT)]
    for text in [*plain, *(f"{text} … – “{text[:9]}” " * times for text in plain[:200] for times in (2, 3))]:
        assert _one_byte_a_letter(text) == text.encode()
