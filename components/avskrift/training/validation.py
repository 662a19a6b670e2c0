"""Validation WER while training: greedy decoding with the weights as they are, a share of the clips in each process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import jiwer
import torch
from transformers import WhisperForConditionalGeneration

from avskrift.audio.constants import FRAMES_PER_POSITION
from avskrift.audio.logmel_torch import LogMel
from avskrift.corpus.dataset import Clip
from avskrift.corpus.decoded import DecodedClip, decoded_ahead
from avskrift.errors import TrainingError
from avskrift.text.normaliser import normalise
from avskrift.training.distributed import World
from avskrift.whisper.package import EncoderContext
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.torch_transcriber import BATCH_RECORDINGS, TorchTranscriber, by_length
from avskrift.whisper.transcript import Options

_EXAMPLES = 5  # clips whose transcripts are shown over time
# Any length that the encoder takes, since training meets them all. What is served is rounded up.
_AS_LONG_AS_IT_LASTS = EncoderContext(policy="variable", minimum_frames=FRAMES_PER_POSITION, multiple_frames=FRAMES_PER_POSITION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Corpus WER of normalised text, and (clip_id, said, heard) of the first few clips."""

    wer: float
    examples: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class _Heard:
    number: int
    clip_id: str
    said: str
    heard: str


def validate(
    model: WhisperForConditionalGeneration,
    features: LogMel,
    clips: Sequence[Clip],
    durations: Sequence[float],
    tokens: WhisperTokens,
    *,
    language: str,
    precision: torch.dtype = torch.float32,
    world: World = World(),  # noqa: B008 - frozen
    stop: Callable[[], bool] = lambda: False,
) -> Validation | None:
    """Decode ``clips``, which last ``durations`` seconds, each batch encoded at its own length; None where ``stop`` said so.

    The model is left in training mode.

    Raises:
        TrainingError: the clips' transcripts hold no words.
    """
    heard: list[_Heard] = []
    stopped = False
    model.train(mode=False)
    engine = TorchTranscriber(model, tokens, _AS_LONG_AS_IT_LASTS, features=features)
    device = features.window.device.type
    # Compiled layers would be compiled again for every length that decoding meets.
    with torch.inference_mode(), torch.compiler.set_stance("force_eager"), torch.autocast(device, precision, precision != torch.float32):
        batches = by_length(durations, BATCH_RECORDINGS[device])[world.rank :: world.size]
        for batch in decoded_ahead(clips, batches):
            stopped = stopped or stop()
            if stopped:
                break
            heard += _hear(engine, batch, language)
    model.train()
    gathered = world.gather((heard, stopped))
    if any(stopped for _, stopped in gathered):
        return None
    everything = sorted((one for part, _ in gathered for one in part), key=lambda one: one.number)
    references = [normalise(one.said, language) for one in everything]
    hypotheses = [normalise(one.heard, language) for one in everything]
    examples = tuple((one.clip_id, one.said, one.heard) for one in everything[:_EXAMPLES])
    return Validation(wer=_corpus_wer(references, hypotheses), examples=examples)


def _hear(engine: TorchTranscriber, batch: Sequence[DecodedClip], language: str) -> Iterator[_Heard]:
    transcripts = engine.transcribe([one.samples for one in batch], Options(language=language))
    for one, transcript in zip(batch, transcripts, strict=True):
        yield _Heard(one.number, one.clip.clip_id, one.clip.text, transcript.text)


def _corpus_wer(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    spoken = [(reference, hypothesis) for reference, hypothesis in zip(references, hypotheses, strict=True) if reference]
    if not spoken:
        raise TrainingError("no validation transcript holds a word; validation WER cannot be measured")
    return float(jiwer.wer([reference for reference, _ in spoken], [hypothesis for _, hypothesis in spoken]))
