"""BPE dropout: a word in other pieces each time, so that a model learns what its letters are.

Source: Provilkov et al., *BPE-Dropout: Simple and Effective Subword Regularization* (2020). The ``tokenizers`` library has
a dropout too, but it cannot be seeded, and a run that is resumed has to meet the same labels.
"""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

from tokenizers import Tokenizer

from avskrift.errors import PackageError

_NO_MERGE = 1 << 62  # a rank after all others
_CACHED_WORDS = 1 << 16  # some 10 MB


class BpeDropout:
    """Encodes text with one model's ``tokenizer.json``, merges left out at random.

    Raises:
        PackageError: ``tokenizer_file`` is not a byte-level BPE tokenizer.
    """

    def __init__(self, tokenizer_file: Path) -> None:
        try:
            tokenizer = Tokenizer.from_file(str(tokenizer_file))
            model = json.loads(tokenizer_file.read_text(encoding="utf-8"))["model"]
            ids: dict[str, int] = model["vocab"]
            pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
            self._ranks = {(ids[left], ids[right]): rank for rank, (left, right) in enumerate(pairs)}
            self._merged = [ids[left + right] for left, right in pairs]
            self._normalizer, self._pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
            self._bytes = {letter: ids[letter] for letter in self._pre_tokenizer.alphabet()}
        except Exception as error:  # the library raises bare Exception for every fault
            raise PackageError(f"{tokenizer_file}: not a byte-level BPE tokenizer ({error}); export or fetch the model again") from error
        self._whole_words: dict[str, list[int]] = {}

    def encode(self, text: str, *, share: float, chance: random.Random) -> list[int]:
        """Tokens of plain ``text``, each possible merge skipped with the probability ``share`` at each step.

        A ``share`` of 0 gives what :meth:`avskrift.whisper.tokens.WhisperTokens.encode` gives, and draws nothing.
        """
        if self._normalizer is not None:
            text = self._normalizer.normalize_str(text)
        tokens: list[int] = []
        for word, _ in self._pre_tokenizer.pre_tokenize_str(text):
            tokens += self._merge(word, share, chance) if share else self._whole(word, chance)
        return tokens

    def _whole(self, word: str, chance: random.Random) -> list[int]:
        if (known := self._whole_words.get(word)) is not None:
            return known
        pieces = self._merge(word, 0.0, chance)
        if len(self._whole_words) < _CACHED_WORDS:
            self._whole_words[word] = pieces
        return pieces

    def _merge(self, word: str, share: float, chance: random.Random) -> list[int]:
        """From single bytes, the best merge that is not skipped, again and again until there is none."""
        pieces = [self._bytes[letter] for letter in word]
        ranks = [self._rank(*pair) for pair in pairwise(pieces)]  # of merging piece i with the next
        while (at := _best(ranks, share, chance)) is not None:
            pieces[at : at + 2] = [self._merged[ranks[at]]]
            del ranks[at]
            if at > 0:
                ranks[at - 1] = self._rank(pieces[at - 1], pieces[at])
            if at < len(ranks):
                ranks[at] = self._rank(pieces[at], pieces[at + 1])
        return pieces

    def _rank(self, left: int, right: int) -> int:
        return self._ranks.get((left, right), _NO_MERGE)


def _best(ranks: list[int], share: float, chance: random.Random) -> int | None:
    """Where the merge of the lowest rank that is not skipped stands, the leftmost of several.

    Drawing from the best downwards until one is kept is the same as drawing for all and taking the best of the kept.
    """
    left = ranks.copy() if share else ranks
    while left and (rank := min(left)) != _NO_MERGE:
        at = left.index(rank)
        if not share or chance.random() >= share:
            return at
        left[at] = _NO_MERGE
    return None
