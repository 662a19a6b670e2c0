"""How good training is: ours beside the well-known recipe on synthetic Swedish, in equal epochs, and what each option brings.

    python benchmarks/training_quality.py --seeds 1 2 3 --work /tmp/quality --json /tmp/quality/main.json
    python benchmarks/training_quality.py --ablation --seeds 1 --work /tmp/quality --json /tmp/quality/ablation.json
    python benchmarks/training_quality.py --ablation rate-5e-5 batch-320s --seeds 1 2 --work /tmp/quality
    python benchmarks/training_quality.py --tiny                # to try the script: a toy model and a few clips

Real whisper-base; the demo's sentences and others for test, spoken by eSpeak NG, where no sentence and no voice of validation
or test is met in training. Both keep the model of the best validation WER of the ends of the epochs. Decoding is greedy and in
float32: ours encodes a clip at its own length, 5 s at least, as what is served does; the recipe at 30 s with `transformers`'
generate; and neither may write more tokens than speech of such a length can hold. WER is that of the corpus, after the normaliser
sv-1. The recipe runs at its own learning rate and at ours, and is told at the better of both.

GPU seconds are those of the training steps, from a batch's arrival to the step's end, waiting for data and compiling counted,
validation left out; "whole" is the call with loading, validation and saving. On 24 windows of silence and noise the words are
counted that are written although nobody speaks, and the windows that the model itself calls speechless (a probability over
0.6). With --json FILE, runs that FILE holds already are not done again, and those of this call are added to it.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import blog_recipe
import jiwer
import numpy as np
import torch
import transformers
from rich import box
from rich.console import Console
from rich.table import Table
from training_data import held_out_dataset, tokenizer_file, training_config, write_random_model
from transformers import WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from avskrift.audio.constants import FRAMES_PER_SECOND, SAMPLE_RATE
from avskrift.audio.logmel_torch import LogMel
from avskrift.corpus.dataset import Clip, Dataset
from avskrift.text.normaliser import normalise
from avskrift.training.augmentation import empty_window
from avskrift.training.checkpoint import Checkpoints
from avskrift.training.examples import pad_audio
from avskrift.training.hardware import preset_of
from avskrift.training.loop import train
from avskrift.whisper.forward import encode, generate
from avskrift.whisper.package import EncoderContext
from avskrift.whisper.tokens import MAX_LABEL_TOKENS, WhisperTokens
from avskrift.whisper.transformers_folder import TOKENIZER_FILE, load_model, open_model

LANGUAGE = "sv"
# Each is switched on alone against the defaults.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "packed-0": {"packed_share": 0.0},
    "packed-100": {"packed_share": 1.0},
    "empty-5": {"empty_share": 0.05},
    "previous-text-20": {"previous_text_share": 0.2},
    "spec-augment-50": {"spec_augment_share": 0.5},
    "bpe-dropout-10": {"bpe_dropout": 0.1},
    "speed-30": {"speed_share": 0.3},
    "gain-30": {"gain_share": 0.3},
    "noise-30": {"noise_share": 0.3},
    "label-smoothing-10": {"label_smoothing": 0.1},
    "activation-dropout-10": {"activation_dropout": 0.1},
    "weight-decay-0": {"weight_decay": 0.0},
    "ema-90": {"ema_decay": 0.9},
    "ema-99": {"ema_decay": 0.99},
    "cosine": {"schedule": "cosine"},
    "rate-1e-5": {"learning_rate": 1e-5},
    "rate-5e-5": {"learning_rate": 5e-5},
    "rate-1e-4": {"learning_rate": 1e-4},
    "rate-2e-4": {"learning_rate": 2e-4},
    "batch-80s": {"batch_seconds": 80.0},
    "batch-80s-rate-5e-5": {"batch_seconds": 80.0, "learning_rate": 5e-5},
    "batch-80s-rate-1e-4": {"batch_seconds": 80.0, "learning_rate": 1e-4},
    "batch-160s": {"batch_seconds": 160.0},
    "batch-160s-rate-1e-4": {"batch_seconds": 160.0, "learning_rate": 1e-4},
    "batch-320s-rate-1e-4": {"batch_seconds": 320.0, "learning_rate": 1e-4},
    "batch-640s-rate-2e-4": {"batch_seconds": 640.0, "learning_rate": 2e-4},
    "batch-80s-cosine": {"batch_seconds": 80.0, "schedule": "cosine"},
    "batch-80s-cosine-rate-4e-5": {"batch_seconds": 80.0, "schedule": "cosine", "learning_rate": 4e-5},
    "batch-80s-cosine-packed-0": {"batch_seconds": 80.0, "schedule": "cosine", "packed_share": 0.0},
    "batch-80s-cosine-packed-25": {"batch_seconds": 80.0, "schedule": "cosine", "packed_share": 0.25},
    "batch-80s-cosine-noise-30": {"batch_seconds": 80.0, "schedule": "cosine", "noise_share": 0.3},
    "batch-80s-cosine-speed-30": {"batch_seconds": 80.0, "schedule": "cosine", "speed_share": 0.3},
    "batch-80s-cosine-ema-99": {"batch_seconds": 80.0, "schedule": "cosine", "ema_decay": 0.99},
    "batch-160s-cosine": {"batch_seconds": 160.0, "schedule": "cosine"},
    "batch-160s-cosine-rate-4e-5": {"batch_seconds": 160.0, "schedule": "cosine", "learning_rate": 4e-5},
    "lora-32": {"lora_rank": 32},
    "lora-32-rate-1e-3": {"lora_rank": 32, "learning_rate": 1e-3},
    "freeze-encoder": {"freeze_encoder": True},
}
_TOKENS_PER_SECOND, _TOKENS_AT_LEAST = 15, 24
_DECODED_AT_ONCE = {"cpu": 8, "cuda": 64}
_EMPTY_WINDOWS = 8  # of each length
_EMPTY_SECONDS = (2.0, 6.0, 15.0)
_EMPTY_SEED = 20_261_127  # no training's
_MOST_INVENTED = 100  # tokens
_SERVED_SECONDS_AT_LEAST = EncoderContext(policy="variable").minimum_frames / FRAMES_PER_SECOND
_SPEECHLESS = 0.6  # openai/whisper's threshold
_OURS = "ours"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One training run, tested. A WER of -1 was not measured."""

    name: str
    seed: int
    learning_rate: float
    steps: int
    gpu_seconds: float
    first_seconds: float  # of them, those of steps that met a shape first
    whole_seconds: float
    gpu_memory_gb: float
    wer_short: float
    wer_30s: float
    invented_words: int
    told_speechless: int

    def best_wer(self) -> float:
        """In the way that suits the model."""
        return self.wer_30s if self.name.startswith("recipe") else self.wer_short


@dataclass(frozen=True, slots=True)
class Setting:
    """What all runs have in common."""

    base: Path
    dataset: Dataset
    work: Path
    epochs: int
    overrides: Sequence[str]
    device: torch.device
    empty_windows: int = _EMPTY_WINDOWS

    def clips(self, split: str) -> list[Clip]:
        return list(self.dataset.clips(split))

    def prepared(self, split: str) -> blog_recipe.PreparedClips:
        return blog_recipe.prepare(self.work / f"{self.dataset.folder.name}-{split}.npy", self.clips(split), self.base)


@dataclass(frozen=True, slots=True)
class Job:
    """One run to do."""

    name: str
    seed: int
    do: Callable[[], Outcome]


def main() -> None:
    options = _options()
    console = Console(width=200)
    deadline = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="avskrift-bench-") as temporary:
        setting = prepare(options, options.work or Path(temporary), console)
        jobs = list(ablation_jobs(options, setting) if options.ablation is not None else main_jobs(options, setting))
        outcomes = done_before(options)
        for outcome in do(jobs, outcomes, deadline, console):
            outcomes.append(outcome)
            if options.json:
                options.json.write_text(json.dumps([dataclasses.asdict(one) for one in outcomes], indent=2), encoding="utf-8")
    names = list(dict.fromkeys(job.name for job in jobs))
    told = [one for name in names for one in outcomes if one.name == name]
    console.print(machine_line(setting), soft_wrap=True)
    console.print(results_table(told))
    if options.ablation is None and told:
        console.print(comparison_table(told))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="package:whisper-base", help="the model to fine-tune, a folder or a URI")
    parser.add_argument("--tokenizer", default="package:whisper-base", help="with --tiny: a tokenizer.json, or a model's folder or URI")
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--train", type=int, default=640, help="train clips")
    parser.add_argument("--validation", type=int, default=48)
    parser.add_argument("--test", type=int, default=772, help="test clips; 193 sentences by 4 voices are all that there are")
    parser.add_argument(
        "--ours", nargs="*", default=[], metavar="NAME=VALUE", help="options of our training, in the ablation of all variants"
    )
    parser.add_argument("--ablation", nargs="*", choices=VARIANTS, help="run these variants of ours instead; all where none is named")
    parser.add_argument("--no-recipe", action="store_true", help="ours alone")
    parser.add_argument("--minutes", type=float, default=9.0, help="runs that would end later are left out, and said so")
    parser.add_argument("--tiny", action="store_true", help="a toy model, a few clips, one epoch")
    parser.add_argument("--work", type=Path, help="a folder that keeps clips and features for another call")
    parser.add_argument("--json", type=Path, help="holds the runs; see above")
    options = parser.parse_args()
    if options.tiny:
        options.train, options.validation, options.test, options.epochs, options.seeds = 12, 4, 4, 1, options.seeds[:1]
    return options


def prepare(options: argparse.Namespace, work: Path, console: Console) -> Setting:
    """Speech, features and the base model; the GPU is touched only afterwards."""
    started = time.monotonic()
    work.mkdir(parents=True, exist_ok=True)
    os.environ["AVSKRIFT_HOME"] = str(work / "home")
    sizes = {"train": options.train, "validation": options.validation, "test": options.test}
    dataset = held_out_dataset(work / ("speech-" + "-".join(map(str, sizes.values()))), **sizes)
    base = write_random_model(work / "toy", "toy", tokenizer_file(options.tokenizer)) if options.tiny else open_model(options.base)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    setting = Setting(base, dataset, work, options.epochs, options.ours, device, 1 if options.tiny else _EMPTY_WINDOWS)
    for split in sizes:
        setting.prepared(split)
    hours = ", ".join(f"{split} {one.clips} clips, {60 * one.hours:.1f} minutes" for split, one in dataset.description.splits.items())
    console.print(f"{hours}; made in {time.monotonic() - started:.0f} s", soft_wrap=True)
    return setting


def main_jobs(options: argparse.Namespace, setting: Setting) -> Iterator[Job]:
    """Ours and the recipe at two rates, seed by seed."""
    ours = training_config(setting.overrides)
    rate = ours.learning_rate or preset_of(transformers.WhisperConfig.from_pretrained(setting.base)).learning_rate
    rates = [] if options.no_recipe else list(dict.fromkeys([blog_recipe.LEARNING_RATE, rate]))
    for seed in options.seeds:
        yield Job(_OURS, seed, partial(run_ours, setting, _OURS, {}, seed))
        for given in rates:
            yield Job(f"recipe at {given:g}", seed, partial(run_recipe, setting, f"recipe at {given:g}", given, seed))


def ablation_jobs(options: argparse.Namespace, setting: Setting) -> Iterator[Job]:
    """Each variant, seed by seed."""
    for seed in options.seeds:
        for name in options.ablation or VARIANTS:
            yield Job(name, seed, partial(run_ours, setting, name, VARIANTS[name], seed))


def done_before(options: argparse.Namespace) -> list[Outcome]:
    if not options.json or not options.json.is_file():
        return []
    return [Outcome(**one) for one in json.loads(options.json.read_text(encoding="utf-8"))]


def do(jobs: Sequence[Job], known: Sequence[Outcome], deadline: float, console: Console) -> Iterator[Outcome]:
    """What is not known yet, as far as there is time: a run is taken to last as long as the longest of its kind so far."""
    done = {(one.name, one.seed) for one in known}
    longest: dict[bool, float] = {}
    for job in jobs:
        kind = job.name.startswith("recipe")
        if (job.name, job.seed) in done:
            continue
        if time.monotonic() + longest.get(kind, 0.0) > deadline:
            console.print(f"{job.name}, seed {job.seed}: no time left", soft_wrap=True)
            continue
        started = time.monotonic()
        outcome = job.do()
        longest[kind] = max(longest.get(kind, 0.0), time.monotonic() - started)
        console.print(
            f"{job.name}, seed {job.seed}: WER {outcome.best_wer():.4f}, {outcome.gpu_seconds:.1f} GPU s, {outcome.steps} steps,"
            f" {time.monotonic() - started:.0f} s with test",
            soft_wrap=True,
        )
        yield outcome


def run_ours(setting: Setting, name: str, variant: Mapping[str, Any], seed: int) -> Outcome:
    """A variant's options count over those of the command, and those over the defaults."""
    config = training_config(setting.overrides, epochs=setting.epochs, seed=seed, language=LANGUAGE, checkpoint_minutes=600.0)
    config = dataclasses.replace(config, **variant)
    _forget()
    with tempfile.TemporaryDirectory(dir=setting.work, prefix="run-") as folder:
        started = time.monotonic()
        checkpoints = Checkpoints(Path(folder) / "checkpoints", "a" * 64)
        result = train(setting.base, setting.dataset, config, checkpoints=checkpoints, out=Path(folder) / "out")
        whole = time.monotonic() - started
        model = load_model(Path(folder) / "out", setting.device)
    return Outcome(
        name=name,
        seed=seed,
        learning_rate=result.learning_rate,
        steps=result.steps,
        gpu_seconds=result.speed.seconds + result.speed.compile_seconds,
        first_seconds=result.speed.compile_seconds,
        whole_seconds=whole,
        gpu_memory_gb=result.speed.gpu_memory_gb,
        **_tested(setting, model, wer_30s=None),
    )


def run_recipe(setting: Setting, name: str, learning_rate: float, seed: int) -> Outcome:
    """The recipe's model of the best epoch, decoded as it decodes."""
    validation, clips = setting.prepared("validation"), setting.clips("validation")
    best: dict[str, Any] = {"wer": float("inf")}

    def keep_the_best(model: WhisperForConditionalGeneration) -> None:
        measured = corpus_wer(clips, blog_recipe.transcripts(model, setting.base, validation, max_tokens=_most_tokens(clips)))
        if measured < best["wer"]:
            best.update(wer=measured, weights={key: value.detach().clone() for key, value in model.state_dict().items()})

    _forget()
    started = time.monotonic()
    _, speed = blog_recipe.train(
        setting.base,
        setting.prepared("train"),
        learning_rate=learning_rate,
        epochs=setting.epochs,
        seed=seed,
        at_epoch_end=keep_the_best,
    )
    whole = time.monotonic() - started
    model = blog_recipe.with_weights(setting.base, best["weights"], setting.device)
    test = setting.clips("test")
    heard = blog_recipe.transcripts(model, setting.base, setting.prepared("test"), max_tokens=_most_tokens(test))
    return Outcome(
        name=name,
        seed=seed,
        learning_rate=learning_rate,
        steps=speed.steps,
        gpu_seconds=speed.seconds,
        first_seconds=0.0,
        whole_seconds=whole,
        gpu_memory_gb=speed.gpu_memory_gb,
        **_tested(setting, model, wer_30s=corpus_wer(test, heard)),
    )


def _tested(setting: Setting, model: WhisperForConditionalGeneration, *, wer_30s: float | None) -> dict[str, Any]:
    """WER of the test clips in both encodings, and what is heard where nobody speaks, in the encoding that is the model's own."""
    model.eval()
    tokens, clips = WhisperTokens(setting.base / TOKENIZER_FILE), setting.clips("test")
    ours = wer_30s is None
    wer_30s = corpus_wer(clips, transcripts(model, clips, tokens, at_least_s=30.0)) if wer_30s is None else wer_30s
    invented, speechless = invented_words(
        model, tokens, windows=setting.empty_windows, at_least_s=_SERVED_SECONDS_AT_LEAST if ours else 30.0
    )
    return {
        "wer_short": corpus_wer(clips, transcripts(model, clips, tokens, at_least_s=_SERVED_SECONDS_AT_LEAST)),
        "wer_30s": wer_30s,
        "invented_words": invented,
        "told_speechless": speechless,
    }


def transcripts(
    model: WhisperForConditionalGeneration, clips: Sequence[Clip], tokens: WhisperTokens, *, at_least_s: float = 0.0
) -> list[str]:
    """Decode with our greedy generate, clips of like length together, encoded at the longest's length or ``at_least_s``."""
    features = LogMel(model.config.num_mel_bins).to(model.device)
    order = sorted(range(len(clips)), key=lambda number: clips[number].duration_s)
    size = _DECODED_AT_ONCE[model.device.type]
    heard = [""] * len(clips)
    for start in range(0, len(order), size):
        numbers = order[start : start + size]
        audio = pad_audio([clips[number].samples() for number in numbers], round(at_least_s * SAMPLE_RATE))
        rows = generate(
            model,
            features(audio.to(model.device)),
            prompt=tokens.prompt(LANGUAGE),
            end=tokens.end,
            max_tokens=_most_tokens([clips[number] for number in numbers]),
            suppress=model.generation_config.suppress_tokens or (),
            suppress_first=model.generation_config.begin_suppress_tokens or (),
        )
        for number, row in zip(numbers, rows, strict=True):
            heard[number] = tokens.decode(row)
    return heard


@torch.inference_mode()
def invented_words(model: WhisperForConditionalGeneration, tokens: WhisperTokens, *, windows: int, at_least_s: float) -> tuple[int, int]:
    """Words written where nobody speaks, the end allowed at once, and windows called speechless; there are ``windows`` of each length."""
    features = LogMel(model.config.num_mel_bins).to(model.device)
    words = speechless = 0
    for seconds in _EMPTY_SECONDS:
        chances = [np.random.default_rng([_EMPTY_SEED, round(seconds), number]) for number in range(windows)]
        audio = pad_audio([empty_window(chance, seconds) for chance in chances], round(at_least_s * SAMPLE_RATE))
        seen = features(audio.to(model.device))
        suppress = model.generation_config.suppress_tokens or ()
        rows = generate(model, seen, prompt=tokens.prompt(LANGUAGE), end=tokens.end, max_tokens=_MOST_INVENTED, suppress=suppress)
        words += sum(len(normalise(tokens.decode(row), LANGUAGE).split()) for row in rows)
        speechless += _called_speechless(model, seen, tokens)
    return words, speechless


def _called_speechless(model: WhisperForConditionalGeneration, features: torch.Tensor, tokens: WhisperTokens) -> int:
    """Windows after whose start token the one for nobody's speech is probable enough."""
    start = torch.full((features.shape[0], 1), tokens.start, device=model.device)
    states = BaseModelOutput(last_hidden_state=encode(model, features))
    scores = model(encoder_outputs=states, decoder_input_ids=start).logits[:, 0].float().softmax(-1)
    return int((scores[:, tokens.no_speech] > _SPEECHLESS).sum())


def corpus_wer(clips: Sequence[Clip], heard: Sequence[str]) -> float:
    """All word errors over all words, both sides normalised."""
    return float(jiwer.wer([normalise(clip.text, LANGUAGE) for clip in clips], [normalise(text, LANGUAGE) for text in heard]))


def _most_tokens(clips: Sequence[Clip]) -> int:
    return min(MAX_LABEL_TOKENS - 4, _TOKENS_AT_LEAST + int(_TOKENS_PER_SECOND * max(clip.duration_s for clip in clips)))


def machine_line(setting: Setting) -> str:
    name = torch.cuda.get_device_name() if setting.device.type == "cuda" else "a CPU"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"
    given = f"; ours with {' '.join(setting.overrides)}" if setting.overrides else ""
    return f"{name}, {versions}; {setting.epochs} epochs{given}"


def results_table(outcomes: Sequence[Outcome]) -> Table:
    """Means over the seeds; the single values of the WER that counts."""
    table = Table(box=box.MARKDOWN)
    titles = ("training", "rate", "steps", "WER, own length", "WER, 30 s", "by seed", "words where nobody speaks", "called speechless")
    for title in (*titles, "GPU s", "shapes met, s", "whole, s", "GPU memory, GB"):
        table.add_column(title, justify="left" if title in ("training", "by seed") else "right")
    for name, runs in _by_name(outcomes).items():
        table.add_row(
            name,
            f"{runs[0].learning_rate:g}",
            f"{_mean(run.steps for run in runs):.0f}",
            f"{_mean(run.wer_short for run in runs):.4f}",
            f"{_mean(run.wer_30s for run in runs):.4f}",
            ", ".join(f"{run.best_wer():.4f}" for run in runs),
            f"{_mean(run.invented_words for run in runs):.0f}",
            f"{_mean(run.told_speechless for run in runs):.0f}",
            f"{_mean(run.gpu_seconds for run in runs):.1f}",
            f"{_mean(run.first_seconds for run in runs):.1f}",
            f"{_mean(run.whole_seconds for run in runs):.0f}",
            f"{max(run.gpu_memory_gb for run in runs):.1f}",
        )
    return table


def comparison_table(outcomes: Sequence[Outcome]) -> Table:
    """Ours over the better of the recipe's rates, over the seeds that both have, and seed by seed."""
    by_name = _by_name(outcomes)
    ours = {run.seed: run for run in by_name.get(_OURS, ())}
    table = Table(box=box.MARKDOWN)
    for title in ("ours beside", "seed", "relative WER reduction", "GPU time"):
        table.add_column(title, justify="left" if title == "ours beside" else "right")
    recipes = [runs for name, runs in by_name.items() if name != _OURS]
    if not ours or not recipes:
        return table
    better = min(recipes, key=lambda runs: _mean(run.best_wer() for run in runs))
    pairs = [(ours[run.seed], run) for run in better if run.seed in ours]
    for mine, theirs in pairs:
        table.add_row(theirs.name, str(mine.seed), *_compared([mine], [theirs]))
    if pairs:
        table.add_row(better[0].name, "mean", *_compared(*zip(*pairs, strict=True)))
    return table


def _compared(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> tuple[str, str]:
    wer = 1 - _mean(run.best_wer() for run in ours) / (_mean(run.best_wer() for run in theirs) or 1.0)
    seconds = _mean(run.gpu_seconds for run in theirs) / _mean(run.gpu_seconds for run in ours)
    return f"{wer:.1%}", f"1/{seconds:.1f}"


def _by_name(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.name, []).append(outcome)
    return found


def _mean(values: Iterator[float]) -> float:
    return statistics.fmean(values)


def _forget() -> None:
    """What an earlier run compiled or left in memory must not help or hinder the next."""
    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    main()
