"""Which characters belong in a transcript of a language, and which show that something went wrong on the way.

A Cyrillic "а" in a Swedish sentence looks right and is another token to Whisper; U+FFFD is what is left of a letter that was
decoded with the wrong encoding.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

from avskrift.text.languages import LANGUAGES

# Beside the Latin script, which any language uses for names and brands, and which alone writes those not listed here.
# Where a language is written in several scripts today, all are listed. Names are the first words of Unicode's character names.
_SCRIPTS: Mapping[str, tuple[str, ...]] = {
    "zh": ("CJK", "BOPOMOFO"),
    "yue": ("CJK", "BOPOMOFO"),
    "ja": ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"),
    "ko": ("HANGUL", "CJK"),
    **dict.fromkeys(("ru", "uk", "be", "bg", "mk", "sr", "bs", "tg", "tt", "ba", "uz", "az", "tk"), ("CYRILLIC",)),
    "kk": ("CYRILLIC", "ARABIC"),
    "mn": ("CYRILLIC", "MONGOLIAN"),
    "el": ("GREEK",),
    "hy": ("ARMENIAN",),
    "ka": ("GEORGIAN",),
    **dict.fromkeys(("he", "yi"), ("HEBREW",)),
    **dict.fromkeys(("ar", "fa", "ur", "ps"), ("ARABIC",)),
    "sd": ("ARABIC", "DEVANAGARI"),
    "pa": ("GURMUKHI", "ARABIC"),
    **dict.fromkeys(("hi", "mr", "ne", "sa"), ("DEVANAGARI", "VEDIC")),
    **dict.fromkeys(("bn", "as"), ("BENGALI",)),
    "gu": ("GUJARATI",),
    "ta": ("TAMIL",),
    "te": ("TELUGU",),
    "kn": ("KANNADA",),
    "ml": ("MALAYALAM",),
    "si": ("SINHALA",),
    "th": ("THAI",),
    "lo": ("LAO",),
    "km": ("KHMER",),
    "my": ("MYANMAR",),
    "bo": ("TIBETAN",),
    "am": ("ETHIOPIC",),
    **dict.fromkeys(("ha", "ms"), ("ARABIC",)),
    "jw": ("JAVANESE",),
    "su": ("SUNDANESE",),
}
# What the letters and marks are called that no one script owns: accents, the ordinal signs, the letter apostrophe, "µ", "々".
_SHARED = frozenset({"LATIN", "COMBINING", "MODIFIER", "FEMININE", "MASCULINE", "MICRO", "IDEOGRAPHIC", "VARIATION"})
_WIDTHS = frozenset({"FULLWIDTH", "HALFWIDTH"})
# Emoji, dingbats, arrows, box drawing and the replacement character are symbols from here on; "°", "©", "№" and "℃" lie before.
_FIRST_PICTOGRAPH = "\u2190"
# Enclosed and squared characters ("㈱", "㎏") are everyday type in East Asia.
_EAST_ASIAN_SYMBOLS = re.compile("[\u3000-\u33ff]")
_EAST_ASIAN = frozenset({"zh", "yue", "ja", "ko"})
_ORDINARY = re.compile("[ -~\xa0-\xac\xae-\u02af\u2010-\u2027\u2030-\u205e\u20a0-\u20bf]*")


def foreign_characters(text: str, language: str) -> str:
    """The characters of ``text`` that do not belong in a transcript of ``language``, each once, in code-point order.

    They are letters and marks of scripts that the language is not written in (Latin belongs everywhere), pictographs and
    emoji, control and format characters other than the joiners that some scripts need, U+FFFD, private use, unassigned code
    points and lone surrogates. White space, digits, punctuation, currency and mathematics of any script belong. For a
    language that Whisper does not know, letters of every script belong.
    """
    if _ORDINARY.fullmatch(text):
        return ""
    return "".join(sorted(character for character in set(text) if not _belongs(character, language)))


@lru_cache(maxsize=8192)
def _belongs(character: str, language: str) -> bool:
    category = unicodedata.category(character)
    if category in ("Cs", "Co", "Cn"):
        return False
    if category == "Cc":
        return character.isspace()
    if category == "Cf":
        # ZWNJ, ZWJ, and the visible signs that Unicode files here: Arabic number and verse marks.
        return character in "\u200c\u200d" or unicodedata.name(character, "").startswith(("ARABIC NUMBER", "ARABIC SIGN", "ARABIC END"))
    if category in ("So", "Sk", "Me"):
        is_east_asian = language in _EAST_ASIAN and _EAST_ASIAN_SYMBOLS.match(character) is not None
        return character < _FIRST_PICTOGRAPH or is_east_asian
    return category[0] not in "LM" or language not in LANGUAGES or _script(character) in {*_SHARED, *_SCRIPTS.get(language, ())}


def _script(character: str) -> str:
    """The script of a letter or mark: the first word of its name, the second where the first tells its width."""
    words = unicodedata.name(character, "").split()
    return next((word for word in words if word not in _WIDTHS), "")
