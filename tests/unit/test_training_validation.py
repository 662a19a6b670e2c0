"""Validation WER while training: on what, how far, and that it leaves the model as it was."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import soundfile as sf
import torch
from transformers import WhisperForConditionalGeneration

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.audio.logmel_torch import LogMel
from avskrift.corpus.dataset import Clip
from avskrift.errors import TrainingError
from avskrift.text.normaliser import normalise
from avskrift.training.distributed import World
from avskrift.training.examples import pad_audio
from avskrift.training.validation import Validation, validate
from avskrift.whisper.forward import generate
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.transformers_folder import load_model


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """More of them wait for one another where tests share the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(tiny_whisper: Path) -> WhisperForConditionalGeneration:
    return load_model(tiny_whisper, torch.device("cpu"))


@pytest.fixture(scope="module")
def tokens(tiny_whisper: Path) -> WhisperTokens:
    return WhisperTokens(tiny_whisper / "tokenizer.json")


def test_it_is_the_corpus_wer_of_normalised_text(model: WhisperForConditionalGeneration, tokens: WhisperTokens) -> None:
    # What the model says of each clip is known first; the references agree with one clip but for case, and with the other not at all.
    clips = [_clip("a", 1.0, "."), _clip("b", 1.0, ".")]
    said = [tokens.decode(row) for row in _heard(model, clips, tokens)]
    clips = [_clip("a", 1.0, f"{said[0].upper()}!"), _clip("b", 1.0, "Helt andra ord.")]
    references, hypotheses = [normalise(clip.text, "sv") for clip in clips], [normalise(text, "sv") for text in said]
    expected = jiwer.wer(references, hypotheses)
    assert _wer(model, clips, tokens) == pytest.approx(expected)
    assert jiwer.wer(references[:1], hypotheses[:1]) == 0, "the first clip is meant to be right"
    assert _wer(model, clips[:1], tokens) == 0


def test_a_thirty_second_clip_that_the_model_babbles_over_does_not_run_past_the_decoder(
    model: WhisperForConditionalGeneration, tokens: WhisperTokens
) -> None:
    assert _wer(model, [_clip("a", 30.0, "Ett ord.")], tokens) > 0


def test_the_model_is_trained_on_as_before(model: WhisperForConditionalGeneration, tokens: WhisperTokens) -> None:
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    _wer(model, [_clip("a", 0.5, "Ett ord.")], tokens)
    assert model.training
    assert all(torch.equal(before[name], parameter) and parameter.grad is None for name, parameter in model.named_parameters())


def test_transcripts_without_a_word_are_refused_since_a_wer_of_zero_would_look_perfect(
    model: WhisperForConditionalGeneration, tokens: WhisperTokens
) -> None:
    with pytest.raises(TrainingError, match="no validation transcript holds a word"):
        _wer(model, [_clip("a", 0.5, "?!")], tokens)


def test_clips_that_are_heard_by_several_processes_come_to_the_wer_of_one(
    model: WhisperForConditionalGeneration, tokens: WhisperTokens
) -> None:
    clips = [_clip(f"{number}", 0.4 + 0.05 * number, f"Mening nummer {number}.") for number in range(20)]  # two batches
    whole = _validate(model, clips, tokens)
    assert whole is not None
    assert [example[:2] for example in whole.examples] == [(clip.clip_id, clip.text) for clip in clips[:5]]
    heard: list[Any] = []

    class Listening(World):
        """One of two processes, one after the other: the second one gathers what both heard."""

        def gather(self, value: Any) -> list[Any]:
            heard.append(value)
            return list(heard)

    assert _validate(model, clips, tokens, world=Listening(rank=1, size=2)) != whole, "it heard a part of them"
    assert _validate(model, clips, tokens, world=Listening(rank=0, size=2)) == whole


@pytest.mark.parametrize("looks", [0, 1])
def test_a_validation_that_is_told_to_stop_comes_to_nothing(
    model: WhisperForConditionalGeneration, tokens: WhisperTokens, looks: int
) -> None:
    clips = [_clip(f"{number}", 0.5, "Ett ord.") for number in range(20)]
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(len(asked) >= looks)
        return asked[-1]

    assert _validate(model, clips, tokens, stop=stop) is None
    assert asked == [False] * looks + [True]
    assert model.training


def _validate(model: WhisperForConditionalGeneration, clips: list[Clip], tokens: WhisperTokens, **more: Any) -> Validation | None:
    return validate(model, LogMel(80), clips, [clip.duration_s for clip in clips], tokens, language="sv", **more)


def _wer(model: WhisperForConditionalGeneration, clips: list[Clip], tokens: WhisperTokens) -> float:
    measured = _validate(model, clips, tokens)
    assert measured is not None
    return measured.wer


def _heard(model: WhisperForConditionalGeneration, clips: list[Clip], tokens: WhisperTokens) -> list[list[int]]:
    model.train(mode=False)
    settings = model.generation_config
    return generate(
        model,
        LogMel(80)(pad_audio([clip.samples() for clip in clips])),
        prompt=tokens.prompt("sv"),
        end=tokens.end,
        max_tokens=24 + 15,
        suppress=settings.suppress_tokens or (),
        suppress_first=settings.begin_suppress_tokens or (),
    )


def _clip(clip_id: str, seconds: float, text: str) -> Clip:
    samples = 0.3 * np.sin(np.arange(round(seconds * SAMPLE_RATE)) * 0.05)
    buffer = io.BytesIO()
    sf.write(buffer, samples, SAMPLE_RATE, format="FLAC")
    return Clip(clip_id=clip_id, audio=buffer.getvalue(), duration_s=seconds, text=text)
