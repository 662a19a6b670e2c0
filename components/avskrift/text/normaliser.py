"""The versioned normaliser: what is taken out of two texts before they are compared.

A word error rate means nothing without the normaliser it was measured with, so each has a version that stands in every
dataset and every evaluation. Change what a normaliser does, and its version changes too.

``generic-2-letters`` is ``generic-2`` for the languages that are written without spaces: every letter becomes a word, so a
word error rate there is a character error rate, as OpenAI's normaliser has it (``split_letters`` of openai/whisper). Left
whole, a sentence would be one word, right or wrong.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from avskrift.text.languages import UNSPACED
from avskrift.text.swedish import normalise_swedish

BY_LETTERS = "-letters"  # how the version ends where a word is a letter
_TURKISH_I = str.maketrans("Iİ", "ıi")
_I_WITH_A_SECOND_DOT = "i\u0307"  # what software that knows no Turkish makes of İ


@dataclass(frozen=True, slots=True, kw_only=True)
class _Normaliser:
    version: str
    apply: Callable[[str], str]


def normalise(text: str, language: str) -> str:
    """``text`` in the form that is compared: no case, no punctuation, one space between words.

    Total (any string, any language) and idempotent. Letters keep their diacritics: without them, "för" would be "for".
    Swedish ("sv") has rules of its own, in :mod:`avskrift.text.swedish`: numbers become words there. In a language that is
    written without spaces a word is a letter with its marks.
    """
    return _normaliser_of(language).apply(text)


def normaliser_version(language: str) -> str:
    """The version of the normaliser that :func:`normalise` applies to ``language``."""
    return _normaliser_of(language).version


def split_letters(text: str) -> str:
    """``text`` with one space between its letters, each with the marks that belong to it."""
    return " ".join(letter for word in text.split() for letter in _letters(word))


def _normaliser_of(language: str) -> _Normaliser:
    return _BY_LANGUAGE.get(language, _GENERIC)


def _until_it_stays(one_pass: Callable[[str], str], text: str) -> str:
    # One pass is not enough: folding can decompose, and a dropped character can bring a letter and its mark together.
    while (passed := one_pass(text)) != text:
        text = passed
    return text


def _generic_pass(text: str) -> str:
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join("".join(map(_keep, folded)).split())


def _turkish_pass(text: str) -> str:
    """Case as Turkish and Azerbaijani have it: the capital of i is İ, and I is the capital of ı."""
    return _generic_pass(unicodedata.normalize("NFC", text).translate(_TURKISH_I).replace(_I_WITH_A_SECOND_DOT, "i"))


def _letters_pass(text: str) -> str:
    return split_letters(_generic_pass(text))


def _keep(character: str) -> str:
    """A letter, mark or digit as it is; nothing for what is invisible inside a word (a soft hyphen); a space for the rest."""
    category = unicodedata.category(character)
    if category[0] in "LMN":
        return character
    return "" if category == "Cf" else " "


def _letters(word: str) -> list[str]:
    letters: list[str] = []
    for character in word:
        if letters and unicodedata.category(character)[0] == "M":
            letters[-1] += character
        else:
            letters.append(character)
    return letters


_GENERIC = _Normaliser(version="generic-2", apply=partial(_until_it_stays, _generic_pass))
_TURKISH = _Normaliser(version="generic-2", apply=partial(_until_it_stays, _turkish_pass))
_BY_LETTERS = _Normaliser(version=f"generic-2{BY_LETTERS}", apply=partial(_until_it_stays, _letters_pass))
_BY_LANGUAGE: Mapping[str, _Normaliser] = {
    "sv": _Normaliser(version="sv-1", apply=normalise_swedish),
    "tr": _TURKISH,
    "az": _TURKISH,
    **dict.fromkeys(UNSPACED, _BY_LETTERS),
}
