"""When each word was said.

Some heads of the decoder follow the audio with their attention. Dynamic time warping over it, which CTranslate2's ``align``
does as ``openai/whisper`` does (``timing.py``), says in which 20 ms each token begins. A token ends where the next one
begins, so a pause becomes part of one of the words around it; the loudness of the window tells it apart again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.whisper.quiet import pauses
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.transcript import Audio, Word

_POSITION_S = 0.02  # an encoder position
_NEAR_S = 0.15  # how far a pause may lie from the words' boundary that it belongs to
_UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})  # written without spaces between words
_CHARACTER_TOKENS = 4  # a character of UTF-8 has at most four bytes, and a token at least one
_OPENING = frozenset("\"'“‘„«»([{¿¡-–—")
_UNREADABLE = "\ufffd"


@dataclass(frozen=True, slots=True)
class SpelledWord:
    """A word with the punctuation that clings to it, and how many tokens it takes."""

    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Alignment:
    """CTranslate2's: pairs of a token and an encoder position, in order of both, and each token's probability."""

    path: Sequence[tuple[int, int]]
    probabilities: Sequence[float]


def spell_words(tokens: WhisperTokens, written: Sequence[int], language: str) -> list[SpelledWord]:
    """Split text tokens into words: at spaces, or at whole characters for languages that are written without.

    No token is lost. Joined with spaces the words of a language with spaces are its text.
    """
    pieces = _characters(tokens, written) if language in _UNSPACED else _spaced(tokens, written)
    return [SpelledWord(tokens.spell(piece).strip(), len(piece)) for piece in _clung(tokens, pieces)]


def place_words(words: Sequence[SpelledWord], alignment: Alignment, samples: Audio) -> list[Word]:
    """Words with their times in a window of ``samples``, in seconds from its start: in order, apart and inside it."""
    duration = len(samples) / SAMPLE_RATE
    starts, ends = _aligned(words, alignment, duration)
    for start, end in pauses(samples) if words else ():
        _make_way(start, end, starts, ends)
    placed, token = list[Word](), 0
    for word, (start, end) in zip(words, _apart(starts, ends, duration), strict=True):
        probabilities = alignment.probabilities[token : token + word.tokens]
        token += word.tokens
        placed.append(Word(start_s=start, end_s=end, text=word.text, probability=sum(probabilities) / max(1, len(probabilities))))
    return placed


def _spaced(tokens: WhisperTokens, written: Sequence[int]) -> list[list[int]]:
    pieces: list[list[int]] = []
    for token in written:
        if not pieces or tokens.spell([token]).startswith(" "):
            pieces.append([])
        pieces[-1].append(token)
    return pieces


def _characters(tokens: WhisperTokens, written: Sequence[int]) -> list[list[int]]:
    pieces: list[list[int]] = [[]]
    for token in written:
        whole = _UNREADABLE not in tokens.spell(pieces[-1])
        if pieces[-1] and (whole or len(pieces[-1]) >= _CHARACTER_TOKENS):
            pieces.append([])
        pieces[-1].append(token)
    return [piece for piece in pieces if piece]


def _clung(tokens: WhisperTokens, pieces: Sequence[list[int]]) -> list[list[int]]:
    """Pieces that are punctuation joined to the word before them, or behind them if they open or come first."""
    words: list[list[int]] = []
    opening: list[int] = []
    for piece in pieces:
        text = tokens.spell(piece).strip()
        if any(character.isalnum() or character == _UNREADABLE for character in text):
            words.append([*opening, *piece])
            opening = []
        elif opening or not words or not text or text[0] in _OPENING:
            opening += piece
        else:
            words[-1] += piece
    if opening and words:
        words[-1] += opening
    elif opening:
        words.append(opening)
    return words


def _aligned(words: Sequence[SpelledWord], alignment: Alignment, duration: float) -> tuple[list[float], list[float]]:
    """Where each word starts and ends, by the alignment alone; all of the window for each where there is none."""
    begins = {token: min(position * _POSITION_S, duration) for token, position in reversed(alignment.path)}  # the first of each
    starts, ends, token = [], [], 0
    for word in words:
        starts.append(begins.get(token, 0.0))
        token += word.tokens
        ends.append(begins.get(token, duration))
    return starts, ends


def _make_way(start: float, end: float, starts: list[float], ends: list[float]) -> None:
    """Let the word before a pause end where it begins, and the word behind it start where it ends.

    Which two words they are, the nearest boundary says; a pause that is near none is inside a word.
    """
    boundaries = list(zip([starts[0], *ends], [*starts, ends[-1]], strict=True))
    distances = [max(0.0, before - end, start - behind) for before, behind in boundaries]
    behind = min(range(len(distances)), key=distances.__getitem__)
    if distances[behind] > _NEAR_S:
        return
    if behind and start > starts[behind - 1]:
        ends[behind - 1] = start
    if behind < len(starts) and end < ends[behind]:
        starts[behind] = end


def _apart(starts: Sequence[float], ends: Sequence[float], duration: float) -> Iterator[tuple[float, float]]:
    """The same times where they are in order; a word that was given none of its own follows the one before it."""
    last = 0.0
    for start, end in zip(starts, ends, strict=True):
        first = min(max(start, last), duration)
        last = min(max(end, first), duration)
        yield first, last
