"""The transcription engine over CTranslate2: what evaluation measures and the endpoint serves."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import ctranslate2
import numpy as np

from avskrift.audio.constants import HOP_LENGTH, SAMPLE_RATE, WINDOW_FRAMES, WINDOW_SAMPLES
from avskrift.audio.logmel import log_mel
from avskrift.errors import PackageError, UsageError
from avskrift.whisper.package import EncoderContext, ModelPackage
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.transcript import Audio, Options, Segment, Transcript

ENGINE_VERSION = "1"  # raised whenever the same bytes may give another text
_BATCH_WINDOWS = 16
_SILENCE_PEAK = 1e-4  # -80 dBFS: below it there is nothing to transcribe
_CUT_SEARCH_SECONDS = 10  # a long recording is cut at the quietest spot of a window's last seconds
_CUT_SPOT_SAMPLES = SAMPLE_RATE // 10
# Text the model itself calls silence: OpenAI's rule of thumb, both at once.
_NO_SPEECH_PROBABILITY, _NO_SPEECH_LOGPROB = 0.6, -1.0
_MOST_TOKENS = 224  # half of the decoder's positions, OpenAI's limit
_TOKENS_AT_LEAST, _TOKENS_PER_SECOND = 32, 15  # far above the fastest speech: it ends loops, it cuts nothing
_PROMPT_TOKENS = 223
_LOOP_COMPRESSION = 2.4  # OpenAI's threshold
_LOOP_NGRAM = 3  # a looped window is decoded again without repeats of so many tokens
_COMPUTE_TYPES = {"cpu": "int8", "cuda": "float16"}


@dataclass(frozen=True, slots=True)
class _Window:
    """A stretch of at most 30 s of one recording; ``start`` in samples."""

    recording: int
    start: int
    samples: Audio
    frames: int  # of the encoder context it gets

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    @property
    def room(self) -> int:
        """Tokens that its text may take."""
        return min(_MOST_TOKENS, _TOKENS_AT_LEAST + _TOKENS_PER_SECOND * math.ceil(self.duration_s))


def load_transcriber(package: ModelPackage, *, device: str = "auto", threads: int = 0) -> CTranslate2Transcriber:
    """Load a package's CTranslate2 model: int8 on a CPU, float16 on a GPU. ``threads`` 0 takes all cores.

    Raises:
        UsageError: an unknown device, or a GPU that is not there.
        PackageError: CTranslate2 refuses the model.
    """
    if device == "auto":
        device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
    if device not in _COMPUTE_TYPES:
        raise UsageError(f"device {device!r} is unknown; use auto, cpu or cuda")
    if device == "cuda" and not ctranslate2.get_cuda_device_count():
        raise UsageError("device 'cuda' is asked for, and there is no GPU that CTranslate2 can use; use auto or cpu")
    try:
        model = ctranslate2.models.Whisper(
            str(package.ctranslate2), device=device, compute_type=_COMPUTE_TYPES[device], intra_threads=threads
        )
    except (RuntimeError, ValueError) as error:
        raise PackageError(f"{package.folder}: CTranslate2 cannot load it on {device} ({error}); export it again") from error
    tokens = WhisperTokens(package.ctranslate2 / "tokenizer.json")
    return CTranslate2Transcriber(model, tokens, package.description.encoder_context)


class CTranslate2Transcriber:
    """Satisfies :class:`avskrift.whisper.transcript.Transcriber`. Safe to call from several threads."""

    def __init__(self, model: Any, tokens: WhisperTokens, context: EncoderContext) -> None:
        self._model = model
        self._tokens = tokens
        self._context = context

    @property
    def languages(self) -> frozenset[str]:
        return self._tokens.languages

    def identity(self) -> str:
        """Engine, library, device and arithmetic: what must be equal for two figures to be comparable."""
        return f"avskrift {ENGINE_VERSION}, ctranslate2 {ctranslate2.__version__}, {self._model.device} {self._model.compute_type}"

    def transcribe(self, recordings: Sequence[Audio], options: Options) -> list[Transcript]:
        """Transcribe recordings of any length; one transcript each, in order.

        A text that repeats itself is decoded once more without repeats.

        Raises:
            LanguageError: the model does not know ``options.language``.
        """
        if options.language is not None:
            self._tokens.prompt(options.language)  # refused before any work
        windows = [window for index, samples in enumerate(recordings) for window in self._windows(index, samples)]
        languages = self._languages(windows, options, len(recordings))
        segments: list[list[Segment]] = [[] for _ in recordings]
        for batch in _batches(windows):
            for window, found in zip(batch, self._decode(batch, languages, options), strict=True):
                segments[window.recording] += found
        return [_transcript(samples, found, language) for samples, found, language in zip(recordings, segments, languages, strict=True)]

    def _windows(self, recording: int, samples: Audio) -> Iterable[_Window]:
        for start, end in cut(samples):
            part = samples[start:end]
            if len(part) and float(np.max(np.abs(part))) > _SILENCE_PEAK:
                yield _Window(recording, start, part, self._frames(len(part)))

    def _frames(self, samples: int) -> int:
        if self._context.policy == "full":
            return WINDOW_FRAMES
        multiple = self._context.multiple_frames
        needed = max(samples / HOP_LENGTH, self._context.minimum_frames)
        return min(WINDOW_FRAMES, multiple * math.ceil(needed / multiple))

    def _languages(self, windows: Sequence[_Window], options: Options, recordings: int) -> list[tuple[str, float]]:
        """Language and its probability for each recording, identified from its first window that is not silent."""
        if options.language is not None:
            return [(options.language, 1.0)] * recordings
        found = [("", 0.0)] * recordings
        firsts = [next(group) for _, group in groupby(windows, key=lambda window: window.recording)]
        for batch in _batches(firsts):
            for window, guesses in zip(batch, self._model.detect_language(self._features(batch)), strict=True):
                token, probability = guesses[0]
                found[window.recording] = (self._tokens.language_of(token), float(probability))
        return found

    def _features(self, batch: Sequence[_Window]) -> Any:
        features = np.stack([log_mel(window.samples, self._model.n_mels, window.frames) for window in batch])
        return ctranslate2.StorageView.from_array(np.ascontiguousarray(features, dtype=np.float32))

    def _decode(self, batch: Sequence[_Window], languages: Sequence[tuple[str, float]], options: Options) -> list[list[Segment]]:
        prompts = [self._prompt(languages[window.recording][0], options) for window in batch]
        results = self._generate(batch, prompts, options)
        looped = [index for index, result in enumerate(results) if _is_loop(self._tokens.decode(result.sequences_ids[0]))]
        if looped:
            again = self._generate([batch[index] for index in looped], [prompts[index] for index in looped], options, ngrams=_LOOP_NGRAM)
            for index, result in zip(looped, again, strict=True):
                results[index] = result
        return [self._segments(window, result, options) for window, result in zip(batch, results, strict=True)]

    def _generate(self, batch: Sequence[_Window], prompts: Sequence[Sequence[int]], options: Options, *, ngrams: int = 0) -> list[Any]:
        """One result a window; ``ngrams`` over 0 forbids that a run of so many tokens comes twice."""
        results = self._model.generate(
            self._features(batch),
            prompts,
            beam_size=options.beam_size,
            max_length=min(2 * _MOST_TOKENS, len(prompts[0]) + batch[0].room),
            no_repeat_ngram_size=ngrams,
            return_scores=True,
            return_no_speech_prob=True,
        )
        return list(results)

    def _prompt(self, language: str, options: Options) -> list[int]:
        prompt = self._tokens.prompt(language, task=options.task, timestamps=options.timestamps)
        previous = (options.prompt or "").strip()
        if not previous:
            return prompt
        return [self._tokens.previous, *self._tokens.encode(f" {previous}")[-_PROMPT_TOKENS:], *prompt]

    def _segments(self, window: _Window, result: Any, options: Options) -> list[Segment]:
        logprob, no_speech = float(result.scores[0]), float(result.no_speech_prob)
        tokens = result.sequences_ids[0]
        if no_speech > _NO_SPEECH_PROBABILITY and logprob < _NO_SPEECH_LOGPROB:
            return []
        offset, duration = window.start / SAMPLE_RATE, window.duration_s
        if options.timestamps:
            stretches = [(part.start_s, part.end_s, part.text) for part in self._tokens.decode_timed(tokens, duration_s=duration)]
        else:
            stretches = [(0.0, duration, self._tokens.decode(tokens))]
        return [
            Segment(start_s=offset + start, end_s=offset + end, text=text, avg_logprob=logprob, no_speech_prob=no_speech)
            for start, end, text in stretches
            if text
        ]


def cut(samples: Audio) -> list[tuple[int, int]]:
    """Cut a recording into stretches of at most 30 s, each at the quietest tenth of a second of its window's last ten."""
    cuts, start = [], 0
    while len(samples) - start > WINDOW_SAMPLES:
        search = start + WINDOW_SAMPLES - _CUT_SEARCH_SECONDS * SAMPLE_RATE
        spots = samples[search : start + WINDOW_SAMPLES].reshape(-1, _CUT_SPOT_SAMPLES)
        quietest = int(np.argmin(np.mean(np.square(spots), axis=1)))
        end = search + quietest * _CUT_SPOT_SAMPLES + _CUT_SPOT_SAMPLES // 2
        cuts.append((start, end))
        start = end
    return [*cuts, (start, len(samples))]


def _batches(windows: Iterable[_Window]) -> Iterable[list[_Window]]:
    for _, group in groupby(sorted(windows, key=_alike), key=_alike):
        same = list(group)
        yield from (same[start : start + _BATCH_WINDOWS] for start in range(0, len(same), _BATCH_WINDOWS))


def _alike(window: _Window) -> tuple[int, int]:
    """Windows that share a batch: with equal shapes and limits, none's text depends on its neighbours."""
    return window.frames, window.room


def _is_loop(text: str) -> bool:
    """Whether a text repeats itself more than speech does: OpenAI's measure, the ratio at which zlib compresses it."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw)) > _LOOP_COMPRESSION


def _transcript(samples: Audio, segments: Sequence[Segment], language: tuple[str, float]) -> Transcript:
    ordered = tuple(sorted(segments, key=lambda segment: segment.start_s))
    return Transcript(
        text=" ".join(segment.text for segment in ordered),
        language=language[0],
        language_probability=language[1],
        duration_s=len(samples) / SAMPLE_RATE,
        segments=ordered,
    )
