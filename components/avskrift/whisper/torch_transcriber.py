"""The transcription protocol over PyTorch: what decodes validation while training, and what export holds the conversion against.

It writes what the model writes, greedily. What makes an engine of it (long recordings, fallbacks, times, silence) is in
:mod:`avskrift.whisper.transcriber`, which evaluates and serves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import WhisperForConditionalGeneration

from avskrift.audio.constants import HOP_LENGTH, SAMPLE_RATE, WINDOW_SAMPLES, WINDOW_SECONDS
from avskrift.audio.logmel_torch import LogMel
from avskrift.errors import UsageError
from avskrift.whisper.forward import Written, encode, write
from avskrift.whisper.package import EncoderContext
from avskrift.whisper.token_rates import USUAL_TOKENS_PER_SECOND, tokens_per_second
from avskrift.whisper.tokens import MAX_LABEL_TOKENS, WhisperTokens
from avskrift.whisper.transcript import Audio, LanguageGuess, Options, Segment, Transcript

BATCH_RECORDINGS = {"cpu": 16, "cuda": 128}
_TOKENS_PER_SECOND = USUAL_TOKENS_PER_SECOND  # generous for speech; what runs past it is a repetition loop
_TOKENS_AT_LEAST = 24
_PROMPT_TOKENS = 223  # of previous text: half of the decoder, less the start
_GUESSES = 5  # languages that are named, most probable first


class TorchTranscriber:
    """Satisfies :class:`avskrift.whisper.transcript.Transcriber`, for recordings of at most 30 s and greedy decoding without times.

    The model is taken as it is: out of training mode, on its device, under the caller's autocast. ``features`` is a log-mel
    module on that device, where the caller has one; ``at_once`` recordings make a batch.
    """

    def __init__(
        self,
        model: WhisperForConditionalGeneration,
        tokens: WhisperTokens,
        context: EncoderContext,
        *,
        features: LogMel | None = None,
        at_once: int | None = None,
    ) -> None:
        self.tokens = tokens
        self._model = model
        self._context = context
        self._weights: torch.Tensor = model.model.encoder.conv1.weight
        self._features = features or LogMel(model.config.num_mel_bins).to(self._weights.device)
        self._at_once = at_once or BATCH_RECORDINGS[self._weights.device.type]

    @property
    def languages(self) -> frozenset[str]:
        return self.tokens.languages

    def identity(self) -> str:
        """Library, device and arithmetic. It says what the model says, so it has no version of its own."""
        return f"torch {torch.__version__}, {self._weights.device.type} {str(self._weights.dtype).removeprefix('torch.')}"

    def transcribe(self, recordings: Sequence[Audio], options: Options) -> list[Transcript]:
        """Transcribe recordings, the shortest first, in batches that are each encoded at their own longest; in the order given.

        Raises:
            UsageError: a recording of more than 30 s, or an option that only the CTranslate2 engine has.
            LanguageError: the model does not know ``options.language``.
        """
        _refuse(recordings, options)
        transcripts: dict[int, Transcript] = {}
        for numbers in by_length([len(samples) for samples in recordings], self._at_once):
            batch = [recordings[number] for number in numbers]
            transcripts.update(zip(numbers, self._transcribe(batch, options), strict=True))
        return [transcripts[number] for number in range(len(recordings))]

    def write(self, recordings: Sequence[Audio], prompt: Sequence[int], *, at_most: int | None = None) -> list[Written]:
        """What the model writes after ``prompt`` of each recording of one batch; None leaves the room that Swedish speech takes."""
        room = at_most or _room(recordings, _TOKENS_PER_SECOND)
        settings = self._model.generation_config
        return write(
            self._model,
            self._heard(recordings),
            prompt=prompt,
            end=self.tokens.end,
            max_tokens=min(room, MAX_LABEL_TOKENS - len(prompt)),
            suppress=settings.suppress_tokens or (),
            suppress_first=settings.begin_suppress_tokens or (),
            no_speech=(list(prompt).index(self.tokens.start), self.tokens.no_speech),
        )

    def _transcribe(self, batch: Sequence[Audio], options: Options) -> list[Transcript]:
        guesses: list[tuple[LanguageGuess, ...]] = [()] * len(batch) if options.language else self._identify(batch)
        spoken = [options.language or guess[0].language for guess in guesses]
        written: dict[int, Written] = {}
        for language in sorted(set(spoken)):  # a batch shares its prompt
            numbers = [number for number, one in enumerate(spoken) if one == language]
            heard, rate = [batch[number] for number in numbers], tokens_per_second(language, options.task)
            room = None if rate == USUAL_TOKENS_PER_SECOND else _room(heard, rate)
            found = self.write(heard, self._prompt(language, options), at_most=room)
            written.update(zip(numbers, found, strict=True))
        return [self._transcript(samples, written[number], spoken[number], guesses[number]) for number, samples in enumerate(batch)]

    def _heard(self, recordings: Sequence[Audio]) -> torch.Tensor:
        """Log-mel features (batch, n_mels, frames) of as many frames as the encoder context asks for the longest."""
        padded = np.zeros((len(recordings), self._context.frames(max(map(len, recordings))) * HOP_LENGTH), dtype=np.float32)
        for row, samples in zip(padded, recordings, strict=True):
            row[: len(samples)] = samples
        features: torch.Tensor = self._features(torch.from_numpy(padded).to(self._weights.device))
        return features.to(self._weights.dtype)

    @torch.inference_mode()
    def _identify(self, batch: Sequence[Audio]) -> list[tuple[LanguageGuess, ...]]:
        """The most probable languages of each recording, best first: what the decoder would write behind its start token."""
        codes = sorted(self.languages)
        numbers = [self.tokens.prompt(code)[1] for code in codes]
        starts = torch.full((len(batch), 1), self.tokens.start, device=self._weights.device)
        states = encode(self._model, self._heard(batch))
        decoder = self._model.model.decoder(input_ids=starts, encoder_hidden_states=states, use_cache=False)
        scores = self._model.proj_out(decoder.last_hidden_state[:, 0])[:, numbers]
        probabilities, places = scores.float().softmax(dim=-1).topk(min(_GUESSES, len(codes)))
        return [
            tuple(LanguageGuess(language=codes[place], probability=probability) for probability, place in zip(row, found, strict=True))
            for row, found in zip(probabilities.tolist(), places.tolist(), strict=True)
        ]

    def _prompt(self, language: str, options: Options) -> list[int]:
        prompt = self.tokens.prompt(language, task=options.task)
        previous = (options.prompt or "").strip()
        return [self.tokens.previous, *self.tokens.encode(f" {previous}")[-_PROMPT_TOKENS:], *prompt] if previous else prompt

    def _transcript(self, samples: Audio, written: Written, language: str, guesses: tuple[LanguageGuess, ...]) -> Transcript:
        text, seconds = self.tokens.decode(written.tokens), len(samples) / SAMPLE_RATE
        whole = Segment(start_s=0.0, end_s=seconds, text=text, avg_logprob=written.avg_logprob, no_speech_prob=written.no_speech_prob)
        return Transcript(
            text=text,
            language=language,
            duration_s=seconds,
            language_probability=guesses[0].probability if guesses else 1.0,
            languages=guesses,
            segments=(whole,) if text else (),
        )


def _room(recordings: Sequence[Audio], rate: int) -> int:
    """Tokens for the longest, at so many a second; the decoder's 448 positions are all there is, of which training takes no more."""
    return _TOKENS_AT_LEAST + int(rate * (max(map(len, recordings)) / SAMPLE_RATE))


def by_length(lengths: Sequence[float], size: int) -> list[list[int]]:
    """Numbers of the recordings of these lengths, the shortest first, in batches of ``size``."""
    ordered = sorted(range(len(lengths)), key=lambda number: lengths[number])
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def _refuse(recordings: Sequence[Audio], options: Options) -> None:
    longest = max((len(samples) for samples in recordings), default=0)
    if longest > WINDOW_SAMPLES:
        raise UsageError(
            f"a recording of {longest / SAMPLE_RATE:.1f} s, and the PyTorch engine takes at most {WINDOW_SECONDS} s;"
            " transcribe it with a model package, whose engine cuts"
        )
    if options.timestamps != "none" or options.beam_size != 1 or options.temperatures != (0.0,):
        raise UsageError("the PyTorch engine decodes greedily and without timestamps; use a model package, whose engine has both")
