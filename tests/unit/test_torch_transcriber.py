"""The PyTorch engine: what it gives the encoder, what it says of a recording, what it leaves to the engine that serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_training
import torch
from recordings import tone
from transformers import WhisperForConditionalGeneration

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.audio.logmel_torch import LogMel
from avskrift.errors import LanguageError, UsageError
from avskrift.whisper.forward import Written
from avskrift.whisper.package import EncoderContext
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.torch_transcriber import TorchTranscriber
from avskrift.whisper.transcript import Audio, Options, Transcriber
from avskrift.whisper.transformers_folder import load_model

_threads_as_before = small_training.threads_as_before

SWEDISH = Options(language="sv")
FULL, VARIABLE = EncoderContext(policy="full"), EncoderContext(policy="variable", minimum_frames=100, multiple_frames=50)


@pytest.fixture(autouse=True)
def _one_thread(_threads_as_before: None) -> None:
    """More of them wait for one another where tests share the cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tiny_whisper: Path) -> WhisperForConditionalGeneration:
    loaded = load_model(tiny_whisper, torch.device("cpu"))
    loaded.train(mode=False)
    return loaded


@pytest.fixture(scope="module")
def tokens(tiny_whisper: Path) -> WhisperTokens:
    return WhisperTokens(tiny_whisper / "tokenizer.json")


class Listening(LogMel):
    """Remembers how many recordings it met, and how many frames it made of them."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, int]] = []

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        features = super().forward(samples)
        self.shapes.append((features.shape[0], features.shape[2]))
        return features


class Prompted(TorchTranscriber):
    """Remembers the prompts and the room for text, and writes a word at once."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.prompts: list[list[int]] = []
        self.rooms: list[int | None] = []

    def write(self, recordings: Sequence[Audio], prompt: Sequence[int], *, at_most: int | None = None) -> list[Written]:
        self.prompts.append(list(prompt))
        self.rooms.append(at_most)
        return [Written(self.tokens.encode(" ja"), -0.1)] * len(recordings)


def sound(seconds: float, hertz: float = 300.0) -> Audio:
    return np.asarray(tone(seconds, hertz=hertz), dtype=np.float32)


def test_it_is_a_transcriber(model: WhisperForConditionalGeneration, tokens: WhisperTokens) -> None:
    engine: Transcriber = TorchTranscriber(model, tokens, VARIABLE)
    assert "sv" in engine.languages
    assert engine.identity() == f"torch {torch.__version__}, cpu float32"
    assert engine.transcribe([], SWEDISH) == []


@pytest.mark.parametrize(("context", "frames"), [(VARIABLE, [100, 350]), (FULL, [3000, 3000])])
def test_a_batch_is_encoded_as_its_longest_recording_needs_and_the_package_allows(
    model: WhisperForConditionalGeneration, tokens: WhisperTokens, context: EncoderContext, frames: list[int]
) -> None:
    features = Listening()
    engine = TorchTranscriber(model, tokens, context, features=features)
    engine.transcribe([sound(0.2)], SWEDISH)
    engine.transcribe([sound(3.01), sound(1.0)], SWEDISH)
    assert features.shapes == [(1, frames[0]), (2, frames[1])]


def test_transcripts_come_in_the_order_of_the_recordings_though_short_ones_go_first(
    model: WhisperForConditionalGeneration, tokens: WhisperTokens
) -> None:
    features = Listening()
    engine = Prompted(model, tokens, VARIABLE, features=features)
    seconds = [0.1 * (1 + number * 7 % 20) for number in range(20)]  # more than a batch, in disorder
    transcripts = engine.transcribe([sound(one) for one in seconds], SWEDISH)
    assert [round(one.duration_s, 3) for one in transcripts] == [round(one, 3) for one in seconds]
    assert len(engine.prompts) == 2
    assert {one.text for one in transcripts} == {"ja"}


def test_the_text_is_what_transformers_itself_finds_most_probable(model: WhisperForConditionalGeneration, tokens: WhisperTokens) -> None:
    engine = TorchTranscriber(model, tokens, FULL)
    recording, prompt = sound(1.0), tokens.prompt("sv")
    (written,) = engine.write([recording], prompt, at_most=6)
    features = LogMel()(torch.from_numpy(np.pad(recording, (0, 30 * SAMPLE_RATE - len(recording))))[None])
    with torch.no_grad():
        scores = model(input_features=features, decoder_input_ids=torch.tensor([prompt + written.tokens])).logits[0]
    silence = scores[0].softmax(dim=-1)[tokens.no_speech]
    scores = scores[len(prompt) - 1 : -1]
    scores[:, model.generation_config.suppress_tokens] = -torch.inf
    scores[0, model.generation_config.begin_suppress_tokens] = -torch.inf
    assert scores.argmax(dim=-1).tolist() == written.tokens
    logprobs = scores.log_softmax(dim=-1)[range(len(written.tokens)), written.tokens]
    assert written.avg_logprob == pytest.approx(logprobs.mean().item(), abs=1e-4)
    assert written.no_speech_prob == pytest.approx(silence.item(), rel=1e-3)


def test_a_segment_spans_the_recording_and_says_how_sure_the_model_is(
    model: WhisperForConditionalGeneration, tokens: WhisperTokens
) -> None:
    (transcript,) = TorchTranscriber(model, tokens, VARIABLE).transcribe([sound(0.5)], SWEDISH)
    (segment,) = transcript.segments
    assert (segment.start_s, segment.end_s, segment.text) == (0.0, 0.5, transcript.text)
    assert segment.avg_logprob < 0
    assert 0 < segment.no_speech_prob < 1
    assert (transcript.language, transcript.language_probability, transcript.languages) == ("sv", 1.0, ())


def test_a_language_that_was_not_named_is_the_one_that_transformers_identifies(
    model: WhisperForConditionalGeneration, tokens: WhisperTokens
) -> None:
    engine = Prompted(model, tokens, FULL)
    recordings = [sound(1.0), sound(1.0, hertz=2000.0)]
    features = LogMel()(torch.from_numpy(np.stack([np.pad(one, (0, 29 * SAMPLE_RATE)) for one in recordings])))
    expected = model.detect_language(input_features=features).tolist()
    for transcript, number in zip(engine.transcribe(recordings, Options()), expected, strict=True):
        assert tokens.prompt(transcript.language)[1] == number
        assert transcript.languages[0].language == transcript.language
        assert transcript.language_probability == transcript.languages[0].probability
        probabilities = [guess.probability for guess in transcript.languages]
        assert len(probabilities) == 5
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0 < sum(probabilities) < 1
    assert sorted(prompt[1] for prompt in engine.prompts) == sorted(set(expected)), "one prompt for each language"


def test_task_and_previous_text_reach_the_prompt(model: WhisperForConditionalGeneration, tokens: WhisperTokens) -> None:
    engine = Prompted(model, tokens, VARIABLE)
    engine.transcribe([sound(0.5)], replace(SWEDISH, task="translate", prompt="Avskrift "))
    assert engine.prompts == [[tokens.previous, *tokens.encode(" Avskrift"), *tokens.prompt("sv", task="translate")]]


@pytest.mark.parametrize("option", [{"timestamps": "segment"}, {"timestamps": "word"}, {"beam_size": 5}, {"temperatures": (0.0, 0.2)}])
def test_what_only_the_engine_that_serves_can_do_is_refused(
    model: WhisperForConditionalGeneration, tokens: WhisperTokens, option: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="decodes greedily and without timestamps"):
        TorchTranscriber(model, tokens, VARIABLE).transcribe([sound(0.5)], replace(SWEDISH, **option))


def test_a_recording_of_more_than_thirty_seconds_is_refused(model: WhisperForConditionalGeneration, tokens: WhisperTokens) -> None:
    engine = Prompted(model, tokens, VARIABLE)
    assert engine.transcribe([sound(30.0)], SWEDISH)[0].duration_s == 30.0
    with pytest.raises(UsageError, match=r"a recording of 30\.1 s, and the PyTorch engine takes at most 30 s"):
        engine.transcribe([sound(0.5), sound(30.1)], SWEDISH)


def test_a_language_that_the_model_does_not_know_is_refused(model: WhisperForConditionalGeneration, tokens: WhisperTokens) -> None:
    with pytest.raises(LanguageError, match="tlh"):
        TorchTranscriber(model, tokens, VARIABLE).transcribe([sound(0.5)], Options(language="tlh"))


def test_a_language_of_many_tokens_has_room_for_them_and_the_others_the_room_that_they_had(
    model: WhisperForConditionalGeneration, tokens: WhisperTokens
) -> None:
    engine = Prompted(model, tokens, VARIABLE)
    for options in (Options(language="ka"), Options(language="th"), SWEDISH, Options(language="ka", task="translate")):
        engine.transcribe([sound(1.0), sound(4.0)], options)
    assert engine.rooms == [24 + 45 * 4, 24 + 25 * 4, None, None]
