"""Validation WER while training: greedy decoding with the weights as they are."""

from __future__ import annotations

from collections.abc import Sequence

import jiwer
import torch
from transformers import WhisperForConditionalGeneration

from avskrift.audio.logmel_torch import LogMel
from avskrift.corpus.dataset import Clip
from avskrift.errors import TrainingError
from avskrift.text.normaliser import normalise
from avskrift.training.examples import pad_audio
from avskrift.whisper.forward import generate
from avskrift.whisper.tokens import MAX_LABEL_TOKENS, WhisperTokens

_BATCH_CLIPS = 16
_TOKENS_PER_SECOND = 15  # generous for speech; what runs past it is a repetition loop
_TOKENS_AT_LEAST = 24


@torch.inference_mode()
def validation_wer(
    model: WhisperForConditionalGeneration, features: LogMel, clips: Sequence[Clip], tokens: WhisperTokens, *, language: str
) -> float:
    """Corpus WER of normalised text, each batch encoded at its own length. The model is left in training mode.

    Raises:
        TrainingError: the clips' transcripts hold no words.
    """
    device = next(model.parameters()).device
    prompt = tokens.prompt(language)
    room = MAX_LABEL_TOKENS - len(prompt)
    model.train(mode=False)
    references, hypotheses = [], []
    for batch in _by_length(clips):
        samples = pad_audio([clip.samples() for clip in batch]).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            rows = generate(
                model,
                features(samples),
                prompt=prompt,
                end=tokens.end,
                max_tokens=min(room, _TOKENS_AT_LEAST + int(_TOKENS_PER_SECOND * max(clip.duration_s for clip in batch))),
                suppress=model.generation_config.suppress_tokens or (),
                suppress_first=model.generation_config.begin_suppress_tokens or (),
            )
        references += [normalise(clip.text, language) for clip in batch]
        hypotheses += [normalise(tokens.decode(row), language) for row in rows]
    model.train()
    return _corpus_wer(references, hypotheses)


def _by_length(clips: Sequence[Clip]) -> list[list[Clip]]:
    ordered = sorted(clips, key=lambda clip: clip.duration_s)
    return [ordered[start : start + _BATCH_CLIPS] for start in range(0, len(ordered), _BATCH_CLIPS)]


def _corpus_wer(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    spoken = [(reference, hypothesis) for reference, hypothesis in zip(references, hypotheses, strict=True) if reference]
    if not spoken:
        raise TrainingError("no validation transcript holds a word; validation WER cannot be measured")
    return float(jiwer.wer([reference for reference, _ in spoken], [hypothesis for _, hypothesis in spoken]))
