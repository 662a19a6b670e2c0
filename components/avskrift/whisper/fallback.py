"""What to do about a text that cannot be right: decode again, otherwise (Radford et al., 2022, section 4.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from avskrift.text.repetition import is_loop

_LEAST_LOGPROB = -1.0  # OpenAI's threshold: a text below it is doubtful
_NO_SPEECH_PROBABILITY = 0.6  # and with the model's own doubt that anybody speaks, it is silence
_LOOP_NGRAM = 3  # the last resort against a loop: no run of so many tokens comes twice


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the decoder wrote of a window: ``tokens`` behind the prompt, their ``text`` without times, and how sure it was."""

    tokens: tuple[int, ...]
    text: str
    avg_logprob: float
    no_speech_prob: float

    @property
    def is_silence(self) -> bool:
        """Whether the model itself says that nobody speaks: OpenAI's rule of thumb, both at once."""
        return self.no_speech_prob > _NO_SPEECH_PROBABILITY and self.avg_logprob < _LEAST_LOGPROB

    @property
    def stands(self) -> bool:
        """Whether there is no reason to decode again."""
        return self.is_silence or (self.avg_logprob >= _LEAST_LOGPROB and not is_loop(self.text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How to decode: ``temperature`` 0 by beam or greedily, more by sampling; ``ngrams`` over 0 forbids to repeat so many tokens."""

    temperature: float = 0.0
    ngrams: int = 0


Decode = Callable[[Sequence[int], Attempt], Sequence[Reading]]


def read(windows: int, temperatures: Sequence[float], decode: Decode) -> list[Reading]:
    """A reading for each of a batch's windows. ``decode`` gives one for each of the windows that it is named, by index.

    The temperatures are tried in turn on the windows whose text does not stand yet. Where none stands, the most probable
    text that does not repeat itself is taken; where all do, what is decoded without repeats.
    """
    tries: list[list[Reading]] = [[] for _ in range(windows)]
    doubtful = list(range(windows))
    for temperature in temperatures:
        doubtful = _try(doubtful, Attempt(temperature=temperature), decode, tries)
    _try([window for window in doubtful if not _sound(tries[window])], Attempt(ngrams=_LOOP_NGRAM), decode, tries)
    return [_best(readings) for readings in tries]


def _try(windows: Sequence[int], attempt: Attempt, decode: Decode, tries: Sequence[list[Reading]]) -> list[int]:
    """Those of the windows that are as doubtful as before."""
    if not windows:
        return []
    for window, reading in zip(windows, decode(windows, attempt), strict=True):
        tries[window].append(reading)
    return [window for window in windows if not tries[window][-1].stands]


def _sound(readings: Sequence[Reading]) -> list[Reading]:
    return [reading for reading in readings if not is_loop(reading.text)]


def _best(readings: Sequence[Reading]) -> Reading:
    if readings[-1].stands:
        return readings[-1]
    return max(_sound(readings), key=lambda reading: reading.avg_logprob, default=readings[-1])
