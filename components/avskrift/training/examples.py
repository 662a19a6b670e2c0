"""From windows of clips to tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from avskrift.audio.constants import FRAMES_PER_POSITION, HOP_LENGTH, SAMPLE_RATE, WINDOW_SAMPLES, WINDOW_SECONDS
from avskrift.corpus.dataset import Clip
from avskrift.errors import DatasetError, TrainingError
from avskrift.training.windows import GAP_SECONDS, LABEL_ROOM, TOKENS_AROUND_A_CLIP, ClipSize, Window
from avskrift.whisper.forward import IGNORED_LABEL
from avskrift.whisper.tokens import TimedText, WhisperTokens

_GAP = np.zeros(round(GAP_SECONDS * SAMPLE_RATE), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Batch:
    """``samples`` (windows, n) float32; ``inputs`` and ``labels`` (windows, tokens) int64; the clips inside, for messages."""

    samples: torch.Tensor
    inputs: torch.Tensor
    labels: torch.Tensor
    clip_ids: tuple[str, ...]
    audio_s: float


def make_batch(windows: Sequence[Window], clips: Sequence[Clip], tokens: WhisperTokens, *, language: str) -> Batch:
    """Decode, join and pad to the longest window of the batch, not to 30 s.

    Raises:
        DatasetError: a clip's audio cannot be decoded, or is longer than the dataset says, so that a window does not fit.
    """
    audio, labels, prompts = [], [], []
    for window in windows:
        inside = [clips[index] for index in window.clips]
        samples = [clip.samples() for clip in inside]
        audio.append(_join(samples))
        if len(audio[-1]) > WINDOW_SAMPLES:
            named = ", ".join(clip.clip_id for clip in inside)
            raise DatasetError(f"clips {named}: their audio is longer than the dataset says; prepare the dataset again")
        labels.append(_label(inside, samples, tokens, language))
        prompts.append(len(tokens.prompt(language, timestamps=window.packed)))
    inputs, targets = _pad_labels(labels, prompts, end=tokens.end)
    ids = tuple(clips[index].clip_id for window in windows for index in window.clips)
    return Batch(pad_audio(audio), inputs, targets, ids, sum(map(len, audio)) / SAMPLE_RATE)


def pad_audio(audio: Sequence[npt.NDArray[np.float32]]) -> torch.Tensor:
    """Stack with zeros behind the shorter ones, to a whole number of encoder positions."""
    step = HOP_LENGTH * FRAMES_PER_POSITION
    length = step * math.ceil(max(map(len, audio)) / step)
    padded = np.zeros((len(audio), length), dtype=np.float32)
    for row, samples in zip(padded, audio, strict=True):
        row[: len(samples)] = samples
    return torch.from_numpy(padded)


def measure(clips: Sequence[Clip], tokens: WhisperTokens) -> list[ClipSize]:
    """Length and tokens of every clip, for planning.

    Raises:
        TrainingError: a transcript that does not fit the decoder, or audio that does not fit a window; nothing is cut silently.
    """
    sizes = []
    for clip in clips:
        size = ClipSize(clip.duration_s, len(tokens.encode(f" {clip.text.strip()}")))
        if size.tokens + TOKENS_AROUND_A_CLIP > LABEL_ROOM:
            raise TrainingError(
                f"clip {clip.clip_id}: its transcript has {size.tokens} tokens, {LABEL_ROOM - TOKENS_AROUND_A_CLIP} fit; split it"
            )
        if size.duration_s > WINDOW_SECONDS:
            raise TrainingError(f"clip {clip.clip_id} lasts {size.duration_s:.1f} s, {WINDOW_SECONDS} s fit a window; split it")
        sizes.append(size)
    return sizes


def _join(parts: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    pieces = [parts[0]]
    for part in parts[1:]:
        pieces += [_GAP, part]
    return np.concatenate(pieces)


def _label(clips: Sequence[Clip], samples: Sequence[npt.NDArray[np.float32]], tokens: WhisperTokens, language: str) -> list[int]:
    if len(clips) == 1:
        return [*tokens.prompt(language), *tokens.encode(f" {clips[0].text.strip()}"), tokens.end]
    stretches, at = [], 0.0
    for clip, part in zip(clips, samples, strict=True):
        end = at + len(part) / SAMPLE_RATE
        stretches.append(TimedText(start_s=at, end_s=end, text=clip.text))
        at = end + GAP_SECONDS
    return [*tokens.prompt(language, timestamps=True), *tokens.encode_timed(stretches), tokens.end]


def _pad_labels(labels: Sequence[Sequence[int]], prompts: Sequence[int], *, end: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Decoder inputs and the labels one position on; the prompt is given at inference, so it is not learnt."""
    longest = max(map(len, labels)) - 1
    inputs = torch.full((len(labels), longest), end)
    targets = torch.full((len(labels), longest), IGNORED_LABEL)
    for row, (label, prompt) in enumerate(zip(labels, prompts, strict=True)):
        inputs[row, : len(label) - 1] = torch.tensor(label[:-1])
        targets[row, prompt - 1 : len(label) - 1] = torch.tensor(label[prompt:])
    return inputs, targets
