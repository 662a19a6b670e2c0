"""Which word was heard for which: one minimal (Levenshtein) alignment of two sequences of words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Literal, cast

import jiwer

Kind = Literal["equal", "substitute", "delete", "insert"]
AlignedWord = tuple[Kind, str | None, str | None]


def aligned_words(reference_words: Sequence[str], hypothesis_words: Sequence[str]) -> list[AlignedWord]:
    """The words of both sides in order, as (kind, reference, hypothesis); a side that has no word there is None.

    Of the kinds other than "equal" there are as many as an error rate counts. Words hold no space and are not empty.
    """
    output = jiwer.process_words(" ".join(reference_words), " ".join(hypothesis_words))
    aligned: list[AlignedWord] = []
    for chunk in output.alignments[0]:
        expected = reference_words[chunk.ref_start_idx : chunk.ref_end_idx]
        heard = hypothesis_words[chunk.hyp_start_idx : chunk.hyp_end_idx]
        aligned += [(cast(Kind, chunk.type), said, word) for said, word in zip_longest(expected, heard)]
    return aligned
