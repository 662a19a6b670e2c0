"""Whether a conversion kept the model: ``transformers`` and CTranslate2 write the same words of the same clips.

Both decode greedily in float32 on the CPU, from weights rounded to the float16 that ``ct2/`` stores. So what is compared is the
conversion. What rounding and int8 do to a model is for the evaluation to say, which measures them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ctranslate2
import jiwer
import numpy as np
import torch
from transformers import WhisperForConditionalGeneration

from avskrift.audio.logmel import log_mel
from avskrift.errors import PackageError
from avskrift.text.languages import UNSPACED
from avskrift.text.normaliser import split_letters
from avskrift.whisper.package import EncoderContext, RoundTrip
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.torch_transcriber import TorchTranscriber
from avskrift.whisper.transcript import Audio
from avskrift.whisper.transformers_folder import TOKENIZER_FILE, load_model

MOST_DIFFERENT = 0.01  # of the words
_MOST_TOKENS = 64  # of a clip: more than twelve seconds of speech take
_BATCH_CLIPS = 10
# Two tokens whose scores are nearer than this (odds of 1.01 to 1) are a tie, which the order of a sum in float32 may decide.
_TIE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Clips to transcribe, of at most 30 s, and their language."""

    clips: Sequence[Audio]
    language: str


def compare(transformers: Path, ct2: Path, sample: Sample, context: EncoderContext) -> RoundTrip:
    """Transcribe ``sample`` with the ``transformers`` folder and with what was converted from it.

    Raises:
        PackageError: more than one word in a hundred differs, or a weight is beyond float16.
        LanguageError: the model does not know the sample's language.
    """
    tokens = WhisperTokens(transformers / TOKENIZER_FILE)
    prompt = tokens.prompt(sample.language)
    ordered = sorted(sample.clips, key=len)
    batches = [ordered[start : start + _BATCH_CLIPS] for start in range(0, len(ordered), _BATCH_CLIPS)]
    # One after the other: a large model is several GB in float32.
    said = _by_transformers(transformers, batches, tokens, prompt, context)
    heard = _by_ctranslate2(ct2, batches, said, prompt, context, end=tokens.end)
    texts = [[_words(tokens.decode(row), sample.language) for batch in side for row in batch] for side in (said, heard)]
    result = RoundTrip(clips=len(ordered), words=sum(len(text.split()) for text in texts[0]), different=_edits(*texts))
    _refuse_another_model(transformers, result)
    return result


def _by_transformers(
    folder: Path, batches: Sequence[Sequence[Audio]], tokens: WhisperTokens, prompt: Sequence[int], context: EncoderContext
) -> list[list[list[int]]]:
    model = load_model(folder, torch.device("cpu"))
    model.train(mode=False)
    _round_to_float16(model, folder)
    engine = TorchTranscriber(model, tokens, context)
    return [[written.tokens for written in engine.write(batch, prompt, at_most=_MOST_TOKENS)] for batch in batches]


@torch.no_grad()
def _round_to_float16(model: WhisperForConditionalGeneration, folder: Path) -> None:
    for name, weights in model.named_parameters():
        weights.copy_(weights.half())
        if not bool(weights.isfinite().all()):
            raise PackageError(
                f"{folder}: {name} holds weights beyond float16, which ct2/ stores; the training diverged, so train it again"
            )


def _by_ctranslate2(
    folder: Path,
    batches: Sequence[Sequence[Audio]],
    said: Sequence[Sequence[Sequence[int]]],
    prompt: Sequence[int],
    context: EncoderContext,
    *,
    end: int,
) -> list[list[list[int]]]:
    model = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="float32", intra_threads=torch.get_num_threads())
    heard = []
    for batch, expected in zip(batches, said, strict=True):
        frames = context.frames(max(map(len, batch)))
        features = np.stack([log_mel(samples, model.n_mels, frames) for samples in batch])
        rows = [result.sequences_ids[0][:_MOST_TOKENS] for result in _generate(model, features, [list(prompt)] * len(batch))]
        heard.append(
            [
                row if row == wanted else _heard(model, features[[clip]], prompt, wanted, end)
                for clip, (row, wanted) in enumerate(zip(rows, expected, strict=True))
            ]
        )
    return heard


def _heard(model: Any, features: Any, prompt: Sequence[int], said: Sequence[int], end: int) -> list[int]:
    """``said`` of one clip with what CTranslate2 would have written in each place, given all before it.

    Texts that part once go separate ways: this tells a model that is wrong in every place from one that was at odds in one.
    """
    wanted = [*said, end][:_MOST_TOKENS]
    scores = np.array(_generate(model, features, [[*prompt, *said]], logits=True)[0].logits[0])[: len(wanted)]
    lead = scores.max(axis=-1) - scores[range(len(wanted)), wanted]
    return [token if ahead <= _TIE else int(best) for token, best, ahead in zip(wanted, scores.argmax(axis=-1), lead, strict=True)]


def _generate(model: Any, features: Any, prompts: Sequence[Sequence[int]], *, logits: bool = False) -> list[Any]:
    """Greedily. Tokens that follow the start in a prompt are written first, as if CTranslate2 had chosen them."""
    view = ctranslate2.StorageView.from_array(np.ascontiguousarray(features, dtype=np.float32))
    # Half of the limit is the prompt's by CTranslate2's count; one token more than is compared, for the end.
    limit = 2 * (_MOST_TOKENS + 1)
    return list(model.generate(view, [list(prompt) for prompt in prompts], beam_size=1, max_length=limit, return_logits_vocab=logits))


def _words(text: str, language: str) -> str:
    """One space between words, or between letters where a whole sentence would be one word."""
    return split_letters(text) if language in UNSPACED else text


def _edits(said: Sequence[str], heard: Sequence[str]) -> int:
    """Words substituted, left out and put in."""
    different = 0
    for reference, hypothesis in zip(said, heard, strict=True):
        if not reference:
            different += len(hypothesis.split())
            continue
        counted = jiwer.process_words(reference, hypothesis)
        different += counted.substitutions + counted.deletions + counted.insertions
    return different


def _refuse_another_model(folder: Path, result: RoundTrip) -> None:
    if result.different <= MOST_DIFFERENT * result.words:
        return
    raise PackageError(
        f"{folder}: CTranslate2 wrote {result.different} of {result.words} words otherwise than transformers, in {result.clips} clips;"
        f" at most {MOST_DIFFERENT:.0%} may differ. ctranslate2 {ctranslate2.__version__} does not convert this model as it is:"
        " export it with another version of ctranslate2, or start from a Whisper that it knows"
    )
