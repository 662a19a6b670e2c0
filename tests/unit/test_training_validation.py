"""Validation WER while training: on what, how far, and that it leaves the model as it was."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

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
from avskrift.training.examples import pad_audio
from avskrift.training.validation import validation_wer
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
    assert validation_wer(model, LogMel(80), clips, tokens, language="sv") == pytest.approx(expected)
    assert jiwer.wer(references[:1], hypotheses[:1]) == 0, "the first clip is meant to be right"
    assert validation_wer(model, LogMel(80), clips[:1], tokens, language="sv") == 0


def test_a_thirty_second_clip_that_the_model_babbles_over_does_not_run_past_the_decoder(
    model: WhisperForConditionalGeneration, tokens: WhisperTokens
) -> None:
    assert validation_wer(model, LogMel(80), [_clip("a", 30.0, "Ett ord.")], tokens, language="sv") > 0


def test_the_model_is_trained_on_as_before(model: WhisperForConditionalGeneration, tokens: WhisperTokens) -> None:
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    validation_wer(model, LogMel(80), [_clip("a", 0.5, "Ett ord.")], tokens, language="sv")
    assert model.training
    assert all(torch.equal(before[name], parameter) and parameter.grad is None for name, parameter in model.named_parameters())


def test_transcripts_without_a_word_are_refused_since_a_wer_of_zero_would_look_perfect(
    model: WhisperForConditionalGeneration, tokens: WhisperTokens
) -> None:
    with pytest.raises(TrainingError, match="no validation transcript holds a word"):
        validation_wer(model, LogMel(80), [_clip("a", 0.5, "?!")], tokens, language="sv")


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
