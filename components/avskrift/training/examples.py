"""From windows of clips to tensors. All chance comes from a seed for each window, so that any process makes the same of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from avskrift.audio.constants import SAMPLE_RATE, WINDOW_SAMPLES, WINDOW_SECONDS
from avskrift.corpus.dataset import MAX_WEIGHT, Clip
from avskrift.errors import DatasetError, TrainingError
from avskrift.training.augmentation import augment, empty_window
from avskrift.training.config import TrainingConfig
from avskrift.training.plan import LONGEST_PREVIOUS_TEXT, Part, learns_start, padded_samples
from avskrift.training.windows import GAP_SECONDS, LABEL_ROOM, NO_CLIP, TOKENS_AROUND_A_CLIP, ClipSize, Window
from avskrift.whisper.bpe_dropout import BpeDropout
from avskrift.whisper.forward import IGNORED_LABEL
from avskrift.whisper.tokens import MAX_LABEL_TOKENS, WhisperTokens

_GAP = np.zeros(round(GAP_SECONDS * SAMPLE_RATE), dtype=np.float32)
_Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Batch:
    """A part of a step, as tensors.

    ``samples`` (windows, n) float32; ``inputs`` (windows, tokens) int64; ``positions`` and ``targets`` (learnt) int64, the
    positions counted through the rows of ``inputs``. ``share`` is the part's weight in its step; ``learnt`` counts its targets.
    """

    samples: torch.Tensor
    inputs: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    share: float
    learnt: int
    audio_s: float

    def to(self, device: torch.device) -> Batch:
        """The same on ``device``; from pinned memory without waiting."""
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same in memory that a GPU copies from by itself; DataLoader calls it."""
        return self._with_tensors(torch.Tensor.pin_memory)

    def keep_until_used(self, stream: torch.cuda.Stream) -> None:
        """Memory that another stream filled is not given away before ``stream`` is done with it."""
        for tensor in (self.samples, self.inputs, self.positions, self.targets):
            tensor.record_stream(stream)

    def halves(self) -> list[Batch]:
        """Two batches of half the windows each, whose shares add up to this one's; itself where there is one window."""
        count, width = self.inputs.shape
        if count == 1:
            return [self]
        halves = []
        for start, end in ((0, (count + 1) // 2), ((count + 1) // 2, count)):
            inside = (self.positions >= start * width) & (self.positions < end * width)
            targets = self.targets[inside]
            learnt = int((targets != IGNORED_LABEL).sum())
            share = self.share * learnt / max(1, self.learnt)
            positions = self.positions[inside] - start * width
            halves.append(
                Batch(
                    self.samples[start:end], self.inputs[start:end], positions, targets, share, learnt, self.audio_s * (end - start) / count
                )
            )
        return halves

    def _with_tensors(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        return Batch(
            change(self.samples), change(self.inputs), change(self.positions), change(self.targets), self.share, self.learnt, self.audio_s
        )


class BatchMaker:
    """Makes parts into batches: decodes, augments, joins, pads, and spells out the labels."""

    def __init__(self, clips: Sequence[Clip], tokenizer: Path, config: TrainingConfig) -> None:
        self._clips, self._config = clips, config
        self._tokens = WhisperTokens(tokenizer)
        self._smaller_pieces = BpeDropout(tokenizer) if config.bpe_dropout else None

    def make(self, part: Part, *, seed: Sequence[int]) -> Batch:
        """The batch of ``part``; ``seed`` and a window's place in the step decide its augmentation and its pieces of words.

        Raises:
            DatasetError: a clip's audio cannot be decoded, or is longer than the dataset says, so that a window does not fit.
        """
        chances = [np.random.default_rng([*seed, part.first + row]) for row in range(len(part.windows))]
        limit = part.shape.samples if part.shape else WINDOW_SAMPLES
        heard = [self._heard(window, chance, limit) for window, chance in zip(part.windows, chances, strict=True)]
        audio = [_join(pieces) for pieces in heard]
        for window, samples in zip(part.windows, audio, strict=True):
            self._refuse_longer(window, samples, limit)
        labels = self._labels(part, heard, [random.Random(int(chance.integers(1 << 62))) for chance in chances])
        padded = pad_audio(audio, part.shape.samples if part.shape else part.samples, part.shape.windows if part.shape else 1)
        return _batch(padded, labels, part, end=self._tokens.end)

    def _heard(self, window: Window, chance: np.random.Generator, limit: int) -> list[_Samples]:
        """The window's recordings; slower speech may take what the window leaves of ``limit`` samples."""
        if not window.clips:
            return [empty_window(chance, window.duration_s)]
        config = self._config
        pieces = [self._clips[index].samples() for index in window.clips]
        spare = max(0, limit - sum(map(len, pieces)) - len(_GAP) * (len(pieces) - 1)) // len(pieces)
        shares = {"speed_share": config.speed_share, "gain_share": config.gain_share, "noise_share": config.noise_share}
        return [augment(samples, chance, max_samples=len(samples) + spare, **shares) for samples in pieces]

    def _refuse_longer(self, window: Window, samples: _Samples, limit: int) -> None:
        if len(samples) > limit:
            named = ", ".join(self._clips[index].clip_id for index in window.clips)
            raise DatasetError(f"clips {named}: their audio is longer than the dataset says; prepare the dataset again")

    def _labels(self, part: Part, heard: Sequence[Sequence[_Samples]], chances: Sequence[random.Random]) -> list[_Label]:
        """Labels with smaller pieces where they fit the shape, else the planned ones, which do."""
        plain = [self._label(window, pieces, None) for window, pieces in zip(part.windows, heard, strict=True)]
        if self._smaller_pieces is None:
            return plain
        smaller = [self._label(window, pieces, chance) for window, pieces, chance in zip(part.windows, heard, chances, strict=True)]
        room = part.shape.tokens if part.shape else MAX_LABEL_TOKENS
        chosen = [long if len(long.inputs) <= room else short for long, short in zip(smaller, plain, strict=True)]
        fits = part.shape is None or sum(label.learnt for label in chosen) <= part.shape.learnt
        return chosen if fits else plain

    def _label(self, window: Window, heard: Sequence[_Samples], chance: random.Random | None) -> _Label:
        tokens = self._tokens
        prompt = tokens.prompt(self._config.language, timestamps=window.packed)
        texts = [self._encode(self._clips_text(index), chance) for index in window.clips]
        body = _timed(texts, heard, tokens) if window.packed else [token for text in texts for token in text]
        start = [(0, prompt[1] if window.clips else tokens.no_speech)] if learns_start(self._config) else []
        return _Label.of(self._previous(window, len(prompt) + len(body)), prompt, [*body, tokens.end], start)

    def _previous(self, window: Window, read: int) -> list[int]:
        if window.previous == NO_CLIP:
            return []
        room = min(LONGEST_PREVIOUS_TEXT, MAX_LABEL_TOKENS - 1 - read)
        text = self._tokens.encode(self._clips_text(window.previous))
        return [self._tokens.previous, *text[max(0, len(text) - room) :]] if room > 0 else []

    def _clips_text(self, index: int) -> str:
        return f" {self._clips[index].text.strip()}"

    def _encode(self, text: str, chance: random.Random | None) -> list[int]:
        if chance is None or self._smaller_pieces is None:
            return self._tokens.encode(text)
        return self._smaller_pieces.encode(text, share=self._config.bpe_dropout, chance=chance)


@dataclass(frozen=True, slots=True)
class _Label:
    """What the decoder reads of a window, and what it is to say after which position."""

    inputs: list[int]
    targets: list[tuple[int, int]]

    @property
    def learnt(self) -> int:
        return len(self.targets)

    @classmethod
    def of(cls, previous: list[int], prompt: list[int], said: list[int], start: list[tuple[int, int]]) -> _Label:
        """``said`` is learnt from the prompt's last token on; the prompt is given at inference, so but for ``start`` it is not."""
        before = len(previous)
        first = before + len(prompt) - 1
        learnt = [(before + position, token) for position, token in start] + list(enumerate(said, start=first))
        return cls([*previous, *prompt, *said[:-1]], learnt)


def pad_audio(audio: Sequence[_Samples], samples: int = 0, rows: int = 1) -> torch.Tensor:
    """Stack with zeros behind the shorter ones, to a whole number of encoder positions; at least ``samples`` long and ``rows`` high."""
    length = padded_samples(max([samples, 1, *map(len, audio)]))
    padded = np.zeros((max(rows, len(audio)), length), dtype=np.float32)
    for row, heard in zip(padded, audio, strict=False):
        row[: len(heard)] = heard
    return torch.from_numpy(padded)


def measure(clips: Sequence[Clip], tokens: WhisperTokens) -> list[ClipSize]:
    """Length and tokens of every clip, for planning.

    Raises:
        TrainingError: a transcript that does not fit the decoder, or audio that does not fit a window (nothing is cut silently);
            a weight that no clip can have.
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
        if not 0 < clip.weight <= MAX_WEIGHT:
            raise TrainingError(
                f"clip {clip.clip_id}: its weight is {clip.weight}; over 0 and at most {MAX_WEIGHT:g} is due, prepare it again"
            )
        sizes.append(size)
    return sizes


def _join(parts: Sequence[_Samples]) -> _Samples:
    pieces = [parts[0]]
    for part in parts[1:]:
        pieces += [_GAP, part]
    return np.concatenate(pieces)


def _timed(texts: Sequence[Sequence[int]], heard: Sequence[_Samples], tokens: WhisperTokens) -> list[int]:
    """Each text between the times at which it begins and ends."""
    timed, at = list[int](), 0.0
    for text, samples in zip(texts, heard, strict=True):
        end = at + len(samples) / SAMPLE_RATE
        timed += [tokens.timestamp(at), *text, tokens.timestamp(end)]
        at = end + GAP_SECONDS
    return timed


def _batch(samples: torch.Tensor, labels: Sequence[_Label], part: Part, *, end: int) -> Batch:
    """Rows padded with the closing token, positions and targets with a target that is left out."""
    shape = part.shape
    width = shape.tokens if shape else max((len(label.inputs) for label in labels), default=1)
    inputs = torch.full((samples.shape[0], width), end)
    positions, targets = list[int](), list[int]()
    for row, label in enumerate(labels):
        inputs[row, : len(label.inputs)] = torch.tensor(label.inputs)
        positions += [row * width + position for position, _ in label.targets]
        targets += [token for _, token in label.targets]
    learnt = len(targets)
    lacking = max(1, shape.learnt if shape else 1) - learnt  # one at least: an empty part is computed too, and counts for nothing
    positions += [0] * lacking
    targets += [IGNORED_LABEL] * lacking
    seconds = sum(window.duration_s for window in part.windows)
    return Batch(samples, inputs, torch.tensor(positions), torch.tensor(targets), part.share, learnt, seconds)
