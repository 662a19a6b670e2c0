"""The three ways in which error rates are counted, side by side. Rates by different ones cannot be compared.

``normalised``: both sides through the language's versioned normaliser (:mod:`avskrift.text.normaliser`); all errors over all
units of the references. It is the WER of every other place.

``raw``: the same over the texts as written and as transcribed. Only whitespace is collapsed, so case, punctuation and "20"
for "tjugo" are errors.

``utterance-mean``: the mean of the utterances' own rates, so that a clip of two words weighs as much as one of forty, after
the steps of KBLab's evaluation script for its Swedish Whisper models (kb-labb/subtitles_preprocessing on GitHub,
``scripts/evaluate/eval_model.py``): lower case; each run of digits as a Swedish cardinal, wherever it stands, so that "3,5"
is "trefem"; ASCII punctuation removed and nothing put in its place, so that "EU-land" is "euland"; NFKC; single spaces.
Whether the published table was made by exactly that script, the script does not say. Three things differ: in languages other
than Swedish digits stay digits, a number of more than 15 digits is read digit by digit, and an utterance that is left without
a word has no rate and is left out of the mean.

By all three a word is a letter in the languages that are written without spaces: their word error rates are character error rates.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from avskrift.errors import EvaluationError
from avskrift.evaluation.bootstrap import Grouping, Rate, ratio_intervals
from avskrift.evaluation.error_rates import ClipErrors, ErrorCounts, count_text_errors, total
from avskrift.evaluation.result import NORMALISED, PROTOCOLS, RAW, UTTERANCE_MEAN, ErrorRates
from avskrift.text.normaliser import normalise
from avskrift.text.swedish_numbers import read_numbers

Counted = Mapping[str, Sequence[ClipErrors]]  # by protocol, then clip by clip

_DIGITS = re.compile(r"\d+")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def count_by_protocol(references: Sequence[str], hypotheses: Sequence[str], language: str) -> Counted:
    """Each hypothesis' errors against its reference, in order, by every protocol.

    Raises:
        EvaluationError: not one hypothesis for each reference.
    """
    if len(references) != len(hypotheses):
        raise EvaluationError(f"{len(references)} references but {len(hypotheses)} hypotheses; a clip that was skipped was not measured")
    return {
        protocol: [
            count_text_errors(prepare(reference, language), prepare(hypothesis, language), language)
            for reference, hypothesis in zip(references, hypotheses, strict=True)
        ]
        for protocol, prepare in _PREPARE.items()
    }


def error_rates(counted: Counted, grouping: Grouping) -> dict[str, ErrorRates]:
    """Rates with their intervals, by protocol.

    Raises:
        EvaluationError: the references hold no words.
    """
    words = [[clip.words for clip in counted[protocol]] for protocol in PROTOCOLS]
    characters = [[clip.characters for clip in counted[protocol]] for protocol in PROTOCOLS]
    as_rates = [_utterance_rates if protocol == UTTERANCE_MEAN else _corpus_rate for protocol in PROTOCOLS]
    rates = [rate(counts) for both in (words, characters) for rate, counts in zip(as_rates, both, strict=True)]
    intervals = ratio_intervals(rates, grouping)
    rows = zip(PROTOCOLS, intervals[: len(PROTOCOLS)], intervals[len(PROTOCOLS) :], map(total, words), strict=True)
    return {
        protocol: ErrorRates(
            wer=wer,
            cer=cer,
            substitutions=counts.substitutions,
            deletions=counts.deletions,
            insertions=counts.insertions,
            reference_words=counts.reference_units,
        )
        for protocol, wer, cer, counts in rows
    }


def spoken_by_utterance(text: str, language: str) -> str:
    """``text`` as the protocol ``utterance-mean`` compares it; see the module."""
    text = text.lower()
    if language == "sv":
        text = _DIGITS.sub(lambda digits: read_numbers(digits[0].lstrip("0") or "0").strip(), text)
    return " ".join(unicodedata.normalize("NFKC", text.translate(_NO_PUNCTUATION)).split())


def _corpus_rate(counts: Sequence[ErrorCounts]) -> Rate:
    return Rate(errors=[count.errors for count in counts], units=[count.reference_units for count in counts])


def _utterance_rates(counts: Sequence[ErrorCounts]) -> Rate:
    """The mean of rates is a rate too: their sum over the number of utterances that have one."""
    rates = [count.rate for count in counts]
    return Rate(errors=[rate or 0.0 for rate in rates], units=[0 if rate is None else 1 for rate in rates])


_PREPARE: Mapping[str, Callable[[str, str], str]] = {NORMALISED: normalise, RAW: lambda text, _: text, UTTERANCE_MEAN: spoken_by_utterance}
