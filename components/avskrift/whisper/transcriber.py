"""The transcription engine over CTranslate2: what evaluation measures and the endpoint serves.

From samples to a transcript: a recording becomes windows (:mod:`~avskrift.whisper.windows`), windows of a kind become batches,
a batch is encoded once and decoded, again where its text cannot be right (:mod:`~avskrift.whisper.fallback`), in halves where it
had no room (:mod:`~avskrift.whisper.token_rates`), and what was written becomes segments, with words where they are asked for
(:mod:`~avskrift.whisper.word_times`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain, groupby, islice
from typing import Any

import ctranslate2
import numpy as np

from avskrift.audio.constants import FRAMES_PER_POSITION, FRAMES_PER_SECOND, HOP_LENGTH, SAMPLE_RATE, WINDOW_SAMPLES, WINDOW_SECONDS
from avskrift.audio.logmel import log_mel
from avskrift.cores import available_cores
from avskrift.errors import PackageError, UsageError
from avskrift.whisper.fallback import Attempt, Reading, read
from avskrift.whisper.package import EncoderContext, ModelPackage
from avskrift.whisper.token_rates import USUAL_TOKENS_PER_SECOND, tokens_per_second
from avskrift.whisper.tokens import MAX_LABEL_TOKENS, WhisperTokens
from avskrift.whisper.transcript import Audio, LanguageGuess, Options, Segment, Task, Transcript
from avskrift.whisper.voice_activity import Stretch, find_speech
from avskrift.whisper.windows import Kind, Window, WindowText, assemble, halves, recording_windows
from avskrift.whisper.word_times import Alignment, place_words, spell_words

ENGINE_VERSION = "4"  # raised whenever the same bytes may give another text
_BATCH_WINDOWS = {"cpu": 16, "cuda": 128}
_BATCH_SECONDS = {"cpu": 4 * WINDOW_SECONDS, "cuda": 48 * WINDOW_SECONDS}  # of encoder context: attention takes its square in memory
_MOST_TOKENS = MAX_LABEL_TOKENS // 2  # that CTranslate2 writes of a window; the other half is for the prompt
_TOKENS_AT_LEAST = 32
_PROMPT_TOKENS = _MOST_TOKENS - 1
_GUESSES = 5  # languages that are named, most probable first
_SEED = 20_261_129
# An adapted model has met several utterances in a window only between timestamps (avskrift.training.windows); without them it
# stops behind the first. Clips up to this length it was trained on without.
_UNTIMED_SECONDS = 5.0
# Nobody says 224 tokens in less, in any language: what takes them there is no speech, and is not read in halves.
_LEAST_HALVED_SAMPLES = 4 * SAMPLE_RATE
# Of a long recording, where the encoder need not be given 30 s: a few sentences. Windows of twice that length take half as much
# time again, and are read no better.
_SHORT_WINDOW_SAMPLES = WINDOW_SAMPLES // 2
_COMPUTE_TYPES = {"cpu": "int8", "cuda": "float16"}


def load_transcriber(package: ModelPackage, *, device: str = "auto", threads: int = 0) -> CTranslate2Transcriber:
    """Load a package's CTranslate2 model: int8 on a CPU, float16 on a GPU. ``threads`` 0 takes OMP_NUM_THREADS, or
    all cores that the container has.

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
    # Before the first sample is drawn: CTranslate2 seeds its generators then, and never again.
    ctranslate2.set_random_seed(_SEED)
    try:
        model = ctranslate2.models.Whisper(
            str(package.ctranslate2), device=device, compute_type=_COMPUTE_TYPES[device], intra_threads=threads or _threads()
        )
    except (RuntimeError, ValueError) as error:
        raise PackageError(f"{package.folder}: CTranslate2 cannot load it on {device} ({error}); export it again") from error
    tokens = WhisperTokens(package.ctranslate2 / "tokenizer.json")
    return CTranslate2Transcriber(model, tokens, package.description.encoder_context)


def _threads() -> int:
    """CTranslate2's own default is four, whatever the machine; 0 leaves it to OMP_NUM_THREADS, where somebody set that."""
    return 0 if os.environ.get("OMP_NUM_THREADS") else available_cores()


class CTranslate2Transcriber:
    """Satisfies :class:`avskrift.whisper.transcript.Transcriber`. Safe to call from several threads.

    A text depends on its recording and the options alone, not on what else is transcribed with it. Only what is sampled, at
    temperatures over 0, also hangs on how much was sampled before in the process: CTranslate2 cannot be seeded again.
    """

    def __init__(
        self,
        model: Any,
        tokens: WhisperTokens,
        context: EncoderContext,
        *,
        find_speech: Callable[[Audio], list[Stretch]] = find_speech,
    ) -> None:
        self._model = model
        self._tokens = tokens
        self._context = context
        self._find_speech = find_speech

    @property
    def languages(self) -> frozenset[str]:
        return self._tokens.languages

    def identity(self) -> str:
        """Engine, library, device and arithmetic: what must be equal for two figures to be comparable."""
        return f"avskrift {ENGINE_VERSION}, ctranslate2 {ctranslate2.__version__}, {self._model.device} {self._model.compute_type}"

    def transcribe(self, recordings: Sequence[Audio], options: Options) -> list[Transcript]:
        """Transcribe recordings of any length; one transcript each, in order.

        Those of up to 30 s are read as they are, longer ones where somebody speaks.

        Raises:
            LanguageError: the model does not know ``options.language``.
        """
        self.check(options)
        windows = [window for number, samples in enumerate(recordings) for window in self.windows(samples, recording=number)]
        heard: list[list[WindowText]] = [[] for _ in recordings]
        guesses: dict[int, tuple[LanguageGuess, ...]] = {}
        for batch in self._batches(windows, options):
            known = [
                options.language or (guesses[window.recording][0].language if window.recording in guesses else None) for window in batch
            ]
            for window, text in zip(batch, self.read(batch, options, known), strict=True):
                heard[window.recording].append(text)
                if text.languages:
                    guesses[window.recording] = text.languages
        return [
            assemble(len(samples) / SAMPLE_RATE, texts, language=options.language) for samples, texts in zip(recordings, heard, strict=True)
        ]

    def check(self, options: Options) -> None:
        """Refuse what :meth:`read` could not do.

        Raises:
            LanguageError: the model does not know ``options.language``.
        """
        if options.language is not None:
            self._tokens.prompt(options.language)

    def windows(self, samples: Audio, *, recording: int = 0) -> list[Window]:
        """What of a recording is read, in order; nothing of silence."""
        longest = WINDOW_SAMPLES if self._context.policy == "full" else _SHORT_WINDOW_SAMPLES
        return list(recording_windows(recording, samples, self._find_speech, longest=longest))

    def kind(self, window: Window, options: Options) -> Kind:
        """Windows of one kind share shapes and limits, so that none's text depends on its neighbours."""
        frames = self._frames(window)
        by_seconds = _BATCH_SECONDS[self._model.device] * FRAMES_PER_SECOND // frames
        return Kind(
            frames=frames,
            room=_room(window, options.language, options.task),
            timed=self._is_timed(window, options),
            at_once=max(1, min(_BATCH_WINDOWS[self._model.device], by_seconds)),
        )

    def read(self, windows: Sequence[Window], options: Options, languages: Sequence[str | None]) -> list[WindowText]:
        """What is said in windows of one kind, at most ``at_once`` of it, each in its language; None is identified."""
        encoded = self._encode(windows)
        guesses = self._identify(encoded) if None in languages else [()] * len(windows)
        spoken = [language or found[0].language for language, found in zip(languages, guesses, strict=True)]
        readings = self._read(windows, encoded, spoken, options)
        cut = [row for row, reading in enumerate(readings) if self._is_cut(windows[row], reading, spoken[row], options)]
        of_cut = dict(zip(cut, self._read_halves([windows[row] for row in cut], options, [spoken[row] for row in cut]), strict=True))
        texts = []
        for row, reading in enumerate(readings):
            align = partial(self._align, encoded, row, windows[row], spoken[row], options.task)
            segments = of_cut[row] if row in of_cut else self._segments(windows[row], reading, options, spoken[row], align)
            texts.append(WindowText(segments=tuple(segments), languages=() if languages[row] else guesses[row]))
        return texts

    def _batches(self, windows: Iterable[Window], options: Options) -> Iterator[list[Window]]:
        """Windows of a kind. Where languages are to be identified, the first windows of all recordings come before the others."""

        def order(window: Window) -> tuple[bool, Kind]:
            return options.language is None and not window.first, self.kind(window, options)

        for (_, kind), group in groupby(sorted(windows, key=order), key=order):
            same = list(group)
            yield from (same[start : start + kind.at_once] for start in range(0, len(same), kind.at_once))

    def _frames(self, window: Window) -> int:
        """Log-mel frames of the encoder context that a window gets."""
        frames = self._context.frames(len(window.samples))
        # CTranslate2 tells features from what it has encoded by their middle dimension, mel bins there and positions here.
        return frames + FRAMES_PER_POSITION if frames == FRAMES_PER_POSITION * self._model.n_mels else frames

    def _is_timed(self, window: Window, options: Options) -> bool:
        """Whether a window is decoded with timestamps, asked for or not."""
        return options.timestamps != "none" or (self._context.policy == "variable" and window.duration_s > _UNTIMED_SECONDS)

    def _encode(self, batch: Sequence[Window]) -> _Encoded:
        frames = self._frames(batch[0])
        features = np.stack([log_mel(window.samples, self._model.n_mels, frames) for window in batch])
        return _Encoded(self._model.encode(_view(features)))

    def _identify(self, encoded: _Encoded) -> list[tuple[LanguageGuess, ...]]:
        """The most probable languages of each row, best first."""
        return [
            tuple(
                LanguageGuess(language=self._tokens.language_of(token), probability=float(probability))
                for token, probability in guesses[:_GUESSES]
            )
            for guesses in self._model.detect_language(encoded.all)
        ]

    def _read(self, batch: Sequence[Window], encoded: _Encoded, languages: Sequence[str], options: Options) -> list[Reading]:
        prompts = [self._prompt(language, options, timed=self._is_timed(batch[0], options)) for language in languages]
        rooms = [_room(batch[0], language, options.task) for language in languages]

        def decode(rows: Sequence[int], attempt: Attempt) -> list[Reading]:
            readings: dict[int, Reading] = {}
            for room in sorted({rooms[row] for row in rows}):  # several where languages were identified
                alike = [row for row in rows if rooms[row] == room]
                found = self._decode(encoded.rows(alike), [prompts[row] for row in alike], room, attempt, options.beam_size)
                readings.update(zip(alike, found, strict=True))
            return [readings[row] for row in rows]

        return read(len(batch), options.temperatures, decode)

    def _is_cut(self, window: Window, reading: Reading, language: str, options: Options) -> bool:
        """Whether a text goes on where its room ends, in a language whose words take many tokens.

        In the others only what is no speech takes so many; in any, a loop and an improbable text are no speech.
        """
        if tokens_per_second(language, options.task) == USUAL_TOKENS_PER_SECOND or len(window.samples) <= _LEAST_HALVED_SAMPLES:
            return False
        prompt = self._prompt(language, options, timed=self._is_timed(window, options))
        most = _most_written(_room(window, language, options.task), prompt)
        return len(reading.tokens) >= most and reading.stands and not reading.is_silence

    def _read_halves(self, windows: Sequence[Window], options: Options, languages: Sequence[str]) -> list[list[Segment]]:
        """The segments of each window, read in two halves, and those in halves again where that is not enough."""
        parents = {half: number for number, window in enumerate(windows) for half in halves(window)}
        found: list[list[Segment]] = [[] for _ in windows]
        for batch in self._batches(parents, options):
            texts = self.read(batch, options, [languages[parents[half]] for half in batch])
            for half, text in zip(batch, texts, strict=True):
                found[parents[half]] += text.segments
        return [sorted(segments, key=lambda segment: segment.start_s) for segments in found]

    def _prompt(self, language: str, options: Options, *, timed: bool) -> list[int]:
        prompt = self._tokens.prompt(language, task=options.task, timestamps=timed)
        previous = (options.prompt or "").strip()
        if not previous:
            return prompt
        return [self._tokens.previous, *self._tokens.encode(f" {previous}")[-_PROMPT_TOKENS:], *prompt]

    def _decode(self, encoded: Any, prompts: Sequence[Sequence[int]], room: int, attempt: Attempt, beam_size: int) -> list[Reading]:
        """One reading for each row of ``encoded``, of at most ``room`` tokens."""
        results = self._model.generate(
            encoded,
            prompts,
            max_length=_max_length(room, prompts[0]),
            no_repeat_ngram_size=attempt.ngrams,
            return_scores=True,
            return_no_speech_prob=True,
            **({"beam_size": beam_size} if attempt.temperature == 0 else _sampling(attempt.temperature)),
        )
        return [self._reading(result) for result in results]

    def _reading(self, result: Any) -> Reading:
        tokens = tuple(result.sequences_ids[0])
        # CTranslate2's score is the sum over the tokens and the end, divided by the tokens alone.
        mean = float(result.scores[0]) * max(1, len(tokens)) / (len(tokens) + 1)
        return Reading(tokens=tokens, text=self._tokens.decode(tokens), avg_logprob=mean, no_speech_prob=float(result.no_speech_prob))

    def _segments(
        self, window: Window, reading: Reading, options: Options, language: str, align: Callable[[Sequence[int]], Alignment]
    ) -> list[Segment]:
        if reading.is_silence or not reading.text:
            return []
        if options.timestamps == "none":
            found = [_segment(reading, 0.0, window.duration_s, reading.text)]
        elif options.timestamps == "segment":
            stretches = self._tokens.decode_timed(reading.tokens, duration_s=window.duration_s)
            found = [_segment(reading, stretch.start_s, stretch.end_s, stretch.text) for stretch in stretches]
        else:
            found = self._worded(window, reading, "en" if options.task == "translate" else language, align)
        return [_later(segment, window.offset_s) for segment in found]

    def _worded(self, window: Window, reading: Reading, language: str, align: Callable[[Sequence[int]], Alignment]) -> list[Segment]:
        """Segments as the model divided the text, each from its first word to its last."""
        split = self._tokens.split_timed(reading.tokens, duration_s=window.duration_s)
        stretches = [[token for token in stretch.tokens if token < self._tokens.end] for stretch in split]
        stretches = [written for written in stretches if self._tokens.decode(written)]
        spelled = [spell_words(self._tokens, written, language) for written in stretches]
        placed = iter(place_words(list(chain(*spelled)), align(list(chain(*stretches))), window.samples))
        found = []
        for written, words in zip(stretches, spelled, strict=True):
            own = tuple(islice(placed, len(words)))
            found.append(replace(_segment(reading, own[0].start_s, own[-1].end_s, self._tokens.decode(written)), words=own))
        return found

    def _align(self, encoded: _Encoded, row: int, window: Window, language: str, task: Task, written: Sequence[int]) -> Alignment:
        """Where in a window its text tokens are. One window at a time: beside longer texts CTranslate2 rounds otherwise."""
        frames = max(FRAMES_PER_POSITION, math.ceil(len(window.samples) / HOP_LENGTH))
        start = self._tokens.prompt(language, task=task, timestamps=True)  # it adds that there are none
        (found,) = self._model.align(encoded.rows([row]), start, [list(written)], frames)
        return Alignment(path=found.alignments, probabilities=found.text_token_probs)


class _Encoded:
    """The encoder's output for a batch, and any of its rows again."""

    def __init__(self, states: Any) -> None:
        self.all = states

    def rows(self, rows: Sequence[int]) -> Any:
        return self.all if len(rows) == self.all.shape[0] else _view(self._on_cpu[list(rows)])

    @cached_property
    def _on_cpu(self) -> Any:
        return np.asarray(self.all if self.all.device == "cpu" else self.all.to_device(ctranslate2.Device.cpu))


def _view(array: Any) -> Any:
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array))


def _room(window: Window, language: str | None, task: Task) -> int:
    """Tokens that a window's text may take. Short ones share theirs, and so their batches; an unknown language has the usual room."""
    rate = tokens_per_second(language or "", task)
    return min(_MOST_TOKENS, _TOKENS_AT_LEAST + rate * math.ceil(max(window.duration_s, _UNTIMED_SECONDS)))


def _max_length(room: int, prompt: Sequence[int]) -> int:
    """CTranslate2's ``max_length``, which makes it write ``room`` tokens at most, if the prompt leaves that many."""
    return min(MAX_LABEL_TOKENS, max(2 * room, room + len(prompt)))


def _most_written(room: int, prompt: Sequence[int]) -> int:
    """What CTranslate2 writes at most: half of ``max_length``, and what the prompt leaves of it (one more behind previous text)."""
    return min(_max_length(room, prompt) // 2, _max_length(room, prompt) - len(prompt))


def _sampling(temperature: float) -> dict[str, Any]:
    return {"beam_size": 1, "sampling_topk": 0, "sampling_temperature": temperature}


def _segment(reading: Reading, start_s: float, end_s: float, text: str) -> Segment:
    return Segment(start_s=start_s, end_s=end_s, text=text, avg_logprob=reading.avg_logprob, no_speech_prob=reading.no_speech_prob)


def _later(segment: Segment, seconds: float) -> Segment:
    """A segment of a window at its place in the recording."""
    words = tuple(replace(word, start_s=word.start_s + seconds, end_s=word.end_s + seconds) for word in segment.words)
    return replace(segment, start_s=segment.start_s + seconds, end_s=segment.end_s + seconds, words=words)
