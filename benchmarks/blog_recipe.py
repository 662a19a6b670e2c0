"""The peer of the training benchmarks: the well-known Hugging Face recipe for Whisper, in our own words.

What it does: features of every clip, padded to 30 s, computed before training; ``Seq2SeqTrainer`` with batches of 16, fp16,
gradient checkpointing, AdamW at 1e-5 with a linear schedule and a warm-up, the model of the best validation WER kept.

Where it is given more than it has: attention is fused (sdpa; the recipe is older); features lie in a mapped file as arrays,
where ``datasets.map`` leaves lists of numbers that are made into arrays for each batch; loader processes if asked.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import torch
from training_data import in_processes
from transformers import (
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

from avskrift.audio.constants import SAMPLE_RATE, WINDOW_SECONDS
from avskrift.corpus.dataset import Clip
from avskrift.training.flops import training_flops
from avskrift.whisper.transformers_folder import load_model

LEARNING_RATE = 1e-5
BATCH = 16
WARMUP_SHARE = 0.1  # 500 of 4000 steps there; a tenth of however many here
_LANGUAGE, _LANGUAGE_CODE, _TASK = "Swedish", "sv", "transcribe"
_FRAMES = WINDOW_SECONDS * 100
_DECODED_AT_ONCE = {"cpu": 8, "cuda": 64}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeSpeed:
    """Speed of the counted steps, by the same clock as ours: from a batch's arrival to the last step's end, validation left out.

    ``data_wait_share`` is the share of the time in which the device had nothing to do between two steps. ``teraflops``
    counts the padding as useful work, since the recipe computes it.
    """

    steps: int
    seconds: float
    clips_per_second: float
    data_wait_share: float
    gpu_memory_gb: float
    teraflops: float


class PreparedClips(torch.utils.data.Dataset[dict[str, Any]]):
    """Features and labels by number; clip n has the features of row ``rows[n]``."""

    def __init__(self, features: Any, labels: Sequence[list[int]], rows: Sequence[int]) -> None:
        self.features, self.labels, self.rows = features, labels, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_features": self.features[self.rows[index]], "labels": self.labels[index]}


def prepare(file: Path, clips: Sequence[Clip], model: Path) -> PreparedClips:
    """Compute features and labels; ``file`` keeps the features of each distinct recording. Before a GPU is touched, see in_processes."""
    first: dict[bytes, int] = {}
    for clip in clips:
        first.setdefault(clip.audio, len(first))
    if not file.is_file():
        extractor = WhisperFeatureExtractor.from_pretrained(model)
        _compute(file, [(clip_audio, extractor) for clip_audio in first])
    tokenizer = WhisperProcessor.from_pretrained(model, language=_LANGUAGE, task=_TASK).tokenizer
    labels = [tokenizer(clip.text).input_ids for clip in clips]
    return PreparedClips(np.load(file, mmap_mode="r"), labels, [first[clip.audio] for clip in clips])


def train(
    model: Path,
    data: PreparedClips,
    *,
    learning_rate: float = LEARNING_RATE,
    epochs: int = 1,
    max_steps: int = 0,
    uncounted_steps: int = 0,
    workers: int = 0,
    seed: int = 1,
    at_epoch_end: Callable[[WhisperForConditionalGeneration], None] | None = None,
) -> tuple[WhisperForConditionalGeneration, RecipeSpeed]:
    """Train for ``epochs``, or ``max_steps`` where given; the clock starts after ``uncounted_steps``. On a GPU if there is one."""
    cuda = torch.cuda.is_available()
    learner = WhisperForConditionalGeneration.from_pretrained(model, attn_implementation="sdpa", dtype=torch.float32)
    learner.generation_config.language = _LANGUAGE.lower()
    learner.generation_config.task = _TASK
    learner.generation_config.forced_decoder_ids = None
    learner.config.use_cache = False  # not together with gradient checkpointing
    processor = WhisperProcessor.from_pretrained(model, language=_LANGUAGE, task=_TASK)
    steps = max_steps or epochs * -(-len(data) // BATCH)
    clock = _Clock(uncounted_steps, at_epoch_end)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory(prefix="avskrift-recipe-") as folder:
        arguments = Seq2SeqTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            gradient_accumulation_steps=1,
            learning_rate=learning_rate,
            warmup_steps=max(1, round(steps * WARMUP_SHARE)),
            num_train_epochs=epochs,
            max_steps=max_steps or -1,
            gradient_checkpointing=True,
            fp16=cuda,
            use_cpu=not cuda,
            save_strategy="no",  # the best weights are kept in memory by the caller, outside the clock
            eval_strategy="no",
            logging_steps=25,
            report_to=[],
            remove_unused_columns=False,
            label_names=["labels"],
            dataloader_num_workers=workers,
            disable_tqdm=True,
            seed=seed,
        )
        trainer = _Trainer(
            clock,
            args=arguments,
            model=learner,
            train_dataset=data,
            data_collator=Collator(processor, learner.config.decoder_start_token_id),
            processing_class=processor,
            callbacks=[clock],
        )
        trainer.train()
    return learner, clock.speed(learner, data)


@torch.inference_mode()
def transcripts(model: WhisperForConditionalGeneration, folder: Path, data: PreparedClips, *, max_tokens: int) -> list[str]:
    """Decode as the recipe does: greedy ``generate`` over 30 s of features."""
    processor = WhisperProcessor.from_pretrained(folder, language=_LANGUAGE, task=_TASK)
    was_training = model.training
    model.eval()
    size = _DECODED_AT_ONCE[model.device.type]
    heard: list[str] = []
    for start in range(0, len(data), size):
        rows = np.stack([data[index]["input_features"] for index in range(start, min(start + size, len(data)))])
        said = model.generate(
            input_features=torch.from_numpy(rows).to(model.device),
            language=_LANGUAGE_CODE,
            task=_TASK,
            max_new_tokens=max_tokens,
            use_cache=True,
        )
        heard += processor.batch_decode(said, skip_special_tokens=True)
    model.train(was_training)
    return heard


def with_weights(folder: Path, weights: dict[str, torch.Tensor], device: torch.device) -> WhisperForConditionalGeneration:
    """A model as it was before the Trainer wrapped it, with trained ``weights``."""
    model = load_model(folder, device)
    model.load_state_dict(weights)
    return model


@dataclass(frozen=True, slots=True)
class Collator:
    """Stack features, pad labels with -100, and drop the start token, which the model puts before the labels itself."""

    processor: Any
    start: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = self.processor.feature_extractor.pad([{"input_features": row["input_features"]} for row in rows], return_tensors="pt")
        padded = self.processor.tokenizer.pad([{"input_ids": row["labels"]} for row in rows], return_tensors="pt")
        labels = padded["input_ids"].masked_fill(padded.attention_mask.ne(1), -100)
        if bool((labels[:, 0] == self.start).all()):
            labels = labels[:, 1:]
        return {"input_features": batch["input_features"], "labels": labels}


class _Clock(TrainerCallback):  # type: ignore[misc]  # the library has no types here
    """Times steps by the device's clock. Between an epoch's end and the next step's begin no time counts."""

    def __init__(self, uncounted_steps: int, at_epoch_end: Callable[[WhisperForConditionalGeneration], None] | None) -> None:
        self._uncounted, self._at_epoch_end = uncounted_steps, at_epoch_end
        self._spans: list[tuple[Any, Any]] = []
        self._last_end: Any = None
        self._waits: list[tuple[Any, Any]] = []
        self._begun: Any = None
        self._memory_gb = 0.0
        self._steps = self._clips = self._positions = 0

    def begin(self, step: int, rows: int, width: int) -> None:
        """A batch is there, ``rows`` by ``width`` labels, and the device is about to get it."""
        self._begun = _now()
        if step < self._uncounted:
            return
        if self._last_end is not None:
            self._waits.append((self._last_end, self._begun))
        self._steps, self._clips, self._positions = self._steps + 1, self._clips + rows, self._positions + rows * width

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        self._last_end = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        ended = _now()
        if state.global_step > self._uncounted:
            self._spans.append((self._begun, ended))
            self._last_end = ended

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:  # noqa: ARG002
        if torch.cuda.is_available():
            self._memory_gb = torch.cuda.max_memory_allocated() / 1e9
        if self._at_epoch_end is not None:
            self._at_epoch_end(model)

    def speed(self, model: WhisperForConditionalGeneration, data: PreparedClips) -> RecipeSpeed:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        waited = sum(_seconds(start, end) for start, end in self._waits)
        seconds = waited + sum(_seconds(start, end) for start, end in self._spans)
        learnt = sum(len(label) - 1 for label in data.labels) / len(data.labels)
        flops = training_flops(
            model.config,
            windows=self._clips,
            frames=_FRAMES,
            tokens=round(self._positions / max(1, self._clips)),
            learnt=round(learnt * self._clips),
        )
        return RecipeSpeed(
            steps=self._steps,
            seconds=seconds,
            clips_per_second=self._clips / seconds,
            data_wait_share=waited / seconds,
            gpu_memory_gb=self._memory_gb,
            teraflops=flops / seconds / 1e12,
        )


class _Trainer(Seq2SeqTrainer):  # type: ignore[misc]
    def __init__(self, clock: _Clock, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._clock = clock

    def training_step(self, model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
        rows, width = inputs["labels"].shape
        self._clock.begin(self.state.global_step, rows, width)
        return super().training_step(model, inputs, *more, **named)


def _compute(file: Path, tasks: Sequence[tuple[bytes, WhisperFeatureExtractor]]) -> None:
    """Block by block, since all features at once would be held twice."""
    mels = tasks[0][1].feature_size
    partial = file.with_suffix(".partial.npy")
    features = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=(len(tasks), mels, _FRAMES))
    block = 256
    for start in range(0, len(tasks), block):
        features[start : start + block] = in_processes(_features, tasks[start : start + block])
    features.flush()
    partial.rename(file)


def _features(task: tuple[bytes, WhisperFeatureExtractor]) -> Any:
    audio, extractor = task
    torch.set_num_threads(1)  # the parent's pool of threads did not come along
    samples, _ = sf.read(io.BytesIO(audio), dtype="float32")
    return extractor(samples, sampling_rate=SAMPLE_RATE).input_features[0]


def _now() -> Any:
    if not torch.cuda.is_available():
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def _seconds(start: Any, end: Any) -> float:
    return float(start.elapsed_time(end)) / 1000 if isinstance(start, torch.cuda.Event) else float(end - start)
