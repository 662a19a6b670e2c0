"""The languages that Whisper knows, and the one place that refuses the others."""

from __future__ import annotations

import difflib

from avskrift.errors import LanguageError

# Codes and names as in Whisper's tokenizer (openai/whisper, whisper/tokenizer.py), in the order of its language tokens.
LANGUAGES: dict[str, str] = {
    "en": "english",
    "zh": "chinese",
    "de": "german",
    "es": "spanish",
    "ru": "russian",
    "ko": "korean",
    "fr": "french",
    "ja": "japanese",
    "pt": "portuguese",
    "tr": "turkish",
    "pl": "polish",
    "ca": "catalan",
    "nl": "dutch",
    "ar": "arabic",
    "sv": "swedish",
    "it": "italian",
    "id": "indonesian",
    "hi": "hindi",
    "fi": "finnish",
    "vi": "vietnamese",
    "he": "hebrew",
    "uk": "ukrainian",
    "el": "greek",
    "ms": "malay",
    "cs": "czech",
    "ro": "romanian",
    "da": "danish",
    "hu": "hungarian",
    "ta": "tamil",
    "no": "norwegian",
    "th": "thai",
    "ur": "urdu",
    "hr": "croatian",
    "bg": "bulgarian",
    "lt": "lithuanian",
    "la": "latin",
    "mi": "maori",
    "ml": "malayalam",
    "cy": "welsh",
    "sk": "slovak",
    "te": "telugu",
    "fa": "persian",
    "lv": "latvian",
    "bn": "bengali",
    "sr": "serbian",
    "az": "azerbaijani",
    "sl": "slovenian",
    "kn": "kannada",
    "et": "estonian",
    "mk": "macedonian",
    "br": "breton",
    "eu": "basque",
    "is": "icelandic",
    "hy": "armenian",
    "ne": "nepali",
    "mn": "mongolian",
    "bs": "bosnian",
    "kk": "kazakh",
    "sq": "albanian",
    "sw": "swahili",
    "gl": "galician",
    "mr": "marathi",
    "pa": "punjabi",
    "si": "sinhala",
    "km": "khmer",
    "sn": "shona",
    "yo": "yoruba",
    "so": "somali",
    "af": "afrikaans",
    "oc": "occitan",
    "ka": "georgian",
    "be": "belarusian",
    "tg": "tajik",
    "sd": "sindhi",
    "gu": "gujarati",
    "am": "amharic",
    "yi": "yiddish",
    "lo": "lao",
    "uz": "uzbek",
    "fo": "faroese",
    "ht": "haitian creole",
    "ps": "pashto",
    "tk": "turkmen",
    "nn": "nynorsk",
    "mt": "maltese",
    "sa": "sanskrit",
    "lb": "luxembourgish",
    "my": "myanmar",
    "bo": "tibetan",
    "tl": "tagalog",
    "mg": "malagasy",
    "as": "assamese",
    "tt": "tatar",
    "haw": "hawaiian",
    "ln": "lingala",
    "ha": "hausa",
    "ba": "bashkir",
    "jw": "javanese",
    "su": "sundanese",
    "yue": "cantonese",
}
# Written without spaces between words. Tibetan is too, but a mark stands between its syllables, which the normaliser makes a space.
UNSPACED = frozenset({"zh", "yue", "ja", "th", "lo", "km", "my"})
_CODES = {name: code for code, name in LANGUAGES.items()}
_MATCHES_SHOWN = 3


def check_language(code: str) -> str:
    """Whisper's code for a language that is given by its code or its English name, in any case.

    Raises:
        LanguageError: Whisper does not know it; the message offers the closest matches.
    """
    wanted = code.strip().lower()
    if wanted in LANGUAGES:
        return wanted
    if wanted in _CODES:
        return _CODES[wanted]
    matches = _close_matches(wanted)
    offer = (
        f"did you mean {' or '.join(f'{match} ({LANGUAGES[match]})' for match in matches)}?" if matches else "sv, en and 98 others will do"
    )
    raise LanguageError(f"language {code!r} is none of the {len(LANGUAGES)} that Whisper knows; {offer}")


def _close_matches(wanted: str) -> list[str]:
    """Codes that a person who typed ``wanted`` may have meant: a locale's language first, then what is spelt alike."""
    locale = wanted.replace("_", "-").split("-")[0]
    candidates = [locale] if locale in LANGUAGES else []
    candidates += [_CODES[name] for name in difflib.get_close_matches(wanted, _CODES, n=_MATCHES_SHOWN)]
    candidates += difflib.get_close_matches(wanted, LANGUAGES, n=_MATCHES_SHOWN)
    return list(dict.fromkeys(candidates))[:_MATCHES_SHOWN]
