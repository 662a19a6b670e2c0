"""Word and character error rate on Avskrift's normalised text, as a metric of Hugging Face ``evaluate``.

``evaluate`` copies this file elsewhere and imports the copy, so all that it counts with comes from the installed package.
"""

from __future__ import annotations

import datasets
import evaluate

from avskrift.evaluation.error_rates import corpus_rate, count_errors, total
from avskrift.text.languages import check_language
from avskrift.text.normaliser import normaliser_version

_DESCRIPTION = """\
Word error rate (WER) and character error rate (CER) of transcripts, both sides normalised by Avskrift's versioned normaliser
for the language. Rates are all errors over all words (or characters, the space between two words included) of the references.
"""

_INPUTS_DESCRIPTION = """
Args:
    predictions: what was transcribed, one string for each clip.
    references: what was said, in the same order.
    language: Whisper's code or English name of the language; it chooses the normaliser. Default "sv".
Returns:
    wer, cer: rates; they may exceed 1.
    substitutions, deletions, insertions: word errors.
    normaliser: the version of the normaliser; compare only rates that have the same.
Raises:
    EvaluationError: there are no references, or they hold no words once normalised.
    LanguageError: Whisper does not know the language.
Examples:
    >>> metric = evaluate.load("components/avskrift/evaluation/avskrift_wer")
    >>> metric.compute(predictions=["det kostar 20 kronor"], references=["Det kostar tjugo kronor."])["wer"]
    0.0
"""


class AvskriftWer(evaluate.Metric):  # type: ignore[misc]
    """WER and CER, counted by :mod:`avskrift.evaluation.error_rates`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS_DESCRIPTION,
            features=datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")}),
        )

    def _compute(self, *, predictions: list[str], references: list[str], language: str = "sv") -> dict[str, float | int | str]:
        code = check_language(language)
        clips = count_errors(references, predictions, code)
        words = total(clip.words for clip in clips)
        return {
            "wer": corpus_rate(clip.words for clip in clips),
            "cer": corpus_rate(clip.characters for clip in clips),
            "substitutions": words.substitutions,
            "deletions": words.deletions,
            "insertions": words.insertions,
            "normaliser": normaliser_version(code),
        }
