"""The real whisper-base: what was converted from CTranslate2 is the model that CTranslate2 runs."""

from __future__ import annotations

from pathlib import Path

import ctranslate2
import numpy as np
import pytest
import torch

from avskrift.audio.constants import SAMPLE_RATE, WINDOW_FRAMES
from avskrift.audio.logmel import log_mel
from avskrift.corpus.demo import TINY, plan, speak
from avskrift.whisper.export import Provenance, export_package
from avskrift.whisper.forward import generate
from avskrift.whisper.package import EncoderContext, ModelPackage
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.transcriber import CTranslate2Transcriber, load_transcriber
from avskrift.whisper.transcript import Options
from avskrift.whisper.transformers_folder import load_model

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def package(whisper_base: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    provenance = Provenance(base_model="package:whisper-base", base_model_sha256="", encoder_context=EncoderContext(policy="full"))
    return export_package(whisper_base, tmp_path_factory.mktemp("whisper-base") / "package", provenance)


def test_transformers_and_ctranslate2_read_the_same_words_out_of_the_same_speech(whisper_base: Path, package: ModelPackage) -> None:
    clips = [speak(utterance) for utterance in plan(TINY)[:1]]
    tokens = WhisperTokens(package.ctranslate2 / "tokenizer.json")
    # In float32: int8, in which the engine serves, hears an unclear word of synthetic speech differently now and then.
    exact = ctranslate2.models.Whisper(str(package.ctranslate2), device="cpu", compute_type="float32")
    engine = CTranslate2Transcriber(exact, tokens, package.description.encoder_context)
    served = [transcript.text for transcript in engine.transcribe(clips, Options(language="sv"))]

    model = load_model(whisper_base, torch.device("cpu"))
    model.train(mode=False)
    rows = generate(
        model,
        torch.stack([torch.from_numpy(log_mel(clip, frames=WINDOW_FRAMES)) for clip in clips]),
        prompt=tokens.prompt("sv"),
        end=tokens.end,
        max_tokens=40,
        suppress=model.generation_config.suppress_tokens,
        suppress_first=model.generation_config.begin_suppress_tokens,
    )
    assert [tokens.decode(row) for row in rows] == served
    assert all(len(text.split()) > 3 for text in served)


def test_the_engine_as_it_serves_hears_words_at_times_and_nothing_in_silence(package: ModelPackage) -> None:
    engine = load_transcriber(package, device="cpu")
    clip = speak(plan(TINY)[0])
    spoken, silence = engine.transcribe([clip, np.zeros(SAMPLE_RATE, np.float32)], Options(language="sv", timestamps=True))
    assert len(spoken.text.split()) > 3
    assert all(0 <= segment.start_s < segment.end_s <= spoken.duration_s for segment in spoken.segments)
    assert silence.text == ""
