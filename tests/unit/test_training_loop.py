"""The training loop on a tiny Whisper: it learns, keeps the best weights, and refuses what it cannot train on."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import small_training
import torch
from dataset_folder import write_dataset
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from avskrift.audio.logmel_torch import LogMel
from avskrift.corpus.dataset import Dataset, open_dataset
from avskrift.errors import LanguageError, TrainingError, UsageError
from avskrift.training.adapters import prepare_parameters, trained_parameters
from avskrift.training.checkpoint import Checkpoints, Progress, Tensors
from avskrift.training.config import TrainingConfig, learning_rate_factor
from avskrift.training.loop import TrainingResult, train
from avskrift.training.presets import PRESETS
from avskrift.training.validation import validate
from avskrift.training.windows import ClipSize, plan_epoch
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.transformers_folder import load_model

smallest = small_training.smallest_whisper
_threads_as_before = small_training.threads_as_before

JOB = "a" * 64
# Short, and fierce enough to learn two sentences by heart.
BY_HEART = TrainingConfig(epochs=6, learning_rate=4e-3, batch_seconds=6, packed_share=0, early_stopping=4, device="cpu", threads=1)
ONE_STEP = replace(BY_HEART, max_steps=1)


class Remembering(Checkpoints):
    """Checkpoints that also remember the weights of every step that was the best."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, JOB)
        self.kept: dict[int, dict[str, torch.Tensor]] = {}

    def save_best(self, weights: Tensors, step: int) -> str:
        self.kept[step] = {name: tensor.detach().clone() for name, tensor in weights.items()}
        return super().save_best(weights, step)


class Everything(Checkpoints):
    """Checkpoints that remember the weights after every step."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, JOB)
        self.weights: list[dict[str, torch.Tensor]] = []

    def save(self, parts: Any, progress: Progress, settings: Any = None, *, wait: bool = False) -> None:
        self.weights.append({name: tensor.detach().clone() for name, tensor in parts["weights"].items()})
        super().save(parts, progress, settings, wait=wait)


@dataclass(frozen=True)
class Trained:
    result: TrainingResult
    out: Path
    checkpoints: Remembering


@pytest.fixture(scope="module")
def two_sentences(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The two shortest train clips, ten times each to train on, and once to validate on."""
    clips = sorted(open_dataset(tiny_dataset).clips("train"), key=lambda clip: clip.duration_s)[:2]
    repeated = [replace(clip, clip_id=f"{clip.clip_id}-{number}") for number in range(10) for clip in clips]
    return write_dataset(tmp_path_factory.mktemp("two-sentences"), {"train": repeated, "validation": clips})


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
    best = trained.checkpoints.kept[trained.result.best_step]
    assert all(torch.equal(weights, saved.get_parameter(name)) for name, weights in best.items())
    tokens = WhisperTokens(trained.out / "tokenizer.json")
    clips = list(two_sentences.clips("validation"))
    measured = validate(saved, LogMel(80), clips, [clip.duration_s for clip in clips], tokens, language="sv")
    assert measured is not None
    assert measured.wer == trained.result.best_wer
    assert [(trained.result.best_step, *example) for example in measured.examples] == [
        example for example in trained.result.examples if example[0] == trained.result.best_step
    ]


def test_later_weights_that_are_no_better_are_not_what_is_saved(smallest: Path, two_sentences: Dataset, tmp_path: Path) -> None:
    # At so low a rate every epoch's weights are others, and what they write is the same.
    timid, checkpoints = replace(BY_HEART, epochs=2, learning_rate=1e-6), Remembering(tmp_path)
    result = train(smallest, two_sentences, timid, checkpoints=checkpoints, out=tmp_path / "model")
    first, last = _curve(result, "validation_wer").items()
    assert first[1] == last[1]
    assert result.best_step == first[0] < result.steps == last[0]
    saved = load_file(tmp_path / "model" / "model.safetensors")
    assert all(torch.equal(weights, saved[name]) for name, weights in checkpoints.kept[result.best_step].items())


def test_the_model_folder_loads_with_transformers_as_it_is(trained: Trained, tiny_whisper: Path) -> None:
    model = WhisperForConditionalGeneration.from_pretrained(trained.out)
    processor = WhisperProcessor.from_pretrained(trained.out)
    before = WhisperForConditionalGeneration.from_pretrained(tiny_whisper)
    assert model.generation_config.lang_to_id == before.generation_config.lang_to_id
    assert processor.tokenizer.decode(processor.tokenizer("hej på dig", add_special_tokens=False).input_ids) == "hej på dig"
    assert processor.feature_extractor.sampling_rate == 16_000
    assert {file.name for file in trained.out.iterdir()} == {file.name for file in tiny_whisper.iterdir()}


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(smallest: Path, two_sentences: Dataset, tmp_path: Path) -> None:
    curves: list[tuple[tuple[int, str, float], ...]] = []
    for seed in (1, 1, 2):
        few = replace(BY_HEART, max_steps=3, seed=seed)
        out = tmp_path / f"{len(curves)}"
        curves.append(train(smallest, two_sentences, few, checkpoints=Checkpoints(out / "ck", JOB), out=out / "model").curve)
    assert curves[0] == curves[1] != curves[2]
    assert (tmp_path / "0/model/model.safetensors").read_bytes() == (tmp_path / "1/model/model.safetensors").read_bytes()


def test_max_steps_ends_within_an_epoch_with_a_validation(smallest: Path, two_sentences: Dataset, tmp_path: Path) -> None:
    plain = _curve(
        train(smallest, two_sentences, replace(BY_HEART, epochs=1), checkpoints=_none(tmp_path), out=tmp_path / "1"), "train_loss"
    )
    per_epoch = len(plain)
    config = replace(BY_HEART, max_steps=per_epoch + 1)
    result = train(smallest, two_sentences, config, checkpoints=Checkpoints(tmp_path, "b" * 64), out=tmp_path / "2")
    assert list(_curve(result, "validation_wer")) == [per_epoch, per_epoch + 1]
    assert (result.steps, result.epochs) == (per_epoch + 1, 2)


def test_more_steps_than_the_epochs_have_are_not_done(smallest: Path, two_sentences: Dataset, tmp_path: Path) -> None:
    config = replace(BY_HEART, epochs=1, batch_seconds=100, max_steps=50)
    assert train(smallest, two_sentences, config, checkpoints=_none(tmp_path), out=tmp_path / "model").steps == 1


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
def test_an_empty_split_is_refused_by_name(smallest: Path, tiny_dataset: Path, tmp_path: Path, split: str) -> None:
    clips = list(open_dataset(tiny_dataset).clips("test"))[:1]
    without = {"train": clips, "validation": clips} | {split: []}
    dataset = write_dataset(tmp_path / "dataset", without)
    with pytest.raises(TrainingError, match=f"the {split} split is empty"):
        train(smallest, dataset, ONE_STEP, checkpoints=_none(tmp_path), out=tmp_path / "model")


def test_a_language_that_the_base_model_does_not_know_is_refused(smallest: Path, two_sentences: Dataset, tmp_path: Path) -> None:
    with pytest.raises(LanguageError, match="'tlh'"):
        train(smallest, two_sentences, replace(ONE_STEP, language="tlh"), checkpoints=_none(tmp_path), out=tmp_path / "model")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused(smallest: Path, two_sentences: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"device is 'cuda:3', and PyTorch finds no such GPU"):
        train(smallest, two_sentences, replace(ONE_STEP, device="cuda:3"), checkpoints=_none(tmp_path), out=tmp_path / "model")


def test_it_is_validated_every_so_many_steps_and_at_the_end_of_each_epoch_and_never_twice(
    smallest: Path, two_sentences: Dataset, tmp_path: Path
) -> None:
    config = replace(BY_HEART, epochs=2, validate_steps=3, learning_rate=1e-3, early_stopping=0, batch_seconds=9)
    per_epoch = _steps_an_epoch(two_sentences, config)
    result = train(smallest, two_sentences, config, checkpoints=_none(tmp_path), out=tmp_path / "model")
    validated = [step for step, name, _ in result.curve if name == "validation_wer"]
    assert validated == sorted({*range(3, 2 * per_epoch + 1, 3), per_epoch, 2 * per_epoch})


def test_it_stops_early_where_validations_get_no_better_and_keeps_the_best(smallest: Path, two_sentences: Dataset, tmp_path: Path) -> None:
    # At so low a rate what the model writes stays the same: no validation is better than the first.
    config = replace(BY_HEART, learning_rate=1e-7, validate_steps=1, early_stopping=2)
    result = train(smallest, two_sentences, config, checkpoints=_none(tmp_path), out=tmp_path / "model")
    assert (result.steps, result.best_step) == (3, 1)
    assert list(_curve(result, "validation_wer")) == [1, 2, 3]


def test_where_validations_get_better_it_does_not_stop_early(trained: Trained) -> None:
    wers = list(_curve(trained.result, "validation_wer").values())
    assert len(wers) == BY_HEART.epochs
    assert BY_HEART.early_stopping > 0, "as many validations as it has patience for were never worse in a row"


def test_the_rate_follows_the_schedule_that_is_asked_for(smallest: Path, two_sentences: Dataset, tmp_path: Path) -> None:
    config = replace(BY_HEART, epochs=1, schedule="cosine", warmup_share=0.3)
    result = train(smallest, two_sentences, config, checkpoints=_none(tmp_path), out=tmp_path / "model")
    expected = [
        config.learning_rate * learning_rate_factor(step, total=result.steps, warmup_share=0.3, schedule="cosine")
        for step in range(result.steps)
    ]
    assert list(_curve(result, "learning_rate").values()) == pytest.approx(expected)


def test_without_a_learning_rate_that_of_the_models_size_is_taken(smallest: Path, two_sentences: Dataset, tmp_path: Path) -> None:
    result = train(smallest, two_sentences, replace(ONE_STEP, learning_rate=0), checkpoints=_none(tmp_path), out=tmp_path / "model")
    assert result.learning_rate == PRESETS[0].learning_rate


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({}, ("model.encoder.", "model.decoder.", "proj_out.")),
        ({"freeze_encoder": True}, ("model.decoder.", "proj_out.")),
        ({"lora_rank": 2}, (".q_proj.", ".k_proj.", ".v_proj.", ".out_proj.", ".fc1.", ".fc2.")),
    ],
    ids=["all", "frozen-encoder", "adapters"],
)
def test_only_the_weights_that_are_trained_are_changed_in_what_is_saved(
    tiny_whisper: Path, two_sentences: Dataset, tmp_path: Path, options: dict[str, Any], changes: tuple[str, ...]
) -> None:
    config = replace(ONE_STEP, **options)
    checkpoints = Remembering(tmp_path)
    train(tiny_whisper, two_sentences, config, checkpoints=checkpoints, out=tmp_path / "model")
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_whisper, tmp_path / "model"))
    assert after.keys() == before.keys()
    changed = {name for name, weights in before.items() if not torch.equal(weights, after[name])}
    assert changed
    assert all(any(part in name for part in changes) for name in changed)
    untouched = {name for name in before if name not in changed and any(part in name for part in changes)}
    # Positions of the encoder are fixed; the decoder's are learnt as far as labels reach; keys have no bias.
    assert {name for name in untouched if ".embed_positions." not in name and not name.endswith("bias")} == set()
    assert set().union(*checkpoints.kept.values()) == _trained_names(config, tiny_whisper)


def test_the_average_of_the_weights_is_what_is_validated_and_saved(smallest: Path, two_sentences: Dataset, tmp_path: Path) -> None:
    config = replace(BY_HEART, max_steps=4, ema_decay=0.9, checkpoint_minutes=0)
    kept = Remembering(tmp_path / "with")
    train(smallest, two_sentences, config, checkpoints=kept, out=tmp_path / "with" / "model")
    plain = Everything(tmp_path / "without")
    plain_config = replace(config, ema_decay=0)
    train(smallest, two_sentences, plain_config, checkpoints=plain, out=tmp_path / "without" / "model")

    average = {name: tensor for name, tensor in load_file(smallest / "model.safetensors").items() if name in plain.weights[0]}
    for step, weights in enumerate(plain.weights, start=1):
        decay = min(0.9, (1 + step) / (10 + step))
        average = {name: decay * tensor + (1 - decay) * weights[name] for name, tensor in average.items()}
    saved = load_file(tmp_path / "with" / "model" / "model.safetensors")
    for name, tensor in average.items():
        torch.testing.assert_close(saved[name], tensor)
        assert torch.equal(saved[name], kept.kept[4][name])
    assert not torch.equal(saved["model.decoder.embed_tokens.weight"], plain.weights[-1]["model.decoder.embed_tokens.weight"])


def test_parts_of_a_step_add_up_to_the_step(smallest: Path, two_sentences: Dataset, tmp_path: Path) -> None:
    curves = []
    for number, more in enumerate(({}, {"micro_batch_seconds": 3.0}, {"activation_checkpointing": "on"})):
        # Adam makes a whole step of a gradient that is rounding alone, so a high rate would show how sums were rounded.
        config = replace(BY_HEART, max_steps=4, packed_share=0.5, learning_rate=1e-4, **more)  # type: ignore[arg-type]
        result = train(smallest, two_sentences, config, checkpoints=_none(tmp_path / f"{number}"), out=tmp_path / f"{number}" / "model")
        curves.append(list(_curve(result, "train_loss").values()))
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
    assert curves[2] == pytest.approx(curves[0], rel=1e-4)


def test_worker_processes_make_no_difference(smallest: Path, two_sentences: Dataset, tmp_path: Path) -> None:
    curves = []
    for workers in (0, 2):
        config = replace(BY_HEART, max_steps=3, workers=workers, speed_share=0.5, noise_share=0.5, empty_share=0.3, bpe_dropout=0.2)
        out = tmp_path / f"{workers}"
        curves.append(train(smallest, two_sentences, config, checkpoints=_none(out), out=out / "model").curve)
    assert curves[0] == curves[1]


def _trained_names(config: TrainingConfig, base: Path) -> set[str]:
    model = load_model(base, torch.device("cpu"))
    prepare_parameters(model, config)
    return set(trained_parameters(model))


def _steps_an_epoch(dataset: Dataset, config: TrainingConfig) -> int:
    sizes = [ClipSize(clip.duration_s, 1) for clip in dataset.clips("train")]
    return len(plan_epoch(sizes, config, 0))


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
