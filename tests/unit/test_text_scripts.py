"""Characters that do not belong in a transcript of a language."""

from __future__ import annotations

import pytest

from avskrift.text.languages import LANGUAGES
from avskrift.text.scripts import foreign_characters


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        ("Åke är på Łódźs kafé i São Paulo.", ""),
        ("5 % av 2 000 kr = 100 kr (≈ 9 €), 20 °C, ½ § 3 × 4 – ”ja”…", ""),
        ("fo\u0308r", ""),
        ("två\nrader\toch\u00a0fast", ""),
        ("Hon hаr en bil", "а"),
        ("alfa α och beta β", "αβ"),
        ("東京 och Москва", "Мавкос京東"),
        ("bra 👍🏽 ❤️", "❤🏽👍"),
        ("♪ sjunger ☞ ♫", "☞♪♫"),
        ("f\ufffdr", "\ufffd"),
        ("\x07klocka\x00", "\x00\x07"),
        ("privat \ue000", "\ue000"),
        ("halv \ud83d", "\ud83d"),
        ("vänd\u202e av\u00adstav", "\u00ad\u202e"),
        ("obestämd \u0378", "\u0378"),
        ("𝐟𝐞𝐭", "𝐞𝐟𝐭"),
        ("", ""),
    ],
)
def test_in_swedish_only_latin_letters_belong_and_nothing_that_cannot_be_said(text: str, foreign: str) -> None:
    assert foreign_characters(text, "sv") == foreign


WRITTEN_IN = {
    "am": "ሰላም ለዓለም።",
    "ar": "مرحبا بالعالم، ١٢٣؟",
    "as": "নমস্কাৰ",
    "bg": "Здравей, свят",
    "bn": "ওহে বিশ্ব।",
    "bo": "བཀྲ་ཤིས་བདེ་ལེགས།",
    "el": "Γειά σου Κόσμε",
    "fa": "سلام، می\u200cخواهم ۱۲۳",
    "gu": "નમસ્તે દુનિયા",
    "haw": "Aloha, ʻōlelo Hawaiʻi",
    "he": "שָׁלוֹם עולם",
    "hi": "नमस्ते दुनिया।",
    "hy": "Բարեւ աշխարհ։",
    "ja": "東京タワーは々〆、カレー。①㈱",
    "ka": "გამარჯობა",
    "kk": "Сәлем әлем",
    "km": "សួស្តី\u200cពិភពលោក។",
    "kn": "ನಮಸ್ಕಾರ",
    "ko": "안녕 世界",
    "lo": "ສະບາຍດີ",
    "ml": "നമസ്കാരം",
    "mn": "Сайн уу ᠮᠣᠩᠭᠣᠯ",
    "my": "မင်္ဂလာပါ။",
    "pa": "ਸਤ ਸ੍ਰੀ ਅਕਾਲ",
    "ru": "Привет, мир! Ёж",
    "sa": "नमो॒ नमः॑",
    "si": "ආයුබෝවන් ශ්\u200dරී",
    "ta": "வணக்கம்",
    "te": "నమస్కారం",
    "th": "สวัสดีชาวโลก ฿5",
    "uk": "Привіт, м\u02bcята",
    "ur": "ہیلو دنیا",
    "vi": "Xin chào thế giới",
    "yi": "שלום וועלט",
    "yo": "Ẹ káàbọ̀",
    "yue": "你好，世界",
    "zh": "你好，世界！ㄅ",
}


@pytest.mark.parametrize(("language", "text"), WRITTEN_IN.items())
def test_what_a_language_is_written_in_belongs_with_latin_names_beside_it(language: str, text: str) -> None:
    assert foreign_characters(f"{text} Volvo", language) == ""


@pytest.mark.parametrize("language", sorted(set(WRITTEN_IN) - {"haw", "vi", "yo"}))
def test_another_language_s_letters_do_not_belong(language: str) -> None:
    foreign = "漢" if language not in ("zh", "yue", "ja", "ko") else "я"
    assert foreign_characters(f"{WRITTEN_IN[language]} {foreign}", language) == foreign
    assert foreign_characters(WRITTEN_IN[language], "sv") != ""


def test_serbian_and_bosnian_are_written_in_two_alphabets() -> None:
    for language in ("sr", "bs"):
        assert foreign_characters("Здраво svete", language) == ""


def test_emoji_belong_in_no_language() -> None:
    assert [code for code in LANGUAGES if foreign_characters("😀", code) != "😀"] == []


def test_a_language_unknown_to_whisper_may_be_written_in_any_script_but_not_in_emoji() -> None:
    assert foreign_characters("漢я😀", "tlh") == "😀"
