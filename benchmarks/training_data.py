"""What the training benchmarks train: Whispers of every size with random weights, and datasets of synthetic Swedish speech.

All of it follows from the arguments alone, and what takes long is kept in the folder that the caller names.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import soundfile as sf
from transformers import WhisperConfig, WhisperForConditionalGeneration

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from dataset_folder import write_dataset

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus.dataset import DESCRIPTION_FILE, Clip, Dataset, open_dataset
from avskrift.corpus.demo.sentences import digest, sentences, sentences_of
from avskrift.corpus.demo.speakers import SPEAKERS, Speaker, speakers_of
from avskrift.storage.door import fetch
from avskrift.text.languages import LANGUAGES
from avskrift.training.config import TrainingConfig, parse_options
from avskrift.whisper.transformers_folder import TOKENIZER_FILE, WEIGHTS_FILE, generation_settings, write_preprocessor, write_tokenizer

_T = TypeVar("_T")
_R = TypeVar("_R")
HELD_OUT_SENTENCES = Path(__file__).with_name("held_out_sentences_sv.txt")
_HEAD_WIDTH = 64
_CANDIDATES = 4  # sentences spoken for each recording that is wanted of a certain length


@dataclass(frozen=True, slots=True)
class Size:
    """One size of Whisper. ``toy`` is none of OpenAI's: it is for trying a script on a laptop."""

    width: int
    encoder_layers: int
    decoder_layers: int
    mels: int = 80
    vocabulary: int = 51_865

    def config(self) -> WhisperConfig:
        heads = self.width // _HEAD_WIDTH
        return WhisperConfig(
            vocab_size=self.vocabulary,
            num_mel_bins=self.mels,
            d_model=self.width,
            encoder_layers=self.encoder_layers,
            decoder_layers=self.decoder_layers,
            encoder_attention_heads=heads,
            decoder_attention_heads=heads,
            encoder_ffn_dim=4 * self.width,
            decoder_ffn_dim=4 * self.width,
        )


SIZES = {
    "toy": Size(64, 2, 2),
    "tiny": Size(384, 4, 4),
    "base": Size(512, 6, 6),
    "small": Size(768, 12, 12),
    "medium": Size(1024, 24, 24),
    "large-v3": Size(1280, 32, 32, mels=128, vocabulary=51_866),
    "large-v3-turbo": Size(1280, 32, 4, mels=128, vocabulary=51_866),
}


def tokenizer_file(given: str) -> Path:
    """A tokenizer.json: the file itself, or that of a model's folder or URI."""
    path = Path(given)
    return path if path.is_file() else fetch(given) / TOKENIZER_FILE


def write_random_model(folder: Path, size: str, tokenizer: Path) -> Path:
    """A ``transformers`` folder of ``size`` with random weights and ``tokenizer``; left as it is where it is there already."""
    if (folder / WEIGHTS_FILE).is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = write_tokenizer(tokenizer, folder)
    model = WhisperForConditionalGeneration(SIZES[size].config())
    languages = [vocabulary[f"<|{code}|>"] for code in LANGUAGES if f"<|{code}|>" in vocabulary]
    model.generation_config = generation_settings({"lang_ids": languages}, vocabulary)
    write_preprocessor(folder, SIZES[size].mels)
    model.save_pretrained(folder)
    return folder


def training_config(overrides: Sequence[str], **options: Any) -> TrainingConfig:
    """Our configuration: the defaults, then ``options``, then ``overrides`` of the form NAME=VALUE."""
    given = parse_options(dict(override.split("=", 1) for override in overrides))
    return TrainingConfig(**{**options, **given})


@dataclass(frozen=True, slots=True)
class Recording:
    """A sentence that was spoken, as FLAC."""

    text: str
    speaker: str
    flac: bytes
    duration_s: float

    def clip(self, clip_id: str, *, weight: float = 1.0) -> Clip:
        names = {"clip_id": clip_id, "text": self.text, "speaker_id": self.speaker, "source": f"{clip_id}.flac"}
        return Clip(audio=self.flac, duration_s=self.duration_s, weight=weight, **names)


def long_run_dataset(folder: Path, *, clips: int, recordings: int, seconds: tuple[float, float], weight: float) -> Dataset:
    """``clips`` train clips of ``seconds``, repeats of so many ``recordings``; 4 for validation. An epoch meets each ``weight`` times.

    With eSpeak NG they are the demo's sentences in its train voices, else noise that rises and falls as speech does.
    """
    if (folder / DESCRIPTION_FILE).is_file():
        return open_dataset(folder)
    spoken = _spoken_of(recordings, seconds)
    train = [one.clip(f"clip-{number:06d}", weight=weight) for number, one in enumerate(islice(cycle(spoken), clips))]
    validation = [one.clip(f"held-{number}") for number, one in enumerate(spoken[:4])]
    return write_dataset(folder, {"train": train, "validation": validation})


def held_out_dataset(folder: Path, *, train: int, validation: int, test: int) -> Dataset:
    """The demo corpus, of this size: no sentence and no voice of test or validation is met in another split.

    Test has :data:`HELD_OUT_SENTENCES` beside the demo's, each in all test voices, since the demo's alone are few words.
    """
    from avskrift.corpus.demo import DemoSize, plan

    if (folder / DESCRIPTION_FILE).is_file():
        return open_dataset(folder)
    demo = plan(DemoSize(train=train, validation=validation))
    planned = [(one.split, one.clip_id, one.text, one.speaker) for one in demo if one.split != "test"]
    planned += [("test", f"{voice.name}-{digest(text)[:12]}", text, voice) for text, voice in _test_pairs()[:test]]
    spoken = in_processes(_speak, [(text, voice, _seed(clip_id)) for _, clip_id, text, voice in planned])
    splits: dict[str, list[Clip]] = {"train": [], "validation": [], "test": []}
    for (split, clip_id, *_), one in zip(planned, spoken, strict=True):
        splits[split].append(one.clip(clip_id))
    return write_dataset(folder, splits)


def _test_pairs() -> list[tuple[str, Speaker]]:
    """Every test sentence with every test voice, so ordered that the first few are a mixed sample of the whole."""
    lines = HELD_OUT_SENTENCES.read_text(encoding="utf-8").splitlines()
    texts = [*sentences_of("test"), *(line for line in lines if not line.startswith("#"))]
    pairs = [(text, voice) for text in texts for voice in speakers_of("test")]
    return sorted(pairs, key=lambda pair: digest(f"{pair[1].name}/{pair[0]}"))


def in_processes(work: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """``work`` of every item, on all cores. Forked, so to be called before a GPU is touched."""
    given = list(items)
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("fork")) as pool:
        return list(pool.map(work, given, chunksize=max(1, len(given) // (8 * cores))))


def _spoken_of(count: int, seconds: tuple[float, float]) -> list[Recording]:
    """Recordings of a length within ``seconds``, at most ``count``."""
    try:
        import espeakng_loader  # noqa: F401
    except ImportError:
        return in_processes(_noise, [(text, seconds, number) for number, text in enumerate(islice(cycle(sentences()), count))])
    voices = [speaker for speaker in SPEAKERS if speaker.split == "train"]
    middle = sum(seconds) / 2 * 15  # the voices say some 15 characters a second
    texts = sorted(sentences_of("train"), key=lambda text: (abs(len(text) - middle), digest(text)))
    pairs = [(text, voice, _seed(f"{voice.name}/{text}")) for text in texts for voice in voices]
    spoken = in_processes(_speak, pairs[: _CANDIDATES * count])
    fitting = [one for one in spoken if seconds[0] <= one.duration_s <= seconds[1]]
    if not fitting:
        raise SystemExit(f"no sentence of the demo lasts {seconds[0]} to {seconds[1]} s; ask for another length")
    return fitting[:count]


def _speak(wanted: tuple[str, Speaker, int]) -> Recording:
    from avskrift.corpus.demo import synthesise

    text, speaker, seed = wanted
    return _recording(text, speaker.name, synthesise(text, speaker, seed))


def _noise(wanted: tuple[str, tuple[float, float], int]) -> Recording:
    """Low-passed noise in bursts of syllables: it compresses and decodes much as speech does."""
    text, seconds, number = wanted
    chance = np.random.default_rng(number)
    length = round(chance.uniform(*seconds) * SAMPLE_RATE)
    loudness = np.abs(np.sin(np.pi * 4 * np.arange(length) / SAMPLE_RATE + chance.uniform(0, np.pi)))
    sound = np.convolve(chance.standard_normal(length), np.ones(8) / 8, mode="same") * loudness
    return _recording(text, f"noise-{number % 8}", (0.5 * sound / np.abs(sound).max()).astype(np.float32))


def _recording(text: str, speaker: str, samples: npt.NDArray[np.float32]) -> Recording:
    file = io.BytesIO()
    sf.write(file, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return Recording(text, speaker, file.getvalue(), len(samples) / SAMPLE_RATE)


def _seed(name: str) -> int:
    return int(digest(name)[:15], 16)
