"""Transcripts as Whisper writes them, for training: case and punctuation kept, typography made plain."""

from __future__ import annotations

import re
import unicodedata

_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
# Soft hyphen, grapheme joiner, zero-width space, marks and overrides of direction, word joiner and its like, byte order mark.
_INVISIBLE = re.compile(
    "[\xad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0001\U000e0020-\U000e007f]"
)
# Arabic script, the scripts of India, Burmese and Khmer are written with joiners; elsewhere they are remains of a web page.
_STRAY_JOINER = re.compile("(?<![\u0600-\u0dff\u1000-\u109f\u1780-\u17ff\u200c\u200d])[\u200c\u200d]+")
# A CSV field that holds quotation marks, as some exports leave it: """Nej"", sa hon."
_CSV_FIELD = re.compile(r'\s*"(?=.*"")((?:[^"]|"")*+)"\s*', re.DOTALL)
_GUILLEMETS = re.compile(r"«\s*([^«»]*?)\s*»")
_EM_DASH_BETWEEN_WORDS = re.compile(r"(?<=\S)[—―]+(?=\S)")
_PLAIN = str.maketrans(
    dict.fromkeys("“”„‟«»″〝〞", '"') | dict.fromkeys("‘’‚‛‹›′´`\u02bc", "'") | dict.fromkeys("‐‑‒–—―−⁃", "-") | {"…": "..."}
)
_TWO_APOSTROPHES = re.compile("'{2,}")
_TWO_QUOTATION_MARKS = re.compile('"{2,}')
_FOUR_DOTS = re.compile(r"\.{4,}")


def transcript(text: str) -> str:
    """``text`` in Whisper's own style. Total and idempotent; the empty string where nothing is left.

    Composed (NFC). Quotation marks, apostrophes, dashes and the ellipsis become the plain ``"``, ``'``, ``-`` and ``...``, any
    run of white space one space; control and zero-width characters go. A text wholly within one pair of quotation marks
    loses them. A lone surrogate, which no file can hold, becomes U+FFFD:
    :func:`avskrift.text.scripts.foreign_characters` reports that.
    """
    text = _INVISIBLE.sub("", _CONTROL.sub("", _SURROGATE.sub("\ufffd", text)))
    text = unicodedata.normalize("NFC", _STRAY_JOINER.sub("", text))
    if field := _CSV_FIELD.fullmatch(text):
        text = field[1].replace('""', '"')
    text = _EM_DASH_BETWEEN_WORDS.sub(" - ", _GUILLEMETS.sub(r'"\1"', text)).translate(_PLAIN)
    text = _TWO_QUOTATION_MARKS.sub('"', _TWO_APOSTROPHES.sub('"', text))
    text = " ".join(_FOUR_DOTS.sub("...", text).split())
    return _unwrapped(text)


def _unwrapped(text: str) -> str:
    """``text`` without the pair of quotation marks that holds all of it; '"Ja", sa hon. "Gå"' holds two pairs and keeps them."""
    is_wrapped = len(text) > 1 and text[0] == text[-1] == '"' and text.count('"') == 2
    return text[1:-1].strip() if is_wrapped else text
