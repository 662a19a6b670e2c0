"""The training loop on a tiny Whisper: it learns, keeps the best weights, and refuses what it cannot train on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from avskrift.audio.logmel_torch import LogMel
from avskrift.corpus.dataset import CLIP_SCHEMA, DESCRIPTION_FILE, Clip, Dataset, open_dataset
from avskrift.errors import LanguageError, TrainingError, UsageError
from avskrift.training.checkpoint import Checkpoints
from avskrift.training.config import TrainingConfig
from avskrift.training.loop import TrainingResult, job_digest, train
from avskrift.training.validation import validation_wer
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.transformers_folder import load_model

JOB = "a" * 64
# Short, and fierce enough to learn two sentences by heart.
BY_HEART = TrainingConfig(epochs=6, learning_rate=4e-3, batch_seconds=6, packed_share=0, device="cpu", threads=1)
ONE_STEP = replace(BY_HEART, max_steps=1)


class Remembering(Checkpoints):
    """Checkpoints that also remember the weights of every step that was the best."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, JOB)
        self.best: dict[int, dict[str, torch.Tensor]] = {}

    def save_best(self, model: torch.nn.Module, step: int) -> str:
        self.best[step] = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        return super().save_best(model, step)


@dataclass(frozen=True)
class Trained:
    result: TrainingResult
    out: Path
    checkpoints: Remembering


@pytest.fixture(scope="module", autouse=True)
def _threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def two_sentences(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The two shortest train clips, ten times each to train on, and once to validate on."""
    clips = sorted(open_dataset(tiny_dataset).clips("train"), key=lambda clip: clip.duration_s)[:2]
    repeated = [replace(clip, clip_id=f"{clip.clip_id}-{number}") for number in range(10) for clip in clips]
    return _dataset(tiny_dataset, tmp_path_factory.mktemp("two-sentences"), train=repeated, validation=clips)


@pytest.fixture(scope="module")
def trained(tiny_whisper: Path, two_sentences: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    checkpoints = Remembering(folder)
    out = folder / "model"
    return Trained(train(tiny_whisper, two_sentences, BY_HEART, checkpoints=checkpoints, out=out), out, checkpoints)


def test_it_learns(trained: Trained) -> None:
    losses, wers = _curve(trained.result, "train_loss"), _curve(trained.result, "validation_wer")
    assert losses[max(losses)] < losses[1] / 3
    assert trained.result.best_wer == min(wers.values()) <= wers[min(wers)] / 2
    assert trained.result.best_step == next(step for step, wer in wers.items() if wer == trained.result.best_wer)


def test_the_curve_has_a_loss_and_a_rate_for_every_step_and_a_wer_for_every_epoch(trained: Trained) -> None:
    steps = list(range(1, trained.result.steps + 1))
    assert list(_curve(trained.result, "train_loss")) == steps
    rates = _curve(trained.result, "learning_rate")
    assert list(rates) == steps
    assert max(rates.values()) == BY_HEART.learning_rate
    wers = _curve(trained.result, "validation_wer")
    assert len(wers) == BY_HEART.epochs == trained.result.epochs
    assert max(wers) == trained.result.steps
    assert (trained.result.train_clips, trained.result.validation_clips) == (20, 2)


def test_what_is_saved_are_the_weights_with_the_best_validation_wer(trained: Trained, two_sentences: Dataset) -> None:
    saved = load_model(trained.out, torch.device("cpu"))
    best = trained.checkpoints.best[trained.result.best_step]
    assert all(torch.equal(best[name], parameter) for name, parameter in saved.named_parameters())
    tokens = WhisperTokens(trained.out / "tokenizer.json")
    clips = list(two_sentences.clips("validation"))
    assert validation_wer(saved, LogMel(80), clips, tokens, language="sv") == trained.result.best_wer


def test_later_weights_that_are_no_better_are_not_what_is_saved(tiny_whisper: Path, two_sentences: Dataset, tmp_path: Path) -> None:
    # At so low a rate every epoch's weights are others, and what they write is the same.
    timid, checkpoints = replace(BY_HEART, epochs=2, learning_rate=1e-6), Remembering(tmp_path)
    result = train(tiny_whisper, two_sentences, timid, checkpoints=checkpoints, out=tmp_path / "model")
    first, last = _curve(result, "validation_wer").items()
    assert first[1] == last[1]
    assert result.best_step == first[0] < result.steps == last[0]
    saved = load_file(tmp_path / "model" / "model.safetensors")
    assert all(torch.equal(weights, saved[name]) for name, weights in checkpoints.best[result.best_step].items())


def test_the_model_folder_loads_with_transformers_as_it_is(trained: Trained, tiny_whisper: Path) -> None:
    model = WhisperForConditionalGeneration.from_pretrained(trained.out)
    processor = WhisperProcessor.from_pretrained(trained.out)
    before = WhisperForConditionalGeneration.from_pretrained(tiny_whisper)
    assert model.generation_config.lang_to_id == before.generation_config.lang_to_id
    assert processor.tokenizer.decode(processor.tokenizer("hej på dig", add_special_tokens=False).input_ids) == "hej på dig"
    assert processor.feature_extractor.sampling_rate == 16_000
    assert {file.name for file in trained.out.iterdir()} == {file.name for file in tiny_whisper.iterdir()}


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    trained: Trained, tiny_whisper: Path, two_sentences: Dataset, tmp_path: Path
) -> None:
    curves: list[tuple[tuple[int, str, float], ...]] = []
    for seed in (1, 1, 2):
        few = replace(BY_HEART, max_steps=3, seed=seed)
        out = tmp_path / f"{len(curves)}"
        curves.append(train(tiny_whisper, two_sentences, few, checkpoints=Checkpoints(out / "ck", JOB), out=out / "model").curve)
    assert curves[0] == curves[1] != curves[2]
    assert (tmp_path / "0/model/model.safetensors").read_bytes() == (tmp_path / "1/model/model.safetensors").read_bytes()


def test_max_steps_ends_within_an_epoch_with_a_validation(tiny_whisper: Path, two_sentences: Dataset, tmp_path: Path) -> None:
    plain = _curve(
        train(tiny_whisper, two_sentences, replace(BY_HEART, epochs=1), checkpoints=_none(tmp_path), out=tmp_path / "1"), "train_loss"
    )
    per_epoch = len(plain)
    config = replace(BY_HEART, max_steps=per_epoch + 1)
    result = train(tiny_whisper, two_sentences, config, checkpoints=Checkpoints(tmp_path, "b" * 64), out=tmp_path / "2")
    assert list(_curve(result, "validation_wer")) == [per_epoch, per_epoch + 1]
    assert (result.steps, result.epochs) == (per_epoch + 1, 2)


def test_more_steps_than_the_epochs_have_are_not_done(tiny_whisper: Path, two_sentences: Dataset, tmp_path: Path) -> None:
    config = replace(BY_HEART, epochs=1, batch_seconds=100, max_steps=50)
    assert train(tiny_whisper, two_sentences, config, checkpoints=_none(tmp_path), out=tmp_path / "model").steps == 1


def test_a_loss_that_is_not_finite_stops_before_it_touches_the_weights_and_names_the_clips(
    tiny_whisper: Path, two_sentences: Dataset, tmp_path: Path
) -> None:
    base = _poisoned(tiny_whisper, tmp_path / "base", "model.encoder.layers.0.fc1.weight", float("nan"))
    checkpoints = Checkpoints(tmp_path / "checkpoints", JOB)
    with pytest.raises(TrainingError, match=r"the loss became nan on clips [\w-]+, .*lower the learning rate") as refused:
        train(base, two_sentences, replace(BY_HEART, checkpoint_minutes=0), checkpoints=checkpoints, out=tmp_path / "model")
    known = {clip.clip_id for clip in two_sentences.clips("train")}
    assert known & set(str(refused.value).split("clips ")[1].split(";")[0].split(", "))
    assert not list((tmp_path / "checkpoints").rglob("step-*")), "no step was done"
    assert not (tmp_path / "model").exists()


def test_a_gradient_that_is_not_finite_stops_too_though_the_loss_is(tiny_whisper: Path, two_sentences: Dataset, tmp_path: Path) -> None:
    # So large an output row gives a loss that float32 holds and a gradient norm that it does not.
    base = _poisoned(tiny_whisper, tmp_path / "base", "model.decoder.embed_tokens.weight", 1e25, row=300)
    checkpoints = Checkpoints(tmp_path / "checkpoints", JOB)
    with pytest.raises(TrainingError, match="the gradient became"):
        train(base, two_sentences, replace(BY_HEART, checkpoint_minutes=0), checkpoints=checkpoints, out=tmp_path / "model")
    assert not list((tmp_path / "checkpoints").rglob("step-*"))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_an_empty_split_is_refused_by_name(tiny_whisper: Path, tiny_dataset: Path, tmp_path: Path, split: str) -> None:
    clips = list(open_dataset(tiny_dataset).clips("test"))[:1]
    without = {"train": clips, "validation": clips} | {split: []}
    dataset = _dataset(tiny_dataset, tmp_path / "dataset", **without)
    with pytest.raises(TrainingError, match=f"the {split} split is empty"):
        train(tiny_whisper, dataset, ONE_STEP, checkpoints=_none(tmp_path), out=tmp_path / "model")


def test_a_language_that_the_base_model_does_not_know_is_refused(tiny_whisper: Path, two_sentences: Dataset, tmp_path: Path) -> None:
    with pytest.raises(LanguageError, match="'tlh'"):
        train(tiny_whisper, two_sentences, replace(ONE_STEP, language="tlh"), checkpoints=_none(tmp_path), out=tmp_path / "model")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused(tiny_whisper: Path, two_sentences: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"device is 'cuda:3', and PyTorch finds no such GPU"):
        train(tiny_whisper, two_sentences, replace(ONE_STEP, device="cuda:3"), checkpoints=_none(tmp_path), out=tmp_path / "model")


def test_all_that_decides_the_outcome_makes_another_job_and_nothing_else_does() -> None:
    job = job_digest("base", "data", TrainingConfig())
    assert job == job_digest("base", "data", TrainingConfig(checkpoint_minutes=9, device="cpu", threads=4))
    decisive: list[dict[str, Any]] = [
        *({name: 5} for name in ("seed", "epochs", "max_steps", "batch_seconds", "max_gradient_norm")),
        *({name: 0.25} for name in ("learning_rate", "packed_share", "weight_decay", "warmup_share", "beta2")),
        {"language": "en"},
    ]
    others = [
        job_digest("other", "data", TrainingConfig()),
        job_digest("base", "other", TrainingConfig()),
        *(job_digest("base", "data", replace(TrainingConfig(), **changed)) for changed in decisive),
    ]
    assert len({job, *others}) == len(others) + 1


def _dataset(source: Path, folder: Path, **splits: list[Clip]) -> Dataset:
    """A dataset folder with these clips, described like ``source``."""
    folder.mkdir(parents=True, exist_ok=True)
    described = json.loads((source / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    described["splits"] = {name: {"clips": len(clips), "hours": 0.1, "speakers": 1} for name, clips in splits.items()}
    (folder / DESCRIPTION_FILE).write_text(json.dumps(described), encoding="utf-8")
    for name, clips in splits.items():
        if clips:
            table = pa.Table.from_pylist([clip.row() for clip in clips], schema=CLIP_SCHEMA)
            pq.write_table(table, folder / f"{name}-00000.parquet")
    return open_dataset(folder)


def _poisoned(base: Path, folder: Path, name: str, value: float, row: int = 0) -> Path:
    shutil.copytree(base, folder)
    weights = load_file(folder / "model.safetensors")
    weights[name][row] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _none(folder: Path) -> Checkpoints:
    return Checkpoints(folder / "checkpoints", JOB)


def _curve(result: TrainingResult, name: str) -> dict[int, float]:
    return {step: value for step, of, value in result.curve if of == name}
