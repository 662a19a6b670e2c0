"""The real whisper-base, fine-tuned a little: export keeps its words and its alignment heads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import small_training
import torch

from avskrift.corpus.demo import TINY, plan, speak
from avskrift.whisper.export import Provenance, export_package
from avskrift.whisper.package import EncoderContext
from avskrift.whisper.round_trip import Sample
from avskrift.whisper.transformers_folder import copy_companions, load_model

pytestmark = pytest.mark.weights
_threads_as_before = small_training.threads_as_before

HEADS = [[3, 1], [4, 2], [4, 3], [4, 7], [5, 1], [5, 2], [5, 4], [5, 6]]  # OpenAI's of whisper-base
PROVENANCE = Provenance(
    base_model="package:whisper-base", base_model_sha256="", encoder_context=EncoderContext(policy="variable"), languages=("sv",)
)


@pytest.fixture(scope="module")
def fine_tuned(whisper_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every weight moved by up to a thousandth of itself, off what float16 can hold, and saved as training saves it."""
    folder = tmp_path_factory.mktemp("fine-tuned") / "model"
    model = load_model(whisper_base, torch.device("cpu"))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for weights in model.parameters():
            weights *= 1 + 1e-3 * (2 * torch.rand_like(weights) - 1)
    model.save_pretrained(folder)
    copy_companions(whisper_base, folder)
    return folder


def test_a_fine_tuned_whisper_base_keeps_its_words_and_its_alignment_heads(fine_tuned: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)  # more of them wait for one another where tests share the cores
    sample = Sample(clips=[np.asarray(speak(utterance)) for utterance in plan(TINY)[:4]], language="sv")
    package = export_package(fine_tuned, tmp_path / "package", PROVENANCE, sample=sample)
    compared = package.description.round_trip
    assert compared is not None
    assert (compared.clips, compared.different) == (4, 0)
    assert compared.words > 10
    for settings in (package.ctranslate2 / "config.json", package.transformers / "generation_config.json"):
        assert json.loads(settings.read_text(encoding="utf-8"))["alignment_heads"] == HEADS
    assert [list(pair) for pair in package.description.alignment_heads] == HEADS
