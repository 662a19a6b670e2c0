"""Text that repeats itself, as a speech model's does when it is caught in a loop."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

# Source: Radford et al., *Robust Speech Recognition via Large-Scale Weak Supervision* (2022), section 4.5.
_LOOP_COMPRESSION = 2.4
# Of a phrase said over and over, without anything between. People say a word three times, and "nej" five; not eight words so.
_LOOP_TIMES, _LOOP_WORDS = 4, 8
_LONGEST_PHRASE = 8  # in words; longer ones repeated so often are compressed well enough
# Where no spaces stand between words, two letters or so are a word: as many words, and phrases as long.
_LOOP_LETTERS, _LONGEST_PHRASE_IN_LETTERS = 16, 32
# Letters of three bytes, of which the first two are a script's and nearly always the same, so that zlib takes any Tamil for a
# loop. Latin with two marks (U+1E00) and punctuation (U+2000) are not among them: their texts are measured as they always were.
_THREE_BYTES = "[\u0800-\u1dff\u3000-\ud7ff\uf900-\uffef]"
_LETTER = re.compile(_THREE_BYTES)
_UNBROKEN = re.compile(f"{_THREE_BYTES}{{{_LOOP_LETTERS},}}")
_PUNCTUATION = ".,;:!?…–—-\"'”’()[]"


def is_loop(text: str) -> bool:
    """Whether a text repeats itself more than speech does.

    Either the ratio at which zlib compresses its UTF-8 is over 2.4, OpenAI's measure, made for windows of 30 s, a letter of
    three bytes counted as one; or, since what zlib adds to a short text hides that it repeats itself, a phrase stands in it
    four times in a row, in eight words at least or in sixteen such letters without a space. Case and punctuation make no
    difference to words.
    """
    raw = _one_byte_a_letter(text)
    return len(raw) / len(zlib.compress(raw)) > _LOOP_COMPRESSION or _repeats_a_phrase(text)


def _one_byte_a_letter(text: str) -> bytes:
    """UTF-8, but one byte for a letter of three: its place among 128, which is about what a script has."""
    if not _LETTER.search(text):
        return text.encode()
    return b"".join(bytes([0x80 | ord(letter) & 0x7F]) if _LETTER.match(letter) else letter.encode() for letter in text)


def _repeats_a_phrase(text: str) -> bool:
    words = [word for written in text.casefold().split() if (word := written.strip(_PUNCTUATION))]
    return _is_run(words, least=_LOOP_WORDS, longest_phrase=_LONGEST_PHRASE) or any(
        _is_run(letters, least=_LOOP_LETTERS, longest_phrase=_LONGEST_PHRASE_IN_LETTERS) for letters in _UNBROKEN.findall(text)
    )


def _is_run(units: Sequence[str], *, least: int, longest_phrase: int) -> bool:
    """Whether a phrase of up to so many words (or letters) stands four times in a row, in ``least`` of them."""
    return any(_longest_run(units, length) >= max(least, _LOOP_TIMES * length) for length in range(1, longest_phrase + 1))


def _longest_run(words: Sequence[str], length: int) -> int:
    """The most words in a row that are a phrase of ``length`` words over and over, the first time included."""
    longest = run = 0
    for place in range(length, len(words)):
        run = run + 1 if words[place] == words[place - length] else 0
        longest = max(longest, run)
    return longest + length if longest else 0
