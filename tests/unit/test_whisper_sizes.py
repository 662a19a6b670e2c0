"""Whispers of every size, shaped as on the hub and made at random, load from a folder and are trained a step.

Full size: tiny (80 mels, 51,865 tokens) and large-v3 (128 mels, 51,866 tokens, 32 + 32 layers, stored as float16). Of the
others width, heads, mels and vocabulary are right and each side has one layer, which is what tells sizes apart on disk.
"""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_training
import torch
from dataset_folder import write_dataset
from safetensors.torch import load_file
from small_training import spoken
from transformers import WhisperConfig, WhisperForConditionalGeneration

from avskrift.audio.logmel_torch import LogMel
from avskrift.training.adapters import prepare_parameters
from avskrift.training.checkpoint import Checkpoints
from avskrift.training.config import TrainingConfig
from avskrift.training.distributed import World
from avskrift.training.examples import BatchMaker
from avskrift.training.hardware import preset_of
from avskrift.training.loop import train
from avskrift.training.optimisation import Optimisation
from avskrift.training.plan import Part
from avskrift.training.windows import Window
from avskrift.whisper.forward import encode, generate
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.transformers_folder import generation_settings, load_model, open_model, write_preprocessor, write_tokenizer

_threads_as_before = small_training.threads_as_before

CPU = torch.device("cpu")
_BYTES = {"F32": 4, "F16": 2}


@dataclass(frozen=True)
class Size:
    """A Whisper as the hub has it."""

    name: str
    width: int
    layers: tuple[int, int]
    mels: int = 80
    tokens: int = 51865

    @property
    def heads(self) -> int:
        return self.width // 64


SIZES = (
    Size("tiny", 384, (4, 4)),
    Size("base", 512, (6, 6)),
    Size("small", 768, (12, 12)),
    Size("medium", 1024, (24, 24)),
    Size("large-v3", 1280, (32, 32), mels=128, tokens=51866),
    Size("large-v3-turbo", 1280, (32, 4), mels=128, tokens=51866),
)
TINY, LARGE = SIZES[0], SIZES[4]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Removed at once: pytest keeps what tests leave, and these are large."""
    yield tmp_path / "whisper"
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_tiny_is_trained_a_step_at_full_size_and_saved(folder: Path, bundled_whisper: Path, tmp_path: Path) -> None:
    base = _whisper(folder, bundled_whisper, TINY, layers=TINY.layers)
    clip = spoken("clip", seconds=0.5, text="Hej på dig.")
    dataset = write_dataset(tmp_path / "dataset", {"train": [clip], "validation": [clip]})
    checkpoints, config = Checkpoints(tmp_path / "checkpoints", "a" * 64), TrainingConfig(epochs=1, packed_share=0, device="cpu", threads=1)
    result = train(open_model(str(base)), dataset, config, checkpoints=checkpoints, out=tmp_path / "out")
    (loss,) = (value for _, name, value in result.curve if name == "train_loss")
    assert loss == pytest.approx(math.log(TINY.tokens), rel=0.2), "at random every token is as likely"
    assert result.learning_rate == 3.75e-5
    before, after = (load_file(place / "model.safetensors") for place in (base, tmp_path / "out"))
    assert {name: tensor.shape for name, tensor in after.items()} == {name: tensor.shape for name, tensor in before.items()}
    assert any(not torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert open_model(str(tmp_path / "out")) == tmp_path / "out"


@pytest.mark.parametrize("size", SIZES[1:5], ids=lambda size: size.name)
def test_a_whisper_of_this_width_is_trained_a_step(size: Size, folder: Path, bundled_whisper: Path) -> None:
    """With one layer a side, where large-v3-turbo is large-v3; the decoder alone, so that AdamW needs less memory."""
    torch.set_num_threads(1)
    base = _whisper(folder, bundled_whisper, size, layers=(1, 1))
    model = load_model(open_model(str(base)), CPU)
    config = TrainingConfig(freeze_encoder=True)
    prepare_parameters(model, config)
    batch = BatchMaker([spoken("clip", seconds=0.5, text="Hej på dig.")], base / "tokenizer.json", config).make(
        Part((Window((0,), 0.5),), 1.0), seed=(1,)
    )
    steps = Optimisation(model, config, precision=torch.float32, compiled="off", world=World())
    losses = [steps.step([batch], number=number, rate=1e-3)[0].item() for number in range(2)]
    assert losses[0] == pytest.approx(math.log(size.tokens), rel=0.2), "at random every token is as likely"
    assert losses[1] < losses[0]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size.name)
def test_each_size_gets_its_own_preset(size: Size) -> None:
    assert preset_of(_config(size, size.layers, _ids(0))).name == size.name


def test_large_v3_loads_at_full_size_from_float16_and_reads_a_second_of_audio(folder: Path, bundled_whisper: Path) -> None:
    """1.5 milliard weights; its file is mostly a hole, so that it is written at once."""
    base = _whisper(folder, bundled_whisper, LARGE, layers=LARGE.layers, kind="F16")
    model = load_model(open_model(str(base)), CPU)
    model.train(mode=False)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert sum(weight.numel() for weight in model.parameters()) > 1.5e9
    assert preset_of(model.config).name == "large-v3"
    tokens = WhisperTokens(base / "tokenizer.json")
    second = torch.from_numpy(spoken("clip", seconds=1.0).samples())[None]
    with torch.inference_mode():
        features = LogMel(model.config.num_mel_bins)(second)
        states = encode(model, features)
        rows = generate(model, features, prompt=tokens.prompt("sv"), end=tokens.end, max_tokens=1)
    assert features.shape == (1, 128, 100)
    assert states.shape == (1, 50, 1280)
    assert torch.isfinite(states).all()
    assert len(rows) == 1


def test_large_v3s_tokenizer_has_a_language_more_so_that_what_follows_has_other_numbers(folder: Path, bundled_whisper: Path) -> None:
    small, large = (WhisperTokens(_tokenizer(folder / name, bundled_whisper, size)) for name, size in (("s", TINY), ("l", LARGE)))
    assert large.prompt("yue")[1] == small.prompt("su")[1] + 1 == 50358
    assert small.prompt("sv") == [50258, 50273, 50359, 50363]
    assert large.prompt("sv") == [50258, 50273, 50360, 50364]
    assert (small.no_speech, large.no_speech) == (50362, 50363)
    assert (small.timestamp(30), large.timestamp(30)) == (51864, 51865)


def _whisper(folder: Path, bundled_whisper: Path, size: Size, *, layers: tuple[int, int], kind: str = "F32") -> Path:
    """A hub-shaped folder."""
    tokenizer = _tokenizer(folder, bundled_whisper, size)
    content = json.loads(tokenizer.read_text(encoding="utf-8"))
    vocabulary = {**content["model"]["vocab"], **{token["content"]: token["id"] for token in content["added_tokens"]}}
    config = _config(size, layers, _ids(vocabulary["<|endoftext|>"]), decoder_start_token_id=vocabulary["<|startoftranscript|>"])
    assert len(vocabulary) == config.vocab_size
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(config)
    config.save_pretrained(folder)
    languages = {number for token, number in vocabulary.items() if vocabulary["<|en|>"] <= number < vocabulary["<|translate|>"]}
    generation_settings({"alignment_heads": [[0, 0]], "lang_ids": sorted(languages)}, vocabulary).save_pretrained(folder)
    write_preprocessor(folder, size.mels)
    _write_weights(folder / "model.safetensors", model, kind, random=kind == "F32")
    return folder


def _config(size: Size, layers: tuple[int, int], ids: dict[str, int], **more: Any) -> WhisperConfig:
    return WhisperConfig(
        vocab_size=size.tokens,
        num_mel_bins=size.mels,
        d_model=size.width,
        encoder_layers=layers[0],
        decoder_layers=layers[1],
        encoder_attention_heads=size.heads,
        decoder_attention_heads=size.heads,
        encoder_ffn_dim=4 * size.width,
        decoder_ffn_dim=4 * size.width,
        **ids,
        **more,
    )


def _ids(end: int) -> dict[str, int]:
    return dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end)


def _tokenizer(folder: Path, bundled_whisper: Path, size: Size) -> Path:
    """whisper-base's, with Cantonese behind the last language where the vocabulary has one token more: as large-v3's is."""
    folder.mkdir(parents=True)
    content = json.loads((bundled_whisper / "tokenizer.json").read_text(encoding="utf-8"))
    if size.tokens == 51866:
        added = content["added_tokens"]
        last = next(place for place, token in enumerate(added) if token["content"] == "<|translate|>")
        for token in added[last:]:
            token["id"] += 1
        added.insert(last, {**added[last], "content": "<|yue|>", "id": added[last]["id"] - 1})
        content["post_processor"] = None  # names tokens by their old numbers
    (folder / "given.json").write_text(json.dumps(content), encoding="utf-8")
    write_tokenizer(folder / "given.json", folder)
    (folder / "given.json").unlink()
    return folder / "tokenizer.json"


def _write_weights(file: Path, model: WhisperForConditionalGeneration, kind: str, *, random: bool) -> None:
    """Vectors are 0.1 throughout, matrices random or, where there are too many, zero: a hole in the file."""
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name != "proj_out.weight"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * _BYTES[kind]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    written = json.dumps(header).encode()
    written += b" " * (-len(written) % 8)
    noise = 0.02 * np.random.default_rng(1).standard_normal(99_991, dtype=np.float32)  # a prime, so that no two rows are the same
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", len(written)) + written)
        for name, shape in shapes.items():
            at = 8 + len(written) + header[name]["data_offsets"][0]
            if len(shape) > 1 and not random:
                continue
            values = np.resize(noise, shape) if len(shape) > 1 else np.full(shape, 0.1, dtype=np.float32)
            if name.endswith("layer_norm.weight"):
                values[:] = 1
            opened.seek(at)
            opened.write(values.astype({"F32": np.float32, "F16": np.float16}[kind]).tobytes())
        opened.truncate(8 + len(written) + end)
