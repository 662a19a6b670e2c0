"""Text that repeats itself, as a speech model's does when it is caught in a loop."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

# Source: Radford et al., *Robust Speech Recognition via Large-Scale Weak Supervision* (2022), section 4.5.
_LOOP_COMPRESSION = 2.4
# Of a phrase said over and over, without anything between. People say a word three times, and "nej" five; not eight words so.
_LOOP_TIMES, _LOOP_WORDS = 4, 8
_LONGEST_PHRASE = 8  # in words; longer ones repeated so often are compressed well enough
_PUNCTUATION = ".,;:!?…–—-\"'”’()[]"


def is_loop(text: str) -> bool:
    """Whether a text repeats itself more than speech does.

    Either the ratio at which zlib compresses its UTF-8 is over 2.4, OpenAI's measure, made for windows of 30 s; or, since
    what zlib adds to a short text hides that it repeats itself, a phrase stands in it four times in a row, in eight words
    at least. Case and punctuation make no difference to the second.
    """
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw)) > _LOOP_COMPRESSION or _repeats_a_phrase(text)


def _repeats_a_phrase(text: str) -> bool:
    words = [word for written in text.casefold().split() if (word := written.strip(_PUNCTUATION))]
    return any(_longest_run(words, length) >= max(_LOOP_WORDS, _LOOP_TIMES * length) for length in range(1, _LONGEST_PHRASE + 1))


def _longest_run(words: Sequence[str], length: int) -> int:
    """The most words in a row that are a phrase of ``length`` words over and over, the first time included."""
    longest = run = 0
    for place in range(length, len(words)):
        run = run + 1 if words[place] == words[place - length] else 0
        longest = max(longest, run)
    return longest + length if longest else 0
