"""The versioned normaliser: what is taken out of two texts before they are compared.

A word error rate means nothing without the normaliser it was measured with, so each has a version that stands in every
dataset and every evaluation. Change what a normaliser does, and its version changes too.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from avskrift.text.swedish import normalise_swedish


@dataclass(frozen=True, slots=True, kw_only=True)
class _Normaliser:
    version: str
    apply: Callable[[str], str]


def normalise(text: str, language: str) -> str:
    """``text`` in the form that is compared: no case, no punctuation, one space between words.

    Total (any string, any language) and idempotent. Letters keep their diacritics: without them, "för" would be "for".
    Swedish ("sv") has rules of its own, in :mod:`avskrift.text.swedish`: numbers become words there.
    """
    return _normaliser_of(language).apply(text)


def normaliser_version(language: str) -> str:
    """The version of the normaliser that :func:`normalise` applies to ``language``."""
    return _normaliser_of(language).version


def _normaliser_of(language: str) -> _Normaliser:
    return _BY_LANGUAGE.get(language, _GENERIC)


def _generic(text: str) -> str:
    # One pass is not enough: folding can decompose, and a dropped character can bring a letter and its mark together.
    while (passed := _generic_pass(text)) != text:
        text = passed
    return text


def _generic_pass(text: str) -> str:
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join("".join(map(_keep, folded)).split())


def _keep(character: str) -> str:
    """A letter, mark or digit as it is; nothing for what is invisible inside a word (a soft hyphen); a space for the rest."""
    category = unicodedata.category(character)
    if category[0] in "LMN":
        return character
    return "" if category == "Cf" else " "


_GENERIC = _Normaliser(version="generic-1", apply=_generic)
_BY_LANGUAGE: Mapping[str, _Normaliser] = {"sv": _Normaliser(version="sv-1", apply=normalise_swedish)}
