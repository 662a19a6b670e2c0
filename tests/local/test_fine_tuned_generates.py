"""What fine-tuning saves, plain ``transformers`` reads back and hears as the model heard before it was saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import small_training
from dataset_folder import write_dataset
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from avskrift.audio.constants import WINDOW_SAMPLES
from avskrift.audio.logmel_torch import LogMel
from avskrift.corpus.dataset import Clip, Dataset, open_dataset
from avskrift.training import loop
from avskrift.training.checkpoint import Checkpoints
from avskrift.training.config import TrainingConfig
from avskrift.training.examples import pad_audio
from avskrift.training.loop import train
from avskrift.whisper.forward import generate
from avskrift.whisper.tokens import WhisperTokens

_threads_as_before = small_training.threads_as_before

_TOKENS = 25
_TRAINING = TrainingConfig(max_steps=3, learning_rate=5e-5, batch_seconds=6, device="cpu")


@pytest.fixture(scope="module")
def dataset(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A few clips of the tiny dataset: the real model takes seconds for each."""
    clips = {
        split: list(open_dataset(tiny_dataset).clips(split))[:count] for split, count in (("train", 6), ("validation", 2), ("test", 2))
    }
    return write_dataset(tmp_path_factory.mktemp("few-clips"), clips)


@pytest.mark.weights
def test_whisper_base_hears_the_same_words_after_it_was_saved(
    whisper_base: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = list(dataset.clips("test"))
    heard = _fine_tuned(whisper_base, dataset, _TRAINING, tmp_path, clips, monkeypatch)
    assert all(len(text.split()) > 3 for text in heard)
    assert _heard_by_transformers(tmp_path / "model", clips) == heard


@pytest.mark.parametrize("options", [{}, {"lora_rank": 4}, {"ema_decay": 0.9}], ids=["all", "adapters", "average"])
def test_a_random_whisper_writes_the_same_after_it_was_saved(
    tiny_whisper: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    clips = list(dataset.clips("test"))
    config = replace(_TRAINING, learning_rate=3e-3, threads=1, **options)
    heard = _fine_tuned(tiny_whisper, dataset, config, tmp_path, clips, monkeypatch)
    assert any(heard)
    assert _heard_by_transformers(tmp_path / "model", clips) == heard


def _fine_tuned(
    base: Path, dataset: Dataset, config: TrainingConfig, folder: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """What the model wrote of ``clips``, padded to 30 s as transformers does, at the moment before it was saved."""
    heard: list[str] = []
    save = loop._save

    def listen_and_save(model: WhisperForConditionalGeneration, base: Path, out: Path) -> None:
        model.train(mode=False)
        heard.extend(_heard(model, WhisperTokens(base / "tokenizer.json"), clips))
        save(model, base, out)

    monkeypatch.setattr(loop, "_save", listen_and_save)
    checkpoints = Checkpoints(folder / "checkpoints", "a" * 64)
    train(base, dataset, config, checkpoints=checkpoints, out=folder / "model")
    return heard


def _heard(model: WhisperForConditionalGeneration, tokens: WhisperTokens, clips: list[Clip]) -> list[str]:
    rows = generate(
        model,
        LogMel(80)(pad_audio([clip.samples() for clip in clips], WINDOW_SAMPLES)),
        prompt=tokens.prompt("sv"),
        end=tokens.end,
        max_tokens=_TOKENS,
        suppress=model.generation_config.suppress_tokens or (),
        suppress_first=model.generation_config.begin_suppress_tokens or (),
    )
    return [tokens.decode(row) for row in rows]


def _heard_by_transformers(folder: Path, clips: list[Clip]) -> list[str]:
    """Nothing of Avskrift's: what a person who was given the folder would run."""
    model = WhisperForConditionalGeneration.from_pretrained(folder, local_files_only=True)
    processor = WhisperProcessor.from_pretrained(folder, local_files_only=True)
    features = processor([clip.samples() for clip in clips], sampling_rate=16_000, return_tensors="pt").input_features
    written = model.generate(features, language="sv", task="transcribe", max_new_tokens=_TOKENS, return_dict_in_generate=True)
    special = ["<|startoftranscript|>", "<|sv|>", "<|transcribe|>", "<|notimestamps|>"]
    prompts = [processor.tokenizer.convert_ids_to_tokens(row[:4].tolist()) for row in written.sequences]
    assert prompts == [special] * len(clips), "language and task are right"
    texts: list[str] = processor.batch_decode(written.sequences, skip_special_tokens=True)
    return [text.strip() for text in texts]
