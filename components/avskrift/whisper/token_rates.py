"""How many tokens a second of speech may take, by language: what ends a loop must not end a sentence.

Whisper's tokenizer, the same for all multilingual models, has few pieces for the languages that it met seldom: two tokens make a
Swedish word, two or three a Georgian letter. The same text takes about as long to say in any language (Coupé et al., 2019,
*Different languages, similar encoding efficiency*). So one text in all of them, article 1 of the Universal Declaration of Human
Rights, says how many tokens a second of each takes: 5 to 6 in Swedish (50 tokens), and as many times more as it has more tokens.
The rates below leave half as much again for fast speech: 20 from one and a half times Swedish on, 25 from twice, 45 from three and a
half times. ``tests/unit/test_whisper_token_rates.py`` holds them against alphabets and number words.
"""

from __future__ import annotations

from avskrift.whisper.transcript import Task

USUAL_TOKENS_PER_SECOND = 15  # well above the fastest speech
_TOKENS_PER_SECOND = {
    **dict.fromkeys(("cy", "el", "fa", "ha", "ja", "lb", "mk", "mt", "sn", "so", "sq", "sr", "tg", "ur", "vi"), 20),
    **dict.fromkeys(("ba", "haw", "kk", "mi", "mn", "ps", "sd", "th", "tt", "yi", "yo"), 25),
    **dict.fromkeys(
        ("am", "as", "bn", "bo", "gu", "hi", "hy", "ka", "km", "kn", "lo", "ml", "mr", "my", "ne", "pa", "sa", "si", "ta", "te"), 45
    ),
}


def tokens_per_second(language: str, task: Task = "transcribe") -> int:
    """The most that speech in ``language`` takes; a translation is English."""
    return USUAL_TOKENS_PER_SECOND if task == "translate" else _TOKENS_PER_SECOND.get(language, USUAL_TOKENS_PER_SECOND)
